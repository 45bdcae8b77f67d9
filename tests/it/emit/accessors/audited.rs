//! Accessors of every event, compiled once and held against every kernel by the audit,
//! which relocates and follows branches by code of its own.

use std::collections::BTreeMap;

use super::*;
use tracepoints::ByteOrder;
use tracepoints::audit::{BpfObject, Verdict};

/// The events of any of the kernels that accessors can be written for.
fn all(roots: &[PathBuf]) -> (CAccessors, Vec<EventName>) {
    let mut accessors = accessors_of(roots);
    let mut events = events_of(roots);
    // All system calls have one context: a few tell as much as all.
    let mut syscalls = 0;
    events.retain(|event| {
        syscalls += usize::from(event.category() == "syscalls");
        event.category() != "syscalls" || syscalls % 40 == 1 || roots.len() < 4
    });
    events.retain(|event| has_accessors(&mut accessors, event));
    let text = accessors.to_string();
    events.retain(|event| functions(&text, event).len() <= MOST);
    (accessors, events)
}

/// How many events have which verdict on which kernel. Panics where one is wrong, or not
/// right on a kernel that the source is made from.
fn hold(made_from: &[PathBuf], against: &[PathBuf]) -> BTreeMap<String, BTreeMap<String, usize>> {
    let mut counts: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    let (accessors, events) = all(made_from);
    let text = accessors.to_string();
    let dir = tempfile::tempdir().expect("a directory");
    let mut faults = Vec::new();
    // Objects of some hundred programs each.
    for some in events.chunks(300) {
        let code = programs(&text, some, false);
        for (target, byte_order) in [("bpfel", ByteOrder::Little), ("bpfeb", ByteOrder::Big)] {
            let Some(bytes) = compile(&text, &code, target, dir.path()) else {
                return counts;
            };
            let object = BpfObject::parse(&bytes).expect("an object");
            for root in against {
                let name = support::name(root);
                let is_big = name.contains("s390x");
                if is_big != (byte_order == ByteOrder::Big) {
                    continue;
                }
                let kernel = Kernel::at(root).expect("a kernel");
                // Their constants are not set, and so the kernel refuses them.
                let constants = accessors.class_constants(&kernel).expect("constants");
                let by_constant: Vec<String> = constants
                    .iter()
                    .filter_map(|(name, _)| name.strip_suffix("_class"))
                    .map(|event| format!("on_{event}"))
                    .collect();
                for audit in object.audit(&kernel).expect("an audit") {
                    if by_constant.iter().any(|program| program == audit.program()) {
                        assert_ne!(audit.verdict(), Verdict::Wrong, "{}", audit.program());
                        continue;
                    }
                    let verdict = audit.verdict();
                    *counts
                        .entry(name.clone())
                        .or_default()
                        .entry(verdict.to_string())
                        .or_default() += 1;
                    let is_own = made_from.contains(root);
                    let is_fault = verdict == Verdict::Wrong
                        || is_own && !matches!(verdict, Verdict::Right | Verdict::Absent);
                    if is_fault {
                        let reads = audit.reads().iter();
                        let bad = reads.filter(|read| read.verdict() != Verdict::Right);
                        let bad: Vec<String> = bad
                            .take(2)
                            .map(|read| {
                                format!(
                                    "{:?} wants {:?} gets {:?} {:?}",
                                    read.line().map(|line| line.1),
                                    read.wants(),
                                    read.gets(),
                                    read.reason()
                                )
                            })
                            .collect();
                        faults.push(format!(
                            "{name}: {}: {verdict} {:?} {bad:#?}",
                            audit.program(),
                            audit.reason()
                        ));
                    }
                }
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults[..faults.len().min(12)].join("\n")
    );
    counts
}

#[test]
fn every_event_of_three_kernels_on_all_fixtures() {
    let against: Vec<PathBuf> = support::fixtures()
        .into_iter()
        .filter(|root| root.join("btf/vmlinux").exists())
        .collect();
    let counts = hold(&roots(), &against);
    if !counts.is_empty() {
        insta::assert_debug_snapshot!(counts);
    }
}

/// The same of whole kernels, which takes many minutes.
#[test]
fn every_event_of_three_kernels_on_the_corpus() {
    if std::env::var_os("TRACEPOINTS_ALL_ACCESSORS").is_none() {
        return support::skip("TRACEPOINTS_ALL_ACCESSORS is not set");
    }
    let corpus: Vec<PathBuf> = support::corpus()
        .into_iter()
        .filter(|root| root.join("btf/vmlinux").exists())
        .collect();
    let made_from: Vec<PathBuf> = corpus
        .iter()
        .filter(|root| ROOTS.contains(&&*support::name(root)))
        .cloned()
        .collect();
    if made_from.len() == ROOTS.len() {
        println!("{:#?}", hold(&made_from, &corpus));
    }
}
