//! From a record to its event: ids, the machine, and the layout of pages.

use std::fs;

use super::{HEADER_64, MACHINES};
use crate::support;
use crate::support::capture::{COMMON, Capture};
use crate::support::with_causes;
use tracepoints::{ByteOrder, Error};

#[test]
fn machines_of_the_fixtures() {
    for (name, machine) in [
        ("5.10.223-x86_64", MACHINES[0]),
        ("6.12.107-s390x", MACHINES[2]),
        ("7.3.4-x86_64", MACHINES[0]),
    ] {
        let kernel = support::kernel(name);
        assert_eq!(kernel.machine().expect("BTF says"), machine, "{name}");
        assert_eq!(kernel.page_layout().expect("a layout").page_size(), 4096);
    }
    // Without BTF the byte order is not known.
    let kernel = support::kernel("6.1.176-i686");
    assert!(matches!(
        kernel.machine(),
        Err(Error::UnknownByteOrder { .. })
    ));
    let kernel = kernel.with_byte_order(ByteOrder::Little);
    assert_eq!(kernel.machine().expect("it was said"), MACHINES[1]);
}

/// Records as perf delivers them, without a page around them.
#[test]
fn records_without_a_page() {
    let kernel = support::kernel("6.12.107-s390x");
    let events = kernel.events_by_id().expect("events");
    let id = kernel
        .tracepoint("sched:sched_process_exit")
        .expect("an event")
        .id()
        .expect("an id");
    let mut raw = vec![0; 36];
    raw[..2].copy_from_slice(&(id as u16).to_be_bytes());
    raw[4..8].copy_from_slice(&77u32.to_be_bytes());
    raw[8..11].copy_from_slice(b"cat");
    let (event, record) = events.record(&raw).expect("an event");
    assert_eq!(event.as_str(), "sched:sched_process_exit");
    let values: Vec<String> = ["common_pid", "comm"]
        .into_iter()
        .map(|name| {
            let field = record.format().field(name).expect(name);
            record.value(field).expect("a value").to_string()
        })
        .collect();
    assert_eq!(values, ["77", "cat"]);
    assert!(matches!(
        events.record(&raw[..1]),
        Err(Error::NoEventId { length: 1 })
    ));
    let error = events.record(&[0xff, 0xfe]).expect_err("no event");
    assert!(matches!(error, Error::UnknownEventId { id: 0xfffe }));
}

#[test]
fn ids_and_pages_of_captures_that_lie() {
    let machine = |capture: &Capture| {
        let kernel = capture.kernel().with_byte_order(ByteOrder::Little);
        kernel.machine()
    };
    let mut capture = Capture::new();
    capture.event("x:a", COMMON, &[]);
    assert!(matches!(machine(&capture), Err(Error::NoPageLayout { .. })));
    let events = capture.root().join("tracing/events");
    fs::write(events.join("header_page"), HEADER_64.replace("commit", "x")).expect("a file");
    let error = machine(&capture).expect_err("no layout");
    assert!(
        with_causes(&error).ends_with("header_page: header_page has no field commit"),
        "{error}"
    );
    fs::write(events.join("header_page"), HEADER_64).expect("a file");
    assert_eq!(machine(&capture).expect("a machine"), MACHINES[0]);
    fs::write(events.join("header_event"), "\ttype_len    :    6 bits\n").expect("a file");
    let error = machine(&capture).expect_err("another header");
    assert!(matches!(error, Error::PageLayout { .. }));
    assert!(
        with_causes(&error).contains("header_event: line 1: expected "),
        "{error}"
    );
    fs::remove_file(events.join("header_event")).expect("it was there");
    capture.btf("vmlinux", b"\x7fELF");
    assert!(matches!(capture.kernel().machine(), Err(Error::Btf { .. })));
    capture.btf("vmlinux", b"\xeb");
    assert!(matches!(capture.kernel().machine(), Err(Error::Btf { .. })));
    capture.btf("vmlinux", b"\xeb\x9f");
    assert_eq!(capture.kernel().machine().expect("big-endian"), MACHINES[2]);

    // Without an `id` file the format file's id counts. With one, both must agree.
    let of = |capture: &Capture, id: u16| {
        let kernel = capture.kernel();
        let events = kernel.events_by_id().expect("ids");
        events.event(id).map(|(name, _)| name.to_string())
    };
    assert_eq!(of(&capture, 7).expect("an event"), "x:a");
    capture.file("x:a", "id", "9\n");
    assert!(matches!(
        of(&capture, 7),
        Err(Error::UnknownEventId { id: 7 })
    ));
    assert!(matches!(
        of(&capture, 9),
        Err(Error::OtherEventId {
            id: 9,
            found: Some(7),
            ..
        })
    ));
    capture.event("x:b", COMMON, &[]).file("x:b", "id", "9\n");
    let error = of(&capture, 9).expect_err("two events");
    assert_eq!(error.to_string(), "x:a and x:b both have the id 9");
    capture
        .file("x:a", "format", "nonsense")
        .file("x:b", "id", "10\n");
    assert!(matches!(of(&capture, 9), Err(Error::Format { .. })));
    // An id that does not fit into a record.
    capture.file("x:b", "id", "65536\n");
    assert!(matches!(
        of(&capture, 10),
        Err(Error::UnknownEventId { id: 10 })
    ));
}
