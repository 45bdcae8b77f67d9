//! CO-RE: the values of relocated instructions on a kernel, as libbpf's `relo_core.c`
//! computes them.
//!
//! A loader would give the value alone; an audit also needs the field that the source
//! named and the kernel's type in which it was found.

use std::sync::Arc;

use super::core_spec::{Accessor, CoreSpec, MAX_STEPS};
use super::core_types::{AuditedKernel, KernelType, essential};
use super::elf::CoreRecord;
use crate::btf::{Kind, Object, Section, Type, TypeId};
use crate::error::Error;
use crate::machine::ByteOrder;

/// The kind of a relocation: `enum bpf_core_relo_kind` of `include/uapi/linux/bpf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CoreKind {
    FieldByteOffset,
    FieldByteSize,
    FieldExists,
    FieldSigned,
    FieldLeftShift,
    FieldRightShift,
    TypeIdLocal,
    TypeIdTarget,
    TypeExists,
    TypeSize,
    EnumeratorExists,
    EnumeratorValue,
    TypeMatches,
}

impl CoreKind {
    pub(super) fn of(number: u32) -> Option<Self> {
        use CoreKind::*;
        [
            FieldByteOffset,
            FieldByteSize,
            FieldExists,
            FieldSigned,
            FieldLeftShift,
            FieldRightShift,
            TypeIdLocal,
            TypeIdTarget,
            TypeExists,
            TypeSize,
            EnumeratorExists,
            EnumeratorValue,
            TypeMatches,
        ]
        .get(number as usize)
        .copied()
    }

    pub(super) fn is_field(self) -> bool {
        (self as u32) <= CoreKind::FieldRightShift as u32
    }

    pub(super) fn is_enumerator(self) -> bool {
        matches!(self, Self::EnumeratorExists | Self::EnumeratorValue)
    }

    /// Whether the value for a missing field or type is 0, rather than a fault.
    fn is_about_existence(self) -> bool {
        use CoreKind::*;
        matches!(
            self,
            FieldExists | TypeExists | EnumeratorExists | TypeMatches
        )
    }
}

/// The result of a relocation on one kernel.
#[derive(Clone, Debug)]
pub(super) enum Relocated {
    Value(RelocatedValue),
    /// libbpf replaces the instruction by one that the verifier refuses.
    Poisoned(String),
    /// The kind of relocation is not known, or types are nested too deeply.
    Unknown,
    /// libbpf fails, and does not load the object.
    Fatal(String),
}

/// The value of a relocation, and its source.
#[derive(Clone, Debug)]
pub(super) struct RelocatedValue {
    pub(super) value: u64,
    /// For a field's offset: the sizes of the object's field and of the kernel's, in
    /// bytes.
    pub(super) sizes: Option<(u32, u32)>,
    /// Whether a load of one size may become a load of the other.
    pub(super) may_resize: bool,
    /// For a field: the kernel's type in which it was found.
    pub(super) found_in: Option<(Arc<Object>, TypeId)>,
}

/// The field of a relocation in the object's own types.
#[derive(Clone, Debug)]
pub(super) struct CoreField {
    /// The struct or union that the path begins in.
    pub(super) root: TypeId,
    /// In bytes from its start; `None` for a bitfield.
    pub(super) offset: Option<u32>,
    /// The first member with a name, and its offset in bytes.
    pub(super) member: (String, u32),
    /// The field's size in bytes.
    pub(super) size: Option<u32>,
    /// `struct.member[2].member`.
    pub(super) path: String,
}

/// Returns the field that a relocation names; `None` for other relocations.
pub(super) fn core_field(section: &Section, record: &CoreRecord) -> Option<CoreField> {
    let kind = CoreKind::of(record.kind)?;
    if !kind.is_field() {
        return None;
    }
    let spec = CoreSpec::parse(section, record, kind)?;
    let mut path = String::from_utf8_lossy(section.type_by_id(spec.root)?.name()).into_owned();
    let mut member = None;
    for (index, accessor) in spec.accessors.iter().enumerate() {
        match accessor.name {
            Some(name) => {
                let name = String::from_utf8_lossy(name);
                path.push('.');
                path.push_str(&name);
                if member.is_none() {
                    let offset = named_member_offset(section, spec.root, &spec.accessors, index)?;
                    member = Some((name.into_owned(), offset));
                }
            }
            None if index == 0 && accessor.index == 0 => {}
            None => path.push_str(&format!("[{}]", accessor.index)),
        }
    }
    let value = field_value(&spec, CoreKind::FieldByteOffset, ByteOrder::NATIVE).ok()?;
    Some(CoreField {
        root: spec.root,
        offset: (value.size.is_some()).then_some(value.value as u32),
        member: member?,
        size: value.size,
        path,
    })
}

/// Returns the offset in bytes of the first member with a name on the path. Steps
/// through anonymous structs have no name.
fn named_member_offset(
    section: &Section,
    root: TypeId,
    accessors: &[Accessor<'_>],
    index: usize,
) -> Option<u32> {
    let accessor = accessors.get(index)?;
    let direct = section.type_by_id(accessor.type_id)?;
    let member = direct.members().nth(accessor.index as usize)?;
    let (root_id, _) = section.resolve(root)?;
    let mut left = MAX_STEPS;
    let outer = match accessor.type_id == root_id {
        true => 0,
        false => anonymous_offset(section, root_id, accessor.type_id, &mut left)?,
    };
    outer.checked_add(member.bit_offset / 8)
}

/// Returns the offset of an anonymous struct or union in its struct, in bytes.
fn anonymous_offset(
    section: &Section,
    outer: TypeId,
    inner: TypeId,
    left: &mut u32,
) -> Option<u32> {
    *left /= 2;
    section.type_by_id(outer)?.members().find_map(|member| {
        *left = left.checked_sub(1)?;
        if !member.name().is_empty() {
            return None;
        }
        let (id, _) = section.resolve(member.type_id)?;
        let offset = member.bit_offset / 8;
        match id == inner {
            true => Some(offset),
            false => offset.checked_add(anonymous_offset(section, id, inner, left)?),
        }
    })
}

/// Returns the relocation's result on this kernel.
pub(super) fn relocate(
    section: &Section,
    record: &CoreRecord,
    byte_order: ByteOrder,
    kernel: &AuditedKernel,
) -> Result<Relocated, Error> {
    let Some(kind) = CoreKind::of(record.kind) else {
        return Ok(Relocated::Unknown);
    };
    let Some(spec) = CoreSpec::parse(section, record, kind) else {
        return Ok(Relocated::Fatal(format!(
            "its relocation {:?} of type {} cannot be followed in its own BTF",
            record.access, record.type_id
        )));
    };
    let plain = |value| {
        Relocated::Value(RelocatedValue {
            value,
            sizes: None,
            may_resize: true,
            found_in: None,
        })
    };
    if kind == CoreKind::TypeIdLocal {
        return Ok(plain(u64::from(record.type_id)));
    }
    let Some(root) = section.type_by_id(record.type_id) else {
        return Ok(Relocated::Unknown);
    };
    let name = essential(root.name());
    if name.is_empty() {
        return Ok(Relocated::Fatal(
            "it relocates an anonymous type".to_owned(),
        ));
    }
    let candidates = kernel.candidates(name, root.kind)?;
    let found_none = candidates.is_empty();
    let mut result: Option<(Result<RelocatedValue, ()>, u64)> = None;
    for candidate in candidates {
        let Some(matched) = spec.in_kernel(candidate, kind) else {
            return Ok(Relocated::Unknown);
        };
        let Some(matched) = matched else { continue };
        let value = match target_value(&spec, &matched, candidate, kind, byte_order) {
            Ok(value) => Ok(value),
            Err(Missing::Poison) => Err(()),
            Err(Missing::Fatal(why)) => return Ok(Relocated::Fatal(why)),
        };
        match &result {
            None => result = Some((value, matched.bit_offset)),
            Some((known, bit_offset)) => {
                let number =
                    |value: &Result<RelocatedValue, ()>| value.as_ref().ok().map(|v| v.value);
                if *bit_offset != matched.bit_offset || number(known) != number(&value) {
                    return Ok(Relocated::Fatal(format!(
                        "the kernel has several {} that differ",
                        String::from_utf8_lossy(name)
                    )));
                }
            }
        }
    }
    Ok(match result {
        Some((Ok(value), _)) => Relocated::Value(value),
        None if kind.is_about_existence() => plain(0),
        _ => Relocated::Poisoned(missing(section, record, name, found_none)),
    })
}

fn missing(section: &Section, record: &CoreRecord, name: &[u8], found_none: bool) -> String {
    let name = String::from_utf8_lossy(name);
    match core_field(section, record) {
        _ if found_none => format!("the kernel has no type {name}"),
        Some(field) => format!("the kernel has no {}", field.path),
        None => format!("the kernel's {name} has not what is asked of it"),
    }
}

/// The reason why a relocation has no value.
enum Missing {
    Poison,
    Fatal(String),
}

fn target_value(
    local: &CoreSpec<'_>,
    target: &CoreSpec<'_>,
    candidate: KernelType<'_>,
    kind: CoreKind,
    byte_order: ByteOrder,
) -> Result<RelocatedValue, Missing> {
    let plain = |value| RelocatedValue {
        value,
        sizes: None,
        may_resize: true,
        found_in: None,
    };
    Ok(match kind {
        _ if kind.is_field() => {
            let here = field_value(local, kind, byte_order)?;
            let there = field_value(target, kind, byte_order)?;
            let may_resize = match (here.type_id, there.type_id) {
                (Some(a), Some(b)) => may_resize((local.section, a), (target.section, b)),
                _ => false,
            };
            RelocatedValue {
                value: there.value,
                sizes: here.size.zip(there.size),
                may_resize,
                found_in: Some((Arc::clone(candidate.object), candidate.id)),
            }
        }
        CoreKind::TypeIdTarget => plain(u64::from(candidate.id)),
        CoreKind::TypeExists | CoreKind::TypeMatches | CoreKind::EnumeratorExists => plain(1),
        CoreKind::TypeSize => match target.section.size_of(candidate.id) {
            Some(size) => plain(u64::from(size)),
            None => return Err(Missing::Fatal("a type has no size".to_owned())),
        },
        CoreKind::EnumeratorValue => {
            let index = target
                .accessors
                .first()
                .map_or(0, |accessor| accessor.index);
            let ty = target.section.type_by_id(candidate.id);
            let value = ty.and_then(|ty| ty.values().nth(index as usize));
            plain(value.map_or(0, |(_, value)| value as u64))
        }
        _ => return Err(Missing::Poison),
    })
}

/// Whether a load of one type may become a load of the other: both are pointers, or
/// both unsigned.
fn may_resize(local: (&Section, TypeId), target: (&Section, TypeId)) -> bool {
    let kind = |(section, id): (&Section, TypeId)| {
        let (_, ty) = section.resolve(id)?;
        Some((ty.kind, ty.is_signed_int()))
    };
    matches!(
        (kind(local), kind(target)),
        (Some((Kind::Ptr, _)), Some((Kind::Ptr, _)))
            | (Some((Kind::Int, false)), Some((Kind::Int, false)))
    )
}

/// Returns the value of a field-based relocation, the size of the field, and its type
/// unless it is a bitfield.
struct FieldAnswer {
    value: u64,
    size: Option<u32>,
    type_id: Option<TypeId>,
}

fn field_value(
    spec: &CoreSpec<'_>,
    kind: CoreKind,
    byte_order: ByteOrder,
) -> Result<FieldAnswer, Missing> {
    let fatal = |why: &str| Missing::Fatal(why.to_owned());
    let answer = |value, size, type_id| FieldAnswer {
        value,
        size,
        type_id,
    };
    if kind == CoreKind::FieldExists {
        return Ok(answer(1, None, None));
    }
    let section = spec.section;
    let last = spec.accessors.last().ok_or(Missing::Poison)?;
    let Some(_) = last.name else {
        // An element: only its offset and size can be asked for.
        let size = section.size_of(last.type_id);
        return match kind {
            CoreKind::FieldByteOffset => Ok(answer(
                spec.bit_offset / 8,
                element_size(section, last.type_id),
                Some(last.type_id),
            )),
            CoreKind::FieldByteSize => {
                Ok(answer(u64::from(size.ok_or(Missing::Poison)?), None, None))
            }
            _ => Err(fatal("it asks of an array's element what only a field has")),
        };
    };
    let ty = section.type_by_id(last.type_id).ok_or(Missing::Poison)?;
    let member = ty.members().nth(last.index as usize);
    let member = member.ok_or(Missing::Poison)?;
    let (type_id, member_type) = section.resolve(member.type_id).ok_or(Missing::Poison)?;
    let (bits, bit_offset) = (u64::from(member.bitfield_size), spec.bit_offset);
    let (byte_size, byte_offset, bits) = match bits {
        0 => {
            let size = section.size_of(type_id).ok_or(Missing::Poison)?;
            (u64::from(size), bit_offset / 8, u64::from(size) * 8)
        }
        bits => {
            let mut size = u64::from(member_type.size()).max(1);
            let start = |size: u64| bit_offset / 8 / size * size;
            while bit_offset + bits - start(size) * 8 > size * 8 {
                if size >= 8 {
                    return Err(fatal("a bitfield cannot be read by one load"));
                }
                size *= 2;
            }
            (size, start(size), bits)
        }
    };
    Ok(match kind {
        CoreKind::FieldByteOffset if member.bitfield_size == 0 => {
            answer(byte_offset, element_size(section, type_id), Some(type_id))
        }
        CoreKind::FieldByteOffset => answer(byte_offset, None, None),
        CoreKind::FieldByteSize => answer(byte_size, None, None),
        CoreKind::FieldSigned => answer(u64::from(is_signed(member_type)), None, None),
        CoreKind::FieldLeftShift => {
            let before = (bit_offset - byte_offset * 8).min(64);
            let shift = match byte_order {
                ByteOrder::Little => 64u64.saturating_sub(before + bits),
                ByteOrder::Big => 8u64.saturating_sub(byte_size) * 8 + before,
            };
            answer(shift, None, None)
        }
        CoreKind::FieldRightShift => answer(64u64.saturating_sub(bits), None, None),
        _ => return Err(Missing::Poison),
    })
}

fn is_signed(ty: Type<'_>) -> bool {
    ty.is_signed_int() || ty.is_enum() && ty.flag()
}

/// Returns the size that one load reads: that of the type, or of an array's element.
fn element_size(section: &Section, id: TypeId) -> Option<u32> {
    let (mut id, mut ty) = section.resolve(id)?;
    for _ in 0..32 {
        match ty.array() {
            Some((element, _)) => (id, ty) = section.resolve(element)?,
            None => return section.size_of(id),
        }
    }
    None
}
