//! Resolves the class of an event.
//!
//! An event's **home** is the object, vmlinux or a module, whose BTF has the typedef
//! `btf_trace_<event>`. BTF of Linux 5.4 has no such typedefs, so no class is resolved from
//! it: a struct with the event's name may belong to an event of the same name in a module.
//! Within the home, in this order:
//!
//! 1. `trace_event_raw_<event>`, if its layout agrees with the format file:
//!    [`Named`](Evidence::Named).
//! 2. The classes with that layout that take the event's arguments. If there is exactly
//!    one: [`Template`](Evidence::Template).
//! 3. If there are several, the [`rules`](super::rules) exclude some. If one
//!    class is left, it is proven: also `Template`. If all are excluded, the files
//!    contradict each other, and the classes of step 2 remain, unproven.
//! 4. The kernel itself, if it names one of the classes left: in the event's `btf_ids` file
//!    (Linux 7.3), in the running kernel's memory, or in a capture's `classes` file:
//!    [`Kernel`](Evidence::Kernel). It can only choose among classes of equal layout.
//! 5. Two inferences, [`Inferred`](Evidence::Inferred): the class in the event's header
//!    run, and the only class without an event of its own name. They are right for every
//!    event of the captured kernels, but are not proofs.
//! 6. Otherwise [`Ambiguous`](Evidence::Ambiguous). All candidates have the same offsets.
//!
//! **Layouts agree** if the struct's members are the record's fields, common fields
//! included: in the same order, each with the same name, offset and size, and no others.
//! Only a rule compares types, because the format file has the source's spelling and BTF
//! the compiler's.
//!
//! **Arguments agree** at first if a call cannot tell them apart; their type ids may
//! differ. `DEFINE_EVENT` repeats the arguments of its class, and may spell them
//! differently: on 6.18 the events `xfs:xfs_fsmap_{low,high}_linear_key` have `uint64_t`
//! where their class has `xfs_fsblock_t`, and `xfs:xfs_quota_expiry_range` has `long long`
//! for `time64_t`. Comparing ids excluded the true class of four events, and left no
//! candidate. So typedefs and a parameter's own qualifiers are ignored, an enum counts as
//! an integer of its size, and structs are distinguished by name. If this is looser than
//! C, it leaves one more candidate, which a rule may exclude. If it were stricter, it
//! could exclude the true class and give a wrong answer.
//!
//! **A module's candidates include vmlinux's.** pahole leaves types out of split BTF that
//! the base has exactly alike: a class that both define is in vmlinux's BTF only.
//!
//! **Several homes.** Two modules may each define an event of the same name (drivers of
//! one family do). If several categories have an event of a name, every object is
//! searched. If every answer is proven and all are the same class, that is the event's
//! class, and its home is unknown; otherwise the context is ambiguous among all classes
//! found. If fewer objects define the name than there are events that could be theirs, the
//! answer is `Format`. A kprobe event with the name of a tracepoint fits no class, and so
//! needs no home.
//!
//! Nothing here does I/O: answers that need other files come from [`KernelSays`].

use std::sync::Arc;

use super::rules::Proof;
use super::undecided::{Candidate, KernelSays, Silence, Undecided};
use super::{Context, Evidence, FormatReason};
use crate::btf::{Class, Member, Object, Section, Type, TypeId};
use crate::format::{Field, Format};
use crate::name::EventName;

/// The objects that may be an event's home, according to the kernel's files.
pub(crate) enum Homes {
    /// These objects have `btf_trace_<event>`; rarely more than one does.
    Found(Vec<Arc<Object>>),
    /// No object does.
    None(FormatReason),
}

/// Resolves the context of a program attached to the event.
pub(crate) fn resolve(
    name: &EventName,
    format: &Arc<Format>,
    homes: Homes,
    kernel_says: &dyn KernelSays,
) -> Context {
    match resolve_alone(name, format, homes) {
        Ok(context) => context,
        Err(undecided) => undecided.decide(format, kernel_says),
    }
}

/// Resolves the context from the event's own format and BTF alone. `Err` if that leaves
/// several classes of one home.
pub(crate) fn resolve_alone(
    name: &EventName,
    format: &Arc<Format>,
    homes: Homes,
) -> Result<Context, Undecided> {
    let homes = match homes {
        _ if is_probe_event(format) => {
            return Ok(Context::from_format(name, format, FormatReason::ProbeEvent));
        }
        Homes::Found(homes) => homes,
        Homes::None(reason) => return Ok(Context::from_format(name, format, reason)),
    };
    if let [home] = &*homes {
        return match in_home(name, format, home) {
            None => Ok(not_in(name, format, &homes)),
            Some(Ok(context)) => Ok(context),
            Some(Err(undecided)) => Err(undecided),
        };
    }
    // If the home is not known, the kernel's word is of no use: the type ids of different
    // modules overlap, and events of the same name share their files.
    let decided = |found: Result<Context, Undecided>| {
        found.unwrap_or_else(|undecided| undecided.decide(format, &Silence))
    };
    let fits = homes
        .iter()
        .filter_map(|home| in_home(name, format, home).map(decided));
    let mut fits: Vec<Context> = fits.collect();
    Ok(match fits.len() {
        0 => not_in(name, format, &homes),
        1 => fits.remove(0),
        _ => of_several_homes(fits),
    })
}

fn not_in(name: &EventName, format: &Arc<Format>, homes: &[Arc<Object>]) -> Context {
    let homes: Vec<&str> = homes.iter().map(|home| home.name()).collect();
    let home = homes.join(", ");
    Context::from_format(name, format, FormatReason::NotInHome { home })
}

/// Whether the event was made by writing to `kprobe_events`, `uprobe_events` or
/// `dynamic_events`: its record then begins with the address of the probe
/// (`kernel/trace/trace_probe.h`).
pub(crate) fn is_probe_event(format: &Format) -> bool {
    let first = format.fields().first().map(Field::name);
    matches!(first, Some("__probe_ip" | "__probe_func"))
}

/// Whether any of the objects has a class that fits the event.
pub(crate) fn fits(name: &EventName, format: &Arc<Format>, homes: &[Arc<Object>]) -> bool {
    homes
        .iter()
        .any(|home| in_home(name, format, home).is_some())
}

/// Resolves an event whose name several objects define, each with a class that fits. If
/// all classes are proven and have the same name, that is the class, whichever object is
/// the home.
fn of_several_homes(mut fits: Vec<Context>) -> Context {
    let class = fits[0].class();
    let agreed = fits
        .iter()
        .all(|context| context.class() == class && context.evidence().is_proof());
    let mut candidates: Vec<String> = fits
        .iter()
        .flat_map(|context| {
            let class = context.class().map(str::to_owned);
            class
                .into_iter()
                .chain(context.candidates().iter().cloned())
        })
        .collect();
    candidates.sort();
    candidates.dedup();
    let mut context = fits.swap_remove(0);
    context.of.is_home_known = false;
    if !agreed {
        context.of.evidence = Evidence::Ambiguous;
        context.of.candidates = candidates;
    }
    context
}

/// The most classes of one layout that are considered. Kernels have at most some ten.
pub(super) const MAX_CANDIDATES: usize = 256;

/// Resolves an event in one home. Returns a context, or the classes that fit if there are
/// several; `None` if no class fits.
fn in_home(
    name: &EventName,
    format: &Arc<Format>,
    home: &Arc<Object>,
) -> Option<Result<Context, Undecided>> {
    let event = name.event();
    let index = home.index();
    let fits = |class: &&Class| agrees(format, home, class.struct_id);
    if let Some(class) = index.classes_named(event).iter().find(fits) {
        let own = Context::of_class(name, format, Evidence::Named, home, class);
        return Some(Ok(own));
    }
    // A module's BTF leaves out a class that vmlinux has exactly alike.
    let arguments = index.prototype_of(event);
    let mut candidates: Vec<(&Arc<Object>, &Class)> = std::iter::once(home)
        .chain(home.base())
        .flat_map(|object| {
            let classes = object.index().classes_taking(arguments).filter(fits);
            classes.map(move |class| (object, class))
        })
        .take(MAX_CANDIDATES + 1)
        .collect();
    if candidates.len() > MAX_CANDIDATES {
        let home = home.name().to_owned();
        let reason = FormatReason::TooManyClasses { home };
        return Some(Ok(Context::from_format(name, format, reason)));
    }
    candidates.sort_by_key(|(object, class)| {
        let is_base = !Arc::ptr_eq(object, home);
        (class.name(), is_base, class.struct_id)
    });
    let ((object, first), rest) = candidates.split_first()?;
    if rest.iter().all(|(_, other)| other.name() == first.name()) {
        let evidence = Evidence::Template(Proof::default());
        return Some(Ok(Context::of_class(name, format, evidence, object, first)));
    }
    let owned = |(object, class): &(&Arc<Object>, &Class)| Candidate {
        object: Arc::clone(object),
        class: Class::clone(class),
    };
    let candidates = candidates.iter().map(owned).collect();
    Some(Err(Undecided::new(name, home, candidates)))
}

/// Whether a struct's members are exactly the record's fields in the format file, each
/// with its name, offset and size.
///
/// The struct's first member is `struct trace_entry ent`, the common fields; the last is
/// the empty array `__data`, where the bytes of dynamic fields begin.
pub(super) fn agrees(format: &Format, home: &Object, struct_id: TypeId) -> bool {
    let section = home.section();
    let Some(ty) = section.type_by_id(struct_id) else {
        return false;
    };
    let entry = ty.members().next();
    let Some((_, entry)) = entry.and_then(|ent| section.resolve(ent.type_id)) else {
        return false;
    };
    let own = own_members(ty);
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

/// Iterates over the members that are the event's own fields, in order.
pub(super) fn own_members(ty: Type<'_>) -> impl Iterator<Item = Member<'_>> {
    let members = ty.members().skip(1);
    members.filter(|member| !member.is_named([b"__data", b""]))
}

fn same_place(field: &Field, member: &Member<'_>, section: &Section) -> bool {
    member.bitfield_size == 0
        && field.offset().checked_mul(8) == Some(member.bit_offset)
        && section.may_have_size(member.type_id, field.size())
}

/// Whether the members and fields match in pairs, in order, without any left over.
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
