//! The object of a light skeleton, as if it had been read from its ELF file.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::elf::{
    BpfElf, CodeAddress, CodeFunction, CodeSection, CoreRecord, DataSection, DataSymbol, MAX_DATA,
    MAX_INSTRUCTIONS, MAX_RECORDS, SymbolTarget, check,
};
use super::super::instruction::{INSTRUCTION, LOAD_IMMEDIATE, RawInstruction};
use super::super::program::{Attachable, BpfProgram};
use super::super::{BpfObject, BpfObjectError, MAX_PROGRAMS};
use super::data::LightData;
use super::loader::{LoadedProgram, Loader, attr};
use super::sections::{LightKind, LightProgram, LightSection, sections};
use crate::btf::{Kind, Section};

/// `enum bpf_prog_type` and `enum bpf_attach_type` (`include/uapi/linux/bpf.h`).
const TRACEPOINT: u32 = 5;
const RAW_TRACEPOINT: u32 = 17;
const RAW_TRACEPOINT_WRITABLE: u32 = 24;
const TRACING: u32 = 26;
const TRACE_RAW_TP: u32 = 23;
/// `BPF_F_RDONLY_PROG`.
const READ_ONLY: u32 = 1 << 7;

/// The source register of a 64-bit immediate that is an address in a map
/// (`BPF_PSEUDO_MAP_IDX_VALUE`), and of one that is a function's (`BPF_PSEUDO_FUNC`).
const IN_MAP: u8 = 6;
const FUNCTION: u8 = 4;

/// What symbols that only the loader knows are called. Values of `.kconfig` are those of the
/// machine that made the skeleton, unless the tool sets others.
const EXTERN: &str = "";

/// A light skeleton while it is read.
struct LightReader<'a> {
    loader: &'a Loader,
    data: LightData<'a>,
    btf: Section,
    files: HashMap<u32, Arc<str>>,
    relocations: Vec<CoreRecord>,
    /// The maps with values of the kernel's configuration.
    kconfig: Vec<usize>,
    /// Instructions and records read so far.
    instruction_count: usize,
    record_count: usize,
}

/// Whether a map has the values of the kernel's configuration; libbpf keeps the end of its name.
fn is_kconfig(name: &str) -> bool {
    name.ends_with(".kconfig")
}

fn fault(what: &'static str) -> BpfObjectError {
    BpfObjectError::LightSkeletonPart { what }
}

/// Reads the object.
pub(super) fn read(loader: &Loader, data: LightData<'_>) -> Result<BpfObject, BpfObjectError> {
    let size = loader.btf.attr.checked_add(attr::BTF_SIZE);
    let size = size.and_then(|at| data.word(at));
    let btf = size.and_then(|size| data.slice(loader.btf.at, size));
    let btf = btf.ok_or(fault("its BTF is cut"))?;
    let btf = Section::parse(btf.to_vec().into(), None, |_, _, _, _| {})
        .map_err(|source| BpfObjectError::Btf { source })?;
    let mut reader = LightReader {
        loader,
        data,
        btf,
        files: HashMap::new(),
        relocations: Vec::new(),
        kconfig: Vec::new(),
        instruction_count: 0,
        record_count: 0,
    };
    if loader.programs.len() > MAX_PROGRAMS {
        return Err(BpfObjectError::TooMany {
            what: "programs",
            limit: MAX_PROGRAMS,
        });
    }
    let (data, constants) = reader.maps()?;
    let read = |program| reader.program(program);
    let programs: Result<Vec<_>, _> = loader.programs.iter().map(read).collect();
    let (asked, mut code): (Vec<LightProgram>, Vec<CodeSection>) = programs?.into_iter().unzip();
    let sections = sections(&reader.btf, &asked);
    let programs = asked.iter().zip(&mut code).zip(sections).enumerate();
    let programs = programs.map(|(index, ((asked, code), section))| {
        let LightSection { name, is_inferred } = section;
        code.name.clone_from(&name);
        let first = code.functions.first();
        BpfProgram {
            name: first.map_or_else(String::new, |function| function.name.clone()),
            attachable: match asked.kind {
                LightKind::Other => Attachable::Other,
                _ => Attachable::of_section(&name),
            },
            section: name,
            is_inferred,
            start: CodeAddress {
                section: index as u32,
                instruction: 0,
            },
        }
    });
    let programs = programs.collect();
    let elf = BpfElf {
        byte_order: loader.byte_order,
        code,
        data,
        constants,
        externs: vec![EXTERN.to_owned()],
        relocations: reader.relocations,
        btf: Some(Arc::new(reader.btf)),
    };
    Ok(BpfObject::new(elf, programs, true))
}

impl LightReader<'_> {
    /// Reads the maps that are sections of data, in the order of their creation, and the
    /// constants in them.
    fn maps(&mut self) -> Result<(Vec<DataSection>, Vec<DataSymbol>), BpfObjectError> {
        let (mut data, mut constants) = (Vec::new(), Vec::new());
        let mut size_of_constants = 0;
        for (index, &map) in self.loader.maps.iter().enumerate() {
            let word = |offset: u32| self.data.word(map.checked_add(offset)?);
            let name = map.checked_add(attr::MAP_NAME);
            let name = name.and_then(|at| self.data.text(at, 16));
            let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
            if is_kconfig(&name) {
                self.kconfig.push(index);
            }
            let value = self.loader.values.get(&index).copied();
            let is_read_only = word(attr::MAP_FLAGS).is_some_and(|flags| flags & READ_ONLY != 0);
            let is_constant = is_read_only && self.loader.frozen.contains(&index);
            let section = match value {
                Some(value) if is_constant && !is_kconfig(&name) => {
                    let bytes =
                        word(attr::VALUE_SIZE).and_then(|size| self.data.slice(value, size));
                    let bytes = bytes.ok_or(fault("a map's value is cut"))?;
                    size_of_constants += bytes.len();
                    check("bytes of constants", size_of_constants, MAX_DATA)?;
                    let variables = word(attr::MAP_VALUE_TYPE)
                        .and_then(|id| self.btf.type_by_id(id))
                        .into_iter()
                        .flat_map(|ty| ty.variables());
                    for (variable, offset, size) in variables {
                        let variable = self.btf.type_by_id(variable);
                        constants.extend(variable.map(|variable| DataSymbol {
                            name: String::from_utf8_lossy(variable.name()).into_owned(),
                            section: index as u32,
                            offset: offset.into(),
                            size: size.into(),
                        }));
                    }
                    DataSection {
                        // The map's name begins with the object's, and may be another's.
                        name: ".rodata".to_owned(),
                        bytes: bytes.to_vec(),
                    }
                }
                _ => DataSection {
                    name: ".data".to_owned(),
                    bytes: Vec::new(),
                },
            };
            data.push(section);
        }
        Ok((data, constants))
    }

    fn program(
        &mut self,
        program: &LoadedProgram,
    ) -> Result<(LightProgram, CodeSection), BpfObjectError> {
        let data = self.data;
        let word = |offset: u32| {
            let word = program
                .attr
                .checked_add(offset)
                .and_then(|at| data.word(at));
            word.ok_or(fault("a program's attributes are cut"))
        };
        let count = word(attr::INSTRUCTION_COUNT)?;
        let instructions = count
            .checked_mul(INSTRUCTION as u32)
            .and_then(|size| data.slice(program.instructions, size))
            .ok_or(fault("a program is cut"))?;
        self.instruction_count += count as usize;
        check("instructions", self.instruction_count, MAX_INSTRUCTIONS)?;
        let instructions: Vec<RawInstruction> = instructions
            .as_chunks()
            .0
            .iter()
            .map(|bytes| RawInstruction::parse(*bytes, self.loader.byte_order))
            .collect();
        let symbols = self.symbols(program, &instructions);
        let (at, sizes) = (
            program.functions,
            (attr::FUNCTION_SIZE, attr::FUNCTION_COUNT),
        );
        let functions = self.records::<2>(at, word(sizes.0)?, word(sizes.1)?)?;
        let (at, sizes) = (program.lines, (attr::LINE_SIZE, attr::LINE_COUNT));
        let lines = self.records::<4>(at, word(sizes.0)?, word(sizes.1)?)?;
        let relocations = match program.relocations {
            // Before libbpf 0.6 there were none.
            None => Vec::new(),
            at => {
                let size = word(attr::RELOCATION_SIZE)?;
                self.records::<4>(at, size, word(attr::RELOCATION_COUNT)?)?
            }
        };
        let name = data.text(program.attr.saturating_add(attr::PROGRAM_NAME), 16);
        let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
        let functions = self.functions(name, &functions);
        let target = program
            .target
            .and_then(|(at, length)| data.text(at, length));
        let target = target.and_then(|name| str::from_utf8(name).ok()?.strip_prefix("btf_trace_"));
        let kind = match word(attr::PROGRAM_TYPE)? {
            TRACEPOINT => LightKind::Tracepoint,
            RAW_TRACEPOINT | RAW_TRACEPOINT_WRITABLE => LightKind::Raw,
            TRACING if word(attr::ATTACH_TYPE)? == TRACE_RAW_TP => LightKind::Typed,
            _ => LightKind::Other,
        };
        let asked = LightProgram {
            kind,
            function: functions
                .first()
                .filter(|function| function.type_id.is_some())
                .map(|function| function.name.clone()),
            target: target
                .filter(|_| kind == LightKind::Typed)
                .map(str::to_owned),
        };
        let code = CodeSection {
            name: String::new(),
            instructions,
            symbols,
            relocations: self.relocations(&relocations),
            lines: self.lines(&lines),
            functions,
        };
        Ok((asked, code))
    }

    /// Returns what addresses in maps, and instructions that the loader writes to, refer to.
    fn symbols(
        &self,
        program: &LoadedProgram,
        instructions: &[RawInstruction],
    ) -> HashMap<u32, SymbolTarget> {
        const SIZE: u32 = INSTRUCTION as u32;
        let mut symbols = HashMap::new();
        let mut all = instructions.iter().enumerate();
        while let Some((index, instruction)) = all.next() {
            let index = index as u32;
            let at = program.instructions.saturating_add(SIZE * index);
            if instruction.opcode != LOAD_IMMEDIATE {
                continue;
            }
            let high = all.next().map_or(0, |(_, high)| high.immediate);
            if self.loader.is_written(at, 2 * SIZE) {
                symbols.insert(index, SymbolTarget::Extern(0));
                continue;
            }
            let target = match instruction.source {
                IN_MAP => match self.loader.map(program, instruction.immediate) {
                    Some(map) if self.kconfig.contains(&map) => SymbolTarget::Extern(0),
                    Some(map) => SymbolTarget::Data {
                        section: map as u32,
                        offset: high.into(),
                    },
                    None => SymbolTarget::Other,
                },
                FUNCTION => {
                    let to = i64::from(index) + 1 + i64::from(instruction.immediate);
                    match u32::try_from(to) {
                        Ok(instruction) => SymbolTarget::Code(CodeAddress {
                            section: self.code_section(program),
                            instruction,
                        }),
                        Err(_) => SymbolTarget::Other,
                    }
                }
                _ => continue,
            };
            symbols.insert(index, target);
        }
        symbols
    }

    fn code_section(&self, program: &LoadedProgram) -> u32 {
        let mut programs = self.loader.programs.iter();
        let place = programs.position(|known| known.attr == program.attr);
        place.unwrap_or(0) as u32
    }

    /// Returns the records of a table, as words.
    fn records<const WORDS: usize>(
        &mut self,
        at: Option<u32>,
        size: u32,
        count: u32,
    ) -> Result<Vec<[u32; WORDS]>, BpfObjectError> {
        let Some(at) = at.filter(|_| count > 0) else {
            return Ok(Vec::new());
        };
        let cut = fault("a table of a program is cut");
        if (size as usize) < 4 * WORDS {
            return Err(cut);
        }
        self.record_count += count as usize;
        check("records", self.record_count, MAX_RECORDS)?;
        let data = self.data;
        let record = |index: u32| {
            let start = index.checked_mul(size)?.checked_add(at)?;
            let mut words = [0; WORDS];
            for (index, word) in words.iter_mut().enumerate() {
                *word = data.word(start.checked_add(4 * index as u32)?)?;
            }
            Some(words)
        };
        let records: Option<Vec<_>> = (0..count).map(record).collect();
        records.ok_or(cut)
    }

    /// Returns the functions, the program's own first; `name` is the name that the kernel gets,
    /// of at most 15 characters.
    fn functions(&self, name: String, records: &[[u32; 2]]) -> Vec<CodeFunction> {
        let mut functions: Vec<CodeFunction> = records
            .iter()
            .filter_map(|&[start, type_id]| {
                let ty = self.btf.type_by_id(type_id)?;
                (ty.kind == Kind::Func).then(|| CodeFunction {
                    name: String::from_utf8_lossy(ty.name()).into_owned(),
                    start,
                    is_global: start == 0,
                    type_id: Some(type_id),
                })
            })
            .collect();
        functions.sort_by_key(|function| function.start);
        if functions.first().is_none_or(|first| first.start != 0) {
            let own = CodeFunction {
                name,
                start: 0,
                is_global: true,
                type_id: None,
            };
            functions.insert(0, own);
        }
        functions
    }

    fn lines(&mut self, records: &[[u32; 4]]) -> Vec<(u32, Arc<str>, u32)> {
        let mut lines: Vec<(u32, Arc<str>, u32)> = Vec::with_capacity(records.len());
        for &[start, file, _, line] in records {
            let name = self.files.entry(file).or_insert_with(|| {
                let name = self.btf.name(file).unwrap_or_default();
                String::from_utf8_lossy(name).into()
            });
            lines.push((start, Arc::clone(name), line >> 10));
        }
        lines.sort_by_key(|(start, _, _)| *start);
        lines
    }

    fn relocations(&mut self, records: &[[u32; 4]]) -> HashMap<u32, u32> {
        let mut relocations = HashMap::new();
        for &[offset, type_id, access, kind] in records {
            relocations.insert(offset / INSTRUCTION as u32, self.relocations.len() as u32);
            let access = self.btf.name(access).unwrap_or_default();
            self.relocations.push(CoreRecord {
                type_id,
                access: String::from_utf8_lossy(access).into_owned(),
                kind,
            });
        }
        relocations
    }
}
