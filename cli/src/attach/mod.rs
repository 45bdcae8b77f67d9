//! Attaches a probe to tracepoints of the running kernel and prints what happens:
//! records, counts, or a histogram of a field.

pub(crate) mod command;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Child, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use command::Suspended;
use rustix::process::{self, Resource, Rlimit};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use tracepoints::probe::{Bucket, Counter, Histogram, Losses, PrettyPrinter, Probe, ProbeBuilder};
use tracepoints::{EventPattern, Filter, Kernel, Tracepoint};

use crate::kernel::live_failure;
use crate::output::{self, Failure, Screen, plural, say};

/// Trace what happens at tracepoints of the running kernel: records, counts, histograms
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Trace only the threads of this process
    #[arg(long, short, value_name = "PID", conflicts_with = "command")]
    pid: Option<u32>,
    /// With --pid: trace its descendants, too
    #[arg(long, requires = "pid")]
    children: bool,
    /// Print these fields only: names separated by commas
    #[arg(long, short = 'F', value_name = "FIELD", value_delimiter = ',')]
    fields: Option<Vec<String>>,
    /// Print records only where this holds: ret < 0 && comm == "rm", flags & 0x200
    #[arg(long, short, value_name = "EXPR")]
    filter: Option<Filter>,
    /// Only count, and print the counts at the end
    #[arg(long, short)]
    count: bool,
    /// Only count the values of an integer field by powers of two
    #[arg(long, short = 'H', value_name = "FIELD", conflicts_with = "count")]
    hist: Option<String>,
    /// Print one JSON object a line
    #[arg(long, short)]
    json: bool,
    /// Print in the kernel's own words: flags, enums and functions by their names
    #[arg(long, short = 'P', conflicts_with_all = ["json", "fields", "count", "hist"])]
    pretty: bool,
    /// End after so many seconds
    #[arg(long, short, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,
    /// End after so many records
    #[arg(long, short = 'n', value_name = "N", conflicts_with_all = ["count", "hist"])]
    max: Option<u64>,
    /// Print at most so many bytes of a string or of data
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    data: u32,
    /// Which events: syscalls:sys_enter_unlinkat, sched:*, …
    #[arg(value_name = "EVENT", required = true)]
    events: Vec<EventPattern>,
    /// Run this command, trace it and its descendants, and end with it
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  tracepoints attach syscalls:sys_enter_unlinkat --fields pid,comm,pathname -- rm file
  tracepoints attach sched:sched_process_exec --duration 10
  tracepoints attach 'syscalls:sys_enter_*' --count --pid 1234
  tracepoints attach syscalls:sys_exit_read --hist ret --filter 'ret >= 0' -- cat file";

/// `0.5`, `10`.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    output::run(false, |out| attach(arguments, out))
}

fn attach(arguments: &Arguments, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stopped))?;
    }
    raise_file_limit();
    let kernel = Kernel::live().map_err(live_failure)?;
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
        say!("{}", plural(count, "record", "s"));
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
            None => say!(
                "attached to {}, Ctrl-C ends",
                plural(events as u64, "event", "s")
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
            let events = plural(silent as u64, "event", "s");
            say!("{events} did not happen");
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
            say!("{count} {kind}");
        }
        Ok(())
    }
}

/// `[16, 31]`: what lies between two powers of two.
fn values(bucket: &Bucket) -> String {
    match bucket.values() {
        None => "(.., 0)".to_owned(),
        Some(values) if values.start() == values.end() => format!("[{}]", values.start()),
        Some(values) => format!("[{}, {}]", values.start(), values.end()),
    }
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
