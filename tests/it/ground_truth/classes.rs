//! The class of every event, against `truth/class.tsv`: what was read from the kernel's
//! memory when it was captured.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;

use crate::support;
use tempfile::TempDir;
use tracepoints::context::{FormatReason, Inference, Rule};
use tracepoints::{Evidence, Kernel};
use walkdir::WalkDir;

/// How many events have which evidence.
type Counts = BTreeMap<&'static str, usize>;

/// Resolves every event of a kernel. Panics if any class differs from the truth's.
fn check(root: &Path) -> Counts {
    let kernel = Kernel::at(root).expect("a kernel");
    let truth = match root.join("btf/vmlinux").exists() {
        // The i686 capture has neither the truth nor BTF.
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
            // On all of these kernels the arguments have the record's offsets.
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
                // No answer is right only where no BTF object has the class.
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

/// The classes of which any BTF object has a struct, found by searching its bytes for
/// names.
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
    // How many events may stay ambiguous: those that only the kernel's memory settles.
    let most_ambiguous = HashMap::from([
        ("5.10.223-x86_64", 8),
        ("6.1.192-rt-x86_64", 4),
        ("6.12.107-s390x", 4),
        ("6.18.15-x86_64", 38),
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
        if !says_it_itself(&root) {
            continue;
        }
        // With `btf_ids` files nothing needs to be inferred.
        assert_eq!(counts.get("inferred"), None, "{name}");
        assert_eq!(counts.get("ambiguous"), None, "{name}");
        let without = without_btf_ids(&root);
        let counts = check(without.path());
        println!("{name} without btf_ids: {counts:?}");
        assert_eq!(counts.get("kernel"), None, "{name}");
        if name == "7.3.4-x86_64" {
            assert!(counts["ambiguous"] <= 38, "{counts:?}");
        }
    }
}

/// Whether the kernel has `btf_ids` files.
fn says_it_itself(root: &Path) -> bool {
    root.join("tracing/events/sched/sched_switch/btf_ids")
        .exists()
}

/// Copies a captured kernel without its `btf_ids` files.
fn without_btf_ids(root: &Path) -> TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    for entry in WalkDir::new(root).min_depth(1) {
        let entry = entry.expect("an entry");
        let below = entry.path().strip_prefix(root).expect("inside");
        let is_needed = ["tracing", "btf", "truth"]
            .iter()
            .any(|part| below.starts_with(part));
        if !is_needed || entry.file_name() == "btf_ids" {
            continue;
        }
        let to = copy.path().join(below);
        match entry.file_type().is_dir() {
            true => fs::create_dir(to).expect("a directory"),
            false => drop(fs::copy(entry.path(), to).expect("a file")),
        }
    }
    copy
}

/// How an event's class is known.
enum Known {
    /// Exactly these rules exclude all others.
    Proven(&'static [Rule]),
    Inferred(Inference),
    /// It is not: these classes fit.
    Open(&'static [&'static str]),
}

/// Kernels, events, their classes and how these are known.
const KNOWN: [(&str, &str, &str, Known); 14] = [
    (
        "5.10.223-x86_64",
        "irq_vectors:vector_reserve_managed",
        "vector_reserve",
        Known::Proven(&[Rule::FieldType]),
    ),
    (
        "5.10.223-x86_64",
        "clk:clk_enable",
        "clk",
        Known::Proven(&[Rule::Category]),
    ),
    (
        "5.10.223-x86_64",
        "sched:sched_process_exit",
        "sched_process_template",
        Known::Proven(&[Rule::SiblingPrototype]),
    ),
    (
        "7.3.4-x86_64",
        "memcg:count_memcg_events",
        "memcg_rstat_events",
        Known::Proven(&[Rule::FieldType]),
    ),
    (
        "7.3.4-x86_64",
        "memcg:mod_memcg_state",
        "memcg_rstat_stats",
        Known::Proven(&[Rule::FieldType]),
    ),
    (
        "7.3.4-x86_64",
        "compaction:mm_compaction_kcompactd_wake",
        "kcompactd_wake_template",
        Known::Proven(&[Rule::FieldType]),
    ),
    (
        "6.18.15-x86_64",
        "net:netif_rx_exit",
        "net_dev_rx_exit_template",
        Known::Proven(&[Rule::Category]),
    ),
    (
        "6.1.192-rt-x86_64",
        "cfg80211:rdev_start_pmsr",
        "wiphy_wdev_cookie_evt",
        Known::Proven(&[Rule::PrintFmt]),
    ),
    (
        "6.18.15-x86_64",
        "xfs:xfs_iunlink",
        "xfs_ag_inode_class",
        Known::Proven(&[Rule::PrintFmt]),
    ),
    (
        "6.18.15-x86_64",
        "xfs_scrub:xrep_agfl_insert",
        "xrep_extent_class",
        Known::Inferred(Inference::HeaderRun),
    ),
    (
        "6.18.15-x86_64",
        "power:pm_qos_update_flags",
        "pm_qos_update",
        Known::Proven(&[]),
    ),
    // Names or flags suggest another class.
    (
        "6.18.15-x86_64",
        "xfs:xfs_fsmap_low_linear_key",
        "xfs_fsmap_linear_key_class",
        Known::Proven(&[]),
    ),
    (
        "6.18.15-x86_64",
        "dma_fence:dma_fence_init",
        "",
        Known::Open(&["dma_fence", "dma_fence_unsignaled"]),
    ),
    (
        "6.12.107-s390x",
        "power:clock_enable",
        "",
        Known::Open(&["clock", "power_domain"]),
    ),
];

/// Events whose class one rule proves, an inference finds, or nothing settles; and some
/// that look as if another class were theirs.
#[test]
fn events_known_for_what_decides_them() {
    for root in support::corpus() {
        let name = support::name(&root);
        let without = says_it_itself(&root).then(|| without_btf_ids(&root));
        let kernel = Kernel::at(without.as_ref().map_or(&*root, |dir| dir.path()));
        let kernel = kernel.expect("a kernel");
        let context = |event: &str| support::context(&kernel, event).expect("a context");
        for (_, event, class, known) in KNOWN.iter().filter(|(of, ..)| *of == name) {
            let context = context(event);
            match known {
                Known::Proven(rules) => {
                    let proof = context.evidence().because().expect("a proof");
                    assert!(
                        proof.rules().eq(rules.iter().copied()),
                        "{event}: {proof:?}"
                    );
                }
                Known::Inferred(how) => {
                    assert_eq!(context.evidence(), &Evidence::Inferred(*how), "{event}")
                }
                Known::Open(candidates) => {
                    assert_eq!(context.evidence(), &Evidence::Ambiguous, "{event}");
                    assert_eq!(context.candidates(), *candidates, "{event}");
                    continue;
                }
            }
            assert_eq!(context.class(), Some(*class), "{event}");
        }
        // The class has the event's own name, whatever else fits.
        for (_, event) in [
            ("6.18.15-x86_64", "skb:kfree_skb"),
            ("5.10.223-x86_64", "ras:mc_event"),
        ]
        .iter()
        .filter(|(of, _)| *of == name)
        {
            assert_eq!(context(event).evidence(), &Evidence::Named, "{event}");
        }
    }
}

/// The struct in the kernel's `btf_ids` file is the resolved one, also where it was
/// resolved without reading that file.
#[test]
fn the_kernels_own_word() {
    let mut kernels = support::corpus();
    kernels.extend(support::fixtures());
    for root in kernels
        .iter()
        .filter(|root| support::name(root).starts_with("7."))
    {
        let kernel = Kernel::at(root).expect("a kernel");
        let (mut said, mut without) = (0, Vec::new());
        for name in kernel.events().expect("events") {
            let file = format!(
                "tracing/events/{}/{}/btf_ids",
                name.category(),
                name.event()
            );
            let context = support::context(&kernel, &name).expect("a context");
            let ids = match fs::read_to_string(root.join(file)) {
                Ok(ids) => ids,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    without.push((name, context));
                    continue;
                }
                Err(error) => panic!("{name}: {error}"),
            };
            let id = ids
                .lines()
                .find_map(|line| line.strip_prefix("tp_btf_id: "))
                .expect("an id");
            assert_eq!(
                context.type_id().map(|id| id.to_string()).as_deref(),
                Some(id),
                "{name}"
            );
            said += 1;
        }
        if said == 0 {
            support::skip(&format!("{}: it has no btf_ids", support::name(root)));
            continue;
        }
        // Events made at run time have none, and no struct either.
        for (name, context) in without {
            assert_eq!(context.type_id(), None, "{name} has no btf_ids");
        }
        println!("{}: {said} events", support::name(root));
    }
}
