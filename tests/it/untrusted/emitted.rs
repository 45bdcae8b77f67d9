//! Emitted source is compiled, perhaps by root: from a capture it contains only names.

use crate::support::btf::{BtfWriter, TraceEntry};
use crate::support::capture::{COMMON, Capture};
use tracepoints::Error;
use tracepoints::emit::{self, CHeader, COptions, RustModule};

#[test]
fn pointers_of_any_size() {
    for size in [0, 3, 16, u32::MAX / 8 + 1, u32::MAX] {
        let mut capture = Capture::new();
        let fields = [("char * p", 8, size), ("int * q", 9, size)];
        for name in ["x:x", "syscalls:sys_enter_x"] {
            capture.event(name, COMMON, &fields);
            let kernel = capture.kernel();
            let tracepoint = kernel.tracepoint(name).expect("an event");
            let written = [
                emit::skeleton_c(&tracepoint),
                emit::skeleton_rust(&tracepoint),
            ];
            // A size may be refused, but none becomes an integer of that size.
            for text in written.into_iter().flatten() {
                assert!(
                    !text.contains(&format!("u{}", u64::from(size) * 8)),
                    "{text}"
                );
            }
        }
    }
}

/// A name in BTF that is not an identifier is an error, never source.
#[test]
fn names_in_btf_that_are_source() {
    let c = "x; static const char leak[] = {1}; typedef int T";
    let rust = "S{pub z:u32} const X: &[u8] = include_bytes!(\"/etc/hostname\"); pub struct T";
    for source in [c, rust, "1x", "a b", "a-b", "é"] {
        for kind in 0..4 {
            let mut btf = BtfWriter::new(false);
            let TraceEntry {
                id: entry,
                int,
                byte,
                ..
            } = btf.trace_entry(8);
            let (member, member_name) = match kind {
                0 => (btf.typedef(source, int), "a"),
                1 => (btf.structure(source, 4, &[("b", int, 0)]), "a"),
                2 => (btf.enumeration("e", &[(source, 1)]), "a"),
                _ => (btf.structure("s", 4, &[(source, int, 0)]), "a"),
            };
            let data = btf.array(byte, 0);
            let members = [
                ("ent", entry, 0),
                (member_name, member, 8),
                ("__data", data, 12),
            ];
            btf.event_class("event", 12, &members, &[int]);
            btf.event("event", &[int]);
            let mut capture = Capture::new();
            capture
                .event("x:event", COMMON, &[("int a", 8, 4)])
                .btf("vmlinux", &btf.bytes());
            let kernel = capture.kernel();
            let event = kernel.tracepoint("x:event").expect("an event");
            let context = event.context().expect("a context");
            assert_eq!(context.struct_name(), Some("trace_event_raw_event"));
            for failed in [
                CHeader::new(COptions::default()).add(&event).err(),
                RustModule::new().add(&event).err(),
                emit::skeleton_c(&event).err(),
                emit::skeleton_rust(&event).err(),
            ] {
                let error = failed.expect("no source");
                assert!(matches!(error, Error::Layout { .. }), "{error}");
            }
        }
    }
}
