//! Calls of the object's own functions, which are followed, and of the kernel's
//! helpers.

use super::elf::{CodeAddress, SymbolTarget};
use super::helpers::{self, HelperSize};
use super::instruction::{PSEUDO_CALL, RawInstruction};
use super::interpret::{Interpreter, Onward, ReadBy, ReadFrom};
use super::state::{CallFrame, ContextPointer, MachineState, Named, RegisterValue};

/// The most frames, as in the verifier (`MAX_CALL_FRAMES`).
const MAX_FRAMES: usize = 8;

impl Interpreter<'_> {
    pub(super) fn exit(&mut self, state: &mut MachineState) -> Onward {
        let result = self.register(state, 0);
        let Some(frame) = state.frames.pop() else {
            return Onward::End;
        };
        let Some(called_at) = frame.called_at else {
            return Onward::End;
        };
        self.scratch(state);
        let result = match result {
            RegisterValue::Stack { frame, .. } if usize::from(frame) >= state.frames.len() => {
                RegisterValue::Unknown
            }
            RegisterValue::StackSomewhere => RegisterValue::Anything,
            result => result,
        };
        self.set(state, 0, result);
        Onward::At(CodeAddress {
            instruction: called_at.instruction + 1,
            ..called_at
        })
    }

    pub(super) fn call(
        &mut self,
        at: CodeAddress,
        instruction: RawInstruction,
        symbol: Option<SymbolTarget>,
        state: &mut MachineState,
    ) -> Onward {
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
                    return Onward::End;
                };
                let mut arguments = [RegisterValue::Unknown; 5];
                arguments.copy_from_slice(&state.frame().registers[1..6]);
                self.enter(at, callee, arguments, state)
            }
            0 => self.call_helper(at, instruction.immediate, state),
            _ => {
                // A function of the kernel may write to anything.
                for register in 1..6 {
                    self.forget_at(state, register, HelperSize::Unknown);
                }
                self.scratch(state);
                Onward::Behind
            }
        }
    }

    /// Follows a call of a function of the object.
    fn enter(
        &mut self,
        at: CodeAddress,
        callee: CodeAddress,
        arguments: [RegisterValue; 5],
        state: &mut MachineState,
    ) -> Onward {
        if state.frames.len() >= MAX_FRAMES {
            self.found.unfinished = Some("its functions call each other too deep");
            return Onward::End;
        }
        let mut frame = CallFrame::new(state.frames.len() as u8, Some(at));
        for (index, held) in arguments.into_iter().enumerate() {
            frame.registers[index + 1] = match held {
                RegisterValue::Context(pointer)
                    if pointer.named == Named::Nothing && pointer.offset == 0 =>
                {
                    let type_id = self.parameter_type(callee, index).or(pointer.type_id);
                    RegisterValue::Context(ContextPointer { type_id, ..pointer })
                }
                held => held,
            };
        }
        state.frames.push(frame);
        Onward::At(callee)
    }

    fn call_helper(&mut self, at: CodeAddress, number: i32, state: &mut MachineState) -> Onward {
        if let Some(probe_read) = helpers::probe_read(number) {
            self.probe_read(at, probe_read, state);
            self.scratch(state);
            return Onward::Behind;
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
            && let RegisterValue::Function(callee) = self.register(state, function)
        {
            // A callback may be called any number of times, or never.
            let mut arguments = [RegisterValue::Unknown; 5];
            arguments[usize::from(arrives) - 1] = self.register(state, value);
            let mut called = state.clone();
            if let Onward::At(callee) = self.enter(at, callee, arguments, &mut called) {
                self.waiting.push((callee, called));
            }
        }
        if number == helpers::TAIL_CALL {
            self.set(state, 0, RegisterValue::Unknown);
        }
        self.scratch(state);
        Onward::Behind
    }

    fn size(&self, state: &MachineState, size: HelperSize) -> Option<u32> {
        match size {
            HelperSize::Fixed(size) => Some(size),
            HelperSize::Unknown => None,
            HelperSize::Register(register) => match self.register(state, register) {
                RegisterValue::Number { value, .. } => u32::try_from(value).ok(),
                _ => None,
            },
        }
    }

    fn forget_at(&self, state: &mut MachineState, pointer: u8, size: HelperSize) {
        let size = self.size(state, size);
        match self.register(state, pointer) {
            RegisterValue::Stack { frame, offset } => {
                if let Some(frame) = state.frames.get_mut(usize::from(frame)) {
                    frame.forget(offset, size);
                }
            }
            RegisterValue::StackSomewhere | RegisterValue::Anything => state.forget_stacks(),
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
            RegisterValue::Context(pointer) => ReadFrom::Context(pointer),
            RegisterValue::ContextSomewhere => ReadFrom::ContextSomewhere,
            RegisterValue::Dynamic { slot, added } => ReadFrom::Dynamic { slot, added },
            RegisterValue::Argument(argument) => ReadFrom::Argument(argument),
            _ => return,
        };
        if let (RegisterValue::Context(pointer), RegisterValue::Stack { frame, offset }, Some(size)) =
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

    /// Records memory that the object hands on: the context itself, or copies of it.
    fn hand_on(&mut self, at: CodeAddress, pointer: u8, size: HelperSize, state: &MachineState) {
        let size = self.size(state, size);
        match self.register(state, pointer) {
            RegisterValue::Context(pointer) => {
                let by = ReadBy::HandedOn { is_copy: false };
                self.read(at, by, ReadFrom::Context(pointer), size, &state.guards);
            }
            RegisterValue::Stack { frame, offset } => {
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
