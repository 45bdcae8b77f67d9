//! Contexts of the running kernel, kept from one sweep to the next.
//!
//! Reading a format file takes most of a sweep's time. The file of an event that the kernel
//! or a module defines does not change while the same modules are loaded, and neither does a
//! class that was proven for it. Everything else is found anew each time:
//!
//! - captured kernels, whose files may be rewritten at any time;
//! - events made at run time, which may be made again with other fields under the same name;
//! - events that share their names, which must be told apart by reading the others;
//! - classes that are not proven: the kernel may answer now what it did not then.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Kernel, Tracepoint};
use crate::context::{Context, Evidence};
use crate::files::{Listing, Modules};
use crate::format::Format;
use crate::name::EventName;

/// The contexts kept by a [`Kernel`].
#[derive(Debug, Default)]
pub(super) struct KeptContexts(Mutex<Option<ContextsWhileLoaded>>);

#[derive(Clone, Debug)]
struct ContextsWhileLoaded {
    /// The modules that were loaded.
    modules: Arc<Modules>,
    /// Without the kernel itself, which holds them.
    contexts: Arc<HashMap<EventName, (Arc<Format>, Context)>>,
}

/// Which of the kept contexts hold now.
pub(super) struct Usable<'k> {
    kernel: &'k Kernel,
    contexts: Arc<HashMap<EventName, (Arc<Format>, Context)>>,
    listing: Arc<Listing>,
    modules: Arc<Modules>,
    /// The names, without categories, of events made at run time. `None` if nothing may be
    /// kept.
    made_at_run_time: Option<HashSet<String>>,
}

impl<'k> Usable<'k> {
    /// Returns the contexts of `kernel` that hold while these events exist and these modules
    /// are loaded.
    pub(super) fn of(kernel: &'k Kernel, listing: &Arc<Listing>, modules: &Arc<Modules>) -> Self {
        let kept = kernel.inner.kept.0.lock();
        let kept = kept.unwrap_or_else(PoisonError::into_inner).clone();
        let kept = kept.filter(|kept| Arc::ptr_eq(&kept.modules, modules));
        Self {
            kernel,
            contexts: kept.map(|kept| kept.contexts).unwrap_or_default(),
            listing: Arc::clone(listing),
            modules: Arc::clone(modules),
            made_at_run_time: kernel.is_live().then(|| made_at_run_time(kernel)).flatten(),
        }
    }

    /// Returns an event with its context, if it is kept and still holds.
    pub(super) fn get(&self, name: &EventName) -> Option<(Tracepoint, Context)> {
        let (format, context) = self.contexts.get(name)?;
        if !self.is_of_kernel(name) {
            return None;
        }
        let tracepoint = Tracepoint::of(self.kernel.clone(), name.clone(), Arc::clone(format));
        Some((tracepoint, context.clone()))
    }

    /// Keeps those of the events whose contexts will hold.
    pub(super) fn keep<'f>(&self, found: impl Iterator<Item = &'f (Tracepoint, Context)>) {
        if self.made_at_run_time.is_none() {
            return;
        }
        let will_hold = found.filter(|(tracepoint, context)| {
            let evidence = context.evidence();
            (evidence.is_proof() || matches!(evidence, Evidence::Syscall(_)))
                && !self.contexts.contains_key(tracepoint.name())
                && self.is_of_kernel(tracepoint.name())
        });
        let new: Vec<_> = will_hold
            .map(|(tracepoint, context)| {
                let format = Arc::clone(tracepoint.shared_format());
                (tracepoint.name().clone(), (format, context.clone()))
            })
            .collect();
        if new.is_empty() {
            return;
        }
        let mut contexts = HashMap::clone(&self.contexts);
        contexts.extend(new);
        let kept = ContextsWhileLoaded {
            modules: Arc::clone(&self.modules),
            contexts: Arc::new(contexts),
        };
        let mut place = self.kernel.inner.kept.0.lock();
        **place.as_mut().unwrap_or_else(|poisoned| poisoned.get_mut()) = Some(kept);
    }

    /// Whether the running kernel or one of its modules defines the event, and no other
    /// event shares its name.
    pub(super) fn is_of_kernel(&self, name: &EventName) -> bool {
        let made = self.made_at_run_time.as_ref();
        made.is_some_and(|made| !made.contains(name.event()))
            && self.listing.only(name.event()) == Some(name)
    }
}

/// Returns the names, without categories, in `dynamic_events`: `sys_enter` of
/// `e:eprobes/sys_enter raw_syscalls/sys_enter …`. `None` if the kernel does not tell.
fn made_at_run_time(kernel: &Kernel) -> Option<HashSet<String>> {
    let lines = kernel.inner.tracefs.dynamic_events().ok()??;
    let made = lines.lines().filter_map(Kernel::made_by);
    Some(made.map(|(_, event)| event.to_owned()).collect())
}

#[cfg(all(test, feature = "probe", target_os = "linux"))]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use super::*;

    /// Returns the number of reads that this thread has made.
    fn reads() -> u64 {
        let io = std::fs::read_to_string("/proc/thread-self/io").expect("proc");
        let reads = io.lines().find_map(|line| line.strip_prefix("syscr: "));
        reads.expect("a count").parse().expect("a number")
    }

    /// Found again, every context of the running kernel is the same, and formats that cannot
    /// have changed are not read.
    #[test]
    fn found_again_they_are_the_same() {
        const TEST: &str = "kernel::kept::tests::found_again_they_are_the_same";
        let Some(kernel) = crate::live_test::kernel(TEST) else {
            return;
        };
        let names = crate::live_test::lasting_events(&kernel);
        let mut counts = Vec::new();
        let mut sweep = || -> Vec<_> {
            let before = reads();
            let found = kernel.contexts(&names).expect("BTF").flatten().collect();
            counts.push(reads() - before);
            found
        };
        let (first, again) = (sweep(), sweep());
        assert_eq!(first.len(), again.len());
        for ((event, context), (event_again, context_again)) in std::iter::zip(&first, &again) {
            assert_eq!(event.name(), event_again.name());
            assert_eq!(event.format(), event_again.format(), "{}", event.name());
            let json = |context| serde_json::to_value(context).expect("JSON");
            assert_eq!(json(context), json(context_again));
        }
        // The helping thread has made some of the first sweep's reads.
        assert!(counts[1] * 5 < counts[0], "{counts:?} reads");
        // Names in another order, and some of them alone, get their own.
        let some: Vec<EventName> = names.iter().rev().step_by(7).cloned().collect();
        for (name, found) in std::iter::zip(&some, kernel.contexts(&some).expect("BTF")) {
            assert_eq!(found.expect("an event").0.name(), name);
        }
    }

    /// An event made again at run time, with other fields, is read again.
    #[test]
    fn events_made_at_run_time_are_not_kept() {
        const TEST: &str = "kernel::kept::tests::events_made_at_run_time_are_not_kept";
        let Some(kernel) = crate::live_test::kernel(TEST) else {
            return;
        };
        let category = format!("tracepoints_kept_{}", std::process::id());
        let write = |line: String| {
            let path = kernel.tracefs().join("dynamic_events");
            let mut file = OpenOptions::new().append(true).open(path)?;
            file.write_all(line.as_bytes())
        };
        let names = [format!("{category}:made").parse().expect("a name")];
        for fields in [&["first"][..], &["second", "third"]] {
            let arguments = fields.iter().map(|field| format!("{field}=$stack0:u32"));
            let arguments: Vec<String> = arguments.collect();
            let make = format!("p:{category}/made /bin/sh:0x1000 {}\n", arguments.join(" "));
            if let Err(error) = write(make) {
                return eprintln!("SKIPPED {TEST}: no uprobes: {error}");
            }
            let found = kernel.contexts(&names).map(Iterator::collect::<Vec<_>>);
            write(format!("-:{category}/made\n")).expect("it is removed");
            let found = found.expect("BTF").pop().expect("an answer");
            let (event, _) = found.expect("it was there");
            let read = event.format().fields().iter().skip(1);
            let read: Vec<&str> = read.map(|field| field.name()).collect();
            assert_eq!(read, fields);
        }
    }
}
