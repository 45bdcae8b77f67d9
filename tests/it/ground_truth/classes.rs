//! The class of every event, against what was read from the kernel's own memory
//! when it was captured (`truth/class.tsv`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;

use crate::support;
use tracepoints::{Evidence, Kernel, context::FormatReason};

/// How many events have which evidence.
type Counts = BTreeMap<&'static str, usize>;

/// Resolves every event of a kernel; no class may be other than the truth's.
fn check(root: &Path) -> Counts {
    let kernel = Kernel::at(root).expect("a kernel");
    let truth = match root.join("btf/vmlinux").exists() {
        // Nobody read this one's memory; it has no BTF to be wrong with.
        false => String::new(),
        true => fs::read_to_string(root.join("truth/class.tsv")).expect("the truth"),
    };
    let mut compared = 0;
    let truth: HashMap<&str, &str> = truth
        .lines()
        .filter_map(|row| row.split_once('\t'))
        .collect();
    let structs = structs_in_btf(root);
    let mut counts = Counts::new();
    let mut wrong = Vec::new();
    for name in kernel.event_directories().expect("events") {
        let tracepoint = kernel.tracepoint(&name).expect("an event");
        let context = tracepoint.context().expect("a context");
        *counts.entry(context.evidence().as_str()).or_default() += 1;
        let Some(&class) = truth.get(name.as_str()) else {
            continue;
        };
        compared += 1;
        let right = match context.evidence() {
            Evidence::Ambiguous => context.candidates().iter().any(|one| one == class),
            // None of these kernels has the arguments elsewhere than the record.
            Evidence::Syscall(_) => {
                let own = tracepoint.format().fields().iter();
                let values = own
                    .filter(|field| field.name() != "__syscall_nr" && !field.kind().is_dynamic());
                name.category() == "syscalls" && context.struct_name().is_some() && {
                    values.clone().all(|field| {
                        let slot = context.slot_of(field.name()).expect("a layout");
                        slot.is_some_and(|slot| {
                            (slot.offset(), slot.size()) == (field.offset(), field.size())
                        })
                    })
                }
            }
            Evidence::Format(reason) => {
                // Rather no answer than a guess, but only where BTF has none.
                !structs.contains(class) && *reason != FormatReason::NoBtf
            }
            _ => context.class() == Some(class),
        };
        if !right {
            wrong.push(format!("{name}: {class}, not {context:?}"));
        }
        if let Some(class) = context.class() {
            let expected = format!("trace_event_raw_{class}");
            assert_eq!(context.struct_name(), Some(&*expected), "{name}");
        }
    }
    assert!(wrong.is_empty(), "{}: {wrong:#?}", root.display());
    assert_eq!(
        compared,
        truth.len(),
        "{}: every event of the truth is there",
        root.display()
    );
    counts
}

/// The classes any object has a struct of, seen by their names alone.
fn structs_in_btf(root: &Path) -> HashSet<String> {
    let Ok(entries) = root.join("btf").read_dir() else {
        return HashSet::new();
    };
    let mut structs = HashSet::new();
    for entry in entries {
        let bytes = fs::read(entry.expect("an entry").path()).expect("an object");
        for string in bytes.split(|&byte| byte == 0) {
            let class = string.strip_prefix(b"trace_event_raw_");
            structs.extend(class.map(|class| String::from_utf8_lossy(class).into_owned()));
        }
    }
    structs
}

#[test]
fn no_class_is_wrong_on_the_fixtures() {
    let mut all = String::new();
    for root in support::fixtures() {
        all += &format!("{}: {:?}\n", support::name(&root), check(&root));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn no_class_is_wrong_on_whole_kernels() {
    // How many events may stay ambiguous: what only the kernel's memory knows.
    let most_ambiguous = HashMap::from([
        ("5.10.223-x86_64", 9),
        ("6.1.192-rt-x86_64", 4),
        ("6.12.107-s390x", 4),
        ("6.18.15-x86_64", 43),
        ("7.3.4-x86_64", 0),
    ]);
    for root in support::corpus() {
        let name = support::name(&root);
        let counts = check(&root);
        println!("{name}: {counts:?}");
        if let Some(&most) = most_ambiguous.get(&*name) {
            let ambiguous = counts.get("ambiguous").copied().unwrap_or(0);
            assert!(ambiguous <= most, "{name}: {ambiguous} ambiguous");
        }
        // Where the kernel itself can be asked, nothing is inferred.
        if name.starts_with("7.") {
            assert_eq!(counts.get("inferred"), None, "{name}");
        }
    }
}

/// Where the kernel itself says which struct it is, it is the one resolved
/// without asking: `btf_ids` is read only where several fit.
#[test]
fn the_kernels_own_word() {
    let mut kernels = support::corpus();
    kernels.extend(support::fixtures());
    for root in kernels
        .iter()
        .filter(|root| support::name(root).starts_with("7."))
    {
        let kernel = Kernel::at(root).expect("a kernel");
        let mut said = 0;
        for name in kernel.events().expect("events") {
            let file = format!(
                "tracing/events/{}/{}/btf_ids",
                name.category(),
                name.event()
            );
            let ids = fs::read_to_string(root.join(file)).expect("a btf_ids file");
            let id = ids
                .lines()
                .find_map(|line| line.strip_prefix("tp_btf_id: "))
                .expect("an id");
            let context = kernel
                .tracepoint(&name)
                .and_then(|event| event.context())
                .expect("a context");
            assert_eq!(
                context.type_id().map(|id| id.to_string()).as_deref(),
                Some(id),
                "{name}"
            );
            said += 1;
        }
        println!("{}: {said} events", support::name(root));
    }
}
