//! Printing to stdout, with styles on terminals only, and to stderr; and errors. A
//! reader that has gone is not an error.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::mem;
use std::path::Path;
use std::process::ExitCode;

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use tracepoints::context::ContextStruct;
use tracepoints::{Error, Evidence};

use crate::kernel::Identity;

/// Prints a line to stderr, after the command's name. A closed stderr, on which
/// `eprintln!` panics, is not an error.
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::output::write_to_stderr(format_args!("tracepoints: {}\n", format_args!($($argument)*)))
    };
}
pub(crate) use say;

/// Prints a line to stderr without the command's name.
macro_rules! note {
    ($($argument:tt)*) => {
        $crate::output::write_to_stderr(format_args!("{}\n", format_args!($($argument)*)))
    };
}
pub(crate) use note;

pub(crate) fn write_to_stderr(line: fmt::Arguments<'_>) {
    // Writes whole lines, so that those of several processes do not mix.
    let _ = io::stderr().write_all(line.to_string().as_bytes());
}

/// Runs a subcommand that prints to stdout. Reports its failure on stderr, unless the
/// reader of stdout has gone. `has_styles` says whether `main` prints styles, which are
/// stripped if stdout is not a terminal.
pub(crate) fn run(
    has_styles: bool,
    main: impl FnOnce(&mut dyn Write) -> Result<ExitCode, Failure>,
) -> ExitCode {
    let stdout = io::stdout().lock();
    let styles = AutoStream::choice(&stdout);
    // Below the styles: whoever strips them writes each piece between two of them.
    let mut out: Box<dyn Write> = Box::new(BufWriter::with_capacity(1 << 16, stdout));
    // Stripping styles examines every byte, so it is done only if there are any.
    if has_styles {
        out = Box::new(BufWriter::new(AutoStream::new(out, styles)));
    }
    let result = main(&mut *out).and_then(|code| {
        out.flush()?;
        Ok(code)
    });
    match result {
        Ok(code) => code,
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            say!("{failure}");
            match failure {
                #[cfg(target_os = "linux")]
                Failure::Status { code, .. } => ExitCode::from(code),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Rows of JSON, one on each line. Each names the kernel that it is about.
pub(crate) struct JsonRows {
    /// `,"kernel":{…}}` and a newline.
    end: Vec<u8>,
    line: Vec<u8>,
}

impl JsonRows {
    pub(crate) fn of(kernel: &Identity) -> Result<Self, Failure> {
        let mut end = b",\"kernel\":".to_vec();
        serde_json::to_writer(&mut end, kernel)?;
        end.extend(b"}\n");
        let line = Vec::new();
        Ok(Self { end, line })
    }

    /// Returns `None` if text is wanted instead.
    pub(crate) fn where_wanted(
        is_wanted: bool,
        kernel: &Identity,
    ) -> Result<Option<Self>, Failure> {
        is_wanted.then(|| Self::of(kernel)).transpose()
    }

    /// Writes a row, which must be a non-empty object.
    pub(crate) fn write(
        &mut self,
        row: &impl Serialize,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        // An object is written in some thirty pieces; a buffer without `dyn` halves the
        // time.
        self.line.clear();
        serde_json::to_writer(&mut self.line, row)?;
        self.line.pop();
        self.line.extend(&self.end);
        out.write_all(&self.line)?;
        Ok(())
    }
}

/// A line about long work, shown on a terminal only and removed when the work is done.
pub(crate) struct Progress {
    what: String,
    is_shown: bool,
    percent: u64,
}

impl Progress {
    /// The number of things with which work takes long.
    const LONG: usize = 100;

    pub(crate) fn new(what: &str, count: usize) -> Self {
        Self::when(count >= Self::LONG, what)
    }

    /// Creates a line if the work takes long.
    pub(crate) fn when(is_long: bool, what: &str) -> Self {
        let is_shown = is_long && io::stderr().is_terminal();
        if is_shown {
            write_to_stderr(format_args!("{what}…"));
        }
        Self {
            what: what.to_owned(),
            is_shown,
            percent: 0,
        }
    }

    /// Shows how much of the work is done, in percent.
    pub(crate) fn update(&mut self, done: u64, all: u64) {
        let percent = done.saturating_mul(100).checked_div(all).unwrap_or(0);
        if self.is_shown && percent != self.percent {
            self.percent = percent;
            write_to_stderr(format_args!("\r\x1b[K{}… {percent}%", self.what));
        }
    }

    /// Removes the line.
    pub(crate) fn end(self) {}
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            write_to_stderr(format_args!("\r\x1b[K"));
        }
    }
}

/// Returns the part of a table that fits on a terminal of this size: long lines are
/// cut, and the last line says how many are missing.
pub(crate) fn fitted(table: &str, rows: usize, columns: usize) -> String {
    let lines: Vec<&str> = table.lines().collect();
    // The cursor takes the line below the table.
    let room = rows.saturating_sub(1).max(2);
    let (shown, missing) = match lines.len() <= room {
        true => (lines.len(), 0),
        false => (room - 1, lines.len() - (room - 1)),
    };
    let mut fitted = String::with_capacity(table.len());
    for line in &lines[..shown] {
        match line.char_indices().nth(columns) {
            Some((end, _)) if columns > 0 => fitted.push_str(&line[..end]),
            _ => fitted.push_str(line),
        }
        fitted.push('\n');
    }
    if missing > 0 {
        fitted.push_str(&format!("({} more)\n", plural(missing as u64, "line", "s")));
    }
    fitted
}

/// Escapes a trace's text for a terminal, where control characters are commands: a
/// process can give itself any name. Other outputs get the text as it is.
pub(crate) struct Screen {
    is_terminal: bool,
}

impl Screen {
    pub(crate) fn of_stdout() -> Self {
        Self {
            is_terminal: io::stdout().is_terminal(),
        }
    }

    /// Like [`show`](Self::show), for text that need not be UTF-8.
    pub(crate) fn show_bytes<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        match self.is_terminal {
            true => {
                let text = String::from_utf8_lossy(text);
                Cow::Owned(self.show(&text).into_owned().into_bytes())
            }
            false => Cow::Borrowed(text),
        }
    }

    pub(crate) fn show<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let control = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
        if !self.is_terminal || !text.contains(control) {
            return Cow::Borrowed(text);
        }
        let mut shown = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            match control(c) {
                true => shown.extend(c.escape_default()),
                false => shown.push(c),
            }
        }
        Cow::Owned(shown)
    }
}

/// Returns an error and its causes, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}

/// Reports an error that concerns one event alone, and returns any other.
pub(crate) fn step_over(error: Error, code: &mut ExitCode) -> Result<(), Failure> {
    match error {
        // An event of the running kernel may be removed meanwhile, which is not a
        // failure.
        Error::EventGone { .. } => {}
        _ if error.is_of_one_event() => *code = ExitCode::FAILURE,
        _ => return Err(error.into()),
    }
    say!("{}", with_causes(&error));
    Ok(())
}

/// The reason why a subcommand failed.
pub(crate) enum Failure {
    /// An error of the library.
    Tracepoints(Box<dyn std::error::Error>),
    /// Stdout cannot be written to.
    Output(io::Error),
    /// An error of the command itself, as a sentence.
    Other(String),
    /// The same, with an exit status.
    #[cfg(target_os = "linux")]
    Status { code: u8, message: String },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tracepoints(error) => f.write_str(&with_causes(&**error)),
            Self::Output(error) => write!(f, "standard output: {error}"),
            Self::Other(message) => f.write_str(message),
            #[cfg(target_os = "linux")]
            Self::Status { message, .. } => f.write_str(message),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::EventsUnknown { .. } => Self::Other(format!(
                "{error}\n  list --raw and format --raw show what it tells"
            )),
            error => Self::Tracepoints(Box::new(error)),
        }
    }
}

#[cfg(target_os = "linux")]
impl From<tracepoints::probe::ProbeError> for Failure {
    fn from(error: tracepoints::probe::ProbeError) -> Self {
        Self::Tracepoints(Box::new(error))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Output(error.into())
    }
}

/// Returns the struct as a cell of a table: `trace_event_raw_{clock,power_domain}` if
/// it may be one of several, `-` if there is none.
pub(crate) fn struct_cell(context: &ContextStruct) -> String {
    match (context.struct_name(), context.evidence()) {
        (Some(name), _) => name.to_owned(),
        (None, Evidence::Ambiguous) => {
            format!("trace_event_raw_{{{}}}", context.candidates().join(","))
        }
        (None, _) => "-".to_owned(),
    }
}

/// Returns the style of evidence: green for proven, yellow for inferred or ambiguous,
/// faint for unknown to BTF.
pub(crate) fn evidence_style(evidence: &Evidence) -> Style {
    match evidence {
        Evidence::Inferred(_) | Evidence::Ambiguous => AnsiColor::Yellow.on_default(),
        Evidence::Format(_) => Style::new().dimmed(),
        _ => AnsiColor::Green.on_default(),
    }
}

/// Returns `1 event`, `2 events`, `3 classes`.
/// Reports the first of many reasons one by one, and of the others the number.
pub(crate) fn say_first(
    reasons: &[String],
    one: impl Fn(&str) -> String,
    others: impl Fn(usize) -> String,
) {
    const SAID: usize = 5;
    for reason in reasons.iter().take(SAID) {
        say!("{}", one(reason));
    }
    if let Some(more @ 1..) = reasons.len().checked_sub(SAID) {
        say!("{}", others(more));
    }
}

pub(crate) fn plural(count: impl Into<u64>, word: &str, ending: &str) -> String {
    let count = count.into();
    format!("{count} {word}{}", if count == 1 { "" } else { ending })
}

/// A file that keeps its content until it is written to or flushed, so that a run that fails
/// before costs nobody the results of another.
pub(crate) struct Overwritten {
    file: File,
    is_ours: bool,
}

impl Overwritten {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        Ok(Self {
            file,
            is_ours: false,
        })
    }

    /// Removes the content of before, which pipes and devices do not have.
    fn empty(&mut self) -> io::Result<()> {
        if !mem::replace(&mut self.is_ours, true) && self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        Ok(())
    }
}

impl Write for Overwritten {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.empty()?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.empty()?;
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::fitted;

    #[test]
    fn tables_on_small_terminals() {
        let table = "COUNT  EVENT\n    3  a:b\n    2  c:d\n    1  é:f\n";
        assert_eq!(fitted(table, 24, 80), table);
        assert_eq!(fitted(table, 5, 80), table);
        assert_eq!(
            fitted(table, 4, 80),
            "COUNT  EVENT\n    3  a:b\n(2 lines more)\n"
        );
        assert_eq!(
            fitted(table, 24, 8),
            "COUNT  E\n    3  a\n    2  c\n    1  é\n"
        );
        // A terminal of unknown size.
        assert_eq!(fitted(table, 0, 0), "COUNT  EVENT\n(3 lines more)\n");
        assert_eq!(fitted("", 24, 80), "");
    }
}
