//! Where the captured kernels are.

use std::io::Write;
use std::path::{Path, PathBuf};

/// The cut-down kernels of `tests/fixtures`, sorted.
pub(crate) fn fixtures() -> Vec<PathBuf> {
    let dir = repository().join("tests/fixtures");
    let entries = dir.read_dir().expect("the fixtures");
    let mut kernels: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.join("tracing").is_dir())
        .collect();
    kernels.sort();
    assert_eq!(kernels.len(), 9, "the fixtures are whole");
    kernels
}

/// One of them.
pub(crate) fn fixture(name: &str) -> PathBuf {
    repository().join("tests/fixtures").join(name)
}

/// The repository this package is a directory of.
pub(crate) fn repository() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("a directory further up")
}

/// Reports, past the test harness, that the current test does not run, or only in part.
pub(crate) fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {}: {why}", test_name());
}

/// The full name of the current test, after which the harness names the test's thread.
pub(crate) fn test_name() -> String {
    let thread = std::thread::current();
    thread.name().unwrap_or("an unnamed thread").to_owned()
}

/// The name of a kernel's directory.
pub(crate) fn name(kernel: &Path) -> String {
    let name = kernel.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
