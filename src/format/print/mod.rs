//! Print fmts of format files: a format string and the expressions it prints.

mod conversion;
pub(crate) mod eval;
mod expression;
mod lexical;
mod literal;
mod parse;
mod tables;

pub(crate) use conversion::{Conversion, Count, Length, Piece, pieces};
pub use expression::{BinaryOperator, Expression, UnaryOperator};
pub use literal::Literal;
pub(crate) use literal::{character_value, number_value};
pub use tables::{FieldPrint, NamedValue};

use std::fmt;

/// A parsed print fmt: `printk`'s format string and its arguments, which are C
/// expressions.
///
/// [`Display`](fmt::Display) writes C that parses as the same tree, with brackets
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

/// An error for a text that is not a print fmt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrintFmtError {
    /// The text is not C of the kind that print fmts consist of.
    #[error("print fmt: not understood from byte {offset}, {rest:?}")]
    Syntax {
        /// The offset of the text that was not expected, in bytes.
        offset: usize,
        /// The text at that offset, at most 40 characters.
        rest: String,
    },
    /// Expressions are nested too deeply.
    #[error("print fmt: expressions nest deeper than {limit}")]
    TooDeep {
        /// The deepest allowed nesting.
        limit: usize,
    },
}

impl PrintFmt {
    /// Parses the text after `print fmt: ` in a format file.
    ///
    /// The kernel writes the format string of `TRACE_EVENT()` between quotes without
    /// escaping quotes inside it: `"name="%s"", REC->name`. If the text is not valid C,
    /// the string ends at the one quote after which there are as many arguments as it
    /// takes. A string in place of `TP_printk()` is written without quotes, and ends
    /// with a newline.
    ///
    /// # Errors
    ///
    /// [`PrintFmtError`], with the place. A helper that only a driver can evaluate is
    /// not an error: it is an [`Expression::Call`] like others.
    pub fn parse(text: &str) -> Result<Self, PrintFmtError> {
        // In remote events and pKVM's, `" ",` is a format string without arguments.
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

    /// Returns the format string.
    pub fn format(&self) -> &Literal {
        &self.format
    }

    /// Returns the arguments, in order.
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

    /// Found by fuzzing: each was parsed twice, with everything inside it.
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

    /// Found by fuzzing: before a brace it was parsed as two names, before a comma as
    /// one.
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

    /// Left-associative operators make a tree deeper without nesting, inside each of as
    /// many brackets as are allowed.
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

    /// Each word was parsed as a type together with all that follow.
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
