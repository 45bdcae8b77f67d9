//! Loads and stores: from the context, the stack and the object's constants.

use super::elf::CodeAddress;
use super::instruction::{MODE_ATOMIC, MODE_MEMORY, MODE_SIGNED, RawInstruction, class};
use super::interpret::{Interpreter, ReadBy, ReadFrom};
use super::state::{MachineState, Named, RegisterValue};
use super::values::mask;
use crate::machine::sign_extended;

impl Interpreter<'_> {
    pub(super) fn load(
        &mut self,
        at: CodeAddress,
        instruction: RawInstruction,
        named: Named,
        is_unknown: bool,
        state: &mut MachineState,
    ) {
        let size = instruction.memory_size();
        let offset = i64::from(instruction.offset);
        let base = self.register(state, instruction.source);
        let guards = state.guards.clone();
        let held = match base {
            _ if !matches!(instruction.mode(), MODE_MEMORY | MODE_SIGNED) => RegisterValue::Unknown,
            RegisterValue::Context(_) if is_unknown => {
                let by = ReadBy::Load { moved: false };
                self.read(at, by, ReadFrom::ContextSomewhere, Some(size), &guards);
                RegisterValue::Unknown
            }
            RegisterValue::Context(pointer) => {
                let moved = pointer.offset != 0;
                let pointer = pointer.plus(offset, named);
                let by = ReadBy::Load { moved };
                self.read(at, by, ReadFrom::Context(pointer), Some(size), &guards);
                self.shape.read(pointer, size)
            }
            RegisterValue::ContextSomewhere => {
                let by = ReadBy::Load { moved: true };
                self.read(at, by, ReadFrom::ContextSomewhere, Some(size), &guards);
                RegisterValue::Unknown
            }
            RegisterValue::Dynamic { slot, added } => {
                let by = ReadBy::Load { moved: true };
                let added = added.wrapping_add(offset);
                self.read(
                    at,
                    by,
                    ReadFrom::Dynamic { slot, added },
                    Some(size),
                    &guards,
                );
                RegisterValue::Unknown
            }
            RegisterValue::Argument(argument) if !is_unknown => {
                let from = ReadFrom::Argument(argument.plus(offset, named));
                self.read(at, ReadBy::Load { moved: false }, from, Some(size), &guards);
                RegisterValue::Unknown
            }
            RegisterValue::Stack { frame, offset: to } => {
                let to = i32::try_from(i64::from(to) + offset).unwrap_or(0);
                self.load_stack(at, state, frame, to, size)
            }
            RegisterValue::Data {
                section,
                offset: to,
            } => self.constant(section, to.wrapping_add(offset), size),
            RegisterValue::Extern(index) => match self.object.externs.get(index as usize) {
                Some(Some(value)) => RegisterValue::Number {
                    value: *value & mask(size),
                    named: Named::Nothing,
                },
                _ => RegisterValue::Undecided,
            },
            RegisterValue::StackSomewhere | RegisterValue::Anything => RegisterValue::Anything,
            _ => RegisterValue::Unknown,
        };
        let held = match (instruction.mode(), held) {
            (MODE_SIGNED, RegisterValue::Number { value, named }) => {
                let value = sign_extended(value, size) as u64;
                RegisterValue::Number { value, named }
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
    ) -> RegisterValue {
        let Some(frame) = state.frames.get(usize::from(frame)) else {
            return RegisterValue::Unknown;
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

    /// Returns a value of a section that no program writes to.
    fn constant(&self, section: u32, offset: i64, size: u32) -> RegisterValue {
        let data = self.object.elf.data.get(section as usize);
        let value = data.filter(|data| data.is_constant()).and_then(|data| {
            let start = usize::try_from(offset).ok()?;
            let bytes = data.bytes.get(start..start.checked_add(size as usize)?)?;
            Some(self.machine.unsigned(bytes))
        });
        match value {
            Some(value) => RegisterValue::Number {
                value,
                named: Named::Nothing,
            },
            None => RegisterValue::Unknown,
        }
    }

    /// Stores a value; `None` if the verifier refuses that.
    pub(super) fn store(
        &mut self,
        at: CodeAddress,
        instruction: RawInstruction,
        state: &mut MachineState,
    ) -> Option<()> {
        let size = instruction.memory_size();
        let is_atomic = instruction.class() == class::STX && instruction.mode() == MODE_ATOMIC;
        let held = match instruction.class() {
            class::ST => RegisterValue::Number {
                value: instruction.extended() & mask(size),
                named: Named::Nothing,
            },
            _ if is_atomic => RegisterValue::Unknown,
            _ => match self.register(state, instruction.source) {
                RegisterValue::Number { value, named } => RegisterValue::Number {
                    value: value & mask(size),
                    named,
                },
                held @ (RegisterValue::Location { .. }
                | RegisterValue::LocationOffset { .. }
                | RegisterValue::Undecided) => held,
                held if size == 8 => held,
                _ => RegisterValue::Unknown,
            },
        };
        match self.register(state, instruction.destination) {
            RegisterValue::Context(_)
            | RegisterValue::ContextSomewhere
            | RegisterValue::Dynamic { .. } => {
                let why = "it writes to its context".to_owned();
                self.refuse(at, why, &state.guards);
                return None;
            }
            RegisterValue::Stack { frame, offset } => {
                let offset = i64::from(offset) + i64::from(instruction.offset);
                let offset = i32::try_from(offset).unwrap_or(0);
                if let Some(frame) = state.frames.get_mut(usize::from(frame)) {
                    frame.store(offset, size, held);
                }
            }
            RegisterValue::StackSomewhere | RegisterValue::Anything => state.forget_stacks(),
            _ => {}
        }
        if is_atomic {
            // BPF_FETCH returns the old value, BPF_CMPXCHG in R0.
            const FETCH: i32 = 1;
            const COMPARE: i32 = 0xf1;
            const LOAD_ACQUIRE: i32 = 0x100;
            match instruction.immediate {
                COMPARE => self.set(state, 0, RegisterValue::Unknown),
                LOAD_ACQUIRE => self.set(state, instruction.destination, RegisterValue::Unknown),
                operation if operation & FETCH != 0 => {
                    self.set(state, instruction.source, RegisterValue::Unknown);
                }
                _ => {}
            }
        }
        Some(())
    }
}
