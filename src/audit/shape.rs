//! The layout of an event's context on a kernel, with the names of its bytes.

use super::interpret::{ContextShape, offset_half};
use super::own_struct::OwnStruct;
use super::state::{ArgumentPointer, ContextPointer, Named, RegisterValue};
use crate::btf::TypeId;
use crate::context::{Context, Evidence, FormatReason};
use crate::error::Error;
use crate::format::{Field, FieldKind, LOCATION};
use crate::kernel::Tracepoint;
use crate::machine::ByteOrder;
use crate::name::{SYSCALL_NUMBER, SyscallSide};

/// Some bytes of a context, and their names.
#[derive(Clone, Debug)]
pub(super) struct EventSlot {
    /// The names in the context's struct and in the record; the first is shown.
    pub(super) names: Vec<String>,
    pub(super) offset: u32,
    pub(super) size: u32,
    pub(super) kind: FieldKind,
    pub(super) signed: Option<bool>,
    pub(super) declaration: String,
}

impl EventSlot {
    pub(super) fn end(&self) -> u32 {
        self.offset.saturating_add(self.size)
    }

    /// Whether it is one value, so that a part of it is not the value.
    pub(super) fn is_scalar(&self) -> bool {
        matches!(self.kind, FieldKind::Scalar | FieldKind::Pointer)
    }
}

/// The context of a program of type `BPF_PROG_TYPE_TRACEPOINT`.
pub(super) struct EventShape<'a> {
    pub(super) slots: Vec<EventSlot>,
    /// The end of the last field: programs that load beyond it are not attached.
    pub(super) record_end: u32,
    pub(super) pointer_size: u32,
    pub(super) byte_order: ByteOrder,
    pub(super) is_syscall: bool,
    pub(super) is_probe_event: bool,
    /// The object and id of the struct, if known.
    pub(super) of_type: Option<(String, TypeId)>,
    pub(super) struct_name: Option<String>,
    /// The object's own structs.
    pub(super) own: OwnStruct<'a>,
}

impl<'a> EventShape<'a> {
    pub(super) fn new(
        tracepoint: &Tracepoint,
        context: &Context,
        pointer_size: u32,
        byte_order: ByteOrder,
        own: OwnStruct<'a>,
    ) -> Result<Self, Error> {
        let format = tracepoint.format();
        let side = format.syscall_side(tracepoint.name());
        let places = context.field_slots()?;
        let mut slots = Vec::new();
        if side.is_none() {
            let common = format.common_fields().iter();
            slots.extend(
                common
                    .filter(|f| f.offset() >= pointer_size)
                    .map(record_slot),
            );
            slots.extend(format.fields().iter().map(record_slot));
        } else {
            let fields = format.fields().iter().zip(&places);
            slots.extend(fields.filter_map(|(field, place)| {
                let place = place.as_ref()?;
                let mut names = vec![place.name().to_owned(), field.name().to_owned()];
                match (field.name(), side) {
                    (SYSCALL_NUMBER, _) => {
                        names.extend(["nr", "id", "syscall_nr", "__syscall_nr"].map(str::to_owned));
                    }
                    (_, Some(SyscallSide::Exit)) => names.push("ret".to_owned()),
                    _ => {}
                }
                Some(EventSlot {
                    names,
                    offset: place.offset(),
                    size: place.size(),
                    ..record_slot(field)
                })
            }));
        }
        let is_probe_event = matches!(
            context.evidence(),
            Evidence::Format(FormatReason::ProbeEvent)
        );
        Ok(Self {
            slots,
            record_end: format.record_end(),
            pointer_size,
            byte_order,
            is_syscall: side.is_some(),
            is_probe_event,
            of_type: context.home().map(str::to_owned).zip(context.type_id()),
            struct_name: context.struct_name().map(str::to_owned),
            own,
        })
    }

    /// Returns the slot of this name, and an offset from its start. For a system call,
    /// `args` at an offset is the argument there.
    pub(super) fn named(&self, name: &str, behind: i64) -> Option<(&EventSlot, i64)> {
        if self.is_syscall && name == "args" {
            let first = self.slots.iter().find(|slot| slot.names[0] == "args[0]")?;
            let size = i64::from(first.size.max(1));
            let (index, behind) = (behind.div_euclid(size), behind.rem_euclid(size));
            let name = format!("args[{index}]");
            let slot = self.slots.iter().find(|slot| slot.names[0] == name)?;
            return Some((slot, behind));
        }
        // The record's own names take precedence over those that every system call's
        // number has.
        let of_rank = |rank: usize| {
            let mut slots = self.slots.iter();
            slots.find(|slot| slot.names.get(rank).is_some_and(|known| known == name))
        };
        (0..MAX_NAMES).find_map(of_rank).map(|slot| (slot, behind))
    }

    fn slot_number(&self, offset: i64) -> Option<(u16, &EventSlot)> {
        let at = self.slots.iter().position(|slot| {
            let start = i64::from(slot.offset);
            (start..start + i64::from(slot.size)).contains(&offset)
        })?;
        Some((u16::try_from(at).ok()?, &self.slots[at]))
    }

    /// Describes these bytes.
    pub(super) fn describe(&self, offset: i64, size: u32) -> String {
        if offset < i64::from(self.pointer_size)
            && !self
                .slots
                .iter()
                .any(|slot| i64::from(slot.offset) <= offset)
        {
            return "the kernel's pointer to the registers".to_owned();
        }
        let end = offset.saturating_add(i64::from(size.max(1)));
        let mut parts = Vec::new();
        for slot in &self.slots {
            let (start, stop) = (i64::from(slot.offset), i64::from(slot.end()));
            if start >= end || stop <= offset {
                continue;
            }
            let name = match slot.names.get(1) {
                Some(name) if self.is_syscall && *name != slot.names[0] => {
                    format!("{} ({name})", slot.names[0])
                }
                _ => slot.names[0].clone(),
            };
            parts.push(match (start < offset, stop > end) {
                (false, false) => name,
                (false, true) if end - start == 1 => format!("the first byte of {name}"),
                (false, true) => format!("the first {} bytes of {name}", end - start),
                (true, _) => format!("{name} from its byte {} on", offset - start),
            });
        }
        match parts.is_empty() {
            false => parts.join(", "),
            true if offset >= i64::from(self.record_end) => "what is behind the event".to_owned(),
            true => "padding".to_owned(),
        }
    }
}

/// The most names of a slot.
const MAX_NAMES: usize = 6;

fn record_slot(field: &Field) -> EventSlot {
    EventSlot {
        names: vec![field.member_name(), field.name().to_owned()],
        offset: field.offset(),
        size: field.size(),
        kind: field.kind(),
        signed: field.signed(),
        declaration: field.declaration().to_string(),
    }
}

impl ContextShape for EventShape<'_> {
    fn read(&self, pointer: ContextPointer, size: u32) -> RegisterValue {
        let Some((number, slot)) = self.slot_number(pointer.offset) else {
            return RegisterValue::Unknown;
        };
        if !slot.kind.is_dynamic() || slot.size != LOCATION {
            return RegisterValue::Unknown;
        }
        let behind = pointer.offset - i64::from(slot.offset);
        match (behind, size) {
            (0, LOCATION) => RegisterValue::Location { slot: number },
            (behind, 2) if behind == i64::from(offset_half(self.byte_order)) => {
                RegisterValue::LocationOffset {
                    slot: number,
                    added: 0,
                }
            }
            _ => RegisterValue::Unknown,
        }
    }

    fn is_copy(&self, pointer: ContextPointer, size: u32) -> bool {
        if pointer.named != Named::Nothing || size <= 8 {
            return false;
        }
        match pointer.type_id {
            Some(id) => self.own.members(id, pointer.offset, size).len() > 1,
            None => true,
        }
    }
}

/// The context of raw programs: an array of arguments.
pub(super) struct RawShape;

impl ContextShape for RawShape {
    fn read(&self, pointer: ContextPointer, size: u32) -> RegisterValue {
        match (pointer.offset % 8, size, u32::try_from(pointer.offset / 8)) {
            (0, 8, Ok(index)) => RegisterValue::Argument(ArgumentPointer {
                index,
                offset: 0,
                named: Named::Nothing,
                is_checked: false,
            }),
            _ => RegisterValue::Unknown,
        }
    }

    fn is_copy(&self, _: ContextPointer, size: u32) -> bool {
        size > 8
    }
}
