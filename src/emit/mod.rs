//! Contexts as source text to paste into a probe: structs in C and Rust, and whole
//! programs.
//!
//! A struct has the layout of *this* kernel, with assertions on every offset and size; for
//! CO-RE it has the names that libbpf relocates. The assertions are generated
//! from the layout, so that a compiler checks the text against it.
//!
//! [`CAccessors`] and [`FieldConstants`] are for more than one kernel: the way to read a
//! field is decided when the program is loaded, by the loader's relocations or by
//! constants.
//!
//! Relocation by names is wrong where an event has another struct. [`History`] knows the
//! changes between captured kernels, and the text for CO-RE says where it is wrong.
//!
//! C is written from values of C types, so that the writer neither knows BTF nor reads
//! files. Every gap is a member, as C on another machine might not leave it. A struct that
//! C would lay out differently (a `u64` at 12 on i686) is packed; a `long` or pointer of a
//! 32-bit kernel becomes an integer, because it has 8 bytes in a program; an enum of one
//! byte has that mode. A type whose name the header already has for another type is an
//! error: it is not renamed.
//!
//! In Rust, members are integers, arrays of integers, and structs of these, for which any
//! bits are valid. Members that Rust would align differently are bytes.
//!
//! A skeleton loads a field directly only if that is allowed: aligned to its size, and not
//! after the record's last byte, where the kernel refuses to attach the program.

mod accessors;
mod c;
mod c_definitions;
mod c_options;
mod constants;
mod history;
mod names;
mod offsets;
mod portability;
mod rust;
mod skeleton;

pub use accessors::CAccessors;
pub use c::CHeader;
pub use c_options::{COptions, CSurroundings};
pub use constants::{constants_c, constants_rust};
pub use history::History;
pub(crate) use history::{kind, members};
pub use offsets::FieldConstants;
pub use portability::{Elsewhere, Portability, PortabilityRemark};
pub(crate) use portability::{found_by_libbpf, is_syscall, misread_of};
pub use rust::RustModule;
pub use skeleton::{skeleton_c, skeleton_rust};

use names::{check_names, identifier};

use crate::btf::BtfError;
use crate::context::{Context, Evidence};
use crate::error::Error;
use crate::kernel::Tracepoint;
use crate::layout::Layout;
use crate::name::SyscallSide;

/// A context, and the name under which its struct is emitted.
struct Emitted {
    struct_name: String,
    layout: Layout,
    /// A note about the name, for the reader.
    remark: Option<String>,
    context: Context,
}

impl Emitted {
    fn of(tracepoint: &Tracepoint) -> Result<Self, Error> {
        let context = tracepoint.context()?;
        let layout = context.layout()?;
        check_names(&layout).map_err(|source| layout_error(tracepoint, source))?;
        // A record ends with its last field; a struct in C or Rust is padded to its
        // alignment.
        let layout = match layout.name() {
            None => layout.rounded_up(),
            Some(_) => layout,
        };
        let event = identifier(tracepoint.name().event());
        let (struct_name, remark) = match (context.struct_name(), context.evidence()) {
            (Some(name), Evidence::Inferred(_)) => (
                name.to_owned(),
                Some(format!(
                    "inferred, one of: {}",
                    context.candidates().join(", ")
                )),
            ),
            (Some(name), _) => (name.to_owned(), None),
            // libbpf ignores three underscores and the text after them.
            (None, Evidence::Syscall(_)) => {
                let side = match tracepoint.format().syscall_side(tracepoint.name()) {
                    Some(SyscallSide::Exit) => "exit",
                    _ => "enter",
                };
                (
                    format!("syscall_tp_t___{side}"),
                    Some("the kernel's local syscall_tp_t".to_owned()),
                )
            }
            (None, Evidence::Ambiguous) => (
                format!("{event}_context"),
                Some(format!(
                    "the layout of class {}, which of them is not known",
                    context.candidates().join(" and ")
                )),
            ),
            (None, evidence) => (format!("{event}_context"), Some(evidence.to_string())),
        };
        Ok(Self {
            struct_name,
            layout,
            remark,
            context,
        })
    }
}

fn layout_error(tracepoint: &Tracepoint, source: BtfError) -> Error {
    Error::Layout {
        name: tracepoint.name().clone(),
        source,
    }
}
