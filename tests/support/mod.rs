//! Where the captured kernels are that tests run on.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::Write;
use std::path::{Path, PathBuf};

/// The cut-down kernels of `tests/fixtures`, sorted.
pub(crate) fn fixtures() -> Vec<PathBuf> {
    let kernels = kernels_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"));
    assert_eq!(kernels.len(), 9, "the fixtures are whole");
    kernels
}

/// One of them.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Whole captured kernels, too large for the repository: those in the directory
/// `TRACEPOINTS_CORPUS` names. Says on stderr, past the test harness, what is
/// skipped without it.
pub(crate) fn corpus(test: &str) -> Vec<PathBuf> {
    match std::env::var_os("TRACEPOINTS_CORPUS") {
        Some(dir) => {
            let kernels = kernels_in(Path::new(&dir));
            assert!(!kernels.is_empty(), "TRACEPOINTS_CORPUS holds no kernels");
            kernels
        }
        None => {
            skip(
                test,
                "TRACEPOINTS_CORPUS names no directory of whole captured kernels",
            );
            Vec::new()
        }
    }
}

/// Says that a test could not run, where the harness would swallow it.
pub(crate) fn skip(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// The name of a kernel's directory.
pub(crate) fn name(kernel: &Path) -> String {
    kernel
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn kernels_in(dir: &Path) -> Vec<PathBuf> {
    let entries = dir
        .read_dir()
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut kernels: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.join("tracing").is_dir())
        .collect();
    kernels.sort();
    kernels
}
