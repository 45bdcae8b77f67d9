//! Jumps: the paths that follow an instruction, and where paths meet.

use std::collections::BTreeSet;

use super::elf::{BpfElf, CodeAddress, SymbolTarget};
use super::instruction::{CALL, EXIT, MAY_GOTO, RawInstruction, class};
use super::interpret::{Interpreter, Onward};
use super::state::{MachineState, Named, RegisterValue};
use super::values::decided;

impl Interpreter<'_> {
    pub(super) fn jump(
        &mut self,
        at: CodeAddress,
        instruction: RawInstruction,
        symbol: Option<SymbolTarget>,
        state: &mut MachineState,
    ) -> Onward {
        let relative = |distance: i64| {
            let to = i64::from(at.instruction) + 1 + distance;
            u32::try_from(to)
                .ok()
                .map(|instruction| CodeAddress { instruction, ..at })
        };
        match instruction.opcode {
            EXIT => return self.exit(state),
            CALL => return self.call(at, instruction, symbol, state),
            // An indirect call or jump, whose target is not known.
            0x8d | 0x0d => {
                self.found.unfinished = Some("it calls or jumps to a computed address");
                return Onward::End;
            }
            0x05 | 0x06 => {
                let distance = match instruction.opcode {
                    0x05 => i64::from(instruction.offset),
                    _ => i64::from(instruction.immediate),
                };
                return match relative(distance) {
                    Some(target) => Onward::At(target),
                    None => Onward::End,
                };
            }
            _ => {}
        }
        let Some(target) = relative(i64::from(instruction.offset)) else {
            return Onward::End;
        };
        if instruction.opcode == MAY_GOTO {
            self.waiting.push((target, state.clone()));
            return Onward::Behind;
        }
        let left = self.register(state, instruction.destination);
        let right = match instruction.has_register_operand() {
            true => self.register(state, instruction.source),
            false => RegisterValue::Number {
                value: instruction.extended(),
                named: Named::Nothing,
            },
        };
        match decided(instruction, left, right) {
            Some(true) => return Onward::At(target),
            Some(false) => return Onward::Behind,
            None => {}
        }
        let mut taken = state.clone();
        if let (RegisterValue::Argument(argument), RegisterValue::Number { value: 0, .. }) =
            (left, right)
        {
            match instruction.operation() {
                0x10 => state.check_argument(argument.index),
                0x50 => taken.check_argument(argument.index),
                _ => {}
            }
        }
        let is_open = |held| matches!(held, RegisterValue::Undecided | RegisterValue::Extern(_));
        if is_open(left) || is_open(right) {
            taken.guard((at, true));
            state.guard((at, false));
        }
        self.waiting.push((target, taken));
        Onward::Behind
    }
}

/// Returns the instructions that are reached on more than one path.
pub(super) fn meetings(elf: &BpfElf) -> BTreeSet<CodeAddress> {
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
