//! The part of a line of `trace` that precedes an event's text.

use std::borrow::Cow;
use std::fmt;

use super::flags::{CommonValues, FlagColumns, Flags};
use super::number::{PrintfSpec, number};
use super::output::Output;
use super::tasks::TaskNames;
use super::version::KernelVersion;
use crate::format::Format;
use crate::record::{Record, RecordError};

/// The unit of a buffer's times, by its file `trace_clock`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TraceClock {
    /// Nanoseconds, shown as seconds with six digits: `local`, `global`, `perf`,
    /// `mono`, `mono_raw`, `boot`, `tai`.
    #[default]
    Nanoseconds,
    /// Something else, shown as a number: events (`counter`), jiffies (`uptime`) or
    /// ticks of the CPU's clock (`x86-tsc`, `ppc-tb`, `s390-tod`).
    Counts,
}

impl TraceClock {
    /// Returns the clock named in a buffer's `trace_clock`, where brackets mark it:
    /// `local [global] counter`. `None` if no clock is marked.
    pub fn of_file(trace_clock: &str) -> Option<Self> {
        let mut words = trace_clock.split_whitespace();
        let name = words.find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))?;
        // `trace_clocks` in the kernel's `kernel/trace/trace.c` marks clocks that count
        // nanoseconds as `in_ns`; machines add clocks that do not.
        Some(match name {
            "local" | "global" | "perf" | "mono" | "mono_raw" | "boot" | "tai" => Self::Nanoseconds,
            _ => Self::Counts,
        })
    }
}

/// How a kernel's `trace` writes the part of a line that precedes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceStyle {
    columns: FlagColumns,
    clock: TraceClock,
    version: Option<KernelVersion>,
}

impl TraceStyle {
    /// Creates a style with these letters, times in nanoseconds, and otherwise the
    /// habits of current kernels.
    pub fn new(columns: FlagColumns) -> Self {
        Self {
            columns,
            clock: TraceClock::default(),
            version: None,
        }
    }

    /// Returns the clock of the times.
    pub fn clock(self) -> TraceClock {
        self.clock
    }

    /// Sets the clock of the times. Default: nanoseconds.
    #[must_use]
    pub fn with_clock(self, clock: TraceClock) -> Self {
        Self { clock, ..self }
    }

    /// Sets the kernel's version: before Linux 5.9 (and 5.8.14, 5.4.70) pids have 5
    /// columns instead of 7, and before 6.13 no letter shows lazy preemption.
    #[must_use]
    pub fn with_version(self, version: KernelVersion) -> Self {
        Self {
            version: Some(version),
            ..self
        }
    }

    fn pid_width(self) -> usize {
        const fn version(major: u32, minor: u32, patch: u32) -> KernelVersion {
            KernelVersion::new(major, minor, patch)
        }
        // Commit 795d6379a47b, which was backported to two stable series.
        let is_narrow = self.version.is_some_and(|own| {
            own < version(5, 4, 70) || (version(5, 5, 0)..version(5, 8, 14)).contains(&own)
        });
        if is_narrow { 5 } else { 7 }
    }
}

impl From<FlagColumns> for TraceStyle {
    fn from(columns: FlagColumns) -> Self {
        Self::new(columns)
    }
}

/// The part of a line of `trace` that precedes an event's text: command, pid, CPU,
/// flags and time (`trace_print_context()` in the kernel's
/// `kernel/trace/trace_output.c`).
///
/// [`Display`](fmt::Display) writes `           cat-4711    [001] d..2.    98.157458: `.
/// For records of a remote (`remotes/<name>`, a hypervisor), whose only common field is
/// `common_type`, it writes `[001]`, a tab and `   98.157458: `.
#[derive(Clone, Copy, Debug)]
pub struct TraceContext<'a> {
    names: &'a TaskNames,
    pid: i32,
    cpu: u32,
    flags: Flags,
    style: TraceStyle,
    timestamp: u64,
    is_remote: bool,
}

impl<'a> TraceContext<'a> {
    /// Creates the context of a record written on `cpu` at `timestamp`, in the units of
    /// the style's clock.
    ///
    /// # Errors
    ///
    /// [`RecordError::Short`]. Common fields that the format does not have count as 0.
    pub fn new(
        record: &Record<'_>,
        cpu: u32,
        timestamp: u64,
        names: &'a TaskNames,
        style: impl Into<TraceStyle>,
    ) -> Result<Self, RecordError> {
        let style = style.into();
        let common = CommonValues::of(record)?;
        Ok(Self {
            names,
            pid: common.pid,
            cpu,
            flags: Flags::of(&common, style.columns, style.version),
            style,
            timestamp,
            is_remote: is_remote(record.format()),
        })
    }

    /// Sets the task, where something else tells it than the record's `common_pid`: in a
    /// recording of perf made in a pid namespace, a sample has the ids of that namespace.
    #[must_use]
    pub fn with_pid(self, pid: i32) -> Self {
        Self { pid, ..self }
    }

    /// Returns the command's name, with bytes that are not UTF-8 replaced.
    pub fn command(&self) -> Cow<'a, str> {
        self.names.of(self.pid)
    }

    /// Returns the kernel's pid (user space: the thread id) of the task that was
    /// running.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns the flag letters: `d..2.`.
    pub fn flags(&self) -> impl fmt::Display + use<'a> {
        self.flags
    }

    pub(super) fn names(&self) -> &'a TaskNames {
        self.names
    }

    pub(super) fn cpu(&self) -> u32 {
        self.cpu
    }

    pub(super) fn timestamp(&self) -> u64 {
        self.timestamp
    }

    pub(super) fn pid_width(&self) -> usize {
        self.style.pid_width()
    }

    /// Formats a time of the buffer's clock, after a space.
    pub(super) fn time(&self, timestamp: u64) -> Time {
        Time {
            timestamp,
            clock: self.style.clock,
        }
    }

    /// Whether the record is of a remote, such as a hypervisor, whose records name no
    /// process.
    pub(super) fn is_remote(&self) -> bool {
        self.is_remote
    }

    pub(super) fn write(&self, out: &mut Output) {
        if self.is_remote {
            return self.write_remote(out);
        }
        let name = self.names.bytes_of(self.pid);
        out.pad(b' ', 16_usize.saturating_sub(name.len()));
        out.push_bytes(name);
        self.write_rest(out);
    }

    /// Writes the context as `trace_remote_iter_print_event()` does, which does not
    /// round.
    fn write_remote(&self, out: &mut Output) {
        let micros = self.timestamp / 1000;
        out.push_str("[");
        zeros(out, 3, self.cpu.into());
        out.push_str("]\t");
        columns(out, 5, micros / 1_000_000);
        out.push_str(".");
        zeros(out, 6, micros % 1_000_000);
        out.push_str(": ");
    }

    /// Writes the part after the command's name. Without the standard library's formatting,
    /// which takes a quarter of the time of decoding a recording.
    fn write_rest(&self, out: &mut Output) {
        let width = self.style.pid_width();
        let left = PrintfSpec {
            left: true,
            width,
            ..PrintfSpec::default()
        };
        out.push_str("-");
        let (is_negative, pid) = (self.pid < 0, self.pid.unsigned_abs());
        number(out, left, is_negative, pid.into(), 10, false);
        out.push_str(" ");
        if let Some(group) = self.names.group_of(self.pid) {
            out.push_str("(");
            match group {
                0 => out.pad(b'-', width),
                _ => {
                    let right = PrintfSpec {
                        left: false,
                        ..left
                    };
                    let (is_negative, group) = (group < 0, group.unsigned_abs());
                    number(out, right, is_negative, group.into(), 10, false);
                }
            }
            out.push_str(") ");
        }
        out.push_str("[");
        zeros(out, 3, self.cpu.into());
        out.push_str("] ");
        self.flags.write(out);
        self.time(self.timestamp).write(out);
        out.push_str(": ");
    }
}

/// Writes a number right-justified (`%*llu`).
fn columns(out: &mut Output, width: usize, value: u64) {
    let spec = PrintfSpec {
        width,
        ..PrintfSpec::default()
    };
    number(out, spec, false, value, 10, false);
}

/// Writes a number with zeros before it (`%0*llu`).
fn zeros(out: &mut Output, width: usize, value: u64) {
    let spec = PrintfSpec {
        width,
        zero: true,
        ..PrintfSpec::default()
    };
    number(out, spec, false, value, 10, false);
}

impl fmt::Display for TraceContext<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Output::default();
        self.write(&mut text);
        out.write_str(&String::from_utf8_lossy(&text.into_bytes()))
    }
}

/// Whether records of this format are of a remote (`remotes/<name>` of tracefs): their
/// only common field is the event's id.
fn is_remote(format: &Format) -> bool {
    matches!(format.common_fields(), [field] if field.name() == "common_type")
}

/// A time as `trace_print_time()` writes it.
pub(super) struct Time {
    timestamp: u64,
    clock: TraceClock,
}

impl Time {
    fn write(&self, out: &mut Output) {
        out.push_str(" ");
        match self.clock {
            TraceClock::Counts => columns(out, 12, self.timestamp),
            TraceClock::Nanoseconds => {
                let (seconds, micros) = seconds(self.timestamp);
                columns(out, 5, seconds);
                out.push_str(".");
                zeros(out, 6, micros);
            }
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Output::default();
        self.write(&mut text);
        out.write_str(&String::from_utf8_lossy(&text.into_bytes()))
    }
}

/// Returns seconds and microseconds, rounded as by `ns2usecs()`.
pub(super) fn seconds(nanoseconds: u64) -> (u64, u64) {
    let micros = (nanoseconds / 1000) + (nanoseconds % 1000 + 500) / 1000;
    (micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{ByteOrder, Machine};

    const MACHINE: Machine = Machine::new(ByteOrder::Little, true);

    fn format() -> Format {
        let text = "name: x\nID: 1\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
            \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
            \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
            \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\
            \n\nprint fmt: \"\"\n";
        Format::parse(text).expect("a format")
    }

    #[test]
    fn names_and_times() {
        let names = TaskNames::parse("7 a b]\n");
        let format = format();
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
    fn styles() {
        let format = format();
        let bytes = [1, 0, 0, 0, 7, 0, 0, 0];
        let record = Record::new(&format, &bytes, MACHINE);
        let line = |names: &TaskNames, style: TraceStyle| {
            let context = TraceContext::new(&record, 0, 42, names, style);
            let mut out = Output::default();
            context.expect("whole").write(&mut out);
            out.into_bytes()
        };
        let names = TaskNames::parse(b"7 \xff");
        let style = TraceStyle::new(FlagColumns::Five).with_clock(TraceClock::Counts);
        assert_eq!(
            line(&names, style),
            b"               \xff-7       [000] .....           42: "
        );
        let groups = names.clone().with_groups("7 520");
        assert_eq!(
            line(&groups, style),
            b"               \xff-7       (    520) [000] .....           42: "
        );
        let unknown = names.with_groups("");
        assert_eq!(
            line(&unknown, style),
            b"               \xff-7       (-------) [000] .....           42: "
        );
        let old = |major, minor, patch| {
            let style = TraceStyle::new(FlagColumns::Four);
            style.with_version(KernelVersion::new(major, minor, patch))
        };
        for style in [old(4, 19, 0), old(5, 4, 69), old(5, 8, 13)] {
            assert_eq!(
                line(&unknown, style),
                b"               \xff-7     (-----) [000] ....     0.000000: "
            );
        }
        for style in [old(5, 4, 70), old(5, 8, 14), old(5, 9, 0)] {
            assert_eq!(
                line(&unknown, style),
                b"               \xff-7       (-------) [000] ....     0.000000: "
            );
        }
    }

    #[test]
    fn clocks() {
        for (file, clock) in [
            ("[local] global counter\n", Some(TraceClock::Nanoseconds)),
            ("local global [counter] uptime\n", Some(TraceClock::Counts)),
            ("local [x86-tsc]", Some(TraceClock::Counts)),
            ("local [tai]", Some(TraceClock::Nanoseconds)),
            ("local", None),
            ("", None),
        ] {
            assert_eq!(TraceClock::of_file(file), clock, "{file:?}");
        }
    }
}
