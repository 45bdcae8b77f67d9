//! Format files as people paste them.
//!
//! In bug reports of Perfetto and libtraceevent, terminals have turned the files' tabs
//! into spaces. Such a file is rewritten as the kernel writes it, and then parsed with
//! the one grammar there is. Only white space is repaired.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::declaration::Shape;
use super::parse::{self, FIELD_OR_BLANK, FormatError, PRINT_FMT_LINES};
use super::{Declaration, Format};

/// White space of a format file that is not what a kernel writes: see
/// [`Format::repairs`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Repair {
    /// The kind of repair.
    pub kind: RepairKind,
    /// The number of the first line that was repaired, counted from 1.
    pub line: usize,
    /// The number of lines repaired.
    pub count: usize,
}

/// A kind of repair to a format file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RepairKind {
    /// Spaces or tabs inside a line, before it or after it.
    WhiteSpace,
    /// A carriage return before a newline.
    LineEnd,
    /// Empty lines too many, or too few.
    EmptyLine,
    /// No newline at the end of the file.
    NoLastNewline,
}

impl RepairKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::WhiteSpace => "other white space than a kernel writes",
            Self::LineEnd => "a carriage return",
            Self::EmptyLine => "other empty lines than a kernel writes",
            Self::NoLastNewline => "no newline at the end",
        }
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, line, count } = self;
        out.write_str(kind.as_str())?;
        match count {
            1 => write!(out, ", in line {line}"),
            count => write!(out, ", in {count} lines from line {line} on"),
        }
    }
}

/// A file that is being rewritten.
#[derive(Default)]
struct Rewritten {
    text: String,
    /// For each line of `text`, the number of the original line.
    lines: Vec<usize>,
    repairs: Vec<Repair>,
    /// Whether there is other white space before the print fmt.
    is_pasted: bool,
}

/// Reads a file with any white space.
pub(super) fn format(text: &str) -> Result<Format, FormatError> {
    let mut rewritten = Rewritten::default();
    let without_returns = rewritten.without_carriage_returns(text);
    parse::check_controls(&without_returns)?;
    let end = rewritten.all(&without_returns);
    match (parse::format(&rewritten.text), end) {
        (Ok(format), Ok(())) => Ok(Format {
            repairs: rewritten.repairs,
            ..format
        }),
        (Ok(_), Err(error)) => Err(error),
        (Err(error), end) => {
            let line = rewritten.original(error.line).min(text.split('\n').count());
            // The first line that is wrong, not the first with a wrong shape.
            match end {
                Err(end) if end.line <= line => Err(end),
                _ => Err(FormatError { line, ..error }),
            }
        }
    }
}

impl Rewritten {
    fn without_carriage_returns(&mut self, text: &str) -> String {
        for (index, line) in text.split('\n').enumerate() {
            if line.ends_with('\r') {
                self.repaired(RepairKind::LineEnd, index + 1);
            }
        }
        text.replace("\r\n", "\n")
    }

    /// Rewrites the whole file.
    fn all(&mut self, text: &str) -> Result<(), FormatError> {
        let mut lines = PastedLines::of(text);
        self.head(&mut lines)?;
        self.fields(&mut lines)?;
        if lines.ends_with_newline {
            return Ok(());
        }
        // A file that is otherwise as a kernel writes it was not pasted but cut, and half
        // a field's name may be another field's name.
        let number = text.split('\n').count();
        if !self.is_pasted {
            let last = text.rsplit('\n').next().unwrap_or_default();
            return Err(FormatError::of(number, last, PRINT_FMT_LINES));
        }
        self.repaired(RepairKind::NoLastNewline, number);
        Ok(())
    }

    fn head<'a>(&mut self, lines: &mut PastedLines<'a>) -> Result<(), FormatError> {
        for (word, expected) in [
            ("name:", "`name: ` and the event's name"),
            ("ID:", "`ID: ` and a number"),
            ("format:", "`format:`"),
        ] {
            let blank = lines.skip_blank();
            if blank > 0 {
                self.repaired(RepairKind::EmptyLine, lines.number - blank + 1);
            }
            let line = lines.next();
            let value = line.and_then(|line| line.trim().strip_prefix(word));
            let value = value.ok_or_else(|| lines.error(line, expected))?.trim();
            let space = if value.is_empty() { "" } else { " " };
            self.line(&format!("{word}{space}{value}"), line, lines.number);
        }
        Ok(())
    }

    /// Rewrites the fields, and the print fmt after them.
    fn fields<'a>(&mut self, lines: &mut PastedLines<'a>) -> Result<(), FormatError> {
        let (mut common, mut own) = (0, 0);
        loop {
            let blank = lines.skip_blank();
            let start = lines.rest;
            let number = lines.number + 1;
            let Some(line) = lines.next() else {
                // An event without fields may lack a print fmt. Any other file that ends
                // after a field was cut.
                let wanted = if lines.ends_with_newline {
                    blank.min(1)
                } else {
                    0
                };
                self.empty_lines(wanted, blank, number);
                return Ok(());
            };
            let is_field = line.trim_start().starts_with("field:");
            let is_own = own > 0 || !is_common(line) || (common > 0 && blank > 0);
            match (is_field, is_own) {
                (true, true) if own == 0 => self.empty_lines(1, blank, number),
                (true, _) => self.empty_lines(0, blank, number),
                // Remote events have one line here, all others two.
                (false, _) if own == 0 => {
                    self.empty_lines(if blank == 1 { 1 } else { 2 }, blank, number);
                }
                (false, _) => self.empty_lines(1, blank, number),
            }
            if !is_field {
                return self.print_fmt(start, line, lines);
            }
            let field = field_line(line).ok_or_else(|| lines.error(Some(line), FIELD_OR_BLANK))?;
            self.line(&field, Some(line), number);
            match is_own {
                true => own += 1,
                false => common += 1,
            }
        }
    }

    /// Rewrites the print fmt, which is the rest of the file.
    fn print_fmt(
        &mut self,
        start: &str,
        line: &str,
        lines: &PastedLines<'_>,
    ) -> Result<(), FormatError> {
        let is_pasted =
            |repair: &Repair| matches!(repair.kind, RepairKind::WhiteSpace | RepairKind::LineEnd);
        self.is_pasted = self.repairs.iter().any(is_pasted);
        let print_fmt = start.trim_start().strip_prefix("print fmt:");
        let print_fmt = print_fmt.ok_or_else(|| lines.error(Some(line), PRINT_FMT_LINES))?;
        let rewritten = format!("print fmt: {}", print_fmt.trim());
        if rewritten != start.strip_suffix('\n').unwrap_or(start) {
            self.repaired(RepairKind::WhiteSpace, lines.number);
        }
        for index in 0..=rewritten.matches('\n').count() {
            self.lines.push(lines.number + index);
        }
        self.text += &rewritten;
        self.text.push('\n');
        Ok(())
    }

    /// Writes a line, from line `number` of the file.
    fn line(&mut self, text: &str, original: Option<&str>, number: usize) {
        if original.is_some_and(|original| original != text) {
            self.repaired(RepairKind::WhiteSpace, number);
        }
        self.text += text;
        self.text.push('\n');
        self.lines.push(number);
    }

    /// Writes as many empty lines as a kernel would; the file has `found` before its line
    /// `number`.
    fn empty_lines(&mut self, wanted: usize, found: usize, number: usize) {
        if wanted != found {
            self.repaired(RepairKind::EmptyLine, number);
        }
        for _ in 0..wanted {
            self.line("", None, number);
        }
    }

    fn repaired(&mut self, kind: RepairKind, line: usize) {
        match self.repairs.iter_mut().find(|repair| repair.kind == kind) {
            Some(repair) => {
                repair.line = repair.line.min(line);
                repair.count += 1;
            }
            None => self.repairs.push(Repair {
                kind,
                line,
                count: 1,
            }),
        }
    }

    /// Returns the number of the original line of a line of the text.
    fn original(&self, line: usize) -> usize {
        let last = self.lines.last().map_or(1, |last| last + 1);
        self.lines.get(line - 1).copied().unwrap_or(last)
    }
}

/// The lines not yet read, and the number of the last one read.
struct PastedLines<'a> {
    rest: &'a str,
    number: usize,
    ends_with_newline: bool,
}

impl<'a> PastedLines<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            rest: text,
            number: 0,
            ends_with_newline: text.ends_with('\n'),
        }
    }

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.number += 1;
        Some(line)
    }

    /// Reads lines of white space. Returns their number.
    fn skip_blank(&mut self) -> usize {
        let before = self.number;
        loop {
            let (rest, number) = (self.rest, self.number);
            match self.next() {
                Some(line) if line.trim().is_empty() => {}
                _ => {
                    (self.rest, self.number) = (rest, number);
                    return number - before;
                }
            }
        }
    }

    fn error(&self, line: Option<&str>, expected: &'static str) -> FormatError {
        match line {
            Some(line) => FormatError::of(self.number, line, expected),
            // If the last line has a newline, the missing part would be in the line after
            // it.
            None => {
                let line = self.number + usize::from(self.ends_with_newline);
                FormatError::of(line.max(1), "", expected)
            }
        }
    }
}

/// Whether a field line is of a common field, which every record begins with.
fn is_common(line: &str) -> bool {
    let declaration = line.split(';').next().unwrap_or_default().trim();
    let declaration = declaration.strip_prefix("field:").map(str::trim);
    declaration
        .and_then(Declaration::parse)
        .is_some_and(|declaration| declaration.name().starts_with("common_"))
}

/// Returns a field line as the kernel writes it; `None` if more than white space differs.
fn field_line(line: &str) -> Option<String> {
    let line = line.trim().strip_prefix("field:")?;
    let (declaration, rest) = line.split_once(';')?;
    let declaration = declaration.trim();
    Shape::of(declaration)?;
    let (offset, rest) = number(rest, "offset:")?;
    let (size, rest) = number(rest, "size:")?;
    let signed = match rest.trim() {
        "" => "",
        "signed:0;" => "\tsigned:0;",
        "signed:1;" => "\tsigned:1;",
        _ => return None,
    };
    Some(format!(
        "\tfield:{declaration};\toffset:{offset};\tsize:{size};{signed}"
    ))
}

/// Returns the number after a word, and the text after its semicolon.
fn number<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let (number, rest) = text.trim_start().strip_prefix(word)?.split_once(';')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name: a\nID: 7\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\
        \n\
        \tfield:nid_t nid[3];\toffset:8;\tsize:12;\tsigned:0;\n\
        \tfield:__data_loc char[] s;\toffset:20;\tsize:4;\n\
        \n\
        print fmt: \"%s\tx\n\", __get_str(s)\n";

    fn read(text: &str) -> (Format, Vec<String>) {
        let format = Format::parse_tolerant(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let repairs = format.repairs().iter().map(Repair::to_string).collect();
        // The text is then as a kernel writes it.
        let strict = Format::parse(&format.to_string()).expect("as a kernel writes it");
        assert_eq!(strict, format);
        (format, repairs)
    }

    #[test]
    fn white_space_is_put_right() {
        let good = Format::parse(GOOD).expect("good");
        let spaces = |line: &str| match line.starts_with("\tfield:") {
            true => line.replace('\t', "       "),
            false => line.to_owned(),
        };
        let lines = GOOD.lines().map(spaces);
        let pasted = lines.collect::<Vec<_>>().join("\n") + "\n";
        for (text, repairs) in [
            (GOOD.to_owned(), &[][..]),
            (
                pasted.clone(),
                &["other white space than a kernel writes, in 4 lines from line 4 on"],
            ),
            (
                GOOD.replace("\tfield:", "        field:"),
                &["other white space than a kernel writes, in 4 lines from line 4 on"],
            ),
            (
                GOOD.replace("\tfield:", "field:").replace(";\t", ";"),
                &["other white space than a kernel writes, in 4 lines from line 4 on"],
            ),
            (
                GOOD.replace("ID: 7", "  ID:   7 "),
                &["other white space than a kernel writes, in line 2"],
            ),
            (
                GOOD.replace('\n', "\r\n"),
                &["a carriage return, in 11 lines from line 1 on"],
            ),
            (
                pasted.trim_end().to_owned(),
                &[
                    "other white space than a kernel writes, in 4 lines from line 4 on",
                    "no newline at the end, in line 11",
                ],
            ),
            (
                GOOD.replace("\n\n", "\n"),
                &["other empty lines than a kernel writes, in 2 lines from line 6 on"],
            ),
            (
                format!("\n\n{}", GOOD.replace("\n\n", "\n \n\n")),
                &["other empty lines than a kernel writes, in 3 lines from line 1 on"],
            ),
        ] {
            let (format, found) = read(&text);
            assert_eq!(format, good, "{text}");
            assert_eq!(found, repairs, "{text}");
        }
    }

    #[test]
    fn events_without_own_fields() {
        let common = &GOOD[..GOOD.find("\n\n").expect("there") + 2];
        for ending in ["", "\nprint fmt: \"x\"\n", "print fmt: \" \",\n"] {
            let good = format!("{common}{ending}");
            let (format, repairs) = read(&good.replace('\t', "  "));
            assert_eq!(format.to_string(), good);
            assert_eq!(repairs.len(), 1, "{repairs:?}");
        }
    }

    #[test]
    fn only_white_space_is_put_right() {
        for (from, to, line) in [
            ("name: a", "nam: a", 1),
            ("ID: 7", "ID: seven", 2),
            ("ID: 7", "ID: 07", 2),
            ("ID: 7\nformat:", "ID: x", 2),
            ("format:", "format", 3),
            ("offset:4", "offset:-4", 5),
            ("offset:4;", "offset:4", 5),
            ("size:4;  signed:1;", "signed:1;  size:4;", 5),
            ("int common_pid", "common_pid", 5),
            ("size:12;  signed:0", "size:12;  signed:2", 7),
            ("nid[3]", "nid 3]", 7),
            ("field:__data_loc", "file:__data_loc", 8),
            ("print fmt: ", "print ", 10),
        ] {
            let pasted = GOOD.replace('\t', "  ");
            let bad = pasted.replace(from, to);
            assert_ne!(bad, pasted, "{from}");
            let error = Format::parse_tolerant(&bad).expect_err(&bad);
            assert_eq!(error.line, line, "{error}\n{bad}");
        }
        for (cut, line) in [
            ("", 1),
            ("name: ", 1),
            ("name: a\n", 2),
            ("name: a\nID: 7", 2),
        ] {
            let error = Format::parse_tolerant(cut).expect_err(cut);
            assert_eq!(error.line, line, "{error}");
        }
        let without_end = GOOD[..GOOD.find("\n\nprint").expect("there")].replace('\t', " ");
        assert_eq!(
            Format::parse_tolerant(&without_end).expect_err("cut").line,
            8
        );
        for control in ["\u{1b}[31m", "\r", "\u{9b}1m"] {
            let bad = GOOD.replace("nid_t", &format!("nid_t {control}"));
            let error = Format::parse_tolerant(&bad).expect_err(control);
            assert_eq!(error.line, 7);
            assert!(!error.to_string().contains(char::is_control), "{error}");
        }
    }

    /// A file without its end, otherwise as a kernel writes it, was not pasted.
    #[test]
    fn a_cut_print_fmt_is_an_error() {
        let error = Format::parse_tolerant(GOOD.trim_end()).expect_err("cut");
        assert_eq!((error.line, &*error.text), (11, "\", __get_str(s)"));
    }

    /// A file that was cut after a field is not that of an event with fewer fields.
    #[test]
    fn a_cut_file_is_an_error() {
        let pasted = GOOD.replace('\t', "  ");
        let print_fmt = pasted.find("\"%s").expect("there");
        for end in 0..print_fmt {
            let text = &pasted[..end];
            let is_old = text.trim_end().ends_with("signed:1;") && text.ends_with("\n\n");
            // Everything after `print fmt: ` may be missing.
            if !is_old && !text.contains("print fmt:") {
                Format::parse_tolerant(text).expect_err(text);
            }
        }
    }
}
