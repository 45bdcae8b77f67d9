//! P1 and P2: types of fields and arguments, in BTF and as text.

use super::{Types, capture, rules};
use crate::support::capture::{COMMON, Capture};
use tracepoints::context::Rule;
use tracepoints::{Context, Evidence};

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

/// Asserts that P1 alone finds the first of two types to be the declared field's.
fn proven(declaration: &str, size: u32, make: fn(&mut Types) -> [u32; 2]) {
    let context = between(declaration, size, make);
    assert_eq!(context.class(), Some("right"), "{declaration}");
    assert_eq!(
        rules(&context),
        Some(vec![Rule::FieldType]),
        "{declaration}"
    );
}

/// P1. Each declaration with a type that it spells, and one that it does not.
#[test]
fn a_field_of_another_type_excludes_a_class() {
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
}

/// P1, of pointers and arrays.
#[test]
fn a_pointer_to_another_type_excludes_a_class() {
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
}

/// P1: no declaration that leaves the type open excludes a class.
#[test]
fn a_field_of_an_unknown_type_excludes_nothing() {
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
