//! What is written is read, in every form.

use std::fs;

use tracepoints::record::ring::Entry;
use tracepoints::text::TraceClock;
use tracepoints::{ByteOrder, Kernel, Machine};

use super::{forms, parsed};
use crate::support::page::PageWriter;
use crate::support::trace_dat::{DatBuffer, DatFile};
use crate::support::{fixture, kernel};

/// The files of a fixture come back, and its pages give the same records.
#[test]
fn files_and_pages_of_a_captured_kernel() {
    for name in ["6.18.15-x86_64", "7.3.4-x86_64"] {
        let root = fixture(name);
        let captured = Kernel::at(&root).expect("a kernel");
        let captured_events = captured.events_by_id().expect("events");
        let dat = DatFile::of_capture(&root, ByteOrder::Little);
        for (form, bytes) in forms(&dat) {
            let recording = parsed(&bytes);
            assert_eq!(recording.version().to_string(), form[..1]);
            let kernel = Kernel::recorded("a.dat", recording.kernel());
            assert_eq!(recording.kernel().left_out(), [""; 0]);
            assert!(!kernel.tracefs().exists(), "nothing is read from files");
            for (path, found) in recording.kernel().files() {
                let expected = match path {
                    "tracing/saved_cmdlines" => fs::read(root.join("ring/saved_cmdlines")),
                    "proc/kallsyms"
                    | "proc/sys/kernel/arch"
                    | "proc/version"
                    | "tracing/trace_clock" => continue,
                    path => fs::read(root.join(path)),
                };
                assert_eq!(found, expected.expect("a file"), "{form}: {path}");
            }
            assert_eq!(
                kernel.event_directories().expect("events").names(),
                captured.event_directories().expect("events").names()
            );
            assert_eq!(kernel.version().expect("one"), expected_version(name));
            let events = kernel.events_by_id().expect("events");
            assert_eq!(events.machine(), captured_events.machine());
            let [buffer] = recording.buffers() else {
                panic!("{:?}", recording.buffers());
            };
            assert_eq!(
                buffer.clock().and_then(TraceClock::of_file),
                Some(TraceClock::Nanoseconds)
            );
            let layout = buffer.layout(kernel.page_layout().expect("a layout"));
            assert_eq!(layout, captured.page_layout().expect("a layout"));
            let mut count = 0;
            for (cpu, pages) in buffer.cpus().iter().enumerate() {
                assert_eq!(pages.cpu() as usize, cpu);
                let raw = fs::read(root.join(format!("ring/cpu{cpu}.raw"))).expect("pages");
                assert!(pages.bytes() == raw, "{form}: CPU {cpu}");
                for page in layout.pages(pages.bytes(), ByteOrder::Little) {
                    for entry in page.expect("a page").entries() {
                        let entry: Entry<'_> = entry.expect("an entry");
                        let (event, _) = events.record(entry.bytes()).expect("its event");
                        let (same, _) = captured_events.record(entry.bytes()).expect("its event");
                        assert_eq!(event, same);
                        count += 1;
                    }
                }
            }
            assert!(count > 100, "{form}: {count}");
        }
    }
}

fn expected_version(fixture: &str) -> Option<tracepoints::text::KernelVersion> {
    fixture.parse().ok()
}

/// Byte order, word size, page size, buffers and their clocks are the recording's own.
#[test]
fn other_machines_and_several_buffers() {
    for (name, order) in [
        ("6.12.107-s390x", ByteOrder::Big),
        ("6.1.176-i686", ByteOrder::Little),
    ] {
        let captured = kernel(name);
        let layout = captured.page_layout().expect("a layout");
        let machine: Machine = layout.machine(order);
        let event = captured.tracepoint("sched:sched_switch").expect("an event");
        let id = event.id().and_then(|id| u16::try_from(id).ok());
        let page = |time, id| {
            let mut page = PageWriter::new(machine, layout);
            page.record(20, 7, id).page(time, 0, &[])
        };
        let mut dat = DatFile::of_capture(&fixture(name), order);
        let id = id.expect("an id");
        let buffer = |name: &str, clock: &str, time| DatBuffer {
            name: name.to_owned(),
            clock: clock.to_owned(),
            cpus: vec![[page(time, id), page(time + 100, id)].concat(), Vec::new()],
        };
        dat.buffers = vec![
            buffer("", "local", 1000),
            buffer("two", "counter", 2000),
            buffer("three", "boot", 3000),
        ];
        // Each adds to the times: 16 µs, and 5 ns less.
        dat.options.push((1, b"0x10\0".to_vec()));
        dat.options.push((7, b"-5\0".to_vec()));
        for (form, bytes) in forms(&dat) {
            let recording = parsed(&bytes);
            assert_eq!(recording.time_offset(), 15_995, "{form}");
            assert!(!recording.has_other_times());
            assert_eq!(recording.kernel().byte_order(), order);
            let kernel = Kernel::recorded("a.dat", recording.kernel());
            let events = kernel.events_by_id().expect("events");
            assert_eq!(events.machine(), machine);
            let found: Vec<_> = recording
                .buffers()
                .iter()
                .map(|buffer| {
                    let layout = buffer.layout(kernel.page_layout().expect("a layout"));
                    let pages = layout.pages(buffer.cpus()[0].bytes(), order);
                    let entries = pages.flat_map(|page| page.expect("a page").entries());
                    let times: Vec<u64> = entries
                        .map(|entry| entry.expect("an entry"))
                        .inspect(|entry| assert_eq!(entry.event_id(), Some(id)))
                        .map(|entry| entry.timestamp())
                        .collect();
                    assert!(buffer.cpus()[1].bytes().is_empty());
                    let clock = buffer.clock().and_then(TraceClock::of_file);
                    (buffer.name(), clock.expect("a clock"), times)
                })
                .collect();
            let expected = [
                ("", TraceClock::Nanoseconds, vec![1007, 1107]),
                ("two", TraceClock::Counts, vec![2007, 2107]),
                ("three", TraceClock::Nanoseconds, vec![3007, 3107]),
            ];
            assert_eq!(found, expected, "{form}");
        }
    }
}

/// Pages larger than those of `header_page`: an instance's sub-buffers may be.
#[test]
fn pages_of_another_size() {
    let captured = kernel("6.18.15-x86_64");
    let order = ByteOrder::Little;
    let mut dat = DatFile::of_capture(&fixture("6.18.15-x86_64"), order);
    dat.page_size = 8192;
    let layout = captured.page_layout().expect("a layout");
    let mut pages = Vec::new();
    for time in [100, 200] {
        let mut page = PageWriter::new(layout.machine(order), layout);
        let mut page = page.record(3, 1, 5).page(time, 0, &[]);
        page.resize(8192, 0);
        pages.extend(page);
    }
    dat.buffers[0].cpus = vec![pages];
    for (form, bytes) in forms(&dat) {
        let recording = parsed(&bytes);
        let buffer = &recording.buffers()[0];
        let layout = buffer.layout(layout);
        assert_eq!(layout.page_size(), 8192, "{form}");
        let pages = layout.pages(buffer.cpus()[0].bytes(), order);
        let times: Vec<u64> = pages.map(|page| page.expect("one").timestamp()).collect();
        assert_eq!(times, [100, 200], "{form}");
    }
}
