//! The object's own structs: the source's idea of the context.

use crate::btf::{Kind, Section, TypeId};

/// The types of an object, if it has any.
#[derive(Clone, Copy)]
pub(super) struct OwnStruct<'a>(pub(super) Option<&'a Section>);

/// A member of one of the object's own structs.
#[derive(Clone, Debug)]
pub(super) struct OwnMember {
    pub(super) name: String,
    /// In bytes from the struct's start.
    pub(super) offset: u32,
    pub(super) size: u32,
    /// Whether it is signed; `None` if it is not one value.
    pub(super) signed: Option<bool>,
    pub(super) is_bitfield: bool,
}

/// The most members of one struct, more than any context has.
const MAX_MEMBERS: usize = 512;

impl OwnStruct<'_> {
    /// Returns the struct's name.
    pub(super) fn name(&self, id: TypeId) -> Option<String> {
        let name = self.0?.type_by_id(id)?.name();
        (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
    }

    /// Returns the members that these bytes overlap, in order, including members of
    /// anonymous structs.
    pub(super) fn members(&self, id: TypeId, offset: i64, size: u32) -> Vec<OwnMember> {
        let mut all = Vec::new();
        if let Some(section) = self.0 {
            add_members(section, id, 0, 0, &mut all);
        }
        let end = offset.saturating_add(i64::from(size.max(1)));
        all.retain(|member| {
            let start = i64::from(member.offset);
            start < end && start + i64::from(member.size) > offset
        });
        all
    }
}

fn add_members(section: &Section, id: TypeId, outer: u32, depth: u32, all: &mut Vec<OwnMember>) {
    let Some((_, ty)) = section.resolve(id) else {
        return;
    };
    for member in ty.members() {
        if all.len() >= MAX_MEMBERS {
            return;
        }
        let offset = outer.saturating_add(member.bit_offset / 8);
        let Some((type_id, member_type)) = section.resolve(member.type_id) else {
            continue;
        };
        let is_composite = matches!(member_type.kind, Kind::Struct | Kind::Union);
        if member.name().is_empty() && is_composite {
            if depth < 8 {
                add_members(section, type_id, offset, depth + 1, all);
            }
            continue;
        }
        let signed = match member_type.kind {
            Kind::Int => Some(member_type.is_signed_int()),
            _ => None,
        };
        all.push(OwnMember {
            name: String::from_utf8_lossy(member.name()).into_owned(),
            offset,
            size: match member.bitfield_size {
                0 => section.size_of(type_id).unwrap_or(0),
                bits => (member.bit_offset % 8 + bits).div_ceil(8),
            },
            signed,
            is_bitfield: member.bitfield_size != 0,
        });
    }
}
