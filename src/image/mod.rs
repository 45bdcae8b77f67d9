//! Kernels that are not running: their images and modules, as packages have them.
//!
//! A kernel's image holds everything that tracefs would show except what is decided at
//! boot: the tables of its events with their fields and print fmts, its BTF, and its own
//! list of symbols. A module holds the same for its part.
//!
//! - `unpack` finds the kernel inside boot headers and compression;
//! - `elf` and `raw` lay out its memory, with pointers in place; `elf` also links the
//!   sections of a module as loading it would;
//! - `kallsyms` finds the symbols in a kernel that was stripped;
//! - `structs` asks the image's own BTF where the kernel's structs have their members, so
//!   that no layout is known beforehand;
//! - `events` walks `struct trace_event_call`, its class and its fields, `eval` replaces
//!   enumerators as the kernel does at boot, `syscalls` makes the events of system calls,
//!   and `format_text` writes what `events/*/*/format` would show.
//!
//! Ids of events and of BTF objects are assigned at boot, so that a format from an image
//! has none. Images are untrusted input: every access is checked against bounds, and the
//! limits are in `docs/limits.md`. Nothing here does I/O.

mod elf;
mod error;
mod eval;
mod events;
mod format_text;
mod kallsyms;
mod kernel;
mod lzo;
mod memory;
mod module;
mod raw;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod sites;
mod structs;
mod symbols;
mod syscalls;
mod unpack;

/// Returns the numbers of names and of places that are found, for the fuzzer.
#[cfg(fuzzing)]
pub(crate) fn kallsyms_count(
    bytes: &[u8],
    machine: crate::machine::Machine,
) -> Option<(usize, usize)> {
    let found = kallsyms::Kallsyms::find(bytes, machine)?;
    Some((found.names.len(), found.places.len()))
}

pub use error::{ImageError, Reason};
pub(crate) use events::ImageEvents;
pub(crate) use kernel::{KernelImage, ModuleContext};
pub(crate) use module::ModuleImage;
#[cfg(all(feature = "probe", target_os = "linux"))]
pub(crate) use sites::{ImageTracepoint, ModuleSites};
pub(crate) use unpack::{MAX_UNPACKED, stream};
