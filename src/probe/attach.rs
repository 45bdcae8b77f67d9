//! Loading programs and attaching them to events, and detaching them again.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::asm::Program;
use super::error::{ProbeError, UnattachableKind};
use super::sys::{self, ProgramType};
use crate::context;
use crate::event_name::EventName;
use crate::record::until_nul;
use crate::tracepoint::Tracepoint;

/// A program that runs whenever its event happens, until this is dropped.
#[derive(Debug)]
struct Attachment {
    /// On kernels before 5.15 there is none: the program runs until the event is
    /// closed.
    link: Option<OwnedFd>,
    event: OwnedFd,
    program: OwnedFd,
}

/// The programs of a probe, all detached when dropped.
#[derive(Debug, Default)]
pub(crate) struct Attachments {
    all: Vec<Attachment>,
}

impl Attachments {
    /// Loads the program and attaches it to the event. The event is checked to be
    /// still the one that the program was made for: ids are used again.
    pub(crate) fn attach(
        &mut self,
        tracepoint: &Tracepoint<'_>,
        program: &Program,
        cookie: u64,
    ) -> Result<(), ProbeError> {
        let name = tracepoint.name();
        let program = load(name, program)?;
        let refused = || ProbeError::Unattachable {
            event: name.clone(),
            kind: UnattachableKind::Refused,
        };
        let event = sys::open_event(tracepoint.id(), first_cpu()).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::EINVAL | libc::ENODEV) => refused(),
                Some(libc::ENOENT | libc::EOPNOTSUPP) => ProbeError::NoPerfEvents,
                Some(libc::ENOSYS) => ProbeError::NoPerfEvents,
                _ => of_system("opening events", error),
            }
        })?;
        // From here on the event's module stays, and its id.
        let now = tracepoint.kernel().tracepoint(name.as_str())?;
        if now.format() != tracepoint.format() {
            return Err(ProbeError::Changed {
                event: name.clone(),
            });
        }
        let link = match sys::link(program.as_fd(), event.as_fd(), cookie) {
            Ok(link) => Some(link),
            // Kernels before 5.15 do not link to events.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                sys::set_program(event.as_fd(), program.as_fd()).map_err(|error| {
                    match error.raw_os_error() {
                        Some(libc::EINVAL) => refused(),
                        _ => of_system("attaching programs", error),
                    }
                })?;
                None
            }
            Err(error) => return Err(of_system("attaching programs", error)),
        };
        self.all.push(Attachment {
            link,
            event,
            program,
        });
        Ok(())
    }

    /// How often a program was not run because another one ran on the CPU.
    pub(crate) fn skipped(&self) -> Result<u64, ProbeError> {
        let skipped = self.all.iter().map(|one| sys::skipped(one.program.as_fd()));
        let sum: io::Result<u64> = skipped.sum();
        sum.map_err(|error| of_system("asking for missed runs", error))
    }
}

/// Closing takes the kernel a grace period or two each: some 40 ms for a link
/// (`perf_event_detach_bpf_prog()`) and as much for an event
/// (`perf_trace_event_unreg()`), measured on Linux 6.18. Links closed at the same time
/// wait together; on Linux 6.1.192 `perf_event_detach_bpf_prog()` waits holding a lock,
/// and they are detached one after another all the same.
impl Drop for Attachments {
    fn drop(&mut self) {
        let (mut links, mut events) = (Vec::new(), Vec::new());
        let mut are_linked = true;
        for one in self.all.drain(..) {
            are_linked &= one.link.is_some();
            links.extend(one.link);
            events.push(one.event);
        }
        close_at_once(links);
        // From here on no program runs. The kernel closes events one after
        // another, whoever asks, and nobody has to wait for it.
        if are_linked && events.len() > 1 {
            let close = std::thread::Builder::new().name("tracepoints".to_owned());
            // Without a thread they are closed here.
            let _ = close.spawn(move || drop(events));
        }
    }
}

/// Closes files in as many threads: their grace periods are the same ones then.
fn close_at_once(mut files: Vec<OwnedFd>) {
    /// They wait and do nothing else, and need next to no stack.
    const THREADS: usize = 256;
    const STACK: usize = 64 << 10;
    let share = files.len().div_ceil(THREADS);
    std::thread::scope(|scope| {
        while files.len() > share {
            let part = files.split_off(files.len() - share);
            let thread = std::thread::Builder::new().stack_size(STACK);
            // Without a thread they are closed here.
            let _ = thread.spawn_scoped(scope, move || drop(part));
        }
        drop(files);
    });
}

/// Loads a tracepoint program; if it is rejected, says what the verifier says.
fn load(name: &EventName, program: &Program) -> Result<OwnedFd, ProbeError> {
    let attempt =
        |log: &mut [u8]| sys::load_program(ProgramType::Tracepoint, program, name.event(), log);
    let source = match with_memory(|| attempt(&mut [])) {
        Ok(program) => return Ok(program),
        Err(error) => error,
    };
    if let Some(libc::EPERM | libc::ENOSYS | libc::EMFILE | libc::ENFILE) = source.raw_os_error() {
        return Err(of_system("loading programs", source));
    }
    /// Enough for what a program of ours makes the verifier say.
    const LOG: usize = 1 << 20;
    let mut log = vec![0; LOG];
    // It fails again, unless what hindered it has gone by now.
    if let Ok(program) = attempt(&mut log) {
        return Ok(program);
    }
    let log = String::from_utf8_lossy(until_nul(&log));
    let lines: Vec<&str> = log.lines().collect();
    let end = &lines[lines.len().saturating_sub(30)..];
    Err(ProbeError::Rejected {
        event: name.clone(),
        source,
        log: format!("{program}\n{}", end.join("\n")),
    })
}

/// Tries again with all the locked memory there can be, which is what kernels
/// before 5.11 lack when they do not permit it.
pub(crate) fn with_memory<T>(attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match attempt() {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            match sys::raise_locked_memory_limit() {
                Ok(()) => attempt(),
                Err(_) => Err(error),
            }
        }
        result => result,
    }
}

/// Which error a failure of the system is.
pub(crate) fn of_system(what: &'static str, source: io::Error) -> ProbeError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            let lockdown = fs::read_to_string("/sys/kernel/security/lockdown");
            match lockdown.is_ok_and(|modes| modes.contains("[confidentiality]")) {
                true => ProbeError::Lockdown,
                false => ProbeError::NotPermitted { what },
            }
        }
        Some(libc::ENOSYS) => ProbeError::NoBpf,
        Some(libc::EMFILE | libc::ENFILE) => ProbeError::TooManyFiles,
        _ => ProbeError::System {
            what: what.to_owned(),
            source,
        },
    }
}

/// The first CPU that is online: not always 0.
fn first_cpu() -> u32 {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let digits = online.split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// What the event is, if no tracepoint program can be attached to it.
pub(crate) fn unattachable(
    tracepoint: &Tracepoint<'_>,
    dynamic_events: &str,
) -> Option<UnattachableKind> {
    let name = tracepoint.name();
    if context::is_probe_event(tracepoint.format()) {
        return Some(UnattachableKind::Probe);
    }
    if name.category() == "ftrace" {
        return Some(UnattachableKind::Ftrace);
    }
    if matches!(name.category(), "user_events" | "user_events_multi") {
        return Some(UnattachableKind::User);
    }
    // `s:synthetic/wakeup u64 lat`, `e:eprobes/open syscalls/sys_enter_openat …`.
    let is_this = |line: &&str| {
        let words = line.split_once(':').map(|(_, rest)| rest);
        let named = words.and_then(|words| words.split_whitespace().next());
        named.and_then(|named| named.split_once('/')) == Some((name.category(), name.event()))
    };
    let line = dynamic_events.lines().find(is_this)?;
    Some(match line.as_bytes().first()? {
        b's' => UnattachableKind::Synthetic,
        b'e' => UnattachableKind::EventProbe,
        b'u' => UnattachableKind::User,
        _ => UnattachableKind::Probe,
    })
}
