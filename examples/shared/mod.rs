//! What the example programs share: choosing the kernel, failing, printing.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use tracepoints::{Context, Error, Evidence, FileError, Kernel};

/// The captured kernel shown where the live one cannot be read.
const CAPTURED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/6.18.15-x86_64");

/// The kernel in `root` or the live one; where that cannot be read, a captured
/// one, saying so on stderr. It is there until the program ends, which frees it
/// sooner than its parts one by one.
pub(crate) fn kernel(program: &str, root: Option<&PathBuf>) -> Result<&'static Kernel, Error> {
    Ok(Box::leak(Box::new(open(program, root)?)))
}

fn open(program: &str, root: Option<&PathBuf>) -> Result<Kernel, Error> {
    if let Some(root) = root {
        return Kernel::at(root);
    }
    let error = match Kernel::live() {
        Err(
            error @ (Error::NotMounted
            | Error::File {
                source: FileError::PermissionDenied,
                ..
            }),
        ) => error,
        live => return live,
    };
    // A published crate comes without its fixtures.
    let Ok(captured) = Kernel::at(CAPTURED) else {
        return Err(error);
    };
    let command = std::env::args().map(quoted).collect::<Vec<_>>().join(" ");
    let for_the_live_one = match &error {
        Error::File {
            source: FileError::PermissionDenied,
            ..
        } => format!("sudo {command}"),
        _ => format!("mount it and run {command} as root"),
    };
    eprintln!(
        "{program}: {}; showing an excerpt of the captured kernel {} instead, for the live one: {for_the_live_one}",
        with_causes(&error),
        Path::new(CAPTURED)
            .file_name()
            .unwrap_or_default()
            .display(),
    );
    Ok(captured)
}

/// An error and what caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// An argument as a shell wants it.
fn quoted(argument: String) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,".contains(c);
    match argument.chars().all(is_plain) {
        true => argument,
        false => format!("'{}'", argument.replace('\'', r"'\''").escape_debug()),
    }
}

/// Runs a program that prints to stdout: says on stderr what failed, and nothing
/// where the reader of a pipe has gone. `has_styles`: whether `main` may print
/// styles, to be left out where they are not wanted.
pub(crate) fn run(
    program: &str,
    has_styles: bool,
    main: impl FnOnce(&mut dyn Write) -> Result<ExitCode, Failure>,
) -> ExitCode {
    let stdout = io::stdout().lock();
    // What strips styles looks at every byte: not where none are printed.
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
        Err(Failure::Output(error)) => {
            eprintln!("{program}: standard output: {error}");
            ExitCode::FAILURE
        }
        Err(Failure::Tracepoints(error)) => {
            eprintln!("{program}: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
        Err(Failure::Other(message)) => {
            eprintln!("{program}: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Text of a trace as it may be printed: a process can give itself any name, and on
/// a terminal control characters are commands. Elsewhere they stay as they are.
#[allow(dead_code, reason = "some programs print names alone")]
pub(crate) struct Screen {
    is_terminal: bool,
}

#[allow(dead_code, reason = "some programs print names alone")]
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

pub(crate) enum Failure {
    Tracepoints(Box<dyn std::error::Error>),
    Output(io::Error),
    /// What the program itself cannot do, said in a sentence.
    #[allow(dead_code, reason = "some programs only read kernels")]
    Other(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Tracepoints(Box::new(error))
    }
}

#[cfg(all(feature = "probe", target_os = "linux"))]
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
