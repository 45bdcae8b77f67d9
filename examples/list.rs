//! Lists a kernel's tracepoints, each with the struct an eBPF program attached to it
//! gets, and the evidence: `list [--root DIR] [--json] [PATTERN…]`.

use std::error::Error;
use std::io::{ErrorKind, Write};

use tracepoints::{Error as KernelError, EventPattern, Kernel};

/// The captured kernel shown where the running one cannot be read.
const CAPTURED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/6.18.15-x86_64");

fn main() -> Result<(), Box<dyn Error>> {
    let (mut root, mut json, mut patterns) = (None, false, Vec::<EventPattern>::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--root" => root = Some(arguments.next().ok_or("--root needs a directory")?),
            "--json" => json = true,
            pattern => patterns.push(pattern.parse()?),
        }
    }
    let kernel = match root {
        Some(root) => Kernel::at(root)?,
        None => live_or_captured()?,
    };
    let events = kernel.select(&patterns)?;
    let width = events.names().iter().map(|name| name.as_str().len()).max();
    let mut out = std::io::stdout().lock();
    // Faster than one event after another.
    for (name, found) in std::iter::zip(&events, kernel.contexts(events.names())?) {
        let written = match found {
            Ok((_, context)) if json => {
                let row = serde_json::json!({"event": name, "context": context});
                writeln!(out, "{row}")
            }
            Ok((_, context)) => {
                let width = width.unwrap_or(0);
                let evidence = context.evidence().as_str();
                let context = context.struct_name().unwrap_or("-");
                writeln!(out, "{name:width$}  {evidence:9}  {context}")
            }
            // The event's module was unloaded meanwhile, or its file is damaged.
            Err(error) => writeln!(std::io::stderr(), "{error}"),
        };
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    Ok(())
}

fn live_or_captured() -> Result<Kernel, KernelError> {
    Kernel::live().or_else(|error| {
        eprintln!("{error}; showing the captured kernel {CAPTURED} instead");
        Kernel::at(CAPTURED)
    })
}
