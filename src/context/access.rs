//! How a program reads each field of its context: a load where the kernel allows
//! one, a helper where it does not.

use super::Context;
use crate::error::Error;
use crate::format::{Field, FieldKind, Format};
use crate::layout::Slot;
use crate::layout::ctype::CType;

/// The number of bytes of a context that every kernel's verifier lets programs load:
/// `PERF_MAX_TRACE_SIZE` is 2048 before Linux 5.11 (`include/linux/trace_events.h`).
const LOADABLE: u32 = 2048;

/// How a field is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// A load from the context.
    Load,
    /// A call of `bpf_probe_read_kernel`: the verifier refuses unaligned loads, and
    /// `BPF_LINK_CREATE` refuses programs that load bytes after the record's last field.
    Probe,
    /// A string inside the context.
    Text,
    /// Bytes inside the context.
    Bytes,
    /// A string or bytes elsewhere in the record, located by the field's u32.
    Located { relative: bool, text: bool },
    /// A string in the memory of the process that made the system call.
    UserText,
}

/// A field, its slot in the context, and how it is read there.
#[derive(Clone, Debug)]
pub(crate) struct Access<'a> {
    pub(crate) field: &'a Field,
    pub(crate) slot: Slot,
    pub(crate) read: Read,
    /// Whether a program may load the slot: it has the size of an integer, is aligned, and
    /// ends neither after the record's last field, where the kernel would refuse to attach
    /// the program, nor after `LOADABLE` bytes.
    pub(crate) is_loadable: bool,
    /// The size of the value in bytes. A system call's argument takes a whole word in the
    /// context, which may be wider than its type.
    pub(crate) size: u32,
    pub(crate) signed: bool,
}

impl<'a> Access<'a> {
    /// Returns the event's own fields in the format's order, each with its access; `None`
    /// for a field that the context lacks.
    pub(crate) fn of_fields(
        format: &'a Format,
        context: &Context,
    ) -> Result<Vec<(&'a Field, Option<Self>)>, Error> {
        let slots = context.field_slots()?;
        let common = format.common_fields().iter().chain(format.fields());
        let record_end = common
            .map(|field| field.offset().saturating_add(field.size()))
            .max();
        let fields = format.fields().iter().zip(slots);
        let access = |(field, slot): (&'a Field, Option<Slot>)| {
            let read = |slot| Self::new(field, slot, context.is_syscall, record_end.unwrap_or(0));
            (field, slot.map(read))
        };
        Ok(fields.map(access).collect())
    }

    fn new(field: &'a Field, slot: Slot, is_syscall: bool, record_end: u32) -> Self {
        let is_loadable = is_loadable(&slot, record_end);
        let read = match field.kind() {
            FieldKind::DataLoc | FieldKind::RelLoc => Read::Located {
                relative: field.kind() == FieldKind::RelLoc,
                text: field.is_text(),
            },
            FieldKind::Array if field.is_text() && slot.size() > 0 => Read::Text,
            FieldKind::Array | FieldKind::Struct => Read::Bytes,
            // The format file has only a typedef's name; BTF has the type behind it.
            _ if matches!(
                slot.ty.resolved(),
                CType::Record { .. } | CType::Array { .. }
            ) =>
            {
                Read::Bytes
            }
            // Values of other sizes are not integers, and are not read as such.
            _ if !matches!(slot.size(), 1 | 2 | 4 | 8) => Read::Bytes,
            FieldKind::Pointer if is_syscall && field.points_to_text() => Read::UserText,
            _ if is_loadable => Read::Load,
            _ => Read::Probe,
        };
        let word = (slot.size(), field.signed() == Some(true));
        let (size, signed) = match slot.name().starts_with("args[") {
            true => field.argument().unwrap_or(word),
            false => word,
        };
        Self {
            field,
            slot,
            read,
            is_loadable,
            size,
            signed,
        }
    }
}

fn is_loadable(slot: &Slot, record_end: u32) -> bool {
    matches!(slot.size(), 1 | 2 | 4 | 8)
        && slot.offset().is_multiple_of(slot.size())
        && slot.end() <= record_end.min(LOADABLE)
}
