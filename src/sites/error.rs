//! Why sites and listeners cannot be read.

use std::io;

use crate::error::Error;

/// Why the kernel's memory does not tell where tracepoints are and who listens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SitesError {
    /// The kernel's tracepoints cannot be listed, or its BTF not be read.
    #[error(transparent)]
    Kernel(#[from] Error),
    /// The kernel is a captured one, whose memory is not there.
    #[error("this is a captured kernel: only the running one has patched sites and listeners")]
    NotLive,
    /// This process may not load programs that read the kernel's memory.
    #[error(
        "permission denied: reading the kernel's memory takes CAP_BPF and CAP_PERFMON: run as root"
    )]
    NotPermitted,
    /// The kernel is locked down to confidentiality: not even root reads its memory.
    #[error(
        "the kernel is locked down (confidentiality): no program may read its memory; see kernel_lockdown(7)"
    )]
    LockedDown,
    /// The kernel has no programs that a system call runs.
    #[error("this kernel cannot run a program once to read its memory: Linux 5.14 can, with BPF")]
    TooOld {
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel's BTF lacks a member that is read, or it has an unknown size.
    #[error("the kernel's BTF does not tell where {member} is")]
    Btf {
        /// The struct, and the member after a dot.
        member: String,
    },
    /// No tracepoint of the kernel has this name.
    #[error("no tracepoint {name} in the kernel's memory")]
    NoTracepoint {
        /// The name, with control characters escaped.
        name: String,
    },
    /// A part of the kernel's memory was not as it has to be: it changed while it was
    /// read, or the kernel is built in a way this crate does not know.
    #[error("{what} cannot be read in the kernel's memory")]
    Unreadable {
        /// What was to be read.
        what: &'static str,
    },
    /// Any other failure of the system.
    #[error("{what} failed")]
    System {
        /// What was tried.
        what: &'static str,
        /// The failure.
        source: io::Error,
    },
}
