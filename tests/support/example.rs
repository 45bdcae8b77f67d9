//! Runs the example programs as a user does.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// An example program, built as it now is: `cargo test --test cli` alone would
/// find the one of the last build.
/// Where there is no cargo, they are in the directory `TRACEPOINTS_TEST_EXAMPLES`
/// names.
pub(crate) fn example(name: &str) -> PathBuf {
    if let Some(directory) = std::env::var_os("TRACEPOINTS_TEST_EXAMPLES") {
        return Path::new(&directory).join(name);
    }
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--examples", "--quiet", "--manifest-path"]);
        build.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(
            build.status().expect("cargo").success(),
            "the examples build"
        );
    });
    let test = std::env::current_exe().expect("this test's own path");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("target/<profile>");
    profile.join("examples").join(name)
}

/// Runs an example on a captured kernel.
pub(crate) fn run(name: &str, root: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(example(name));
    command.arg("--root").arg(root).args(arguments);
    command.output().expect("it runs")
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("text")
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("text")
}
