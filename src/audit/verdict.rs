//! The verdicts, as values.

use std::fmt;

use serde::{Serialize, Serializer};

/// What a program, or one read of it, comes to on a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// It reads what its source means.
    Right,
    /// It cannot be told: the offset is not a constant, the source does not say what it
    /// means, or what the program does depends on what is not known of the kernel.
    Unknown,
    /// It loads and attaches, and reads other bytes than its source means.
    Wrong,
    /// The kernel or the loader refuses to load or to attach it.
    Refused,
    /// The kernel has not what the program is attached to: no such event, no BTF, or
    /// another byte order than the object's.
    Absent,
}

impl Verdict {
    /// The word that JSON and tables use: `right`, `wrong`, …
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

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What one program of an object comes to on one kernel.
#[derive(Clone, Debug, Serialize)]
pub struct ProgramAudit {
    pub(super) program: String,
    pub(super) section: String,
    pub(super) event: Option<String>,
    pub(super) verdict: Verdict,
    pub(super) reason: Option<String>,
    pub(super) reads: Vec<AuditedRead>,
}

impl ProgramAudit {
    /// The program's name.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// The name of its ELF section.
    pub fn section(&self) -> &str {
        &self.section
    }

    /// The event `category:name`, or the raw tracepoint; `None` where it is not known.
    pub fn event(&self) -> Option<&str> {
        self.event.as_deref()
    }

    /// The verdict: the worst of its reads', and of what concerns the program alone.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Why, where that is of the whole program, or of its worst read.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// What it reads of its context, in the order of the instructions; empty where the
    /// verdict is [`Absent`](Verdict::Absent).
    pub fn reads(&self) -> &[AuditedRead] {
        &self.reads
    }
}

/// One read of the context by one instruction.
#[derive(Clone, Debug, Serialize)]
pub struct AuditedRead {
    pub(super) function: Option<String>,
    pub(super) instruction: u32,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
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
    /// The function the instruction is in: the program, or one it calls.
    pub fn function(&self) -> Option<&str> {
        self.function.as_deref()
    }

    /// The instruction's number in its ELF section, as `llvm-objdump` counts.
    pub fn instruction(&self) -> u32 {
        self.instruction
    }

    /// The source file, as the compiler was given it, and the line, from `.BTF.ext`.
    pub fn line(&self) -> Option<(&str, u32)> {
        self.file.as_deref().zip(self.line)
    }

    /// Where in the context it reads on this kernel, in bytes from its start; `None` if
    /// the offset is not a constant, or the read is not of the context itself.
    pub fn offset(&self) -> Option<i64> {
        self.offset
    }

    /// How many bytes it reads, at most; `None` if it is not known.
    pub fn size(&self) -> Option<u32> {
        self.size
    }

    /// The field in the object's own types: `trace_event_raw_sys_enter.args[1]`.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The event's field that the source means; `None` where it does not say.
    pub fn wants(&self) -> Option<&str> {
        self.wants.as_deref()
    }

    /// What is there on this kernel.
    pub fn gets(&self) -> Option<&str> {
        self.gets.as_deref()
    }

    /// Whether the two agree.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Why they do not, or what is to be noted if they do: that the source's type is
    /// narrower, or of the other sign.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Where this kernel has what the source means: the struct, the member and the
    /// offset.
    pub fn mend(&self) -> Option<&str> {
        self.mend.as_deref()
    }
}

/// A row of `--json`: what a program of an object comes to on a kernel, both named by
/// whoever asks.
#[derive(Clone, Debug, Serialize)]
pub struct AuditRow<'a> {
    /// The object's name, such as its path.
    pub object: &'a str,
    /// The kernel's name, such as the path of its capture.
    pub kernel: &'a str,
    /// What the program comes to.
    #[serde(flatten)]
    pub audit: &'a ProgramAudit,
}
