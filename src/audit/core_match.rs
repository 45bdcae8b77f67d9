//! Whether a type of a program matches one of a kernel, as `bpf_core_type_matches` asks.

use crate::btf::{Kind, Section, Type, TypeId};

use super::core_types::{are_kinds_compatible, essential};

/// How deep types are followed: libbpf's own limit.
const MAX_LEVEL: usize = 32;

/// How many types and names are compared for one answer.
pub(super) const MAX_MATCHED: u32 = 1 << 16;

/// One comparison of a program's types with a kernel's, by the rules of
/// `__bpf_core_types_match()` of libbpf 1.0 and later (`relo_core.c`).
///
/// It compares the names and signs of integers too: clang's `unsigned long` does not match
/// the `long unsigned int` of a kernel that gcc built, nor a `char` one from Linux 6.2 on.
pub(super) struct TypeMatch<'a> {
    pub(super) local: &'a Section,
    pub(super) target: &'a Section,
    /// How many types may still be compared.
    pub(super) left: u32,
}

impl TypeMatch<'_> {
    /// Whether the kernel's type has all that the program's has: members by name and type,
    /// enumerators by name, integers of the same size and sign. `None` where the types
    /// are nested too deep, or too many.
    pub(super) fn matches(&mut self, local: TypeId, target: TypeId) -> Option<bool> {
        self.types(local, target, false, MAX_LEVEL)
    }

    fn types(
        &mut self,
        mut local_id: TypeId,
        mut target_id: TypeId,
        mut is_behind_pointer: bool,
        level: usize,
    ) -> Option<bool> {
        let level = level.checked_sub(1)?;
        for _ in 0..MAX_LEVEL {
            self.left = self.left.checked_sub(1)?;
            let (local, target) = match (
                resolve(self.local, local_id)?,
                resolve(self.target, target_id)?,
            ) {
                (None, None) => return Some(true),
                (Some(local), Some(target)) => (local, target),
                _ => return Some(false),
            };
            if !are_names_alike(local.name(), target.name()) {
                return Some(false);
            }
            if local.is_of_unknown_kind() || target.is_of_unknown_kind() {
                return None;
            }
            match local.kind {
                Kind::Fwd | Kind::Struct | Kind::Union if is_behind_pointer => {
                    return Some(are_behind_pointers_alike(&local, &target));
                }
                _ if !are_kinds_compatible(local.kind, target.kind) => return Some(false),
                Kind::Fwd => return Some(local.flag() == target.flag()),
                Kind::Struct | Kind::Union => return self.members(&local, &target, level),
                Kind::Enum | Kind::Enum64 => return self.enumerators(&local, &target),
                Kind::Int => {
                    let is_alike = local.size() == target.size()
                        && local.is_signed_int() == target.is_signed_int();
                    return Some(is_alike);
                }
                Kind::Ptr => {
                    is_behind_pointer = true;
                    (local_id, target_id) = (local.target()?, target.target()?);
                }
                Kind::Array => {
                    let (of_local, of_target) = (local.array()?, target.array()?);
                    if of_local.1 != of_target.1 {
                        return Some(false);
                    }
                    (local_id, target_id) = (of_local.0, of_target.0);
                }
                Kind::FuncProto => {
                    let (of_local, of_target) = (local.parameters(), target.parameters());
                    if of_local.len() != of_target.len() {
                        return Some(false);
                    }
                    for (a, b) in of_local.zip(of_target) {
                        if !self.types(a.type_id, b.type_id, is_behind_pointer, level)? {
                            return Some(false);
                        }
                    }
                    (local_id, target_id) = (local.target()?, target.target()?);
                }
                _ => return Some(false),
            }
        }
        None
    }

    /// Whether each member of the program's has one of its name and type.
    fn members(&mut self, local: &Type<'_>, target: &Type<'_>, level: usize) -> Option<bool> {
        if local.members().len() > target.members().len() {
            return Some(false);
        }
        for wanted in local.members() {
            let mut is_there = false;
            for member in target.members() {
                self.left = self.left.checked_sub(1)?;
                is_there = are_names_alike(wanted.name(), member.name())
                    && self.types(wanted.type_id, member.type_id, false, level)?;
                if is_there {
                    break;
                }
            }
            if !is_there {
                return Some(false);
            }
        }
        Some(true)
    }

    fn enumerators(&mut self, local: &Type<'_>, target: &Type<'_>) -> Option<bool> {
        if local.size() != target.size() || local.values().len() > target.values().len() {
            return Some(false);
        }
        for (wanted, _) in local.values() {
            self.left = self.left.checked_sub(1)?;
            if !target
                .values()
                .any(|(name, _)| are_names_alike(wanted, name))
            {
                return Some(false);
            }
        }
        Some(true)
    }
}

/// Returns the type behind typedefs and qualifiers; `None` inside for `void`, and `None`
/// where the chain of them does not end.
fn resolve(section: &Section, id: TypeId) -> Option<Option<Type<'_>>> {
    match section.resolve(id) {
        Some((_, ty)) => Some(Some(ty)),
        None => section.is_void(id).then_some(None),
    }
}

/// Behind a pointer, only kind and name are compared, and a forward declaration is as good
/// as the struct or union that it declares.
fn are_behind_pointers_alike(local: &Type<'_>, target: &Type<'_>) -> bool {
    let is_union = |ty: &Type<'_>| match ty.kind {
        Kind::Fwd => Some(ty.flag()),
        Kind::Struct => Some(false),
        Kind::Union => Some(true),
        _ => None,
    };
    is_union(local) == is_union(target)
}

/// Whether the names are the same without their flavours.
fn are_names_alike(local: &[u8], target: &[u8]) -> bool {
    match target.is_empty() {
        true => local.is_empty(),
        false => essential(local) == essential(target),
    }
}
