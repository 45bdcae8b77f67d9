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

mod asm;
mod attach;
mod error;
mod memory;
#[cfg(test)]
mod offline;
mod plan;
mod pretty;
mod program;
mod record;
mod sys;
mod tally;
mod tasks;

pub use error::{ProbeError, UnattachableKind};
pub(crate) use memory::KernelMemory;
pub use pretty::PrettyPrinter;
pub use record::{FieldValue, ProbeRecord};
pub use tally::{Bucket, Counter, Histogram};

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya::maps::{IterableMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya_obj::generated::bpf_map_type;

use crate::access::Access;
use crate::filter::{Filter, FilterError};
use crate::tracepoint::Tracepoint;
use attach::{Attachments, of_system, unattachable, with_memory};
use plan::EventPlan;
use program::{Action, Tasks};
use tasks::{Followed, TaskScope};

/// What to attach to, what to keep and what to leave out: see [`Probe::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is attached yet"]
pub struct ProbeBuilder<'a> {
    events: Vec<&'a Tracepoint<'a>>,
    fields: Option<Vec<String>>,
    filter: Option<Filter>,
    scope: TaskScope,
    data_limit: u32,
    ring_size: u32,
}

impl<'a> ProbeBuilder<'a> {
    /// Keeps these fields of each event, and no others. `pid`, `tid`, `comm` and
    /// `cpu` of an event that has no such field are those of the task, which every
    /// record has. Without this, all fields are kept that programs get.
    pub fn fields<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.fields = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Leaves out what the filter does not hold for, in the kernel.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Only what happens in the threads of this process.
    pub fn process(mut self, pid: u32) -> Self {
        self.scope = TaskScope::Process(pid);
        self
    }

    /// Only what happens in the threads of this process and of its descendants,
    /// those that are there and those to come.
    pub fn process_tree(mut self, pid: u32) -> Self {
        self.scope = TaskScope::Tree(pid);
        self
    }

    /// Keeps at most so many bytes of a string, an array or dynamic data: 256 if
    /// it is not said.
    pub fn data_limit(mut self, bytes: u32) -> Self {
        self.data_limit = bytes;
        self
    }

    /// The size of the ring buffer in bytes, for all CPUs together: a power of two
    /// and whole pages, 1 MiB if it is not said. What does not fit is lost, and
    /// counted.
    pub fn ring_size(mut self, bytes: u32) -> Self {
        self.ring_size = bytes;
        self
    }

    /// Attaches to all events, and hands out a record whenever one happens.
    ///
    /// # Errors
    ///
    /// What [`ProbeError`] lists: fields or filters that do not fit an event, an
    /// event no program can be attached to, missing permissions, kernels that
    /// cannot. Nothing stays attached then.
    pub fn attach(&self) -> Result<Probe, ProbeError> {
        let plans = self
            .events
            .iter()
            .map(|tp| EventPlan::new(tp, self.fields.as_deref(), self.data_limit));
        let plans: Arc<[EventPlan]> = plans.collect::<Result<Vec<_>, _>>()?.into();
        if !self.ring_size.is_power_of_two() {
            return Err(ProbeError::RingSize {
                size: self.ring_size,
            });
        }
        let ring = map_with_memory(|| {
            let ring = aya_obj::Map::new_from_params(
                bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32,
                0,
                0,
                self.ring_size,
                0,
            );
            MapData::create(ring, "tracepoints", None)
        })
        .map_err(|error| match error {
            ProbeError::System { source, .. } if source.raw_os_error() == Some(libc::EINVAL) => {
                match self.ring_size.is_multiple_of(4096) {
                    true => ProbeError::NoRingBuffer,
                    false => ProbeError::RingSize {
                        size: self.ring_size,
                    },
                }
            }
            error => error,
        })?;
        let descriptor = descriptor(&ring);
        let ring = RingBuf::try_from(Map::RingBuf(ring))
            .map_err(|error| map_error("mapping the ring buffer", error))?;
        let attached = self.attach_programs(self.events.len(), |index, counts| Action::Record {
            plan: &plans[index],
            ring: descriptor,
            lost: counts,
        })?;
        Ok(Probe {
            attached,
            ring,
            plans: Arc::clone(&plans),
        })
    }

    /// Attaches to all events, and counts how often each happens; nothing is
    /// handed out for each.
    ///
    /// # Errors
    ///
    /// Those of [`attach`](Self::attach).
    pub fn count(&self) -> Result<Counter, ProbeError> {
        let attached =
            self.attach_programs(self.events.len(), |_, counts| Action::Count { counts })?;
        Ok(Counter::new(self.names(), attached))
    }

    /// Attaches to all events, and counts the values of an integer field of each
    /// by powers of two.
    ///
    /// # Errors
    ///
    /// [`ProbeError::NoInteger`] and those of [`attach`](Self::attach).
    pub fn histogram(&self, field: &str) -> Result<Histogram, ProbeError> {
        let mut sources = Vec::new();
        for event in &self.events {
            let name = || event.name().clone();
            let plan = EventPlan::new(event, Some(&[field.to_owned()]), self.data_limit)?;
            let integer = plan.fields.first().and_then(|field| match field.keep {
                plan::Keep::Integer { size, signed, .. } => Some((field.source, size, signed)),
                _ => None,
            });
            sources.push(integer.ok_or_else(|| ProbeError::NoInteger {
                event: name(),
                field: field.to_owned(),
            })?);
        }
        let entries = self.events.len() * program::BUCKETS as usize;
        let attached = self.attach_programs(entries, |index, counts| {
            let (source, size, signed) = sources[index];
            Action::Histogram {
                counts,
                source,
                size,
                signed,
            }
        })?;
        Ok(Histogram::new(self.names(), attached))
    }

    fn names(&self) -> Vec<crate::EventName> {
        self.events.iter().map(|tp| tp.name().clone()).collect()
    }

    /// Makes the programs, loads them and attaches them: one for each event, with
    /// a per-CPU array of so many counts.
    fn attach_programs<'p>(
        &self,
        counts: usize,
        action: impl Fn(usize, i32) -> Action<'p>,
    ) -> Result<Attached, ProbeError> {
        // One more for the tasks that could not be followed.
        let untracked = u32::try_from(counts).unwrap_or(u32::MAX - 1);
        let counts = map_with_memory(|| PerCpuArray::create(untracked + 1, 0))?;
        let descriptor = descriptor(counts.map());
        let mut attached = Attached {
            programs: Attachments::default(),
            followed: None,
            counts,
            untracked,
        };
        let Some(first) = self.events.first() else {
            return Ok(attached);
        };
        let kernel = first.kernel();
        let dynamic = kernel.dynamic_events();
        let mut programs = Vec::new();
        for event in &self.events {
            self.check(event, &dynamic)?;
        }
        let (tasks, followed) = self.scope.follow(kernel, (descriptor, untracked))?;
        attached.followed = followed;
        for (index, event) in self.events.iter().enumerate() {
            let action = action(index, descriptor);
            programs.push(self.program(index, event, tasks, &action)?);
        }
        for (index, (event, program)) in self.events.iter().zip(&programs).enumerate() {
            attached.programs.attach(event, program, index as u64)?;
        }
        Ok(attached)
    }

    fn check(&self, event: &Tracepoint<'_>, dynamic: &str) -> Result<(), ProbeError> {
        let name = || event.name().clone();
        if !event.kernel().is_live() {
            return Err(ProbeError::NotLive { event: name() });
        }
        match unattachable(event, dynamic) {
            Some(kind) => Err(ProbeError::Unattachable {
                event: name(),
                kind,
            }),
            None => Ok(()),
        }
    }

    fn program(
        &self,
        index: usize,
        event: &Tracepoint<'_>,
        tasks: Tasks,
        action: &Action<'_>,
    ) -> Result<asm::Program, ProbeError> {
        let name = || event.name().clone();
        let bound = match &self.filter {
            None => None,
            Some(filter) => {
                let bound = filter.bind(event.format());
                Some(bound.map_err(|source| ProbeError::Filter {
                    event: name(),
                    source,
                })?)
            }
        };
        let mut accesses = Vec::new();
        if let Some(bound) = &bound {
            let context = event.context()?;
            for (field, access) in Access::of_fields(event, &context)? {
                match access {
                    // The rest of the record, of which a program does not know the end.
                    Some(access)
                        if access.slot.size() == 0
                            && !field.kind().is_dynamic()
                            && bound.asks_for(field) =>
                    {
                        return Err(ProbeError::Filter {
                            event: name(),
                            source: FilterError::Incomparable {
                                field: field.name().to_owned(),
                                is: "an array of no size",
                                with: "anything by a program",
                            },
                        });
                    }
                    Some(access) => accesses.push(access),
                    None if bound.asks_for(field) => {
                        return Err(ProbeError::NotInContext {
                            event: name(),
                            field: field.name().to_owned(),
                        });
                    }
                    None => {}
                }
            }
        }
        let filter = bound.as_ref().map(|bound| (bound.root(), &*accesses));
        program::on_event(index as u32, tasks, filter, action)
            .map_err(|_| ProbeError::LongProgram { event: name() })
    }
}

/// Programs that are attached, and what they count.
pub(crate) struct Attached {
    // Dropped first: the programs are detached before their maps go.
    programs: Attachments,
    followed: Option<Followed>,
    counts: PerCpuArray<MapData, u64>,
    /// Where tasks are counted that could not be followed.
    untracked: u32,
}

impl fmt::Debug for Attached {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.programs.fmt(out)
    }
}

impl Attached {
    /// A count, of all CPUs together.
    fn count(&self, index: u32) -> Result<u64, ProbeError> {
        let counts = self
            .counts
            .get(&index, 0)
            .map_err(|error| map_error("reading counts", error))?;
        Ok(counts.iter().sum())
    }

    fn losses(&self, full: u64) -> Result<Losses, ProbeError> {
        Ok(Losses {
            full,
            skipped: self.programs.skipped()?,
            untracked_tasks: self.count(self.untracked)?,
        })
    }

    fn is_any_task_left(&self) -> Result<bool, ProbeError> {
        match &self.followed {
            Some(followed) => followed.is_any_left(),
            None => Ok(true),
        }
    }
}

/// What a probe has not told, exactly counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Losses {
    /// Records there was no space for in the ring buffer.
    pub full: u64,
    /// Times the kernel did not run a program, because another tracing program ran
    /// on that CPU (Linux 5.12 and later count them).
    pub skipped: u64,
    /// Children of the processes followed that there was no space to follow.
    pub untracked_tasks: u64,
}

impl Losses {
    /// Whether nothing was lost.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

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
    pub fn builder<'a>(
        tracepoints: impl IntoIterator<Item = &'a Tracepoint<'a>>,
    ) -> ProbeBuilder<'a> {
        ProbeBuilder {
            events: tracepoints.into_iter().collect(),
            fields: None,
            filter: None,
            scope: TaskScope::All,
            data_limit: 256,
            ring_size: 1 << 20,
        }
    }

    /// The records that are there, oldest first; it does not wait for more.
    pub fn records(&mut self) -> impl Iterator<Item = ProbeRecord> {
        std::iter::from_fn(|| {
            loop {
                let item = self.ring.next()?;
                if let Some(record) = ProbeRecord::new(&self.plans, &item) {
                    return Some(record);
                }
            }
        })
    }

    /// Waits until there are records, at most so long if a time is given. Says
    /// whether there are.
    ///
    /// # Errors
    ///
    /// [`ProbeError::System`].
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool, ProbeError> {
        // A time nobody lives to see is for ever.
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

/// Readable when there are records: for `poll`, epoll and event loops.
impl AsFd for Probe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
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
