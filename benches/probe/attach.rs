//! The time it takes to attach.

use std::time::{Duration, Instant};

use tracepoints::probe::{Probe, ProbeBuilder, ProgramPreference};
use tracepoints::{Kernel, Tracepoint};

use super::median;

/// How long the kernel may take until a tracepoint is free again, after a probe is dropped: it
/// closes the perf event of a `tp` program, and waits for what still runs at the tracepoint.
/// Attaching to it earlier would take as long.
pub(super) const CLOSING: Duration = Duration::from_millis(60);

pub(super) fn measure(kernel: &Kernel) {
    const ROUNDS: usize = 41;
    let exec = kernel
        .tracepoint("sched:sched_process_exec")
        .expect("an event");
    let builder = Probe::builder([&exec]);
    let (mut raw, mut tp, mut records) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        raw.push(microseconds(|| builder.count(), 1));
        let counting = with_record(&builder);
        tp.push(microseconds(|| counting.count(), 1));
        records.push(microseconds(|| builder.attach(), 1));
    }
    for (way, times, target) in [
        ("counted, raw_tp", raw, 500),
        ("counted, tp", tp, 900),
        ("records, tp", records, 900),
    ] {
        println!(
            "attach one event: {way:<18} {:>6.0} µs  (at most {target})",
            median(times)
        );
    }
    let patterns = ["sched:*".parse().expect("a pattern")];
    let names = kernel.select(&patterns).expect("events");
    let events: Vec<Tracepoint> = names
        .names()
        .iter()
        .map(|name| kernel.tracepoint(name).expect("an event"))
        .collect();
    let count = events.len() as u32;
    let times = (0..7).map(|_| microseconds(|| Probe::builder(&events).attach(), count));
    println!(
        "attach {count} events: records, tp        {:>6.0} µs  (at most 30000)",
        median(times.collect())
    );
}

fn with_record(builder: &ProbeBuilder) -> ProbeBuilder {
    builder.clone().program(ProgramPreference::Tp)
}

/// The time that attaching takes, in microseconds. Then it is detached, and the kernel is given
/// the time for so many events.
fn microseconds<T, E: std::fmt::Debug>(attach: impl Fn() -> Result<T, E>, events: u32) -> f64 {
    let begin = Instant::now();
    let attached = attach().expect("it is attached");
    let time = begin.elapsed();
    drop(attached);
    std::thread::sleep(CLOSING * events);
    time.as_secs_f64() * 1e6
}
