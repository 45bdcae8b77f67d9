//! BTF objects of a kernel: vmlinux and its modules. Bytes in, values out.
//!
//! `section` checks an object in one pass (every type and every name lies inside it), and
//! then reads it in place: BTF is untrusted input, and root reads it. `index` keeps what
//! that pass finds about tracepoints; `describe` makes C types of it on demand.
//!
//! This module does not use another crate's reader. To describe one struct, `btf-rs`
//! needed the object copied into a file it could map, and one pass over all types for each
//! name, which took half the time of `format ONE`. Tests compare this reader with `btf-rs`
//! on every type of every captured kernel, some million types, with names, members,
//! parameters and values.

mod bytes;
mod compatible;
mod describe;
mod error;
mod index;
mod kind;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod members;
mod memory;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod path;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod path_error;
mod prototype;
mod relocate;
mod section;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod shape;
mod types;

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

pub(crate) use bytes::Bytes;
pub(crate) use compatible::{EnumRule, IntegerWords, are_compatible};
pub use error::BtfError;
pub(crate) use index::{Class, STRUCT_PREFIX};
pub(crate) use kind::Kind;
pub use memory::Btf;
#[cfg(all(feature = "probe", target_os = "linux"))]
pub(crate) use path::{ArgumentPath, Leaf};
#[cfg(all(feature = "probe", target_os = "linux"))]
pub use path_error::PathError;
pub(crate) use section::{Section, TypeId, byte_order};
#[cfg(all(feature = "probe", target_os = "linux"))]
pub(crate) use shape::NoShape;
pub(crate) use types::{Member, Type};

use crate::layout::Layout;
use crate::layout::ctype::CType;
use describe::Description;
use index::{Collector, Index};

/// An argument of a tracepoint: its name, if BTF has it, and its type.
pub(crate) type Argument = (Option<String>, CType);

/// vmlinux or one module: its types, and an index of its tracepoints.
pub(crate) struct Object {
    name: String,
    section: Arc<Section>,
    index: Index,
    base: Option<Arc<Object>>,
    functions: OnceLock<HashSet<Box<[u8]>>>,
}

impl Object {
    /// Reads an object. A module needs vmlinux as its base.
    pub(crate) fn parse(
        name: String,
        bytes: impl Into<Bytes>,
        base: Option<Arc<Object>>,
    ) -> Result<Self, BtfError> {
        let mut found = Collector::default();
        let base_section = base.as_ref().map(|base| Arc::clone(&base.section));
        let section = Section::parse(bytes.into(), base_section, |section, id, kind, name| {
            found.visit(section, id, kind, name);
        })?;
        Ok(Self {
            index: found.finish(&section, base.as_deref().map(|base| &base.index))?,
            section: Arc::new(section),
            name,
            base,
            functions: OnceLock::new(),
        })
    }

    /// Whether the object has a function of this name. The first call reads all names,
    /// which takes some milliseconds.
    pub(crate) fn has_function(&self, name: &str) -> bool {
        let functions = self.functions.get_or_init(|| {
            let section = &self.section;
            let types = section.own_ids().filter_map(|id| section.type_by_id(id));
            let functions = types.filter(|ty| ty.kind == Kind::Func);
            functions.map(|ty| ty.name().into()).collect()
        });
        functions.contains(name.as_bytes())
    }

    /// Returns `vmlinux`, or the module's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns vmlinux for a module; `None` for vmlinux itself.
    pub(crate) fn base(&self) -> Option<&Arc<Object>> {
        self.base.as_ref()
    }

    pub(crate) fn section(&self) -> &Section {
        &self.section
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Returns the layout of a struct of this object, each member with its C type.
    pub(crate) fn layout(&self, struct_id: TypeId) -> Result<Layout, BtfError> {
        Description::of(&self.section).layout(struct_id)
    }

    /// Returns a type of this object as a value.
    pub(crate) fn c_type(&self, id: TypeId) -> Result<CType, BtfError> {
        Description::of(&self.section).c_type(id)
    }

    /// Returns the arguments of a tracepoint this object defines, with their names if BTF
    /// has them; `None` if it does not define the tracepoint.
    pub(crate) fn arguments(&self, event: &str) -> Result<Option<Vec<Argument>>, BtfError> {
        let Some(typedef) = self.index.event_typedef(event) else {
            return Ok(None);
        };
        let objects = std::iter::once(self).chain(self.base.as_deref());
        let named_by =
            objects.flat_map(|object| object.index.argument_functions(&object.section, event));
        let description = Description::of(&self.section);
        description.arguments(event, typedef, named_by).map(Some)
    }
}

impl std::fmt::Debug for Object {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Object")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use btf_rs::{Btf, BtfType};
    use proptest::prelude::*;

    use super::kind::Kind;
    use super::*;

    /// The kernels of `tests/fixtures` and, if there is one, of the corpus.
    fn kernels() -> Vec<PathBuf> {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let corpus = std::env::var_os("TRACEPOINTS_CORPUS").map(PathBuf::from);
        let mut kernels = Vec::new();
        for dir in [Some(fixtures), corpus].into_iter().flatten() {
            for entry in dir.read_dir().expect("a directory") {
                kernels.push(entry.expect("an entry").path());
            }
        }
        kernels.retain(|kernel| kernel.join("btf/vmlinux").exists());
        assert!(kernels.len() >= 5);
        kernels
    }

    fn object(kernel: &Path, name: &str, base: Option<&Arc<Object>>) -> Arc<Object> {
        let bytes = fs::read(kernel.join("btf").join(name)).expect("an object");
        let object = Object::parse(name.to_owned(), bytes, base.cloned());
        Arc::new(object.unwrap_or_else(|error| panic!("{}: {name}: {error}", kernel.display())))
    }

    /// The answers of both readers about a type, in one form.
    #[derive(Debug, PartialEq, Eq)]
    struct Said {
        kind: &'static str,
        name: String,
        size: Option<u32>,
        target: Option<u32>,
        length: Option<usize>,
        /// Name, type, bit offset and bitfield size.
        members: Vec<(String, u32, u32, u32)>,
        /// Name and type.
        parameters: Vec<(String, u32)>,
        values: Vec<(String, i128)>,
        /// For an int or enum, whether it is signed; for a forward declaration, whether it
        /// is a union's.
        flag: bool,
    }

    fn text(name: &[u8]) -> String {
        String::from_utf8_lossy(name).into_owned()
    }

    fn said_by_section(section: &Section, id: TypeId) -> Said {
        let ty = section.type_by_id(id).expect("a type");
        let (kind, has_size) = match ty.kind {
            Kind::Int => ("int", true),
            Kind::Ptr => ("ptr", false),
            Kind::Array => ("array", false),
            Kind::Struct => ("struct", true),
            Kind::Union => ("union", true),
            Kind::Enum => ("enum", true),
            Kind::Fwd => ("fwd", false),
            Kind::Typedef => ("typedef", false),
            Kind::Volatile => ("volatile", false),
            Kind::Const => ("const", false),
            Kind::Restrict => ("restrict", false),
            Kind::Func => ("func", false),
            Kind::FuncProto => ("func-proto", false),
            Kind::Var => ("var", false),
            Kind::Datasec => ("datasec", true),
            Kind::Float => ("float", true),
            Kind::DeclTag => ("decl-tag", false),
            Kind::TypeTag => ("type-tag", false),
            Kind::Enum64 => ("enum64", true),
            Kind::Unknown => ("unknown", false),
        };
        Said {
            kind,
            name: text(ty.name()),
            size: has_size.then_some(ty.size()),
            target: ty.target().or(ty.array().map(|(element, _)| element)),
            length: ty.array().map(|(_, length)| length as usize),
            members: ty
                .members()
                .map(|member| {
                    (
                        text(member.name()),
                        member.type_id,
                        member.bit_offset,
                        member.bitfield_size,
                    )
                })
                .collect(),
            parameters: ty
                .parameters()
                .map(|parameter| (text(parameter.name()), parameter.type_id))
                .collect(),
            values: ty
                .values()
                .map(|(name, value)| (text(name), value))
                .collect(),
            flag: match ty.kind {
                Kind::Int => ty.is_signed_int(),
                Kind::Enum | Kind::Enum64 | Kind::Fwd => ty.flag(),
                _ => false,
            },
        }
    }

    fn said_by_btf_rs(btf: &Btf, id: TypeId) -> Said {
        use btf_rs::Type::*;
        let ty = btf.resolve_type_by_id(id).expect("a type");
        let name = |ty: &dyn BtfType| btf.resolve_name(ty).unwrap_or_default();
        let mut said = Said {
            kind: ty.name(),
            name: ty.as_btf_type().map(name).unwrap_or_default(),
            size: None,
            target: ty.as_btf_type().and_then(BtfType::get_type_id),
            length: None,
            members: Vec::new(),
            parameters: Vec::new(),
            values: Vec::new(),
            flag: match &ty {
                Int(ty) => ty.is_signed(),
                Enum(ty) => ty.is_signed(),
                Enum64(ty) => ty.is_signed(),
                Fwd(ty) => ty.is_union(),
                _ => false,
            },
        };
        let size = match &ty {
            Int(ty) => Some(ty.size()),
            Struct(ty) | Union(ty) => Some(ty.size()),
            Enum(ty) => Some(ty.size()),
            Enum64(ty) => Some(ty.size()),
            Float(ty) => Some(ty.size()),
            Datasec(ty) => Some(ty.size()),
            _ => None,
        };
        said.size = size.map(|size| size as u32);
        match &ty {
            Array(ty) => said.length = Some(ty.len()),
            FuncProto(ty) => {
                said.target = Some(ty.return_type_id());
                let parameters = ty.parameters.iter();
                said.parameters = parameters
                    .map(|parameter| (name(parameter), parameter.get_type_id().unwrap_or(0)))
                    .collect();
            }
            Enum(ty) => {
                let value = |value: u32| match said.flag {
                    true => i128::from(value as i32),
                    false => i128::from(value),
                };
                let values = ty.members.iter();
                said.values = values
                    .map(|member| (name(member), value(member.val())))
                    .collect();
            }
            Enum64(ty) => {
                let value = |value: u64| match said.flag {
                    true => i128::from(value as i64),
                    false => i128::from(value),
                };
                let values = ty.members.iter();
                said.values = values
                    .map(|member| (name(member), value(member.val())))
                    .collect();
            }
            Struct(ty) | Union(ty) => {
                let members = ty.members.iter().map(|member| {
                    let type_id = member.get_type_id().unwrap_or_default();
                    let bits = member.bitfield_size().unwrap_or_default();
                    (name(member), type_id, member.bit_offset(), bits)
                });
                said.members = members.collect();
            }
            _ => {}
        }
        said
    }

    /// This crate's reader and `btf-rs` agree on every type.
    #[test]
    fn both_readers_agree_on_every_type() {
        for kernel in kernels() {
            let vmlinux = object(&kernel, "vmlinux", None);
            let base = Btf::from_bytes(vmlinux.section().bytes()).expect("btf-rs takes it");
            let mut types = 0;
            for id in 1..vmlinux.section().end_id() {
                assert_eq!(
                    said_by_section(vmlinux.section(), id),
                    said_by_btf_rs(&base, id)
                );
                types += 1;
            }
            let mut modules: Vec<_> = kernel
                .join("btf")
                .read_dir()
                .expect("a directory")
                .map(|entry| {
                    entry
                        .expect("an entry")
                        .file_name()
                        .into_string()
                        .expect("ASCII")
                })
                .filter(|name| name != "vmlinux")
                .collect();
            modules.sort();
            for name in modules {
                let module = object(&kernel, &name, Some(&vmlinux));
                let split = Btf::from_split_bytes(module.section().bytes(), &base)
                    .expect("btf-rs takes it");
                for id in vmlinux.section().end_id()..module.section().end_id() {
                    assert_eq!(
                        said_by_section(module.section(), id),
                        said_by_btf_rs(&split, id),
                        "{name}"
                    );
                    types += 1;
                }
            }
            println!("{}: {types} types", kernel.display());
        }
    }

    /// The C types of members, spelled as in C.
    #[test]
    fn declarators() {
        let kernel = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/6.18.15-x86_64");
        let vmlinux = object(&kernel, "vmlinux", None);
        let mut spelled = std::collections::BTreeSet::new();
        for class in [
            "sched_switch",
            "kfree_skb",
            "workqueue_execute_start",
            "initcall_start",
            "mc_event",
        ] {
            for class in vmlinux.index().classes_named(class) {
                let layout = vmlinux.layout(class.struct_id).expect("a layout");
                spelled.extend(layout.slots().iter().map(|slot| slot.c_type().to_owned()));
            }
        }
        insta::assert_snapshot!(spelled.into_iter().collect::<Vec<_>>().join("\n"));
    }

    /// Reads an object as resolution and description do, whatever it contains.
    fn read_all(bytes: Vec<u8>, base: Option<Arc<Object>>) -> Option<Arc<Object>> {
        let object = Arc::new(Object::parse("damaged".to_owned(), bytes, base).ok()?);
        let section = object.section();
        for id in 0..section.end_id().min(200_000) {
            let Some(ty) = section.type_by_id(id) else {
                continue;
            };
            let _ = (
                section.size_of(id),
                section.resolve(id),
                ty.name(),
                ty.array(),
            );
            for member in ty.members() {
                let _ = section.size_of(member.type_id);
            }
        }
        for class in object.index().classes_taking(None) {
            let _ = object.layout(class.struct_id);
        }
        Some(object)
    }

    /// A small object with every kind of declarator.
    fn small() -> Vec<u8> {
        let kernel = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/7.3.4-x86_64");
        fs::read(kernel.join("btf/vmlinux")).expect("an object")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn damaged_objects_do_no_harm(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..60),
            in_header in prop::collection::vec((0usize..24, any::<u8>()), 0..2),
            end in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        ) {
            let mut bytes = small();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            for (at, byte) in in_header {
                bytes[at] = byte;
            }
            if let Some(end) = end {
                bytes.truncate(end.index(bytes.len()));
            }
            let base = read_all(bytes.clone(), None);
            // The same bytes, read as a module's object.
            if base.is_some() {
                read_all(bytes, base);
            }
        }
    }

    #[test]
    fn types_without_end_are_an_error() {
        // A pointer to itself, a typedef of itself, an array of itself, and a
        // struct with one of each.
        let words: &[u32] = &[
            0,
            2 << 24,
            1,
            1,
            8 << 24,
            2,
            0,
            3 << 24,
            0,
            3,
            3,
            2,
            1,
            4 << 24 | 3,
            8,
            1,
            1,
            0,
            1,
            2,
            0,
            1,
            3,
            0,
        ];
        let strings = b"\0trace_event_raw_x\0";
        let types: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types.len(), types.len(), strings.len()] {
            bytes.extend((word as u32).to_le_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        let object =
            Object::parse("cycles".to_owned(), bytes, None).expect("sound as far as it goes");
        let [class] = object.index().classes_named("x") else {
            panic!("a class");
        };
        assert_eq!(object.section().size_of(1), Some(8));
        assert_eq!(object.section().size_of(2), None);
        assert_eq!(object.section().size_of(3), None);
        assert!(matches!(
            object.layout(class.struct_id),
            Err(BtfError::Describe(_))
        ));
    }
}
