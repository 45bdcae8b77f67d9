//! FIFOs, devices, directories and links where a capture has files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

use super::{SOON, one_event, sparse};
use crate::support;
use crate::support::btf::BtfWriter;
use crate::support::capture::{COMMON, Capture};
use tracepoints::{Error, FileError, Kernel};

fn tracepoint_error(capture: &Capture) -> Error {
    let kernel = capture.kernel();
    kernel
        .tracepoint("sched:wake")
        .map(drop)
        .expect_err("no format")
}

fn replace(path: &Path, make: impl FnOnce(&Path)) {
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    make(path);
}

fn fifo(path: &Path) {
    let status = std::process::Command::new("mkfifo").arg(path).status();
    assert!(status.expect("mkfifo").success());
}

/// Nothing writes to the FIFO, so a reader that waits for it never returns.
#[test]
fn a_fifo() {
    let start = Instant::now();
    let capture = one_event();
    replace(&capture.path("sched:wake", "format"), fifo);
    let error = tracepoint_error(&capture);
    assert!(
        matches!(
            error,
            Error::File {
                source: FileError::NotAFile,
                ..
            }
        ),
        "{error}"
    );
    let root = capture.root();
    replace(&root.join("tracing/available_events"), fifo);
    let error = capture.kernel().events().expect_err("a FIFO");
    assert!(
        matches!(
            error,
            Error::File {
                source: FileError::NotAFile,
                ..
            }
        ),
        "{error}"
    );
    replace(&root.join("btf/vmlinux"), fifo);
    let error = capture.kernel().btf_objects().expect_err("a FIFO");
    assert!(
        matches!(
            error,
            Error::File {
                source: FileError::NotAFile,
                ..
            }
        ),
        "{error}"
    );
    let error = capture.kernel().machine().expect_err("a FIFO");
    assert!(
        matches!(
            error,
            Error::File {
                source: FileError::NotAFile,
                ..
            }
        ),
        "{error}"
    );
    assert!(start.elapsed() < SOON);
}

/// Opening a device can have effects. No device has this number, so that opening it would
/// fail with another error.
#[test]
fn a_device() {
    let capture = one_event();
    let format = capture.path("sched:wake", "format");
    fs::remove_file(&format).expect("a file");
    let made = std::process::Command::new("mknod")
        .arg(&format)
        .args(["c", "511", "77"])
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        return support::skip("making a device takes root");
    }
    let error = tracepoint_error(&capture);
    assert!(
        matches!(
            error,
            Error::File {
                source: FileError::NotAFile,
                ..
            }
        ),
        "{error}"
    );
    let file = std::process::Command::new("cat").arg(&format).output();
    assert!(!file.expect("cat").status.success());
}

/// A fault of one event's files does not affect records of the others.
#[test]
fn an_id_that_is_no_file() {
    let mut capture = one_event();
    capture
        .event("sched:other", COMMON, &[("int pid", 8, 4)])
        .file("sched:wake", "id", "7\n")
        .btf("vmlinux", &BtfWriter::new(false).bytes());
    let page = "tracing/events/header_page";
    let fixture = Path::new("tests/fixtures/6.18.15-x86_64").join(page);
    fs::copy(fixture, capture.root().join(page)).expect("a file");
    let id = capture.path("sched:other", "id");
    let is_read = || {
        let kernel = capture.kernel();
        let events = kernel.events_by_id().expect("events");
        let (name, _) = events.event(7).expect("an event");
        assert_eq!(name.as_str(), "sched:wake");
    };
    for make in [
        fifo as fn(&Path),
        |path| symlink("/etc/hostname", path).expect("a link"),
        |path| fs::create_dir(path).expect("a directory"),
        |path| sparse(path, 1 << 31),
    ] {
        replace(&id, make);
        is_read();
        replace(&capture.path("sched:other", "format"), make);
        is_read();
    }
}

#[test]
fn saved_names_of_processes() {
    let capture = one_event();
    let file = capture.root().join("tracing/saved_cmdlines");
    let kernel = capture.kernel();
    assert_eq!(kernel.task_names().expect("none").of(1), "<...>");
    fs::write(&file, "1 init\n").expect("a file");
    assert_eq!(kernel.task_names().expect("names").of(1), "init");
    replace(&file, fifo);
    let error = kernel.task_names().expect_err("a FIFO");
    assert!(
        matches!(
            error,
            Error::File {
                source: FileError::NotAFile,
                ..
            }
        ),
        "{error}"
    );
    replace(&file, |path| symlink("/etc/passwd", path).expect("a link"));
    let error = kernel.task_names().expect_err("a link");
    assert!(
        matches!(
            error,
            Error::File {
                source: FileError::Link,
                ..
            }
        ),
        "{error}"
    );
    replace(&file, |path| sparse(path, 1 << 31));
    let error = kernel.task_names().expect_err("too large");
    assert!(
        matches!(
            error,
            Error::File {
                source: FileError::TooLarge { .. },
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_directory_in_place_of_a_file_and_a_file_of_a_directory() {
    let capture = one_event();
    let format = capture.path("sched:wake", "format");
    replace(&format, |path| fs::create_dir(path).expect("a directory"));
    assert!(matches!(
        tracepoint_error(&capture),
        Error::File {
            source: FileError::NotAFile,
            ..
        }
    ));
    let event = format.parent().expect("a directory");
    replace(event, |path| {
        fs::write(path, "no directory").expect("a file")
    });
    assert!(matches!(
        tracepoint_error(&capture),
        Error::EventGone { .. }
    ));
}

/// A link anywhere on the way to a file is not followed.
#[test]
fn links() {
    let elsewhere = one_event();
    elsewhere
        .kernel()
        .tracepoint("sched:wake")
        .expect("an event");
    for link in [
        "tracing",
        "tracing/events",
        "tracing/events/sched",
        "tracing/events/sched/wake",
        "tracing/events/sched/wake/format",
    ] {
        let capture = one_event();
        let target = elsewhere.root().join(link);
        replace(&capture.root().join(link), |path| {
            symlink(&target, path).expect("a link");
        });
        let error = Kernel::at(capture.root()).and_then(|kernel| {
            let name = kernel.events()?.names()[0].clone();
            let one = kernel.tracepoint(&name).map(drop);
            let mut all = kernel.contexts(&[name])?;
            let all = all.next().expect("one").map(drop);
            assert_eq!(one.is_err(), all.is_err());
            one
        });
        let error = error.expect_err(link);
        assert!(
            matches!(
                error,
                Error::File {
                    source: FileError::Link,
                    ..
                }
            ),
            "{link}: {error}"
        );
    }
}

#[test]
fn links_to_btf() {
    let mut elsewhere = one_event();
    elsewhere.btf("vmlinux", &BtfWriter::new(false).bytes());
    for link in ["btf", "btf/vmlinux"] {
        let capture = one_event();
        let target = elsewhere.root().join(link);
        replace(&capture.root().join(link), |path| {
            symlink(&target, path).expect("a link");
        });
        for result in [
            capture.kernel().btf_objects().map(drop),
            support::context(&capture.kernel(), "sched:wake").map(drop),
            capture.kernel().machine().map(drop),
        ] {
            assert!(
                matches!(
                    result,
                    Err(Error::File {
                        source: FileError::Link,
                        ..
                    })
                ),
                "{link}: {result:?}"
            );
        }
    }
}

/// Without `available_events` the directories of events are walked.
#[test]
fn links_that_lead_in_circles() {
    let start = Instant::now();
    let capture = one_event();
    let events = capture.root().join("tracing/events");
    fs::remove_file(capture.root().join("tracing/available_events")).expect("a file");
    symlink(".", events.join("self")).expect("a link");
    symlink("../..", events.join("sched/up")).expect("a link");
    symlink("loop", events.join("loop")).expect("a link");
    let names = capture.kernel().events().expect("events");
    assert_eq!(names.names().len(), 1);
    let error = capture
        .kernel()
        .tracepoint("self:sched")
        .expect_err("a link");
    assert!(
        matches!(
            error,
            Error::File {
                source: FileError::Link,
                ..
            }
        ),
        "{error}"
    );
    assert!(start.elapsed() < SOON);
}

/// The root is the user's own path, and may contain links.
#[test]
fn a_link_to_the_root_is_the_users() {
    let capture = one_event();
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("link");
    symlink(capture.root(), &root).expect("a link");
    let kernel = Kernel::at(&root).expect("a kernel");
    kernel.tracepoint("sched:wake").expect("an event");
}
