//! Records, one on each line.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix::errno::Errno;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tracepoints::probe::{FieldValue, PrettyPrinter, Probe, ProbeRecord, StringOrigin};
use tracepoints::{EventName, Kernel, Tracepoint};

use super::Time;
use super::run::Run;
use super::show::Shown;
use super::stack::{NamedStacks, Stacks};
use crate::output::{Failure, JsonRows, Screen};
use crate::row::{AddressFields, EventRow, FieldMap};

/// Prints records as they come.
pub(super) struct Lines<'a> {
    json: Option<&'a mut JsonRows>,
    pretty: Option<PrettyPrinter>,
    max: Option<u64>,
    clock: Clock,
    calls: Option<Calls>,
    stacks: Option<Stacks>,
    formats: HashMap<EventName, &'a Tracepoint>,
    addresses: AddressFields,
    screen: Screen,
    line: String,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    event: EventRow<'a>,
    /// The system call's return value, in a record of a whole call.
    #[serde(skip_serializing_if = "Option::is_none")]
    ret: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack: Option<NamedStacks>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(
        shown: &Shown<'a>,
        probe: &Probe,
        kernel: &Kernel,
        json: Option<&'a mut JsonRows>,
    ) -> Result<Self, Failure> {
        let (arguments, events) = (shown.arguments, shown.events);
        Ok(Self {
            json,
            pretty: match arguments.pretty {
                true => Some(PrettyPrinter::new(events)?),
                false => None,
            },
            max: arguments.max,
            clock: Clock::new(arguments.time),
            calls: arguments.durations.then(Calls::default),
            stacks: match probe.has_stacks() {
                true => Some(Stacks::new(kernel, shown.is_pinned)?),
                false => None,
            },
            formats: events.iter().map(|one| (one.name().clone(), one)).collect(),
            addresses: AddressFields::default(),
            screen: Screen::of_stdout(),
            line: String::new(),
        })
    }

    /// Prints records until the run is over, and returns their number.
    pub(super) fn print(
        &mut self,
        probe: &mut Probe,
        run: &mut Run,
        out: &mut dyn Write,
    ) -> Result<u64, Failure> {
        let mut count = 0;
        loop {
            // Checked first, because events from before the end still have to be read.
            let over = run.is_over();
            for record in probe.records() {
                if self.max.is_some_and(|max| count >= max) {
                    break;
                }
                self.record(&record, out)?;
                count += 1;
            }
            out.flush()?;
            if self.max.is_some_and(|max| count >= max) {
                run.cut_short();
                return Ok(count);
            }
            if over {
                for record in probe.unfinished() {
                    self.record(&record, out)?;
                    count += 1;
                }
                return Ok(count);
            }
            probe.wait(Some(run.pause()))?;
        }
    }

    fn record(&mut self, record: &ProbeRecord, out: &mut dyn Write) -> Result<(), Failure> {
        let duration = self.calls.as_mut().and_then(|calls| calls.took(record));
        let returned = record.returned();
        let own = returned.map(|returned| returned.duration.as_nanos() as u64);
        let duration = own.or(duration);
        let stack = self.stacks.as_ref().map(|stacks| stacks.of(record));
        self.line.clear();
        match &self.pretty {
            Some(pretty) => pretty.print(record, &mut self.line),
            // Writing to a `String` is infallible.
            None => _ = write!(self.line, "{record}"),
        }
        if let Some(json) = &mut self.json {
            let task = record.task();
            let comm = record.comm();
            let format = self.formats.get(record.event()).map(|one| one.format());
            let none = Default::default();
            let addresses = match format {
                Some(format) => self.addresses.of(record.event(), format),
                None => &none,
            };
            let of_kind = |wanted: fn(&FieldValue<'_>) -> bool| {
                record.fields().filter(move |(_, value)| wanted(value))
            };
            let unreadable = record.fields().filter_map(|(name, value)| match value {
                FieldValue::Unreadable { errno } => Some((name, errno)),
                _ => None,
            });
            let of_origin = |wanted: StringOrigin| {
                let fields = record.fields().map(|(name, _)| name);
                let fields = fields.filter(|name| record.string_origin(name) == Some(wanted));
                fields.collect()
            };
            let is_cut = |value: &FieldValue<'_>| matches!(value, FieldValue::Cut(_));
            let is_unwritten = |value: &FieldValue<'_>| matches!(value, FieldValue::Unwritten);
            let row = Row {
                event: EventRow {
                    timestamp_ns: record.timestamp_ns(),
                    cpu: task.cpu,
                    pid: Some(task.pid),
                    tid: Some(task.tid),
                    comm: Some(&comm),
                    event: record.event(),
                    fields: FieldMap {
                        values: record
                            .fields()
                            .map(|(name, value)| (name, value.value()))
                            .collect(),
                        addresses,
                    },
                    cut: of_kind(is_cut).map(|(name, _)| name).collect(),
                    unreadable: unreadable.collect::<BTreeMap<_, _>>(),
                    unwritten: of_kind(is_unwritten).map(|(name, _)| name).collect(),
                    exit: of_origin(StringOrigin::Exit),
                    rewritten: of_origin(StringOrigin::Rewritten),
                    names: record
                        .fields()
                        .filter_map(|(name, _)| Some((name, record.value_name(name)?)))
                        .collect(),
                    flags: None,
                    text: self.pretty.as_ref().map(|_| text_of(&self.line)),
                },
                ret: returned.map(|returned| returned.value),
                duration_ns: duration,
                stack,
            };
            return json.write(&row, out);
        }
        if let Some(name) = errno_of(record) {
            let _ = write!(self.line, " {name}");
        }
        if let Some(nanoseconds) = duration {
            let _ = write!(self.line, " <{:.6}>", nanoseconds as f64 / 1e9);
        }
        self.clock.restamp(record.timestamp_ns(), &mut self.line);
        if let Some(stack) = stack {
            stack.print(&mut self.line);
        }
        writeln!(out, "{}", self.screen.show(&self.line))?;
        Ok(())
    }
}

/// Returns the part of a line after time, CPU and task.
fn text_of(line: &str) -> &str {
    // The task's name may contain any text, but its pid and tid follow it.
    let after = line.split_once("] ").map_or(line, |(_, rest)| rest);
    let mut slashes = after.match_indices('/');
    let end = slashes.find_map(|(at, _)| {
        let rest = &after[at + 1..];
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        (digits > 0 && rest[digits..].starts_with(' ')).then_some(at + 1 + digits + 1)
    });
    &after[end.unwrap_or(0)..]
}

/// Returns the name of the error that a system call returned.
fn errno_of(record: &ProbeRecord) -> Option<String> {
    /// `MAX_ERRNO` of the kernel's `include/linux/err.h`.
    const LARGEST: i64 = 4095;
    let is_exit = record.event().category().ends_with("syscalls")
        && record.event().event().starts_with("sys_exit");
    let returned = match record.returned() {
        Some(returned) => returned.value,
        None if is_exit => record.field("ret")?.value()?.integer()?,
        None => return None,
    };
    match returned {
        // Internal errors of the kernel, which programs never get.
        -516 => Some("ERESTART_RESTARTBLOCK".to_owned()),
        -514 => Some("ERESTARTNOHAND".to_owned()),
        -513 => Some("ERESTARTNOINTR".to_owned()),
        -512 => Some("ERESTARTSYS".to_owned()),
        _ if (-LARGEST..0).contains(&returned) => match Errno::from_raw(-returned as i32) {
            Errno::UnknownErrno => None,
            known => Some(format!("{known:?}")),
        },
        _ => None,
    }
}

/// System calls that have begun, by thread.
#[derive(Default)]
struct Calls {
    begun: HashMap<u32, (String, u64)>,
}

impl Calls {
    /// Returns the duration of the call that the record ends, in nanoseconds.
    fn took(&mut self, record: &ProbeRecord) -> Option<u64> {
        let event = record.event().event();
        let tid = record.task().tid;
        if let Some(name) = event.strip_prefix("sys_enter") {
            let begun = (name.to_owned(), record.timestamp_ns());
            self.begun.insert(tid, begun);
            return None;
        }
        let name = event.strip_prefix("sys_exit")?;
        let (begun, at) = self.begun.remove(&tid)?;
        (begun == name).then(|| record.timestamp_ns().saturating_sub(at))
    }
}

/// The times of lines, in the format asked for.
struct Clock {
    how: Time,
    /// The difference between the time of day and the clock of the kernel's records, in
    /// nanoseconds.
    to_wall: i128,
    zone: TimeZone,
    before: Option<u64>,
}

impl Clock {
    fn new(how: Time) -> Self {
        Self {
            how,
            to_wall: difference_to_wall(),
            zone: TimeZone::system(),
            before: None,
        }
    }

    /// Takes the difference there is now, if it is another: the time of day was set, or the
    /// machine was asleep, during which the clock of the records stands still. The two clocks
    /// are not read at the same moment, and lines must not go back by what lies between.
    fn adjust(&mut self, to_wall: i128) {
        /// In nanoseconds.
        const SAME: u128 = 1_000_000;
        if self.to_wall.abs_diff(to_wall) >= SAME {
            self.to_wall = to_wall;
        }
    }

    /// Replaces the time of a line, its first word.
    fn restamp(&mut self, nanoseconds: u64, line: &mut String) {
        let before = self.before.replace(nanoseconds);
        let time = match self.how {
            Time::Boot => return,
            Time::Delta => {
                // Negative of records of different CPUs that are slightly out of order.
                let since = i128::from(nanoseconds) - i128::from(before.unwrap_or(nanoseconds));
                format!("{:.6}", since as f64 / 1e9)
            }
            Time::Wall => {
                self.adjust(difference_to_wall());
                let wall = Timestamp::from_nanosecond(i128::from(nanoseconds) + self.to_wall);
                match wall {
                    Ok(wall) => wall
                        .to_zoned(self.zone.clone())
                        .strftime("%H:%M:%S.%6f")
                        .to_string(),
                    Err(_) => return,
                }
            }
        };
        let end = line.find(' ').unwrap_or(0);
        line.replace_range(..end, &time);
    }
}

/// Returns how far the time of day is ahead of the clock of the kernel's records now, in
/// nanoseconds.
fn difference_to_wall() -> i128 {
    let [wall, monotonic] = [ClockId::Realtime, ClockId::Monotonic].map(|clock| {
        let time = clock_gettime(clock);
        i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
    });
    wall - monotonic
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restamped(clock: &mut Clock, nanoseconds: u64) -> String {
        let mut line = "1.000000 [000] a-1/1 x".to_owned();
        clock.restamp(nanoseconds, &mut line);
        line
    }

    #[test]
    fn times_go_back_as_they_do() {
        let mut clock = Clock::new(Time::Delta);
        let times = [5_000_000, 5_000_000, 3_000_000, u64::MAX, 0];
        let lines = times.map(|time| restamped(&mut clock, time));
        let words = lines.each_ref().map(|line| line.split(' ').next());
        let expected = [
            "0.000000",
            "0.000000",
            "-0.002000",
            "18446744073.706551",
            "-18446744073.709553",
        ];
        assert_eq!(words, expected.map(Some));
    }

    #[test]
    fn the_time_of_day_follows_the_clock_that_is_set() {
        let mut clock = Clock::new(Time::Wall);
        let start = clock.to_wall;
        clock.adjust(start + 999_999);
        clock.adjust(start - 999_999);
        assert_eq!(clock.to_wall, start);
        // Set back, beyond 1970 too; and the machine was asleep for a day.
        for other in [
            start - 3_600_000_000_000,
            -start,
            start + 86_400_000_000_000,
        ] {
            clock.adjust(other);
            assert_eq!(clock.to_wall, other);
        }
        // No time of day: the line is as it was.
        assert_eq!(restamped(&mut clock, 0).split(' ').next_back(), Some("x"));
        clock.how = Time::Boot;
        assert_eq!(restamped(&mut clock, 9), "1.000000 [000] a-1/1 x");
    }
}
