//! `perf.data`, which describes its own kernel.

use std::io::Write;
use std::process::ExitCode;

use tracepoints::Kernel;
use tracepoints::record::recording::{PerfData, PerfEntry};

use super::print::Printer;
use super::recorded::{failure, say_left_out};
use super::{Arguments, Input};
use crate::kernel::Identity;
use crate::output::{Failure, JsonRows, say, with_causes};

pub(super) fn decode(
    input: &Input,
    arguments: &Arguments,
    out: &mut dyn Write,
) -> Result<ExitCode, Failure> {
    let name = &input.name;
    let recording = PerfData::parse(&input.bytes).map_err(|error| failure(name, &error))?;
    let recorded = recording.kernel();
    say_left_out(name, recorded);
    for why in recording.left_out() {
        say!("{name}: left out: {why}");
    }
    let kernel = Kernel::recorded(name, recorded);
    let events = kernel.events_by_id()?;
    let style = kernel.trace_style()?;
    let json = JsonRows::where_wanted(arguments.json, &Identity::recorded(name, recorded))?;
    let mut printer = Printer::new(&kernel, &events, style, json, out);
    printer.addresses = kernel.addresses()?;
    printer.only.clone_from(&arguments.only);
    let (mut told, mut elsewhere) = (0_u64, 0_u64);
    for entry in recording.entries() {
        match entry {
            PerfEntry::Sample(sample) => {
                if let (Some((_, tid)), Some(name)) = (sample.task, sample.name)
                    && printer.names.bytes_of(tid) != name
                {
                    printer.names.set(tid, name);
                }
                printer.task = sample.task;
                printer.print(sample.cpu, sample.time, sample.record)?;
            }
            PerfEntry::Lost { cpu, count } => {
                told = told.saturating_add(count);
                match cpu {
                    Some(cpu) => printer.lost_on(cpu, Some(count))?,
                    None => elsewhere = elsewhere.saturating_add(count),
                }
            }
            _ => {}
        }
    }
    // Those after which nothing was recorded are only in the count at the end.
    elsewhere = elsewhere.saturating_add(recording.lost_samples().saturating_sub(told));
    printer.lost_somewhere(elsewhere);
    let mut failed = printer.finish()?;
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
