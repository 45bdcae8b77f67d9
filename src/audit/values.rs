//! What arithmetic and jumps make of what registers hold.

use super::instruction::{RawInstruction, arithmetic, class, is_taken};
use super::state::{Held, Named};

/// The bits of a value of so many bytes.
pub(super) fn mask(size: u32) -> u64 {
    match size {
        8.. => u64::MAX,
        size => (1 << (8 * size)) - 1,
    }
}

/// What arithmetic other than a move makes of two values.
pub(super) fn combined(instruction: RawInstruction, left: Held, right: Held) -> Held {
    const ADD: u8 = 0x00;
    const SUBTRACT: u8 = 0x10;
    const AND: u8 = 0x50;
    const NEGATE: u8 = 0x80;
    const END: u8 = 0xd0;
    let is_wide = instruction.class() == class::ALU64;
    if let (
        Held::Number { value: a, named },
        Held::Number {
            value: b,
            named: other,
        },
    ) = (left, right)
    {
        let is_sum = instruction.operation() == ADD && is_wide;
        let named = match is_sum {
            true => Named::sum((named, a as i64), (other, b as i64)),
            false => named.mixed(other),
        };
        return match arithmetic(instruction, a, b) {
            Some(value) => Held::Number { value, named },
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
        (ADD, pointer, Held::Number { value, named })
        | (ADD, Held::Number { value, named }, pointer)
            if is_wide =>
        {
            advanced(pointer, value as i64, named)
        }
        (SUBTRACT, pointer, Held::Number { value, named }) if is_wide => {
            let named = named.mixed(Named::Nothing);
            advanced(pointer, (value as i64).wrapping_neg(), named)
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
fn advanced(pointer: Held, by: i64, named: Named) -> Held {
    match pointer {
        Held::Context(pointer) => Held::Context(pointer.plus(by, named)),
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
        Held::Argument(argument) => Held::Argument(argument.plus(by, named)),
        Held::Undecided | Held::Extern(_) => Held::Undecided,
        Held::Anything | Held::ContextSomewhere | Held::StackSomewhere => pointer,
        _ => Held::Unknown,
    }
}

/// Whether a jump is taken, where that is known.
pub(super) fn decided(instruction: RawInstruction, left: Held, right: Held) -> Option<bool> {
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
