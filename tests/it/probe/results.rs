//! Filters that ask for what system calls returned.

use std::error::Error as _;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use super::events;
use crate::support::live::live;
use tracepoints::Kernel;
use tracepoints::probe::{Probe, ProbeBuilder, ProbeError, ProbeRecord};

/// Whole calls of this process that pass the filter.
fn calls(kernel: &Kernel, call: &str, filter: &str) -> Result<Probe, ProbeError> {
    calls_with(kernel, call, filter, |builder| builder)
}

fn calls_with(
    kernel: &Kernel,
    call: &str,
    filter: &str,
    add: impl FnOnce(ProbeBuilder) -> ProbeBuilder,
) -> Result<Probe, ProbeError> {
    let enter = events(kernel, &[&format!("syscalls:sys_enter_{call}")]);
    let builder = Probe::builder(&enter)
        .process(std::process::id())
        .returns_of(enter[0].name())
        .filter_of(enter[0].name(), filter.parse().expect("a filter"))
        .ring_size(1 << 22);
    add(builder).attach()
}

/// The file's name, without its directories, and the result.
fn opened(record: &ProbeRecord) -> (String, i64) {
    let value = record.field("filename").expect("a field").to_string();
    let name = value.trim_matches('"').rsplit('/').next();
    let returned = record.returned().expect("it returned");
    (name.unwrap_or_default().to_owned(), returned.value)
}

#[test]
fn a_filter_on_the_result() {
    let Some(kernel) = live() else {
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("there"), "").expect("a file");
    let act = || {
        for _ in 0..50 {
            let _ = File::open(dir.path().join("missing"));
            drop(File::open(dir.path().join("there")).expect("a file"));
            let _ = File::create(dir.path());
        }
    };
    let seen = |probe: &mut Probe| -> Vec<(String, i64)> {
        let seen = probe.records().map(|record| opened(&record)).collect();
        assert!(probe.losses().expect("losses").is_empty());
        assert!(probe.unfinished().is_empty());
        seen
    };
    let name = dir
        .path()
        .file_name()
        .expect("a name")
        .to_str()
        .expect("UTF-8");
    let missing = ("missing".to_owned(), -i64::from(libc::ENOENT));
    let directory = (name.to_owned(), -i64::from(libc::EISDIR));

    let mut probe = calls(&kernel, "openat", "ret < 0").expect("it is attached");
    act();
    let expected = (0..50).flat_map(|_| [missing.clone(), directory.clone()]);
    let expected: Vec<_> = expected.collect();
    assert_eq!(seen(&mut probe), expected);
    drop(probe);

    // With an argument, by name, and the task, which is known at either end.
    for filter in [
        "ret == -EISDIR",
        "ret < 0 && flags & O_CREAT",
        "(ret < 0 || comm == \"nobody\") && flags & O_CREAT",
    ] {
        let mut probe = calls(&kernel, "openat", filter).expect(filter);
        act();
        assert_eq!(seen(&mut probe), vec![directory.clone(); 50], "{filter}");
    }
    let path = dir.path().join("there");
    let filter = format!("ret >= 0 && filename == \"{}\"", path.display());
    let mut probe = calls(&kernel, "openat", &filter).expect("it is attached");
    act();
    let there = seen(&mut probe);
    assert!(
        there.len() == 50 && there.iter().all(|(name, _)| name == "there"),
        "{there:?}"
    );
    drop(probe);

    // A filter for all events and one for this event.
    let of_all =
        |builder: ProbeBuilder| builder.filter("ret != -ENOENT".parse().expect("a filter"));
    let mut probe = calls_with(&kernel, "openat", "ret < 0", of_all).expect("it is attached");
    act();
    assert_eq!(seen(&mut probe), vec![directory; 50]);
}

/// A call that has not returned does not pass, and does once it has.
#[test]
fn a_call_that_has_not_returned() {
    let Some(kernel) = live() else {
        return;
    };
    let mut probe = calls(&kernel, "clock_nanosleep", "ret == 0").expect("it is attached");
    let sleeper = std::thread::spawn(|| std::thread::sleep(Duration::from_millis(600)));
    // This one sleeps, too.
    std::thread::sleep(Duration::from_millis(200));
    let first: Vec<ProbeRecord> = probe.records().collect();
    assert_eq!(first.len(), 1);
    sleeper.join().expect("it ends");
    let later: Vec<ProbeRecord> = probe.records().collect();
    assert_eq!(later.len(), 1);
    assert_ne!(first[0].task().tid, later[0].task().tid);
    let took = later[0].returned().expect("it returned").duration;
    assert!(took >= Duration::from_millis(600), "{took:?}");
}

/// A full ring buffer makes no call pass, and what is lost is counted.
#[test]
fn without_space_nothing_passes_by_mistake() {
    let Some(kernel) = live() else {
        return;
    };
    let small = |builder: ProbeBuilder| builder.ring_size(4096).data_limit(32);
    let mut probe = calls_with(&kernel, "rmdir", "ret == -ENOENT", small).expect("it is attached");
    let dir = tempfile::tempdir().expect("a directory");
    let missing = dir.path().join("missing");
    let mut passed = 0;
    for _ in 0..20 {
        for _ in 0..100 {
            fs::remove_dir(Path::new("/")).expect_err("it is busy");
            fs::remove_dir(&missing).expect_err("it is not there");
        }
        for record in probe.records() {
            let returned = record.returned().expect("it returned").value;
            assert_eq!(returned, -i64::from(libc::ENOENT));
            passed += 1;
        }
    }
    let losses = probe.losses().expect("losses").full;
    assert!(passed > 20 && losses > 1000, "{passed} {losses}");
    // Of the 2,000 calls that pass, each is reported or has lost a record.
    assert!(passed + losses >= 2000, "{passed} {losses}");
}

#[test]
fn results_and_arguments_in_one_condition() {
    let Some(kernel) = live() else {
        return;
    };
    match calls(&kernel, "openat", "ret < 0 || flags & O_CREAT") {
        Err(ProbeError::MixedResult { field, .. }) => assert_eq!(field, "flags"),
        other => panic!("{other:?}"),
    }
    let error = calls(&kernel, "openat", "ret == \"text\"").expect_err("no text");
    assert!(error.source().is_some(), "{error}");
    // Without the return there is no result.
    let enter = events(&kernel, &["syscalls:sys_enter_openat"]);
    let builder = Probe::builder(&enter).filter("ret < 0".parse().expect("a filter"));
    assert!(matches!(builder.attach(), Err(ProbeError::Filter { .. })));
}
