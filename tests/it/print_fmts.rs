//! Print fmts of captured kernels: each parses, and its tree, written as text, parses as
//! the same tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support;
use tracepoints::format::Format;
use tracepoints::format::print::PrintFmt;
use tracepoints::{ByteOrder, Kernel, Machine};

fn formats(kernel: &Path) -> Vec<(String, Format)> {
    let events = walkdir::WalkDir::new(kernel.join("tracing/events")).sort_by_file_name();
    let files = events.into_iter().map(|entry| entry.expect("an entry"));
    files
        .filter(|entry| entry.file_name() == "format")
        .map(|entry| {
            let text = std::fs::read_to_string(entry.path()).expect("text");
            let path = entry.path().parent().expect("a directory");
            let name = path
                .strip_prefix(kernel.join("tracing/events"))
                .expect("inside");
            let name = name.to_string_lossy().replace('/', ":");
            (name, Format::parse(&text).expect("a format"))
        })
        .collect()
}

fn check(kernel: &Path) -> usize {
    let mut failures = Vec::new();
    let formats = formats(kernel);
    for (name, format) in &formats {
        let print = match format.print() {
            Ok(print) => print,
            Err(error) => {
                failures.push(format!("{name}: {error}\n{}", format.print_fmt()));
                continue;
            }
        };
        let written = print.to_string();
        match PrintFmt::parse(&written) {
            Ok(again) if again == print => {}
            Ok(_) => failures.push(format!("{name}: another tree\n{written}")),
            Err(error) => failures.push(format!("{name}: {error}\n{written}")),
        }
    }
    let first = failures.iter().take(5).cloned().collect::<Vec<_>>();
    assert!(
        failures.is_empty(),
        "{}: {} of {}\n{}",
        support::name(kernel),
        failures.len(),
        formats.len(),
        first.join("\n")
    );
    formats.len()
}

#[test]
fn of_every_fixture() {
    for kernel in support::fixtures() {
        check(&kernel);
    }
}

/// The helpers and constants in a kernel's print fmts that cannot be evaluated, with the
/// number of events that use each.
fn unknown(root: &Path) -> String {
    let kernel = Kernel::at(root).expect("a kernel");
    let machine = Machine::new(ByteOrder::Little, true);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (name, format) in formats(root) {
        let name = name.parse().expect("a name");
        let renderer = kernel
            .renderer(&name, &format, machine)
            .expect("a print fmt");
        let what = |text: &str| {
            let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            match text.split_at(end.unwrap_or(text.len())) {
                ("", _) if text.starts_with("({") => "a statement expression".to_owned(),
                ("", _) if text.starts_with('{') => "an entry of a table".to_owned(),
                ("", rest) => rest.to_owned(),
                (name, rest) if rest.starts_with('(') => format!("{name}()"),
                (name, _) => name.to_owned(),
            }
        };
        let kinds: BTreeSet<String> = renderer.unknown().into_iter().map(what).collect();
        for kind in kinds {
            *counts.entry(kind).or_default() += 1;
        }
    }
    let lines = counts
        .iter()
        .map(|(what, count)| format!("{count:5} {what}\n"));
    lines.collect()
}

#[test]
fn what_cannot_be_evaluated() {
    for root in support::corpus() {
        let name = format!("unknown-{}", support::name(&root));
        insta::assert_snapshot!(name, unknown(&root));
    }
}

#[test]
fn of_every_whole_kernel() {
    let count: usize = support::corpus().iter().map(|kernel| check(kernel)).sum();
    eprintln!("{count} print fmts");
}
