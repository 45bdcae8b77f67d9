//! An event's home: the BTF object that defines it, vmlinux or a module, or none.

use super::{Types, add_events, answer, capture};
use crate::support;
use crate::support::capture::COMMON;
use tracepoints::{Error, Evidence, context::FormatReason};

#[test]
fn an_object_that_does_not_define_the_event_is_not_its_home() {
    let mut types = Types::new();
    // A class with the event's name and layout that belongs to another event.
    types.class("alloc", &[types.int]);
    types.event("other", &[types.int]);
    let capture = capture(&types, &["x:alloc", "x:other"]);
    let alloc = capture.context("x:alloc");
    assert_eq!(
        alloc.evidence(),
        &Evidence::Format(FormatReason::NoModuleBtf)
    );
    assert_eq!(alloc.class(), None);
    assert_eq!(answer(&capture.context("x:other")).0, "template");
}

/// As on Linux 5.4: a struct with the event's name may belong to another event of a
/// module.
#[test]
fn structs_without_typedefs_prove_nothing() {
    let mut types = Types::new();
    types.class("event", &[types.int]);
    let context = capture(&types, &["x:event"]).context("x:event");
    assert_eq!(
        context.evidence(),
        &Evidence::Format(FormatReason::NoEventsInBtf)
    );
    assert_eq!(answer(&context), ("format", None, None));
    assert_eq!(
        context.evidence().to_string(),
        "layout from the format file: this kernel's BTF does not say which events it defines"
    );
}

#[test]
fn an_event_of_a_module() {
    let types = {
        let mut types = Types::new();
        types.event("elsewhere", &[types.int]);
        types
    };
    let mut module = types.module();
    module.class("template", &[module.int]);
    module.event("event", &[module.int]);
    let mut capture = capture(&types, &["x:event", "x:unknown"]);
    let no_modules = capture.context("x:event");
    assert_eq!(
        no_modules.evidence(),
        &Evidence::Format(FormatReason::NoModuleBtf)
    );

    capture.btf("some_module", &module.btf.bytes());
    assert_eq!(
        answer(&capture.context("x:event")),
        ("template", Some("template"), Some("some_module"))
    );
    assert_eq!(
        capture.context("x:unknown").evidence(),
        &Evidence::Format(FormatReason::NoHome)
    );
    let objects = capture.kernel().btf_objects().expect("objects");
    assert_eq!(objects, ["vmlinux", "some_module"]);
    let layout = capture.context("x:event").layout().expect("a layout");
    let slots: Vec<_> = layout
        .slots()
        .iter()
        .map(|slot| (slot.name(), slot.c_type(), slot.offset(), slot.size()))
        .collect();
    assert_eq!(
        slots,
        [
            ("ent", "struct trace_entry", 0, 8),
            ("a", "int", 8, 4),
            ("__data_loc_b", "unsigned int", 12, 4),
            ("__data", "char[0]", 16, 0)
        ]
    );

    // A module with broken BTF matters only for events found nowhere else.
    capture.btf("broken", b"no BTF at all, and longer than a header");
    assert_eq!(answer(&capture.context("x:event")).0, "template");
    let Evidence::Format(FormatReason::UnreadableModuleBtf { modules }) =
        capture.context("x:unknown").evidence().clone()
    else {
        panic!("an unreadable module");
    };
    assert_eq!(modules.len(), 1);
    assert!(modules[0].contains("broken: not BTF"), "{modules:?}");
}

#[test]
fn events_of_one_name_in_several_categories() {
    // Both would be in vmlinux's BTF, which has only one typedef: no answer is safe.
    let mut types = Types::new();
    types.class("event", &[types.int]);
    types.event("event", &[types.int]);
    let mut capture = capture(&types, &["x:event", "y:event"]);
    for name in ["x:event", "y:event"] {
        assert_eq!(
            capture.context(name).evidence(),
            &Evidence::Format(FormatReason::SharedName)
        );
    }

    // The other is of a module, and of another class with the same layout. Which event is
    // of which class is unknown, but the candidates are known.
    let mut module = types.module();
    module.class("template", &[module.int, module.int]);
    module.event("event", &[module.int, module.int]);
    capture.btf("y", &module.btf.bytes());
    let context = capture.context("y:event");
    assert_eq!(context.evidence(), &Evidence::Ambiguous);
    assert_eq!(context.candidates(), ["event", "template"]);

    // Where both homes have a class of the same name, the name is known.
    let mut module = types.module();
    module.class("event", &[module.int, module.int]);
    module.event("event", &[module.int, module.int]);
    capture.btf("y", &module.btf.bytes());
    // The home is not.
    assert_eq!(
        answer(&capture.context("y:event")),
        ("named", Some("event"), None)
    );
    assert_eq!(capture.context("y:event").type_id(), None);
    assert_eq!(answer(&capture.context("x:event")).1, Some("event"));
}

/// What is inferred in one home proves nothing about the class in the other.
#[test]
fn the_weaker_evidence_of_two_homes_counts() {
    let mut types = Types::new();
    types.class("t", &[types.int]);
    types.event("event", &[types.int]);
    let mut module = types.module();
    module.class("t", &[module.unsigned, module.unsigned]);
    module.class("own", &[module.unsigned, module.unsigned]);
    module.event("own", &[module.unsigned, module.unsigned]);
    module.event("event", &[module.unsigned, module.unsigned]);
    let mut capture = capture(&types, &["x:event", "y:event"]);
    capture.btf("mod", &module.btf.bytes());
    let context = capture.context("y:event");
    assert_eq!(answer(&context), ("ambiguous", None, None));
    assert_eq!(context.candidates(), ["own", "t"]);
}

/// Type ids of two modules overlap, so an id from `btf_ids` settles nothing without a
/// known home.
#[test]
fn an_id_of_no_known_home_says_nothing() {
    let mut types = Types::new();
    types.class("t", &[types.int]);
    types.event("event", &[types.int]);
    let mut module = types.module();
    let t = module.class("t", &[module.int, module.int]);
    module.class("u", &[module.int, module.int]);
    module.event("event", &[module.int, module.int]);
    let mut capture = capture(&types, &["x:event", "y:event"]);
    capture.btf("mod", &module.btf.bytes());
    capture.file(
        "y:event",
        "btf_ids",
        format!("btf_obj_id: 9\nraw_btf_id: 3\ntp_btf_id: {t}\n"),
    );
    let context = capture.context("y:event");
    assert_eq!(context.evidence(), &Evidence::Ambiguous);
    assert_eq!(context.candidates(), ["t", "u"]);
}

/// A kprobe event with a tracepoint's name does not hide the tracepoint.
#[test]
fn an_event_that_fits_nowhere_takes_no_home() {
    let mut types = Types::new();
    types.class("event", &[types.int]);
    types.event("event", &[types.int]);
    let mut capture = capture(&types, &["x:event"]);
    capture.event(
        "kprobes:event",
        COMMON,
        &[("unsigned long __probe_ip", 8, 8)],
    );
    assert_eq!(
        answer(&capture.context("x:event")),
        ("named", Some("event"), Some("vmlinux"))
    );
    assert_eq!(
        capture.context("kprobes:event").evidence().as_str(),
        "format"
    );
    let kernel = capture.kernel();
    let sections = |name: &str| {
        kernel
            .tracepoint(name)
            .and_then(|event| event.sections())
            .expect("sections")
    };
    assert_eq!(
        sections("x:event"),
        ["tracepoint/x/event", "raw_tp/event", "tp_btf/event"]
    );
    assert_eq!(sections("kprobes:event"), [""; 0]);
    let kprobe = capture.context("kprobes:event");
    assert_eq!(
        kprobe.evidence(),
        &Evidence::Format(FormatReason::ProbeEvent)
    );
    assert_eq!(kprobe.slot_of("__probe_ip").expect("a layout"), None);
}

/// pahole leaves types out of a module's BTF that vmlinux's has identically.
#[test]
fn a_class_vmlinux_has_too_is_a_candidate() {
    let mut types = Types::new();
    types.class("shared", &[types.int]);
    let mut module = types.module();
    module.event("event", &[module.int]);
    let mut capture = capture(&types, &["x:event"]);
    capture.btf("mod", &module.btf.bytes());
    assert_eq!(
        answer(&capture.context("x:event")),
        ("template", Some("shared"), Some("vmlinux"))
    );
    module.class("other", &[module.int]);
    capture.btf("mod", &module.btf.bytes());
    let context = capture.context("x:event");
    assert_eq!(context.evidence(), &Evidence::Ambiguous);
    assert_eq!(context.candidates(), ["other", "shared"]);
}

/// A `Kernel` finds modules that are loaded after its first answer.
#[test]
fn modules_loaded_later_are_found() {
    let mut types = Types::new();
    types.class("event", &[types.int]);
    types.event("event", &[types.int]);
    let mut module = types.module();
    module.class("template", &[module.int, module.int]);
    module.event("event", &[module.int, module.int]);
    module.event("new", &[module.int, module.int]);
    let mut capture = capture(&types, &["x:event"]);
    capture.btf("early", b"no BTF");
    let kernel = capture.kernel();
    let context = |name: &str| support::context(&kernel, name).expect("a context");
    assert_eq!(context("x:event").evidence(), &Evidence::Named);
    add_events(&mut capture, &["y:new", "y:event"]);
    assert_eq!(context("y:new").evidence().as_str(), "format");
    capture.btf("early", &module.btf.bytes());
    assert_eq!(
        answer(&context("y:new")),
        ("template", Some("template"), Some("early"))
    );
    assert_eq!(context("y:event").candidates(), ["event", "template"]);
}

#[test]
fn a_broken_vmlinux_is_an_error_and_none_is_not() {
    let types = Types::new();
    let mut capture = capture(&types, &["x:event", "syscalls:sys_enter_x"]);
    let bytes = types.btf.bytes();
    for broken in [
        &bytes[..10],
        &bytes[..40],
        &bytes[..bytes.len() - 1],
        b"\x9f\xeb\x02\x00aaaaaaaaaaaaaaaaaaaaaaaa",
    ] {
        capture.btf("vmlinux", broken);
        for name in ["x:event", "syscalls:sys_enter_x"] {
            let kernel = capture.kernel();
            let error = support::context(&kernel, name).expect_err("broken");
            assert!(matches!(error, Error::Btf { .. }), "{error}");
        }
    }
    std::fs::remove_dir_all(capture.root().join("btf")).expect("removed");
    let kernel = capture.kernel();
    assert!(matches!(kernel.btf_objects(), Err(Error::NoBtf { .. })));
    let context = support::context(&kernel, "x:event").expect("a context");
    assert_eq!(context.evidence(), &Evidence::Format(FormatReason::NoBtf));
    assert_eq!(context.layout().expect("the record's").slots().len(), 2);
}
