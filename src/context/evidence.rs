//! How a context is known.

use std::fmt;

use super::classes::CapturedFrom;
use super::rules::Proof;

/// How a [`Context`](super::Context) is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Evidence {
    /// Several classes fit, none of them excluded by a [`Rule`](super::Rule), and the
    /// kernel itself says which.
    Kernel(KernelSource),
    /// The object that defines the event has a `trace_event_raw_<event>`, and
    /// its layout agrees with the format file.
    Named,
    /// Of the event classes of the object that defines the event, one alone has this
    /// layout, takes these arguments and is excluded by no [`Rule`](super::Rule).
    Template(Proof),
    /// Several classes fit, none of them excluded, and something short of a proof speaks
    /// for this one: [`Context::candidates`](super::Context::candidates) holds them all.
    Inferred(Inference),
    /// An event of `syscalls:*`, whose context is neither its record nor always
    /// `trace_event_raw_sys_enter`: the struct whose arguments, or whose return
    /// value, are where the kernel's own `struct syscall_tp_t` has them.
    Syscall(SyscallVariant),
    /// Several classes fit, none of them excluded, and nothing here tells which is the
    /// event's: [`Context::candidates`](super::Context::candidates) holds them all.
    /// Their offsets are the same, so that reading through any is right on this
    /// kernel.
    Ambiguous,
    /// No BTF type describes the context; its layout is that of the record, from
    /// the format file.
    Format(FormatReason),
}

/// Where the kernel itself says which class an event has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KernelSource {
    /// In the event's `btf_ids` file (Linux 7.3 and later).
    BtfIds,
    /// In its memory, where the event's `struct trace_event_call` points at its class, and
    /// this at the class's own function `trace_event_raw_event_<class>`: of the running
    /// kernel, with the feature `probe`, on Linux 5.14 and later, for a process with
    /// `CAP_BPF` and `CAP_PERFMON`, whatever `kernel.kptr_restrict` says.
    Memory,
    /// In the file `tracing/classes` of a captured kernel, written down when it was
    /// captured.
    Capture(CapturedFrom),
}

/// What speaks for a class without proving it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Inference {
    /// R: of the classes that fit it is the only one whose name stands in BTF's strings
    /// in the run of the event's header. That is the order compilers met the types in;
    /// it counts only if every event of the object whose class is proven is in the run of
    /// its class.
    HeaderRun,
    /// U: all the other classes that fit have an event of their own name.
    OnlyTemplate,
}

/// Why a context's layout is from the format file alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FormatReason {
    /// The kernel has no BTF (`CONFIG_DEBUG_INFO_BTF`).
    NoBtf,
    /// The kernel's BTF does not say which object defines which event: Linux 5.4,
    /// whose BTF has the structs and not yet the typedefs `btf_trace_<event>`.
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
    /// No object that could be read defines the event, and some could not.
    UnreadableModuleBtf {
        /// The modules, each with what is wrong with it.
        modules: Vec<String>,
    },
    /// Events of several categories have this name, and fewer objects define it:
    /// which is this one's cannot be told.
    SharedName,
    /// More classes fit than any kernel has of one layout: the BTF is made up.
    TooManyClasses {
        /// `vmlinux`, or the module's name.
        home: String,
    },
    /// A kprobe, uprobe or fprobe event: it takes no program of type
    /// `BPF_PROG_TYPE_TRACEPOINT`, and so has no such context. The layout is
    /// empty.
    ProbeEvent,
}

/// Which form the kernel's local `struct syscall_tp_t` has
/// (`kernel/trace/trace_syscalls.c`), the context of `syscalls:*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SyscallVariant {
    /// `regs`, `unsigned long` number, arguments: up to Linux 6.5.
    Registers,
    /// `struct trace_entry`, `unsigned long` number, arguments: RHEL 9.3.
    LongNumber,
    /// `struct trace_entry`, `int` number, arguments: Linux 6.6 and later. What
    /// follows the number's low 32 bits is not set.
    IntNumber,
    /// None of these.
    Other,
}

impl Evidence {
    /// Whether the evidence proves the event's class. An inference does not.
    pub fn is_proof(&self) -> bool {
        matches!(self, Self::Named | Self::Template(_) | Self::Kernel(_))
    }

    /// The word `list` and JSON use: `kernel`, `named`, `template`,
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

    /// The rules that prove a [`Template`](Self::Template); `None` of anything else.
    pub fn because(&self) -> Option<Proof> {
        match self {
            Self::Template(proof) => Some(*proof),
            _ => None,
        }
    }
}

/// The reason in words, as `format` shows it.
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

/// As a sentence begins: `the kernel's memory`.
impl fmt::Display for KernelSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BtfIds => out.write_str("the kernel's own btf_ids file"),
            Self::Memory => out.write_str("the kernel's memory"),
            Self::Capture(from) => write!(out, "the capture's classes file, from {from},"),
        }
    }
}

/// As a sentence ends: `all others are the own class of an event`.
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
