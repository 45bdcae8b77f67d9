//! Which struct an eBPF program attached to a tracepoint gets, and how that is
//! known: where a format file and BTF meet.

use std::fmt;
use std::sync::Arc;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::btf::{BtfError, Class, Member, Object, STRUCT_PREFIX, Section, TypeId};
use crate::error::Error;
use crate::event_name::EventName;
use crate::format::{Field, Format};
use crate::layout::{Layout, Slot};

/// What the `ctx` of a `BPF_PROG_TYPE_TRACEPOINT` program points at, and on
/// what evidence.
///
/// It is [`Tracepoint::context`](crate::Tracepoint::context) that answers.
/// Whatever the evidence, the context begins with a pointer of the kernel's, 8
/// bytes on a 64-bit machine, and not with the `common_*` fields of the record
/// (`perf_trace_run_bpf_submit()` in `kernel/events/core.c` puts it there). The
/// verifier refuses to read it.
#[derive(Clone, Debug)]
pub struct Context {
    name: EventName,
    evidence: Evidence,
    format: Arc<Format>,
    is_syscall: bool,
    home: Option<Arc<Object>>,
    /// Whether the struct is surely that object's: several may have one that fits.
    is_home_known: bool,
    /// The struct and its class, where they are known; of an ambiguous context
    /// the first candidate's, whose offsets are those of all.
    types: Option<ContextTypes>,
    candidates: Vec<String>,
}

#[derive(Clone, Debug)]
struct ContextTypes {
    /// `None` for `syscall_tp_t`'s own layout, which no program can name.
    struct_name: Option<Arc<str>>,
    /// Whether it is a class's, and so has the class in its name.
    has_class: bool,
    layout_of: TypeId,
    /// `syscall_tp_t`, for `syscalls:*`.
    syscall: Option<SyscallStruct>,
}

/// How a [`Context`] is known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Evidence {
    /// Several classes fit, and the kernel itself says which.
    Kernel(KernelSource),
    /// The object that defines the event has a `trace_event_raw_<event>`, and
    /// its layout agrees with the format file.
    Named,
    /// One event class alone of the object that defines the event has this
    /// layout and takes these arguments.
    Template,
    /// Several classes have this layout and take these arguments, and all but
    /// this one are the own class of an event of their name. Most likely right,
    /// but an inference: [`Context::candidates`] holds them all.
    Inferred,
    /// An event of `syscalls:*`, whose context is neither its record nor always
    /// `trace_event_raw_sys_enter`: the struct whose arguments, or whose return
    /// value, are where the kernel's own `struct syscall_tp_t` has them.
    Syscall(SyscallVariant),
    /// Several classes have this layout and take these arguments, and nothing
    /// here tells which is the event's: [`Context::candidates`] holds them all.
    /// Their offsets are the same, so that reading through any is right on this
    /// kernel.
    Ambiguous,
    /// No BTF type describes the context; its layout is that of the record, from
    /// the format file.
    Format(FormatReason),
}

/// Where the kernel itself says which class an event has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelSource {
    /// In the event's `btf_ids` file (Linux 7.3 and later).
    BtfIds,
    /// In its memory, where the event's `struct trace_event_call` points at its
    /// class, and this at the class's own functions: of the running kernel, with the
    /// feature `probe`, on Linux 5.16 and later, for a process that may load eBPF
    /// programs and see the kernel's addresses (`kernel.kptr_restrict`). Asked last,
    /// where the answer would be [`Ambiguous`](Evidence::Ambiguous).
    Memory,
}

/// Why a context's layout is from the format file alone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatReason {
    /// The kernel has no BTF (`CONFIG_DEBUG_INFO_BTF`).
    NoBtf,
    /// The kernel's BTF does not say which object defines which event: Linux 5.4,
    /// whose BTF has the structs and not yet the typedefs `btf_trace_<event>`.
    NoEventsInBtf,
    /// vmlinux does not define the event, and the kernel has no BTF of modules:
    /// before Linux 5.11, or without `CONFIG_DEBUG_INFO_BTF_MODULES`.
    NoModuleBtf,
    /// No object's BTF defines the event: it was made at run time (kprobe, user
    /// and synthetic events), or its module has no BTF.
    NoHome,
    /// The BTF of the object that defines the event has no class of this layout.
    NotInHome {
        /// `vmlinux`, or the module's name.
        home: String,
    },
    /// No object that could be read defines the event, and some could not.
    UnreadableModuleBtf {
        /// The modules, each with what is wrong with it.
        modules: Vec<String>,
    },
    /// Events of several categories have this name, and fewer objects define it:
    /// which is this one's cannot be told.
    SharedName,
    /// More classes fit than any kernel has of one layout: the BTF is made up.
    TooManyClasses {
        /// `vmlinux`, or the module's name.
        home: String,
    },
    /// A kprobe, uprobe or fprobe event: it takes no program of type
    /// `BPF_PROG_TYPE_TRACEPOINT`, and so has no such context. The layout is
    /// empty.
    ProbeEvent,
}

/// Which form the kernel's local `struct syscall_tp_t` has
/// (`kernel/trace/trace_syscalls.c`), the context of `syscalls:*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SyscallVariant {
    /// `regs`, `unsigned long` number, arguments: up to Linux 6.5.
    Registers,
    /// `struct trace_entry`, `unsigned long` number, arguments: RHEL 9.3.
    LongNumber,
    /// `struct trace_entry`, `int` number, arguments: Linux 6.6 and later. What
    /// follows the number's low 32 bits is not set.
    IntNumber,
    /// None of these.
    Other,
}

impl Context {
    /// How the context is known.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The struct's name in BTF and so in `vmlinux.h`:
    /// `trace_event_raw_<class>`, or `syscall_trace_enter` or
    /// `syscall_trace_exit`. `None` where the evidence is
    /// [`Ambiguous`](Evidence::Ambiguous) or [`Format`](Evidence::Format), and
    /// for a system call whose context no struct with a name describes.
    pub fn struct_name(&self) -> Option<&str> {
        match self.evidence {
            Evidence::Ambiguous => None,
            _ => self.types.as_ref()?.struct_name.as_deref(),
        }
    }

    /// The event class; `None` where there is no one
    /// [`struct_name`](Self::struct_name), and for `syscalls:*`.
    pub fn class(&self) -> Option<&str> {
        match self.evidence {
            Evidence::Ambiguous => None,
            _ => {
                let types = self.types.as_ref().filter(|types| types.has_class)?;
                types.struct_name.as_deref()?.strip_prefix(STRUCT_PREFIX)
            }
        }
    }

    /// The classes that fit, sorted, where several do: of an
    /// [`Ambiguous`](Evidence::Ambiguous) context, and of an
    /// [`Inferred`](Evidence::Inferred) or [`Kernel`](Evidence::Kernel) one,
    /// the chosen among them. Empty otherwise.
    pub fn candidates(&self) -> &[String] {
        &self.candidates
    }

    /// The object whose BTF holds the struct: `vmlinux`, or a module's name.
    /// `None` where there is none, and where events of one name in several
    /// categories leave open which it is.
    pub fn home(&self) -> Option<&str> {
        let home = self.home.as_deref().filter(|_| self.is_home_known);
        home.map(Object::name)
    }

    /// The struct's id in the BTF of its [`home`](Self::home), as
    /// `tp_btf_id` in `btf_ids` gives it. Of `syscall_tp_t` where no struct
    /// with a name describes the context; `None` where no one struct or home is
    /// known.
    pub fn type_id(&self) -> Option<u32> {
        match self.evidence {
            _ if !self.is_home_known => None,
            Evidence::Ambiguous => None,
            _ => Some(self.types.as_ref()?.layout_of),
        }
    }

    /// The context's members with their C types.
    ///
    /// From BTF where there is a struct, else the record's, from the format
    /// file. Of an [`Ambiguous`](Evidence::Ambiguous) context it is the first
    /// candidate's; its offsets are those of all. Of a system call's, the
    /// arguments and the return value are where it says; for the number ask
    /// [`slot_of`](Self::slot_of).
    ///
    /// # Errors
    ///
    /// [`Error::Layout`] where the struct's types cannot be followed.
    pub fn layout(&self) -> Result<Layout, Error> {
        match (&self.home, &self.types) {
            (Some(home), Some(types)) => home
                .layout(types.layout_of)
                .map_err(|source| self.layout_error(source)),
            _ => Ok(self.record_part()),
        }
    }

    /// Where the context holds what the record's field of this name says:
    /// `None` for a field only the record has (`common_*`, and the
    /// `__<argument>_val` strings of `syscalls:*` since Linux 6.19).
    ///
    /// For an argument of a system call the slot is an element of `args`. Its
    /// number is where the kernel's `syscall_tp_t` has it, and is called `nr`
    /// where the struct has no member of that place and size: on RT kernels
    /// `syscall_trace_enter` has the arguments right, and its own `nr` wrong.
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

    /// [`slot_of`](Self::slot_of) for each of the record's own fields, in
    /// the order of [`Format::fields`].
    ///
    /// # Errors
    ///
    /// [`Error::Layout`] where the struct's types cannot be followed.
    pub fn field_slots(&self) -> Result<Vec<Option<Slot>>, Error> {
        let fields = self.format.fields();
        let layout = self.layout()?;
        let syscall = self.types.as_ref().and_then(|types| types.syscall.as_ref());
        match (&self.home, syscall) {
            (Some(home), Some(syscall)) => fields
                .iter()
                .map(|field| syscall.slot_of(home, &layout, fields, field))
                .collect::<Result<_, _>>()
                .map_err(|source| self.layout_error(source)),
            _ => {
                // Members may have one name in BTF made for it: each is one field's.
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

    /// The record's layout, without what a system call's context lacks, or may
    /// have elsewhere: its number is not where the record has it on RT kernels.
    fn record_part(&self) -> Layout {
        if let Evidence::Format(FormatReason::ProbeEvent) = self.evidence {
            return Format::layout_of(std::iter::empty());
        }
        let may_differ =
            |field: &Field| field.kind().is_dynamic() || field.name() == SYSCALL_NUMBER;
        let fields = self.format.fields().iter();
        Format::layout_of(fields.filter(|field| !(self.is_syscall && may_differ(field))))
    }

    fn from_format(name: &EventName, format: &Arc<Format>, reason: FormatReason) -> Self {
        Self {
            name: name.clone(),
            evidence: Evidence::Format(reason),
            format: Arc::clone(format),
            is_syscall: is_syscall(name),
            home: None,
            is_home_known: false,
            types: None,
            candidates: Vec::new(),
        }
    }
}

/// Where an event may be at home, as the kernel's files say.
pub(crate) enum Homes {
    /// These objects have `btf_trace_<event>`; rarely more than one.
    Found(Vec<Arc<Object>>),
    /// None does.
    None(FormatReason),
}

/// What the kernel itself says of an event's class; asked only where BTF and
/// layout leave a choice.
pub(crate) struct KernelSays<'a> {
    /// The struct's id, from the event's `btf_ids` file.
    pub(crate) type_id: &'a dyn Fn() -> Option<TypeId>,
    /// Which of several classes it is, from the kernel's memory; asked last.
    pub(crate) class: &'a dyn Fn(&[String]) -> Option<String>,
}

impl KernelSays<'_> {
    const NOTHING: Self = Self {
        type_id: &|| None,
        class: &|_| None,
    };
}

/// Says which context a program attached to the event gets.
pub(crate) fn resolve(
    name: &EventName,
    format: &Arc<Format>,
    homes: Homes,
    kernel_says: &KernelSays<'_>,
) -> Context {
    let homes = match homes {
        _ if is_probe_event(format) => {
            return Context::from_format(name, format, FormatReason::ProbeEvent);
        }
        Homes::Found(homes) => homes,
        Homes::None(reason) => return Context::from_format(name, format, reason),
    };
    let mut fits: Vec<Context> = homes
        .iter()
        .filter_map(|home| {
            // Modules' ids overlap: an id tells nothing where the home is not known.
            let says = match homes.len() {
                1 => kernel_says,
                _ => &KernelSays::NOTHING,
            };
            in_home(name, format, home, says)
        })
        .collect();
    match fits.len() {
        0 => {
            let home = homes
                .iter()
                .map(|home| home.name())
                .collect::<Vec<_>>()
                .join(", ");
            Context::from_format(name, format, FormatReason::NotInHome { home })
        }
        1 => fits.remove(0),
        _ => of_several_homes(fits),
    }
}

/// Whether the event was made by writing to `kprobe_events`, `uprobe_events` or
/// `dynamic_events`: its record then begins with where the probe is
/// (`kernel/trace/trace_probe.h`).
pub(crate) fn is_probe_event(format: &Format) -> bool {
    let first = format.fields().first().map(Field::name);
    matches!(first, Some("__probe_ip" | "__probe_func"))
}

/// Whether any of the objects has a class that fits the event.
pub(crate) fn fits(name: &EventName, format: &Arc<Format>, homes: &[Arc<Object>]) -> bool {
    homes
        .iter()
        .any(|home| in_home(name, format, home, &KernelSays::NOTHING).is_some())
}

/// Several objects define an event of this name, and each has a class that
/// fits. If each is proven and all are of one name, that is the class whichever
/// the home is.
fn of_several_homes(mut fits: Vec<Context>) -> Context {
    let class = fits[0].class();
    let agreed = fits.iter().all(|context| {
        context.class() == class
            && matches!(
                context.evidence,
                Evidence::Named | Evidence::Template | Evidence::Kernel(_)
            )
    });
    let mut candidates: Vec<String> = fits
        .iter()
        .flat_map(|context| {
            let class = context.class().map(str::to_owned);
            class.into_iter().chain(context.candidates.iter().cloned())
        })
        .collect();
    candidates.sort();
    candidates.dedup();
    let mut context = fits.swap_remove(0);
    context.is_home_known = false;
    if !agreed {
        context.evidence = Evidence::Ambiguous;
        context.candidates = candidates;
    }
    context
}

/// Kernels have at most some ten classes of one layout.
const MAX_CANDIDATES: usize = 256;

/// A class that fits, and the object whose BTF has its struct.
struct Candidate<'a> {
    object: &'a Arc<Object>,
    class: &'a Class,
}

/// The context if this object is the event's home; `None` if no class fits.
fn in_home(
    name: &EventName,
    format: &Arc<Format>,
    home: &Arc<Object>,
    kernel_says: &KernelSays<'_>,
) -> Option<Context> {
    let event = name.event();
    let index = home.index();
    let fits = |class: &&Class| agrees(format, home, class.struct_id);
    let answer = |evidence, candidate: &Candidate<'_>, candidates| Context {
        name: name.clone(),
        evidence,
        format: Arc::clone(format),
        is_syscall: false,
        home: Some(Arc::clone(candidate.object)),
        is_home_known: true,
        types: Some(ContextTypes {
            struct_name: Some(Arc::clone(candidate.class.struct_name())),
            has_class: true,
            layout_of: candidate.class.struct_id,
            syscall: None,
        }),
        candidates,
    };
    if let Some(class) = index.classes_named(event).iter().find(fits) {
        let own = Candidate {
            object: home,
            class,
        };
        return Some(answer(Evidence::Named, &own, Vec::new()));
    }
    // A class that vmlinux has too, to the letter, is left out of a module's BTF.
    let arguments = index.prototype_of(event);
    let mut candidates: Vec<Candidate<'_>> = std::iter::once(home)
        .chain(home.base())
        .flat_map(|object| {
            let classes = object.index().classes_taking(arguments).filter(fits);
            classes.map(move |class| Candidate { object, class })
        })
        .take(MAX_CANDIDATES + 1)
        .collect();
    if candidates.len() > MAX_CANDIDATES {
        let home = home.name().to_owned();
        let reason = FormatReason::TooManyClasses { home };
        return Some(Context::from_format(name, format, reason));
    }
    let order = |candidate: &Candidate<'_>| {
        let is_base = !Arc::ptr_eq(candidate.object, home);
        (is_base, candidate.class.struct_id)
    };
    candidates.sort_by(|a, b| {
        let by_name = a.class.name().cmp(b.class.name());
        by_name.then_with(|| order(a).cmp(&order(b)))
    });
    let (first, rest) = candidates.split_first()?;
    if rest
        .iter()
        .all(|other| other.class.name() == first.class.name())
    {
        return Some(answer(Evidence::Template, first, Vec::new()));
    }
    let names = candidates
        .iter()
        .map(|candidate| candidate.class.name().to_owned());
    let mut names: Vec<String> = names.collect();
    names.dedup();
    if let Some(id) = (kernel_says.type_id)()
        && let Some(said) = candidates
            .iter()
            .find(|candidate| candidate.class.struct_id == id)
    {
        return Some(answer(Evidence::Kernel(KernelSource::BtfIds), said, names));
    }
    let is_own = |class: &Class| {
        let mut objects = std::iter::once(home).chain(home.base());
        objects.any(|object| object.index().has_event(class.name()))
    };
    let mut templates = candidates
        .iter()
        .filter(|candidate| !is_own(candidate.class));
    if let (Some(template), None) = (templates.next(), templates.next()) {
        return Some(answer(Evidence::Inferred, template, names));
    }
    if let Some(class) = (kernel_says.class)(&names)
        && let Some(said) = candidates
            .iter()
            .find(|candidate| candidate.class.name() == class)
    {
        return Some(answer(Evidence::Kernel(KernelSource::Memory), said, names));
    }
    Some(answer(Evidence::Ambiguous, first, names))
}

/// Whether a struct has just the members the format file says the record has,
/// each of its name, offset and size.
///
/// Its first member is `struct trace_entry ent`, the common fields; its last the
/// empty array `__data`, where dynamic fields' bytes begin.
fn agrees(format: &Format, home: &Object, struct_id: TypeId) -> bool {
    let section = home.section();
    let Some(ty) = section.type_by_id(struct_id) else {
        return false;
    };
    let mut members = ty.members();
    let Some((_, entry)) = members.next().and_then(|ent| section.resolve(ent.type_id)) else {
        return false;
    };
    let own = members.filter(|member| !member.is_named([b"__data", b""]));
    pairwise(format.common_fields(), entry.members(), |field, member| {
        let name = field.name().as_bytes().strip_prefix(b"common_");
        name.is_some_and(|name| member.is_named([b"", name])) && same_place(field, member, section)
    }) && pairwise(format.fields(), own, |field, member| {
        let prefix = field.kind().member_prefix().as_bytes();
        member.is_named([prefix, field.name().as_bytes()]) && same_place(field, member, section)
    })
}

fn same_place(field: &Field, member: &Member<'_>, section: &Section) -> bool {
    member.bitfield_size == 0
        && field.offset().checked_mul(8) == Some(member.bit_offset)
        && section.size_of(member.type_id) == Some(field.size())
}

/// Whether every field has a member that goes with it, in order, and no member
/// is left over.
fn pairwise<'a>(
    fields: &[Field],
    mut members: impl Iterator<Item = Member<'a>>,
    go_together: impl Fn(&Field, &Member<'a>) -> bool,
) -> bool {
    let each = fields.iter().all(|field| {
        members
            .next()
            .is_some_and(|member| go_together(field, &member))
    });
    each && members.next().is_none()
}

/// The kernel's local `struct syscall_tp_t`: where it has what.
#[derive(Clone, Debug)]
struct SyscallStruct {
    /// `None` where no member is known to be the number.
    number: Option<Place>,
    /// The first argument, or the return value.
    value: Place,
    /// How many arguments there are; of a return value, one.
    count: u32,
}

/// Where a struct has a member, in bytes, and of which type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    offset: u32,
    size: u32,
    type_id: TypeId,
}

/// Which of the two kinds of system call events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SyscallSide {
    Enter,
    Exit,
}

impl SyscallSide {
    fn of(name: &EventName) -> Option<Self> {
        if name.category() != "syscalls" {
            None
        } else if name.event().starts_with("sys_enter_") {
            Some(Self::Enter)
        } else if name.event().starts_with("sys_exit_") {
            Some(Self::Exit)
        } else {
            None
        }
    }

    /// The member that tells the two `syscall_tp_t` apart.
    fn value_member(self) -> &'static [u8] {
        match self {
            Self::Enter => b"args",
            Self::Exit => b"ret",
        }
    }
}

/// Whether the event is one of `syscalls:*`, whose contexts have rules of their
/// own and whose home is always vmlinux.
pub(crate) fn is_syscall(name: &EventName) -> bool {
    SyscallSide::of(name).is_some()
}

/// Says which context a program attached to an event of `syscalls:*` gets.
pub(crate) fn resolve_syscall(
    name: &EventName,
    format: &Arc<Format>,
    vmlinux: Option<Arc<Object>>,
) -> Context {
    let reason = match &vmlinux {
        None => FormatReason::NoBtf,
        Some(home) => FormatReason::NotInHome {
            home: home.name().to_owned(),
        },
    };
    SyscallSide::of(name)
        .and_then(|side| syscall_in(name, side, format, vmlinux.as_ref()?))
        .unwrap_or_else(|| Context::from_format(name, format, reason))
}

fn syscall_in(
    name: &EventName,
    side: SyscallSide,
    format: &Arc<Format>,
    vmlinux: &Arc<Object>,
) -> Option<Context> {
    let index = vmlinux.index();
    let mut of_this_side = index
        .known_structs("syscall_tp_t")
        .filter_map(|id| Some((id, syscall_value(vmlinux, id, side)?)));
    let (tp_id, value) = of_this_side.next()?;
    let as_there = |id| {
        syscall_value(vmlinux, id, side)
            .is_some_and(|here| here.place.is_at(value.place.offset, value.place.size))
    };
    // Should there be several (there never were), they must not differ.
    if !of_this_side.all(|(id, _)| as_there(id)) {
        return None;
    }
    let (class, traced) = match side {
        SyscallSide::Enter => ("sys_enter", "syscall_trace_enter"),
        SyscallSide::Exit => ("sys_exit", "syscall_trace_exit"),
    };
    let classes = index.classes_named(class).iter();
    let classes = classes.map(|class| (Arc::clone(class.struct_name()), class.struct_id));
    let traced = index
        .known_structs(traced)
        .map(|id| (Arc::from(traced), id));
    let agreeing = classes.chain(traced).find(|(_, id)| as_there(*id));
    let (struct_name, layout_of) = match agreeing {
        Some((name, id)) => (Some(name), id),
        None => (None, tp_id),
    };
    let (variant, number) = syscall_number(vmlinux, tp_id)?;
    Some(Context {
        name: name.clone(),
        evidence: Evidence::Syscall(variant),
        format: Arc::clone(format),
        is_syscall: true,
        home: Some(Arc::clone(vmlinux)),
        is_home_known: true,
        types: Some(ContextTypes {
            struct_name,
            has_class: false,
            layout_of,
            syscall: Some(SyscallStruct {
                number,
                value: value.place,
                count: value.count,
            }),
        }),
        candidates: Vec::new(),
    })
}

/// The arguments or the return value of a system call, in a struct.
struct SyscallValue {
    /// The first one.
    place: Place,
    /// How many there are.
    count: u32,
}

/// Where a struct has the first argument or the return value.
fn syscall_value(vmlinux: &Object, id: TypeId, side: SyscallSide) -> Option<SyscallValue> {
    let section = vmlinux.section();
    let ty = section.type_by_id(id)?;
    let member = ty
        .members()
        .find(|member| member.name() == side.value_member())?;
    let (_, value) = section.resolve(member.type_id)?;
    let (type_id, count) = value.array().unwrap_or((member.type_id, 1));
    Some(SyscallValue {
        place: Place::of(member, type_id, section)?,
        count,
    })
}

/// Which form `syscall_tp_t` has, and where the number of the system call is.
fn syscall_number(vmlinux: &Object, id: TypeId) -> Option<(SyscallVariant, Option<Place>)> {
    let section = vmlinux.section();
    let ty = section.type_by_id(id)?;
    let first = ty.members().next()?;
    let number = ty
        .members()
        .find(|member| matches!(member.name(), b"syscall_nr" | b"nr"));
    let Some(number) = number else {
        return Some((SyscallVariant::Other, None));
    };
    let (_, number_type) = section.resolve(number.type_id)?;
    let variant = match (first.name(), number_type.is_signed_int()) {
        (b"regs", false) => SyscallVariant::Registers,
        (b"ent", false) => SyscallVariant::LongNumber,
        (b"ent", true) => SyscallVariant::IntNumber,
        _ => SyscallVariant::Other,
    };
    Some((variant, Place::of(number, number.type_id, section)))
}

impl Place {
    fn of(member: Member<'_>, type_id: TypeId, section: &Section) -> Option<Self> {
        Some(Self {
            offset: member.bit_offset / 8,
            size: section.size_of(type_id)?,
            type_id,
        })
    }

    fn is_at(&self, offset: u32, size: u32) -> bool {
        (self.offset, self.size) == (offset, size)
    }

    /// The place of the `index`th of as many as follow each other.
    fn nth(self, index: u32) -> Option<Self> {
        let offset = index.checked_mul(self.size)?.checked_add(self.offset)?;
        Some(Self { offset, ..self })
    }
}

/// No system call has more (`SYSCALL_DEFINE6`).
const MAX_ARGUMENTS: u32 = 6;

/// The record's field for the number of the system call.
const SYSCALL_NUMBER: &str = "__syscall_nr";

impl SyscallStruct {
    /// Where the context holds one of the record's own fields, under the name
    /// `layout` has for that place.
    fn slot_of(
        &self,
        home: &Object,
        layout: &Layout,
        fields: &[Field],
        field: &Field,
    ) -> Result<Option<Slot>, BtfError> {
        let is_value =
            |field: &&Field| field.name() != SYSCALL_NUMBER && !field.kind().is_dynamic();
        if !is_value(&field) && field.name() != SYSCALL_NUMBER {
            return Ok(None);
        }
        let (name, place) = if field.name() == SYSCALL_NUMBER {
            ("nr".to_owned(), self.number)
        } else {
            let before = fields.iter().take_while(|other| *other != field);
            let index = before.filter(is_value).count() as u32;
            let within = (index < self.count.min(MAX_ARGUMENTS)).then_some(self.value);
            (
                format!("args[{index}]"),
                within.and_then(|value| value.nth(index)),
            )
        };
        let Some(place) = place else {
            return Ok(None);
        };
        // As the struct has it, if it has just that: by its name and type.
        let mut slots = layout.slots().iter();
        if let Some(slot) = slots.find(|slot| place.is_at(slot.offset(), slot.size())) {
            return Ok(Some(slot.clone()));
        }
        let c_type = home.c_type(place.type_id)?;
        let bit_offset = u64::from(place.offset) * 8;
        Ok(Some(Slot::new(name, c_type, bit_offset, None)))
    }
}

impl Evidence {
    /// The word `list` and JSON use: `kernel`, `named`, `template`,
    /// `inferred`, `syscall`, `ambiguous` or `format`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Kernel(_) => "kernel",
            Self::Named => "named",
            Self::Template => "template",
            Self::Inferred => "inferred",
            Self::Syscall(_) => "syscall",
            Self::Ambiguous => "ambiguous",
            Self::Format(_) => "format",
        }
    }
}

/// The reason in words, as `format` shows it.
impl fmt::Display for Evidence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(KernelSource::BtfIds) => out.write_str("the kernel's own btf_ids file says which of the classes that fit"),
            Self::Kernel(KernelSource::Memory) => out.write_str("the kernel's memory says which of the classes that fit"),
            Self::Named => out.write_str("the struct of the event's own name, and its layout agrees with the format file"),
            Self::Template => out.write_str("the one event class with this layout and these arguments"),
            Self::Inferred => out.write_str(
                "several classes fit, and all but this one are the own class of an event: an inference, not a proof",
            ),
            Self::Syscall(variant) => write!(out, "its values lie where the kernel's syscall_tp_t has them ({variant})"),
            Self::Ambiguous => out.write_str("several classes have this layout and these arguments; their offsets are the same"),
            Self::Format(reason) => write!(out, "layout from the format file: {reason}"),
        }
    }
}

impl fmt::Display for FormatReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBtf => out.write_str("this kernel has no BTF"),
            Self::NoEventsInBtf => {
                out.write_str("this kernel's BTF does not say which events it defines")
            }
            Self::NoModuleBtf => {
                out.write_str("vmlinux does not define the event, and there is no BTF of modules")
            }
            Self::NoHome => out.write_str("no BTF object defines the event"),
            Self::NotInHome { home } => write!(out, "no type in the BTF of {home} has this layout"),
            Self::UnreadableModuleBtf { modules } => {
                write!(
                    out,
                    "its module's BTF may be one that cannot be read: {}",
                    modules.join("; ")
                )
            }
            Self::ProbeEvent => {
                out.write_str("a kprobe, uprobe or fprobe event, which takes no tracepoint program")
            }
            Self::TooManyClasses { home } => {
                write!(
                    out,
                    "the BTF of {home} has more classes of this layout than any kernel's"
                )
            }
            Self::SharedName => out.write_str(
                "several categories have an event of this name, and BTF does not tell them apart",
            ),
        }
    }
}

impl fmt::Display for SyscallVariant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Registers => "regs, long nr: the form up to Linux 6.5",
            Self::LongNumber => "trace_entry, long nr: the form of RHEL 9.3",
            Self::IntNumber => "trace_entry, int nr: the form since Linux 6.6",
            Self::Other => "a form not known before",
        })
    }
}

/// `{"struct", "class", "evidence", "home", "candidates"}`; what is not known is
/// null.
impl Serialize for Context {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut context = serializer.serialize_struct("Context", 5)?;
        context.serialize_field("struct", &self.struct_name())?;
        context.serialize_field("class", &self.class())?;
        context.serialize_field("evidence", self.evidence.as_str())?;
        context.serialize_field("home", &self.home())?;
        context.serialize_field("candidates", self.candidates())?;
        context.end()
    }
}
