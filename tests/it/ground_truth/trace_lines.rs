//! The lines of `trace` files: what the kernel printed of its records, and what we print of
//! them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support;
use tracepoints::{
    Kernel,
    text::{FlagColumns, SyscallText, TaskNames, TraceContext},
};

/// The lines of a `trace` file, by the CPU they are of.
fn lines_by_cpu(trace: &str) -> BTreeMap<u32, Vec<&str>> {
    let mut lines: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    // The print fmt of mmap:vm_unmapped_area ends a line of its own on Linux 5.10.
    let is_event = |line: &&str| !line.starts_with('#') && !line.is_empty();
    for line in trace.lines().filter(is_event) {
        // A command's name may have brackets; it has 15 bytes at most.
        let rest = line.get(16..).unwrap_or_default();
        let cpu = rest.split_once('[').and_then(|(_, rest)| rest.get(..3));
        let cpu = cpu.and_then(|cpu| cpu.parse().ok()).expect(line);
        lines.entry(cpu).or_default().push(line);
    }
    lines
}

/// What the kernel printed of its pages, and what is read of them: as many events,
/// of the same commands, CPUs, flags and times. Texts are compared where they are
/// not the print fmt's. Says how many.
fn compare(root: &Path) -> (usize, usize, usize) {
    let name = support::name(root);
    let trace = fs::read_to_string(root.join("ring/trace.txt")).expect("what the kernel printed");
    let kernel = Kernel::at(root).expect("a kernel");
    let layout = kernel.page_layout().expect("a layout");
    let byte_order = kernel.machine().expect("a machine").byte_order();
    let events = kernel.events_by_id().expect("events");
    let columns = FlagColumns::of_legend(&trace).expect("a legend");
    assert_eq!(kernel.flag_columns().expect("columns"), columns, "{name}");
    let saved = fs::read_to_string(root.join("ring/saved_cmdlines")).expect("names");
    let names = TaskNames::parse(&saved);
    let (mut total, mut syscalls, mut texts) = (0, 0, 0);
    let addresses = kernel.addresses().expect("addresses");
    let mut renderers = std::collections::HashMap::new();
    for (cpu, lines) in lines_by_cpu(&trace) {
        let bytes = fs::read(root.join(format!("ring/cpu{cpu}.raw"))).expect("pages");
        let mut expected = lines.iter();
        for page in layout.pages(&bytes, byte_order) {
            let page = page.expect("a page");
            assert_eq!(page.lost(), None);
            for entry in page.entries() {
                let entry = entry.expect("an entry");
                let (event, record) = events.record(entry.bytes()).expect("an event");
                let context = TraceContext::new(&record, cpu, entry.timestamp(), &names, columns);
                let context = context.expect("all common fields");
                let line = *expected.next().expect("a line of the kernel's");
                // Old kernels write arguments another way.
                let text = SyscallText::new(event, record).expect("all arguments");
                let renderer = renderers.entry(record.format().id()).or_insert_with(|| {
                    let machine = record.machine();
                    kernel
                        .renderer(event, record.format(), machine)
                        .expect("a print fmt")
                });
                if event.category() != "syscalls" && event.category() != "ftrace" {
                    let mut rendered = format!("{context}{}: ", event.event());
                    renderer.render(&record, &addresses, &mut rendered);
                    // A print fmt may end in a newline of its own.
                    let rendered = rendered.trim_end_matches('\n');
                    assert!(is_same(rendered, line), "{name}\n{rendered}\n{line}");
                    texts += 1;
                }
                let text = match text.filter(|_| !name.starts_with("5.10")) {
                    Some(text) => {
                        syscalls += 1;
                        format!("{context}{text}\n")
                    }
                    None if event.category() == "syscalls" => context.to_string(),
                    None => format!("{context}{}: ", event.event()),
                };
                assert!(format!("{line}\n").starts_with(&text), "{text}\n{line}");
                total += 1;
            }
        }
        // Of 5.10 the last page was still being written: its `stats` count 85
        // events that nobody read.
        let unread = unread(&root.join(format!("ring/cpu{cpu}.stats")));
        assert_eq!(expected.len(), unread, "{name} CPU {cpu}");
    }
    (total, syscalls, texts)
}

/// Whether two lines are the same but for what the record does not hold: `%p` is an
/// address for us and a hash for the kernel, functions have names for the kernel
/// alone, and of a pointer made from the kernel's own variable we know none.
fn is_same(ours: &str, kernels: &str) -> bool {
    have_same_words(ours, kernels) || have_same_words(ours, &without_modules(kernels))
}

/// Without the ` [module]` behind functions' names.
fn without_modules(line: &str) -> String {
    let mut parts = line.split(" [");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(']') {
            Some((module, rest))
                if module
                    .bytes()
                    .all(|byte| byte == b'_' || byte.is_ascii_lowercase()) =>
            {
                text += rest;
            }
            _ => {
                text += " [";
                text += part;
            }
        }
    }
    text
}

fn have_same_words(ours: &str, kernels: &str) -> bool {
    let is_separator = |c: char| " =,()[]:\t".contains(c);
    let mut ours = ours.split(is_separator);
    let mut theirs = kernels.split(is_separator);
    loop {
        let (our, their) = match (ours.next(), theirs.next()) {
            (None, None) => return true,
            (Some(our), Some(their)) => (our, their),
            _ => return false,
        };
        // Kernels before 5.12 did not hash in traces.
        let is_hash = their.len() == 16 && their.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_address = our.len() == 18
            && our.starts_with("0x")
            && our[2..].bytes().all(|byte| byte.is_ascii_hexdigit());
        let symbol = their.split('+').next().unwrap_or_default();
        let is_symbol = symbol.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && symbol
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
        let is_known = our == their
            || is_address && (is_hash || is_symbol)
            || our == "<vmemmap_base>" && is_hash;
        if !is_known {
            return false;
        }
    }
}

fn unread(stats: &Path) -> usize {
    let Ok(stats) = fs::read_to_string(stats) else {
        return 0;
    };
    let entries = stats
        .lines()
        .find_map(|line| line.strip_prefix("entries: "));
    let count = entries.and_then(|count| count.parse().ok());
    count.expect("a count")
}

fn with_ring(kernels: Vec<PathBuf>) -> Vec<PathBuf> {
    let has_ring = |root: &PathBuf| root.join("ring").exists();
    kernels.into_iter().filter(has_ring).collect()
}

#[test]
fn lines_are_the_kernels() {
    let kernels = with_ring(support::fixtures());
    let counts: Vec<_> = kernels.iter().map(|root| compare(root)).collect();
    assert_eq!(counts, [(207, 27, 180), (221, 28, 193)]);
}

#[test]
fn lines_are_the_kernels_on_whole_ones() {
    let kernels = support::corpus();
    for root in with_ring(kernels) {
        let (total, syscalls, texts) = compare(&root);
        println!(
            "{}: {total} events; {texts} texts, {syscalls} system calls to the letter",
            support::name(&root)
        );
        assert!(total > 10_000);
    }
}
