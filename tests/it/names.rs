//! Names of events that are not identifiers, and what a kernel lists that is not a name.

use std::fs;

use crate::emit::every_event::{check_c, check_rust};
use crate::support;
use crate::support::capture::{COMMON, Capture};
use crate::support::compilers::has;
use tracepoints::emit::{CHeader, COptions, RustModule, skeleton_c, skeleton_rust};
use tracepoints::{EventName, EventPattern};

const NAMES: [&str; 5] = [
    "9p:9p_client_req",
    "hv-pci:9p_client_req",
    "mac802154:802154_drv_start",
    "user_events_multi:test.0",
    "user_events_multi:test_0",
];

fn capture() -> Capture {
    let mut capture = Capture::new();
    for name in NAMES {
        // Of one name, and not of one layout.
        let own = [("int x", 8, 4), ("int y", 12, 4)];
        capture.event(name, COMMON, &own[..1 + usize::from(name.contains('_'))]);
    }
    capture
}

#[test]
fn digits_first_and_dots() {
    let capture = capture();
    let kernel = capture.kernel();
    let events = kernel.events().expect("events");
    assert!(events.rejected().is_empty());
    assert_eq!(
        events.iter().map(EventName::as_str).collect::<Vec<_>>(),
        NAMES
    );
    for name in NAMES {
        let pattern: EventPattern = name.parse().expect(name);
        let found = kernel.select(&[pattern]).expect(name);
        assert_eq!(found.names(), [name.parse().expect(name)]);
        assert_eq!(kernel.tracepoint(name).expect(name).name().as_str(), name);
    }
    let pattern: EventPattern = "*:test.?".parse().expect("a pattern");
    assert_eq!(kernel.select(&[pattern]).expect("one").len(), 1);
    // Without the list, the directories are.
    fs::remove_file(capture.root().join("tracing/available_events")).expect("there");
    let events = kernel.events().expect("events");
    assert_eq!((events.len(), events.rejected().len()), (NAMES.len(), 0));
}

/// Every name is one in C and in Rust, and none is another's.
#[test]
fn names_that_are_not_identifiers_are_emitted_as_some() {
    let capture = capture();
    let kernel = capture.kernel();
    let mut header = CHeader::new(COptions::default());
    let mut module = RustModule::new();
    let mut structs = Vec::new();
    for name in NAMES {
        let tracepoint = kernel.tracepoint(name).expect(name);
        if name.starts_with("hv-pci") {
            continue;
        }
        structs.push(header.add(&tracepoint).expect(name));
        module.add(&tracepoint).expect(name);
        let section = format!("SEC(\"tracepoint/{}\")", name.replace(':', "/"));
        let program = skeleton_c(&tracepoint).expect(name);
        assert!(program.contains(&section), "{program}");
        skeleton_rust(&tracepoint).expect(name);
    }
    assert_eq!(
        structs,
        [
            "_9p_client_req_context",
            "_802154_drv_start_context",
            "test_x2e_0_context",
            "test_0_context"
        ]
    );
    let dir = tempfile::tempdir().expect("a directory");
    if has("clang") {
        check_c(capture.root(), dir.path());
    } else {
        support::skip("there is no clang");
    }
    check_rust(capture.root(), dir.path());
}

#[test]
fn directories_that_are_not_names_are_counted() {
    let capture = capture();
    let root = capture.root().join("tracing");
    fs::remove_file(root.join("available_events")).expect("there");
    for (category, event) in [("a b", "x"), ("sched", "mutex*"), ("sched", "\u{1b}[31m")] {
        let directory = root.join("events").join(category).join(event);
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join("format"), "").expect("a file");
    }
    // No event has no format.
    fs::create_dir_all(root.join("events/sched/not an event")).expect("a directory");
    let kernel = capture.kernel();
    for events in [kernel.events(), kernel.event_directories()] {
        let events = events.expect("events");
        assert_eq!(events.len(), NAMES.len());
        let rejected: Vec<String> = events.rejected().iter().map(ToString::to_string).collect();
        insta::allow_duplicates! {
            insta::assert_snapshot!("rejected_directories", rejected.join("\n"));
        }
    }
}
