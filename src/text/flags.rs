//! The flag letters of `trace`, which show the state of a CPU.

use std::fmt;

use super::number::{PrintfSpec, number};
use super::output::Output;
use super::version::KernelVersion;
use crate::format::Format;
use crate::record::{Record, RecordError};

/// The letters by which `trace` shows the state of a CPU (`common_flags`,
/// `common_preempt_count`). Newer kernels have more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlagColumns {
    /// Up to Linux 5.14: irqs-off, need-resched, hardirq/softirq, preempt-depth.
    Four,
    /// Since Linux 5.15: the same, and migrate-disable.
    Five,
    /// Kernels of PREEMPT_RT whose records have `common_preempt_lazy_count`:
    /// need-resched-lazy and preempt-lazy-depth too.
    Seven,
    /// Kernels of PREEMPT_RT of Linux 3 and 4 whose records have
    /// `common_migrate_disable` and no `common_preempt_lazy_count`: the letters of
    /// [`Five`](Self::Five). Migrate-disable is read from that field, and preempt-depth
    /// is all of `common_preempt_count`.
    FiveWhole,
    /// Kernels of PREEMPT_RT up to Linux 5.10 whose records have
    /// `common_migrate_disable` and `common_preempt_lazy_count`: the letters of
    /// [`Seven`](Self::Seven), each from its own field.
    SevenWhole,
}

impl FlagColumns {
    /// Returns the columns of a `trace` file, by the legend at its beginning, which an
    /// empty file has too; `None` without a legend. The legend does not tell
    /// [`SevenWhole`](Self::SevenWhole) from [`Seven`](Self::Seven): the fields of a
    /// record do ([`TraceContext`](super::TraceContext)).
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

    /// Returns the columns for records of this format, assuming Linux 5.15 or later,
    /// which the format does not tell.
    pub fn of_format(format: &Format) -> Self {
        Self::Five.for_format(format)
    }

    /// Returns the columns of a kernel of this version whose records have the common
    /// fields of this format.
    pub fn of_version(version: KernelVersion, format: &Format) -> Self {
        let columns = match version < KernelVersion::new(5, 15, 0) {
            true => Self::Four,
            false => Self::Five,
        };
        columns.for_format(format)
    }

    /// Returns the same columns for records of this format, whose common fields show
    /// whether the kernel is of PREEMPT_RT.
    pub(super) fn for_format(self, format: &Format) -> Self {
        let has = |name: &str| {
            let mut common = format.common_fields().iter();
            common.any(|field| field.name() == name)
        };
        self.for_fields(
            has("common_migrate_disable"),
            has("common_preempt_lazy_count"),
        )
    }

    /// Like [`for_format`](Self::for_format), for records that have
    /// `common_migrate_disable`, or `common_preempt_lazy_count`.
    fn for_fields(self, has_migrate_disable: bool, has_lazy_count: bool) -> Self {
        match (has_migrate_disable, has_lazy_count) {
            (true, true) => Self::SevenWhole,
            (true, false) => Self::FiveWhole,
            (false, true) => Self::Seven,
            (false, false) => self,
        }
    }

    /// Whether need-resched-lazy has its own column.
    fn has_lazy(self) -> bool {
        matches!(self, Self::Seven | Self::SevenWhole)
    }
}

/// Bits of `common_flags` (`enum trace_flag_type`).
mod flag {
    pub(super) const IRQS_OFF: u8 = 0x01;
    /// Since Linux 6.13; before, it meant that the machine cannot tell whether
    /// interrupts are off.
    pub(super) const NEED_RESCHED_LAZY: u8 = 0x02;
    pub(super) const NEED_RESCHED: u8 = 0x04;
    pub(super) const HARDIRQ: u8 = 0x08;
    pub(super) const SOFTIRQ: u8 = 0x10;
    /// need-resched-lazy where there are seven columns.
    pub(super) const PREEMPT_RESCHED: u8 = 0x20;
    pub(super) const NMI: u8 = 0x40;
    pub(super) const BH_OFF: u8 = 0x80;
}

/// The state of the CPU in a record, to be shown in these columns
/// (`trace_print_lat_fmt()`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Flags {
    columns: FlagColumns,
    /// Whether bit 1 means that the machine cannot tell whether interrupts are off, as
    /// before Linux 6.13.
    irqs_unsupported: bool,
    flags: u8,
    preempt_depth: u8,
    preempt_lazy_depth: u8,
    migrate_disable: u8,
}

impl Flags {
    pub(super) fn of(
        common: &CommonValues,
        columns: FlagColumns,
        version: Option<KernelVersion>,
    ) -> Self {
        let columns = columns.for_fields(common.migrate_disable.is_some(), common.lazy.is_some());
        let count = common.preempt_count;
        let lazy = common.lazy.unwrap_or(0);
        let whole = common.migrate_disable.unwrap_or(0);
        let (preempt_depth, preempt_lazy_depth, migrate_disable) = match columns {
            FlagColumns::Four => (count, 0, 0),
            FlagColumns::Five => (count & 0xf, 0, count >> 4),
            FlagColumns::Seven => (count & 0xf, lazy, count >> 4),
            FlagColumns::FiveWhole => (count, 0, whole),
            FlagColumns::SevenWhole => (count, lazy, whole),
        };
        Self {
            columns,
            irqs_unsupported: version.is_some_and(|version| version < KernelVersion::new(6, 13, 0)),
            flags: common.flags,
            preempt_depth,
            preempt_lazy_depth,
            migrate_disable,
        }
    }
}

/// The common fields that a line of `trace` shows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CommonValues {
    pub(super) pid: i32,
    flags: u8,
    preempt_count: u8,
    /// `None` if the format does not have the field.
    migrate_disable: Option<u8>,
    lazy: Option<u8>,
}

impl CommonValues {
    /// Reads the fields of a record. Those that the format does not have count as 0; of several
    /// with one name, the first counts.
    pub(super) fn of(record: &Record<'_>) -> Result<Self, RecordError> {
        let machine = record.machine();
        let mut values = Self::default();
        for field in record.format().common_fields().iter().rev() {
            let value = || Ok(machine.signed(record.raw(field)?));
            match field.name() {
                "common_pid" => values.pid = value()? as i32,
                "common_flags" => values.flags = value()? as u8,
                "common_preempt_count" => values.preempt_count = value()? as u8,
                "common_migrate_disable" => values.migrate_disable = Some(value()? as u8),
                "common_preempt_lazy_count" => values.lazy = Some(value()? as u8),
                _ => {}
            }
        }
        Ok(values)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Output::default();
        self.write(&mut text);
        out.write_str(&String::from_utf8_lossy(&text.into_bytes()))
    }
}

impl Flags {
    /// Writes the letters.
    pub(super) fn write(&self, out: &mut Output) {
        let has = |flag: u8| self.flags & flag != 0;
        let has_lazy = self.columns.has_lazy();
        // Kernels with seven columns never set the bit.
        let unknown = has(flag::NEED_RESCHED_LAZY) && self.irqs_unsupported;
        out.push(match (has(flag::IRQS_OFF), has(flag::BH_OFF)) {
            (true, true) => 'D',
            (true, false) => 'd',
            (false, true) => 'b',
            (false, false) if unknown => 'X',
            (false, false) => '.',
        });
        let (now, lazy, preempt) = (
            has(flag::NEED_RESCHED),
            has(flag::NEED_RESCHED_LAZY) && !has_lazy && !self.irqs_unsupported,
            has(flag::PREEMPT_RESCHED) && !has_lazy,
        );
        out.push(match (now, lazy, preempt) {
            (true, true, true) => 'B',
            (true, false, true) => 'N',
            (false, true, true) => 'L',
            (true, true, false) => 'b',
            (true, false, false) => 'n',
            (false, true, false) => 'l',
            (false, false, true) => 'p',
            (false, false, false) => '.',
        });
        if has_lazy {
            let lazy = has(flag::PREEMPT_RESCHED);
            out.push(if lazy { 'L' } else { '.' });
        }
        let (nmi, hard, soft) = (has(flag::NMI), has(flag::HARDIRQ), has(flag::SOFTIRQ));
        out.push(match (nmi, hard, soft) {
            (true, true, _) => 'Z',
            (true, false, _) => 'z',
            (false, true, true) => 'H',
            (false, true, false) => 'h',
            (false, false, true) => 's',
            (false, false, false) => '.',
        });
        let mut depth = |depth: u8| match depth {
            0 => out.push('.'),
            _ => number(out, PrintfSpec::default(), false, depth.into(), 16, false),
        };
        depth(self.preempt_depth);
        if has_lazy {
            depth(self.preempt_lazy_depth);
        }
        if self.columns != FlagColumns::Four {
            depth(self.migrate_disable);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{ByteOrder, Machine};

    const MACHINE: Machine = Machine::new(ByteOrder::Little, true);

    fn format(more: &str) -> Format {
        let text = format!(
            "name: x\nID: 1\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
            \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
            \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
            \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\
            {more}\n\nprint fmt: \"\"\n"
        );
        Format::parse(&text).expect("a format")
    }

    const MIGRATE: &str =
        "\tfield:unsigned short common_migrate_disable;\toffset:8;\tsize:2;\tsigned:0;\n";
    const LAZY: &str =
        "\tfield:unsigned char common_preempt_lazy_count;\toffset:10;\tsize:1;\tsigned:0;\n";

    fn flags(format: &Format, columns: FlagColumns, flags: u8, count: u8) -> String {
        let bytes = [1, 0, flags, count, 5, 0, 0, 0, 4, 0, 3];
        let record = Record::new(format, &bytes, MACHINE);
        let common = CommonValues::of(&record).expect("whole");
        Flags::of(&common, columns, None).to_string()
    }

    #[test]
    fn letters_of_flags() {
        use FlagColumns::{Five, Four};
        let (plain, lazy) = (format(""), format(LAZY));
        let (migrate, both) = (format(MIGRATE), format(&[MIGRATE, LAZY].concat()));
        for (columns, format, bits, count, expected) in [
            (Five, &plain, 0, 0, "....."),
            (Five, &plain, flag::IRQS_OFF, 0x10, "d...1"),
            (Five, &plain, flag::BH_OFF, 0x2f, "b..f2"),
            (Five, &plain, flag::IRQS_OFF | flag::BH_OFF, 1, "D..1."),
            (Five, &plain, flag::NEED_RESCHED, 0, ".n..."),
            (Five, &plain, flag::NEED_RESCHED_LAZY, 0, ".l..."),
            (Five, &plain, flag::PREEMPT_RESCHED, 0, ".p..."),
            (Five, &plain, 0x24, 0, ".N..."),
            (Five, &plain, 0x06, 0, ".b..."),
            (Five, &plain, 0x22, 0, ".L..."),
            (Five, &plain, 0x26, 0, ".B..."),
            (Five, &plain, flag::HARDIRQ, 0, "..h.."),
            (Five, &plain, flag::SOFTIRQ, 0, "..s.."),
            (Five, &plain, flag::HARDIRQ | flag::SOFTIRQ, 0, "..H.."),
            (Five, &plain, flag::NMI | flag::SOFTIRQ, 0, "..z.."),
            (Five, &plain, flag::NMI | flag::HARDIRQ, 0, "..Z.."),
            (Four, &plain, flag::IRQS_OFF, 0, "d..."),
            (Four, &plain, flag::HARDIRQ, 0x11, "..h11"),
            (Five, &lazy, 0x24, 0x21, ".nL.132"),
            (Five, &lazy, flag::NEED_RESCHED_LAZY, 0, ".....3."),
            // Counts that have their own fields are not cut.
            (Four, &migrate, flag::IRQS_OFF, 0x21, "d..214"),
            (Four, &both, 0x28, 0x21, "..Lh2134"),
            (Five, &both, 0, 0, ".....34"),
        ] {
            assert_eq!(
                flags(format, columns, bits, count),
                expected,
                "{columns:?} {bits:#x}"
            );
        }
    }

    #[test]
    fn columns_by_version() {
        let (plain, both) = (format(""), format(&[MIGRATE, LAZY].concat()));
        let of = |major, minor, format| {
            FlagColumns::of_version(KernelVersion::new(major, minor, 0), format)
        };
        assert_eq!(of(5, 14, &plain), FlagColumns::Four);
        assert_eq!(of(5, 15, &plain), FlagColumns::Five);
        assert_eq!(of(5, 10, &both), FlagColumns::SevenWhole);
        assert_eq!(of(4, 4, &format(MIGRATE)), FlagColumns::FiveWhole);
        // A machine that cannot tell, with a kernel without lazy preemption.
        let bytes = [1, 0, flag::NEED_RESCHED_LAZY, 0, 5, 0, 0, 0];
        let record = Record::new(&plain, &bytes, MACHINE);
        let shown = |version| {
            let common = CommonValues::of(&record).expect("whole");
            Flags::of(&common, FlagColumns::Five, version).to_string()
        };
        assert_eq!(shown(Some(KernelVersion::new(6, 12, 9))), "X....");
        assert_eq!(shown(Some(KernelVersion::new(6, 13, 0))), ".l...");
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
