//! Kernels before 5.10: every event from its files to a record on a page and back.

use crate::support;
use crate::support::all_the_way::{all_the_way, check_filters, kernel};
use crate::support::capture::Capture;
use crate::support::page::number;
use tracepoints::{ByteOrder, Evidence, Record, context::FormatReason};

#[test]
fn kernels_from_before() {
    for name in ["4.14-x86_64", "4.19-x86_64", "5.4-x86_64"] {
        let text = all_the_way(&kernel(name), &[]);
        insta::assert_snapshot!(format!("all-the-way-{name}"), text);
    }
}

/// As on Linux 2.6.31: a string's location is only its offset, and no field line says
/// `signed:`.
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
        // No field line says that `ret` is signed, but the print fmt's `%d` does.
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
