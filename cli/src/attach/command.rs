//! The command that is traced.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode};

use rustix::process::{self, Pid, Signal, WaitOptions};

use crate::output::{Failure, say};

/// Set for the process that is to become the command.
const BECOME: &str = "TRACEPOINTS_ATTACH_BECOME";

/// Ends as the command does, if this is the process to become it.
pub(crate) fn main_of_child() -> Option<ExitCode> {
    std::env::var_os(BECOME).map(|_| become_command())
}

/// A process that waits to become a command; killed if it never does.
pub(super) struct Suspended {
    child: Option<Child>,
}

impl Suspended {
    /// `None` if there is no command.
    pub(super) fn start(command: &[String]) -> Result<Option<Self>, Failure> {
        if command.is_empty() {
            return Ok(None);
        }
        let child = Command::new("/proc/self/exe")
            .env(BECOME, "1")
            .args(command)
            .spawn()?;
        let pid = Pid::from_child(&child);
        let suspended = Self { child: Some(child) };
        match process::waitpid(Some(pid), WaitOptions::UNTRACED).map_err(io::Error::from)? {
            Some((_, status)) if status.stopped() => Ok(Some(suspended)),
            _ => Err(io::Error::other("the command's process did not start").into()),
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub(super) fn resume(mut self) -> io::Result<Option<Child>> {
        let child = self.child.take();
        if let Some(child) = &child {
            process::kill_process(Pid::from_child(child), Signal::CONT)?;
        }
        Ok(child)
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Nothing is left to do if it has gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Stops until the programs are attached, then runs the command in this process.
fn become_command() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().unwrap_or_default();
    if let Err(error) = process::kill_process(process::getpid(), Signal::STOP) {
        say!("{error}");
        return ExitCode::FAILURE;
    }
    let error = Command::new(&program)
        .args(arguments)
        .env_remove(BECOME)
        .exec();
    say!("{}: {error}", program.display());
    // As shells say that there is no such command.
    ExitCode::from(127)
}
