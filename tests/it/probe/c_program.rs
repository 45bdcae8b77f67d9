//! Programs in C, which make system calls as no safe code can.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program of this directory, in a directory that is removed with it.
pub(super) struct CProgram {
    pub(super) directory: PathBuf,
    name: &'static str,
}

impl CProgram {
    /// Compiles `NAME.c`; `None` if there is no C compiler.
    pub(super) fn compiled(name: &'static str) -> Option<Self> {
        let directory = std::env::temp_dir().join(format!("tracepoints-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let program = Self { directory, name };
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/probe");
        let compiled = Command::new("cc")
            .arg(sources.join(format!("{name}.c")))
            .arg("-o")
            .arg(program.directory.join(name))
            .status();
        match compiled.is_ok_and(|status| status.success()) {
            true => Some(program),
            false => {
                crate::support::skip("no C compiler");
                None
            }
        }
    }

    fn command(&self, act: &str) -> Command {
        let mut command = Command::new(self.directory.join(self.name));
        command.arg(act).arg(&self.directory);
        command
    }

    pub(super) fn start(&self, act: &str) -> Child {
        self.command(act).spawn().expect("it starts")
    }

    /// Runs it to its end. Returns its process, and what it printed.
    pub(super) fn run(&self, act: &str) -> (u32, String) {
        let child = self.command(act).stdout(Stdio::piped()).spawn();
        let child = child.expect("it starts");
        let pid = child.id();
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{act}: {}", output.status);
        let printed = String::from_utf8(output.stdout).expect("UTF-8");
        (pid, printed.trim_end().to_owned())
    }
}

impl Drop for CProgram {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.directory).expect("it is removed");
    }
}
