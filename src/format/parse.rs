//! The grammar of a format file.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_until};
use nom::character::complete::{char, digit1};
use nom::combinator::{all_consuming, map_opt, opt, verify};
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

use super::{Declaration, Field, Format};

/// A format file that is not what a kernel writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: expected {expected}, found {text:?}")]
#[non_exhaustive]
pub struct FormatError {
    /// The line's number; the first is 1.
    pub line: usize,
    /// The line itself, cut after 200 characters; empty at the end of the file.
    pub text: String,
    /// What should have stood there.
    pub expected: &'static str,
}

pub(super) fn format(text: &str) -> Result<Format, FormatError> {
    let mut lines = Lines {
        rest: text,
        number: 1,
    };
    let name = lines.take("`name: ` and the event's name", name_line)?;
    let id = lines.take("`ID: ` and a number", id_line)?;
    lines.take("`format:`", tag("format:"))?;
    let common = lines.fields();
    lines.take(FIELD_OR_BLANK, tag(""))?;
    let fields = lines.fields();
    lines.take(FIELD_OR_BLANK, tag(""))?;
    let print_fmt = lines.print_fmt()?;
    Ok(Format {
        name: name.to_owned(),
        id,
        common,
        fields,
        print_fmt: print_fmt.to_owned(),
    })
}

/// The fields `events/header_page` lists (`ring_buffer_print_page_header()`): lines
/// as in a format file, but for a space before the type.
pub(crate) fn page_header(text: &str) -> Result<Vec<Field>, FormatError> {
    let mut lines = Lines {
        rest: text,
        number: 1,
    };
    let mut fields = Vec::new();
    while !lines.rest.is_empty() {
        let line = |line| field_line_after("\tfield: ", line);
        fields.push(lines.take(PAGE_FIELD, line)?);
    }
    Ok(fields)
}

const PAGE_FIELD: &str = "`\\tfield: TYPE NAME;\\toffset:N;\\tsize:N;\\tsigned:0 or 1;`";

const FIELD_OR_BLANK: &str =
    "`\\tfield:TYPE NAME;\\toffset:N;\\tsize:N;\\tsigned:0 or 1;` or an empty line";

/// The lines not yet read, and the number of the first of them.
struct Lines<'a> {
    rest: &'a str,
    number: usize,
}

impl<'a> Lines<'a> {
    /// Reads one whole line by `parser`.
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

    /// Reads one whole line by `parser`, or nothing.
    fn try_take<T>(
        &mut self,
        parser: impl Parser<&'a str, Output = T, Error = nom::error::Error<&'a str>>,
    ) -> Option<T> {
        let (rest, line) = line(self.rest).ok()?;
        let (_, value) = all_consuming(parser).parse(line).ok()?;
        self.rest = rest;
        self.number += 1;
        Some(value)
    }

    /// Reads field lines as long as there are any; what follows them is the
    /// caller's to judge.
    fn fields(&mut self) -> Vec<Field> {
        std::iter::from_fn(|| self.try_take(field_line)).collect()
    }

    /// The rest of the file: a print fmt may have newlines inside.
    fn print_fmt(&self) -> Result<&'a str, FormatError> {
        self.rest
            .strip_prefix("print fmt: ")
            .and_then(|rest| rest.strip_suffix('\n'))
            .ok_or_else(|| self.error("`print fmt: ` and text up to the last newline"))
    }

    fn error(&self, expected: &'static str) -> FormatError {
        let line = self.rest.split('\n').next().unwrap_or_default();
        FormatError {
            line: self.number,
            text: line.chars().take(200).collect(),
            expected,
        }
    }
}

fn line(text: &str) -> IResult<&str, &str> {
    terminated(take_till(|c| c == '\n'), char('\n')).parse(text)
}

fn name_line(line: &str) -> IResult<&str, &str> {
    preceded(
        tag("name: "),
        verify(take_till(|_| false), |name: &str| !name.is_empty()),
    )
    .parse(line)
}

fn id_line(line: &str) -> IResult<&str, u32> {
    preceded(tag("ID: "), number).parse(line)
}

fn field_line(line: &str) -> IResult<&str, Field> {
    field_line_after("\tfield:", line)
}

fn field_line_after<'a>(start: &str, line: &'a str) -> IResult<&'a str, Field> {
    let declaration = delimited(tag(start), take_until(";\toffset:"), tag(";"));
    let mut parts = (
        map_opt(declaration, Declaration::parse),
        delimited(tag("\toffset:"), number, tag(";")),
        delimited(tag("\tsize:"), number, tag(";")),
        opt(delimited(tag("\tsigned:"), signed, tag(";"))),
    );
    let (rest, (declaration, offset, size, signed)) = parts.parse(line)?;
    Ok((rest, Field::new(declaration, offset, size, signed)))
}

fn signed(text: &str) -> IResult<&str, bool> {
    alt((tag("1").map(|_| true), tag("0").map(|_| false))).parse(text)
}

/// A decimal number as `%u` prints it: no sign, no leading zero. Any other
/// spelling would not be written back as it was.
fn number(text: &str) -> IResult<&str, u32> {
    let canonical = verify(digit1, |digits: &str| {
        digits == "0" || !digits.starts_with('0')
    });
    map_opt(canonical, |digits: &str| digits.parse().ok()).parse(text)
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

    #[test]
    fn a_file_cut_anywhere_is_an_error() {
        for end in 0..GOOD.len() {
            // A cut at a newline inside the print fmt cannot be seen.
            if !GOOD[..end].ends_with("\"%s\n") {
                format(&GOOD[..end]).expect_err(&GOOD[..end]);
            }
        }
    }
}
