//! A `perf.data` that is cut, damaged or lies: an error with its place, soon.

use std::fmt::Write;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tracepoints::record::recording::{PerfData, PerfEntry, RecordingError};
use tracepoints::{ByteOrder, Kernel};

use super::perf::{at, empty};
use crate::support::perf_data::{PerfEvent, PerfFile};
use crate::support::with_causes;

const EVENT: PerfEvent = PerfEvent::TRACEPOINT;

/// A small recording that has everything.
fn small(order: ByteOrder) -> PerfFile {
    let mut file = empty("6.18.15-x86_64", order);
    file.dat.ftrace.truncate(1);
    file.dat.categories.truncate(1);
    file.dat.categories[0].1.truncate(1);
    file.dat.printk_formats.truncate(80);
    file.dat.task_names.truncate(80);
    file.name("a", EVENT, at(1, 0, 8));
    file.fork(9, 8, EVENT, at(2, 0, 8));
    for time in 3..6 {
        file.sample(EVENT, at(time, 0, 9), &[1, 0, 0, 0, 9, 0, 0, 0]);
    }
    file.lost(2, EVENT, at(7, 0, 8));
    file
}

/// Reads everything there is. Returns the number of entries, and why there are no more; or
/// the error.
fn outcome(bytes: &[u8]) -> Result<(usize, Option<RecordingError>), RecordingError> {
    let recording = PerfData::parse(bytes)?;
    let kernel = Kernel::recorded("a", recording.kernel());
    let _ = (kernel.addresses(), kernel.task_names());
    let events = kernel.events_by_id();
    for entry in recording.entries() {
        if let (PerfEntry::Sample(sample), Ok(events)) = (entry, &events) {
            let _ = events.record(sample.record);
        }
    }
    for text in recording.left_out() {
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    let count = recording.entries().count();
    Ok((count, recording.damage().cloned()))
}

/// Cut at any length, no form is whole, and the error names a place; a stream has the entries
/// before it.
#[test]
fn cut_at_every_length() {
    for (form, bytes) in small(ByteOrder::Little).forms() {
        assert_eq!(outcome(&bytes), Ok((4, None)), "{form}");
        let records = small(ByteOrder::Little).records.len();
        for length in 0..bytes.len() {
            let error = match outcome(&bytes[..length]) {
                Err(RecordingError::NotPerfData) if length < 8 => continue,
                // The records are at the end of a stream, and may end between two.
                Err(RecordingError::NoFormats) if form == "stream" => continue,
                Ok((_, None)) if form == "stream" && length >= bytes.len() - records => continue,
                Err(error) | Ok((_, Some(error))) => error,
                other => panic!("{form}, {length} bytes: {other:?}"),
            };
            let text = with_causes(&error);
            assert!(text.contains("byte "), "{form}, {length} bytes: {text}");
        }
    }
}

/// Each kind of error, with its text.
#[test]
fn what_no_program_writes() {
    let file = small(ByteOrder::Little);
    let whole = file.file();
    let changed = |at: usize, bytes: &[u8]| {
        let mut file = whole.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let with = |feature: u32, content: &[u8]| {
        let mut file = small(ByteOrder::Little);
        file.features.push((feature, content.to_vec()));
        file.file()
    };
    let mut no_formats = whole.clone();
    no_formats[72] &= !2;
    let records = |records: &[u8]| file.with_records(&[&file.records, records].concat());
    let twice = {
        let inner = file.packed_records(b"x");
        let mut file = file.clone();
        file.records = inner;
        file.packed(false)
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("other magic", b"PERFFILE".to_vec()),
        ("a directory", with(24, &[0; 8])),
        ("no formats", no_formats),
        ("other formats", {
            let at = whole.windows(7).position(|part| part == b"tracing");
            changed(at.expect("formats"), b"TRACING")
        }),
        ("events of 8 bytes", changed(16, &[8, 0])),
        ("events without ids", changed(16, &[72, 0])),
        ("an event of 40 bytes", changed(112 + 4, &[40])),
        ("ids beyond the end", changed(112 + 73, &[0xff])),
        ("ids of any number", changed(112 + 80, &[0xff; 8])),
        ("records beyond the end", changed(47, &[0x7f])),
        ("a record of 7 bytes", records(&[9, 0, 0, 0, 0, 0, 7, 0])),
        (
            "a record of too many bytes",
            records(&[9, 0, 0, 0, 0, 0, 99, 0]),
        ),
        (
            "zstd that is none",
            file.with_records(&file.packed_records(&[7; 40])),
        ),
        ("compressed twice", twice),
    ];
    let mut text = String::new();
    for (case, file) in cases {
        let error = match outcome(&file) {
            Ok((count, Some(error))) => format!("after {count} entries: {}", with_causes(&error)),
            Err(error) => with_causes(&error),
            Ok((count, None)) => panic!("{case}: {count} entries"),
        };
        let _ = writeln!(text, "{case}: {error}");
    }
    insta::assert_snapshot!(text);
}

/// Samples that are cut inside their records are left out, and the others are read.
#[test]
fn samples_that_end_early() {
    let mut file = small(ByteOrder::Little);
    let start = file.records.len();
    file.sample(EVENT, at(8, 0, 9), &[1; 12]);
    let sample = file.records.split_off(start);
    for length in (8..sample.len()).step_by(8) {
        let record = file.record(9, &sample[8..length]);
        file.records.extend(record);
    }
    let bytes = file.file();
    let recording = PerfData::parse(&bytes).expect("a recording");
    assert_eq!(recording.entries().count(), 4);
    let left_out = [
        "samples that end within a sample: 7",
        "samples that end within a sample's fields: 1",
    ];
    assert_eq!(recording.left_out(), left_out);
}

/// A few compressed bytes may stand for gigabytes.
#[test]
fn bounded_time_and_memory() {
    let start = Instant::now();
    let file = small(ByteOrder::Little);
    let bomb = compress_to_vec(&vec![0; 192 << 20][..], CompressionLevel::Fastest);
    let bytes = file.with_records(&file.packed_records(&bomb));
    let (_, damage) = outcome(&bytes).expect("formats");
    assert!(
        matches!(
            damage,
            Some(RecordingError::TooLarge { .. } | RecordingError::Expected { .. })
        ),
        "{damage:?}"
    );
    // Empty frames, one after the other.
    let frames = b"\x28\xb5\x2f\xfd\x00\x58\x01\x00\x00".repeat(50_000);
    let bytes = file.with_records(&file.packed_records(&frames));
    assert_eq!(outcome(&bytes), Ok((0, None)));
    assert!(start.elapsed() < Duration::from_secs(60));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Damaged, a recording is an answer or an error.
    #[test]
    fn damaged(
        form in 0usize..4,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        big in any::<bool>(),
    ) {
        let order = if big { ByteOrder::Big } else { ByteOrder::Little };
        let (_, mut bytes) = small(order).forms().swap_remove(form);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        match outcome(&bytes) {
            Err(error) | Ok((_, Some(error))) => {
                let text = with_causes(&error);
                prop_assert!(!text.contains(char::is_control), "{text:?}");
            }
            Ok((count, None)) => prop_assert!(count <= bytes.len() / 16),
        }
    }
}
