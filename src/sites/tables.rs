//! The kernel's tables of tracepoints and of patch sites.
//!
//! The linker collects pointers to all of vmlinux's tracepoints between
//! `__start___tracepoints_ptrs` and `__stop___tracepoints_ptrs`, and all patch sites
//! between `__start___jump_table` and `__stop___jump_table`. These symbols are in kallsyms
//! also without `CONFIG_KALLSYMS_ALL`. A module has tables of its own, to which its
//! `struct module` points. That struct is found through the module's directory in sysfs: the
//! directory's inode points to a `struct kernfs_node`, and the node to a `struct kobject`,
//! which is in the module.

use std::collections::HashMap;
use std::os::fd::AsFd;

use super::SitesError;
use super::memory::{SiteMemory, StructBytes};
use super::offsets::{KnownStructs, StructMember};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::patch::{JumpEntry, JumpLayout};

/// Offsets of members, in bytes.
pub(super) struct TableOffsets {
    tracepoint_size: usize,
    tracepoint_name: u64,
    tracepoint_key: u64,
    key_enabled: u64,
    tracepoint_functions: u64,
    /// `None` on kernels without static calls.
    tracepoint_static_call: Option<u64>,
    static_call_function: Option<u64>,
    pointer_size: usize,
    jump: JumpLayout,
    modules: Option<ModuleOffsets>,
}

/// Offsets on the way to modules' tables, in bytes. A kernel without modules has none.
struct ModuleOffsets {
    node_private: u64,
    object_module: u64,
    name: StructMember,
    tracepoints: u64,
    tracepoint_count: u64,
    entries: u64,
    entry_count: u64,
}

impl TableOffsets {
    pub(super) fn of(structs: &KnownStructs<'_>) -> Result<Self, SitesError> {
        let code = structs.place("jump_entry", "code")?;
        let pointer_size = structs.tracepoint_pointer_size();
        Ok(Self {
            tracepoint_size: structs.size("tracepoint")?,
            tracepoint_name: structs.pointer("tracepoint", "name")?,
            tracepoint_key: structs.place("tracepoint", "key")?.at,
            key_enabled: structs.sized("static_key", "enabled", 4)?,
            tracepoint_functions: structs.pointer("tracepoint", "funcs")?,
            tracepoint_static_call: structs
                .optional("tracepoint", "static_call_key")
                .map(|place| place.at),
            static_call_function: structs
                .optional("static_call_key", "func")
                .map(|place| place.at),
            pointer_size: pointer_size
                .filter(|size| matches!(size, 4 | 8))
                .ok_or_else(|| SitesError::Btf {
                    member: "module.tracepoints_ptrs".to_owned(),
                })?,
            jump: JumpLayout {
                size: structs.size("jump_entry")?,
                target: structs.place("jump_entry", "target")?.at,
                key: structs.pointer("jump_entry", "key")?,
                is_relative: code.size == 4,
            },
            modules: ModuleOffsets::of(structs),
        })
    }
}

impl ModuleOffsets {
    fn of(structs: &KnownStructs<'_>) -> Option<Self> {
        let at = |of, member| structs.optional(of, member).map(|place| place.at);
        Some(Self {
            node_private: at("kernfs_node", "priv")?,
            // The `struct kobject` is the first member of `struct module_kobject`.
            object_module: at("module_kobject", "mod")?,
            name: structs.optional("module", "name")?,
            tracepoints: at("module", "tracepoints_ptrs")?,
            tracepoint_count: at("module", "num_tracepoints")?,
            entries: at("module", "jump_entries")?,
            entry_count: at("module", "num_jump_entries")?,
        })
    }
}

/// A `struct tracepoint`.
#[derive(Clone, Debug)]
pub(super) struct FoundTracepoint {
    pub(super) name: String,
    /// The module that defines it; `None` if it is built in.
    pub(super) module: Option<String>,
    /// The number of times its key is enabled.
    pub(super) enabled: i32,
    /// The address of its array of callbacks; 0 without any.
    pub(super) functions: u64,
    /// The target of its static call.
    pub(super) static_call: Option<u64>,
    pub(super) sites: Vec<JumpEntry>,
}

/// A range of the kernel's memory: its start, and its length in bytes.
type MemoryRange = (u64, usize);

/// All tracepoints, by address.
pub(super) struct SiteTables {
    pub(super) tracepoints: HashMap<u64, FoundTracepoint>,
    /// Whether their sites were found.
    pub(super) are_sites_known: bool,
    /// The modules whose tables were not found.
    pub(super) unread_modules: Vec<String>,
}

/// The tables of vmlinux or of a module.
struct ObjectTables {
    module: Option<String>,
    tracepoints: MemoryRange,
    entries: MemoryRange,
}

impl SiteTables {
    /// Reads all tracepoints. Without the right to see symbols, reads those of modules and
    /// those at `known`, and their sites are not all known.
    pub(super) fn read(
        memory: &SiteMemory,
        offsets: &TableOffsets,
        kernel: &Kernel,
        known: &[u64],
    ) -> Result<Self, SitesError> {
        let (modules, unread_modules) = modules(memory, offsets, kernel)?;
        let vmlinux = vmlinux(memory, kernel);
        let mut tables = Self {
            tracepoints: HashMap::new(),
            are_sites_known: vmlinux.is_some(),
            unread_modules,
        };
        let objects: Vec<ObjectTables> = vmlinux.into_iter().chain(modules).collect();
        for object in &objects {
            let (start, length) = object.tracepoints;
            let unreadable = SitesError::Unreadable {
                what: "the table of tracepoints",
            };
            let pointers = memory.range(start, length)?.ok_or(unreadable)?;
            let each = pointers.chunks_exact(offsets.pointer_size).enumerate();
            let each = each.map(|(index, pointer)| {
                let at = start.wrapping_add((index * offsets.pointer_size) as u64);
                match (pointer.first_chunk::<8>(), pointer.first_chunk::<4>()) {
                    (Some(address), _) => u64::from_ne_bytes(*address),
                    (_, Some(distance)) => {
                        at.wrapping_add_signed(i32::from_ne_bytes(*distance).into())
                    }
                    _ => 0,
                }
            });
            tables.add(memory, offsets, each.collect(), object.module.as_deref())?;
        }
        let others = known.iter().copied();
        let others = others.filter(|at| !tables.tracepoints.contains_key(at));
        let others = others.collect();
        tables.add(memory, offsets, others, None)?;
        tables.add_sites(memory, offsets, &objects)?;
        Ok(tables)
    }

    fn add(
        &mut self,
        memory: &SiteMemory,
        offsets: &TableOffsets,
        addresses: Vec<u64>,
        module: Option<&str>,
    ) -> Result<(), SitesError> {
        let found = memory.structs(&addresses, offsets.tracepoint_size)?;
        let word = |at: u64| move |bytes: &StructBytes| bytes.word(at);
        let names: Vec<Option<u64>> = found
            .iter()
            .map(|found| found.as_ref().map(word(offsets.tracepoint_name)))
            .collect();
        let texts = memory.texts(&names.iter().map(|at| at.unwrap_or(0)).collect::<Vec<_>>())?;
        let calls: Vec<Option<u64>> = match offsets.tracepoint_static_call {
            Some(at) => found
                .iter()
                .map(|found| found.as_ref().map(word(at)).filter(|at| *at != 0))
                .collect(),
            None => vec![None; found.len()],
        };
        let targets = match offsets.static_call_function {
            Some(at) => memory.follow(&calls, at)?,
            None => vec![None; found.len()],
        };
        let all = addresses.into_iter().zip(found).zip(texts).zip(targets);
        for (((address, found), name), static_call) in all {
            let (Some(found), Some(name)) = (found, name) else {
                continue;
            };
            let tracepoint = FoundTracepoint {
                name,
                module: module.map(str::to_owned),
                enabled: found.int(offsets.tracepoint_key + offsets.key_enabled),
                functions: found.word(offsets.tracepoint_functions),
                static_call,
                sites: Vec::new(),
            };
            self.tracepoints.insert(address, tracepoint);
        }
        Ok(())
    }

    /// Gives each tracepoint its sites, including those in modules.
    fn add_sites(
        &mut self,
        memory: &SiteMemory,
        offsets: &TableOffsets,
        objects: &[ObjectTables],
    ) -> Result<(), SitesError> {
        let machine = Machine::NATIVE;
        let keys = self.tracepoints.keys();
        let by_key: HashMap<u64, u64> = keys
            .map(|at| (at.wrapping_add(offsets.tracepoint_key), *at))
            .collect();
        for object in objects {
            let (start, length) = object.entries;
            let unreadable = SitesError::Unreadable {
                what: "the table of patch sites",
            };
            let table = memory.range(start, length)?.ok_or(unreadable)?;
            for entry in offsets.jump.entries(&table, start, machine) {
                let tracepoint = by_key.get(&entry.key);
                let tracepoint = tracepoint.and_then(|at| self.tracepoints.get_mut(at));
                if let Some(tracepoint) = tracepoint {
                    tracepoint.sites.push(entry);
                }
            }
        }
        Ok(())
    }

    /// Returns the tracepoint of this name that is built in.
    pub(super) fn built_in(&self, name: &str) -> Option<(u64, &FoundTracepoint)> {
        let mut all = self.tracepoints.iter();
        let found = all.find(|(_, found)| found.name == name && found.module.is_none());
        found.map(|(at, found)| (*at, found))
    }
}

/// Returns the tables of vmlinux; `None` if this process may not see where they are.
fn vmlinux(memory: &SiteMemory, kernel: &Kernel) -> Option<ObjectTables> {
    const SYMBOLS: [&str; 4] = [
        "__start___tracepoints_ptrs",
        "__stop___tracepoints_ptrs",
        "__start___jump_table",
        "__stop___jump_table",
    ];
    let found = memory.addresses_of(&SYMBOLS);
    // Linux 5.14 and 5.15 cannot look up a symbol by name.
    let found = found.or_else(|| kernel.symbol_addresses(&SYMBOLS))?;
    let [Some(first), Some(last), Some(start), Some(stop)] = found[..] else {
        return None;
    };
    let length = |from: u64, to: u64| {
        /// Limit on a table in bytes; both have some 100 KB.
        const LIMIT: u64 = 64 << 20;
        let length = to.checked_sub(from).filter(|length| *length < LIMIT)?;
        usize::try_from(length).ok()
    };
    Some(ObjectTables {
        module: None,
        tracepoints: (first, length(first, last)?),
        entries: (start, length(start, stop)?),
    })
}

/// Returns the tables of the loaded modules, and the modules whose tables are not found.
fn modules(
    memory: &SiteMemory,
    offsets: &TableOffsets,
    kernel: &Kernel,
) -> Result<(Vec<ObjectTables>, Vec<String>), SitesError> {
    let loaded = kernel.loaded_modules()?;
    let Some(of) = &offsets.modules else {
        return Ok((
            Vec::new(),
            loaded.into_iter().map(|module| module.name).collect(),
        ));
    };
    let directories: Vec<_> = loaded.iter().map(|one| one.directory.as_fd()).collect();
    let files = memory.own_files(&directories)?;
    let nodes = memory.inode_private(&memory.inodes(&files)?)?;
    let objects = memory.follow(&nodes, of.node_private)?;
    let modules = memory.follow(&objects, of.object_module)?;
    // A `struct module` is larger than one read takes.
    let part = |at: u64, length: usize| {
        let places = modules.iter();
        let places: Vec<u64> = places
            .map(|module| module.unwrap_or(0).wrapping_add(at))
            .collect();
        memory.structs(&places, length)
    };
    let names = part(of.name.at, of.name.size)?;
    let [tracepoints, entries] = [of.tracepoints, of.entries].map(|at| part(at, 8));
    let [points, entry_counts] = [of.tracepoint_count, of.entry_count].map(|at| part(at, 4));
    let (tracepoints, entries) = (tracepoints?, entries?);
    let (points, entry_counts) = (points?, entry_counts?);
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    for (index, module) in loaded.iter().enumerate() {
        let name = names[index].as_ref().map(|bytes| {
            bytes.text(StructMember {
                at: 0,
                size: of.name.size,
            })
        });
        let range = |at: &[Option<StructBytes>], count: &[Option<StructBytes>], size: usize| {
            /// Limit on the entries of either table; modules have some hundreds.
            const LIMIT: usize = 1 << 20;
            let (at, count) = (at[index].as_ref()?.word(0), count[index].as_ref()?.int(0));
            let count = usize::try_from(count).ok().filter(|count| *count < LIMIT)?;
            Some((at, count * size))
        };
        let tracepoints = range(&tracepoints, &points, offsets.pointer_size);
        let entries = range(&entries, &entry_counts, offsets.jump.size);
        match (tracepoints, entries) {
            (Some(tracepoints), Some(entries)) if name.as_ref() == Some(&module.name) => {
                found.push(ObjectTables {
                    module: name,
                    tracepoints,
                    entries,
                });
            }
            _ => unread.push(module.name.clone()),
        }
    }
    Ok((found, unread))
}
