//! How a probe is asked for.

use std::collections::BTreeMap;

use aya::maps::{IterableMap, Map, MapData, PerCpuArray, PerCpuHashMap, RingBuf};
use aya_obj::generated::bpf_map_type;

use super::attach::{self, Attachments, unattachable};
use super::attached::Attached;
use super::error::ProbeError;
use super::group::{GROUPS, GroupMap, GroupPlan, Groups};
use super::plan::{EventPlan, Keep};
use super::probed::{Hook, Probed, RawEvent, RawProgram, condition_on_event, sources_on_event};
use super::program::{self, Action, Adding, BUCKETS, Tasks};
use super::tally::{Counter, Histogram};
use super::tasks::TaskScope;
use super::{Probe, descriptor, map_error, map_with_memory};
use crate::bpf::asm::Program;
use crate::filter::Filter;
use crate::kernel::Kernel;
use crate::name::EventName;

/// The events to attach to, the fields to record, and conditions: see [`Probe::builder`].
///
/// ```no_run
/// use tracepoints::Kernel;
/// use tracepoints::probe::Probe;
///
/// let kernel = Kernel::live()?;
/// let enter = kernel.tracepoint("syscalls:sys_enter_openat")?;
/// let exit = kernel.tracepoint("syscalls:sys_exit_openat")?;
/// let probe = Probe::builder([&enter, &exit])
///     .fields_of(enter.name(), ["filename"])
///     .filter_of(exit.name(), "ret < 0".parse()?)
///     .filter("comm == \"cat\"".parse()?)
///     .attach()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is attached yet"]
pub struct ProbeBuilder {
    pub(super) events: Vec<Probed>,
    pub(super) fields: Option<Vec<String>>,
    pub(super) filter: Option<Filter>,
    /// Fields and filters for single events.
    pub(super) of_event: BTreeMap<EventName, OfEvent>,
    pub(super) scope: TaskScope,
    pub(super) data_limit: u32,
    pub(super) ring_size: u32,
    pub(super) has_stacks: bool,
}

/// Fields and filters for one event.
#[derive(Clone, Debug, Default)]
pub(super) struct OfEvent {
    /// In place of the builder's.
    fields: Option<Vec<String>>,
    /// Besides the builder's.
    filter: Option<Filter>,
}

impl ProbeBuilder {
    /// Probes a raw tracepoint, too: its arguments, and what they lead to.
    ///
    /// The names of fields, in filters too, are paths through the arguments as in C:
    /// `prev->comm`, `rq->q->id`, `skb->cb[3]`. Without [`fields`](Self::fields) all
    /// arguments are kept. Records have the event `raw_tp:NAME`, or `tp_btf:NAME` for
    /// [`RawProgram::TpBtf`]. Types, and so what a path reads, are those of the kernel's
    /// BTF. A pointer that is NULL or leads nowhere makes the value
    /// [`Unreadable`](super::FieldValue::Unreadable), and no condition on it holds.
    ///
    /// ```no_run
    /// use tracepoints::Kernel;
    /// use tracepoints::probe::{Probe, RawProgram};
    ///
    /// let kernel = Kernel::live()?;
    /// let mut probe = Probe::builder([])
    ///     .raw_tracepoint(&kernel, "sched_switch", RawProgram::Cheapest)?
    ///     .fields(["prev->pid", "next->comm"])
    ///     .filter("next->mm->owner->pid > 1".parse()?)
    ///     .attach()?;
    /// probe.wait(None)?;
    /// for record in probe.records() {
    ///     println!("{record}");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Kernel::raw_tracepoint`]; [`ProbeError::Ambiguous`].
    pub fn raw_tracepoint(
        mut self,
        kernel: &Kernel,
        name: &str,
        program: RawProgram,
    ) -> Result<Self, ProbeError> {
        self.events
            .push(Probed::Raw(RawEvent::new(kernel, name, program)?));
        Ok(self)
    }

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

    /// Keeps with each record the stacks of the kernel and of user space, at most 64
    /// addresses of each: 1,040 bytes more. What only counts keeps none.
    ///
    /// ```no_run
    /// # use tracepoints::{Kernel, probe::Probe};
    /// let kernel = Kernel::live()?;
    /// let symbols = kernel.addresses()?;
    /// let exec = kernel.tracepoint("sched:sched_process_exec")?;
    /// let mut probe = Probe::builder([&exec]).stacks().attach()?;
    /// probe.wait(None)?;
    /// for record in probe.records() {
    ///     for address in record.kernel_stack() {
    ///         match symbols.symbol(address) {
    ///             Some(symbol) => println!("{}+{:#x}", symbol.name, symbol.offset),
    ///             None => println!("{address:#x}"),
    ///         }
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stacks(mut self) -> Self {
        self.has_stacks = true;
        self
    }

    /// Attaches to all events, and hands out a record whenever one happens.
    ///
    /// # Errors
    ///
    /// Those of [`ProbeError`]: fields or filters that do not fit an event, an event
    /// that no program can be attached to, missing permissions, and kernels without the
    /// necessary features. Nothing stays attached then.
    pub fn attach(&self) -> Result<Probe, ProbeError> {
        let hooks = self.hooks();
        let plans = self.events.iter().zip(&hooks).map(|(event, hooks)| {
            let plan_for = |hook: &Hook| {
                let plan = event.plan(self.wanted_of(event.name()), self.data_limit, *hook)?;
                match self.has_stacks {
                    true => plan.with_stacks(),
                    false => Ok(plan),
                }
            };
            hooks.iter().map(plan_for).collect()
        });
        let plans: Vec<Vec<EventPlan>> = plans.collect::<Result<_, ProbeError>>()?;
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
        let count = self.events.len();
        let attached =
            self.attach_programs(count, &hooks, |(index, hook), maps| Action::Record {
                plan: &plans[index][hook],
                ring: descriptor,
                lost: maps.counts,
            })?;
        // The plans of one event differ in how values are read, and not in where they are
        // in the record.
        let plans = plans
            .into_iter()
            .filter_map(|plans| plans.into_iter().next());
        Ok(Probe {
            attached,
            ring,
            plans: plans.collect::<Vec<_>>().into(),
        })
    }

    /// Attaches to all events, and counts how often each happens; nothing is
    /// handed out for each.
    ///
    /// # Errors
    ///
    /// Those of [`attach`](Self::attach).
    pub fn count(&self) -> Result<Counter, ProbeError> {
        let hooks = self.counting_hooks();
        let attached =
            self.attach_programs(self.events.len(), &hooks, |_, maps| Action::Count {
                counts: maps.counts,
            })?;
        Ok(Counter::new(self.names(), attached))
    }

    /// Attaches to all events, and counts the values of an integer field of each
    /// by powers of two.
    ///
    /// # Errors
    ///
    /// [`ProbeError::NoInteger`] and those of [`attach`](Self::attach).
    pub fn histogram(&self, field: &str) -> Result<Histogram, ProbeError> {
        let hooks = self.hooks();
        let mut sources = Vec::new();
        for (event, hooks) in self.events.iter().zip(&hooks) {
            let source_for = |hook: &Hook| {
                let plan = event.plan(Some(&[field.to_owned()]), self.data_limit, *hook)?;
                let integer = plan.fields.first().and_then(|field| match field.keep {
                    Keep::Integer { size, signed, .. } => {
                        Some((field.source.clone(), size, signed))
                    }
                    _ => None,
                });
                integer.ok_or_else(|| ProbeError::NoInteger {
                    event: event.name().clone(),
                    field: field.to_owned(),
                })
            };
            let of_event: Vec<_> = hooks.iter().map(source_for).collect::<Result<_, _>>()?;
            sources.push(of_event);
        }
        let entries = self.events.len() * BUCKETS as usize;
        let attached = self.attach_programs(entries, &hooks, |(index, hook), maps| {
            let (source, size, signed) = sources[index][hook].clone();
            Action::Histogram {
                counts: maps.counts,
                source,
                size,
                signed,
                unreadable: maps.unreadable,
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
        let hooks = self.hooks();
        let plans = self.events.iter().zip(&hooks).map(|(event, hooks)| {
            let plan_for = |hook: &Hook| GroupPlan::new(event, &by, measured, *hook);
            hooks.iter().map(plan_for).collect()
        });
        let plans: Vec<Vec<GroupPlan>> = plans.collect::<Result<_, ProbeError>>()?;
        let map: GroupMap = map_with_memory(|| PerCpuHashMap::create(GROUPS, 0))?;
        let descriptor = descriptor(map.map());
        let count = self.events.len();
        let attached =
            self.attach_programs(count, &hooks, |(index, hook), maps| Action::Group {
                plan: &plans[index][hook],
                map: descriptor,
                lost: maps.counts,
                unreadable: maps.unreadable,
            })?;
        // They differ in how values are read, and not in where they are in a key.
        let plans = plans
            .into_iter()
            .filter_map(|plans| plans.into_iter().next());
        Ok(Groups::new(attached, map, plans.collect()))
    }

    /// How each event's programs may get at their values: what is tried first comes first.
    fn hooks(&self) -> Vec<Vec<Hook>> {
        let is_raw = |event: &&Probed| matches!(event, Probed::Raw(_));
        let first = self.events.iter().find(is_raw);
        let is_safe = first.is_some_and(|event| attach::loads_are_safe(event.kernel()));
        self.events
            .iter()
            .map(|event| event.hooks(is_safe))
            .collect()
    }

    /// The same where no value is read but those a filter asks for.
    fn counting_hooks(&self) -> Vec<Vec<Hook>> {
        match self.filter.is_some() || self.of_event.values().any(|own| own.filter.is_some()) {
            true => self.hooks(),
            false => self.events.iter().map(|event| event.hooks(false)).collect(),
        }
    }

    fn names(&self) -> Vec<EventName> {
        self.events.iter().map(|one| one.name().clone()).collect()
    }

    /// Makes the programs, loads them and attaches them: one for each event, with
    /// a per-CPU array of so many counts. An action is that of the event and of the hook
    /// with these indexes.
    fn attach_programs<'p>(
        &self,
        counts: usize,
        hooks: &[Vec<Hook>],
        action: impl Fn((usize, usize), &CountMap) -> Action<'p>,
    ) -> Result<Attached, ProbeError> {
        // Two more: for the tasks that could not be followed, and for unreadable values.
        let untracked = u32::try_from(counts).unwrap_or(u32::MAX - 2);
        let counts = map_with_memory(|| PerCpuArray::create(untracked + 2, 0))?;
        let maps = CountMap {
            counts: descriptor(counts.map()),
            unreadable: untracked + 1,
        };
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
        for event in &self.events {
            check(event, &dynamic)?;
        }
        let (tasks, followed) = self.scope.follow(kernel, (maps.counts, untracked))?;
        attached.followed = followed;
        // All programs are made before the first is attached: what is wrong with one is
        // known early.
        let mut programs = Vec::new();
        for (index, (event, hooks)) in self.events.iter().zip(hooks).enumerate() {
            let made = hooks.iter().enumerate().map(|(at, hook)| {
                let action = action((index, at), &maps);
                let program = self.program((index, event), *hook, tasks, &action)?;
                Ok((*hook, program))
            });
            programs.push(made.collect::<Result<Vec<_>, ProbeError>>()?);
        }
        for (index, (event, programs)) in self.events.iter().zip(&programs).enumerate() {
            attach_first(&mut attached.programs, (index, event), programs)?;
        }
        Ok(attached)
    }

    fn program(
        &self,
        (index, event): (usize, &Probed),
        hook: Hook,
        tasks: Tasks,
        action: &Action<'_>,
    ) -> Result<Program, ProbeError> {
        let adding = match event {
            Probed::Event(_) => Adding::Plain,
            Probed::Raw(_) => Adding::Atomic,
        };
        let filter = self.condition_of(event.name());
        let made = match (event, &filter) {
            (_, None) => program::on_event(index as u32, tasks, None, action, adding),
            (Probed::Event(event), Some(filter)) => {
                let bound = condition_on_event(event, filter)?;
                let sources = sources_on_event(event, &bound)?;
                let filter = Some((bound.root(), &*sources));
                program::on_event(index as u32, tasks, filter, action, adding)
            }
            (Probed::Raw(raw), Some(filter)) => {
                let (format, sources, prints) = raw.filtered(filter, hook)?;
                let bound = raw.bind(filter, &format, &prints)?;
                let sources: Vec<_> = format.fields().iter().zip(sources).collect();
                let filter = Some((bound.root(), &*sources));
                program::on_event(index as u32, tasks, filter, action, adding)
            }
        };
        made.map_err(|_| ProbeError::LongProgram {
            event: event.name().clone(),
        })
    }
}

/// Where a probe counts.
struct CountMap {
    counts: i32,
    /// The key of values that cannot be read.
    unreadable: u32,
}

fn check(event: &Probed, dynamic: &str) -> Result<(), ProbeError> {
    let name = || event.name().clone();
    if !event.kernel().is_live() {
        return Err(ProbeError::NotLive { event: name() });
    }
    let kind = match event {
        Probed::Event(event) => unattachable(event, dynamic),
        Probed::Raw(_) => None,
    };
    match kind {
        Some(kind) => Err(ProbeError::Unattachable {
            event: name(),
            kind,
        }),
        None => Ok(()),
    }
}

/// Attaches the first of these programs that the kernel takes.
fn attach_first(
    attachments: &mut Attachments,
    (index, event): (usize, &Probed),
    programs: &[(Hook, Program)],
) -> Result<(), ProbeError> {
    let mut rest = programs.iter();
    while let Some((hook, program)) = rest.next() {
        let attached = match event {
            Probed::Event(event) => attachments.attach(event, program, index as u64),
            Probed::Raw(raw) => attachments.attach_raw(raw, *hook, program),
        };
        match attached {
            // The verifier has no types for some arguments, and does not see into all
            // structs.
            Err(ProbeError::Rejected { .. } | ProbeError::NoTpBtf { .. })
                if !rest.as_slice().is_empty() => {}
            other => return other,
        }
    }
    Ok(())
}
