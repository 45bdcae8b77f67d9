//! Attaches a probe to tracepoints of the running kernel and prints what happens:
//! records, counts, or a histogram of a field.

#[allow(dead_code, reason = "each example uses its part")]
mod shared;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::process::{self, Pid, Resource, Rlimit, Signal, WaitOptions};
use serde_json::json;
use shared::{Failure, Screen};
use signal_hook::consts::{SIGINT, SIGTERM};
use tracepoints::probe::{Bucket, Counter, Histogram, Losses, PrettyPrinter, Probe, ProbeBuilder};
use tracepoints::{EventPattern, Filter, Kernel, Tracepoint};

/// Prints what happens at tracepoints of the running kernel. Takes root.
#[derive(Parser)]
#[command(name = "attach")]
struct Arguments {
    /// Only in the threads of this process.
    #[arg(long, value_name = "PID", conflicts_with = "command")]
    pid: Option<u32>,
    /// With --pid: in its descendants, too.
    #[arg(long, requires = "pid")]
    children: bool,
    /// Which fields to print: all without this, or the names separated by commas.
    #[arg(long, value_name = "FIELD", value_delimiter = ',')]
    fields: Option<Vec<String>>,
    /// Only if this holds: `ret < 0 && comm == "rm"`, `flags & 0x200`.
    #[arg(long, value_name = "EXPR")]
    filter: Option<Filter>,
    /// Only count, and print the counts at the end.
    #[arg(long)]
    count: bool,
    /// Only count the values of an integer field by powers of two.
    #[arg(long, value_name = "FIELD", conflicts_with = "count")]
    hist: Option<String>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// In the kernel's own words: flags, enums and functions by their names.
    #[arg(long, conflicts_with_all = ["json", "fields", "count", "hist"])]
    pretty: bool,
    /// Ends after so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,
    /// Ends after so many records.
    #[arg(long, value_name = "N", conflicts_with_all = ["count", "hist"])]
    max: Option<u64>,
    /// How many bytes of a string or of data to print at most.
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    data: u32,
    /// Which events: syscalls:sys_enter_unlinkat, sched:*, ….
    #[arg(value_name = "EVENT", required = true)]
    events: Vec<EventPattern>,
    /// Runs this command, traces it and its descendants, and ends with it.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// `0.5`, `10`.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Set for the process that is to become the command.
const BECOME: &str = "TRACEPOINTS_ATTACH_BECOME";

fn main() -> ExitCode {
    if std::env::var_os(BECOME).is_some() {
        return become_command();
    }
    let arguments = Arguments::parse();
    shared::run("attach", false, |out| attach(&arguments, out))
}

fn attach(arguments: &Arguments, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stopped))?;
    }
    raise_file_limit();
    let kernel = Kernel::live()?;
    let names = kernel.select(&arguments.events)?;
    let events = names
        .names()
        .iter()
        .map(|name| kernel.tracepoint(name))
        .collect::<Result<Vec<_>, _>>()?;
    let command = Suspended::start(&arguments.command)?;
    let builder = builder(arguments, &events, command.as_ref());
    let mut run = Run {
        json: arguments.json,
        pretty: None,
        max: arguments.max,
        end: arguments
            .duration
            .and_then(|duration| Instant::now().checked_add(duration)),
        stopped,
        command: None,
        out,
    };
    if arguments.count {
        let counter = builder.count()?;
        run.begin(command, events.len())?;
        run.until_end()?;
        run.counts(&counter)?;
        run.losses(counter.losses()?)?;
    } else if let Some(field) = &arguments.hist {
        let histogram = builder.histogram(field)?;
        run.begin(command, events.len())?;
        run.until_end()?;
        run.histograms(&histogram, field)?;
        run.losses(histogram.losses()?)?;
    } else {
        if arguments.pretty {
            run.pretty = Some(PrettyPrinter::new(&events)?);
        }
        let mut probe = builder.attach()?;
        run.begin(command, events.len())?;
        let count = run.records(&mut probe)?;
        eprintln!("attach: {count} record{}", plural(count));
        run.losses(probe.losses()?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn builder(
    arguments: &Arguments,
    events: &[Tracepoint],
    command: Option<&Suspended>,
) -> ProbeBuilder {
    let mut builder = Probe::builder(events).data_limit(arguments.data);
    if let Some(fields) = &arguments.fields {
        builder = builder.fields(fields);
    }
    if let Some(filter) = &arguments.filter {
        builder = builder.filter(filter.clone());
    }
    match (arguments.pid, command.and_then(Suspended::pid)) {
        (_, Some(command)) => builder.process_tree(command),
        (Some(pid), None) if arguments.children => builder.process_tree(pid),
        (Some(pid), None) => builder.process(pid),
        (None, None) => builder,
    }
}

/// What goes on while the programs are attached.
struct Run<'a> {
    json: bool,
    pretty: Option<PrettyPrinter>,
    max: Option<u64>,
    end: Option<Instant>,
    stopped: Arc<AtomicBool>,
    command: Option<Child>,
    out: &'a mut dyn Write,
}

impl Run<'_> {
    fn begin(&mut self, command: Option<Suspended>, events: usize) -> Result<(), Failure> {
        match command {
            Some(command) => self.command = command.resume()?,
            None => eprintln!(
                "attach: attached to {events} event{}, Ctrl-C ends",
                plural(events as u64)
            ),
        }
        Ok(())
    }

    fn is_over(&mut self) -> Result<bool, Failure> {
        if self.stopped.load(Ordering::Relaxed) || self.end.is_some_and(|end| Instant::now() >= end)
        {
            return Ok(true);
        }
        match &mut self.command {
            Some(command) => Ok(command.try_wait()?.is_some()),
            None => Ok(false),
        }
    }

    /// How long to wait before looking again.
    fn pause(&self) -> Duration {
        const LONGEST: Duration = Duration::from_millis(50);
        match self.end {
            Some(end) => end.saturating_duration_since(Instant::now()).min(LONGEST),
            None => LONGEST,
        }
    }

    fn until_end(&mut self) -> Result<(), Failure> {
        while !self.is_over()? {
            std::thread::sleep(self.pause());
        }
        Ok(())
    }

    fn records(&mut self, probe: &mut Probe) -> Result<u64, Failure> {
        let mut count = 0;
        let mut line = String::new();
        let screen = Screen::of_stdout();
        loop {
            // Asked first: what happened before the end is still to be read.
            let over = self.is_over()?;
            for record in probe.records() {
                if self.max.is_some_and(|max| count >= max) {
                    return Ok(count);
                }
                match &self.pretty {
                    _ if self.json => serde_json::to_writer(&mut *self.out, &record)?,
                    None => write!(self.out, "{record}")?,
                    Some(pretty) => {
                        line.clear();
                        pretty.print(&record, &mut line);
                        write!(self.out, "{}", screen.show(&line))?;
                    }
                }
                writeln!(self.out)?;
                count += 1;
            }
            self.out.flush()?;
            if over || self.max.is_some_and(|max| count >= max) {
                return Ok(count);
            }
            probe.wait(Some(self.pause()))?;
        }
    }

    fn counts(&mut self, counter: &Counter) -> Result<(), Failure> {
        let mut counts = counter.counts()?;
        counts.sort_by_key(|(event, count)| (std::cmp::Reverse(*count), (*event).clone()));
        let all = counts.len();
        if !self.json && all > 1 {
            counts.retain(|(_, count)| *count > 0);
        }
        let silent = all - counts.len();
        let width = counts.iter().map(|(_, count)| count.to_string().len());
        let width = width.max().unwrap_or(0);
        for (event, count) in counts {
            match self.json {
                true => writeln!(self.out, "{}", json!({"event": event, "count": count}))?,
                false => writeln!(self.out, "{count:>width$}  {event}")?,
            }
        }
        if silent > 0 {
            eprintln!(
                "attach: {silent} event{} did not happen",
                plural(silent as u64)
            );
        }
        Ok(())
    }

    fn histograms(&mut self, histogram: &Histogram, field: &str) -> Result<(), Failure> {
        for (event, buckets) in histogram.buckets()? {
            if self.json {
                let line = json!({"event": event, "field": field, "buckets": buckets});
                writeln!(self.out, "{line}")?;
                continue;
            }
            writeln!(self.out, "{event} {field}")?;
            let most = buckets.iter().map(|bucket| bucket.count).max().unwrap_or(0);
            for bucket in buckets {
                /// How long the longest bar is.
                const BAR: u64 = 40;
                let bar = "@".repeat((bucket.count * BAR).div_ceil(most.max(1)) as usize);
                writeln!(
                    self.out,
                    "  {:<24} {:>10} |{bar:<40}|",
                    values(&bucket),
                    bucket.count
                )?;
            }
        }
        Ok(())
    }

    fn losses(&mut self, losses: Losses) -> Result<(), Failure> {
        self.out.flush()?;
        if losses.is_empty() {
            return Ok(());
        }
        let kinds = BTreeMap::from([
            ("records lost, the ring buffer was full", losses.full),
            (
                "events skipped, another program ran on the CPU",
                losses.skipped,
            ),
            ("tasks that could not be followed", losses.untracked_tasks),
        ]);
        for (kind, count) in kinds.iter().filter(|(_, count)| **count > 0) {
            eprintln!("attach: {count} {kind}");
        }
        Ok(())
    }
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// `[16, 31]`: what lies between two powers of two.
fn values(bucket: &Bucket) -> String {
    match bucket.values() {
        None => "(.., 0)".to_owned(),
        Some(values) if values.start() == values.end() => format!("[{}]", values.start()),
        Some(values) => format!("[{}, {}]", values.start(), values.end()),
    }
}

/// A process that waits to become a command; killed if it never does.
struct Suspended {
    child: Option<Child>,
}

impl Suspended {
    /// `None` if there is no command.
    fn start(command: &[String]) -> Result<Option<Self>, Failure> {
        if command.is_empty() {
            return Ok(None);
        }
        let child = Command::new("/proc/self/exe")
            .env(BECOME, "1")
            .args(command)
            .spawn()?;
        let pid = Pid::from_child(&child);
        let suspended = Self { child: Some(child) };
        match process::waitpid(Some(pid), WaitOptions::UNTRACED).map_err(io::Error::from)? {
            Some((_, status)) if status.stopped() => Ok(Some(suspended)),
            _ => Err(io::Error::other("the command's process did not start").into()),
        }
    }

    fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    fn resume(mut self) -> io::Result<Option<Child>> {
        let child = self.child.take();
        if let Some(child) = &child {
            process::kill_process(Pid::from_child(child), Signal::CONT)?;
        }
        Ok(child)
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Nothing is left to do if it has gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Stops until the programs are attached, then runs the command in this process.
fn become_command() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().unwrap_or_default();
    if let Err(error) = process::kill_process(process::getpid(), Signal::STOP) {
        eprintln!("attach: {error}");
        return ExitCode::FAILURE;
    }
    let error = Command::new(&program)
        .args(arguments)
        .env_remove(BECOME)
        .exec();
    eprintln!("attach: {}: {error}", program.display());
    // As shells say that there is no such command.
    ExitCode::from(127)
}

/// Each event takes files; as many as root may have are no harm.
fn raise_file_limit() {
    let limit = process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // With fewer files fewer events can be attached to, which is then said.
    let _ = process::setrlimit(Resource::Nofile, raised);
}
