//! Evaluates the expressions of a print fmt, with C's types.
//!
//! A [`Compiler`] looks up fields, types and enumerators once and makes a [`Node`] of each
//! [`Expression`](super::Expression); [`Node::evaluate`] then reads a record. Tables of
//! names are evaluated without a record, by the same rules.
//!
//! Numbers have the size and sign of their C type. They are promoted, converted and
//! compared as in C; a conversion to a type of unknown size is unknown. Every failure is a
//! value of its own, [`CValue::Unknown`].

mod arithmetic;
mod compile;
mod helpers;
mod table;

use std::borrow::Cow;

use arithmetic::{add, binary, dereference, integer, unary};
pub(crate) use compile::Compiler;
pub(crate) use table::Table;

use super::{BinaryOperator, UnaryOperator};
use crate::format::Location;
use crate::machine::{Machine, until_nul};

/// The value of an expression.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CValue<'a> {
    /// A number with its size in bytes and its sign; the bits are extended to 64.
    Integer { bits: u64, size: u8, signed: bool },
    /// A pointer into the record, to elements of this size; 0 if the size is not known.
    Bytes {
        data: &'a [u8],
        element: u32,
        signed: bool,
    },
    /// A string of the kernel's that the print fmt contains.
    Text(&'a str),
    /// Not known, for this reason.
    Unknown(&'a str),
}

/// Size in bytes, and sign, of an integer type.
type NumberType = (u8, bool);

/// A compiled expression.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Integer {
        bits: u64,
        size: u8,
        signed: bool,
    },
    Text(String),
    /// A number in the record.
    Scalar {
        offset: usize,
        size: u8,
        signed: bool,
    },
    /// An array or a struct in the record.
    Data {
        offset: usize,
        size: usize,
        element: u32,
        signed: bool,
    },
    /// All bytes from this offset on.
    Rest {
        offset: usize,
        element: u32,
        signed: bool,
    },
    /// Data elsewhere in the record, located by this field.
    Located(Located),
    /// The length of the data.
    LocatedLength(Located),
    Unary(UnaryOperator, Box<Node>),
    Binary(BinaryOperator, Box<Node>, Box<Node>),
    Conditional(Box<Node>, Option<Box<Node>>, Box<Node>),
    Cast(Cast, Box<Node>),
    Index(Box<Node>, Box<Node>),
    Swap(u8, Box<Node>),
    /// One of two strings.
    Choice(Box<Node>, &'static str, &'static str),
    /// A helper that prints piece by piece.
    Printed(Box<Printed>),
    Unknown(String),
}

/// A dynamic field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located {
    offset: usize,
    size: usize,
    /// The offset that its location counts from.
    base: usize,
    element: u32,
    signed: bool,
}

/// The type of a cast.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cast {
    Integer {
        size: u8,
        signed: bool,
    },
    Bool,
    /// `char`, whose sign the compiler's options say: signed on x86-64 and unsigned on
    /// arm64 and s390x up to Linux 6.1, unsigned everywhere from 6.2 (`-funsigned-char`).
    Char,
    /// A pointer of `size` bytes to elements of this size; 0 if the element's size is
    /// not known.
    Pointer {
        size: u8,
        element: u32,
        signed: bool,
    },
}

/// A helper that prints.
#[derive(Clone, Debug)]
pub(crate) enum Printed {
    Flags {
        value: Node,
        delimiter: String,
        names: Table,
        is_long: bool,
    },
    Symbol {
        value: Node,
        names: Table,
        is_long: bool,
    },
    Hex {
        data: Node,
        length: Node,
        separated: bool,
    },
    Array {
        data: Node,
        count: Option<Node>,
        element: Node,
    },
    Bitmask {
        data: Node,
    },
}

/// The record that expressions are evaluated for.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) machine: Machine,
}

const SHORT: CValue<'static> = CValue::Unknown("the record is too short");

const OUTSIDE: CValue<'static> = CValue::Unknown("outside of the record");

impl Node {
    pub(crate) fn evaluate<'a>(&'a self, scope: &Scope<'a>) -> CValue<'a> {
        match self {
            Self::Integer { bits, size, signed } => CValue::Integer {
                bits: *bits,
                size: *size,
                signed: *signed,
            },
            Self::Text(text) => CValue::Text(text),
            Self::Scalar {
                offset,
                size,
                signed,
            } => {
                let Some(bytes) = scope.bytes.get(*offset..*offset + usize::from(*size)) else {
                    return SHORT;
                };
                integer(scope.machine.unsigned(bytes), *size, *signed)
            }
            Self::Data {
                offset,
                size,
                element,
                signed,
            } => match scope.bytes.get(*offset..offset.saturating_add(*size)) {
                Some(data) => CValue::Bytes {
                    data,
                    element: *element,
                    signed: *signed,
                },
                None => SHORT,
            },
            Self::Rest {
                offset,
                element,
                signed,
            } => match scope.bytes.get(*offset..) {
                Some(data) => CValue::Bytes {
                    data,
                    element: *element,
                    signed: *signed,
                },
                None => SHORT,
            },
            Self::Located(located) => match located.data(scope) {
                Some(data) => CValue::Bytes {
                    data,
                    element: located.element,
                    signed: located.signed,
                },
                None => OUTSIDE,
            },
            Self::LocatedLength(located) => match located.data(scope) {
                Some(data) => integer(data.len() as u64, 4, true),
                None => OUTSIDE,
            },
            Self::Unary(operator, operand) => unary(*operator, operand.evaluate(scope), scope),
            Self::Binary(operator, left, right) => binary(*operator, left, right, scope),
            Self::Conditional(condition, then, otherwise) => {
                let value = condition.evaluate(scope);
                match (value.is_true(), then) {
                    (None, _) => value,
                    (Some(true), None) => value,
                    (Some(true), Some(then)) => then.evaluate(scope),
                    (Some(false), _) => otherwise.evaluate(scope),
                }
            }
            Self::Cast(cast, operand) => cast.of(operand.evaluate(scope)),
            Self::Index(array, index) => {
                match add(array.evaluate(scope), index.evaluate(scope), false) {
                    Some(place) => dereference(place, scope.machine),
                    None => CValue::Unknown("an index of what is not in the record"),
                }
            }
            Self::Swap(size, operand) => match operand.evaluate(scope) {
                CValue::Integer { bits, .. } => match size {
                    2 => integer((bits as u16).swap_bytes().into(), 2, false),
                    4 => integer((bits as u32).swap_bytes().into(), 4, false),
                    _ => integer(bits.swap_bytes(), 8, false),
                },
                other => other,
            },
            Self::Choice(condition, yes, no) => match condition.evaluate(scope).is_true() {
                Some(true) => CValue::Text(yes),
                Some(false) => CValue::Text(no),
                None => condition.evaluate(scope),
            },
            Self::Printed(_) => CValue::Unknown("a list"),
            Self::Unknown(text) => CValue::Unknown(text),
        }
    }

    /// Evaluates an expression that reads no record.
    fn constant(&self, machine: Machine) -> CValue<'_> {
        self.evaluate(&Scope {
            bytes: &[],
            machine,
        })
    }

    /// Collects the parts that are not known, as written in the print fmt.
    pub(crate) fn collect_unknown<'n>(&'n self, unknown: &mut Vec<&'n str>) {
        match self {
            Self::Unknown(text) => unknown.push(text),
            Self::Unary(_, one)
            | Self::Cast(_, one)
            | Self::Swap(_, one)
            | Self::Choice(one, ..) => one.collect_unknown(unknown),
            Self::Binary(_, left, right) | Self::Index(left, right) => {
                left.collect_unknown(unknown);
                right.collect_unknown(unknown);
            }
            Self::Conditional(condition, then, otherwise) => {
                condition.collect_unknown(unknown);
                if let Some(then) = then {
                    then.collect_unknown(unknown);
                }
                otherwise.collect_unknown(unknown);
            }
            Self::Printed(printed) => match &**printed {
                Printed::Flags { value, names, .. } | Printed::Symbol { value, names, .. } => {
                    value.collect_unknown(unknown);
                    unknown.extend(names.unknown());
                }
                Printed::Hex { data, length, .. } => {
                    data.collect_unknown(unknown);
                    length.collect_unknown(unknown);
                }
                Printed::Array {
                    data,
                    count,
                    element,
                } => {
                    data.collect_unknown(unknown);
                    if let Some(count) = count {
                        count.collect_unknown(unknown);
                    }
                    element.collect_unknown(unknown);
                }
                Printed::Bitmask { data } => data.collect_unknown(unknown),
            },
            _ => {}
        }
    }

    /// Returns the helper that prints the value, if one does, also through
    /// conditionals.
    pub(crate) fn printed<'a>(&'a self, scope: &Scope<'a>) -> Option<&'a Printed> {
        match self {
            Self::Printed(printed) => Some(printed),
            Self::Conditional(condition, then, otherwise) => {
                match (condition.evaluate(scope).is_true()?, then) {
                    (true, Some(then)) => then.printed(scope),
                    (true, None) => None,
                    (false, _) => otherwise.printed(scope),
                }
            }
            Self::Cast(_, operand) => operand.printed(scope),
            _ => None,
        }
    }
}

impl Located {
    fn data<'a>(&self, scope: &Scope<'a>) -> Option<&'a [u8]> {
        let end = self.offset.checked_add(self.size)?;
        let raw = scope.bytes.get(self.offset..end)?;
        let location = Location::read(raw, self.base, scope.machine);
        scope.bytes.get(location.range(scope.bytes.len()))
    }
}

impl Cast {
    fn of(self, value: CValue<'_>) -> CValue<'_> {
        match (self, value) {
            (Self::Integer { size, signed }, CValue::Integer { bits, .. }) => {
                integer(bits, size, signed)
            }
            // The values that both signs have in common.
            (Self::Char, CValue::Integer { bits, .. }) => match bits & 0xff {
                bits @ 0..=0x7f => integer(bits, 1, true),
                _ => CValue::Unknown("a char above 127: its sign is not known"),
            },
            (Self::Bool, value) => match value.is_true() {
                Some(truth) => integer(truth.into(), 1, false),
                None => value,
            },
            (
                Self::Pointer {
                    element, signed, ..
                },
                CValue::Bytes { data, .. },
            ) => CValue::Bytes {
                data,
                element,
                signed,
            },
            (Self::Pointer { size, .. }, CValue::Integer { bits, .. }) => {
                integer(bits, size, false)
            }
            (_, value) => value,
        }
    }
}

impl<'a> CValue<'a> {
    /// Whether the value is not 0; `None` if that is not known.
    fn is_true(self) -> Option<bool> {
        match self {
            Self::Integer { bits, .. } => Some(bits != 0),
            Self::Bytes { .. } | Self::Text(_) => Some(true),
            Self::Unknown(_) => None,
        }
    }

    /// Returns the bytes of a string in the record, to its NUL.
    pub(crate) fn string(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Bytes { data, .. } => Some(Cow::Borrowed(until_nul(data))),
            Self::Text(text) => Some(Cow::Borrowed(text.as_bytes())),
            _ => None,
        }
    }
}
