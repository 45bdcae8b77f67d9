//! What stands before and around the text of an event in tracefs's `trace` file.

use std::collections::HashMap;
use std::fmt::{self, Write};

use crate::format::Format;
use crate::record::{Record, RecordError};

/// The commands' names by process, as `saved_cmdlines` has them. A record has only
/// a pid.
#[derive(Clone, Debug, Default)]
pub struct TaskNames {
    by_pid: HashMap<i32, String>,
}

impl TaskNames {
    /// Reads the text of `saved_cmdlines`, a pid and a name on each line. The
    /// kernel writes any name a process gives itself, newlines included: what
    /// begins with no pid is passed over.
    pub fn parse(saved_cmdlines: &str) -> Self {
        let entry = |line: &str| {
            let (pid, name) = line.split_once(' ')?;
            Some((pid.parse().ok()?, name.to_owned()))
        };
        Self {
            by_pid: saved_cmdlines.lines().filter_map(entry).collect(),
        }
    }

    /// The name of a process; as the kernel does, `<idle>` for 0, `<XXX>` for
    /// what is no pid and `<...>` for one that was not saved.
    pub fn of(&self, pid: i32) -> &str {
        match pid {
            0 => "<idle>",
            ..0 => "<XXX>",
            _ => self.by_pid.get(&pid).map_or("<...>", String::as_str),
        }
    }
}

/// Which letters `trace` shows of what the CPU was doing (`common_flags`,
/// `common_preempt_count`): they are more on newer kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlagColumns {
    /// Up to Linux 5.14: irqs-off, need-resched, hardirq/softirq, preempt-depth.
    Four,
    /// Since Linux 5.15: those, and migrate-disable.
    Five,
    /// Kernels of PREEMPT_RT whose records have `common_preempt_lazy_count`:
    /// need-resched-lazy and preempt-lazy-depth too.
    Seven,
}

impl FlagColumns {
    /// Those of a `trace` file, by the legend at its beginning, which an empty one
    /// has too; `None` if it has none.
    pub fn of_legend(trace: &str) -> Option<Self> {
        let legend = trace.lines().take_while(|line| line.starts_with('#'));
        let has = |column: &str| legend.clone().any(|line| line.contains(column));
        match (
            has("=> preempt-depth"),
            has("=> preempt-lazy-depth"),
            has("=> migrate-disable"),
        ) {
            (true, true, true) => Some(Self::Seven),
            (true, false, true) => Some(Self::Five),
            (true, false, false) => Some(Self::Four),
            _ => None,
        }
    }

    /// Those of the records of this format, if their kernel is of Linux 5.15 or
    /// later, which the format does not tell.
    pub fn of_format(format: &Format) -> Self {
        match format.field("common_preempt_lazy_count") {
            Some(_) => Self::Seven,
            None => Self::Five,
        }
    }
}

/// What `trace` has before an event's text: command, pid, CPU, flags and time
/// (`trace_print_context()` in the kernel's `kernel/trace/trace_output.c`).
///
/// [`Display`](fmt::Display) writes `           cat-4711    [001] d..2.    98.157458: `.
#[derive(Clone, Copy, Debug)]
pub struct TraceContext<'a> {
    command: &'a str,
    pid: i32,
    cpu: u32,
    flags: u8,
    preempt_count: u8,
    preempt_lazy_count: u8,
    columns: FlagColumns,
    timestamp: u64,
}

impl<'a> TraceContext<'a> {
    /// That of a record written on `cpu` at `timestamp`, in nanoseconds.
    ///
    /// # Errors
    ///
    /// [`RecordError::Short`]. What the format has no common field for is 0.
    pub fn new(
        record: &Record<'_>,
        cpu: u32,
        timestamp: u64,
        names: &'a TaskNames,
        columns: FlagColumns,
    ) -> Result<Self, RecordError> {
        let common = record.format().common_fields().iter();
        let number = |name: &str| {
            let field = common.clone().find(|field| field.name() == name);
            let value = field.map(|field| record.raw(field));
            let value = value.transpose()?.unwrap_or_default();
            Ok(record.machine().signed(value))
        };
        let pid = number("common_pid")? as i32;
        Ok(Self {
            command: names.of(pid),
            pid,
            cpu,
            flags: number("common_flags")? as u8,
            preempt_count: number("common_preempt_count")? as u8,
            preempt_lazy_count: match columns {
                FlagColumns::Seven => number("common_preempt_lazy_count")? as u8,
                _ => 0,
            },
            columns,
            timestamp,
        })
    }

    /// The command's name.
    pub fn command(&self) -> &'a str {
        self.command
    }

    /// The process (of user space: the thread) that was running.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The letters alone: `d..2.`.
    pub fn flags(&self) -> impl fmt::Display + use<'a> {
        Flags(*self)
    }
}

impl fmt::Display for TraceContext<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded, as ns2usecs() does.
        let micros = (self.timestamp / 1000) + (self.timestamp % 1000 + 500) / 1000;
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        let Self {
            command, pid, cpu, ..
        } = self;
        write!(
            out,
            "{command:>16}-{pid:<7} [{cpu:03}] {} {seconds:>5}.{micros:06}: ",
            Flags(*self)
        )
    }
}

/// Bits of `common_flags` (`enum trace_flag_type`).
mod flag {
    pub(super) const IRQS_OFF: u8 = 0x01;
    /// Since Linux 6.13. Before, of machines that cannot tell whether interrupts
    /// are off; none of those this crate was tried on.
    pub(super) const NEED_RESCHED_LAZY: u8 = 0x02;
    pub(super) const NEED_RESCHED: u8 = 0x04;
    pub(super) const HARDIRQ: u8 = 0x08;
    pub(super) const SOFTIRQ: u8 = 0x10;
    /// Where there are seven columns, need-resched-lazy.
    pub(super) const PREEMPT_RESCHED: u8 = 0x20;
    pub(super) const NMI: u8 = 0x40;
    pub(super) const BH_OFF: u8 = 0x80;
}

struct Flags<'a>(TraceContext<'a>);

/// `trace_print_lat_fmt()`
impl fmt::Display for Flags<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let context = &self.0;
        let has = |flag: u8| context.flags & flag != 0;
        out.write_char(match (has(flag::IRQS_OFF), has(flag::BH_OFF)) {
            (true, true) => 'D',
            (true, false) => 'd',
            (false, true) => 'b',
            (false, false) => '.',
        })?;
        let is_seven = context.columns == FlagColumns::Seven;
        let (now, lazy, preempt) = (
            has(flag::NEED_RESCHED),
            has(flag::NEED_RESCHED_LAZY) && !is_seven,
            has(flag::PREEMPT_RESCHED) && !is_seven,
        );
        out.write_char(match (now, lazy, preempt) {
            (true, true, true) => 'B',
            (true, false, true) => 'N',
            (false, true, true) => 'L',
            (true, true, false) => 'b',
            (true, false, false) => 'n',
            (false, true, false) => 'l',
            (false, false, true) => 'p',
            (false, false, false) => '.',
        })?;
        if is_seven {
            let lazy = has(flag::PREEMPT_RESCHED);
            out.write_char(if lazy { 'L' } else { '.' })?;
        }
        let (nmi, hard, soft) = (has(flag::NMI), has(flag::HARDIRQ), has(flag::SOFTIRQ));
        out.write_char(match (nmi, hard, soft) {
            (true, true, _) => 'Z',
            (true, false, _) => 'z',
            (false, true, true) => 'H',
            (false, true, false) => 'h',
            (false, false, true) => 's',
            (false, false, false) => '.',
        })?;
        let mut depth = |depth: u8| match depth {
            0 => out.write_char('.'),
            _ => write!(out, "{depth:x}"),
        };
        if context.columns == FlagColumns::Four {
            return depth(context.preempt_count);
        }
        depth(context.preempt_count & 0xf)?;
        if is_seven {
            depth(context.preempt_lazy_count)?;
        }
        depth(context.preempt_count >> 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{ByteOrder, Machine};

    const MACHINE: Machine = Machine::new(ByteOrder::Little, true);

    fn format(common: &str, own: &str, print_fmt: &str) -> Format {
        let text = format!(
            "name: x\nID: 1\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
            \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
            \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
            \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\
            {common}\n{own}\nprint fmt: {print_fmt}\n"
        );
        Format::parse(&text).expect("a format")
    }

    fn flags(columns: FlagColumns, flags: u8, count: u8) -> String {
        let format = format(
            "\tfield:unsigned char common_preempt_lazy_count;\toffset:8;\tsize:1;\tsigned:0;\n",
            "",
            "\"\"",
        );
        let bytes = [1, 0, flags, count, 5, 0, 0, 0, 3];
        let record = Record::new(&format, &bytes, MACHINE);
        let names = TaskNames::default();
        let context = TraceContext::new(&record, 0, 0, &names, columns).expect("whole");
        context.flags().to_string()
    }

    #[test]
    fn letters_of_flags() {
        use FlagColumns::{Five, Four, Seven};
        for (columns, bits, count, expected) in [
            (Five, 0, 0, "....."),
            (Five, flag::IRQS_OFF, 0x10, "d...1"),
            (Five, flag::BH_OFF, 0x2f, "b..f2"),
            (Five, flag::IRQS_OFF | flag::BH_OFF, 1, "D..1."),
            (Five, flag::NEED_RESCHED, 0, ".n..."),
            (Five, flag::NEED_RESCHED_LAZY, 0, ".l..."),
            (Five, flag::PREEMPT_RESCHED, 0, ".p..."),
            (Five, flag::NEED_RESCHED | flag::PREEMPT_RESCHED, 0, ".N..."),
            (
                Five,
                flag::NEED_RESCHED | flag::NEED_RESCHED_LAZY,
                0,
                ".b...",
            ),
            (
                Five,
                flag::NEED_RESCHED_LAZY | flag::PREEMPT_RESCHED,
                0,
                ".L...",
            ),
            (Five, 0x26, 0, ".B..."),
            (Five, flag::HARDIRQ, 0, "..h.."),
            (Five, flag::SOFTIRQ, 0, "..s.."),
            (Five, flag::HARDIRQ | flag::SOFTIRQ, 0, "..H.."),
            (Five, flag::NMI | flag::SOFTIRQ, 0, "..z.."),
            (Five, flag::NMI | flag::HARDIRQ, 0, "..Z.."),
            (Four, flag::IRQS_OFF, 0, "d..."),
            (Four, flag::HARDIRQ, 0x11, "..h11"),
            (
                Seven,
                flag::NEED_RESCHED | flag::PREEMPT_RESCHED,
                0x21,
                ".nL.132",
            ),
            (Seven, flag::NEED_RESCHED_LAZY, 0, ".....3."),
        ] {
            assert_eq!(
                flags(columns, bits, count),
                expected,
                "{columns:?} {bits:#x}"
            );
        }
    }

    #[test]
    fn names_and_times() {
        let names = TaskNames::parse("7 a b]\n8 \nnonsense\n-9 x\n");
        for (pid, name) in [
            (7, "a b]"),
            (8, ""),
            (9, "<...>"),
            (0, "<idle>"),
            (-9, "<XXX>"),
        ] {
            assert_eq!(names.of(pid), name);
        }
        let format = format("", "", "\"\"");
        let bytes = [1, 0, 0, 0, 7, 0, 0, 0];
        let record = Record::new(&format, &bytes, MACHINE);
        let line = |time| {
            let context = TraceContext::new(&record, 12, time, &names, FlagColumns::Five);
            context.expect("whole").to_string()
        };
        assert_eq!(
            line(97_524_385_499),
            "            a b]-7       [012] .....    97.524385: "
        );
        assert_eq!(
            line(999_999_500),
            "            a b]-7       [012] .....     1.000000: "
        );
        assert_eq!(
            line(u64::MAX),
            "            a b]-7       [012] ..... 18446744073.709552: "
        );
        let short = Record::new(&format, &bytes[..7], MACHINE);
        let context = TraceContext::new(&short, 0, 0, &names, FlagColumns::Five);
        assert!(matches!(context, Err(RecordError::Short { .. })));
    }

    #[test]
    fn legends() {
        let legend = "\
# tracer: nop
#
#                                _-------=> irqs-off/BH-disabled
#                               / _------=> need-resched
#                              | / _-----=> need-resched-lazy
#                              || / _----=> hardirq/softirq
#                              ||| / _---=> preempt-depth
#                              |||| / _--=> preempt-lazy-depth
#                              ||||| / _-=> migrate-disable
#                              |||||| /     delay
#           TASK-PID     CPU#  |||||||  TIMESTAMP  FUNCTION
#              | |         |   |||||||      |         |
             cat-1       [000] ....... 1.000000: x: => migrate-disable
";
        assert_eq!(FlagColumns::of_legend(legend), Some(FlagColumns::Seven));
        let without = |words: &[&str]| -> Option<FlagColumns> {
            let is_kept = |line: &&str| !words.iter().any(|word| line.contains(word));
            let lines: Vec<&str> = legend.lines().filter(is_kept).collect();
            FlagColumns::of_legend(&lines.join("\n"))
        };
        assert_eq!(without(&["lazy"]), Some(FlagColumns::Five));
        assert_eq!(
            without(&["lazy", "|| / _-=>", "|||| / _-"]),
            Some(FlagColumns::Four)
        );
        assert_eq!(without(&["preempt-depth"]), None);
    }
}
