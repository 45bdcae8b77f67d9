//! The path that a CO-RE relocation names, from a type to a field in it, in the
//! object's own types and in a kernel's.

use super::core_match::{MAX_MATCHED, TypeMatch};
use super::core_types::{
    KernelType, MAX_COMPARED, are_fields_compatible, are_types_compatible, essential, is_composite,
};
use super::elf::CoreRecord;
use super::relocate::CoreKind;
use crate::btf::{Section, TypeId};

/// A step from a type to one of its parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accessor<'a> {
    /// The struct or union, or the element's type.
    pub(super) type_id: TypeId,
    pub(super) index: u32,
    /// The name of a member; `None` for an element.
    pub(super) name: Option<&'a [u8]>,
}

/// The field that a relocation names, in the object's own types or a kernel's.
pub(super) struct CoreSpec<'a> {
    pub(super) section: &'a Section,
    pub(super) root: TypeId,
    pub(super) accessors: Vec<Accessor<'a>>,
    pub(super) bit_offset: u64,
    /// The number of members that may still be examined.
    left: u32,
}

impl<'a> CoreSpec<'a> {
    /// Returns the field that a relocation names in the object's own types.
    pub(super) fn parse(section: &'a Section, record: &CoreRecord, kind: CoreKind) -> Option<Self> {
        let mut spec = Self {
            section,
            root: record.type_id,
            accessors: Vec::new(),
            bit_offset: 0,
            left: MAX_STEPS,
        };
        let mut indices = Vec::new();
        for index in record.access.split(':') {
            indices.push(index.parse::<u32>().ok()?);
        }
        if indices.len() > MAX_ACCESSORS {
            return None;
        }
        if !kind.is_field() && !kind.is_enumerator() {
            return Some(spec);
        }
        let (mut id, ty) = section.resolve(record.type_id)?;
        let (first, rest) = indices.split_first()?;
        if kind.is_enumerator() {
            let (name, _) = ty.values().nth(*first as usize)?;
            spec.accessors.push(Accessor {
                type_id: id,
                index: *first,
                name: Some(name),
            });
            return Some(spec);
        }
        spec.push_element(id, *first)?;
        for &index in rest {
            let (resolved, ty) = section.resolve(id)?;
            if is_composite(ty.kind) {
                let member = ty.members().nth(index as usize)?;
                spec.bit_offset = spec.bit_offset.checked_add(u64::from(member.bit_offset))?;
                if !member.name().is_empty() {
                    spec.accessors.push(Accessor {
                        type_id: resolved,
                        index,
                        name: Some(member.name()),
                    });
                }
                id = member.type_id;
            } else {
                let (element, length) = ty.array()?;
                let is_flexible = length == 0 || spec.is_last_member();
                if index >= length && !is_flexible {
                    return None;
                }
                let (element, _) = section.resolve(element)?;
                spec.push_element(element, index)?;
                id = element;
            }
        }
        Some(spec)
    }

    fn push_element(&mut self, type_id: TypeId, index: u32) -> Option<()> {
        let size = u64::from(self.section.size_of(type_id)?);
        let bits = size.checked_mul(u64::from(index))?.checked_mul(8)?;
        self.bit_offset = self.bit_offset.checked_add(bits)?;
        self.accessors.push(Accessor {
            type_id,
            index,
            name: None,
        });
        Some(())
    }

    /// Whether the array is the last member of its struct, and so may have any length.
    /// libbpf does not assume that of an array with a length above 1.
    fn is_last_member(&self) -> bool {
        let last = self.accessors.last();
        last.and_then(|last| {
            last.name?;
            let ty = self.section.type_by_id(last.type_id)?;
            let member = ty.members().nth(last.index as usize)?;
            let (_, array) = self.section.resolve(member.type_id)?;
            let (_, length) = array.array()?;
            Some(length <= 1 && last.index as usize + 1 == ty.members().len())
        })
        .unwrap_or(false)
    }

    /// Finds the same field in a kernel's type: `Some(None)` if the type lacks it,
    /// `None` if types are nested too deeply.
    pub(super) fn in_kernel(
        &self,
        candidate: KernelType<'a>,
        kind: CoreKind,
    ) -> Option<Option<CoreSpec<'a>>> {
        let section = candidate.object.section();
        let mut found = CoreSpec {
            section,
            root: candidate.id,
            accessors: Vec::new(),
            bit_offset: 0,
            left: MAX_STEPS,
        };
        if !kind.is_field() && !kind.is_enumerator() {
            let local = (self.section, self.root);
            let is_alike = match kind {
                CoreKind::TypeMatches => {
                    let mut both = TypeMatch {
                        local: self.section,
                        target: section,
                        left: MAX_MATCHED,
                    };
                    both.matches(self.root, candidate.id)?
                }
                _ => {
                    let mut left = MAX_COMPARED;
                    are_types_compatible(local, (section, candidate.id), &mut left)?
                }
            };
            return Some(is_alike.then_some(found));
        }
        if kind.is_enumerator() {
            return Some(self.enumerator_in(found));
        }
        let Some((mut id, _)) = section.resolve(candidate.id) else {
            return Some(None);
        };
        for (index, accessor) in self.accessors.iter().enumerate() {
            match accessor.name {
                Some(name) => match found.match_member(self, accessor, name, id, 0)? {
                    Some(next) => id = next,
                    None => return Some(None),
                },
                None => {
                    if index > 0 {
                        let array = section.resolve(id).and_then(|(_, ty)| ty.array());
                        let Some((element, length)) = array else {
                            return Some(None);
                        };
                        let is_flexible = length == 0 || found.is_last_member();
                        if accessor.index >= length && !is_flexible {
                            return Some(None);
                        }
                        id = section.resolve(element)?.0;
                    }
                    found.push_element(id, accessor.index)?;
                }
            }
        }
        Some(Some(found))
    }

    /// Follows the path to the member of this name, in a type or in the anonymous
    /// structs and unions in it.
    fn match_member(
        &mut self,
        local: &CoreSpec<'_>,
        accessor: &Accessor<'_>,
        name: &'a [u8],
        id: TypeId,
        depth: usize,
    ) -> Option<Option<TypeId>> {
        if depth > MAX_ACCESSORS {
            return None;
        }
        let Some((id, ty)) = self.section.resolve(id) else {
            return Some(None);
        };
        let local_type = local.section.type_by_id(accessor.type_id)?;
        let local_member = local_type.members().nth(accessor.index as usize)?;
        for (index, member) in ty.members().enumerate() {
            self.left = self.left.checked_sub(1)?;
            let bits = u64::from(member.bit_offset);
            if member.name().is_empty() {
                self.bit_offset = self.bit_offset.checked_add(bits)?;
                let next = self.match_member(local, accessor, name, member.type_id, depth + 1)?;
                if next.is_some() {
                    return Some(next);
                }
                self.bit_offset -= bits;
            } else if member.name() == name {
                let is_alike = are_fields_compatible(
                    (local.section, local_member.type_id),
                    (self.section, member.type_id),
                )?;
                if !is_alike {
                    return Some(None);
                }
                self.bit_offset = self.bit_offset.checked_add(bits)?;
                self.accessors.push(Accessor {
                    type_id: id,
                    index: index as u32,
                    name: Some(name),
                });
                return Some(Some(member.type_id));
            }
        }
        Some(None)
    }

    fn enumerator_in(&self, mut found: CoreSpec<'a>) -> Option<CoreSpec<'a>> {
        let wanted = essential(self.accessors.first()?.name?);
        let (id, ty) = found.section.resolve(found.root)?;
        let mut values = ty.values().enumerate();
        let (index, (name, _)) = values.find(|(_, (name, _))| essential(name) == wanted)?;
        found.accessors.push(Accessor {
            type_id: id,
            index: index as u32,
            name: Some(name),
        });
        Some(found)
    }
}

/// The most steps of an access string, as in libbpf.
const MAX_ACCESSORS: usize = 64;

/// The most members that are examined for one field: structs without a name may contain
/// each other.
pub(super) const MAX_STEPS: u32 = 1 << 16;
