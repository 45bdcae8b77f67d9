//! Prints events as the kernel's own `trace` file does, from saved pages of
//! `trace_pipe_raw` or live from the running kernel.

#[cfg(target_os = "linux")]
pub(crate) mod instance;
#[cfg(target_os = "linux")]
pub(crate) mod live;
mod print;

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use print::Printer;
use tracepoints::record::ring::{Entries, Entry, Lost, PageLayout, Pages};
use tracepoints::text::{TaskNames, TraceClock};
use tracepoints::{ByteOrder, EventPattern, Kernel};

use crate::kernel::KernelChoice;
use crate::output::{self, Failure, JsonRows, Progress, say, with_causes};

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
    #[arg(long, short, value_name = "PATTERN", conflicts_with = "live")]
    only: Vec<EventPattern>,
    /// Trace events of the running kernel, in a tracefs instance of its own, until
    /// interrupted
    #[arg(long, short, conflicts_with_all = ["root", "demo", "endian"])]
    live: bool,
    /// Trace only what this process and its children do
    #[arg(long, short, value_name = "PID", requires = "live")]
    pid: Vec<u32>,
    /// Files of pages of trace_pipe_raw, - for standard input; with --live, which
    /// events: sched:sched_switch, sched:*, …; with --demo, by default the demo's own
    #[arg(value_name = "FILE|EVENT", required_unless_present = "demo")]
    operands: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  tracepoints decode --live sched:sched_process_exec
  tracepoints decode --root captured captured/ring/cpu*.raw
  cat /sys/kernel/tracing/per_cpu/cpu0/trace_pipe_raw | tracepoints decode --cpu 0 -";

#[derive(Clone, Copy, ValueEnum)]
enum Endian {
    Little,
    Big,
}

/// Decoding this many bytes takes more than a moment.
const LARGE: usize = 16 << 20;

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

/// A file of one CPU's pages.
struct PageFile {
    name: String,
    cpu: u32,
    bytes: Vec<u8>,
}

impl PageFile {
    fn read(name: &str, cpu: Option<u32>) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::Other(format!("{name}: {error}"));
        let cpu = cpu.or_else(|| cpu_of(Path::new(name))).ok_or_else(|| {
            Failure::Other(format!("{name} does not say of which CPU it is: use --cpu"))
        })?;
        let mut bytes = Vec::new();
        match name {
            "-" => io::stdin().read_to_end(&mut bytes).map_err(failed)?,
            _ => {
                bytes = fs::read(name).map_err(failed)?;
                bytes.len()
            }
        };
        Ok(Self {
            name: name.to_owned(),
            cpu,
            bytes,
        })
    }
}

/// `cpu1.raw` and `per_cpu/cpu1/trace_pipe_raw` are of CPU 1.
fn cpu_of(path: &Path) -> Option<u32> {
    let number = |name: &str| {
        let after = name.split("cpu").nth(1)?;
        let end = after.find(|c: char| !c.is_ascii_digit());
        after[..end.unwrap_or(after.len())].parse().ok()
    };
    let mut names = path.iter().rev().filter_map(|name| name.to_str());
    names
        .next()
        .and_then(number)
        .or_else(|| names.next().and_then(number))
}

fn decode(arguments: &Arguments, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let chosen = arguments.kernel.open(|kernel| match arguments.endian {
        Some(Endian::Little) => kernel.with_byte_order(ByteOrder::Little),
        Some(Endian::Big) => kernel.with_byte_order(ByteOrder::Big),
        None => kernel,
    })?;
    let kernel = chosen.kernel;
    let mut names = arguments.operands.clone();
    if names.is_empty() {
        names.extend(chosen.demo_pages());
    }
    let files: Vec<PageFile> = names
        .iter()
        .map(|name| PageFile::read(name, arguments.cpu))
        .collect::<Result<_, _>>()?;
    let layout = match beside(&files, "header_page") {
        Some(text) => PageLayout::parse(&String::from_utf8_lossy(&text))
            .map_err(|error| Failure::Other(format!("header_page beside the pages: {error}")))?,
        None => kernel.page_layout()?,
    };
    let events = kernel.events_by_id()?;
    let byte_order = events.machine().byte_order();
    let mut style = kernel.trace_style()?;
    if let Some(clock) = beside(&files, "trace_clock") {
        let clock = TraceClock::of_file(&String::from_utf8_lossy(&clock));
        style = style.with_clock(clock.unwrap_or_default());
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
    let streams = files.iter().map(|file| {
        let pages = layout.pages(&file.bytes, byte_order);
        Stream::new(file, pages)
    });
    let mut streams: Vec<Stream<'_>> = streams.collect();
    for stream in &mut streams {
        stream.advance(&mut printer)?;
    }
    // Among events of one time, the kernel puts those of the first CPU first.
    let order = |stream: &&mut Stream<'_>| {
        let entry = stream.next.as_ref();
        entry.map(|entry| (entry.timestamp(), stream.file.cpu))
    };
    let all: usize = files.iter().map(|file| file.bytes.len()).sum();
    // On a terminal, the lines show the progress.
    let is_long = all >= LARGE && !io::stdout().is_terminal();
    let mut progress = Progress::when(is_long, "decoding");
    let mut done = 0;
    while let Some(stream) = streams
        .iter_mut()
        .filter(|stream| stream.next.is_some())
        .min_by_key(order)
    {
        if let Some(entry) = stream.next {
            printer.lost(stream.file.cpu, stream.lost.take())?;
            printer.print(stream.file.cpu, entry.timestamp(), entry.bytes())?;
        }
        let before = stream.pages_read;
        stream.advance(&mut printer)?;
        if stream.pages_read != before {
            done += (stream.pages_read - before) * layout.page_size();
            progress.update(done as u64, all as u64);
        }
    }
    progress.end();
    let mut failed = printer.finish()?;
    for stream in streams.iter().filter(|stream| stream.errors > 0) {
        if stream.errors > 1 {
            let (name, more) = (&stream.file.name, stream.errors - 1);
            say!("{name}: {more} errors more");
        }
        failed = true;
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
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

/// Returns the process of each thread, from the kernel's tracefs.
fn saved_groups(kernel: &Kernel) -> TaskNames {
    let text = fs::read(kernel.tracefs().join("saved_tgids"));
    TaskNames::default().with_groups(text.unwrap_or_default())
}

/// Returns a file that was saved with the pages.
fn beside(files: &[PageFile], name: &str) -> Option<Vec<u8>> {
    let files = files.iter().filter(|file| file.name != "-");
    let paths = files.map(|file| Path::new(&file.name).with_file_name(name));
    let mut paths = paths.filter(|path| path.is_file());
    paths.find_map(|path| fs::read(path).ok())
}

/// The entries of one file, read one ahead.
struct Stream<'a> {
    file: &'a PageFile,
    pages: Pages<'a>,
    entries: Option<Entries<'a>>,
    next: Option<Entry<'a>>,
    lost: Option<Lost>,
    errors: usize,
    pages_read: usize,
}

impl<'a> Stream<'a> {
    fn new(file: &'a PageFile, pages: Pages<'a>) -> Self {
        Self {
            file,
            pages,
            entries: None,
            next: None,
            lost: None,
            errors: 0,
            pages_read: 0,
        }
    }

    /// Advances to the next entry. Reports pages that cannot be read, and skips them.
    fn advance(&mut self, printer: &mut Printer<'_>) -> Result<(), Failure> {
        loop {
            let error = match self.entries.as_mut().and_then(Iterator::next) {
                Some(Ok(entry)) => {
                    self.next = Some(entry);
                    return Ok(());
                }
                Some(Err(error)) => error,
                None => match self.pages.next() {
                    Some(Ok(page)) => {
                        self.pages_read += 1;
                        // A page may contain only the number of lost events.
                        printer.lost(self.file.cpu, self.lost.take())?;
                        self.lost = page.lost();
                        self.entries = Some(page.entries());
                        continue;
                    }
                    Some(Err(error)) => error,
                    None => {
                        self.next = None;
                        return printer.lost(self.file.cpu, self.lost.take());
                    }
                },
            };
            // In a file that has no pages, all are errors.
            self.errors += 1;
            if self.errors == 1 {
                printer.flush()?;
                say!("{}: {error}", self.file.name);
            }
        }
    }
}
