//! What a format file's print fmt says: a format string and the expressions it
//! prints.

mod conversion;
pub(crate) mod eval;
mod parse;
mod tables;

pub(crate) use conversion::{Conversion, Count, Length, Piece, pieces};
pub use tables::{FieldPrint, NamedValue};

use std::fmt;

/// A print fmt, read: `printk`'s format string and the C expressions it takes.
///
/// [`Display`](fmt::Display) writes C that reads as the same tree again, brackets
/// around every operator.
///
/// ```
/// use tracepoints::format::print::{Expression, PrintFmt};
///
/// let print = PrintFmt::parse("\"ret=%d\", REC->ret & ~1")?;
/// assert_eq!(print.format().text(), "ret=%d");
/// assert_eq!(print.to_string(), "\"ret=%d\", (REC->ret & (~1))");
/// assert_eq!(PrintFmt::parse(&print.to_string())?, print);
/// # Ok::<(), tracepoints::format::print::PrintFmtError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrintFmt {
    format: Literal,
    arguments: Vec<Expression>,
}

/// Why a text is no print fmt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrintFmtError {
    /// The text is not the C a print fmt is made of.
    #[error("print fmt: not understood from byte {offset}, {rest:?}")]
    Syntax {
        /// Where it is not understood, in bytes.
        offset: usize,
        /// What stands there.
        rest: String,
    },
    /// Expressions nest deeper than they may.
    #[error("print fmt: expressions nest deeper than {limit}")]
    TooDeep {
        /// How deep they may.
        limit: usize,
    },
}

/// String literals behind each other, which C joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal {
    parts: Vec<String>,
}

impl Literal {
    /// The string, its escapes resolved. What is no UTF-8 then is replaced.
    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.parts.iter().flat_map(|part| unescaped(part)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().enumerate() {
            let space = if index > 0 { " " } else { "" };
            write!(out, "{space}\"{part}\"")?;
        }
        Ok(())
    }
}

/// Resolves C's escapes.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'\\' {
            bytes.push(first);
            continue;
        }
        let Some((&escape, after)) = rest.split_first() else {
            break;
        };
        rest = after;
        bytes.push(match escape {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'v' => 11,
            b'e' => 27,
            b'x' => take_digits(&mut rest, 16, 2, 0),
            b'0'..=b'7' => take_digits(&mut rest, 8, 2, escape - b'0'),
            other => other,
        });
    }
    bytes
}

/// At most so many digits, after a first one.
fn take_digits(rest: &mut &[u8], radix: u32, most: usize, first: u8) -> u8 {
    let mut value = u32::from(first);
    for _ in 0..most {
        let Some((&digit, after)) = rest.split_first() else {
            break;
        };
        let Some(digit) = char::from(digit).to_digit(radix) else {
            break;
        };
        value = value * radix + digit;
        *rest = after;
    }
    value as u8
}

/// A C expression as print fmts have them. Names are the kernel source's own.
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
    /// An identifier that is no field: a helper's argument, or a constant the
    /// kernel has not resolved.
    Name(String),
    /// A type as an argument: that of `sizeof`.
    Type(String),
    /// An operator before its operand.
    Unary(UnaryOperator, Box<Expression>),
    /// An operator between two operands.
    Binary(BinaryOperator, Box<Expression>, Box<Expression>),
    /// `condition ? then : otherwise`.
    Conditional {
        /// The condition.
        condition: Box<Expression>,
        /// If it is not 0; `None` of `a ?: b`, which is `a` then.
        then: Option<Box<Expression>>,
        /// If it is 0.
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
    /// `function(arguments)`, helpers of ftrace among them.
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
    /// Longer signs before those they begin with; with how tightly each binds.
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

    /// The operator a text begins with.
    fn at(text: &str) -> Option<Self> {
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

    fn as_str(self) -> &'static str {
        self.entry().0
    }

    fn level(self) -> u8 {
        self.entry().1
    }
}

impl PrintFmt {
    /// Reads what stands after `print fmt: ` in a format file.
    ///
    /// The kernel writes the format string of `TRACE_EVENT()` between quotes as it is,
    /// quotes in it too: `"name="%s"", REC->name`. Where that is no C, the string ends
    /// at the one quote behind which there are as many arguments as it takes. A string in
    /// place of `TP_printk()` stands there without quotes, and ends with a newline.
    ///
    /// # Errors
    ///
    /// [`PrintFmtError`], with the place. A helper only a driver can evaluate is
    /// none: it is an [`Expression::Call`] like others.
    pub fn parse(text: &str) -> Result<Self, PrintFmtError> {
        // Of remote events and pKVM's, `" ",` is a format string without arguments.
        if let Some(alone) = text.trim_end().strip_suffix(',')
            && let Ok(print) = parse::print_fmt(alone)
            && print.arguments.is_empty()
        {
            return Ok(print);
        }
        match parse::print_fmt(text) {
            Err(error @ PrintFmtError::Syntax { .. }) => parse::unstringified(text).ok_or(error),
            parsed => parsed,
        }
    }

    /// The format string.
    pub fn format(&self) -> &Literal {
        &self.format
    }

    /// What it prints, in order.
    pub fn arguments(&self) -> &[Expression] {
        &self.arguments
    }
}

impl fmt::Display for PrintFmt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.format.fmt(out)?;
        for argument in &self.arguments {
            write!(out, ", {argument}")?;
        }
        Ok(())
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

/// The value of a number as written; `None` if it is none that C has.
pub(crate) fn number_value(text: &str) -> Option<(u64, &str)> {
    let end = |digits: &str, radix: u32| {
        digits
            .find(|c: char| !c.is_digit(radix))
            .unwrap_or(digits.len())
    };
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', b'b' | b'B', ..] => (&text[2..], 2),
        [b'0', ..] => (text, 8),
        _ => (text, 10),
    };
    let end = end(digits, radix);
    let value = u64::from_str_radix(digits.get(..end)?, radix).ok()?;
    let suffix = &digits[end..];
    suffix
        .bytes()
        .all(|byte| matches!(byte, b'u' | b'U' | b'l' | b'L'))
        .then_some((value, suffix))
}

/// The value of a character constant as written.
pub(crate) fn character_value(text: &str) -> Option<u8> {
    let inside = text.strip_prefix('\'')?.strip_suffix('\'')?;
    unescaped(inside).first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees() {
        for (text, written) in [
            (r#""""#, r#""""#),
            (r#""a" "b", 1"#, r#""a" "b", 1"#),
            (
                r#""%d", REC->a + REC->b * 2 << 1"#,
                r#""%d", ((REC->a + (REC->b * 2)) << 1)"#,
            ),
            (r#""%d", (REC)->a ? : 2"#, r#""%d", (REC->a ?: 2)"#),
            (
                r#""%d", a ? b : c ? d : e"#,
                r#""%d", (a ? b : (c ? d : e))"#,
            ),
            (r#""%d", (u8)-1"#, r#""%d", ((u8)((-1)))"#),
            (r#""%d", (x) - 1"#, r#""%d", (x - 1)"#),
            (
                r#""%d", (unsigned long long)(REC->x)"#,
                r#""%d", ((unsigned long long)(REC->x))"#,
            ),
            (
                r#""%s", __print_flags(REC->f, "|", { (1 << 0), "A" }, { 2U, "B" })"#,
                r#""%s", __print_flags(REC->f, "|", { (1 << 0), "A" }, { 2U, "B" })"#,
            ),
            (r#""%p", &REC->a[1].b->c"#, r#""%p", (&REC->a[1].b->c)"#),
            (
                r#""%d", ((u8 *)__get_dynamic_array(x))[3]"#,
                r#""%d", ((u8 *)(__get_dynamic_array(x)))[3]"#,
            ),
            (
                r#""%zu", sizeof(struct x *) / sizeof REC->y"#,
                r#""%zu", (sizeof(struct x *) / sizeof(REC->y))"#,
            ),
            (
                r#""%s", ({ char *x = ")"; x; })"#,
                r#""%s", ({ char *x = ")"; x; })"#,
            ),
            (r#""%c", 'x' == '\n'"#, r#""%c", ('x' == '\n')"#),
            (
                r#""%d", (int []){ 1, 2 }[x * y] + (x * y) - 1"#,
                r#""%d", ((((int []){ 1, 2 })[(x * y)] + (x * y)) - 1)"#,
            ),
            (
                r#""%d", (const char *const)REC->x"#,
                r#""%d", ((const char *const)(REC->x))"#,
            ),
        ] {
            let print = PrintFmt::parse(text).expect(text);
            assert_eq!(print.to_string(), written);
            assert_eq!(PrintFmt::parse(written).expect(written), print, "{written}");
        }
    }

    /// Found by fuzzing: each was read twice, with all inside of it.
    #[test]
    fn sizes_without_end() {
        for (size, count) in [("a-sizeof(", 16), ("sizeof ", 90), ("f(sizeof(", 12)] {
            let text = format!("\"\", {}b- %", size.repeat(count));
            let start = std::time::Instant::now();
            for _ in 0..1_000 {
                PrintFmt::parse(&text).expect_err("no print fmt");
            }
            assert!(start.elapsed() < std::time::Duration::from_secs(20));
        }
    }

    /// Found by fuzzing: before a brace it was read as two names, before a comma as one.
    #[test]
    fn types_in_lists() {
        for text in [
            r#""", f({ T A })"#,
            r#""", f({ T A, })"#,
            r#""", f({ 1, T A })"#,
        ] {
            let print = PrintFmt::parse(text).expect("a list");
            assert_eq!(PrintFmt::parse(&print.to_string()), Ok(print), "{text}");
        }
    }

    #[test]
    fn a_comma_and_no_argument() {
        for text in ["\" \",", "\" \", "] {
            let print = PrintFmt::parse(text).expect("as remote events have it");
            assert_eq!(
                (print.to_string(), print.arguments()),
                ("\" \"".to_owned(), &[][..])
            );
        }
    }

    #[test]
    fn what_is_no_print_fmt() {
        for (text, offset) in [
            ("", 0),
            ("\"a", 0),
            ("\"a\" b", 4),
            ("\"a\", x, ", 8),
            ("\"a\",,", 4),
            ("\"a\", f(1", 8),
            ("\"a\", {}*y", 5),
            ("x", 0),
        ] {
            match PrintFmt::parse(text) {
                Err(PrintFmtError::Syntax { offset: at, .. }) => assert_eq!(at, offset, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        for bomb in [
            "(", "-", "f(", "a?", "a?b:(-", "(u8)", "f({", "(u8){", "a[", "sizeof ",
        ] {
            let text = format!("\"\", {}", bomb.repeat(20_000));
            let error = PrintFmt::parse(&text).expect_err("a bomb");
            assert_eq!(error, PrintFmtError::TooDeep { limit: 96 }, "{bomb}");
        }
        for bomb in ["a?:", "a?b:"] {
            let text = format!("\"\", {}", bomb.repeat(20_000));
            let error = PrintFmt::parse(&text).expect_err("a bomb");
            assert_eq!(error, PrintFmtError::TooDeep { limit: 200 }, "{bomb}");
        }
        let bracketed = format!("\"\", {}a{}", "a?b:(".repeat(20_000), ")".repeat(20_000));
        assert!(PrintFmt::parse(&bracketed).is_err());
        for link in ["[0]", ".b", "->b", "+1", "||b", "*b"] {
            let chain = format!("\"\", a{}", link.repeat(500_000));
            assert_eq!(
                PrintFmt::parse(&chain),
                Err(PrintFmtError::TooDeep { limit: 200 })
            );
        }
    }

    /// What binds to the left makes a tree deeper without nesting, on each of as many
    /// brackets as there may be.
    #[test]
    fn deep_trees_in_brackets() {
        let nested = |brackets: usize, links: usize| {
            let mut text = "a".to_owned();
            for _ in 0..brackets {
                text = format!("({text}{}{})", "[0]".repeat(links), "+1".repeat(links));
            }
            PrintFmt::parse(&format!("\"%d\", {text}"))
        };
        let deepest = nested(28, 3).expect("168 high, 84 deep");
        assert_eq!(deepest.field("a").names().count(), 0);
        assert_eq!(deepest.clone(), deepest);
        for (brackets, links, limit) in [(33, 2, 96), (26, 4, 200), (30, 12, 200), (2, 90, 200)] {
            let error = nested(brackets, links).expect_err("deeper");
            assert_eq!(error, PrintFmtError::TooDeep { limit });
        }
    }

    /// Each word was read as a type with all that follow.
    #[test]
    fn many_words_in_a_list() {
        let text = format!("\"\", f({{{}1}})", "a ".repeat(50_000));
        let start = std::time::Instant::now();
        let print = PrintFmt::parse(&text).expect("a list");
        assert!(start.elapsed() < std::time::Duration::from_secs(20));
        let Expression::Call(_, arguments) = &print.arguments()[0] else {
            panic!("no call");
        };
        let Expression::List(items) = &arguments[0] else {
            panic!("no list");
        };
        assert_eq!(items.len(), 50_001);
    }

    #[test]
    fn strings_and_numbers() {
        let text = |parts: &[&str]| {
            let parts = parts.iter().map(|part| (*part).to_owned()).collect();
            Literal { parts }.text()
        };
        assert_eq!(text(&[r"a\tb\\\x41\101", r"\n"]), "a\tb\\AA\n");
        assert_eq!(text(&[r"\x4", "1"]), "\u{4}1");
        assert_eq!(number_value("0x10UL"), Some((16, "UL")));
        assert_eq!(number_value("010"), Some((8, "")));
        assert_eq!(
            number_value("18446744073709551615ULL"),
            Some((u64::MAX, "ULL"))
        );
        assert_eq!(number_value("18446744073709551616"), None);
        assert_eq!(number_value("9x"), None);
        assert_eq!(character_value("'\\n'"), Some(b'\n'));
    }
}
