//! Probes: programs attached to tracepoints, and what they hand out.
//!
//! The programs are made here, for the context the running kernel really gives
//! them: there is no clang, no libbpf and no object file. It takes Linux 5.8 or
//! later (ring buffers), and root, or `CAP_BPF` and `CAP_PERFMON`.
//!
//! ```no_run
//! use tracepoints::Kernel;
//! use tracepoints::probe::Probe;
//!
//! let kernel = Kernel::live()?;
//! let unlink = kernel.tracepoint("syscalls:sys_enter_unlinkat")?;
//! let mut probe = Probe::builder([&unlink])
//!     .fields(["pathname"])
//!     .filter("comm == \"rm\"".parse()?)
//!     .attach()?;
//! loop {
//!     probe.wait(None)?;
//!     for record in probe.records() {
//!         println!("{record}");
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A probe that is dropped detaches all its programs.

mod attach;
mod attached;
mod builder;
mod constants;
mod error;
mod group;
mod grouping;
#[cfg(test)]
mod offline;
mod plan;
mod pretty;
mod program;
mod record;
mod tally;
mod tasks;

pub use attached::Losses;
pub use builder::ProbeBuilder;
pub use error::{ProbeError, UnattachableKind};
pub use group::{Group, GroupValue, Groups, Summary};
pub use pretty::PrettyPrinter;
pub use record::{FieldValue, ProbeRecord};
pub use tally::{Bucket, Counter, Histogram};

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya::maps::{MapData, MapError, RingBuf};

use crate::bpf::sys;
use crate::kernel::Tracepoint;
use attach::{of_system, with_memory};
use attached::Attached;
use plan::EventPlan;
use tasks::TaskScope;

/// Programs on one event or on hundreds, that hand out a record each time.
pub struct Probe {
    attached: Attached,
    ring: RingBuf<MapData>,
    plans: Arc<[EventPlan]>,
}

impl fmt::Debug for Probe {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = self.plans.iter().map(|plan| &plan.name);
        out.debug_struct("Probe")
            .field("events", &events.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Probe {
    /// Begins a probe on these events of the running kernel.
    pub fn builder<'a>(tracepoints: impl IntoIterator<Item = &'a Tracepoint>) -> ProbeBuilder {
        ProbeBuilder {
            events: tracepoints.into_iter().cloned().collect(),
            fields: None,
            filter: None,
            of_event: BTreeMap::new(),
            scope: TaskScope::All,
            data_limit: 256,
            ring_size: 1 << 20,
        }
    }

    /// The records that are there, oldest first; it does not wait for more.
    pub fn records(&mut self) -> Records<'_> {
        Records { probe: self }
    }

    /// Waits until there are records, or until the timeout ends, where one is given.
    /// Returns whether there are records.
    ///
    /// # Errors
    ///
    /// [`ProbeError::System`].
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool, ProbeError> {
        // An overflowing deadline means no deadline.
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            // Rounded up: not to spin through the last part of a millisecond.
            let milliseconds = left.map_or(-1, |left| {
                i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
            });
            match sys::poll(self.as_fd(), milliseconds) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    if left.is_some_and(|left| left.is_zero()) {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(of_system("waiting for records", error)),
                Ok(ready) => return Ok(ready),
            }
        }
    }

    /// What has been lost since the probe was attached.
    ///
    /// # Errors
    ///
    /// [`ProbeError::System`].
    pub fn losses(&self) -> Result<Losses, ProbeError> {
        let mut full = 0;
        for index in 0..self.plans.len() {
            full += self.attached.count(index as u32)?;
        }
        self.attached.losses(full)
    }

    /// Whether the process followed by
    /// [`process_tree`](ProbeBuilder::process_tree) or any descendant of it is
    /// still there; true if none is followed.
    ///
    /// # Errors
    ///
    /// [`ProbeError::System`].
    pub fn is_any_task_left(&self) -> Result<bool, ProbeError> {
        self.attached.is_any_task_left()
    }
}

/// The records that are there, oldest first: see [`Probe::records`].
#[derive(Debug)]
pub struct Records<'p> {
    probe: &'p mut Probe,
}

impl Iterator for Records<'_> {
    type Item = ProbeRecord;

    fn next(&mut self) -> Option<ProbeRecord> {
        loop {
            let item = self.probe.ring.next()?;
            if let Some(record) = ProbeRecord::new(&self.probe.plans, &item) {
                return Some(record);
            }
        }
    }
}

/// Readable when there are records: for `poll`, epoll and event loops.
impl AsFd for Probe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// For event loops that take the raw descriptor, such as tokio's `AsyncFd`.
impl AsRawFd for Probe {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_fd().as_raw_fd()
    }
}

pub(crate) fn descriptor(map: &MapData) -> i32 {
    map.fd().as_fd().as_raw_fd()
}

/// Makes a map, with as much memory as it takes.
pub(crate) fn map_with_memory<T>(
    create: impl Fn() -> Result<T, MapError>,
) -> Result<T, ProbeError> {
    let create = || create().map_err(io_error);
    with_memory(create).map_err(|error| of_system("making maps", error))
}

pub(crate) fn map_error(what: &'static str, error: MapError) -> ProbeError {
    of_system(what, io_error(error))
}

fn io_error(error: MapError) -> io::Error {
    match error {
        MapError::CreateError { io_error, .. } | MapError::IoError(io_error) => io_error,
        MapError::SyscallError(error) => error.io_error,
        other => io::Error::other(other.to_string()),
    }
}
