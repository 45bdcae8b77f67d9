//! All that the page shows of one event.

use std::collections::{BTreeMap, HashMap};

use serde::{Serialize, Serializer};
use serde_json::Value;
use tracepoints::{Error, EventName, Kernel, emit};

use crate::format::Description;

/// An event on the kernels that have it.
#[derive(Default)]
pub(super) struct Entry {
    /// The different descriptions, each once.
    variants: Vec<Value>,
    on: Vec<On>,
    /// In the order of the kernels.
    pub(super) changes: Vec<Change>,
    /// Source in C that is right on each kernel that has the event; null if there is none.
    pub(super) accessors: Value,
}

/// The events of a category. Values of one key stand together, each once: the window of gzip
/// is 32 KiB, less than what is known of one event.
#[derive(Default, Serialize)]
pub(super) struct Chunk<'a> {
    events: BTreeMap<&'a str, Row<'a>>,
    columns: BTreeMap<&'a str, Column<'a>>,
}

/// An event, with the places of its values in the columns.
#[derive(Serialize)]
struct Row<'a> {
    variants: Vec<BTreeMap<&'a str, usize>>,
    on: &'a [On],
    changes: &'a [Change],
    accessors: usize,
}

/// The values of a key.
#[derive(Default)]
struct Column<'a> {
    values: Vec<&'a Value>,
    places: HashMap<&'a Value, usize>,
}

impl<'a> Column<'a> {
    fn place(&mut self, value: &'a Value) -> usize {
        *self.places.entry(value).or_insert_with(|| {
            self.values.push(value);
            self.values.len() - 1
        })
    }
}

impl Serialize for Column<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.values.serialize(serializer)
    }
}

impl<'a> Chunk<'a> {
    pub(super) fn add(&mut self, name: &'a EventName, entry: &'a Entry) {
        let columns = &mut self.columns;
        let mut place = |key, value| columns.entry(key).or_default().place(value);
        let variants = entry.variants.iter().filter_map(Value::as_object);
        let variants = variants
            .map(|variant| {
                let places = variant.iter();
                places
                    .map(|(key, value)| (&**key, place(key, value)))
                    .collect()
            })
            .collect();
        let row = Row {
            variants,
            on: &entry.on,
            changes: &entry.changes,
            accessors: place("accessors", &entry.accessors),
        };
        self.events.insert(name.as_str(), row);
    }
}

/// An event on one kernel.
#[derive(Serialize)]
struct On {
    kernel: usize,
    variant: usize,
    evidence: Value,
    reason: Value,
    candidates: Value,
    siblings: Value,
}

/// The differences between two kernels.
#[derive(Serialize)]
pub(super) struct Change {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) lines: Vec<String>,
}

impl Entry {
    /// Adds a kernel that has the event.
    pub(super) fn add(
        &mut self,
        number: usize,
        kernel: &Kernel,
        name: &EventName,
    ) -> Result<(), Error> {
        let tracepoint = kernel.tracepoint(name)?;
        let description = Description::of(&tracepoint, false)?;
        // Fails where a key is not text, and all are names.
        let mut row = serde_json::to_value(&description).expect("it has names as keys");
        // Of what JSON has, these are said elsewhere on the page or mean nothing on others.
        for other in [
            "event", "category", "name", "id", "type_id", "section", "sections",
        ] {
            take(&mut row, other);
        }
        let mut context = take(&mut row, "context");
        let on = On {
            kernel: number,
            variant: 0,
            evidence: take(&mut context, "evidence"),
            reason: take(&mut row, "reason"),
            candidates: take(&mut context, "candidates"),
            siblings: take(&mut row, "siblings"),
        };
        for kept in ["struct", "class"] {
            row[kept] = take(&mut context, kept);
        }
        numbers_as_text(&mut row);
        row["c"] = emit::skeleton_c(&tracepoint).ok().into();
        row["rust"] = emit::skeleton_rust(&tracepoint).ok().into();
        let same = self.variants.iter().position(|variant| *variant == row);
        let variant = same.unwrap_or_else(|| {
            self.variants.push(row);
            self.variants.len() - 1
        });
        self.on.push(On { variant, ..on });
        Ok(())
    }

    /// Whether no kernel has it.
    pub(super) fn is_empty(&self) -> bool {
        self.on.is_empty()
    }

    /// Iterates over the numbers of the kernels that have it.
    pub(super) fn kernels(&self) -> impl Iterator<Item = usize> {
        self.on.iter().map(|on| on.kernel)
    }

    /// Returns the names of the fields it has on any kernel, without those of all events.
    pub(super) fn field_names(&self) -> Vec<String> {
        let fields = self
            .variants
            .iter()
            .filter_map(|variant| variant["fields"].as_array());
        let own = fields.flatten().filter(|field| field["common"] == false);
        let mut names: Vec<String> = Vec::new();
        for name in own.filter_map(|field| field["name"].as_str()) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }
}

fn take(row: &mut Value, key: &str) -> Value {
    let row = row.as_object_mut();
    row.and_then(|row| row.remove(key)).unwrap_or_default()
}

/// Writes the numbers of names as text: browsers keep 53 bits of a number.
fn numbers_as_text(row: &mut Value) {
    let fields = row["fields"].as_array_mut();
    for field in fields.into_iter().flatten() {
        for names in ["flags", "symbols"] {
            let names = field["print"][names].as_array_mut();
            for name in names.into_iter().flatten() {
                if let Some(number) = name["value"].as_u64() {
                    name["value"] = number.to_string().into();
                }
            }
        }
    }
}
