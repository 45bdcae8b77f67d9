//! Captured kernels come from anyone: whatever is in them, an error or an
//! answer comes out, soon, and nothing else.

use std::fs;
use std::time::{Duration, Instant};

use crate::support;
use crate::support::btf::BtfWriter;
use crate::support::capture::{COMMON, Capture};
use proptest::prelude::*;
use tracepoints::emit::{self, CHeader, COptions, RustModule};
use tracepoints::{BtfError, Error, Slot};

/// Events of different shapes, of vmlinux and of a module.
const EVENTS: [&str; 6] = [
    "sched:sched_process_exec",
    "syscalls:sys_enter_unlinkat",
    "syscalls:sys_exit_unlinkat",
    "irq_vectors:vector_deactivate",
    "xfs:xfs_ilock",
    "nfs4:nfs4_read",
];

/// The fixture's events with this BTF.
fn with_btf(objects: &[(&str, &[u8])]) -> Capture {
    let root = support::fixture("6.18.15-x86_64");
    let mut capture = Capture::new();
    for event in EVENTS {
        let (category, name) = event.split_once(':').expect("a name");
        let file = root
            .join("tracing/events")
            .join(category)
            .join(name)
            .join("format");
        capture
            .file(event, "format", fs::read(file).expect("a format file"))
            .list(event);
    }
    for (object, bytes) in objects {
        capture.btf(object, bytes);
    }
    capture
}

/// Asks all there is to ask of every event.
fn ask_all(capture: &Capture) {
    let kernel = capture.kernel();
    for event in EVENTS {
        let Ok(tracepoint) = kernel.tracepoint(event) else {
            continue;
        };
        let _ = (
            tracepoint.siblings(),
            tracepoint.sections(),
            tracepoint.raw().map(|raw| raw.map(|raw| raw.to_string())),
        );
        if let Ok(context) = tracepoint.context() {
            let _ = (
                context.layout(),
                context.field_slots(),
                context.evidence().to_string(),
            );
        }
        let mut header = CHeader::new(COptions::default().assertions(true));
        let _ = header.add(&tracepoint).map(|_| header.to_string());
        let mut module = RustModule::new();
        let _ = module.add(&tracepoint).map(|_| module.to_string());
        let _ = (
            emit::skeleton_c(&tracepoint),
            emit::skeleton_rust(&tracepoint),
        );
    }
    let _ = kernel.bare_tracepoints();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn damaged_btf(
        vmlinux in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..400),
        module in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..60),
    ) {
        let damaged = |object: &str, damage: &[(prop::sample::Index, u8)]| {
            let mut bytes = fs::read(support::fixture("6.18.15-x86_64").join("btf").join(object)).expect("an object");
            // What is after the header: with a broken one nothing is read at all.
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

/// Far more than any of these takes, and far less than they once took.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn many_long_names_at_one_place() {
    let mut btf = BtfWriter::new(false);
    let long = format!("trace_event_raw_{}", "x".repeat(500_000));
    let first = btf.structure(&long, 8, &[]);
    let start = Instant::now();
    for _ in 0..40_000 {
        btf.same_name(first);
    }
    let capture = with_btf(&[("vmlinux", &btf.bytes())]);
    let kernel = capture.kernel();
    let error = kernel
        .tracepoint(EVENTS[0])
        .and_then(|event| event.context())
        .expect_err("no kernel's name");
    assert!(
        matches!(
            error,
            Error::Btf {
                source: BtfError::Name { .. },
                ..
            }
        ),
        "{error}"
    );
    assert!(start.elapsed() < SOON);
}

/// Each name is one a kernel may have; together they are 40 MB from an object of half
/// a megabyte.
#[test]
fn many_names_at_one_place() {
    let mut btf = BtfWriter::new(false);
    let name = format!("trace_event_raw_{}", "x".repeat(1000));
    let first = btf.structure(&name, 8, &[]);
    for _ in 0..40_000 {
        btf.same_name(first);
    }
    assert_too_long_tracepoints(&btf);
}

/// Each prototype is one of 64 names of 1,000 bytes, unlike any other.
#[test]
fn many_prototypes_that_are_long_to_spell() {
    let mut btf = BtfWriter::new(false);
    let names = ["a", "b"].map(|letter| btf.structure(&letter.repeat(1000), 8, &[]));
    for number in 0..10_000_u64 {
        let parameters: Vec<u32> = (0..64)
            .map(|bit| names[usize::from(number >> bit & 1 == 1)])
            .collect();
        btf.event(&number.to_string(), &parameters);
    }
    assert_too_long_tracepoints(&btf);
}

fn assert_too_long_tracepoints(btf: &BtfWriter) {
    let bytes = btf.bytes();
    let start = Instant::now();
    let capture = with_btf(&[("vmlinux", &bytes)]);
    let error = capture
        .kernel()
        .tracepoint(EVENTS[0])
        .and_then(|event| event.context())
        .expect_err("more than any kernel has");
    let limit = 4 * bytes.len() + (1 << 16);
    assert!(
        matches!(
            error,
            Error::Btf {
                source: BtfError::TooLongTracepoints { limit: found },
                ..
            } if found == limit
        ),
        "{error}"
    );
    assert!(start.elapsed() < SOON);
}

#[test]
fn many_tracepoints_with_many_arguments() {
    let mut btf = BtfWriter::new(false);
    let int = btf.int("int", 4, true);
    let prototype = btf.prototype(&vec![int; 65_535]);
    let pointer = btf.pointer(prototype);
    for number in 0..20_000 {
        btf.typedef(&format!("btf_trace_{number}"), pointer);
    }
    let start = Instant::now();
    ask_all(&with_btf(&[("vmlinux", &btf.bytes())]));
    assert!(start.elapsed() < SOON);
}

/// Each argument alone would be small enough.
#[test]
fn arguments_that_branch_at_every_step() {
    let mut btf = BtfWriter::new(false);
    let leaf = btf.structure(&"x".repeat(1000), 8, &[]);
    let mut ty = btf.pointer(leaf);
    for _ in 0..11 {
        let prototype = btf.prototype(&[ty, ty]);
        ty = btf.pointer(prototype);
    }
    btf.event("one", &[ty, ty]);
    btf.event("many", &[ty; 64]);
    let capture = with_btf(&[("vmlinux", &btf.bytes())]);
    let kernel = capture.kernel();
    let one = kernel.raw_tracepoint("one").expect("one argument");
    assert!(one.to_string().len() > 2048 * 1000);
    let error = kernel.raw_tracepoint("many").expect_err("too many types");
    assert!(
        matches!(
            error,
            Error::Btf {
                source: BtfError::Describe(_),
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn members_with_many_enumerators() {
    let mut btf = BtfWriter::new(false);
    let byte = btf.int("char", 1, false);
    let entry = btf.structure("trace_entry", 1, &[("type", byte, 0)]);
    let values = vec![("a", 1); 60_000];
    let wide = btf.enumeration("wide", &values);
    let names: Vec<String> = (0..1000).map(|number| format!("m{number}")).collect();
    let place = |number: usize| 4 + 4 * number as u32;
    let mut members = vec![("ent", entry, 0)];
    let own = names.iter().enumerate();
    members.extend(own.map(|(at, name)| (name.as_str(), wide, place(at))));
    btf.event_class("x", 4004, &members, &[byte]);
    btf.event("x", &[byte]);
    let declarations: Vec<String> = names.iter().map(|name| format!("int {name}")).collect();
    let fields = declarations.iter().enumerate();
    let fields: Vec<_> = fields
        .map(|(at, text)| (text.as_str(), place(at), 4))
        .collect();
    let mut capture = with_btf(&[("vmlinux", &btf.bytes())]);
    capture.event("x:x", &[("char common_type", 0, 1)], &fields);
    let context = capture.context("x:x");
    assert_eq!(context.struct_name(), Some("trace_event_raw_x"));
    let error = context.layout().expect_err("too many enumerators");
    assert!(matches!(error, Error::Layout { .. }), "{error}");
}

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
            // One may be refused; none has an integer of that size.
            for text in written.into_iter().flatten() {
                assert!(
                    !text.contains(&format!("u{}", u64::from(size) * 8)),
                    "{text}"
                );
            }
        }
    }
}

#[test]
fn many_events_that_are_gone() {
    let mut capture = Capture::new();
    capture.event("x:there", COMMON, &[]);
    let mut listed = String::from("x:there\n");
    for number in 0..20_000 {
        listed += &format!("x:gone_{number}\n");
    }
    fs::write(capture.root().join("tracing/available_events"), listed).expect("a file");
    let kernel = capture.kernel();
    let start = Instant::now();
    let gone = kernel.events().expect("events").into_iter();
    let gone = gone.filter(|name| matches!(kernel.tracepoint(name), Err(Error::EventGone { .. })));
    assert_eq!(gone.count(), 20_000);
    assert!(start.elapsed() < SOON);
}

/// Each alone is as large as one may be.
#[test]
fn tracepoints_without_events_that_share_a_long_argument() {
    let mut btf = BtfWriter::new(false);
    let long = btf.structure(&"x".repeat(1000), 8, &[]);
    let callback = btf.prototype(&vec![long; 16_000]);
    let callback = btf.pointer(callback);
    let prototype = btf.prototype(&[callback, callback]);
    let pointer = btf.pointer(prototype);
    for number in 0..1_000 {
        btf.typedef(&format!("btf_trace_{number}"), pointer);
    }
    let capture = with_btf(&[("vmlinux", &btf.bytes())]);
    let start = Instant::now();
    let error = capture.kernel().bare_tracepoints().expect_err("too much");
    assert!(error.to_string().contains("bytes of C"), "{error}");
    assert!(start.elapsed() < SOON);
}

/// An enum's names are copied with each member of it, a member with each field of its
/// name.
#[test]
fn fields_of_one_name() {
    let mut btf = BtfWriter::new(false);
    let long = "x".repeat(1000);
    let values: Vec<(&str, u32)> = (0..12_000).map(|value| (&*long, value)).collect();
    let short = btf.int("short unsigned int", 2, false);
    let byte = btf.int("unsigned char", 1, false);
    let int = btf.int("int", 4, true);
    let wide = btf.enumeration("wide", &values);
    let entry = btf.structure(
        "trace_entry",
        8,
        &[
            ("type", short, 0),
            ("flags", byte, 2),
            ("preempt_count", byte, 3),
            ("pid", int, 4),
        ],
    );
    let data = btf.array(byte, 0);
    let mut members = vec![("ent", entry, 0), ("a", wide, 8)];
    members.extend([("a", int, 8); 1_999]);
    members.push(("__data", data, 12));
    btf.event_class("event", 12, &members, &[int]);
    btf.event("event", &[int]);
    let mut capture = Capture::new();
    let fields = vec![("int a", 8, 4); 2_000];
    capture
        .event("x:event", COMMON, &fields)
        .btf("vmlinux", &btf.bytes());
    let context = capture.context("x:event");
    let slots = context.field_slots().expect("slots");
    assert_eq!(slots.len(), 2_000);
    let of_enum = |slot: &&Slot| slot.c_type() == "enum wide";
    assert_eq!(slots.iter().flatten().filter(of_enum).count(), 1);
}

/// What is emitted is compiled, perhaps by root: no text but names gets into it.
#[test]
fn names_in_btf_that_are_source() {
    let c = "x; static const char leak[] = {1}; typedef int T";
    let rust = "S{pub z:u32} const X: &[u8] = include_bytes!(\"/etc/hostname\"); pub struct T";
    for source in [c, rust, "1x", "a b", "a-b", "é"] {
        for kind in 0..4 {
            let mut btf = BtfWriter::new(false);
            let short = btf.int("short unsigned int", 2, false);
            let byte = btf.int("unsigned char", 1, false);
            let int = btf.int("int", 4, true);
            let (member, member_name) = match kind {
                0 => (btf.typedef(source, int), "a"),
                1 => (btf.structure(source, 4, &[("b", int, 0)]), "a"),
                2 => (btf.enumeration("e", &[(source, 1)]), "a"),
                _ => (btf.structure("s", 4, &[(source, int, 0)]), "a"),
            };
            let entry = btf.structure(
                "trace_entry",
                8,
                &[
                    ("type", short, 0),
                    ("flags", byte, 2),
                    ("preempt_count", byte, 3),
                    ("pid", int, 4),
                ],
            );
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
