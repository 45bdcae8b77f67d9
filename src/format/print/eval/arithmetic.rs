//! Operators on values, in C's types.

use std::cmp::Ordering;

use super::{BinaryOperator, CValue, Node, NumberType, OUTSIDE, Scope, UnaryOperator};
use crate::machine::{Machine, sign_extended, zero_extended};

/// Returns a number with this size and sign, and these bits.
pub(super) fn integer<'a>(bits: u64, size: u8, signed: bool) -> CValue<'a> {
    let bits = match signed {
        true => sign_extended(bits, size.into()) as u64,
        false => zero_extended(bits, size.into()),
    };
    CValue::Integer { bits, size, signed }
}

fn truth<'a>(truth: bool) -> CValue<'a> {
    integer(truth.into(), 4, true)
}

/// Returns the type that a number of this type is promoted to: at least `int`.
pub(super) fn promoted((size, signed): NumberType) -> NumberType {
    match size {
        0..4 => (4, true),
        _ => (size, signed),
    }
}

/// Returns the type that C converts two promoted numbers to: the larger type or, if
/// both have one size, the unsigned one.
pub(super) fn common(a: NumberType, b: NumberType) -> NumberType {
    match a.0.cmp(&b.0) {
        Ordering::Equal => (a.0, a.1 && b.1),
        Ordering::Greater => a,
        Ordering::Less => b,
    }
}

pub(super) fn unary<'a>(
    operator: UnaryOperator,
    operand: CValue<'a>,
    scope: &Scope<'a>,
) -> CValue<'a> {
    if operator == UnaryOperator::Not {
        return operand.is_true().map_or(operand, |is_true| truth(!is_true));
    }
    if operator == UnaryOperator::Dereference {
        return dereference(operand, scope.machine);
    }
    let CValue::Integer { bits, size, signed } = operand else {
        return operand;
    };
    let (size, signed) = promoted((size, signed));
    match operator {
        UnaryOperator::Complement => integer(!bits, size, signed),
        UnaryOperator::Minus => integer(bits.wrapping_neg(), size, signed),
        _ => integer(bits, size, signed),
    }
}

pub(super) fn dereference(place: CValue<'_>, machine: Machine) -> CValue<'_> {
    match place {
        CValue::Bytes {
            data,
            element,
            signed,
        } => match data.get(..element as usize) {
            Some(bytes) if matches!(element, 1 | 2 | 4 | 8) => {
                integer(machine.unsigned(bytes), element as u8, signed)
            }
            _ => OUTSIDE,
        },
        CValue::Text(text) => integer(text.bytes().next().unwrap_or(0).into(), 1, true),
        CValue::Integer { .. } => CValue::Unknown("what a pointer points at"),
        unknown => unknown,
    }
}

/// Returns a pointer moved by this many elements; `None` if that is outside of the data
/// or not known.
pub(super) fn add<'a>(pointer: CValue<'a>, by: CValue<'a>, back: bool) -> Option<CValue<'a>> {
    match (pointer, by) {
        (
            CValue::Bytes {
                data,
                element,
                signed,
            },
            CValue::Integer { bits, .. },
        ) => {
            if element == 0 && bits != 0 {
                return None;
            }
            let bytes = usize::try_from(bits).ok()?.checked_mul(element as usize)?;
            let data = match back {
                false => data.get(bytes..)?,
                true => data.get(..0).filter(|_| bytes == 0)?,
            };
            Some(CValue::Bytes {
                data,
                element,
                signed,
            })
        }
        (CValue::Text(text), CValue::Integer { bits, .. }) if !back => {
            Some(CValue::Text(text.get(usize::try_from(bits).ok()?..)?))
        }
        _ => None,
    }
}

pub(super) fn binary<'a>(
    operator: BinaryOperator,
    left: &'a Node,
    right: &'a Node,
    scope: &Scope<'a>,
) -> CValue<'a> {
    use BinaryOperator as B;
    let left = left.evaluate(scope);
    if let B::LogicalOr | B::LogicalAnd = operator {
        return match left.is_true() {
            None => left,
            Some(value) if value == (operator == B::LogicalOr) => truth(value),
            Some(_) => {
                let right = right.evaluate(scope);
                right.is_true().map_or(right, truth)
            }
        };
    }
    let right = right.evaluate(scope);
    match (left, right) {
        (
            CValue::Integer { bits, size, signed },
            CValue::Integer {
                bits: by,
                size: by_size,
                signed: by_signed,
            },
        ) => arithmetic(
            operator,
            (bits, promoted((size, signed))),
            (by, promoted((by_size, by_signed))),
        ),
        (CValue::Unknown(_), _) => left,
        (_, CValue::Unknown(_)) => right,
        (pointer, by) if operator == B::Add => {
            let sum = add(pointer, by, false).or_else(|| add(by, pointer, false));
            sum.unwrap_or(OUTSIDE)
        }
        // Pointers into the record are never 0, the only number they are compared with.
        (CValue::Integer { bits: 0, .. }, _) | (_, CValue::Integer { bits: 0, .. }) => {
            match operator {
                B::Equal => truth(false),
                B::NotEqual => truth(true),
                _ => CValue::Unknown("arithmetic of pointers"),
            }
        }
        _ => CValue::Unknown("arithmetic of pointers"),
    }
}

/// A promoted number: its bits, extended to 64, and its type.
type Promoted = (u64, NumberType);

/// Arithmetic and comparison of numbers, in the type C converts both to.
fn arithmetic<'a>(operator: BinaryOperator, a: Promoted, b: Promoted) -> CValue<'a> {
    use BinaryOperator as B;
    if let B::ShiftLeft | B::ShiftRight = operator {
        // The type is the left operand's.
        let (bits, (size, signed)) = a;
        let by = u32::try_from(b.0).unwrap_or(u32::MAX);
        let shifted = match operator {
            B::ShiftLeft => bits.checked_shl(by),
            _ if signed => (bits as i64).checked_shr(by).map(|bits| bits as u64),
            _ => bits.checked_shr(by),
        };
        return match shifted.filter(|_| by < 8 * u32::from(size)) {
            Some(bits) => integer(bits, size, signed),
            None => CValue::Unknown("a shift by more than there is"),
        };
    }
    let (size, signed) = common(a.1, b.1);
    let convert = |bits| match signed {
        true => sign_extended(bits, size.into()) as u64,
        false => zero_extended(bits, size.into()),
    };
    let (x, y) = (convert(a.0), convert(b.0));
    let order = match signed {
        true => (x as i64).cmp(&(y as i64)),
        false => x.cmp(&y),
    };
    let divided = |unsigned: Option<u64>, of_signed: Option<i64>| match signed {
        true => of_signed.map(|value| value as u64),
        false => unsigned,
    };
    let bits = match operator {
        B::Equal => return truth(order.is_eq()),
        B::NotEqual => return truth(order.is_ne()),
        B::Less => return truth(order.is_lt()),
        B::LessOrEqual => return truth(order.is_le()),
        B::Greater => return truth(order.is_gt()),
        B::GreaterOrEqual => return truth(order.is_ge()),
        B::Or => x | y,
        B::Xor => x ^ y,
        B::And => x & y,
        B::Add => x.wrapping_add(y),
        B::Subtract => x.wrapping_sub(y),
        B::Multiply => x.wrapping_mul(y),
        B::Divide | B::Remainder => {
            let quotient = match operator {
                B::Divide => divided(x.checked_div(y), (x as i64).checked_div(y as i64)),
                _ => divided(x.checked_rem(y), (x as i64).checked_rem(y as i64)),
            };
            match quotient {
                Some(bits) => bits,
                None => return CValue::Unknown("a division by zero"),
            }
        }
        B::LogicalOr | B::LogicalAnd | B::ShiftLeft | B::ShiftRight => 0,
    };
    integer(bits, size, signed)
}
