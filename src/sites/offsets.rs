//! Offsets of the members that are read, from the BTF of each kernel.

use std::collections::HashMap;

use super::SitesError;
use crate::btf::{Kind, Object, Section, TypeId};

/// The offset and size of a member, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StructMember {
    pub(super) at: u64,
    pub(super) size: usize,
}

/// The structs of vmlinux that are read, by name.
pub(super) struct KnownStructs<'a> {
    section: &'a Section,
    /// `None` for a name of two structs.
    structs: HashMap<&'static str, Option<TypeId>>,
    /// Enumerators; `None` for a name with two values.
    constants: HashMap<&'static str, Option<i64>>,
    /// The function `bpf_trace_run1`.
    raw_runner: Option<TypeId>,
}

/// The names of the structs.
const NAMES: [&str; 31] = [
    "bpf_link",
    "bpf_perf_link",
    "bpf_prog",
    "bpf_prog_array",
    "bpf_prog_array_item",
    "bpf_prog_aux",
    "bpf_raw_event_map",
    "bpf_raw_tp_link",
    "fdtable",
    "file",
    "files_struct",
    "inode",
    "jump_entry",
    "kernfs_node",
    "list_head",
    "module",
    "module_kobject",
    "perf_event",
    "perf_event_attr",
    "pid",
    "proc_inode",
    "static_call_key",
    "static_key",
    "syscall_metadata",
    "task_struct",
    "trace_array",
    "trace_event_call",
    "trace_event_class",
    "trace_event_file",
    "tracepoint",
    "tracepoint_func",
];

/// The names of the enumerators.
const CONSTANTS: [&str; 3] = [
    "EVENT_FILE_FL_FILTERED",
    "EVENT_FILE_FL_SOFT_DISABLED",
    "TRACE_EVENT_FL_TRACEPOINT",
];

impl<'a> KnownStructs<'a> {
    pub(super) fn of(vmlinux: &'a Object) -> Self {
        let section = vmlinux.section();
        let mut structs: HashMap<&'static str, Option<TypeId>> = HashMap::new();
        let mut constants: HashMap<&'static str, Option<i64>> = HashMap::new();
        let mut raw_runner = None;
        for id in 1..section.end_id() {
            let Some(ty) = section.type_by_id(id) else {
                continue;
            };
            match ty.kind {
                Kind::Struct if ty.members().len() > 0 => {
                    let name = ty.name();
                    let known = NAMES.iter().find(|known| known.as_bytes() == name);
                    if let Some(name) = known {
                        let place = structs.entry(name);
                        place.and_modify(|id| *id = None).or_insert(Some(id));
                    }
                }
                Kind::Enum => {
                    for (name, value) in ty.enumerators() {
                        let known = CONSTANTS.iter().find(|known| known.as_bytes() == name);
                        let Some(name) = known else {
                            continue;
                        };
                        let place = constants.entry(name);
                        place
                            .and_modify(|known| *known = known.filter(|known| *known == value))
                            .or_insert(Some(value));
                    }
                }
                Kind::Func if ty.name() == b"bpf_trace_run1" => raw_runner = Some(id),
                _ => {}
            }
        }
        Self {
            section,
            structs,
            constants,
            raw_runner,
        }
    }

    fn find(&self, of: &str) -> Option<TypeId> {
        *self.structs.get(of)?
    }

    /// Returns the place of a member, which may be in a nested anonymous struct or, after a
    /// dot, in a named one; `None` if this kernel has no such struct or member.
    pub(super) fn optional(&self, of: &str, path: &str) -> Option<StructMember> {
        let mut id = self.find(of)?;
        let mut place = StructMember { at: 0, size: 0 };
        for name in path.split('.') {
            let (offset, type_id) = self.section.member(id, name.as_bytes())?;
            place.at += u64::from(offset);
            place.size = self.section.size_of(type_id)? as usize;
            (id, _) = self.section.resolve(type_id)?;
        }
        Some(place)
    }

    /// Like [`optional`](Self::optional), for a member that every kernel read here has.
    pub(super) fn place(&self, of: &str, path: &str) -> Result<StructMember, SitesError> {
        let missing = || SitesError::Btf {
            member: format!("{of}.{path}"),
        };
        self.optional(of, path).ok_or_else(missing)
    }

    /// Returns the offset of a member that has this size in bytes.
    pub(super) fn sized(&self, of: &str, path: &str, size: usize) -> Result<u64, SitesError> {
        let place = self.place(of, path)?;
        match place.size == size {
            true => Ok(place.at),
            false => Err(SitesError::Btf {
                member: format!("{of}.{path}"),
            }),
        }
    }

    /// Returns the offset of a pointer.
    pub(super) fn pointer(&self, of: &str, path: &str) -> Result<u64, SitesError> {
        self.sized(of, path, 8)
    }

    /// Returns the value of an enumerator.
    pub(super) fn constant(&self, name: &str) -> Result<u64, SitesError> {
        let value = self.constants.get(name).copied().flatten();
        value
            .map(|value| value as u64)
            .ok_or_else(|| SitesError::Btf {
                member: name.to_owned(),
            })
    }

    /// Returns the size of a struct in bytes.
    pub(super) fn size(&self, of: &str) -> Result<usize, SitesError> {
        let size = self.find(of).and_then(|id| self.section.size_of(id));
        size.map(|size| size as usize)
            .ok_or_else(|| SitesError::Btf {
                member: of.to_owned(),
            })
    }

    /// Whether the data of a raw tracepoint's callback is its link (Linux 6.10) and not the
    /// program, by the function that such callbacks call; `None` if it is neither.
    pub(super) fn is_raw_data_a_link(&self) -> Option<bool> {
        let function = self.section.type_by_id(self.raw_runner?)?;
        let prototype = self.section.type_by_id(function.target()?)?;
        let first = prototype.parameters().next()?;
        let (_, pointer) = self.section.resolve(first.type_id)?;
        let (_, data) = self.section.resolve(pointer.target()?)?;
        match data.name() {
            b"bpf_raw_tp_link" => Some(true),
            b"bpf_prog" => Some(false),
            _ => None,
        }
    }

    /// Returns the size of an element of `module.tracepoints_ptrs` and of
    /// `__start___tracepoints_ptrs`: 4 bytes are a distance, 8 an address.
    pub(super) fn tracepoint_pointer_size(&self) -> Option<usize> {
        let module = self.find("module")?;
        let (_, type_id) = self.section.member(module, b"tracepoints_ptrs")?;
        let (_, pointer) = self.section.resolve(type_id)?;
        Some(self.section.size_of(pointer.target()?)? as usize)
    }
}
