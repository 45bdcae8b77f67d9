//! A kernel, live or captured: where everything starts.

mod enumerators;
mod events_by_id;
mod homes;
mod sweep;
mod tracepoint;

pub use crate::files::{Events, RejectedName};
pub use events_by_id::EventsById;
pub use sweep::Contexts;
pub use tracepoint::Tracepoint;

use std::collections::HashSet;
use std::fs;
#[cfg(all(feature = "probe", target_os = "linux"))]
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

#[cfg(all(feature = "probe", target_os = "linux"))]
use crate::bpf::memory::KernelMemory;
use crate::btf::{BtfError, Object};
use crate::context::{self, Context, FormatReason, Homes, KernelSays, RawTracepoint};
use crate::error::Error;
use crate::files::{BtfDir, Dir, Listing, Modules, Reader, Tracefs};
use crate::format::Format;
use crate::format::print::PrintFmtError;
use crate::machine::{ByteOrder, Machine};
use crate::name::{EventName, EventPattern, near};
use crate::record::ring::PageLayout;
use crate::text::{Addresses, FlagColumns, Renderer, TaskNames};
use enumerators::{Enumerators, enumerators};
use sweep::Sweep;

/// A kernel to ask about its tracepoints: the running one, or one captured in a
/// directory laid out like `/sys/kernel`, with `tracing/` and `btf/`.
///
/// A captured kernel may be anyone's. Links in it are not followed, and what is
/// larger than any kernel makes it is an error: a format file of over 1 MiB,
/// `available_events` of over 4 MiB, a BTF object of over 64 MiB, or all of them
/// together of over 256 MiB.
///
/// BTF objects are read once, when first needed, and kept. Modules come and go:
/// what tracefs says is read anew each time, and modules loaded meanwhile are
/// found. Of a module that was replaced by another version a new `Kernel` knows.
///
/// ```
/// use tracepoints::{Evidence, Kernel};
///
/// let kernel = Kernel::at("tests/fixtures/6.1.192-rt-x86_64")?;
/// let exit = kernel.tracepoint("sched:sched_process_exit")?.context()?;
/// assert_eq!(exit.struct_name(), Some("trace_event_raw_sched_process_template"));
/// assert_eq!(exit.evidence(), &Evidence::Template);
/// # Ok::<(), tracepoints::Error>(())
/// ```
///
/// Cloning is cheap: clones share all that was read.
#[derive(Clone, Debug)]
pub struct Kernel {
    inner: Arc<Inner>,
    /// As far as it is known without BTF.
    byte_order: Option<ByteOrder>,
}

/// The state that clones of a [`Kernel`] share.
#[derive(Debug)]
struct Inner {
    tracefs: Tracefs,
    btf: BtfDir,
    is_live: bool,
    /// Enumerators, read when first needed.
    constants: OnceLock<Option<Enumerators>>,
    module_constants: OnceLock<Option<Enumerators>>,
    /// Made when first needed; `None` inside where it cannot be.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    memory: OnceLock<Option<KernelMemory>>,
    /// As it was when last read; `None` before.
    listing: RwLock<Option<Arc<Listing>>>,
}

impl Kernel {
    /// The running kernel: tracefs at `/sys/kernel/tracing`,
    /// `/sys/kernel/debug/tracing` or wherever `/proc/self/mountinfo` says, BTF
    /// at `/sys/kernel/btf`.
    ///
    /// # Errors
    ///
    /// [`Error::NotMounted`] if tracefs is not mounted, and [`Error::File`] with
    /// [`FileError::PermissionDenied`](crate::FileError::PermissionDenied) if it is for
    /// root alone.
    pub fn live() -> Result<Self, Error> {
        // Without /proc the usual places are still looked at.
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let tracefs = Tracefs::find(Path::new("/"), &mountinfo)?;
        let kernel = Self::new(tracefs, Dir::live("/sys/kernel"));
        Ok(kernel.with_byte_order(ByteOrder::NATIVE))
    }

    /// A kernel captured in `root`, laid out like `/sys/kernel`:
    /// `tracing/available_events`, `tracing/events/<category>/<event>/format`
    /// and, if the kernel had BTF, `btf/vmlinux` and `btf/<module>`.
    ///
    /// # Errors
    ///
    /// [`Error::NotAKernel`] if `root` has no events,
    /// [`Error::File`] if it may not be looked into or its `tracing` is a link.
    pub fn at(root: impl AsRef<Path>) -> Result<Self, Error> {
        let root = root.as_ref();
        Ok(Self::new(Tracefs::at(root)?, Dir::captured(root)))
    }

    fn new(tracefs: Tracefs, root: Dir) -> Self {
        let inner = Inner {
            tracefs,
            btf: BtfDir::new(root.sub("btf")),
            is_live: root.is_live(),
            constants: OnceLock::new(),
            module_constants: OnceLock::new(),
            #[cfg(all(feature = "probe", target_os = "linux"))]
            memory: OnceLock::new(),
            listing: RwLock::new(None),
        };
        Self {
            inner: Arc::new(inner),
            byte_order: None,
        }
    }

    /// Whether it is the running one, which programs can be attached to.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(crate) fn is_live(&self) -> bool {
        self.inner.is_live
    }

    /// What `dynamic_events` says: the events made at run time, one a line; nothing
    /// if the kernel has no such file.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(crate) fn dynamic_events(&self) -> String {
        fs::read_to_string(self.inner.tracefs.root().join("dynamic_events")).unwrap_or_default()
    }

    /// Says in which order the kernel keeps the bytes of a number, where a captured
    /// one has no BTF that would tell. It is believed.
    #[must_use]
    pub fn with_byte_order(mut self, byte_order: ByteOrder) -> Self {
        self.byte_order = Some(byte_order);
        self
    }

    /// What the meaning of a record's bytes depends on: the byte order, which BTF
    /// tells of a captured kernel, and the size of a `long`, which the pages of its
    /// ring buffer do.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownByteOrder`] of a captured kernel without BTF that
    /// [`with_byte_order`](Self::with_byte_order) did not say it of, and those of
    /// [`page_layout`](Self::page_layout); [`Error::Btf`] for what is no BTF.
    pub fn machine(&self) -> Result<Machine, Error> {
        let byte_order = match self.byte_order {
            Some(byte_order) => byte_order,
            None => self
                .inner
                .btf
                .byte_order()?
                .ok_or_else(|| Error::UnknownByteOrder {
                    path: self.inner.btf.path().join("vmlinux"),
                })?,
        };
        Ok(self.page_layout()?.machine(byte_order))
    }

    /// How the pages of its ring buffer are made: `events/header_page`.
    ///
    /// # Errors
    ///
    /// [`Error::NoPageLayout`] if there is no such file, [`Error::PageLayout`] if
    /// it is not what this crate knows; [`Error::File`].
    pub fn page_layout(&self) -> Result<PageLayout, Error> {
        self.inner.tracefs.page_layout()
    }

    /// Which letters its `trace` file shows of what a CPU was doing.
    ///
    /// A kernel does not say it but in that file ([`FlagColumns::of_legend`]). Here
    /// one without `ftrace:func_repeats` is taken for Linux 5.12 or older, and any
    /// other for 5.15 or later, which is wrong of 5.13 and 5.14.
    ///
    /// # Errors
    ///
    /// Those of [`tracepoint`](Self::tracepoint), about `ftrace:print`.
    pub fn flag_columns(&self) -> Result<FlagColumns, Error> {
        let has = |name: &str| -> Result<bool, Error> {
            let name: EventName = name.parse()?;
            Ok(self.inner.tracefs.has_format(&name))
        };
        // Excerpts of a kernel may have no events of ftrace's own.
        if !has("ftrace:print")? {
            return Ok(FlagColumns::Five);
        }
        let print = self.tracepoint("ftrace:print")?;
        match FlagColumns::of_format(print.format()) {
            FlagColumns::Five if !has("ftrace:func_repeats")? => Ok(FlagColumns::Four),
            columns => Ok(columns),
        }
    }

    /// What prints records of an event of this kernel: see [`Renderer`]. Enumerators
    /// that stand in the print fmt by name are looked up in BTF, vmlinux' first; one
    /// that several enums have with different values is not known.
    ///
    /// # Errors
    ///
    /// [`PrintFmtError`] where the print fmt is not understood.
    pub fn renderer(
        &self,
        event: &EventName,
        format: &Format,
        machine: Machine,
    ) -> Result<Renderer, PrintFmtError> {
        Renderer::with_constants(event, format, machine, &|name| self.constant(name))
    }

    /// The value of an enumerator of vmlinux', or else of a module's; `None` if there
    /// is none, or several.
    pub(crate) fn constant(&self, name: &str) -> Option<i64> {
        let vmlinux = self.inner.constants.get_or_init(|| {
            let vmlinux = self.inner.btf.vmlinux().ok().flatten();
            enumerators(vmlinux.as_slice())
        });
        if let Some(value) = vmlinux.as_ref()?.get(name) {
            return *value;
        }
        let modules = self.inner.module_constants.get_or_init(|| {
            let objects = self.inner.btf.objects().unwrap_or_default();
            enumerators(objects.get(1..).unwrap_or_default())
        });
        modules.as_ref()?.get(name).copied().flatten()
    }

    /// What addresses of the kernel stand for: its strings, from `printk_formats`,
    /// and of the running kernel its functions, from `/proc/kallsyms`, as far as this
    /// process may see them.
    ///
    /// # Errors
    ///
    /// [`Error::File`], about `printk_formats`.
    pub fn addresses(&self) -> Result<Addresses, Error> {
        let mut addresses = Addresses::new();
        if let Some(strings) = self.inner.tracefs.printk_formats()? {
            addresses = addresses.with_printk_formats(&strings);
        }
        if self.inner.is_live
            && let Ok(symbols) = fs::read("/proc/kallsyms")
        {
            addresses = addresses.with_kallsyms(&String::from_utf8_lossy(&symbols));
        }
        Ok(addresses)
    }

    /// The names of processes the kernel saved while it traced, from
    /// `saved_cmdlines`; none where there is no such file.
    ///
    /// # Errors
    ///
    /// [`Error::File`], about that file.
    pub fn task_names(&self) -> Result<TaskNames, Error> {
        let text = self.inner.tracefs.saved_cmdlines()?;
        Ok(TaskNames::parse(&text.unwrap_or_default()))
    }

    /// The events by the ids their records carry.
    ///
    /// # Errors
    ///
    /// Those of [`machine`](Self::machine) and of
    /// [`event_directories`](Self::event_directories), and those of reading an
    /// `id` file.
    pub fn events_by_id(&self) -> Result<EventsById, Error> {
        EventsById::read(self.clone(), self.machine()?)
    }

    /// The directory of tracefs in use, such as `/sys/kernel/tracing`.
    pub fn tracefs(&self) -> &Path {
        self.inner.tracefs.root()
    }

    /// The names of the events programs can be attached to, in the kernel's
    /// order: `available_events`, one file. `ftrace:*` are not among them.
    ///
    /// # Errors
    ///
    /// [`Error::File`], about that file.
    pub fn events(&self) -> Result<Events, Error> {
        let events = self.inner.tracefs.events()?;
        self.remember(&events);
        Ok(events)
    }

    /// The names of all events with a directory in `events/`, sorted. These are
    /// those of [`events`](Self::events) and `ftrace:*`, which the function
    /// tracers write and no program can be attached to.
    ///
    /// # Errors
    ///
    /// [`Error::File`], about a directory.
    pub fn event_directories(&self) -> Result<Events, Error> {
        self.inner.tracefs.event_directories()
    }

    /// The events that match any of the patterns, in the kernel's order; all if
    /// there is no pattern. A pattern that is a name finds the event also where
    /// it is not listed (`ftrace:function`).
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchEvent`] for a name and [`Error::NoMatch`] for a pattern
    /// that finds nothing, and those of [`events`](Self::events).
    pub fn select(&self, patterns: &[EventPattern]) -> Result<Events, Error> {
        let mut events = self.events()?;
        if patterns.is_empty() {
            return Ok(events);
        }
        let mut unlisted = Vec::new();
        for pattern in patterns {
            if events.names().iter().any(|name| pattern.matches(name)) {
                continue;
            }
            match pattern.to_name() {
                Some(name) if unlisted.contains(&name) => {}
                Some(name) if self.inner.tracefs.has_format(&name) => unlisted.push(name),
                Some(name) => return Err(no_such_event(name, &events)),
                None => {
                    return Err(Error::NoMatch {
                        near: near(&pattern.to_string(), events.names()),
                        pattern: pattern.to_string(),
                    });
                }
            }
        }
        events.retain(|name| patterns.iter().any(|pattern| pattern.matches(name)));
        events.extend(unlisted);
        Ok(events)
    }

    /// One event, with what its format file says.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] for what is no name; [`Error::NoSuchEvent`], with near
    /// names; [`Error::EventGone`]; [`Error::Format`] and
    /// [`Error::OtherEvent`] for a bad format file; [`Error::File`].
    pub fn tracepoint(&self, name: impl AsRef<str>) -> Result<Tracepoint, Error> {
        let name: EventName = name.as_ref().parse()?;
        self.read_tracepoint(&name, self.inner.tracefs.format(&name)?)
    }

    /// Many events at once, each with its context, in the order of `names`: the
    /// same answers as of [`tracepoint`](Self::tracepoint) and
    /// [`Tracepoint::context`] for each, in a fraction of the time. Two threads
    /// share the work; the lists of events and of modules are read once. What fails
    /// for one event alone is in its place.
    ///
    /// ```
    /// # use tracepoints::{EventName, Kernel};
    /// let kernel = Kernel::at("tests/fixtures/6.18.15-x86_64")?;
    /// let names: Vec<EventName> = kernel.events()?.into_iter().collect();
    /// for found in kernel.contexts(&names)? {
    ///     let (tracepoint, context) = found?;
    ///     println!("{}: {:?}", tracepoint.name(), context.struct_name());
    /// }
    /// # Ok::<(), tracepoints::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// About what all need: [`Error::Btf`] if vmlinux's BTF is not sound, those
    /// of [`events`](Self::events), and [`Error::File`],
    /// about BTF's files. About one event, those of [`tracepoint`](Self::tracepoint).
    pub fn contexts(&self, names: &[EventName]) -> Result<Contexts, Error> {
        let listing = self.listing_for(names)?;
        let modules = self.inner.btf.refreshed()?;
        Sweep::new(self, names, listing, modules).run()
    }

    pub(crate) fn reader(&self) -> Reader {
        self.inner.tracefs.reader()
    }

    pub(crate) fn tracepoint_by(
        &self,
        reader: &mut Reader,
        name: &EventName,
    ) -> Result<Tracepoint, Error> {
        self.read_tracepoint(name, self.inner.tracefs.format_by(reader, name)?)
    }

    pub(crate) fn vmlinux(&self) -> Result<Option<Arc<Object>>, Error> {
        self.inner.btf.vmlinux()
    }

    pub(crate) fn is_vmlinux_read(&self) -> bool {
        self.inner.btf.is_vmlinux_read()
    }

    /// Like [`context`](Self::context), of one among many: what may have changed
    /// since `listing` and `modules` were read is not looked for.
    pub(crate) fn context_in(
        &self,
        tracepoint: &Tracepoint,
        listing: &Listing,
        modules: &Modules,
    ) -> Result<Context, Error> {
        let (name, format) = (tracepoint.name(), tracepoint.shared_format());
        if context::is_syscall(name) {
            return Ok(context::resolve_syscall(
                name,
                format,
                self.inner.btf.vmlinux()?,
            ));
        }
        let homes = self.homes_by(name, listing, |event, shared| {
            self.homes_among(event, shared, modules)
        })?;
        Ok(self.resolve(name, format, homes))
    }

    fn read_tracepoint(
        &self,
        name: &EventName,
        format: Option<Format>,
    ) -> Result<Tracepoint, Error> {
        match format {
            Some(format) => Ok(Tracepoint::new(self.clone(), name.clone(), format)),
            None if self.listing_for(std::slice::from_ref(name))?.contains(name) => {
                Err(Error::EventGone {
                    path: self.inner.tracefs.format_path(name),
                    name: name.clone(),
                })
            }
            None => Err(no_such_event(name.clone(), &self.events()?)),
        }
    }

    /// The names of the kernel's BTF objects: `vmlinux`, then the modules,
    /// sorted.
    ///
    /// # Errors
    ///
    /// [`Error::NoBtf`]; [`Error::Btf`] if vmlinux's is not sound;
    /// [`Error::File`].
    pub fn btf_objects(&self) -> Result<Vec<String>, Error> {
        if self.inner.btf.vmlinux()?.is_none() {
            return Err(self.no_btf());
        }
        let mut names = vec!["vmlinux".to_owned()];
        names.extend(self.inner.btf.module_names()?);
        Ok(names)
    }

    /// The tracepoints behind the events of all categories and those that have
    /// no event: see [`RawTracepoint`].
    ///
    /// # Errors
    ///
    /// [`Error::NoRawTracepoint`] if no BTF object defines one of this name, and
    /// those of [`btf_objects`](Self::btf_objects).
    pub fn raw_tracepoint(&self, name: &str) -> Result<RawTracepoint, Error> {
        let missing = || Error::NoRawTracepoint {
            name: name.escape_debug().to_string(),
        };
        match self.homes_now(name, false)? {
            Homes::Found(homes) => self.raw(name, homes.first().ok_or_else(missing)?),
            Homes::None(FormatReason::NoBtf) => Err(self.no_btf()),
            Homes::None(_) => Err(missing()),
        }
    }

    /// The tracepoints that have no event in tracefs (`pelt_se_tp`,
    /// `sched_util_est_cfs_tp`): declared by `DECLARE_TRACE` alone, they take raw
    /// programs only. Sorted by name.
    ///
    /// # Errors
    ///
    /// Those of [`btf_objects`](Self::btf_objects) and of
    /// [`events`](Self::events); [`Error::Btf`] where arguments cannot be told.
    pub fn bare_tracepoints(&self) -> Result<Vec<RawTracepoint>, Error> {
        let events = self.events()?;
        let listed: HashSet<&str> = events.names().iter().map(EventName::event).collect();
        let objects = self.inner.btf.objects()?;
        if objects.is_empty() {
            return Err(self.no_btf());
        }
        let mut bare = Vec::new();
        let mut length = 0;
        for object in &objects {
            let names = object
                .index()
                .event_names()
                .filter(|name| !listed.contains(name));
            for name in names {
                let tracepoint = self.raw(name, object)?;
                length += tracepoint.length();
                if length > BARE_LIMIT {
                    return Err(Error::Btf {
                        path: self.inner.btf.path().join(object.name()),
                        source: BtfError::Describe(format!(
                            "tracepoints without events come to over {BARE_LIMIT} bytes of C"
                        )),
                    });
                }
                bare.push(tracepoint);
            }
        }
        bare.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(bare)
    }

    /// The tracepoint of this name that the object defines.
    pub(crate) fn raw(&self, name: &str, home: &Object) -> Result<RawTracepoint, Error> {
        let arguments = home.arguments(name).map_err(|source| Error::Btf {
            path: self.inner.btf.path().join(home.name()),
            source,
        })?;
        Ok(RawTracepoint::new(
            name,
            home.name(),
            arguments.unwrap_or_default(),
        ))
    }

    fn no_btf(&self) -> Error {
        Error::NoBtf {
            path: self.inner.btf.path().join("vmlinux"),
        }
    }

    /// Says which context a program attached to the event gets.
    pub(crate) fn context(&self, name: &EventName, format: &Arc<Format>) -> Result<Context, Error> {
        if context::is_syscall(name) {
            return Ok(context::resolve_syscall(
                name,
                format,
                self.inner.btf.vmlinux()?,
            ));
        }
        Ok(self.resolve(name, format, self.homes(name)?))
    }

    fn resolve(&self, name: &EventName, format: &Arc<Format>, homes: Homes) -> Context {
        let says = KernelSays {
            // A `btf_ids` file that cannot be read leaves the choice open.
            type_id: &|| self.inner.tracefs.context_type_id(name).ok().flatten(),
            class: &|candidates| self.class_in_memory(name, format.id(), candidates),
        };
        context::resolve(name, format, homes, &says)
    }

    /// Which of the classes the running kernel's memory says the event has.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    fn class_in_memory(&self, name: &EventName, id: u32, candidates: &[String]) -> Option<String> {
        if !self.inner.is_live {
            return None;
        }
        let memory = self.inner.memory.get_or_init(|| {
            let vmlinux = self.inner.btf.vmlinux().ok()??;
            KernelMemory::new(&vmlinux)
        });
        let format = fs::File::open(self.inner.tracefs.format_path(name)).ok()?;
        memory.as_ref()?.class_of(format.as_fd(), id, candidates)
    }

    #[cfg(not(all(feature = "probe", target_os = "linux")))]
    fn class_in_memory(&self, _: &EventName, _: u32, _: &[String]) -> Option<String> {
        None
    }

    /// The events there are, read again if these are not among those last read.
    pub(crate) fn listing_for(&self, names: &[EventName]) -> Result<Arc<Listing>, Error> {
        self.listing_where(|known| names.iter().all(|name| known.contains(name)))
    }

    /// The events there are, read again if those last read are not enough.
    pub(crate) fn listing_where(
        &self,
        is_enough: impl Fn(&Listing) -> bool,
    ) -> Result<Arc<Listing>, Error> {
        let known = self
            .inner
            .listing
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match known.filter(|known| is_enough(known)) {
            Some(known) => Ok(known),
            None => Ok(self.remember(&self.inner.tracefs.events()?)),
        }
    }

    fn remember(&self, events: &Events) -> Arc<Listing> {
        let listing = Arc::new(Listing::new(events));
        *self
            .inner
            .listing
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&listing));
        listing
    }
}

/// In bytes, of all arguments as C. Kernels' take some 10 KB.
const BARE_LIMIT: usize = 64 << 20;

fn no_such_event(name: EventName, events: &Events) -> Error {
    Error::NoSuchEvent {
        near: near(name.as_str(), events.names()),
        name,
    }
}

#[cfg(all(test, feature = "probe", target_os = "linux"))]
mod tests {
    use super::*;
    use crate::context::Evidence;

    /// What BTF proves, the kernel's memory has to say too. In a mount namespace
    /// with tracefs, where that takes one.
    #[test]
    fn memory_agrees_with_btf() {
        const TEST: &str = "kernel::tests::memory_agrees_with_btf";
        let Some(kernel) = crate::live_test::kernel(TEST) else {
            return;
        };
        let (mut agreed, mut inferred) = (0, 0);
        let names: Vec<EventName> = kernel.events().expect("events").into_iter().collect();
        let at_once = kernel.contexts(&names).expect("BTF");
        for (name, at_once) in names.iter().zip(at_once) {
            let tracepoint = kernel.tracepoint(name).expect("an event");
            let context = tracepoint.context().expect("a context");
            // Many at once are asked of the same memory.
            let (_, at_once) = at_once.expect("an event");
            assert_eq!(at_once.evidence(), context.evidence(), "{name}");
            assert_eq!(at_once.struct_name(), context.struct_name(), "{name}");
            let Some(class) = context.class() else {
                continue;
            };
            // Any other class of the kernel's must not do.
            let candidates = [
                "sched_switch_".to_owned(),
                "clock".to_owned(),
                class.to_owned(),
            ];
            let said = kernel.class_in_memory(name, tracepoint.id(), &candidates);
            if said.is_none() && agreed == 0 {
                return eprintln!("SKIPPED {TEST}: this kernel's memory cannot be read");
            }
            let wrong_id = kernel.class_in_memory(name, tracepoint.id() + 1, &candidates);
            assert_eq!(wrong_id, None, "{name}");
            match context.evidence() {
                Evidence::Inferred => inferred += usize::from(said.as_deref() == Some(class)),
                _ => assert_eq!(said.as_deref(), Some(class), "{name}"),
            }
            agreed += 1;
        }
        eprintln!("{agreed} classes in memory are BTF's, {inferred} of them inferred");
    }
}
