//! `perf.data`, which describes its own kernel.

use std::io::Write;
use std::process::ExitCode;

use tracepoints::Kernel;
use tracepoints::record::recording::{PerfData, PerfEntry};
use tracepoints::record::ring::Lost;

use super::Arguments;
use super::print::Printer;
use super::recorded::{failure, say_left_out};
use super::write::Recorded;
use crate::kernel::Identity;
use crate::output::{Failure, JsonRows, say, with_causes};

pub(super) fn decode(
    name: &str,
    bytes: &[u8],
    arguments: &Arguments,
    out: &mut dyn Write,
) -> Result<ExitCode, Failure> {
    let recording = PerfData::parse(bytes).map_err(|error| failure(name, &error))?;
    let recorded = recording.kernel();
    say_left_out(name, recorded);
    for why in recording.left_out() {
        say!("{name}: left out: {why}");
    }
    let kernel = Kernel::recorded(name, recorded);
    let events = kernel.events_by_id()?;
    let style = kernel.trace_style()?;
    let identity = Identity::recorded(name, recorded);
    let json = JsonRows::where_wanted(arguments.json, &identity)?;
    let mut printer = Printer::new(&kernel, &events, style, json, out);
    printer.addresses = kernel.addresses()?;
    printer.only.clone_from(&arguments.only);
    let mut sink = arguments.sink(printer, || {
        let samples = recording.entries().map(|entry| match entry {
            PerfEntry::Sample(sample) => sample.record.len(),
            _ => 0,
        });
        // A page has headers, too.
        let longest = samples.max().unwrap_or(0) + 64;
        let page_size = kernel.page_layout()?.page_size().max(longest);
        Recorded::new(&kernel, &identity, page_size)
    })?;
    let (mut told, mut elsewhere) = (0_u64, 0_u64);
    for entry in recording.entries() {
        match entry {
            PerfEntry::Sample(sample) => {
                sink.task(sample.task, sample.name);
                sink.record(sample.cpu, sample.time, sample.record)?;
            }
            PerfEntry::Lost { cpu, count } => {
                told = told.saturating_add(count);
                match cpu {
                    Some(cpu) => sink.lost(cpu, Some(Lost::Events(count)))?,
                    None => elsewhere = elsewhere.saturating_add(count),
                }
            }
            _ => {}
        }
    }
    // Those after which nothing was recorded are only in the count at the end.
    elsewhere = elsewhere.saturating_add(recording.lost_samples().saturating_sub(told));
    sink.lost_somewhere(elsewhere);
    let mut failed = sink.finish()?;
    if elsewhere > 0 {
        say!(
            "{name}: {elsewhere} events more were lost, at times that the recording does not tell"
        );
    }
    if let Some(damage) = recording.damage() {
        say!("{name}: the records end early: {}", with_causes(damage));
        failed = true;
    }
    Ok(match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}
