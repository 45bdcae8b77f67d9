//! Places of fields as constants of a program, which are set when it is loaded.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::names::identifier;
use crate::error::Error;
use crate::kernel::{FieldOffsets, Kernel};
use crate::name::EventName;

/// The name of the constants' symbol.
const SYMBOL: &str = "tracepoint_fields";

/// Constants in a program's `.rodata` that tell where events' fields are, as source in C
/// and Rust. The loader sets them to what [`offsets`](Self::offsets) returns for the
/// kernel at hand, so that one object is right on every kernel, also where the compiler
/// writes no CO-RE relocations.
///
/// The symbol is `tracepoint_fields`: for each field, in the order added, one
/// [`FieldPlace`](crate::kernel::FieldPlace) of 8 bytes, a member `<event>_<field>`.
/// Before it is set, every field is absent.
///
/// libbpf, in a loader that includes the text in C (`fields.h`) before the skeleton, which
/// uses its struct:
///
/// ```c
/// #include "fields.h"
/// #include "program.skel.h"
///
/// struct program *skel = program__open();
/// memcpy((void *)&skel->rodata->tracepoint_fields, bytes, sizeof(skel->rodata->tracepoint_fields));
/// program__load(skel);
/// ```
///
/// aya, where `bytes` is [`FieldOffsets::to_bytes`]:
///
/// ```text
/// EbpfLoader::new().override_global("tracepoint_fields", bytes.as_slice(), true).load(object)?
/// ```
///
/// ```
/// use tracepoints::Kernel;
/// use tracepoints::emit::FieldConstants;
///
/// let mut constants = FieldConstants::new();
/// let exit = "sched:sched_process_exit".parse()?;
/// constants.add(&exit, "pid")?;
/// constants.add(&exit, "comm")?;
/// assert!(constants.c().contains("struct tracepoint_field sched_process_exit_pid;"));
/// let kernel = Kernel::at("tests/fixtures/6.18.15-x86_64")?;
/// assert_eq!(constants.offsets(&kernel)?.to_bytes().len(), 2 * 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct FieldConstants {
    fields: Vec<(EventName, String)>,
    names: HashSet<String>,
}

impl FieldConstants {
    /// Creates constants without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field of an event. Does not check whether a kernel has it.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if a field that was added has the same name.
    pub fn add(&mut self, event: &EventName, field: &str) -> Result<(), Error> {
        let name = member(event, field);
        if self.names.contains(&name) {
            return Err(Error::Conflict {
                name: event.clone(),
                of: format!("field {name}"),
            });
        }
        self.names.insert(name);
        self.fields.push((event.clone(), field.to_owned()));
        Ok(())
    }

    /// Returns the values of the constants for a kernel.
    ///
    /// # Errors
    ///
    /// Those of [`Kernel::offsets`].
    pub fn offsets(&self, kernel: &Kernel) -> Result<FieldOffsets, Error> {
        let fields = self.fields.iter();
        let fields: Vec<_> = fields.map(|(event, field)| (event, &**field)).collect();
        kernel.offsets(&fields)
    }

    /// Returns the constants in C, with functions that read a field by one of them.
    ///
    /// For a program (`-target bpf`) the text includes libbpf's `bpf_helpers.h`, which
    /// needs the types of `vmlinux.h`, or of `linux/bpf.h`, included before it. For a
    /// loader it defines only `struct tracepoint_field`, and needs nothing.
    pub fn c(&self) -> String {
        let mut members = String::new();
        for (event, field) in &self.fields {
            let _ = writeln!(
                members,
                "\tstruct tracepoint_field {};",
                member(event, field)
            );
        }
        format!(
            "{C_HEAD}\nconst volatile struct {{\n{members}}} {SYMBOL} SEC(\".rodata\") = {{}};\n\
             #endif\n#endif\n"
        )
    }

    /// Returns the constants in Rust for a program that uses `aya-ebpf` 0.1 or 0.2, with
    /// methods that read a field. It can be included (`include!`) and needs Rust 1.82, of
    /// any edition since 2021.
    pub fn rust(&self) -> String {
        let mut members = String::new();
        let mut absent = String::new();
        for (event, field) in &self.fields {
            let name = super::rust::identifier(&member(event, field));
            let _ = writeln!(members, "    pub {name}: TracepointField,");
            let _ = writeln!(absent, "    {name}: TracepointField::ABSENT,");
        }
        format!(
            "{RUST_HEAD}
/// Set when the program is loaded.
#[repr(C)]
#[allow(non_snake_case)]
pub struct TracepointFields {{
{members}}}

{EXPORTED}
#[allow(non_upper_case_globals)]
pub static {SYMBOL}: TracepointFields = TracepointFields {{
{absent}}};
"
        )
    }
}

fn member(event: &EventName, field: &str) -> String {
    format!("{}_{}", identifier(event.event()), identifier(field))
}

/// Keeps the symbol's name for the loader.
const EXPORTED: &str = "#[unsafe(no_mangle)]";

const C_HEAD: &str = include_str!("offsets.h.in");

const RUST_HEAD: &str = include_str!("offsets.rs.in");
