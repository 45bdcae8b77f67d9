//! The rows of JSON that `attach` and `decode` print: one schema, docs/rows.schema.json.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use tracepoints::format::Format;
use tracepoints::format::print::PrintFmt;
use tracepoints::{EventName, Value};

/// An event that happened.
#[derive(Serialize)]
pub(crate) struct EventRow<'a> {
    pub(crate) timestamp_ns: u64,
    pub(crate) cpu: u32,
    /// The process, which the kernel calls `tgid`; `None` if the trace does not have
    /// it.
    pub(crate) pid: Option<u32>,
    /// The thread, which the kernel calls `pid`; `None` if the trace does not have it.
    pub(crate) tid: Option<u32>,
    /// `None` if the trace does not have it.
    pub(crate) comm: Option<&'a str>,
    pub(crate) event: &'a EventName,
    pub(crate) fields: FieldMap<'a>,
    /// The fields that were truncated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cut: Vec<&'a str>,
    /// The fields that the kernel could not read, with the error's number.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) unreadable: BTreeMap<&'a str, i32>,
    /// The fields that their system call has not written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) unwritten: Vec<&'a str>,
    /// The strings that were read when their system call returned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) exit: Vec<&'a str>,
    /// The strings that were others by then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) rewritten: Vec<&'a str>,
    /// The names of the values that are an enum's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) names: BTreeMap<&'a str, &'a str>,
    /// The state of the CPU, as flag letters of the kernel's `trace` file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) flags: Option<&'a str>,
    /// The fields in the kernel's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<&'a str>,
}

/// The number of events that one CPU lost right before the next row's.
#[derive(Serialize)]
pub(crate) struct LostRow {
    pub(crate) cpu: u32,
    /// `None` if the kernel does not say how many.
    pub(crate) lost: Option<u64>,
}

/// The total losses: the last row, if anything was lost.
#[derive(Serialize)]
pub(crate) struct LossesRow {
    pub(crate) losses: BTreeMap<&'static str, u64>,
}

/// The fields' values, in order; null for a value that cannot be read.
pub(crate) struct FieldMap<'a> {
    pub(crate) values: Vec<(&'a str, Option<Value<'a>>)>,
    /// The fields that are addresses.
    pub(crate) addresses: &'a HashSet<String>,
}

impl Serialize for FieldMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.values.len()))?;
        for (name, value) in &self.values {
            // Written as text, since many readers of JSON keep only 53 bits of a
            // number.
            match value {
                Some(Value::Pointer(address)) => {
                    map.serialize_entry(name, &format_args!("{address:#x}"))?;
                }
                Some(Value::Unsigned(address)) if self.addresses.contains(*name) => {
                    map.serialize_entry(name, &format_args!("{address:#x}"))?;
                }
                value => map.serialize_entry(name, value)?,
            }
        }
        map.end()
    }
}

/// The fields, by event, that are addresses although their type does not show it:
/// `unsigned long`, printed by `%p` and the like.
#[derive(Default)]
pub(crate) struct AddressFields {
    by_event: HashMap<EventName, HashSet<String>>,
}

impl AddressFields {
    pub(crate) fn of(&mut self, event: &EventName, format: &Format) -> &HashSet<String> {
        if !self.by_event.contains_key(event) {
            self.by_event.insert(event.clone(), address_fields(format));
        }
        &self.by_event[event]
    }
}

/// Returns the fields of one event that are addresses although their type does not show it.
pub(crate) fn address_fields(format: &Format) -> HashSet<String> {
    let print = PrintFmt::parse(format.print_fmt());
    let is_address = |name: &&str| {
        let print = print.as_ref().ok().map(|print| print.field(name));
        print.is_some_and(|print| print.is_kernel_pointer)
    };
    let names = format.fields().iter().map(|field| field.name());
    names.filter(is_address).map(str::to_owned).collect()
}
