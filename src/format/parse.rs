//! The grammar of a format file.

use std::ops::Range;
use std::sync::Arc;

use nom::bytes::complete::tag;
use nom::combinator::{all_consuming, rest, verify};
use nom::error::{Error, ErrorKind};
use nom::sequence::preceded;
use nom::{IResult, Parser};

use super::declaration::Shape;
use super::{Declaration, Field, Format};

/// A format file that is not what a kernel writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("line {line}: expected {expected}, found {text:?}")]
#[non_exhaustive]
pub struct FormatError {
    /// The line's number; the first is 1.
    pub line: usize,
    /// The line itself, cut after 200 characters; empty at the end of the file.
    pub text: String,
    /// The text expected in its place.
    pub expected: &'static str,
}

pub(super) fn format(text: &str) -> Result<Format, FormatError> {
    let mut lines = Lines::of(text)?;
    check_controls(text)?;
    let name = lines.take("`name: ` and the event's name", name_line)?;
    let name = NAME.len()..NAME.len() + name.len();
    // A format from a kernel's image has no id.
    let id = match lines.rest.starts_with(FORMAT_LINE) {
        true => None,
        false => Some(lines.take("`ID: ` and a number", id_line)?),
    };
    lines.take("`format:`", tag("format:"))?;
    // Most events have some ten.
    let mut fields = Vec::with_capacity(16);
    lines.fields(FIELD, &mut fields);
    let common_count = fields.len();
    lines.take(FIELD_OR_BLANK, tag(""))?;
    lines.fields(FIELD, &mut fields);
    if fields.len() > MAX_FIELDS {
        return Err(lines.error("no more fields than any event has"));
    }
    let has_common_only = common_count > 0 && fields.len() == common_count;
    let ending = match lines.rest {
        "" if has_common_only => Ending::Nothing,
        rest if has_common_only && rest.starts_with(PRINT_FMT) => Ending::PrintFmt,
        _ => Ending::BlankAndPrintFmt,
    };
    if ending == Ending::BlankAndPrintFmt {
        lines.take(FIELD_OR_BLANK, tag(""))?;
    }
    let print_fmt = match ending {
        Ending::Nothing => text.len()..text.len(),
        _ => lines.print_fmt()?,
    };
    fields.shrink_to_fit();
    let mut format = Format {
        name,
        id,
        fields,
        common_count,
        ending,
        print_fmt,
        text: lines.text,
        repairs: Vec::new(),
    };
    format.find_argument_types(&|_| None);
    Ok(format)
}

/// The end of the file, after the event's own fields. The kernel writes it in three ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// An empty line and the print fmt.
    BlankAndPrintFmt,
    /// The print fmt alone: of an event without own fields, in `remotes/*/events`
    /// (`remote_event_format_show()` in `kernel/trace/trace_remote.c`) and on Android's
    /// pKVM.
    PrintFmt,
    /// Nothing: of an event without own fields, before Linux 3.11 (`f_next()` in
    /// `kernel/trace/trace_events.c`).
    Nothing,
}

/// Returns the fields that `events/header_page` lists
/// (`ring_buffer_print_page_header()`): its lines are those of a format file, with a
/// space before the type.
pub(crate) fn page_header(text: &str) -> Result<Vec<Field>, FormatError> {
    let mut lines = Lines::of(text)?;
    let mut fields = Vec::new();
    lines.fields(PAGE_FIELD, &mut fields);
    match lines.rest {
        "" => Ok(fields),
        _ => Err(lines.error(PAGE_FIELD_LINE)),
    }
}

/// Refuses control characters, because whatever is read may be printed on a terminal.
pub(super) fn check_controls(text: &str) -> Result<(), FormatError> {
    let Some(before) = before_control(text) else {
        return Ok(());
    };
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.matches('\n').count() + 1;
    let rest = &text[start..];
    Err(FormatError::of(line, rest, "no control character"))
}

const PAGE_FIELD: &str = "\tfield: ";
const PAGE_FIELD_LINE: &str = "`\\tfield: TYPE NAME;\\toffset:N;\\tsize:N;\\tsigned:0 or 1;`";
const NAME: &str = "name: ";
const FORMAT_LINE: &str = "format:\n";
const FIELD: &str = "\tfield:";
const PRINT_FMT: &str = "print fmt: ";
pub(super) const PRINT_FMT_LINES: &str = "`print fmt: ` and text up to the last newline";
pub(super) const FIELD_OR_BLANK: &str =
    "`\\tfield:TYPE NAME;\\toffset:N;\\tsize:N;\\tsigned:0 or 1;` or an empty line";

/// The lines not yet read, and the number of the first of them.
struct Lines<'a> {
    /// The whole file, shared by everything read from it.
    text: Arc<str>,
    rest: &'a str,
    number: usize,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Result<Self, FormatError> {
        let lines = Self {
            text: text.into(),
            rest: text,
            number: 1,
        };
        // All offsets inside then fit a u32.
        match u32::try_from(text.len()) {
            Ok(_) => Ok(lines),
            Err(_) => Err(lines.error("at most 4 GiB of text")),
        }
    }

    /// Reads one whole line with `parser`.
    fn take<T>(
        &mut self,
        expected: &'static str,
        parser: impl Parser<&'a str, Output = T, Error = nom::error::Error<&'a str>>,
    ) -> Result<T, FormatError> {
        match self.try_take(parser) {
            Some(value) => Ok(value),
            None => Err(self.error(expected)),
        }
    }

    /// Reads one whole line with `parser`, or none.
    fn try_take<T>(
        &mut self,
        parser: impl Parser<&'a str, Output = T, Error = nom::error::Error<&'a str>>,
    ) -> Option<T> {
        let (line, rest) = self.rest.split_once('\n')?;
        let (_, value) = all_consuming(parser).parse(line).ok()?;
        self.rest = rest;
        self.number += 1;
        Some(value)
    }

    /// Reads lines that begin with `start` and are a field's, as long as there are any.
    /// The caller judges the next.
    fn fields(&mut self, start: &str, fields: &mut Vec<Field>) {
        while let Some((rest, line)) = field_line(start, self.rest) {
            let start = (self.position() + start.len()) as u32;
            let declaration = Declaration::within(Arc::clone(&self.text), start, line.shape);
            fields.push(Field::new(declaration, line.offset, line.size, line.signed));
            self.rest = rest;
            self.number += 1;
        }
    }

    /// Returns how much has been read, in bytes.
    fn position(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    /// Reads the rest of the file, as a print fmt may contain newlines.
    fn print_fmt(&self) -> Result<Range<usize>, FormatError> {
        let print_fmt = self
            .rest
            .strip_prefix(PRINT_FMT)
            .and_then(|rest| rest.strip_suffix('\n'));
        match print_fmt {
            Some(text) => Ok(self.text.len() - 1 - text.len()..self.text.len() - 1),
            None => Err(self.error(PRINT_FMT_LINES)),
        }
    }

    fn error(&self, expected: &'static str) -> FormatError {
        FormatError::of(self.number, self.rest, expected)
    }
}

impl FormatError {
    /// Returns an error about the first line of `rest`.
    pub(super) fn of(line: usize, rest: &str, expected: &'static str) -> Self {
        let text = rest.split('\n').next().unwrap_or_default();
        Self {
            line,
            text: text.chars().take(200).collect(),
            expected,
        }
    }
}

/// Far more fields than any event of any kernel has. It bounds the time of comparing each
/// field with the others, or with a struct's members.
const MAX_FIELDS: usize = 4096;

/// Returns the text before the first control character other than a newline or tab, which
/// a print fmt may contain; `None` without such a character.
fn before_control(text: &str) -> Option<&str> {
    // Without an early exit the loop is vectorized.
    let plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\n' | b'\t');
    if text.bytes().fold(true, |all, byte| all & plain(byte)) {
        return None;
    }
    let control = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    text.find(control).map(|at| &text[..at])
}

/// Reads a name. It is displayed as it is, so one that could move a terminal's cursor is
/// not accepted.
fn name_line(line: &str) -> IResult<&str, &str> {
    let is_name = |name: &str| !name.is_empty() && !name.contains(char::is_control);
    preceded(tag(NAME), verify(rest, is_name)).parse(line)
}

fn id_line(line: &str) -> IResult<&str, u32> {
    preceded(tag("ID: "), number).parse(line)
}

/// A `field:` line, before its declaration is stored.
struct FieldLine {
    shape: Shape,
    offset: u32,
    size: u32,
    signed: Option<bool>,
}

/// Reads one line with its newline. Returns it and the rest. There are twenty times as
/// many of these lines as of any other, so this is plain code: parser combinators were
/// measured to be slower.
fn field_line<'a>(start: &str, text: &'a str) -> Option<(&'a str, FieldLine)> {
    let text = text.strip_prefix(start)?;
    let (declaration, text) = text.split_at(text.find(';')?);
    let (text, offset) = number(text.strip_prefix(";\toffset:")?).ok()?;
    let (text, size) = number(text.strip_prefix(";\tsize:")?).ok()?;
    let text = text.strip_prefix(';')?;
    let (text, signed) = match text.strip_prefix("\tsigned:") {
        None => (text, None),
        Some(text) => match text.strip_prefix("0;") {
            Some(text) => (text, Some(false)),
            None => (text.strip_prefix("1;")?, Some(true)),
        },
    };
    let line = FieldLine {
        shape: Shape::of(declaration)?,
        offset,
        size,
        signed,
    };
    Some((text.strip_prefix('\n')?, line))
}

/// Reads a decimal number as `%u` prints it: without sign or leading zero. Another
/// spelling would not be written back as it was.
fn number(text: &str) -> IResult<&str, u32> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(length);
    match digits.parse() {
        Ok(number) if digits == "0" || !digits.starts_with('0') => Ok((rest, number)),
        _ => Err(nom::Err::Error(Error::new(text, ErrorKind::Digit))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name: a\nID: 7\nformat:\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\
        \n\
        \tfield:__data_loc char[] s;\toffset:8;\tsize:4;\n\
        \n\
        print fmt: \"%s\n\", __get_str(s)\n";

    #[test]
    fn a_line_without_signed_and_a_newline_in_print_fmt() {
        let parsed = format(GOOD).expect("good");
        assert_eq!(parsed.fields()[0].signed(), None);
        assert_eq!(parsed.print_fmt(), "\"%s\n\", __get_str(s)");
        assert_eq!(parsed.to_string(), GOOD);
    }

    #[test]
    fn bad_files_name_the_line() {
        for (from, to, line) in [
            ("name: a", "nam: a", 1),
            ("name: a", "name: ", 1),
            ("name: a", "name: a\x1b[2J", 1),
            ("ID: 7", "ID: seven", 2),
            ("ID: 7", "ID: 07", 2),
            ("ID: 7", "ID: 4294967296", 2),
            ("format:\n", "format: \n", 3),
            ("\toffset:4", "\toffset:-4", 4),
            ("\tsigned:1", "\tsigned:2", 4),
            ("int common_pid", "common_pid", 4),
            ("\tsize:4;\n\n", "\tsize:4; \n\n", 6),
            ("\n\nprint", "\nprint", 7),
            ("print fmt: ", "print fmt:", 8),
        ] {
            let bad = GOOD.replace(from, to);
            assert_ne!(bad, GOOD);
            let error = format(&bad).expect_err(&bad);
            assert_eq!(error.line, line, "{error}");
            assert_eq!(Some(&*error.text), bad.split('\n').nth(line - 1));
        }
    }

    /// The kernel's three ways to write an event without own fields.
    #[test]
    fn events_without_own_fields() {
        let common = "name: a\nID: 7\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n";
        for (ending, print_fmt) in [
            ("\nprint fmt: \"x\"\n", "\"x\""),
            ("print fmt: \" \",\n", "\" \","),
            ("", ""),
        ] {
            let text = format!("{common}{ending}");
            let parsed = format(&text).expect(ending);
            assert_eq!(parsed.common_fields().len(), 1);
            assert_eq!((parsed.fields(), parsed.print_fmt()), (&[][..], print_fmt));
            assert_eq!(parsed.to_string(), text);
        }
        let field = "\tfield:int x;\toffset:8;\tsize:4;\tsigned:1;\n";
        for bad in [
            // It was cut: an event with fields has a print fmt on every kernel.
            format!("{common}{field}"),
            format!("{common}{field}\n"),
            format!("{common}{field}print fmt: \"\"\n"),
            // No common field.
            "name: a\nID: 7\nformat:\n\n".to_owned(),
            "name: a\nID: 7\nformat:\n\nprint fmt: \"\"\n".to_owned(),
            // More than nothing.
            format!("{common}\n"),
            format!("{common}print fmt"),
        ] {
            format(&bad).expect_err(&bad);
        }
    }

    #[test]
    fn control_characters_are_found() {
        for (control, line) in [("\u{1b}[31m", 8), ("\u{9b}31m", 8), ("\r", 8)] {
            let bad = GOOD.replace("__get_str", &format!("{control}__get_str"));
            // The print fmt continues in the next line.
            let error = format(&bad).expect_err(&bad);
            assert_eq!(
                (error.line, error.expected),
                (line + 1, "no control character")
            );
            assert!(!error.to_string().contains(char::is_control), "{error}");
        }
        let tab = GOOD.replace("%s", "%s\t");
        assert_eq!(format(&tab).expect("a tab may be").to_string(), tab);
        let umlaut = GOOD.replace("%s", "ü");
        assert_eq!(format(&umlaut).expect("not ASCII").to_string(), umlaut);
    }

    #[test]
    fn no_event_has_so_many_fields() {
        let (start, end) = GOOD.split_at(GOOD.find("\n\nprint").expect("there") + 1);
        let with = |count: usize| {
            let field = "\tfield:int x;\toffset:8;\tsize:4;\tsigned:1;\n";
            format(&[start, &field.repeat(count), end].concat())
        };
        assert!(with(MAX_FIELDS - 2).is_ok());
        let error = with(MAX_FIELDS - 1).expect_err("one too many");
        assert_eq!(error.line, MAX_FIELDS + 6);
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error() {
        for end in 0..GOOD.len() {
            // Two cuts cannot be detected: at a newline inside the print fmt, and after
            // the common fields, where Linux 3.10 ends.
            if !GOOD[..end].ends_with("\"%s\n") && !GOOD[..end].ends_with("\n\n") {
                format(&GOOD[..end]).expect_err(&GOOD[..end]);
            }
        }
    }
}
