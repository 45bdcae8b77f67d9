//! Recordings of other programs, which describe their own kernel; `trace.dat` among them.

use std::io::Write;
use std::process::ExitCode;

use tracepoints::Kernel;
use tracepoints::record::recording::{PerfData, RecordedKernel, TraceDat};
use tracepoints::text::TraceClock;

use super::merge::{self, Source};
use super::pages::{Input, PageBytes};
use super::print::Printer;
use super::write::Recorded;
use super::{Arguments, perf};
use crate::kernel::Identity;
use crate::output::{Failure, JsonRows, say, say_first, with_causes};

/// The recordings that are read whole, and describe their own kernel.
#[derive(Clone, Copy)]
enum RecordingKind {
    TraceDat,
    PerfData,
}

impl RecordingKind {
    fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            bytes if TraceDat::is_one(bytes) => Some(Self::TraceDat),
            bytes if PerfData::is_one(bytes) => Some(Self::PerfData),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::TraceDat => "trace.dat",
            Self::PerfData => "perf.data",
        }
    }
}

/// Decodes the recording among the operands, if there is one. It must be alone, without
/// options about a kernel.
pub(super) fn decode_only_one(
    inputs: &mut [Result<Input, Failure>],
    arguments: &Arguments,
    out: &mut dyn Write,
) -> Result<Option<ExitCode>, Failure> {
    let count = inputs.len();
    let opened = inputs.iter_mut().flatten();
    let mut recordings = opened.filter_map(|input| {
        let kind = RecordingKind::of(input.head())?;
        Some((input, kind))
    });
    let Some((recording, kind)) = recordings.next() else {
        return Ok(None);
    };
    let (name, what) = (&recording.name, kind.name());
    if count > 1 {
        return Err(Failure::Other(format!(
            "{name} is a {what}, which is decoded alone: leave out the other files"
        )));
    }
    let kernel = &arguments.kernel;
    if kernel.root.is_some() || kernel.demo || arguments.cpu.is_some() {
        return Err(Failure::Other(format!(
            "{name} is a {what}, which says itself which kernel and CPUs it is of: leave out --root, --demo and --cpu"
        )));
    }
    let name = name.clone();
    let bytes = recording.read_whole()?;
    match kind {
        RecordingKind::TraceDat => decode(&name, &bytes, arguments, out),
        RecordingKind::PerfData => perf::decode(&name, &bytes, arguments, out),
    }
    .map(Some)
}

/// Converts an error about a recording.
pub(super) fn failure(name: &str, error: &dyn std::error::Error) -> Failure {
    Failure::Other(format!("{name}: {}", with_causes(error)))
}

/// Reports the formats that were left out.
pub(super) fn say_left_out(name: &str, recorded: &RecordedKernel) {
    say_first(
        recorded.left_out(),
        |reason| format!("{name}: a format is left out: {reason}"),
        |more| format!("{name}: and {more} formats more that are left out"),
    );
}

fn decode(
    name: &str,
    bytes: &[u8],
    arguments: &Arguments,
    out: &mut dyn Write,
) -> Result<ExitCode, Failure> {
    let recording = TraceDat::parse(bytes).map_err(|error| failure(name, &error))?;
    let recorded = recording.kernel();
    say_left_out(name, recorded);
    if recording.has_other_times() {
        say!("{name}: times are as recorded, and not converted to those of another clock");
    }
    let kernel = Kernel::recorded(name, recorded);
    let layout = kernel.page_layout()?;
    let events = kernel.events_by_id()?;
    let style = kernel.trace_style()?;
    let identity = Identity::recorded(name, recorded);
    let json = JsonRows::where_wanted(arguments.json, &identity)?;
    let mut printer = Printer::new(&kernel, &events, style, json, out);
    printer.names = kernel.task_names()?;
    printer.addresses = kernel.addresses()?;
    printer.only.clone_from(&arguments.only);
    let mut sources = Vec::new();
    for buffer in recording.buffers() {
        let clock = buffer.clock().and_then(TraceClock::of_file);
        let cpus = buffer.cpus().iter();
        for pages in cpus.filter(|pages| !pages.bytes().is_empty()) {
            sources.push(Source {
                name: format!("{name}: CPU {} at byte {}", pages.cpu(), pages.offset()),
                cpu: pages.cpu(),
                bytes: PageBytes::Memory(pages.bytes(), 0),
                buffer: buffer.name(),
                layout: buffer.layout(layout),
                byte_order: recorded.byte_order(),
                style: clock.map_or(style, |clock| style.with_clock(clock)),
                time_offset: recording.time_offset(),
            });
        }
    }
    let sink = arguments.sink(printer, || {
        let buffers = recording.buffers().iter();
        let sizes = buffers
            .clone()
            .map(|buffer| buffer.layout(layout).page_size());
        let page_size = sizes.max().unwrap_or_else(|| layout.page_size());
        let mut written = Recorded::new(&kernel, &identity, page_size)?;
        written.clocks = buffers
            .filter_map(|buffer| Some((buffer.name().to_owned(), buffer.clock()?.to_owned())))
            .collect();
        Ok(written)
    })?;
    merge::decode_all(sink, sources)
}
