//! Each way to fail has its own message, which says what to do.

use std::fs;

use crate::support;
use crate::support::capture::{COMMON, Capture};
use crate::support::with_causes;
use tracepoints::{Error, EventPattern, FileError, Kernel};

fn capture() -> Capture {
    let mut capture = Capture::new();
    for name in [
        "sched:sched_process_exit",
        "sched:sched_process_exec",
        "sched:sched_switch",
        "hv-x:a-b",
    ] {
        capture.event(name, COMMON, &[("int a", 8, 4)]);
    }
    capture
}

/// The error's message for one event, with `ROOT` for the temporary directory.
fn message(capture: &Capture, name: &str) -> String {
    let kernel = capture.kernel();
    let error = kernel.tracepoint(name).expect_err("a failure");
    with_causes(&error).replace(&capture.root().display().to_string(), "ROOT")
}

#[test]
fn a_directory_that_is_no_kernel() {
    let empty = tempfile::tempdir().expect("a directory");
    let error = Kernel::at(empty.path()).expect_err("no kernel");
    assert!(matches!(&error, Error::NotAKernel { root } if root == empty.path()));
    assert!(
        error
            .to_string()
            .contains("it has neither tracing/available_events nor tracing/events")
    );
    let missing = empty.path().join("missing");
    let error = Kernel::at(&missing).expect_err("no directory");
    assert!(
        matches!(&error, Error::File { path, source: FileError::Io(_), .. } if *path == missing),
        "{error}"
    );
}

#[test]
fn names_that_are_slips() {
    let capture = capture();
    for (name, expected) in [
        (
            "sched:sched_proces_exit",
            "no event sched:sched_proces_exit; did you mean sched:sched_process_exit?",
        ),
        (
            "shced:sched_switch",
            "no event shced:sched_switch; did you mean sched:sched_switch?",
        ),
        (
            "sched:sched_process_exi",
            "no event sched:sched_process_exi; did you mean sched:sched_process_exit or sched:sched_process_exec?",
        ),
        ("kvm:kvm_entry", "no event kvm:kvm_entry"),
        (
            "sched_switch",
            "\"sched_switch\" has no category: an event is written category:name, like sched:sched_switch",
        ),
        (
            "sched:\u{1b}[31m",
            "\"sched:\\u{1b}[31m\" is not an event name: a name has letters, digits, `_`, `-` and `.` only",
        ),
        (
            "sched:../../../etc/passwd",
            "\"sched:../../../etc/passwd\" is not an event name: a name has letters, digits, `_`, `-` and `.` only",
        ),
    ] {
        assert_eq!(message(&capture, name), expected);
    }
    assert!(capture.kernel().tracepoint("tp/hv-x/a-b").is_ok());
}

#[test]
fn patterns_that_match_nothing() {
    let capture = capture();
    let kernel = capture.kernel();
    let select = |text: &str| {
        let pattern: EventPattern = text.parse().expect("a pattern");
        kernel.select(&[pattern]).map(|events| events.names().len())
    };
    assert_eq!(select("sched:*").expect("events"), 3);
    assert_eq!(select("sched_switch").expect("one of this name"), 1);
    let message = |text: &str| select(text).expect_err("no events").to_string();
    assert_eq!(message("kvm:*"), "no event matches \"kvm:*\"");
    assert_eq!(
        message("sched_swich"),
        "no event matches \"sched_swich\"; did you mean sched:sched_switch?"
    );
    assert_eq!(
        message("sched:sched_swich"),
        "no event sched:sched_swich; did you mean sched:sched_switch?"
    );
}

#[test]
fn an_event_listed_and_gone() {
    let mut capture = capture();
    capture.list("gone:event");
    assert_eq!(
        message(&capture, "gone:event"),
        "gone:event is listed, but ROOT/tracing/events/gone/event/format is gone: was its module unloaded?"
    );
    assert_eq!(capture.kernel().events().expect("events").names().len(), 5);
}

#[test]
fn a_bad_format_file() {
    let mut capture = capture();
    let path = "ROOT/tracing/events/sched/sched_switch/format";
    let good = fs::read_to_string(capture.path("sched:sched_switch", "format")).expect("a file");
    capture.file(
        "sched:sched_switch",
        "format",
        good.replace("\toffset:8;", "\toffset:eight;"),
    );
    assert_eq!(
        message(&capture, "sched:sched_switch"),
        format!(
            "cannot parse {path}: line 9: expected `\\tfield:TYPE NAME;\\toffset:N;\\tsize:N;\\tsigned:0 or 1;` or an empty line, \
             found \"\\tfield:int a;\\toffset:eight;\\tsize:4;\\tsigned:0;\""
        )
    );
    capture.file("sched:sched_switch", "format", "");
    assert_eq!(
        message(&capture, "sched:sched_switch"),
        format!("cannot parse {path}: line 1: expected `name: ` and the event's name, found \"\"")
    );
    capture.file(
        "sched:sched_switch",
        "format",
        good.replace("sched_switch", "sched_wakeup"),
    );
    assert_eq!(
        message(&capture, "sched:sched_switch"),
        format!("{path} is the format of \"sched_wakeup\"")
    );
    capture.file("sched:sched_switch", "format", b"name: \xff\xfe\n");
    assert_eq!(
        message(&capture, "sched:sched_switch"),
        format!("cannot read {path}: not valid UTF-8 (byte 6)")
    );
    capture.file("sched:sched_switch", "format", vec![b'a'; (1 << 20) + 1]);
    assert_eq!(
        message(&capture, "sched:sched_switch"),
        format!("cannot read {path}: larger than 1048576 bytes")
    );
    // The other events are still readable.
    assert!(
        capture
            .kernel()
            .tracepoint("sched:sched_process_exit")
            .is_ok()
    );
}

#[test]
fn a_capture_without_available_events() {
    let capture = capture();
    fs::remove_file(capture.root().join("tracing/available_events")).expect("removed");
    fs::create_dir_all(capture.root().join("tracing/events/sched/no_event")).expect("a directory");
    fs::write(capture.root().join("tracing/events/sched/enable"), "0").expect("a file");
    let kernel = capture.kernel();
    let names: Vec<String> = kernel
        .events()
        .expect("events")
        .into_iter()
        .map(|name| name.to_string())
        .collect();
    assert_eq!(
        names,
        [
            "hv-x:a-b",
            "sched:sched_process_exec",
            "sched:sched_process_exit",
            "sched:sched_switch"
        ]
    );
}

#[test]
fn an_event_that_is_not_listed() {
    let mut capture = capture();
    capture.list("ftrace:none");
    let format = fs::read_to_string(capture.path("sched:sched_switch", "format")).expect("a file");
    capture.file(
        "ftrace:function",
        "format",
        format.replace("sched_switch", "function"),
    );
    let kernel = capture.kernel();
    let function = kernel
        .tracepoint("ftrace:function")
        .expect("it has a format file");
    assert!(!function.is_listed().expect("a list"));
    assert!(function.sections().expect("a list").is_empty());
    assert!(
        kernel
            .tracepoint("sched:sched_switch")
            .and_then(|event| event.is_listed())
            .expect("a list")
    );
}

/// FIFOs are not waited for, and links not followed: captures are untrusted input.
#[cfg(target_os = "linux")]
#[test]
fn what_is_no_file() {
    let capture = capture();
    let path = capture.path("sched:sched_switch", "format");
    let replace = |with: &dyn Fn()| {
        fs::remove_file(&path).expect("removed");
        with();
        message(&capture, "sched:sched_switch")
    };
    let path_in_root = "ROOT/tracing/events/sched/sched_switch/format";
    let pipe = || {
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.expect("mkfifo").success());
    };
    assert_eq!(
        replace(&pipe),
        format!("cannot read {path_in_root}: not a regular file")
    );
    assert_eq!(
        replace(&|| std::os::unix::fs::symlink("/etc/passwd", &path).expect("a link")),
        format!(
            "cannot read {path_in_root}: a symbolic link, which is not followed: copy the file or directory it leads to in its place"
        )
    );
}

/// A file of one event that cannot be read or parsed concerns that event alone.
#[test]
fn errors_of_one_event() {
    let mut capture = capture();
    let all = |capture: &Capture| {
        let kernel = capture.kernel();
        let names: Vec<_> = kernel.events().expect("events").into_iter().collect();
        let found = kernel.contexts(&names).expect("no BTF to fail");
        found.map(|found| found.map(drop)).collect::<Vec<_>>()
    };
    let path = capture.path("sched:sched_switch", "format");
    let good = fs::read_to_string(&path).expect("a file");
    for content in [
        Vec::new(),
        b"name: \xff\n".to_vec(),
        vec![b'a'; (1 << 20) + 1],
        good.replace("sched_switch", "sched_wakeup").into_bytes(),
        good.replace("size:4", "size:four").into_bytes(),
    ] {
        capture.file("sched:sched_switch", "format", content);
        let found = all(&capture);
        let failed: Vec<_> = found
            .iter()
            .filter_map(|found| found.as_ref().err())
            .collect();
        assert_eq!((found.len(), failed.len()), (4, 1), "{failed:?}");
        assert!(failed[0].is_of_one_event(), "{}", failed[0]);
    }
    // `available_events` concerns all events.
    fs::remove_file(capture.root().join("tracing/available_events")).expect("it was there");
    fs::create_dir(capture.root().join("tracing/available_events")).expect("a directory");
    let error = capture.kernel().events().expect_err("a directory");
    assert!(!error.is_of_one_event(), "{error}");
}

#[test]
fn lines_of_available_events_that_are_no_names() {
    let capture = capture();
    let path = capture.root().join("tracing/available_events");
    fs::write(&path, b"sched:sched_switch\nsched:\xff\nsched:\x1b[31m\n").expect("a file");
    let events = capture.kernel().events().expect("events");
    assert_eq!(events.names().len(), 1);
    let lines: Vec<_> = events
        .rejected()
        .iter()
        .map(|line| (line.line, &*line.text))
        .collect();
    assert_eq!(
        lines,
        [(Some(2), "sched:\u{fffd}"), (Some(3), "sched:\\u{1b}[31m")]
    );
    assert!(support::context(&capture.kernel(), "sched:sched_switch").is_ok());
}
