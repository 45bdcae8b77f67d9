//! Which program serves an event: the cheapest that answers what is asked.
//!
//! A `tp` program gets the event's record. The kernel makes it for each hit, and a perf event
//! holds the program: opening one takes 50 µs, and closing one a grace period. Where no field
//! of the event is needed, `raw_tp` on the event's tracepoint sees the same hits:
//!
//! - A condition of the tracepoint (`TP_CONDITION`) is tested before any listener is called
//!   (`__DECLARE_TRACE()`, `include/linux/tracepoint.h`), and functions that an event has
//!   called on its first listener (`TRACE_EVENT_FN`) are the tracepoint's.
//! - `DEFINE_EVENT_PRINT` has a tracepoint of its own; so has every event but system calls'
//!   and those made at run time, and it has the event's name (`trace_event_name()`,
//!   `include/linux/trace_events.h`).
//! - Perf leaves out hits that `raw_tp` sees: those inside of another record that the same
//!   context makes, and those whose record is larger than `PERF_MAX_TRACE_SIZE`, 8 KiB
//!   (`perf_trace_buf_alloc()`, `kernel/trace/trace_event_perf.c`); and it skips a program
//!   while any other of its programs runs on the CPU, which `raw_tp` does for the same
//!   program alone. The first two are not known to occur; the third is in
//!   [`Losses::skipped`](super::Losses::skipped).
//!
//! System calls share two tracepoints: see `syscalls`.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::attach;
use super::builder::ProbeBuilder;
use super::error::ProbeError;
use super::plan::TASK_WORDS;
use super::probed::{Hook, Probed, RawEvent, RawProgram, condition_on_event};
use super::stacks::STACK_WORDS;
use super::syscalls::{self, SyscallWay};
use crate::kernel::{Kernel, ProgramForm, Tracepoint};
use crate::name::{EventName, SyscallSide};

/// Which program serves an event, if several can: see [`ProbeBuilder::program`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProgramPreference {
    /// `raw_tp` where no field of the event is needed, and `tp` elsewhere.
    #[default]
    Cheapest,
    /// `tp` for every event.
    Tp,
    /// `raw_tp` for every event.
    RawTp,
}

/// A program of a probe, the events it serves, and the reason for its type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlannedProgram {
    /// The type of program.
    pub form: ProgramForm,
    /// Where it is attached, as libbpf names it: `tp/sched/sched_switch`,
    /// `raw_tp/sched_switch`.
    pub section: String,
    /// The events it serves: one, or system calls.
    pub events: Vec<EventName>,
    /// Why it is of this type.
    pub reason: PlanReason,
}

/// Why a program is of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanReason {
    /// No field of the event is needed.
    NoFieldNeeded,
    /// Fields of the event are needed, which only its record has.
    FieldsNeeded,
    /// Stacks are kept, and those that `raw_tp` gets begin inside of the tracepoint.
    Stacks,
    /// It was asked for.
    Asked,
    /// The event is a raw tracepoint.
    RawTracepoint,
    /// One program serves all system calls, by their number.
    AllSystemCalls,
    /// There are so few system calls that a program at each is cheaper than one at all.
    FewSystemCalls,
    /// `raw_tp` would see all system calls, and the program that tells them apart does not
    /// serve this one: it is among the events twice, or what it returned is added to its
    /// records.
    SystemCall,
    /// The event has a filter of its own, and one program serves all system calls.
    OwnFilter,
    /// The kernel does not let the system call's number be read: it takes Linux 5.14 and BTF.
    NumberUnknown,
    /// BTF has no tracepoint of the event's name, or several modules have one.
    NoTracepoint,
    /// The kernel refuses the `raw_tp` program.
    RawRefused,
    /// It reads strings, and what pointers point at, that could not be read at entry.
    StringsAtExit,
    /// It reads what the system call has written for its caller.
    WrittenAtExit,
    /// It adds to a record what the system call returned.
    ResultAtExit,
}

impl PlanReason {
    const ALL: [Self; 15] = [
        Self::NoFieldNeeded,
        Self::FieldsNeeded,
        Self::Stacks,
        Self::Asked,
        Self::RawTracepoint,
        Self::AllSystemCalls,
        Self::FewSystemCalls,
        Self::SystemCall,
        Self::OwnFilter,
        Self::NumberUnknown,
        Self::NoTracepoint,
        Self::RawRefused,
        Self::StringsAtExit,
        Self::WrittenAtExit,
        Self::ResultAtExit,
    ];

    /// Returns the reason in a few words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoFieldNeeded => "no field is needed",
            Self::FieldsNeeded => "fields of its record are needed",
            Self::Stacks => "stacks are kept",
            Self::Asked => "asked for",
            Self::RawTracepoint => "a raw tracepoint",
            Self::AllSystemCalls => "one program serves all system calls by number",
            Self::FewSystemCalls => "few system calls: one program at all of them would cost more",
            Self::SystemCall => "raw_tp would see all system calls",
            Self::OwnFilter => "it has a filter of its own",
            Self::NumberUnknown => "the system call's number is not known",
            Self::NoTracepoint => "BTF does not tell its tracepoint",
            Self::ResultAtExit => "adds what the system call returned",
            Self::WrittenAtExit => "reads what the system call has written",
            Self::StringsAtExit => "reads again what cannot be read at entry",
            Self::RawRefused => "the kernel refuses raw_tp for it",
        }
    }
}

impl fmt::Display for PlanReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

impl Serialize for PlanReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for PlanReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut all = Self::ALL.into_iter();
        let found = all.find(|reason| reason.as_str() == text);
        found.ok_or_else(|| D::Error::custom(format_args!("no reason {text:?}")))
    }
}

impl fmt::Display for PlannedProgram {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.events.as_slice() {
            [event] => write!(out, "{event}")?,
            events => write!(out, "{} events", events.len())?,
        }
        write!(out, ": {} ({})", self.section, self.reason)
    }
}

/// What serves an event.
#[derive(Debug)]
pub(super) enum Service {
    /// A program of its own, which gets at values in one of these ways: what is tried first
    /// comes first.
    Own(Vec<Hook>),
    /// A raw program on the event's tracepoint.
    Tracepoint(RawEvent),
    /// The program for all system calls of this side, by the call's number.
    SystemCall { side: SyscallSide, number: u32 },
}

/// An event's service and the reason for it.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) service: Service,
    pub(super) reason: PlanReason,
}

/// The use of events: what of them is needed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use<'a> {
    /// Their fields are kept in records.
    Records,
    /// They are counted.
    Count,
    /// They are counted by these words, which may be fields.
    Group(&'a [String]),
    /// Values of a field are counted.
    Values,
}

/// How many system calls of one side are served by a program at all of them. Fewer get a
/// program each: one at all calls costs the calls that nobody asks about some 20 ns each, and
/// closing a perf event takes 40 ms once.
const MANY_CALLS: usize = 16;

impl Served {
    fn hooks(&self) -> &[Hook] {
        match &self.service {
            Service::Own(hooks) => hooks,
            Service::Tracepoint(_) => &[Hook::RawTp],
            // The plan of an event without fields, which is the same by any hook.
            Service::SystemCall { .. } => &[Hook::Event],
        }
    }

    /// Returns the values that a function has for each way to get at an event's values.
    pub(super) fn for_each_hook<T>(
        &self,
        make: impl FnMut(&Hook) -> Result<T, ProbeError>,
    ) -> Result<Vec<T>, ProbeError> {
        self.hooks().iter().map(make).collect()
    }

    /// Returns what serves an event for which the kernel refuses `raw_tp`.
    pub(super) fn refused() -> Self {
        Self::tp(PlanReason::RawRefused)
    }

    fn tp(reason: PlanReason) -> Self {
        Self {
            service: Service::Own(vec![Hook::Event]),
            reason,
        }
    }

    /// Returns what is planned for an event that has a program of its own.
    pub(super) fn planned(&self, event: &Probed, hook: Hook) -> PlannedProgram {
        let name = event.name();
        let (form, section) = match (event, hook) {
            (_, Hook::Event) => (
                ProgramForm::Tp,
                format!("tp/{}/{}", name.category(), name.event()),
            ),
            (_, Hook::RawTp) => (ProgramForm::RawTp, format!("raw_tp/{}", name.event())),
            (_, Hook::TpBtf { .. }) => (ProgramForm::TpBtf, format!("tp_btf/{}", name.event())),
        };
        PlannedProgram {
            form,
            section,
            events: vec![name.clone()],
            reason: self.reason,
        }
    }
}

impl ProbeBuilder {
    /// Chooses what serves each event.
    pub(super) fn served(&self, needed: Use<'_>) -> Result<Vec<Served>, ProbeError> {
        let is_safe = self.are_loads_safe(needed);
        let way = OnceCell::new();
        let has_way = |kernel: &Kernel| way.get_or_init(|| SyscallWay::of(kernel)).is_some();
        let mut all = Vec::with_capacity(self.events.len());
        for event in &self.events {
            all.push(match event {
                Probed::Raw(_) => Served {
                    service: Service::Own(event.hooks(is_safe)),
                    reason: PlanReason::RawTracepoint,
                },
                Probed::Event(event) => self.for_event(event, needed, &has_way)?,
            });
        }
        if !matches!(needed, Use::Count) {
            self.serve_numbers_once(&mut all)?;
        }
        if self.preference == ProgramPreference::Cheapest {
            for wanted in [SyscallSide::Enter, SyscallSide::Exit] {
                let mut calls: Vec<&mut Served> = all
                    .iter_mut()
                    .filter(|one| {
                        matches!(one.service, Service::SystemCall { side, .. } if side == wanted)
                    })
                    .collect();
                if calls.len() < MANY_CALLS {
                    for call in &mut calls {
                        **call = Served::tp(PlanReason::FewSystemCalls);
                    }
                }
            }
        }
        Ok(all)
    }

    /// Serves an event by `tp` if another one has the same number of a system call: a program
    /// finds one event by the number.
    fn serve_numbers_once(&self, all: &mut [Served]) -> Result<(), ProbeError> {
        let mut known = HashSet::new();
        for (event, served) in self.events.iter().zip(all) {
            let Service::SystemCall { side, number } = served.service else {
                continue;
            };
            if known.insert((side, number)) {
                continue;
            }
            if self.preference == ProgramPreference::RawTp {
                return Err(ProbeError::NeedsTp {
                    event: event.name().clone(),
                    reason: PlanReason::SystemCall,
                });
            }
            *served = Served::tp(PlanReason::SystemCall);
        }
        Ok(())
    }

    /// Whether values are read from raw tracepoints, and the kernel lets programs load them.
    fn are_loads_safe(&self, needed: Use<'_>) -> bool {
        let is_raw = |event: &&Probed| matches!(event, Probed::Raw(_));
        let has_filter = || {
            let mut own = self.of_event.values();
            self.filter.is_some() || own.any(|own| own.filter.is_some())
        };
        let are_read = !matches!(needed, Use::Count) || has_filter();
        let first = self.events.iter().find(is_raw);
        first.is_some_and(|event| are_read && attach::loads_are_safe(event.kernel()))
    }

    /// Chooses what serves an event, taking system calls to be many.
    fn for_event(
        &self,
        event: &Tracepoint,
        needed: Use<'_>,
        has_way: &impl Fn(&Kernel) -> bool,
    ) -> Result<Served, ProbeError> {
        if self.preference == ProgramPreference::Tp {
            return Ok(Served::tp(PlanReason::Asked));
        }
        let served = match self.why_a_record(event, needed)? {
            Some(reason) => Err(reason),
            None => match event.format().syscall_side(event.name()) {
                Some(side) => match has_way(event.kernel()) {
                    true => self.of_call(event, side),
                    false => Err(PlanReason::NumberUnknown),
                },
                None => self.on_tracepoint(event),
            },
        };
        match (served, self.preference) {
            (Ok(served), _) => Ok(served),
            (Err(reason), ProgramPreference::RawTp) => Err(ProbeError::NeedsTp {
                event: event.name().clone(),
                reason,
            }),
            (Err(reason), _) => Ok(Served::tp(reason)),
        }
    }

    /// Returns the reason why an event's record is needed, if it is.
    fn why_a_record(
        &self,
        event: &Tracepoint,
        needed: Use<'_>,
    ) -> Result<Option<PlanReason>, ProbeError> {
        let fields = event.format().fields();
        let is_field = |word: &String| {
            let is_of_task = |word: &str| TASK_WORDS.contains(&word);
            let is_scoped = word.strip_prefix("task.").is_some_and(is_of_task);
            let has = |name: &str| fields.iter().any(|field| field.name() == name);
            !is_scoped && (!is_of_task(word) || has(word))
        };
        let reason = match needed {
            Use::Count => None,
            Use::Values => Some(PlanReason::FieldsNeeded),
            Use::Group(words) => {
                let is_stack = |word: &&String| STACK_WORDS.contains(&word.as_str());
                let (stacks, others): (Vec<_>, Vec<_>) = words.iter().partition(is_stack);
                match others.into_iter().any(is_field) {
                    true => Some(PlanReason::FieldsNeeded),
                    false => (!stacks.is_empty()).then_some(PlanReason::Stacks),
                }
            }
            Use::Records => match self.wanted_of(event.name()) {
                None => Some(PlanReason::FieldsNeeded),
                Some(words) if words.iter().any(is_field) => Some(PlanReason::FieldsNeeded),
                Some(_) => self.has_stacks.then_some(PlanReason::Stacks),
            },
        };
        if reason.is_some() {
            return Ok(reason);
        }
        let Some(filter) = self.condition_of(event.name()) else {
            return Ok(None);
        };
        let bound = condition_on_event(event, &filter)?;
        let asks = fields.iter().any(|field| bound.asks_for(field));
        Ok(asks.then_some(PlanReason::FieldsNeeded))
    }

    /// Serves an event by its tracepoint; `Err` is the reason why not.
    fn on_tracepoint(&self, event: &Tracepoint) -> Result<Served, PlanReason> {
        // An event of an unloaded module has none, and attaching says so.
        let home = event.raw_home().ok().flatten();
        home.ok_or(PlanReason::NoTracepoint)?;
        let name = event.name().event();
        let of_event = RawEvent::new(event.kernel(), name, RawProgram::RawTp);
        let of_event = of_event.map_err(|_| PlanReason::NoTracepoint)?;
        Ok(Served {
            service: Service::Tracepoint(of_event),
            reason: self.raw_reason(PlanReason::NoFieldNeeded),
        })
    }

    /// Serves a system call by the program for all; `Err` is the reason why not.
    fn of_call(&self, event: &Tracepoint, side: SyscallSide) -> Result<Served, PlanReason> {
        if self.has_returns(event.name()) {
            return Err(PlanReason::SystemCall);
        }
        if self.has_own_filter(event.name()) {
            return Err(PlanReason::OwnFilter);
        }
        let number = event.kernel().syscall_number(event);
        let number = number
            .filter(|number| *number < syscalls::NUMBERS)
            .ok_or(PlanReason::NumberUnknown)?;
        Ok(Served {
            service: Service::SystemCall { side, number },
            reason: self.raw_reason(PlanReason::AllSystemCalls),
        })
    }

    fn raw_reason(&self, reason: PlanReason) -> PlanReason {
        match self.preference {
            ProgramPreference::RawTp => PlanReason::Asked,
            _ => reason,
        }
    }
}
