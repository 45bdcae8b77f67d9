//! Attaching and detaching.

use std::fs;
use std::time::{Duration, Instant};

use super::events;
use crate::support;
use crate::support::live::live;
use tracepoints::Tracepoint;
use tracepoints::probe::{Probe, ProbeError};

#[test]
fn every_event_can_be_attached_to() {
    if std::env::var_os("TRACEPOINTS_ALL_EVENTS").is_none() {
        return support::skip("it takes a minute or two: set TRACEPOINTS_ALL_EVENTS=1 to run it");
    }
    let Some(kernel) = live() else { return };
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let limit = rustix::process::Rlimit {
        current: limit.maximum,
        ..limit
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("files");
    // Each event takes three files.
    let at_once = limit.maximum.map_or(4096, |files| files as usize / 4);
    let names = kernel.events().expect("events");
    let events: Vec<Tracepoint> = names
        .names()
        .iter()
        .map(|name| kernel.tracepoint(name).expect("an event"))
        .collect();
    let begin = Instant::now();
    // A filter that matches nothing.
    let nothing = || "tid == 4294967295".parse().expect("a filter");
    let mut attaching = Duration::ZERO;
    for some in events.chunks(at_once) {
        let begin = Instant::now();
        let probe = Probe::builder(some).filter(nothing()).attach();
        attaching += begin.elapsed();
        drop(probe.expect("it is attached"));
    }
    eprintln!(
        "{} events attached to in {attaching:?}; no program ran any more after {:?}",
        events.len(),
        begin.elapsed()
    );
}

#[test]
fn nothing_is_left_behind() {
    let Some(kernel) = live() else {
        return;
    };
    let events = events(
        &kernel,
        &["sched:sched_process_fork", "syscalls:sys_enter_getppid"],
    );
    let files = || {
        let links = fs::read_dir("/proc/self/fd")
            .expect("a directory")
            .flatten();
        let links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
        links
            .filter(|link| link.to_string_lossy().contains("bpf"))
            .count()
    };
    assert_eq!(files(), 0);
    let probe = Probe::builder(&events)
        .process_tree(std::process::id())
        .attach()
        .expect("it is attached");
    assert!(files() >= 4);
    drop(probe);
    assert_eq!(files(), 0);
    // Neither does an error half-way leave anything behind.
    let filter = "child_pid == 1".parse().expect("a filter");
    let error = Probe::builder(&events)
        .filter(filter)
        .attach()
        .expect_err("no field");
    assert!(matches!(error, ProbeError::Filter { .. }), "{error}");
    assert_eq!(files(), 0);
}
