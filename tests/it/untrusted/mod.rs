//! Captures are untrusted input: whatever is in one, the result is an answer or an error,
//! in bounded time and memory. `docs/limits.md` lists the bounds.

mod damaged;
mod emitted;
mod large_btf;
mod large_files;
mod modules;
mod names;
#[cfg(unix)]
mod not_regular_files;

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use crate::support;
use crate::support::btf::{BtfWriter, TraceEntry};
use crate::support::capture::{COMMON, Capture};
use tracepoints::emit::{self, CHeader, COptions, RustModule};

/// A deadline: far more than any of these tests takes, and far less than without the
/// limits.
const SOON: Duration = Duration::from_secs(20);

/// A kernel with one event.
fn one_event() -> Capture {
    let mut capture = Capture::new();
    capture.event("sched:wake", COMMON, &[("int pid", 8, 4)]);
    capture
}

/// A file that takes no space on the disk.
fn sparse(path: &Path, size: u64) {
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    let file = File::create(path).expect("a file");
    file.set_len(size).expect("a size");
}

/// Events of different shapes, of vmlinux and of a module.
const EVENTS: [&str; 6] = [
    "sched:sched_process_exec",
    "syscalls:sys_enter_unlinkat",
    "syscalls:sys_exit_unlinkat",
    "irq_vectors:vector_deactivate",
    "xfs:xfs_ilock",
    "nfs4:nfs4_read",
];

/// The fixture's events with this BTF.
fn with_btf(objects: &[(&str, &[u8])]) -> Capture {
    let root = support::fixture("6.18.15-x86_64");
    let mut capture = Capture::new();
    for event in EVENTS {
        let (category, name) = event.split_once(':').expect("a name");
        let file = root
            .join("tracing/events")
            .join(category)
            .join(name)
            .join("format");
        capture
            .file(event, "format", fs::read(file).expect("a format file"))
            .list(event);
    }
    for (object, bytes) in objects {
        capture.btf(object, bytes);
    }
    capture
}

/// Calls everything there is to call for every event.
fn ask_all(capture: &Capture) {
    let kernel = capture.kernel();
    for event in EVENTS {
        let Ok(tracepoint) = kernel.tracepoint(event) else {
            continue;
        };
        let _ = (
            tracepoint.siblings(),
            tracepoint.sections(),
            tracepoint.raw().map(|raw| raw.map(|raw| raw.to_string())),
        );
        if let Ok(context) = tracepoint.context() {
            let _ = (
                context.layout(),
                context.field_slots(),
                context.evidence().to_string(),
            );
        }
        let mut header = CHeader::new(COptions::default().assertions(true));
        let _ = header.add(&tracepoint).map(|_| header.to_string());
        let mut module = RustModule::new();
        let _ = module.add(&tracepoint).map(|_| module.to_string());
        let _ = (
            emit::skeleton_c(&tracepoint),
            emit::skeleton_rust(&tracepoint),
        );
    }
    let _ = kernel.bare_tracepoints();
}

/// This many classes of one layout, each with an event.
fn many_classes(count: u32) -> BtfWriter {
    let mut btf = BtfWriter::new(false);
    let TraceEntry { id: entry, int, .. } = btf.trace_entry(8);
    let prototype = btf.prototype(&[int]);
    let pointer = btf.pointer(prototype);
    btf.typedef("btf_trace_wake", pointer);
    for number in 0..count {
        btf.structure(
            &format!("trace_event_raw_c{number}"),
            12,
            &[("ent", entry, 0), ("pid", int, 8)],
        );
        btf.function(&format!("__bpf_trace_c{number}"), prototype);
        btf.typedef(&format!("btf_trace_e{number}"), pointer);
    }
    btf
}
