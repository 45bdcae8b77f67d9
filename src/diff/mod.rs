//! The differences between the tracepoints of two kernels, and what they mean for users.
//!
//! Any two kernels are compared: running, captured, archived or read from an image. An
//! event of one of them alone is gone or new; of an event of both, its struct, its
//! record's fields, the arguments of its raw tracepoint, and the names of its flags and
//! values are compared.
//!
//! ```
//! use tracepoints::Kernel;
//! use tracepoints::diff::{KernelDiff, UserVerdict};
//!
//! let old = Kernel::at("tests/fixtures/6.1.192-rt-x86_64")?;
//! let new = Kernel::at("tests/fixtures/6.18.15-x86_64")?;
//! let diff = KernelDiff::between(&old, &new)?;
//! let exit = diff.event("sched:sched_process_exit").ok_or("no difference")?;
//! // The old struct is still there, and libbpf relocates to it.
//! let users = exit.users().ok_or("it is gone")?;
//! assert_eq!(users.core.verdict, UserVerdict::WrongValue);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Verdicts are about programs that were made for the first kernel and run on the second:
//!
//! | user | reads |
//! | --- | --- |
//! | BPF with CO-RE | the struct's members, which libbpf finds by name |
//! | BPF with fixed offsets | what is at the first kernel's offsets |
//! | parsers of format files (perf, trace-cmd) | fields by name |
//! | raw tracepoints | arguments by their position |

mod event;
mod users;

pub use event::{EventChange, EventDiff, FromTo, NameChange, RawDiff};
pub use users::{Judged, UserVerdict, UserVerdicts};

use std::collections::{BTreeMap, HashMap};

use crate::context::{Context, RawTracepoint};
use crate::error::{Error, with_causes};
use crate::kernel::{Kernel, Tracepoint};
use crate::layout::Difference;
use crate::name::EventName;
use event::Side;

/// The differences between two kernels.
#[derive(Clone, Debug)]
pub struct KernelDiff {
    common: Vec<Difference>,
    events: Vec<EventDiff>,
    tracepoints: Vec<RawDiff>,
    unreadable: Vec<String>,
}

/// A kernel's events with their contexts.
struct ComparedKernel {
    events: BTreeMap<EventName, (Tracepoint, Context)>,
    bare: BTreeMap<String, RawTracepoint>,
    /// Each with the reason.
    unreadable: BTreeMap<EventName, String>,
}

impl ComparedKernel {
    fn of(kernel: &Kernel) -> Result<Self, Error> {
        let names: Vec<EventName> = kernel.events()?.into_iter().collect();
        let mut known = Self {
            events: BTreeMap::new(),
            bare: BTreeMap::new(),
            unreadable: BTreeMap::new(),
        };
        for (name, found) in std::iter::zip(&names, kernel.contexts(&names)?) {
            match found {
                Ok(found) => drop(known.events.insert(name.clone(), found)),
                Err(error) if error.is_of_one_event() => {
                    known.unreadable.insert(name.clone(), with_causes(&error));
                }
                Err(error) => return Err(error),
            }
        }
        let bare = match kernel.bare_tracepoints() {
            Ok(bare) => bare,
            Err(Error::NoBtf { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        known.bare = bare
            .into_iter()
            .map(|raw| (raw.name().to_owned(), raw))
            .collect();
        Ok(known)
    }
}

impl KernelDiff {
    /// Compares two kernels, the first of which is the one that programs were made for.
    ///
    /// # Errors
    ///
    /// Those of [`Kernel::contexts`], and [`Error::Layout`] where types cannot be
    /// followed. An event that cannot be read is among [`unreadable`](Self::unreadable).
    pub fn between(from: &Kernel, to: &Kernel) -> Result<Self, Error> {
        let (old, new) = (ComparedKernel::of(from)?, ComparedKernel::of(to)?);
        let objects = to.objects()?;
        let mut diff = Self {
            common: event::common_differences(&old.events, &new.events),
            events: Vec::new(),
            tracepoints: Vec::new(),
            unreadable: [&old, &new]
                .iter()
                .flat_map(|known| known.unreadable.values().cloned())
                .collect(),
        };
        for (name, (tracepoint, context)) in &old.events {
            let here = Side::new(tracepoint, context)?;
            match new.events.get(name) {
                Some((tracepoint, context)) => {
                    let there = Side::new(tracepoint, context)?;
                    diff.events.extend(EventDiff::of(&here, &there, &objects)?);
                }
                None if new.unreadable.contains_key(name) => {}
                None => diff.events.push(EventDiff::gone(name.clone())),
            }
        }
        let added = new.events.keys();
        let added = added.filter(|name| !old.events.contains_key(*name));
        let added = added.filter(|name| !old.unreadable.contains_key(*name));
        diff.events.extend(added.cloned().map(EventDiff::new_event));
        diff.events.sort_by(|a, b| a.event().cmp(b.event()));
        diff.tracepoints = RawDiff::between(&old.bare, &new.bare);
        Ok(diff)
    }

    /// Returns what differs in the fields that all records begin with.
    pub fn common(&self) -> &[Difference] {
        &self.common
    }

    /// Returns the events that differ, by name.
    pub fn events(&self) -> &[EventDiff] {
        &self.events
    }

    /// Returns the difference of one event; `None` if it has none.
    pub fn event(&self, name: &str) -> Option<&EventDiff> {
        self.events
            .iter()
            .find(|diff| diff.event().as_str() == name)
    }

    /// Returns the tracepoints without events that differ, by name.
    pub fn tracepoints(&self) -> &[RawDiff] {
        &self.tracepoints
    }

    /// Returns why events of either kernel cannot be read, one text each. They are not
    /// compared.
    pub fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.common.is_empty() && self.events.is_empty() && self.tracepoints.is_empty()
    }

    /// Returns how many events have each verdict, for one kind of user.
    pub fn counts(
        &self,
        user: impl Fn(&UserVerdicts) -> UserVerdict,
    ) -> BTreeMap<UserVerdict, usize> {
        let mut counts: HashMap<UserVerdict, usize> = HashMap::new();
        for users in self.events.iter().filter_map(EventDiff::users) {
            *counts.entry(user(users)).or_default() += 1;
        }
        counts.into_iter().collect()
    }
}
