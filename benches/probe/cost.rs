//! The cost of an event to the thread that hits it, beside bpftrace and a C program with
//! libbpf.

use std::collections::BTreeSet;
use std::fs::File;
use std::hint::black_box;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{FlockOperation, MemfdFlags};
use tracepoints::Kernel;
use tracepoints::probe::{Counter, Losses, Probe, ProbeBuilder, ProgramPreference};

use super::attach::CLOSING;
use super::others::{Bpftrace, Compiled, Libbpf};
use super::{median, own_time};

const ROUNDS: usize = 11;
/// How often the loop of system calls runs in a round with the same program attached. The
/// median of its times counts.
const LOOPS: usize = 25;
const CALLS: u32 = 2_000;
const QUESTIONS: usize = 4;

/// The system calls that hit the events. A listener at `write` also makes the kernel take
/// another way into all system calls; one at `flock_lock_inode` does not.
enum Call {
    /// `write(2)` of nothing to `/dev/null`.
    Write(File),
    /// `flock(2)` of a file that is locked.
    Lock(OwnedFd),
}

impl Call {
    fn write() -> Self {
        let null = File::options().write(true).open("/dev/null");
        Self::Write(null.expect("a device"))
    }

    fn lock() -> Self {
        let file = rustix::fs::memfd_create("tracepoints", MemfdFlags::CLOEXEC);
        Self::Lock(file.expect("a file"))
    }

    fn make(&self) {
        match self {
            Self::Write(null) => {
                let written = rustix::io::write(null, b"");
                black_box(written).expect("it is written");
            }
            Self::Lock(file) => {
                let locked = rustix::fs::flock(file, FlockOperation::LockShared);
                locked.expect("it is locked");
            }
        }
    }

    /// The time of one call, in nanoseconds: of the median loop, and of the fastest.
    fn time(&self) -> Times {
        let loops = (0..LOOPS).map(|_| {
            let begin = own_time();
            for _ in 0..CALLS {
                self.make();
            }
            (own_time() - begin) / f64::from(CALLS)
        });
        let loops: Vec<f64> = loops.collect();
        Times {
            least: loops.iter().copied().fold(f64::INFINITY, f64::min),
            median: median(loops),
        }
    }
}

/// The same question to each program.
struct Question {
    name: &'static str,
    call: Call,
    /// The greatest cost of ours that is wanted, in nanoseconds.
    target: Option<f64>,
    ours: ProbeBuilder,
    has_records: bool,
    bpftrace: String,
    /// The name of the program in `cost.bpf.c`.
    libbpf: &'static str,
}

fn questions(kernel: &Kernel) -> [Question; QUESTIONS] {
    let pid = std::process::id();
    let on = |event: &str| {
        let event = kernel.tracepoint(event).expect("an event");
        Probe::builder([&event]).process(pid)
    };
    let write = on("syscalls:sys_enter_write");
    let at_write =
        |action: &str| format!("tracepoint:syscalls:sys_enter_write /pid == {pid}/ {{ {action} }}");
    [
        Question {
            name: "flock, raw_tp",
            call: Call::lock(),
            target: Some(15.0),
            ours: on("filelock:flock_lock_inode"),
            has_records: false,
            bpftrace: format!("rawtracepoint:flock_lock_inode /pid == {pid}/ {{ @ = count(); }}"),
            libbpf: "count_lock",
        },
        Question {
            name: "sys_enter, raw_tp",
            call: Call::write(),
            target: Some(15.0),
            ours: on("raw_syscalls:sys_enter"),
            has_records: false,
            bpftrace: format!("rawtracepoint:sys_enter /pid == {pid}/ {{ @ = count(); }}"),
            libbpf: "count_raw",
        },
        Question {
            name: "sys_enter_write, tp",
            call: Call::write(),
            target: None,
            ours: write.clone().program(ProgramPreference::Tp),
            has_records: false,
            bpftrace: at_write("@ = count();"),
            libbpf: "count_tp",
        },
        Question {
            name: "the same, streamed",
            call: Call::write(),
            target: Some(350.0),
            ours: write.fields(["fd", "count"]).ring_size(1 << 24),
            has_records: true,
            bpftrace: at_write(
                "printf(\"%llu %d %d %d %s %d %d\\n\", nsecs, cpu, pid, tid, comm, args->fd, \
                 args->count);",
            ),
            libbpf: "stream_tp",
        },
    ]
}

/// One of the programs that are compared, at work.
enum Attached {
    Counter(Box<Counter>),
    Reader(Reader),
    Bpftrace(Bpftrace),
    Libbpf(Libbpf),
}

impl Question {
    fn ours(&self) -> Attached {
        match self.has_records {
            true => Attached::Reader(Reader::new(self.ours.attach().expect("it is attached"))),
            false => Attached::Counter(Box::new(self.ours.count().expect("it is attached"))),
        }
    }
}

impl Attached {
    /// Detaches it. Ours must have seen the calls, all of them.
    fn end(self, calls: u64) {
        match self {
            Self::Counter(counter) => {
                let counts = counter.counts().expect("counts");
                let seen: u64 = counts.iter().map(|(_, count)| count).sum();
                assert!(seen >= calls, "{seen} of {calls}");
            }
            Self::Reader(reader) => {
                let (read, losses) = reader.end();
                let all = read + losses.full + losses.skipped;
                assert_eq!(all, calls, "{losses:?}");
            }
            Self::Bpftrace(bpftrace) => drop(bpftrace),
            Self::Libbpf(libbpf) => {
                if let Some(seen) = libbpf.end().filter(|seen| *seen < calls) {
                    eprintln!("the C program has seen {seen} of {calls} events");
                }
            }
        }
        std::thread::sleep(2 * CLOSING);
    }
}

/// A thread that reads the records of a probe.
struct Reader {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<(u64, Losses)>,
}

impl Reader {
    fn new(mut probe: Probe) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut read = 0;
            loop {
                let is_last = over.load(Ordering::Relaxed);
                let _ = probe.wait(Some(Duration::from_millis(10)));
                for record in probe.records() {
                    black_box(record.field("count"));
                    read += 1;
                }
                if is_last {
                    return (read, probe.losses().expect("losses"));
                }
            }
        });
        Self { is_over, thread }
    }

    fn end(self) -> (u64, Losses) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("it reads")
    }
}

/// Times in nanoseconds.
#[derive(Clone, Copy)]
struct Times {
    median: f64,
    least: f64,
}

pub(super) fn measure(kernel: &Kernel) {
    let compiled = Compiled::new();
    let questions = questions(kernel);
    let mut bare: [Vec<Times>; QUESTIONS] = Default::default();
    let mut costs: [Costs; QUESTIONS] = Default::default();
    let mut skipped = BTreeSet::new();
    for _ in 0..ROUNDS {
        for ((question, costs), bare) in questions.iter().zip(&mut costs).zip(&mut bare) {
            let without = question.call.time();
            bare.push(without);
            let [ours, bpftrace, libbpf] = costs;
            let take = |costs: &mut Vec<Cost>, attached: Attached| {
                let call = question.call.time();
                costs.push(Cost {
                    median: call.median - without.median,
                    least_call: call.least,
                });
                attached.end((LOOPS * CALLS as usize) as u64);
            };
            take(ours, question.ours());
            match Bpftrace::start(&question.bpftrace) {
                Ok(started) => take(bpftrace, Attached::Bpftrace(started)),
                Err(why) => drop(skipped.insert(format!("bpftrace, {}: {why}", question.name))),
            }
            let compiled = compiled.as_ref().map_err(String::clone);
            match compiled.and_then(|compiled| compiled.start(question.libbpf)) {
                Ok(started) => take(libbpf, Attached::Libbpf(started)),
                Err(why) => drop(skipped.insert(format!("libbpf, {}: {why}", question.name))),
            }
        }
    }
    for why in skipped {
        eprintln!("SKIPPED: {why}");
    }
    print(&questions, &bare, &costs);
}

/// The costs of one question, round by round: ours, bpftrace's and libbpf's.
type Costs = [Vec<Cost>; 3];

/// The time that a hit adds to a call, and that of the fastest call, in nanoseconds.
#[derive(Clone, Copy)]
struct Cost {
    median: f64,
    least_call: f64,
}

fn print(questions: &[Question], bare: &[Vec<Times>], costs: &[Costs]) {
    println!(
        "\neach hit adds, in ns, the median of {ROUNDS} rounds (quartiles), and the least of all \
         rounds:"
    );
    println!(
        "  {:<19} {:>16} {:>24} {:>24} {:>24}   ours / theirs",
        "", "the call alone", "tracepoints", "bpftrace", "libbpf"
    );
    let least = |calls: &mut dyn Iterator<Item = f64>| calls.fold(f64::INFINITY, f64::min);
    for ((question, costs), bare) in questions.iter().zip(costs).zip(bare) {
        let alone = median(bare.iter().map(|one| one.median).collect());
        let least_alone = least(&mut bare.iter().map(|one| one.least));
        let text = format!("{alone:.0}, {least_alone:.0}");
        print!("  {:<19} {text:>16}", question.name);
        for times in costs {
            let text = match times.is_empty() {
                true => "SKIPPED".to_owned(),
                false => {
                    let [low, middle, high] = quartiles(times);
                    let least = least(&mut times.iter().map(|one| one.least_call)) - least_alone;
                    format!("{middle:.0} ({low:.0} to {high:.0}), {least:.0}")
                }
            };
            print!(" {text:>24}");
        }
        print!("  ");
        let [ours, theirs @ ..] = costs;
        for theirs in theirs {
            let ratios = ours.iter().zip(theirs);
            let ratios: Vec<f64> = ratios.map(|(a, b)| a.median / b.median).collect();
            match ratios.is_empty() {
                true => print!(" {:>6}", "-"),
                false => print!(" {:>6.2}", median(ratios)),
            }
        }
        match question.target {
            Some(target) => println!("   ours at most {target:.0}"),
            None => println!(),
        }
    }
}

fn quartiles(times: &[Cost]) -> [f64; 3] {
    let mut times: Vec<f64> = times.iter().map(|one| one.median).collect();
    times.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| times[(times.len() - 1) * quarter / 4])
}
