//! Which of several classes an event has: each rule, the kernel's own word and each
//! inference, on kernels made for one question each.

use std::fs;

use super::{Types, capture};
use crate::support::capture::{COMMON, Capture};
use tracepoints::context::{CapturedFrom, Inference, KernelSource, Rule};
use tracepoints::{Context, Evidence};

/// The rules that prove the context's class, if its evidence is `template`.
fn rules(context: &Context) -> Option<Vec<Rule>> {
    Some(context.evidence().because()?.rules().collect())
}

/// A class whose only field is `a`, at 8, of this type and size.
fn class_of(types: &mut Types, name: &str, field: (u32, u32)) {
    let (ty, size) = field;
    let members = [
        ("ent", types.entry, 0),
        ("a", ty, 8),
        ("__data", types.data, 8 + size),
    ];
    let parameters = [types.void_pointer, types.int];
    types.btf.event_class(name, 8 + size, &members, &parameters);
}

/// The context of an event whose one field is declared so, where two classes have one
/// of that size, of these types.
fn between(declaration: &str, size: u32, make: impl FnOnce(&mut Types) -> [u32; 2]) -> Context {
    let mut types = Types::new();
    let [right, wrong] = make(&mut types);
    class_of(&mut types, "right", (right, size));
    class_of(&mut types, "wrong", (wrong, size));
    types.event("event", &[types.int]);
    let mut capture = Capture::new();
    capture
        .event("x:event", COMMON, &[(declaration, 8, size)])
        .btf("vmlinux", &types.btf.bytes());
    capture.context("x:event")
}

/// P1. Each declaration with a type that it spells, and one that it does not.
#[test]
fn a_field_of_another_type_excludes_a_class() {
    let proven = |declaration, size, make: fn(&mut Types) -> [u32; 2]| {
        let context = between(declaration, size, make);
        assert_eq!(context.class(), Some("right"), "{declaration}");
        assert_eq!(
            rules(&context),
            Some(vec![Rule::FieldType]),
            "{declaration}"
        );
    };
    proven("int a", 4, |t| [t.int, t.unsigned]);
    proven("unsigned a", 4, |t| [t.unsigned, t.int]);
    proven("int a", 4, |t| [t.int, t.btf.typedef("s32", t.int)]);
    proven("s32 a", 4, |t| [t.btf.typedef("s32", t.int), t.int]);
    // The typedef of that very name, whatever it is of.
    proven("pid_t a", 4, |t| {
        let inner = t.btf.typedef("__kernel_pid_t", t.int);
        [t.btf.typedef("pid_t", inner), inner]
    });
    proven("unsigned long long a", 8, |t| {
        [
            t.btf.int("long long unsigned int", 8, false),
            t.btf.int("long unsigned int", 8, false),
        ]
    });
    proven("unsigned long a", 8, |t| {
        // As clang has it.
        [
            t.btf.int("unsigned long", 8, false),
            t.btf.int("unsigned long long", 8, false),
        ]
    });
    proven("bool a", 1, |t| {
        [
            t.btf.int("_Bool", 1, false),
            t.btf.int("unsigned char", 1, false),
        ]
    });
    proven("char a", 1, |t| {
        [
            t.btf.int("char", 1, false),
            t.btf.int("signed char", 1, true),
        ]
    });
    proven("enum colour a", 4, |t| {
        [
            t.btf.enumeration("colour", &[("RED", 0)]),
            t.btf.enumeration("shape", &[("ROUND", 0)]),
        ]
    });
    proven("struct one a", 4, |t| {
        let members = [("x", t.int, 0)];
        [
            t.btf.structure("one", 4, &members),
            t.btf.structure("two", 4, &members),
        ]
    });
    proven("struct one * a", 8, |t| {
        let [one, two] = ["one", "two"].map(|name| t.btf.structure(name, 4, &[]));
        [t.btf.pointer(one), t.btf.pointer(two)]
    });
    proven("const char * a", 8, |t| {
        let char = t.btf.int("char", 1, false);
        let constant = t.btf.constant(char);
        [t.btf.pointer(constant), t.btf.pointer(char)]
    });
    proven("char * const a", 8, |t| {
        let char = t.btf.int("char", 1, false);
        let pointer = t.btf.pointer(char);
        [t.btf.constant(pointer), pointer]
    });
    proven("volatile int * a", 8, |t| {
        let volatile = t.btf.volatile(t.int);
        [t.btf.pointer(volatile), t.btf.pointer(t.int)]
    });
    proven("int * * a", 8, |t| {
        let pointer = t.btf.pointer(t.int);
        [t.btf.pointer(pointer), pointer]
    });
    proven("void * a", 8, |t| [t.void_pointer, t.btf.pointer(t.int)]);
    proven("u8 a[4]", 4, |t| {
        let byte = t.btf.int("unsigned char", 1, false);
        let u8_type = t.btf.typedef("u8", byte);
        [t.btf.array(u8_type, 4), t.btf.array(byte, 4)]
    });
    // The text in the brackets does not count, nor whether elements are arrays themselves.
    proven("int a[SIZE]", 8, |t| {
        let row = t.btf.array(t.int, 1);
        [t.btf.array(row, 2), t.btf.array(t.unsigned, 2)]
    });
    // Attributes and tags are no part of it.
    proven(
        r#"char __attribute__((btf_type_tag("user"))) * a"#,
        8,
        |t| {
            let char = t.btf.int("char", 1, false);
            let tagged = t.btf.type_tag("user", char);
            [t.btf.pointer(tagged), t.btf.pointer(t.int)]
        },
    );
    proven("char __user * a", 8, |t| {
        let char = t.btf.int("char", 1, false);
        [t.btf.pointer(char), t.btf.pointer(t.int)]
    });

    // Fields that say nothing.
    let open = |declaration, size, make: fn(&mut Types) -> [u32; 2]| {
        let context = between(declaration, size, make);
        assert_eq!(context.evidence(), &Evidence::Ambiguous, "{declaration}");
        assert_eq!(context.candidates(), ["right", "wrong"], "{declaration}");
    };
    open("typeof(x) a", 4, |t| [t.int, t.unsigned]);
    open("bool a", 1, |t| {
        let boolean = t.btf.int("_Bool", 1, false);
        [boolean, t.btf.typedef("bool", boolean)]
    });
    // Both excluded: the files contradict each other.
    open("u32 a", 4, |t| [t.int, t.unsigned]);
}

/// P2. What the event takes, what the right class takes and what the wrong one does: calls
/// alone cannot tell the two apart.
#[test]
fn arguments_a_compiler_refuses_exclude_a_class() {
    type Make = fn(&mut Types) -> [u32; 3];
    let context = |make: Make| {
        let mut types = Types::new();
        let [event, right, wrong] = make(&mut types);
        types.class("right", &[right]);
        types.class("wrong", &[wrong]);
        types.event("event", &[event]);
        capture(&types, &["x:event"]).context("x:event")
    };
    let proven = |what, make| {
        let context = context(make);
        assert_eq!(context.class(), Some("right"), "{what}");
        assert_eq!(rules(&context), Some(vec![Rule::Prototype]), "{what}");
    };
    proven("int and unsigned", |t| [t.int, t.int, t.unsigned]);
    proven("a typedef", |t| {
        [t.btf.typedef("s32", t.int), t.int, t.unsigned]
    });
    proven("long and long long", |t| {
        let long = t.btf.int("long unsigned int", 8, false);
        [long, long, t.btf.int("long long unsigned int", 8, false)]
    });
    proven("two enums", |t| {
        let colour = t.btf.enumeration("colour", &[("RED", 0)]);
        [colour, colour, t.btf.enumeration("shape", &[("ROUND", 0)])]
    });
    proven("an enum and its integer", |t| {
        let colour = t.btf.enumeration("colour", &[("RED", 0)]);
        [
            colour,
            t.unsigned,
            t.btf.enumeration("shape", &[("ROUND", 0)]),
        ]
    });
    proven("what pointers are to", |t| {
        let pointer = t.btf.pointer(t.int);
        [pointer, pointer, t.btf.pointer(t.unsigned)]
    });
    proven("functions", |t| {
        let one = t.btf.prototype(&[t.int]);
        let other = t.btf.prototype(&[t.unsigned]);
        let pointer = t.btf.pointer(one);
        [pointer, pointer, t.btf.pointer(other)]
    });
    let open = |what, make| {
        let context = context(make);
        assert_eq!(context.evidence(), &Evidence::Ambiguous, "{what}");
    };
    open("an enum and both integers of its size", |t| {
        [
            t.btf.enumeration("colour", &[("RED", 0)]),
            t.int,
            t.unsigned,
        ]
    });
    open("a parameter's own qualifiers", |t| {
        [t.int, t.btf.constant(t.int), t.int]
    });
    open("both excluded", |t| {
        let colour = t.btf.enumeration("colour", &[("RED", 0)]);
        let [a, b] = ["shape", "size"].map(|name| t.btf.enumeration(name, &[("X", 0)]));
        [colour, a, b]
    });
}

/// Functions that take functions, so deep that comparing all would never end: they say
/// nothing.
#[test]
fn comparing_prototypes_ends() {
    let mut types = Types::new();
    let towers = [(); 3].map(|()| {
        let mut top = types.int;
        for _ in 0..12 {
            let function = types.btf.prototype(&[top; 40]);
            top = types.btf.pointer(function);
        }
        top
    });
    let [event, right, wrong] = towers;
    types.class("right", &[right]);
    types.class("wrong", &[wrong]);
    types.event("event", &[event]);
    let context = capture(&types, &["x:event"]).context("x:event");
    assert_eq!(context.evidence(), &Evidence::Ambiguous);
    assert_eq!(context.candidates(), ["right", "wrong"]);
}

/// Classes `own`, with an event of its name, and `template`.
fn own_and_template() -> Types {
    let mut types = Types::new();
    types.class("own", &[types.int]);
    types.class("template", &[types.int]);
    types.event("own", &[types.int]);
    types.event("event", &[types.int]);
    types
}

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

const INFERRED: Evidence = Evidence::Inferred(Inference::OnlyTemplate);

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

/// Two headers, each with a class and an event; all alike.
fn two_headers() -> Types {
    let mut types = Types::new();
    for header in ["red", "blue"] {
        types.class(&format!("{header}_class"), &[types.int]);
        types.event(&format!("{header}_event"), &[types.int]);
    }
    types
}

/// R.
#[test]
fn the_class_in_the_run_of_the_events_header_is_inferred() {
    let names = ["x:red_event", "x:blue_event"];
    let types = two_headers();
    for (name, class) in [("x:red_event", "red_class"), ("x:blue_event", "blue_class")] {
        let context = capture(&types, &names).context(name);
        assert_eq!(
            context.evidence(),
            &Evidence::Inferred(Inference::HeaderRun)
        );
        assert_eq!(context.class(), Some(class));
        assert_eq!(context.candidates(), ["blue_class", "red_class"]);
    }

    // A compiler of another order: an event's class is known, and in another run.
    let mut types = types;
    types.class("proven", &[types.int, types.int]);
    types.event("between", &[types.unsigned, types.unsigned, types.unsigned]);
    types.class("last", &[types.unsigned, types.unsigned, types.unsigned]);
    types.event("event", &[types.int, types.int]);
    let names = [&names[..], &["x:event"]].concat();
    let context = capture(&types, &names).context("x:red_event");
    assert_eq!(context.evidence(), &Evidence::Ambiguous);
    // Only events that are listed are checked.
    let context = capture(&types, &names[..2]).context("x:red_event");
    assert_eq!(
        context.evidence(),
        &Evidence::Inferred(Inference::HeaderRun)
    );
}

/// Of two classes of the event's own header nothing tells which.
#[test]
fn two_classes_of_one_run_stay_ambiguous() {
    let mut types = Types::new();
    types.class("red", &[types.int]);
    types.class("blue", &[types.int]);
    types.event("event", &[types.int]);
    let context = capture(&types, &["x:event"]).context("x:event");
    assert_eq!(context.evidence(), &Evidence::Ambiguous);
}

/// The kernel's own word comes before an inference, and after a proof.
#[test]
fn the_kernel_is_asked_before_anything_is_inferred() {
    let mut types = Types::new();
    let own = types.class("own", &[types.int]);
    types.class("template", &[types.int]);
    types.event("own", &[types.int]);
    types.event("event", &[types.int]);
    let ids = format!("btf_obj_id: 1\nraw_btf_id: 3\ntp_btf_id: {own}\n");
    let mut inferred = capture(&types, &["x:event", "x:own"]);
    assert_eq!(inferred.context("x:event").evidence(), &INFERRED);
    inferred.file("x:event", "btf_ids", &ids);
    let context = inferred.context("x:event");
    assert_eq!(context.class(), Some("own"));
    assert_eq!(context.evidence(), &Evidence::Kernel(KernelSource::BtfIds));
    let mut proven = capture(&types, &["x:event", "y:own"]);
    proven.file("x:event", "btf_ids", &ids);
    assert_eq!(
        rules(&proven.context("x:event")),
        Some(vec![Rule::Category])
    );
}

/// A capture's `tracing/classes` chooses among what is left, and adds nothing.
#[test]
fn a_captures_classes_choose_among_equal_layouts() {
    let mut types = Types::new();
    types.class("red", &[types.int]);
    types.class("blue", &[types.int]);
    types.class("excluded", &[types.unsigned]);
    types.class("other_arguments", &[types.int, types.int]);
    types.event("event", &[types.int]);
    let capture = capture(&types, &["x:event"]);
    let context = |lines: &str| {
        fs::write(capture.root().join("tracing/classes"), lines).expect("a file");
        capture.context("x:event")
    };
    for (word, from) in [
        ("btf_ids", CapturedFrom::BtfIds),
        ("memory", CapturedFrom::Memory),
        ("kcore", CapturedFrom::Kcore),
        ("image", CapturedFrom::Image),
    ] {
        let context = context(&format!(
            "y:other\t8\tred\tmemory\nx:event\t7\tblue\t{word}\n"
        ));
        assert_eq!(context.class(), Some("blue"));
        assert_eq!(
            context.evidence(),
            &Evidence::Kernel(KernelSource::Capture(from))
        );
        assert_eq!(context.candidates(), ["blue", "red"]);
        assert_eq!(
            context.evidence().to_string(),
            format!("the capture's classes file, from {word}, says which of the classes that fit")
        );
    }
    for lines in [
        "",
        "x:event\t8\tblue\tmemory\n",
        "x:event\t7\texcluded\tmemory\n",
        "x:event\t7\tother_arguments\tmemory\n",
        "x:event\t7\tno_such_class\tmemory\n",
        "x:event\t7\tblue\trumour\n",
        "x:event 7 blue memory\n",
        "x:event\t7\tblue\tmemory\nx:event\t7\tred\tmemory\n",
    ] {
        let context = context(lines);
        assert_eq!(context.evidence(), &Evidence::Ambiguous, "{lines:?}");
        assert_eq!(context.candidates(), ["blue", "red"], "{lines:?}");
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
