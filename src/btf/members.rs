//! Finds members of structs by name, those of nested anonymous structs included.

use super::section::{Section, TypeId};

/// The greatest nesting of anonymous structs and unions that is searched, as deep as the
/// kernel nests them.
const NESTED: u32 = 4;

/// A member of a struct, or of an anonymous one in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoundMember {
    /// From the start of the outermost struct, in bits.
    pub(crate) bit_offset: u32,
    /// In bits; 0 for a member that is not a bitfield.
    pub(crate) bitfield_size: u32,
    pub(crate) type_id: TypeId,
}

impl Section {
    /// Returns the offset in bytes and the type of a struct's member, which may be in a
    /// nested anonymous struct or union.
    pub(crate) fn member(&self, struct_id: TypeId, name: &[u8]) -> Option<(u32, TypeId)> {
        let found = self.member_bits(struct_id, name)?;
        Some((found.bit_offset / 8, found.type_id))
    }

    /// Returns the place in bits, and the type, of a struct's member, which may be in a
    /// nested anonymous struct or union.
    pub(crate) fn member_bits(&self, struct_id: TypeId, name: &[u8]) -> Option<FoundMember> {
        self.member_within(struct_id, name, NESTED)
    }

    fn member_within(&self, id: TypeId, name: &[u8], depth: u32) -> Option<FoundMember> {
        let ty = self.type_by_id(id)?;
        if let Some(member) = ty.members().find(|member| member.name() == name) {
            return Some(FoundMember {
                bit_offset: member.bit_offset,
                bitfield_size: member.bitfield_size,
                type_id: member.type_id,
            });
        }
        let depth = depth.checked_sub(1)?;
        let mut nested = ty.members().filter(|member| member.name().is_empty());
        nested.find_map(|outer| {
            let (inner, _) = self.resolve(outer.type_id)?;
            let found = self.member_within(inner, name, depth)?;
            let bit_offset = outer.bit_offset.checked_add(found.bit_offset)?;
            Some(FoundMember {
                bit_offset,
                ..found
            })
        })
    }

    /// Returns the names that [`member_bits`](Self::member_bits) finds: those of a struct
    /// in order, before those of anonymous structs in it.
    pub(crate) fn member_names(&self, struct_id: TypeId) -> Vec<String> {
        /// Far more than any struct of the kernel has.
        const MOST: usize = 4096;
        let mut names = Vec::new();
        let mut waiting = vec![(struct_id, NESTED)];
        while let Some((id, depth)) = waiting.pop() {
            let Some(ty) = self.type_by_id(id) else {
                continue;
            };
            for member in ty.members() {
                if names.len() + waiting.len() >= MOST {
                    return names;
                }
                match (member.name(), depth.checked_sub(1)) {
                    (b"", Some(depth)) => {
                        let inner = self.resolve(member.type_id);
                        waiting.extend(inner.map(|(inner, _)| (inner, depth)));
                    }
                    (b"", None) => {}
                    (name, _) => names.push(String::from_utf8_lossy(name).into_owned()),
                }
            }
        }
        names
    }
}
