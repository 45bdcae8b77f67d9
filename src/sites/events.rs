//! The kernel's events, each with its tracepoint and class.
//!
//! tracefs lists events of the `struct trace_array` it shows, each a `struct
//! trace_event_file` with its `struct trace_event_call`. The inode of the file by which an
//! event is enabled points to one of them, and from it all others are found.

use std::collections::HashMap;

use super::SitesError;
use super::memory::{SiteMemory, StructBytes};
use super::offsets::KnownStructs;
use crate::kernel::Kernel;
use crate::name::{EventName, SyscallSide};
use crate::patch::CodeLocation;

/// Offsets in `struct trace_event_call` and what it points to, in bytes.
pub(super) struct EventOffsets {
    pub(super) file_list: u64,
    pub(super) file_call: u64,
    pub(super) file_array: u64,
    pub(super) file_flags: u64,
    pub(super) file_size: usize,
    pub(super) array_name: u64,
    array_events: u64,
    /// The offset and length of the array of pointers to files, by the system call's
    /// number.
    pub(super) array_enter: Option<(u64, usize)>,
    pub(super) array_exit: Option<(u64, usize)>,
    call_size: usize,
    call_class: u64,
    call_tracepoint: u64,
    call_id: u64,
    call_flags: u64,
    call_data: u64,
    /// `None` on kernels without perf.
    call_perf_count: Option<u64>,
    call_programs: Option<u64>,
    class_size: usize,
    class_system: u64,
    class_probe: u64,
    class_register: u64,
    class_perf_probe: Option<u64>,
    /// `TRACE_EVENT_FL_TRACEPOINT`: the event has a tracepoint, and the tracepoint's name.
    has_tracepoint: i32,
    pub(super) metadata_number: Option<u64>,
}

impl EventOffsets {
    pub(super) fn of(structs: &KnownStructs<'_>) -> Result<Self, SitesError> {
        let call = "trace_event_call";
        let array = |member| {
            let place = structs.optional("trace_array", member)?;
            Some((place.at, place.size / 8))
        };
        Ok(Self {
            file_list: structs.place("trace_event_file", "list")?.at,
            file_call: structs.pointer("trace_event_file", "event_call")?,
            file_array: structs.pointer("trace_event_file", "tr")?,
            file_flags: structs.pointer("trace_event_file", "flags")?,
            file_size: structs.size("trace_event_file")?,
            array_name: structs.pointer("trace_array", "name")?,
            array_events: structs.place("trace_array", "events")?.at,
            array_enter: array("enter_syscall_files"),
            array_exit: array("exit_syscall_files"),
            call_size: structs.size(call)?,
            call_class: structs.pointer(call, "class")?,
            call_tracepoint: structs.pointer(call, "tp")?,
            call_id: structs.sized(call, "event.type", 4)?,
            call_flags: structs.sized(call, "flags", 4)?,
            call_data: structs.pointer(call, "data")?,
            call_perf_count: structs
                .optional(call, "perf_refcount")
                .map(|place| place.at),
            call_programs: structs.optional(call, "prog_array").map(|place| place.at),
            class_size: structs.size("trace_event_class")?,
            class_system: structs.pointer("trace_event_class", "system")?,
            class_probe: structs.pointer("trace_event_class", "probe")?,
            class_register: structs.pointer("trace_event_class", "reg")?,
            class_perf_probe: structs
                .optional("trace_event_class", "perf_probe")
                .map(|place| place.at),
            has_tracepoint: structs.constant("TRACE_EVENT_FL_TRACEPOINT")? as i32,
            metadata_number: structs
                .optional("syscall_metadata", "syscall_nr")
                .map(|place| place.at),
        })
    }
}

/// A `struct trace_event_call`.
#[derive(Clone, Debug)]
pub(super) struct EventCall {
    pub(super) address: u64,
    /// The address of its tracepoint; `None` for system calls and for events made at run
    /// time.
    pub(super) tracepoint: Option<u64>,
    /// The side of a system call's event.
    pub(super) side: Option<SyscallSide>,
    /// The function by which ftrace listens.
    pub(super) ftrace_callback: u64,
    /// The function by which perf listens.
    pub(super) perf_callback: u64,
    pub(super) data: u64,
    /// The number of its perf events.
    pub(super) perf_events: u32,
    /// The address of its `struct bpf_prog_array`; 0 without one.
    pub(super) programs: u64,
}

/// The events, by name and by address.
pub(super) struct EventCalls {
    by_name: HashMap<EventName, usize>,
    by_tracepoint: HashMap<u64, usize>,
    calls: Vec<EventCall>,
}

impl EventCalls {
    /// Reads all events. `names` are events of tracefs, one of which leads to the others.
    pub(super) fn read(
        memory: &SiteMemory,
        offsets: &EventOffsets,
        kernel: &Kernel,
        names: &[EventName],
    ) -> Result<Self, SitesError> {
        let array = array_of_events(memory, offsets, kernel, names)?;
        let head = array.wrapping_add(offsets.array_events);
        let unreadable = SitesError::Unreadable {
            what: "the list of events",
        };
        let Some(files) = memory.list(head)? else {
            return Err(unreadable);
        };
        let calls: Vec<u64> = files
            .iter()
            .map(|node| {
                node.wrapping_sub(offsets.file_list)
                    .wrapping_add(offsets.file_call)
            })
            .collect();
        let addresses: Vec<u64> = memory.pointers(&calls)?.into_iter().flatten().collect();
        let calls = memory.structs(&addresses, offsets.call_size)?;
        let found: Vec<(u64, StructBytes)> = addresses
            .into_iter()
            .zip(calls)
            .filter_map(|(address, call)| Some((address, call?)))
            .collect();
        Self::named(memory, offsets, found)
    }

    /// Reads the classes and the names of calls.
    fn named(
        memory: &SiteMemory,
        offsets: &EventOffsets,
        found: Vec<(u64, StructBytes)>,
    ) -> Result<Self, SitesError> {
        let has_tracepoint =
            |call: &StructBytes| call.int(offsets.call_flags) & offsets.has_tracepoint != 0;
        let classes = distinct(found.iter().map(|(_, call)| call.word(offsets.call_class)));
        let read = memory.structs(&classes, offsets.class_size)?;
        let classes: HashMap<u64, StructBytes> = classes
            .into_iter()
            .zip(read)
            .filter_map(|(at, class)| Some((at, class?)))
            .collect();
        let sides = sides(
            memory,
            classes
                .values()
                .map(|class| class.word(offsets.class_register)),
        )?;
        let systems = classes
            .values()
            .map(|class| class.word(offsets.class_system));
        let systems = texts(memory, distinct(systems))?;
        // A tracepoint's first member is its name.
        let tracepoints = found
            .iter()
            .map(|(_, call)| call.word(offsets.call_tracepoint));
        let tracepoints: Vec<u64> = tracepoints.collect();
        let through: Vec<Option<u64>> = found
            .iter()
            .zip(&tracepoints)
            .map(|((_, call), at)| has_tracepoint(call).then_some(*at))
            .collect();
        let through = memory.follow(&through, 0)?;
        let names: Vec<u64> = through
            .into_iter()
            .zip(&tracepoints)
            .map(|(name, direct)| name.unwrap_or(*direct))
            .collect();
        let texts = texts(memory, distinct(names.iter().copied()))?;
        let mut calls = Self {
            by_name: HashMap::with_capacity(found.len()),
            by_tracepoint: HashMap::with_capacity(found.len()),
            calls: Vec::with_capacity(found.len()),
        };
        for ((address, call), name) in found.into_iter().zip(names) {
            let Some(class) = classes.get(&call.word(offsets.call_class)) else {
                continue;
            };
            let system = systems.get(&class.word(offsets.class_system));
            let (Some(system), Some(name)) = (system, texts.get(&name)) else {
                continue;
            };
            let Ok(name) = format!("{system}:{name}").parse() else {
                continue;
            };
            let word = |at: Option<u64>| at.map_or(0, |at| call.word(at));
            let count = offsets.call_perf_count.map_or(0, |at| call.int(at));
            calls.by_name.insert(name, calls.calls.len());
            let tracepoint = has_tracepoint(&call).then(|| call.word(offsets.call_tracepoint));
            if let Some(tracepoint) = tracepoint {
                let first = calls.by_tracepoint.entry(tracepoint);
                first.or_insert(calls.calls.len());
            }
            calls.calls.push(EventCall {
                address,
                tracepoint,
                side: sides.get(&class.word(offsets.class_register)).copied(),
                ftrace_callback: class.word(offsets.class_probe),
                perf_callback: offsets.class_perf_probe.map_or(0, |at| class.word(at)),
                data: call.word(offsets.call_data),
                perf_events: u32::try_from(count).unwrap_or(0),
                programs: word(offsets.call_programs),
            });
        }
        Ok(calls)
    }

    pub(super) fn named_so(&self, name: &EventName) -> Option<&EventCall> {
        self.calls.get(*self.by_name.get(name)?)
    }

    /// Returns an event of the tracepoint at this address.
    pub(super) fn of_tracepoint(&self, address: u64) -> Option<&EventCall> {
        self.calls.get(*self.by_tracepoint.get(&address)?)
    }

    /// Returns the addresses of the events' tracepoints.
    pub(super) fn tracepoints(&self) -> Vec<u64> {
        self.by_tracepoint.keys().copied().collect()
    }
}

/// Returns which functions register the events of system calls, by address.
fn sides(
    memory: &SiteMemory,
    functions: impl Iterator<Item = u64>,
) -> Result<HashMap<u64, SyscallSide>, SitesError> {
    let functions = distinct(functions);
    let symbols = memory.symbols(&functions)?;
    let sides = functions.into_iter().zip(symbols);
    Ok(sides
        .filter_map(|(at, symbol)| {
            let location = CodeLocation::parse(&symbol?)?;
            let side = match &*location.function {
                "syscall_enter_register" => SyscallSide::Enter,
                "syscall_exit_register" => SyscallSide::Exit,
                _ => return None,
            };
            Some((at, side))
        })
        .collect())
}

/// Returns the `struct trace_array` that tracefs shows.
fn array_of_events(
    memory: &SiteMemory,
    offsets: &EventOffsets,
    kernel: &Kernel,
    names: &[EventName],
) -> Result<u64, SitesError> {
    use std::os::fd::AsFd;

    // The id is checked, since a module's event may be removed meanwhile.
    for name in names.iter().take(16) {
        let (Ok(switch), Ok(event)) = (kernel.event_switch(name), kernel.tracepoint(name)) else {
            continue;
        };
        let file = memory.own_files(&[switch.as_fd()])?;
        let file = memory.inode_private(&memory.inodes(&file)?)?;
        let call = memory.follow(&file, offsets.file_call)?;
        let id = call[0].map(|call| call.wrapping_add(offsets.call_id));
        let id = memory.structs(&Vec::from_iter(id), 4)?.into_iter().next();
        let id = id.flatten().map(|id| id.int(0) as u32);
        if id.is_none() || id != event.id() {
            continue;
        }
        if let Some(array) = memory.follow(&file, offsets.file_array)?[0] {
            return Ok(array);
        }
    }
    Err(SitesError::Unreadable {
        what: "an event's files",
    })
}

/// Sorts addresses, and removes null and duplicates.
pub(super) fn distinct(addresses: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut addresses: Vec<u64> = addresses.filter(|at| *at != 0).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Returns the texts at these addresses.
pub(super) fn texts(
    memory: &SiteMemory,
    addresses: Vec<u64>,
) -> Result<HashMap<u64, String>, SitesError> {
    let found = memory.texts(&addresses)?;
    let found = addresses.into_iter().zip(found);
    Ok(found.filter_map(|(at, text)| Some((at, text?))).collect())
}
