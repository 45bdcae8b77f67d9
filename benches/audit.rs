//! How long objects take on many kernels: the objects that the files in the directory
//! `TRACEPOINTS_BPF_TOOLS` embed, on the whole captured kernels of `TRACEPOINTS_CORPUS`.
//!
//! ```sh
//! TRACEPOINTS_CORPUS=DIR TRACEPOINTS_BPF_TOOLS=DIR cargo bench --features audit --bench audit
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracepoints::Kernel;
use tracepoints::audit::{AuditedKernel, BpfObject};

fn main() {
    // `cargo test --benches` only wants to know whether it runs.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let directory = |name| std::env::var_os(name).map(PathBuf::from);
    let (Some(corpus), Some(tools)) = (
        directory("TRACEPOINTS_CORPUS"),
        directory("TRACEPOINTS_BPF_TOOLS"),
    ) else {
        return eprintln!("SKIPPED: TRACEPOINTS_CORPUS and TRACEPOINTS_BPF_TOOLS name directories");
    };
    let kernels = entries(&corpus);
    let objects: Vec<(PathBuf, BpfObject)> = entries(&tools)
        .into_iter()
        .flat_map(|path| {
            let found = BpfObject::find(&fs::read(&path).expect("a file"));
            let object = found
                .into_iter()
                .filter_map(|found| found.into_object().ok());
            object
                .map(move |object| (path.clone(), object))
                .collect::<Vec<_>>()
        })
        .collect();
    let mut worst = (Duration::ZERO, PathBuf::new());
    let mut sum = Duration::ZERO;
    for (path, object) in &objects {
        let start = Instant::now();
        for kernel in &kernels {
            let kernel = Kernel::at(kernel).expect("a kernel");
            object.audit(&kernel).expect("a whole kernel");
        }
        let took = start.elapsed();
        sum += took;
        worst = worst.max((took, path.clone()));
    }
    println!(
        "one object on {} kernels, nothing read before: {:?} on average, {:?} at most ({})",
        kernels.len(),
        sum / objects.len().max(1) as u32,
        worst.0,
        worst.1.display()
    );
    let start = Instant::now();
    for kernel in &kernels {
        let kernel = AuditedKernel::new(&Kernel::at(kernel).expect("a kernel"));
        for (_, object) in &objects {
            object.audit_on(&kernel).expect("a whole kernel");
        }
    }
    println!(
        "{} objects on all of them: {:?}",
        objects.len(),
        start.elapsed()
    );
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = directory.read_dir().expect("a directory");
    let mut entries: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    entries
}
