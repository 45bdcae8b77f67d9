//! Arithmetic and jumps on known values.

use super::instruction::{RawInstruction, arithmetic, class, is_taken};
use super::state::{Named, RegisterValue};
use crate::machine::zero_extended;

/// Returns a mask with the bits of a value of this size in bytes.
pub(super) fn mask(size: u32) -> u64 {
    zero_extended(u64::MAX, size)
}

/// Returns the result of arithmetic, other than a move, on two values.
pub(super) fn combined(
    instruction: RawInstruction,
    left: RegisterValue,
    right: RegisterValue,
) -> RegisterValue {
    const ADD: u8 = 0x00;
    const SUBTRACT: u8 = 0x10;
    const AND: u8 = 0x50;
    const NEGATE: u8 = 0x80;
    const END: u8 = 0xd0;
    let is_wide = instruction.class() == class::ALU64;
    if let (
        RegisterValue::Number { value: a, named },
        RegisterValue::Number {
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
            Some(value) => RegisterValue::Number { value, named },
            None => RegisterValue::Unknown,
        };
    }
    match (instruction.operation(), left, right) {
        (
            ADD,
            RegisterValue::LocationOffset { slot, added },
            RegisterValue::Number { value, .. },
        )
        | (
            ADD,
            RegisterValue::Number { value, .. },
            RegisterValue::LocationOffset { slot, added },
        ) => {
            let added = match is_wide {
                true => added.wrapping_add(value as i64),
                false => i64::from((added as i32).wrapping_add(value as i32)),
            };
            RegisterValue::LocationOffset { slot, added }
        }
        (ADD, pointer, RegisterValue::Number { value, named })
        | (ADD, RegisterValue::Number { value, named }, pointer)
            if is_wide =>
        {
            advanced(pointer, value as i64, named)
        }
        (SUBTRACT, pointer, RegisterValue::Number { value, named }) if is_wide => {
            let named = named.mixed(Named::Nothing);
            advanced(pointer, (value as i64).wrapping_neg(), named)
        }
        (ADD, RegisterValue::Context(pointer), RegisterValue::LocationOffset { slot, added })
        | (ADD, RegisterValue::LocationOffset { slot, added }, RegisterValue::Context(pointer))
            if is_wide && pointer.named == Named::Nothing =>
        {
            let added = added.wrapping_add(pointer.offset);
            RegisterValue::Dynamic { slot, added }
        }
        (AND, RegisterValue::Location { slot }, RegisterValue::Number { value: 0xffff, .. })
        | (AND, RegisterValue::Number { value: 0xffff, .. }, RegisterValue::Location { slot }) => {
            RegisterValue::LocationOffset { slot, added: 0 }
        }
        (
            AND,
            offset @ RegisterValue::LocationOffset { added: 0, .. },
            RegisterValue::Number { value, .. },
        ) if value & 0xffff == 0xffff => offset,
        (NEGATE | END, ..) => match left {
            RegisterValue::Undecided => RegisterValue::Undecided,
            _ => RegisterValue::Unknown,
        },
        (ADD | SUBTRACT, left, right) => unlike(is_wide, left, right),
        (_, left, right) => unlike(false, left, right),
    }
}

/// Returns the result of arithmetic on values that are not both known. A sum or
/// difference of 64 bits may still point where one of them did.
fn unlike(may_point: bool, left: RegisterValue, right: RegisterValue) -> RegisterValue {
    use RegisterValue::{
        Anything, Context, ContextSomewhere, Dynamic, Extern, StackSomewhere, Undecided, Unknown,
    };
    let both = [left, right];
    let any = |is: fn(RegisterValue) -> bool| both.into_iter().any(is);
    if any(RegisterValue::is_in_stack) {
        match may_point && !both.contains(&Anything) {
            true => StackSomewhere,
            false => Anything,
        }
    } else if may_point
        && any(|value| matches!(value, Context(_) | ContextSomewhere | Dynamic { .. }))
    {
        ContextSomewhere
    } else if any(|value| matches!(value, Undecided | Extern(_))) {
        Undecided
    } else {
        Unknown
    }
}

/// Returns a pointer with a number added.
fn advanced(pointer: RegisterValue, by: i64, named: Named) -> RegisterValue {
    match pointer {
        RegisterValue::Context(pointer) => RegisterValue::Context(pointer.plus(by, named)),
        RegisterValue::Dynamic { slot, added } => RegisterValue::Dynamic {
            slot,
            added: added.wrapping_add(by),
        },
        RegisterValue::Stack { frame, offset } => {
            match i64::from(offset)
                .checked_add(by)
                .and_then(|to| i32::try_from(to).ok())
            {
                Some(offset) => RegisterValue::Stack { frame, offset },
                None => RegisterValue::StackSomewhere,
            }
        }
        RegisterValue::Data { section, offset } => RegisterValue::Data {
            section,
            offset: offset.wrapping_add(by),
        },
        RegisterValue::Argument(argument) => RegisterValue::Argument(argument.plus(by, named)),
        RegisterValue::Undecided | RegisterValue::Extern(_) => RegisterValue::Undecided,
        RegisterValue::Anything
        | RegisterValue::ContextSomewhere
        | RegisterValue::StackSomewhere => pointer,
        _ => RegisterValue::Unknown,
    }
}

/// Whether a jump is taken; `None` if that is not known.
pub(super) fn decided(
    instruction: RawInstruction,
    left: RegisterValue,
    right: RegisterValue,
) -> Option<bool> {
    match (left, right) {
        (RegisterValue::Number { value: a, .. }, RegisterValue::Number { value: b, .. }) => {
            is_taken(instruction, a, b)
        }
        // None of these addresses is 0.
        (
            RegisterValue::Context(_)
            | RegisterValue::Stack { .. }
            | RegisterValue::Data { .. }
            | RegisterValue::Function(_),
            RegisterValue::Number { value: 0, .. },
        ) if instruction.class() == class::JMP => match instruction.operation() {
            0x10 => Some(false),
            0x50 => Some(true),
            _ => None,
        },
        _ => None,
    }
}
