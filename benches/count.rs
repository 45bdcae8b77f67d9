//! Runs one stage of discovery over the fixture of Linux 6.18, so that its
//! instructions can be counted: see `benches/instructions.sh`.

use std::path::Path;
use std::{env, fs, process};

use tracepoints::emit::CHeader;
use tracepoints::format::Format;
use tracepoints::{EventName, Kernel, stages};

/// A stage is run so often that starting the process is little beside it.
const TIMES: usize = 20;

fn main() {
    let stage = env::args().nth(1).unwrap_or_default();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/6.18.15-x86_64");
    let kernel = || Kernel::at(&root).expect("a captured kernel");
    let names = |kernel: &Kernel| -> Vec<EventName> {
        kernel.events().expect("events").into_iter().collect()
    };
    match &*stage {
        "available_events" => {
            let kernel = kernel();
            (0..20 * TIMES).for_each(|_| drop(kernel.events().expect("events")));
        }
        "format_parse" => {
            let texts: Vec<String> = names(&kernel())
                .iter()
                .map(|name| {
                    let path =
                        format!("tracing/events/{}/{}/format", name.category(), name.event());
                    fs::read_to_string(root.join(path)).expect("a format file")
                })
                .collect();
            for text in (0..TIMES).flat_map(|_| &texts) {
                Format::parse(text).expect("a format");
            }
        }
        "btf_index" => {
            let bytes = fs::read(root.join("btf/vmlinux")).expect("BTF");
            for _ in 0..TIMES {
                stages::index_btf(bytes.clone()).expect("sound BTF");
            }
        }
        "resolution" => {
            let kernel = kernel();
            for name in (0..TIMES).flat_map(|_| names(&kernel)) {
                let tracepoint = kernel.tracepoint(&name).expect("an event");
                tracepoint.context().expect("a context");
            }
        }
        "contexts" => {
            for _ in 0..TIMES {
                let kernel = kernel();
                let found = kernel.contexts(&names(&kernel)).expect("BTF");
                assert!(found.into_iter().all(|found| found.is_ok()));
            }
        }
        "emit" => {
            let kernel = kernel();
            let exit = kernel
                .tracepoint("sched:sched_process_exit")
                .expect("an event");
            for _ in 0..TIMES {
                let mut header = CHeader::new(Default::default());
                header.add(&exit).expect("a context");
                assert!(!header.to_string().is_empty());
            }
        }
        "json" => {
            let kernel = kernel();
            let found = kernel.contexts(&names(&kernel)).expect("BTF");
            let found: Vec<_> = found.map(|found| found.expect("a context")).collect();
            for (_, context) in (0..TIMES).flat_map(|_| &found) {
                serde_json::to_writer(std::io::sink(), context).expect("a sink");
            }
        }
        _ => {
            eprintln!("count: no stage {stage:?}");
            process::exit(2);
        }
    }
}
