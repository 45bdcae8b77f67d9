//! Abstract interpretation of a program, which finds its reads of the context.
//!
//! All paths through the program are followed as by the verifier: a branch that
//! constants decide is followed one way only, and each path keeps its knowledge of
//! registers and the stack. Where many paths meet, their states are joined, so that
//! interpretation ends for any program.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::elf::{BpfElf, CodeAddress, SymbolTarget};
use super::instruction::{LOAD_IMMEDIATE, RawInstruction, arithmetic, class};
use super::jumps::meetings;
use super::relocate::{CoreKind, Relocated};
use super::state::{
    ArgumentPointer, CallFrame, ContextPointer, Guard, MachineState, Named, RegisterValue,
};
use super::values::combined;
use crate::btf::Kind;
use crate::machine::{ByteOrder, Machine};

/// The interpreter's view of the context, for following values out of it.
pub(super) trait ContextShape {
    /// Returns the value of these bytes of the context.
    fn read(&self, pointer: ContextPointer, size: u32) -> RegisterValue;
    /// Whether these bytes are several of the source's fields, copied to be read later.
    fn is_copy(&self, pointer: ContextPointer, size: u32) -> bool;
}

/// An object with the values that a kernel gives its relocations and externs.
pub(super) struct LoadedObject<'a> {
    pub(super) elf: &'a BpfElf,
    /// By index of the relocation.
    pub(super) relocated: &'a [Relocated],
    /// By index of the extern: its value, if known.
    pub(super) externs: &'a [Option<u64>],
}

/// How an instruction reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ReadBy {
    /// A load; `moved` if its register does not point to the context's start.
    Load { moved: bool },
    /// A helper that copies memory.
    ProbeRead { is_text: bool, is_user: bool },
    /// A load from a copy on the stack.
    StackCopy,
    /// A helper that hands memory on to user space or a map.
    HandedOn { is_copy: bool },
}

/// The source of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ReadFrom {
    Context(ContextPointer),
    ContextSomewhere,
    Dynamic { slot: u16, added: i64 },
    Argument(ArgumentPointer),
}

/// One read of the context.
#[derive(Clone, Debug)]
pub(super) struct FoundRead {
    pub(super) at: CodeAddress,
    pub(super) by: ReadBy,
    pub(super) from: ReadFrom,
    /// In bytes; `None` if it is not known.
    pub(super) size: Option<u32>,
    /// The unknown conditions that all paths to it share.
    pub(super) guards: Vec<Guard>,
}

/// An instruction that the verifier refuses wherever it is reached.
#[derive(Clone, Debug)]
pub(super) struct FoundRefusal {
    pub(super) at: CodeAddress,
    pub(super) why: String,
    pub(super) guards: Vec<Guard>,
}

/// The reads and refusals of a program.
#[derive(Debug, Default)]
pub(super) struct FoundReads {
    pub(super) reads: Vec<FoundRead>,
    pub(super) refusals: Vec<FoundRefusal>,
    /// The reason why part of the program was not followed.
    pub(super) unfinished: Option<&'static str>,
}

/// The most instructions that are followed in one program, on all paths together.
const MAX_STEPS: u32 = 400_000;
/// The most states of one instruction before they are joined.
const MAX_STATES: usize = 16;
/// The most states in all before each instruction keeps one.
const MAX_ALL_STATES: usize = 8_000;

/// The states known of one instruction.
#[derive(Default)]
struct KnownStates {
    states: Vec<MachineState>,
    is_joined: bool,
}

type CallChain = Vec<Option<CodeAddress>>;

pub(super) struct Interpreter<'a> {
    pub(super) object: &'a LoadedObject<'a>,
    pub(super) shape: &'a dyn ContextShape,
    pub(super) machine: Machine,
    meetings: BTreeSet<CodeAddress>,
    known: HashMap<(CallChain, CodeAddress), KnownStates>,
    state_count: usize,
    pub(super) waiting: Vec<(CodeAddress, MachineState)>,
    reads: BTreeMap<(CodeAddress, ReadBy, usize), FoundRead>,
    pub(super) found: FoundReads,
}

/// The instruction after another on one path.
pub(super) enum Onward {
    Behind,
    At(CodeAddress),
    End,
}

impl<'a> Interpreter<'a> {
    /// Finds the context reads of the program that begins here.
    pub(super) fn run(
        object: &'a LoadedObject<'a>,
        shape: &'a dyn ContextShape,
        start: CodeAddress,
    ) -> FoundReads {
        let mut interpreter = Self {
            object,
            shape,
            machine: Machine::new(object.elf.byte_order, true),
            meetings: meetings(object.elf),
            known: HashMap::new(),
            state_count: 0,
            waiting: Vec::new(),
            reads: BTreeMap::new(),
            found: FoundReads::default(),
        };
        let mut frame = CallFrame::new(0, None);
        frame.registers[1] = RegisterValue::Context(ContextPointer {
            offset: 0,
            named: Named::Nothing,
            type_id: interpreter.parameter_type(start, 0),
        });
        let state = MachineState {
            frames: vec![frame],
            guards: Vec::new(),
        };
        interpreter.waiting.push((start, state));
        let mut steps = 0;
        while let Some((at, state)) = interpreter.waiting.pop() {
            interpreter.follow(at, state, &mut steps);
            if steps > MAX_STEPS {
                interpreter.found.unfinished = Some("the program has too many ways through it");
                break;
            }
        }
        interpreter.found.reads = interpreter.reads.into_values().collect();
        interpreter.found
    }

    /// Returns the struct that a function's parameter points at, by the object's BTF.
    pub(super) fn parameter_type(&self, function: CodeAddress, index: usize) -> Option<u32> {
        let btf = self.object.elf.btf.as_ref()?;
        let function = self.object.elf.function_at(function)?;
        let prototype = btf.type_by_id(function.type_id?)?.target()?;
        let parameter = btf.type_by_id(prototype)?.parameters().nth(index)?;
        let (_, pointer) = btf.resolve(parameter.type_id)?;
        if pointer.kind != Kind::Ptr {
            return None;
        }
        let (id, pointee) = btf.resolve(pointer.target()?)?;
        (pointee.kind == Kind::Struct).then_some(id)
    }

    /// Follows one path until it ends or meets a known state. Other paths that branch
    /// off are left waiting.
    fn follow(&mut self, mut at: CodeAddress, mut state: MachineState, steps: &mut u32) {
        loop {
            *steps += 1;
            if *steps > MAX_STEPS {
                return;
            }
            if self.meetings.contains(&at) {
                match self.meet(at, state) {
                    Some(met) => state = met,
                    None => return,
                }
            }
            match self.step(at, &mut state) {
                Onward::Behind => at.instruction += 1,
                Onward::At(next) => at = next,
                Onward::End => return,
            }
        }
    }

    /// Records a state where paths meet. Returns `None` if a known state covers it.
    fn meet(&mut self, at: CodeAddress, state: MachineState) -> Option<MachineState> {
        let chain = state.frames.iter().map(|frame| frame.called_at).collect();
        let known = self.known.entry((chain, at)).or_default();
        if known.states.iter().any(|known| known.covers(&state)) {
            return None;
        }
        let is_full = known.states.len() >= MAX_STATES || self.state_count >= MAX_ALL_STATES;
        let state = if !known.states.is_empty() && (known.is_joined || is_full) {
            known.is_joined = true;
            let all = known.states.drain(..);
            all.fold(state, |all, known| all.joined(&known))
        } else {
            self.state_count += 1;
            state
        };
        known.states.push(state.clone());
        Some(state)
    }

    pub(super) fn read(
        &mut self,
        at: CodeAddress,
        by: ReadBy,
        from: ReadFrom,
        size: Option<u32>,
        guards: &[Guard],
    ) {
        let same = self
            .reads
            .range_mut((at, by, 0)..=(at, by, usize::MAX))
            .find(|(_, read)| (read.from, read.size) == (from, size));
        if let Some((_, read)) = same {
            read.guards.retain(|guard| guards.contains(guard));
            return;
        }
        let key = (at, by, self.reads.len());
        let guards = guards.to_vec();
        let read = FoundRead {
            at,
            by,
            from,
            size,
            guards,
        };
        self.reads.insert(key, read);
    }

    pub(super) fn refuse(&mut self, at: CodeAddress, why: String, guards: &[Guard]) {
        let mut refusals = self.found.refusals.iter_mut();
        match refusals.find(|refusal| refusal.at == at && refusal.why == why) {
            Some(known) => known.guards.retain(|guard| guards.contains(guard)),
            None => self.found.refusals.push(FoundRefusal {
                at,
                why,
                guards: guards.to_vec(),
            }),
        }
    }

    fn step(&mut self, at: CodeAddress, state: &mut MachineState) -> Onward {
        let Some(mut instruction) = self.object.elf.instruction(at) else {
            return Onward::End;
        };
        let code = &self.object.elf.code[at.section as usize];
        let symbol = code.symbols.get(&at.instruction).copied();
        let mut named = Named::Nothing;
        let mut is_unknown = false;
        if let Some(&record) = code.relocations.get(&at.instruction) {
            match self.apply(record, &mut instruction) {
                Ok(given) => named = given,
                Err(Some(why)) => {
                    self.refuse(at, why, &state.guards);
                    return Onward::End;
                }
                Err(None) => is_unknown = true,
            }
        }
        if instruction.destination > 10 || instruction.source > 10 {
            return Onward::End;
        }
        match instruction.class() {
            class::LD if instruction.opcode == LOAD_IMMEDIATE => {
                let next = CodeAddress {
                    instruction: at.instruction + 1,
                    ..at
                };
                let Some(high) = self.object.elf.instruction(next) else {
                    return Onward::End;
                };
                let held = match is_unknown {
                    true => RegisterValue::Undecided,
                    false => self.immediate(instruction, high, symbol, named),
                };
                self.set(state, instruction.destination, held);
                return Onward::At(CodeAddress {
                    instruction: at.instruction + 2,
                    ..at
                });
            }
            class::LD => {
                // Legacy packet loads clobber registers as calls do.
                self.scratch(state);
            }
            class::LDX => self.load(at, instruction, named, is_unknown, state),
            class::ST | class::STX => {
                if self.store(at, instruction, state).is_none() {
                    return Onward::End;
                }
            }
            class::ALU | class::ALU64 => self.compute(instruction, named, is_unknown, state),
            _ => return self.jump(at, instruction, symbol, state),
        }
        Onward::Behind
    }

    /// Applies a relocation to the instruction, and returns which relocation the value
    /// comes from. `Err` is the reason why the instruction is refused, or `None` if the
    /// value is not known.
    fn apply(
        &self,
        record: u32,
        instruction: &mut RawInstruction,
    ) -> Result<Named, Option<String>> {
        let (Some(relocated), Some(core)) = (
            self.object.relocated.get(record as usize),
            self.object.elf.relocations.get(record as usize),
        ) else {
            return Err(None);
        };
        let value = match relocated {
            Relocated::Value(value) => value,
            Relocated::Poisoned(why) | Relocated::Fatal(why) => return Err(Some(why.clone())),
            Relocated::Unknown => return Err(None),
        };
        match instruction.class() {
            class::LDX | class::ST | class::STX => {
                let Ok(offset) = i16::try_from(value.value) else {
                    return Err(Some(format!(
                        "offset {} is too far for a load",
                        value.value
                    )));
                };
                instruction.offset = offset;
                if let Some((here, there)) = value.sizes
                    && here != there
                {
                    let bits = match there {
                        _ if !value.may_resize => None,
                        1 => Some(0x10),
                        2 => Some(0x08),
                        4 => Some(0x00),
                        8 => Some(0x18),
                        _ => None,
                    };
                    let Some(bits) = bits else {
                        return Err(Some(format!(
                            "the field has {there} bytes, and {here} in the object, \
                             neither both unsigned nor pointers"
                        )));
                    };
                    instruction.opcode = instruction.opcode & !0x18 | bits;
                }
            }
            _ => instruction.immediate = value.value as i32,
        }
        let is_offset = CoreKind::of(core.kind) == Some(CoreKind::FieldByteOffset);
        Ok(match is_offset {
            true => Named::Field {
                relocation: record,
                behind: 0,
            },
            false => Named::Several,
        })
    }

    pub(super) fn set(&self, state: &mut MachineState, register: u8, held: RegisterValue) {
        // The frame pointer is read-only.
        if register < 10 {
            state.frame_mut().registers[usize::from(register)] = held;
        }
    }

    pub(super) fn register(&self, state: &MachineState, register: u8) -> RegisterValue {
        state.frame().registers[usize::from(register.min(10))]
    }

    /// Forgets the registers that a call does not preserve.
    pub(super) fn scratch(&self, state: &mut MachineState) {
        state.frame_mut().registers[..6].fill(RegisterValue::Unknown);
    }

    fn immediate(
        &self,
        low: RawInstruction,
        high: RawInstruction,
        symbol: Option<SymbolTarget>,
        named: Named,
    ) -> RegisterValue {
        match symbol {
            Some(SymbolTarget::Data { section, offset }) => RegisterValue::Data { section, offset },
            Some(SymbolTarget::Code(function)) => RegisterValue::Function(function),
            Some(SymbolTarget::Extern(index)) => RegisterValue::Extern(index),
            Some(SymbolTarget::Other) => RegisterValue::Unknown,
            None if low.source != 0 => RegisterValue::Unknown,
            None => {
                let (low, high) = (low.immediate as u32, high.immediate as u32);
                RegisterValue::Number {
                    value: u64::from(high) << 32 | u64::from(low),
                    named,
                }
            }
        }
    }

    fn compute(
        &self,
        instruction: RawInstruction,
        named: Named,
        is_unknown: bool,
        state: &mut MachineState,
    ) {
        const MOVE: u8 = 0xb0;
        const BYTE_SWAP: u8 = 0xd0;
        let is_wide = instruction.class() == class::ALU64;
        let left = self.register(state, instruction.destination);
        let right = match instruction.has_register_operand() {
            true => self.register(state, instruction.source),
            false if is_unknown => RegisterValue::Undecided,
            false => RegisterValue::Number {
                value: instruction.extended(),
                named,
            },
        };
        let held = match instruction.operation() {
            BYTE_SWAP => RegisterValue::Unknown,
            MOVE if instruction.offset == 0 && is_wide => right,
            MOVE => match right {
                RegisterValue::Number { value, named } => match arithmetic(instruction, 0, value) {
                    Some(value) => RegisterValue::Number { value, named },
                    None => RegisterValue::Unknown,
                },
                held @ (RegisterValue::Location { .. }
                | RegisterValue::LocationOffset { .. }
                | RegisterValue::Undecided)
                    if instruction.offset == 0 =>
                {
                    held
                }
                _ => RegisterValue::Unknown,
            },
            _ => combined(instruction, left, right),
        };
        self.set(state, instruction.destination, held);
    }
}

/// Returns which half of a location, as a byte offset from its start, has the offset.
pub(super) fn offset_half(byte_order: ByteOrder) -> u32 {
    match byte_order {
        ByteOrder::Little => 0,
        ByteOrder::Big => 2,
    }
}
