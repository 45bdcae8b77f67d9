//! What proofs leave open: the kernel's own word, a capture's `classes` file, inferences.

use std::fs;

use super::{INFERRED, Types, capture, rules};
use tracepoints::Evidence;
use tracepoints::context::{CapturedFrom, Inference, KernelSource, Rule};

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
