//! Strings of system calls that cannot be read at entry.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::c_program::CProgram;
use super::{events, getppid};
use crate::support::live::live;
use tracepoints::Kernel;
use tracepoints::probe::{FieldValue, Probe, ProbeRecord, StringOrigin, StringReading};

/// The program of `strings.c`.
fn compiled() -> Option<CProgram> {
    CProgram::compiled("strings")
}

fn fifo(strings: &CProgram) -> String {
    let path = strings.directory.join("fifo");
    path.to_str().expect("UTF-8").to_owned()
}

fn probe(kernel: &Kernel, event: &str, reading: StringReading) -> Probe {
    let attached = Probe::builder(&events(kernel, &[event]))
        .process_tree(std::process::id())
        .fields(["filename"])
        .data_limit(96)
        .ring_size(1 << 24)
        .strings(reading)
        .attach();
    attached.expect("it is attached")
}

fn text(record: &ProbeRecord) -> Option<String> {
    let value = record.field("filename").expect("a field").value();
    let text = value.and_then(|value| Some(value.text()?.into_owned()));
    text.map(|text| text.to_string())
}

#[test]
fn no_name_is_lost() {
    let Some(kernel) = live() else { return };
    let Some(strings) = compiled() else {
        return;
    };
    let run = |reading| {
        let mut probe = probe(&kernel, "syscalls:sys_enter_openat", reading);
        let status = strings.start("names").wait().expect("it ends");
        assert!(status.success());
        let mut records: Vec<_> = probe.records().collect();
        assert!(probe.losses().expect("losses").is_empty());
        records.extend(probe.unfinished());
        records
    };
    let records = run(StringReading::WhereReadable);
    let names: Vec<String> = records.iter().filter_map(text).collect();
    let names: Vec<&String> = names.iter().filter(|name| name.contains("fault")).collect();
    let expected: Vec<String> = (0..10_000).map(|at| format!("/nofault/{at:05}")).collect();
    let expected: Vec<&String> = expected.iter().chain(&expected).collect();
    assert!(names == expected, "{} names", names.len());
    let of = |wanted| {
        let origins = records.iter().map(|one| one.string_origin("filename"));
        origins.filter(|origin| *origin == Some(wanted)).count()
    };
    let (entry, exit) = (of(StringOrigin::Entry), of(StringOrigin::Exit));
    eprintln!("{entry} names were read at entry, {exit} at exit");
    assert!(exit >= 19_000, "{exit}");
    assert_eq!(of(StringOrigin::Unreadable), 0);

    let records = run(StringReading::AtEntry);
    let unread = records.iter().filter(|one| text(one).is_none()).count();
    eprintln!("{unread} names are lost where they are read at entry only");
    assert!(unread >= 19_000, "{unread}");
}

#[test]
fn a_name_that_changes_is_marked() {
    let Some(kernel) = live() else { return };
    let Some(strings) = compiled() else {
        return;
    };
    let mut probe = probe(&kernel, "syscalls:sys_enter_openat", StringReading::Twice);
    assert!(strings.start("rewrite").wait().expect("it ends").success());
    let records: Vec<_> = probe.records().collect();
    let of_fifo = |one: &&ProbeRecord| text(one).is_some_and(|text| text == fifo(&strings));
    let origins: Vec<_> = records
        .iter()
        .filter(of_fifo)
        .map(|one| one.string_origin("filename").expect("a string"))
        .collect();
    // That of the reader, whose name was changed, comes when its call returns, as does the
    // writer's, who has its own.
    assert_eq!(origins.len(), 2);
    assert!(origins.contains(&StringOrigin::Rewritten));
    assert!(origins.contains(&StringOrigin::Entry));
    let rewritten = records
        .iter()
        .find(|one| one.string_origin("filename") == Some(StringOrigin::Rewritten));
    let line = rewritten.expect("one").to_string();
    assert!(line.ends_with("/fifo\"@rewritten"), "{line}");
    let mut others = records.iter().filter(|one| !of_fifo(one));
    assert!(others.all(|one| one.string_origin("filename") != Some(StringOrigin::Rewritten)));
}

/// After a successful `execve` the address means nothing, and a call that does not return has
/// nothing to read.
#[test]
fn what_cannot_be_read_is_said() {
    let Some(kernel) = live() else { return };
    let Some(strings) = compiled() else {
        return;
    };
    let reading = StringReading::WhereReadable;
    let mut executed = probe(&kernel, "syscalls:sys_enter_execve", reading);
    assert!(strings.start("exec").wait().expect("it ends").success());
    let records: Vec<_> = executed.records().collect();
    let last = records.last().expect("the second execve");
    assert_eq!(
        last.field("filename"),
        Some(FieldValue::Unreadable {
            errno: libc::EFAULT
        })
    );
    assert_eq!(
        last.string_origin("filename"),
        Some(StringOrigin::Unreadable)
    );
    assert!(executed.unfinished().is_empty());
    drop(executed);

    let mut opened = probe(&kernel, "syscalls:sys_enter_openat", reading);
    let mut child = strings.start("block");
    let end = Instant::now() + Duration::from_secs(20);
    let mut unfinished = Vec::new();
    while unfinished.is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(300));
        assert!(opened.records().all(|one| one.task().pid != 0));
        unfinished = opened.unfinished();
        // Others are soon read.
        unfinished.retain(|one| one.task().pid == child.id());
    }
    child.kill().expect("it is killed");
    child.wait().expect("it ends");
    let [waiting] = unfinished.as_slice() else {
        panic!("{unfinished:?}");
    };
    assert_eq!(
        waiting.string_origin("filename"),
        Some(StringOrigin::Unreadable)
    );
}

/// One record has a call's arguments, its result and its duration.
#[test]
fn calls_with_their_returns() {
    let Some(kernel) = live() else { return };
    let Some(strings) = compiled() else {
        return;
    };
    let opened = events(
        &kernel,
        &["syscalls:sys_enter_openat", "syscalls:sys_enter_close"],
    );
    let mut builder = Probe::builder(&opened).process_tree(std::process::id());
    for event in &opened {
        builder = builder.returns_of(event.name());
    }
    let mut probe = builder.ring_size(1 << 24).attach().expect("it is attached");
    let missing = strings.directory.join("missing");
    for _ in 0..100 {
        fs::File::open(&missing).expect_err("it is not there");
        fs::File::open(&strings.directory).expect("it is there");
    }
    let mut child = strings.start("block");
    std::thread::sleep(Duration::from_millis(500));
    let records: Vec<_> = probe.records().collect();
    let unfinished = probe.unfinished();
    child.kill().expect("it is killed");
    child.wait().expect("it ends");
    let own = |one: &&ProbeRecord| one.task().pid == std::process::id();
    let results = |name: &Path| -> Vec<i64> {
        let name = name.to_str().expect("UTF-8");
        let of_name = |one: &&ProbeRecord| {
            one.field("filename").is_some() && text(one).as_deref() == Some(name)
        };
        let records = records.iter().filter(own).filter(of_name);
        let returned = records.map(|one| one.returned().expect("it returned"));
        let took = |returned: &tracepoints::probe::SyscallReturn| {
            assert!(returned.duration > Duration::ZERO);
            assert!(returned.duration < Duration::from_secs(5));
        };
        let returned = returned.inspect(took);
        returned.map(|returned| returned.value).collect()
    };
    assert_eq!(results(&missing), [-i64::from(libc::ENOENT); 100]);
    let there = results(&strings.directory);
    assert!(there.len() == 100 && there.iter().all(|descriptor| *descriptor > 2));
    // Each is closed, with its number as an argument.
    let closed = records.iter().filter(own);
    let closed = closed.filter(|one| one.event().event() == "sys_enter_close");
    let closed = closed.filter(|one| one.returned().is_some_and(|returned| returned.value == 0));
    assert!(closed.count() >= 100);
    let line = records[0].to_string();
    assert!(line.contains(" = "), "{line}");

    let waits = |one: &&ProbeRecord| one.task().pid == child.id();
    let waiting: Vec<_> = unfinished.iter().filter(waits).collect();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].returned(), None);
}

/// Threads end by a call that never returns: its records do not wait for it, and threads that
/// ended do not take the place of others that wait.
#[test]
fn calls_that_never_return() {
    let Some(kernel) = live() else { return };
    // More than can wait at a time; in guests, which are slow, a few.
    let is_guest = std::env::var_os("TRACEPOINTS_CPU_HOTPLUG").is_some();
    let threads = if is_guest { 300 } else { 10_300 };
    let entered = events(
        &kernel,
        &["syscalls:sys_enter_exit", "syscalls:sys_enter_getppid"],
    );
    let mut builder = Probe::builder(&entered).process(std::process::id());
    for event in &entered {
        builder = builder.returns_of(event.name());
    }
    let mut probe = builder.ring_size(1 << 22).attach().expect("it is attached");
    for _ in 0..threads {
        let thread = std::thread::spawn(|| {});
        thread.join().expect("it ends");
    }
    let parent = std::thread::spawn(rustix::process::getppid);
    let parent = parent.join().expect("it ends");
    let records: Vec<_> = probe.records().collect();
    let (ended, asked): (Vec<_>, Vec<_>) = records
        .iter()
        .partition(|record| record.event().event() == "sys_enter_exit");
    // Other tests' threads, too. The last may still be on its way.
    assert!(ended.len() >= threads, "{}", ended.len());
    assert!(ended.iter().all(|record| record.returned().is_none()));
    let parent = i64::from(parent.map_or(0, |pid| pid.as_raw_nonzero().get()));
    let asked = asked.iter().filter_map(|record| record.returned());
    assert!(
        asked
            .map(|returned| returned.value)
            .any(|value| value == parent)
    );
    assert_eq!(probe.losses().expect("losses").full, 0);
    let exits = entered[0].name();
    assert!(
        probe
            .unfinished()
            .iter()
            .all(|record| record.event() != exits)
    );
}

/// A return for which there is no space is counted, and its record is there without.
#[test]
fn lost_returns_are_counted() {
    let Some(kernel) = live() else { return };
    let called = events(&kernel, &["syscalls:sys_enter_getppid"]);
    let mut probe = Probe::builder(&called)
        .process(std::process::id())
        .returns_of(called[0].name())
        .ring_size(4096)
        .attach()
        .expect("it is attached");
    getppid(1000);
    let records: Vec<_> = probe.records().collect();
    let returned = records
        .iter()
        .filter(|one| one.returned().is_some())
        .count();
    let lost = probe.losses().expect("losses").full as usize;
    // Of each call, both records were written, or one of them is lost: 73 of 56 bytes fit.
    let without = records.len() - returned + probe.unfinished().len();
    assert!(without <= 1, "{without}");
    assert_eq!(returned + lost, 1000);
    assert!(returned >= 30, "{returned}");
}
