//! BTF with more types, longer names or more arguments than any kernel has.

use std::fs;
use std::time::Instant;

use super::{EVENTS, SOON, ask_all, many_classes, one_event, with_btf};
use crate::support;
use crate::support::btf::{BtfWriter, TraceEntry};
use crate::support::capture::{COMMON, Capture};
use crate::support::with_causes;
use tracepoints::{
    ByteOrder, Error, Evidence, Machine, Record, btf::BtfError, context::FormatReason,
    layout::Slot, text::Addresses,
};

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
    let error = support::context(&kernel, EVENTS[0]).expect_err("no kernel's name");
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

/// Each name has a length a kernel may have; together they are 40 MB, from an object of
/// half a megabyte.
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

/// Each prototype is different, and has 64 names of 1,000 bytes.
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
    let error =
        support::context(&capture.kernel(), EVENTS[0]).expect_err("more than any kernel has");
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

/// Each argument alone is within the limit.
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

/// Each tracepoint alone is at the limit.
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
    assert!(with_causes(&error).contains("bytes of C"), "{error}");
    assert!(start.elapsed() < SOON);
}

/// Each member of an enum type copies its names, and each field copies the member of its
/// name.
#[test]
fn fields_of_one_name() {
    let mut btf = BtfWriter::new(false);
    let long = "x".repeat(1000);
    let values: Vec<(&str, u32)> = (0..12_000).map(|value| (&*long, value)).collect();
    let TraceEntry {
        id: entry,
        int,
        byte,
        ..
    } = btf.trace_entry(8);
    let wide = btf.enumeration("wide", &values);
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

#[test]
fn more_enumerators_than_any_kernel_has() {
    let text = |others: usize| {
        let mut capture = one_event();
        let format = fs::read_to_string(capture.path("sched:wake", "format")).expect("a file");
        let format = format.replace("print fmt: \"\"", "print fmt: \"%d\", WAKE_UP");
        capture.file("sched:wake", "format", format);
        let mut btf = BtfWriter::new(false);
        btf.enumeration("wakes", &[("WAKE_UP", 5)]);
        let mut left = others;
        while left > 0 {
            let count = left.min(65_535);
            btf.enumeration("many", &vec![("SAME", 1); count]);
            left -= count;
        }
        capture.btf("vmlinux", &btf.bytes());
        let kernel = capture.kernel();
        let event = kernel.tracepoint("sched:wake").expect("an event");
        let machine = Machine::new(ByteOrder::Little, true);
        let renderer = kernel
            .renderer(event.name(), event.format(), machine)
            .expect("C");
        let record = Record::new(event.format(), &[0; 12], machine);
        let mut text = String::new();
        renderer.render(&record, &Addresses::new(), &mut text);
        text
    };
    assert_eq!(text((1 << 20) - 1), "5");
    assert_eq!(text(1 << 20), "<WAKE_UP>");
}

#[test]
fn more_types_about_tracepoints_than_any_kernel_has() {
    let evidence = |count: usize| {
        let mut btf = BtfWriter::new(false);
        let int = btf.int("int", 4, true);
        for number in 0..count {
            btf.typedef(&format!("btf_trace_{number}"), int);
        }
        let mut capture = one_event();
        capture.btf("vmlinux", &btf.bytes());
        let kernel = capture.kernel();
        let event = kernel.tracepoint("sched:wake").expect("an event");
        event.context().map(|context| context.evidence().clone())
    };
    assert_eq!(
        evidence(1 << 16).expect("a context"),
        Evidence::Format(FormatReason::NoModuleBtf)
    );
    let error = evidence((1 << 16) + 1).expect_err("too many");
    let Error::Btf { source, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(source, BtfError::TooManyTracepoints { limit: 1 << 16 });
}

#[test]
fn more_classes_of_one_layout_than_any_kernel_has() {
    let mut capture = one_event();
    capture.btf("vmlinux", &many_classes(256).bytes());
    let context = capture.context("sched:wake");
    assert_eq!(context.evidence(), &Evidence::Ambiguous);
    assert_eq!(context.candidates().len(), 256);
    capture.btf("vmlinux", &many_classes(257).bytes());
    let context = capture.context("sched:wake");
    let home = "vmlinux".to_owned();
    let reason = FormatReason::TooManyClasses { home };
    assert_eq!(context.evidence(), &Evidence::Format(reason));
    assert!(context.candidates().is_empty());
    assert_eq!(context.field_slots().expect("by the format file").len(), 1);
}

#[test]
fn a_million_types() {
    let start = Instant::now();
    let mut capture = one_event();
    let mut btf = many_classes(21_000);
    for _ in 0..1_000_000 {
        btf.pointer(0);
    }
    capture.btf("vmlinux", &btf.bytes());
    for number in 0..200 {
        capture.event(&format!("sched:e{number}"), COMMON, &[("int pid", 8, 4)]);
    }
    let made = start.elapsed();
    let start = Instant::now();
    let kernel = capture.kernel();
    let names = kernel
        .events()
        .expect("events")
        .into_iter()
        .collect::<Vec<_>>();
    let contexts = kernel.contexts(&names).expect("sound BTF");
    assert_eq!(contexts.filter(Result::is_ok).count(), 201);
    let took = start.elapsed();
    println!("made in {made:?}, read in {took:?}");
    assert!(took < SOON);
}
