//! Six rules that exclude a class, each with its proof: P1 to P6.
//!
//! A rule excludes a class only if, with the event in that class, the kernel could not
//! have been built, or could not have written the files it did. A rule that knows too
//! little excludes nothing.
//!
//! P3 to P6 compare the event with a **witness**: the event that has the class's own name
//! and, judging by its layout, the class's struct. Only one event may have that name, and
//! the object that defines the class must also define that event; otherwise the name could
//! be that of another class. If an event of a module fits a class of vmlinux, P3 accepts
//! any event of that class as a witness.

use std::fmt;
use std::sync::Arc;

use super::resolve::own_members;
use super::spelled::is_other_type;
use crate::btf::{Class, EnumRule, Object, are_compatible};
use crate::format::Format;
use crate::name::EventName;

/// A reason to exclude a class that has an event's layout and takes arguments like the
/// event's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rule {
    /// P1: a member's type in BTF is not the type the event's format file spells. The
    /// same tokens of the source make the struct's member and the text in the file
    /// (`include/trace/stages/stage1_struct_define.h`, `stage4_event_fields.h`).
    FieldType,
    /// P2: the class's function cannot take the event's arguments. Compiling the kernel,
    /// `check_trace_callback_type_<event>(__bpf_trace_<class>)` would have failed
    /// (`include/trace/bpf_probe.h`).
    Prototype,
    /// P3: the event of the class's name, or another event of the class, is in another
    /// category. An event's directory is named after its class's category
    /// (`call->class->system`).
    Category,
    /// P4: the event of the class's name has different field lines. All events of a class
    /// print the same list of fields (`call->class->fields`).
    FieldText,
    /// P5: no class can take both the event's arguments and those of the event of the
    /// class's name. For BTF without functions (Linux 5.10), where [`Prototype`]
    /// has nothing to compare.
    ///
    /// [`Prototype`]: Self::Prototype
    SiblingPrototype,
    /// P6: the event of the class's name has another print fmt. Only `DEFINE_EVENT_PRINT`
    /// gives an event a print fmt of its own, and it also makes a function
    /// `trace_raw_output_<event>`, which the event to resolve does not have.
    PrintFmt,
}

impl Rule {
    const ALL: [Self; 6] = [
        Self::FieldType,
        Self::Prototype,
        Self::Category,
        Self::FieldText,
        Self::SiblingPrototype,
        Self::PrintFmt,
    ];
}

/// Writes what differs in the excluded class: `field types`, `print fmt`.
impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::FieldType => "field types",
            Self::Prototype => "arguments",
            Self::Category => "category",
            Self::FieldText => "field lines",
            Self::SiblingPrototype => "own event's arguments",
            Self::PrintFmt => "print fmt",
        })
    }
}

/// The proof that an event belongs to no other class.
///
/// ```
/// use tracepoints::Kernel;
/// use tracepoints::context::Rule;
///
/// let kernel = Kernel::at("tests/fixtures/5.10.223-x86_64")?;
/// let enable = kernel.tracepoint("clk:clk_enable")?.context()?;
/// let proof = enable.evidence().because().ok_or("no proof")?;
/// assert!(proof.rules().eq([Rule::Category]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Proof {
    /// A bit for each of [`Rule::ALL`].
    used: u8,
}

impl Proof {
    /// Returns the rules that exclude the other classes of this layout; none if no other
    /// class has it.
    pub fn rules(&self) -> impl Iterator<Item = Rule> + use<> {
        let used = self.used;
        let rules = Rule::ALL.into_iter();
        rules.filter(move |rule| used >> *rule as u8 & 1 == 1)
    }

    pub(super) fn add(&mut self, rule: Rule) {
        self.used |= 1 << rule as u8;
    }
}

/// Writes `the one event class with this layout and these arguments`, or the rules that
/// exclude all others.
impl fmt::Display for Proof {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules: Vec<String> = self.rules().map(|rule| rule.to_string()).collect();
        match rules.split_last() {
            None => out.write_str("the one event class with this layout and these arguments"),
            Some((last, [])) => write!(
                out,
                "several classes have this layout, and all others are excluded by their {last}"
            ),
            Some((last, rest)) => write!(
                out,
                "several classes have this layout, and all others are excluded by their {} or {last}",
                rest.join(", ")
            ),
        }
    }
}

/// An event that certainly belongs to a class: the one with the class's own name or, for a
/// class of vmlinux that an event of a module fits, any event of the class.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    pub(crate) name: EventName,
    pub(crate) format: Arc<Format>,
}

/// P1. Both the struct's member and the text in the format file are made of the tokens of
/// one `__field(type, name)`, so that the compiler's type is the type the text spells.
pub(super) fn has_other_field_types(format: &Format, object: &Object, class: &Class) -> bool {
    let section = object.section();
    let Some(ty) = section.type_by_id(class.struct_id) else {
        return false;
    };
    format
        .fields()
        .iter()
        .zip(own_members(ty))
        .any(|(field, member)| {
            // The member of a dynamic field is a `u32`, whatever the type of the data.
            field.kind().member_prefix().is_empty()
                && is_other_type(field.declaration(), section, member.type_id)
        })
}

/// P2. `bpf_probe.h` passes `__bpf_trace_<class>` to a function whose parameter is a
/// pointer to a function of the event's prototype, and the kernel is built with
/// `-Werror=incompatible-pointer-types`.
///
/// `home` is the event's home: its type ids include those of its base.
pub(super) fn cannot_take_arguments(home: &Object, event: &str, class: &Class) -> bool {
    let section = home.section();
    let event = home.index().event_prototype(section, event);
    let class = class.function_prototype(section);
    event
        .zip(class)
        .is_some_and(|(a, b)| !are_compatible(section, a, b, EnumRule::OwnInteger))
}

/// P3. The directory of an event is named after `call->class->system`, and the class is
/// the witness's.
pub(super) fn is_of_other_category(event: &EventName, witness: &Witness) -> bool {
    event.category() != witness.name.category()
}

/// P4. The lines of a format file after the common ones are those of
/// `call->class->fields`, one list for all events of a class.
pub(super) fn has_other_field_lines(format: &Format, witness: &Witness) -> bool {
    format.fields() != witness.format.fields()
}

/// P5. If one class is that of both events, P2 makes both prototypes compatible with the
/// class's function. Compatibility is not transitive: each prototype may differ from the
/// function by an enum, so enums are compared by their sizes alone.
pub(super) fn cannot_share_function(home: &Object, event: &str, witness: &Witness) -> bool {
    let section = home.section();
    let prototype = |event| home.index().event_prototype(section, event);
    prototype(event)
        .zip(prototype(witness.name.event()))
        .is_some_and(|(a, b)| !are_compatible(section, a, b, EnumRule::AnyOfItsSize))
}

/// P6. `DEFINE_EVENT` uses the class's `print_fmt_<class>`. Of the macros that make an
/// event, only `DEFINE_EVENT_PRINT` makes a print fmt for the event, together with the
/// function `trace_raw_output_<event>` (`include/trace/stages/stage3_trace_output.h`). The
/// witness uses the class's print fmt: with one of its own there would be a second
/// `trace_raw_output_<class>`, which would not compile. Finding the class's function in
/// BTF shows that BTF has such functions at all.
pub(super) fn has_other_print_fmt(
    event: &EventName,
    format: &Format,
    home: &Object,
    witness: &Witness,
) -> bool {
    let has = |name: &str| {
        let mut objects = std::iter::once(home).chain(home.base().map(|base| &**base));
        objects.any(|object| object.index().has_output_function(object.section(), name))
    };
    format.print_fmt() != witness.format.print_fmt()
        && has(witness.name.event())
        && !has(event.event())
}
