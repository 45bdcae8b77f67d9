//! Tracepoints as raw programs see them: those behind events, and those without one.

use std::io::Write;
use std::process::ExitCode;

use serde::Serialize;
use tracepoints::context::RawTracepoint;
use tracepoints::kernel::{EventProgram, Events};
use tracepoints::{EventPattern, Kernel};

use super::{AskedArgument, asked, text};
use crate::output::{self, Failure, JsonRows, say};
use crate::select::select;

/// A tracepoint, and the programs that serve it.
#[derive(Serialize)]
struct RawRow<'a> {
    #[serde(flatten)]
    raw: &'a RawTracepoint,
    programs: Vec<EventProgram>,
    /// The arguments as the running kernel's verifier sees them.
    #[serde(skip_serializing_if = "Option::is_none")]
    verifier: Option<Vec<AskedArgument>>,
}

/// Shows the tracepoints behind the events that match, and those without an event.
pub(super) fn write_all(
    kernel: &Kernel,
    patterns: &[EventPattern],
    json: Option<&mut JsonRows>,
    out: &mut dyn Write,
) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    let mut found = Vec::new();
    for pattern in patterns {
        // A name without a category is a tracepoint's, whether or not it has an event.
        if let Ok(raw) = kernel.raw_tracepoint(&pattern.to_string()) {
            found.push(raw);
            continue;
        }
        let (events, bare) = select_with_bare(kernel, std::slice::from_ref(pattern))?;
        found.extend(bare);
        for name in &events {
            match kernel.tracepoint(name).and_then(|event| event.raw()) {
                Ok(Some(raw)) => found.push(raw),
                Ok(None) => say!("{name}: BTF has no raw tracepoint behind it"),
                Err(error) => output::step_over(error, &mut code)?,
            }
        }
    }
    write_some(kernel, &found, json, out)?;
    Ok(code)
}

/// Returns the events that match, and for patterns that match none the tracepoints without an
/// event.
pub(super) fn select_with_bare(
    kernel: &Kernel,
    patterns: &[EventPattern],
) -> Result<(Events, Vec<RawTracepoint>), Failure> {
    let failure = match select(kernel, patterns) {
        Ok(events) => return Ok((events, Vec::new())),
        Err(failure) => failure,
    };
    let listed = kernel.events()?;
    // A kernel without BTF has none.
    let mut bare = kernel.bare_tracepoints().unwrap_or_default();
    let has_event = |pattern: &EventPattern| listed.names().iter().any(|one| pattern.matches(one));
    let (bare_patterns, of_events): (Vec<EventPattern>, Vec<EventPattern>) =
        patterns.iter().cloned().partition(|pattern| {
            let is_bare = bare.iter().any(|raw| pattern.matches_bare(raw.name()));
            is_bare && !has_event(pattern)
        });
    if bare_patterns.is_empty() {
        return Err(failure);
    }
    bare.retain(|raw| {
        let mut patterns = bare_patterns.iter();
        patterns.any(|pattern| pattern.matches_bare(raw.name()))
    });
    let events = match of_events.is_empty() {
        true => Events::default(),
        false => select(kernel, &of_events)?,
    };
    Ok((events, bare))
}

/// Writes tracepoints.
pub(super) fn write_some(
    kernel: &Kernel,
    tracepoints: &[RawTracepoint],
    mut json: Option<&mut JsonRows>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    // Some programs are loaded to ask, which takes milliseconds for each tracepoint.
    let asks = tracepoints.len() == 1 && kernel.is_live();
    for raw in tracepoints {
        let row = RawRow {
            raw,
            programs: raw.programs(),
            verifier: match asks {
                true => asked(kernel, raw),
                false => None,
            },
        };
        match &mut json {
            Some(json) => json.write(&row, out)?,
            None => {
                write_head(raw, out)?;
                text::write_programs(&row.programs, row.verifier.as_deref(), out)?;
            }
        }
    }
    Ok(())
}

/// Writes a tracepoint and the programs that serve it.
pub(crate) fn write_raw_tracepoint(
    raw: &RawTracepoint,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    write_head(raw, out)?;
    text::write_programs(&raw.programs(), None, out)
}

fn write_head(raw: &RawTracepoint, out: &mut dyn Write) -> Result<(), Failure> {
    let [raw_tp, tp_btf] = raw.sections();
    writeln!(out, "{raw}")?;
    writeln!(out, "  home      {}", raw.home())?;
    write!(
        out,
        "  SEC       {raw_tp}  struct bpf_raw_tracepoint_args *ctx: "
    )?;
    match raw.arguments().len() {
        0 => writeln!(out, "no arguments")?,
        1 => writeln!(out, "args[0]")?,
        count => writeln!(out, "args[0] to args[{}]", count - 1)?,
    }
    writeln!(out, "            {tp_btf}  BPF_PROG(on_{}, …)", raw.name())?;
    Ok(())
}
