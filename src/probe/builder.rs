//! How a probe is asked for.

use std::collections::BTreeMap;

use aya::maps::{IterableMap, Map, MapData, PerCpuHashMap, RingBuf};
use aya_obj::generated::bpf_map_type;

use super::error::ProbeError;
use super::group::{GROUPS, GroupMap, GroupPlan, Groups};
use super::plan::{EventPlan, Keep};
use super::probed::{Probed, RawEvent, RawProgram};
use super::program::{Action, BUCKETS};
use super::reading::AwaitedStrings;
use super::service::{ProgramPreference, Use};
use super::stacks::{self, StackMaps};
use super::strings::StringReading;
use super::syscalls::SyscallSlots;
use super::tally::{Counter, Histogram};
use super::tasks::TaskScope;
use super::{Probe, descriptor, map_error, map_with_memory};
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
    pub(super) preference: ProgramPreference,
    pub(super) strings: StringReading,
}

/// Fields and filters for one event.
#[derive(Clone, Debug, Default)]
pub(super) struct OfEvent {
    /// In place of the builder's.
    fields: Option<Vec<String>>,
    /// Besides the builder's.
    pub(super) filter: Option<Filter>,
    /// Whether records have what the call returned.
    returns: bool,
    /// The condition on the result, apart from the others, which are in its place then.
    on_return: Option<Filter>,
    at_entry: Option<Filter>,
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

    /// Keeps these fields of each event, and no others. `pid`, `tid`, `comm` and `cpu` of an event
    /// that has no such field are the task's. `*NAME` is what an argument of a system call points at
    /// ([`TypedValue`](crate::record::TypedValue)), `*` all of this and all fields. Default: all fields.
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

    pub(super) fn wanted_of(&self, event: &EventName) -> Option<&[String]> {
        let own = self
            .of_event
            .get(event)
            .and_then(|own| own.fields.as_deref());
        own.or(self.fields.as_deref())
    }

    /// Makes one record of a system call's begin and its return: the event is one of
    /// `syscalls:sys_enter_*`, and [`ProbeRecord::returned`](super::ProbeRecord::returned) has
    /// the result and the duration. Its records come when calls return; strings are read then,
    /// too, and those that changed are marked. What waits for a call that does not return is in
    /// [`Probe::unfinished`]. Other events, and those not among the builder's, are ignored.
    ///
    /// A filter of the event may ask for the result, `ret`, in conditions that are combined with
    /// others by `&&`: `ret < 0 && flag == 0`. Calls that have not returned do not pass then.
    ///
    /// ```no_run
    /// # use tracepoints::{Kernel, probe::Probe};
    /// let kernel = Kernel::live()?;
    /// let unlink = kernel.tracepoint("syscalls:sys_enter_unlinkat")?;
    /// let builder = Probe::builder([&unlink]).returns_of(unlink.name());
    /// let mut probe = builder.attach()?;
    /// probe.wait(None)?;
    /// for record in probe.records() {
    ///     if let Some(returned) = record.returned() {
    ///         println!("{record}: {} in {:?}", returned.value, returned.duration);
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn returns_of(mut self, event: &EventName) -> Self {
        self.of_event.entry(event.clone()).or_default().returns = true;
        self
    }

    /// Whether [`returns_of`](Self::returns_of) names the event.
    pub(super) fn has_returns(&self, event: &EventName) -> bool {
        self.of_event.get(event).is_some_and(|own| own.returns)
    }

    /// Sets the conditions on what a call returned apart from the others.
    pub(super) fn set_results_apart(
        &mut self,
        event: &EventName,
        on_return: Filter,
        at_entry: Option<Filter>,
    ) {
        let own = self.of_event.entry(event.clone()).or_default();
        own.on_return = Some(on_return);
        own.at_entry = at_entry;
    }

    /// Whether [`filter_of`](Self::filter_of) names the event.
    pub(super) fn has_own_filter(&self, event: &EventName) -> bool {
        self.of_event
            .get(event)
            .is_some_and(|own| own.filter.is_some())
    }

    /// Returns the condition on what a call returned, once it is set apart.
    pub(super) fn return_condition_of(&self, event: &EventName) -> Option<&Filter> {
        self.of_event.get(event)?.on_return.as_ref()
    }

    pub(super) fn condition_of(&self, event: &EventName) -> Option<Filter> {
        if let Some(own) = self
            .of_event
            .get(event)
            .filter(|own| own.on_return.is_some())
        {
            return own.at_entry.clone();
        }
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

    /// Chooses the type of the programs that serve events: `tp`, or `raw_tp` on the events'
    /// tracepoints, which costs half as much and gets no fields. Default:
    /// [`ProgramPreference::Cheapest`]. What was chosen, and why, is in `plan` of what is
    /// attached.
    ///
    /// ```no_run
    /// # use tracepoints::{Kernel, probe::{Probe, ProgramPreference}};
    /// let kernel = Kernel::live()?;
    /// let switch = kernel.tracepoint("sched:sched_switch")?;
    /// let builder = Probe::builder([&switch]);
    /// let cheap = builder.count()?;
    /// assert_eq!(cheap.plan()[0].section, "raw_tp/sched_switch");
    /// let with_record = builder.program(ProgramPreference::Tp).count()?;
    /// assert_eq!(with_record.plan()[0].section, "tp/sched/sched_switch");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Raw tracepoints have their own choice, [`RawProgram`].
    pub fn program(mut self, preference: ProgramPreference) -> Self {
        self.preference = preference;
        self
    }

    /// Chooses when strings are read that system calls get (`filename` of
    /// `sys_enter_openat`). Default: [`StringReading::WhereReadable`].
    ///
    /// A program at entry cannot read what is in a page that the process has not touched yet:
    /// up to half of all file names. Such a string is read again when the call returns, and
    /// its record comes then, with the time of entry, behind records of other threads;
    /// [`ProbeRecord::string_origin`](super::ProbeRecord::string_origin) says so. What waits
    /// for a call that does not return is in [`Probe::unfinished`]. Filters and groups decide at
    /// entry, where such a string equals nothing. Where a call writes to a string (`buf` of
    /// `sys_enter_readlink`), what is there at exit is its answer.
    ///
    /// ```no_run
    /// # use tracepoints::{Kernel, probe::{Probe, StringOrigin, StringReading}};
    /// let kernel = Kernel::live()?;
    /// let open = kernel.tracepoint("syscalls:sys_enter_openat")?;
    /// let mut probe = Probe::builder([&open])
    ///     .fields(["filename"])
    ///     .strings(StringReading::Twice)
    ///     .attach()?;
    /// probe.wait(None)?;
    /// for record in probe.records() {
    ///     if record.string_origin("filename") == Some(StringOrigin::Rewritten) {
    ///         println!("changed while it was opened: {record}");
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn strings(mut self, reading: StringReading) -> Self {
        self.strings = reading;
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
        match self.with_results_apart()? {
            Some(builder) => builder.attach_records(),
            None => self.attach_records(),
        }
    }

    fn attach_records(&self) -> Result<Probe, ProbeError> {
        let served = self.served(Use::Records)?;
        let plans = self.events.iter().zip(&served).map(|(event, served)| {
            served.for_each_hook(|hook| {
                let mut plan = event.plan(self.wanted_of(event.name()), self.data_limit, *hook)?;
                plan.needs_return = self.return_condition_of(event.name()).is_some();
                match self.has_stacks {
                    true => plan.with_stacks(),
                    false => Ok(plan),
                }
            })
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
        let returns = self.attach_returns(&plans, descriptor)?;
        let mut attached =
            self.attach_programs(count, &served, |(index, hook), maps| Action::Record {
                plan: &plans[index][hook],
                ring: descriptor,
                lost: maps.counts,
                waiting: returns.waiting_for(index),
            })?;
        attached.programs.append(returns.programs);
        attached.plan.extend(returns.plan);
        // The plans of one event differ in how values are read, and not in where they are
        // in the record.
        let plans = plans
            .into_iter()
            .filter_map(|plans| plans.into_iter().next());
        Ok(Probe {
            attached,
            ring,
            plans: plans.collect::<Vec<_>>().into(),
            ids: self.events.iter().map(Probed::id).collect(),
            held: AwaitedStrings::default(),
            lost_returns: returns.lost,
        })
    }

    /// Attaches to all events, and counts how often each happens; nothing is
    /// handed out for each.
    ///
    /// # Errors
    ///
    /// Those of [`attach`](Self::attach).
    pub fn count(&self) -> Result<Counter, ProbeError> {
        let served = self.served(Use::Count)?;
        let count = self.events.len();
        let attached = self.attach_programs(count, &served, |_, maps| Action::Count {
            counts: maps.counts,
        })?;
        let slots = SyscallSlots::new(&served, attached.end);
        let keys = served.iter().zip(0..);
        let keys = keys.map(|(served, index)| slots.key(index, &served.service));
        let events = self.names().into_iter().zip(keys);
        Ok(Counter::new(events.collect(), attached))
    }

    /// Attaches to all events, and counts the values of an integer field of each
    /// by powers of two.
    ///
    /// # Errors
    ///
    /// [`ProbeError::NoInteger`] and those of [`attach`](Self::attach).
    pub fn histogram(&self, field: &str) -> Result<Histogram, ProbeError> {
        let served = self.served(Use::Values)?;
        let mut sources = Vec::new();
        for (event, served) in self.events.iter().zip(&served) {
            sources.push(served.for_each_hook(|hook| {
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
            })?);
        }
        let entries = self.events.len() * BUCKETS as usize;
        let attached = self.attach_programs(entries, &served, |(index, hook), maps| {
            let (source, size, signed) = sources[index][hook].clone();
            Action::Histogram {
                counts: maps.counts,
                source,
                size,
                signed,
                unreadable: maps.unreadable,
            }
        })?;
        Ok(Histogram::new(self.names(), field.to_owned(), attached))
    }

    /// Attaches to all events, and counts in the kernel how often each happens with the
    /// same values of these fields, or of the task's `pid`, `tid`, `comm` and `cpu`, which
    /// are `task.pid` and so on where the event has fields of these names. Where a field
    /// is to be measured, also what its values come to. There are at most 10,240 groups.
    ///
    /// `kstack` and `ustack` are the stacks of the kernel and of user space, at most 64
    /// addresses of each ([`GroupValue::KernelStack`](super::GroupValue::KernelStack)).
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
        let served = self.served(match measured {
            Some(_) => Use::Values,
            None => Use::Group(&by),
        })?;
        let plans = self.events.iter().zip(&served).map(|(event, served)| {
            served.for_each_hook(|hook| GroupPlan::new(event, &by, measured, *hook))
        });
        let plans: Vec<Vec<GroupPlan>> = plans.collect::<Result<_, ProbeError>>()?;
        let map: GroupMap = map_with_memory(|| PerCpuHashMap::create(GROUPS, 0))?;
        let count = self.events.len();
        let has_stacks = plans.iter().flatten().any(GroupPlan::has_stacks);
        let stacks = match has_stacks {
            // As many as groups can have: each has two at most.
            true => Some(stacks::make_maps(2 * GROUPS, count as u32)?),
            false => None,
        };
        let stack_maps = stacks.as_ref().map(|(stacks, scratch)| StackMaps {
            stacks: descriptor(stacks.map()),
            scratch: descriptor(scratch.map()),
        });
        let attached =
            self.attach_programs(count, &served, |(index, hook), maps| Action::Group {
                plan: &plans[index][hook],
                map: descriptor(map.map()),
                stacks: stack_maps,
                lost: maps.counts,
                unreadable: maps.unreadable,
            })?;
        // They differ in how values are read, and not in where they are in a key.
        let plans = plans
            .into_iter()
            .filter_map(|plans| plans.into_iter().next());
        Ok(Groups {
            attached,
            map,
            stacks: stacks.map(|(stacks, _)| stacks),
            plans: plans.collect(),
            by,
            measured: measured.map(str::to_owned),
        })
    }

    fn names(&self) -> Vec<EventName> {
        self.events.iter().map(|one| one.name().clone()).collect()
    }
}
