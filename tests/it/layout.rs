//! Layouts of contexts and records.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support;
use crate::support::btf::{BtfWriter, TraceEntry};
use crate::support::capture::{COMMON, Capture};
use tracepoints::layout::{DifferenceKind, Layout, Slot};
use tracepoints::{Evidence, Kernel};

/// Declarators of every shape, as members of one context.
#[test]
fn types_are_spelled_as_in_c() {
    let mut btf = BtfWriter::new(false);
    btf.int("long int", 8, true);
    let TraceEntry { id: entry, int, .. } = btf.trace_entry(8);
    let char = btf.int("char", 1, false);
    let page = btf.structure("page", 64, &[]);
    let anonymous = btf.structure("", 8, &[("x", int, 0)]);
    let colour = btf.enumeration("colour", &[]);
    let data = btf.array(char, 0);
    let void_pointer = btf.pointer(0);
    let const_char = btf.constant(char);
    let pointer_to_const = btf.pointer(const_char);
    let const_pointer_to_const = btf.constant(pointer_to_const);
    let pointer_to_const_pointer = btf.pointer(const_pointer_to_const);
    let pages = btf.pointer(page);
    let page_array = btf.array(pages, 2);
    let row = btf.array(char, 4);
    let matrix = btf.array(row, 2);
    let pointer_to_row = btf.pointer(row);
    let callback = btf.prototype_returning(int, &[pages, 0]);
    let callback = btf.pointer(callback);
    let getter = btf.prototype_returning(void_pointer, &[]);
    let getter = btf.pointer(getter);
    let getters = btf.array(getter, 2);
    let expected = [
        ("a", void_pointer, 8, "void *"),
        ("b", pointer_to_const, 8, "const char *"),
        ("c", const_pointer_to_const, 8, "const char *const"),
        ("d", pointer_to_const_pointer, 8, "const char *const *"),
        ("e", page_array, 16, "struct page *[2]"),
        ("f", matrix, 8, "char[2][4]"),
        ("g", pointer_to_row, 8, "char (*)[4]"),
        ("h", callback, 8, "int (*)(struct page *, ...)"),
        ("i", getters, 16, "void *(*[2])(void)"),
        ("j", anonymous, 8, "struct {…}"),
        ("k", colour, 4, "enum colour"),
    ];
    let mut members = vec![("ent", entry, 0)];
    let mut fields = Vec::new();
    let mut at = 8;
    for (name, ty, size, _) in expected {
        members.push((name, ty, at));
        fields.push((format!("u8 {name}[{size}]"), at, size));
        at += size;
    }
    members.push(("__data", data, at));
    btf.event_class("all", at + 4, &members, &[void_pointer]);
    btf.event("all", &[void_pointer]);

    let fields: Vec<_> = fields
        .iter()
        .map(|(text, offset, size)| (&**text, *offset, *size))
        .collect();
    let mut capture = Capture::new();
    capture
        .event("x:all", COMMON, &fields)
        .btf("vmlinux", &btf.bytes());
    let context = capture.context("x:all");
    assert_eq!(context.evidence(), &Evidence::Named);
    for (name, _, size, c_type) in expected {
        let slot = context.slot_of(name).expect("types").expect("a slot");
        assert_eq!((slot.c_type(), slot.size()), (c_type, size), "{name}");
    }
    let layout = context.layout().expect("a layout");
    assert_eq!(layout.size(), at + 4);
    assert_eq!(layout.gaps(), vec![at..at + 4]);
}

/// A context's slots have the offsets and sizes of the record's fields, from its struct
/// or, where it has none, from the format file.
#[test]
fn contexts_hold_the_records_fields() {
    for root in support::fixtures() {
        let kernel = Kernel::at(&root).expect("a kernel");
        for name in kernel.events().expect("events") {
            let tracepoint = kernel.tracepoint(&name).expect("an event");
            let context = tracepoint.context().expect("a context");
            let slots = context.field_slots().expect("slots");
            assert_eq!(slots.len(), tracepoint.format().fields().len());
            if let Evidence::Syscall(_) = context.evidence() {
                continue;
            }
            for (field, slot) in tracepoint.format().fields().iter().zip(slots) {
                match slot {
                    Some(slot) => {
                        assert_eq!(
                            (slot.offset(), slot.size()),
                            (field.offset(), field.size()),
                            "{name} {field}"
                        );
                    }
                    // Only the record has a system call's strings, and only BTF says
                    // where its number is.
                    None => assert!(
                        name.category() == "syscalls"
                            && (field.kind().is_dynamic() || field.name() == "__syscall_nr"),
                        "{name} {field}"
                    ),
                }
            }
        }
    }
}

/// The differences between the context's layout and the record's, counted, and apart from
/// them the pairs of spellings of a type.
fn differences(root: &Path) -> (BTreeMap<String, usize>, BTreeSet<String>) {
    let kernel = Kernel::at(root).expect("a kernel");
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut spelled = BTreeSet::new();
    for name in kernel.events().expect("events") {
        let tracepoint = kernel.tracepoint(&name).expect("an event");
        let context = tracepoint.context().expect("a context");
        if context.home().is_none() {
            continue;
        }
        let layout = context.layout().expect("a layout");
        for difference in tracepoint.format().layout().differences(&layout) {
            let slot = &difference.slot;
            // The common fields are the context's `ent`; its end is `__data`.
            if slot.starts_with("common_") || slot == "ent" || slot == "__data" {
                continue;
            }
            let what = match &difference.kind {
                DifferenceKind::Retyped { from, to } => {
                    spelled.insert(format!("{from} is {to}"));
                    continue;
                }
                DifferenceKind::OnlyHere if slot.ends_with("_val") => {
                    "a string in the record only".to_owned()
                }
                DifferenceKind::OnlyHere => "a field in the record only".to_owned(),
                DifferenceKind::OnlyThere => format!("{slot} in the context only"),
                DifferenceKind::Moved { from, to } => {
                    format!("{slot} at {from} in the record, at {to} in the context")
                }
                _ => difference.to_string(),
            };
            *found
                .entry(format!("{}: {what}", name.category()))
                .or_default() += 1;
        }
    }
    (found, spelled)
}

/// Every difference between records and contexts of the fixtures.
#[test]
fn records_against_contexts() {
    let mut text = String::new();
    for root in support::fixtures() {
        let (found, spelled) = differences(&root);
        text += &format!("{}\n", support::name(&root));
        for (what, count) in found {
            text += &format!("  {count} {what}\n");
        }
        for spelled in spelled {
            text += &format!("  {spelled}\n");
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn records_of_whole_kernels_differ_for_system_calls_alone() {
    for root in support::corpus() {
        let (found, _) = differences(&root);
        println!("{}: {found:#?}", support::name(&root));
        assert!(
            found.keys().all(|what| what.starts_with("syscalls: ")),
            "{found:#?}"
        );
    }
}

/// What a layout is serialized as is read back as its equal: of every context and record,
/// bitfields, unions and nested structs included.
#[test]
fn layouts_are_read_back() {
    for root in support::fixtures() {
        let kernel = Kernel::at(&root).expect("a kernel");
        for name in kernel.events().expect("events") {
            let tracepoint = kernel.tracepoint(&name).expect("an event");
            let context = tracepoint.context().expect("a context");
            for layout in [
                context.layout().expect("a layout"),
                tracepoint.format().layout(),
            ] {
                let json = serde_json::to_string(&layout).expect("JSON");
                let read: Layout = serde_json::from_str(&json)
                    .unwrap_or_else(|error| panic!("{name}: {error}: {json}"));
                assert_eq!(read, layout, "{name}");
                assert!(layout.differences(&read).is_empty(), "{name}");
                assert_eq!(serde_json::to_string(&read).expect("JSON"), json);
            }
        }
    }
    let slot = |text: &str| serde_json::from_str::<Slot>(text);
    let good = r#"{"name":"a","c_type":"int","offset":1,"size":2,"align":4,"bits":[9,20]}"#;
    let read = slot(good).expect("a bitfield");
    assert_eq!(
        (read.offset(), read.size(), read.bits()),
        (1, 2, Some(9..20))
    );
    assert_eq!(serde_json::to_string(&read).expect("JSON"), good);
    for (from, to) in [
        ("[9,20]", "[20,9]"),
        ("[9,20]", "[0,18446744073709551615]"),
        ("\"offset\":1", "\"offset\":4"),
        ("\"align\":4", "\"align\":3"),
        ("\"align\":4", "\"align\":0"),
    ] {
        let bad = good.replace(from, to);
        assert!(slot(&bad).is_err(), "{bad}");
    }
    let odd = r#"{"name":"a","c_type":"int[]","offset":0,"size":6,"align":4}"#;
    assert!(slot(odd).is_err());
}
