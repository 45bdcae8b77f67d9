//! Loading programs and attaching them to events, and detaching them again.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use super::detaching::detach;
use super::error::{ProbeError, UnattachableKind};
use super::probed::{Hook, RawEvent};
use super::summary::total;
use crate::bpf;
use crate::bpf::asm::{Assembler, Program, Reg, Size};
use crate::bpf::sys::{self, ProgramType};
use crate::context;
use crate::error::Error;
use crate::kernel::{Kernel, ProgramForm, Tracepoint};
use crate::machine::until_nul;
use crate::name::EventName;

/// A program that runs whenever its event happens, until this is dropped.
#[derive(Debug)]
struct Attachment {
    /// On kernels before 5.15 there is none: the program runs until the event is
    /// closed.
    link: Option<OwnedFd>,
    /// `None` of a raw tracepoint.
    event: Option<OwnedFd>,
    program: OwnedFd,
}

/// The programs of a probe, all detached when dropped.
#[derive(Debug, Default)]
pub(crate) struct Attachments {
    all: Vec<Attachment>,
    /// The CPU that events are opened on, once it is known: asking for it takes five system calls.
    cpu: Option<u32>,
}

impl Attachments {
    /// Loads the program and attaches it to the event. The event is checked to be
    /// still the one that the program was made for: ids are used again.
    pub(crate) fn attach(
        &mut self,
        tracepoint: &Tracepoint,
        program: &Program,
        cookie: u64,
    ) -> Result<(), ProbeError> {
        let name = tracepoint.name();
        let program = load(name, ProgramType::Tracepoint, program)?;
        let refused = || ProbeError::Unattachable {
            event: name.clone(),
            kind: UnattachableKind::Refused,
        };
        // Only an event of an image has no id, and it is not this kernel's.
        let id = tracepoint.id().ok_or_else(|| ProbeError::NotLive {
            event: name.clone(),
        })?;
        let cpu = *self.cpu.get_or_insert_with(first_cpu);
        let event = sys::open_event(id, cpu).map_err(|error| {
            match error.raw_os_error() {
                // No event has the id any more, or this one takes no programs.
                Some(libc::EINVAL | libc::ENODEV) => {
                    check_unchanged(tracepoint).err().unwrap_or_else(refused)
                }
                Some(libc::ENOENT | libc::EOPNOTSUPP) => ProbeError::NoPerfEvents,
                Some(libc::ENOSYS) => ProbeError::NoPerfEvents,
                _ => of_system("opening events", error),
            }
        })?;
        // From here on the event that was opened stays, and its id
        // (`trace_event_try_get_ref()` in `perf_trace_event_init()`). Should it be
        // another one of that id, this one is gone or has another by now.
        check_unchanged(tracepoint)?;
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
            event: Some(event),
            program,
        });
        Ok(())
    }

    /// Loads a program for a raw tracepoint and attaches it.
    pub(crate) fn attach_raw(
        &mut self,
        raw: &RawEvent,
        hook: Hook,
        program: &Program,
    ) -> Result<(), ProbeError> {
        let is_typed = matches!(hook, Hook::TpBtf { .. });
        let module;
        let kind = match is_typed {
            false => ProgramType::RawTracepoint,
            true => {
                module = match raw.home.base() {
                    None => None,
                    Some(_) => Some(module_btf(raw)?),
                };
                ProgramType::TpBtf {
                    typedef: typedef_of(raw)?,
                    module: module.as_ref().map(AsRawFd::as_raw_fd),
                }
            }
        };
        self.open_raw(&raw.name, kind, program)
    }

    /// Loads a program for all system calls, at `sys_enter` or `sys_exit`, and attaches it.
    pub(crate) fn attach_to_all_calls(
        &mut self,
        kernel: &Kernel,
        tracepoint: &'static str,
        form: ProgramForm,
        program: &Program,
    ) -> Result<(), ProbeError> {
        let (_, home) = kernel.raw_tracepoint_and_home(tracepoint)?;
        let name = EventName::of_directories(form.as_str(), tracepoint);
        let name = name.map_err(|_| ProbeError::NoBpf)?;
        let kind = match form {
            ProgramForm::TpBtf => ProgramType::TpBtf {
                typedef: home.index().event_typedef(tracepoint).ok_or_else(|| {
                    ProbeError::NoTracepoint {
                        tracepoint: name.clone(),
                    }
                })?,
                module: None,
            },
            _ => ProgramType::RawTracepoint,
        };
        self.open_raw(&name, kind, program)
    }

    /// Loads a program and attaches it to the tracepoint of the name's second half.
    fn open_raw(
        &mut self,
        name: &EventName,
        kind: ProgramType,
        program: &Program,
    ) -> Result<(), ProbeError> {
        let program = load(name, kind, program)?;
        let tracepoint = CString::new(name.event()).unwrap_or_default();
        let is_typed = matches!(kind, ProgramType::TpBtf { .. });
        let tracepoint = Some(tracepoint.as_c_str()).filter(|_| !is_typed);
        let gone = || ProbeError::NoTracepoint {
            tracepoint: name.clone(),
        };
        let link = sys::open_raw_tracepoint(program.as_fd(), tracepoint);
        let link = link.map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT) => gone(),
            _ => of_system("attaching programs", error),
        })?;
        // Types of a module are found by their number, and it may have been replaced.
        match is_typed.then(|| tracepoint_of(link.as_fd())).flatten() {
            Some(attached) if attached != name.event() => return Err(gone()),
            _ => {}
        }
        self.all.push(Attachment {
            link: Some(link),
            event: None,
            program,
        });
        Ok(())
    }

    /// Adds others.
    pub(crate) fn append(&mut self, mut others: Self) {
        self.all.append(&mut others.all);
    }

    /// Adds a program that something else keeps attached.
    pub(crate) fn add_program(&mut self, program: OwnedFd) {
        self.all.push(Attachment {
            link: None,
            event: None,
            program,
        });
    }

    pub(crate) fn programs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all.iter().map(|one| one.program.as_fd())
    }

    /// Returns what keeps each program attached; `None` where that is its event alone.
    pub(crate) fn links(&self) -> impl Iterator<Item = Option<BorrowedFd<'_>>> {
        self.all
            .iter()
            .map(|one| one.link.as_ref().map(AsFd::as_fd))
    }

    /// Leaves the links to whatever else holds them.
    pub(crate) fn let_go(&mut self) {
        for one in &mut self.all {
            one.link = None;
            one.event = None;
        }
    }

    /// How often a program was not run because another one ran on the CPU.
    pub(crate) fn skipped(&self) -> Result<u64, ProbeError> {
        let skipped = self.all.iter().map(|one| sys::skipped(one.program.as_fd()));
        let skipped: io::Result<Vec<u64>> = skipped.collect();
        let skipped = skipped.map_err(|error| of_system("asking for missed runs", error))?;
        Ok(total(skipped))
    }
}

impl Drop for Attachments {
    fn drop(&mut self) {
        let (mut links, mut events) = (Vec::new(), Vec::new());
        let mut are_linked = true;
        for one in self.all.drain(..) {
            are_linked &= one.link.is_some();
            links.extend(one.link);
            events.extend(one.event);
        }
        detach(links, events, are_linked);
    }
}

/// Whether the event of this name is still the one that was read: its id, its
/// fields, all its format says.
fn check_unchanged(tracepoint: &Tracepoint) -> Result<(), ProbeError> {
    match tracepoint.kernel().tracepoint(tracepoint.name()) {
        Ok(now) if now.format() == tracepoint.format() => Ok(()),
        Ok(_) | Err(Error::EventGone { .. } | Error::NoSuchEvent { .. }) => {
            Err(ProbeError::Changed {
                event: tracepoint.name().clone(),
            })
        }
        Err(error) => Err(error.into()),
    }
}

fn typedef_of(raw: &RawEvent) -> Result<u32, ProbeError> {
    let typedef = raw.home.index().event_typedef(raw.name.event());
    typedef.ok_or_else(|| ProbeError::NoTracepoint {
        tracepoint: raw.name.clone(),
    })
}

fn module_btf(raw: &RawEvent) -> Result<OwnedFd, ProbeError> {
    let found = sys::open_module_btf(raw.home.name());
    let found = found.map_err(|error| of_system("opening the BTF of a module", error))?;
    found.ok_or_else(|| ProbeError::NoTracepoint {
        tracepoint: raw.name.clone(),
    })
}

/// The tracepoint that a link is to, as the kernel says; `None` where it does not.
fn tracepoint_of(link: BorrowedFd<'_>) -> Option<String> {
    let path = format!("/proc/self/fdinfo/{}", link.as_raw_fd());
    let text = fs::read_to_string(path).ok()?;
    let mut lines = text.lines();
    let name = lines.find_map(|line| line.strip_prefix("tp_name:"))?;
    Some(name.trim().to_owned())
}

/// Whether `tp_btf` programs may load from what their arguments point at.
///
/// The verifier takes an argument for a pointer to a struct, whatever it is. Some are NULL,
/// or an error's number: kernels from 6.2 to 6.12 then load from that address, and older
/// ones read 0. Later ones have a list of those that may be (`raw_tp_null_args` of
/// `kernel/bpf/btf.c`, Linux 6.13 and updates of older ones), and refuse loads that do not
/// test them. A kernel that refuses such a load has the list.
pub(crate) fn loads_are_safe(kernel: &Kernel) -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    if !kernel.is_live() {
        return false;
    }
    *KNOWN.get_or_init(|| {
        // `sched_pi_setprio(struct task_struct *tsk, struct task_struct *pi_task)`: the
        // second is NULL where nobody boosts the task.
        let Ok((_, home)) = kernel.raw_tracepoint_and_home("sched_pi_setprio") else {
            return false;
        };
        let Some(typedef) = home.index().event_typedef("sched_pi_setprio") else {
            return false;
        };
        let kind = ProgramType::TpBtf {
            typedef,
            module: None,
        };
        let load_from = |argument: i16| {
            let mut asm = Assembler::default();
            asm.load(Size::B8, Reg::R1, Reg::R1, 8 * argument);
            asm.load(Size::B8, Reg::R1, Reg::R1, 0);
            asm.mov(Reg::R0, 0);
            asm.exit();
            let program = asm.finish().map_err(|_| io::ErrorKind::InvalidData)?;
            with_memory(|| sys::load_program(kind, &program, "tracepoints", &mut []))
        };
        let is_refused = |error: io::Error| error.raw_os_error() == Some(libc::EACCES);
        load_from(0).is_ok() && load_from(1).is_err_and(is_refused)
    })
}

/// Loads a program; if it is rejected, says what the verifier says.
fn load(name: &EventName, kind: ProgramType, program: &Program) -> Result<OwnedFd, ProbeError> {
    let attempt = |log: &mut [u8]| sys::load_program(kind, program, name.event(), log);
    let source = match with_memory(|| attempt(&mut [])) {
        Ok(program) => return Ok(program),
        Err(error) => error,
    };
    // No such type of program, or no such type to attach to.
    if let (ProgramType::TpBtf { .. }, Some(libc::EINVAL | libc::EOPNOTSUPP)) =
        (kind, source.raw_os_error())
    {
        return Err(ProbeError::NoTpBtf {
            tracepoint: name.clone(),
            source,
        });
    }
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
        Some(libc::EPERM | libc::EACCES) => match bpf::is_locked_down() {
            true => ProbeError::Lockdown,
            false => ProbeError::NotPermitted { what },
        },
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

/// Returns the kind of the event, if no tracepoint program can be attached to it.
pub(crate) fn unattachable(
    tracepoint: &Tracepoint,
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
    let line = Kernel::dynamic_event(dynamic_events, name)?;
    Some(match line.as_bytes().first()? {
        b's' => UnattachableKind::Synthetic,
        b'e' => UnattachableKind::EventProbe,
        b'u' => UnattachableKind::User,
        _ => UnattachableKind::Probe,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use super::*;
    use crate::bpf::asm::{Assembler, Reg};

    /// An event made at run time, removed when dropped.
    struct Made<'t> {
        tracefs: &'t Path,
        kind: &'static str,
        name: String,
    }

    /// Events are user events, which take tracepoint programs, or, where the kernel
    /// has none, uprobes.
    fn made<'t>(tracefs: &'t Path, event: &str, arguments: u32) -> io::Result<Made<'t>> {
        let own = format!("tracepoints_{}_{event}", std::process::id());
        let of = |what: &str, one: &str| -> String {
            let some = (0..arguments).map(|number| format!(" {what}{number}{one}"));
            some.collect()
        };
        let attempts = [
            ("user_events", format!("u:{own}{}", of("u32 a", ";"))),
            (
                "uprobes",
                format!("p:uprobes/{own} /bin/sh:0x1000{}", of("a", "=%ax")),
            ),
        ];
        let mut result = Err(io::ErrorKind::Unsupported.into());
        for (kind, command) in attempts {
            result = command_to(tracefs, &command).map(|()| Made {
                tracefs,
                kind,
                name: format!("{kind}:{own}"),
            });
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn command_to(tracefs: &Path, command: &str) -> io::Result<()> {
        let file = fs::File::options()
            .append(true)
            .open(tracefs.join("dynamic_events"));
        file?.write_all(command.as_bytes())
    }

    impl Drop for Made<'_> {
        fn drop(&mut self) {
            let own = self.name.replace(':', "/");
            let command = match self.kind {
                "user_events" => format!("!u:{own}"),
                _ => format!("-:{own}"),
            };
            command_to(self.tracefs, &command).expect("it is removed");
        }
    }

    fn nothing() -> Program {
        let mut asm = Assembler::default();
        asm.mov(Reg::R0, 0);
        asm.exit();
        asm.finish().expect("no jumps")
    }

    fn attach(tracepoint: &Tracepoint) -> Result<(), ProbeError> {
        Attachments::default().attach(tracepoint, &nothing(), 0)
    }

    fn is_changed(result: Result<(), ProbeError>) -> bool {
        match result {
            Err(ProbeError::Changed { .. }) => true,
            other => panic!("{other:?}"),
        }
    }

    /// An id that was read may be another event's when it is opened.
    #[test]
    fn an_id_that_is_used_again() {
        const TEST: &str = "probe::attach::tests::an_id_that_is_used_again";
        let Some(kernel) = crate::live_test::kernel(TEST) else {
            return;
        };
        let root = kernel.tracefs();
        let first = match made(root, "first", 0) {
            Ok(first) => first,
            Err(error) => return eprintln!("SKIPPED {TEST}: no event can be made: {error}"),
        };
        let name = first.name.clone();
        let read = |name: &str| kernel.tracepoint(name).expect("it was made");
        let before = read(&name);
        drop(first);
        // Nobody has the id, and opening it fails.
        assert!(is_changed(attach(&before)));

        let second = made(root, "second", 0).expect("another event");
        let other = read(&second.name);
        if other.id() != before.id() {
            // Kernels before 6.3 give a new id as long as there is one.
            return eprintln!("SKIPPED {TEST}: this kernel does not use ids again at once");
        }
        // The id is another event's, which can be opened.
        assert!(is_changed(attach(&before)));

        // The name is there again, and has another id.
        let first = made(root, "first", 0).expect("the first again");
        let again = read(&first.name);
        assert_ne!(again.id(), before.id());
        assert_eq!(again.format().fields(), before.format().fields());
        assert!(is_changed(attach(&before)));
        drop((first, second));

        // Name and id are there again, and the fields are others.
        let first = made(root, "first", 1).expect("the first again");
        let again = read(&first.name);
        assert_eq!(again.id(), before.id());
        assert_ne!(again.format().fields(), before.format().fields());
        assert!(is_changed(attach(&before)));
        drop(first);

        // All is as it was: then it depends on the kind of the event alone.
        let first = made(root, "first", 0).expect("the first again");
        assert_eq!(read(&first.name).id(), before.id());
        match attach(&before) {
            Ok(()) => assert_eq!(first.kind, "user_events"),
            Err(ProbeError::Unattachable { .. }) => assert_eq!(first.kind, "uprobes"),
            Err(error) => panic!("{error}"),
        }
    }
}
