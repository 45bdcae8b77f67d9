//! The cost of probes on the running kernel: attaching, each event, and reading records;
//! beside bpftrace and a C program with libbpf, where these are installed. Takes root, and a
//! mounted tracefs:
//!
//! ```sh
//! sudo unshare --mount sh -c 'mount -t tracefs t /sys/kernel/tracing && cargo bench --bench probe'
//! ```
//!
//! `-- attach`, `-- cost` or `-- drain` measures one of the three.
//!
//! Machines are noisy: all that is compared is measured in turns, and the medians of the
//! rounds are printed.

#[cfg(all(feature = "probe", target_os = "linux"))]
mod attach;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod cost;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod drain;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod others;

#[cfg(not(all(feature = "probe", target_os = "linux")))]
fn main() {}

#[cfg(all(feature = "probe", target_os = "linux"))]
fn main() {
    // Cargo passes `--bench`; `cargo test --benches` passes `--test`, and only wants to know
    // whether it runs.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let parts: Vec<&String> = arguments.iter().filter(|one| *one != "--bench").collect();
    if let Some(unknown) = parts
        .iter()
        .find(|part| !["attach", "cost", "drain"].contains(&part.as_str()))
    {
        eprintln!("probe: {unknown} is not known; there are attach, cost and drain");
        std::process::exit(2);
    }
    let kernel = match tracepoints::Kernel::live() {
        Ok(kernel) => kernel,
        Err(error) => return eprintln!("SKIPPED: {error}"),
    };
    let is_wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| *wanted == part);
    if is_wanted("attach") {
        attach::measure(&kernel);
    }
    if is_wanted("cost") {
        cost::measure(&kernel);
    }
    if is_wanted("drain") {
        drain::measure(&kernel);
    }
}

/// The median of some numbers.
#[cfg(all(feature = "probe", target_os = "linux"))]
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Nanoseconds that this thread has run: what other threads take of the CPU does not count.
#[cfg(all(feature = "probe", target_os = "linux"))]
fn own_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
