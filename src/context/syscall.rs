//! The context of `syscalls:*`.

use std::sync::Arc;

use super::{Context, ContextTypes, Evidence, FormatReason, SyscallVariant};
use crate::btf::{BtfError, Member, Object, Section, TypeId};
use crate::format::{Field, Format};
use crate::layout::{Layout, Slot};
use crate::name::{EventName, SYSCALL_NUMBER, SyscallSide};

/// The kernel's local `struct syscall_tp_t`: where it has what.
#[derive(Clone, Debug)]
pub(super) struct SyscallStruct {
    /// `None` where no member is known to be the number.
    number: Option<Place>,
    /// The first argument, or the return value.
    value: Place,
    /// How many arguments there are; of a return value, one.
    count: u32,
}

/// Where a struct has a member, in bytes, and of which type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    offset: u32,
    size: u32,
    type_id: TypeId,
}

/// The member that tells the two `syscall_tp_t` apart.
fn value_member(side: SyscallSide) -> &'static [u8] {
    match side {
        SyscallSide::Enter => b"args",
        SyscallSide::Exit => b"ret",
    }
}

/// Says which context a program attached to an event of `syscalls:*` gets.
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
    // Should there be several (there never were), they must not differ.
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
        evidence: Evidence::Syscall(variant),
        format: Arc::clone(format),
        is_syscall: true,
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
    })
}

/// The arguments or the return value of a system call, in a struct.
struct SyscallValue {
    /// The first one.
    place: Place,
    /// How many there are.
    count: u32,
}

/// Where a struct has the first argument or the return value.
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

/// Which form `syscall_tp_t` has, and where the number of the system call is.
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

    /// The place of the `index`th of as many as follow each other.
    fn nth(self, index: u32) -> Option<Self> {
        let offset = index.checked_mul(self.size)?.checked_add(self.offset)?;
        Some(Self { offset, ..self })
    }
}

/// No system call has more (`SYSCALL_DEFINE6`).
const MAX_ARGUMENTS: u32 = 6;

impl SyscallStruct {
    /// Where the context holds one of the record's own fields, under the name
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
        // As the struct has it, if it has just that: by its name and type.
        let mut slots = layout.slots().iter();
        if let Some(slot) = slots.find(|slot| place.is_at(slot.offset(), slot.size())) {
            return Ok(Some(slot.clone()));
        }
        let c_type = home.c_type(place.type_id)?;
        let bit_offset = u64::from(place.offset) * 8;
        Ok(Some(Slot::new(name, c_type, bit_offset, None)))
    }
}
