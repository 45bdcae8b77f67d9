//! The listeners of a tracepoint.
//!
//! A tracepoint has an array of callbacks, each a function with its data (`struct
//! tracepoint_func`). The pair identifies the listener:
//!
//! - the function of the event's class for ftrace, with a `struct trace_event_file`, which
//!   belongs to one tracefs instance;
//! - the function of the class for perf, with the `struct trace_event_call`: one callback for
//!   all perf events, and the BPF programs on them;
//! - `__bpf_trace_<class>`, with the link (before Linux 6.10, the program) of a raw
//!   tracepoint;
//! - any other function of the kernel or of a module.
//!
//! All system calls share two tracepoints (`sys_enter`, `sys_exit`), with one callback for
//! each instance and one for perf. An array of the instance tells which calls it records.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::SitesError;
use super::events::{EventCall, EventOffsets};
use super::holders::{BpfProgramInfo, Holders, HoldingProcess};
use super::memory::SiteMemory;
use super::offsets::KnownStructs;
use crate::kernel::InstanceUse;
use crate::name::SyscallSide;
use crate::patch::CodeLocation;

/// A listener of an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Listener {
    /// A tracefs instance that records the event or triggers something by it.
    Ftrace {
        /// The instance's name; `None` for the instance that always exists.
        instance: Option<String>,
        /// Whether a filter selects the records.
        is_filtered: bool,
        /// Whether it records nothing for the time being, and only its triggers see the
        /// event.
        is_soft_disabled: bool,
    },
    /// Perf events without a program, which count or sample.
    Perf {
        /// The number of events, without those inherited by children.
        events: u32,
        /// The number of events made of them for children of their tasks.
        inherited: u32,
        /// The processes that hold them.
        holders: Vec<HoldingProcess>,
    },
    /// A BPF program.
    Bpf {
        /// The program.
        program: BpfProgramInfo,
        /// The target it is attached to.
        attachment: BpfAttachment,
        /// The id of the link that attaches it; `None` for a program set on a perf event.
        link: Option<u32>,
        /// The processes that keep it attached; empty for a link that is only pinned.
        holders: Vec<HoldingProcess>,
    },
    /// A function of the kernel, or of a module.
    Function {
        /// The function's name; `None` if the kernel has no symbol for it.
        function: Option<String>,
        /// The module that contains it; `None` if it is built in.
        module: Option<String>,
    },
}

/// The target on an event that a BPF program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BpfAttachment {
    /// The event, through a perf event.
    Tracepoint,
    /// The tracepoint itself: `raw_tp` and `tp_btf`.
    RawTracepoint,
}

/// An event made at run time (a kprobe, a synthetic event, …) has no tracepoint among the
/// kernel's, and tracefs says which instances have it on.
impl From<InstanceUse> for Listener {
    fn from(using: InstanceUse) -> Self {
        Self::Ftrace {
            instance: using.instance,
            is_filtered: using.is_filtered,
            is_soft_disabled: using.is_soft_disabled,
        }
    }
}

/// Offsets in `struct tracepoint_func`, in bytes.
pub(super) struct CallbackOffsets {
    size: usize,
    function: u64,
    data: u64,
}

impl CallbackOffsets {
    pub(super) fn of(structs: &KnownStructs<'_>) -> Result<Self, SitesError> {
        Ok(Self {
            size: structs.size("tracepoint_func")?,
            function: structs.pointer("tracepoint_func", "func")?,
            data: structs.pointer("tracepoint_func", "data")?,
        })
    }
}

/// A callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Callback {
    pub(super) function: u64,
    pub(super) data: u64,
    pub(super) location: Option<CodeLocation>,
}

/// Reads the callbacks of a tracepoint, whose array is at this address.
pub(super) fn callbacks(
    memory: &SiteMemory,
    offsets: &CallbackOffsets,
    array: u64,
) -> Result<Vec<Callback>, SitesError> {
    /// The number of callbacks that are read at once.
    const MANY: usize = 32;
    /// Limit on callbacks, more than a kernel ever has.
    const LIMIT: usize = 1 << 12;
    let mut found = Vec::new();
    let mut is_at_end = array == 0;
    while !is_at_end && found.len() < LIMIT {
        let places = found.len()..found.len() + MANY;
        let places = places.map(|index| array.wrapping_add((index * offsets.size) as u64));
        let read = memory.structs(&places.collect::<Vec<_>>(), offsets.size)?;
        for one in read {
            // The array ends with a null pointer.
            match one.filter(|one| one.word(offsets.function) != 0) {
                Some(one) if !is_at_end => found.push(Callback {
                    function: one.word(offsets.function),
                    data: one.word(offsets.data),
                    location: None,
                }),
                _ => is_at_end = true,
            }
        }
    }
    let functions: Vec<u64> = found.iter().map(|callback| callback.function).collect();
    let symbols = memory.symbols(&functions)?;
    for (callback, symbol) in found.iter_mut().zip(symbols) {
        callback.location = symbol.and_then(|symbol| CodeLocation::parse(&symbol));
    }
    Ok(found)
}

/// Finds listeners by what is known of all events and processes.
pub(super) struct ListenerSearch<'a> {
    pub(super) memory: &'a SiteMemory,
    pub(super) offsets: &'a EventOffsets,
    pub(super) holders: &'a Holders,
    pub(super) flags: SwitchFlags,
}

/// The bits of `trace_event_file.flags`, by the kernel's enumerators.
#[derive(Clone, Copy)]
pub(super) struct SwitchFlags {
    pub(super) filtered: u64,
    pub(super) soft_disabled: u64,
}

impl ListenerSearch<'_> {
    /// Returns the listeners behind the callbacks of a tracepoint; `event` is one of its
    /// events. Perf is left to [`by_perf`](Self::by_perf).
    pub(super) fn by_callbacks(
        &self,
        tracepoint: u64,
        event: Option<&EventCall>,
        callbacks: &[Callback],
    ) -> Result<Vec<Listener>, SitesError> {
        let mut listeners = Vec::new();
        for callback in callbacks {
            let is = |function: fn(&EventCall) -> u64| {
                event.is_some_and(|event| function(event) == callback.function)
            };
            if is(|event| event.perf_callback)
                && event.is_some_and(|event| event.address == callback.data)
            {
                continue;
            }
            let listener = match is(|event| event.ftrace_callback) {
                true => self.instance_of(callback.data, event)?,
                false => None,
            };
            let listener = match listener {
                Some(listener) => Some(listener),
                None => self.by_raw_program(tracepoint, callback)?,
            };
            listeners.push(listener.unwrap_or_else(|| {
                let location = callback.location.clone();
                let (function, module) = location
                    .map(|location| (location.function, location.module))
                    .unzip();
                Listener::Function {
                    function,
                    module: module.flatten(),
                }
            }));
        }
        Ok(listeners)
    }

    /// Returns the instance that a `struct trace_event_file` belongs to; `None` if the file
    /// is not the event's.
    fn instance_of(
        &self,
        file: u64,
        event: Option<&EventCall>,
    ) -> Result<Option<Listener>, SitesError> {
        let found = self.memory.structs(&[file], self.offsets.file_size)?;
        let Some(found) = found.into_iter().next().flatten() else {
            return Ok(None);
        };
        if event.map(|event| event.address) != Some(found.word(self.offsets.file_call)) {
            return Ok(None);
        }
        let array = found.word(self.offsets.file_array);
        let flags = found.word(self.offsets.file_flags);
        let name = self
            .memory
            .pointers(&[array.wrapping_add(self.offsets.array_name)])?;
        let instance = match name[0] {
            Some(name) => self.memory.texts(&[name])?.swap_remove(0),
            None => None,
        };
        Ok(Some(Listener::Ftrace {
            instance,
            is_filtered: flags & self.flags.filtered != 0,
            is_soft_disabled: flags & self.flags.soft_disabled != 0,
        }))
    }

    fn by_raw_program(
        &self,
        tracepoint: u64,
        callback: &Callback,
    ) -> Result<Option<Listener>, SitesError> {
        let location = callback.location.as_ref();
        if !location.is_some_and(|location| location.function.starts_with("__bpf_trace_")) {
            return Ok(None);
        }
        let found = self
            .holders
            .raw_program(self.memory, tracepoint, callback.data)?;
        let Some((program, link)) = found else {
            return Ok(None);
        };
        let program = self.holders.programs(self.memory, &[program])?;
        Ok(program
            .into_iter()
            .next()
            .flatten()
            .map(|program| Listener::Bpf {
                program,
                attachment: BpfAttachment::RawTracepoint,
                link,
                holders: link.map_or_else(Vec::new, |link| self.holders.of_link(link)),
            }))
    }

    /// Returns the instances that record a system call: those with a callback on the
    /// tracepoint of all calls and a file for this call.
    pub(super) fn by_system_call(
        &self,
        event: &EventCall,
        side: SyscallSide,
        callbacks: &[Callback],
    ) -> Result<Vec<Listener>, SitesError> {
        let (function, files) = match side {
            SyscallSide::Enter => ("ftrace_syscall_enter", self.offsets.array_enter),
            SyscallSide::Exit => ("ftrace_syscall_exit", self.offsets.array_exit),
        };
        let (Some((files, count)), Some(number)) = (files, self.offsets.metadata_number) else {
            return Ok(Vec::new());
        };
        let of_calls = callbacks.iter().filter(|callback| {
            let location = callback.location.as_ref();
            location.is_some_and(|location| location.function == function)
        });
        let arrays: Vec<u64> = of_calls.map(|callback| callback.data).collect();
        if arrays.is_empty() {
            return Ok(Vec::new());
        }
        let metadata = event.data.wrapping_add(number);
        let number = self.memory.structs(&[metadata], 4)?;
        let number = number[0].as_ref().map(|number| number.int(0));
        let number = number.and_then(|number| usize::try_from(number).ok());
        let Some(number) = number.filter(|number| *number < count) else {
            return Ok(Vec::new());
        };
        let slots: Vec<u64> = arrays
            .into_iter()
            .map(|array| array.wrapping_add(files + number as u64 * 8))
            .collect();
        let mut listeners = Vec::new();
        for file in self.memory.pointers(&slots)?.into_iter().flatten() {
            listeners.extend(self.instance_of(file, Some(event))?);
        }
        Ok(listeners)
    }

    /// Returns the perf events and the programs on them, and the number of perf events
    /// whose holder could not be seen.
    pub(super) fn by_perf(&self, event: &EventCall) -> Result<(Vec<Listener>, u32), SitesError> {
        let (mut events, mut inherited, mut unseen) = (0, 0, event.perf_events);
        let mut holders: Vec<HoldingProcess> = Vec::new();
        let mut programs: BTreeMap<(u64, Option<u32>), Vec<HoldingProcess>> = BTreeMap::new();
        let of_event = self.holders.perf_events.iter();
        for perf in of_event.filter(|perf| perf.call == event.address) {
            unseen = unseen.saturating_sub(1 + perf.children);
            match perf.program {
                0 => {
                    events += 1;
                    inherited += perf.children;
                    merge(&mut holders, &perf.holders);
                }
                program => {
                    let known = programs.entry((program, perf.link)).or_default();
                    merge(known, &perf.holders);
                    if let Some(link) = perf.link {
                        merge(known, &self.holders.of_link(link));
                    }
                }
            }
        }
        let array = self
            .holders
            .programs_of_array(self.memory, event.programs)?;
        for program in array {
            let mut known = programs.keys();
            if !known.any(|(known, _)| *known == program) {
                programs.insert((program, None), Vec::new());
            }
        }
        let addresses: Vec<u64> = programs.keys().map(|(program, _)| *program).collect();
        let infos = self.holders.programs(self.memory, &addresses)?;
        let mut listeners = Vec::new();
        if events > 0 {
            listeners.push(Listener::Perf {
                events,
                inherited,
                holders,
            });
        }
        for (((_, link), holders), info) in programs.into_iter().zip(infos) {
            listeners.extend(info.map(|program| Listener::Bpf {
                program,
                attachment: BpfAttachment::Tracepoint,
                link,
                holders,
            }));
        }
        Ok((listeners, unseen))
    }
}

fn merge(holders: &mut Vec<HoldingProcess>, more: &[HoldingProcess]) {
    for one in more {
        match holders.iter_mut().find(|known| known.pid == one.pid) {
            Some(known) => known.descriptors += one.descriptors,
            None => holders.push(one.clone()),
        }
    }
    holders.sort_by_key(|holder| holder.pid);
}
