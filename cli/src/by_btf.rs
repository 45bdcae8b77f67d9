//! `list --raw` and `format --raw` by BTF alone: of the running kernel for
//! users who may not read tracefs, of others where nothing else is known of them.

use std::io::Write;
use std::process::ExitCode;

use serde::Serialize;
use tracepoints::EventPattern;
use tracepoints::kernel::{BtfKernel, BtfTracepoint};

use crate::kernel::Identity;
use crate::output::{Failure, JsonRows, note, plural, say};

/// How the struct is known; `raw` if none is.
const EVIDENCE: &str = "btf";

#[derive(Serialize)]
struct Row<'a> {
    section: String,
    evidence: Option<&'static str>,
    #[serde(flatten)]
    tracepoint: &'a BtfTracepoint,
}

/// Returns the tracepoints that match the patterns; they have no category.
fn matching(kernel: &BtfKernel, patterns: &[EventPattern]) -> Result<Vec<BtfTracepoint>, Failure> {
    let mut tracepoints = kernel.tracepoints()?;
    let matches = |pattern: &EventPattern, name: &str| {
        let named = pattern.to_name();
        pattern.matches_bare(name) || named.is_some_and(|named| named.event() == name)
    };
    for pattern in patterns {
        let mut names = tracepoints.iter().map(|one| one.raw().name());
        if !names.any(|name| matches(pattern, name)) {
            let text = pattern.to_string();
            let why = match (text.starts_with("syscalls:"), text.contains(':')) {
                (true, _) => ": BTF does not have the events of syscalls:*, made at run time",
                (_, true) => ": BTF does not have categories",
                _ => "",
            };
            return Err(Failure::Other(format!(
                "no tracepoint in the kernel's BTF matches {text:?}{why}"
            )));
        }
    }
    tracepoints.retain(|one| {
        patterns.is_empty()
            || patterns
                .iter()
                .any(|pattern| matches(pattern, one.raw().name()))
    });
    Ok(tracepoints)
}

/// The form in which `list` prints each tracepoint.
pub(crate) enum Rows {
    Names,
    Text,
    Json,
}

pub(crate) fn list(
    kernel: &BtfKernel,
    identity: &Identity,
    patterns: &[EventPattern],
    rows: Rows,
    out: &mut dyn Write,
) -> Result<ExitCode, Failure> {
    let tracepoints = matching(kernel, patterns)?;
    match rows {
        Rows::Names => {
            for one in &tracepoints {
                writeln!(out, "{}", one.raw().name())?;
            }
            out.flush()?;
            return Ok(ExitCode::SUCCESS);
        }
        Rows::Json => write_json(&tracepoints, identity, out)?,
        Rows::Text => write_text(&tracepoints, out)?,
    }
    out.flush()?;
    let named = tracepoints
        .iter()
        .filter(|one| one.struct_name().is_some())
        .count();
    note!(
        "{}: {named} {EVIDENCE}, named by BTF alone, not checked against a format file; \
         tracefs, which root can read and \
         capture, has events, categories and fields",
        plural(tracepoints.len() as u64, "tracepoint", "s")
    );
    Ok(ExitCode::SUCCESS)
}

fn write_text(tracepoints: &[BtfTracepoint], out: &mut dyn Write) -> std::io::Result<()> {
    let names = tracepoints.iter().map(|one| one.raw().name().len());
    let name = names.max().unwrap_or(0);
    let structs = tracepoints.iter().filter_map(BtfTracepoint::struct_name);
    let width = structs.map(str::len).max().unwrap_or(0);
    for one in tracepoints {
        let (shown, evidence) = match one.struct_name() {
            Some(shown) => (shown, EVIDENCE),
            None => ("-", "raw"),
        };
        writeln!(
            out,
            "{:name$}  {shown:width$}  {evidence}",
            one.raw().name()
        )?;
    }
    Ok(())
}

pub(crate) fn format(
    kernel: &BtfKernel,
    identity: &Identity,
    patterns: &[EventPattern],
    json: bool,
    out: &mut dyn Write,
) -> Result<ExitCode, Failure> {
    let tracepoints = matching(kernel, patterns)?;
    if json {
        write_json(&tracepoints, identity, out)?;
        return Ok(ExitCode::SUCCESS);
    }
    for one in &tracepoints {
        crate::format::raw::write_raw_tracepoint(one.raw(), out)?;
        let (Some(name), Some(layout)) = (one.struct_name(), one.layout()) else {
            continue;
        };
        writeln!(out, "  context  struct {name}")?;
        writeln!(
            out,
            "           {EVIDENCE}: named by BTF alone, not checked against a format file"
        )?;
        for slot in layout.slots() {
            let (offset, size) = (slot.offset(), slot.size());
            writeln!(
                out,
                "  {offset:6} {size:4}  {}: {}",
                slot.name(),
                slot.c_type()
            )?;
        }
    }
    if patterns
        .iter()
        .any(|pattern| pattern.to_string().contains(':'))
    {
        say!("BTF does not have categories: shown are tracepoints of these names");
    }
    Ok(ExitCode::SUCCESS)
}

fn write_json(
    tracepoints: &[BtfTracepoint],
    identity: &Identity,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut rows = JsonRows::of(identity)?;
    for tracepoint in tracepoints {
        let [section, _] = tracepoint.raw().sections();
        let evidence = tracepoint.struct_name().map(|_| EVIDENCE);
        let row = Row {
            section,
            evidence,
            tracepoint,
        };
        rows.write(&row, out)?;
    }
    Ok(())
}
