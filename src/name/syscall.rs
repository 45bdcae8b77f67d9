//! Recognizes events of system calls by their names, and by the first field of their
//! records.

use super::EventName;

/// One of the two events of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SyscallSide {
    /// `syscalls:sys_enter_*`, whose records have the arguments.
    Enter,
    /// `syscalls:sys_exit_*`, whose records have the return value.
    Exit,
}

impl SyscallSide {
    /// Returns the side of an event with this name, whose records begin with this field
    /// after the common ones; `None` if the event is not a system call's.
    ///
    /// Other events may be in the category `syscalls`: probes and user events are in any
    /// category, under any name, that their creator chooses. Only records of the kernel's
    /// own events (`kernel/trace/trace_syscalls.c`) begin with the number of the system
    /// call.
    pub(crate) fn of(name: &EventName, first_field: Option<&str>) -> Option<Self> {
        match name.category() {
            "syscalls" => Self::of_event(name.event(), first_field),
            _ => None,
        }
    }

    /// Like [`of`](Self::of), where the category is not known, as in a format file.
    pub(crate) fn of_event(event: &str, first_field: Option<&str>) -> Option<Self> {
        let (side, _) = split(event)?;
        first_field.is_some_and(is_syscall_number).then_some(side)
    }

    /// Returns the side and the system call that an event's name alone suggests.
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

/// The field with the system call's number, since Linux 4.9.
pub(crate) const SYSCALL_NUMBER: &str = "__syscall_nr";

/// Whether the first field of a system call's record is its number, by the field's name.
/// Other fields are not examined: arguments may be called `nr` too (`io_submit`).
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
        // A probe, an event of another name, and events of the same name elsewhere.
        assert_eq!(side("syscalls:sys_enter_mine", Some("__probe_ip")), None);
        assert_eq!(side("syscalls:sys_enter_mine", None), None);
        assert_eq!(side("syscalls:mine", number), None);
        assert_eq!(side("mine:sys_enter_dup2", number), None);
        assert_eq!(side("raw_syscalls:sys_enter", Some("id")), None);
    }
}
