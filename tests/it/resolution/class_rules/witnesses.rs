//! P3 to P6: the event of the class's own name.

use super::{INFERRED, Types, capture, own_and_template, rules};
use crate::support::capture::COMMON;
use tracepoints::Evidence;
use tracepoints::context::Rule;

/// The format of an event with the record of [`Types::class`].
fn format(event: &str, field: &str, print_fmt: &str) -> String {
    let mut text = format!("name: {event}\nID: 7\nformat:\n");
    let own = [(field, 8, 4), ("__data_loc char[] b", 12, 4)];
    for (index, (declaration, offset, size)) in COMMON.iter().chain(&own).enumerate() {
        if index == COMMON.len() {
            text += "\n";
        }
        text += &format!("\tfield:{declaration};\toffset:{offset};\tsize:{size};\tsigned:0;\n");
    }
    text + &format!("\nprint fmt: {print_fmt}\n")
}

/// P3.
#[test]
fn a_witness_of_another_category_excludes_its_class() {
    let types = own_and_template();
    let proven = capture(&types, &["x:event", "y:own"]).context("x:event");
    assert_eq!(proven.class(), Some("template"));
    assert_eq!(rules(&proven), Some(vec![Rule::Category]));
    let same = capture(&types, &["x:event", "x:own"]).context("x:event");
    assert_eq!(same.evidence(), &INFERRED);
    // Whose the name is, is not known.
    let two = capture(&types, &["x:event", "y:own", "z:own"]).context("x:event");
    assert_eq!(two.evidence(), &INFERRED);
    // A record of another layout: it may be of any class.
    let mut other = capture(&types, &["x:event"]);
    other.event("y:own", COMMON, &[("long a", 8, 8)]);
    assert_eq!(other.context("x:event").evidence(), &INFERRED);
    // Without the witness nothing is known.
    let alone = capture(&types, &["x:event"]).context("x:event");
    assert_eq!(alone.evidence(), &INFERRED);
}

/// P3, of a class of vmlinux's whose layout and arguments an event of a module has.
#[test]
fn a_class_of_vmlinux_is_of_its_events_category() {
    let mut types = Types::new();
    types.class("regulator", &[types.int]);
    types.event("enable", &[types.int]);
    let mut module = types.module();
    module.class("string", &[module.int]);
    module.event("event", &[module.int]);
    let context = |names: &[&str]| {
        let mut capture = capture(&types, names);
        capture.btf("mod", &module.btf.bytes());
        capture.context("x:event")
    };
    let proven = context(&["x:event", "y:enable"]);
    assert_eq!(proven.class(), Some("string"));
    assert_eq!(rules(&proven), Some(vec![Rule::Category]));
    for names in [&["x:event"][..], &["x:event", "x:enable"]] {
        assert_eq!(context(names).evidence(), &Evidence::Ambiguous);
    }
}

/// P4.
#[test]
fn a_witness_of_other_field_lines_excludes_its_class() {
    let mut types = Types::new();
    let array = types.btf.array(types.int, 1);
    for name in ["own", "template"] {
        let members = [
            ("ent", types.entry, 0),
            ("a", array, 8),
            ("__data_loc_b", types.unsigned, 12),
            ("__data", types.data, 16),
        ];
        let parameters = [types.void_pointer, types.int];
        types.btf.event_class(name, 16, &members, &parameters);
    }
    types.event("own", &[types.int]);
    types.event("event", &[types.int]);
    let mut capture = capture(&types, &["x:event", "x:own"]);
    capture.file("x:event", "format", format("event", "int a[1]", "\"\""));
    capture.file("x:own", "format", format("own", "int a[ONE]", "\"\""));
    let context = capture.context("x:event");
    assert_eq!(context.class(), Some("template"));
    assert_eq!(rules(&context), Some(vec![Rule::FieldText]));
    capture.file("x:own", "format", format("own", "int a[1]", "\"\""));
    assert_eq!(capture.context("x:event").evidence(), &INFERRED);
}

/// P5: BTF without functions.
#[test]
fn arguments_no_class_can_share_exclude_the_witness_s() {
    type Make = fn(&mut Types) -> [u32; 2];
    let context = |make: Make| {
        let mut types = Types::new();
        let [event, own] = make(&mut types);
        for name in ["own", "template"] {
            let members = [
                ("ent", types.entry, 0),
                ("a", types.int, 8),
                ("__data_loc_b", types.unsigned, 12),
                ("__data", types.data, 16),
            ];
            let name = format!("trace_event_raw_{name}");
            types.btf.structure(&name, 16, &members);
        }
        types.event("own", &[own]);
        types.event("event", &[event]);
        capture(&types, &["x:event", "x:own"]).context("x:event")
    };
    let proven = context(|t| [t.int, t.unsigned]);
    assert_eq!(proven.class(), Some("template"));
    assert_eq!(rules(&proven), Some(vec![Rule::SiblingPrototype]));
    let proven = context(|t| [t.int, t.void_pointer]);
    assert_eq!(rules(&proven), Some(vec![Rule::SiblingPrototype]));
    // The class may say `unsigned int`, which both enums are compatible with.
    let enums = context(|t| ["colour", "shape"].map(|name| t.btf.enumeration(name, &[("X", 0)])));
    assert_eq!(enums.evidence(), &INFERRED);
    let enum_and_integer = context(|t| [t.btf.enumeration("colour", &[("RED", 0)]), t.int]);
    assert_eq!(enum_and_integer.evidence(), &INFERRED);
}

/// P6.
#[test]
fn a_witness_of_another_print_fmt_excludes_its_class() {
    let context = |functions: &[&str], own: &str| {
        let mut types = own_and_template();
        let prototype = types.btf.prototype(&[types.void_pointer]);
        for name in functions {
            types
                .btf
                .function(&format!("trace_raw_output_{name}"), prototype);
        }
        let mut capture = capture(&types, &["x:event", "x:own"]);
        capture.file(
            "x:event",
            "format",
            format("event", "int a", "\"%d\", REC->a"),
        );
        capture.file("x:own", "format", format("own", "int a", own));
        capture.context("x:event")
    };
    let proven = context(&["own", "template"], "\"a=%d\", REC->a");
    assert_eq!(proven.class(), Some("template"));
    assert_eq!(rules(&proven), Some(vec![Rule::PrintFmt]));
    // The same print fmt; one of the event's own (`DEFINE_EVENT_PRINT`); BTF that has no
    // such functions.
    for (functions, own) in [
        (&["own", "template"][..], "\"%d\", REC->a"),
        (&["own", "template", "event"], "\"a=%d\", REC->a"),
        (&[], "\"a=%d\", REC->a"),
    ] {
        assert_eq!(
            context(functions, own).evidence(),
            &INFERRED,
            "{functions:?} {own}"
        );
    }
}

/// The same answers for all events at once, whichever is first.
#[test]
fn many_at_once_have_the_same_witnesses() {
    let types = own_and_template();
    let capture = capture(&types, &["x:event", "y:own"]);
    for names in [
        &["x:event", "y:own"][..],
        &["y:own", "x:event"],
        &["x:event"],
    ] {
        let names: Vec<_> = names
            .iter()
            .map(|name| name.parse().expect("a name"))
            .collect();
        let kernel = capture.kernel();
        for found in kernel.contexts(&names).expect("BTF") {
            let (tracepoint, context) = found.expect("an event");
            if tracepoint.name().event() == "event" {
                assert_eq!(rules(&context), Some(vec![Rule::Category]));
            }
        }
    }
}
