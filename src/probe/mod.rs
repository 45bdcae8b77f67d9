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
//!
//! # How it works
//!
//! A program is made for one event of one kernel, so that nothing in it is relocated, and
//! no object file is needed: `plan` decides what is recorded and where, `program` writes
//! the instructions, and `bpf::sys` makes the system calls. aya creates the maps and reads
//! the ring buffer; it cannot load instructions that are not from an object file.
//!
//! - **One program for each event**, which has the event's index as an immediate. To share
//!   one among the events of a class would take the attach cookie of Linux 5.15. Loading a
//!   program takes a quarter of a millisecond.
//! - **Counts are not atomic.** The kernel runs one tracing program at a time on a CPU
//!   (`bpf_prog_active`), so plain additions to per-CPU values are exact. The kernel counts
//!   the runs it skips for that reason, and [`Losses`] reports them.
//! - **Events are opened without samples** (period 0). Perf refuses to sample events that
//!   its own sampling causes; programs run all the same.
//! - **Ids are used again** when modules are unloaded and loaded. An event that has been
//!   opened, by its id alone, keeps that id. Its format is then read again, by its name, and
//!   must be the one the program was made for, id included; otherwise attaching fails with
//!   [`ProbeError::Changed`].
//! - **The cheapest program** that answers serves an event (`service`): where no field is
//!   needed, `raw_tp` on its tracepoint; and one program each at `sys_enter` and `sys_exit`
//!   serves all system calls (`syscalls`).
//! - **Detaching** closes links, after which no program runs any more, and leaves perf events
//!   to the kernel (`detaching`), which takes 40 ms for each: some 30 s for all of `syscalls:*`
//!   by `tp`. Neither the probe nor the end of the process waits for that.
//! - **Children are followed** by two programs, on `sched_process_fork` and
//!   `sched_process_free`, which keep a map of threads. A thread is removed when it is freed
//!   rather than when it exits, so that events during its exit are seen.
//! - **A raw tracepoint has no record**, and no format file: `btf::path` finds out where a
//!   value is that a path leads to, and `probed` makes it a field like others, so that
//!   filters, groups and records need not know. Only `program::follow` walks along pointers.
//! - **Strings that cannot be read** when a system call begins, since their page was never
//!   touched, are read when it returns (`strings`), and the record is joined (`reading`).
//! - **What pointers point at** in the memory of the process (`pointees`) is read the same way:
//!   what the kernel reads, at entry, and what it writes, at exit.
//! - **A pinned probe** has the layout of its records and keys in a map of its own, with the ids
//!   of all that is read by it (`pin`, `description`).
//! - **Loads by `tp_btf`** are used where the kernel itself answers for the pointer
//!   (`attach::loads_are_safe`). A program that the verifier refuses for its loads is made
//!   again with the helper.
//! - **A filter is one tree** (`filter`): `program` compiles it to jumps, and
//!   [`BoundFilter::matches`](crate::filter::BoundFilter::matches) evaluates it. A property
//!   test runs both on the same bytes, the program under rbpf.

mod attach;
mod attached;
mod buckets;
mod builder;
mod conditions;
mod constants;
mod description;
mod detaching;
mod directions;
mod error;
mod group;
mod grouping;
mod kept;
mod lists;
mod making;
#[cfg(test)]
mod near_wrap;
mod nullable;
#[cfg(test)]
mod offline;
mod pin;
mod plan;
mod pointees;
mod pretty;
mod probed;
mod program;
mod reading;
mod record;
mod service;
mod stacks;
mod strings;
mod summary;
mod syscalls;
mod tally;
mod tasks;

pub use crate::btf::PathError;
pub use attached::Losses;
pub use builder::ProbeBuilder;
pub use error::{PinError, PointeeError, ProbeError, UnattachableKind};
pub use group::{Group, GroupValue, Groups};
pub use nullable::{ArgumentNullness, nullable_arguments};
pub use pin::{PinnedProbe, PinnedResults};
pub use pretty::PrettyPrinter;
pub use probed::RawProgram;
pub use record::{FieldValue, ProbeRecord, SyscallReturn};
pub use service::{PlanReason, PlannedProgram, ProgramPreference};
pub use strings::{StringOrigin, StringReading};
pub use summary::Summary;
pub use tally::{Bucket, Counter, Histogram};

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya::maps::{MapData, MapError, PerCpuArray, RingBuf};

use crate::bpf::sys;
use crate::kernel::Tracepoint;
use attach::{of_system, with_memory};
use attached::Attached;
use plan::EventPlan;
use probed::Probed;
use reading::AwaitedStrings;
use summary::total;
use tasks::TaskScope;

/// Programs attached to one or many events, which return a record for each time an event is
/// hit. Dropping it detaches them.
///
/// ```no_run
/// use std::time::Duration;
/// use tracepoints::Kernel;
/// use tracepoints::probe::Probe;
///
/// let kernel = Kernel::live()?;
/// let exec = kernel.tracepoint("sched:sched_process_exec")?;
/// let mut probe = Probe::builder([&exec]).attach()?;
/// while probe.wait(Some(Duration::from_secs(10)))? {
///     for record in probe.records() {
///         println!("{record}");
///     }
/// }
/// println!("lost: {:?}", probe.losses()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Probe {
    attached: Attached,
    ring: RingBuf<MapData>,
    plans: Arc<[EventPlan]>,
    /// The events' ids.
    ids: Vec<Option<u32>>,
    held: AwaitedStrings,
    lost_returns: Option<PerCpuArray<MapData, u64>>,
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
    /// Returns a builder of a probe on these events of the running kernel.
    pub fn builder<'a>(tracepoints: impl IntoIterator<Item = &'a Tracepoint>) -> ProbeBuilder {
        ProbeBuilder {
            events: tracepoints
                .into_iter()
                .map(|event| Probed::Event(event.clone()))
                .collect(),
            fields: None,
            filter: None,
            of_event: BTreeMap::new(),
            scope: TaskScope::All,
            data_limit: 256,
            ring_size: 1 << 20,
            has_stacks: false,
            preference: ProgramPreference::Cheapest,
            strings: StringReading::default(),
        }
    }

    /// The programs that write records, and which event each serves.
    pub fn plan(&self) -> &[PlannedProgram] {
        &self.attached.plan
    }

    /// Iterates over the records that have arrived, oldest first, without waiting for more.
    pub fn records(&mut self) -> Records<'_> {
        Records { probe: self }
    }

    /// Waits until there are records, at most for the timeout, if one is given. Returns
    /// whether there are records.
    ///
    /// # Errors
    ///
    /// [`ProbeError::System`].
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool, ProbeError> {
        if self.held.is_ready() {
            return Ok(true);
        }
        // An overflowing deadline means no deadline.
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            // Rounded up, so as not to spin during the last fraction of a millisecond.
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

    /// Takes the records that wait for their system call to return, oldest first, because a
    /// string of theirs could not be read at entry: to be called once no more records are
    /// wanted ([`ProbeBuilder::strings`]).
    pub fn unfinished(&mut self) -> Vec<ProbeRecord> {
        self.held.unfinished()
    }

    /// Returns what has been lost since the probe was attached.
    ///
    /// # Errors
    ///
    /// [`ProbeError::System`].
    pub fn losses(&self) -> Result<Losses, ProbeError> {
        let of_events = self.attached.count_of_events(self.plans.len())?;
        let mut full = total([self.held.unheld(), of_events]);
        if let Some(lost) = &self.lost_returns {
            let lost = lost.get(&0, 0);
            let lost = lost.map_err(|error| map_error("reading counts", error))?;
            full = total(lost.iter().copied().chain([full]));
        }
        self.attached.losses(full)
    }

    /// Whether records have stacks ([`ProbeBuilder::stacks`]).
    pub fn has_stacks(&self) -> bool {
        self.plans.iter().any(|plan| plan.stacks.is_some())
    }

    /// Pins it to a new directory of a BPF file system, where it goes on without this process:
    /// see [`PinnedProbe`]. Records stay in the ring buffer until they are read.
    ///
    /// # Errors
    ///
    /// [`ProbeError::Pin`]. It is detached then.
    pub fn pin(self, directory: impl AsRef<Path>) -> Result<PinnedProbe, ProbeError> {
        pin::pin(PinnedResults::Records(Box::new(self)), directory.as_ref())
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
            if let Some(record) = self.probe.held.next() {
                return Some(record);
            }
            let item = self.probe.ring.next()?;
            self.probe.held.take(&self.probe.plans, &item);
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
