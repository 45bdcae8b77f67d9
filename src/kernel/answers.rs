//! The kernel's answers about events for which format and BTF leave several classes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Kernel;
use crate::btf::{Object, TypeId};
use crate::context::{
    self, CapturedClasses, CapturedFrom, Homes, KernelSays, KernelSource, Witness,
};
use crate::error::Error;
use crate::files::{Listing, Modules};
use crate::format::Format;
use crate::name::EventName;

/// Formats that a sweep has read, by event.
pub(super) type ReadFormats<'a> = HashMap<&'a EventName, &'a Arc<Format>>;

/// Answers found before, kept as long as BTF is.
#[derive(Debug, Default)]
pub(super) struct KnownAnswers {
    /// The formats of events that are witnesses of their classes.
    witnesses: Mutex<HashMap<EventName, Arc<Format>>>,
    header_runs: Mutex<HeaderRunVerdicts>,
}

/// The verdict for each object: whether all its events of proven class are in the header
/// run of that class.
#[derive(Debug, Default)]
struct HeaderRunVerdicts {
    /// The events that existed when the verdicts were found.
    listing: Option<Arc<Listing>>,
    by_object: HashMap<String, bool>,
}

impl HeaderRunVerdicts {
    /// Returns the verdicts that hold for these events.
    fn about(&mut self, listing: &Arc<Listing>) -> &mut HashMap<String, bool> {
        let is_same = self
            .listing
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, listing) || known.names() == listing.names());
        if !is_same {
            self.by_object.clear();
        }
        self.listing = Some(Arc::clone(listing));
        &mut self.by_object
    }
}

/// The kernel's answers about one event.
pub(super) struct Answers<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) name: &'a EventName,
    /// The event's id; `None` in an image.
    pub(super) id: Option<u32>,
    pub(super) listing: &'a Arc<Listing>,
    /// The modules of a sweep; `None` for those loaded now.
    pub(super) modules: Option<&'a Modules>,
    pub(super) formats: Option<&'a ReadFormats<'a>>,
    /// Whether header runs may be used, which they may not while they are being checked.
    pub(super) may_ask_runs: bool,
}

impl Answers<'_> {
    /// Whether the object is the only home of an event of this name: vmlinux if it defines
    /// one, and otherwise the only module that does.
    fn is_only_home(&self, event: &str, object: &Arc<Object>) -> bool {
        let homes = match self.modules {
            Some(modules) => self.kernel.homes_among(event, false, modules),
            None => self.kernel.homes_now(event, false),
        };
        matches!(homes, Ok(Homes::Found(homes)) if matches!(&*homes, [home] if Arc::ptr_eq(home, object)))
    }

    fn read(&self, name: &EventName) -> Option<Arc<Format>> {
        if let Some(format) = self.formats.and_then(|formats| formats.get(name)) {
            return Some(Arc::clone(format));
        }
        // A format that cannot be read is an error of its own event.
        let format: Result<Option<Format>, Error> = self.kernel.inner.tracefs.format(name);
        format.ok().flatten().map(Arc::new)
    }

    /// Checks whether every event that the object defines, and whose class is proven, is
    /// in the header run of that class.
    fn check_header_runs(&self, object: &Arc<Object>) -> bool {
        let is_in_run = |name: &EventName| {
            let Some(format) = self.read(name) else {
                return true;
            };
            let answers = Answers {
                name,
                id: format.id(),
                may_ask_runs: false,
                ..*self
            };
            let homes = Homes::Found(vec![Arc::clone(object)]);
            let context = context::resolve(name, &format, homes, &answers);
            context::is_in_header_run(&context, object)
        };
        let names = self.listing.names().iter();
        let defined = names.filter(|name| {
            object.index().has_event(name.event())
                && self.listing.only(name.event()) == Some(name)
                && self.is_only_home(name.event(), object)
        });
        defined.into_iter().all(is_in_run)
    }
}

impl KernelSays for Answers<'_> {
    fn witness(&self, event: &str, object: &Arc<Object>) -> Option<Witness> {
        let name = self.listing.only(event)?;
        if !self.is_only_home(event, object) {
            return None;
        }
        let known = lock(&self.kernel.inner.answers.witnesses)
            .get(name)
            .cloned();
        let format = match known {
            Some(format) => format,
            None => {
                let format = self.read(name)?;
                let mut witnesses = lock(&self.kernel.inner.answers.witnesses);
                Arc::clone(witnesses.entry(name.clone()).or_insert(format))
            }
        };
        Some(Witness {
            name: name.clone(),
            format,
        })
    }

    fn type_id(&self) -> Option<TypeId> {
        // A `btf_ids` file that cannot be read leaves the choice open.
        self.kernel.inner.tracefs.context_type_id(self.name).ok()?
    }

    fn class_in_memory(&self) -> Option<String> {
        self.kernel.class_in_memory(self.name, self.id)
    }

    fn recorded_class(&self) -> Option<(String, KernelSource)> {
        // A `classes` file that cannot be read leaves the choice open, too.
        let classes = self.kernel.inner.classes.get_or_init(|| {
            let text = self.kernel.inner.tracefs.classes().ok().flatten();
            CapturedClasses::parse(&text.unwrap_or_default())
        });
        let (class, from) = classes.class_of(self.name, self.id)?;
        let source = match (from, self.kernel.inner.is_image) {
            (CapturedFrom::Image, true) => KernelSource::Image,
            (from, _) => KernelSource::Capture(from),
        };
        Some((class, source))
    }

    fn obeys_header_runs(&self, object: &Arc<Object>) -> bool {
        if !self.may_ask_runs {
            return false;
        }
        let verdicts = &self.kernel.inner.answers.header_runs;
        let known = lock(verdicts)
            .about(self.listing)
            .get(object.name())
            .copied();
        known.unwrap_or_else(|| {
            let verdict = self.check_header_runs(object);
            let mut verdicts = lock(verdicts);
            let verdicts = verdicts.about(self.listing);
            verdicts.insert(object.name().to_owned(), verdict);
            verdict
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The law behind the inference from header runs. It holds on every captured kernel for
    /// every event whose class was read from the kernel's memory, proven or not.
    #[test]
    fn every_class_is_in_its_events_header_run() {
        let Some(corpus) = std::env::var_os("TRACEPOINTS_CORPUS") else {
            eprintln!("SKIPPED: TRACEPOINTS_CORPUS names no directory of whole captured kernels");
            return;
        };
        for entry in Path::new(&corpus).read_dir().expect("a directory") {
            let root = entry.expect("an entry").path();
            let Ok(truth) = fs::read_to_string(root.join("truth/class.tsv")) else {
                continue;
            };
            let kernel = Kernel::at(&root).expect("a kernel");
            let mut compared = 0;
            for row in truth.lines() {
                let (event, class) = row.split_once('\t').expect("two words");
                let (_, event) = event.split_once(':').expect("a name");
                let Ok(Homes::Found(homes)) = kernel.homes_now(event, false) else {
                    continue;
                };
                let [home] = &*homes else { continue };
                let (index, section) = (home.index(), home.section());
                let [class] = index.classes_named(class) else {
                    continue;
                };
                let of_class = index.header_run_of_class(section, class);
                let of_event = index.header_run_of_event(section, event);
                if let (Some(of_class), Some(of_event)) = (of_class, of_event) {
                    assert_eq!(of_class, of_event, "{}: {row}", root.display());
                    compared += 1;
                }
            }
            println!("{}: {compared} events", root.display());
            assert!(compared > 300 || !root.join("btf/vmlinux").exists());
        }
    }
}
