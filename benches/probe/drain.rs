//! Reading records: how fast, and whether what is lost is counted exactly.

use std::fs::File;
use std::hint::black_box;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tracepoints::Kernel;
use tracepoints::probe::Probe;

use super::median;

pub(super) fn measure(kernel: &Kernel) {
    alone(kernel);
    for (rate, ring) in [(Some(300_000.0), 1 << 24), (None, 1 << 24), (None, 1 << 16)] {
        beside(kernel, rate, ring);
    }
}

fn attached(kernel: &Kernel, ring: u32) -> (Probe, File) {
    let write = kernel
        .tracepoint("syscalls:sys_enter_write")
        .expect("an event");
    let probe = Probe::builder([&write]).process(std::process::id());
    let probe = probe.fields(["fd", "count"]).ring_size(ring).attach();
    let null = File::options().write(true).open("/dev/null");
    (probe.expect("it is attached"), null.expect("a device"))
}

fn write(null: impl AsFd) {
    rustix::io::write(null, b"").expect("it is written");
}

/// Reads and decodes one record.
fn take(record: &tracepoints::probe::ProbeRecord) {
    black_box(record.timestamp_ns());
    black_box(record.field("count"));
}

/// The ring buffer is filled, and then read by a thread that does nothing else.
fn alone(kernel: &Kernel) {
    const RECORDS: u64 = 200_000;
    const ROUNDS: u64 = 21;
    let (mut probe, null) = attached(kernel, 1 << 24);
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        for _ in 0..RECORDS {
            write(&null);
        }
        let begin = Instant::now();
        let mut read = 0u64;
        for record in probe.records() {
            take(&record);
            read += 1;
        }
        rates.push(read as f64 / 1e6 / begin.elapsed().as_secs_f64());
        assert_eq!(read, RECORDS);
    }
    assert!(probe.losses().expect("losses").is_empty());
    println!(
        "\nfull ring buffers are read at {:.2} million records/s, median of {ROUNDS}  (at least 2)",
        median(rates)
    );
}

/// Events at a rate a second, or as fast as they can be made, while a thread reads the records:
/// each is read, or counted as lost.
fn beside(kernel: &Kernel, rate: Option<f64>, ring: u32) {
    const WRITES: u64 = 2_000_000;
    let (mut probe, null) = attached(kernel, ring);
    let done = AtomicBool::new(false);
    let (mut read, mut busy, mut seconds) = (0u64, Duration::ZERO, 0.0);
    std::thread::scope(|scope| {
        let (probe, done, read, busy) = (&mut probe, &done, &mut read, &mut busy);
        scope.spawn(move || {
            loop {
                let is_last = done.load(Ordering::Relaxed);
                let _ = probe.wait(Some(Duration::from_millis(10)));
                let begin = Instant::now();
                for record in probe.records() {
                    take(&record);
                    *read += 1;
                }
                *busy += begin.elapsed();
                if is_last {
                    break;
                }
            }
        });
        let begin = Instant::now();
        for written in 0..WRITES {
            write(&null);
            // In bursts of a hundred, as fast as the rate allows.
            if let Some(rate) = rate
                && written % 100 == 0
            {
                while written as f64 > begin.elapsed().as_secs_f64() * rate {
                    std::hint::spin_loop();
                }
            }
        }
        seconds = begin.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
    });
    let losses = probe.losses().expect("losses");
    assert_eq!(read + losses.full + losses.skipped, WRITES, "{losses:?}");
    println!(
        "{:.2} million events/s, {:>5} KiB: read {read}, lost {}, skipped {}, together exactly \
         {WRITES}; reading took {:.0}% of a CPU",
        WRITES as f64 / 1e6 / seconds,
        ring / 1024,
        losses.full,
        losses.skipped,
        busy.as_secs_f64() * 100.0 / seconds,
    );
}
