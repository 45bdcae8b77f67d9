//! Printing: to stdout, styled on terminals alone; to stderr, where a reader that has
//! gone is no failure; and what went wrong.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use tracepoints::{Context, Error, Evidence};

use crate::kernel::Identity;

/// Prints a line to stderr, behind the command's name. A closed stderr is not an error:
/// `eprintln!` panics there.
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::output::write_to_stderr(format_args!("tracepoints: {}\n", format_args!($($argument)*)))
    };
}
pub(crate) use say;

/// Prints a line to stderr as it is.
macro_rules! note {
    ($($argument:tt)*) => {
        $crate::output::write_to_stderr(format_args!("{}\n", format_args!($($argument)*)))
    };
}
pub(crate) use note;

pub(crate) fn write_to_stderr(line: fmt::Arguments<'_>) {
    // Whole lines: those of several processes do not mix.
    let _ = io::stderr().write_all(line.to_string().as_bytes());
}

/// Runs a subcommand that prints to stdout. Reports on stderr what failed, and nothing
/// where the reader of stdout has gone. `has_styles`: whether `main` prints styles, to be
/// stripped where stdout is no terminal.
pub(crate) fn run(
    has_styles: bool,
    main: impl FnOnce(&mut dyn Write) -> Result<ExitCode, Failure>,
) -> ExitCode {
    let stdout = io::stdout().lock();
    // Stripping styles looks at every byte: only where there are any.
    let mut out: Box<dyn Write> = match has_styles {
        true => Box::new(BufWriter::new(AutoStream::auto(stdout))),
        false => Box::new(BufWriter::with_capacity(1 << 16, stdout)),
    };
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

/// Rows of JSON, one a line, each of which names the kernel it is about.
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

    /// `None` where text is wanted instead.
    pub(crate) fn where_wanted(
        is_wanted: bool,
        kernel: &Identity,
    ) -> Result<Option<Self>, Failure> {
        is_wanted.then(|| Self::of(kernel)).transpose()
    }

    /// Writes a row, which must be an object that is not empty.
    pub(crate) fn write(
        &mut self,
        row: &impl Serialize,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        // An object is written in some thirty pieces: without `dyn` between them that
        // takes half the time.
        self.line.clear();
        serde_json::to_writer(&mut self.line, row)?;
        self.line.pop();
        self.line.extend(&self.end);
        out.write_all(&self.line)?;
        Ok(())
    }
}

/// A line about work that takes long, on a terminal alone: gone once the work is done.
pub(crate) struct Progress {
    what: String,
    is_shown: bool,
    percent: u64,
}

impl Progress {
    /// From this many of a thing on, work takes long.
    const LONG: usize = 100;

    pub(crate) fn new(what: &str, count: usize) -> Self {
        Self::when(count >= Self::LONG, what)
    }

    /// For work that is known to take long, or not.
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

/// The part of a table that fits on a terminal of this size, as lines to print in place of
/// the table: long lines are cut, and the last line says how many are missing.
pub(crate) fn fitted(table: &str, rows: usize, columns: usize) -> String {
    let lines: Vec<&str> = table.lines().collect();
    // The cursor is on the line below.
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

/// Text of a trace as it may be printed: a process can give itself any name, and on
/// a terminal control characters are commands. Elsewhere they stay as they are.
pub(crate) struct Screen {
    is_terminal: bool,
}

impl Screen {
    pub(crate) fn of_stdout() -> Self {
        Self {
            is_terminal: io::stdout().is_terminal(),
        }
    }

    /// [`show`](Self::show) of text that need not be UTF-8, which a file gets as it is.
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

/// An error and what caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}

/// Reports an error that concerns one event alone, and returns any other.
pub(crate) fn step_over(error: Error, code: &mut ExitCode) -> Result<(), Failure> {
    match error {
        // Of a living kernel's events, one may go meanwhile: no failure.
        Error::EventGone { .. } => {}
        _ if error.is_of_one_event() => *code = ExitCode::FAILURE,
        _ => return Err(error.into()),
    }
    say!("{}", with_causes(&error));
    Ok(())
}

/// Why a subcommand ended early.
pub(crate) enum Failure {
    /// The library failed.
    Tracepoints(Box<dyn std::error::Error>),
    /// Stdout cannot be written.
    Output(io::Error),
    /// The command itself failed; a sentence.
    Other(String),
    /// The same, with a status of its own.
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
        Self::Tracepoints(Box::new(error))
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

/// The struct as a cell of a table: `trace_event_raw_{clock,power_domain}`
/// where it may be one of several, `-` where there is none.
pub(crate) fn struct_cell(context: &Context) -> String {
    match (context.struct_name(), context.evidence()) {
        (Some(name), _) => name.to_owned(),
        (None, Evidence::Ambiguous) => {
            format!("trace_event_raw_{{{}}}", context.candidates().join(","))
        }
        (None, _) => "-".to_owned(),
    }
}

/// Green for what is proven, yellow for what is not, faint for what BTF does
/// not know.
pub(crate) fn evidence_style(evidence: &Evidence) -> Style {
    match evidence {
        Evidence::Inferred(_) | Evidence::Ambiguous => AnsiColor::Yellow.on_default(),
        Evidence::Format(_) => Style::new().dimmed(),
        _ => AnsiColor::Green.on_default(),
    }
}

/// `1 event`, `2 events`, `3 classes`.
pub(crate) fn plural(count: impl Into<u64>, word: &str, ending: &str) -> String {
    let count = count.into();
    format!("{count} {word}{}", if count == 1 { "" } else { ending })
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
        // A terminal that does not say its size.
        assert_eq!(fitted(table, 0, 0), "COUNT  EVENT\n(3 lines more)\n");
        assert_eq!(fitted("", 24, 80), "");
    }
}
