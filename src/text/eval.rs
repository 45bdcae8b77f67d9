//! The expressions of a print fmt, made ready for one event's records, and what
//! they come to.

use std::borrow::Cow;

use crate::format::print::{
    BinaryOperator, Expression, UnaryOperator, character_value, number_value,
};
use crate::format::{Field, FieldKind, Format, LOCATION, Location};
use crate::layout::integer::IntegerType;
use crate::machine::{Machine, sign_extended, until_nul, zero_extended};

/// What an expression comes to.
#[derive(Clone, Copy, Debug)]
pub(super) enum CValue<'a> {
    /// A number of this size in bytes and sign; its bits are extended to 64.
    Integer { bits: u64, size: u8, signed: bool },
    /// A pointer into the record, to elements of so many bytes.
    Bytes {
        data: &'a [u8],
        element: u32,
        signed: bool,
    },
    /// A string of the kernel's, that is in the print fmt.
    Text(&'a str),
    /// What cannot be told, in words.
    Unknown(&'a str),
}

/// An expression, its fields looked up.
#[derive(Clone, Debug)]
pub(super) enum Node {
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
    /// All that is behind this offset.
    Rest {
        offset: usize,
        element: u32,
        signed: bool,
    },
    /// Data elsewhere in the record, as the field there says.
    Located(Located),
    /// How long they are.
    LocatedLength(Located),
    Unary(UnaryOperator, Box<Node>),
    Binary(BinaryOperator, Box<Node>, Box<Node>),
    Conditional(Box<Node>, Option<Box<Node>>, Box<Node>),
    Cast(Cast, Box<Node>),
    Index(Box<Node>, Box<Node>),
    Swap(u8, Box<Node>),
    /// One of two strings.
    Choice(Box<Node>, &'static str, &'static str),
    /// What is printed piece by piece.
    Printed(Box<Printed>),
    Unknown(String),
}

/// A dynamic field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Located {
    offset: usize,
    size: usize,
    relative: bool,
    element: u32,
    signed: bool,
}

/// A type that something is cast to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cast {
    Integer {
        size: u8,
        signed: bool,
    },
    Bool,
    /// A pointer to elements of so many bytes.
    Pointer {
        element: u32,
        signed: bool,
    },
    /// A type that is not known; what is cast stays what it is.
    Same,
}

/// A helper that prints.
#[derive(Clone, Debug)]
pub(super) enum Printed {
    Flags {
        value: Node,
        delimiter: String,
        names: Vec<(u64, String)>,
        is_long: bool,
    },
    Symbol {
        value: Node,
        names: Vec<(u64, String)>,
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

/// Makes expressions ready.
pub(super) struct Compiler<'f> {
    pub(super) format: &'f Format,
    pub(super) machine: Machine,
    /// The values of names the kernel left as they are.
    pub(super) constants: &'f dyn Fn(&str) -> Option<i64>,
}

impl Compiler<'_> {
    pub(super) fn node(&self, expression: &Expression) -> Node {
        let boxed = |expression: &Expression| Box::new(self.node(expression));
        match expression {
            Expression::Field(name) => self.field(name).map_or_else(
                || Node::Unknown(expression.to_string()),
                |field| self.of_field(field),
            ),
            Expression::Number(text) => self.number(text),
            Expression::Character(text) => match character_value(text) {
                Some(value) => Node::Integer {
                    bits: value.into(),
                    size: 4,
                    signed: true,
                },
                None => Node::Unknown(text.clone()),
            },
            Expression::String(literal) => Node::Text(literal.text()),
            Expression::Name(name) => self.constant(name),
            Expression::Unary(UnaryOperator::Address, operand) => match self.node(operand) {
                Node::Scalar {
                    offset,
                    size,
                    signed,
                } => Node::Data {
                    offset,
                    size: size.into(),
                    element: size.into(),
                    signed,
                },
                data @ (Node::Data { .. } | Node::Rest { .. }) => data,
                // `&array[index]` is where that element begins.
                Node::Index(array, index) => Node::Binary(BinaryOperator::Add, array, index),
                _ => Node::Unknown(expression.to_string()),
            },
            Expression::Unary(operator, operand) => Node::Unary(*operator, boxed(operand)),
            Expression::Binary(operator, left, right) => {
                Node::Binary(*operator, boxed(left), boxed(right))
            }
            Expression::Conditional {
                condition,
                then,
                otherwise,
            } => Node::Conditional(
                boxed(condition),
                then.as_deref().map(boxed),
                boxed(otherwise),
            ),
            Expression::Cast(name, operand) => Node::Cast(self.cast(name), boxed(operand)),
            Expression::Index(array, index) => Node::Index(boxed(array), boxed(index)),
            Expression::Sizeof(operand) => self.size_of(operand),
            Expression::Call(function, arguments) => self
                .call(function, arguments)
                .unwrap_or_else(|| Node::Unknown(expression.to_string())),
            _ => Node::Unknown(expression.to_string()),
        }
    }

    fn constant(&self, name: &str) -> Node {
        let signed = |bits: i64, size| Node::Integer {
            bits: bits as u64,
            size,
            signed: true,
        };
        match (name, (self.constants)(name)) {
            ("NULL" | "false", _) => signed(0, 4),
            ("true", _) => signed(1, 4),
            (_, Some(value)) => match i32::try_from(value) {
                Ok(value) => signed(value.into(), 4),
                Err(_) => signed(value, 8),
            },
            (_, None) => Node::Unknown(name.to_owned()),
        }
    }

    fn field(&self, name: &str) -> Option<&Field> {
        self.format.field(name)
    }

    fn of_field(&self, field: &Field) -> Node {
        let offset = field.offset() as usize;
        let signed = field.signed() == Some(true);
        if field.is_rest() {
            return Node::Rest {
                offset,
                element: field.element_size_on(self.machine).unwrap_or(1),
                signed,
            };
        }
        match field.kind() {
            FieldKind::Scalar | FieldKind::Pointer => Node::Scalar {
                offset,
                size: field.size() as u8,
                signed,
            },
            FieldKind::DataLoc | FieldKind::RelLoc => Node::Located(self.located(field)),
            // A whole array of locations has no value in C.
            FieldKind::DataLocArray => Node::Unknown(field.name().to_owned()),
            FieldKind::Array | FieldKind::Struct => Node::Data {
                offset,
                size: field.size() as usize,
                element: field.element_size_on(self.machine).unwrap_or(1),
                signed,
            },
        }
    }

    fn located(&self, field: &Field) -> Located {
        Located {
            offset: field.offset() as usize,
            size: field.size() as usize,
            relative: field.kind() == FieldKind::RelLoc,
            element: field.element_size_on(self.machine).unwrap_or(1),
            signed: field.signed() == Some(true),
        }
    }

    fn number(&self, text: &str) -> Node {
        let Some((bits, suffix)) = number_value(text) else {
            return Node::Unknown(text.to_owned());
        };
        let unsigned = suffix.contains(['u', 'U']);
        let long = match suffix.to_ascii_lowercase().matches('l').count() {
            0 => 4,
            1 => self.machine.long_size() as u8,
            _ => 8,
        };
        // The first type it fits: only what is no decimal may be unsigned by itself.
        let decimal = !text.starts_with('0') || text.len() == 1;
        for size in [4, 8].into_iter().filter(|size| *size >= long) {
            let high = bits.checked_shr(8 * u32::from(size) - 1).unwrap_or(0);
            if !unsigned && high == 0 {
                return Node::Integer {
                    bits,
                    size,
                    signed: true,
                };
            }
            if (unsigned || !decimal) && high <= 1 {
                return Node::Integer {
                    bits,
                    size,
                    signed: false,
                };
            }
        }
        Node::Integer {
            bits,
            size: 8,
            signed: false,
        }
    }

    fn size_of(&self, operand: &Expression) -> Node {
        let size = match operand {
            Expression::Field(name) => self.field(name).map(Field::size),
            Expression::Type(name) | Expression::Name(name) => match self.cast(name) {
                Cast::Integer { size, .. } => Some(size.into()),
                Cast::Bool => Some(1),
                Cast::Pointer { .. } => Some(self.machine.long_size()),
                Cast::Same => None,
            },
            Expression::Index(array, _) => match &**array {
                Expression::Field(name) => {
                    let field = self.field(name);
                    field.and_then(|field| field.element_size_on(self.machine))
                }
                _ => None,
            },
            _ => None,
        };
        match size {
            Some(size) => Node::Integer {
                bits: size.into(),
                size: self.machine.long_size() as u8,
                signed: false,
            },
            None => Node::Unknown(format!("sizeof({operand})")),
        }
    }

    fn cast(&self, name: &str) -> Cast {
        let long = self.machine.long_size() as u8;
        let words = name.replace('*', " ");
        let is_qualifier =
            |word: &&str| !matches!(*word, "const" | "volatile" | "__force" | "__user");
        let words: Vec<&str> = words.split_whitespace().filter(is_qualifier).collect();
        let known = match words[..] {
            // All the enums of print fmts are their names' numbers, which int holds.
            ["enum", _] => Some((4, false)),
            ["void"] => Some((1, false)),
            _ => match IntegerType::of_name(&words.join(" ")) {
                Some(known) if known.is_bool && !name.contains('*') => return Cast::Bool,
                Some(known) => {
                    let size = known.width.size(long.into());
                    size.map(|size| (size as u8, known.signed))
                }
                None => None,
            },
        };
        let Some((size, signed)) = known else {
            return Cast::Same;
        };
        match name.matches('*').count() {
            0 => Cast::Integer { size, signed },
            1 => Cast::Pointer {
                element: size.into(),
                signed,
            },
            _ => Cast::Pointer {
                element: long.into(),
                signed: false,
            },
        }
    }

    fn dynamic(&self, argument: &Expression) -> Option<Located> {
        match argument {
            Expression::Name(name) => {
                let field = self.field(name).filter(|field| field.kind().is_dynamic())?;
                Some(self.located(field))
            }
            Expression::Index(array, index) => self.located_element(array, index),
            _ => None,
        }
    }

    /// One location of several: `names[1]` in `__get_str(names[1])`.
    fn located_element(&self, array: &Expression, index: &Expression) -> Option<Located> {
        let (Expression::Name(name), Expression::Number(index)) = (array, index) else {
            return None;
        };
        let field = self.field(name)?;
        let (index, _) = number_value(index)?;
        let count = match field.kind() {
            FieldKind::DataLocArray => u64::from(field.element_count()?),
            _ => return None,
        };
        (index < count).then(|| Located {
            offset: field.offset() as usize + index as usize * LOCATION as usize,
            size: LOCATION as usize,
            ..self.located(field)
        })
    }

    fn call(&self, function: &str, arguments: &[Expression]) -> Option<Node> {
        let argument = |index: usize| arguments.get(index);
        let node = |index: usize| argument(index).map(|argument| self.node(argument));
        let is_64_bit = function.ends_with("_u64");
        Some(match function {
            "__get_str"
            | "__get_rel_str"
            | "__get_dynamic_array"
            | "__get_rel_dynamic_array"
            | "__get_sockaddr"
            | "__get_rel_sockaddr"
            | "__get_buf" => Node::Located(self.dynamic(argument(0)?)?),
            "__get_dynamic_array_len" | "__get_rel_dynamic_array_len" => {
                Node::LocatedLength(self.dynamic(argument(0)?)?)
            }
            "__get_bitmask" | "__get_cpumask" | "__get_rel_bitmask" | "__get_rel_cpumask" => {
                let data = Node::Located(self.dynamic(argument(0)?)?);
                Node::Printed(Box::new(Printed::Bitmask { data }))
            }
            "__print_flags" | "__print_flags_u64" => Node::Printed(Box::new(Printed::Flags {
                value: node(0)?,
                delimiter: match argument(1)? {
                    Expression::String(literal) => literal.text(),
                    _ => String::new(),
                },
                names: self.names(arguments.get(2..)?)?,
                is_long: !is_64_bit,
            })),
            "__print_symbolic" | "__print_symbolic_u64" => {
                Node::Printed(Box::new(Printed::Symbol {
                    value: node(0)?,
                    names: self.names(arguments.get(1..)?)?,
                    is_long: !is_64_bit,
                }))
            }
            "__print_hex" | "__print_hex_str" => Node::Printed(Box::new(Printed::Hex {
                data: node(0)?,
                length: node(1)?,
                separated: function == "__print_hex",
            })),
            "__print_array" => Node::Printed(Box::new(Printed::Array {
                data: node(0)?,
                count: Some(node(1)?),
                element: node(2)?,
            })),
            "__print_dynamic_array" => Node::Printed(Box::new(Printed::Array {
                data: Node::Located(self.dynamic(argument(0)?)?),
                count: None,
                element: node(1)?,
            })),
            "__print_ns_to_secs" => self.quotient(BinaryOperator::Divide, node(0)?, 8),
            "__print_ns_without_secs" => self.quotient(BinaryOperator::Remainder, node(0)?, 4),
            "__builtin_bswap16" => Node::Swap(2, Box::new(node(0)?)),
            "__builtin_bswap32" => Node::Swap(4, Box::new(node(0)?)),
            "__builtin_bswap64" => Node::Swap(8, Box::new(node(0)?)),
            "__builtin_expect" => node(0)?,
            "__le16_to_cpup" | "__le32_to_cpup" | "__le64_to_cpup" | "__be16_to_cpup"
            | "__be32_to_cpup" | "__be64_to_cpup" => self.to_cpup(function, node(0)?)?,
            "str_yes_no" => Node::Choice(Box::new(node(0)?), "yes", "no"),
            "str_on_off" => Node::Choice(Box::new(node(0)?), "on", "off"),
            "str_true_false" => Node::Choice(Box::new(node(0)?), "true", "false"),
            "str_enable_disable" => Node::Choice(Box::new(node(0)?), "enable", "disable"),
            "str_enabled_disabled" => Node::Choice(Box::new(node(0)?), "enabled", "disabled"),
            "str_read_write" => Node::Choice(Box::new(node(0)?), "read", "write"),
            "str_write_read" => Node::Choice(Box::new(node(0)?), "write", "read"),
            "str_up_down" => Node::Choice(Box::new(node(0)?), "up", "down"),
            "str_down_up" => Node::Choice(Box::new(node(0)?), "down", "up"),
            "str_hi_lo" => Node::Choice(Box::new(node(0)?), "hi", "lo"),
            "str_lo_hi" => Node::Choice(Box::new(node(0)?), "lo", "hi"),
            "str_high_low" => Node::Choice(Box::new(node(0)?), "high", "low"),
            "str_low_high" => Node::Choice(Box::new(node(0)?), "low", "high"),
            "str_input_output" => Node::Choice(Box::new(node(0)?), "input", "output"),
            "str_assert_deassert" => Node::Choice(Box::new(node(0)?), "assert", "deassert"),
            "str_plural" => Node::Choice(
                Box::new(Node::Binary(
                    BinaryOperator::Equal,
                    Box::new(node(0)?),
                    Box::new(Node::Integer {
                        bits: 1,
                        size: 4,
                        signed: true,
                    }),
                )),
                "",
                "s",
            ),
            _ => return None,
        })
    }

    /// Seconds of nanoseconds, or what is left of them.
    fn quotient(&self, operator: BinaryOperator, value: Node, size: u8) -> Node {
        let unsigned = |size| Cast::Integer {
            size,
            signed: false,
        };
        let second = Node::Integer {
            bits: 1_000_000_000,
            size: 8,
            signed: false,
        };
        let value = Box::new(Node::Cast(unsigned(8), Box::new(value)));
        let quotient = Node::Binary(operator, value, Box::new(second));
        Node::Cast(unsigned(size), Box::new(quotient))
    }

    fn to_cpup(&self, function: &str, pointer: Node) -> Option<Node> {
        use crate::machine::ByteOrder;
        let size: u8 = match function.get(4..6)? {
            "16" => 2,
            "32" => 4,
            _ => 8,
        };
        let order = match function.starts_with("__be") {
            true => ByteOrder::Big,
            false => ByteOrder::Little,
        };
        let cast = Cast::Pointer {
            element: size.into(),
            signed: false,
        };
        let pointer = Box::new(Node::Cast(cast, Box::new(pointer)));
        let value = Box::new(Node::Unary(UnaryOperator::Dereference, pointer));
        Some(match order == self.machine.byte_order() {
            true => *value,
            false => Node::Swap(size, value),
        })
    }

    /// A table's entries, without those whose value is not known: what they would
    /// name is printed as a number then. `None` if it is no table.
    fn names(&self, entries: &[Expression]) -> Option<Vec<(u64, String)>> {
        let entries = match entries {
            [Expression::List(items)] if matches!(items.first(), Some(Expression::List(_))) => {
                items
            }
            entries => entries,
        };
        entries
            .iter()
            .take_while(|entry| !is_end(entry))
            .filter_map(|entry| {
                let Expression::List(items) = entry else {
                    return Some(None);
                };
                let [value, Expression::String(name)] = &items[..] else {
                    return Some(None);
                };
                let nothing = Scope {
                    bytes: &[],
                    machine: self.machine,
                };
                match self.node(value).evaluate(&nothing) {
                    CValue::Integer { bits, .. } => Some(Some((bits, name.text()))),
                    _ => None,
                }
            })
            .collect()
    }
}

/// `{ -1, NULL }`, `{ 0, ((void *)0) }`: what ends a table.
fn is_end(entry: &Expression) -> bool {
    match entry {
        Expression::List(items) => match &items[..] {
            [_, Expression::Name(name)] => name == "NULL",
            [_, Expression::Cast(name, value)] => {
                name.contains('*') && matches!(&**value, Expression::Number(zero) if zero == "0")
            }
            _ => false,
        },
        _ => false,
    }
}

/// What expressions are evaluated in.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) machine: Machine,
}

/// A number of this size and sign, of these bits.
fn integer<'a>(bits: u64, size: u8, signed: bool) -> CValue<'a> {
    let bits = match signed {
        true => sign_extended(bits, size.into()) as u64,
        false => zero_extended(bits, size.into()),
    };
    CValue::Integer { bits, size, signed }
}

const SHORT: CValue<'static> = CValue::Unknown("the record is too short");

impl Node {
    pub(super) fn evaluate<'a>(&'a self, scope: &Scope<'a>) -> CValue<'a> {
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
                None => CValue::Unknown("outside of the record"),
            },
            Self::LocatedLength(located) => match located.data(scope) {
                Some(data) => integer(data.len() as u64, 4, true),
                None => CValue::Unknown("outside of the record"),
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

    /// What is not known in it.
    pub(super) fn collect_unknown<'n>(&'n self, unknown: &mut Vec<&'n str>) {
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
                Printed::Flags { value, .. } | Printed::Symbol { value, .. } => {
                    value.collect_unknown(unknown);
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

    /// The helper that prints what this comes to, if one does: behind conditions,
    /// too.
    pub(super) fn printed<'a>(&'a self, scope: &Scope<'a>) -> Option<&'a Printed> {
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
        let raw = scope
            .bytes
            .get(self.offset..self.offset.checked_add(self.size)?)?;
        let base = match self.relative {
            true => self.offset + self.size,
            false => 0,
        };
        let location = Location::read(raw, base, scope.machine);
        scope.bytes.get(location.range(scope.bytes.len()))
    }
}

impl Cast {
    fn of(self, value: CValue<'_>) -> CValue<'_> {
        match (self, value) {
            (Self::Integer { size, signed }, CValue::Integer { bits, .. }) => {
                integer(bits, size, signed)
            }
            (Self::Bool, value) => match value.is_true() {
                Some(truth) => integer(truth.into(), 1, false),
                None => value,
            },
            (Self::Pointer { element, signed }, CValue::Bytes { data, .. }) => CValue::Bytes {
                data,
                element,
                signed,
            },
            (_, value) => value,
        }
    }
}

impl<'a> CValue<'a> {
    /// `None` of what is not known.
    fn is_true(self) -> Option<bool> {
        match self {
            Self::Integer { bits, .. } => Some(bits != 0),
            Self::Bytes { .. } | Self::Text(_) => Some(true),
            Self::Unknown(_) => None,
        }
    }

    /// The bytes of a string in the record, to its NUL.
    pub(super) fn string(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Bytes { data, .. } => Some(Cow::Borrowed(until_nul(data))),
            Self::Text(text) => Some(Cow::Borrowed(text.as_bytes())),
            _ => None,
        }
    }
}

/// The number with the type it has in arithmetic: at least int.
fn promoted(bits: u64, size: u8, signed: bool) -> (u64, u8, bool) {
    match size {
        0..4 => (bits, 4, true),
        _ => (bits, size, signed),
    }
}

fn unary<'a>(operator: UnaryOperator, operand: CValue<'a>, scope: &Scope<'a>) -> CValue<'a> {
    if operator == UnaryOperator::Not {
        return match operand.is_true() {
            Some(truth) => integer((!truth).into(), 4, true),
            None => operand,
        };
    }
    if operator == UnaryOperator::Dereference {
        return dereference(operand, scope.machine);
    }
    let CValue::Integer { bits, size, signed } = operand else {
        return operand;
    };
    let (bits, size, signed) = promoted(bits, size, signed);
    match operator {
        UnaryOperator::Complement => integer(!bits, size, signed),
        UnaryOperator::Minus => integer(bits.wrapping_neg(), size, signed),
        _ => integer(bits, size, signed),
    }
}

fn dereference(place: CValue<'_>, machine: Machine) -> CValue<'_> {
    match place {
        CValue::Bytes {
            data,
            element,
            signed,
        } => match data.get(..element as usize) {
            Some(bytes) if matches!(element, 1 | 2 | 4 | 8) => {
                integer(machine.unsigned(bytes), element as u8, signed)
            }
            _ => CValue::Unknown("outside of the record"),
        },
        CValue::Text(text) => integer(text.bytes().next().unwrap_or(0).into(), 1, true),
        CValue::Integer { .. } => CValue::Unknown("what a pointer points at"),
        unknown => unknown,
    }
}

/// A pointer so many elements further, or back.
fn add<'a>(pointer: CValue<'a>, by: CValue<'a>, back: bool) -> Option<CValue<'a>> {
    match (pointer, by) {
        (
            CValue::Bytes {
                data,
                element,
                signed,
            },
            CValue::Integer { bits, .. },
        ) => {
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

fn binary<'a>(
    operator: BinaryOperator,
    left: &'a Node,
    right: &'a Node,
    scope: &Scope<'a>,
) -> CValue<'a> {
    use BinaryOperator as B;
    let truth = |truth: bool| integer(truth.into(), 4, true);
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
    let (a, b) = match (left, right) {
        (
            CValue::Integer { bits, size, signed },
            CValue::Integer {
                bits: b,
                size: bs,
                signed: bg,
            },
        ) => (promoted(bits, size, signed), promoted(b, bs, bg)),
        (CValue::Unknown(_), _) => return left,
        (_, CValue::Unknown(_)) => return right,
        (pointer, by) if operator == B::Add => {
            let sum = add(pointer, by, false).or_else(|| add(by, pointer, false));
            return sum.unwrap_or(CValue::Unknown("outside of the record"));
        }
        // Pointers into the record are not 0, which is what they are compared with.
        (CValue::Integer { bits: 0, .. }, _) | (_, CValue::Integer { bits: 0, .. }) => {
            return match operator {
                B::Equal => truth(false),
                B::NotEqual => truth(true),
                _ => CValue::Unknown("arithmetic of pointers"),
            };
        }
        _ => return CValue::Unknown("arithmetic of pointers"),
    };
    arithmetic(operator, a, b)
}

/// A promoted number: its bits, its size in bytes and whether it is signed.
type Promoted = (u64, u8, bool);

/// Arithmetic and comparison of numbers, in the type C converts both to.
fn arithmetic<'a>(operator: BinaryOperator, a: Promoted, b: Promoted) -> CValue<'a> {
    use BinaryOperator as B;
    let truth = |truth: bool| integer(truth.into(), 4, true);
    if let B::ShiftLeft | B::ShiftRight = operator {
        // The type is the left operand's.
        let (bits, size, signed) = a;
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
    // The larger type, and of two alike the unsigned one.
    let size = a.1.max(b.1);
    let signed = match a.1.cmp(&b.1) {
        std::cmp::Ordering::Equal => a.2 && b.2,
        std::cmp::Ordering::Greater => a.2,
        std::cmp::Ordering::Less => b.2,
    };
    let convert = |bits| match integer(bits, size, signed) {
        CValue::Integer { bits, .. } => bits,
        _ => 0,
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
