//! `format --emit`: contexts as source text.

use std::io::Write;
use std::process::ExitCode;

use clap::ValueEnum;
use tracepoints::emit::{
    self, CAccessors, CHeader, COptions, CSurroundings, FieldConstants, RustModule,
};
use tracepoints::kernel::Events;
use tracepoints::{Error, EventName};

use super::Arguments;
use crate::kernel::Chosen;
use crate::output::{Failure, JsonRows, say, step_over, with_causes};
use crate::select::select;

/// The kinds of source that `--emit` writes.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Emit {
    /// The context structs in C, with all they need, and assertions
    C,
    /// The same for CO-RE: libbpf relocates it by names; where that is known to be wrong
    /// is said. With several --root: an accessor for each field, right on all of them
    Core,
    /// Constants in C for where each field is, which the loader sets
    Offsets,
    /// The same in Rust, for aya
    OffsetsRust,
    /// The context structs in Rust, with assertions
    Rust,
    /// A program in C for libbpf
    SkelC,
    /// A program in Rust for aya
    SkelRust,
    /// The context's layout, one JSON object a line
    Json,
}

/// The headers that the C is compiled with.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Beside {
    /// Those of the system: only structs of contexts are defined
    System,
    /// The kernel's vmlinux.h: only what it lacks is defined
    Vmlinux,
}

/// Writes the events' contexts as source text.
pub(super) fn write(
    chosen: &Chosen,
    names: &Events,
    what: Emit,
    arguments: &Arguments,
    out: &mut dyn Write,
) -> Result<ExitCode, Failure> {
    let beside = arguments.beside;
    if beside.is_some() && !matches!(what, Emit::C | Emit::Core) {
        return Err(Failure::Other(
            "--beside is for --emit c and --emit core".to_owned(),
        ));
    }
    let options = COptions::default()
        .preserve_access_index(matches!(what, Emit::Core))
        .beside(match beside {
            Some(Beside::System) => CSurroundings::SystemHeaders,
            Some(Beside::Vmlinux) => CSurroundings::Vmlinux,
            None => CSurroundings::None,
        });
    let mut header = CHeader::new(options)
        .of_kernel(&chosen.identity.label())
        .guarded_by(&guard(arguments));
    let mut module = RustModule::new();
    let mut fields = FieldConstants::new();
    let mut constants = String::new();
    let mut json = JsonRows::of(&chosen.identity)?;
    for name in names {
        let tracepoint = chosen.kernel.tracepoint(name)?;
        match what {
            Emit::C | Emit::Core => {
                header.add(&tracepoint)?;
                constants += &emit::constants_c(&tracepoint).unwrap_or_default();
            }
            Emit::Rust => {
                module.add(&tracepoint)?;
                constants += &emit::constants_rust(&tracepoint).unwrap_or_default();
            }
            Emit::Offsets | Emit::OffsetsRust => {
                for field in tracepoint.format().fields() {
                    fields.add(name, field.name())?;
                }
            }
            Emit::SkelC => write!(out, "{}", emit::skeleton_c(&tracepoint)?)?,
            Emit::SkelRust => write!(out, "{}", emit::skeleton_rust(&tracepoint)?)?,
            Emit::Json => {
                let context = tracepoint.context()?;
                let layout = context.layout()?;
                let row =
                    serde_json::json!({ "event": name, "context": context, "layout": layout });
                json.write(&row, out)?;
            }
        }
    }
    match what {
        Emit::C | Emit::Core => write!(out, "{header}")?,
        Emit::Rust => write!(out, "{module}")?,
        Emit::Offsets => write!(out, "{}", fields.c())?,
        Emit::OffsetsRust => write!(out, "{}", fields.rust())?,
        _ => {}
    }
    if !constants.is_empty() {
        write!(out, "\n{constants}")?;
    }
    for portability in header.portability() {
        for line in portability.to_string().lines() {
            say!("warning: {line}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes accessors that are right on all the kernels chosen.
pub(super) fn write_for_all(
    arguments: &Arguments,
    out: &mut dyn Write,
) -> Result<ExitCode, Failure> {
    if arguments.beside.is_some() {
        return Err(Failure::Other(
            "--beside is for one kernel: source for several goes with any headers".to_owned(),
        ));
    }
    let kernels = arguments.kernel.all()?;
    let mut names: Vec<EventName> = Vec::new();
    for pattern in &arguments.patterns {
        let mut found = false;
        let mut missing = None;
        for (_, kernel) in &kernels {
            match select(kernel, std::slice::from_ref(pattern)) {
                Ok(events) => {
                    found = true;
                    names.extend(events.iter().cloned());
                }
                Err(failure) => missing = Some(failure),
            }
        }
        if let (false, Some(failure)) = (found, missing) {
            return Err(failure);
        }
    }
    names.sort();
    names.dedup();
    let mut code = ExitCode::SUCCESS;
    let mut accessors = CAccessors::new(kernels).guarded_by(&guard(arguments));
    for name in &names {
        match accessors.add(name) {
            Ok(()) => {}
            Err(error @ (Error::NoStruct { .. } | Error::Conflict { .. })) => {
                code = ExitCode::FAILURE;
                say!("{}", with_causes(&error));
            }
            Err(error) => step_over(error, &mut code)?,
        }
    }
    write!(out, "{accessors}")?;
    for line in accessors.notes() {
        say!("note: {line}");
    }
    Ok(code)
}

/// Returns the name of the header's include guard, which differs for other events.
fn guard(arguments: &Arguments) -> String {
    let patterns = arguments.patterns.iter();
    let patterns: Vec<String> = patterns.map(ToString::to_string).collect();
    format!("{}_H", patterns.join("_"))
}
