//! Archives of captured kernels are roots like the directories they were made of (feature
//! `image`).

use std::fs;
use std::io::Write;
use std::path::Path;

use proptest::prelude::*;
use tracepoints::{Error, EventName, FileError, Kernel};

use crate::support::{fixture, fixtures, with_causes};

/// Appends a file, a link or whatever else to an archive.
fn append(archive: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, path: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    let added = archive.append_data(&mut header, path, bytes);
    added.expect("memory");
}

/// All files of a directory, below `top` in the archive.
fn packed(root: &Path, top: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in directory.read_dir().expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let inside = path.strip_prefix(root).expect("inside");
            let inside = Path::new(top).join(inside);
            let inside = inside.to_str().expect("UTF-8");
            let bytes = fs::read(&path).expect("a file");
            append(&mut archive, tar::EntryType::Regular, inside, &bytes);
        }
    }
    archive.into_inner().expect("memory")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).expect("memory");
    out.finish().expect("memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    ruzstd::encoding::compress_to_vec(bytes, level)
}

/// Every answer about every event, as text.
fn told(kernel: &Kernel) -> Vec<String> {
    let listed = kernel.events().expect("events");
    assert!(listed.rejected().is_empty());
    let names: Vec<EventName> = kernel
        .event_directories()
        .expect("events")
        .into_iter()
        .collect();
    let found = kernel.contexts(&names).expect("BTF");
    let mut told: Vec<String> = found
        .map(|found| {
            let (event, context) = found.expect("an event");
            let is_listed = listed.contains(event.name());
            let json = serde_json::to_string(&context).expect("JSON");
            format!("{} {is_listed} {json}\n{}", event.name(), event.format())
        })
        .collect();
    told.push(format!("{:?}", kernel.version().expect("a text")));
    told.push(format!("{:?}", kernel.machine().map_err(drop)));
    told
}

#[test]
fn an_archive_is_the_kernel_it_was_made_of() {
    let dir = tempfile::tempdir().expect("a directory");
    for root in fixtures() {
        let expected = told(&Kernel::at(&root).expect("a kernel"));
        for (name, top, compress) in [
            ("plain.tar", "", <[u8]>::to_vec as fn(&[u8]) -> Vec<u8>),
            ("packed.tar.gz", "./", gzip),
            ("packed.tar.zst", "6.1/", zstd),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, compress(&packed(&root, top))).expect("a file");
            let kernel = Kernel::at(&path).expect("a kernel");
            assert!(!kernel.is_image());
            assert_eq!(told(&kernel), expected, "{name} of {}", root.display());
        }
    }
}

#[test]
fn what_is_not_one_captured_kernel() {
    let root = fixture("5.10.223-x86_64");
    let two = {
        let mut archive = packed(&root, "one");
        // Without the two blocks of zeros at the end.
        archive.truncate(archive.len() - 1024);
        archive.extend(packed(&root, "two"));
        archive
    };
    let error = Kernel::from_archive(&two).expect_err("two kernels");
    assert_eq!(
        with_causes(&error),
        "cannot read the kernel in archive: several captured kernels in one archive: one, two"
    );

    let mut archive = tar::Builder::new(Vec::new());
    append(
        &mut archive,
        tar::EntryType::Regular,
        "truth/uname",
        b"Linux",
    );
    let other = archive.into_inner().expect("memory");
    let error = Kernel::from_archive(&other).expect_err("no kernel");
    assert!(matches!(error, Error::NotAKernel { .. }), "{error}");

    // Cut anywhere, it is an error.
    let whole = packed(&root, "");
    for length in (512..whole.len() - 1024).step_by(100_003) {
        Kernel::from_archive(&whole[..length]).expect_err("a part");
    }
}

/// Links and devices are not files, whatever they are named.
#[test]
fn links_are_not_followed() {
    let mut archive = tar::Builder::new(Vec::new());
    let path = "tracing/events/sched/sched_switch/format";
    append(
        &mut archive,
        tar::EntryType::Regular,
        "tracing/available_events",
        b"sched:sched_switch\n",
    );
    for kind in [
        tar::EntryType::Symlink,
        tar::EntryType::Link,
        tar::EntryType::Char,
    ] {
        append(&mut archive, kind, path, b"");
    }
    let kernel = Kernel::from_archive(&archive.into_inner().expect("memory"));
    let kernel = kernel.expect("a kernel");
    let error = kernel
        .tracepoint("sched:sched_switch")
        .expect_err("no format");
    assert!(matches!(error, Error::EventGone { .. }), "{error}");
}

#[test]
fn long_names_have_an_end() {
    let name = format!(
        "tracing/events/{}/{}/format",
        "c".repeat(100),
        "e".repeat(100)
    );
    let mut archive = tar::Builder::new(Vec::new());
    append(
        &mut archive,
        tar::EntryType::Regular,
        "tracing/available_events",
        b"",
    );
    // The crate writes GNU's form.
    append(&mut archive, tar::EntryType::Regular, &name, b"name: x\n");
    let long = archive.into_inner().expect("memory");
    let kernel = Kernel::from_archive(&long).expect("a kernel");
    assert_eq!(kernel.event_directories().expect("events").len(), 1);

    // POSIX's form, and both too long.
    let record = format!("path={name}\n");
    let length = record.len() + " 999".len();
    let record = format!("{length} {record}");
    for (kind, bytes, is_right) in [
        (tar::EntryType::XHeader, record.into_bytes(), true),
        (tar::EntryType::XHeader, vec![b'1'; 1 << 17], false),
        (tar::EntryType::GNULongName, vec![b'/'; 1 << 13], false),
    ] {
        let mut archive = tar::Builder::new(Vec::new());
        append(
            &mut archive,
            tar::EntryType::Regular,
            "tracing/available_events",
            b"",
        );
        append(&mut archive, kind, "long", &bytes);
        append(&mut archive, tar::EntryType::Regular, "short", b"name: x\n");
        match Kernel::from_archive(&archive.into_inner().expect("memory")) {
            Ok(kernel) => {
                assert!(is_right);
                assert_eq!(kernel.event_directories().expect("events").len(), 1);
            }
            Err(error) => {
                assert!(!is_right);
                assert!(with_causes(&error).contains("invalid data"), "{error}");
            }
        }
    }
}

/// A header that promises more than memory has is refused before anything is read.
#[test]
fn files_have_a_limit_together() {
    let mut archive = tar::Builder::new(Vec::new());
    append(
        &mut archive,
        tar::EntryType::Regular,
        "tracing/available_events",
        b"",
    );
    let mut bytes = archive.into_inner().expect("memory");
    bytes.truncate(bytes.len() - 1024);
    let mut header = tar::Header::new_gnu();
    header.set_path("btf/vmlinux").expect("a path");
    header.set_size((1 << 30) + 1);
    header.set_cksum();
    bytes.extend(header.as_bytes());
    let error = Kernel::from_archive(&bytes).expect_err("too large");
    let is_too_large = matches!(
        error,
        Error::File { source: FileError::TooLarge { limit }, .. } if limit == 1 << 30
    );
    assert!(is_too_large, "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any bytes in place of others give a kernel or an error.
    #[test]
    fn damaged(at in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 1..64)) {
        let mut archive = packed(&fixture("4.19-x86_64"), "");
        let at = at.index(archive.len() - bytes.len());
        archive[at..at + bytes.len()].copy_from_slice(&bytes);
        if let Ok(kernel) = Kernel::from_archive(&archive) {
            for name in &kernel.event_directories().expect("events") {
                let _ = kernel.tracepoint(name);
            }
        }
    }
}
