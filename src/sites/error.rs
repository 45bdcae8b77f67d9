//! Why sites and listeners cannot be read.

use std::io;

use crate::error::Error;

/// Why the sites and listeners of tracepoints cannot be read from the kernel's memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SitesError {
    /// The kernel's tracepoints cannot be listed, or its BTF cannot be read.
    #[error(transparent)]
    Kernel(#[from] Error),
    /// The kernel is a captured one, which has neither memory nor code to read.
    #[error(
        "this is a captured kernel, which has no code: the running one has sites and listeners, and an image (vmlinuz, a package) has sites"
    )]
    NotLive,
    /// This process may not load programs that read the kernel's memory.
    #[error(
        "permission denied: reading the kernel's memory takes CAP_BPF and CAP_PERFMON: run as root"
    )]
    NotPermitted,
    /// The kernel is locked down to confidentiality: not even root may read its memory.
    #[error(
        "the kernel is locked down (confidentiality): no program may read its memory; see kernel_lockdown(7)"
    )]
    LockedDown,
    /// The kernel does not have programs that a system call runs.
    #[error("this kernel cannot run a program once to read its memory: Linux 5.14 can, with BPF")]
    TooOld {
        /// The kernel's error.
        source: io::Error,
    },
    /// The kernel's BTF lacks a member that is read, or has it in an unknown size.
    #[error("the kernel's BTF does not tell where {member} is")]
    Btf {
        /// The struct and, after a dot, the member.
        member: String,
    },
    /// No tracepoint of the kernel has this name.
    #[error("no tracepoint {name} in the kernel's memory")]
    NoTracepoint {
        /// The name, with control characters escaped.
        name: String,
    },
    /// A part of the kernel's memory is not as expected: it changed while it was read, or
    /// the kernel is built in a way that this crate does not know.
    #[error("{what} cannot be read in the kernel's memory")]
    Unreadable {
        /// The part that was to be read.
        what: &'static str,
    },
    /// Any other failure of the system.
    #[error("{what} failed")]
    System {
        /// The action that failed.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
}
