//! What probes cost on the running kernel: attaching, and each event, beside
//! bpftrace where it is installed. Takes root, and a mounted tracefs:
//!
//! ```sh
//! sudo unshare --mount sh -c 'mount -t tracefs t /sys/kernel/tracing && cargo bench --bench probe'
//! ```
//!
//! Machines are noisy: all that is compared is measured in turns, and the best of
//! each is taken.

#[cfg(not(all(feature = "probe", target_os = "linux")))]
fn main() {}

#[cfg(all(feature = "probe", target_os = "linux"))]
fn main() {
    live::main();
}

#[cfg(all(feature = "probe", target_os = "linux"))]
mod live {
    use std::fs::File;
    use std::hint::black_box;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use tracepoints::probe::Probe;
    use tracepoints::{Kernel, Tracepoint};

    /// How many events one measurement takes.
    const EVENTS: u32 = 200_000;
    /// How many measurements there are of each.
    const ROUNDS: usize = 7;

    pub(super) fn main() {
        // `cargo test --benches` only wants to know whether it runs.
        if std::env::args().any(|argument| argument == "--test") {
            return;
        }
        let kernel = match Kernel::live() {
            Ok(kernel) => kernel,
            Err(error) => return eprintln!("SKIPPED: {error}"),
        };
        attaching(&kernel);
        each_event(&kernel);
        streaming(&kernel);
    }

    fn attaching(kernel: &Kernel) {
        let exec = kernel
            .tracepoint("sched:sched_process_exec")
            .expect("an event");
        let one = median(21, || {
            let begin = Instant::now();
            let probe = Probe::builder([&exec]).attach().expect("attached");
            let time = begin.elapsed();
            drop(probe);
            time
        });
        println!("attach to one event                {one:>12.1?}  (at most 1 ms)");
        let patterns = ["sched:*".parse().expect("a pattern")];
        let names = kernel.select(&patterns).expect("events");
        let events: Vec<Tracepoint> = names
            .names()
            .iter()
            .map(|name| kernel.tracepoint(name).expect("an event"))
            .collect();
        let all = median(7, || {
            let begin = Instant::now();
            let probe = Probe::builder(&events).attach().expect("attached");
            let time = begin.elapsed();
            drop(probe);
            // The kernel closes the events by and by, and nothing is attached to
            // others meanwhile.
            std::thread::sleep(Duration::from_millis(60) * events.len() as u32);
            time
        });
        println!(
            "attach to sched:*, {} events        {all:>12.1?}  (at most 30 ms)",
            events.len()
        );
    }

    fn median(rounds: usize, mut measure: impl FnMut() -> Duration) -> Duration {
        let mut times: Vec<Duration> = (0..rounds).map(|_| measure()).collect();
        times.sort();
        times[rounds / 2]
    }

    /// The cost of an event to the task that hits it, in nanoseconds, best of all
    /// rounds.
    fn each_event(kernel: &Kernel) {
        let write = kernel
            .tracepoint("syscalls:sys_enter_write")
            .expect("an event");
        let null = File::options()
            .write(true)
            .open("/dev/null")
            .expect("a device");
        let work = || {
            let begin = Instant::now();
            for _ in 0..EVENTS {
                black_box(rustix::io::write(&null, b"")).expect("it is written");
            }
            begin.elapsed().as_secs_f64() * 1e9 / f64::from(EVENTS)
        };
        let pid = std::process::id();
        let count =
            format!("tracepoint:syscalls:sys_enter_write /pid == {pid}/ {{ @ = count(); }}");
        let stream = format!(
            "tracepoint:syscalls:sys_enter_write /pid == {pid}/ {{ printf(\"%llu %d %d %d %s %d %d\\n\", \
             nsecs, cpu, pid, tid, comm, args->fd, args->count); }}"
        );
        let mut best = [f64::INFINITY; 5];
        let mut keep = |index: usize, time: f64| best[index] = best[index].min(time);
        for _ in 0..ROUNDS {
            keep(0, work());
            let counter = Probe::builder([&write])
                .process(pid)
                .count()
                .expect("attached");
            keep(1, work());
            drop(counter);
            if let Some(bpftrace) = Bpftrace::start(&count) {
                keep(2, work());
                drop(bpftrace);
            }
            let mut probe = Probe::builder([&write])
                .process(pid)
                .fields(["fd", "count"])
                .attach()
                .expect("attached");
            keep(3, draining(&mut probe, work));
            drop(probe);
            if let Some(bpftrace) = Bpftrace::start(&stream) {
                keep(4, work());
                drop(bpftrace);
            }
        }
        println!("\na write(2) of nothing to /dev/null   {:>8.0} ns", best[0]);
        for (what, ours, theirs) in [("counted", 1, 2), ("streamed, 7 values", 3, 4)] {
            let cost = |index: usize| best[index] - best[0];
            print!("  {what:<20} tracepoints +{:>5.0} ns", cost(ours));
            match best[theirs].is_finite() {
                true => println!(
                    "   bpftrace +{:>5.0} ns   ratio {:.2}",
                    cost(theirs),
                    cost(ours) / cost(theirs)
                ),
                false => println!("   bpftrace is not installed"),
            }
        }
    }

    /// Does the work while another thread reads the records.
    fn draining(probe: &mut Probe, work: impl Fn() -> f64) -> f64 {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = probe.wait(Some(Duration::from_millis(10)));
                    for record in probe.records() {
                        black_box(record.field("count"));
                    }
                }
            });
            let time = work();
            done.store(true, Ordering::Relaxed);
            time
        })
    }

    /// 300,000 events a second for three seconds, all of them read and decoded.
    fn streaming(kernel: &Kernel) {
        let write = kernel
            .tracepoint("syscalls:sys_enter_write")
            .expect("an event");
        let null = File::options()
            .write(true)
            .open("/dev/null")
            .expect("a device");
        let mut probe = Probe::builder([&write])
            .process(std::process::id())
            .fields(["fd", "count"])
            .ring_size(1 << 24)
            .attach()
            .expect("attached");
        const RATE: f64 = 300_000.0;
        const SECONDS: f64 = 3.0;
        let done = AtomicBool::new(false);
        let read = AtomicU64::new(0);
        let busy = AtomicU64::new(0);
        let mut seconds = 0.0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut count = 0;
                loop {
                    let over = done.load(Ordering::Relaxed);
                    let _ = probe.wait(Some(Duration::from_millis(10)));
                    let begin = Instant::now();
                    for record in probe.records() {
                        black_box(record.field("count"));
                        count += 1;
                    }
                    busy.fetch_add(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
                    if over {
                        break;
                    }
                }
                read.store(count, Ordering::Relaxed);
            });
            let begin = Instant::now();
            let mut written = 0.0;
            while written < RATE * SECONDS {
                // In bursts of a hundred, as fast as the rate allows.
                if written <= begin.elapsed().as_secs_f64() * RATE {
                    for _ in 0..100 {
                        rustix::io::write(&null, b"").expect("it is written");
                    }
                    written += 100.0;
                }
            }
            seconds = begin.elapsed().as_secs_f64();
            done.store(true, Ordering::Relaxed);
        });
        let losses = probe.losses().expect("losses");
        println!(
            "\nstreamed {} of {:.0} events at {:.0}/s, lost {}, skipped {}; reading took {:.0}% of a CPU",
            read.load(Ordering::Relaxed),
            RATE * SECONDS,
            RATE * SECONDS / seconds,
            losses.full,
            losses.skipped,
            busy.load(Ordering::Relaxed) as f64 / 1e7 / seconds,
        );
    }

    /// bpftrace at work, until it is dropped.
    struct Bpftrace(Child);

    impl Bpftrace {
        /// `None` if it is not installed.
        fn start(program: &str) -> Option<Self> {
            let mut child = Command::new("bpftrace")
                .args([
                    "-e",
                    &format!("BEGIN {{ printf(\"ready\\n\"); }} {program}"),
                ])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .ok()?;
            let mut lines = BufReader::new(child.stdout.take()?).lines();
            let ready = lines.any(|line| line.is_ok_and(|line| line == "ready"));
            // What it prints is read, so that it does not have to wait.
            std::thread::spawn(move || lines.count());
            if !ready {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            // Its BEGIN may run before all is attached.
            std::thread::sleep(Duration::from_millis(500));
            Some(Self(child))
        }
    }

    impl Drop for Bpftrace {
        fn drop(&mut self) {
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_child(&self.0),
                rustix::process::Signal::INT,
            );
            let _ = self.0.wait();
        }
    }
}
