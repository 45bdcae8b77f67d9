//! The time it takes to attach.

use std::time::{Duration, Instant};

use tracepoints::probe::{Probe, ProbeBuilder, ProgramPreference};
use tracepoints::{Kernel, Tracepoint};

use super::{median, own_time};

/// How long the kernel may take until a tracepoint is free again, after a probe is dropped: it
/// closes the perf event of a `tp` program, and waits for what still runs at the tracepoint.
/// Attaching to it earlier would take as long.
pub(super) const CLOSING: Duration = Duration::from_millis(60);

/// A way to attach to one event, and the greatest time that is wanted, in microseconds.
type Way = (&'static str, f64, fn(&ProbeBuilder) -> AnyProbe);

/// An attachment, which ends when it is dropped.
type AnyProbe = Box<dyn std::any::Any>;

const WAYS: [Way; 4] = [
    ("counted, raw_tp", 500.0, |event| {
        Box::new(event.count().expect("it is attached"))
    }),
    ("counted, tp", 900.0, |event| {
        let counting = event.clone().program(ProgramPreference::Tp);
        Box::new(counting.count().expect("it is attached"))
    }),
    ("records, tp", 900.0, |event| {
        Box::new(event.attach().expect("it is attached"))
    }),
    ("records, tp, 64 KiB", 900.0, |event| {
        let small = event.clone().ring_size(1 << 16);
        Box::new(small.attach().expect("it is attached"))
    }),
];

pub(super) fn measure(kernel: &Kernel) {
    const ROUNDS: usize = 41;
    let exec = kernel
        .tracepoint("sched:sched_process_exec")
        .expect("an event");
    let builder = Probe::builder([&exec]);
    let mut times = [const { (Vec::new(), Vec::new()) }; WAYS.len()];
    for _ in 0..ROUNDS {
        for ((_, _, attach), (passed, own)) in WAYS.iter().zip(&mut times) {
            let time = time(|| attach(&builder), 1);
            passed.push(time[0]);
            own.push(time[1]);
        }
    }
    println!("attaching, in µs: the median of {ROUNDS} rounds, and of the thread's own CPU time");
    for ((way, target, _), (passed, own)) in WAYS.iter().zip(times) {
        let (passed, own) = (median(passed), median(own));
        println!("  one event: {way:<20} {passed:>6.0} {own:>6.0}   at most {target:.0}");
    }
    let patterns = ["sched:*".parse().expect("a pattern")];
    let names = kernel.select(&patterns).expect("events");
    let events: Vec<Tracepoint> = names
        .names()
        .iter()
        .map(|name| kernel.tracepoint(name).expect("an event"))
        .collect();
    let count = events.len() as u32;
    let times = (0..7).map(|_| {
        let attach = || Box::new(Probe::builder(&events).attach().expect("it is attached"));
        time(attach, count)
    });
    let times: Vec<[f64; 2]> = times.collect();
    let of = |which: usize| median(times.iter().map(|time| time[which]).collect());
    println!(
        "  {count} events: records, tp         {:>6.0} {:>6.0}   at most 30000",
        of(0),
        of(1)
    );
}

/// The time that attaching takes, in microseconds, and this thread's CPU time. Then it is
/// detached, and the kernel is given the time for so many events.
fn time<T>(attach: impl Fn() -> T, events: u32) -> [f64; 2] {
    let (begin, own) = (Instant::now(), own_time());
    let attached = attach();
    let times = [
        begin.elapsed().as_secs_f64() * 1e6,
        (own_time() - own) / 1e3,
    ];
    drop(attached);
    std::thread::sleep(CLOSING * events);
    times
}
