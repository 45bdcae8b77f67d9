//! The time while programs are attached.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{self, Pid, PidfdFlags};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tracepoints::probe::Losses;

use super::command::{Running, Suspended, code_of};
use crate::output::{Failure, plural, say};

/// The conditions on which to stop.
pub(super) struct Run {
    end: Option<Instant>,
    stopped: Arc<AtomicBool>,
    command: Option<Running>,
    /// The traced process.
    process: Option<OwnedFd>,
    /// Whether this program ends the traced one.
    is_cut_short: bool,
}

impl Run {
    /// Creates the run, and handles signals from here on.
    pub(super) fn new(duration: Option<Duration>, pid: Option<u32>) -> Result<Self, Failure> {
        let stopped = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let failed = |error| Failure::Other(format!("signal {signal}: {error}"));
            // A second signal ends this process as if there were no handler.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&stopped))
                .map_err(failed)?;
            signal_hook::flag::register(signal, Arc::clone(&stopped)).map_err(failed)?;
        }
        Ok(Self {
            end: duration.and_then(|duration| Instant::now().checked_add(duration)),
            stopped,
            command: None,
            process: pid.and_then(descriptor_of),
            is_cut_short: false,
        })
    }

    pub(super) fn begin(
        &mut self,
        command: Option<Suspended>,
        events: usize,
    ) -> Result<(), Failure> {
        match command {
            Some(command) => self.command = Some(command.resume()?),
            None => say!(
                "attached to {}, Ctrl-C ends",
                plural(events as u64, "event", "s")
            ),
        }
        Ok(())
    }

    pub(super) fn is_over(&mut self) -> bool {
        if self.stopped.load(Ordering::Relaxed) {
            return true;
        }
        if self.command.as_mut().is_some_and(Running::has_ended) {
            return true;
        }
        if self.process.as_ref().is_some_and(has_ended) {
            return true;
        }
        if self.end.is_some_and(|end| Instant::now() >= end) {
            self.cut_short();
            return true;
        }
        false
    }

    /// Ends the run before the command ends.
    pub(super) fn cut_short(&mut self) {
        self.is_cut_short = true;
    }

    /// Returns how long to wait before the next check.
    pub(super) fn pause(&self) -> Duration {
        const LONGEST: Duration = Duration::from_millis(50);
        match self.end {
            Some(end) => end.saturating_duration_since(Instant::now()).min(LONGEST),
            None => LONGEST,
        }
    }

    /// Waits until the run is over, and calls the function after each interval.
    pub(super) fn until_end(
        &mut self,
        interval: Option<Duration>,
        mut each: impl FnMut() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut ticks = interval.map(|interval| Ticks::new(interval, Instant::now()));
        while !self.is_over() {
            std::thread::sleep(self.pause());
            if let Some(ticks) = &mut ticks
                && ticks.is_due(Instant::now())
            {
                each()?;
            }
        }
        Ok(())
    }

    /// Ends the command if it still runs. Returns the status to end with: the
    /// command's, if it ended by itself or by the signal that also ended this process.
    pub(super) fn finish(self) -> ExitCode {
        let Some(command) = self.command else {
            return ExitCode::SUCCESS;
        };
        match command.end() {
            Some(status) if !self.is_cut_short => code_of(status),
            _ => ExitCode::SUCCESS,
        }
    }
}

/// Points in time, one interval after another.
struct Ticks {
    interval: Duration,
    /// `None` after the last time that there is.
    next: Option<Instant>,
}

impl Ticks {
    fn new(interval: Duration, now: Instant) -> Self {
        let next = now.checked_add(interval);
        Self { interval, next }
    }

    /// Whether a point in time has come since the last call. Those that have passed
    /// meanwhile, as in a process that was stopped, are one.
    fn is_due(&mut self, now: Instant) -> bool {
        let Some(at) = self.next.filter(|at| now >= *at) else {
            return false;
        };
        let next = at.checked_add(self.interval);
        self.next = match next {
            Some(next) if next <= now => now.checked_add(self.interval),
            next => next,
        };
        true
    }
}

fn descriptor_of(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    process::pidfd_open(pid, PidfdFlags::empty()).ok()
}

fn has_ended(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut fds, Some(&at_once)), Ok(1..))
}

/// Whether the file is a 32-bit program on a 64-bit kernel.
pub(super) fn is_compat(program: &Path) -> bool {
    /// `EI_CLASS` of an ELF file, and its value there.
    const CLASS: usize = 4;
    const CLASS_32: u8 = 1;
    let mut start = [0; CLASS + 1];
    let read = File::open(program).and_then(|mut file| file.read_exact(&mut start));
    cfg!(target_pointer_width = "64")
        && read.is_ok()
        && start.starts_with(b"\x7fELF")
        && start[CLASS] == CLASS_32
}

/// Returns the losses by kind; `full` names what there was no space for.
pub(super) fn losses(losses: &Losses, full: &'static str) -> BTreeMap<&'static str, u64> {
    let all = [
        (full, losses.full),
        ("events", losses.skipped),
        ("tasks", losses.untracked_tasks),
        ("unreadable", losses.unreadable),
    ];
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Reports losses on stderr.
pub(super) fn report(
    losses: &BTreeMap<&'static str, u64>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    out.flush()?;
    for (kind, count) in losses {
        let why = match *kind {
            "records" => "records lost, the ring buffer was full",
            "groups" => "events not counted, there are as many groups as can be",
            "events" => "events skipped, another program ran on the CPU",
            "unreadable" => "events not counted, a value could not be read",
            _ => "tasks that could not be followed",
        };
        say!("{count} {why}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_come_one_after_another() {
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        let mut ticks = Ticks::new(Duration::from_millis(100), begin);
        assert!(!ticks.is_due(at(0)) && !ticks.is_due(at(99)));
        // A little late: the next is not.
        assert!(ticks.is_due(at(130)) && !ticks.is_due(at(199)) && ticks.is_due(at(200)));
        // Stopped for long: once, and then an interval later.
        assert!(ticks.is_due(at(90_000)));
        assert!(!ticks.is_due(at(90_001)) && !ticks.is_due(at(90_099)));
        assert!(ticks.is_due(at(90_100)));
    }

    #[test]
    fn no_interval_is_too_long_or_too_short() {
        let begin = Instant::now();
        let mut ticks = Ticks::new(Duration::MAX, begin);
        assert!(!ticks.is_due(begin + Duration::from_secs(1 << 30)));
        // The last point in time there is.
        let mut ticks = Ticks::new(Duration::from_secs(1), begin);
        ticks.interval = Duration::MAX;
        assert!(ticks.is_due(begin + Duration::from_secs(1)));
        assert!(!ticks.is_due(begin + Duration::from_secs(1 << 30)));
        let mut ticks = Ticks::new(Duration::from_nanos(1), begin);
        assert!(ticks.is_due(begin + Duration::from_secs(1 << 30)));
        assert!(!ticks.is_due(begin + Duration::from_secs(1 << 30)));
    }
}
