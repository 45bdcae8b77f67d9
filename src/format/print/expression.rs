//! Expressions in C, and writing them.

use std::fmt;

use super::literal::Literal;

/// A C expression of a print fmt. Names are the kernel source's own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expression {
    /// `REC->field`.
    Field(String),
    /// A number as written: `0x10UL`.
    Number(String),
    /// A character constant as written, with its quotes.
    Character(String),
    /// A string.
    String(Literal),
    /// An identifier other than a field: a helper's argument, or a constant that the
    /// kernel has not resolved.
    Name(String),
    /// A type as an argument, as for `sizeof`.
    Type(String),
    /// An operator before its operand.
    Unary(UnaryOperator, Box<Expression>),
    /// An operator between two operands.
    Binary(BinaryOperator, Box<Expression>, Box<Expression>),
    /// `condition ? then : otherwise`.
    Conditional {
        /// The condition.
        condition: Box<Expression>,
        /// The value if it is not 0; `None` for `a ?: b`, whose value is then `a`.
        then: Option<Box<Expression>>,
        /// The value if it is 0.
        otherwise: Box<Expression>,
    },
    /// `(type)operand`.
    Cast(String, Box<Expression>),
    /// `array[index]`.
    Index(Box<Expression>, Box<Expression>),
    /// `whole.member` or `whole->member`.
    Member {
        /// The struct, or a pointer to it.
        whole: Box<Expression>,
        /// Whether it is a pointer.
        is_pointer: bool,
        /// The member's name.
        member: String,
    },
    /// `sizeof(operand)`.
    Sizeof(Box<Expression>),
    /// `function(arguments)`, including ftrace's helpers.
    Call(String, Vec<Expression>),
    /// `{ a, b }`: an entry of a table.
    List(Vec<Expression>),
    /// `.member = value`, in a compound literal.
    Designated(String, Box<Expression>),
    /// A statement expression, `({ … })`, as written.
    Opaque(String),
}

/// An operator before its operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnaryOperator {
    /// `!`
    Not,
    /// `~`
    Complement,
    /// `-`
    Minus,
    /// `+`
    Plus,
    /// `*`
    Dereference,
    /// `&`
    Address,
}

impl UnaryOperator {
    fn as_str(self) -> &'static str {
        match self {
            Self::Not => "!",
            Self::Complement => "~",
            Self::Minus => "-",
            Self::Plus => "+",
            Self::Dereference => "*",
            Self::Address => "&",
        }
    }
}

/// An operator between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "C's own operators")]
pub enum BinaryOperator {
    LogicalOr,
    LogicalAnd,
    Or,
    Xor,
    And,
    Equal,
    NotEqual,
    LessOrEqual,
    GreaterOrEqual,
    Less,
    Greater,
    ShiftLeft,
    ShiftRight,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl BinaryOperator {
    /// Each operator with its sign and how tightly it binds. A sign precedes the signs
    /// that are prefixes of it.
    const ALL: [(Self, &'static str, u8); 18] = [
        (Self::LogicalOr, "||", 0),
        (Self::LogicalAnd, "&&", 1),
        (Self::Equal, "==", 5),
        (Self::NotEqual, "!=", 5),
        (Self::ShiftLeft, "<<", 7),
        (Self::ShiftRight, ">>", 7),
        (Self::LessOrEqual, "<=", 6),
        (Self::GreaterOrEqual, ">=", 6),
        (Self::Less, "<", 6),
        (Self::Greater, ">", 6),
        (Self::Or, "|", 2),
        (Self::Xor, "^", 3),
        (Self::And, "&", 4),
        (Self::Add, "+", 8),
        (Self::Subtract, "-", 8),
        (Self::Multiply, "*", 9),
        (Self::Divide, "/", 9),
        (Self::Remainder, "%", 9),
    ];

    /// Returns the operator that a text begins with.
    pub(super) fn at(text: &str) -> Option<Self> {
        if text.starts_with("->") {
            return None;
        }
        let mut all = Self::ALL.iter();
        all.find(|(_, sign, _)| text.starts_with(sign))
            .map(|(operator, ..)| *operator)
    }

    fn entry(self) -> (&'static str, u8) {
        let mut all = Self::ALL.iter();
        let known = all.find(|(operator, ..)| *operator == self);
        known.map_or(("", 0), |(_, sign, level)| (sign, *level))
    }

    pub(super) fn as_str(self) -> &'static str {
        self.entry().0
    }

    pub(super) fn level(self) -> u8 {
        self.entry().1
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separated = |out: &mut fmt::Formatter<'_>, items: &[Expression]| {
            for (index, item) in items.iter().enumerate() {
                let comma = if index > 0 { ", " } else { "" };
                write!(out, "{comma}{item}")?;
            }
            Ok(())
        };
        match self {
            Self::Field(name) => write!(out, "REC->{name}"),
            Self::Number(text)
            | Self::Character(text)
            | Self::Name(text)
            | Self::Type(text)
            | Self::Opaque(text) => out.write_str(text),
            Self::String(literal) => literal.fmt(out),
            Self::Unary(operator, operand) => write!(out, "({}{operand})", operator.as_str()),
            Self::Binary(operator, left, right) => {
                write!(out, "({left} {} {right})", operator.as_str())
            }
            Self::Conditional {
                condition,
                then: Some(then),
                otherwise,
            } => write!(out, "({condition} ? {then} : {otherwise})"),
            Self::Conditional {
                condition,
                then: None,
                otherwise,
            } => write!(out, "({condition} ?: {otherwise})"),
            Self::Cast(name, operand) => match **operand {
                // `({` would begin a statement expression.
                Self::List(_) => write!(out, "(({name}){operand})"),
                _ => write!(out, "(({name})({operand}))"),
            },
            Self::Index(array, index) => write!(out, "{array}[{index}]"),
            Self::Member {
                whole,
                is_pointer,
                member,
            } => {
                let sign = if *is_pointer { "->" } else { "." };
                write!(out, "{whole}{sign}{member}")
            }
            Self::Designated(member, value) => write!(out, ".{member} = {value}"),
            Self::Sizeof(operand) => write!(out, "sizeof({operand})"),
            Self::Call(function, arguments) => {
                write!(out, "{function}(")?;
                separated(out, arguments)?;
                out.write_str(")")
            }
            Self::List(items) => {
                out.write_str("{ ")?;
                separated(out, items)?;
                out.write_str(" }")
            }
        }
    }
}
