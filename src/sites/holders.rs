//! Perf events and BPF links, and which processes hold them.
//!
//! A perf event lives as long as a process, or a link of a BPF program, holds its file.
//! `/proc/*/fd` shows which descriptors are perf events. The event behind a descriptor is
//! found in memory, from the process's `/proc` directory over its task to its files.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::SitesError;
use super::memory::{SiteMemory, StructBytes};
use super::offsets::{KnownStructs, StructMember};
use crate::bpf::sys;
use crate::kernel::{HeldFiles, Kernel};

/// A process that keeps a listener attached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HoldingProcess {
    /// The pid, in the namespace that `/proc` shows.
    pub pid: u32,
    /// The name; empty if the process has exited meanwhile.
    pub comm: String,
    /// The number of descriptors of the listener that the process holds.
    pub descriptors: u32,
}

/// A BPF program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BpfProgramInfo {
    /// The id by which tools show the program (`bpftool prog show id`).
    pub id: u32,
    /// The name, cut to 15 bytes; empty if the program has none.
    pub name: String,
    /// The hash of its instructions, in hexadecimal.
    pub tag: String,
}

/// Offsets of members, in bytes.
pub(super) struct HolderOffsets {
    /// The way from a directory of `/proc` to the process's task.
    inode_of_process: u64,
    process_pid: u64,
    pid_tasks: u64,
    task_links: u64,
    task_pid: u64,
    event_type: u64,
    event_call: u64,
    event_program: u64,
    event_children: u64,
    program_size: usize,
    program_aux: u64,
    program_tag: u64,
    aux_id: u64,
    aux_name: StructMember,
    link_id: u64,
    link_type: u64,
    link_program: u64,
    link_size: usize,
    /// The offset of the link in `struct bpf_raw_tp_link`, and those that lead to its
    /// tracepoint.
    raw_link: Option<(u64, u64, u64)>,
    /// The offsets of the link and of its perf event's file in `struct bpf_perf_link`
    /// (Linux 5.15).
    perf_link: Option<(u64, u64)>,
    array_items: u64,
    item_program: u64,
    item_size: usize,
    is_raw_data_a_link: Option<bool>,
}

impl HolderOffsets {
    pub(super) fn of(structs: &KnownStructs<'_>) -> Result<Self, SitesError> {
        let at = |of, member| structs.optional(of, member).map(|place| place.at);
        let perf_link = at("bpf_perf_link", "link").zip(at("bpf_perf_link", "perf_file"));
        let raw = at("bpf_raw_tp_link", "link").zip(at("bpf_raw_tp_link", "btp"));
        let raw = raw.zip(at("bpf_raw_event_map", "tp"));
        Ok(Self {
            inode_of_process: structs.place("proc_inode", "vfs_inode")?.at,
            process_pid: structs.pointer("proc_inode", "pid")?,
            pid_tasks: structs.place("pid", "tasks")?.at,
            task_links: structs.place("task_struct", "pid_links")?.at,
            task_pid: structs.sized("task_struct", "pid", 4)?,
            event_type: structs.sized("perf_event", "attr.type", 4)?,
            event_call: structs.pointer("perf_event", "tp_event")?,
            event_program: structs.pointer("perf_event", "prog")?,
            event_children: structs.place("perf_event", "child_list")?.at,
            program_size: structs.size("bpf_prog")?,
            program_aux: structs.pointer("bpf_prog", "aux")?,
            program_tag: structs.sized("bpf_prog", "tag", 8)?,
            aux_id: structs.sized("bpf_prog_aux", "id", 4)?,
            aux_name: structs.place("bpf_prog_aux", "name")?,
            link_id: structs.sized("bpf_link", "id", 4)?,
            link_type: structs.sized("bpf_link", "type", 4)?,
            link_program: structs.pointer("bpf_link", "prog")?,
            link_size: structs.size("bpf_link")?,
            raw_link: raw.map(|((link, map), tracepoint)| (link, map, tracepoint)),
            perf_link,
            array_items: structs.place("bpf_prog_array", "items")?.at,
            item_program: structs.pointer("bpf_prog_array_item", "prog")?,
            item_size: structs.size("bpf_prog_array_item")?,
            is_raw_data_a_link: structs.is_raw_data_a_link(),
        })
    }
}

/// A perf event of a tracepoint.
#[derive(Clone, Debug)]
pub(super) struct PerfEvent {
    /// The address of its `struct trace_event_call`.
    pub(super) call: u64,
    /// The address of its program; 0 without one.
    pub(super) program: u64,
    /// The number of events made of it for children of its task.
    pub(super) children: u32,
    /// The id of the link that holds it.
    pub(super) link: Option<u32>,
    /// The processes that hold it by descriptors of their own.
    pub(super) holders: Vec<HoldingProcess>,
}

/// A link that attaches a program to a raw tracepoint.
struct RawLink {
    id: u32,
    /// The address of its program.
    program: u64,
    /// The address of its `struct tracepoint`.
    tracepoint: u64,
}

/// The perf events and links that processes hold.
pub(super) struct Holders {
    offsets: HolderOffsets,
    pub(super) perf_events: Vec<PerfEvent>,
    by_link: HashMap<u32, Vec<HoldingProcess>>,
    raw_links: Vec<RawLink>,
    /// The number of processes that could not be looked into.
    pub(super) hidden: usize,
    /// Whether all links could be listed.
    pub(super) are_links_known: bool,
}

impl Holders {
    pub(super) fn read(
        memory: &SiteMemory,
        offsets: HolderOffsets,
        kernel: &Kernel,
    ) -> Result<Self, SitesError> {
        // Read before any link is opened here, so that this process does not count as a
        // holder.
        let found = kernel.holding_processes()?;
        let mut by_link: HashMap<u32, Vec<HoldingProcess>> = HashMap::new();
        for process in &found.processes {
            for link in &process.links {
                add_holder(by_link.entry(*link).or_default(), process);
            }
        }
        let mut holders = Self {
            offsets,
            perf_events: Vec::new(),
            by_link,
            raw_links: Vec::new(),
            hidden: found.hidden,
            are_links_known: true,
        };
        let mut events: BTreeMap<u64, PerfEvent> = BTreeMap::new();
        for (address, process) in holders.held_events(memory, &found.processes)? {
            let event = events.entry(address).or_insert_with(PerfEvent::unknown);
            add_holder(&mut event.holders, process);
        }
        let links = match links() {
            Ok(links) => links,
            Err(_) => {
                holders.are_links_known = false;
                Vec::new()
            }
        };
        for (address, link) in holders.follow_links(memory, &links)? {
            let event = events.entry(address).or_insert_with(PerfEvent::unknown);
            event.link = Some(link);
        }
        drop(links);
        holders.perf_events = holders.of_tracepoints(memory, events)?;
        Ok(holders)
    }

    /// Returns the processes that hold a link.
    pub(super) fn of_link(&self, link: u32) -> Vec<HoldingProcess> {
        self.by_link.get(&link).cloned().unwrap_or_default()
    }

    /// Returns the address of each perf event that is held, and the process that holds it.
    fn held_events<'a>(
        &self,
        memory: &SiteMemory,
        processes: &'a [HeldFiles],
    ) -> Result<Vec<(u64, &'a HeldFiles)>, SitesError> {
        let holding: Vec<&HeldFiles> = processes
            .iter()
            .filter(|process| !process.perf_events.is_empty())
            .collect();
        let tasks = self.tasks(memory, &holding)?;
        let mut descriptors = Vec::new();
        let mut of = Vec::new();
        for (process, task) in holding.into_iter().zip(tasks) {
            let Some(task) = task else {
                continue;
            };
            for descriptor in &process.perf_events {
                descriptors.push((task, *descriptor));
                of.push(process);
            }
        }
        let files = memory.files_of(&descriptors)?;
        let events = memory.private(&files)?.into_iter().zip(of);
        Ok(events
            .filter_map(|(event, process)| Some((event?, process)))
            .collect())
    }

    /// Returns the address of each process's first thread.
    fn tasks(
        &self,
        memory: &SiteMemory,
        processes: &[&HeldFiles],
    ) -> Result<Vec<Option<u64>>, SitesError> {
        let offsets = &self.offsets;
        let directories: Vec<_> = processes
            .iter()
            .map(|process| process.directory.as_fd())
            .collect();
        let inodes = memory.inodes(&memory.own_files(&directories)?)?;
        let inodes: Vec<Option<u64>> = inodes
            .into_iter()
            .map(|inode| Some(inode?.wrapping_sub(offsets.inode_of_process)))
            .collect();
        let pids = memory.follow(&inodes, offsets.process_pid)?;
        // The first list, `PIDTYPE_PID`, is that of the thread with this number.
        let links = memory.follow(&pids, offsets.pid_tasks)?;
        let tasks: Vec<Option<u64>> = links
            .into_iter()
            .map(|link| Some(link?.wrapping_sub(offsets.task_links)))
            .collect();
        let known: Vec<u64> = tasks
            .iter()
            .map(|task| task.unwrap_or(0).wrapping_add(offsets.task_pid))
            .collect();
        // In a pid namespace of its own, the process has another number, which is not 0
        // either.
        let numbers = memory.structs(&known, 4)?;
        let is_task =
            |number: &Option<StructBytes>| number.as_ref().is_some_and(|number| number.int(0) > 0);
        let checked = tasks.into_iter().zip(&numbers);
        Ok(checked
            .map(|(task, number)| task.filter(|_| is_task(number)))
            .collect())
    }

    /// Returns the address of each perf event that a link holds, with the link's id. Keeps
    /// the links of raw tracepoints.
    fn follow_links(
        &mut self,
        memory: &SiteMemory,
        links: &[(u32, OwnedFd)],
    ) -> Result<Vec<(u64, u32)>, SitesError> {
        /// `BPF_LINK_TYPE_RAW_TRACEPOINT` and `BPF_LINK_TYPE_PERF_EVENT`.
        const RAW: i32 = 1;
        const PERF: i32 = 7;
        let offsets = &self.offsets;
        let descriptors: Vec<_> = links.iter().map(|(_, link)| link.as_fd()).collect();
        let found = memory.private(&memory.own_files(&descriptors)?)?;
        let addresses: Vec<u64> = found.iter().map(|link| link.unwrap_or(0)).collect();
        let read = memory.structs(&addresses, offsets.link_size)?;
        let (mut raw, mut perf) = (Vec::new(), Vec::new());
        for ((address, link), (id, _)) in addresses.into_iter().zip(read).zip(links) {
            let Some(link) = link.filter(|link| link.int(offsets.link_id) as u32 == *id) else {
                continue;
            };
            match link.int(offsets.link_type) {
                RAW => raw.push((address, *id, link.word(offsets.link_program))),
                PERF => perf.push((address, *id)),
                _ => {}
            }
        }
        if let Some((link_at, map_at, tracepoint_at)) = offsets.raw_link {
            let maps = raw
                .iter()
                .map(|(address, ..)| Some(address.wrapping_sub(link_at)))
                .collect::<Vec<_>>();
            let tracepoints = memory.follow(&memory.follow(&maps, map_at)?, tracepoint_at)?;
            let raw = raw.into_iter().zip(tracepoints);
            self.raw_links = raw
                .filter_map(|((_, id, program), tracepoint)| {
                    Some(RawLink {
                        id,
                        program,
                        tracepoint: tracepoint?,
                    })
                })
                .collect();
        }
        let Some((link_at, file_at)) = self.offsets.perf_link else {
            return Ok(Vec::new());
        };
        let outer: Vec<Option<u64>> = perf
            .iter()
            .map(|(address, _)| Some(address.wrapping_sub(link_at)))
            .collect();
        let events = memory.private(&memory.follow(&outer, file_at)?)?;
        let events = events.into_iter().zip(perf);
        Ok(events
            .filter_map(|(event, (_, id))| Some((event?, id)))
            .collect())
    }

    /// Reads the perf events at these addresses. Leaves out those that are not of
    /// tracepoints.
    fn of_tracepoints(
        &self,
        memory: &SiteMemory,
        events: BTreeMap<u64, PerfEvent>,
    ) -> Result<Vec<PerfEvent>, SitesError> {
        /// `PERF_TYPE_TRACEPOINT`.
        const TRACEPOINT: i32 = 2;
        let offsets = &self.offsets;
        let addresses: Vec<u64> = events.keys().copied().collect();
        let at = |offset: u64| -> Vec<u64> {
            let each = addresses.iter();
            each.map(|event| event.wrapping_add(offset)).collect()
        };
        let types = memory.structs(&at(offsets.event_type), 4)?;
        let calls = memory.pointers(&at(offsets.event_call))?;
        let programs = memory.pointers(&at(offsets.event_program))?;
        let mut found = Vec::new();
        for (index, (address, mut event)) in events.into_iter().enumerate() {
            let is_tracepoint = types[index].as_ref().map(|kind| kind.int(0)) == Some(TRACEPOINT);
            let Some(call) = calls[index].filter(|_| is_tracepoint) else {
                continue;
            };
            let children = memory.list(address.wrapping_add(offsets.event_children))?;
            event.call = call;
            event.program = programs[index].unwrap_or(0);
            event.children = children.map_or(0, |children| children.len() as u32);
            found.push(event);
        }
        Ok(found)
    }

    /// Returns the programs at these addresses.
    pub(super) fn programs(
        &self,
        memory: &SiteMemory,
        addresses: &[u64],
    ) -> Result<Vec<Option<BpfProgramInfo>>, SitesError> {
        let offsets = &self.offsets;
        let programs = memory.structs(addresses, offsets.program_size)?;
        let aux: Vec<u64> = programs
            .iter()
            .map(|program| {
                program
                    .as_ref()
                    .map_or(0, |bytes| bytes.word(offsets.program_aux))
            })
            .collect();
        let at =
            |offset: u64| -> Vec<u64> { aux.iter().map(|aux| aux.wrapping_add(offset)).collect() };
        let ids = memory.structs(&at(offsets.aux_id), 4)?;
        let names = memory.structs(&at(offsets.aux_name.at), offsets.aux_name.size)?;
        let all = programs.into_iter().zip(ids).zip(names);
        Ok(all
            .map(|((program, id), name)| {
                let tag = program.as_ref()?.bytes(offsets.program_tag, 8);
                Some(BpfProgramInfo {
                    id: id?.int(0) as u32,
                    name: name?.text(StructMember {
                        at: 0,
                        ..offsets.aux_name
                    }),
                    tag: tag.iter().map(|byte| format!("{byte:02x}")).collect(),
                })
            })
            .collect())
    }

    /// Returns the programs of a `struct bpf_prog_array`.
    pub(super) fn programs_of_array(
        &self,
        memory: &SiteMemory,
        array: u64,
    ) -> Result<Vec<u64>, SitesError> {
        /// `BPF_TRACE_MAX_PROGS`.
        const LIMIT: usize = 64;
        if array == 0 {
            return Ok(Vec::new());
        }
        let offsets = &self.offsets;
        let first = array
            .wrapping_add(offsets.array_items)
            .wrapping_add(offsets.item_program);
        let items = (0..LIMIT).map(|index| first.wrapping_add((index * offsets.item_size) as u64));
        let programs = memory.pointers(&items.collect::<Vec<_>>())?;
        // The array ends with a null pointer.
        Ok(programs.into_iter().map_while(|program| program).collect())
    }

    /// Returns the program behind the data of a raw tracepoint's callback, and the id of
    /// its link if that is known.
    pub(super) fn raw_program(
        &self,
        memory: &SiteMemory,
        tracepoint: u64,
        data: u64,
    ) -> Result<Option<(u64, Option<u32>)>, SitesError> {
        let offsets = &self.offsets;
        match (offsets.is_raw_data_a_link, offsets.raw_link) {
            (Some(false), _) => {
                let mut links = self.raw_links.iter();
                let mut links = links
                    .by_ref()
                    .filter(|link| (link.program, link.tracepoint) == (data, tracepoint));
                // A program can be attached to a tracepoint twice, and its link is then not
                // known.
                let only = links.next().filter(|_| links.next().is_none());
                Ok(Some((data, only.map(|link| link.id))))
            }
            (Some(true), Some((link_at, ..))) => {
                let link = memory.structs(&[data.wrapping_add(link_at)], offsets.link_size)?;
                let link = link.into_iter().next().flatten();
                Ok(link.map(|link| {
                    let id = link.int(offsets.link_id) as u32;
                    (link.word(offsets.link_program), Some(id))
                }))
            }
            _ => Ok(None),
        }
    }
}

impl PerfEvent {
    fn unknown() -> Self {
        Self {
            call: 0,
            program: 0,
            children: 0,
            link: None,
            holders: Vec::new(),
        }
    }
}

fn add_holder(holders: &mut Vec<HoldingProcess>, process: &HeldFiles) {
    match holders.iter_mut().find(|holder| holder.pid == process.pid) {
        Some(holder) => holder.descriptors += 1,
        None => holders.push(HoldingProcess {
            pid: process.pid,
            comm: process.comm.clone(),
            descriptors: 1,
        }),
    }
}

/// Opens all links, and returns them with their ids.
fn links() -> io::Result<Vec<(u32, OwnedFd)>> {
    let mut links = Vec::new();
    let mut id = 0;
    while let Some(next) = sys::next_link(id)? {
        id = next;
        match sys::open_link(id) {
            Ok(link) => links.push((id, link)),
            // The link was closed meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(links)
}
