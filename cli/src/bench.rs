//! `bench`: what each type of program costs at an event, measured with an event that the
//! command provokes itself.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use clap::Args;
use rustix::fs::{FlockOperation, MemfdFlags, SeekFrom};
use rustix::process::{self, Signal};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tracepoints::kernel::{EventProgram, ProgramForm};
use tracepoints::probe::{Counter, Probe, ProbeError, ProgramPreference, RawProgram};
use tracepoints::{EventName, Kernel, Tracepoint};

use crate::kernel::{Identity, live_failure};
use crate::output::{self, Failure, JsonRows};

/// Measure what each type of program costs at an event, on this machine
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Print one JSON object a line
    #[arg(long, short)]
    json: bool,
    /// Which event: one that a cheap system call provokes
    #[arg(value_name = "EVENT")]
    event: EventName,
}

const EXAMPLES: &str = "\
Examples:
  tracepoints bench raw_syscalls:sys_enter
  tracepoints bench syscalls:sys_exit_read
  tracepoints bench signal:signal_generate

The event is provoked by a loop of system calls, with nothing attached and with a program of
each type that counts; a time is the least of many rounds. Programs on functions (fentry, fexit)
and those that sleep (tp.s) are named, not measured.";

/// How an event is provoked: a system call, and what it does to this process alone.
struct Provocation {
    call: &'static str,
    act: Box<dyn FnMut() -> std::io::Result<()>>,
}

impl Provocation {
    fn new(
        call: &'static str,
        act: impl FnMut() -> std::io::Result<()> + 'static,
    ) -> std::io::Result<Self> {
        Ok(Self {
            call,
            act: Box::new(act),
        })
    }

    /// `None` if this command knows no call that provokes the event.
    fn of(event: &EventName) -> Option<std::io::Result<Self>> {
        let (category, name) = (event.category(), event.event());
        let call = match category {
            "raw_syscalls" => "getppid",
            "syscalls" => {
                let call = name.strip_prefix("sys_enter_");
                call.or_else(|| name.strip_prefix("sys_exit_"))?
            }
            "task" if name == "task_rename" => return Some(Self::of_process("/proc/self/comm")),
            "oom" if name == "oom_score_adj_update" => {
                return Some(Self::of_process("/proc/self/oom_score_adj"));
            }
            "filelock" if matches!(name, "flock_lock_inode" | "locks_get_lock_context") => {
                return Some(Self::lock());
            }
            "signal" if name == "signal_generate" => {
                return Some(Self::new("kill", || {
                    Ok(process::kill_process(process::getpid(), Signal::URG)?)
                }));
            }
            _ => return None,
        };
        Some(match call {
            "getppid" => Self::new("getppid", || {
                black_box(process::getppid());
                Ok(())
            }),
            "getpid" => Self::new("getpid", || {
                black_box(process::getpid());
                Ok(())
            }),
            "getuid" => Self::new("getuid", || {
                black_box(process::getuid());
                Ok(())
            }),
            "getgid" => Self::new("getgid", || {
                black_box(process::getgid());
                Ok(())
            }),
            "read" => File::open("/dev/null").and_then(|file| {
                Self::new("read", move || {
                    rustix::io::read(&file, &mut [0])?;
                    Ok(())
                })
            }),
            "write" => File::options()
                .write(true)
                .open("/dev/null")
                .and_then(|file| Self::writing(file, vec![0])),
            "lseek" => Self::memory().and_then(|file| {
                Self::new("lseek", move || {
                    rustix::fs::seek(&file, SeekFrom::Start(0))?;
                    Ok(())
                })
            }),
            _ => return None,
        })
    }

    fn memory() -> std::io::Result<OwnedFd> {
        Ok(rustix::fs::memfd_create(
            "tracepoints",
            MemfdFlags::CLOEXEC,
        )?)
    }

    /// This process gets what it has in such a file.
    fn of_process(path: &str) -> std::io::Result<Self> {
        let text = std::fs::read(path)?;
        Self::writing(File::options().write(true).open(path)?, text)
    }

    fn writing(file: File, bytes: Vec<u8>) -> std::io::Result<Self> {
        Self::new("write", move || {
            rustix::io::write(&file, &bytes)?;
            Ok(())
        })
    }

    fn lock() -> std::io::Result<Self> {
        let file = Self::memory()?;
        Self::new("flock", move || {
            Ok(rustix::fs::flock(&file, FlockOperation::LockShared)?)
        })
    }

    /// The time of one call, in nanoseconds, of this thread alone: what other threads take of
    /// the CPU does not count.
    fn time(&mut self, calls: u32) -> Result<f64, Failure> {
        let start = own_time();
        for _ in 0..calls {
            (self.act)()?;
        }
        Ok((own_time() - start) / f64::from(calls))
    }

    /// How many calls take about a millisecond.
    fn calls(&mut self) -> Result<u32, Failure> {
        let one = self.time(1000)?;
        Ok((1e6 / one.max(1.0)) as u32 + 1)
    }
}

/// Nanoseconds that this thread has run.
fn own_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// A type of program, and the least time of a call with it.
struct Measured {
    program: Option<EventProgram>,
    /// Of the rounds with even numbers, and of the others: as far as these differ, the time is
    /// not known.
    call_ns: [f64; 2],
}

impl Measured {
    fn new(program: Option<EventProgram>) -> Self {
        Self {
            program,
            call_ns: [f64::INFINITY; 2],
        }
    }

    fn least(&self) -> f64 {
        self.call_ns[0].min(self.call_ns[1])
    }

    fn doubt(&self) -> f64 {
        (self.call_ns[0] - self.call_ns[1]).abs()
    }
}

pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    output::run(!arguments.json, |out| bench(arguments, out))
}

fn bench(arguments: &Arguments, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let kernel = Kernel::live().map_err(live_failure)?;
    let event = kernel.tracepoint(&arguments.event)?;
    let name = event.name();
    let provocation = Provocation::of(name).ok_or_else(|| {
        Failure::Other(format!(
            "{name}: this command does not know how to provoke it; it can raw_syscalls:*, \
             syscalls:sys_*_{{getppid,getpid,getuid,getgid,read,write,lseek}}, \
             task:task_rename, oom:oom_score_adj_update, signal:signal_generate, \
             filelock:flock_lock_inode and filelock:locks_get_lock_context"
        ))
    })?;
    let mut provocation = provocation?;
    let hits = hits_of_a_call(&event, &mut provocation)?;
    let measured = measure(&kernel, &event, &mut provocation)?;
    let Some((bare, measured)) = measured.split_first() else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut json = JsonRows::where_wanted(arguments.json, &Identity::live())?;
    if json.is_none() {
        let call = provocation.call;
        let least = bare.least();
        let times = if hits == 1 { "once" } else { "several times" };
        writeln!(
            out,
            "{name}, hit {times} by {call}(2), which takes {least:.0} ns"
        )?;
    }
    for one in measured {
        let cost = (one.least() - bare.least()) / hits as f64;
        let doubt = (one.doubt() + bare.doubt()) / hits as f64;
        let Some(program) = &one.program else {
            continue;
        };
        let form = program.form();
        match &mut json {
            Some(json) => json.write(
                &json!({
                    "event": name,
                    "program": form,
                    "call": provocation.call,
                    "hits": hits,
                    "call_ns": bare.least(),
                    "cost_ns": cost,
                    "doubt_ns": doubt,
                }),
                out,
            )?,
            None => writeln!(
                out,
                "  {form:6}  {cost:6.1} ns a hit, give or take {doubt:.1}"
            )?,
        }
    }
    if json.is_none() {
        write_not_measured(&event, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The types of programs that are measured.
const MEASURED: [ProgramForm; 3] = [ProgramForm::Tp, ProgramForm::RawTp, ProgramForm::TpBtf];

/// Names the other types that serve the event, and says if the kernel lacks that for system
/// calls.
fn write_not_measured(event: &Tracepoint, out: &mut dyn Write) -> Result<(), Failure> {
    let programs = event.programs()?;
    let mut others: Vec<ProgramForm> = programs.iter().map(EventProgram::form).collect();
    others.retain(|form| !MEASURED.contains(form));
    for form in &others {
        writeln!(out, "  {form:6}  not measured")?;
    }
    let is_syscall = event.name().category() == "syscalls";
    if is_syscall && !others.contains(&ProgramForm::TpSleepable) {
        let form = ProgramForm::TpSleepable;
        writeln!(out, "  {form:6}  not on this kernel")?;
    }
    Ok(())
}

/// How often a call hits the event, which is counted.
fn hits_of_a_call(event: &Tracepoint, provocation: &mut Provocation) -> Result<u64, Failure> {
    const CALLS: u32 = 100;
    let counter = Probe::builder([event])
        .process(std::process::id())
        .count()?;
    provocation.time(CALLS)?;
    let count: u64 = counter.counts()?.iter().map(|(_, count)| count).sum();
    match count / u64::from(CALLS) {
        0 => Err(Failure::Other(format!(
            "{}: {}(2) does not provoke it on this kernel",
            event.name(),
            provocation.call
        ))),
        hits => Ok(hits),
    }
}

/// Times of a call without a program, and with each that the kernel has. Rounds take turns, so
/// that what else the machine does meets all of them.
fn measure(
    kernel: &Kernel,
    event: &Tracepoint,
    provocation: &mut Provocation,
) -> Result<Vec<Measured>, Failure> {
    const ROUNDS: usize = 10;
    /// With one program attached: attaching takes far longer.
    const SHORT_ROUNDS: usize = 20;
    let calls = provocation.calls()?;
    let programs = event.programs()?;
    let programs = programs.into_iter();
    let programs = programs.filter(|program| MEASURED.contains(&program.form()));
    let programs = std::iter::once(None).chain(programs.map(Some));
    let mut measured: Vec<Measured> = programs.map(Measured::new).collect();
    for round in 0..ROUNDS {
        for one in &mut measured {
            let counter = match &one.program {
                None => None,
                Some(program) => Some(attached(kernel, event, program)?),
            };
            let least = &mut one.call_ns[round % 2];
            for _ in 0..SHORT_ROUNDS {
                *least = least.min(provocation.time(calls)?);
            }
            drop(counter);
        }
    }
    Ok(measured)
}

/// Attaches a program of this type that counts.
fn attached(
    kernel: &Kernel,
    event: &Tracepoint,
    program: &EventProgram,
) -> Result<Counter, ProbeError> {
    let raw = match program.form() {
        ProgramForm::RawTp => RawProgram::RawTp,
        ProgramForm::TpBtf => RawProgram::TpBtf,
        _ => {
            let builder = Probe::builder([event]).program(ProgramPreference::Tp);
            return builder.count();
        }
    };
    // `raw_tp/sys_enter` for all events of system calls.
    let section = program.section();
    let tracepoint = section.split_once('/').map_or(section, |(_, name)| name);
    let builder = Probe::builder([]).raw_tracepoint(kernel, tracepoint, raw)?;
    builder.count()
}
