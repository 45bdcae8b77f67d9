//! Every tracepoint of a Linux kernel, and the context that an eBPF program attached to it
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
//!
//! A program of type `BPF_PROG_TYPE_TRACEPOINT` gets a struct named after the event's
//! *class*, which changes between kernels; for system calls it is not always the struct
//! that is commonly used. Only the kernel at hand can tell: [`Kernel`] reads its tracefs
//! and its BTF, [`Tracepoint`] is one of its events, and [`Context`] the answer with its
//! [`Evidence`], which also says whether it is proven. Where nothing tells, the answer is
//! a list of candidates, and without BTF there is no name.
//!
//! [`format`](mod@format) reads and writes format files; [`emit`] writes
//! contexts in C and Rust, and whole programs; [`RawTracepoint`](context::RawTracepoint) is what
//! `raw_tp` and `tp_btf` programs get. [`record::ring`] reads pages of the ring buffer;
//! [`EventsById`](kernel::EventsById) knows which event a [`Record`] is of, whoever wrote it down, and
//! [`TraceContext`](text::TraceContext) and [`Renderer`] show it as the kernel's `trace` file does.
#![cfg_attr(
    all(feature = "probe", target_os = "linux"),
    doc = "[`probe`] attaches programs to events and hands out what happens."
)]
#![cfg_attr(
    not(all(feature = "probe", target_os = "linux")),
    doc = "The feature `probe` attaches programs to events, on Linux."
)]
//!
//! # Kernel support
//!
//! Any kernel with tracefs can be listed. Context structs are known where the
//! kernel has BTF that describes its tracepoints (Linux 5.5 and later, with
//! `CONFIG_DEBUG_INFO_BTF`), of modules' events where modules have BTF (5.11).
//! Since Linux 7.3 the kernel itself says which class an event has. Both byte
//! orders and both word sizes are read; captured kernels on any system.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "audit")]
pub mod audit;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod bpf;
pub mod btf;
pub mod context;
pub mod diff;
pub mod emit;
mod error;
mod files;
pub mod filter;
pub mod format;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "image")]
pub mod image;
pub mod kernel;
pub mod layout;
#[cfg(all(test, feature = "probe", target_os = "linux"))]
mod live_test;
mod machine;
pub mod name;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod patch;
#[cfg(all(feature = "probe", target_os = "linux"))]
pub mod probe;
pub mod record;
#[cfg(all(feature = "probe", target_os = "linux"))]
pub mod sites;
pub mod text;

pub use context::{Context, Evidence};
pub use error::{Error, FileError};
pub use filter::Filter;
pub use kernel::{Kernel, Tracepoint};
pub use machine::{ByteOrder, Machine};
pub use name::{EventName, EventPattern};
pub use record::{Record, Value};
pub use text::Renderer;

/// Stages of discovery that are no API, for the benches to measure alone.
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod stages {
    /// Checks and indexes a BTF object's bytes; returns how many tracepoints it
    /// defines.
    ///
    /// # Errors
    ///
    /// [`BtfError`](crate::btf::BtfError) where the object is not sound.
    pub fn index_btf(bytes: Vec<u8>) -> Result<usize, crate::btf::BtfError> {
        let object = crate::btf::Object::parse("vmlinux".to_owned(), bytes, None)?;
        Ok(object.index().event_names().count())
    }
}

/// The README's example is compiled and run.
#[cfg(all(doctest, feature = "probe"))]
#[doc = include_str!("../README.md")]
struct Readme;
