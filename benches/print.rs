//! How fast print fmts are read and records printed, on whole captured kernels: those
//! in the directory that `TRACEPOINTS_CORPUS` names.
//!
//! ```sh
//! TRACEPOINTS_CORPUS=DIR cargo bench --bench print
//! ```

use std::collections::HashMap;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use tracepoints::format::Format;
use tracepoints::format::print::PrintFmt;
use tracepoints::{Kernel, Record, Renderer};

/// How many measurements there are of each, of which the best is taken.
const ROUNDS: usize = 15;

fn main() {
    // `cargo test --benches` only wants to know whether it runs.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let Some(corpus) = std::env::var_os("TRACEPOINTS_CORPUS") else {
        return eprintln!("SKIPPED: TRACEPOINTS_CORPUS names no directory of captured kernels");
    };
    for name in ["6.18.15-x86_64", "7.3.4-x86_64"] {
        let root = Path::new(&corpus).join(name);
        match root.join("ring").is_dir() {
            true => measure(&root, name),
            false => eprintln!("SKIPPED: {} has no ring/", root.display()),
        }
    }
}

fn measure(root: &Path, name: &str) {
    let kernel = Kernel::at(root).expect("a kernel");
    let directories = kernel.event_directories().expect("events");
    let formats: Vec<Format> = directories
        .iter()
        .map(|event| {
            let event = kernel.tracepoint(event).expect("an event");
            event.format().clone()
        })
        .collect();
    let reading = best(|| {
        for format in &formats {
            black_box(PrintFmt::parse(format.print_fmt())).expect("a print fmt");
        }
    });
    println!(
        "{name}: {} print fmts read in {:.1} ms (at most 40 for 3,842)",
        formats.len(),
        reading.as_secs_f64() * 1e3
    );

    let layout = kernel.page_layout().expect("a layout");
    let events = kernel.events_by_id().expect("events");
    let addresses = kernel.addresses().expect("addresses");
    let mut renderers: HashMap<Option<u32>, Renderer> = HashMap::new();
    let files: Vec<Vec<u8>> = ["cpu0.raw", "cpu1.raw"]
        .iter()
        .map(|file| fs::read(root.join("ring").join(file)).expect("pages"))
        .collect();
    let mut records: Vec<Record<'_>> = Vec::new();
    for bytes in &files {
        for page in layout.pages(bytes, events.machine().byte_order()) {
            for entry in page.expect("a page").entries() {
                let (event, record) = events
                    .record(entry.expect("an entry").bytes())
                    .expect("an event");
                let format = record.format();
                renderers.entry(format.id()).or_insert_with(|| {
                    let renderer = kernel.renderer(event, format, record.machine());
                    renderer.expect("a print fmt")
                });
                records.push(record);
            }
        }
    }
    let prepared: Vec<(&Renderer, &Record<'_>)> = records
        .iter()
        .map(|record| (&renderers[&record.format().id()], record))
        .collect();
    let mut text = String::new();
    let mut length = 0;
    let printing = best(|| {
        length = 0;
        for (renderer, record) in &prepared {
            text.clear();
            renderer.render(record, &addresses, &mut text);
            length += text.len();
        }
    });
    println!(
        "{name}: {} records printed, {length} bytes, {:.2} million a second (at least 2)",
        records.len(),
        records.len() as f64 / printing.as_secs_f64() / 1e6
    );
}

fn best(mut work: impl FnMut()) -> Duration {
    let rounds = (0..ROUNDS).map(|_| {
        let begin = Instant::now();
        work();
        begin.elapsed()
    });
    rounds.min().unwrap_or_default()
}
