//! An event's class, of those in its home: by name, layout, arguments, and `btf_ids`.

use super::{Types, answer, capture};
use crate::support;
use crate::support::capture::{COMMON, Capture};
use tracepoints::{Evidence, context::FormatReason};

#[test]
fn a_struct_of_the_events_name_must_have_its_layout() {
    let mut types = Types::new();
    types.class("own", &[types.int]);
    types.event("own", &[types.int]);
    let mut capture = capture(&types, &["x:own"]);
    assert_eq!(
        answer(&capture.context("x:own")),
        ("named", Some("own"), Some("vmlinux"))
    );

    // Records that differ from the struct: a field moved, resized, renamed, added,
    // removed, or of a fixed place where the struct has a dynamic one, and other common
    // fields.
    let fields = [("int a", 8, 4), ("__data_loc char[] b", 12, 4)];
    for (common, own) in [
        (COMMON, vec![("int a", 12, 4), fields[1]]),
        (COMMON, vec![("long a", 8, 8), fields[1]]),
        (COMMON, vec![("int c", 8, 4), fields[1]]),
        (COMMON, vec![fields[0], fields[1], ("int c", 16, 4)]),
        (COMMON, vec![fields[0]]),
        (COMMON, vec![fields[0], ("int b", 12, 4)]),
        (COMMON, vec![fields[0], ("__rel_loc char[] b", 12, 4)]),
        (&COMMON[..3], fields.to_vec()),
        (
            &[COMMON, &[("unsigned char common_x", 8, 1)]].concat()[..],
            fields.to_vec(),
        ),
    ] {
        capture.event("x:own", common, &own);
        let reason = FormatReason::NotInHome {
            home: "vmlinux".into(),
        };
        assert_eq!(
            capture.context("x:own").evidence(),
            &Evidence::Format(reason),
            "{own:?}"
        );
    }
}

#[test]
fn a_class_of_the_layout_and_arguments() {
    let mut types = Types::new();
    types.class("template", &[types.int]);
    types.class("other_arguments", &[types.int, types.int]);
    types.event("event", &[types.int]);
    types.event("sibling", &[types.int]);
    types.event("stranger", &[types.int, types.int]);
    let names = ["x:event", "y:sibling", "x:stranger"];
    let capture = capture(&types, &names);
    assert_eq!(
        answer(&capture.context("x:event")),
        ("template", Some("template"), Some("vmlinux"))
    );
    let kernel = capture.kernel();
    let siblings = kernel
        .tracepoint("x:event")
        .and_then(|event| event.siblings())
        .expect("siblings");
    assert_eq!(siblings, ["y:sibling".parse().expect("a name")]);
}

/// `DEFINE_EVENT` may spell its arguments differently from its class, as long as the
/// compiler accepts one for the other: xfs writes `uint64_t` for `xfs_fsblock_t`.
#[test]
fn arguments_are_compared_as_the_compiler_does() {
    let mut types = Types::new();
    let record = types.btf.structure("record", 4, &[]);
    let pointer = types.btf.pointer(record);
    let constant = types.btf.constant(record);
    let pointer_to_constant = types.btf.pointer(constant);
    let alias = types.btf.typedef("int_alias", types.int);
    let alias = types.btf.typedef("alias_alias", alias);
    let record_alias = types.btf.typedef("record_t", record);
    let pointer_to_alias = types.btf.pointer(record_alias);
    let constant_int = types.btf.constant(types.int);
    let enumeration = types.btf.enumeration("colour", &[("RED", 0)]);
    let enumeration64 = types.btf.enumeration64("large");
    let long = types.btf.int("long unsigned int", 8, false);
    let row_of_ints = types.btf.array(types.int, 6);
    let row_of_ints = types.btf.pointer(row_of_ints);
    let row_of_aliases = types.btf.array(alias, 6);
    let row_of_aliases = types.btf.pointer(row_of_aliases);
    let boolean = types.btf.int("_Bool", 1, false);
    let byte = types.btf.int("unsigned char", 1, false);
    let one_function = types.btf.prototype(&[types.int]);
    let one_function = types.btf.pointer(one_function);
    let same_function = types.btf.prototype(&[alias]);
    let same_function = types.btf.pointer(same_function);
    types.class("by_long", &[long, long]);
    types.class("by_row", &[row_of_ints]);
    types.class("by_bool", &[boolean]);
    types.class("by_byte", &[byte]);
    types.class("by_function", &[one_function]);
    types.event("enum64", &[enumeration64, long]);
    types.event("row", &[row_of_aliases]);
    types.event("bool", &[boolean]);
    types.event("function", &[same_function]);
    types.class("by_int", &[types.int]);
    types.class("by_unsigned_and_int", &[types.unsigned, types.int]);
    types.class("by_pointer", &[pointer]);
    types.class("by_pointer_to_constant", &[pointer_to_constant]);
    types.event("typedef", &[alias]);
    types.event("qualified", &[constant_int]);
    types.event("enum", &[enumeration, types.int]);
    types.event("pointer", &[pointer_to_alias]);
    types.event("pointer_to_constant", &[pointer_to_constant]);
    let names = [
        "x:typedef",
        "x:qualified",
        "x:enum",
        "x:enum64",
        "x:row",
        "x:bool",
        "x:function",
        "x:pointer",
        "x:pointer_to_constant",
    ];
    let capture = capture(&types, &names);
    for (name, class) in [
        ("x:typedef", "by_int"),
        ("x:qualified", "by_int"),
        ("x:enum", "by_unsigned_and_int"),
        ("x:enum64", "by_long"),
        ("x:row", "by_row"),
        ("x:bool", "by_bool"),
        ("x:function", "by_function"),
        ("x:pointer", "by_pointer"),
        ("x:pointer_to_constant", "by_pointer_to_constant"),
    ] {
        assert_eq!(
            answer(&capture.context(name)),
            ("template", Some(class), Some("vmlinux")),
            "{name}"
        );
    }
}

#[test]
fn a_class_whose_arguments_btf_does_not_say_is_not_ruled_out() {
    let mut types = Types::new();
    types.class("template", &[types.int]);
    let members = [
        ("ent", types.entry, 0),
        ("a", types.int, 8),
        ("__data_loc_b", types.unsigned, 12),
        ("__data", types.data, 16),
    ];
    types.btf.structure("trace_event_raw_silent", 16, &members);
    types.event("event", &[types.int]);
    let context = capture(&types, &["x:event"]).context("x:event");
    assert_eq!(context.evidence(), &Evidence::Ambiguous);
    assert_eq!(context.candidates(), ["silent", "template"]);
}

#[test]
fn of_several_classes_the_one_that_is_no_events_own_is_inferred() {
    let mut types = Types::new();
    types.class("template", &[types.int]);
    types.class("own", &[types.int]);
    types.event("own", &[types.int]);
    types.event("event", &[types.int]);
    let context = capture(&types, &["x:own", "x:event"]).context("x:event");
    assert_eq!(
        answer(&context),
        ("inferred", Some("template"), Some("vmlinux"))
    );
    assert_eq!(context.candidates(), ["own", "template"]);
    assert_eq!(context.struct_name(), Some("trace_event_raw_template"));
}

#[test]
fn several_templates_stay_ambiguous_unless_the_kernel_says() {
    let mut types = Types::new();
    types.class("red", &[types.int]);
    let blue = types.class("blue", &[types.int]);
    types.event("event", &[types.int]);
    let mut capture = capture(&types, &["x:event"]);
    let context = capture.context("x:event");
    assert_eq!(answer(&context), ("ambiguous", None, Some("vmlinux")));
    assert_eq!((context.struct_name(), context.type_id()), (None, None));
    assert_eq!(context.candidates(), ["blue", "red"]);
    // The candidates' layouts are the same.
    let slot = context.slot_of("a").expect("types").expect("a slot");
    assert_eq!((slot.offset(), slot.size()), (8, 4));

    let ids = |id: u32| format!("btf_obj_id: 1\nraw_btf_id: 3\ntp_btf_id: {id}\n");
    capture.file("x:event", "btf_ids", ids(blue));
    let context = capture.context("x:event");
    assert_eq!(answer(&context), ("kernel", Some("blue"), Some("vmlinux")));
    assert_eq!(context.type_id(), Some(blue));
    // An id of another type, 0, and nonsense settle nothing.
    for content in [
        ids(types.entry),
        ids(0),
        ids(u32::MAX),
        "tp_btf_id: x".into(),
        String::new(),
    ] {
        capture.file("x:event", "btf_ids", &content);
        assert_eq!(
            capture.context("x:event").evidence(),
            &Evidence::Ambiguous,
            "{content:?}"
        );
    }
}

#[test]
fn a_bitfield_is_no_field() {
    let mut types = Types::new();
    let flags = types.btf.bitfields("flags", 4, &[("a", types.int, 0, 3)]);
    let members = [("ent", types.entry, 0), ("a", flags, 8)];
    types
        .btf
        .event_class("nested", 12, &members, &[types.void_pointer, types.int]);
    // The struct with the event's name has a bitfield where the record has a whole field.
    let prototype = types.btf.prototype(&[types.void_pointer, types.int]);
    types.btf.function("__bpf_trace_event", prototype);
    types.btf.bitfields(
        "trace_event_raw_event",
        12,
        &[("ent", types.entry, 0, 0), ("a", types.int, 64, 32)],
    );
    types.event("event", &[types.int]);
    let mut capture = Capture::new();
    capture
        .event("x:event", COMMON, &[("int a", 8, 4)])
        .btf("vmlinux", &types.btf.bytes());
    assert_eq!(answer(&capture.context("x:event")).1, Some("nested"));
}

/// Two functions of one name with different arguments rule out no class.
#[test]
fn arguments_that_contradict_each_other_rule_nothing_out() {
    let mut types = Types::new();
    let other = types.btf.prototype(&[types.void_pointer]);
    types.btf.function("__bpf_trace_one", other);
    types.class("one", &[types.int]);
    types.class("two", &[types.int]);
    types.event("event", &[types.int]);
    let context = capture(&types, &["x:event"]).context("x:event");
    assert_eq!(context.candidates(), ["one", "two"]);
}

/// The answers the captured kernels are in the fixtures for.
#[test]
fn on_captured_kernels() {
    for (kernel, event, expected) in [
        ("5.10.223-x86_64", "xfs:kmem_alloc", ("format", None, None)),
        (
            "6.1.192-rt-x86_64",
            "sched:sched_process_exit",
            ("template", Some("sched_process_template"), Some("vmlinux")),
        ),
        (
            "6.18.15-x86_64",
            "sched:sched_process_exit",
            ("named", Some("sched_process_exit"), Some("vmlinux")),
        ),
        (
            "6.18.15-x86_64",
            "irq_vectors:vector_deactivate",
            ("template", Some("vector_activate"), Some("vmlinux")),
        ),
        (
            "6.18.15-x86_64",
            "xfs:xfs_ilock",
            ("template", Some("xfs_lock_class"), Some("xfs")),
        ),
        (
            "5.10.223-x86_64",
            "block:block_rq_complete",
            ("named", Some("block_rq_complete"), Some("vmlinux")),
        ),
        (
            "6.18.15-x86_64",
            "block:block_rq_complete",
            ("template", Some("block_rq_completion"), Some("vmlinux")),
        ),
    ] {
        let kernel = support::kernel(kernel);
        let context = support::context(&kernel, event).expect("a context");
        assert_eq!(answer(&context), expected, "{event}");
    }
}
