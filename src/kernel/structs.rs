//! The structs of many events' contexts, where their records do not matter.
//!
//! The kernel writes a format file anew each time it is read, which takes most of the time
//! of a [sweep](super::sweep). A third of a kernel's events are those of system calls, and
//! of these the formats of two are enough:
//!
//! - **All have one struct.** `kernel/trace/trace_syscalls.c` gives every event of a side
//!   one class, `event_class_syscall_enter` or `event_class_syscall_exit`, and runs programs
//!   from one function for each, `perf_syscall_enter()` and `perf_syscall_exit()`, whose
//!   context is the local `struct syscall_tp_t`. [`resolve_syscall`] therefore depends on the
//!   side and on BTF alone. The first event of each side is read and resolved as any other,
//!   and shows that this kernel's records begin with the number of the system call; the rest
//!   get the same answer.
//! - **An event is a system call's** if its category and name are, and nobody else made it.
//!   Processes can make events in any category by `dynamic_events`, which lists them, and
//!   cannot take a name that exists. Synthetic and user events have categories of their own.
//!   Otherwise only a `TRACE_EVENT` of the kernel or a module could have the name; then
//!   `btf_trace_<event>` is in the BTF of its object. So BTF must be known of every module
//!   in `/proc/modules`.
//!
//! Where any of this does not hold or is not known, the format is read: in captures, which may
//! have any files; without `dynamic_events`, before Linux 5.0; while a module is loaded that has no
//! BTF.
//!
//! [`resolve_syscall`]: crate::context::resolve_syscall

use std::panic::resume_unwind;
use std::thread;

use super::Kernel;
use super::sweep::Sweep;
use crate::context::{ContextStruct, Evidence};
use crate::error::Error;
use crate::files::Modules;
use crate::name::{EventName, SyscallSide};

/// An event's struct and id, or its error.
type Found = Result<(ContextStruct, Option<u32>), Error>;

impl Kernel {
    /// Resolves many events at once, like [`contexts`](Self::contexts), but only the structs
    /// of their contexts, in the order of `names`. Fewer files are read: of the running
    /// kernel, no format of a system call's event but the first of each side, because all
    /// have the same struct.
    ///
    /// An event in the category `syscalls` with the name of a system call's, made and removed
    /// by another process while this runs, may be taken for the kernel's own.
    ///
    /// ```
    /// # use tracepoints::{EventName, Kernel};
    /// let kernel = Kernel::at("tests/fixtures/6.18.15-x86_64")?;
    /// let names: Vec<EventName> = kernel.events()?.into_iter().collect();
    /// for (name, found) in names.iter().zip(kernel.structs(&names)?) {
    ///     let found = found?;
    ///     println!("{name}: {:?}, {}", found.struct_name(), found.evidence());
    /// }
    /// # Ok::<(), tracepoints::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`contexts`](Self::contexts).
    pub fn structs(
        &self,
        names: &[EventName],
    ) -> Result<impl ExactSizeIterator<Item = Result<ContextStruct, Error>> + use<>, Error> {
        let found = self.find_structs(names, false)?.into_iter();
        Ok(found.map(|found| found.map(|(found, _)| found)))
    }

    /// Like [`structs`](Self::structs), with the events' ids: see
    /// [`Tracepoint::id`](super::Tracepoint::id).
    ///
    /// # Errors
    ///
    /// Those of [`contexts`](Self::contexts); for one event also [`Error::File`] about its
    /// `id` file.
    pub fn structs_and_ids(
        &self,
        names: &[EventName],
    ) -> Result<
        impl ExactSizeIterator<Item = Result<(ContextStruct, Option<u32>), Error>> + use<>,
        Error,
    > {
        Ok(self.find_structs(names, true)?.into_iter())
    }

    fn find_structs(&self, names: &[EventName], with_ids: bool) -> Result<Vec<Found>, Error> {
        let listing = self.listing_for(names)?;
        let modules = self.inner.btf.refreshed()?;
        let mut sweep = Sweep::new(self, listing, modules, false);
        let followed = followed(names, |name| sweep.usable.is_of_kernel(name));
        let mut found: Vec<Option<Found>> = Vec::new();
        found.resize_with(names.len(), || None);
        read(&mut sweep, names, &mut found, |index| {
            followed[index].is_none()
        })?;
        let answers: Vec<Option<ContextStruct>> = match self.are_modules_known(&sweep.modules) {
            true => {
                let answer = |(name, followed): (&EventName, &Option<usize>)| {
                    let answer = found[(*followed)?].as_ref()?.as_ref().ok();
                    let answer = answer.map(|(answer, _)| answer)?;
                    let is_syscall = matches!(answer.evidence(), Evidence::Syscall(_));
                    let may_follow = is_syscall && self.no_object_defines(name, &sweep.modules);
                    may_follow.then(|| answer.clone())
                };
                names.iter().zip(&followed).map(answer).collect()
            }
            false => Vec::new(),
        };
        let answered: Vec<&EventName> = std::iter::zip(names, &answers)
            .filter_map(|(name, answer)| answer.as_ref().map(|_| name))
            .collect();
        let mut ids = match with_ids {
            true => self.ids(&answered),
            false => answered.iter().map(|_| Ok(None)).collect(),
        }
        .into_iter();
        for (place, answer) in std::iter::zip(&mut found, answers) {
            if let Some((answer, id)) = answer.and_then(|answer| Some((answer, ids.next()?))) {
                *place = Some(id.map(|id| (answer, id)));
            }
        }
        let missing: Vec<bool> = found.iter().map(Option::is_none).collect();
        read(&mut sweep, names, &mut found, |index| missing[index])?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Whether the BTF of every loaded module has been read.
    fn are_modules_known(&self, modules: &Modules) -> bool {
        const LIMIT: u64 = 4 << 20;
        match self.inner.proc.bytes("modules", LIMIT) {
            Ok(Some(loaded)) => {
                let loaded = String::from_utf8_lossy(&loaded);
                let names = loaded.lines().filter_map(|line| line.split(' ').next());
                modules.are_known(names)
            }
            // A kernel that cannot load modules has no such file.
            Ok(None) => modules.is_empty() && matches!(self.version(), Ok(Some(_))),
            Err(_) => false,
        }
    }

    /// Whether neither vmlinux nor any of these modules, which are known, has a tracepoint
    /// of the event's name.
    fn no_object_defines(&self, name: &EventName, modules: &Modules) -> bool {
        let Ok(Some(vmlinux)) = self.inner.btf.vmlinux() else {
            return false;
        };
        let defining = self.inner.btf.defining(name.event(), &vmlinux, modules);
        defining.is_empty() && !vmlinux.index().has_event(name.event())
    }

    /// Reads the ids of events, in two threads.
    fn ids(&self, names: &[&EventName]) -> Vec<Result<Option<u32>, Error>> {
        let read = |names: &[&EventName]| -> Vec<_> {
            let mut reader = self.reader();
            let id = |name: &&EventName| self.inner.tracefs.id_by(&mut reader, name);
            names.iter().map(id).collect()
        };
        let (first, rest) = names.split_at(names.len() / 2);
        thread::scope(|scope| {
            let helper = thread::Builder::new().spawn_scoped(scope, || read(rest));
            let mut ids = read(first);
            ids.extend(match helper {
                Ok(helper) => helper.join().unwrap_or_else(|panic| resume_unwind(panic)),
                // The system cannot start a thread.
                Err(_) => read(rest),
            });
            ids
        })
    }
}

/// Returns for each event the index of the one whose struct it has, if both are the same side
/// of system calls; `None` for the first of each side, and for all other events.
fn followed(names: &[EventName], is_of_kernel: impl Fn(&EventName) -> bool) -> Vec<Option<usize>> {
    let (mut enter, mut exit) = (None, None);
    let followed = |(index, name)| {
        let (side, _) = SyscallSide::and_call(name)?;
        let first = match side {
            SyscallSide::Enter => &mut enter,
            SyscallSide::Exit => &mut exit,
        };
        if !is_of_kernel(name) {
            return None;
        }
        match *first {
            Some(first) => Some(first),
            None => {
                *first = Some(index);
                None
            }
        }
    };
    names.iter().enumerate().map(followed).collect()
}

/// Reads and resolves those events whose index is wanted.
fn read<'n>(
    sweep: &mut Sweep<'_, 'n>,
    names: &'n [EventName],
    found: &mut [Option<Found>],
    is_wanted: impl Fn(usize) -> bool,
) -> Result<(), Error> {
    let wanted = |index: &usize| is_wanted(*index);
    let wanted: Vec<usize> = (0..names.len()).filter(wanted).collect();
    let read = sweep.run(wanted.iter().map(|index| &names[*index]).collect())?;
    for (index, read) in std::iter::zip(wanted, read) {
        found[index] = Some(read.map(|(event, context)| (context.into_struct(), event.id())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_first_of_a_side_follow() {
        let names = [
            "syscalls:sys_exit_read",
            "sched:sched_switch",
            "syscalls:sys_enter_mine",
            "syscalls:sys_enter_read",
            "syscalls:sys_exit_write",
            "mine:sys_enter_write",
            "syscalls:sys_enter_write",
        ];
        let names = names.map(|name| name.parse().expect("a name"));
        let is_of_kernel = |name: &EventName| name.event() != "sys_enter_mine";
        let followed = followed(&names, is_of_kernel);
        let mut expected = [None; 7];
        expected[4] = Some(0);
        expected[6] = Some(3);
        assert_eq!(followed, expected);
    }

    /// The structs of the running kernel's events are those of their contexts, also where a
    /// probe has the name of a system call's event; and few formats of system calls are read.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    #[test]
    fn structs_of_the_running_kernel() {
        const TEST: &str = "kernel::structs::tests::structs_of_the_running_kernel";
        let Some(kernel) = crate::live_test::kernel(TEST) else {
            return;
        };
        let mine = format!("syscalls/sys_enter_tracepoints_{}", std::process::id());
        let write = |line: String| {
            let path = kernel.tracefs().join("dynamic_events");
            let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
            std::io::Write::write_all(&mut file, line.as_bytes())
        };
        let is_made = write(format!("p:{mine} /bin/sh:0x1000 first=$stack0:u32\n"));
        let mut names = crate::live_test::lasting_events(&kernel);
        if is_made.is_ok() {
            names.push(mine.replace('/', ":").parse().expect("a name"));
        }
        let contexts = kernel.contexts(&names).map(Iterator::collect::<Vec<_>>);
        // A kernel that has kept nothing.
        let fresh = Kernel::live().expect("tracefs");
        let structs = fresh.structs(&names).map(Iterator::collect::<Vec<_>>);
        let with_ids = fresh
            .structs_and_ids(&names)
            .map(Iterator::collect::<Vec<_>>);
        if is_made.is_ok() {
            write(format!("-:{mine}\n")).expect("it is removed");
        }
        let (structs, with_ids) = (structs.expect("BTF"), with_ids.expect("BTF"));
        let json = |of: &ContextStruct| {
            let evidence = format!("{:?}", of.evidence());
            (
                serde_json::to_value(of).expect("JSON"),
                evidence,
                of.type_id(),
            )
        };
        assert_eq!((structs.len(), with_ids.len()), (names.len(), names.len()));
        let all = contexts
            .expect("BTF")
            .into_iter()
            .zip(structs)
            .zip(with_ids);
        for ((context, alone), with_id) in all {
            let (event, context) = context.expect("an event");
            let (with_id, id) = with_id.expect("an event");
            let expected = json(context.of_struct());
            assert_eq!(
                json(&alone.expect("an event")),
                expected,
                "{}",
                event.name()
            );
            assert_eq!(json(&with_id), expected, "{}", event.name());
            assert_eq!(id, event.id(), "{}", event.name());
        }
        if let Err(error) = is_made {
            eprintln!("{TEST}: without a probe: {error}");
        }
    }
}
