//! Types of system calls' arguments that only the kernel's headers define.

use std::collections::HashMap;

use crate::btf::{Object, TypeId};
use crate::format::ArgumentType;
use crate::layout::ctype::CType;

/// Limit on names, far above the number of typedefs and enums of any kernel.
const MAX_NAMES: usize = 1 << 20;

/// The typedefs and enums of an object by name, with `enum name` for an enum. The first of
/// several with one name counts.
#[derive(Debug)]
pub(super) struct NamedTypes(HashMap<Box<str>, TypeId>);

impl NamedTypes {
    /// Reads the types; `None` if there are more than any kernel has.
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

    /// Returns the size and sign of an integer or enum of this name.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::known_argument_type;

    /// The sizes and signs that names tell are those in kernels' BTF.
    #[test]
    fn names_tell_what_btf_says() {
        let mut files = vec![std::path::PathBuf::from("/sys/kernel/btf/vmlinux")];
        if let Some(corpus) = std::env::var_os("TRACEPOINTS_CORPUS") {
            let kernels = std::fs::read_dir(corpus).expect("the corpus");
            files
                .extend(kernels.map(|kernel| kernel.expect("a kernel").path().join("btf/vmlinux")));
        }
        let mut compared = 0;
        for file in files {
            let Ok(bytes) = std::fs::read(&file) else {
                continue;
            };
            let object = Object::parse("vmlinux".to_owned(), bytes, None).expect("sound BTF");
            let types = NamedTypes::of(&object).expect("not too many");
            // `s8` is left out, which is unsigned in BTF of Linux 5.10.
            for name in [
                "u8",
                "__u8",
                "s16",
                "__s16",
                "u16",
                "__u16",
                "umode_t",
                "s32",
                "__s32",
                "u32",
                "__u32",
                "pid_t",
                "clockid_t",
                "timer_t",
                "mqd_t",
                "key_t",
                "key_serial_t",
                "rwf_t",
                "uint",
                "uid_t",
                "gid_t",
                "qid_t",
            ] {
                // Compilers omit typedefs that nothing uses.
                let Some(said) = types.integer(&object, name) else {
                    continue;
                };
                let known = known_argument_type(name);
                assert_eq!(known, Some(said), "{name} in {}", file.display());
                compared += 1;
            }
            for (name, expected) in [
                ("old_uid_t", true),
                ("file", false),
                ("enum pid_type", true),
            ] {
                if types.0.contains_key(name) {
                    assert_eq!(types.integer(&object, name).is_some(), expected, "{name}");
                }
            }
        }
        if compared == 0 {
            eprintln!("SKIPPED names_tell_what_btf_says: no kernel's BTF is at hand");
        }
    }
}
