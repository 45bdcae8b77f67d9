//! The evidence for a context.

use std::fmt;

use super::classes::CapturedFrom;
use super::rules::Proof;

/// The evidence for a [`Context`](super::Context): how its struct is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Evidence {
    /// Several classes fit and no [`Rule`](super::Rule) excludes them, but the kernel
    /// itself tells which one is the event's.
    Kernel(KernelSource),
    /// The object that defines the event has a `trace_event_raw_<event>`, and
    /// its layout agrees with the format file.
    Named,
    /// Only one event class of the object that defines the event has this layout, takes
    /// these arguments and is excluded by no [`Rule`](super::Rule).
    Template(Proof),
    /// Several classes fit and none is excluded, but something short of a proof points to
    /// this one. [`Context::candidates`](super::Context::candidates) returns all.
    Inferred(Inference),
    /// The event is one of `syscalls:*`, whose context is neither its record nor always
    /// `trace_event_raw_sys_enter`. The context is the struct that has the arguments, or
    /// the return value, where the kernel's own `struct syscall_tp_t` has them.
    Syscall(SyscallVariant),
    /// Several classes fit, none is excluded, and nothing tells which is the event's:
    /// [`Context::candidates`](super::Context::candidates) returns all. They have the
    /// same offsets, so reading through any of them is right on this kernel.
    Ambiguous,
    /// No BTF type describes the context; its layout is that of the record, from
    /// the format file.
    Format(FormatReason),
}

/// Where the kernel itself states an event's class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KernelSource {
    /// In the event's `btf_ids` file (Linux 7.3 and later).
    BtfIds,
    /// In the kernel's memory, where the event's `struct trace_event_call` points to its
    /// class, and the class to its own function `trace_event_raw_event_<class>`. Available
    /// for the running kernel, with the feature `probe`, on Linux 5.14 and later, to a
    /// process with `CAP_BPF` and `CAP_PERFMON`, whatever `kernel.kptr_restrict` is.
    Memory,
    /// In the file `tracing/classes` of a captured kernel, recorded at the time of
    /// capture.
    Capture(CapturedFrom),
    /// In the kernel's image or a module's file, where the event's `struct
    /// trace_event_call` points to its class. Available for a kernel that is read without
    /// being booted (feature `image`).
    Image,
}

/// A reason to assume a class, short of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Inference {
    /// R: of the classes that fit, only this one is named in the run of the event's
    /// header, that is, next to the header's other names in BTF's strings. The strings
    /// keep the order in which the compiler met the types. The inference counts only if
    /// every event of the object whose class is proven is in the run of its class.
    HeaderRun,
    /// U: every other class that fits has an event of its own name.
    OnlyTemplate,
}

/// The reason why a context has no BTF type, so that its layout is that of the format
/// file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FormatReason {
    /// The kernel has no BTF (`CONFIG_DEBUG_INFO_BTF`).
    NoBtf,
    /// The kernel's BTF does not tell which object defines which event: BTF of Linux 5.4
    /// has the structs, but not the typedefs `btf_trace_<event>`.
    NoEventsInBtf,
    /// vmlinux does not define the event, and the kernel has no BTF of modules:
    /// before Linux 5.11, or without `CONFIG_DEBUG_INFO_BTF_MODULES`.
    NoModuleBtf,
    /// No object's BTF defines the event: it was made at run time (kprobe, user
    /// and synthetic events), or its module has no BTF.
    NoHome,
    /// The BTF of the object that defines the event has no class of this layout.
    NotInHome {
        /// `vmlinux`, or the module's name.
        home: String,
    },
    /// No object that could be read defines the event, and some could not be read.
    UnreadableModuleBtf {
        /// The modules, each with the error.
        modules: Vec<String>,
    },
    /// Several categories have an event of this name, but fewer objects define the name,
    /// so the home of this event is not known.
    SharedName,
    /// More classes fit than any kernel has of one layout, so the BTF is not a kernel's.
    TooManyClasses {
        /// `vmlinux`, or the module's name.
        home: String,
    },
    /// A kprobe, uprobe or fprobe event. Programs of type `BPF_PROG_TYPE_TRACEPOINT`
    /// cannot be attached to it, so it has no context, and the layout is empty.
    ProbeEvent,
}

/// The form of the kernel's local `struct syscall_tp_t`
/// (`kernel/trace/trace_syscalls.c`), the context of `syscalls:*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SyscallVariant {
    /// `regs`, `unsigned long` number, arguments: up to Linux 6.5.
    Registers,
    /// `struct trace_entry`, `unsigned long` number, arguments: RHEL 9.3.
    LongNumber,
    /// `struct trace_entry`, `int` number, arguments: Linux 6.6 and later. The bytes
    /// after the low 32 bits of the number are not set.
    IntNumber,
    /// Another form.
    Other,
}

impl Evidence {
    /// Whether the evidence proves the event's class. An inference does not.
    pub fn is_proof(&self) -> bool {
        matches!(self, Self::Named | Self::Template(_) | Self::Kernel(_))
    }

    /// Returns the word that `list` and JSON use: `kernel`, `named`, `template`,
    /// `inferred`, `syscall`, `ambiguous` or `format`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Kernel(_) => "kernel",
            Self::Named => "named",
            Self::Template(_) => "template",
            Self::Inferred(_) => "inferred",
            Self::Syscall(_) => "syscall",
            Self::Ambiguous => "ambiguous",
            Self::Format(_) => "format",
        }
    }

    /// Returns the rules that prove a [`Template`](Self::Template); `None` for other
    /// evidence.
    pub fn because(&self) -> Option<Proof> {
        match self {
            Self::Template(proof) => Some(*proof),
            _ => None,
        }
    }
}

/// Writes the reason in words, as `format` shows it.
impl fmt::Display for Evidence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(source) => write!(out, "{source} says which of the classes that fit"),
            Self::Named => out.write_str(
                "the struct of the event's own name, and its layout agrees with the format file",
            ),
            Self::Template(proof) => proof.fmt(out),
            Self::Inferred(how) => write!(
                out,
                "several classes fit, and {how}: an inference, not a proof"
            ),
            Self::Syscall(variant) => write!(
                out,
                "its values lie where the kernel's syscall_tp_t has them ({variant})"
            ),
            Self::Ambiguous => out.write_str(
                "several classes have this layout and these arguments; their offsets are the same",
            ),
            Self::Format(reason) => write!(out, "layout from the format file: {reason}"),
        }
    }
}

/// Writes the beginning of a sentence: `the kernel's memory`.
impl fmt::Display for KernelSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BtfIds => out.write_str("the kernel's own btf_ids file"),
            Self::Memory => out.write_str("the kernel's memory"),
            Self::Image => out.write_str("the kernel's image"),
            Self::Capture(from) => write!(out, "the capture's classes file, from {from},"),
        }
    }
}

/// Writes the end of a sentence: `all but this one are the own class of an event`.
impl fmt::Display for Inference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::HeaderRun => "BTF names this one alone with the events of its header",
            Self::OnlyTemplate => "all but this one are the own class of an event",
        })
    }
}

impl fmt::Display for FormatReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBtf => out.write_str("this kernel has no BTF"),
            Self::NoEventsInBtf => {
                out.write_str("this kernel's BTF does not say which events it defines")
            }
            Self::NoModuleBtf => {
                out.write_str("vmlinux does not define the event, and there is no BTF of modules")
            }
            Self::NoHome => out.write_str("no BTF object defines the event"),
            Self::NotInHome { home } => write!(out, "no type in the BTF of {home} has this layout"),
            Self::UnreadableModuleBtf { modules } => {
                write!(
                    out,
                    "its module's BTF may be one that cannot be read: {}",
                    modules.join("; ")
                )
            }
            Self::ProbeEvent => {
                out.write_str("a kprobe, uprobe or fprobe event, which takes no tracepoint program")
            }
            Self::TooManyClasses { home } => {
                write!(
                    out,
                    "the BTF of {home} has more classes of this layout than any kernel's"
                )
            }
            Self::SharedName => out.write_str(
                "several categories have an event of this name, and BTF does not tell them apart",
            ),
        }
    }
}

impl fmt::Display for SyscallVariant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Registers => "regs, long nr: the form up to Linux 6.5",
            Self::LongNumber => "trace_entry, long nr: the form of RHEL 9.3",
            Self::IntNumber => "trace_entry, int nr: the form since Linux 6.6",
            Self::Other => "a form not known before",
        })
    }
}
