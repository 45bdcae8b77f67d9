//! Counters of the running kernel that are nearly full: the maps are preset, as events that
//! had happened for centuries would leave them.

use std::fs::File;

use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use rustix::fs::SeekFrom;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::program::BUCKETS;
use super::{Losses, Probe};
use crate::kernel::{Kernel, Tracepoint};

/// Runs this thread on one CPU. Returns another, and the number of CPUs there may be; `None` on
/// a machine with one.
fn on_one_cpu(test: &str) -> Option<(usize, usize)> {
    let mut cpus = CpuSet::new();
    let allowed = sched_getaffinity(None).expect("CPUs");
    let last = (0..CpuSet::MAX_CPU).rfind(|cpu| allowed.is_set(*cpu))?;
    cpus.set(last);
    sched_setaffinity(None, &cpus).expect("a CPU");
    let all = aya::util::nr_cpus().expect("CPUs");
    let other = (0..all).find(|cpu| *cpu != last);
    if other.is_none() {
        eprintln!("SKIPPED {test}: there is one CPU");
    }
    Some((other?, all))
}

/// The same for all CPUs but one.
fn on_cpus<T: aya::Pod>(all: usize, value: T, (cpu, other): (usize, T)) -> PerCpuValues<T> {
    let mut values = vec![value; all];
    values[cpu] = other;
    PerCpuValues::try_from(values).expect("a value for each CPU")
}

fn preset(map: &mut PerCpuArray<MapData, u64>, key: u32, values: PerCpuValues<u64>) {
    map.set(key, values, 0).expect("it is set");
}

fn event(kernel: &Kernel, name: &str) -> Tracepoint {
    kernel.tracepoint(name).expect("an event")
}

fn getppid(times: usize) {
    for _ in 0..times {
        std::hint::black_box(std::os::unix::process::parent_id());
    }
}

/// Seeks to this offset, which may be none.
fn seek(file: &File, offset: u64) {
    let _: Result<u64, _> = rustix::fs::seek(file, SeekFrom::Start(offset));
}

#[test]
fn counts_and_losses_stay_at_the_end() {
    const TEST: &str = "probe::near_wrap::counts_and_losses_stay_at_the_end";
    let Some(kernel) = crate::live_test::kernel(TEST) else {
        return;
    };
    let Some((cpu, all)) = on_one_cpu(TEST) else {
        return;
    };
    let getppids = event(&kernel, "syscalls:sys_enter_getppid");
    let mut counter = Probe::builder([&getppids])
        .process(std::process::id())
        .count()
        .expect("it is attached");
    let key = counter.events[0].1;
    let count = |counter: &super::Counter| counter.counts().expect("counts")[0].1;
    // 32 bits would not do.
    let almost = on_cpus(all, 0, (cpu, u64::from(u32::MAX) - 1));
    preset(&mut counter.attached.counts, key, almost);
    getppid(3);
    assert_eq!(count(&counter), u64::from(u32::MAX) + 2);
    let almost = on_cpus(all, 0, (cpu, u64::MAX - 3));
    preset(&mut counter.attached.counts, key, almost);
    getppid(2);
    assert_eq!(count(&counter), u64::MAX - 1);
    getppid(10);
    assert_eq!(count(&counter), u64::MAX);

    let untracked = counter.attached.untracked;
    let many = on_cpus(all, 1, (cpu, u64::MAX));
    preset(&mut counter.attached.counts, untracked, many);
    let losses = counter.losses().expect("losses");
    let expected = Losses {
        untracked_tasks: u64::MAX,
        ..Losses::default()
    };
    assert_eq!(losses, expected);

    let mut probe = Probe::builder([&getppids])
        .process(std::process::id())
        .attach()
        .expect("it is attached");
    let many = on_cpus(all, u64::MAX / 2, (cpu, u64::MAX));
    preset(&mut probe.attached.counts, 0, many);
    assert_eq!(probe.losses().expect("losses").full, u64::MAX);
}

#[test]
fn groups_and_buckets_stay_at_the_end() {
    const TEST: &str = "probe::near_wrap::groups_and_buckets_stay_at_the_end";
    let Some(kernel) = crate::live_test::kernel(TEST) else {
        return;
    };
    let Some((cpu, all)) = on_one_cpu(TEST) else {
        return;
    };
    let file = File::open("/dev/null").expect("a device");
    let seeks = event(&kernel, "syscalls:sys_enter_lseek");
    let builder = Probe::builder([&seeks]).process(std::process::id());
    let fields = ["fd".to_owned()];
    let mut groups = builder
        .group_by(&fields, Some("offset"))
        .expect("it is attached");
    let far = u64::MAX - 4;
    seek(&file, far);
    let keys: Result<Vec<_>, _> = groups.map.keys().collect();
    let [key] = keys.expect("keys")[..] else {
        panic!("one group");
    };
    // As many on another CPU as can be, all with this offset, whose sum has wrapped very often.
    let times = u64::MAX - 2;
    let value = on_cpus(
        all,
        [0; 4],
        (cpu, [times, times.wrapping_mul(far), far, far]),
    );
    groups.map.insert(key, value, 0).expect("it is set");
    seek(&file, far);
    let group = |groups: &super::Groups| {
        let all = groups.groups().expect("groups");
        let [group] = &all[..] else {
            panic!("{all:?}");
        };
        (group.count, group.summary.expect("a summary"))
    };
    let (count, summary) = group(&groups);
    assert_eq!(count, u64::MAX - 1);
    // Beyond 2¹²⁷: no number that can be told.
    assert_eq!(summary.sum, None);
    let ended = (i128::from(far), i128::from(far));
    assert_eq!((summary.min, summary.max), ended);

    let times = 1_u64 << 40;
    let value = on_cpus(
        all,
        [0; 4],
        (cpu, [times, times.wrapping_mul(far), far, far]),
    );
    groups.map.insert(key, value, 0).expect("it is set");
    seek(&file, far - 1);
    seek(&file, u64::MAX);
    let (count, summary) = group(&groups);
    assert_eq!(count, times + 2);
    let sum = i128::from(far) * i128::from(times) + i128::from(far - 1) + i128::from(u64::MAX);
    assert_eq!(summary.sum, Some(sum));
    drop(groups);

    let mut histogram = builder.histogram("offset").expect("it is attached");
    let value = on_cpus(all, 0, (cpu, u64::MAX - 1));
    preset(&mut histogram.attached.counts, BUCKETS - 1, value);
    seek(&file, far);
    seek(&file, far);
    let buckets = histogram.buckets().expect("buckets");
    let [bucket] = buckets[0].1[..] else {
        panic!("{buckets:?}");
    };
    assert_eq!(bucket.values(), Some(1 << 63..=u64::MAX));
    assert_eq!(bucket.count, u64::MAX);
}
