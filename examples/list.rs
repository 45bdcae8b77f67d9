//! Lists a kernel's tracepoints, each with the struct an eBPF program attached
//! to it gets, and how that is known.

mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;
use shared::Failure;
use tracepoints::{Context, Error, EventName, EventPattern, Evidence, Kernel};

/// Lists tracepoints with the struct an eBPF program attached to each gets.
#[derive(Parser)]
#[command(name = "list")]
struct Arguments {
    /// A captured kernel, laid out like /sys/kernel, instead of the live one.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Only events of this class, or possibly of it.
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Which events: sched:*, *:*exit*, …; all without one.
    #[arg(value_name = "PATTERN")]
    patterns: Vec<EventPattern>,
}

/// One line of the list.
#[derive(Serialize)]
struct Row {
    event: EventName,
    category: String,
    name: String,
    id: u32,
    section: String,
    context: Context,
}

impl Row {
    fn of(kernel: &Kernel, name: &EventName) -> Result<Self, Error> {
        let tracepoint = kernel.tracepoint(name)?;
        Ok(Self {
            category: name.category().to_owned(),
            name: name.event().to_owned(),
            id: tracepoint.id(),
            section: name.section(),
            context: tracepoint.context()?,
            event: name.clone(),
        })
    }

    /// Whether the event is of this class, or may be.
    fn is_of(&self, class: &str) -> bool {
        let class = class.strip_prefix("trace_event_raw_").unwrap_or(class);
        match self.context.evidence() {
            Evidence::Ambiguous => self.context.candidates().iter().any(|one| one == class),
            _ => self.context.class() == Some(class),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    shared::run("list", |out| list(&arguments, out))
}

fn list(arguments: &Arguments, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let kernel = shared::kernel("list", arguments.root.as_ref())?;
    let events = kernel.select(&arguments.patterns)?;
    let mut code = ExitCode::SUCCESS;
    for rejected in events.rejected() {
        eprintln!(
            "list: line {} of available_events is no event name: {}",
            rejected.line, rejected.text
        );
    }
    let mut rows = Vec::with_capacity(events.names().len());
    for name in &events {
        match Row::of(&kernel, name) {
            Ok(row) => rows.push(row),
            // A fact about a living kernel, and no failure of the list.
            Err(error @ Error::EventGone { .. }) => eprintln!("list: {error}"),
            // One bad file says nothing about the next; bad BTF and the like do.
            Err(
                error @ (Error::Format { .. } | Error::OtherEvent { .. } | Error::NotText { .. }),
            ) => {
                eprintln!("list: {error}");
                code = ExitCode::FAILURE;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(class) = &arguments.class {
        rows.retain(|row| row.is_of(class));
    }
    if arguments.json {
        for row in &rows {
            serde_json::to_writer(&mut *out, row)?;
            writeln!(out)?;
        }
    } else {
        write_columns(&rows, out)?;
    }
    out.flush()?;
    eprintln!("{}", summary(&rows));
    Ok(code)
}

fn write_columns(rows: &[Row], out: &mut dyn Write) -> Result<(), Failure> {
    let widest = |length: fn(&Row) -> usize| rows.iter().map(length).max().unwrap_or(0);
    let event = widest(|row| row.event.as_str().len());
    // Lists of candidates are long, and few: they may stand out.
    let context = widest(|row| row.context.struct_name().map_or(0, str::len));
    for row in rows {
        let evidence = row.context.evidence();
        let style = shared::evidence_style(evidence);
        writeln!(
            out,
            "{:event$}  {:context$}  {style}{}{style:#}",
            row.event,
            shared::struct_cell(&row.context),
            evidence.as_str()
        )?;
    }
    Ok(())
}

/// `2305 events, 818 classes: 1064 named, …`
fn summary(rows: &[Row]) -> String {
    let classes: BTreeSet<&str> = rows.iter().filter_map(|row| row.context.class()).collect();
    let mut evidence: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        *evidence.entry(row.context.evidence().as_str()).or_default() += 1;
    }
    let mut counts: Vec<(usize, &str)> = evidence
        .into_iter()
        .map(|(word, count)| (count, word))
        .collect();
    counts.sort_by(|a, b| b.cmp(a));
    let counts: Vec<String> = counts
        .iter()
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let total = format!(
        "{}, {}",
        plural(rows.len(), "event", "s"),
        plural(classes.len(), "class", "es")
    );
    match counts.as_slice() {
        [] => total,
        counts => format!("{total}: {}", counts.join(", ")),
    }
}

fn plural(count: usize, word: &str, ending: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { ending })
}
