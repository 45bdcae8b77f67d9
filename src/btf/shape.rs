//! Shapes of values whose types have names: what `struct stat` is made of.

use super::Object;
use super::kind::Kind;
use super::path::is_char;
use super::section::{Section, TypeId};
use super::types::Member;
use crate::layout::bits::BitShift;
use crate::layout::shape::{MAX_ELEMENTS, MemberShape, ValueShape};

/// The greatest nesting of structs and arrays that is described; what is deeper is bytes.
const DEPTH: u32 = 8;
/// The most members of one shape: as many as no struct of a system call has. What has more is
/// bytes.
const MEMBERS: usize = 1024;

/// Why a name has no shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoShape {
    /// No struct or union has this name.
    None,
    /// Several have, and differ.
    Several,
}

impl Object {
    /// Returns the shape of the struct or union that a declaration names so: `struct stat`,
    /// `union bpf_attr`, `sigset_t`.
    pub(crate) fn shape_named(&self, base_type: &str) -> Result<ValueShape, NoShape> {
        let section = self.section();
        let (kind, name) = match base_type.split_once(' ') {
            Some(("struct", name)) => (Kind::Struct, name),
            Some(("union", name)) => (Kind::Union, name),
            Some(_) => return Err(NoShape::None),
            None => (Kind::Typedef, base_type),
        };
        let named = (1..section.end_id()).filter(|id| {
            let ty = section.type_by_id(*id);
            ty.is_some_and(|ty| ty.kind == kind && ty.name() == name.as_bytes())
        });
        let mut found = None;
        for id in named {
            let Some((id, ty)) = section.resolve(id) else {
                continue;
            };
            if !matches!(ty.kind, Kind::Struct | Kind::Union) {
                return Err(NoShape::None);
            }
            let mut left = MEMBERS;
            let shape = match ty.kind == Kind::Struct && ty.name() == b"sockaddr" {
                true => ValueShape::SocketAddress,
                false => shape(section, id, DEPTH, &mut left).ok_or(NoShape::None)?,
            };
            match &found {
                None => found = Some(shape),
                Some(known) if *known == shape => {}
                Some(_) => return Err(NoShape::Several),
            }
        }
        found.filter(|shape| shape.size() > 0).ok_or(NoShape::None)
    }
}

/// Returns `None` for a type without a size.
fn shape(section: &Section, id: TypeId, depth: u32, left: &mut usize) -> Option<ValueShape> {
    let size = section.size_of(id)?;
    let bytes = ValueShape::Bytes { size };
    let Some(depth) = depth.checked_sub(1) else {
        return Some(bytes);
    };
    let (id, ty) = section.resolve(id)?;
    Some(match ty.kind {
        Kind::Int | Kind::Enum | Kind::Enum64 if matches!(size, 1 | 2 | 4 | 8) => {
            ValueShape::Integer {
                size,
                signed: is_signed(&ty),
                bits: None,
            }
        }
        Kind::Ptr => ValueShape::Pointer { size },
        Kind::Array => {
            let (element, count) = ty.array()?;
            if is_char(section, element) {
                return Some(ValueShape::Text { size });
            }
            match shape(section, element, depth, left)? {
                element if element.size() > 0 && count <= MAX_ELEMENTS => ValueShape::Array {
                    element: Box::new(element),
                    count,
                },
                _ => bytes,
            }
        }
        Kind::Struct | Kind::Union => {
            let mut members = Vec::new();
            match add_members(section, id, (0, depth), left, &mut members) {
                Some(()) => ValueShape::Record { size, members },
                None => bytes,
            }
        }
        _ => bytes,
    })
}

/// Adds the members of a struct that is at an offset in bytes; `None` if there are too many.
fn add_members(
    section: &Section,
    id: TypeId,
    (at, depth): (u32, u32),
    left: &mut usize,
    members: &mut Vec<MemberShape>,
) -> Option<()> {
    let ty = section.type_by_id(id)?;
    for member in ty.members() {
        *left = left.checked_sub(1)?;
        let offset = at.checked_add(member.bit_offset / 8)?;
        let (inner, inner_type) = section.resolve(member.type_id)?;
        if member.name().is_empty() {
            // Padding, if it is not a struct.
            if matches!(inner_type.kind, Kind::Struct | Kind::Union) {
                let place = (offset, depth.checked_sub(1)?);
                add_members(section, inner, place, left, members)?;
            }
            continue;
        }
        let (offset, shape) = match member.bitfield_size {
            0 => (offset, shape(section, member.type_id, depth, left)?),
            _ => {
                let (word, shape) = bitfield(section, &member, is_signed(&inner_type))?;
                (at.checked_add(word)?, shape)
            }
        };
        // An array without a length adds nothing to the struct.
        if shape.size() > 0 {
            members.push(MemberShape {
                name: String::from_utf8_lossy(member.name()).into_owned(),
                offset,
                shape,
            });
        }
    }
    Some(())
}

/// Returns where a bitfield's word is, and how the bits are taken out of it. The word is that of
/// the type it was declared with, which is aligned.
fn bitfield(section: &Section, member: &Member<'_>, signed: bool) -> Option<(u32, ValueShape)> {
    let size = section.size_of(member.type_id)?;
    let word = 8 * size.clamp(1, 8);
    let (first, width) = (member.bit_offset % word, member.bitfield_size);
    let is_inside = matches!(size, 1 | 2 | 4 | 8) && first + width <= word;
    is_inside.then(|| {
        let shape = ValueShape::Integer {
            size,
            signed,
            bits: Some(BitShift::new(size, signed, first, width)),
        };
        ((member.bit_offset - first) / 8, shape)
    })
}

fn is_signed(ty: &super::Type<'_>) -> bool {
    match ty.kind {
        Kind::Int => ty.is_signed_int(),
        _ => ty.flag(),
    }
}
