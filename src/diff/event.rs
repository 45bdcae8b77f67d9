//! One event on two kernels.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::users::{Judged, PlacedField, UserVerdicts, raw_arguments};
use crate::btf::Object;
use crate::context::{Context, RawArgument, RawTracepoint};
use crate::error::Error;
use crate::format::print::FieldPrint;
use crate::format::{Field, Format};
use crate::kernel::Tracepoint;
use crate::layout::{Difference, Layout, Slot};
use crate::name::EventName;

/// A value on the first kernel, and on the second.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct FromTo<T> {
    /// On the first kernel.
    pub from: T,
    /// On the second.
    pub to: T,
}

impl<T: PartialEq> FromTo<T> {
    fn where_different(from: T, to: T) -> Option<Self> {
        (from != to).then_some(Self { from, to })
    }
}

/// The kernels that have an event or a tracepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventChange {
    /// The first alone.
    Gone,
    /// The second alone.
    New,
    /// Both, with a difference.
    Changed,
}

/// A name of a field's flag or value that only one kernel has, or that stands for another
/// number on the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[non_exhaustive]
pub struct NameChange {
    /// The field.
    pub field: String,
    /// The name of the flag or the value.
    pub name: String,
    /// The number on the first kernel; `None` if the kernel does not have the name.
    pub from: Option<u64>,
    /// The number on the second kernel.
    pub to: Option<u64>,
}

/// The difference of one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventDiff {
    event: EventName,
    change: EventChange,
    #[serde(rename = "struct")]
    struct_name: Option<FromTo<Option<String>>>,
    fields: Vec<Difference>,
    members: Vec<Difference>,
    arguments: Option<FromTo<Vec<String>>>,
    names: Vec<NameChange>,
    users: Option<UserVerdicts>,
}

/// The difference of a tracepoint that has no event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RawDiff {
    tracepoint: String,
    change: EventChange,
    arguments: Option<FromTo<Vec<String>>>,
    raw_tp: Option<Judged>,
}

/// An event on one kernel.
pub(super) struct Side<'a> {
    pub(super) tracepoint: &'a Tracepoint,
    pub(super) context: &'a Context,
    /// The context's struct, or the layout that is known of it.
    pub(super) layout: Layout,
    pub(super) raw: Option<RawTracepoint>,
    /// Where the last field of the record ends, in bytes.
    pub(super) record_end: u32,
    places: Vec<Option<Slot>>,
}

impl<'a> Side<'a> {
    pub(super) fn new(tracepoint: &'a Tracepoint, context: &'a Context) -> Result<Self, Error> {
        Ok(Self {
            layout: context.layout()?,
            places: context.field_slots()?,
            raw: tracepoint.raw()?,
            record_end: tracepoint.format().record_end(),
            tracepoint,
            context,
        })
    }

    /// Returns the fields that the context has, each with its place there.
    pub(super) fn placed(&self) -> impl Iterator<Item = PlacedField<'_>> {
        let fields = self.tracepoint.format().fields().iter();
        let placed = fields.zip(&self.places);
        placed.filter_map(|(field, place)| Some((field, place.as_ref()?)))
    }

    fn arguments(&self) -> Option<Vec<String>> {
        self.raw.as_ref().map(arguments)
    }
}

fn arguments(raw: &RawTracepoint) -> Vec<String> {
    let declarations = raw.arguments().iter().map(RawArgument::declaration);
    declarations.map(str::to_owned).collect()
}

/// Whether the same bytes are another value: one of another sign or kind.
pub(super) fn is_retyped(here: &Field, there: &Field) -> bool {
    (here.kind(), here.signed()) != (there.kind(), there.signed())
}

/// Returns what differs in the layout of some fields of a record.
fn differences(here: &[Field], there: &[Field]) -> Vec<Difference> {
    let layout = |fields: &[Field]| Format::layout_of(fields.iter());
    layout(here).differences(&layout(there))
}

/// Returns what differs in the common fields, which are the same for all events of a
/// kernel.
pub(super) fn common_differences(
    old: &BTreeMap<EventName, (Tracepoint, Context)>,
    new: &BTreeMap<EventName, (Tracepoint, Context)>,
) -> Vec<Difference> {
    let first = |events: &BTreeMap<EventName, (Tracepoint, Context)>| {
        let (tracepoint, _) = events.values().next()?;
        Some(tracepoint.format().common_fields().to_vec())
    };
    match (first(old), first(new)) {
        (Some(old), Some(new)) => differences(&old, &new),
        _ => Vec::new(),
    }
}

impl EventDiff {
    /// Returns the difference of an event that both kernels have; `None` if there is none.
    pub(super) fn of(
        here: &Side<'_>,
        there: &Side<'_>,
        objects: &[Arc<Object>],
    ) -> Result<Option<Self>, Error> {
        let (old, new) = (here.tracepoint.format(), there.tracepoint.format());
        let struct_name = |side: &Side<'_>| side.context.struct_name().map(str::to_owned);
        let fields = differences(old.fields(), new.fields());
        // For most events, the struct's members are the record's fields.
        let name = here.tracepoint.name();
        let is_apart = [old, new]
            .iter()
            .any(|format| format.syscall_side(name).is_some());
        let members = match is_apart {
            true => here.layout.differences(&there.layout),
            false => Vec::new(),
        };
        let arguments = match (here.arguments(), there.arguments()) {
            (Some(from), Some(to)) => FromTo::where_different(from, to),
            _ => None,
        };
        let users = UserVerdicts::of(here, there, objects).map_err(|source| Error::Layout {
            name: here.tracepoint.name().clone(),
            source,
        })?;
        let diff = Self {
            event: here.tracepoint.name().clone(),
            change: EventChange::Changed,
            struct_name: FromTo::where_different(struct_name(here), struct_name(there)),
            fields,
            members,
            arguments,
            names: name_changes(here.tracepoint, there.tracepoint),
            users: Some(users),
        };
        Ok(Some(diff).filter(|diff| !diff.is_empty()))
    }

    pub(super) fn gone(event: EventName) -> Self {
        let has_raw = event.category() != "syscalls";
        Self {
            users: Some(UserVerdicts::gone(has_raw)),
            ..Self::bare(event, EventChange::Gone)
        }
    }

    pub(super) fn new_event(event: EventName) -> Self {
        Self::bare(event, EventChange::New)
    }

    fn bare(event: EventName, change: EventChange) -> Self {
        Self {
            event,
            change,
            struct_name: None,
            fields: Vec::new(),
            members: Vec::new(),
            arguments: None,
            names: Vec::new(),
            users: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.struct_name.is_none()
            && self.fields.is_empty()
            && self.members.is_empty()
            && self.arguments.is_none()
            && self.names.is_empty()
    }

    /// Returns the event's name.
    pub fn event(&self) -> &EventName {
        &self.event
    }

    /// Returns which of the kernels has it.
    pub fn change(&self) -> EventChange {
        self.change
    }

    /// Returns the names of the context's struct, if they differ; `None` inside means that
    /// the struct is not known.
    pub fn struct_name(&self) -> Option<&FromTo<Option<String>>> {
        self.struct_name.as_ref()
    }

    /// Returns what differs in the record's own fields.
    pub fn fields(&self) -> &[Difference] {
        &self.fields
    }

    /// Returns what differs in the context's struct, for events whose context is not the
    /// record: those of system calls.
    pub fn members(&self) -> &[Difference] {
        &self.members
    }

    /// Returns the declarations of the raw tracepoint's arguments, if they differ.
    pub fn arguments(&self) -> Option<&FromTo<Vec<String>>> {
        self.arguments.as_ref()
    }

    /// Returns what differs in the names of flags and values, by field and name.
    pub fn names(&self) -> &[NameChange] {
        &self.names
    }

    /// Returns the verdicts for users on the second kernel; `None` for a new event, which
    /// has no users.
    pub fn users(&self) -> Option<&UserVerdicts> {
        self.users.as_ref()
    }
}

/// Returns what differs in the names of flags and values, for fields that both kernels
/// have.
fn name_changes(here: &Tracepoint, there: &Tracepoint) -> Vec<NameChange> {
    let mut changes = Vec::new();
    for field in here.format().fields() {
        let name = field.name();
        if there.format().field(name).is_none() {
            continue;
        }
        // A print fmt that cannot be parsed tells no names.
        let (Ok(old), Ok(new)) = (here.field_print(name), there.field_print(name)) else {
            continue;
        };
        let known = |print: &FieldPrint| -> BTreeMap<String, Vec<Option<u64>>> {
            let mut known: BTreeMap<String, Vec<Option<u64>>> = BTreeMap::new();
            for named in print.names() {
                let values = known.entry(named.name.clone()).or_default();
                if !values.contains(&named.value) {
                    values.push(named.value);
                }
            }
            known
        };
        let (old, new) = (known(&old), known(&new));
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for flag in names {
            let none = Vec::new();
            let only = |one: &Vec<Option<u64>>, other: &Vec<Option<u64>>| -> Vec<Option<u64>> {
                one.iter()
                    .filter(|value| !other.contains(value))
                    .copied()
                    .collect()
            };
            let (from, to) = (
                old.get(flag).unwrap_or(&none),
                new.get(flag).unwrap_or(&none),
            );
            let (mut gone, mut added) = (only(from, to).into_iter(), only(to, from).into_iter());
            loop {
                let change = match (gone.next(), added.next()) {
                    (None, None) => break,
                    (from, to) => NameChange {
                        field: name.to_owned(),
                        name: flag.clone(),
                        from: from.flatten(),
                        to: to.flatten(),
                    },
                };
                changes.push(change);
            }
        }
    }
    changes.sort();
    changes
}

impl RawDiff {
    pub(super) fn between(
        old: &BTreeMap<String, RawTracepoint>,
        new: &BTreeMap<String, RawTracepoint>,
    ) -> Vec<Self> {
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let diff = |name: &String| {
            let (change, arguments, raw_tp) = match (old.get(name), new.get(name)) {
                (Some(_), None) => (EventChange::Gone, None, Some(Judged::gone())),
                (None, Some(_)) => (EventChange::New, None, None),
                (Some(old), Some(new)) => {
                    let arguments = FromTo::where_different(arguments(old), arguments(new))?;
                    let judged = raw_arguments(old, Some(new));
                    (EventChange::Changed, Some(arguments), Some(judged))
                }
                (None, None) => return None,
            };
            Some(Self {
                tracepoint: name.clone(),
                change,
                arguments,
                raw_tp,
            })
        };
        names.into_iter().filter_map(diff).collect()
    }

    /// Returns the tracepoint's name.
    pub fn tracepoint(&self) -> &str {
        &self.tracepoint
    }

    /// Returns which of the kernels has it. A tracepoint that got an event counts as gone
    /// here, and one whose event was removed as new.
    pub fn change(&self) -> EventChange {
        self.change
    }

    /// Returns the declarations of its arguments, if they differ.
    pub fn arguments(&self) -> Option<&FromTo<Vec<String>>> {
        self.arguments.as_ref()
    }

    /// Returns the verdict for raw programs; `None` for a new tracepoint.
    pub fn raw_tp(&self) -> Option<&Judged> {
        self.raw_tp.as_ref()
    }
}
