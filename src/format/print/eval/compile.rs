//! Compiles expressions: looks up fields, types, numbers and enumerators.

use super::super::{Expression, UnaryOperator, character_value, number_value};
use super::arithmetic::{common, promoted};
use super::{Cast, Located, Node, NumberType};
use crate::format::{Field, FieldKind, Format, LOCATION};
use crate::layout::integer::IntegerType;
use crate::machine::Machine;

/// Compiles expressions for one format.
pub(crate) struct Compiler<'f> {
    /// The format of the records; `None` if expressions must be constant.
    pub(crate) format: Option<&'f Format>,
    pub(crate) machine: Machine,
    /// The values of the names that the kernel left in the print fmt.
    pub(crate) constants: &'f dyn Fn(&str) -> Option<i64>,
}

impl<'f> Compiler<'f> {
    pub(crate) fn node(&self, expression: &Expression) -> Node {
        let boxed = |expression: &Expression| Box::new(self.node(expression));
        let unknown = || Node::Unknown(expression.to_string());
        match expression {
            Expression::Field(name) => match self.field(name) {
                Some(field) => self.of_field(field),
                None => unknown(),
            },
            Expression::Number(text) => self.number(text),
            Expression::Character(text) => match character_value(text) {
                Some(value) => Node::Integer {
                    bits: value.into(),
                    size: 4,
                    signed: true,
                },
                None => unknown(),
            },
            Expression::String(literal) => Node::Text(literal.text()),
            Expression::Name(name) => self.constant(name),
            Expression::Unary(UnaryOperator::Address, operand) => {
                self.address(operand).unwrap_or_else(unknown)
            }
            Expression::Unary(operator, operand) => Node::Unary(*operator, boxed(operand)),
            Expression::Binary(operator, left, right) => {
                Node::Binary(*operator, boxed(left), boxed(right))
            }
            Expression::Conditional {
                condition,
                then,
                otherwise,
            } => {
                let then = then.as_deref().map(boxed);
                conditional(boxed(condition), then, boxed(otherwise))
            }
            Expression::Cast(name, operand) => match self.cast(name) {
                Some(cast) => Node::Cast(cast, boxed(operand)),
                None => unknown(),
            },
            Expression::Index(array, index) => Node::Index(boxed(array), boxed(index)),
            Expression::Member { whole, member, .. } => {
                self.member(whole, member).unwrap_or_else(unknown)
            }
            Expression::Sizeof(operand) => self.size_of(operand).unwrap_or_else(unknown),
            Expression::Call(function, arguments) => {
                self.call(function, arguments).unwrap_or_else(unknown)
            }
            _ => unknown(),
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

    fn field(&self, name: &str) -> Option<&'f Field> {
        self.format?.field(name)
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
            // An array of locations as a whole has no value in C.
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
            base: field.location_base(),
            element: field.element_size_on(self.machine).unwrap_or(1),
            signed: field.signed() == Some(true),
        }
    }

    fn address(&self, operand: &Expression) -> Option<Node> {
        match self.node(operand) {
            Node::Scalar {
                offset,
                size,
                signed,
            } => Some(Node::Data {
                offset,
                size: size.into(),
                element: size.into(),
                signed,
            }),
            data @ (Node::Data { .. } | Node::Rest { .. }) => Some(data),
            // `&array[index]` is the address of that element.
            Node::Index(array, index) => {
                Some(Node::Binary(super::BinaryOperator::Add, array, index))
            }
            _ => None,
        }
    }

    /// Returns a member. The layouts of structs are in BTF, which is not available
    /// here; two are known.
    fn member(&self, whole: &Expression, member: &str) -> Option<Node> {
        match whole {
            // `struct trace_entry`, with which all records begin.
            Expression::Field(name) if name == "ent" && self.field("ent").is_none() => {
                let field = self.field(&format!("common_{member}"))?;
                Some(self.of_field(field))
            }
            // `((ktime_t) { .tv64 = REC->now }).tv64`, before Linux 4.10.
            Expression::Cast(name, value) if matches!(name.as_str(), "ktime_t" | "union ktime") => {
                let Expression::List(items) = &**value else {
                    return None;
                };
                let [Expression::Designated(given, value)] = &items[..] else {
                    return None;
                };
                let s64 = Cast::Integer {
                    size: 8,
                    signed: true,
                };
                (given == member && member == "tv64")
                    .then(|| Node::Cast(s64, Box::new(self.node(value))))
            }
            _ => None,
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
        // The first type that it fits. Only numbers that are not decimal may be
        // unsigned without a suffix.
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

    fn size_of(&self, operand: &Expression) -> Option<Node> {
        let long = self.machine.long_size();
        let size = match operand {
            Expression::Field(name) => self.field(name)?.size(),
            Expression::Type(name) | Expression::Name(name) if is_empty_struct(name) => 0,
            Expression::Type(name) | Expression::Name(name) => match self.cast(name)? {
                Cast::Integer { size, .. } => size.into(),
                Cast::Bool | Cast::Char => 1,
                Cast::Pointer { .. } => long,
            },
            Expression::Index(array, _) => match &**array {
                Expression::Field(name) => self.field(name)?.element_size_on(self.machine)?,
                _ => self.node(operand).number_type()?.0.into(),
            },
            _ => self.node(operand).number_type()?.0.into(),
        };
        Some(Node::Integer {
            bits: size.into(),
            size: long as u8,
            signed: false,
        })
    }

    /// Returns the type of this name; `None` if its size is not known.
    fn cast(&self, name: &str) -> Option<Cast> {
        let long = self.machine.long_size() as u8;
        let words = name.replace('*', " ");
        let is_qualifier = |word: &&str| {
            !matches!(
                *word,
                "const" | "volatile" | "restrict" | "__force" | "__user" | "__rcu" | "__iomem"
            )
        };
        let words: Vec<&str> = words.split_whitespace().filter(is_qualifier).collect();
        if words == ["char"] && !name.contains('*') {
            return Some(Cast::Char);
        }
        let known = match words[..] {
            // All enums in print fmts stand for their numbers, which fit an `int`.
            ["enum", _] => Some((4, false)),
            ["void"] => Some((1, false)),
            _ => match IntegerType::of_name(&words.join(" ")) {
                Some(known) if known.is_bool && !name.contains('*') => return Some(Cast::Bool),
                Some(known) => {
                    let size = known.width.size(long.into());
                    size.map(|size| (size as u8, known.signed))
                }
                None => None,
            },
        };
        match (name.matches('*').count(), known) {
            (0, Some((size, signed))) if words != ["void"] => Some(Cast::Integer { size, signed }),
            (0, _) => None,
            (1, known) => {
                let (element, signed) = known.unwrap_or((0, false));
                Some(Cast::Pointer {
                    size: long,
                    element: element.into(),
                    signed,
                })
            }
            _ => Some(Cast::Pointer {
                size: long,
                element: long.into(),
                signed: false,
            }),
        }
    }

    pub(super) fn dynamic(&self, argument: &Expression) -> Option<Located> {
        match argument {
            Expression::Name(name) => {
                let field = self.field(name).filter(|field| field.kind().is_dynamic())?;
                Some(self.located(field))
            }
            Expression::Index(array, index) => self.located_element(array, index),
            _ => None,
        }
    }

    /// Returns one of several locations: `names[1]` in `__get_str(names[1])`.
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
}

/// Returns a conditional, both sides of which have the type that C gives the whole.
fn conditional(condition: Box<Node>, then: Option<Box<Node>>, otherwise: Box<Node>) -> Node {
    let sides = [
        then.as_ref().unwrap_or(&condition).number_type(),
        otherwise.number_type(),
    ];
    let whole = Node::Conditional(condition, then, otherwise);
    let [Some(then), Some(otherwise)] = sides else {
        return whole;
    };
    let (size, signed) = common(promoted(then), promoted(otherwise));
    match sides.iter().all(|side| *side == Some((size, signed))) {
        true => whole,
        false => Node::Cast(Cast::Integer { size, signed }, Box::new(whole)),
    }
}

impl Node {
    /// Returns the expression's type if it is a number; `None` if it is not, or its
    /// type is not known.
    fn number_type(&self) -> Option<NumberType> {
        use super::BinaryOperator as B;
        Some(match self {
            Self::Integer { size, signed, .. } | Self::Scalar { size, signed, .. } => {
                (*size, *signed)
            }
            Self::LocatedLength(_) | Self::Unary(UnaryOperator::Not, _) => (4, true),
            Self::Unary(UnaryOperator::Dereference, pointer) => pointer.element_type()?,
            Self::Unary(_, operand) => promoted(operand.number_type()?),
            Self::Binary(operator, left, right) => match operator {
                B::LogicalOr
                | B::LogicalAnd
                | B::Equal
                | B::NotEqual
                | B::Less
                | B::LessOrEqual
                | B::Greater
                | B::GreaterOrEqual => (4, true),
                B::ShiftLeft | B::ShiftRight => promoted(left.number_type()?),
                _ => common(
                    promoted(left.number_type()?),
                    promoted(right.number_type()?),
                ),
            },
            Self::Conditional(condition, then, otherwise) => common(
                promoted(then.as_ref().unwrap_or(condition).number_type()?),
                promoted(otherwise.number_type()?),
            ),
            Self::Cast(Cast::Integer { size, signed }, operand) => {
                // Not a number if the operand is a pointer, whose value is not in the
                // record.
                operand.number_type()?;
                (*size, *signed)
            }
            Self::Cast(Cast::Bool, _) => (1, false),
            Self::Cast(Cast::Char, _) => (1, true),
            Self::Swap(size, _) => (*size, false),
            Self::Index(array, _) => array.element_type()?,
            _ => return None,
        })
    }

    /// Returns the type that a pointer points at.
    fn element_type(&self) -> Option<NumberType> {
        let (element, signed) = match self {
            Self::Data {
                element, signed, ..
            }
            | Self::Rest {
                element, signed, ..
            }
            | Self::Cast(
                Cast::Pointer {
                    element, signed, ..
                },
                _,
            ) => (*element, *signed),
            Self::Located(located) => (located.element, located.signed),
            _ => return None,
        };
        matches!(element, 1 | 2 | 4 | 8).then_some((element as u8, signed))
    }
}

/// Whether a type is a struct whose size is 0 wherever it compiles: the kernel's
/// `BUILD_BUG_ON_ZERO()`, which `ARRAY_SIZE()` adds, is the size of a struct with only
/// an unnamed bitfield of width 0 (`include/linux/build_bug.h`) or, on newer kernels,
/// with only an assertion (`include/linux/compiler.h`).
fn is_empty_struct(name: &str) -> bool {
    let body = name.strip_prefix("struct").map(str::trim);
    let body = body.and_then(|body| body.strip_prefix('{'));
    let Some(body) = body.and_then(|body| body.strip_suffix('}')) else {
        return false;
    };
    let member = body.trim().strip_suffix(';').unwrap_or(body).trim();
    let is_one = !strings_left_out(member).contains(';');
    let width = member.strip_prefix("int").map(str::trim_start);
    let width = width.and_then(|rest| rest.strip_prefix(':'));
    let is_zero_wide = width.is_some_and(|width| {
        let width = width.trim_start().trim_start_matches('(');
        width.starts_with("-!!(")
    });
    is_one && (member.starts_with("_Static_assert(") || is_zero_wide)
}

fn strings_left_out(text: &str) -> String {
    text.split('"').step_by(2).collect()
}
