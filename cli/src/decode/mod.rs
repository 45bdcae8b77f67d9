//! Prints events as the kernel's own `trace` file does, from saved pages of
//! `trace_pipe_raw`, from recordings of trace-cmd and perf, or live from the running kernel.

#[cfg(target_os = "linux")]
pub(crate) mod instance;
#[cfg(target_os = "linux")]
pub(crate) mod live;
mod merge;
mod pages;
mod perf;
mod perfetto;
mod print;
mod recorded;
mod sink;
mod write;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use merge::Source;
use pages::{Input, PageFile};
use print::Printer;
use sink::Sink;
use tracepoints::kernel::read_captured;
use tracepoints::record::ring::PageLayout;
use tracepoints::text::{TaskNames, TraceClock};
use tracepoints::{ByteOrder, EventPattern, Kernel};
use write::{FileForm, FileWriter, Recorded};

use crate::kernel::KernelChoice;
use crate::output::{self, Failure, JsonRows, say, with_causes};

/// Print what the kernel traced, as its own trace file does
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    kernel: KernelChoice,
    /// Print one JSON object a line
    #[arg(long, short)]
    json: bool,
    /// The CPU the pages are of, where a file's name does not say it
    #[arg(long, short, value_name = "N", conflicts_with = "live")]
    cpu: Option<u32>,
    /// The byte order of a captured kernel without BTF
    #[arg(long, requires = "root")]
    endian: Option<Endian>,
    /// A copy of the captured kernel's /proc/kallsyms, for functions' names
    #[arg(long, value_name = "FILE", requires = "root")]
    kallsyms: Option<PathBuf>,
    /// Print only these events: sched:sched_switch, sched:*, …
    #[arg(long, value_name = "PATTERN", conflicts_with = "live")]
    only: Vec<EventPattern>,
    /// Write the events to this file or directory, which must not exist, instead of printing
    /// them
    #[arg(long, short, value_name = "OUT", requires = "form", conflicts_with_all = ["live", "json"])]
    out: Option<PathBuf>,
    /// The form of what is written
    #[arg(long = "as", value_name = "FORM", requires = "out")]
    form: Option<FileForm>,
    /// Trace events of the running kernel, in a tracefs instance of its own, until
    /// interrupted
    #[arg(long, short, conflicts_with_all = ["root", "demo", "endian"])]
    live: bool,
    /// Trace only what this process and its children do
    #[arg(long, short, value_name = "PID", requires = "live")]
    pid: Vec<u32>,
    /// A trace.dat of trace-cmd record, a perf.data of perf record, or files of pages of
    /// trace_pipe_raw, - for standard input; with --live, which events:
    /// sched:sched_switch, sched:*, …; with --demo, by default the demo's own
    #[arg(value_name = "FILE|EVENT", required_unless_present = "demo")]
    operands: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  tracepoints decode --live sched:sched_process_exec
  tracepoints decode --only 'sched:*' trace.dat
  perf record -e 'sched:*' -o - -- make | tracepoints decode -
  tracepoints decode perf.data --as trace-dat --out trace.dat
  tracepoints decode --root captured captured/ring/cpu*.raw
  cat /sys/kernel/tracing/per_cpu/cpu0/trace_pipe_raw | tracepoints decode --cpu 0 -";

#[derive(Clone, Copy, ValueEnum)]
enum Endian {
    Little,
    Big,
}

impl Arguments {
    /// Returns where records go: the lines of this printer, or the file that was asked for.
    fn sink<'a>(
        &self,
        printer: Printer<'a>,
        recorded: impl FnOnce() -> Result<Recorded, Failure>,
    ) -> Result<Sink<'a>, Failure> {
        Ok(match (&self.out, self.form) {
            (Some(path), Some(form)) => {
                let writer = FileWriter::new(path.clone(), form, recorded()?, printer)?;
                Sink::File(Box::new(writer))
            }
            _ => Sink::Lines(Box::new(printer)),
        })
    }
}

impl Arguments {
    /// Says of files why a kernel is needed for them, which cannot be read.
    fn without_kernel(&self, failure: Failure, inputs: &[Result<Input, Failure>]) -> Failure {
        let is_live = self.kernel.root.is_none() && !self.kernel.demo;
        match (failure, inputs.first()) {
            (Failure::Other(why), Some(Ok(input))) if is_live => Failure::Other(format!(
                "{why}\n  {} is neither a trace.dat nor a perf.data, and is taken for pages of the \
                 running kernel; --root says of which other",
                input.name
            )),
            (failure, _) => failure,
        }
    }
}

pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    output::run(false, |out| match arguments.live {
        true => trace(arguments, out),
        false => decode(arguments, out),
    })
}

#[cfg(target_os = "linux")]
fn trace(arguments: &Arguments, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    live::trace(&arguments.operands, &arguments.pid, arguments.json, out)
}

#[cfg(not(target_os = "linux"))]
fn trace(_: &Arguments, _: &mut dyn Write) -> Result<ExitCode, Failure> {
    Err(Failure::Other("--live is for Linux".to_owned()))
}

fn decode(arguments: &Arguments, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let mut names = arguments.operands.iter();
    if let Some(name) = names.find(|name| Path::new(name).is_dir()) {
        return Err(Failure::Other(format!(
            "{name} is a directory: a captured kernel is for --root, and a recording of \
             perf record --threads is not read"
        )));
    }
    pages::allow_files(arguments.operands.len());
    let inputs = arguments.operands.iter().cloned().map(Input::open);
    let mut inputs: Vec<Result<Input, Failure>> = inputs.collect();
    if let Some(code) = recorded::decode_only_one(&mut inputs, arguments, out)? {
        return Ok(code);
    }
    let chosen = arguments.kernel.open(|kernel| match arguments.endian {
        Some(Endian::Little) => kernel.with_byte_order(ByteOrder::Little),
        Some(Endian::Big) => kernel.with_byte_order(ByteOrder::Big),
        None => kernel,
    });
    let chosen = chosen.map_err(|failure| arguments.without_kernel(failure, &inputs))?;
    let kernel = chosen.kernel;
    if inputs.is_empty() {
        inputs.extend(chosen.demo_pages().into_iter().map(Input::open));
    }
    // A kernel that cannot be read is reported before a file that cannot.
    let files = inputs.into_iter();
    let files: Vec<PageFile> = files
        .map(|input| PageFile::new(input?, arguments.cpu))
        .collect::<Result<_, _>>()?;
    let layout = match beside(&files, "header_page") {
        Some(text) => PageLayout::parse(&String::from_utf8_lossy(&text))
            .map_err(|error| Failure::Other(format!("header_page beside the pages: {error}")))?,
        None => kernel.page_layout()?,
    };
    let events = kernel.events_by_id()?;
    let byte_order = events.machine().byte_order();
    let mut style = kernel.trace_style()?;
    let clock = beside(&files, "trace_clock");
    let clock = clock.map(|clock| String::from_utf8_lossy(&clock).into_owned());
    if let Some(clock) = &clock {
        style = style.with_clock(TraceClock::of_file(clock).unwrap_or_default());
    }
    let json = JsonRows::where_wanted(arguments.json, &chosen.identity)?;
    let mut printer = Printer::new(kernel, &events, style, json, out);
    printer.names = saved_names(kernel, &files);
    printer.groups = match beside(&files, "saved_tgids") {
        Some(text) => TaskNames::default().with_groups(text),
        None => saved_groups(kernel),
    };
    printer.addresses = kernel.addresses()?;
    if let Some(path) = &arguments.kallsyms {
        let symbols = fs::read(path)
            .map_err(|error| Failure::Other(format!("{}: {error}", path.display())))?;
        printer.addresses = std::mem::take(&mut printer.addresses)
            .with_kallsyms(&String::from_utf8_lossy(&symbols));
    }
    printer.only = arguments.only.clone();
    let sources = files.into_iter().map(|file| Source {
        name: file.name,
        cpu: file.cpu,
        bytes: file.pages,
        buffer: "",
        layout,
        byte_order,
        style,
        time_offset: 0,
    });
    let sink = arguments.sink(printer, || {
        let mut recorded = Recorded::new(kernel, &chosen.identity, layout.page_size())?;
        recorded.clocks = clock
            .map(|clock| (String::new(), clock))
            .into_iter()
            .collect();
        Ok(recorded)
    })?;
    merge::decode_all(sink, sources.collect())
}

/// Returns the names that were saved beside the pages, or those in the kernel's
/// tracefs.
fn saved_names(kernel: &Kernel, files: &[PageFile]) -> TaskNames {
    match beside(files, "saved_cmdlines") {
        Some(text) => {
            let names = TaskNames::parse(text);
            match beside(files, "saved_tgids") {
                Some(groups) => names.with_groups(groups),
                None => names,
            }
        }
        None => kernel.task_names().unwrap_or_else(|error| {
            say!("names of processes are not known: {}", with_causes(&error));
            TaskNames::default()
        }),
    }
}

/// The most bytes of a file about processes: the library's limit of `saved_cmdlines`.
const TASKS_LIMIT: u64 = 16 << 20;

/// Returns the process of each thread, from the kernel's tracefs.
fn saved_groups(kernel: &Kernel) -> TaskNames {
    let text = read_captured(kernel.tracefs(), "saved_tgids", TASKS_LIMIT);
    TaskNames::default().with_groups(text.ok().flatten().unwrap_or_default())
}

/// Returns a file that was saved with the pages.
fn beside(files: &[PageFile], name: &str) -> Option<Vec<u8>> {
    let mut files = files.iter().filter(|file| file.name != "-");
    files.find_map(|file| {
        // Named by nobody: it may be a link or a pipe.
        let directory = match Path::new(&file.name).parent()? {
            parent if parent == Path::new("") => Path::new("."),
            parent => parent,
        };
        read_captured(directory, name, TASKS_LIMIT).ok()?
    })
}
