//! Two kernels held against each other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use tracepoints::diff::{EventChange, EventDiff, FromTo, KernelDiff, NameChange, UserVerdict};
use tracepoints::emit::{Elsewhere, History};
use tracepoints::layout::{Difference, DifferenceKind};
use tracepoints::{EventName, Kernel};

use crate::support::capture::Capture;
use crate::support::{corpus, fixture, fixtures, name, skip};

fn between(from: &str, to: &str) -> KernelDiff {
    let [from, to] = [from, to].map(|name| Kernel::at(fixture(name)).expect("a kernel"));
    KernelDiff::between(&from, &to).expect("a difference")
}

fn verdicts(diff: &EventDiff) -> [UserVerdict; 4] {
    let users = diff.users().expect("users");
    let raw = users.raw_tp.as_ref().map(|judged| judged.verdict);
    [
        users.core.verdict,
        users.fixed_offsets.verdict,
        users.format_parsers.verdict,
        raw.unwrap_or(UserVerdict::Unknown),
    ]
}

#[test]
fn a_kernel_is_the_same_as_itself() {
    for root in fixtures().iter().chain(&corpus()) {
        let kernel = Kernel::at(root).expect("a kernel");
        let diff = KernelDiff::between(&kernel, &kernel.clone()).expect("no difference");
        assert!(diff.is_empty(), "{}: {:?}", root.display(), diff.events());
    }
}

/// The same difference, seen from the other kernel.
fn mirrored(differences: &[Difference]) -> BTreeSet<String> {
    let mirrored = differences.iter().map(|difference| {
        let kind = match difference.kind.clone() {
            DifferenceKind::Moved { from, to } => DifferenceKind::Moved { from: to, to: from },
            DifferenceKind::Resized { from, to } => DifferenceKind::Resized { from: to, to: from },
            DifferenceKind::Retyped { from, to } => DifferenceKind::Retyped { from: to, to: from },
            DifferenceKind::OnlyHere => DifferenceKind::OnlyThere,
            DifferenceKind::OnlyThere => DifferenceKind::OnlyHere,
            other => other,
        };
        format!("{} {kind:?}", difference.slot)
    });
    mirrored.collect()
}

fn as_they_are(differences: &[Difference]) -> BTreeSet<String> {
    let all = differences.iter();
    all.map(|difference| format!("{} {:?}", difference.slot, difference.kind))
        .collect()
}

fn turned<T: Clone>(change: Option<&FromTo<T>>) -> Option<[T; 2]> {
    change.map(|change| [change.to.clone(), change.from.clone()])
}

fn straight<T: Clone>(change: Option<&FromTo<T>>) -> Option<[T; 2]> {
    change.map(|change| [change.from.clone(), change.to.clone()])
}

/// What one order of two kernels says, the other says the other way round.
fn check_mirror(from: &Kernel, to: &Kernel) {
    let there = KernelDiff::between(from, to).expect("a difference");
    let back = KernelDiff::between(to, from).expect("a difference");
    assert_eq!(as_they_are(there.common()), mirrored(back.common()));
    assert_eq!(there.events().len(), back.events().len());
    for (one, other) in there.events().iter().zip(back.events()) {
        let event = one.event();
        assert_eq!(event, other.event());
        let change = match other.change() {
            EventChange::Gone => EventChange::New,
            EventChange::New => EventChange::Gone,
            EventChange::Changed => EventChange::Changed,
        };
        assert_eq!(one.change(), change, "{event}");
        assert_eq!(
            as_they_are(one.fields()),
            mirrored(other.fields()),
            "{event}"
        );
        assert_eq!(
            as_they_are(one.members()),
            mirrored(other.members()),
            "{event}"
        );
        assert_eq!(
            straight(one.struct_name()),
            turned(other.struct_name()),
            "{event}"
        );
        assert_eq!(
            straight(one.arguments()),
            turned(other.arguments()),
            "{event}"
        );
        let names: BTreeSet<_> = one.names().iter().map(key).collect();
        let turned = other.names().iter().map(key);
        let turned: BTreeSet<_> = turned.map(|(a, b, from, to)| (a, b, to, from)).collect();
        assert_eq!(names, turned, "{event}");
        assert_eq!(one.users().is_none(), one.change() == EventChange::New);
    }
    assert_eq!(there.tracepoints().len(), back.tracepoints().len());
}

fn check_mirrors(roots: &[PathBuf]) {
    let kernels: Vec<Kernel> = roots
        .iter()
        .map(|root| Kernel::at(root).expect("a kernel"))
        .collect();
    for (index, from) in kernels.iter().enumerate() {
        for to in &kernels[index + 1..] {
            check_mirror(from, to);
        }
    }
}

#[test]
fn the_other_way_round_is_the_mirror() {
    check_mirrors(&fixtures());
}

#[test]
fn the_other_way_round_is_the_mirror_of_whole_kernels() {
    check_mirrors(&corpus());
}

/// A change to an event's format file.
#[derive(Clone, Debug)]
enum FormatChange {
    /// One of its lines of fields goes.
    Line(Index),
    /// Two neighbours change their names.
    Names(Index),
    /// A field has twice the size.
    Size(Index),
    /// The event goes.
    Event,
}

fn format_change() -> impl Strategy<Value = FormatChange> {
    prop_oneof![
        any::<Index>().prop_map(FormatChange::Line),
        any::<Index>().prop_map(FormatChange::Names),
        any::<Index>().prop_map(FormatChange::Size),
        Just(FormatChange::Event),
    ]
}

/// Changes an event of a captured kernel, in a way that need not make sense.
fn change(root: &Path, event: &EventName, change: &FormatChange) {
    let dir = root.join("tracing/events");
    let dir = dir.join(event.category()).join(event.event());
    let path = dir.join("format");
    let Ok(text) = fs::read_to_string(&path) else {
        return;
    };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let own = lines.iter().rposition(|line| line.is_empty()).unwrap_or(0);
    let is_field = |at: &usize| lines[*at].starts_with("\tfield:");
    let fields: Vec<usize> = (0..own).filter(is_field).skip(4).collect();
    if fields.is_empty() && !matches!(change, FormatChange::Event) {
        return;
    }
    match change {
        FormatChange::Line(index) => {
            lines.remove(*index.get(&fields));
        }
        FormatChange::Names(index) => {
            let at = *index.get(&fields);
            let next = fields
                .iter()
                .find(|next| **next > at)
                .copied()
                .unwrap_or(at);
            let name = |line: &str| {
                let declaration = line.split(';').next().unwrap_or_default();
                declaration
                    .rsplit(' ')
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            };
            let (one, other) = (name(&lines[at]), name(&lines[next]));
            lines[at] = lines[at].replacen(&format!("{one};"), &format!("{other};"), 1);
            lines[next] = lines[next].replacen(&format!("{other};"), &format!("{one};"), 1);
        }
        FormatChange::Size(index) => {
            let line = &mut lines[*index.get(&fields)];
            *line = line.replace("size:4;", "size:8;");
        }
        FormatChange::Event => {
            fs::remove_dir_all(dir).expect("a directory");
            let list = root.join("tracing/available_events");
            let text = fs::read_to_string(&list).expect("a list");
            let left = text.lines().filter(|line| *line != event.as_str());
            let left: String = left.map(|line| format!("{line}\n")).collect();
            return fs::write(list, left).expect("a file");
        }
    }
    fs::write(path, lines.join("\n") + "\n").expect("a file");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 8,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// So do kernels whose files were changed at random, also where they are not sound then.
    #[test]
    fn the_other_way_round_is_the_mirror_of_changed_kernels(
        changes in prop::collection::vec((any::<Index>(), format_change()), 1..12),
        root in prop::sample::select(vec!["6.1.192-rt-x86_64", "6.12.107-s390x", "7.3.4-x86_64"]),
    ) {
        let capture = Capture::copy_of(&fixture(root));
        let kernel = Kernel::at(fixture(root)).expect("a kernel");
        let events = kernel.events().expect("events");
        for (event, made) in &changes {
            change(capture.root(), event.get(events.names()), made);
        }
        let changed = Kernel::at(capture.root()).expect("a kernel");
        check_mirror(&kernel, &changed);
    }
}

fn key(change: &NameChange) -> (&str, &str, Option<u64>, Option<u64>) {
    (&change.field, &change.name, change.from, change.to)
}

/// 6.1 has a class for exit, fork and free; 6.18 has a struct of exit's own, and the class
/// still, with other offsets.
#[test]
fn an_event_that_left_its_class() {
    let diff = between("6.1.192-rt-x86_64", "6.18.15-x86_64");
    let exit = diff.event("sched:sched_process_exit").expect("it changed");
    let names = exit.struct_name().expect("another struct");
    assert_eq!(
        names.from.as_deref(),
        Some("trace_event_raw_sched_process_template")
    );
    assert_eq!(
        names.to.as_deref(),
        Some("trace_event_raw_sched_process_exit")
    );
    assert!(exit.fields().iter().any(|one| one.slot == "group_dead"));
    assert_eq!(exit.arguments().expect("one more").to.len(), 2);
    let [core, offsets, parsers, raw] = verdicts(exit);
    assert_eq!([core, offsets], [UserVerdict::WrongValue; 2]);
    assert_eq!([parsers, raw], [UserVerdict::Safe; 2]);
    let reason = exit.users().and_then(|users| users.core.reason.clone());
    assert!(reason.is_some_and(|reason| reason.contains("other bytes as pid, prio")));

    // The other way, there is no struct of its own, and one argument less.
    let back = between("6.18.15-x86_64", "6.1.192-rt-x86_64");
    let exit = back.event("sched:sched_process_exit").expect("it changed");
    let [core, _, parsers, raw] = verdicts(exit);
    assert_eq!([core, parsers, raw], [UserVerdict::Refused; 3]);
}

/// A name that became dynamic makes the record smaller.
#[test]
fn a_record_that_became_smaller() {
    let diff = between("6.1.192-rt-x86_64", "6.18.15-x86_64");
    let free = diff.event("sched:sched_process_free").expect("it changed");
    assert_eq!(free.struct_name(), None);
    let [core, offsets, parsers, raw] = verdicts(free);
    assert_eq!([core, offsets], [UserVerdict::Refused; 2]);
    assert_eq!([parsers, raw], [UserVerdict::Safe; 2]);
}

#[test]
fn the_shift_of_real_time_kernels() {
    let diff = between("6.1.192-rt-x86_64", "6.18.15-x86_64");
    assert!(!diff.common().is_empty());
    let mut calls = 0;
    for event in diff.events() {
        if !event.event().as_str().starts_with("syscalls:sys_enter_") || event.users().is_none() {
            continue;
        }
        if event.change() != EventChange::Changed {
            continue;
        }
        let names = event.struct_name().expect("another struct");
        assert_eq!(names.from.as_deref(), Some("syscall_trace_enter"));
        assert_eq!(names.to.as_deref(), Some("trace_event_raw_sys_enter"));
        // The arguments are where they were, the number is not.
        let [core, offsets, parsers, _] = verdicts(event);
        assert_eq!([core, parsers], [UserVerdict::Safe; 2]);
        // A call without arguments ends before the place where the number was.
        assert!(offsets >= UserVerdict::Refused, "{}", event.event());
        calls += 1;
    }
    assert!(calls > 1);
    let openat = diff.event("syscalls:sys_enter_openat").expect("it changed");
    assert_eq!(verdicts(openat)[1], UserVerdict::WrongValue);
}

/// 7.3 records what pointers of system calls lead to, in fields of its own.
#[test]
fn fields_that_were_added() {
    let diff = between("6.18.15-x86_64", "7.3.4-x86_64");
    let openat = diff.event("syscalls:sys_enter_openat").expect("it changed");
    let added = openat
        .fields()
        .iter()
        .find(|one| one.slot.ends_with("_val"));
    assert_eq!(added.expect("a field").kind, DifferenceKind::OnlyThere);
    let [core, offsets, parsers, _] = verdicts(openat);
    assert_eq!([core, offsets, parsers], [UserVerdict::Safe; 3]);
}

#[test]
fn the_class_of_block_rq_complete() {
    let diff = between("5.10.223-x86_64", "6.1.192-rt-x86_64");
    let Some(complete) = diff.event("block:block_rq_complete") else {
        return skip("no block:block_rq_complete in the fixtures");
    };
    let names = complete.struct_name().expect("another struct");
    assert_eq!(
        names.from.as_deref(),
        Some("trace_event_raw_block_rq_complete")
    );
    assert_eq!(
        names.to.as_deref(),
        Some("trace_event_raw_block_rq_completion")
    );
    assert_eq!(verdicts(complete)[0], UserVerdict::Refused);
}

/// On whole kernels, what the table of history says does not load or reads other bytes has such
/// a verdict.
#[test]
fn verdicts_agree_with_the_history() {
    let roots = corpus();
    let root = |wanted: &str| roots.iter().find(|root| name(root) == wanted);
    let (Some(old), Some(new)) = (root("6.1.192-rt-x86_64"), root("6.18.15-x86_64")) else {
        return skip("TRACEPOINTS_CORPUS has not both kernels");
    };
    let [from, to] = [old, new].map(|root| Kernel::at(root).expect("a kernel"));
    let diff = KernelDiff::between(&from, &to).expect("a difference");
    let mut agreed = 0;
    for event in diff.events() {
        let (EventChange::Changed, Some(users)) = (event.change(), event.users()) else {
            continue;
        };
        let tracepoint = from.tracepoint(event.event()).expect("an event");
        let portability = History::known().portability(&tracepoint);
        let remarks = portability.expect("a table");
        let remarks = remarks
            .remarks()
            .iter()
            .filter(|remark| remark.kernels().contains(&"6.18.15-x86_64"));
        for remark in remarks {
            // A line of the table may be of kernels of which only some have the old struct:
            // on the others the program does not load.
            let is_fault = matches!(
                remark.elsewhere(),
                Elsewhere::Misread { .. }
                    | Elsewhere::LacksMembers { .. }
                    | Elsewhere::LacksStruct { .. }
            );
            if !is_fault {
                continue;
            }
            let verdict = users.core.verdict;
            assert!(
                verdict >= UserVerdict::Refused,
                "{}: {remark}",
                event.event()
            );
            agreed += 1;
        }
    }
    println!("{agreed} remarks of the table are verdicts");
    assert!(agreed > 10);
}

/// On whole kernels: what is known to have changed did, and little else is not safe.
#[test]
fn whole_kernels() {
    let roots = corpus();
    if roots.is_empty() {
        return skip("TRACEPOINTS_CORPUS names no directory of whole captured kernels");
    }
    let kernel = |wanted: &str| {
        let root = roots.iter().find(|root| name(root) == wanted);
        root.map(|root| Kernel::at(root).expect("a kernel"))
    };
    for (from, to, event, core) in [
        (
            "6.1.192-rt-x86_64",
            "6.18.15-x86_64",
            "sched:sched_process_exit",
            UserVerdict::WrongValue,
        ),
        (
            "6.1.192-rt-x86_64",
            "6.18.15-x86_64",
            "sched:sched_process_free",
            UserVerdict::Refused,
        ),
        (
            "5.10.223-x86_64",
            "6.1.192-rt-x86_64",
            "block:block_rq_complete",
            UserVerdict::Refused,
        ),
        (
            "6.1.192-rt-x86_64",
            "6.18.15-x86_64",
            "syscalls:sys_enter_openat",
            UserVerdict::Safe,
        ),
        (
            "6.18.15-x86_64",
            "7.3.4-x86_64",
            "syscalls:sys_enter_openat",
            UserVerdict::Safe,
        ),
    ] {
        let (Some(old), Some(new)) = (kernel(from), kernel(to)) else {
            skip(&format!("no {from} or {to}"));
            continue;
        };
        let diff = KernelDiff::between(&old, &new).expect("a difference");
        assert!(diff.unreadable().is_empty(), "{:?}", diff.unreadable());
        let found = diff.event(event).expect("it changed");
        assert_eq!(verdicts(found)[0], core, "{event}, {from} to {to}");
    }
}
