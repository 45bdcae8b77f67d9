//! Print fmts of captured kernels: all are read, and what is written of them is
//! read as the same.

mod support;

use std::path::Path;

use tracepoints::format::Format;
use tracepoints::format::print::PrintFmt;

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

#[test]
fn of_every_whole_kernel() {
    let count: usize = support::corpus("of_every_whole_kernel")
        .iter()
        .map(|kernel| check(kernel))
        .sum();
    eprintln!("{count} print fmts");
}
