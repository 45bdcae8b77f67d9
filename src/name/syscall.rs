//! What an event of a system call is: a name, and the first field of its records.

use super::EventName;

/// Which of a system call's two events one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyscallSide {
    /// `syscalls:sys_enter_*`: its records have the arguments.
    Enter,
    /// `syscalls:sys_exit_*`: its records have what was returned.
    Exit,
}

impl SyscallSide {
    /// The side of an event of this name whose records begin with this field of
    /// their own; `None` if it is not a system call's.
    ///
    /// Other events may be in the category `syscalls`: probes and user events are in
    /// any that whoever makes them chooses, under any name. Only the kernel's own
    /// (`kernel/trace/trace_syscalls.c`) begin with the system call's number.
    pub(crate) fn of(name: &EventName, first_field: Option<&str>) -> Option<Self> {
        match name.category() {
            "syscalls" => Self::of_event(name.event(), first_field),
            _ => None,
        }
    }

    /// The side where the category is not known, as in a format file.
    pub(crate) fn of_event(event: &str, first_field: Option<&str>) -> Option<Self> {
        let (side, _) = split(event)?;
        first_field.is_some_and(is_syscall_number).then_some(side)
    }

    /// The side and the system call an event would be of by its name alone.
    pub(crate) fn and_call(name: &EventName) -> Option<(Self, &str)> {
        if name.category() != "syscalls" {
            return None;
        }
        split(name.event())
    }
}

fn split(event: &str) -> Option<(SyscallSide, &str)> {
    match event.strip_prefix("sys_enter_") {
        Some(call) => Some((SyscallSide::Enter, call)),
        None => Some((SyscallSide::Exit, event.strip_prefix("sys_exit_")?)),
    }
}

/// The name of the number's field since Linux 4.9.
pub(crate) const SYSCALL_NUMBER: &str = "__syscall_nr";

/// Whether a system call's record has its number in a field of this name, which is
/// its first one: arguments may be called `nr` too (`io_submit`).
fn is_syscall_number(first_field: &str) -> bool {
    matches!(first_field, SYSCALL_NUMBER | "nr")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides() {
        let side = |name: &str, first| {
            let name = name.parse().expect("a name");
            SyscallSide::of(&name, first)
        };
        let number = Some("__syscall_nr");
        let (enter, exit) = (Some(SyscallSide::Enter), Some(SyscallSide::Exit));
        assert_eq!(side("syscalls:sys_enter_dup2", number), enter);
        assert_eq!(side("syscalls:sys_exit_dup2", number), exit);
        assert_eq!(side("syscalls:sys_exit_dup2", Some("nr")), exit);
        // A probe, an event of another name, and namesakes elsewhere.
        assert_eq!(side("syscalls:sys_enter_mine", Some("__probe_ip")), None);
        assert_eq!(side("syscalls:sys_enter_mine", None), None);
        assert_eq!(side("syscalls:mine", number), None);
        assert_eq!(side("mine:sys_enter_dup2", number), None);
        assert_eq!(side("raw_syscalls:sys_enter", Some("id")), None);
    }
}
