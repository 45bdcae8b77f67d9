//! From an event's files to its context, and to a record that is made field by field, put
//! on a page, and read back.

use std::fmt::Write;

use crate::support;
use crate::support::page::{PageWriter, number};
use tracepoints::format::{FieldKind, Format};
use tracepoints::{
    ByteOrder, Filter, Kernel, Machine, Record, Tracepoint,
    filter::Task,
    text::{TaskNames, TraceContext},
};

/// A record, and the value of each of its fields as [`tracepoints::Value`] prints it.
struct Made {
    bytes: Vec<u8>,
    values: Vec<(String, String)>,
}

/// Makes a record with a different value in every field.
fn make(format: &Format, machine: Machine) -> Made {
    let fields = format.common_fields().iter().chain(format.fields());
    let end = fields.map(|field| field.offset() + field.size()).max();
    let mut bytes = vec![0; end.expect("fields") as usize];
    let mut put = |at: u32, value: &[u8]| {
        let at = at as usize;
        bytes.resize(bytes.len().max(at + value.len()), 0);
        bytes[at..at + value.len()].copy_from_slice(value);
    };
    let common = |name: &str| {
        let field = format.common_fields().iter().find(|f| f.name() == name);
        field.expect(name).offset()
    };
    put(
        common("common_type"),
        &number(machine, format.id().expect("an id").into(), 2),
    );
    put(common("common_pid"), &number(machine, 77, 4));
    let mut tail = end.expect("fields");
    let mut values = Vec::new();
    for (index, field) in format.fields().iter().enumerate() {
        let index = index as i64;
        let text = format!("{}!", field.name());
        let shown = match field.kind() {
            FieldKind::Scalar => {
                let value = match field.signed() {
                    Some(true) => -2 - index,
                    _ => 40 + index,
                };
                put(field.offset(), &number(machine, value, field.size()));
                value.to_string()
            }
            FieldKind::Pointer => {
                let value = 0x8100_0000 + index;
                put(field.offset(), &number(machine, value, field.size()));
                format!("{value:#x}")
            }
            // `buf`, the rest of the record.
            FieldKind::Array if field.size() == 0 && field.is_text() => {
                put(field.offset(), format!("{text}\n\0").as_bytes());
                format!("{text}\n")
            }
            FieldKind::Array if field.is_text() => {
                let text = &text[..text.len().min(field.size() as usize)];
                put(field.offset(), text.as_bytes());
                text.to_owned()
            }
            FieldKind::Array => {
                let size = match (field.size(), &*field.declaration().base_type()) {
                    (_, "unsigned long") => machine.long_size(),
                    (_, "__u8" | "u8") => 1,
                    (0, _) => 4,
                    other => panic!("an array of {other:?}"),
                };
                let mut shown = Vec::new();
                for (place, value) in (0..field.size() / size).zip(1..) {
                    put(field.offset() + place * size, &number(machine, value, size));
                    shown.push(value.to_string());
                }
                format!("[{}]", shown.join(", "))
            }
            FieldKind::DataLoc => {
                let (data, shown) = match field.is_text() {
                    true => (format!("{text}\0").into_bytes(), text),
                    // A cpumask of one long.
                    false => (number(machine, 6, machine.long_size()), "[6]".to_owned()),
                };
                let location = i64::from(tail) | (data.len() as i64) << 16;
                put(field.offset(), &number(machine, location, 4));
                put(tail, &data);
                tail += data.len() as u32;
                shown
            }
            kind => panic!("{field}: {kind}"),
        };
        values.push((field.name().to_owned(), shown));
    }
    Made { bytes, values }
}

/// Compares every field that filters accept with its value. Returns the number of fields.
pub(crate) fn check_filters(
    format: &Format,
    record: &Record<'_>,
    values: &[(String, String)],
) -> usize {
    let task = Task {
        pid: 1,
        tid: 1,
        comm: [0; 16],
        cpu: 0,
    };
    let holds = |text: &str| {
        let filter = Filter::parse(text).expect(text);
        let bound = filter.bind(format).expect(text);
        bound.matches(record, &task).expect(text)
    };
    let is_syscall = format.field("__syscall_nr").is_some();
    let mut checked = 0;
    for (field, (name, value)) in format.fields().iter().zip(values) {
        let is_text_of_user =
            is_syscall && field.declaration().base_type() == "char" && !field.is_text();
        let value = match field.kind() {
            _ if is_text_of_user => continue,
            FieldKind::Scalar | FieldKind::Pointer => value.clone(),
            _ if field.is_text() => format!("\"{value}\""),
            _ => continue,
        };
        assert!(holds(&format!("args.{name} == {value}")), "{field}");
        assert!(!holds(&format!("args.{name} != {value}")), "{field}");
        if !field.is_text() {
            assert!(holds(&format!("args.{name} >= {value}")), "{field}");
            assert!(!holds(&format!("args.{name} > {value}")), "{field}");
            let sign = if field.signed() == Some(true) {
                "<"
            } else {
                ">"
            };
            assert!(holds(&format!("args.{name} {sign} 0")), "{field}");
        }
        checked += 1;
    }
    checked
}

/// For each event, or each with a name in `only`: its context, its layout, and a record
/// of it as read from a page.
pub(crate) fn all_the_way(kernel: &Kernel, only: &[&str]) -> String {
    let mut text = String::new();
    for event in kernel.event_directories().expect("events") {
        if only.is_empty() || only.contains(&event.as_str()) {
            let tracepoint = kernel.tracepoint(&event).expect("an event");
            one_event(kernel, &tracepoint, &mut text);
        }
    }
    text
}

fn one_event(kernel: &Kernel, tracepoint: &Tracepoint, text: &mut String) {
    let name = tracepoint.name();
    let format = tracepoint.format();
    let machine = kernel.machine().expect("a machine");
    let context = tracepoint.context().expect("a context");
    let layout = context.layout().expect("a layout");
    let mut line = |line: String| writeln!(text, "{line}").expect("a String");
    line(format!(
        "{name}: {}, {}",
        context.struct_name().unwrap_or("no struct"),
        context.evidence()
    ));
    for slot in layout.slots() {
        line(format!(
            "  {:4} {:3} {} {}",
            slot.offset(),
            slot.size(),
            slot.c_type(),
            slot.name()
        ));
    }
    line(format!("  gaps {:?} of {}", layout.gaps(), layout.size()));

    let made = make(format, machine);
    let pages = kernel.page_layout().expect("a layout");
    let mut page = PageWriter::new(machine, pages);
    let padded = made.bytes.len().next_multiple_of(4) as u32;
    page.header(0, 1000).word(4 + padded).bytes(&made.bytes);
    let bytes = page.page(1_500_000_000, 0, &[]);
    let events = kernel.events_by_id().expect("events");
    let page = pages
        .page(&bytes, machine.byte_order())
        .expect("a sound page");
    let entries: Vec<_> = page.entries().collect();
    let [Ok(entry)] = &entries[..] else {
        panic!("one record: {entries:?}");
    };
    assert_eq!(entry.timestamp(), 1_500_001_000);
    let (event, record) = events.record(entry.bytes()).expect("an event");
    assert_eq!(event, name);
    let read: Vec<(String, String)> = record
        .fields()
        .map(|(field, value)| (field.name().to_owned(), value.expect("whole").to_string()))
        .collect();
    assert_eq!(read, made.values, "{name}");
    let checked = check_filters(format, &record, &made.values);

    let names = TaskNames::parse("77 test\n");
    let columns = kernel.flag_columns().expect("columns");
    let shown = TraceContext::new(&record, 1, entry.timestamp(), &names, columns);
    let mut shown = format!("{}{}: ", shown.expect("common fields"), name.event());
    let renderer = kernel.renderer(name, format, machine);
    renderer.expect("a print fmt").render(
        &record,
        &kernel.addresses().expect("addresses"),
        &mut shown,
    );
    line(format!("  {checked} fields filtered"));
    line(format!("  {}", shown.replace('\n', "\\n")));
}

pub(crate) fn kernel(name: &str) -> Kernel {
    let kernel = support::kernel(name);
    match name.ends_with("s390x") {
        // Its BTF says it.
        true => kernel,
        false => kernel.with_byte_order(ByteOrder::Little),
    }
}
