//! What the fuzz targets share: how inputs are divided, the fixtures' events, and
//! the laws that hold of whatever was read.

pub mod images;
#[cfg(fuzzing)]
pub mod object;
mod support;

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tracepoints::format::{Field, Format};
use tracepoints::{Context, EventName, Evidence, Kernel, Machine, Record, layout::Layout};

/// Stands between the parts of an input: no text has it, and a mutation of one part
/// leaves the others what they are.
pub const SEPARATOR: &[u8] = b"\xff\xfe==";

/// The input up to the first separator, and what is behind it.
pub fn two_parts(input: &[u8]) -> (&[u8], &[u8]) {
    let at = input
        .windows(SEPARATOR.len())
        .position(|window| window == SEPARATOR);
    match at {
        Some(at) => (&input[..at], &input[at + SEPARATOR.len()..]),
        None => (input, &[]),
    }
}

/// All parts of the input.
pub fn parts(input: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = input;
    loop {
        let (part, behind) = two_parts(rest);
        parts.push(part);
        if part.len() == rest.len() {
            return parts;
        }
        rest = behind;
    }
}

/// Where a kernel of the fixtures is.
pub fn fixture(kernel: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures")).join(kernel)
}

/// The events of a kernel of the fixtures with their formats.
pub fn fixture_events(kernel: &str) -> Vec<(EventName, Format)> {
    let kernel = Kernel::at(fixture(kernel)).expect("a fixture");
    let names = kernel.event_directories().expect("events");
    let event = |name: EventName| {
        let format = kernel.tracepoint(&name).expect("an event").format().clone();
        (name, format)
    };
    names.into_iter().map(event).collect()
}

/// The text of a file of the fixtures.
pub fn fixture_text(kernel: &str, path: &str) -> String {
    fs::read_to_string(fixture(kernel).join(path)).expect("a fixture's file")
}

/// The machine that two bits stand for.
pub fn machine(bits: u8) -> Machine {
    let order = match bits & 1 {
        0 => tracepoints::ByteOrder::Little,
        _ => tracepoints::ByteOrder::Big,
    };
    Machine::new(order, bits & 2 == 0)
}

/// Displayed names have no control characters.
#[track_caller]
pub fn is_plain(text: &str) {
    assert!(!text.contains(char::is_control), "{text:?}");
}

/// The same of text of several lines.
#[track_caller]
pub fn are_plain_lines(text: &str) {
    let is_odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    assert!(!text.contains(is_odd), "{text:?}");
}

/// Serialized, it is JSON.
#[track_caller]
pub fn is_json(value: &impl Serialize) {
    let text = serde_json::to_string(value).expect("it serializes");
    let mut reader = serde_json::Deserializer::from_str(&text);
    reader.disable_recursion_limit();
    serde::de::IgnoredAny::deserialize(&mut reader).expect("JSON");
    reader.end().expect("JSON and nothing else");
}

/// Slots are sorted, gaps lie between them, and both together are all there is.
#[track_caller]
pub fn layout_laws(layout: &Layout) {
    let slots = layout.slots();
    assert!(slots.is_sorted_by_key(|slot| slot.offset()));
    assert!(layout.align() >= 1);
    let end = slots.iter().map(|slot| slot.end()).max().unwrap_or(0);
    let mut covered: Vec<(u32, u32)> = slots
        .iter()
        .map(|slot| (slot.offset(), slot.end()))
        .collect();
    for gap in layout.gaps() {
        assert!(gap.start < gap.end);
        for slot in slots.iter().filter(|slot| slot.size() > 0) {
            assert!(slot.end() <= gap.start || slot.offset() >= gap.end);
        }
        covered.push((gap.start, gap.end));
    }
    covered.sort_unstable();
    let reached = covered.iter().fold(0, |reached, (start, end)| {
        assert!(*start <= reached, "nothing covers {reached} to {start}");
        reached.max(*end)
    });
    assert_eq!(reached, end.max(layout.size()));
    for slot in slots {
        is_plain(slot.name());
        is_plain(slot.c_type());
        if let Some(bits) = slot.bits() {
            assert!(bits.start <= bits.end);
        }
    }
    assert!(layout.differences(layout).is_empty());
}

/// Of a format: its fields are where its layout has them, and it is written as it
/// was read.
#[track_caller]
pub fn format_laws(text: &str, format: &Format) {
    assert_eq!(format.to_string(), text);
    is_plain(format.name());
    let layout = format.layout();
    layout_laws(&layout);
    let fields = || format.common_fields().iter().chain(format.fields());
    assert_eq!(layout.slots().len(), fields().count());
    let end = fields().map(|field| field.offset().saturating_add(field.size()));
    assert!(layout.size() <= end.max().unwrap_or(0));
    for field in fields() {
        field_laws(field);
        let name = field.member_name();
        assert!(
            layout
                .slots()
                .iter()
                .any(|slot| slot.name() == name && slot.offset() == field.offset())
        );
        assert!(format.field(field.name()).is_some());
    }
    is_json(format);
}

#[track_caller]
pub fn field_laws(field: &Field) {
    let declaration = field.declaration();
    is_plain(declaration.text());
    assert_eq!(field.name(), declaration.name());
    assert!(field.member_name().ends_with(field.name()));
    if let (Some(size), Some(count)) = (field.element_size(), field.element_count()) {
        assert!(u64::from(size) * u64::from(count) <= u64::from(field.size()));
    }
    assert!(!field.is_text() || field.declaration().pointer_depth() == 0);
}

/// Every value lies inside the record.
#[track_caller]
pub fn record_laws(record: &Record<'_>) {
    let bytes = record.bytes().as_ptr_range();
    let format = record.format();
    for field in format.common_fields().iter().chain(format.fields()) {
        match record.raw(field) {
            Ok(raw) => assert_eq!(raw.len(), field.size() as usize),
            Err(error) => is_plain(&error.to_string()),
        }
        match record.data(field) {
            Ok(data) => {
                let data = data.as_ptr_range();
                assert!(data.start == data.end || bytes.start <= data.start);
                assert!(data.start == data.end || data.end <= bytes.end);
                let value = record.value(field).expect("what has data has a value");
                is_json(&value);
                let _ = (value.to_string(), value.integer());
            }
            Err(error) => is_plain(&error.to_string()),
        }
    }
    assert_eq!(record.fields().count(), format.fields().len());
}

/// A struct that is named has the record's layout; whatever is said can be shown.
#[track_caller]
pub fn context_laws(format: &Format, context: &Context) {
    is_plain(&context.evidence().to_string());
    context.struct_name().into_iter().for_each(is_plain);
    context.home().into_iter().for_each(is_plain);
    context.candidates().iter().for_each(|name| is_plain(name));
    assert!(context.candidates().is_sorted());
    let is_of_class = matches!(
        context.evidence(),
        Evidence::Named
            | Evidence::Template(_)
            | Evidence::Inferred(_)
            | Evidence::Kernel(_)
            | Evidence::Ambiguous
    );
    if let Some(class) = context.class() {
        assert!(is_of_class);
        let name = context.struct_name().expect("a class has a struct");
        assert_eq!(name.strip_prefix("trace_event_raw_"), Some(class));
    }
    if matches!(context.evidence(), Evidence::Format(_)) {
        assert_eq!(context.type_id(), None);
        assert_eq!(context.struct_name(), None);
    }
    match context.layout() {
        Ok(layout) => {
            layout_laws(&layout);
            is_json(&layout);
            if is_of_class {
                let mut members = layout.slots().iter();
                for field in format.fields() {
                    // In the record's order, whatever lies between.
                    let slot = members.find(|slot| {
                        (slot.name(), slot.offset(), slot.size())
                            == (&field.member_name(), field.offset(), field.size())
                    });
                    assert!(slot.is_some(), "{}", field.name());
                }
            }
        }
        Err(error) => is_plain(&error.to_string()),
    }
    match context.field_slots() {
        Ok(slots) => assert_eq!(slots.len(), format.fields().len()),
        Err(error) => is_plain(&error.to_string()),
    }
    is_json(context);
}
