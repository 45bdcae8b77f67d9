//! Where a tracepoint is in the kernel's code, whether it is patched, and who listens.
//!
//! A tracepoint costs nearly nothing while nobody listens: at each of its sites is a no-op of
//! a few bytes. When the first callback is registered the kernel writes a jump over it, and
//! the code behind calls everyone who listens. [`Kernel::sites`] reads all of this from the
//! running kernel's memory, without debug symbols: nothing is attached, and nothing is
//! written to the kernel.
//!
//! ```no_run
//! use tracepoints::Kernel;
//!
//! let kernel = Kernel::live()?;
//! let sites = kernel.sites(&["net:netif_rx".parse()?], &[])?;
//! for event in sites.events() {
//!     let tracepoint = event.tracepoint().ok_or("no tracepoint")?;
//!     for site in tracepoint.sites.iter().flatten() {
//!         println!("{:#x}: {}", site.address, site.state.as_str());
//!     }
//!     println!("{} listeners", event.listeners().len());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The sites of a kernel that was read from its image (feature `image`) have the addresses
//! for which the kernel was linked, and sites in its modules have offsets in the modules'
//! sections. All of them are off.
//!
//! # How it works
//!
//! Programs of type `SYSCALL`, which a system call runs once (Linux 5.14), read memory in
//! batches (`bpf::reader`). Offsets in structs are those of the kernel's BTF. The kernel
//! keeps running meanwhile: what is read is true of the moment it was read, and an event
//! that is enabled or detached in between may be seen half way.
//!
//! - `tables`: all tracepoints, and the patch sites of each (`__jump_table`), of vmlinux and
//!   of modules;
//! - `events`: the tracepoint of each event;
//! - `listener`: the listener behind each callback;
//! - `holders`: the processes that hold perf events and links.
//!
//! # Rights
//!
//! Reading takes `CAP_BPF` and `CAP_PERFMON`. Without `CAP_SYSLOG` the kernel does not tell
//! where its tables are: sites are then unknown, and so are tracepoints without events.
//! Without `CAP_SYS_ADMIN` it does not list links, and without `CAP_SYS_PTRACE` not the
//! descriptors of other users' processes. [`Sites::unknown`] and [`EventSites::unknown`]
//! list what remained unknown.

mod error;
mod events;
mod holders;
mod listener;
mod memory;
#[cfg(feature = "image")]
mod of_image;
mod offsets;
mod tables;
#[cfg(test)]
mod tests;

pub use crate::patch::{CodeLocation, PatchSite, PatchState};
pub use error::SitesError;
pub use holders::{BpfProgramInfo, HoldingProcess};
pub use listener::{BpfAttachment, Listener};

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::kernel::Kernel;
use crate::name::{EventName, SyscallSide};
use crate::patch::{InstructionSet, JumpEntry};
use events::{EventCall, EventCalls, EventOffsets};
use holders::{HolderOffsets, Holders};
use listener::{CallbackOffsets, ListenerSearch, SwitchFlags, callbacks};
use memory::SiteMemory;
use offsets::KnownStructs;
use tables::{FoundTracepoint, SiteTables, TableOffsets};

/// The sites and listeners of some events.
#[derive(Clone, Debug)]
pub struct Sites {
    events: Vec<EventSites>,
    unknown: Vec<UnknownPart>,
}

/// The sites and listeners of one event, or of a tracepoint without an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EventSites {
    event: Option<EventName>,
    tracepoint: Option<PatchedTracepoint>,
    listeners: Vec<Listener>,
    unknown: Vec<UnknownPart>,
}

/// A tracepoint in the kernel's memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PatchedTracepoint {
    /// The name. Events of system calls share the tracepoints `sys_enter` and `sys_exit`.
    pub name: String,
    /// The module that defines it; `None` if it is built in.
    pub module: Option<String>,
    /// The number of times its key is enabled: 1 while it has callbacks, however many.
    pub enabled: i32,
    /// The places where the kernel tests its key, by address; in images, those in modules
    /// are last. `None` if this process may not see them.
    pub sites: Option<Vec<PatchSite>>,
    /// The target of the static call at the sites: the only callback, or the function that
    /// calls all of them. `None` on kernels without static calls.
    pub static_call: Option<CodeLocation>,
}

/// Something that remained unknown.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
#[non_exhaustive]
pub enum UnknownPart {
    /// The places of the tables of tracepoints and sites.
    Tables,
    /// The tables of some modules.
    Modules {
        /// The modules' names.
        names: Vec<String>,
    },
    /// The descriptors of some processes.
    Processes {
        /// The number of processes.
        count: usize,
    },
    /// The list of links.
    Links,
    /// The holders of some of the perf events on this event.
    PerfEvents {
        /// The number of perf events.
        count: u32,
    },
    /// The users of an event without a tracepoint, which tracefs cannot switch on (`ftrace:*`,
    /// written by tracers), and of an image, where its tracepoint is not known.
    NotATracepoint,
    /// The event: it was removed while the kernel was read.
    Event,
}

impl fmt::Display for UnknownPart {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tables => out
                .write_str("where the sites are: the kernel shows its symbols to CAP_SYSLOG alone"),
            Self::Modules { names } => {
                write!(out, "the tracepoints and sites of {}", names.join(", "))
            }
            Self::Processes { count: 1 } => {
                out.write_str("what a process holds: its descriptors take CAP_SYS_PTRACE to see")
            }
            Self::Processes { count } => write!(
                out,
                "what {count} processes hold: their descriptors take CAP_SYS_PTRACE to see"
            ),
            Self::Links => {
                out.write_str("which links there are: the kernel lists them to CAP_SYS_ADMIN alone")
            }
            Self::PerfEvents { count } => {
                write!(out, "who holds {count} of its perf events")
            }
            Self::NotATracepoint => out.write_str(
                "who uses it: it has no tracepoint, and nothing in tracefs to switch it on",
            ),
            Self::Event => out.write_str("all of it: the event is not there any more"),
        }
    }
}

impl Sites {
    /// Returns the events that were asked for, in that order, and then the tracepoints.
    pub fn events(&self) -> &[EventSites] {
        &self.events
    }

    /// Returns what remained unknown of all events.
    pub fn unknown(&self) -> &[UnknownPart] {
        &self.unknown
    }
}

impl EventSites {
    /// Returns the event; `None` for a tracepoint that was asked for by its own name.
    pub fn event(&self) -> Option<&EventName> {
        self.event.as_ref()
    }

    /// Returns the tracepoint; `None` if the event has none.
    pub fn tracepoint(&self) -> Option<&PatchedTracepoint> {
        self.tracepoint.as_ref()
    }

    /// Returns the listeners.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Returns what remained unknown of this event.
    pub fn unknown(&self) -> &[UnknownPart] {
        &self.unknown
    }
}

impl Kernel {
    /// Reads where the tracepoints of these events are in the running kernel's code,
    /// whether they are patched, and who listens to the events. Reads the same for
    /// `tracepoints`, given by the tracepoints' own names, which may have no events
    /// ([`bare_tracepoints`]).
    ///
    /// [`bare_tracepoints`]: Kernel::bare_tracepoints
    ///
    /// # Errors
    ///
    /// [`SitesError::NotLive`] for a captured kernel that is not an image;
    /// [`SitesError::NotPermitted`] and [`SitesError::LockedDown`]; [`SitesError::TooOld`]
    /// before Linux 5.14; [`SitesError::Kernel`] without BTF; [`SitesError::NoTracepoint`]
    /// for a name in `tracepoints` that is not a tracepoint's; [`SitesError::Btf`] and
    /// [`SitesError::Unreadable`] if the kernel differs from known ones.
    pub fn sites(&self, events: &[EventName], tracepoints: &[&str]) -> Result<Sites, SitesError> {
        #[cfg(feature = "image")]
        if self.is_image() {
            return of_image::read(self, events, tracepoints);
        }
        if !self.is_live() {
            return Err(SitesError::NotLive);
        }
        let Some(vmlinux) = self.vmlinux()? else {
            // Fails with the error of a list of BTF objects.
            self.btf_objects()?;
            return Err(SitesError::Unreadable { what: "BTF" });
        };
        let structs = KnownStructs::of(&vmlinux);
        SiteReader::new(self, &structs, events)?.read(events, tracepoints)
    }
}

/// Everything that is read once, for all events.
struct SiteReader {
    kernel: Kernel,
    memory: SiteMemory,
    event_offsets: EventOffsets,
    callback_offsets: CallbackOffsets,
    flags: SwitchFlags,
    calls: EventCalls,
    tables: SiteTables,
    holders: Holders,
}

/// An event or tracepoint that was asked for, and what was found.
struct Wanted<'a> {
    event: Option<(&'a EventName, Option<&'a EventCall>)>,
    tracepoint: Option<(u64, &'a FoundTracepoint)>,
}

impl SiteReader {
    fn new(
        kernel: &Kernel,
        structs: &KnownStructs<'_>,
        events: &[EventName],
    ) -> Result<Self, SitesError> {
        let event_offsets = EventOffsets::of(structs)?;
        let table_offsets = TableOffsets::of(structs)?;
        let holder_offsets = HolderOffsets::of(structs)?;
        let memory = SiteMemory::new(structs)?;
        // Those of `ftrace:*` have no file that leads to the others.
        let events = events.iter().filter(|name| name.category() != "ftrace");
        let mut listed: Vec<EventName> = events.cloned().collect();
        if listed.is_empty() {
            listed = kernel.events()?.into_iter().collect();
        }
        let calls = EventCalls::read(&memory, &event_offsets, kernel, &listed)?;
        let tables = SiteTables::read(&memory, &table_offsets, kernel, &calls.tracepoints())?;
        let holders = Holders::read(&memory, holder_offsets, kernel)?;
        Ok(Self {
            kernel: kernel.clone(),
            callback_offsets: CallbackOffsets::of(structs)?,
            flags: SwitchFlags {
                filtered: structs.constant("EVENT_FILE_FL_FILTERED")?,
                soft_disabled: structs.constant("EVENT_FILE_FL_SOFT_DISABLED")?,
            },
            memory,
            event_offsets,
            calls,
            tables,
            holders,
        })
    }

    fn read(&self, events: &[EventName], tracepoints: &[&str]) -> Result<Sites, SitesError> {
        let mut wanted = Vec::with_capacity(events.len() + tracepoints.len());
        for event in events {
            wanted.push(self.find(event));
        }
        for name in tracepoints {
            let all = self.tables.tracepoints.iter();
            let mut found: Vec<_> = all.filter(|(_, found)| found.name == *name).collect();
            found.sort_by_key(|(at, _)| **at);
            if found.is_empty() {
                return Err(SitesError::NoTracepoint {
                    name: name.escape_debug().to_string(),
                });
            }
            wanted.extend(found.into_iter().map(|(at, found)| Wanted {
                event: None,
                tracepoint: Some((*at, found)),
            }));
        }
        let patched = self.patched(&wanted)?;
        let search = ListenerSearch {
            memory: &self.memory,
            offsets: &self.event_offsets,
            holders: &self.holders,
            flags: self.flags,
        };
        let mut found = Vec::with_capacity(wanted.len());
        for one in &wanted {
            let tracepoint = one.tracepoint.and_then(|(at, _)| patched.get(&at).cloned());
            found.push(self.event(&search, one, tracepoint)?);
        }
        let mut unknown = Vec::new();
        if !self.tables.are_sites_known {
            unknown.push(UnknownPart::Tables);
        }
        if !self.tables.unread_modules.is_empty() {
            unknown.push(UnknownPart::Modules {
                names: self.tables.unread_modules.clone(),
            });
        }
        if self.holders.hidden > 0 {
            unknown.push(UnknownPart::Processes {
                count: self.holders.hidden,
            });
        }
        if !self.holders.are_links_known {
            unknown.push(UnknownPart::Links);
        }
        Ok(Sites {
            events: found,
            unknown,
        })
    }

    /// Finds an event's tracepoint.
    fn find<'a>(&'a self, name: &'a EventName) -> Wanted<'a> {
        let call = self.calls.named_so(name);
        let tracepoint = call.and_then(|call| match (call.tracepoint, call.side) {
            (Some(at), _) => Some((at, self.tables.tracepoints.get(&at)?)),
            (None, Some(SyscallSide::Enter)) => self.tables.built_in("sys_enter"),
            (None, Some(SyscallSide::Exit)) => self.tables.built_in("sys_exit"),
            (None, None) => None,
        });
        Wanted {
            event: Some((name, call)),
            tracepoint,
        }
    }

    /// Reads the sites of the tracepoints, each once.
    fn patched(
        &self,
        wanted: &[Wanted<'_>],
    ) -> Result<HashMap<u64, PatchedTracepoint>, SitesError> {
        let mut tracepoints: Vec<(u64, &FoundTracepoint)> =
            wanted.iter().filter_map(|one| one.tracepoint).collect();
        tracepoints.sort_by_key(|(at, _)| *at);
        tracepoints.dedup_by_key(|(at, _)| *at);
        let entries = tracepoints.iter().flat_map(|(_, found)| &found.sites);
        let entries: Vec<&JumpEntry> = entries.collect();
        let addresses: Vec<u64> = entries.iter().map(|entry| entry.site).collect();
        let targets = entries.iter().map(|entry| entry.target).collect();
        let codes = self.memory.structs(&addresses, InstructionSet::LONGEST)?;
        let calls = tracepoints.iter();
        let calls = calls
            .map(|(_, found)| found.static_call.unwrap_or(0))
            .collect();
        let [places, targets, calls] = self.locations([addresses, targets, calls])?;
        let each = entries.into_iter().zip(codes).zip(places).zip(targets);
        let mut each = each.map(|(((entry, code), place), target)| {
            let code = code.as_ref();
            let code = code.map(|code| code.bytes(0, InstructionSet::LONGEST));
            PatchSite::new(InstructionSet::NATIVE, entry, code, place, target)
        });
        let patched: Vec<Vec<PatchSite>> = tracepoints
            .iter()
            .map(|(_, found)| {
                let mut sites: Vec<PatchSite> = each.by_ref().take(found.sites.len()).collect();
                sites.sort_by_key(|site| site.address);
                sites
            })
            .collect();
        let all = tracepoints.into_iter().zip(patched).zip(calls);
        Ok(all
            .map(|(((at, found), sites), static_call)| {
                let tracepoint = PatchedTracepoint {
                    name: found.name.clone(),
                    module: found.module.clone(),
                    enabled: found.enabled,
                    sites: self.tables.are_sites_known.then_some(sites),
                    static_call: static_call.filter(|_| found.static_call.is_some()),
                };
                (at, tracepoint)
            })
            .collect())
    }

    /// Returns where in the kernel's code these addresses are.
    fn locations(
        &self,
        addresses: [Vec<u64>; 3],
    ) -> Result<[Vec<Option<CodeLocation>>; 3], SitesError> {
        let symbols = self.memory.symbols(&addresses.concat())?.into_iter();
        let mut locations = symbols.map(|symbol| CodeLocation::parse(&symbol?));
        Ok(addresses.map(|part| locations.by_ref().take(part.len()).collect()))
    }

    /// Finds the listeners.
    fn event(
        &self,
        search: &ListenerSearch<'_>,
        wanted: &Wanted<'_>,
        tracepoint: Option<PatchedTracepoint>,
    ) -> Result<EventSites, SitesError> {
        let (mut listeners, mut unknown) = (Vec::new(), Vec::new());
        let call = match (wanted.event, wanted.tracepoint) {
            (Some((_, call)), _) => call,
            (None, Some((at, _))) => self.calls.of_tracepoint(at),
            (None, None) => None,
        };
        let side = call.and_then(|call| call.side);
        match wanted.tracepoint {
            Some((at, found)) => {
                let array = found.functions;
                let callbacks = callbacks(&self.memory, &self.callback_offsets, array)?;
                listeners = match (call, side) {
                    (Some(call), Some(side)) => search.by_system_call(call, side, &callbacks)?,
                    _ => search.by_callbacks(at, call, &callbacks)?,
                };
            }
            None => match wanted.event {
                Some((name, Some(_))) => match self.kernel.instances_using(name)? {
                    Some(using) => listeners.extend(using.into_iter().map(Listener::from)),
                    None => unknown.push(UnknownPart::NotATracepoint),
                },
                _ => unknown.push(UnknownPart::Event),
            },
        }
        if let Some(call) = call {
            let (by_perf, unseen) = search.by_perf(call)?;
            listeners.extend(by_perf);
            if unseen > 0 {
                unknown.push(UnknownPart::PerfEvents { count: unseen });
            }
        }
        Ok(EventSites {
            event: wanted.event.map(|(name, _)| name.clone()),
            tracepoint,
            listeners,
            unknown,
        })
    }
}
