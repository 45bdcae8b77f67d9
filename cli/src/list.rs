//! Lists a kernel's tracepoints, each with the struct an eBPF program attached
//! to it gets, and how that is known.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use tracepoints::context::{ContextStruct, RawTracepoint};
use tracepoints::kernel::Events;
use tracepoints::{EventName, EventPattern, Evidence};

use crate::by_btf::{self, Rows};
use crate::kernel::{KernelChoice, Opened};
use crate::output::{self, Failure, JsonRows, note, plural, say};
use crate::select::select;

/// List tracepoints, each with the struct an eBPF program attached to it gets
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    kernel: KernelChoice,
    /// Print one JSON object a line
    #[arg(long, short)]
    json: bool,
    /// Print the names alone: reads one file, and BTF only for --raw
    #[arg(long, short, conflicts_with_all = ["json", "class"])]
    names: bool,
    /// List only events of this class, or possibly of it; or with this context struct
    #[arg(long, short, value_name = "CLASS")]
    class: Option<String>,
    /// List tracepoints without an event too, which take raw programs only
    #[arg(long, conflicts_with = "class")]
    raw: bool,
    /// Which events: sched:*, *:*exit*, …; all without one
    #[arg(value_name = "PATTERN")]
    patterns: Vec<EventPattern>,
}

const EXAMPLES: &str = "\
Examples:
  tracepoints list 'sched:*'
  tracepoints list --demo --class sched_process_template
  tracepoints list --json 'syscalls:*openat*' | jq -r .context.struct";

/// One line of the list.
#[derive(Serialize)]
struct Row<'a> {
    event: &'a EventName,
    category: &'a str,
    name: &'a str,
    /// `None` if the kernel was not booted, and where only text is written.
    id: Option<u32>,
    section: String,
    context: ContextStruct,
}

/// A tracepoint without an event.
#[derive(Serialize)]
struct BareRow {
    event: Option<EventName>,
    category: Option<String>,
    name: String,
    id: Option<u32>,
    section: String,
    /// Always `None`: no tracepoint program can be attached to it.
    context: Option<ContextStruct>,
    raw: RawTracepoint,
}

impl BareRow {
    fn of(raw: RawTracepoint) -> Self {
        let [section, _] = raw.sections();
        Self {
            event: None,
            category: None,
            name: raw.name().to_owned(),
            id: None,
            section,
            context: None,
            raw,
        }
    }
}

impl<'a> Row<'a> {
    fn of(name: &'a EventName, context: ContextStruct, id: Option<u32>) -> Self {
        Self {
            category: name.category(),
            name: name.event(),
            id,
            section: name.section(),
            context,
            event: name,
        }
    }

    /// Whether the event has this class, or may have it.
    fn is_of(&self, class: &str) -> bool {
        if self.context.struct_name() == Some(class) {
            return true;
        }
        let class = class.strip_prefix("trace_event_raw_").unwrap_or(class);
        match self.context.evidence() {
            Evidence::Ambiguous => self.context.candidates().iter().any(|one| one == class),
            _ => self.context.class() == Some(class),
        }
    }
}

pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    output::run(!arguments.json && !arguments.names, |out| {
        list(arguments, out)
    })
}

fn list(arguments: &Arguments, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let rows = match (arguments.names, arguments.json) {
        (true, _) => Rows::Names,
        (_, true) => Rows::Json,
        _ => Rows::Text,
    };
    let chosen = match arguments.kernel.open_or_btf(arguments.raw)? {
        Opened::Whole(chosen) => chosen,
        Opened::Btf(kernel, identity) => {
            return by_btf::list(&kernel, &identity, &arguments.patterns, rows, out);
        }
    };
    let kernel = chosen.kernel;
    let mut patterns = arguments.patterns.clone();
    let mut bare = Vec::new();
    if arguments.raw {
        bare = kernel.bare_tracepoints()?;
        bare.retain(|raw| {
            patterns.is_empty()
                || patterns
                    .iter()
                    .any(|pattern| pattern.matches_bare(raw.name()))
        });
        // A pattern that matches a tracepoint without an event need not match an event.
        let listed = kernel.events()?;
        let of_bare =
            |pattern: &EventPattern| bare.iter().any(|raw| pattern.matches_bare(raw.name()));
        let of_listed =
            |pattern: &EventPattern| listed.names().iter().any(|name| pattern.matches(name));
        patterns.retain(|pattern| !of_bare(pattern) || of_listed(pattern));
    }
    let bare: Vec<BareRow> = bare.into_iter().map(BareRow::of).collect();
    let only_bare = patterns.is_empty() && !arguments.patterns.is_empty();
    let events = match only_bare {
        true => Events::default(),
        false => select(kernel, &patterns)?,
    };
    for rejected in events.rejected() {
        say!("{rejected}");
    }
    if arguments.names {
        for name in &events {
            out.write_all(name.as_str().as_bytes())?;
            out.write_all(b"\n")?;
        }
        for row in &bare {
            writeln!(out, "{}", row.name)?;
        }
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut code = ExitCode::SUCCESS;
    let mut rows = Vec::with_capacity(events.names().len());
    let mut add = |name, found| {
        match found {
            Ok((context, id)) => rows.push(Row::of(name, context, id)),
            Err(error) => output::step_over(error, &mut code)?,
        }
        Ok::<_, Failure>(())
    };
    let names = events.names();
    match arguments.json {
        true => std::iter::zip(names, kernel.structs_and_ids(names)?)
            .try_for_each(|(name, found)| add(name, found))?,
        false => std::iter::zip(names, kernel.structs(names)?)
            .try_for_each(|(name, found)| add(name, found.map(|found| (found, None))))?,
    }
    if let Some(class) = &arguments.class {
        rows.retain(|row| row.is_of(class));
        if rows.is_empty() {
            say!("no event of class {class:?}");
            code = ExitCode::FAILURE;
        }
    }
    if arguments.json {
        let mut json = JsonRows::of(&chosen.identity)?;
        rows.iter().try_for_each(|row| json.write(row, out))?;
        bare.iter().try_for_each(|row| json.write(row, out))?;
    } else {
        write_columns(&rows, &bare, out)?;
    }
    out.flush()?;
    let and_bare = match bare.len() {
        0 => String::new(),
        count => format!(
            "; {} without an event",
            plural(count as u64, "tracepoint", "s")
        ),
    };
    note!("{}{and_bare}", summary(&rows));
    Ok(code)
}

fn write_columns(rows: &[Row<'_>], bare: &[BareRow], out: &mut dyn Write) -> Result<(), Failure> {
    let names = rows.iter().map(|row| row.event.as_str());
    let names = names.chain(bare.iter().map(|row| &*row.name));
    let event = names.map(str::len).max().unwrap_or(0);
    // Lists of candidates are long and rare, so they may exceed their column.
    let structs = rows.iter().filter_map(|row| row.context.struct_name());
    let context = structs.map(str::len).max().unwrap_or(0);
    for row in rows {
        let evidence = row.context.evidence();
        let style = output::evidence_style(evidence);
        writeln!(
            out,
            "{:event$}  {:context$}  {style}{}{style:#}",
            row.event,
            output::struct_cell(&row.context),
            evidence.as_str()
        )?;
    }
    for row in bare {
        writeln!(out, "{:event$}  {:context$}  raw", row.name, "-")?;
    }
    Ok(())
}

/// Returns the summary: `2305 events, 818 classes: 1064 named, …`.
fn summary(rows: &[Row<'_>]) -> String {
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
        plural(rows.len() as u64, "event", "s"),
        plural(classes.len() as u64, "class", "es")
    );
    match counts.as_slice() {
        [] => total,
        counts => format!("{total}: {}", counts.join(", ")),
    }
}
