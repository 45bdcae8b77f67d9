//! Recordings of other programs: `trace.dat`, which `trace-cmd record` writes.
//!
//! A recording holds what is needed to read it: the formats of the kernel's events,
//! `header_page`, symbols, names of tasks, byte order ([`RecordedKernel`]), and each CPU's
//! pages of the ring buffer, of one or more buffers. [`Kernel::recorded`] makes a kernel of
//! the files, and [`record::ring`](crate::record::ring) reads the pages.
//!
//! - `trace_dat` reads a file, of version 6 one part after the other;
//! - `sections` reads version 7, in which options point to sections, compressed or not;
//! - `files` reads the part with the kernel's files, which both versions have;
//! - `unpack` decompresses.
//!
//! The versions are described in `trace-cmd.dat.v6(5)` and `trace-cmd.dat.v7(5)` of
//! trace-cmd; where these are silent, this follows what its `lib/trace-cmd/trace-input.c`
//! of 3.1 reads. Recordings are untrusted input: the limits are in `docs/limits.md`.
//! Nothing here does I/O.
//!
//! ```no_run
//! use tracepoints::{Kernel, record::recording::TraceDat};
//!
//! let bytes = std::fs::read("trace.dat")?;
//! let recording = TraceDat::parse(&bytes)?;
//! let kernel = Kernel::recorded("trace.dat", recording.kernel());
//! let (layout, events) = (kernel.page_layout()?, kernel.events_by_id()?);
//! for buffer in recording.buffers() {
//!     let layout = buffer.layout(layout);
//!     for cpu in buffer.cpus() {
//!         for page in layout.pages(cpu.bytes(), events.machine().byte_order()) {
//!             for entry in page?.entries() {
//!                 let entry = entry?;
//!                 let (name, record) = events.record(entry.bytes())?;
//!                 println!("[{:03}] {} {name}", cpu.cpu(), entry.timestamp());
//!                 # let _ = record;
//!             }
//!         }
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Kernel::recorded`]: crate::Kernel::recorded

mod cursor;
mod error;
mod files;
mod sections;
mod trace_dat;
mod unpack;

pub use error::{RecordingError, RecordingPlace, UnpackReason};
pub use files::RecordedKernel;
pub use trace_dat::{CpuPages, TraceBuffer, TraceDat};
