//! An instance of tracefs: a separate ring buffer with its own events.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::OFlags;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tracepoints::EventName;
use tracepoints::kernel::Events;
use tracepoints::record::ring::PageLayout;

use super::live::Buffer;
use crate::output::{Failure, say, with_causes};

/// The prefix of the names of this command's instances; the pid of the process follows.
const PREFIX: &str = "tracepoints-decode-";

/// Environment variable of the process that removes an instance after this one has
/// died.
const REMOVE: &str = "TRACEPOINTS_REMOVE_INSTANCE";

/// An instance, which is removed on drop or, if this process is killed, by another
/// process.
pub(crate) struct Instance {
    pub(crate) path: PathBuf,
    is_there: bool,
    remover: Child,
}

/// If this process was started to remove an instance, waits for the end of the tracing
/// process and does so.
pub(crate) fn main_of_remover() -> Option<ExitCode> {
    let path = std::env::var_os(REMOVE)?;
    // Ignores the terminal's Ctrl-C.
    let _ = rustix::process::setsid();
    let mut nothing = Vec::new();
    // Returns when the other end of the pipe is closed, for whatever reason.
    let _ = io::stdin().read_to_end(&mut nothing);
    // The instance is gone already, unless the process was killed.
    let _ = fs::remove_dir(path);
    Some(ExitCode::SUCCESS)
}

/// Returns a flag that SIGINT, SIGTERM and SIGHUP set from now on. They are handled before
/// there is an instance to be removed.
pub(crate) fn interrupted() -> Result<Arc<AtomicBool>, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(|error| Failure::Other(format!("signal {signal}: {error}")))?;
    }
    Ok(interrupted)
}

impl Instance {
    pub(crate) fn make(tracefs: &Path) -> Result<Self, Failure> {
        let instances = tracefs.join("instances");
        remove_orphans(&instances);
        let path = instances.join(format!("{PREFIX}{}", std::process::id()));
        // The remover is started first, so that no instance is without one.
        let remover = Command::new("/proc/self/exe")
            .env(REMOVE, &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| about(Path::new("/proc/self/exe"), error))?;
        let mut instance = Self {
            path,
            is_there: false,
            remover,
        };
        fs::create_dir(&instance.path).map_err(|error| about(&instance.path, error))?;
        instance.is_there = true;
        Ok(instance)
    }

    pub(crate) fn read(&self, file: &str) -> Result<String, Failure> {
        let path = self.path.join(file);
        // The kernel returns header_page whole or truncated, but not in parts.
        let mut text = String::with_capacity(1 << 16);
        let read = File::open(&path).and_then(|mut file| file.read_to_string(&mut text));
        read.map_err(|error| about(&path, error))?;
        Ok(text)
    }

    /// Returns the layout of the instance's pages, which may differ from other instances'.
    pub(crate) fn page_layout(&self) -> Result<PageLayout, Failure> {
        let layout = PageLayout::parse(&self.read("events/header_page")?);
        layout.map_err(|error| Failure::Other(with_causes(&error)))
    }

    pub(crate) fn write(&self, file: &str, text: &str) -> Result<(), Failure> {
        let path = self.path.join(file);
        // Files of tracefs cannot be created.
        let file = File::options().write(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| about(&path, error))
    }

    /// Chooses whose events are traced: those of these processes and their children or,
    /// without any, those of all processes except this one, whose printing would cause
    /// further events without end.
    pub(crate) fn choose_processes(&self, pids: &[u32]) -> Result<(), Failure> {
        if !pids.is_empty() {
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            self.write("options/event-fork", "1")?;
            return self.write("set_event_pid", &pids.join(" "));
        }
        // Linux 5.8 and later.
        let file = "set_event_notrace_pid";
        match self.path.join(file).exists() {
            true => self.write(file, &std::process::id().to_string()),
            false => Ok(()),
        }
    }

    pub(crate) fn enable(&self, events: &Events) -> Result<(), Failure> {
        let file = |name: &EventName| format!("events/{}/{}/enable", name.category(), name.event());
        events
            .into_iter()
            .try_for_each(|name| self.write(&file(name), "1"))
    }

    pub(crate) fn buffers(&self, layout: PageLayout) -> Result<Vec<Buffer>, Failure> {
        let dir = self.path.join("per_cpu");
        let entries = fs::read_dir(&dir).map_err(|error| about(&dir, error))?;
        let mut buffers = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| about(&dir, error))?;
            let name = entry.file_name();
            let Some(cpu) = super::pages::cpu_of(Path::new(&name)) else {
                continue;
            };
            let path = entry.path().join("trace_pipe_raw");
            let file = File::options()
                .read(true)
                .custom_flags(OFlags::NONBLOCK.bits() as i32)
                .open(&path);
            let file = file.map_err(|error| about(&path, error))?;
            buffers.push(Buffer::new(cpu, path, file, layout.page_size()));
        }
        buffers.sort_by_key(Buffer::cpu);
        Ok(buffers)
    }

    /// Removes the instance, and returns the error that dropping it would only print.
    pub(crate) fn remove(mut self) -> Result<(), Failure> {
        self.is_there = false;
        fs::remove_dir(&self.path).map_err(|error| about(&self.path, error))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.is_there
            && let Err(error) = fs::remove_dir(&self.path)
        {
            say!("{}: {error}", self.path.display());
        }
        drop(self.remover.stdin.take());
        let _ = self.remover.wait();
    }
}

/// Removes instances whose processes died together with their removers: also one that has
/// this process's pid, which had it before. The kernel keeps an instance that is read.
fn remove_orphans(instances: &Path) {
    let Ok(entries) = fs::read_dir(instances) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else {
            continue;
        };
        if pid == std::process::id() || !Path::new(&format!("/proc/{pid}")).exists() {
            // Another run may be removing it at this moment.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

pub(crate) fn about(path: &Path, error: io::Error) -> Failure {
    Failure::Other(format!("{}: {error}", path.display()))
}
