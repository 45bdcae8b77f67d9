//! Fixtures, written kernels, and the running kernel.

pub(crate) mod all_the_way;
pub(crate) mod btf;
pub(crate) mod capture;
pub(crate) mod cases;
pub(crate) mod compilers;
#[cfg(all(feature = "probe", target_os = "linux"))]
pub(crate) mod kcore;
mod kernels;
#[cfg(target_os = "linux")]
pub(crate) mod live;
pub(crate) mod page;
#[cfg(feature = "recording")]
pub(crate) mod perf_data;
#[cfg(feature = "recording")]
pub(crate) mod trace_dat;

#[cfg(target_os = "linux")]
pub(crate) use kernels::test_name;
pub(crate) use kernels::{corpus, fixture, fixtures, name, skip};

use tracepoints::{Context, Error, Kernel};

/// One of the kernels of `tests/fixtures`.
pub(crate) fn kernel(name: &str) -> Kernel {
    Kernel::at(fixture(name)).expect("a kernel")
}

/// The context of one event.
pub(crate) fn context(kernel: &Kernel, event: impl AsRef<str>) -> Result<Context, Error> {
    kernel.tracepoint(event)?.context()
}

/// An error and its causes, in one line, after a check that none repeats the next.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    for pair in causes.windows(2) {
        assert!(
            !pair[0].contains(&pair[1]),
            "an error repeats its source: {pair:?}"
        );
    }
    causes.join(": ")
}
