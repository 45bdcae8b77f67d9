//! Which class an event has.

use std::sync::Arc;

use super::{Context, ContextTypes, Evidence, FormatReason, KernelSource};
use crate::btf::{Class, Member, Object, Section, TypeId};
use crate::format::{Field, Format};
use crate::name::EventName;

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
    pub(super) const NOTHING: Self = Self {
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
    let is_entry = |field: &Field, member: &Member<'_>| {
        let name = field.name().as_bytes().strip_prefix(b"common_");
        name.is_some_and(|name| member.is_named([b"", name])) && same_place(field, member, section)
    };
    (entry.is_of_unknown_kind() || pairwise(format.common_fields(), entry.members(), is_entry))
        && pairwise(format.fields(), own, |field, member| {
            let prefix = field.kind().member_prefix().as_bytes();
            member.is_named([prefix, field.name().as_bytes()]) && same_place(field, member, section)
        })
}

fn same_place(field: &Field, member: &Member<'_>, section: &Section) -> bool {
    member.bitfield_size == 0
        && field.offset().checked_mul(8) == Some(member.bit_offset)
        && section.may_have_size(member.type_id, field.size())
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
