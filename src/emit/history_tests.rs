//! The table of history, made from the captured kernels of the corpus and compared with
//! them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::btf::Object;
use crate::context::Evidence;
use crate::emit::portability::{is_syscall, misread};
use crate::kernel::Kernel;

/// An event's struct on one kernel.
struct OnKernel {
    struct_name: String,
    members: String,
    layout: Layout,
    is_syscall: bool,
}

struct CapturedKernel {
    label: String,
    objects: Vec<Arc<Object>>,
    events: BTreeMap<String, OnKernel>,
}

/// The structs and members of each event on each kernel, as the lines of the table have
/// them.
type Said = BTreeMap<(String, String), BTreeSet<(String, String)>>;

fn captured(root: &Path) -> CapturedKernel {
    let kernel = Kernel::at(root).expect("a kernel");
    let truth = fs::read_to_string(root.join("truth/class.tsv")).expect("the truth");
    let truth: HashMap<&str, &str> = truth
        .lines()
        .filter_map(|row| row.split_once('\t'))
        .collect();
    let mut events = BTreeMap::new();
    for name in kernel.events().expect("events").iter() {
        let tracepoint = kernel.tracepoint(name).expect("an event");
        let key = key(&tracepoint);
        if events.contains_key(&key) {
            continue;
        }
        let context = tracepoint.context().expect("a context");
        let struct_name = match (context.struct_name(), context.evidence()) {
            (Some(known), Evidence::Syscall(_)) => known.to_owned(),
            (_, Evidence::Syscall(_) | Evidence::Format(_)) => continue,
            (known, _) => {
                let class = truth.get(name.as_str());
                let class = class.map(|class| format!("trace_event_raw_{class}"));
                match (known, &class) {
                    (Some(known), Some(class)) => assert_eq!(known, *class, "{name}"),
                    (None, None) => continue,
                    _ => {}
                }
                class.or(known.map(str::to_owned)).expect("either")
            }
        };
        let layout = context.layout().expect("a layout");
        let is_syscall = is_syscall(&context);
        let kinds = members(&layout, is_syscall).map(|slot| (slot.name(), kind(slot)));
        let words = kinds.map(|(name, kind)| format!("{name}:{kind}"));
        events.insert(
            key,
            OnKernel {
                members: words_or_dash(words.collect()),
                struct_name,
                layout,
                is_syscall,
            },
        );
    }
    CapturedKernel {
        label: root.file_name().expect("a name").to_string_lossy().into(),
        objects: kernel.objects().expect("BTF"),
        events,
    }
}

fn words_or_dash(words: Vec<String>) -> String {
    match words.is_empty() {
        true => "-".to_owned(),
        false => words.join(" "),
    }
}

/// Returns the events that two kernels have with another struct or other members.
fn changed(kernels: &[CapturedKernel]) -> BTreeSet<String> {
    let mut first: HashMap<&str, &OnKernel> = HashMap::new();
    let mut changed = BTreeSet::new();
    for (event, here) in kernels.iter().flat_map(|kernel| &kernel.events) {
        let there = first.entry(event).or_insert(here);
        if (&there.struct_name, &there.members) != (&here.struct_name, &here.members) {
            changed.insert(event.clone());
        }
    }
    changed
}

/// Returns the structs of events on kernels, and the structs that other kernels have for
/// the events; `structs` are more of the latter.
fn said(
    kernels: &[CapturedKernel],
    events: &BTreeSet<String>,
    structs: &HashMap<&str, BTreeSet<&str>>,
) -> Said {
    let mut said = Said::new();
    for event in events {
        let on = kernels.iter().filter_map(|kernel| kernel.events.get(event));
        let mut names: BTreeSet<&str> = on.map(|on| &*on.struct_name).collect();
        names.extend(structs.get(&**event).into_iter().flatten());
        for kernel in kernels {
            let Some(on) = kernel.events.get(event) else {
                continue;
            };
            let rows = said
                .entry((event.clone(), kernel.label.clone()))
                .or_default();
            rows.insert((on.struct_name.clone(), on.members.clone()));
            for name in &names {
                let wrong = misread(&kernel.objects, name, &on.layout, on.is_syscall);
                let Some(wrong) = wrong.expect("a layout") else {
                    continue;
                };
                if *name != on.struct_name || !wrong.is_empty() {
                    rows.insert((format!("!{name}"), words_or_dash(wrong)));
                }
            }
        }
    }
    said
}

/// Returns the content of the checked-in table for kernels with these labels.
fn said_by_table(labels: &BTreeSet<&str>) -> Said {
    let history = History::known();
    let mut said = Said::new();
    for (event, rows) in &history.events {
        for row in rows {
            let mark = if row.is_misread { "!" } else { "" };
            for label in history
                .labels(row.letters())
                .filter(|label| labels.contains(label))
            {
                said.entry(((*event).to_owned(), label.to_owned()))
                    .or_default()
                    .insert((format!("{mark}{}", row.struct_name), row.members.to_owned()));
            }
        }
    }
    said
}

fn table(said: &Said, labels: &BTreeSet<&str>) -> String {
    let letters: HashMap<&str, char> = labels.iter().copied().zip('a'..='z').collect();
    let mut text = String::new();
    for label in labels {
        let _ = writeln!(text, "kernel\t{}\t{label}", letters[label]);
    }
    // Own structs come before those of other kernels: '!' is before letters.
    let mut rows: BTreeMap<(&str, bool, String, &str, &str), ()> = BTreeMap::new();
    let mut of: BTreeMap<(&str, &str, &str), String> = BTreeMap::new();
    for ((event, label), structs) in said {
        for (name, members) in structs {
            of.entry((event, name, members))
                .or_default()
                .push(letters[&**label]);
        }
    }
    for ((event, name, members), letters) in of {
        rows.insert((event, name.starts_with('!'), letters, name, members), ());
    }
    for (event, _, letters, name, members) in rows.into_keys() {
        let _ = writeln!(text, "{event}\t{letters}\t{name}\t{members}");
    }
    text
}

#[test]
fn the_table_is_what_the_captured_kernels_have() {
    let Some(corpus) = std::env::var_os("TRACEPOINTS_CORPUS") else {
        eprintln!("SKIPPED: TRACEPOINTS_CORPUS names no directory of whole captured kernels");
        return;
    };
    let mut roots: Vec<PathBuf> = Path::new(&corpus)
        .read_dir()
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        // Without BTF nothing is relocated.
        .filter(|root| root.join("btf/vmlinux").exists())
        .collect();
    roots.sort();
    let kernels: Vec<CapturedKernel> = roots.iter().map(|root| captured(root)).collect();
    let labels: BTreeSet<&str> = kernels.iter().map(|kernel| &*kernel.label).collect();
    let history = History::known();
    let known: BTreeSet<&str> = history.kernels().collect();
    let mut events = changed(&kernels);
    if std::env::var_os("TRACEPOINTS_WRITE_HISTORY").is_some() {
        let text = table(&said(&kernels, &events, &HashMap::new()), &labels);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/emit/history.tsv");
        fs::write(path, text).expect("written");
        return;
    }
    assert!(
        labels.is_subset(&known),
        "not in the table: {:?}; TRACEPOINTS_WRITE_HISTORY=1 makes it anew",
        labels.difference(&known)
    );
    // The corpus may have only some of the table's kernels.
    events.extend(history.events.keys().map(|event| (*event).to_owned()));
    let structs = history.events.iter().map(|(event, rows)| {
        let names = rows.iter().map(|row| row.struct_name);
        (*event, names.collect())
    });
    let here = said(&kernels, &events, &structs.collect());
    let there = said_by_table(&labels);
    let differing: Vec<_> = here
        .iter()
        .filter(|(key, rows)| there.get(key) != Some(rows))
        .chain(there.iter().filter(|(key, _)| !here.contains_key(key)))
        .collect();
    assert!(differing.is_empty(), "{differing:#?}");
    if labels == known {
        assert!(table(&here, &labels) == TABLE, "the table has other lines");
    }
    println!("{} events, {} kernels", history.events.len(), labels.len());
}

#[test]
fn every_line_of_the_table_is_read() {
    let history = History::known();
    let lines = TABLE.lines().count();
    let rows: usize = history.events.values().map(Vec::len).sum();
    assert_eq!(lines, history.kernels.len() + rows);
    assert!(rows > 0 && history.kernels.len() > 1);
    for row in history.events.values().flatten() {
        assert_eq!(
            history.labels(row.letters()).count(),
            row.letters.len(),
            "each letter is a kernel's"
        );
        assert!(
            row.is_misread || row.members().all(|(_, kind)| !kind.is_empty()),
            "{row:?}"
        );
    }
}

/// The text of each remark, on kernels known to differ.
#[test]
fn remarks_on_events_known_to_have_changed() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut text = String::new();
    for root in [
        "5.10.223-x86_64",
        "6.1.192-rt-x86_64",
        "6.12.107-s390x",
        "6.18.15-x86_64",
        "7.3.4-x86_64",
    ] {
        let kernel = Kernel::at(fixtures.join(root)).expect("a kernel");
        let _ = writeln!(text, "from {root}");
        for event in [
            "sched:sched_process_exit",
            "sched:sched_process_free",
            "block:block_rq_complete",
            "syscalls:sys_enter_unlinkat",
            "sched:sched_switch",
        ] {
            let Ok(tracepoint) = kernel.tracepoint(event) else {
                continue;
            };
            let portability = History::known().portability(&tracepoint);
            let portability = portability.expect("types");
            match portability.remarks().is_empty() {
                true => writeln!(text, "{event}: nothing known"),
                false => writeln!(text, "{portability}"),
            }
            .expect("a string");
        }
    }
    insta::assert_snapshot!(text);
}
