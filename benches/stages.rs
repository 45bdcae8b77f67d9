//! Each stage of discovery alone, and the whole, in one process: on the fixture of
//! Linux 6.18 and, where `TRACEPOINTS_CORPUS` is set, on every kernel of it.
//!
//! `cargo bench --features bench --bench stages`

use std::path::{Path, PathBuf};
use std::{env, fs};

use divan::{Bencher, black_box};
use tracepoint_decode::PerfEventFormat;
use tracepoints::emit::CHeader;
use tracepoints::format::Format;
use tracepoints::{Context, EventName, Kernel, Tracepoint, stages};

fn main() {
    if env::var_os("TRACEPOINTS_CORPUS").is_none() {
        eprintln!("stages: TRACEPOINTS_CORPUS is not set: the fixture alone, an excerpt");
    }
    divan::main();
}

/// The captured kernels by name, the fixture first.
fn kernels() -> Vec<String> {
    let corpus = env::var_os("TRACEPOINTS_CORPUS").map(PathBuf::from);
    let entries = corpus
        .iter()
        .flat_map(|corpus| corpus.read_dir().expect("a directory"));
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry"))
        .filter(|kernel| kernel.path().join("btf/vmlinux").exists())
        .map(|kernel| kernel.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.insert(0, FIXTURE.to_owned());
    names
}

const FIXTURE: &str = "fixture";

fn root(kernel: &str) -> PathBuf {
    match env::var_os("TRACEPOINTS_CORPUS") {
        Some(corpus) if kernel != FIXTURE => Path::new(&corpus).join(kernel),
        _ => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/6.18.15-x86_64"),
    }
}

fn open(kernel: &str) -> Kernel {
    Kernel::at(root(kernel)).expect("a captured kernel")
}

fn names(kernel: &Kernel) -> Vec<EventName> {
    kernel.events().expect("events").into_iter().collect()
}

fn tracepoints(kernel: &Kernel) -> Vec<Tracepoint> {
    let tracepoint = |name| kernel.tracepoint(name).expect("an event");
    names(kernel).iter().map(tracepoint).collect()
}

/// The texts of all format files.
fn texts(kernel: &str) -> Vec<String> {
    let root = root(kernel);
    names(&open(kernel))
        .iter()
        .map(|name| {
            let path = format!("tracing/events/{}/{}/format", name.category(), name.event());
            fs::read_to_string(root.join(path)).expect("a format file")
        })
        .collect()
}

#[divan::bench(args = kernels())]
fn available_events(bencher: Bencher<'_, '_>, kernel: &str) {
    let kernel = open(kernel);
    bencher.bench(|| kernel.events());
}

#[divan::bench(args = kernels())]
fn format_parse(bencher: Bencher<'_, '_>, kernel: &str) {
    let texts = texts(kernel);
    bencher
        .counter(divan::counter::ItemsCount::new(texts.len()))
        .bench(|| {
            for text in &texts {
                black_box(Format::parse(text).expect("a format"));
            }
        });
}

/// The same texts in the peer.
#[divan::bench(args = kernels())]
fn format_parse_by_tracepoint_decode(bencher: Bencher<'_, '_>, kernel: &str) {
    let texts = texts(kernel);
    bencher
        .counter(divan::counter::ItemsCount::new(texts.len()))
        .bench(|| {
            for text in &texts {
                black_box(PerfEventFormat::parse(true, "", text));
            }
        });
}

#[divan::bench(args = kernels())]
fn btf_index(bencher: Bencher<'_, '_>, kernel: &str) {
    let bytes = fs::read(root(kernel).join("btf/vmlinux")).expect("BTF");
    bencher
        .with_inputs(|| bytes.clone())
        .bench_values(|bytes| stages::index_btf(bytes).expect("sound BTF"));
}

#[divan::bench(args = kernels())]
fn resolution(bencher: Bencher<'_, '_>, kernel: &str) {
    let kernel = open(kernel);
    let tracepoints = tracepoints(&kernel);
    bencher.bench(|| {
        for tracepoint in &tracepoints {
            black_box(tracepoint.context().expect("a context"));
        }
    });
}

#[divan::bench(args = kernels())]
fn emit_one(bencher: Bencher<'_, '_>, kernel: &str) {
    let kernel = open(kernel);
    let exit = kernel
        .tracepoint("sched:sched_process_exit")
        .expect("an event");
    bencher.bench(|| {
        let mut header = CHeader::new(Default::default());
        header.add(&exit).expect("a context");
        header.to_string()
    });
}

#[divan::bench(args = kernels())]
fn json(bencher: Bencher<'_, '_>, kernel: &str) {
    let kernel = open(kernel);
    let tracepoints = tracepoints(&kernel);
    let contexts: Vec<Context> = tracepoints
        .iter()
        .map(|tracepoint| tracepoint.context().expect("a context"))
        .collect();
    bencher.bench(|| {
        let mut out = Vec::with_capacity(1 << 20);
        for context in &contexts {
            serde_json::to_writer(&mut out, context).expect("memory");
        }
        out
    });
}

#[divan::bench(args = kernels())]
fn end_to_end(bencher: Bencher<'_, '_>, kernel: &str) {
    bencher.bench(|| {
        let kernel = open(kernel);
        for found in kernel.contexts(&names(&kernel)).expect("BTF") {
            black_box(found.expect("a context"));
        }
    });
}
