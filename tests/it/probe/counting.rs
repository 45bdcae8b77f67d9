//! Lost records, counts and histograms, and filters in the kernel.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::{events, getppid};
use crate::support::live::live;
use tracepoints::probe::{GroupValue, Probe};

#[test]
fn losses_are_counted_exactly() {
    let Some(kernel) = live() else {
        return;
    };
    let events = events(&kernel, &["syscalls:sys_enter_getppid"]);
    let mut probe = Probe::builder(&events)
        .process(std::process::id())
        .ring_size(4096)
        .attach()
        .expect("it is attached");
    getppid(1000);
    assert!(probe.wait(Some(Duration::MAX)).expect("records"));
    let early = probe.records().count();
    getppid(777);
    let late = probe.records().count();
    let losses = probe.losses().expect("losses");
    // A ring buffer of 4096 bytes has space for 85 records of 40 bytes with headers of 8.
    assert!(early > 50 && early < 100, "{early}");
    assert!(late >= early - 1 && late < 100, "{late}");
    assert_eq!(early as u64 + late as u64 + losses.full, 1777);
    assert_eq!(losses.skipped, 0);
}

#[test]
fn counts_and_histograms() {
    let Some(kernel) = live() else {
        return;
    };
    let counted = events(
        &kernel,
        &["syscalls:sys_enter_getppid", "syscalls:sys_enter_mkdirat"],
    );
    let counter = Probe::builder(&counted)
        .process(std::process::id())
        .count()
        .expect("it is attached");
    getppid(12_345);
    let counts: Vec<u64> = counter
        .counts()
        .expect("counts")
        .iter()
        .map(|(_, count)| *count)
        .collect();
    assert_eq!(counts, [12_345, 0]);
    drop(counter);

    let written = events(&kernel, &["syscalls:sys_enter_write"]);
    let mut null = File::options()
        .write(true)
        .open("/dev/null")
        .expect("a device");
    let descriptor = null.as_raw_fd();
    let histogram = Probe::builder(&written)
        .process(std::process::id())
        .filter(format!("fd == {descriptor}").parse().expect("a filter"))
        .histogram("count")
        .expect("it is attached");
    for (size, times) in [(0, 2), (1, 3), (7, 5), (8, 1), (5000, 4)] {
        for _ in 0..times {
            // `write_all` makes no system call for an empty slice; this does.
            rustix::io::write(&mut null, &vec![0; size]).expect("it is written");
        }
    }
    let buckets = histogram.buckets().expect("buckets");
    let buckets: Vec<(u64, u64)> = buckets[0]
        .1
        .iter()
        .filter(|bucket| bucket.count > 0)
        .map(|bucket| (*bucket.values().expect("no negative").start(), bucket.count))
        .collect();
    assert_eq!(buckets, [(0, 2), (1, 3), (4, 5), (8, 1), (4096, 4)]);
}

#[test]
fn what_a_filter_leaves() {
    let Some(kernel) = live() else {
        return;
    };
    let opened = events(&kernel, &["syscalls:sys_enter_openat"]);
    let opened = |filter: &str| {
        let mut probe = Probe::builder(&opened)
            .process(std::process::id())
            .filter(filter.parse().expect(filter))
            .fields(["filename", "flags"])
            .attach()
            .expect("it is attached");
        for path in ["/proc/self/maps", "/proc/self/map", "/proc/self/mapss", "/"] {
            let _ = File::open(path);
        }
        let records = probe
            .records()
            .map(|record| record.field("filename").expect("a field").to_string());
        records.collect::<Vec<_>>()
    };
    assert_eq!(
        opened("filename == \"/proc/self/maps\""),
        ["\"/proc/self/maps\""]
    );
    assert_eq!(
        opened("filename == \"/proc/self/map\""),
        ["\"/proc/self/map\""]
    );
    assert_eq!(opened("flags & 0x80000 && dfd == -100").len(), 4);
    assert_eq!(opened("flags & 1 || dfd >= 0").len(), 0);
    assert_eq!(opened("comm == \"nobody\"").len(), 0);
    assert_eq!(
        opened("!(filename == \"/\") && filename != \"/proc/self/mapss\""),
        ["\"/proc/self/maps\"", "\"/proc/self/map\""]
    );
}

#[test]
fn groups_are_counted_exactly() {
    let Some(kernel) = live() else {
        return;
    };
    let written = events(&kernel, &["syscalls:sys_enter_write"]);
    let null = File::options()
        .write(true)
        .open("/dev/null")
        .expect("a device");
    let descriptor = null.as_raw_fd();
    let groups = Probe::builder(&written)
        .process(std::process::id())
        .filter(format!("fd == {descriptor}").parse().expect("a filter"))
        .group_by(&["comm", "fd"], Some("count"))
        .expect("it is attached");
    // Of two threads, which may run on two CPUs.
    std::thread::scope(|scope| {
        for sizes in [[1_usize, 7], [100, 3]] {
            let null = &null;
            let named = std::thread::Builder::new().name("writer".to_owned());
            let thread = named.spawn_scoped(scope, move || {
                for size in sizes {
                    rustix::io::write(null, &vec![0; size]).expect("it is written");
                }
            });
            thread.expect("a thread");
        }
    });
    let groups = groups.groups().expect("groups");
    let [group] = groups.as_slice() else {
        panic!("{groups:?}");
    };
    let text = group.key[0].to_string();
    assert_eq!(
        (text.as_str(), &group.key[1]),
        ("writer", &GroupValue::Unsigned(descriptor as u64))
    );
    let summary = group.summary.expect("one");
    assert_eq!(
        (group.count, summary.sum, summary.min, summary.max),
        (4, Some(111), 1, 100)
    );
}
