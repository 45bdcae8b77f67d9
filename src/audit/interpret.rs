//! Abstract interpretation of a program: which instructions read what of its context.
//!
//! All ways through the program are followed as the verifier follows them: branches that
//! constants decide are taken one way only, and each way keeps what it knows of registers
//! and the stack. Where many ways meet, what they know is joined, so that an end is
//! reached whatever the program.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::elf::{BpfElf, CodeAddress, SymbolTarget};
use super::helpers::{self, HelperSize};
use super::instruction::{
    CALL, EXIT, LOAD_IMMEDIATE, MAY_GOTO, MODE_ATOMIC, MODE_MEMORY, MODE_SIGNED, PSEUDO_CALL,
    RawInstruction, arithmetic, class, is_taken,
};
use super::relocate::{CoreKind, Relocated};
use super::state::{
    ArgumentPointer, CallFrame, ContextPointer, Guard, Held, MIXED, MachineState, Named,
};
use crate::btf::Kind;
use crate::machine::{ByteOrder, Machine};

/// What the interpreter has to know of the context to follow values out of it.
pub(super) trait ContextShape {
    /// What a read of these bytes of the context gives.
    fn read(&self, pointer: ContextPointer, size: u32) -> Held;
    /// Whether these bytes are several of the source's fields, copied to be read later.
    fn is_copy(&self, pointer: ContextPointer, size: u32) -> bool;
}

/// A kernel's answers to what an object leaves open.
pub(super) struct LoadedObject<'a> {
    pub(super) elf: &'a BpfElf,
    /// By the relocations' numbers.
    pub(super) relocated: &'a [Relocated],
    /// By the externs' numbers: their values, where they are known.
    pub(super) externs: &'a [Option<u64>],
}

/// How an instruction reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ReadBy {
    /// A load; `moved` if its register does not point at the context's start.
    Load { moved: bool },
    /// A helper that copies memory.
    ProbeRead { is_text: bool, is_user: bool },
    /// A load from a copy on the stack.
    StackCopy,
    /// A helper that hands memory on.
    HandedOn { is_copy: bool },
}

/// What an instruction reads from.
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
    /// What every way to it depends on and is not known of the kernel.
    pub(super) guards: Vec<Guard>,
}

/// What the verifier refuses wherever it is reached.
#[derive(Clone, Debug)]
pub(super) struct FoundRefusal {
    pub(super) at: CodeAddress,
    pub(super) why: String,
    pub(super) guards: Vec<Guard>,
}

/// All that was found in a program.
#[derive(Debug, Default)]
pub(super) struct FoundReads {
    pub(super) reads: Vec<FoundRead>,
    pub(super) refusals: Vec<FoundRefusal>,
    /// Why not all of the program was looked at.
    pub(super) unfinished: Option<&'static str>,
}

/// Instructions that are followed in one program, each way counted.
const MAX_STEPS: u32 = 400_000;
/// States that are kept of one instruction before they are joined.
const MAX_STATES: usize = 16;
/// States that are kept in all before each instruction keeps one.
const MAX_ALL_STATES: usize = 8_000;
/// Frames: as the verifier (`MAX_CALL_FRAMES`).
const MAX_FRAMES: usize = 8;

/// The states known of one instruction.
#[derive(Default)]
struct KnownStates {
    states: Vec<MachineState>,
    is_joined: bool,
}

type CallChain = Vec<Option<CodeAddress>>;

pub(super) struct Interpreter<'a> {
    object: &'a LoadedObject<'a>,
    shape: &'a dyn ContextShape,
    machine: Machine,
    meetings: BTreeSet<CodeAddress>,
    known: HashMap<(CallChain, CodeAddress), KnownStates>,
    state_count: usize,
    waiting: Vec<(CodeAddress, MachineState)>,
    reads: BTreeMap<(CodeAddress, ReadBy, usize), FoundRead>,
    found: FoundReads,
}

/// What follows an instruction on one way.
enum Next {
    Behind,
    At(CodeAddress),
    End,
}

impl<'a> Interpreter<'a> {
    /// Finds what the program that begins here reads of its context.
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
        frame.registers[1] = Held::Context(ContextPointer {
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

    /// The struct that a function's parameter points at, as the object's BTF has it.
    fn parameter_type(&self, function: CodeAddress, index: usize) -> Option<u32> {
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

    /// Follows one way until it ends, meets a known one, or has other ways beside it.
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
                Next::Behind => at.instruction += 1,
                Next::At(next) => at = next,
                Next::End => return,
            }
        }
    }

    /// Takes note of a state where ways meet: `None` if nothing new can come of it.
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

    fn read(
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

    fn refuse(&mut self, at: CodeAddress, why: String, guards: &[Guard]) {
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

    fn step(&mut self, at: CodeAddress, state: &mut MachineState) -> Next {
        let Some(mut instruction) = self.object.elf.instruction(at) else {
            return Next::End;
        };
        let code = &self.object.elf.code[at.section as usize];
        let symbol = code.symbols.get(&at.instruction).copied();
        let mut relocation = None;
        let mut is_unknown = false;
        if let Some(&record) = code.relocations.get(&at.instruction) {
            match self.apply(record, &mut instruction) {
                Ok(kept) => relocation = kept,
                Err(Some(why)) => {
                    self.refuse(at, why, &state.guards);
                    return Next::End;
                }
                Err(None) => is_unknown = true,
            }
        }
        if instruction.destination > 10 || instruction.source > 10 {
            return Next::End;
        }
        match instruction.class() {
            class::LD if instruction.opcode == LOAD_IMMEDIATE => {
                let next = CodeAddress {
                    instruction: at.instruction + 1,
                    ..at
                };
                let Some(high) = self.object.elf.instruction(next) else {
                    return Next::End;
                };
                let held = match is_unknown {
                    true => Held::Undecided,
                    false => self.immediate(instruction, high, symbol, relocation),
                };
                self.set(state, instruction.destination, held);
                return Next::At(CodeAddress {
                    instruction: at.instruction + 2,
                    ..at
                });
            }
            class::LD => {
                // The old loads of packets clobber as calls do.
                self.scratch(state);
            }
            class::LDX => self.load(at, instruction, relocation, is_unknown, state),
            class::ST | class::STX => {
                if self.store(at, instruction, state).is_none() {
                    return Next::End;
                }
            }
            class::ALU | class::ALU64 => self.compute(instruction, relocation, is_unknown, state),
            _ => return self.jump(at, instruction, symbol, state),
        }
        Next::Behind
    }

    /// Puts what the relocation gives into the instruction, and says which relocation the
    /// value is of. `Err` is why the instruction is refused, or `None` where the value
    /// is not known.
    fn apply(
        &self,
        record: u32,
        instruction: &mut RawInstruction,
    ) -> Result<Option<u32>, Option<String>> {
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
        Ok(Some(if is_offset { record } else { MIXED }))
    }

    fn set(&self, state: &mut MachineState, register: u8, held: Held) {
        // The frame pointer is for reading.
        if register < 10 {
            state.frame_mut().registers[usize::from(register)] = held;
        }
    }

    fn register(&self, state: &MachineState, register: u8) -> Held {
        state.frame().registers[usize::from(register.min(10))]
    }

    /// Forgets the registers that a call does not keep.
    fn scratch(&self, state: &mut MachineState) {
        state.frame_mut().registers[..6].fill(Held::Unknown);
    }

    fn immediate(
        &self,
        low: RawInstruction,
        high: RawInstruction,
        symbol: Option<SymbolTarget>,
        relocation: Option<u32>,
    ) -> Held {
        match symbol {
            Some(SymbolTarget::Data { section, offset }) => Held::Data { section, offset },
            Some(SymbolTarget::Code(function)) => Held::Function(function),
            Some(SymbolTarget::Extern(index)) => Held::Extern(index),
            Some(SymbolTarget::Other) => Held::Unknown,
            None if low.source != 0 => Held::Unknown,
            None => {
                let (low, high) = (low.immediate as u32, high.immediate as u32);
                Held::Number {
                    value: u64::from(high) << 32 | u64::from(low),
                    relocation,
                }
            }
        }
    }

    fn load(
        &mut self,
        at: CodeAddress,
        instruction: RawInstruction,
        relocation: Option<u32>,
        is_unknown: bool,
        state: &mut MachineState,
    ) {
        let size = instruction.memory_size();
        let offset = i64::from(instruction.offset);
        let base = self.register(state, instruction.source);
        let guards = state.guards.clone();
        let held = match base {
            _ if !matches!(instruction.mode(), MODE_MEMORY | MODE_SIGNED) => Held::Unknown,
            Held::Context(_) if is_unknown => {
                let by = ReadBy::Load { moved: false };
                self.read(at, by, ReadFrom::ContextSomewhere, Some(size), &guards);
                Held::Unknown
            }
            Held::Context(pointer) => {
                let moved = pointer.offset != 0;
                let pointer = moved_by(pointer, offset, relocation);
                let by = ReadBy::Load { moved };
                self.read(at, by, ReadFrom::Context(pointer), Some(size), &guards);
                self.shape.read(pointer, size)
            }
            Held::ContextSomewhere => {
                let by = ReadBy::Load { moved: true };
                self.read(at, by, ReadFrom::ContextSomewhere, Some(size), &guards);
                Held::Unknown
            }
            Held::Dynamic { slot, added } => {
                let by = ReadBy::Load { moved: true };
                let added = added + offset;
                self.read(
                    at,
                    by,
                    ReadFrom::Dynamic { slot, added },
                    Some(size),
                    &guards,
                );
                Held::Unknown
            }
            Held::Argument(argument) if !is_unknown => {
                let from = ReadFrom::Argument(ArgumentPointer {
                    offset: argument.offset.wrapping_add(offset),
                    named: argument.named.plus(offset, relocation),
                    ..argument
                });
                self.read(at, ReadBy::Load { moved: false }, from, Some(size), &guards);
                Held::Unknown
            }
            Held::Stack { frame, offset: to } => {
                let to = i32::try_from(i64::from(to) + offset).unwrap_or(0);
                self.load_stack(at, state, frame, to, size)
            }
            Held::Data {
                section,
                offset: to,
            } => self.constant(section, to.wrapping_add(offset), size),
            Held::Extern(index) => match self.object.externs.get(index as usize) {
                Some(Some(value)) => Held::Number {
                    value: *value & mask(size),
                    relocation: None,
                },
                _ => Held::Undecided,
            },
            Held::StackSomewhere | Held::Anything => Held::Anything,
            _ => Held::Unknown,
        };
        let held = match (instruction.mode(), held) {
            (MODE_SIGNED, Held::Number { value, relocation }) => {
                let unused = 64 - 8 * size.min(8);
                let value = ((value << unused) as i64 >> unused) as u64;
                Held::Number { value, relocation }
            }
            (_, held) => held,
        };
        self.set(state, instruction.destination, held);
    }

    fn load_stack(
        &mut self,
        at: CodeAddress,
        state: &MachineState,
        frame: u8,
        offset: i32,
        size: u32,
    ) -> Held {
        let Some(frame) = state.frames.get(usize::from(frame)) else {
            return Held::Unknown;
        };
        match frame.copied(offset, size) {
            Some(pointer) => {
                let from = ReadFrom::Context(pointer);
                self.read(at, ReadBy::StackCopy, from, Some(size), &state.guards);
                self.shape.read(pointer, size)
            }
            None => frame.load(offset, size),
        }
    }

    /// A value of a section that no program writes to.
    fn constant(&self, section: u32, offset: i64, size: u32) -> Held {
        let data = self.object.elf.data.get(section as usize);
        let value = data.filter(|data| data.is_constant()).and_then(|data| {
            let start = usize::try_from(offset).ok()?;
            let bytes = data.bytes.get(start..start.checked_add(size as usize)?)?;
            Some(self.machine.unsigned(bytes))
        });
        match value {
            Some(value) => Held::Number {
                value,
                relocation: None,
            },
            None => Held::Unknown,
        }
    }

    /// Stores; `None` where the verifier refuses it.
    fn store(
        &mut self,
        at: CodeAddress,
        instruction: RawInstruction,
        state: &mut MachineState,
    ) -> Option<()> {
        let size = instruction.memory_size();
        let is_atomic = instruction.class() == class::STX && instruction.mode() == MODE_ATOMIC;
        let held = match instruction.class() {
            class::ST => Held::Number {
                value: instruction.extended() & mask(size),
                relocation: None,
            },
            _ if is_atomic => Held::Unknown,
            _ => match self.register(state, instruction.source) {
                Held::Number { value, relocation } => Held::Number {
                    value: value & mask(size),
                    relocation,
                },
                held @ (Held::Location { .. } | Held::LocationOffset { .. } | Held::Undecided) => {
                    held
                }
                held if size == 8 => held,
                _ => Held::Unknown,
            },
        };
        match self.register(state, instruction.destination) {
            Held::Context(_) | Held::ContextSomewhere | Held::Dynamic { .. } => {
                let why = "it writes to its context".to_owned();
                self.refuse(at, why, &state.guards);
                return None;
            }
            Held::Stack { frame, offset } => {
                let offset = i64::from(offset) + i64::from(instruction.offset);
                let offset = i32::try_from(offset).unwrap_or(0);
                if let Some(frame) = state.frames.get_mut(usize::from(frame)) {
                    frame.store(offset, size, held);
                }
            }
            Held::StackSomewhere | Held::Anything => forget_stacks(state),
            _ => {}
        }
        if is_atomic {
            // BPF_FETCH gives back the old value, BPF_CMPXCHG in R0.
            const FETCH: i32 = 1;
            const COMPARE: i32 = 0xf1;
            const LOAD_ACQUIRE: i32 = 0x100;
            match instruction.immediate {
                COMPARE => self.set(state, 0, Held::Unknown),
                LOAD_ACQUIRE => self.set(state, instruction.destination, Held::Unknown),
                operation if operation & FETCH != 0 => {
                    self.set(state, instruction.source, Held::Unknown);
                }
                _ => {}
            }
        }
        Some(())
    }

    fn compute(
        &self,
        instruction: RawInstruction,
        relocation: Option<u32>,
        is_unknown: bool,
        state: &mut MachineState,
    ) {
        const MOVE: u8 = 0xb0;
        const BYTE_SWAP: u8 = 0xd0;
        let is_wide = instruction.class() == class::ALU64;
        let left = self.register(state, instruction.destination);
        let right = match instruction.has_register_operand() {
            true => self.register(state, instruction.source),
            false if is_unknown => Held::Undecided,
            false => Held::Number {
                value: instruction.extended(),
                relocation,
            },
        };
        let held = match instruction.operation() {
            BYTE_SWAP => Held::Unknown,
            MOVE if instruction.offset == 0 && is_wide => right,
            MOVE => match right {
                Held::Number { value, relocation } => match arithmetic(instruction, 0, value) {
                    Some(value) => Held::Number { value, relocation },
                    None => Held::Unknown,
                },
                held @ (Held::Location { .. } | Held::LocationOffset { .. } | Held::Undecided)
                    if instruction.offset == 0 =>
                {
                    held
                }
                _ => Held::Unknown,
            },
            _ => combined(instruction, left, right),
        };
        self.set(state, instruction.destination, held);
    }

    fn jump(
        &mut self,
        at: CodeAddress,
        instruction: RawInstruction,
        symbol: Option<SymbolTarget>,
        state: &mut MachineState,
    ) -> Next {
        let relative = |distance: i64| {
            let to = i64::from(at.instruction) + 1 + distance;
            u32::try_from(to)
                .ok()
                .map(|instruction| CodeAddress { instruction, ..at })
        };
        match instruction.opcode {
            EXIT => return self.exit(state),
            CALL => return self.call(at, instruction, symbol, state),
            // An indirect call or jump: it is not known where to.
            0x8d | 0x0d => {
                self.found.unfinished = Some("it calls or jumps to a computed address");
                return Next::End;
            }
            0x05 | 0x06 => {
                let distance = match instruction.opcode {
                    0x05 => i64::from(instruction.offset),
                    _ => i64::from(instruction.immediate),
                };
                return match relative(distance) {
                    Some(target) => Next::At(target),
                    None => Next::End,
                };
            }
            _ => {}
        }
        let Some(target) = relative(i64::from(instruction.offset)) else {
            return Next::End;
        };
        if instruction.opcode == MAY_GOTO {
            self.waiting.push((target, state.clone()));
            return Next::Behind;
        }
        let left = self.register(state, instruction.destination);
        let right = match instruction.has_register_operand() {
            true => self.register(state, instruction.source),
            false => Held::Number {
                value: instruction.extended(),
                relocation: None,
            },
        };
        match decided(instruction, left, right) {
            Some(true) => return Next::At(target),
            Some(false) => return Next::Behind,
            None => {}
        }
        let mut taken = state.clone();
        if let (Held::Argument(argument), Held::Number { value: 0, .. }) = (left, right) {
            match instruction.operation() {
                0x10 => state.check_argument(argument.index),
                0x50 => taken.check_argument(argument.index),
                _ => {}
            }
        }
        let is_open = |held| matches!(held, Held::Undecided | Held::Extern(_));
        if is_open(left) || is_open(right) {
            taken.guard((at, true));
            state.guard((at, false));
        }
        self.waiting.push((target, taken));
        Next::Behind
    }

    fn exit(&mut self, state: &mut MachineState) -> Next {
        let result = self.register(state, 0);
        let Some(frame) = state.frames.pop() else {
            return Next::End;
        };
        let Some(called_at) = frame.called_at else {
            return Next::End;
        };
        self.scratch(state);
        let result = match result {
            Held::Stack { frame, .. } if usize::from(frame) >= state.frames.len() => Held::Unknown,
            Held::StackSomewhere => Held::Anything,
            result => result,
        };
        self.set(state, 0, result);
        Next::At(CodeAddress {
            instruction: called_at.instruction + 1,
            ..called_at
        })
    }

    fn call(
        &mut self,
        at: CodeAddress,
        instruction: RawInstruction,
        symbol: Option<SymbolTarget>,
        state: &mut MachineState,
    ) -> Next {
        match instruction.source {
            PSEUDO_CALL => {
                let callee = match symbol {
                    Some(SymbolTarget::Code(callee)) => Some(callee),
                    Some(_) => None,
                    None => {
                        let to = i64::from(at.instruction) + 1 + i64::from(instruction.immediate);
                        u32::try_from(to)
                            .ok()
                            .map(|instruction| CodeAddress { instruction, ..at })
                    }
                };
                let Some(callee) = callee else {
                    self.found.unfinished = Some("it calls a function of another object");
                    return Next::End;
                };
                let mut arguments = [Held::Unknown; 5];
                arguments.copy_from_slice(&state.frame().registers[1..6]);
                self.enter(at, callee, arguments, state)
            }
            0 => self.call_helper(at, instruction.immediate, state),
            _ => {
                // Of a function of the kernel it is not known what it writes to.
                for register in 1..6 {
                    self.forget_at(state, register, HelperSize::Unknown);
                }
                self.scratch(state);
                Next::Behind
            }
        }
    }

    /// Goes into a function of the object.
    fn enter(
        &mut self,
        at: CodeAddress,
        callee: CodeAddress,
        arguments: [Held; 5],
        state: &mut MachineState,
    ) -> Next {
        if state.frames.len() >= MAX_FRAMES {
            self.found.unfinished = Some("its functions call each other too deep");
            return Next::End;
        }
        let mut frame = CallFrame::new(state.frames.len() as u8, Some(at));
        for (index, held) in arguments.into_iter().enumerate() {
            frame.registers[index + 1] = match held {
                Held::Context(pointer)
                    if pointer.named == Named::Nothing && pointer.offset == 0 =>
                {
                    let type_id = self.parameter_type(callee, index).or(pointer.type_id);
                    Held::Context(ContextPointer { type_id, ..pointer })
                }
                held => held,
            };
        }
        state.frames.push(frame);
        Next::At(callee)
    }

    fn call_helper(&mut self, at: CodeAddress, number: i32, state: &mut MachineState) -> Next {
        if let Some(probe_read) = helpers::probe_read(number) {
            self.probe_read(at, probe_read, state);
            self.scratch(state);
            return Next::Behind;
        }
        if let Some((pointer, size)) = helpers::hands_on(number) {
            self.hand_on(at, pointer, size, state);
        }
        match helpers::writes(number) {
            Some(writes) => {
                for write in writes {
                    self.forget_at(state, write.pointer, write.size);
                }
            }
            None => {
                for register in 1..6 {
                    self.forget_at(state, register, HelperSize::Unknown);
                }
            }
        }
        if let Some((function, value, arrives)) = helpers::callback(number)
            && let Held::Function(callee) = self.register(state, function)
        {
            // It may be called any number of times, or never.
            let mut arguments = [Held::Unknown; 5];
            arguments[usize::from(arrives) - 1] = self.register(state, value);
            let mut called = state.clone();
            if let Next::At(callee) = self.enter(at, callee, arguments, &mut called) {
                self.waiting.push((callee, called));
            }
        }
        if number == helpers::TAIL_CALL {
            self.set(state, 0, Held::Unknown);
        }
        self.scratch(state);
        Next::Behind
    }

    fn size(&self, state: &MachineState, size: HelperSize) -> Option<u32> {
        match size {
            HelperSize::Fixed(size) => Some(size),
            HelperSize::Unknown => None,
            HelperSize::Register(register) => match self.register(state, register) {
                Held::Number { value, .. } => u32::try_from(value).ok(),
                _ => None,
            },
        }
    }

    fn forget_at(&self, state: &mut MachineState, pointer: u8, size: HelperSize) {
        let size = self.size(state, size);
        match self.register(state, pointer) {
            Held::Stack { frame, offset } => {
                if let Some(frame) = state.frames.get_mut(usize::from(frame)) {
                    frame.forget(offset, size);
                }
            }
            Held::StackSomewhere | Held::Anything => forget_stacks(state),
            _ => {}
        }
    }

    fn probe_read(&mut self, at: CodeAddress, read: helpers::ProbeRead, state: &mut MachineState) {
        let size = self.size(state, HelperSize::Register(2));
        let source = self.register(state, 3);
        let by = ReadBy::ProbeRead {
            is_text: read.is_text,
            is_user: read.is_user,
        };
        let target = self.register(state, 1);
        self.forget_at(state, 1, HelperSize::Register(2));
        let guards = state.guards.clone();
        let from = match source {
            Held::Context(pointer) => ReadFrom::Context(pointer),
            Held::ContextSomewhere => ReadFrom::ContextSomewhere,
            Held::Dynamic { slot, added } => ReadFrom::Dynamic { slot, added },
            Held::Argument(argument) => ReadFrom::Argument(argument),
            _ => return,
        };
        if let (Held::Context(pointer), Held::Stack { frame, offset }, Some(size)) =
            (source, target, size)
            && !read.is_text
            && let Some(frame) = state.frames.get_mut(usize::from(frame))
        {
            if self.shape.is_copy(pointer, size) {
                frame.copy(offset, size, pointer);
                return;
            }
            frame.store(offset, size, self.shape.read(pointer, size));
        }
        self.read(at, by, from, size, &guards);
    }

    /// What the object hands on: the context itself, or copies of it.
    fn hand_on(&mut self, at: CodeAddress, pointer: u8, size: HelperSize, state: &MachineState) {
        let size = self.size(state, size);
        match self.register(state, pointer) {
            Held::Context(pointer) => {
                let by = ReadBy::HandedOn { is_copy: false };
                self.read(at, by, ReadFrom::Context(pointer), size, &state.guards);
            }
            Held::Stack { frame, offset } => {
                let Some(frame) = state.frames.get(usize::from(frame)) else {
                    return;
                };
                let end = size.map_or(i64::MAX, |size| i64::from(offset) + i64::from(size));
                let copies = frame.copies.clone();
                for copy in copies {
                    if copy.offset >= offset && i64::from(copy.offset) < end {
                        let by = ReadBy::HandedOn { is_copy: true };
                        let from = ReadFrom::Context(copy.from);
                        self.read(at, by, from, Some(copy.size), &state.guards);
                    }
                }
            }
            _ => {}
        }
    }
}

fn mask(size: u32) -> u64 {
    match size {
        8.. => u64::MAX,
        size => (1 << (8 * size)) - 1,
    }
}

fn forget_stacks(state: &mut MachineState) {
    for frame in &mut state.frames {
        // A pointer to the context may be anywhere, or gone.
        frame.slots.clear();
        frame.copies.clear();
    }
}

fn moved_by(pointer: ContextPointer, by: i64, relocation: Option<u32>) -> ContextPointer {
    ContextPointer {
        offset: pointer.offset.wrapping_add(by),
        named: pointer.named.plus(by, relocation),
        ..pointer
    }
}

/// What arithmetic other than a move makes of two values.
fn combined(instruction: RawInstruction, left: Held, right: Held) -> Held {
    const ADD: u8 = 0x00;
    const SUBTRACT: u8 = 0x10;
    const AND: u8 = 0x50;
    const NEGATE: u8 = 0x80;
    const END: u8 = 0xd0;
    let is_wide = instruction.class() == class::ALU64;
    if let (
        Held::Number {
            value: a,
            relocation,
        },
        Held::Number {
            value: b,
            relocation: other,
        },
    ) = (left, right)
    {
        return match arithmetic(instruction, a, b) {
            Some(value) => Held::Number {
                value,
                relocation: relocation.or(other).map(|_| MIXED),
            },
            None => Held::Unknown,
        };
    }
    match (instruction.operation(), left, right) {
        (ADD, Held::LocationOffset { slot, added }, Held::Number { value, .. })
        | (ADD, Held::Number { value, .. }, Held::LocationOffset { slot, added }) => {
            let added = match is_wide {
                true => added.wrapping_add(value as i64),
                false => i64::from((added as i32).wrapping_add(value as i32)),
            };
            Held::LocationOffset { slot, added }
        }
        (ADD, pointer, Held::Number { value, relocation })
        | (ADD, Held::Number { value, relocation }, pointer)
            if is_wide =>
        {
            advanced(pointer, value as i64, relocation)
        }
        (SUBTRACT, pointer, Held::Number { value, relocation }) if is_wide => {
            let relocation = relocation.map(|_| MIXED);
            advanced(pointer, (value as i64).wrapping_neg(), relocation)
        }
        (ADD, Held::Context(pointer), Held::LocationOffset { slot, added })
        | (ADD, Held::LocationOffset { slot, added }, Held::Context(pointer))
            if is_wide && pointer.named == Named::Nothing =>
        {
            let added = added.wrapping_add(pointer.offset);
            Held::Dynamic { slot, added }
        }
        (AND, Held::Location { slot }, Held::Number { value: 0xffff, .. })
        | (AND, Held::Number { value: 0xffff, .. }, Held::Location { slot }) => {
            Held::LocationOffset { slot, added: 0 }
        }
        (AND, offset @ Held::LocationOffset { added: 0, .. }, Held::Number { value, .. })
            if value & 0xffff == 0xffff =>
        {
            offset
        }
        (NEGATE | END, ..) => match left {
            Held::Undecided => Held::Undecided,
            _ => Held::Unknown,
        },
        (operation, left, right) => {
            let both = [left, right];
            let is_pointer_kept = is_wide && matches!(operation, ADD | SUBTRACT);
            if both.into_iter().any(Held::is_in_stack) {
                match is_pointer_kept && !both.contains(&Held::Anything) {
                    true => Held::StackSomewhere,
                    false => Held::Anything,
                }
            } else if is_pointer_kept
                && both.into_iter().any(|held| {
                    matches!(
                        held,
                        Held::Context(_) | Held::ContextSomewhere | Held::Dynamic { .. }
                    )
                })
            {
                Held::ContextSomewhere
            } else if both
                .into_iter()
                .any(|held| matches!(held, Held::Undecided | Held::Extern(_)))
            {
                Held::Undecided
            } else {
                Held::Unknown
            }
        }
    }
}

/// A pointer with a number added.
fn advanced(pointer: Held, by: i64, relocation: Option<u32>) -> Held {
    match pointer {
        Held::Context(pointer) => Held::Context(moved_by(pointer, by, relocation)),
        Held::Dynamic { slot, added } => Held::Dynamic {
            slot,
            added: added.wrapping_add(by),
        },
        Held::Stack { frame, offset } => {
            match i64::from(offset)
                .checked_add(by)
                .and_then(|to| i32::try_from(to).ok())
            {
                Some(offset) => Held::Stack { frame, offset },
                None => Held::StackSomewhere,
            }
        }
        Held::Data { section, offset } => Held::Data {
            section,
            offset: offset.wrapping_add(by),
        },
        Held::Argument(argument) => Held::Argument(ArgumentPointer {
            offset: argument.offset.wrapping_add(by),
            named: argument.named.plus(by, relocation),
            ..argument
        }),
        Held::Undecided | Held::Extern(_) => Held::Undecided,
        Held::Anything | Held::ContextSomewhere | Held::StackSomewhere => pointer,
        _ => Held::Unknown,
    }
}

/// Whether a jump is taken, where that is known.
fn decided(instruction: RawInstruction, left: Held, right: Held) -> Option<bool> {
    match (left, right) {
        (Held::Number { value: a, .. }, Held::Number { value: b, .. }) => {
            is_taken(instruction, a, b)
        }
        // No such address is 0.
        (
            Held::Context(_) | Held::Stack { .. } | Held::Data { .. } | Held::Function(_),
            Held::Number { value: 0, .. },
        ) if instruction.class() == class::JMP => match instruction.operation() {
            0x10 => Some(false),
            0x50 => Some(true),
            _ => None,
        },
        _ => None,
    }
}

/// The instructions that are reached on more than one way.
fn meetings(elf: &BpfElf) -> BTreeSet<CodeAddress> {
    let mut meetings = BTreeSet::new();
    for (section, code) in elf.code.iter().enumerate() {
        let section = section as u32;
        for (at, instruction) in code.instructions.iter().enumerate() {
            let at = at as i64;
            let target = match (instruction.class(), instruction.opcode) {
                (class::JMP | class::JMP32, EXIT) => None,
                (class::JMP, CALL) => Some(at + 1),
                (class::JMP32, 0x06) => Some(at + 1 + i64::from(instruction.immediate)),
                (class::JMP | class::JMP32, _) => Some(at + 1 + i64::from(instruction.offset)),
                _ => None,
            };
            if let Some(instruction) = target.and_then(|to| u32::try_from(to).ok()) {
                meetings.insert(CodeAddress {
                    section,
                    instruction,
                });
            }
        }
        for function in &code.functions {
            meetings.insert(CodeAddress {
                section,
                instruction: function.start,
            });
        }
    }
    meetings
}

/// Which half of a location, loaded alone, is its offset: in bytes from its start.
pub(super) fn offset_half(byte_order: ByteOrder) -> u32 {
    match byte_order {
        ByteOrder::Little => 0,
        ByteOrder::Big => 2,
    }
}
