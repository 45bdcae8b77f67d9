//! Runs the command as a user does.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The command, as it was built for these tests. On a machine that has none of the
/// build's directories, it is where `TRACEPOINTS_TEST_COMMAND` says.
pub(crate) fn program() -> PathBuf {
    match std::env::var_os("TRACEPOINTS_TEST_COMMAND") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_BIN_EXE_tracepoints")),
    }
}

/// The command with arguments, to be run.
pub(crate) fn tracepoints(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments);
    command
}

/// Runs a subcommand on a captured kernel; a fixture is named as below the repository.
pub(crate) fn run(subcommand: &str, root: &Path, arguments: &[&str]) -> Output {
    let repository = crate::support::repository();
    let mut command = tracepoints(&[subcommand]);
    let root = root.strip_prefix(repository).unwrap_or(root);
    command.current_dir(repository);
    command.arg("--root").arg(root).args(arguments);
    command.output().expect("it runs")
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("text")
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("text")
}
