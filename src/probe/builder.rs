//! How a probe is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use aya::maps::{IterableMap, Map, MapData, PerCpuArray, PerCpuHashMap, RingBuf};
use aya_obj::generated::bpf_map_type;

use super::attach::{Attachments, unattachable};
use super::attached::Attached;
use super::constants;
use super::error::ProbeError;
use super::group::{GROUPS, GroupMap, GroupPlan, Groups};
use super::plan::{EventPlan, Keep};
use super::program::{self, Action, BUCKETS, Tasks};
use super::tally::{Counter, Histogram};
use super::tasks::TaskScope;
use super::{Probe, descriptor, map_error, map_with_memory};
use crate::bpf::asm::Program;
use crate::context::access::Access;
use crate::filter::{Filter, FilterError};
use crate::kernel::Tracepoint;
use crate::name::EventName;

/// What to attach to, what to keep and what to leave out: see [`Probe::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is attached yet"]
pub struct ProbeBuilder {
    pub(super) events: Vec<Tracepoint>,
    pub(super) fields: Option<Vec<String>>,
    pub(super) filter: Option<Filter>,
    /// What is wanted of some events alone.
    pub(super) of_event: BTreeMap<EventName, OfEvent>,
    pub(super) scope: TaskScope,
    pub(super) data_limit: u32,
    pub(super) ring_size: u32,
}

/// What is wanted of one event alone.
#[derive(Clone, Debug, Default)]
pub(super) struct OfEvent {
    /// In place of the builder's.
    fields: Option<Vec<String>>,
    /// Besides the builder's.
    filter: Option<Filter>,
}

impl ProbeBuilder {
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

    /// Keeps these fields of one event, in place of those [`fields`](Self::fields) names.
    /// An event that is not among the builder's is ignored.
    pub fn fields_of<S: Into<String>>(
        mut self,
        event: &EventName,
        names: impl IntoIterator<Item = S>,
    ) -> Self {
        let of_event = self.of_event.entry(event.clone()).or_default();
        of_event.fields = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Leaves out of one event what this filter does not hold for, besides what
    /// [`filter`](Self::filter) leaves out. An event that is not among the builder's is
    /// ignored.
    pub fn filter_of(mut self, event: &EventName, filter: Filter) -> Self {
        self.of_event.entry(event.clone()).or_default().filter = Some(filter);
        self
    }

    fn wanted_of(&self, event: &EventName) -> Option<&[String]> {
        let own = self
            .of_event
            .get(event)
            .and_then(|own| own.fields.as_deref());
        own.or(self.fields.as_deref())
    }

    fn condition_of(&self, event: &EventName) -> Option<Filter> {
        let own = self.of_event.get(event).and_then(|own| own.filter.clone());
        match (self.filter.clone(), own) {
            (Some(all), Some(own)) => Some(all.and(own)),
            (all, own) => all.or(own),
        }
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

    /// Limits a kept string, array or dynamic data to this many bytes. Default: 256
    /// bytes.
    pub fn data_limit(mut self, bytes: u32) -> Self {
        self.data_limit = bytes;
        self
    }

    /// Sets the size of the ring buffer in bytes, for all CPUs together: a power of two
    /// and whole pages. Default: 1 MiB. Records that do not fit are lost and counted.
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
            .map(|tp| EventPlan::new(tp, self.wanted_of(tp.name()), self.data_limit));
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
                Keep::Integer { size, signed, .. } => Some((field.source, size, signed)),
                _ => None,
            });
            sources.push(integer.ok_or_else(|| ProbeError::NoInteger {
                event: name(),
                field: field.to_owned(),
            })?);
        }
        let entries = self.events.len() * BUCKETS as usize;
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

    /// Attaches to all events, and counts in the kernel how often each happens with the
    /// same values of these fields, or of the task's `pid`, `tid`, `comm` and `cpu`, which
    /// are `task.pid` and so on where the event has fields of these names. Where a field
    /// is to be measured, also what its values come to. There are at most 10,240 groups.
    ///
    /// ```no_run
    /// # use tracepoints::{Kernel, probe::Probe};
    /// let kernel = Kernel::live()?;
    /// let read = kernel.tracepoint("syscalls:sys_exit_read")?;
    /// let by_command = Probe::builder([&read]).group_by(&["comm"], Some("ret"))?;
    /// std::thread::sleep(std::time::Duration::from_secs(1));
    /// for group in by_command.groups()? {
    ///     println!("{}: {} reads", group.key[0], group.count);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ProbeError::NoKey`], [`ProbeError::LongKey`], [`ProbeError::NoInteger`] and those
    /// of [`attach`](Self::attach).
    pub fn group_by(
        &self,
        fields: &[impl AsRef<str>],
        measured: Option<&str>,
    ) -> Result<Groups, ProbeError> {
        let by: Vec<String> = fields
            .iter()
            .map(|field| field.as_ref().to_owned())
            .collect();
        let plans = self
            .events
            .iter()
            .map(|event| GroupPlan::new(event, &by, measured));
        let plans = plans.collect::<Result<Vec<_>, _>>()?;
        let map: GroupMap = map_with_memory(|| PerCpuHashMap::create(GROUPS, 0))?;
        let descriptor = descriptor(map.map());
        let attached = self.attach_programs(self.events.len(), |index, lost| Action::Group {
            plan: &plans[index],
            map: descriptor,
            lost,
        })?;
        Ok(Groups::new(attached, map, plans))
    }

    fn names(&self) -> Vec<EventName> {
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

    fn check(&self, event: &Tracepoint, dynamic: &str) -> Result<(), ProbeError> {
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
        event: &Tracepoint,
        tasks: Tasks,
        action: &Action<'_>,
    ) -> Result<Program, ProbeError> {
        let name = || event.name().clone();
        let filter = self.condition_of(event.name());
        let bound = match &filter {
            None => None,
            Some(filter) => {
                let names_of = |field: &str| event.field_print(field).unwrap_or_default();
                let constant = |field: &str, name: &str| constants::value(event, field, name);
                let bound = filter.bind_with(event.format(), &names_of, &constant);
                Some(bound.map_err(|source| ProbeError::Filter {
                    event: name(),
                    source,
                })?)
            }
        };
        let mut accesses = Vec::new();
        if let Some(bound) = &bound {
            let context = event.context()?;
            for (field, access) in Access::of_fields(event.format(), &context)? {
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
