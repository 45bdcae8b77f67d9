//! Damaged format files and BTF objects: any bytes at any place.

use std::fs;

use super::{EVENTS, ask_all, many_classes, one_event, with_btf};
use crate::support;
use crate::support::btf::BtfWriter;
use proptest::prelude::*;
use tracepoints::{Error, btf::BtfError};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn damaged_btf(
        vmlinux in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..400),
        module in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..60),
    ) {
        let damaged = |object: &str, damage: &[(prop::sample::Index, u8)]| {
            let mut bytes = fs::read(support::fixture("6.18.15-x86_64").join("btf").join(object)).expect("an object");
            // Only bytes after the header: with a broken header nothing else is read.
            for (at, byte) in damage {
                let at = 24 + at.index(bytes.len() - 24);
                bytes[at] = *byte;
            }
            bytes
        };
        let (vmlinux, module) = (damaged("vmlinux", &vmlinux), damaged("xfs", &module));
        ask_all(&with_btf(&[("vmlinux", &vmlinux), ("xfs", &module)]));
    }

    #[test]
    fn damaged_format_files(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut capture = with_btf(&[]);
        for event in EVENTS {
            let mut bytes = fs::read(capture.path(event, "format")).expect("a format file");
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            capture.file(event, "format", bytes);
        }
        ask_all(&capture);
    }
}

#[test]
fn lengths_and_ids_that_lie() {
    let sound = many_classes(2).bytes();
    // Each field of `struct btf_header`, with false values.
    for at in [4, 8, 12, 16, 20] {
        for lie in [1, 0x7fff_ffff, 0x8000_0000, u32::MAX - 23, u32::MAX] {
            let mut bytes = sound.clone();
            bytes[at..at + 4].copy_from_slice(&lie.to_le_bytes());
            let mut capture = one_event();
            capture.btf("vmlinux", &bytes);
            match capture.kernel().btf_objects() {
                Err(Error::Btf {
                    source:
                        BtfError::Truncated { .. }
                        | BtfError::Strings
                        | BtfError::Kind { .. }
                        | BtfError::Name { .. },
                    ..
                }) => {}
                // The object may still be sound.
                Ok(_) if lie == 1 => {}
                other => panic!("{at} {lie:#x}: {other:?}"),
            }
        }
    }
    // Each word of the types, as an id, count or offset that is out of range.
    let header = 24;
    for at in (header..sound.len().min(header + 600)).step_by(4) {
        for lie in [u32::MAX, 0x7fff_ffff, 0x00ff_ffff, 40_000] {
            let mut bytes = sound.clone();
            bytes[at..at + 4].copy_from_slice(&lie.to_le_bytes());
            let mut capture = one_event();
            capture.btf("vmlinux", &bytes);
            let kernel = capture.kernel();
            let tracepoint = kernel.tracepoint("sched:wake").expect("an event");
            if let Ok(context) = tracepoint.context() {
                let _ = (context.layout(), context.field_slots(), tracepoint.raw());
            }
            let _ = kernel.bare_tracepoints();
        }
    }
}

#[test]
fn a_long_of_no_machine() {
    for (size, expected) in [(4, None), (8, None), (2, Some(2)), (1 << 28, Some(1 << 28))] {
        let mut btf = BtfWriter::new(false);
        btf.int("long int", size, true);
        let mut capture = one_event();
        capture.btf("vmlinux", &btf.bytes());
        let kernel = capture.kernel();
        let context = kernel.tracepoint("sched:wake").expect("an event").context();
        let found = match context {
            Ok(_) => None,
            Err(Error::Btf {
                source: BtfError::LongSize { size },
                ..
            }) => Some(size),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(found, expected);
    }
}
