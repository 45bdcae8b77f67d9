//! `Kernel::contexts()` and `structs()`: the same answers as one by one.

use std::fs;

use crate::support;
use crate::support::capture::{COMMON, Capture};
use tracepoints::context::ContextStruct;
use tracepoints::{Error, EventName, Kernel};

/// The answer for an event: the context in JSON, and what JSON leaves out.
fn said(
    context: &tracepoints::Context,
    id: Option<u32>,
) -> (String, Option<u32>, String, Option<u32>) {
    let (json, type_id, evidence) = of_struct(context.of_struct());
    (json, type_id, evidence, id)
}

fn of_struct(found: &ContextStruct) -> (String, Option<u32>, String) {
    let json = serde_json::to_string(found).expect("JSON");
    (json, found.type_id(), format!("{:?}", found.evidence()))
}

#[test]
fn all_at_once_and_one_by_one_agree() {
    let mut kernels = support::fixtures();
    kernels.extend(support::corpus());
    for root in kernels {
        let at_once = Kernel::at(&root).expect("a kernel");
        let names: Vec<EventName> = at_once.events().expect("events").into_iter().collect();
        let found = at_once.contexts(&names).expect("BTF");
        let one_by_one = Kernel::at(&root).expect("a kernel");
        let structs = at_once.structs(&names).expect("BTF");
        let mut with_ids = at_once.structs_and_ids(&names).expect("BTF");
        let mut count = 0;
        for ((name, found), alone) in names.iter().zip(found).zip(structs) {
            let (tracepoint, context) = found.expect("an event");
            let (with_id, id) = with_ids.next().expect("as many").expect("an event");
            for found in [alone.expect("an event"), with_id] {
                let context = context.of_struct();
                assert_eq!(of_struct(&found), of_struct(context), "{name}");
            }
            assert_eq!(id, tracepoint.id(), "{name}");
            assert_eq!(tracepoint.name(), name);
            let alone = one_by_one.tracepoint(name).expect("an event");
            assert_eq!(tracepoint.format(), alone.format());
            assert_eq!(
                said(&context, tracepoint.id()),
                said(&alone.context().expect("a context"), alone.id()),
                "{name} of {}",
                root.display()
            );
            count += 1;
        }
        assert_eq!(count, names.len());
    }
}

/// A hundred events, so that two threads share them.
fn many() -> (Capture, Vec<EventName>) {
    let mut capture = Capture::new();
    let mut names = Vec::new();
    for index in 0..100 {
        let name = format!("some:event_{index}");
        capture.event(&name, COMMON, &[("int x", 8, 4)]);
        names.push(name.parse().expect("a name"));
    }
    (capture, names)
}

#[test]
fn what_fails_is_in_its_place() {
    let (mut capture, mut names) = many();
    fs::remove_file(capture.path("some:event_40", "format")).expect("a file");
    capture.file("some:event_70", "format", "no format\n");
    names.push("no:such".parse().expect("a name"));
    let kernel = Kernel::at(capture.root()).expect("a kernel");
    let found = kernel.contexts(&names).expect("no BTF is no error");
    let structs = kernel.structs(&names).expect("no BTF is no error");
    for (index, found) in structs.enumerate() {
        assert_eq!(found.is_err(), matches!(index, 40 | 70 | 100), "{index}");
    }
    for (index, found) in found.enumerate() {
        match (index, found) {
            (40, Err(Error::EventGone { name, .. })) => assert_eq!(name, names[40]),
            (70, Err(Error::Format { source, .. })) => assert_eq!(source.line, 1),
            (100, Err(Error::NoSuchEvent { name, .. })) => assert_eq!(name, names[100]),
            (_, Ok((tracepoint, _))) => assert_eq!(tracepoint.name(), &names[index]),
            (_, Err(error)) => panic!("{index}: {error}"),
        }
    }
}

#[test]
fn bad_btf_is_an_error_for_all() {
    let (capture, names) = many();
    fs::create_dir(capture.root().join("btf")).expect("a directory");
    fs::write(capture.root().join("btf/vmlinux"), "no BTF").expect("a file");
    let kernel = Kernel::at(capture.root()).expect("a kernel");
    for names in [&names[..], &names[..1]] {
        assert!(matches!(kernel.contexts(names), Err(Error::Btf { .. })));
        assert!(matches!(
            kernel.structs(names).map(drop),
            Err(Error::Btf { .. })
        ));
    }
    assert!(matches!(kernel.contexts(&[]), Err(Error::Btf { .. })));
}
