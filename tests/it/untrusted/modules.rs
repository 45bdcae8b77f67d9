//! Modules' BTF objects that cannot be read, or are too large together.

use std::fs::File;
use std::time::{Duration, Instant};

use super::one_event;
use crate::support::btf::BtfWriter;
use tracepoints::{Evidence, context::FormatReason};

#[test]
fn of_many_modules_that_cannot_be_read_some_are_named() {
    let mut capture = one_event();
    let vmlinux = BtfWriter::new(false);
    capture.btf("vmlinux", &vmlinux.bytes());
    for number in 0..20 {
        capture.btf(&format!("m{number:02}"), b"");
    }
    let context = capture.context("sched:wake");
    let Evidence::Format(FormatReason::UnreadableModuleBtf { modules }) = context.evidence() else {
        panic!("{:?}", context.evidence());
    };
    assert_eq!(modules.len(), 17);
    assert!(modules[15].contains("m15"), "{modules:?}");
    assert_eq!(modules[16], "and 4 more");
}

/// The fault does not change, and reading the file takes a tenth of a second.
#[test]
fn a_module_that_cannot_be_read_is_read_once() {
    let mut capture = one_event();
    capture
        .btf("vmlinux", &BtfWriter::new(false).bytes())
        .btf("m", b"not BTF");
    let path = capture.root().join("btf/m");
    let file = File::options().write(true).open(&path).expect("a file");
    file.set_len(60 << 20).expect("a size");
    let kernel = capture.kernel();
    let event = kernel.tracepoint("sched:wake").expect("an event");
    let start = Instant::now();
    for _ in 0..2_000 {
        let context = event.context().expect("a context");
        let Evidence::Format(FormatReason::UnreadableModuleBtf { .. }) = context.evidence() else {
            panic!("{:?}", context.evidence());
        };
    }
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn objects_of_btf_that_together_are_too_large() {
    let mut vmlinux = BtfWriter::new(false);
    vmlinux.int("int", 4, true);
    let mut capture = one_event();
    capture.btf("vmlinux", &vmlinux.bytes());
    // Each object is sound, but for zeros after it. The limits are 64 MiB for one and 256
    // MiB for all.
    for number in 0..8 {
        let name = format!("m{number}");
        capture.btf(&name, &BtfWriter::split(&vmlinux).bytes());
        let path = capture.root().join("btf").join(&name);
        let file = File::options().write(true).open(path).expect("a file");
        file.set_len(60 << 20).expect("a size");
    }
    let context = capture.context("sched:wake");
    let Evidence::Format(FormatReason::UnreadableModuleBtf { modules }) = context.evidence() else {
        panic!("{:?}", context.evidence());
    };
    assert_eq!(modules.len(), 4);
    assert!(
        modules.iter().all(|why| why.contains("larger than")),
        "{modules:?}"
    );
}
