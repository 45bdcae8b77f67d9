//! Layouts as source text a probe's author can paste: C, Rust, and whole
//! programs.
//!
//! What is emitted is the layout of *this* kernel, proven by assertions on every
//! offset and size, or, for CO-RE, the names libbpf relocates on any.

mod c;
mod constants;
mod rust;
mod skeleton;

pub use c::{CHeader, COptions};
pub use constants::{constants_c, constants_rust};
pub use rust::RustModule;
pub use skeleton::{skeleton_c, skeleton_rust};

use crate::btf::BtfError;
use crate::context::{Context, Evidence};
use crate::ctype::CType;
use crate::error::Error;
use crate::format::is_identifier;
use crate::layout::Layout;
use crate::tracepoint::Tracepoint;

/// A context under the name its struct is emitted by.
struct Emitted {
    struct_name: String,
    layout: Layout,
    /// What the reader should know of the name.
    remark: Option<String>,
    context: Context,
}

impl Emitted {
    fn of(tracepoint: &Tracepoint<'_>) -> Result<Self, Error> {
        let context = tracepoint.context()?;
        let layout = context.layout()?;
        check_names(&layout).map_err(|source| layout_error(tracepoint, source))?;
        // A record ends with its last field; a struct in C or Rust goes on to its
        // own alignment.
        let layout = match layout.name() {
            None => layout.rounded_up(),
            Some(_) => layout,
        };
        let event = identifier(tracepoint.name().event());
        let (struct_name, remark) = match (context.struct_name(), context.evidence()) {
            (Some(name), Evidence::Inferred) => (
                name.to_owned(),
                Some(format!(
                    "inferred, one of: {}",
                    context.candidates().join(", ")
                )),
            ),
            (Some(name), _) => (name.to_owned(), None),
            // libbpf ignores what follows three underscores.
            (None, Evidence::Syscall(_)) => {
                let side = match tracepoint.name().event().starts_with("sys_exit_") {
                    true => "exit",
                    false => "enter",
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

/// Whether what BTF names is a name in C: any text may be there, and what is emitted
/// will be compiled.
fn check_names(layout: &Layout) -> Result<(), BtfError> {
    check_name(layout.name().unwrap_or_default())?;
    for slot in layout.slots() {
        check_name(slot.name())?;
        check_type(&slot.ty)?;
    }
    Ok(())
}

fn check_type(ty: &CType) -> Result<(), BtfError> {
    match ty {
        CType::Void => Ok(()),
        // `long unsigned int`
        CType::Int { name, .. } | CType::Float { name, .. } => {
            name.split(' ').try_for_each(check_name)
        }
        CType::Typedef { name, target } => {
            check_name(name)?;
            check_type(target)
        }
        CType::Enum { name, values, .. } => {
            check_name(name.as_deref().unwrap_or_default())?;
            values.iter().try_for_each(|(name, _)| check_name(name))
        }
        CType::Record { name, body, .. } => {
            check_name(name.as_deref().unwrap_or_default())?;
            body.as_deref().map_or(Ok(()), check_names)
        }
        CType::Pointer { target, .. } | CType::Qualified { target, .. } => check_type(target),
        CType::Array { element, .. } => check_type(element),
        CType::Function {
            result, parameters, ..
        } => {
            check_type(result)?;
            parameters.iter().try_for_each(check_type)
        }
        // A declaration's parser reads no other text than a type.
        CType::Spelled { .. } => Ok(()),
    }
}

/// What has no name has an empty one.
fn check_name(name: &str) -> Result<(), BtfError> {
    match name.is_empty() || is_identifier(name) {
        true => Ok(()),
        false => Err(BtfError::Describe(format!(
            "{} is no name in C",
            name.escape_debug()
        ))),
    }
}

fn layout_error(tracepoint: &Tracepoint<'_>, source: BtfError) -> Error {
    Error::Layout {
        name: tracepoint.name().clone(),
        source,
    }
}

/// An event's name as an identifier: hyphens are legal in the one alone.
fn identifier(name: &str) -> String {
    name.replace('-', "_")
}
