//! Why an event cannot be probed.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::service::PlanReason;
use crate::btf::PathError;
use crate::error::Error;
use crate::filter::FilterError;
use crate::format::print::PrintFmtError;
use crate::name::EventName;

/// Why a probe cannot be made, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The kernel's tracepoints cannot be read.
    #[error(transparent)]
    Kernel(Error),
    /// The event has no field of this name.
    #[error("{event} has no field {field}; it has {}, and the task has pid, tid, comm and cpu", .fields.join(", "))]
    NoField {
        /// The event.
        event: EventName,
        /// The name.
        field: String,
        /// The fields it has.
        fields: Vec<String>,
    },
    /// A field that is neither an integer nor a string, which nothing is grouped by.
    #[error("{field} of {event} is neither an integer nor a string: it makes no groups")]
    NoKey {
        /// The event.
        event: EventName,
        /// The field.
        field: String,
    },
    /// The values to group by take more space than a key has.
    #[error(
        "the values to group {event} by take more than {limit} bytes: a string takes 64, comm 16, a number 8"
    )]
    LongKey {
        /// The event.
        event: EventName,
        /// The most there is, in bytes.
        limit: usize,
    },
    /// A path through the arguments of a raw tracepoint leads nowhere.
    #[error("{tracepoint} has no such value")]
    Path {
        /// The tracepoint.
        tracepoint: EventName,
        /// Why not.
        source: Box<PathError>,
    },
    /// Several modules define a tracepoint of this name, and the kernel takes the first that
    /// was loaded.
    #[error("{tracepoint} is defined by several modules ({}): the kernel does not let one choose", .homes.join(", "))]
    Ambiguous {
        /// The tracepoint.
        tracepoint: EventName,
        /// The modules.
        homes: Vec<String>,
    },
    /// The kernel has no tracepoint of this name that takes programs.
    #[error("the kernel has no tracepoint {tracepoint} by now: was its module unloaded?")]
    NoTracepoint {
        /// The tracepoint.
        tracepoint: EventName,
    },
    /// The kernel has no programs of type `tp_btf`, or none for this tracepoint.
    #[error(
        "the kernel takes no program of type tp_btf for {tracepoint} (Linux 5.5, in modules 5.11, with BTF); raw_tp does the same"
    )]
    NoTpBtf {
        /// The tracepoint.
        tracepoint: EventName,
        /// What the kernel says.
        source: io::Error,
    },
    /// The field is in the record ftrace and perf write, and no program gets it.
    #[error("{field} of {event} is in the record only: no program gets it")]
    NotInContext {
        /// The event.
        event: EventName,
        /// The field.
        field: String,
    },
    /// The value behind a pointer cannot be kept.
    #[error("{event} has no {field}")]
    Pointee {
        /// The event.
        event: EventName,
        /// The name that was asked for: `*rqtp`.
        field: String,
        /// Why not.
        source: PointeeError,
    },
    /// A histogram of a field that is not an integer.
    #[error("{field} of {event} is not an integer: a histogram needs one")]
    NoInteger {
        /// The event.
        event: EventName,
        /// The field.
        field: String,
    },
    /// The filter does not fit the event.
    #[error("the filter does not fit {event}")]
    Filter {
        /// The event.
        event: EventName,
        /// The reason.
        source: FilterError,
    },
    /// A condition asks for the result of a system call and for its arguments at once.
    #[error(
        "a condition on {event} asks for ret, known when the call returns, and for {field}, known when it begins: combine them by && alone"
    )]
    MixedResult {
        /// The event.
        event: EventName,
        /// The argument.
        field: String,
    },
    /// The event's print fmt is not understood.
    #[error("cannot parse the print fmt of {event}")]
    PrintFmt {
        /// The event.
        event: EventName,
        /// The error of the print fmt.
        source: PrintFmtError,
    },
    /// A program of type `raw_tp` was asked for, and cannot do what it is to do.
    #[error("no raw_tp program can serve {event} here: {reason}; tp can")]
    NeedsTp {
        /// The event.
        event: EventName,
        /// Why not.
        reason: PlanReason,
    },
    /// A record of the event would be larger than a program can write at once.
    #[error(
        "a record of {event} would take {size} bytes, and can take {limit}: keep fewer fields, or less of each"
    )]
    LargeRecord {
        /// The event.
        event: EventName,
        /// The size it would have, in bytes.
        size: u32,
        /// The largest there may be, in bytes.
        limit: u32,
    },
    /// The filter makes a program longer than jumps reach.
    #[error("the program for {event} is too long: simplify the filter")]
    LongProgram {
        /// The event.
        event: EventName,
    },
    /// The kernel is a captured one.
    #[error("{event} is an event of a captured kernel: only the running one has programs attached")]
    NotLive {
        /// The event.
        event: EventName,
    },
    /// The event is not one tracepoint programs can be attached to.
    #[error("no tracepoint program can be attached to {event}: {kind}")]
    Unattachable {
        /// The event.
        event: EventName,
        /// The kind of event.
        kind: UnattachableKind,
    },
    /// This process may not load programs or open events.
    #[error(
        "permission denied: {what} takes CAP_BPF and CAP_PERFMON (before Linux 5.8, CAP_SYS_ADMIN): run as root"
    )]
    NotPermitted {
        /// The operation that is not permitted.
        what: &'static str,
    },
    /// The kernel is locked down to confidentiality: not even root reads its memory.
    #[error(
        "the kernel is locked down (confidentiality): no program may read its memory; see kernel_lockdown(7)"
    )]
    Lockdown,
    /// The kernel has no eBPF.
    #[error("no BPF: this kernel was built without CONFIG_BPF_SYSCALL")]
    NoBpf,
    /// The kernel has eBPF, and no ring buffers: it is older than 5.8.
    #[error("this kernel has no BPF ring buffers: they came with Linux 5.8")]
    NoRingBuffer,
    /// The kernel has no programs on events.
    #[error(
        "this kernel opens no events for programs: CONFIG_PERF_EVENTS or CONFIG_BPF_EVENTS is missing"
    )]
    NoPerfEvents,
    /// The size of a ring buffer is not one there can be.
    #[error("a ring buffer cannot be {size} bytes: it takes a power of two, and whole pages")]
    RingSize {
        /// The size asked for, in bytes.
        size: u32,
    },
    /// Too many files are open for all events.
    #[error("too many open files: each event takes three; raise the limit (`ulimit -n`)")]
    TooManyFiles,
    /// The verifier rejects the program. That is an error of this crate's.
    #[error("the kernel rejects the program for {event}: please report this\n{log}")]
    Rejected {
        /// The event.
        event: EventName,
        /// What the kernel says.
        source: io::Error,
        /// The program, and the end of the verifier's log.
        log: String,
    },
    /// The event that was looked up is gone, or another one has its name or its id
    /// by now.
    #[error("{event} is not the event any more that was looked up: was its module unloaded?")]
    Changed {
        /// The event.
        event: EventName,
    },
    /// A process to follow is not there.
    #[error("no process {pid}")]
    NoProcess {
        /// The process.
        pid: u32,
    },
    /// Processes are counted otherwise here than in the kernel.
    #[error(
        "this process is in a PID namespace of its own, and programs see other numbers: run outside of the container to filter by process"
    )]
    PidNamespace,
    /// A probe cannot be pinned to a directory, or none can be read there.
    #[error("pinned probe {}", .path.display())]
    Pin {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: PinError,
    },
    /// Any other failure of the system.
    #[error("{what} failed")]
    System {
        /// The operation.
        what: String,
        /// The failure.
        source: io::Error,
    },
}

/// Why what an argument of a system call points at cannot be kept: see
/// [`ProbeBuilder::fields`](super::ProbeBuilder::fields).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PointeeError {
    /// The event is not the begin of a system call.
    #[error("only arguments of syscalls:sys_enter_* have their pointers followed in this way")]
    NotOfCall,
    /// The call has no argument of this name.
    #[error("the call has no argument of this name")]
    NoArgument,
    /// The moment is neither `entry` nor `exit`.
    #[error("@{moment} is not a moment of a call: use @entry or @exit")]
    NoMoment {
        /// The text that was asked for.
        moment: String,
    },
    /// The argument points at no struct or union that BTF has, and at no list of strings.
    #[error(
        "its type is {is}: not a pointer to a struct or union in the kernel's BTF, nor to strings"
    )]
    NoStruct {
        /// Its type.
        is: String,
    },
    /// BTF has several structs of the name, of which it may be any.
    #[error("its type is {is}: the kernel's BTF has several such structs, which differ")]
    Several {
        /// Its type.
        is: String,
    },
    /// No argument says how long it is: of an address of a socket, and of structs whose length
    /// is in themselves.
    #[error("no argument says how long it is, and its type does not either")]
    NoLength,
    /// It is not known whether the call reads or writes there, or it does both.
    #[error(
        "the call may read and write there: ask for *{argument}@entry, for *{argument}@exit, or for both"
    )]
    BothWays {
        /// The argument.
        argument: String,
    },
    /// The kernel has no BTF, and so no types.
    #[error("the kernel has no BTF, which has the types")]
    NoBtf,
}

/// Why a probe cannot be pinned to a directory, or none can be read there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// The directory is on a file system of another type.
    #[error(
        "the directory is not on a BPF file system; as root, `mount -t bpf bpf /sys/fs/bpf`, and pin to a new directory below"
    )]
    NotBpffs,
    /// A file of this name exists.
    #[error("it exists already")]
    Exists,
    /// The name has a dot, which no name on a BPF file system can have.
    #[error("names on a BPF file system have no dots")]
    Dot,
    /// The kernel has no links to events: a program ends with its process.
    #[error(
        "this kernel cannot keep a program of type tp without its process (Linux 5.15 can): raw tracepoints, and what counts without fields, it can"
    )]
    NoLink,
    /// No probe is pinned there.
    #[error("no probe of this crate is pinned there, or its pinning was interrupted")]
    None,
    /// Another version of this crate pinned it, and only that one reads it.
    #[error("version {version} pinned it, and only that reads it; this is {}", env!("CARGO_PKG_VERSION"))]
    Version {
        /// The other version.
        version: String,
    },
    /// The description of what is pinned is not understood.
    #[error("its description cannot be read")]
    Description(#[source] serde_json::Error),
    /// The description has places where there are no bytes.
    #[error("its description has places outside of its maps")]
    Layout,
    /// A file of it was deleted.
    #[error("its file {name} is gone")]
    Missing {
        /// The file.
        name: String,
    },
    /// Something else is pinned in place of a map or a program of it.
    #[error("its file {name} is not the one that was pinned")]
    Foreign {
        /// The file.
        name: String,
    },
    /// Another process reads its records, and only one can.
    #[error("another process reads its records")]
    InUse,
    /// The system refuses something.
    #[error("the system refuses it")]
    Io(#[source] io::Error),
}

/// Kinds of events to which no tracepoint program can be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnattachableKind {
    /// One written by the function tracers (`ftrace:*`), which is not listed.
    Ftrace,
    /// A kprobe, uprobe or fprobe event.
    Probe,
    /// An eprobe: a probe on another event.
    EventProbe,
    /// A synthetic event: what histogram triggers make of others.
    Synthetic,
    /// An event of a program in userspace (`user_events`).
    User,
    /// None of these: the kernel refuses it.
    Refused,
}

impl fmt::Display for UnattachableKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Ftrace => {
                "the function tracers write it, and it has no tracepoint; a kprobe program can be attached to the function instead"
            }
            Self::Probe => {
                "it is a kprobe, uprobe or fprobe event; attach a program of type kprobe to the function itself"
            }
            Self::EventProbe => "it is an eprobe; attach to the event it is on",
            Self::Synthetic => {
                "it is a synthetic event, made of others by histogram triggers; attach to those"
            }
            Self::User => {
                "it is a user event, and programs attached to one never run; use a uprobe or USDT program"
            }
            Self::Refused => "the kernel refuses it",
        })
    }
}
