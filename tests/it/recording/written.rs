//! A `trace.dat` that was written gives what was put into it.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use tracepoints::record::recording::{RecordingWriteError, TraceDat, TraceDatWriter};
use tracepoints::record::ring::{Lost, PageLayout};
use tracepoints::{ByteOrder, Kernel, Machine};

use super::{forms, parsed};
use crate::support::trace_dat::DatFile;
use crate::support::{fixture, kernel};

/// What a CPU of a buffer has, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Put {
    Record(u64, Vec<u8>),
    Lost(Lost),
}

/// Reads it back, by buffer and CPU.
fn read(bytes: &[u8]) -> BTreeMap<(String, u32), Vec<Put>> {
    let recording = parsed(bytes);
    let kernel = Kernel::recorded("a.dat", recording.kernel());
    let layout = kernel.page_layout().expect("a layout");
    let mut found = BTreeMap::new();
    for buffer in recording.buffers() {
        let layout = buffer.layout(layout);
        for cpu in buffer.cpus().iter().filter(|cpu| !cpu.bytes().is_empty()) {
            let mut all = Vec::new();
            for page in layout.pages(cpu.bytes(), recording.kernel().byte_order()) {
                let page = page.expect("a page");
                all.extend(page.lost().map(Put::Lost));
                for entry in page.entries() {
                    let entry = entry.expect("an entry");
                    all.push(Put::Record(entry.timestamp(), entry.bytes().to_vec()));
                }
            }
            found.insert((buffer.name().to_owned(), cpu.cpu()), all);
        }
    }
    found
}

/// Losses that follow one another are one, of an unknown number if it does not fit into a
/// `long`, and records end at a multiple of 4 bytes.
fn as_stored(puts: &[Put], is_64_bit: bool) -> Vec<Put> {
    let most = if is_64_bit { u64::MAX } else { u32::MAX.into() };
    let known = |count: u64| match count <= most {
        true => Lost::Events(count),
        false => Lost::Unknown,
    };
    let mut stored: Vec<Put> = Vec::new();
    for put in puts {
        match (stored.last_mut(), put) {
            (Some(Put::Lost(before)), Put::Lost(lost)) => {
                *before = match (*before, *lost) {
                    (Lost::Events(before), Lost::Events(lost)) => {
                        before.checked_add(lost).map_or(Lost::Unknown, known)
                    }
                    _ => Lost::Unknown,
                };
            }
            (_, Put::Lost(Lost::Events(count))) => stored.push(Put::Lost(known(*count))),
            (_, Put::Lost(lost)) => stored.push(Put::Lost(*lost)),
            (_, Put::Record(time, bytes)) => {
                let mut bytes = bytes.clone();
                bytes.resize(bytes.len().next_multiple_of(4), 0);
                stored.push(Put::Record(*time, bytes));
            }
        }
    }
    stored
}

fn puts() -> impl Strategy<Value = Vec<Put>> {
    // Times near the limits of the 27 and 59 bits that store differences.
    let time = prop_oneof![
        0..1_000_u64,
        (0..4_u64).prop_map(|more| (1 << 27) - 2 + more),
        (0..4_u64).prop_map(|more| (1 << 59) - 2 + more),
        any::<u64>(),
    ];
    // Lengths near that of the short form, of a page, and any.
    let length = prop_oneof![
        0..12_usize,
        108..120_usize,
        4040..=4064_usize,
        0..4064_usize
    ];
    let record = (time, length, any::<u8>());
    let record =
        record.prop_map(|(time, length, byte)| Put::Record(time, vec![byte; length.min(4064)]));
    // Numbers near the limits of a `long`, whose sums are beyond it.
    let lost = prop_oneof![
        0..1_000_u64,
        (0..4_u64).prop_map(|more| u64::from(u32::MAX) - 2 + more),
        (0..4_u64).prop_map(|less| u64::MAX - less),
    ];
    let lost = prop_oneof![3 => lost.prop_map(Lost::Events), 1 => Just(Lost::Unknown)];
    prop::collection::vec(
        prop_oneof![8 => record, 2 => lost.prop_map(Put::Lost)],
        1..40,
    )
}

proptest! {
    #[test]
    fn any_records_of_any_machine(
        of_cpus in prop::collection::btree_map(("[ab]?", 0..5_u32), puts(), 1..4),
        is_big in any::<bool>(),
        is_64_bit in any::<bool>(),
    ) {
        let order = if is_big { ByteOrder::Big } else { ByteOrder::Little };
        let kernel = DatFile { is_big_endian: is_big, page_size: 4096, ..DatFile::default() };
        let kernel = kernel.version_6_of_nothing();
        let recorded = TraceDat::parse(&kernel).expect("a recording").kernel().clone();
        let mut writer = TraceDatWriter::new(Machine::new(order, is_64_bit), 4096);
        for ((buffer, cpu), puts) in &of_cpus {
            for put in puts {
                match put {
                    Put::Record(time, bytes) => writer.record(buffer, *cpu, *time, bytes),
                    Put::Lost(lost) => writer.lost(buffer, *cpu, *lost),
                }
                .expect("it fits");
            }
        }
        let mut file = Vec::new();
        writer.write_to(recorded, &mut file).expect("memory");
        let expected: BTreeMap<_, _> =
            of_cpus.iter().map(|(place, puts)| (place.clone(), as_stored(puts, is_64_bit))).collect();
        prop_assert_eq!(read(&file), expected);
    }
}

/// A recording that is written again has the same files, buffers, clocks and records, in
/// each form.
#[test]
fn a_recording_again() {
    let root = fixture("6.18.15-x86_64");
    let mut dat = DatFile::of_capture(&root, ByteOrder::Little);
    let mut instance = dat.buffers[0].clone();
    instance.name = "own".to_owned();
    instance.clock = "counter".to_owned();
    dat.buffers.push(instance);
    for (form, bytes) in forms(&dat) {
        let recording = parsed(&bytes);
        let kernel = Kernel::recorded("a.dat", recording.kernel());
        let layout = kernel.page_layout().expect("a layout");
        let machine = kernel.machine().expect("a machine");
        let mut writer = TraceDatWriter::new(machine, layout.page_size());
        for buffer in recording.buffers() {
            writer.set_clock(buffer.name(), buffer.clock().expect("a clock"));
            for cpu in buffer.cpus() {
                for page in layout.pages(cpu.bytes(), machine.byte_order()) {
                    let page = page.expect("a page");
                    if let Some(lost) = page.lost() {
                        writer.lost(buffer.name(), cpu.cpu(), lost).expect("a CPU");
                    }
                    for entry in page.entries() {
                        let entry = entry.expect("an entry");
                        let (time, bytes) = (entry.timestamp(), entry.bytes());
                        writer
                            .record(buffer.name(), cpu.cpu(), time, bytes)
                            .expect("it fits");
                    }
                }
            }
        }
        let mut file = Vec::new();
        let recorded = kernel.to_recorded().expect("files");
        writer.write_to(recorded, &mut file).expect("memory");
        assert!(read(&file) == read(&bytes), "{form}");
        let again = parsed(&file);
        let names = |recording: &TraceDat<'_>| {
            let buffers = recording.buffers().iter();
            let names = buffers.map(|buffer| (buffer.name().to_owned(), clock(buffer.clock())));
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(&again), names(&recording), "{form}");
        for (path, bytes) in recording.kernel().files() {
            let mut found = again.kernel().files().filter(|(found, _)| *found == path);
            match path {
                // Of version 6 alone, and only the clock in use.
                "tracing/trace_clock" => {}
                // Compilers differ in whether a char is signed.
                "tracing/events/header_page" => {
                    let text = String::from_utf8_lossy(found.next().expect("it").1);
                    let found = PageLayout::parse(&text).expect("a layout");
                    assert_eq!(found, layout, "{form}");
                }
                path => assert_eq!(found.next(), Some((path, bytes)), "{form}"),
            }
        }
    }
}

/// The clock in use.
fn clock(trace_clock: Option<&str>) -> String {
    let mut words = trace_clock.expect("a clock").split_whitespace();
    let found = words.find(|word| word.starts_with('['));
    found.expect("one in use").to_owned()
}

/// A captured kernel's files are written but for BTF.
#[test]
fn files_of_a_captured_kernel() {
    let captured = kernel("7.3.4-x86_64");
    let mut recorded = captured.to_recorded().expect("files");
    recorded.set_uname(Some("7.3.4"), None);
    recorded.set_task_names(b"7 a b\n");
    let writer = TraceDatWriter::new(captured.machine().expect("a machine"), 1);
    let mut file = Vec::new();
    writer.write_to(recorded, &mut file).expect("memory");
    let recording = parsed(&file);
    let (release, machine) = (
        recording.kernel().release(),
        recording.kernel().architecture(),
    );
    assert_eq!((release, machine), (Some("7.3.4"), None));
    let kernel = Kernel::recorded("a.dat", recording.kernel());
    assert_eq!(kernel.task_names().expect("names").of(7), "a b");
    let root = fixture("7.3.4-x86_64");
    let names = captured.event_directories().expect("events");
    assert_eq!(
        kernel.event_directories().expect("events").names(),
        names.names()
    );
    for name in &names {
        let path = format!("tracing/events/{}/{}/format", name.category(), name.event());
        let mut files = recording.kernel().files();
        let (_, format) = files.find(|(found, _)| *found == path).expect("a format");
        assert!(
            format == fs::read(root.join(&path)).expect("a file"),
            "{path}"
        );
    }
}

#[test]
fn refused() {
    let mut writer = TraceDatWriter::new(Machine::new(ByteOrder::Little, true), 4096);
    let room = 4096 - 16 - 16;
    assert_eq!(writer.record("", 0, 1, &vec![1; room]), Ok(()));
    let refused = [
        writer.record("", 0, 1, &vec![1; room + 1]),
        writer.record("", 65_536, 1, b"12345678"),
        writer.lost("", u32::MAX, Lost::Unknown),
    ];
    let refused: Vec<String> = refused
        .into_iter()
        .map(|result: Result<(), RecordingWriteError>| result.expect_err("too large").to_string())
        .collect();
    insta::assert_snapshot!(refused.join("\n"));
}
