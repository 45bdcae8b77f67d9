//! Names the source that reads rightly on all kernels of an audit.

use std::collections::BTreeSet;
use std::io::Write;

use tracepoints::emit::CAccessors;
use tracepoints::{EventName, Kernel};

use super::{Audited, rows};
use crate::output::{Failure, Screen, with_causes};

/// Says for each event that a program reads wrongly, or cannot read, which source does on
/// all of the kernels, and what is to be known of it.
pub(super) fn write(
    all: &[Audited],
    kernels: &[(String, Kernel)],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let faults = rows(all).filter(|row| row.audit.verdict().is_fault());
    // Raw tracepoints are named without a category, and have no fields.
    let events: BTreeSet<EventName> = faults
        .filter_map(|row| row.audit.event()?.parse().ok())
        .collect();
    if events.is_empty() || kernels.len() < 2 {
        return Ok(());
    }
    let screen = Screen::of_stdout();
    let roots: String = kernels
        .iter()
        .map(|(root, _)| format!(" --root {root}"))
        .collect();
    writeln!(out, "\nAccessors for all of these kernels:")?;
    for event in &events {
        let mut accessors = CAccessors::new(kernels.iter().cloned());
        let said = match accessors.add(event) {
            Ok(()) => format!("tracepoints format --emit core{roots} {event}"),
            Err(error) => format!("{event}: {}", with_causes(&error)),
        };
        writeln!(out, "  {}", screen.show(&said))?;
        for note in accessors.notes() {
            writeln!(out, "    {}", screen.show(note))?;
        }
    }
    Ok(())
}
