//! Verdicts on programs and their reads.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The verdict on a program or on one of its reads, on a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// It reads what its source means.
    Right,
    /// Not known: the offset is not a constant, the source does not say which field it
    /// means, or the program depends on something that is not known of the kernel.
    Unknown,
    /// It loads and attaches, but reads other bytes than its source means.
    Wrong,
    /// The kernel or the loader refuses to load or to attach it.
    Refused,
    /// The kernel lacks the program's target: it has no such event, no BTF, or another
    /// byte order than the object.
    Absent,
}

impl Verdict {
    /// Returns the word that JSON and tables use: `right`, `wrong`, …
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Unknown => "unknown",
            Self::Wrong => "wrong",
            Self::Refused => "refused",
            Self::Absent => "absent",
        }
    }

    /// Whether it is a fault: wrong or refused.
    pub fn is_fault(self) -> bool {
        matches!(self, Self::Wrong | Self::Refused)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

/// The audit of one program of an object on one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProgramAudit {
    pub(super) program: String,
    pub(super) section: String,
    pub(super) event: Option<String>,
    pub(super) verdict: Verdict,
    pub(super) reason: Option<String>,
    pub(super) reads: Vec<AuditedRead>,
}

impl ProgramAudit {
    /// Returns the program's name.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Returns the name of its ELF section.
    pub fn section(&self) -> &str {
        &self.section
    }

    /// Returns the event `category:name`, or the raw tracepoint; `None` if it is not
    /// known.
    pub fn event(&self) -> Option<&str> {
        self.event.as_deref()
    }

    /// Returns the verdict: the worst among its reads', and that on the program as a
    /// whole.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Returns the reason, if the verdict is on the whole program, or that of its worst
    /// read.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Returns its reads of the context, in the order of the instructions; empty if the
    /// verdict is [`Absent`](Verdict::Absent).
    pub fn reads(&self) -> &[AuditedRead] {
        &self.reads
    }
}

/// A line of a source file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceLine {
    /// The file, as it was passed to the compiler.
    pub file: String,
    /// The line, counted from 1.
    pub line: u32,
}

/// One read of the context by one instruction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AuditedRead {
    pub(super) function: Option<String>,
    pub(super) instruction: u32,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
    pub(super) near: Option<SourceLine>,
    pub(super) offset: Option<i64>,
    pub(super) size: Option<u32>,
    pub(super) path: Option<String>,
    pub(super) wants: Option<String>,
    pub(super) gets: Option<String>,
    pub(super) verdict: Verdict,
    pub(super) reason: Option<String>,
    pub(super) mend: Option<String>,
}

impl AuditedRead {
    /// Returns the function that contains the instruction: the program, or one it
    /// calls.
    pub fn function(&self) -> Option<&str> {
        self.function.as_deref()
    }

    /// Returns the instruction's index in its ELF section, as `llvm-objdump` counts. In a light
    /// skeleton, each program is a section, and the functions that it calls are behind it.
    pub fn instruction(&self) -> u32 {
        self.instruction
    }

    /// Returns the source file, as it was passed to the compiler, and the line, from
    /// `.BTF.ext`.
    pub fn line(&self) -> Option<(&str, u32)> {
        self.file.as_deref().zip(self.line)
    }

    /// Returns, for an instruction that was inlined from another file, the last line before it
    /// of the program's own file, or else the first after it: most likely the call. Compilers
    /// may move instructions, and `.BTF.ext` does not say what was inlined where.
    pub fn near(&self) -> Option<&SourceLine> {
        self.near.as_ref()
    }

    /// Returns the offset of the read in the context on this kernel, in bytes; `None`
    /// if it is not a constant, or the read is not of the context itself.
    pub fn offset(&self) -> Option<i64> {
        self.offset
    }

    /// Returns the number of bytes it reads, at most; `None` if it is not known.
    pub fn size(&self) -> Option<u32> {
        self.size
    }

    /// Returns the field in the object's own types:
    /// `trace_event_raw_sys_enter.args[1]`.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Returns the event's field that the source means; `None` if it does not say.
    pub fn wants(&self) -> Option<&str> {
        self.wants.as_deref()
    }

    /// Returns the field that this kernel has there.
    pub fn gets(&self) -> Option<&str> {
        self.gets.as_deref()
    }

    /// Returns the verdict: whether the two agree.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Returns the reason why they do not or, if they do, a note: that the source's
    /// type is narrower, or of the other sign.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Returns where this kernel has the field that the source means: the struct, the
    /// member and the offset.
    pub fn mend(&self) -> Option<&str> {
        self.mend.as_deref()
    }
}

/// A row of `--json`: the audit of a program on a kernel, with names for both that the
/// caller chooses.
#[derive(Clone, Debug, Serialize)]
pub struct AuditRow<'a> {
    /// The object's name, such as its path.
    pub object: &'a str,
    /// The kernel's name, such as the path of its capture.
    pub kernel: &'a str,
    /// The audit of the program.
    #[serde(flatten)]
    pub audit: &'a ProgramAudit,
}
