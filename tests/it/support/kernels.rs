//! The captured kernels that tests run on.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::Write;
use std::path::{Path, PathBuf};

/// `tests/fixtures` of this package, or of the repository it is a directory of.
fn all_fixtures() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directories = package.ancestors().map(|dir| dir.join("tests/fixtures"));
    let mut directories = directories.filter(|dir| dir.is_dir());
    directories.next().expect("the fixtures are checked out")
}

/// The cut-down kernels of `tests/fixtures`, sorted.
pub(crate) fn fixtures() -> Vec<PathBuf> {
    let kernels = kernels_in(&all_fixtures());
    assert_eq!(kernels.len(), 9, "the fixtures are whole");
    kernels
}

/// The directory of one of them.
pub(crate) fn fixture(name: &str) -> PathBuf {
    all_fixtures().join(name)
}

/// Whole captured kernels, too large for the repository: those in the directory
/// `TRACEPOINTS_CORPUS` names. Without it there are none, and the test says so.
pub(crate) fn corpus() -> Vec<PathBuf> {
    let Some(dir) = std::env::var_os("TRACEPOINTS_CORPUS") else {
        skip("TRACEPOINTS_CORPUS names no directory of whole captured kernels");
        return Vec::new();
    };
    let kernels = kernels_in(Path::new(&dir));
    assert!(!kernels.is_empty(), "TRACEPOINTS_CORPUS holds no kernels");
    kernels
}

/// Reports, past the test harness, that the current test does not run, or only in part.
pub(crate) fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {}: {why}", test_name());
}

/// The full name of the current test, such as `probe::losses::are_counted`. The test
/// harness names each test's thread after it; threads a test starts have other names.
pub(crate) fn test_name() -> String {
    let thread = std::thread::current();
    thread.name().unwrap_or("an unnamed thread").to_owned()
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
