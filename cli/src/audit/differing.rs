//! Reads that get one thing on one kernel and another on the next, of which the source does
//! not say what they mean: at most one of them can be meant.

use std::collections::BTreeMap;
use std::io::Write;

use tracepoints::audit::Verdict;

use super::{Audited, place, rows};
use crate::output::{Failure, Screen};

/// An object, a program of it, and an instruction in a function of that.
type Read<'a> = (&'a str, &'a str, Option<&'a str>, u32);

/// Says for each such read what it gets on which kernels.
pub(super) fn write(all: &[Audited], out: &mut dyn Write) -> Result<(), Failure> {
    let mut reads: BTreeMap<Read<'_>, (String, BTreeMap<&str, Vec<&str>>)> = BTreeMap::new();
    for row in rows(all) {
        for read in row.audit.reads() {
            if let (Verdict::Unknown, Some(gets)) = (read.verdict(), read.gets()) {
                let key = (
                    row.object,
                    row.audit.program(),
                    read.function(),
                    read.instruction(),
                );
                let (_, kernels) = reads
                    .entry(key)
                    .or_insert_with(|| (place(read), BTreeMap::new()));
                kernels.entry(gets).or_default().push(row.kernel);
            }
        }
    }
    reads.retain(|_, (_, gets)| gets.len() > 1);
    if reads.is_empty() {
        return Ok(());
    }
    let screen = Screen::of_stdout();
    writeln!(
        out,
        "\nReads that are not of the same field on all of these kernels:"
    )?;
    for ((object, program, ..), (place, gets)) in &reads {
        let gets: Vec<String> = gets
            .iter()
            .map(|(gets, kernels)| format!("{gets} on {}", kernels.join(", ")))
            .collect();
        let text = format!("{object} {program}, {place}: {}", gets.join("; "));
        writeln!(out, "  {}", screen.show(&text))?;
    }
    Ok(())
}
