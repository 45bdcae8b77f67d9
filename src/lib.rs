//! Every tracepoint of a Linux kernel, and what an eBPF program attached to it
//! really gets.
//!
//! ```no_run
//! use tracepoints::Kernel;
//!
//! let kernel = Kernel::live()?;                 // or Kernel::at("a/captured/kernel")
//! let tracepoint = kernel.tracepoint("sched:sched_process_exit")?;
//! let context = tracepoint.context()?;
//! // On Linux 6.18: Some("trace_event_raw_sched_process_exit"), named.
//! println!("{:?}, {}", context.struct_name(), context.evidence().as_str());
//! # Ok::<(), tracepoints::Error>(())
//! ```

mod btf;
mod btf_dir;
mod context;
mod ctype;
pub mod emit;
mod error;
mod event_name;
pub mod format;
mod kernel;
mod layout;
mod raw;
mod read;
mod tracefs;
mod tracepoint;

pub use btf::BtfError;
pub use context::{Context, Evidence, FormatReason, SyscallVariant};
pub use error::Error;
pub use event_name::{EventName, EventPattern, NameError};
pub use kernel::Kernel;
pub use layout::{Difference, DifferenceKind, Layout, Slot};
pub use raw::{RawArgument, RawTracepoint};
pub use tracefs::{Events, RejectedLine};
pub use tracepoint::Tracepoint;

/// The README's example is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
