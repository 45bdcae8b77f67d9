//! `perf.data`: in every form, samples come back with time, CPU and task.

use std::fs;

use tracepoints::record::recording::{PerfData, PerfEntry};
use tracepoints::{ByteOrder, Kernel};

use crate::support::fixture;
use crate::support::perf_data::{
    ADDR, CALLCHAIN, CPU, ID, IDENTIFIER, IP, Moment, PERIOD, PerfEvent, PerfFile, RAW, READ,
    STREAM_ID, TID, TIME,
};
use crate::support::trace_dat::DatFile;

const EVENT: PerfEvent = PerfEvent::TRACEPOINT;

pub(super) fn at(time: u64, cpu: u32, tid: i32) -> Moment {
    let pid = if tid > 100 { tid - 1 } else { tid };
    Moment {
        time,
        cpu,
        pid,
        tid,
    }
}

/// A recording without records, of a fixture.
pub(super) fn empty(name: &str, order: ByteOrder) -> PerfFile {
    let mut file = PerfFile {
        dat: DatFile::of_capture(&fixture(name), order),
        events: vec![EVENT],
        ..PerfFile::default()
    };
    file.features = vec![
        (3, file.text("node")),
        (4, file.text("6.1.99")),
        (6, file.text("x86_64")),
    ];
    file
}

/// The entries, one a line: time, CPU, process, thread, name, and the bytes of the record.
fn lines(bytes: &[u8]) -> Vec<String> {
    let recording = PerfData::parse(bytes).expect("a recording");
    assert_eq!(recording.damage(), None);
    let entries = recording.entries();
    entries
        .map(|entry| match entry {
            PerfEntry::Sample(sample) => format!(
                "{} [{}] {:?} {:?} {:02x?}",
                sample.time,
                sample.cpu,
                sample.task,
                sample.name.map(String::from_utf8_lossy),
                &sample.record[..2]
            ),
            other => format!("{other:?}"),
        })
        .collect()
}

/// Records are sorted by time and, at one time, by their place; names are those at that time,
/// and of a new thread its parent's.
#[test]
fn in_order_with_the_names_at_that_time() {
    let mut texts = Vec::new();
    for order in [ByteOrder::Little, ByteOrder::Big] {
        let mut file = empty("6.12.107-s390x", order);
        // Written by perf itself, of no time.
        file.name("early", EVENT, at(0, 0, 7));
        file.sample(EVENT, at(30, 1, 7), &[3; 12]);
        file.sample(EVENT, at(10, 0, 7), &[1; 12]);
        file.sample(EVENT, at(30, 0, 7), &[4; 12]);
        file.lost(5, EVENT, at(25, 1, 7));
        file.name("later", EVENT, at(20, 0, 7));
        file.fork(107, 7, EVENT, at(22, 0, 7));
        file.sample(EVENT, at(23, 0, 107), &[2; 12]);
        file.name("own", EVENT, at(24, 0, 107));
        file.sample(EVENT, at(26, 0, 107), &[5; 12]);
        // A parent without a name.
        file.fork(107, 9, EVENT, at(31, 0, 9));
        file.sample(EVENT, at(32, 0, 107), &[6; 12]);
        file.sample(EVENT, at(33, 0, -1), &[7; 12]);
        // Other kinds of records: an exit, the end of a round.
        file.other(4, &[0; 24], EVENT, at(34, 0, 7));
        let round = file.record(68, &[]);
        file.records.extend(round);
        for (form, bytes) in file.forms() {
            let found = lines(&bytes).join("\n");
            let recording = PerfData::parse(&bytes).expect("a recording");
            assert_eq!(recording.kernel().byte_order(), order, "{form}");
            assert_eq!(recording.kernel().release(), Some("6.1.99"), "{form}");
            assert_eq!(recording.kernel().architecture(), Some("x86_64"), "{form}");
            assert_eq!(recording.left_out(), [""; 0], "{form}");
            texts.push(found);
        }
    }
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:#?}");
    insta::assert_snapshot!(texts[0]);
}

/// Whatever else a sample has, its fields are where the kernel writes them.
#[test]
fn every_form_of_a_sample() {
    let needed = TIME | CPU | RAW;
    for extra in [
        0,
        IP,
        TID,
        ADDR,
        ID,
        STREAM_ID,
        PERIOD,
        CALLCHAIN,
        IDENTIFIER,
        READ,
        IP | TID | ADDR | ID | STREAM_ID | PERIOD | CALLCHAIN | IDENTIFIER | READ,
    ] {
        for read_format in if extra & READ != 0 { 0..32 } else { 0..1 } {
            let event = PerfEvent {
                sample_type: needed | extra,
                read_format,
                ..EVENT
            };
            let mut file = empty("6.18.15-x86_64", ByteOrder::Little);
            file.events = vec![event];
            file.lost(3, event, at(41, 6, 8));
            file.sample(event, at(42, 5, 8), &[0x17, 0x18, 0, 0]);
            let task = if extra & TID != 0 {
                "Some((8, 8))"
            } else {
                "None"
            };
            let lost = "Lost { cpu: Some(6), count: 3 }".to_owned();
            let sample = format!("42 [5] {task} None [17, 18]");
            for (form, bytes) in file.forms() {
                assert_eq!(
                    lines(&bytes),
                    [&*lost, &*sample],
                    "{form} {extra:#x} {read_format}"
                );
            }
        }
    }
}

/// Events of several forms, told apart by their ids; what is no tracepoint is left out, and
/// counted.
#[test]
fn several_events() {
    for id in [IDENTIFIER, ID] {
        let tracepoint = PerfEvent {
            sample_type: IP | TID | TIME | CPU | RAW | id,
            ..EVENT
        };
        let other = PerfEvent {
            sample_type: IP | TID | TIME | CPU | PERIOD | RAW | id,
            id: 12,
            ..EVENT
        };
        let clock = PerfEvent {
            kind: 1,
            sample_type: IP | TID | TIME | CPU | id,
            id: 13,
            ..EVENT
        };
        let without_cpu = PerfEvent {
            sample_type: IP | TID | TIME | RAW | id,
            id: 14,
            ..EVENT
        };
        let unknown = PerfEvent {
            id: 99,
            ..tracepoint
        };
        let mut file = empty("6.18.15-x86_64", ByteOrder::Little);
        file.events = vec![tracepoint, other, clock, without_cpu];
        file.name("a", tracepoint, at(1, 0, 8));
        for (time, event) in [
            (2, tracepoint),
            (3, other),
            (4, clock),
            (5, clock),
            (6, without_cpu),
            (7, unknown),
        ] {
            file.sample(event, at(time, 0, 8), &[time as u8; 4]);
        }
        for (form, bytes) in file.forms() {
            let expected = [
                "2 [0] Some((8, 8)) Some(\"a\") [02, 02]",
                "3 [0] Some((8, 8)) Some(\"a\") [03, 03]",
            ];
            assert_eq!(lines(&bytes), expected, "{form}");
            let recording = PerfData::parse(&bytes).expect("a recording");
            let left_out = [
                "samples of an event that is not described: 1",
                "samples of events that are not tracepoints: 2",
                "samples without time, CPU or fields: 1",
            ];
            assert_eq!(recording.left_out(), left_out, "{form}");
        }
    }
}

/// Without ids in records that are no samples, a name counts from its place on, and the CPU of
/// a loss is not known.
#[test]
fn records_without_time() {
    let event = PerfEvent {
        has_sample_id: false,
        ..EVENT
    };
    let mut file = empty("6.18.15-x86_64", ByteOrder::Little);
    file.events = vec![event];
    file.sample(event, at(10, 0, 8), &[1; 4]);
    file.name("a", event, at(10, 0, 8));
    file.lost(4, event, at(10, 0, 8));
    file.sample(event, at(20, 0, 8), &[2; 4]);
    // Counted at the end.
    let body = 9_u64.to_le_bytes();
    file.other(13, &body, event, at(0, 0, 0));
    // Refused by a filter of perf's, and not lost.
    let mut refused = file.record(13, &body);
    refused[5] = 0x80;
    file.records.extend(refused);
    let expected = [
        "10 [0] Some((8, 8)) None [01, 01]",
        "Lost { cpu: None, count: 4 }",
        "20 [0] Some((8, 8)) Some(\"a\") [02, 02]",
    ];
    for (form, bytes) in file.forms() {
        assert_eq!(lines(&bytes), expected, "{form}");
        let recording = PerfData::parse(&bytes).expect("a recording");
        assert_eq!(recording.lost_samples(), 9, "{form}");
    }
}

/// A recording is a root like any other; its kernel has the formats of the fixture.
#[test]
fn a_recording_is_a_root() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, order) in [
        ("6.18.15-x86_64", ByteOrder::Little),
        ("6.12.107-s390x", ByteOrder::Big),
    ] {
        let captured = Kernel::at(fixture(name)).expect("a kernel");
        let file = empty(name, order);
        let trace_dat = file.dat.version_6();
        for bytes in [file.file(), file.stream(), trace_dat] {
            let path = dir.path().join("recording");
            fs::write(&path, bytes).expect("a file");
            let kernel = Kernel::at(&path).expect("a kernel");
            assert_eq!(
                kernel.event_directories().expect("events").names(),
                captured.event_directories().expect("events").names()
            );
            let event = kernel.tracepoint("sched:sched_switch").expect("an event");
            let same = captured.tracepoint("sched:sched_switch").expect("one");
            assert_eq!(event.format(), same.format());
            assert!(event.context().expect("a context").struct_name().is_none());
            let events = kernel.events_by_id().expect("events");
            assert_eq!(events.machine().byte_order(), order);
        }
    }
}
