//! Kernels from before, of the other byte order and of 32 bits: every event from its
//! files to a record on a page, all the way.

use std::fmt::Write;

use crate::support;
use crate::support::capture::Capture;
use tracepoints::format::{FieldKind, Format};
use tracepoints::record::ring::PageLayout;
use tracepoints::{
    ByteOrder, Evidence, Filter, Kernel, Machine, Record, Tracepoint,
    context::FormatReason,
    filter::Task,
    text::{TaskNames, TraceContext},
};

/// Events of the captured kernels that are shown here, where they have them.
const EVENTS: [&str; 12] = [
    "workqueue:workqueue_execute_start",
    "irq:irq_handler_entry",
    "sched:sched_switch",
    "sched:sched_process_fork",
    "sched:sched_process_exec",
    "raw_syscalls:sys_enter",
    "block:block_rq_issue",
    "kmem:kfree",
    "ipi:ipi_send_cpumask",
    "fib:fib_table_lookup",
    "syscalls:sys_enter_openat",
    "syscalls:sys_exit_openat",
];

/// A record made field by field, with the value each field was given, as
/// [`tracepoints::Value`] prints it.
struct Made {
    bytes: Vec<u8>,
    values: Vec<(String, String)>,
}

/// Writes a number as the machine does.
fn number(machine: Machine, value: i64, size: u32) -> Vec<u8> {
    let size = size as usize;
    match machine.byte_order() {
        ByteOrder::Little => value.to_le_bytes()[..size].to_vec(),
        ByteOrder::Big => value.to_be_bytes()[8 - size..].to_vec(),
    }
}

/// A record with a value of its own in every field.
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
        &number(machine, format.id().into(), 2),
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
            // `buf`, all that is left.
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
                    // A cpumask, of one long.
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

/// A page of the ring buffer with these bytes as its one record.
fn page(layout: PageLayout, machine: Machine, record: &[u8]) -> Vec<u8> {
    let padded = record.len().next_multiple_of(4);
    let mut page = number(machine, 1_500_000_000, 8);
    page.extend(number(machine, 8 + padded as i64, machine.long_size()));
    // Bits are counted from the other end, too: `type_len` is 0, 1,000 ns went by.
    let header = match machine.byte_order() {
        ByteOrder::Little => 1000 << 5,
        ByteOrder::Big => 1000,
    };
    page.extend(number(machine, header, 4));
    page.extend(number(machine, 4 + padded as i64, 4));
    page.extend(record);
    page.resize(layout.page_size(), 0);
    page
}

/// Every field that can be compared is what was written there, and nothing else.
fn check_filters(format: &Format, record: &Record<'_>, values: &[(String, String)]) -> usize {
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

/// An event's context, its layout, and what a record of it on a page is read as.
fn all_the_way(kernel: &Kernel, tracepoint: &Tracepoint, text: &mut String) {
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
    let bytes = page(pages, machine, &made.bytes);
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

fn kernel(name: &str) -> Kernel {
    let kernel = Kernel::at(support::fixture(name)).expect("a kernel");
    match name.ends_with("s390x") {
        // Its BTF says it.
        true => kernel,
        false => kernel.with_byte_order(ByteOrder::Little),
    }
}

fn snapshot(name: &str, only: &[&str]) {
    let kernel = kernel(name);
    let mut text = String::new();
    for event in kernel.event_directories().expect("events") {
        if only.is_empty() || only.contains(&event.as_str()) {
            let tracepoint = kernel.tracepoint(&event).expect("an event");
            all_the_way(&kernel, &tracepoint, &mut text);
        }
    }
    insta::assert_snapshot!(format!("all-the-way-{name}"), text);
}

#[test]
fn kernels_from_before() {
    for name in ["4.14-x86_64", "4.19-x86_64", "5.4-x86_64"] {
        snapshot(name, &[]);
    }
}

#[test]
fn big_endian_and_32_bit() {
    snapshot("6.12.107-s390x", &EVENTS);
    snapshot("6.1.176-i686", &EVENTS);
}

/// A string says only where it begins, no line has a sign: Linux 2.6.31.
#[test]
fn dynamic_fields_of_two_bytes_and_lines_without_signs() {
    let mut capture = Capture::new();
    let text = "\
name: old
ID: 40
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;
\tfield:int common_pid;\toffset:4;\tsize:4;

\tfield:__data_loc char[] name;\toffset:8;\tsize:2;
\tfield:int ret;\toffset:12;\tsize:4;

print fmt: \"name=%s ret=%d\", __get_str(name), REC->ret
";
    capture.list("x:old").file("x:old", "format", text);
    let header = support::fixture("4.14-x86_64").join("tracing/events/header_page");
    let header = std::fs::read(header).expect("a file");
    let events = capture.root().join("tracing/events");
    std::fs::write(events.join("header_page"), header).expect("a file");
    for byte_order in [ByteOrder::Little, ByteOrder::Big] {
        let kernel = capture.kernel().with_byte_order(byte_order);
        let machine = kernel.machine().expect("it was said");
        let old = kernel.tracepoint("x:old").expect("an event");
        assert_eq!(old.format().to_string(), text);
        let context = old.context().expect("a context");
        assert_eq!(context.evidence(), &Evidence::Format(FormatReason::NoBtf));
        let layout = context.layout().expect("a layout");
        let slots: Vec<_> = layout
            .slots()
            .iter()
            .map(|slot| (slot.name(), slot.c_type(), slot.offset(), slot.size()))
            .collect();
        assert_eq!(
            slots,
            [("__data_loc_name", "u16", 8, 2), ("ret", "int", 12, 4)]
        );
        assert_eq!(layout.gaps(), [0..8, 10..12]);

        let mut bytes = vec![0; 16];
        bytes[..2].copy_from_slice(&number(machine, 40, 2));
        bytes[8..10].copy_from_slice(&number(machine, 16, 2));
        bytes[12..].copy_from_slice(&number(machine, -3, 4));
        bytes.extend(b"eth0\0\0\0\0");
        let record = Record::new(old.format(), &bytes, machine);
        let values: Vec<String> = record
            .fields()
            .map(|(_, value)| value.expect("whole").to_string())
            .collect();
        // No line says that `ret` is signed; the print fmt's `%d` does.
        assert_eq!(values, ["eth0", "4294967293"]);
        let renderer = kernel.renderer(old.name(), old.format(), machine);
        let addresses = kernel.addresses().expect("addresses");
        let mut shown = String::new();
        let renderer = renderer.expect("a print fmt");
        renderer.render(&record, &addresses, &mut shown);
        assert_eq!(shown, "name=eth0 ret=-3");
        let values = [("name".to_owned(), "eth0".to_owned())];
        assert_eq!(check_filters(old.format(), &record, &values), 1);
    }
}
