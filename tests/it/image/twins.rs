//! Whole packages against the same kernels, booted and captured.
//!
//! `TRACEPOINTS_IMAGES` names a directory with unpacked packages, each named like the
//! captured kernel in `TRACEPOINTS_CORPUS` that is its twin.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use tracepoints::context::KernelSource;
use tracepoints::{EventName, Evidence, Kernel};

use crate::support::{corpus, name, skip};

/// Packages with their twins.
fn twins() -> Vec<(PathBuf, PathBuf)> {
    let Some(images) = std::env::var_os("TRACEPOINTS_IMAGES") else {
        skip("TRACEPOINTS_IMAGES names no directory of unpacked kernel packages");
        return Vec::new();
    };
    let captured = corpus();
    let mut twins = Vec::new();
    for entry in Path::new(&images).read_dir().expect("a directory") {
        let package = entry.expect("an entry").path();
        let twin = captured.iter().find(|twin| name(twin) == name(&package));
        match twin {
            Some(twin) => twins.push((package, twin.clone())),
            None => skip(&format!("no captured kernel {}", name(&package))),
        }
    }
    twins
}

/// What was made at run time is in no image.
fn is_made_at_run_time(event: &EventName) -> bool {
    matches!(
        event.category(),
        "kprobes" | "uprobes" | "eprobes" | "fprobes" | "tprobes" | "synthetic" | "user_events"
    ) || event.as_str() == "sched:my_schedule"
}

#[test]
fn packages_are_their_booted_twins() {
    for (package, twin) in twins() {
        let image = Kernel::at(&package).expect("a package");
        let booted = Kernel::at(&twin).expect("a kernel");
        assert!(image.unreadable().is_empty(), "{:?}", image.unreadable());
        let listed = image.events().expect("events");
        let listed_there = booted.events().expect("events");
        let mut formats = 0;
        for event in &booted.event_directories().expect("events") {
            if is_made_at_run_time(event) {
                continue;
            }
            let path = twin.join("tracing/events");
            let path = path
                .join(event.category())
                .join(event.event())
                .join("format");
            let text = fs::read_to_string(path).expect("a format");
            let lines = text
                .split_inclusive('\n')
                .filter(|line| !line.starts_with("ID: "));
            let expected: String = lines.collect();
            let found = image.tracepoint(event).expect("the event");
            assert_eq!(found.format().to_string(), expected, "{event}");
            assert_eq!(
                listed.contains(event),
                listed_there.contains(event),
                "{event}"
            );
            formats += 1;
        }
        assert_no_other_events_of_vmlinux(&image, &booted);
        let classes = check_classes(&image, &twin);
        let objects = check_btf(&package, &twin);
        println!(
            "{}: {formats} formats, {classes} classes and {objects} BTF objects are equal",
            name(&package)
        );
        assert!(formats > 1000 && classes > 500 && objects > 0);
    }
}

/// Events of modules that were not loaded are in the package, but none of vmlinux that the
/// booted kernel lacks.
fn assert_no_other_events_of_vmlinux(image: &Kernel, booted: &Kernel) {
    let there = booted.event_directories().expect("events");
    for event in &image.event_directories().expect("events") {
        if there.contains(event) {
            continue;
        }
        let context = image.tracepoint(event).expect("an event").context();
        let context = context.expect("a context");
        assert!(context.home() != Some("vmlinux"), "{event}");
        assert!(
            !matches!(context.evidence(), Evidence::Syscall(_)),
            "{event}"
        );
    }
}

/// Every class is the one in the booted kernel's memory, and none is left open.
fn check_classes(image: &Kernel, twin: &Path) -> usize {
    let truth = fs::read_to_string(twin.join("truth/class.tsv")).expect("the classes");
    let truth: HashMap<&str, &str> = truth
        .lines()
        .filter_map(|row| row.split_once('\t'))
        .collect();
    let names: Vec<EventName> = image.events().expect("events").into_iter().collect();
    let mut evidence = BTreeMap::new();
    let mut equal = 0;
    for found in image.contexts(&names).expect("BTF") {
        let (event, context) = found.expect("an event");
        *evidence.entry(context.evidence().as_str()).or_insert(0) += 1;
        let is_open = matches!(
            context.evidence(),
            Evidence::Ambiguous | Evidence::Inferred(_)
        );
        assert!(!is_open, "{}: {}", event.name(), context.evidence());
        if let Evidence::Kernel(source) = context.evidence() {
            assert_eq!(*source, KernelSource::Image);
        }
        let Some(class) = context.class() else {
            continue;
        };
        let expected = truth
            .get(event.name().as_str())
            .filter(|class| **class != "?");
        if event.name().category() == "syscalls" {
            continue;
        }
        if let Some(expected) = expected {
            assert_eq!(class, *expected, "{}", event.name());
            equal += 1;
        }
    }
    println!("{evidence:?}");
    equal
}

/// The BTF of vmlinux, and of each module that was loaded.
fn check_btf(package: &Path, twin: &Path) -> usize {
    let root = Kernel::at(package).expect("a package");
    let files: HashMap<&str, &[u8]> = root.image_files().collect();
    let mut equal = 0;
    for entry in twin.join("btf").read_dir().expect("a directory") {
        let path = entry.expect("an entry").path();
        let object = name(&path);
        let Some(found) = files.get(&*format!("btf/{object}")) else {
            // An excerpt of a package has the modules with events alone.
            assert!(object != "vmlinux");
            continue;
        };
        let expected = fs::read(&path).expect("BTF");
        assert!(*found == expected, "{object}");
        equal += 1;
    }
    equal
}
