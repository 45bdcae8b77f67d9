//! CPUs that go and come while probes count and record. Only where the machine is the
//! tests' own: in guests (`tests/vm`).

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{events, getppid};
use crate::support::live::live;
use crate::support::skip;
use tracepoints::probe::{Losses, Probe, ProgramPreference};

/// Set where CPUs may be taken away.
const ALLOWED: &str = "TRACEPOINTS_CPU_HOTPLUG";
const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";

/// Takes the second CPU away, or gives it back.
fn turn(on: bool) {
    let state = if on { "1" } else { "0" };
    fs::write(ONLINE, state).expect("the CPU is turned on or off");
    thread::sleep(Duration::from_millis(50));
}

/// Whatever a CPU does, each call is one event: of tens of thousands of calls in two threads, none is
/// counted twice or lost, by programs attached before and while the CPU was away.
#[test]
fn cpus_that_go_and_come() {
    /// Calls of each thread in each round.
    const CALLS: usize = 5000;
    let Some(kernel) = live() else { return };
    if std::env::var_os(ALLOWED).is_none() || !Path::new(ONLINE).exists() {
        return skip("it takes CPUs away, which a guest of tests/vm allows");
    }
    let calls = events(&kernel, &["syscalls:sys_enter_getppid"]);
    let builder = |program| {
        let builder = Probe::builder(&calls).program(program);
        builder.process(std::process::id())
    };
    let count = |program| builder(program).count().expect("it is attached");
    let before = [ProgramPreference::Cheapest, ProgramPreference::Tp].map(count);
    let by_cpu = builder(ProgramPreference::Tp)
        .group_by(&["task.cpu".to_owned()], None)
        .expect("it is attached");
    let mut probe = builder(ProgramPreference::Tp)
        // Space for all: an emulated reader may be slow.
        .ring_size(1 << 24)
        .attach()
        .expect("it is attached");
    turn(false);
    // These find one CPU.
    let meanwhile = [ProgramPreference::Cheapest, ProgramPreference::Tp].map(count);
    let is_over = AtomicBool::new(false);
    let (made, records) = thread::scope(|scope| {
        let caller = || {
            let mut made = 0;
            while !is_over.load(Ordering::Relaxed) {
                getppid(CALLS);
                made += CALLS;
                thread::sleep(Duration::from_millis(20));
            }
            made
        };
        let callers = [scope.spawn(caller), scope.spawn(caller)];
        let reader = scope.spawn(|| {
            let mut records = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                records.extend(probe.records().map(|record| record.task().cpu));
                thread::sleep(Duration::from_millis(1));
            }
            records
        });
        for on in [true, false, true] {
            thread::sleep(Duration::from_millis(100));
            turn(on);
        }
        thread::sleep(Duration::from_millis(100));
        is_over.store(true, Ordering::Relaxed);
        let made: usize = callers.map(|one| one.join().expect("it ends")).iter().sum();
        (made, reader.join().expect("it ends"))
    });
    let last = probe.records().map(|record| record.task().cpu);
    let records: Vec<u32> = records.into_iter().chain(last).collect();
    for counter in before.iter().chain(&meanwhile) {
        let counts = counter.counts().expect("counts");
        assert_eq!(counts[0].1, made as u64);
        assert_eq!(counter.losses().expect("losses"), Losses::default());
    }
    assert_eq!(probe.losses().expect("losses"), Losses::default());
    assert_eq!(records.len(), made);
    assert_eq!(by_cpu.losses().expect("losses"), Losses::default());
    let groups = by_cpu.groups().expect("groups");
    let by_cpu = groups
        .iter()
        .map(|group| (group.key[0].to_string(), group.count));
    let by_record = [0, 1].map(|cpu| {
        let of_cpu = records.iter().filter(|one| **one == cpu);
        (cpu.to_string(), of_cpu.count() as u64)
    });
    assert_eq!(by_cpu.collect::<Vec<_>>(), by_record);
    assert!(by_record[1].1 > 0, "nothing on the CPU that came back");
    eprintln!("{made} calls, by CPU: {by_record:?}");
}
