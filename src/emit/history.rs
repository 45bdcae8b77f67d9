//! Events whose struct or members differ between kernels, in a table.
//!
//! The table is made from whole captured kernels by a test in `history_tests.rs`, which
//! also fails if the table differs from the kernels at hand. An event is in the table if
//! two kernels have it with another struct, or with members of another name, type or size.
//! Offsets are not in the table, since libbpf relocates them. The class is that of
//! `truth/class.tsv`, read from the kernel's own memory; events without a BTF type are left
//! out.
//!
//! A line is an event, the letters of kernels, a struct and its members, with tabs between.
//! A struct after `!` is one that other kernels have for the event and that libbpf also
//! finds here, for other events. Its members are those that the event has elsewhere, or not
//! at all.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::portability::Portability;
use crate::error::Error;
use crate::kernel::Tracepoint;
use crate::layout::ctype::CType;
use crate::layout::{Layout, Slot};
use crate::name::{EventName, SyscallSide};

const TABLE: &str = include_str!("history.tsv");

/// A table of events whose struct or members differ between captured kernels.
///
/// libbpf relocates a program to the kernel it is loaded on by the names of structs and
/// members. It does not know which struct an event has there: where that has changed, and
/// the old struct is still there for other events, the program reads other bytes.
///
/// ```
/// use tracepoints::Kernel;
/// use tracepoints::emit::{Elsewhere, History};
///
/// let kernel = Kernel::at("tests/fixtures/6.1.192-rt-x86_64")?;
/// let exit = kernel.tracepoint("sched:sched_process_exit")?;
/// let portability = History::known().portability(&exit)?;
/// let remark = portability.remarks().first().ok_or("a remark")?;
/// assert!(remark.kernels().contains(&"6.18.15-x86_64"));
/// let Elsewhere::Misread { struct_name, .. } = remark.elsewhere() else {
///     return Err("it would be read wrongly".into());
/// };
/// assert_eq!(struct_name, "trace_event_raw_sched_process_exit");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct History {
    kernels: Vec<(char, &'static str)>,
    events: HashMap<&'static str, Vec<HistoryRow>>,
}

/// One event on some kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HistoryRow {
    /// The letters of the kernels.
    letters: &'static str,
    pub(super) struct_name: &'static str,
    /// Whether the struct is not the event's on these kernels.
    pub(super) is_misread: bool,
    members: &'static str,
}

impl History {
    /// Returns the table that the crate comes with.
    pub fn known() -> &'static Self {
        static KNOWN: OnceLock<History> = OnceLock::new();
        KNOWN.get_or_init(|| Self::parse(TABLE))
    }

    fn parse(table: &'static str) -> Self {
        let mut kernels = Vec::new();
        let mut events: HashMap<&str, Vec<HistoryRow>> = HashMap::new();
        for line in table.lines() {
            let cells: Vec<&'static str> = line.split('\t').collect();
            match cells[..] {
                ["kernel", letter, label] => {
                    kernels.extend(letter.chars().next().map(|letter| (letter, label)));
                }
                [event, letters, struct_name, members] => {
                    let other = struct_name.strip_prefix('!');
                    events.entry(event).or_default().push(HistoryRow {
                        letters,
                        struct_name: other.unwrap_or(struct_name),
                        is_misread: other.is_some(),
                        members,
                    });
                }
                _ => {}
            }
        }
        Self { kernels, events }
    }

    /// Returns the kernels that the table was made from, oldest first: release and
    /// machine.
    pub fn kernels(&self) -> impl Iterator<Item = &'static str> {
        self.kernels.iter().map(|(_, label)| *label)
    }

    /// Returns what a program gets on the table's kernels if it was compiled with this
    /// kernel's struct and is relocated by names (CO-RE). There is no remark if the table
    /// has no difference: the kernels that have the event have the same struct with the
    /// same members, or none has it.
    ///
    /// # Errors
    ///
    /// Those of [`Tracepoint::context`], and [`Error::Layout`] where types cannot be
    /// followed.
    pub fn portability(&self, tracepoint: &Tracepoint) -> Result<Portability, Error> {
        Portability::of(self, tracepoint)
    }

    pub(super) fn rows(&self, tracepoint: &Tracepoint) -> &[HistoryRow] {
        let rows = self.events.get(&*key(tracepoint));
        rows.map_or(&[], Vec::as_slice)
    }

    /// Returns the rows of an event of this name; empty for a system call's.
    pub(super) fn rows_of(&self, event: &EventName) -> &[HistoryRow] {
        let rows = self.events.get(event.as_str());
        rows.map_or(&[], Vec::as_slice)
    }

    pub(super) fn labels(&self, letters: &str) -> impl Iterator<Item = &'static str> {
        let kernels = self.kernels.iter();
        kernels.filter_map(|(letter, label)| letters.contains(*letter).then_some(*label))
    }
}

impl HistoryRow {
    /// Returns the letters of the row's kernels.
    pub(super) fn letters(&self) -> &'static str {
        self.letters
    }

    /// Returns the row for each of its kernels alone: another row may be of some of them.
    pub(super) fn each_kernel(self) -> impl Iterator<Item = Self> {
        let letters = self.letters;
        letters.char_indices().map(move |(at, letter)| Self {
            letters: &letters[at..at + letter.len_utf8()],
            ..self
        })
    }

    /// Returns the names and kinds of the members; the kinds are empty for a misread
    /// struct.
    pub(super) fn members(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let words = self.members.split(' ').filter(|word| *word != "-");
        words.map(|word| word.split_once(':').unwrap_or((word, "")))
    }
}

/// Returns the event's name in the table. All system calls share one name for each side.
pub(super) fn key(tracepoint: &Tracepoint) -> String {
    match tracepoint.format().syscall_side(tracepoint.name()) {
        Some(SyscallSide::Enter) => "syscalls:sys_enter_*".to_owned(),
        Some(SyscallSide::Exit) => "syscalls:sys_exit_*".to_owned(),
        None => tracepoint.name().to_string(),
    }
}

/// Returns the members that programs read and that libbpf finds by name. For a system
/// call's struct these are the arguments or the return value: for the number see
/// [`Context::slot_of`](crate::Context::slot_of).
pub(crate) fn members(layout: &Layout, is_syscall: bool) -> impl Iterator<Item = &Slot> {
    let slots = layout.slots().iter();
    slots.filter(move |slot| match is_syscall {
        true => matches!(slot.name(), "args" | "ret"),
        false => !matches!(slot.name(), "" | "ent" | "__data"),
    })
}

/// Returns the kind of a member's type, as far as relocation depends on it, and its size
/// in bytes: `i4`, `a16`. BTF does not tell the sign of every one-byte type. An array of
/// size 0 may have any number of elements, as `args` of `syscall_trace_enter` has.
pub(crate) fn kind(slot: &Slot) -> String {
    let kind = match slot.ty.resolved() {
        CType::Int { size: 1, .. } => 'b',
        CType::Int { signed: true, .. } => 'i',
        CType::Int { .. } => 'u',
        CType::Enum { .. } => 'e',
        CType::Pointer { .. } => 'p',
        CType::Array { .. } => 'a',
        CType::Record { .. } => 'r',
        CType::Float { .. } => 'f',
        _ => '?',
    };
    match slot.bits() {
        Some(bits) => format!("{kind}{}b", bits.end - bits.start),
        None => format!("{kind}{}", slot.size()),
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
