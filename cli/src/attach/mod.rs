//! `attach`: what happens at tracepoints of the running kernel.

mod choice;
pub(crate) mod command;
mod explain;
mod lines;
mod pinned;
mod run;
mod show;
mod stack;
mod tally;
mod target;

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rustix::process::{self, Resource, Rlimit};
use tracepoints::probe::{PinnedResults, Probe, ProbeBuilder, ProgramPreference, StringReading};
use tracepoints::{Filter, Kernel};

use crate::kernel::{Identity, live_failure};
use crate::output::{self, Failure, JsonRows, Overwritten, Progress, say};
use choice::Chosen;
use command::Suspended;
use run::Run;
use show::Shown;
use target::Target;

/// Trace what happens at tracepoints of the running kernel: records, counts, histograms
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Trace only the threads of this process, until it ends
    #[arg(long, short, value_name = "PID", conflicts_with = "command")]
    pid: Option<u32>,
    /// With --pid: trace its descendants, too
    #[arg(long, requires = "pid")]
    children: bool,
    /// Print these fields only: names separated by commas; of raw tracepoints, paths through
    /// their arguments: prev->pid, rq->q->id; of system calls, what arguments point at:
    /// *rqtp, *uservaddr, *statbuf, *argv; *tsp@entry or *tsp@exit where a call may read and write; * for
    /// all there is
    #[arg(long, short = 'F', value_name = "FIELD", value_delimiter = ',')]
    fields: Option<Vec<String>>,
    /// Print records only where this holds: ret < 0 && comm == "rm", flags & 0x200
    #[arg(long, short, value_name = "EXPR")]
    filter: Option<Filter>,
    /// Only count, and print the counts at the end
    #[arg(long, short)]
    count: bool,
    /// Only count, by what these fields hold: pid, tid, comm, cpu, or the event's own; by
    /// stacks: kstack, ustack
    #[arg(long, short, value_name = "FIELD", value_delimiter = ',')]
    by: Option<Vec<String>>,
    /// Only add up an integer field: its sum, average, least and greatest value
    #[arg(long, short, value_name = "FIELD")]
    stats: Option<String>,
    /// Only count the values of an integer field by powers of two
    #[arg(long, short = 'H', value_name = "FIELD", conflicts_with_all = ["count", "by", "stats"])]
    hist: Option<String>,
    /// Only count the values of an integer field by steps of one size
    #[arg(long, value_name = "FIELD:STEP", value_parser = linear)]
    #[arg(conflicts_with_all = ["count", "by", "stats", "hist"])]
    lhist: Option<(String, u64)>,
    /// With what only counts: print it every so many seconds, too
    #[arg(long, short, value_name = "SECONDS", value_parser = interval)]
    interval: Option<Duration>,
    /// With --count or --by: print the N that happened most
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Print one JSON object a line
    #[arg(long, short)]
    json: bool,
    /// Write to this file what is traced, apart from what the command prints
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print in the kernel's own words: flags, enums and functions by their names
    #[arg(long, short = 'P', conflicts_with_all = ["fields", "count", "hist", "by", "stats", "lhist"])]
    pretty: bool,
    /// How to print times
    #[arg(long, short, value_name = "HOW", default_value = "boot")]
    time: Time,
    /// Print how long each system call took, where both of its events are traced
    #[arg(long, short = 'T')]
    durations: bool,
    /// Print stacks, too: the functions of the kernel and of the process that were running
    #[arg(long, conflicts_with_all = ["count", "hist", "by", "stats", "lhist"])]
    stack: bool,
    /// When to read the strings of system calls, and structs that they read; those in pages that the process has not touched
    /// cannot be read at entry
    #[arg(long, value_name = "WHEN", default_value = "exit")]
    strings: StringChoice,
    /// The type of program that serves events: raw_tp gets no fields, and costs half as much
    #[arg(long, value_name = "TYPE", default_value = "cheapest")]
    program: ProgramChoice,
    /// Print which program serves each event, and why, and end
    #[arg(long)]
    explain: bool,
    /// End after so many seconds
    #[arg(long, short, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,
    /// End after so many records
    #[arg(long, short = 'n', value_name = "N", conflicts_with_all = ["count", "hist", "by", "stats", "lhist"])]
    max: Option<u64>,
    /// Print at most so many bytes of a string or of data
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    data: u32,
    /// Pin to this new directory of a BPF file system (/sys/fs/bpf), and end: counting, and
    /// recording until the ring buffer is full, go on there
    #[arg(long, value_name = "DIR")]
    #[arg(conflicts_with_all = ["command", "duration", "max", "interval", "top", "json", "output",
        "pretty", "time", "durations", "lhist", "explain"])]
    pin: Option<PathBuf>,
    /// Print what has been counted or recorded by what is pinned there: at once, or for
    /// --duration. Records that are printed are removed
    #[arg(long, value_name = "DIR", conflicts_with_all = NOT_OF_PINNED)]
    read: Option<PathBuf>,
    /// End what is pinned there: detach it, print what --read would, and remove it
    #[arg(long, value_name = "DIR", conflicts_with_all = NOT_OF_PINNED)]
    #[arg(conflicts_with_all = ["read", "duration", "interval", "max"])]
    unpin: Option<PathBuf>,
    /// Which events, and what of each: syscalls:sys_enter_unlinkat, sched:*,
    /// syscalls:sys_exit_openat{ret}/ret < 0/; whole system calls: sys:openat; raw tracepoints: raw_tp/sched_switch,
    /// tp_btf/sched_switch, pelt_se_tp
    #[arg(value_name = "EVENT[{FIELD,…}][/FILTER/]")]
    #[arg(required_unless_present_any = ["read", "unpin"])]
    events: Vec<Target>,
    /// Run this command, trace it and its descendants, and end with it
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// When strings are read that system calls get.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StringChoice {
    /// At entry only
    Entry,
    /// At entry, and what cannot be read there when the call returns: the record comes then
    Exit,
    /// Both, to mark those that changed in between: all records come when calls return
    Twice,
}

/// The type of the programs that serve events.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgramChoice {
    /// raw_tp where no field of the event is needed, else tp
    Cheapest,
    /// tp
    #[value(name = "tp")]
    Tp,
    /// raw_tp: an error where fields are needed
    #[value(name = "raw_tp")]
    RawTp,
}

/// How times are printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Time {
    /// Seconds since the kernel booted
    Boot,
    /// The time of day
    Wall,
    /// Seconds since the record before
    Delta,
}

/// The arguments that a probe takes when it is attached, and not when it is read.
const NOT_OF_PINNED: [&str; 16] = [
    "events", "command", "pin", "pid", "children", "fields", "filter", "count", "by", "stats",
    "hist", "lhist", "stack", "strings", "program", "explain",
];

const EXAMPLES: &str = "\
Examples:
  tracepoints attach syscalls:sys_enter_unlinkat --fields pid,comm,pathname -- rm file
  tracepoints attach sched:sched_process_exec --duration 10
  tracepoints attach 'syscalls:sys_enter_openat{filename}' 'syscalls:sys_exit_openat/ret < 0/'
  tracepoints attach 'sys:unlinkat{pathname}' -- rm file
  tracepoints attach 'sys:openat{filename}/ret < 0/' --pid 1234
  tracepoints attach 'sys:execve{filename,*argv}' --duration 10
  tracepoints attach 'sys:connect{*uservaddr}' 'sys:newfstatat{filename,*statbuf}' --pid 1234
  tracepoints attach sched:sched_process_exec --stack -- make
  tracepoints attach raw_tp/sched_switch --fields 'prev->comm,next->comm' --pid 1234
  tracepoints attach 'syscalls:sys_enter_*' --count --top 5 --pid 1234
  tracepoints attach syscalls:sys_exit_read --by comm --stats ret --interval 1
  tracepoints attach 'sched:*' 'syscalls:*' --count --explain
  tracepoints attach sched:sched_switch --by comm,kstack --top 5 --duration 5
  tracepoints attach sched:sched_process_exec --pin /sys/fs/bpf/execs
  tracepoints attach --read /sys/fs/bpf/execs
  tracepoints attach syscalls:sys_exit_read --hist ret --filter 'ret >= 0' -- cat file

Exit status: of COMMAND, where there is one: 128 + N where signal N ended it, 127 where it
cannot be found, 126 where it cannot be run; 0 where --duration or --max ended it. Else 0,
1 where something failed, 2 for wrong arguments.";

/// Parses `ret:100`.
fn linear(text: &str) -> Result<(String, u64), String> {
    let (field, step) = text.rsplit_once(':').ok_or("FIELD:STEP")?;
    match step.parse() {
        Ok(0) | Err(_) => Err("the step is a number from 1 on".to_owned()),
        Ok(step) => Ok((field.to_owned(), step)),
    }
}

/// Parses `0.5` or `10`.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn interval(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("longer than 0".to_owned()),
        interval => Ok(interval),
    }
}

pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    output::run(false, |out| {
        let Some(path) = &arguments.output else {
            return attach(arguments, out);
        };
        let failed = |error: std::io::Error| Failure::Other(format!("{}: {error}", path.display()));
        let mut file = BufWriter::new(Overwritten::open(path).map_err(failed)?);
        let written = attach(arguments, &mut file).and_then(|code| {
            file.flush()?;
            Ok(code)
        });
        written.map_err(|failure| match failure {
            // A reader that has gone is not an error, whatever it read.
            Failure::Output(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                failed(error)
            }
            failure => failure,
        })
    })
}

fn attach(arguments: &Arguments, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    raise_file_limit();
    match (&arguments.read, &arguments.unpin) {
        (Some(path), _) => return pinned::read(arguments, path, false, out),
        (_, Some(path)) => return pinned::read(arguments, path, true, out),
        (None, None) => {}
    }
    if arguments.pin.is_some() && arguments.pid.is_some() && !arguments.children {
        return Err(Failure::Other(
            "--pid with --pin takes --children: a process that ends leaves its number to another"
                .to_owned(),
        ));
    }
    let mut run = Run::new(arguments.duration, arguments.pid)?;
    let kernel = Kernel::live().map_err(live_failure)?;
    let chosen = Chosen::new(&kernel, &arguments.events)?;
    let events = &chosen.events;
    let count = chosen.len();
    let command = Suspended::start(&arguments.command)?;
    let mut categories = events.iter().map(|event| event.name().category());
    if categories.any(|category| category == "syscalls") {
        say_if_compat(arguments.pid, command.as_ref());
    }
    let mut json = JsonRows::where_wanted(arguments.json, &Identity::live())?;
    let builder = builder(arguments, &kernel, &chosen, command.as_ref())?;
    let progress = Progress::new(&format!("attaching to {count} events"), count);
    let results = match tally::attach(&builder, arguments) {
        Some(results) => results,
        None => builder
            .attach()
            .map(|probe| PinnedResults::Records(Box::new(probe))),
    };
    let mut results = results.map_err(|error| explained(error, arguments))?;
    progress.end();
    if arguments.explain {
        return explain::print(results.plan(), &mut json, out);
    }
    if let Some(path) = &arguments.pin {
        return pinned::pin(results, path, count);
    }
    run.begin(command, count)?;
    // The file has nothing of before from now on.
    out.flush()?;
    let shown = Shown {
        arguments,
        kernel: Some(&kernel),
        events,
        is_pinned: false,
    };
    shown.print(&mut results, &mut run, &mut json, out)?;
    explain::say_closing(results.plan());
    Ok(run.finish())
}

/// Warns about programs of 32 bits, whose system calls `syscalls:*` do not see.
fn say_if_compat(pid: Option<u32>, command: Option<&Suspended>) {
    let (program, whose) = match (pid, command) {
        (Some(pid), _) => (
            PathBuf::from(format!("/proc/{pid}/exe")),
            format!("process {pid}"),
        ),
        (None, Some(command)) => (
            command.path().to_owned(),
            command.path().display().to_string(),
        ),
        (None, None) => return,
    };
    if run::is_compat(&program) {
        say!(
            "{whose} is of 32 bits, whose system calls syscalls:* do not see; raw_syscalls:* \
             do, by number"
        );
    }
}

fn builder(
    arguments: &Arguments,
    kernel: &Kernel,
    chosen: &Chosen,
    command: Option<&Suspended>,
) -> Result<ProbeBuilder, Failure> {
    let mut builder = Probe::builder(&chosen.events)
        .data_limit(arguments.data)
        .program(match arguments.program {
            ProgramChoice::Cheapest => ProgramPreference::Cheapest,
            ProgramChoice::Tp => ProgramPreference::Tp,
            ProgramChoice::RawTp => ProgramPreference::RawTp,
        })
        .strings(match arguments.strings {
            StringChoice::Entry => StringReading::AtEntry,
            StringChoice::Exit => StringReading::WhereReadable,
            StringChoice::Twice => StringReading::Twice,
        });
    for raw in &chosen.raw {
        builder = builder
            .raw_tracepoint(kernel, &raw.name, raw.program)
            .map_err(Failure::from)?;
    }
    if let Some(fields) = &arguments.fields {
        builder = builder.fields(fields);
    }
    if let Some(filter) = &arguments.filter {
        builder = builder.filter(filter.clone());
    }
    if arguments.stack {
        // A record with stacks has some 1,100 bytes.
        builder = builder.stacks().ring_size(8 << 20);
    }
    // The last mention of an event counts.
    for (index, target) in arguments.events.iter().enumerate() {
        let events = chosen.events.iter().map(|event| event.name().clone());
        let events = events.filter(|name| target.raw.is_none() && target.pattern.matches(name));
        let raw = chosen.raw.iter().filter(|raw| raw.target == index);
        for name in events.chain(raw.filter_map(|raw| raw.event())) {
            if target.is_call {
                builder = builder.returns_of(&name);
            }
            if let Some(fields) = &target.fields {
                builder = builder.fields_of(&name, fields);
            }
            if let Some(filter) = &target.filter {
                builder = builder.filter_of(&name, filter.clone());
            }
        }
    }
    Ok(match (arguments.pid, command.and_then(Suspended::pid)) {
        (_, Some(command)) => builder.process_tree(command),
        (Some(pid), None) if arguments.children => builder.process_tree(pid),
        (Some(pid), None) => builder.process(pid),
        (None, None) => builder,
    })
}

/// Converts the error, with a hint about the common causes.
fn explained(error: tracepoints::probe::ProbeError, arguments: &Arguments) -> Failure {
    let of_targets = arguments.events.iter().flat_map(|target| {
        let fields = target.fields.iter().flatten().cloned();
        fields.chain(target.filter.iter().map(Filter::to_string))
    });
    let fields = arguments.fields.iter().flatten().cloned();
    let filter = arguments.filter.iter().map(Filter::to_string);
    let mut words = fields
        .chain(filter)
        .chain(arguments.hist.clone())
        .chain(of_targets);
    let failure = Failure::from(error);
    match words.any(|word| word.contains("common_")) {
        true => Failure::Other(format!(
            "{failure}\n  common_* fields are in the kernel's records only: a program gets a \
             pointer of the kernel's in their place; the task's are pid, tid, comm and cpu"
        )),
        false => failure,
    }
}

/// Raises the limit of open files: each event takes some, and root may have as many as
/// it needs.
fn raise_file_limit() {
    let limit = process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // If this fails, fewer events can be attached to, which is then reported.
    let _ = process::setrlimit(Resource::Nofile, raised);
}
