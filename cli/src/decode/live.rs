//! Prints the running kernel's events as they occur.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tracepoints::record::ring::{Lost, PageLayout};
use tracepoints::{
    ByteOrder, EventPattern, Kernel,
    text::{FlagColumns, TaskNames, TraceClock, TraceStyle},
};

use super::instance::{Instance, about, interrupted};
use super::print::Printer;
use crate::kernel::{Identity, live_failure};
use crate::output::{Failure, JsonRows, say};
use crate::select::select;

/// The time to wait when there are no new events.
const PAUSE: Duration = Duration::from_millis(50);
/// The number of pages of a CPU that are read before the next CPU's turn.
const PAGES_AT_ONCE: usize = 256;

pub(crate) fn trace(
    patterns: &[String],
    pids: &[u32],
    json: bool,
    out: &mut dyn Write,
) -> Result<ExitCode, Failure> {
    let patterns: Vec<EventPattern> = patterns
        .iter()
        .map(|pattern| pattern.parse())
        .collect::<Result<_, _>>()
        .map_err(tracepoints::Error::Name)?;
    let kernel = Kernel::live().map_err(live_failure)?;
    let selected = select(&kernel, &patterns)?;
    let events = kernel.events_by_id()?;
    let byte_order = events.machine().byte_order();

    let interrupted = interrupted()?;
    let instance = Instance::make(kernel.tracefs())?;
    let style = style_of(&kernel, &instance)?;
    let layout = instance.page_layout()?;
    let mut buffers = instance.buffers(layout)?;
    instance.choose_processes(pids)?;
    // The `pid` of JSON rows needs the option, which not all kernels have.
    let _ = instance.write("options/record-tgid", "1");
    instance.enable(&selected)?;
    say!(
        "tracing {} in {}; Ctrl-C ends it",
        match selected.names() {
            [one] => one.to_string(),
            names => format!("{} events", names.len()),
        },
        instance.path.display()
    );

    let is_json = json;
    let json = JsonRows::where_wanted(is_json, &Identity::live())?;
    let mut printer = Printer::new(&kernel, &events, style, json, out);
    printer.addresses = kernel.addresses()?;
    let mut queue = Queue::default();
    let mut failed = false;
    let is_interrupted = || interrupted.load(Ordering::Relaxed);
    loop {
        let is_last = is_interrupted();
        if is_last {
            instance.write("tracing_on", "0")?;
        }
        let mut pages = 0;
        let mut limit = u64::MAX;
        for buffer in &mut buffers {
            let mut read = 0;
            while (is_last || read < PAGES_AT_ONCE) && buffer.fill()? {
                failed |= !queue.take(buffer, layout, byte_order);
                read += 1;
            }
            if !is_last && read == PAGES_AT_ONCE {
                limit = limit.min(buffer.last);
            }
            pages += read;
        }
        let ready = queue.ready(if is_last { None } else { Some(limit) });
        if !ready.is_empty() {
            printer.names = saved_names(kernel.tracefs());
            if is_json {
                printer.groups = super::saved_groups(&kernel);
            }
        }
        for event in ready {
            printer.lost(event.cpu, event.lost)?;
            printer.print(event.cpu, event.timestamp, &event.bytes)?;
        }
        printer.flush()?;
        if is_last {
            break;
        }
        if pages == 0 {
            thread::sleep(PAUSE);
        }
    }
    failed |= printer.finish()?;
    drop(buffers);
    instance.remove()?;
    Ok(match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// Returns how the instance's `trace` would print lines.
fn style_of(kernel: &Kernel, instance: &Instance) -> Result<TraceStyle, Failure> {
    let legend = instance.read("trace")?;
    let mut style = match FlagColumns::of_legend(&legend) {
        Some(columns) => TraceStyle::new(columns),
        None => kernel.trace_style()?,
    };
    if let Some(version) = kernel.version()? {
        style = style.with_version(version);
    }
    let clock = TraceClock::of_file(&instance.read("trace_clock")?);
    Ok(style.with_clock(clock.unwrap_or_default()))
}

fn saved_names(tracefs: &Path) -> TaskNames {
    let text = fs::read(tracefs.join("saved_cmdlines")).unwrap_or_default();
    TaskNames::parse(text)
}

/// An event that waits for earlier events of other CPUs.
struct Event {
    timestamp: u64,
    cpu: u32,
    lost: Option<Lost>,
    bytes: Vec<u8>,
}

/// Puts the events of all CPUs into one order.
///
/// CPUs are read one after another, so that an event may be read after later ones of
/// another CPU. But each event that is older than the last event of one round was
/// traced before the next round, and was read in it.
#[derive(Default)]
struct Queue {
    waiting: Vec<Event>,
    /// The time of the last event of the previous round.
    horizon: u64,
}

impl Queue {
    /// Adds the events of a page. Returns whether all could be read; if not, reports
    /// the error.
    fn take(&mut self, buffer: &mut Buffer, layout: PageLayout, byte_order: ByteOrder) -> bool {
        let page = match layout.page(&buffer.page, byte_order) {
            Ok(page) => page,
            Err(error) => {
                say!("CPU {}: {error}", buffer.cpu);
                return false;
            }
        };
        buffer.lost = page.lost().or(buffer.lost);
        for entry in page.entries() {
            match entry {
                Ok(entry) => {
                    buffer.last = entry.timestamp();
                    self.waiting.push(Event {
                        timestamp: entry.timestamp(),
                        cpu: buffer.cpu,
                        lost: buffer.lost.take(),
                        bytes: entry.bytes().to_owned(),
                    });
                }
                Err(error) => {
                    say!("CPU {}: {error}", buffer.cpu);
                    return false;
                }
            }
        }
        true
    }

    /// Ends a round. Returns, in order, the events that no later round can precede and
    /// that are not after the limit, which is the time up to which all CPUs have been
    /// read. Without a limit, returns all.
    fn ready(&mut self, limit: Option<u64>) -> Vec<Event> {
        self.waiting
            .sort_by_key(|event| (event.timestamp, event.cpu));
        let until = limit.map_or(u64::MAX, |limit| limit.min(self.horizon));
        let count = self
            .waiting
            .partition_point(|event| event.timestamp <= until);
        let rest = self.waiting.split_off(count);
        self.horizon = rest.last().map_or(self.horizon, |event| event.timestamp);
        std::mem::replace(&mut self.waiting, rest)
    }
}

/// The ring buffer of one CPU.
pub(crate) struct Buffer {
    cpu: u32,
    path: PathBuf,
    file: File,
    page: Vec<u8>,
    lost: Option<Lost>,
    /// The time of the last event that was read.
    last: u64,
}

impl Buffer {
    pub(crate) fn new(cpu: u32, path: PathBuf, file: File, page_size: usize) -> Self {
        Self {
            cpu,
            path,
            file,
            page: vec![0; page_size],
            lost: None,
            last: 0,
        }
    }

    pub(crate) fn cpu(&self) -> u32 {
        self.cpu
    }

    /// Returns the page that was read last.
    pub(crate) fn page(&self) -> &[u8] {
        &self.page
    }

    /// Reads the next page. Returns whether there was one.
    pub(crate) fn fill(&mut self) -> Result<bool, Failure> {
        loop {
            let read = self.file.read(&mut self.page);
            match read {
                Ok(length) if length == self.page.len() => return Ok(true),
                Ok(0) => return Ok(false),
                Ok(length) => {
                    let path = self.path.display();
                    let of = self.page.len();
                    let message = format!("{path}: {length} bytes of a page of {of}");
                    return Err(Failure::Other(message));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(about(&self.path, error)),
            }
        }
    }
}
