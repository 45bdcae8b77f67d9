//! An eBPF object's sections, symbols and relocations, as the crate `object` reads them.

use std::collections::HashMap;

use object::read::elf::ElfFile64;
use object::{
    Endianness, Object as _, ObjectSection, ObjectSymbol, RelocationTarget, SectionFlags,
    SymbolKind, SymbolSection,
};

use super::BpfObjectError;
use super::ext::BtfExt;
use super::instruction::{CALL, EXIT, INSTRUCTION, LOAD_IMMEDIATE, PSEUDO_CALL, RawInstruction};
use crate::btf::{Section, TypeId};
use crate::machine::ByteOrder;

/// The place of an instruction: the index of its section among those of code, and its
/// index there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CodeAddress {
    pub(super) section: u32,
    pub(super) instruction: u32,
}

/// The object that an instruction's symbol refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SymbolTarget {
    Code(CodeAddress),
    /// A place in a section of data.
    Data {
        section: u32,
        offset: i64,
    },
    /// A symbol that is defined elsewhere: its index among the externs.
    Extern(u32),
    /// A map, or something unknown.
    Other,
}

/// One instruction that CO-RE relocates.
#[derive(Clone, Debug)]
pub(super) struct CoreRecord {
    pub(super) type_id: TypeId,
    pub(super) access: String,
    pub(super) kind: u32,
}

/// A section of code.
#[derive(Clone, Debug)]
pub(super) struct CodeSection {
    pub(super) name: String,
    pub(super) instructions: Vec<RawInstruction>,
    /// By the instruction's number.
    pub(super) symbols: HashMap<u32, SymbolTarget>,
    /// The index of each instruction's record among the object's.
    pub(super) relocations: HashMap<u32, u32>,
    /// Each line's first instruction, file and line number; sorted.
    pub(super) lines: Vec<(u32, std::sync::Arc<str>, u32)>,
    /// Sorted by their first instruction.
    pub(super) functions: Vec<CodeFunction>,
}

/// A function of a section.
#[derive(Clone, Debug)]
pub(super) struct CodeFunction {
    pub(super) name: String,
    pub(super) start: u32,
    pub(super) is_global: bool,
    /// Its FUNC in the object's BTF.
    pub(super) type_id: Option<TypeId>,
}

/// A section of data.
#[derive(Clone, Debug)]
pub(super) struct DataSection {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

impl DataSection {
    /// Whether its values are known before the program runs, and no program can write
    /// to it.
    pub(super) fn is_constant(&self) -> bool {
        self.name.starts_with(".rodata")
    }
}

/// The name and place of a constant that loaders may set.
#[derive(Clone, Debug)]
pub(super) struct DataSymbol {
    pub(super) name: String,
    pub(super) section: u32,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// The parts of an object that an audit needs.
#[derive(Clone, Debug)]
pub(super) struct BpfElf {
    pub(super) byte_order: ByteOrder,
    pub(super) code: Vec<CodeSection>,
    pub(super) data: Vec<DataSection>,
    pub(super) constants: Vec<DataSymbol>,
    pub(super) externs: Vec<String>,
    pub(super) relocations: Vec<CoreRecord>,
    pub(super) btf: Option<std::sync::Arc<Section>>,
}

/// The most instructions, in all sections together. The verifier takes a million for
/// each program.
pub(super) const MAX_INSTRUCTIONS: usize = 4 << 20;
const MAX_SECTIONS: usize = 1 << 14;
const MAX_SYMBOLS: usize = 1 << 18;
pub(super) const MAX_RECORDS: usize = 1 << 20;
/// In bytes, of sections of constants.
pub(super) const MAX_DATA: usize = 16 << 20;

/// `EM_BPF`.
const MACHINE: u16 = 247;

type Elf<'a> = ElfFile64<'a, Endianness>;

/// The destinations of the file's sections, by their numbers there.
#[derive(Default)]
struct SectionPlaces {
    code: HashMap<usize, u32>,
    data: HashMap<usize, u32>,
}

impl BpfElf {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BpfObjectError> {
        let elf = Elf::parse(bytes).map_err(|source| BpfObjectError::Elf { source })?;
        let endian = elf.endian();
        let machine = elf.elf_header().e_machine.get(endian);
        if machine != MACHINE {
            return Err(BpfObjectError::NotBpf { machine });
        }
        let mut found = Self {
            byte_order: match endian {
                Endianness::Little => ByteOrder::Little,
                Endianness::Big => ByteOrder::Big,
            },
            code: Vec::new(),
            data: Vec::new(),
            constants: Vec::new(),
            externs: Vec::new(),
            relocations: Vec::new(),
            btf: None,
        };
        let places = found.read_sections(&elf)?;
        found.read_symbols(&elf, &places)?;
        found.read_relocations(&elf, &places)?;
        found.read_btf(&elf)?;
        Ok(found)
    }

    fn read_sections(&mut self, elf: &Elf<'_>) -> Result<SectionPlaces, BpfObjectError> {
        let mut places = SectionPlaces::default();
        let (mut instructions, mut data) = (0, 0);
        for (number, section) in elf.sections().enumerate() {
            check("sections", number, MAX_SECTIONS)?;
            let name = String::from_utf8_lossy(section.name_bytes().unwrap_or_default());
            let name = name.into_owned();
            let SectionFlags::Elf { sh_flags } = section.flags() else {
                continue;
            };
            let has = |flag: u32| sh_flags & u64::from(flag) != 0;
            let is_code = has(object::elf::SHF_EXECINSTR) && has(object::elf::SHF_ALLOC);
            if !is_code && !has(object::elf::SHF_ALLOC) {
                continue;
            }
            let bytes = section.data().map_err(|source| BpfObjectError::Part {
                part: format!("section {name}"),
                source,
            })?;
            let index = section.index().0;
            if is_code {
                if bytes.len() % INSTRUCTION != 0 {
                    return Err(BpfObjectError::CodeLength {
                        section: name,
                        length: bytes.len(),
                    });
                }
                instructions += bytes.len() / INSTRUCTION;
                check("instructions", instructions, MAX_INSTRUCTIONS)?;
                places.code.insert(index, self.code.len() as u32);
                self.code.push(CodeSection {
                    name,
                    instructions: bytes
                        .as_chunks()
                        .0
                        .iter()
                        .map(|bytes| RawInstruction::parse(*bytes, self.byte_order))
                        .collect(),
                    symbols: HashMap::new(),
                    relocations: HashMap::new(),
                    lines: Vec::new(),
                    functions: Vec::new(),
                });
            } else {
                places.data.insert(index, self.data.len() as u32);
                let mut section = DataSection {
                    name,
                    bytes: Vec::new(),
                };
                if section.is_constant() {
                    data += bytes.len();
                    check("bytes of constants", data, MAX_DATA)?;
                    section.bytes = bytes.to_vec();
                }
                self.data.push(section);
            }
        }
        Ok(places)
    }

    /// Reads functions and named constants.
    fn read_symbols(
        &mut self,
        elf: &Elf<'_>,
        places: &SectionPlaces,
    ) -> Result<(), BpfObjectError> {
        for (number, symbol) in elf.symbols().enumerate() {
            check("symbols", number, MAX_SYMBOLS)?;
            let SymbolSection::Section(index) = symbol.section() else {
                continue;
            };
            let name = String::from_utf8_lossy(symbol.name_bytes().unwrap_or_default());
            if let Some(&at) = places.code.get(&index.0)
                && symbol.kind() == SymbolKind::Text
            {
                let code = &mut self.code[at as usize];
                let start = symbol.address() / INSTRUCTION as u64;
                if start < code.instructions.len() as u64 {
                    code.functions.push(CodeFunction {
                        name: name.into_owned(),
                        start: start as u32,
                        is_global: !symbol.is_local(),
                        type_id: None,
                    });
                }
            } else if let Some(&section) = places.data.get(&index.0)
                && symbol.kind() == SymbolKind::Data
            {
                self.constants.push(DataSymbol {
                    name: name.into_owned(),
                    section,
                    offset: symbol.address(),
                    size: symbol.size(),
                });
            }
        }
        for code in &mut self.code {
            code.functions
                .sort_by(|a, b| (a.start, &a.name).cmp(&(b.start, &b.name)));
        }
        Ok(())
    }

    fn read_relocations(
        &mut self,
        elf: &Elf<'_>,
        places: &SectionPlaces,
    ) -> Result<(), BpfObjectError> {
        let mut externs: HashMap<usize, u32> = HashMap::new();
        for section in elf.sections() {
            let Some(&at) = places.code.get(&section.index().0) else {
                continue;
            };
            for (number, (offset, relocation)) in section.relocations().enumerate() {
                check("relocations", number, MAX_RECORDS)?;
                let instruction = offset / INSTRUCTION as u64;
                let code = &self.code[at as usize].instructions;
                let Some(&raw) = code.get(usize::try_from(instruction).unwrap_or(usize::MAX))
                else {
                    continue;
                };
                let RelocationTarget::Symbol(index) = relocation.target() else {
                    continue;
                };
                let Ok(symbol) = elf.symbol_by_index(index) else {
                    continue;
                };
                let target = match symbol.section() {
                    SymbolSection::Undefined => {
                        let place = *externs.entry(index.0).or_insert_with(|| {
                            let name = symbol.name_bytes().unwrap_or_default();
                            self.externs
                                .push(String::from_utf8_lossy(name).into_owned());
                            self.externs.len() as u32 - 1
                        });
                        SymbolTarget::Extern(place)
                    }
                    SymbolSection::Section(section) => {
                        symbol_target(raw, symbol.address(), section.0, places)
                    }
                    _ => SymbolTarget::Other,
                };
                let symbols = &mut self.code[at as usize].symbols;
                symbols.insert(instruction as u32, target);
            }
        }
        Ok(())
    }

    fn read_btf(&mut self, elf: &Elf<'_>) -> Result<(), BpfObjectError> {
        let bytes = |name: &str| match elf.section_by_name(name) {
            Some(section) => section.data().map(Some).map_err(|source| {
                let part = format!("section {name}");
                BpfObjectError::Part { part, source }
            }),
            None => Ok(None),
        };
        let Some(btf) = bytes(".BTF")?.filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        let section = Section::parse(btf.to_vec().into(), None, |_, _, _, _| {})
            .map_err(|source| BpfObjectError::Btf { source })?;
        let ext = match bytes(".BTF.ext")?.filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => BtfExt::parse(bytes, self.byte_order)?,
            None => BtfExt::default(),
        };
        let text = |at| section.name(at).map(String::from_utf8_lossy);
        let mut by_name: HashMap<String, u32> = HashMap::new();
        for (at, code) in self.code.iter().enumerate() {
            by_name.insert(code.name.clone(), at as u32);
        }
        let place = |name: u32, offset: u32| {
            let section = *by_name.get(&*text(name)?)?;
            Some((section as usize, offset / INSTRUCTION as u32))
        };
        for record in &ext.functions {
            let [offset, type_id] = record.words;
            if let Some((code, start)) = place(record.section_name, offset) {
                let functions = self.code[code].functions.iter_mut();
                for function in functions.filter(|function| function.start == start) {
                    function.type_id = Some(type_id);
                }
            }
        }
        let mut files: HashMap<u32, std::sync::Arc<str>> = HashMap::new();
        for record in &ext.lines {
            let [offset, file, _, line] = record.words;
            if let Some((code, start)) = place(record.section_name, offset) {
                let file = files
                    .entry(file)
                    .or_insert_with(|| text(file).unwrap_or_default().into());
                let lines = &mut self.code[code].lines;
                lines.push((start, std::sync::Arc::clone(file), line >> 10));
            }
        }
        for code in &mut self.code {
            code.lines.sort_by_key(|(start, _, _)| *start);
        }
        check("relocations", ext.relocations.len(), MAX_RECORDS)?;
        for record in &ext.relocations {
            let [offset, type_id, access, kind] = record.words;
            if let Some((code, start)) = place(record.section_name, offset) {
                let relocations = &mut self.code[code].relocations;
                relocations.insert(start, self.relocations.len() as u32);
                self.relocations.push(CoreRecord {
                    type_id,
                    access: text(access).unwrap_or_default().into_owned(),
                    kind,
                });
            }
        }
        self.btf = Some(std::sync::Arc::new(section));
        Ok(())
    }

    pub(super) fn instruction(&self, at: CodeAddress) -> Option<RawInstruction> {
        let section = self.code.get(at.section as usize)?;
        section.instructions.get(at.instruction as usize).copied()
    }

    /// Returns the function that contains an instruction.
    pub(super) fn function_of(&self, at: CodeAddress) -> Option<&CodeFunction> {
        let functions = &self.code.get(at.section as usize)?.functions;
        let after = functions.partition_point(|function| function.start <= at.instruction);
        functions[..after].last()
    }

    /// Returns the function that begins at an instruction.
    pub(super) fn function_at(&self, at: CodeAddress) -> Option<&CodeFunction> {
        self.function_of(at)
            .filter(|function| function.start == at.instruction)
    }

    /// Returns the file and line that an instruction was compiled from.
    pub(super) fn line_of(&self, at: CodeAddress) -> Option<(&str, u32)> {
        let lines = &self.code.get(at.section as usize)?.lines;
        let after = lines.partition_point(|(start, _, _)| *start <= at.instruction);
        let (start, file, line) = lines[..after].last()?;
        // The last line of the function before does not extend into this one.
        let function = self.function_of(at)?;
        (*start >= function.start && *line > 0).then_some((&**file, *line))
    }

    /// Returns, for an instruction that was inlined from another file, the last line before it
    /// of the function's own file, or else the first after it; `None` if it was not inlined from
    /// another file. A function's own file is that of its `exit`: what is inlined has none.
    pub(super) fn line_near(&self, at: CodeAddress) -> Option<(&str, u32)> {
        /// The most instructions among which the last `exit` is searched, from the end.
        const SEARCHED: usize = 4096;
        let (inlined, _) = self.line_of(at)?;
        let code = self.code.get(at.section as usize)?;
        let after = code
            .functions
            .partition_point(|function| function.start <= at.instruction);
        let start = code.functions[..after].last()?.start;
        let length = u32::try_from(code.instructions.len()).ok()?;
        let end = code.functions.get(after).map_or(length, |next| next.start);
        let mut searched = (start..end).rev().take(SEARCHED);
        let exit = searched.find(|&index| code.instructions[index as usize].opcode == EXIT)?;
        let exit = CodeAddress {
            instruction: exit,
            ..at
        };
        let (own, _) = self.line_of(exit)?;
        if own == inlined {
            return None;
        }
        let own = |(begin, file, line): &&(u32, std::sync::Arc<str>, u32)| {
            (start..end).contains(begin) && **file == *own && *line > 0
        };
        let after = code
            .lines
            .partition_point(|(start, _, _)| *start <= at.instruction);
        let (before, after) = code.lines.split_at(after);
        let mut before = before.iter().rev().take(SEARCHED);
        let near = before.find(own);
        let (_, file, line) = near.or_else(|| after.iter().take(SEARCHED).find(own))?;
        Some((file, *line))
    }
}

/// Returns the object that a symbol refers to, with the instruction's immediate as the
/// addend.
fn symbol_target(
    instruction: RawInstruction,
    address: u64,
    section: usize,
    places: &SectionPlaces,
) -> SymbolTarget {
    let addend = i64::from(instruction.immediate);
    let address = address as i64;
    let code = |byte_offset: i64| {
        let place = places.code.get(&section).copied();
        let instruction = u32::try_from(byte_offset / INSTRUCTION as i64).ok();
        match (place, instruction) {
            (Some(section), Some(instruction)) => SymbolTarget::Code(CodeAddress {
                section,
                instruction,
            }),
            _ => SymbolTarget::Other,
        }
    };
    match instruction.opcode {
        // The immediate counts instructions from the one after the call.
        CALL if instruction.source == PSEUDO_CALL => {
            code(address.saturating_add((addend + 1) * INSTRUCTION as i64))
        }
        LOAD_IMMEDIATE if places.code.contains_key(&section) => {
            code(address.saturating_add(addend))
        }
        LOAD_IMMEDIATE => match places.data.get(&section) {
            Some(&section) => SymbolTarget::Data {
                section,
                offset: address.saturating_add(addend),
            },
            None => SymbolTarget::Other,
        },
        _ => SymbolTarget::Other,
    }
}

pub(super) fn check(what: &'static str, count: usize, limit: usize) -> Result<(), BpfObjectError> {
    match count <= limit {
        true => Ok(()),
        false => Err(BpfObjectError::TooMany { what, limit }),
    }
}
