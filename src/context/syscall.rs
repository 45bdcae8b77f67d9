//! The context of `syscalls:*`.
//!
//! The context is a local `struct syscall_tp_t` of `kernel/trace/trace_syscalls.c`.
//! Programs usually use `trace_event_raw_sys_enter` in its place, but on kernels whose
//! `struct trace_entry` has 12 bytes (PREEMPT_RT, RHEL 9) that struct has the arguments
//! elsewhere. Therefore the struct is chosen whose `args` or `ret` are where
//! `syscall_tp_t` has them.
//!
//! The number of the system call is read where `syscall_tp_t` has it: the number in
//! `syscall_trace_enter` is wrong on RT kernels, and on big-endian ones `id` of
//! `trace_event_raw_sys_enter` has 8 bytes of which 4 are set.
//!
//! Without BTF the arguments are assumed to be where the record has them, as on every
//! kernel known to have no BTF. No place is assumed for the number.

use std::sync::Arc;

use super::structs::{ContextStruct, ContextTypes};
use super::{Context, Evidence, FormatReason, SyscallVariant};
use crate::btf::{BtfError, Member, Object, Section, TypeId};
use crate::format::{Field, Format};
use crate::layout::{Layout, Slot};
use crate::name::{EventName, SYSCALL_NUMBER, SyscallSide};

/// The layout of the kernel's local `struct syscall_tp_t`.
#[derive(Clone, Debug)]
pub(super) struct SyscallStruct {
    /// `None` if no member is known to be the number.
    number: Option<Place>,
    /// The first argument, or the return value.
    value: Place,
    /// The number of arguments; 1 for a return value.
    count: u32,
}

/// A member's offset in bytes, and its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    offset: u32,
    size: u32,
    type_id: TypeId,
}

/// Returns the name of the member that distinguishes the two structs named `syscall_tp_t`.
fn value_member(side: SyscallSide) -> &'static [u8] {
    match side {
        SyscallSide::Enter => b"args",
        SyscallSide::Exit => b"ret",
    }
}

/// Resolves the context of a program attached to an event of `syscalls:*`.
pub(crate) fn resolve_syscall(
    name: &EventName,
    side: SyscallSide,
    format: &Arc<Format>,
    vmlinux: Option<Arc<Object>>,
) -> Context {
    let reason = match &vmlinux {
        None => FormatReason::NoBtf,
        Some(home) => FormatReason::NotInHome {
            home: home.name().to_owned(),
        },
    };
    vmlinux
        .as_ref()
        .and_then(|vmlinux| syscall_in(name, side, format, vmlinux))
        .unwrap_or_else(|| Context::from_format(name, format, reason))
}

fn syscall_in(
    name: &EventName,
    side: SyscallSide,
    format: &Arc<Format>,
    vmlinux: &Arc<Object>,
) -> Option<Context> {
    let index = vmlinux.index();
    let mut of_this_side = index
        .known_structs("syscall_tp_t")
        .filter_map(|id| Some((id, syscall_value(vmlinux, id, side)?)));
    let (tp_id, value) = of_this_side.next()?;
    let as_there = |id| {
        syscall_value(vmlinux, id, side)
            .is_some_and(|here| here.place.is_at(value.place.offset, value.place.size))
    };
    // All structs of this side must agree; no known kernel has several.
    if !of_this_side.all(|(id, _)| as_there(id)) {
        return None;
    }
    let (class, traced) = match side {
        SyscallSide::Enter => ("sys_enter", "syscall_trace_enter"),
        SyscallSide::Exit => ("sys_exit", "syscall_trace_exit"),
    };
    let classes = index.classes_named(class).iter();
    let classes = classes.map(|class| (Arc::clone(class.struct_name()), class.struct_id));
    let traced = index
        .known_structs(traced)
        .map(|id| (Arc::from(traced), id));
    let agreeing = classes.chain(traced).find(|(_, id)| as_there(*id));
    let (struct_name, layout_of) = match agreeing {
        Some((name, id)) => (Some(name), id),
        None => (None, tp_id),
    };
    let (variant, number) = syscall_number(vmlinux, tp_id)?;
    Some(Context {
        name: name.clone(),
        format: Arc::clone(format),
        is_syscall: true,
        of: ContextStruct {
            evidence: Evidence::Syscall(variant),
            home: Some(Arc::clone(vmlinux)),
            is_home_known: true,
            types: Some(ContextTypes {
                struct_name,
                has_class: false,
                layout_of,
                syscall: Some(SyscallStruct {
                    number,
                    value: value.place,
                    count: value.count,
                }),
            }),
            candidates: Vec::new(),
        },
    })
}

/// The arguments or the return value of a system call in a struct.
struct SyscallValue {
    /// The place of the first value.
    place: Place,
    /// The number of values.
    count: u32,
}

/// Returns where a struct has the first argument or the return value.
fn syscall_value(vmlinux: &Object, id: TypeId, side: SyscallSide) -> Option<SyscallValue> {
    let section = vmlinux.section();
    let ty = section.type_by_id(id)?;
    let member = ty
        .members()
        .find(|member| member.name() == value_member(side))?;
    let (_, value) = section.resolve(member.type_id)?;
    let (type_id, count) = value.array().unwrap_or((member.type_id, 1));
    Some(SyscallValue {
        place: Place::of(member, type_id, section)?,
        count,
    })
}

/// Returns the form of `syscall_tp_t`, and the place of the system call's number.
fn syscall_number(vmlinux: &Object, id: TypeId) -> Option<(SyscallVariant, Option<Place>)> {
    let section = vmlinux.section();
    let ty = section.type_by_id(id)?;
    let first = ty.members().next()?;
    let number = ty
        .members()
        .find(|member| matches!(member.name(), b"syscall_nr" | b"nr"));
    let Some(number) = number else {
        return Some((SyscallVariant::Other, None));
    };
    let (_, number_type) = section.resolve(number.type_id)?;
    let variant = match (first.name(), number_type.is_signed_int()) {
        (b"regs", false) => SyscallVariant::Registers,
        (b"ent", false) => SyscallVariant::LongNumber,
        (b"ent", true) => SyscallVariant::IntNumber,
        _ => SyscallVariant::Other,
    };
    Some((variant, Place::of(number, number.type_id, section)))
}

impl Place {
    fn of(member: Member<'_>, type_id: TypeId, section: &Section) -> Option<Self> {
        Some(Self {
            offset: member.bit_offset / 8,
            size: section.size_of(type_id)?,
            type_id,
        })
    }

    fn is_at(&self, offset: u32, size: u32) -> bool {
        (self.offset, self.size) == (offset, size)
    }

    /// Returns the place of the value at `index` among consecutive values of this type.
    fn nth(self, index: u32) -> Option<Self> {
        let offset = index.checked_mul(self.size)?.checked_add(self.offset)?;
        Some(Self { offset, ..self })
    }
}

/// The most arguments of a system call (`SYSCALL_DEFINE6`).
const MAX_ARGUMENTS: u32 = 6;

impl SyscallStruct {
    /// Returns where the context holds one of the record's own fields, with the name that
    /// `layout` has for that place.
    pub(super) fn slot_of(
        &self,
        home: &Object,
        layout: &Layout,
        fields: &[Field],
        field: &Field,
    ) -> Result<Option<Slot>, BtfError> {
        let is_value =
            |field: &&Field| field.name() != SYSCALL_NUMBER && !field.kind().is_dynamic();
        if !is_value(&field) && field.name() != SYSCALL_NUMBER {
            return Ok(None);
        }
        let (name, place) = if field.name() == SYSCALL_NUMBER {
            ("nr".to_owned(), self.number)
        } else {
            let before = fields.iter().take_while(|other| *other != field);
            let index = before.filter(is_value).count() as u32;
            let within = (index < self.count.min(MAX_ARGUMENTS)).then_some(self.value);
            (
                format!("args[{index}]"),
                within.and_then(|value| value.nth(index)),
            )
        };
        let Some(place) = place else {
            return Ok(None);
        };
        // A member of the struct at exactly that place gives the slot its name and type.
        let mut slots = layout.slots().iter();
        if let Some(slot) = slots.find(|slot| place.is_at(slot.offset(), slot.size())) {
            return Ok(Some(slot.clone()));
        }
        let c_type = home.c_type(place.type_id)?;
        let bit_offset = u64::from(place.offset) * 8;
        Ok(Some(Slot::new(name, c_type, bit_offset, None)))
    }
}
