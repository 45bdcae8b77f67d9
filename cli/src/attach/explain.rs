//! Which program serves each event, and what the kernel has to do at the end.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use serde_json::json;
use tracepoints::kernel::ProgramForm;
use tracepoints::probe::PlannedProgram;

use crate::output::{Failure, JsonRows, say};

/// Prints a line for each program.
pub(super) fn print(
    plan: &[PlannedProgram],
    json: &mut Option<JsonRows>,
    out: &mut dyn Write,
) -> Result<ExitCode, Failure> {
    for program in plan {
        match json {
            Some(json) => json.write(&json!({ "program": program }), out)?,
            None => writeln!(out, "{program}")?,
        }
    }
    say_closing(plan);
    Ok(ExitCode::SUCCESS)
}

/// Announces what the kernel does after the end: it closes perf events one after another, in
/// some 40 ms each.
pub(super) fn say_closing(plan: &[PlannedProgram]) {
    /// The number of events that takes about a second.
    const MANY: usize = 25;
    let events = plan.iter().filter(|one| one.form == ProgramForm::Tp);
    let events = events.count();
    if events >= MANY && std::io::stderr().is_terminal() {
        say!(
            "no program runs any more; the kernel still has {events} perf events to close, which \
             takes it some {} s",
            events / MANY
        );
    }
}
