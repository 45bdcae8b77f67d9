//! One event of a kernel.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::btf::Object;
use crate::context::RawTracepoint;
use crate::context::{self, Context, Homes};
use crate::error::Error;
use crate::format::Format;
use crate::format::print::{FieldPrint, PrintFmt, PrintFmtError};
use crate::kernel::Kernel;
use crate::name::EventName;
use crate::text::Renderer;

/// One event of a [`Kernel`], with its format.
///
/// ```
/// use tracepoints::Kernel;
///
/// let kernel = Kernel::at("tests/fixtures/6.18.15-x86_64")?;
/// let exit = kernel.tracepoint("sched:sched_process_exit")?;
/// let field = exit.format().field("group_dead").ok_or("no such field")?;
/// assert_eq!((field.declaration().text(), field.offset()), ("bool group_dead", 32));
/// let sections = exit.sections()?;
/// assert_eq!(sections[0], "tracepoint/sched/sched_process_exit");
/// let raw = exit.raw()?.ok_or("no tracepoint")?;
/// assert_eq!(raw.to_string(), "sched_process_exit(struct task_struct *arg0, bool arg1)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Tracepoint {
    kernel: Kernel,
    name: EventName,
    format: Arc<Format>,
    /// The print fmt's names and bases, parsed when first needed.
    print: OnceLock<Arc<Result<PrintFmt, PrintFmtError>>>,
}

impl Tracepoint {
    pub(crate) fn new(kernel: Kernel, name: EventName, format: Format) -> Self {
        Self::of(kernel, name, Arc::new(format))
    }

    pub(super) fn of(kernel: Kernel, name: EventName, format: Arc<Format>) -> Self {
        Self {
            kernel,
            name,
            format,
            print: OnceLock::new(),
        }
    }

    /// Returns the kernel that has the event.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Returns the event's name.
    pub fn name(&self) -> &EventName {
        &self.name
    }

    /// Returns the event's id on this kernel since it booted; `None` for a kernel that was
    /// not booted: see [`Format::id`].
    pub fn id(&self) -> Option<u32> {
        self.format.id()
    }

    /// Returns the record that the kernel writes for the event. In a captured kernel the
    /// file may have been pasted; [`Format::repairs`] lists what was repaired.
    pub fn format(&self) -> &Format {
        &self.format
    }

    pub(crate) fn shared_format(&self) -> &Arc<Format> {
        &self.format
    }

    /// Returns the struct that a program attached to the event gets, and how that is
    /// known.
    ///
    /// # Errors
    ///
    /// [`Error::Btf`] if vmlinux's BTF is not sound; those of [`Kernel::events`], which
    /// tell whether other events have the same name; and [`Error::File`] about BTF's
    /// files. A kernel without BTF is not an error: the evidence is then
    /// [`Evidence::Format`](crate::Evidence::Format).
    pub fn context(&self) -> Result<Context, Error> {
        self.kernel.context(&self.name, &self.format)
    }

    /// Returns how the print fmt prints a field: names of bits and values, number base,
    /// whether it is a kernel pointer. Empty for an unknown field.
    ///
    /// # Errors
    ///
    /// [`PrintFmtError`] if the print fmt cannot be parsed.
    pub fn field_print(&self, field: &str) -> Result<FieldPrint, PrintFmtError> {
        let print = self.print.get_or_init(|| self.format.print().into());
        let print = Result::as_ref(print).map_err(PrintFmtError::clone)?;
        let constants = |name: &str| self.kernel.constant(name);
        let long_size = || self.kernel.long_size();
        Ok(print.field_with_constants(field, &constants, &long_size))
    }

    /// Returns a renderer that prints records of the event as the kernel does, with
    /// the enumerators that BTF knows.
    ///
    /// # Errors
    /// [`Error::PrintFmt`] if the print fmt cannot be parsed, and those of
    /// [`Kernel::machine`].
    pub fn renderer(&self) -> Result<Renderer, Error> {
        let machine = self.kernel.machine()?;
        let renderer = self.kernel.renderer(&self.name, &self.format, machine);
        renderer.map_err(|source| Error::PrintFmt {
            name: self.name.clone(),
            source,
        })
    }

    /// Whether it is one of the two events of a system call, whose programs get another
    /// struct than the record: `syscalls:sys_enter_*` and `sys_exit_*`, by its name and the
    /// first field of its record.
    pub fn is_syscall(&self) -> bool {
        self.format.syscall_side(&self.name).is_some()
    }

    /// Whether it is an event of a kprobe, uprobe or fprobe, to which no tracepoint's program
    /// can be attached.
    pub fn is_probe_event(&self) -> bool {
        context::is_probe_event(&self.format)
    }

    /// Whether `available_events` lists the event. Programs can be attached only to listed
    /// events; those of `ftrace:*` are not listed.
    ///
    /// # Errors
    ///
    /// Those of [`Kernel::events`].
    pub fn is_listed(&self) -> Result<bool, Error> {
        let listing = self.kernel.listing_for(std::slice::from_ref(&self.name))?;
        Ok(listing.contains(&self.name))
    }

    /// Returns the ELF sections of the program types that can be attached to the event:
    /// `tracepoint/…` for every listed event except a kprobe's; `raw_tp/…` and `tp_btf/…`
    /// if BTF has a tracepoint of this name behind the event, which events of `syscalls:*`
    /// lack.
    ///
    /// # Errors
    ///
    /// Those of [`context`](Self::context) and [`is_listed`](Self::is_listed).
    pub fn sections(&self) -> Result<Vec<String>, Error> {
        if !self.is_listed()? || context::is_probe_event(&self.format) {
            return Ok(Vec::new());
        }
        let mut sections = vec![self.name.section()];
        sections.extend(self.raw()?.into_iter().flat_map(|raw| raw.sections()));
        Ok(sections)
    }

    /// Returns the tracepoint behind the event, to which raw programs are attached;
    /// `None` if BTF has none, as for `syscalls:*` and for events made at run time.
    ///
    /// # Errors
    ///
    /// Those of [`context`](Self::context).
    pub fn raw(&self) -> Result<Option<RawTracepoint>, Error> {
        let home = self.raw_home()?;
        let raw = home.map(|home| self.kernel.raw(self.name.event(), &home));
        raw.transpose()
    }

    /// Returns the object that defines the tracepoint behind the event, which has the event's
    /// name; `None` if there is no such tracepoint.
    pub(crate) fn raw_home(&self) -> Result<Option<Arc<Object>>, Error> {
        let Homes::Found(homes) = self.kernel.homes(&self.name)? else {
            return Ok(None);
        };
        // A kprobe of this name is not an event of the tracepoint.
        if self.has_namesakes()? && !context::fits(&self.name, &self.format, &homes) {
            return Ok(None);
        }
        Ok(homes.into_iter().next())
    }

    fn has_namesakes(&self) -> Result<bool, Error> {
        let listing = self.kernel.listing_for(std::slice::from_ref(&self.name))?;
        Ok(listing.namesakes(&self.name).next().is_some())
    }

    /// Returns the other events of the same class, in the kernel's order; none if the
    /// class is not known. A program written for one can be attached to all. Events whose
    /// format file is invalid are left out.
    ///
    /// # Errors
    ///
    /// Those of [`context`](Self::context) and of [`Kernel::events`].
    pub fn siblings(&self) -> Result<Vec<EventName>, Error> {
        let context = self.context()?;
        let (Some(class), Homes::Found(homes)) = (context.class(), self.kernel.homes(&self.name)?)
        else {
            return Ok(Vec::new());
        };
        let mut alike: Vec<&str> = homes
            .iter()
            .flat_map(|home| {
                let arguments = home.index().prototype_of(self.name.event());
                home.index().events_taking(arguments)
            })
            .collect();
        alike.sort_unstable();
        let mut siblings = Vec::new();
        let listing = self
            .kernel
            .listing_where(|known| alike.iter().all(|event| known.has_event(event)))?;
        for name in listing.names() {
            if *name == self.name || alike.binary_search(&name.event()).is_err() {
                continue;
            }
            let other = match self.kernel.tracepoint(name.as_str()) {
                Ok(other) => other.context()?,
                Err(error) if error.is_of_one_event() => continue,
                Err(error) => return Err(error),
            };
            if other.class() == Some(class) && other.home() == context.home() {
                siblings.push(name.clone());
            }
        }
        Ok(siblings)
    }
}

impl fmt::Debug for Tracepoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tracepoint")
            .field("name", &self.name)
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}
