//! How one kernel has an event's fields: which member of which struct, and how it is read.

use std::sync::Arc;

use crate::btf::Object;
use crate::context::access::{Access, Read};
use crate::context::{Context, Evidence};
use crate::emit::layout_error;
use crate::emit::names::check_names;
use crate::error::Error;
use crate::kernel::Tracepoint;
use crate::layout::ctype::CType;
use crate::layout::{Layout, Slot};
use crate::name::{SYSCALL_NUMBER, SyscallSide};

/// The kernel's own struct of all system calls' contexts. BTF has two structs of this name,
/// and libbpf finds the right one by the members.
const SYSCALL_STRUCT: &str = "syscall_tp_t";

/// An event on one kernel.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) label: String,
    /// The struct whose members are read.
    pub(super) struct_name: String,
    /// The classes that may be the event's, if its class is not known.
    pub(super) candidates: Vec<String>,
    /// The event's fields, in the format's order; `None` for those the context lacks.
    pub(super) fields: Vec<(String, Option<FieldShape>)>,
}

/// The way to read a field: equal shapes are read by the same code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldShape {
    pub(super) member: String,
    /// The index of an element of an array of arguments.
    pub(super) index: Option<u32>,
    pub(super) member_type: MemberType,
    pub(super) how: How,
}

/// The way to a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Number {
        /// The size of the word in the context, in bytes.
        word: u32,
        /// The size of the value, in bytes.
        size: u32,
        signed: bool,
        /// Whether the kernel allows a load.
        is_loadable: bool,
        /// Whether the value is the address of text of the process.
        is_user_text: bool,
    },
    Text,
    Bytes,
    Located {
        relative: bool,
        is_text: bool,
    },
    /// No code can read it: programs do not have its type.
    Unreadable,
}

/// A member's type, as far as libbpf compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MemberType {
    Int {
        size: u32,
        signed: bool,
    },
    Enum {
        name: Option<String>,
        size: u32,
    },
    Pointer,
    Record {
        size: u32,
    },
    Array {
        element: Box<MemberType>,
        count: u32,
    },
    Other,
}

impl MemberType {
    fn of(ty: &CType) -> Self {
        match ty.resolved() {
            CType::Int { size, signed, .. } => Self::Int {
                size: *size,
                signed: *signed,
            },
            CType::Enum { name, size, .. } => Self::Enum {
                name: name.clone(),
                size: *size,
            },
            CType::Pointer { .. } => Self::Pointer,
            record @ CType::Record { .. } => Self::Record {
                size: record.size(),
            },
            CType::Array { element, count } => Self::Array {
                element: Box::new(Self::of(element)),
                count: *count,
            },
            _ => Self::Other,
        }
    }

    /// Whether C for eBPF has the type in the kernel's size.
    fn is_known(&self) -> bool {
        match self {
            Self::Int { size, .. } | Self::Enum { size, .. } => matches!(size, 1 | 2 | 4 | 8),
            Self::Array { element, .. } => element.is_known(),
            Self::Pointer | Self::Record { .. } => true,
            Self::Other => false,
        }
    }
}

impl Site {
    /// Returns the event on a kernel; `None` if the context has no BTF type, so that
    /// nothing can be relocated.
    pub(super) fn of(label: &str, tracepoint: &Tracepoint) -> Result<Option<Self>, Error> {
        let context = tracepoint.context()?;
        let layout_error = |source| layout_error(tracepoint, source);
        let side = tracepoint.format().syscall_side(tracepoint.name());
        let (struct_name, syscall) = match (context.struct_name(), context.evidence()) {
            (_, Evidence::Syscall(_)) => {
                let vmlinux = tracepoint.kernel().vmlinux()?;
                let layouts = vmlinux.map_or(Ok(Vec::new()), |vmlinux| syscall_layouts(&vmlinux));
                (SYSCALL_STRUCT.to_owned(), layouts.map_err(layout_error)?)
            }
            (Some(name), _) => (name.to_owned(), Vec::new()),
            // All candidates have the same layout.
            (None, Evidence::Ambiguous) => match context.candidates().first() {
                Some(class) => (format!("trace_event_raw_{class}"), Vec::new()),
                None => return Ok(None),
            },
            (None, _) => return Ok(None),
        };
        let layout = context.layout()?;
        check_names(&layout).map_err(layout_error)?;
        let accesses = Access::of_fields(tracepoint.format(), &context)?;
        let fields = accesses.into_iter().map(|(field, access)| {
            let shape = access.and_then(|access| match side {
                Some(side) if !syscall.is_empty() => syscall_shape(&access, side, &syscall),
                _ => {
                    let name = access.slot.name();
                    let member = layout.slots().iter().find(|one| one.name() == name)?;
                    shape(&access, member, None)
                }
            });
            (field.name().to_owned(), shape)
        });
        Ok(Some(Self {
            label: label.to_owned(),
            struct_name,
            candidates: candidates(&context),
            fields: fields.collect(),
        }))
    }

    pub(super) fn shape(&self, field: &str) -> Option<&FieldShape> {
        let mut fields = self.fields.iter();
        let (_, shape) = fields.find(|(name, _)| name == field)?;
        shape.as_ref()
    }
}

fn candidates(context: &Context) -> Vec<String> {
    match context.evidence() {
        Evidence::Ambiguous | Evidence::Inferred(_) => context.candidates().to_vec(),
        _ => Vec::new(),
    }
}

fn syscall_layouts(vmlinux: &Arc<Object>) -> Result<Vec<Layout>, crate::btf::BtfError> {
    let ids = vmlinux.index().known_structs(SYSCALL_STRUCT);
    ids.map(|id| vmlinux.layout(id)).collect()
}

/// Returns how a value of a system call is read, through whichever struct has it.
fn syscall_shape(access: &Access<'_>, side: SyscallSide, structs: &[Layout]) -> Option<FieldShape> {
    let slot = &access.slot;
    let value = match side {
        SyscallSide::Enter => "args",
        SyscallSide::Exit => "ret",
    };
    let layout = structs.iter().find(|layout| layout.slot(value).is_some())?;
    if access.field.name() == SYSCALL_NUMBER {
        let place = (slot.offset(), slot.size());
        let mut slots = layout.slots().iter();
        let number = slots.find(|one| (one.offset(), one.size()) == place)?;
        let mut shape = shape(access, number, None)?;
        // Some kernels have the number as a long.
        if let How::Number { size, signed, .. } = &mut shape.how {
            (*size, *signed) = (4, true);
        }
        return Some(shape);
    }
    let member = layout.slot(value)?;
    if slot.offset() < member.offset() || slot.end() > member.end() || slot.size() == 0 {
        return None;
    }
    let index = (slot.offset() - member.offset()) / slot.size();
    shape(
        access,
        member,
        (member.size() > slot.size()).then_some(index),
    )
}

/// Returns how a field is read as a member or as an element of one; `None` if the member
/// has no name or is a bitfield.
fn shape(access: &Access<'_>, member: &Slot, index: Option<u32>) -> Option<FieldShape> {
    let slot = &access.slot;
    if member.width().is_some() || member.name().is_empty() {
        return None;
    }
    let member_type = MemberType::of(&member.ty);
    let how = match access.read {
        _ if !member_type.is_known() => How::Unreadable,
        Read::Load | Read::Probe | Read::UserText => How::Number {
            word: slot.size(),
            size: access.size,
            signed: access.signed,
            is_loadable: access.is_loadable,
            is_user_text: matches!(access.read, Read::UserText),
        },
        Read::Text => How::Text,
        Read::Bytes => How::Bytes,
        Read::Located { relative, text } if slot.size() == 4 => How::Located {
            relative,
            is_text: text,
        },
        Read::Located { .. } => How::Unreadable,
    };
    Some(FieldShape {
        member: member.name().to_owned(),
        index,
        member_type,
        how,
    })
}
