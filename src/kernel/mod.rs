//! A kernel, live or captured: where everything starts.
//!
//! In one file because reading events, their classes and BTF shares the caches of one
//! `Inner`.

mod answers;
mod arguments;
#[cfg(feature = "btf-rs")]
mod btf_rs;
mod by_btf;
mod capture;
mod enumerators;
mod events_by_id;
mod homes;
#[cfg(feature = "image")]
mod image;
mod kept;
mod offsets;
mod programs;
mod raw;
#[cfg(feature = "recording")]
mod recorded;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod running;
mod structs;
mod sweep;
mod tracepoint;
mod traces;

pub use crate::files::{Events, RejectedName};
#[cfg(all(feature = "probe", target_os = "linux"))]
pub(crate) use crate::files::{HeldFiles, InstanceUse};
pub use by_btf::{BtfKernel, BtfTracepoint};
pub use capture::{Capture, CaptureSummary, read_captured};
pub use events_by_id::EventsById;
pub use offsets::{FieldOffsets, FieldPlace};
pub use programs::{EventProgram, ProgramForm};
pub use sweep::Contexts;
pub use tracepoint::Tracepoint;

use std::fs;
#[cfg(all(feature = "probe", target_os = "linux"))]
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

#[cfg(all(feature = "probe", target_os = "linux"))]
use crate::bpf::memory::KernelMemory;
use crate::btf::Object;
use crate::context::{self, CapturedClasses, Context, Undecided};
use crate::error::Error;
use crate::files::{BtfDir, Dir, Listing, Modules, Reader, Tracefs};
use crate::format::Format;
#[cfg(all(feature = "image", feature = "probe", target_os = "linux"))]
use crate::image::ImageTracepoint;
use crate::machine::{ByteOrder, Machine};
use crate::name::{EventName, EventPattern, near};
use crate::text::{KernelVersion, SyscallStyle};
use answers::{Answers, KnownAnswers, ReadFormats};
use arguments::NamedTypes;
use enumerators::Enumerators;
use kept::KeptContexts;
use sweep::Sweep;

/// A kernel to ask about its tracepoints: the running one, or one captured in a
/// directory laid out like `/sys/kernel`, with `tracing/` and `btf/`.
///
/// Captures are untrusted input. Links in them are not followed, and files larger than
/// any kernel's are errors: a format file of over 1 MiB, `available_events` of over 4
/// MiB, a BTF object of over 64 MiB, or all BTF objects together of over 256 MiB.
///
/// BTF objects are read once, when first needed, and kept while their modules are loaded.
/// Modules come and go: tracefs is read anew each time, and modules that were loaded or
/// replaced meanwhile are found. [`contexts`](Self::contexts) alone keeps what it has read of
/// the running kernel, until its modules change.
///
/// ```
/// use tracepoints::{Evidence, Kernel};
///
/// let kernel = Kernel::at("tests/fixtures/6.1.192-rt-x86_64")?;
/// let exit = kernel.tracepoint("sched:sched_process_exit")?.context()?;
/// assert_eq!(exit.struct_name(), Some("trace_event_raw_sched_process_template"));
/// assert!(matches!(exit.evidence(), Evidence::Template(_)));
/// # Ok::<(), tracepoints::Error>(())
/// ```
///
/// Cloning is cheap: clones share everything read so far.
#[derive(Clone, Debug)]
pub struct Kernel {
    inner: Arc<Inner>,
    /// The byte order, if something other than BTF tells it.
    byte_order: Option<ByteOrder>,
}

/// The state that clones of a [`Kernel`] share.
#[derive(Debug)]
struct Inner {
    tracefs: Tracefs,
    btf: BtfDir,
    proc: Dir,
    is_live: bool,
    /// Whether the kernel was read from its image and never booted.
    is_image: bool,
    /// Why parts of an image cannot be read.
    #[cfg(feature = "image")]
    unreadable: Vec<String>,
    /// The tracepoints of an image, if their sites are known.
    #[cfg(all(feature = "image", feature = "probe", target_os = "linux"))]
    tracepoints: Option<Vec<ImageTracepoint>>,
    /// The enumerators of vmlinux, read when first needed.
    constants: OnceLock<Option<Enumerators>>,
    module_constants: OnceLock<Option<Enumerators>>,
    /// Typedefs and enums of vmlinux, read when first needed.
    named_types: OnceLock<Option<NamedTypes>>,
    /// The version in `proc/version`.
    version: OnceLock<Option<KernelVersion>>,
    syscall_style: OnceLock<SyscallStyle>,
    /// Created when first needed; `None` inside if it cannot be created.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    memory: OnceLock<Option<KernelMemory>>,
    #[cfg(feature = "btf-rs")]
    btf_rs: btf_rs::BtfRs,
    answers: KnownAnswers,
    kept: KeptContexts,
    /// A capture's `classes` file, read when first needed.
    classes: OnceLock<CapturedClasses>,
    /// The list of events as last read; `None` before.
    listing: RwLock<Option<Arc<Listing>>>,
}

impl Kernel {
    /// Opens the running kernel: tracefs at `/sys/kernel/tracing`,
    /// `/sys/kernel/debug/tracing` or wherever `/proc/self/mountinfo` lists it, and BTF
    /// at `/sys/kernel/btf`.
    ///
    /// # Errors
    ///
    /// [`Error::NotMounted`] if tracefs is not mounted, and [`Error::File`] with
    /// [`FileError::PermissionDenied`](crate::FileError::PermissionDenied) if it is for
    /// root alone.
    pub fn live() -> Result<Self, Error> {
        // Without `/proc`, only the usual places are tried.
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let tracefs = Tracefs::find(Path::new("/"), &mountinfo)?;
        let kernel = Self::new(tracefs, Dir::live("/sys/kernel"));
        Ok(kernel.with_byte_order(ByteOrder::NATIVE))
    }

    /// Opens a kernel captured in `root`, laid out like `/sys/kernel`:
    /// `tracing/available_events`, `tracing/events/<category>/<event>/format` and, if the
    /// kernel had BTF, `btf/vmlinux` and `btf/<module>`. A capture may also say which class
    /// an event has, where BTF leaves several: `tracing/classes`, with a line of
    /// `<category>:<event>`, id (`-` for an image's events), class and one of `btf_ids`,
    /// `memory`, `kcore`, `image`, with tabs between.
    ///
    /// With the feature `image`, `root` may also be an archive of such a directory (`.tar`,
    /// alone or compressed), which is read into memory, or a kernel that was never booted:
    /// a package (`.deb`, `.rpm`), a directory into which one was unpacked
    /// (`boot/vmlinuz-*`, `lib/modules/*`), a kernel's image in any wrapping (`vmlinuz`,
    /// `vmlinux`, `Image`), a module that lies in such a directory, or a BTF object.
    /// Everything is read at once, and parts that cannot be read are listed by
    /// `Kernel::unreadable`.
    ///
    /// With the feature `recording`, `root` may also be a `trace.dat` or a `perf.data`, which
    /// has the formats of its kernel's events and no BTF.
    ///
    /// # Errors
    ///
    /// [`Error::NotAKernel`] if `root` has neither events nor BTF (with BTF alone, events are
    /// [`Error::EventsUnknown`] when they are asked for),
    /// [`Error::File`] if it may not be looked into or its `tracing` is a link;
    /// `Error::Image` or `Error::Recording` if an image or a recording cannot be read.
    pub fn at(root: impl AsRef<Path>) -> Result<Self, Error> {
        let root = root.as_ref();
        match Tracefs::at(root) {
            Ok(tracefs) => Ok(Self::new(tracefs, Dir::captured(root))),
            Err(error @ Error::NotAKernel { .. }) => Self::of_file(root)?.ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// Opens what the features read that is not a captured kernel's directory; `None` if it
    /// is none of that.
    fn of_file(root: &Path) -> Result<Option<Self>, Error> {
        let _ = root;
        #[cfg(feature = "recording")]
        if let Some(kernel) = Self::of_recording(root)? {
            return Ok(Some(kernel));
        }
        #[cfg(feature = "image")]
        if let Some(kernel) = Self::of_archive(root)? {
            return Ok(Some(kernel));
        }
        #[cfg(feature = "image")]
        if let Some(kernel) = Self::of_package(root, Vec::new())? {
            return Ok(Some(kernel));
        }
        Ok(None)
    }

    fn new(tracefs: Tracefs, root: Dir) -> Self {
        let inner = Inner {
            tracefs,
            btf: BtfDir::new(root.sub("btf")),
            proc: match root.is_live() {
                true => Dir::live("/proc"),
                false => root.sub("proc"),
            },
            is_live: root.is_live(),
            is_image: false,
            #[cfg(feature = "image")]
            unreadable: Vec::new(),
            #[cfg(all(feature = "image", feature = "probe", target_os = "linux"))]
            tracepoints: None,
            constants: OnceLock::new(),
            module_constants: OnceLock::new(),
            named_types: OnceLock::new(),
            version: OnceLock::new(),
            syscall_style: OnceLock::new(),
            #[cfg(all(feature = "probe", target_os = "linux"))]
            memory: OnceLock::new(),
            #[cfg(feature = "btf-rs")]
            btf_rs: btf_rs::BtfRs::default(),
            answers: KnownAnswers::default(),
            kept: KeptContexts::default(),
            classes: OnceLock::new(),
            listing: RwLock::new(None),
        };
        Self {
            inner: Arc::new(inner),
            byte_order: None,
        }
    }

    /// Whether this is the running kernel, to which programs can be attached.
    pub fn is_live(&self) -> bool {
        self.inner.is_live
    }

    /// Returns `dynamic_events`, a line for each event made at run time; empty if the
    /// kernel has no such file, or it cannot be read.
    pub(crate) fn dynamic_events(&self) -> String {
        let events = self.inner.tracefs.dynamic_events();
        events.ok().flatten().unwrap_or_default()
    }

    /// Returns the line of [`dynamic_events`](Self::dynamic_events) that made this event:
    /// `s:synthetic/wakeup u64 lat`, `e:eprobes/open syscalls/sys_enter_openat …`.
    pub(crate) fn dynamic_event<'t>(dynamic_events: &'t str, name: &EventName) -> Option<&'t str> {
        let wanted = (Some(name.category()), name.event());
        let mut lines = dynamic_events.lines();
        lines.find(|line| Self::made_by(line) == Some(wanted))
    }

    /// Returns the category, if it is said, and the name of the event that a line of
    /// [`dynamic_events`](Self::dynamic_events) made. User events have theirs unsaid.
    fn made_by(line: &str) -> Option<(Option<&str>, &str)> {
        let (_, words) = line.split_once(':')?;
        let named = words.split_whitespace().next()?;
        Some(match named.split_once('/') {
            Some((category, event)) => (Some(category), event),
            None => (None, named),
        })
    }

    /// Sets the byte order of a captured kernel that has no BTF to tell it. The byte order
    /// is not checked.
    #[must_use]
    pub fn with_byte_order(mut self, byte_order: ByteOrder) -> Self {
        self.byte_order = Some(byte_order);
        self
    }

    /// Returns the byte order and word size of the kernel, on which the meaning of a
    /// record's bytes depends. A captured kernel's byte order is that of its BTF, and its
    /// word size that of its ring buffer's pages.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownByteOrder`] for a captured kernel without BTF, unless
    /// [`with_byte_order`](Self::with_byte_order) has set it; those of
    /// [`page_layout`](Self::page_layout); [`Error::Btf`] if the file is not BTF.
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

    /// Returns the size in bytes of the kernel's `long`, if `events/header_page` tells.
    pub(crate) fn long_size(&self) -> Option<u32> {
        // The size does not depend on the byte order.
        let machine = self.page_layout().ok()?.machine(ByteOrder::NATIVE);
        Some(machine.long_size())
    }

    /// Returns the events, by the ids in their records.
    ///
    /// # Errors
    ///
    /// Those of [`machine`](Self::machine) and of
    /// [`event_directories`](Self::event_directories), and those of reading an
    /// `id` file.
    pub fn events_by_id(&self) -> Result<EventsById, Error> {
        EventsById::read(self.clone(), self.machine()?)
    }

    /// Returns the directory of tracefs, such as `/sys/kernel/tracing`.
    pub fn tracefs(&self) -> &Path {
        self.inner.tracefs.root()
    }

    /// Returns the names of the events that programs can be attached to, in the kernel's
    /// order, from the one file `available_events`. `ftrace:*` are not among them.
    ///
    /// # Errors
    ///
    /// [`Error::File`], about that file.
    pub fn events(&self) -> Result<Events, Error> {
        let events = self.inner.tracefs.events()?;
        self.remember(&events);
        Ok(events)
    }

    /// Returns the names of all events with a directory in `events/`, sorted: those of
    /// [`events`](Self::events), and `ftrace:*`, which tracers write and no program can
    /// be attached to.
    ///
    /// # Errors
    ///
    /// [`Error::File`], about a directory.
    pub fn event_directories(&self) -> Result<Events, Error> {
        self.inner.tracefs.event_directories()
    }

    /// Returns the events that match any of the patterns, in the kernel's order; all
    /// events if there is no pattern. A pattern that is a name also finds an event that
    /// is not listed (`ftrace:function`).
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchEvent`] for a name, and [`Error::NoMatch`] for a pattern, that
    /// matches nothing; those of [`events`](Self::events).
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

    /// Returns one event, with its format.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] if it is not a name; [`Error::NoSuchEvent`], with similar names;
    /// [`Error::EventGone`]; [`Error::Format`] and [`Error::OtherEvent`] if the format
    /// file is invalid; [`Error::File`].
    pub fn tracepoint(&self, name: impl AsRef<str>) -> Result<Tracepoint, Error> {
        let name: EventName = name.as_ref().parse()?;
        self.tracepoint_of(&name, self.format(&name)?)
    }

    /// Resolves many events at once, each with its context, in the order of `names`. The
    /// results are those of [`tracepoint`](Self::tracepoint) and [`Tracepoint::context`]
    /// for each, in a fraction of the time: two threads share the work, and the lists of
    /// events and of modules are read once. An error of one event takes that event's
    /// place.
    ///
    /// Of the running kernel, the formats and proven contexts of the events that the kernel
    /// and its modules define are kept while the same modules are loaded: resolving them again
    /// reads no format file. Events made at run time, and those that share their names, are
    /// read each time. [`structs`](Self::structs) takes less time where records do not matter.
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
    /// Errors that concern all events: [`Error::Btf`] if vmlinux's BTF is not sound,
    /// those of [`events`](Self::events), and [`Error::File`] about BTF's files. For one
    /// event, those of [`tracepoint`](Self::tracepoint).
    pub fn contexts(&self, names: &[EventName]) -> Result<Contexts, Error> {
        let listing = self.listing_for(names)?;
        let modules = self.inner.btf.refreshed()?;
        Sweep::new(self, listing, modules, true).run(names.iter().collect())
    }

    pub(crate) fn reader(&self) -> Reader {
        self.inner.tracefs.reader()
    }

    pub(crate) fn tracepoint_by(
        &self,
        reader: &mut Reader,
        name: &EventName,
    ) -> Result<Tracepoint, Error> {
        let format = self.inner.tracefs.format_by(reader, name)?;
        self.tracepoint_of(name, format.map(|format| self.with_argument_types(format)))
    }

    /// Like [`tracepoint_by`](Self::tracepoint_by), without the types of a system call's
    /// arguments, on which contexts do not depend.
    fn tracepoint_without_types(
        &self,
        reader: &mut Reader,
        name: &EventName,
    ) -> Result<Tracepoint, Error> {
        self.tracepoint_of(name, self.inner.tracefs.format_by(reader, name)?)
    }

    pub(crate) fn vmlinux(&self) -> Result<Option<Arc<Object>>, Error> {
        self.inner.btf.vmlinux()
    }

    /// Returns every BTF object that can be read, vmlinux first; none on a kernel without
    /// BTF.
    pub(crate) fn objects(&self) -> Result<Vec<Arc<Object>>, Error> {
        self.inner.btf.objects()
    }

    pub(crate) fn is_vmlinux_read(&self) -> bool {
        self.inner.btf.is_vmlinux_read()
    }

    /// Like [`context`](Self::context), for one event among many: changes since `listing`
    /// and `modules` were read are not noticed. `Err` inside if more than the event's own
    /// format is needed.
    pub(crate) fn context_in(
        &self,
        tracepoint: &Tracepoint,
        listing: &Listing,
        modules: &Modules,
    ) -> Result<Result<Context, Undecided>, Error> {
        let (name, format) = (tracepoint.name(), tracepoint.shared_format());
        if let Some(side) = format.syscall_side(name) {
            let vmlinux = self.inner.btf.vmlinux()?;
            return Ok(Ok(context::resolve_syscall(name, side, format, vmlinux)));
        }
        let homes = self.homes_by(name, listing, |event, shared| {
            self.homes_among(event, shared, modules)
        })?;
        Ok(context::resolve_alone(name, format, homes))
    }

    /// Decides what [`context_in`](Self::context_in) left open.
    fn decide(
        &self,
        undecided: &Undecided,
        tracepoint: &Tracepoint,
        listing: &Arc<Listing>,
        modules: &Modules,
        formats: &ReadFormats<'_>,
    ) -> Context {
        let answers = Answers {
            kernel: self,
            name: tracepoint.name(),
            id: tracepoint.id(),
            listing,
            modules: Some(modules),
            formats: Some(formats),
            may_ask_runs: true,
        };
        undecided.decide(tracepoint.shared_format(), &answers)
    }

    /// Reads an event's format, with the types of a system call's arguments.
    fn format(&self, name: &EventName) -> Result<Option<Format>, Error> {
        let format = self.inner.tracefs.format(name)?;
        Ok(format.map(|format| self.with_argument_types(format)))
    }

    fn with_argument_types(&self, mut format: Format) -> Format {
        format.find_argument_types(&|name| {
            let vmlinux = self.inner.btf.vmlinux().ok().flatten()?;
            let types = self
                .inner
                .named_types
                .get_or_init(|| NamedTypes::of(&vmlinux));
            types.as_ref()?.integer(&vmlinux, name)
        });
        format
    }

    fn tracepoint_of(&self, name: &EventName, format: Option<Format>) -> Result<Tracepoint, Error> {
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

    /// Resolves the context of a program attached to the event.
    pub(crate) fn context(&self, name: &EventName, format: &Arc<Format>) -> Result<Context, Error> {
        if let Some(side) = format.syscall_side(name) {
            return Ok(context::resolve_syscall(
                name,
                side,
                format,
                self.inner.btf.vmlinux()?,
            ));
        }
        let listing = self.listing_for(std::slice::from_ref(name))?;
        let homes = self.homes_by(name, &listing, |event, shared| {
            self.homes_now(event, shared)
        })?;
        let answers = Answers {
            kernel: self,
            name,
            id: format.id(),
            listing: &listing,
            modules: None,
            formats: None,
            may_ask_runs: true,
        };
        Ok(context::resolve(name, format, homes, &answers))
    }

    /// Returns the event's class in the running kernel's memory.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    fn class_in_memory(&self, name: &EventName, id: Option<u32>) -> Option<String> {
        let (memory, format) = self.memory_of(name)?;
        memory.class_of(format.as_fd(), id?)
    }

    /// Returns the number of the system call that an event is of, from the running kernel's
    /// memory: no file has it.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(crate) fn syscall_number(&self, event: &Tracepoint) -> Option<u32> {
        event.format().syscall_side(event.name())?;
        let (memory, format) = self.memory_of(event.name())?;
        memory.syscall_number(format.as_fd(), event.id()?)
    }

    /// Returns the running kernel's memory, and an event's `format` file.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    fn memory_of(&self, name: &EventName) -> Option<(&KernelMemory, fs::File)> {
        if !self.inner.is_live {
            return None;
        }
        let memory = self.inner.memory.get_or_init(|| {
            let vmlinux = self.inner.btf.vmlinux().ok()??;
            KernelMemory::new(&vmlinux)
        });
        let format = fs::File::open(self.inner.tracefs.format_path(name)).ok()?;
        Some((memory.as_ref()?, format))
    }

    #[cfg(not(all(feature = "probe", target_os = "linux")))]
    fn class_in_memory(&self, _: &EventName, _: Option<u32>) -> Option<String> {
        None
    }

    /// Returns the list of events, read again if it lacks any of these.
    pub(crate) fn listing_for(&self, names: &[EventName]) -> Result<Arc<Listing>, Error> {
        self.listing_where(|known| names.iter().all(|name| known.contains(name)))
    }

    /// Returns the list of events, read again if the last one is not enough.
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

fn no_such_event(name: EventName, events: &Events) -> Error {
    Error::NoSuchEvent {
        near: near(name.as_str(), events.names()),
        name,
    }
}

#[cfg(all(test, feature = "probe", target_os = "linux"))]
mod tests {

    /// The kernel's memory agrees with what BTF proves. Runs in a mount namespace with
    /// tracefs if it needs one.
    #[test]
    fn memory_agrees_with_btf() {
        const TEST: &str = "kernel::tests::memory_agrees_with_btf";
        let Some(kernel) = crate::live_test::kernel(TEST) else {
            return;
        };
        let mut agreed = 0;
        let names = crate::live_test::lasting_events(&kernel);
        let at_once = kernel.contexts(&names).expect("BTF");
        for (name, at_once) in names.iter().zip(at_once) {
            let tracepoint = kernel.tracepoint(name).expect("an event");
            let context = tracepoint.context().expect("a context");
            // Resolving many events at once gives the same.
            let (_, at_once) = at_once.expect("an event");
            assert_eq!(at_once.evidence(), context.evidence(), "{name}");
            assert_eq!(at_once.struct_name(), context.struct_name(), "{name}");
            let Some(class) = context.class() else {
                continue;
            };
            let said = kernel.class_in_memory(name, tracepoint.id());
            if said.is_none() && agreed == 0 {
                return eprintln!("SKIPPED {TEST}: this kernel's memory cannot be read");
            }
            let wrong_id = kernel.class_in_memory(name, tracepoint.id().map(|id| id + 1));
            assert_eq!(wrong_id, None, "{name}");
            assert_eq!(said.as_deref(), Some(class), "{name}");
            agreed += 1;
        }
        eprintln!("{agreed} classes in memory are those resolved");
    }
}
