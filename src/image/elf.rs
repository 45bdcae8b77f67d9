//! ELF files: kernels (`vmlinux`), modules, and objects that carry BTF.

use std::collections::{HashMap, HashSet};

use object::{
    Architecture, Object as _, ObjectKind, ObjectSection, ObjectSegment, ObjectSymbol,
    RelocationFlags, RelocationKind, RelocationTarget, SectionFlags, SectionKind, SymbolIndex,
    SymbolSection,
};

use super::error::{ImageError, Reason};
use super::memory::{ImageMemory, Region};
use super::symbols::Symbols;
use crate::machine::{ByteOrder, Machine};

/// Limit on sections; a module has some 100.
const MAX_SECTIONS: usize = 16384;
/// Limit on relocations; a module's data has some 100,000.
const MAX_RELOCATIONS: usize = 1 << 23;

/// Facts that are read of any ELF file.
pub(super) struct ElfFacts {
    pub(super) machine: Machine,
    pub(super) architecture: Architecture,
    pub(super) is_module: bool,
    /// The section `.BTF`.
    pub(super) btf: Option<Vec<u8>>,
    /// The section `.BTF.base` of a module that was built apart from its kernel.
    pub(super) btf_base: Option<Vec<u8>>,
    /// The section `.modinfo`: texts of the form `key=value`, with NULs between them.
    pub(super) modinfo: Vec<u8>,
    pub(super) has_events: bool,
    /// Whether the file defines or uses a tracepoint.
    pub(super) has_tracepoints: bool,
}

/// The prefix of the symbols of tracepoints.
pub(super) const TRACEPOINT: &str = "__tracepoint_";

fn failed(error: object::read::Error) -> ImageError {
    ImageError::Elf {
        reason: Reason::of(&error),
    }
}

fn machine_of(file: &object::File<'_>) -> Machine {
    let byte_order = match file.is_little_endian() {
        true => ByteOrder::Little,
        false => ByteOrder::Big,
    };
    Machine::new(byte_order, file.is_64())
}

fn is_loaded(section: &object::Section<'_, '_>) -> bool {
    match section.flags() {
        SectionFlags::Elf { sh_flags } => sh_flags & u64::from(object::elf::SHF_ALLOC) != 0,
        _ => false,
    }
}

impl ElfFacts {
    pub(super) fn of(bytes: &[u8]) -> Result<Self, ImageError> {
        let file = object::File::parse(bytes).map_err(failed)?;
        let section = |name: &str| -> Result<Option<Vec<u8>>, ImageError> {
            let section = file.section_by_name(name);
            let data = section.map(|section| section.data().map(<[u8]>::to_vec));
            data.transpose().map_err(failed)
        };
        Ok(Self {
            machine: machine_of(&file),
            architecture: file.architecture(),
            is_module: file.kind() == ObjectKind::Relocatable,
            btf: section(".BTF")?,
            btf_base: section(".BTF.base")?,
            modinfo: section(".modinfo")?.unwrap_or_default(),
            has_events: file.section_by_name("_ftrace_events").is_some(),
            has_tracepoints: file.symbols().any(|symbol| {
                let name = symbol.name_bytes().unwrap_or_default();
                name.starts_with(TRACEPOINT.as_bytes())
            }),
        })
    }
}

/// A kernel's memory and the symbols of its ELF file, if it has any.
pub(super) struct LinkedElf {
    pub(super) memory: ImageMemory,
    pub(super) symbols: Symbols,
    /// The lowest address of the kernel's code: `_text`.
    pub(super) text: Option<u64>,
}

/// Reads a kernel that its linker has laid out.
pub(super) fn linked(bytes: Vec<u8>) -> Result<LinkedElf, ImageError> {
    let file = object::File::parse(&*bytes).map_err(failed)?;
    let machine = machine_of(&file);
    let mut regions = Vec::new();
    for segment in file.segments() {
        let (offset, length) = segment.file_range();
        let end = offset.checked_add(length);
        let (Ok(start), Some(Ok(end))) = (usize::try_from(offset), end.map(usize::try_from)) else {
            continue;
        };
        regions.push(Region {
            start: segment.address(),
            bytes: start..end,
        });
    }
    let sections = file.sections().take(MAX_SECTIONS);
    let code = sections.filter(|section| section.kind() == SectionKind::Text);
    let text = code.map(|section| section.address()).min();
    let symbols = file.symbols().filter(|symbol| symbol.is_definition());
    let symbols = symbols.filter_map(|symbol| Some((symbol.address(), symbol.name().ok()?)));
    let symbols = Symbols::new(symbols);
    let relocations: Vec<(u64, u64)> = relative_relocations(&file);
    let mut memory = ImageMemory::new(machine, bytes, regions);
    let size = machine.long_size() as usize;
    for (place, value) in relocations {
        // A place outside of the memory changes nothing that is read.
        let _ = memory.put(place, value, size);
    }
    Ok(LinkedElf {
        memory,
        symbols,
        text,
    })
}

/// Returns the pointers of a kernel that can be moved (arm64, s390, riscv): each place and
/// its value.
fn relative_relocations(file: &object::File<'_>) -> Vec<(u64, u64)> {
    let relocations = file.dynamic_relocations().into_iter().flatten();
    let relative = relocations.take(MAX_RELOCATIONS).filter(|(_, relocation)| {
        relocation.target() == RelocationTarget::Absolute && !relocation.has_implicit_addend()
    });
    relative
        .map(|(place, relocation)| (place, relocation.addend() as u64))
        .collect()
}

/// A module's memory as if it were loaded: its sections one after another, with the
/// pointers between them in place.
pub(crate) struct LinkedModule {
    pub(super) memory: ImageMemory,
    pub(super) symbols: Symbols,
    /// The addresses of sections, by name.
    sections: HashMap<String, std::ops::Range<u64>>,
    /// The start addresses of all sections, sorted.
    #[cfg_attr(not(all(feature = "probe", target_os = "linux")), allow(dead_code))]
    starts: Vec<u64>,
    /// The start addresses of the sections in which not all pointers are in place.
    #[cfg_attr(not(all(feature = "probe", target_os = "linux")), allow(dead_code))]
    unlinked: HashSet<u64>,
}

impl LinkedModule {
    pub(super) fn section(&self, name: &str) -> std::ops::Range<u64> {
        self.sections.get(name).cloned().unwrap_or_default()
    }

    /// Whether all pointers in a section are in place.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(super) fn is_linked(&self, name: &str) -> bool {
        !self.unlinked.contains(&self.section(name).start)
    }

    /// Returns the offset of an address in its section, which is its address in the file.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(super) fn in_section(&self, address: u64) -> u64 {
        let after = self.starts.partition_point(|start| *start <= address);
        match after.checked_sub(1) {
            Some(section) => address - self.starts[section],
            None => address,
        }
    }
}

/// The address of the first section.
const FIRST_ADDRESS: u64 = 0x1_0000;
/// The first address for symbols that other objects define.
const FIRST_FOREIGN: u64 = 0x4000_0000;
/// The distance of such symbols in bytes, no less than what is read of one.
const FOREIGN_SIZE: u64 = 256;

/// Links a module. Sections of code are not relocated, since no pointer in them is
/// followed.
pub(super) fn module(bytes: &[u8]) -> Result<LinkedModule, ImageError> {
    let file = object::File::parse(bytes).map_err(failed)?;
    let machine = machine_of(&file);
    let mut data = Vec::new();
    let mut regions = Vec::new();
    let mut starts = HashMap::new();
    let mut sections = HashMap::new();
    let mut next = FIRST_ADDRESS;
    for section in file.sections().take(MAX_SECTIONS) {
        if !is_loaded(&section) {
            continue;
        }
        let align = section.align().clamp(1, 4096);
        next = next.next_multiple_of(align);
        let content = section.data().map_err(failed)?;
        let size = section.size().max(content.len() as u64);
        let end = next.checked_add(size).filter(|end| *end < FIRST_FOREIGN);
        let end = end.ok_or(ImageError::TooLarge {
            limit: FIRST_FOREIGN,
        })?;
        regions.push(Region {
            start: next,
            bytes: data.len()..data.len() + content.len(),
        });
        data.extend_from_slice(content);
        starts.insert(section.index(), next);
        if let Ok(name) = section.name() {
            // Some sections share a name, but none of those that are read.
            sections.entry(name.to_owned()).or_insert(next..end);
        }
        next = end;
    }
    let address = |index: SymbolIndex| -> Option<u64> {
        let symbol = file.symbol_by_index(index).ok()?;
        match symbol.section() {
            SymbolSection::Section(section) => starts.get(&section)?.checked_add(symbol.address()),
            SymbolSection::Undefined => (index.0 as u64)
                .checked_mul(FOREIGN_SIZE)?
                .checked_add(FIRST_FOREIGN),
            SymbolSection::Absolute => Some(symbol.address()),
            _ => None,
        }
    };
    let symbols = file.symbols().filter_map(|symbol| {
        // `$x` and `.L1` mark places in code and are not functions (`is_mapping_symbol()`
        // in `include/linux/module_symbol.h`).
        let name = symbol.name().ok().filter(|name| !name.is_empty())?;
        let name = Some(name).filter(|name| !name.starts_with(['$', '.']))?;
        Some((address(symbol.index())?, name))
    });
    let symbols = Symbols::new(symbols);
    let mut memory = ImageMemory::new(machine, data, regions);
    let unlinked = relocate(&file, &mut memory, &starts, &address);
    let mut starts: Vec<u64> = starts.into_values().collect();
    starts.sort_unstable();
    Ok(LinkedModule {
        memory,
        symbols,
        sections,
        starts,
        unlinked,
    })
}

/// What a relocation puts in its place.
enum PutValue {
    /// An address.
    Address,
    /// An address relative to the place.
    FromPlace,
    /// What is there already, and an address. riscv has pairs of these for differences.
    Sum,
    /// What is there already, less an address.
    Difference,
}

/// Returns what a relocation puts in its place and its size in bytes; `None` if it is not a
/// pointer.
fn pointer_kind(
    file: &object::File<'_>,
    relocation: &object::Relocation,
) -> Option<(PutValue, usize)> {
    use object::elf;

    // The crate `object` does not know these types, which the entries of jump tables have.
    if let RelocationFlags::Elf { r_type } = relocation.flags() {
        let known = match (file.architecture(), r_type) {
            (Architecture::X86_64, elf::R_X86_64_PC64) => Some((PutValue::FromPlace, 8)),
            (Architecture::Riscv64, elf::R_RISCV_32_PCREL) => Some((PutValue::FromPlace, 4)),
            (Architecture::Riscv64, elf::R_RISCV_ADD32) => Some((PutValue::Sum, 4)),
            (Architecture::Riscv64, elf::R_RISCV_ADD64) => Some((PutValue::Sum, 8)),
            (Architecture::Riscv64, elf::R_RISCV_SUB32) => Some((PutValue::Difference, 4)),
            (Architecture::Riscv64, elf::R_RISCV_SUB64) => Some((PutValue::Difference, 8)),
            (Architecture::PowerPc64, elf::R_PPC64_REL32) => Some((PutValue::FromPlace, 4)),
            (Architecture::PowerPc64, elf::R_PPC64_REL64) => Some((PutValue::FromPlace, 8)),
            _ => None,
        };
        if known.is_some() {
            return known;
        }
    }
    let size = match relocation.size() {
        size @ (32 | 64) => usize::from(size / 8),
        _ => return None,
    };
    match relocation.kind() {
        RelocationKind::Absolute => Some((PutValue::Address, size)),
        RelocationKind::Relative | RelocationKind::PltRelative => Some((PutValue::FromPlace, size)),
        _ => None,
    }
}

/// Puts pointers in place, both absolute ones and those relative to their own place.
/// Returns the addresses of the sections in which not all could be put.
fn relocate(
    file: &object::File<'_>,
    memory: &mut ImageMemory,
    starts: &HashMap<object::SectionIndex, u64>,
    address: &dyn Fn(SymbolIndex) -> Option<u64>,
) -> HashSet<u64> {
    let mut unlinked = HashSet::new();
    let mut left = MAX_RELOCATIONS;
    for section in file.sections().take(MAX_SECTIONS) {
        let Some(start) = starts.get(&section.index()) else {
            continue;
        };
        if section.kind() == SectionKind::Text {
            continue;
        }
        for (offset, relocation) in section.relocations().take(left) {
            left -= 1;
            let kind = pointer_kind(file, &relocation);
            let (RelocationTarget::Symbol(symbol), Some((put, size))) = (relocation.target(), kind)
            else {
                unlinked.insert(*start);
                continue;
            };
            let (Some(place), Some(target)) = (start.checked_add(offset), address(symbol)) else {
                continue;
            };
            let there = memory.unsigned(place, size).unwrap_or(0);
            let mut value = target.wrapping_add(relocation.addend() as u64);
            if relocation.has_implicit_addend() {
                value = value.wrapping_add(there);
            }
            let value = match put {
                PutValue::Address => value,
                PutValue::FromPlace => value.wrapping_sub(place),
                PutValue::Sum => there.wrapping_add(value),
                PutValue::Difference => there.wrapping_sub(value),
            };
            // A place outside of the memory changes nothing that is read.
            let _ = memory.put(place, value, size);
        }
    }
    unlinked
}
