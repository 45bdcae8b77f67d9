//! The command that is traced.
//!
//! It is started in the way of `strace` and `perf`: a process stops itself, and becomes the
//! command once the programs are attached. If this process dies in any way, the kernel
//! kills that one.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{self, Pid, Signal, WaitOptions};

use crate::output::{Failure, say};

/// Set for the process that is to become the command: the pid of the process that traces
/// it.
const BECOME: &str = "TRACEPOINTS_ATTACH_BECOME";

/// The exit status of shells for a command that is not found.
const NOT_FOUND: u8 = 127;
/// The exit status of shells if a command cannot be run.
const NOT_EXECUTABLE: u8 = 126;

/// Becomes the command if this process was started for that. Returns the exit status if
/// that fails, and `None` in any other process.
pub(crate) fn main_of_child() -> Option<ExitCode> {
    let parent = std::env::var(BECOME).ok()?;
    Some(become_command(parent.parse().ok()))
}

/// A process that waits to become a command; killed if it never does.
pub(crate) struct Suspended {
    child: Option<Child>,
    path: PathBuf,
}

impl Suspended {
    /// Starts the process; returns `None` for an empty command.
    pub(crate) fn start(command: &[OsString]) -> Result<Option<Self>, Failure> {
        let Some(name) = command.first() else {
            return Ok(None);
        };
        // Looked up before the process starts, since tracing begins with its execve.
        let path = find(name)?;
        let failed = |error: io::Error| Failure::Other(format!("starting a process: {error}"));
        let child = Command::new("/proc/self/exe")
            .env(BECOME, std::process::id().to_string())
            .arg(&path)
            .args(command)
            .spawn()
            .map_err(failed)?;
        let pid = Pid::from_child(&child);
        let suspended = Self {
            child: Some(child),
            path,
        };
        let waited = process::waitpid(Some(pid), WaitOptions::UNTRACED);
        match waited.map_err(|error| failed(error.into()))? {
            Some((_, status)) if status.stopped() => Ok(Some(suspended)),
            _ => Err(Failure::Other(
                "the command's process did not start".to_owned(),
            )),
        }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Returns the command's file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn resume(mut self) -> Result<Running, Failure> {
        let child = self.child.take();
        let child = child.ok_or_else(|| Failure::Other("the command runs already".to_owned()))?;
        process::kill_process(Pid::from_child(&child), Signal::CONT)
            .map_err(|error| Failure::Other(format!("the command's process: {error}")))?;
        Ok(Running { child })
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Nothing is left to do if the process has gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The running command, which is ended when this is dropped.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Whether the command has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends the command if it still runs: by SIGTERM, and by SIGKILL if that does not help.
    pub(crate) fn end(mut self) -> Option<ExitStatus> {
        self.stop()
    }

    fn stop(&mut self) -> Option<ExitStatus> {
        /// The time that the command may take to end on its own.
        const PATIENCE: Duration = Duration::from_secs(2);
        if !self.has_ended() {
            let _ = process::kill_process(Pid::from_child(&self.child), Signal::TERM);
            let end = Instant::now() + PATIENCE;
            while !self.has_ended() && Instant::now() < end {
                thread::sleep(Duration::from_millis(10));
            }
            let _ = self.child.kill();
        }
        self.child.wait().ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// Returns the exit status that stands for the command's: its own or, as in shells, 128
/// plus the signal that ended it.
pub(crate) fn code_of(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    let code = code.and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Finds a command: as given if it has a slash, and otherwise in a directory of `PATH`.
fn find(name: &OsStr) -> Result<PathBuf, Failure> {
    let refused = |code, why: &str| Failure::Status {
        code,
        message: format!("{}: {why}", name.display()),
    };
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return match path.metadata() {
            Err(error) => Err(refused(NOT_FOUND, &error.to_string())),
            Ok(_) if is_executable(&path) => Ok(path),
            Ok(_) => Err(refused(NOT_EXECUTABLE, "not an executable file")),
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|dir| dir.join(name));
    match places.find(|place| is_executable(place)) {
        Some(found) if !name.is_empty() => Ok(found),
        _ => Err(refused(NOT_FOUND, "command not found")),
    }
}

fn is_executable(path: &Path) -> bool {
    let is = |file: std::fs::Metadata| file.is_file() && file.permissions().mode() & 0o111 != 0;
    path.metadata().is_ok_and(is)
}

/// Stops until the programs are attached, then runs the command in this process.
fn become_command(parent: Option<u32>) -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(path), Some(name)) = (arguments.next(), arguments.next()) else {
        return ExitCode::FAILURE;
    };
    // Kept across execve: a tracer that is killed leaves no command behind.
    let tied = process::set_parent_process_death_signal(Some(Signal::KILL));
    let parent_now = process::getppid().map(|pid| pid.as_raw_nonzero().get() as u32);
    if tied.is_err() || parent_now != parent {
        // The tracing process died before.
        return ExitCode::FAILURE;
    }
    if let Err(error) = process::kill_process(process::getpid(), Signal::STOP) {
        say!("{error}");
        return ExitCode::FAILURE;
    }
    let error = Command::new(&path)
        .arg0(&name)
        .args(arguments)
        .env_remove(BECOME)
        .exec();
    say!("{}: {error}", name.display());
    match error.kind() {
        io::ErrorKind::NotFound => ExitCode::from(NOT_FOUND),
        _ => ExitCode::from(NOT_EXECUTABLE),
    }
}
