//! The cheapest programs, against those that get records.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{events, getppid};
use crate::support::live::live;
use tracepoints::kernel::ProgramForm;
use tracepoints::probe::{
    Counter, GroupValue, Groups, PlanReason, PlannedProgram, Probe, ProbeError, ProgramPreference,
};
use tracepoints::text::KernelVersion;
use tracepoints::{Kernel, Tracepoint};

fn system_calls(kernel: &Kernel) -> Vec<Tracepoint> {
    let all = kernel.events().expect("events");
    let calls = all.names().iter();
    let calls = calls.filter(|name| name.category() == "syscalls");
    let calls = calls.map(|name| kernel.tracepoint(name).expect("an event"));
    calls.collect()
}

fn counts(counter: &Counter) -> BTreeMap<String, u64> {
    let counts = counter.counts().expect("counts").into_iter();
    let counts = counts.map(|(event, count)| (event.to_string(), count));
    counts.collect()
}

/// Whether this kernel tells the numbers of system calls.
fn knows_numbers(kernel: &Kernel) -> bool {
    let version = kernel.version().expect("a version");
    version >= Some(KernelVersion::new(5, 14, 0))
        && cfg!(any(target_arch = "x86_64", target_arch = "aarch64"))
}

/// The programs of both types see the same hits.
#[test]
fn both_programs_count_the_same() {
    let Some(kernel) = live() else {
        return;
    };
    let calls = system_calls(&kernel);
    let others = events(
        &kernel,
        &[
            "sched:sched_process_fork",
            "sched:sched_process_exec",
            "sched:sched_process_exit",
            "signal:signal_generate",
            "task:task_rename",
            "raw_syscalls:sys_enter",
        ],
    );
    let provoked = [
        "syscalls:sys_enter_getppid",
        "syscalls:sys_exit_getppid",
        "syscalls:sys_enter_kill",
        "syscalls:sys_enter_execve",
        "syscalls:sys_exit_execve",
        "syscalls:sys_exit_openat",
        "syscalls:sys_exit_wait4",
    ];
    let provoked = events(&kernel, &provoked);
    let builder = |events: &[Tracepoint], program| {
        let builder = Probe::builder(events).program(program);
        let builder = builder.process_tree(std::process::id());
        builder.filter("task.comm != \"nobody\"".parse().expect("a filter"))
    };
    let cheap = builder(&calls, ProgramPreference::Cheapest).count();
    let cheap = cheap.expect("it is attached");
    let cheap_others = builder(&others, ProgramPreference::Cheapest).count();
    let cheap_others = cheap_others.expect("it is attached");
    let tp = builder(&provoked, ProgramPreference::Tp).count();
    let tp = tp.expect("it is attached");
    let tp_others = builder(&others, ProgramPreference::Tp).count();
    let tp_others = tp_others.expect("it is attached");
    if knows_numbers(&kernel) {
        assert_eq!(cheap.plan().len(), 2);
        let served: usize = cheap.plan().iter().map(|one| one.events.len()).sum();
        assert_eq!(served, calls.len());
    }
    let raw = |one: &PlannedProgram| one.form != ProgramForm::Tp;
    assert!(cheap_others.plan().iter().all(raw));
    assert!(!tp.plan().iter().any(raw) && !tp_others.plan().iter().any(raw));

    // Attaching made system calls.
    let counters = [&cheap, &tp, &cheap_others, &tp_others];
    let before = counters.map(counts);
    getppid(12_345);
    for _ in 0..20 {
        let status = std::process::Command::new("true").status();
        assert!(status.expect("it runs").success());
    }
    let mut after = counters.map(counts);
    for (after, before) in after.iter_mut().zip(&before) {
        // Reading counts makes system calls, too.
        after.remove("raw_syscalls:sys_enter");
        for (event, count) in after {
            *count -= before[event];
        }
    }
    let [cheap_counts, tp_counts, cheap_others, tp_others] = after;
    for (event, count) in &tp_counts {
        assert_eq!(cheap_counts[event], *count, "{event}");
    }
    assert_eq!(cheap_counts["syscalls:sys_enter_getppid"], 12_345);
    assert_eq!(cheap_counts["syscalls:sys_exit_getppid"], 12_345);
    assert!(cheap_counts["syscalls:sys_enter_execve"] >= 20);
    assert_eq!(cheap_others, tp_others);
    assert!(cheap_others["sched:sched_process_exec"] >= 20);
    for counter in counters {
        assert!(counter.losses().expect("losses").is_empty());
    }
}

/// Hits of each event, by command: of processes that have ended, so that attaching and reading,
/// which this one does, do not count.
type ByCommand = BTreeMap<(String, String), u64>;

fn is_compared(some: &[Tracepoint], event: &str, comm: &str) -> bool {
    let is_some = some.iter().any(|one| one.name().as_str() == event);
    is_some && (comm == "true" || event.ends_with("getppid"))
}

fn by_command(groups: &Groups, some: &[Tracepoint]) -> ByCommand {
    let mut counts = ByCommand::new();
    for group in groups.groups().expect("groups") {
        let GroupValue::Text { text: comm, .. } = &group.key[0] else {
            panic!("{group:?}");
        };
        assert!(matches!(group.key[1], GroupValue::Unsigned(pid) if pid > 1));
        if is_compared(some, group.event.as_str(), comm) {
            let key = (group.event.to_string(), comm.clone());
            *counts.entry(key).or_default() += group.count;
        }
    }
    assert!(groups.losses().expect("losses").is_empty());
    counts
}

fn records_by_command(probe: &mut Probe, some: &[Tracepoint]) -> ByCommand {
    let mut counts = ByCommand::new();
    for record in probe.records() {
        assert_eq!(record.fields().count(), 0);
        let (event, comm) = (record.event().to_string(), record.comm().into_owned());
        if is_compared(some, &event, &comm) {
            *counts.entry((event, comm)).or_default() += 1;
        }
    }
    assert!(probe.losses().expect("losses").is_empty());
    counts
}

/// Keys of the task, and records of it alone, are the same by one program for all system calls
/// and by one for each.
#[test]
fn both_programs_tell_calls_apart_by_task() {
    const CALLS: usize = 4_321;
    let Some(kernel) = live() else {
        return;
    };
    let calls = system_calls(&kernel);
    let some = [
        "syscalls:sys_enter_getppid",
        "syscalls:sys_exit_getppid",
        "syscalls:sys_exit_openat",
        "syscalls:sys_enter_execve",
        "syscalls:sys_exit_execve",
        "syscalls:sys_enter_wait4",
    ];
    let some = events(&kernel, &some);
    let builder = |events: &[Tracepoint], program| {
        let builder = Probe::builder(events).program(program).fields(["comm"]);
        let builder = builder.process_tree(std::process::id()).ring_size(1 << 22);
        builder.filter(
            "task.comm != \"nobody\" && task.tid > 1"
                .parse()
                .expect("a filter"),
        )
    };
    let ways = [
        builder(&calls, ProgramPreference::Cheapest),
        builder(&some, ProgramPreference::Tp),
    ];
    // Some calls have a field `pid`.
    let words = ["comm", "task.pid"];
    let groups = ways.each_ref().map(|builder| {
        let groups = builder.group_by(&words, None);
        groups.expect("it is attached")
    });
    let mut records = ways
        .each_ref()
        .map(|builder| builder.attach().expect("it is attached"));
    if knows_numbers(&kernel) {
        for plan in [groups[0].plan(), records[0].plan()] {
            assert_eq!(plan.len(), 2);
            let served: usize = plan.iter().map(|one| one.events.len()).sum();
            assert_eq!(served, calls.len());
            let has_reason = |one: &PlannedProgram| one.reason == PlanReason::AllSystemCalls;
            assert!(plan.iter().all(has_reason));
        }
    }
    assert!(
        groups[1]
            .plan()
            .iter()
            .all(|one| one.form == ProgramForm::Tp)
    );

    getppid(CALLS);
    for _ in 0..20 {
        let status = std::process::Command::new("true").status();
        assert!(status.expect("it runs").success());
    }

    let grouped = groups.each_ref().map(|groups| by_command(groups, &some));
    let recorded = records
        .each_mut()
        .map(|probe| records_by_command(probe, &some));
    let [cheap, tp] = &grouped;
    assert_eq!(cheap, tp);
    assert_eq!(recorded[0], recorded[1]);
    assert_eq!(cheap, &recorded[0]);
    let mut getppid = cheap
        .iter()
        .filter(|((event, _), _)| event.ends_with("getppid"));
    assert!(getppid.clone().count() == 2 && getppid.all(|(_, count)| *count == CALLS as u64));
    assert_eq!(
        cheap[&("syscalls:sys_exit_execve".to_owned(), "true".to_owned())],
        20
    );
}

/// An event that is there twice, and calls whose results are wanted, have programs of their own.
#[test]
fn some_calls_keep_their_own_programs() {
    let Some(kernel) = live() else {
        return;
    };
    if !knows_numbers(&kernel) {
        return crate::support::skip("this kernel does not tell the numbers of system calls");
    }
    let mut calls = system_calls(&kernel);
    let enter = |call: &Tracepoint| call.name().event().starts_with("sys_enter_");
    calls.retain(enter);
    calls.truncate(20);
    calls.push(calls[0].clone());
    let builder = Probe::builder(&calls).fields(["comm"]);
    let builder = builder.process(std::process::id());
    let records = builder.clone().returns_of(calls[1].name()).attach();
    let plan = records.expect("it is attached").plan().to_vec();
    let own = |plan: &[PlannedProgram]| {
        let own = plan
            .iter()
            .filter(|one| one.reason == PlanReason::SystemCall);
        own.flat_map(|one| one.events.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        own(&plan),
        [calls[1].name().clone(), calls[0].name().clone()]
    );
    let served = plan
        .iter()
        .find(|one| one.reason == PlanReason::AllSystemCalls);
    assert_eq!(served.map(|one| one.events.len()), Some(19));
    let groups = builder.group_by(&["comm"], None).expect("it is attached");
    assert_eq!(own(groups.plan()), [calls[0].name().clone()]);
    let error = builder.program(ProgramPreference::RawTp).attach();
    assert!(matches!(
        error.expect_err("one is there twice"),
        ProbeError::NeedsTp {
            reason: PlanReason::SystemCall,
            ..
        }
    ));
}

/// No program runs after a probe is dropped, and its perf events are the kernel's to close.
#[test]
fn many_events_are_left_to_the_kernel() {
    let Some(kernel) = live() else {
        return;
    };
    let some = &system_calls(&kernel)[..40];
    let detaching = || {
        let counter = Probe::builder(some)
            .program(ProgramPreference::Tp)
            .count()
            .expect("it is attached");
        assert_eq!(counter.plan().len(), 40);
        let begin = Instant::now();
        drop(counter);
        let took = begin.elapsed();
        eprintln!("40 perf events left to the kernel in {took:?}");
        took
    };
    // One after another, they take the kernel 1.6 s, however little there is to do beside it; a
    // busy machine may take as long at times. Before 5.15 there are no links, and they have to be
    // waited for.
    let mut times = (0..10).map(|_| detaching());
    let is_short = times.any(|took| took < Duration::from_secs(1));
    let version = kernel.version().expect("a version");
    assert!(is_short || version < Some(KernelVersion::new(6, 2, 0)));
}

#[test]
fn the_choice_can_be_made() {
    let Some(kernel) = live() else {
        return;
    };
    let switch = events(&kernel, &["sched:sched_switch"]);
    let chosen = |builder: tracepoints::probe::ProbeBuilder| {
        let counter = builder.count().expect("it is attached");
        let planned = counter.plan()[0].clone();
        (planned.section, planned.reason)
    };
    let builder = Probe::builder(&switch);
    let filtered = |filter: &str| builder.clone().filter(filter.parse().expect(filter));
    for (builder, section, reason) in [
        (
            builder.clone(),
            "raw_tp/sched_switch",
            PlanReason::NoFieldNeeded,
        ),
        (
            filtered("comm == \"x\" && task.pid > 1"),
            "raw_tp/sched_switch",
            PlanReason::NoFieldNeeded,
        ),
        (
            filtered("prev_pid > 1"),
            "tp/sched/sched_switch",
            PlanReason::FieldsNeeded,
        ),
        (
            builder.clone().program(ProgramPreference::Tp),
            "tp/sched/sched_switch",
            PlanReason::Asked,
        ),
    ] {
        assert_eq!(chosen(builder), (section.to_owned(), reason));
    }
    let needs_fields = filtered("prev_pid > 1").program(ProgramPreference::RawTp);
    let error = needs_fields.count().expect_err("fields are needed");
    assert_eq!(
        error.to_string(),
        "no raw_tp program can serve sched:sched_switch here: fields of its record are needed; \
         tp can"
    );
    assert!(matches!(error, ProbeError::NeedsTp { .. }));

    // Records, and groups, without fields of the event.
    let groups = builder.group_by(&["comm", "cpu"], None);
    let groups = groups.expect("it is attached");
    assert_eq!(groups.plan()[0].section, "raw_tp/sched_switch");
    let mut records = builder
        .fields(["pid", "comm"])
        .attach()
        .expect("it is attached");
    assert_eq!(records.plan()[0].section, "raw_tp/sched_switch");
    records.wait(Some(Duration::from_secs(5))).expect("records");
    let record = records.records().next().expect("a record");
    assert_eq!(record.event().as_str(), "sched:sched_switch");
    assert_eq!(record.fields().count(), 0);
}

/// A 64-bit program can make system calls of 32-bit programs. Number 20 is `getpid` of theirs,
/// and of its own `writev`, which has an event.
#[cfg(target_arch = "x86_64")]
#[test]
fn calls_of_32_bit_programs_are_not_counted() {
    const SOURCE: &str = "
        int main(void)
        {
            for (int i = 0; i < 100; i++) {
                long result;
                __asm__ volatile(\"int $0x80\" : \"=a\"(result) : \"a\"(20L) : \"memory\");
                if (result <= 0)
                    return 1;
            }
            return 0;
        }";
    let Some(kernel) = live() else {
        return;
    };
    // Asking for it is a system call that is counted.
    let pid = std::process::id();
    let directory = tempfile::tempdir().expect("a directory");
    let [source, program] = ["int80.c", "int80"].map(|name| directory.path().join(name));
    std::fs::write(&source, SOURCE).expect("it is written");
    let compiled = std::process::Command::new("cc")
        .args([source.as_os_str(), "-o".as_ref(), program.as_os_str()])
        .status();
    if !compiled.is_ok_and(|status| status.success()) {
        return crate::support::skip("no C compiler");
    }
    let calls = system_calls(&kernel);
    let builder = Probe::builder(&calls).process_tree(pid);
    let cheap = builder.count().expect("it is attached");
    let all = Probe::builder(&events(&kernel, &["raw_syscalls:sys_enter"]))
        .process_tree(pid)
        .filter("id == 20".parse().expect("a filter"))
        .count()
        .expect("it is attached");
    let some = [
        "syscalls:sys_enter_writev",
        "syscalls:sys_exit_writev",
        "syscalls:sys_enter_getpid",
    ];
    let tp = Probe::builder(&events(&kernel, &some))
        .program(ProgramPreference::Tp)
        .process_tree(pid)
        .count()
        .expect("it is attached");
    let status = std::process::Command::new(&program).status();
    if !status.expect("it runs").success() {
        return crate::support::skip("this kernel runs no 32-bit system calls");
    }
    assert_eq!(counts(&all)["raw_syscalls:sys_enter"], 100);
    let (cheap, tp) = (counts(&cheap), counts(&tp));
    for event in &some[..2] {
        assert_eq!((cheap[*event], tp[*event]), (0, 0), "{event}");
    }
    assert_eq!(cheap[some[2]], tp[some[2]]);
}
