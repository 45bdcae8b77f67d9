//! The running kernel's classes, against its memory.

use crate::support;
use crate::support::kcore;
use crate::support::live::live;
use tracepoints::{Evidence, context::KernelSource};

/// Compares every class with `/proc/kcore`, which the crate itself does not read.
#[test]
fn no_class_is_wrong_on_the_running_kernel() {
    let Some(kernel) = live() else { return };
    let classes = match kcore::classes() {
        Ok(classes) => classes,
        Err(why) => return support::skip(&why),
    };
    let names = kernel.events().expect("events");
    let mut times = std::collections::HashMap::<&str, usize>::new();
    for name in names.names() {
        *times.entry(name.event()).or_default() += 1;
    }
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    let mut wrong = Vec::new();
    for name in names.names() {
        let Some(class) = classes.get(name.event()) else {
            continue;
        };
        if times[name.event()] > 1 || name.category() == "syscalls" {
            continue;
        }
        let context = kernel.tracepoint(name).expect("an event").context();
        let context = context.expect("a context");
        let evidence = match context.evidence() {
            Evidence::Kernel(source) => format!("{source:?}"),
            evidence => evidence.as_str().to_owned(),
        };
        *counts.entry(evidence).or_default() += 1;
        let is_right = match context.evidence() {
            Evidence::Ambiguous => context.candidates().contains(class),
            Evidence::Format(_) => context.class().is_none(),
            _ => context.class() == Some(class),
        };
        if !is_right {
            wrong.push(format!("{name}: {class}, not {context:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let compared: usize = counts.values().sum();
    eprintln!(
        "{compared} of {} events have the class the kernel's memory says: {counts:?}",
        names.names().len()
    );
    // Half are system calls.
    assert!(compared > names.names().len() / 4, "{compared}");
}

/// A class that the kernel's memory settles is one of the candidates BTF leaves.
#[test]
fn classes_in_memory() {
    let Some(kernel) = live() else {
        return;
    };
    let names = kernel.events().expect("events");
    let (mut settled, mut open) = (0, 0);
    for name in names.names() {
        let context = support::context(&kernel, name).expect("a context");
        if matches!(
            context.evidence(),
            Evidence::Ambiguous | Evidence::Inferred(_)
        ) {
            open += 1;
        }
        if let Evidence::Kernel(KernelSource::Memory) = context.evidence() {
            let class = context.class().expect("a class");
            assert!(
                context.candidates().iter().any(|one| one == class),
                "{name}"
            );
            settled += 1;
        }
    }
    // One that can be asked leaves nothing open.
    assert!(settled == 0 || open == 0, "{settled} settled, {open} open");
    eprintln!("{settled} classes settled by the kernel's memory");
}
