//! Recordings of other programs: `trace.dat`, which `trace-cmd record` writes, and
//! `perf.data` of `perf record`.
//!
//! A recording holds what is needed to read it: the formats of the kernel's events,
//! `header_page`, symbols, names of tasks, byte order ([`RecordedKernel`]).
//! [`Kernel::recorded`] makes a kernel of these files. The records are
//!
//! - in a `trace.dat`, in each CPU's pages of the ring buffer, of one or more buffers, which
//!   [`record::ring`](crate::record::ring) reads;
//! - in a `perf.data`, the raw data (`PERF_SAMPLE_RAW`) of samples of tracepoints, among
//!   records that tell the names of threads, and losses.
//!
//! The modules:
//!
//! - `trace_dat` reads a file, of version 6 one part after the other;
//! - `sections` reads version 7, in which options point to sections, compressed or not;
//! - `perf_data` reads the header of a `perf.data`, `perf_records` its records, and
//!   `perf_attr` the descriptions of events, on which the form of records depends;
//! - `files` reads the part with the kernel's files, which all have;
//! - `unpack` decompresses;
//! - `write_dat` writes a `trace.dat` ([`TraceDatWriter`]), and `write_ctf` the Common Trace
//!   Format ([`CtfWriter`]).
//!
//! The versions of `trace.dat` are described in `trace-cmd.dat.v6(5)` and
//! `trace-cmd.dat.v7(5)` of trace-cmd; where these are silent, this follows what its
//! `lib/trace-cmd/trace-input.c` of 3.1 reads. `perf.data` is described in
//! `tools/perf/Documentation/perf.data-file-format.txt` of Linux; where that is silent, this
//! follows `tools/perf/util/header.c`, `session.c` and `trace-event-info.c` of Linux 6.18.
//! Recordings are untrusted input: the limits are in `docs/limits.md`. Nothing here does
//! I/O.
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
//! A `perf.data` has its records in order:
//!
//! ```no_run
//! use tracepoints::{Kernel, record::recording::{PerfData, PerfEntry}};
//!
//! let bytes = std::fs::read("perf.data")?;
//! let recording = PerfData::parse(&bytes)?;
//! let kernel = Kernel::recorded("perf.data", recording.kernel());
//! let events = kernel.events_by_id()?;
//! for entry in recording.entries() {
//!     if let PerfEntry::Sample(sample) = entry {
//!         let (name, record) = events.record(sample.record)?;
//!         println!("[{:03}] {} {name}", sample.cpu, sample.time);
//!         # let _ = record;
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Kernel::recorded`]: crate::Kernel::recorded

mod buffers;
mod cursor;
mod error;
mod files;
mod perf_attr;
mod perf_data;
mod perf_records;
mod sections;
mod trace_dat;
mod unpack;
mod write_ctf;
mod write_dat;

pub use error::{RecordingError, RecordingPlace, UnpackReason};
pub use files::RecordedKernel;
pub use perf_data::{PerfData, PerfEntry, PerfSample};
pub use trace_dat::{CpuPages, TraceBuffer, TraceDat};
pub use write_ctf::{CtfWriter, Occurrence};
pub use write_dat::{RecordingWriteError, TraceDatWriter};
