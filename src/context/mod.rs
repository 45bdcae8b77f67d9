//! Contexts: the struct that an eBPF program attached to a tracepoint gets, resolved from
//! a format file and BTF, and the evidence for it.

pub(crate) mod access;
mod classes;
mod evidence;
mod raw;
mod resolve;
mod rules;
mod spelled;
mod structs;
mod syscall;
mod undecided;

pub(crate) use classes::CapturedClasses;
pub use classes::CapturedFrom;
pub(crate) use classes::ClassLine;
pub use evidence::{Evidence, FormatReason, Inference, KernelSource, SyscallVariant};
pub use raw::{RawArgument, RawTracepoint};
pub(crate) use resolve::{Homes, fits, is_probe_event, resolve, resolve_alone};
pub(crate) use rules::Witness;
pub use rules::{Proof, Rule};
pub use structs::ContextStruct;
use structs::ContextTypes;
pub(crate) use syscall::resolve_syscall;
pub(crate) use undecided::{KernelSays, Silence, Undecided, is_in_header_run};

use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::btf::{Btf, BtfError, Class, Object};
use crate::error::Error;
use crate::format::{Field, Format};
use crate::layout::{Layout, Slot};
use crate::name::{EventName, SYSCALL_NUMBER};

/// The struct that `ctx` of a `BPF_PROG_TYPE_TRACEPOINT` program points to, and the
/// evidence for it. Returned by [`Tracepoint::context`](crate::Tracepoint::context).
///
/// Every context begins with a pointer of the kernel, 8 bytes on a 64-bit machine, in
/// place of the record's `common_*` fields (`perf_trace_run_bpf_submit()` in
/// `kernel/events/core.c`). The verifier does not let programs read it.
///
/// ```
/// use tracepoints::{Evidence, Kernel};
///
/// // A PREEMPT_RT kernel, where `trace_event_raw_sys_enter` is not the context.
/// let kernel = Kernel::at("tests/fixtures/6.1.192-rt-x86_64")?;
/// let context = kernel.tracepoint("syscalls:sys_enter_unlinkat")?.context()?;
/// assert_eq!(context.struct_name(), Some("syscall_trace_enter"));
/// assert!(matches!(context.evidence(), Evidence::Syscall(_)));
/// let pathname = context.slot_of("pathname")?.ok_or("not in the context")?;
/// assert_eq!((pathname.name(), pathname.offset(), pathname.size()), ("args[1]", 24, 8));
/// assert!(context.slot_of("common_pid")?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Context {
    name: EventName,
    format: Arc<Format>,
    is_syscall: bool,
    of: ContextStruct,
}

impl Context {
    /// Resolves the context of a program attached to the event from what is in memory
    /// alone: the event's format and the BTF of the kernel's objects, vmlinux and any
    /// modules. [`Tracepoint::context`](crate::Tracepoint::context) reads both, and knows
    /// more: which events share a name, and what the kernel itself says about the class.
    ///
    /// Only objects that define the event are considered, or vmlinux for an event of
    /// `syscalls:*`. If there are none, the evidence is [`Evidence::Format`].
    ///
    /// ```
    /// use tracepoints::btf::Btf;
    /// use tracepoints::format::Format;
    /// use tracepoints::{Context, Evidence};
    ///
    /// # let root = "tests/fixtures/6.18.15-x86_64";
    /// # let btf_bytes = std::fs::read(format!("{root}/btf/vmlinux"))?;
    /// # let format_text = std::fs::read_to_string(
    /// #     format!("{root}/tracing/events/sched/sched_process_free/format"))?;
    /// let vmlinux = Btf::vmlinux(btf_bytes)?;
    /// let format = Format::parse(&format_text)?;
    /// let context = Context::resolve(&"sched:sched_process_free".parse()?, format, &[vmlinux]);
    /// assert_eq!(context.struct_name(), Some("trace_event_raw_sched_process_template"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resolve(name: &EventName, format: impl Into<Arc<Format>>, objects: &[Btf]) -> Self {
        let format = format.into();
        let objects = objects.iter().map(Btf::object);
        if let Some(side) = format.syscall_side(name) {
            let vmlinux = objects.into_iter().find(|object| object.base().is_none());
            return resolve_syscall(name, side, &format, vmlinux.cloned());
        }
        let is_empty = objects.len() == 0;
        let homes: Vec<Arc<Object>> = objects
            .filter(|object| object.index().has_event(name.event()))
            .cloned()
            .collect();
        let homes = match homes.is_empty() {
            true if is_empty => Homes::None(FormatReason::NoBtf),
            true => Homes::None(FormatReason::NoHome),
            false => Homes::Found(homes),
        };
        resolve(name, &format, homes, &Silence)
    }

    /// Returns the struct alone, without the record.
    pub fn of_struct(&self) -> &ContextStruct {
        &self.of
    }

    pub(crate) fn into_struct(self) -> ContextStruct {
        self.of
    }

    /// Returns the evidence for the context.
    pub fn evidence(&self) -> &Evidence {
        self.of.evidence()
    }

    /// Returns the struct's name: see [`ContextStruct::struct_name`].
    pub fn struct_name(&self) -> Option<&str> {
        self.of.struct_name()
    }

    /// Returns the event class: see [`ContextStruct::class`].
    pub fn class(&self) -> Option<&str> {
        self.of.class()
    }

    /// Returns the classes that fit, if there are several: see
    /// [`ContextStruct::candidates`].
    pub fn candidates(&self) -> &[String] {
        self.of.candidates()
    }

    /// Returns the object whose BTF has the struct: see [`ContextStruct::home`].
    pub fn home(&self) -> Option<&str> {
        self.of.home()
    }

    /// Returns the struct's id in BTF: see [`ContextStruct::type_id`].
    pub fn type_id(&self) -> Option<u32> {
        self.of.type_id()
    }

    /// Returns the context's members with their C types.
    ///
    /// The members are those of the struct in BTF or, without one, those of the record in
    /// the format file. An [`Ambiguous`](Evidence::Ambiguous) context has the members of
    /// the first candidate, whose offsets all candidates share. In a system call's
    /// context, the arguments and the return value are where the layout has them; for the
    /// number of the system call, use [`slot_of`](Self::slot_of).
    ///
    /// # Errors
    ///
    /// [`Error::Layout`] where the struct's types cannot be followed.
    pub fn layout(&self) -> Result<Layout, Error> {
        match (&self.of.home, &self.of.types) {
            (Some(home), Some(types)) => home
                .layout(types.layout_of)
                .map_err(|source| self.layout_error(source)),
            _ => Ok(self.record_part()),
        }
    }

    /// Returns where the context holds the record's field of this name; `None` for a
    /// field that only the record has (`common_*`, and the `__<argument>_val` strings of
    /// `syscalls:*` since Linux 6.19).
    ///
    /// For an argument of a system call the slot is an element of `args`. The number of
    /// the system call is where the kernel's `syscall_tp_t` has it; its slot is called
    /// `nr` if the struct has no member of that place and size. On RT kernels
    /// `syscall_trace_enter` has the right arguments but a wrong `nr`.
    ///
    /// # Errors
    ///
    /// [`Error::Layout`] where the struct's types cannot be followed.
    pub fn slot_of(&self, field: &str) -> Result<Option<Slot>, Error> {
        let index = self.format.fields().iter().position(|f| f.name() == field);
        match index {
            Some(index) => Ok(self.field_slots()?.swap_remove(index)),
            None => Ok(None),
        }
    }

    /// Returns [`slot_of`](Self::slot_of) for each of the record's own fields, in the
    /// order of [`Format::fields`].
    ///
    /// # Errors
    ///
    /// [`Error::Layout`] where the struct's types cannot be followed.
    pub fn field_slots(&self) -> Result<Vec<Option<Slot>>, Error> {
        let fields = self.format.fields();
        let layout = self.layout()?;
        let syscall = self
            .of
            .types
            .as_ref()
            .and_then(|types| types.syscall.as_ref());
        match (&self.of.home, syscall) {
            (Some(home), Some(syscall)) => fields
                .iter()
                .map(|field| syscall.slot_of(home, &layout, fields, field))
                .collect::<Result<_, _>>()
                .map_err(|source| self.layout_error(source)),
            _ => {
                // Hostile BTF may have several members of one name; each is used for one
                // field only.
                let mut is_taken = vec![false; layout.slots().len()];
                let mut slot_of = |field: &Field| {
                    let name = field.member_name();
                    let mut slots = layout.slots().iter().zip(&mut is_taken);
                    let (slot, is_taken) =
                        slots.find(|(slot, is_taken)| slot.name() == name && !**is_taken)?;
                    *is_taken = true;
                    Some(slot.clone())
                };
                Ok(fields.iter().map(&mut slot_of).collect())
            }
        }
    }

    fn layout_error(&self, source: BtfError) -> Error {
        Error::Layout {
            name: self.name.clone(),
            source,
        }
    }

    /// Returns the record's layout, without the fields that a system call's context lacks
    /// or may have elsewhere: on RT kernels the number is not where the record has it.
    fn record_part(&self) -> Layout {
        if let Evidence::Format(FormatReason::ProbeEvent) = self.of.evidence {
            return Format::layout_of(std::iter::empty());
        }
        let may_differ =
            |field: &Field| field.kind().is_dynamic() || field.name() == SYSCALL_NUMBER;
        let fields = self.format.fields().iter();
        Format::layout_of(fields.filter(|field| !(self.is_syscall && may_differ(field))))
    }

    /// Returns the context with a class's struct.
    fn of_class(
        name: &EventName,
        format: &Arc<Format>,
        evidence: Evidence,
        object: &Arc<Object>,
        class: &Class,
    ) -> Self {
        Self {
            name: name.clone(),
            format: Arc::clone(format),
            is_syscall: false,
            of: ContextStruct {
                evidence,
                home: Some(Arc::clone(object)),
                is_home_known: true,
                types: Some(ContextTypes {
                    struct_name: Some(Arc::clone(class.struct_name())),
                    has_class: true,
                    layout_of: class.struct_id,
                    syscall: None,
                }),
                candidates: Vec::new(),
            },
        }
    }

    fn from_format(name: &EventName, format: &Arc<Format>, reason: FormatReason) -> Self {
        Self {
            name: name.clone(),
            format: Arc::clone(format),
            is_syscall: format.syscall_side(name).is_some(),
            of: ContextStruct {
                evidence: Evidence::Format(reason),
                home: None,
                is_home_known: false,
                types: None,
                candidates: Vec::new(),
            },
        }
    }
}

/// Serializes as its [`ContextStruct`].
impl Serialize for Context {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.of.serialize(serializer)
    }
}
