//! Which tasks a probe is about: all, those of a process, or also those of its
//! descendants.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;

use aya::maps::{HashMap as TaskMap, IterableMap, MapData, MapError};

use super::attach::{Attachments, of_system};
use super::error::ProbeError;
use super::plan::Source;
use super::program::{self, Tasks};
use super::{descriptor, map_error, map_with_memory};
use crate::context::access::Access;
use crate::kernel::Kernel;

/// Which tasks were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskScope {
    All,
    Process(u32),
    Tree(u32),
}

/// The threads of a process and its descendants, kept by programs of its own: who
/// is forked by one of them is one, too.
pub(crate) struct Followed {
    tasks: TaskMap<MapData, u32, u64>,
    pub(super) programs: Attachments,
}

/// How many threads can be followed at a time.
const THREADS: u32 = 1 << 16;

impl TaskScope {
    /// The tasks for a program to check, and what keeps them up to date. The key
    /// of `lost` after the events' counts tasks that could not be followed.
    pub(crate) fn follow(
        self,
        kernel: &Kernel,
        lost: (i32, u32),
    ) -> Result<(Tasks, Option<Followed>), ProbeError> {
        let pid = match self {
            Self::All => return Ok((Tasks::All, None)),
            Self::Process(pid) | Self::Tree(pid) => pid,
        };
        if !is_in_first_namespace() {
            return Err(ProbeError::PidNamespace);
        }
        if fs::metadata(format!("/proc/{pid}")).is_err() {
            return Err(ProbeError::NoProcess { pid });
        }
        if let Self::Process(_) = self {
            return Ok((Tasks::Process(pid), None));
        }
        let tasks = map_with_memory(|| TaskMap::<MapData, u32, u64>::create(THREADS, 0))?;
        let map = descriptor(tasks.map());
        let mut programs = Attachments::default();
        let fork = kernel.tracepoint("sched:sched_process_fork")?;
        let child = field(&fork, "child_pid")?;
        let long = |event: &str| ProbeError::LongProgram {
            event: event.parse().unwrap_or_else(|_| fork.name().clone()),
        };
        let on_fork =
            program::on_fork(map, &child, lost).map_err(|_| long("sched:sched_process_fork"))?;
        let free = kernel.tracepoint("sched:sched_process_free")?;
        let freed = field(&free, "pid")?;
        let on_free =
            program::on_free(map, &freed).map_err(|_| long("sched:sched_process_free"))?;
        programs.attach(&free, &on_free, 0)?;
        programs.attach(&fork, &on_fork, 0)?;
        let mut followed = Followed { tasks, programs };
        // Who is forked from now on is followed if its parent is; those forked
        // before their parent was are found in the next round.
        let mut known = HashSet::new();
        loop {
            let family = family(pid);
            if family.is_subset(&known) {
                break;
            }
            for tid in &family {
                followed
                    .tasks
                    .insert(tid, 1, 0)
                    .map_err(|error| map_error("following a process", error))?;
            }
            known.extend(family);
        }
        Ok((Tasks::InMap(map), Some(followed)))
    }
}

/// Where the context has an integer field of an event of the kernel's own.
pub(super) fn field(
    tracepoint: &crate::kernel::Tracepoint,
    name: &str,
) -> Result<Source, ProbeError> {
    let context = tracepoint.context()?;
    let accesses = Access::of_fields(tracepoint.format(), &context)?;
    let access = accesses
        .iter()
        .find_map(|(field, access)| access.as_ref().filter(|_| field.name() == name));
    access
        .map(Source::of)
        .ok_or_else(|| ProbeError::NotInContext {
            event: tracepoint.name().clone(),
            field: name.to_owned(),
        })
}

/// The threads of a process and of its descendants, as `/proc` has them now.
fn family(pid: u32) -> HashSet<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for process in numbers("/proc") {
        if let Ok(parent) = parent_of(process) {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut threads = HashSet::new();
    let mut waiting = vec![pid];
    let mut seen = HashSet::new();
    while let Some(process) = waiting.pop() {
        if !seen.insert(process) {
            continue;
        }
        threads.extend(numbers(&format!("/proc/{process}/task")));
        waiting.extend(children.remove(&process).unwrap_or_default());
    }
    threads
}

fn numbers(directory: &str) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).collect()
}

/// The fourth word of `stat`; the second is a name in brackets that may hold any.
fn parent_of(process: u32) -> io::Result<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let parent = after_name.split_whitespace().nth(1);
    parent
        .and_then(|parent| parent.parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Whether processes have the same numbers here as in programs.
fn is_in_first_namespace() -> bool {
    /// `PROC_PID_INIT_INO` of the kernel's `include/linux/proc_ns.h`.
    const FIRST: &str = "pid:[4026531836]";
    let own = fs::read_link("/proc/self/ns/pid");
    own.is_ok_and(|own| own.as_os_str() == FIRST)
}

impl Followed {
    /// Whether any of the tasks is still there.
    pub(crate) fn is_any_left(&self) -> Result<bool, ProbeError> {
        match self.tasks.keys().next() {
            None => Ok(false),
            Some(Ok(_)) => Ok(true),
            Some(Err(MapError::KeyNotFound)) => Ok(false),
            Some(Err(error)) => Err(of_system(
                "asking who is followed",
                io::Error::other(error.to_string()),
            )),
        }
    }
}
