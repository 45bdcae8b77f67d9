//! Recordings that are cut, damaged or lie: an error with its place, soon.

use std::fmt::Write;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tracepoints::record::recording::{RecordingError, TraceDat};
use tracepoints::{ByteOrder, Kernel};

use super::{forms, zlib};
use crate::support::trace_dat::{DatBuffer, DatFile, UNPACKED};
use crate::support::with_causes;

const FORMAT: &str = "name: a\nID: 7\nformat:\n\
    \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
    \n\nprint fmt: \"\"\n";
const HEADER_PAGE: &str = "\
\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;
\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;
\tfield: char data;\toffset:16;\tsize:1008;\tsigned:1;
";

/// A small recording that has everything.
fn small() -> DatFile {
    DatFile {
        page_size: 1024,
        header_page: HEADER_PAGE.into(),
        ftrace: vec![FORMAT.into()],
        categories: vec![("x".to_owned(), vec![FORMAT.replace("7", "8").into()])],
        kallsyms: b"ffffffff81000000 T _text\n".to_vec(),
        task_names: b"7 a\n".to_vec(),
        options: vec![(5, b"Linux n 6.1.0 x86_64\0".to_vec())],
        buffers: vec![
            DatBuffer {
                clock: "local".to_owned(),
                cpus: vec![vec![1; 1024], vec![2; 2048]],
                ..DatBuffer::default()
            },
            DatBuffer {
                name: "i".to_owned(),
                clock: "boot".to_owned(),
                cpus: vec![vec![3; 1024], Vec::new()],
            },
        ],
        ..DatFile::default()
    }
}

/// Reads everything there is; the error, if there is one.
fn outcome(bytes: &[u8]) -> Result<usize, RecordingError> {
    let recording = TraceDat::parse(bytes)?;
    let kernel = Kernel::recorded("a", recording.kernel());
    for reason in recording.kernel().left_out() {
        assert!(!reason.contains(char::is_control), "{reason:?}");
    }
    let _ = (kernel.addresses(), kernel.task_names());
    let Ok(layout) = kernel.page_layout() else {
        return Ok(0);
    };
    let mut count = 0;
    for buffer in recording.buffers() {
        let layout = buffer.layout(layout);
        for cpu in buffer.cpus() {
            let pages = layout.pages(cpu.bytes(), recording.kernel().byte_order());
            count += pages.count();
        }
    }
    Ok(count)
}

/// Cut at any length, no form is whole, and the error names a place.
#[test]
fn cut_at_every_length() {
    for (form, bytes) in forms(&small()) {
        assert_eq!(outcome(&bytes), Ok(4), "{form}");
        for length in 0..bytes.len() {
            let error = outcome(&bytes[..length]).expect_err("cut off");
            match &error {
                RecordingError::NotTraceDat => assert!(length < 10),
                error => {
                    let text = with_causes(error);
                    assert!(text.contains("byte "), "{form}, {length} bytes: {text}");
                }
            }
        }
    }
}

/// Each kind of error, with its text.
#[test]
fn what_no_program_writes() {
    let whole = small().version_6();
    let seven = |change: &dyn Fn(&mut DatFile)| {
        let mut dat = small();
        change(&mut dat);
        dat.version_7(UNPACKED)
    };
    let changed = |at: usize, bytes: &[u8]| {
        let mut file = whole.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let find = |mark: &[u8]| {
        let found = whole.windows(mark.len()).position(|part| part == mark);
        found.expect("a mark")
    };
    let loops = {
        let mut file = seven(&|_| ());
        // The first list of options is the last section, and its end points to itself.
        let place: [u8; 8] = file[27..35].try_into().expect("an offset");
        let end = file.len() - 8;
        file[end..].copy_from_slice(&place);
        file
    };
    let all = u64::MAX.to_le_bytes();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("other magic", b"PERFILE2".to_vec()),
        ("version 8", changed(10, b"8")),
        ("byte order 2", changed(12, &[2])),
        ("page size 1000", changed(14, &1000u32.to_le_bytes())),
        ("no header_page", changed(18, b"x")),
        ("header_page without end", changed(30, &all)),
        ("latency", changed(find(b"flyrecord"), b"latency  ")),
        ("neither", changed(find(b"flyrecord"), b"flyrecore")),
        (
            "data beyond the end",
            changed(find(b"flyrecord") + 10, &all),
        ),
        ("data of any length", changed(find(b"flyrecord") + 18, &all)),
        ("4 billion CPUs", changed(find(b"options") - 4, &all[..4])),
        ("options in a circle", loops),
        ("lz4", small().version_7(("lz4", &zlib))),
        (
            "zlib that is none",
            small().version_7(("zlib", &|_| vec![7; 9])),
        ),
        (
            "zlib of too much",
            small().version_7(("zlib", &|_| zlib(&[0; 1 << 16]))),
        ),
        (
            "zlib of too little",
            small().version_7(("zlib", &|_| zlib(&[]))),
        ),
        (
            "latency in 7",
            seven(&|dat| dat.options.push((22, vec![0; 8]))),
        ),
        (
            "two sections of one kind",
            seven(&|dat| {
                let offset = dat.u64(35).to_vec();
                dat.options.push((16, offset.clone()));
                dat.options.push((16, offset));
            }),
        ),
        (
            "a section of another kind",
            seven(&|dat| {
                dat.options.insert(0, (17, dat.u64(35).to_vec()));
            }),
        ),
    ];
    let mut text = String::new();
    for (case, file) in cases {
        let error = outcome(&file).expect_err(case);
        let _ = writeln!(text, "{case}: {}", with_causes(&error));
    }
    insta::assert_snapshot!(text);
}

/// Formats whose names are no event's are left out, and named.
#[test]
fn names_that_are_no_paths() {
    let mut dat = small();
    let format = |name: &str| FORMAT.replace("name: a", &format!("name: {name}")).into();
    dat.categories = vec![
        ("..".to_owned(), vec![format("a")]),
        (
            "x".to_owned(),
            vec![format("../../x"), format("b\u{1b}[1m"), format("")],
        ),
        (
            "y".to_owned(),
            vec![format("c"), format("c"), FORMAT.replace("a", "c").into()],
        ),
    ];
    for (form, bytes) in forms(&dat) {
        let recording = super::parsed(&bytes);
        let left_out = recording.kernel().left_out();
        assert_eq!(left_out.len(), 5, "{form}: {left_out:?}");
        let paths = recording.kernel().files().map(|(path, _)| path);
        let formats: Vec<&str> = paths.filter(|path| path.ends_with("/format")).collect();
        assert_eq!(
            formats,
            [
                "tracing/events/ftrace/a/format",
                "tracing/events/y/c/format"
            ]
        );
    }
}

/// CPUs whose data overlaps would be read again and again, and a few compressed bytes may
/// stand for gigabytes.
#[test]
fn bounded_time_and_memory() {
    let start = Instant::now();
    let mut dat = small();
    // The data of all CPUs is one and the same 1 MiB.
    dat.buffers = vec![DatBuffer {
        clock: "local".to_owned(),
        cpus: vec![Vec::new(); 20_000],
        ..DatBuffer::default()
    }];
    let mut file = dat.version_6();
    let list = file
        .windows(10)
        .position(|part| part == b"flyrecord\0")
        .expect("a list")
        + 10;
    let offset = dat.u64(file.len());
    file.resize(file.len() + (1 << 20), 0);
    for cpu in 0..20_000 {
        let at = list + 16 * cpu;
        file[at..at + 8].copy_from_slice(&offset);
        file[at + 8..at + 16].copy_from_slice(&dat.u64(1 << 20));
    }
    let error = outcome(&file).expect_err("data overlap");
    assert!(matches!(error, RecordingError::Overlap { .. }), "{error}");

    // 1 KB for each MiB of zeros.
    let mut dat = small();
    dat.page_size = 1 << 28;
    dat.buffers[0].cpus = vec![vec![0; 96 << 20], Vec::new()];
    let error = outcome(&dat.version_7(("zlib", &zlib))).expect_err("a bomb");
    assert!(matches!(error, RecordingError::TooLarge { .. }), "{error}");
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
        let mut dat = small();
        dat.is_big_endian = big;
        let (_, mut bytes) = forms(&dat).swap_remove(form);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Err(error) = outcome(&bytes) {
            let text = with_causes(&error);
            prop_assert!(!text.contains(char::is_control), "{text:?}");
        }
        let order = if big { ByteOrder::Big } else { ByteOrder::Little };
        if let Ok(recording) = TraceDat::parse(&bytes) {
            prop_assert!(recording.kernel().byte_order() == order || bytes[12] != u8::from(big));
        }
    }
}
