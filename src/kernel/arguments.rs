//! Types of system calls' arguments that only the kernel's headers define.

use std::collections::HashMap;

use crate::btf::{Object, TypeId};
use crate::format::ArgumentType;
use crate::layout::ctype::CType;

/// More names than any kernel's typedefs and enums have, by far.
const MAX_NAMES: usize = 1 << 20;

/// The typedefs and enums of an object, by name: an enum's is `enum name`. Of several
/// of one name the first; it is `None` if there are more than any kernel has.
#[derive(Debug)]
pub(super) struct NamedTypes(HashMap<Box<str>, TypeId>);

impl NamedTypes {
    pub(super) fn of(object: &Object) -> Option<Self> {
        let section = object.section();
        let mut types = HashMap::new();
        for id in 1..section.end_id() {
            let Some(ty) = section.type_by_id(id) else {
                continue;
            };
            let is_enum = ty.is_enum();
            if !is_enum && !ty.is_typedef() {
                continue;
            }
            let name = match str::from_utf8(ty.name()) {
                Ok("") | Err(_) => continue,
                Ok(name) if is_enum => format!("enum {name}"),
                Ok(name) => name.to_owned(),
            };
            if types.len() == MAX_NAMES {
                return None;
            }
            types.entry(name.into()).or_insert(id);
        }
        Some(Self(types))
    }

    /// The size and sign of an integer or enum of this name.
    pub(super) fn integer(&self, object: &Object, name: &str) -> Option<ArgumentType> {
        let id = *self.0.get(name)?;
        match *object.c_type(id).ok()?.resolved() {
            CType::Int { size, signed, .. } | CType::Enum { size, signed, .. } => {
                matches!(size, 1 | 2 | 4 | 8).then_some((size, signed))
            }
            _ => None,
        }
    }
}
