//! `attach --pin`, `--read` and `--unpin`: probes that go on without their starter.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tracepoints::Kernel;
use tracepoints::probe::{PinnedProbe, PinnedResults};

use super::run::Run;
use super::{Arguments, show};
use crate::kernel::{Identity, live_failure};
use crate::output::{Failure, JsonRows, plural, say};

/// Pins what is attached, and says how to get at it.
pub(super) fn pin(results: PinnedResults, path: &Path, events: usize) -> Result<ExitCode, Failure> {
    results.pin(path)?;
    let path = path.display();
    say!(
        "{} pinned to {path}; `attach --read {path}` prints, `attach --unpin {path}` prints and ends",
        plural(events as u64, "event", "s")
    );
    Ok(ExitCode::SUCCESS)
}

/// Prints what is pinned, and ends it if that is wanted.
pub(super) fn read(
    arguments: &Arguments,
    path: &Path,
    is_to_end: bool,
    out: &mut dyn Write,
) -> Result<ExitCode, Failure> {
    let duration = match (arguments.duration, arguments.interval) {
        (None, None) => Some(Duration::ZERO),
        (duration, _) => duration,
    };
    let mut run = Run::new(duration, None)?;
    let mut pinned = PinnedProbe::open(path)?;
    let detached = pinned.detached_programs()?;
    if detached > 0 {
        let programs = plural(detached as u64, "program", "s");
        say!("{}: {programs} no longer attached", path.display());
    }
    let of_kernel = match pinned.results() {
        PinnedResults::Records(_) => {
            let kernel = Kernel::live().map_err(live_failure)?;
            let events = pinned.unchanged_events(&kernel)?;
            Some((kernel, events))
        }
        PinnedResults::Groups(groups) if groups.has_stacks() => {
            Some((Kernel::live().map_err(live_failure)?, Vec::new()))
        }
        _ => None,
    };
    if is_to_end {
        pinned.detach()?;
    }
    let mut json = JsonRows::where_wanted(arguments.json, &Identity::live())?;
    let shown = show::Shown {
        arguments,
        kernel: of_kernel.as_ref().map(|(kernel, _)| kernel),
        events: of_kernel.as_ref().map_or(&[], |(_, events)| events),
        is_pinned: true,
    };
    shown.print(pinned.results_mut(), &mut run, &mut json, out)?;
    if is_to_end {
        pinned.remove()?;
    }
    Ok(run.finish())
}
