//! Recordings of other programs: `trace.dat`, which describes its own kernel.

use std::io::Write;
use std::process::ExitCode;

use tracepoints::Kernel;
use tracepoints::record::recording::TraceDat;
use tracepoints::text::TraceClock;

use super::merge::{self, Source};
use super::print::Printer;
use super::{Arguments, Input};
use crate::kernel::Identity;
use crate::output::{Failure, JsonRows, say, say_first, with_causes};

/// Returns the recording among the operands. It must be alone, without options about a
/// kernel.
pub(super) fn only_one<'a>(
    inputs: &'a [Result<Input, Failure>],
    arguments: &Arguments,
) -> Result<Option<&'a Input>, Failure> {
    let mut read = inputs.iter().flatten();
    let Some(recording) = read.find(|input| TraceDat::is_one(&input.bytes)) else {
        return Ok(None);
    };
    let name = &recording.name;
    if inputs.len() > 1 {
        return Err(Failure::Other(format!(
            "{name} is a trace.dat, which is decoded alone: leave out the other files"
        )));
    }
    let kernel = &arguments.kernel;
    if kernel.root.is_some() || kernel.demo || arguments.cpu.is_some() {
        return Err(Failure::Other(format!(
            "{name} is a trace.dat, which says itself which kernel and CPUs it is of: leave out --root, --demo and --cpu"
        )));
    }
    Ok(Some(recording))
}

pub(super) fn decode(
    input: &Input,
    arguments: &Arguments,
    out: &mut dyn Write,
) -> Result<ExitCode, Failure> {
    let name = &input.name;
    let failed =
        |error: &dyn std::error::Error| Failure::Other(format!("{name}: {}", with_causes(error)));
    let recording = TraceDat::parse(&input.bytes).map_err(|error| failed(&error))?;
    let recorded = recording.kernel();
    say_first(
        recorded.left_out(),
        |reason| format!("{name}: a format is left out: {reason}"),
        |more| format!("{name}: and {more} formats more that are left out"),
    );
    if recording.has_other_times() {
        say!("{name}: times are as recorded, and not converted to those of another clock");
    }
    let kernel = Kernel::recorded(name, recorded);
    let layout = kernel.page_layout()?;
    let events = kernel.events_by_id()?;
    let style = kernel.trace_style()?;
    let json = JsonRows::where_wanted(arguments.json, &Identity::recorded(name, recorded))?;
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
                bytes: pages.bytes(),
                buffer: buffer.name(),
                layout: buffer.layout(layout),
                byte_order: recorded.byte_order(),
                style: clock.map_or(style, |clock| style.with_clock(clock)),
                time_offset: recording.time_offset(),
            });
        }
    }
    merge::print_all(&mut printer, sources)
}
