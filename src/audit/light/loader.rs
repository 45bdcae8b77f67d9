//! What a loader does: its system calls, each with the place of its `union bpf_attr`, and the
//! addresses that it stores before.

use std::collections::HashMap;

use super::super::BpfObjectError;
use super::super::instruction::{
    CALL, EXIT, INSTRUCTION, LOAD_IMMEDIATE, MODE_MEMORY, RawInstruction, class,
};
use crate::machine::ByteOrder;

/// The source register of a 64-bit immediate that is an address in the data
/// (`BPF_PSEUDO_MAP_IDX_VALUE`).
const IN_DATA: u8 = 6;

/// The most instructions, as in the verifier.
const MAX_INSTRUCTIONS: usize = 1 << 20;

/// The helpers that it calls.
const SYS_BPF: i32 = 166;
const FIND_BY_NAME: i32 = 167;

/// The commands of `bpf(2)` that matter here.
const MAP_CREATE: i64 = 0;
const MAP_UPDATE: i64 = 2;
const PROG_LOAD: i64 = 5;
const BTF_LOAD: i64 = 18;
const MAP_FREEZE: i64 = 22;

/// Offsets in `union bpf_attr`, in bytes (`include/uapi/linux/bpf.h`).
pub(super) mod attr {
    /// Of `BTF_LOAD`.
    pub(in super::super) const BTF: u32 = 0;
    pub(in super::super) const BTF_SIZE: u32 = 16;
    /// Of `MAP_CREATE`.
    pub(in super::super) const VALUE_SIZE: u32 = 8;
    pub(in super::super) const MAP_FLAGS: u32 = 16;
    pub(in super::super) const MAP_NAME: u32 = 28;
    pub(in super::super) const MAP_VALUE_TYPE: u32 = 56;
    /// Of `MAP_UPDATE_ELEM` and `MAP_FREEZE`.
    pub(in super::super) const MAP: u32 = 0;
    pub(in super::super) const VALUE: u32 = 16;
    /// Of `PROG_LOAD`.
    pub(in super::super) const PROGRAM_TYPE: u32 = 0;
    pub(in super::super) const INSTRUCTION_COUNT: u32 = 4;
    pub(in super::super) const INSTRUCTIONS: u32 = 8;
    pub(in super::super) const PROGRAM_NAME: u32 = 48;
    pub(in super::super) const ATTACH_TYPE: u32 = 68;
    pub(in super::super) const FUNCTION_SIZE: u32 = 76;
    pub(in super::super) const FUNCTIONS: u32 = 80;
    pub(in super::super) const FUNCTION_COUNT: u32 = 88;
    pub(in super::super) const LINE_SIZE: u32 = 92;
    pub(in super::super) const LINES: u32 = 96;
    pub(in super::super) const LINE_COUNT: u32 = 104;
    pub(in super::super) const ATTACH_BTF_ID: u32 = 108;
    pub(in super::super) const RELOCATION_COUNT: u32 = 116;
    pub(in super::super) const FD_ARRAY: u32 = 120;
    pub(in super::super) const RELOCATIONS: u32 = 128;
    pub(in super::super) const RELOCATION_SIZE: u32 = 136;
    /// The size up to there.
    pub(in super::super) const SIZE: u32 = 140;
}

/// A loader, with offsets in its data, in bytes.
#[derive(Debug)]
pub(super) struct Loader {
    pub(super) byte_order: ByteOrder,
    pub(super) btf: LoadedBtf,
    /// The `union bpf_attr` of each map, in the order of creation.
    pub(super) maps: Vec<u32>,
    /// The initial value of maps, by their places among those.
    pub(super) values: HashMap<usize, u32>,
    /// Maps that no program can write to, once their value is set.
    pub(super) frozen: Vec<usize>,
    pub(super) programs: Vec<LoadedProgram>,
    /// What is stored where at the end.
    stores: HashMap<u32, (u32, LoaderValue)>,
}

/// The object's types.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoadedBtf {
    pub(super) attr: u32,
    pub(super) at: u32,
}

/// A program that the loader loads.
#[derive(Debug)]
pub(super) struct LoadedProgram {
    pub(super) attr: u32,
    pub(super) instructions: u32,
    pub(super) functions: Option<u32>,
    pub(super) lines: Option<u32>,
    pub(super) relocations: Option<u32>,
    fd_array: Option<u32>,
    /// The name that the kernel's BTF is asked for, and its length with the NUL.
    pub(super) target: Option<(u32, u32)>,
}

/// What a register or a place in the data holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoaderValue {
    Number(i64),
    /// An address in the data.
    Data(u32),
    /// The descriptor of a map, by its place among the created.
    Map(usize),
    /// The type of this name in the kernel's BTF.
    Type {
        name: u32,
        length: u32,
    },
    Unknown,
}

impl Loader {
    /// Reads the loader that these bytes begin with.
    pub(super) fn read(bytes: &[u8], byte_order: ByteOrder) -> Result<Self, BpfObjectError> {
        let fault = |what| BpfObjectError::LightSkeletonPart { what };
        let instructions = bytes
            .as_chunks::<INSTRUCTION>()
            .0
            .iter()
            .take(MAX_INSTRUCTIONS);
        let mut instructions = instructions.map(|bytes| RawInstruction::parse(*bytes, byte_order));
        let mut run = Run::default();
        loop {
            let instruction = instructions
                .next()
                .ok_or(fault("its loader does not end"))?;
            match (instruction.class(), instruction.opcode) {
                (_, EXIT) => break,
                // Over the cleanup, which the other jumps lead to when something fails.
                (_, 0x05) => {
                    let over = usize::try_from(instruction.offset);
                    let over = over.map_err(|_| fault("its loader jumps back"))?;
                    if over > 0 {
                        instructions.nth(over - 1);
                    }
                }
                (_, LOAD_IMMEDIATE) => {
                    let high = instructions
                        .next()
                        .ok_or(fault("its loader does not end"))?;
                    let held = match instruction.source {
                        IN_DATA if instruction.immediate == 0 => {
                            LoaderValue::Data(high.immediate as u32)
                        }
                        _ => LoaderValue::Unknown,
                    };
                    run.set(instruction.destination, held);
                }
                (_, CALL) => run.call(instruction.immediate),
                (class::JMP | class::JMP32, _) => {}
                _ => run.step(instruction),
            }
        }
        let btf = run.btf.ok_or(fault("it has no BTF"))?;
        Ok(Self {
            byte_order,
            btf,
            maps: run.maps,
            values: run.values,
            frozen: run.frozen,
            programs: run.programs,
            stores: run.stores,
        })
    }

    /// Returns the map that a program's instructions name by a number, by its place among the
    /// created.
    pub(super) fn map(&self, program: &LoadedProgram, number: i32) -> Option<usize> {
        let number = u32::try_from(number).ok()?;
        let slot = number.checked_mul(4)?.checked_add(program.fd_array?)?;
        match self.stores.get(&slot) {
            Some((4, LoaderValue::Map(map))) => Some(*map),
            _ => None,
        }
    }

    /// Returns the end of what it uses of its data.
    pub(super) fn end(&self) -> usize {
        let programs = self.programs.iter().map(|program| program.attr);
        let attrs = programs.chain(self.maps.iter().copied());
        let attrs = attrs.chain([self.btf.attr]);
        let end = attrs.map(|at| at.saturating_add(attr::SIZE)).max();
        let stores = self.stores.iter();
        let stores = stores.map(|(at, (size, _))| at.saturating_add(*size)).max();
        let targets = self.programs.iter().filter_map(|program| program.target);
        let targets = targets.map(|(at, length)| at.saturating_add(length)).max();
        end.max(stores).max(targets).unwrap_or(0) as usize
    }

    /// Whether the loader writes to these bytes of the data.
    pub(super) fn is_written(&self, at: u32, size: u32) -> bool {
        // No store has more than 8 bytes.
        let first = at.saturating_sub(7);
        let mut near = first..at.saturating_add(size);
        near.any(|store| {
            let written = self.stores.get(&store);
            written.is_some_and(|(size, _)| store.saturating_add(*size) > at)
        })
    }
}

/// The state between two instructions.
#[derive(Default)]
struct Run {
    registers: [Option<LoaderValue>; 11],
    stores: HashMap<u32, (u32, LoaderValue)>,
    btf: Option<LoadedBtf>,
    maps: Vec<u32>,
    values: HashMap<usize, u32>,
    frozen: Vec<usize>,
    programs: Vec<LoadedProgram>,
}

impl Run {
    fn register(&self, register: u8) -> LoaderValue {
        let held = self.registers.get(usize::from(register));
        held.copied().flatten().unwrap_or(LoaderValue::Unknown)
    }

    fn set(&mut self, register: u8, held: LoaderValue) {
        if let Some(known) = self.registers.get_mut(usize::from(register)) {
            *known = Some(held);
        }
    }

    fn step(&mut self, instruction: RawInstruction) {
        const MOVE: u8 = 0xb0;
        let offset = i64::from(instruction.offset);
        let place = |held| match held {
            LoaderValue::Data(at) => u32::try_from(i64::from(at) + offset).ok(),
            _ => None,
        };
        match instruction.class() {
            class::ALU64 if instruction.operation() == MOVE && instruction.offset == 0 => {
                let held = match instruction.has_register_operand() {
                    true => self.register(instruction.source),
                    false => LoaderValue::Number(instruction.immediate.into()),
                };
                self.set(instruction.destination, held);
            }
            class::LDX => {
                let size = instruction.memory_size();
                let place = place(self.register(instruction.source));
                let stored = place.and_then(|at| self.stores.get(&at));
                let held = match stored {
                    Some((known, held)) if *known == size => *held,
                    _ => LoaderValue::Unknown,
                };
                self.set(instruction.destination, held);
            }
            class::ST | class::STX if instruction.mode() == MODE_MEMORY => {
                let held = match instruction.class() {
                    class::STX => self.register(instruction.source),
                    _ => LoaderValue::Number(instruction.immediate.into()),
                };
                if let Some(at) = place(self.register(instruction.destination)) {
                    self.stores.insert(at, (instruction.memory_size(), held));
                }
            }
            _ => self.set(instruction.destination, LoaderValue::Unknown),
        }
    }

    fn call(&mut self, helper: i32) {
        let result = match (helper, self.register(1), self.register(2)) {
            (SYS_BPF, LoaderValue::Number(command), LoaderValue::Data(attr)) => {
                self.system_call(command, attr)
            }
            (FIND_BY_NAME, LoaderValue::Data(name), LoaderValue::Number(length)) => {
                LoaderValue::Type {
                    name,
                    length: u32::try_from(length).unwrap_or(0),
                }
            }
            _ => LoaderValue::Unknown,
        };
        self.registers[1..6].fill(None);
        self.set(0, result);
    }

    fn system_call(&mut self, command: i64, attr: u32) -> LoaderValue {
        let at = |offset: u32| attr.checked_add(offset);
        let stored = |offset| Some(self.stores.get(&at(offset)?)?.1);
        let pointer = |offset| match stored(offset) {
            Some(LoaderValue::Data(at)) => Some(at),
            _ => None,
        };
        let map = match stored(attr::MAP) {
            Some(LoaderValue::Map(map)) => Some(map),
            _ => None,
        };
        match command {
            BTF_LOAD => {
                if let Some(at) = pointer(attr::BTF) {
                    self.btf = Some(LoadedBtf { attr, at });
                }
            }
            MAP_CREATE => {
                self.maps.push(attr);
                return LoaderValue::Map(self.maps.len() - 1);
            }
            MAP_UPDATE => {
                if let (Some(map), Some(value)) = (map, pointer(attr::VALUE)) {
                    self.values.insert(map, value);
                }
            }
            MAP_FREEZE => self.frozen.extend(map),
            PROG_LOAD => {
                if let Some(instructions) = pointer(attr::INSTRUCTIONS) {
                    self.programs.push(LoadedProgram {
                        attr,
                        instructions,
                        functions: pointer(attr::FUNCTIONS),
                        lines: pointer(attr::LINES),
                        relocations: pointer(attr::RELOCATIONS),
                        fd_array: pointer(attr::FD_ARRAY),
                        target: match stored(attr::ATTACH_BTF_ID) {
                            Some(LoaderValue::Type { name, length }) => Some((name, length)),
                            _ => None,
                        },
                    });
                }
            }
            _ => {}
        }
        LoaderValue::Unknown
    }
}
