//! Files that are cut off, emptied or overwritten, and modules that replace each other.

use std::fs;

use super::copy;
use crate::support;
use crate::support::btf::{BtfWriter, TraceEntry};
use crate::support::capture::{COMMON, Capture};
use tracepoints::{Context, Error, Tracepoint};

/// A format file that is cut off is an error, or still has all its fields.
#[test]
fn files_that_lost_their_end() {
    let mut capture = Capture::new();
    let name = "sched:sched_switch";
    let from = support::fixture("6.18.15-x86_64").join("tracing/events/sched/sched_switch");
    let whole = fs::read_to_string(from.join("format")).expect("a file");
    capture.file(name, "format", &whole).list(name);
    // Of a kernel without BTF it would be a file of Linux 3.10.
    capture.btf("vmlinux", &BtfWriter::new(false).bytes());
    let read = |text: &str| {
        fs::write(capture.path(name, "format"), text).expect("a file");
        let kernel = capture.kernel();
        kernel
            .tracepoint(name)
            .map(|found| found.format().to_string())
    };
    let mut taken = 0;
    for end in 0..whole.len() {
        match read(&whole[..end]) {
            Ok(text) => {
                // Only the print fmt follows the fields.
                assert_eq!(text, format!("{}\n", whole[..end].trim_end_matches('\n')));
                assert!(end > whole.find("print fmt: ").expect("it is there"));
                taken += 1;
            }
            Err(error) => assert!(
                matches!(error, Error::Format { .. } | Error::OtherEvent { .. }),
                "{error}"
            ),
        }
    }
    assert!(taken < whole.len() / 2, "{taken}");

    fs::write(capture.path(name, "format"), &whole).expect("a file");
    for id in ["", "\n", "x", "-1", "4294967296"] {
        capture.file(name, "id", id);
        let kernel = capture
            .kernel()
            .with_byte_order(tracepoints::ByteOrder::Little);
        match kernel.events_by_id() {
            Err(Error::NoPageLayout { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    // An empty list names no events, but their files can still be read.
    fs::write(capture.root().join("tracing/available_events"), "").expect("a file");
    let kernel = capture.kernel();
    assert!(kernel.events().expect("a list").names().is_empty());
    assert!(
        !kernel
            .tracepoint(name)
            .expect("an event")
            .is_listed()
            .expect("a list")
    );
}

/// A driver is unloaded, and another is loaded that has an event of the same name and
/// class.
#[test]
fn an_event_moves_to_another_module() {
    let mut vmlinux = BtfWriter::new(false);
    let TraceEntry { id: entry, int, .. } = vmlinux.trace_entry(8);
    let char = vmlinux.int("char", 1, false);
    let data = vmlinux.array(char, 0);
    let module = || {
        let mut module = BtfWriter::split(&vmlinux);
        module.event_class(
            "x",
            12,
            &[("ent", entry, 0), ("value", int, 8), ("__data", data, 12)],
            &[int],
        );
        module.event("x", &[int]);
        module.bytes()
    };
    let mut capture = Capture::new();
    capture.event("a:x", COMMON, &[("int value", 8, 4)]);
    capture
        .btf("vmlinux", &vmlinux.bytes())
        .btf("a_driver", &module());
    let kernel = capture.kernel();
    let home = |name: &str| {
        let context = kernel.tracepoint(name).expect("an event").context();
        context.expect("a context").home().map(str::to_owned)
    };
    assert_eq!(home("a:x").as_deref(), Some("a_driver"));
    fs::remove_file(capture.root().join("btf/a_driver")).expect("a file");
    let _ = fs::remove_dir_all(capture.root().join("tracing/events/a"));
    capture
        .event("b:x", COMMON, &[("int value", 8, 4)])
        .btf("b_driver", &module());
    assert_eq!(home("b:x").as_deref(), Some("b_driver"));
}

/// A captured kernel's BTF is read, not mapped, so that later changes to the file do no
/// harm.
#[test]
fn btf_that_shrinks_underneath() {
    let capture = copy("6.18.15-x86_64");
    let kernel = capture.kernel();
    let names = kernel.event_directories().expect("directories");
    let names = names.names();
    let answers = || -> Vec<String> {
        let found = kernel.contexts(names).expect("BTF");
        let text = |found: Result<(Tracepoint, Context), Error>| {
            let (tracepoint, context) = found.expect("an event");
            let layout = context.layout().expect("a layout");
            format!(
                "{} {context:?} {layout:?} {:?}",
                tracepoint.name(),
                tracepoint.raw()
            )
        };
        found.map(text).collect()
    };
    let before = answers();
    let objects: Vec<_> = fs::read_dir(capture.root().join("btf"))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert!(objects.len() > 5);
    if let Ok(maps) = fs::read_to_string("/proc/self/maps") {
        let root = capture.root().to_str().expect("UTF-8");
        assert!(!maps.contains(root), "{maps}");
    }
    for object in &objects {
        fs::File::options()
            .write(true)
            .truncate(true)
            .open(object)
            .expect("it is emptied");
    }
    assert_eq!(answers(), before);
    for object in &objects {
        fs::write(object, [0xff; 1 << 16]).expect("it is overwritten");
    }
    assert_eq!(answers(), before);
}
