//! Finds where tracepoints are in the code of an image and of modules, by
//! `__tracepoints_ptrs` and `__jump_table`, as in the running kernel. In an image all are
//! off.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use object::Architecture;

use super::elf::{LinkedModule, TRACEPOINT};
use super::error::ImageError;
use super::kernel::{ModuleContext, WholeImage};
use super::memory::ImageMemory;
use super::structs::{SitePlaces, Structs};
use super::symbols::Symbols;
use crate::patch::{CodeLocation, InstructionSet, JumpEntry, PatchSite};

/// A tracepoint that an object defines.
#[derive(Clone, Debug)]
pub(crate) struct ImageTracepoint {
    pub(crate) name: String,
    /// The module that defines it; `None` if it is built in.
    pub(crate) module: Option<String>,
    /// The sites by address, as linked. Those in modules that do not define the tracepoint
    /// are last.
    pub(crate) sites: Vec<PatchSite>,
}

/// The tracepoints of a module.
#[derive(Debug, Default)]
pub(crate) struct ModuleSites {
    /// The tracepoints that the module defines, with its own sites of them.
    pub(crate) own: Vec<ImageTracepoint>,
    /// The module's sites of others' tracepoints, by the tracepoints' names.
    pub(crate) foreign: BTreeMap<String, Vec<PatchSite>>,
}

/// Limit on the size of either table in bytes.
const MAX_TABLE: u64 = 64 << 20;

/// An object's memory, and where its tables are.
struct SiteSource<'a> {
    memory: &'a ImageMemory,
    symbols: &'a Symbols,
    structs: &'a Structs,
    places: SitePlaces,
    /// Pointers to `struct tracepoint`.
    pointers: Range<u64>,
    /// `struct jump_entry`.
    entries: Range<u64>,
    instructions: InstructionSet,
    module: Option<&'a str>,
}

impl WholeImage {
    /// Returns the tracepoints; `None` if the image's symbols or BTF do not tell where the
    /// tables are.
    ///
    /// # Errors
    ///
    /// [`ImageError::Table`].
    pub(super) fn tracepoints(&self) -> Result<Option<Vec<ImageTracepoint>>, ImageError> {
        let pointers = self.between("__start___tracepoints_ptrs", "__stop___tracepoints_ptrs");
        let entries = self.between("__start___jump_table", "__stop___jump_table");
        let (Some(places), Some(pointers), Some(entries)) = (self.structs.sites, pointers, entries)
        else {
            return Ok(None);
        };
        let source = SiteSource {
            memory: &self.memory,
            symbols: &self.symbols,
            structs: &self.structs,
            places,
            pointers,
            entries,
            instructions: instructions(self.architecture),
            module: None,
        };
        let mut by_key = source.entries_by_key()?;
        Ok(Some(source.tracepoints(&mut by_key)?))
    }
}

/// Returns the tracepoints of a module; `None` if the kernel's BTF does not tell the layout
/// of the tables, or if the tables have relocations that are not known.
pub(super) fn of_module(
    linked: &LinkedModule,
    name: &str,
    context: &ModuleContext,
) -> Result<Option<ModuleSites>, ImageError> {
    let tables = ["__tracepoints_ptrs", "__jump_table"];
    let are_linked = tables.iter().all(|table| linked.is_linked(table));
    let Some(places) = context.structs.sites.filter(|_| are_linked) else {
        return Ok(None);
    };
    let source = SiteSource {
        memory: &linked.memory,
        symbols: &linked.symbols,
        structs: &context.structs,
        places,
        pointers: linked.section("__tracepoints_ptrs"),
        entries: linked.section("__jump_table"),
        instructions: instructions(context.architecture),
        module: Some(name),
    };
    let mut by_key = source.entries_by_key()?;
    let mut found = ModuleSites {
        own: source.tracepoints(&mut by_key)?,
        ..ModuleSites::default()
    };
    for (key, entries) in by_key {
        let tracepoint = key.wrapping_sub(places.key);
        if let Some(name) = linked.symbols.at_with_prefix(tracepoint, TRACEPOINT) {
            let sites = found.foreign.entry(name.to_owned()).or_default();
            sites.extend(source.sites(entries));
        }
    }
    // Addresses in the linked memory are made up; those in the file help whoever looks into
    // it.
    let own = found.own.iter_mut().map(|tracepoint| &mut tracepoint.sites);
    for sites in own.chain(found.foreign.values_mut()) {
        for site in sites {
            site.address = linked.in_section(site.address);
            site.target = linked.in_section(site.target);
        }
    }
    Ok(Some(found))
}

fn instructions(architecture: Architecture) -> InstructionSet {
    match architecture {
        Architecture::X86_64 | Architecture::I386 => InstructionSet::X86,
        Architecture::Aarch64 => InstructionSet::Arm64,
        _ => InstructionSet::Unknown,
    }
}

impl SiteSource<'_> {
    fn table(&self, table: &'static str, range: &Range<u64>) -> Result<&[u8], ImageError> {
        if range.is_empty() {
            return Ok(&[]);
        }
        let length = range.end.checked_sub(range.start);
        let length = length.filter(|length| *length <= MAX_TABLE);
        let bytes = length.and_then(|length| self.memory.bytes(range.start, length as usize));
        bytes.ok_or(ImageError::Table { table })
    }

    /// Returns the entries of the jump table, by their keys.
    fn entries_by_key(&self) -> Result<HashMap<u64, Vec<JumpEntry>>, ImageError> {
        let mut by_key: HashMap<u64, Vec<JumpEntry>> = HashMap::new();
        let bytes = self.table("__jump_table", &self.entries)?;
        let machine = self.memory.machine();
        let layout = self.places.layout;
        for entry in layout.entries(bytes, self.entries.start, machine) {
            // In a file, this flag is for objtool (`HAVE_JUMP_LABEL_HACK`).
            let entry = JumpEntry {
                is_in_init: false,
                ..entry
            };
            by_key.entry(entry.key).or_default().push(entry);
        }
        Ok(by_key)
    }

    /// Returns the tracepoints that the object defines, and takes their sites out of
    /// `by_key`.
    fn tracepoints(
        &self,
        by_key: &mut HashMap<u64, Vec<JumpEntry>>,
    ) -> Result<Vec<ImageTracepoint>, ImageError> {
        let bytes = self.table("__tracepoints_ptrs", &self.pointers)?;
        let machine = self.memory.machine();
        let mut found = Vec::new();
        for (index, pointer) in bytes.chunks_exact(self.places.pointer_size).enumerate() {
            let at = self.pointers.start + (index * self.places.pointer_size) as u64;
            let tracepoint = match self.places.pointer_size {
                4 => at.wrapping_add_signed(machine.signed(pointer)),
                _ => machine.unsigned(pointer),
            };
            let name = self.structs.tracepoint_name.read(self.memory, tracepoint);
            let name = name.and_then(|name| self.memory.text(name));
            let name = name.ok_or(ImageError::Table {
                table: "__tracepoints_ptrs",
            })?;
            let entries = by_key.remove(&tracepoint.wrapping_add(self.places.key));
            found.push(ImageTracepoint {
                name: name.to_owned(),
                module: self.module.map(str::to_owned),
                sites: self.sites(entries.unwrap_or_default()),
            });
        }
        Ok(found)
    }

    /// Returns the sites of one key, by address.
    fn sites(&self, mut entries: Vec<JumpEntry>) -> Vec<PatchSite> {
        entries.sort_by_key(|entry| entry.site);
        entries.iter().map(|entry| self.site(entry)).collect()
    }

    fn site(&self, entry: &JumpEntry) -> PatchSite {
        let code = self.memory.from(entry.site).unwrap_or_default();
        let code = &code[..code.len().min(InstructionSet::LONGEST)];
        let [place, target] = [entry.site, entry.target].map(|at| self.location(at));
        PatchSite::new(self.instructions, entry, Some(code), place, target)
    }

    fn location(&self, address: u64) -> Option<CodeLocation> {
        let (start, function) = self.symbols.before(address)?;
        let end = self.symbols.next_after(address)?;
        Some(CodeLocation {
            function: function.to_owned(),
            offset: address - start,
            size: end - start,
            module: self.module.map(str::to_owned),
        })
    }
}
