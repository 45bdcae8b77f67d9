//! Records of a probe, one for each time an event happened.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};

use super::kept::Kept;
use super::plan::{EventPlan, KeptField, STACK_DEPTH, header};
use super::pointees::limit_to_space;
use super::strings::{AWAITS, HAS_RESULT, REFUSED, RESULT, RETURN_TIME, RETURNED, StringOrigin};
use crate::filter::Task;
use crate::machine::{Machine, until_nul};
use crate::name::EventName;
use crate::record::Value;

/// An event that happened: when, where, to whom, and the fields that were asked
/// for.
///
/// [`Display`](fmt::Display) writes one line: seconds, CPU, task, event and
/// fields; strings in quotes, with control characters escaped. `@exit` follows one that was
/// read when its system call returned, `@rewritten` one that was another by then. The result
/// of a system call comes last, after ` = `.
#[derive(Clone)]
pub struct ProbeRecord {
    events: Arc<[EventPlan]>,
    event: usize,
    bytes: Box<[u8]>,
    /// The fields, by their index, that were read when the call returned, and those that were
    /// something else then.
    at_exit: u64,
    rewritten: u64,
    returned: Option<SyscallReturn>,
}

/// The end of a system call: see [`ProbeRecord::returned`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyscallReturn {
    /// What it returned: a negative error number, or else its result.
    pub value: i64,
    /// How long it took; 0 where the clock was behind when it ended: the one that programs
    /// read may go back by some nanoseconds (`ktime_get_mono_fast_ns()`,
    /// `kernel/time/timekeeping.c`).
    pub duration: Duration,
}

/// The value of a field of a [`ProbeRecord`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldValue<'r> {
    /// All of it.
    Whole(Value<'r>),
    /// Its beginning: the data are longer than the probe keeps
    /// ([`ProbeBuilder::data_limit`](super::ProbeBuilder::data_limit)).
    Cut(Value<'r>),
    /// The kernel could not read it. A system call's string that is in memory the
    /// process has not touched yet is `EFAULT` until the call itself reads it, and is read
    /// again when that returns ([`ProbeBuilder::strings`](super::ProbeBuilder::strings)).
    Unreadable {
        /// The error's number.
        errno: i32,
    },
    /// The pointer to it is NULL: there is nothing.
    Null,
    /// The system call has not written it: it failed, it has not returned, or what it returned
    /// was lost.
    Unwritten,
}

impl<'r> FieldValue<'r> {
    /// The value, whole or cut.
    pub fn value(&self) -> Option<Value<'r>> {
        match *self {
            Self::Whole(value) | Self::Cut(value) => Some(value),
            Self::Unreadable { .. } | Self::Null | Self::Unwritten => None,
        }
    }
}

impl ProbeRecord {
    /// Takes what a program wrote, and returns the marks in the event's index, too; `None` if
    /// no program of these did.
    pub(crate) fn new(events: &Arc<[EventPlan]>, bytes: &[u8]) -> Option<(Self, u32)> {
        let event = bytes.get(header::EVENT as usize..)?.get(..4)?;
        let event = Machine::NATIVE.unsigned(event) as u32;
        let marks = event & (AWAITS | RETURNED | HAS_RESULT);
        let event = (event & !marks) as usize;
        let plan = events.get(event)?;
        // The ring buffer rounds up to 8 bytes.
        let bytes = bytes.get(..plan.size as usize)?;
        let record = Self {
            events: Arc::clone(events),
            event,
            bytes: bytes.into(),
            at_exit: 0,
            rewritten: 0,
            returned: None,
        };
        Some((record, marks))
    }

    /// Whether it is reported only if its call returned.
    pub(super) fn needs_return(&self) -> bool {
        self.plan().needs_return
    }

    /// Takes what a program wrote of a call whose result the filter does not hold for: its
    /// thread and the time of its begin; `None` if it wrote something else.
    pub(super) fn refused(bytes: &[u8]) -> Option<(u32, u64)> {
        let machine = Machine::NATIVE;
        let number =
            |at: i16, size: usize| Some(machine.unsigned(bytes.get(at as usize..)?.get(..size)?));
        let event = number(header::EVENT, 4)? as u32;
        let both = number(header::PID_TGID, 8)?;
        (event & REFUSED != 0).then_some((both as u32, number(header::TIMESTAMP, 8)?))
    }

    /// Takes the strings of the record that was written when the call returned, and the
    /// result, if it has it.
    pub(super) fn join(&mut self, returned: &Self, marks: u32) {
        if marks & HAS_RESULT != 0 {
            let end = returned.number(RETURN_TIME, 8);
            self.returned = Some(SyscallReturn {
                value: returned.number(RESULT, 8) as i64,
                duration: Duration::from_nanos(end.saturating_sub(self.timestamp_ns())),
            });
        }
        let events = Arc::clone(&self.events);
        let plan = &events[self.event];
        for (index, field) in plan.fields.iter().enumerate().take(64) {
            if !field.is_of_user() {
                continue;
            }
            let before = field.read(&self.bytes);
            let after = field.read(&returned.bytes);
            match (before, after) {
                (None, _) | (_, None) => {}
                // Where it stays unreadable, the first error is as good.
                (Some(Kept::Unread(_)), Some(Kept::Unread(_))) => {}
                (Some(Kept::Unread(_) | Kept::Awaited), Some(_)) => {
                    let is_taken = self.take(field, &returned.bytes);
                    self.at_exit |= u64::from(is_taken) << index;
                }
                (Some(_), Some(Kept::Unread(_))) => {}
                (Some(_), Some(_))
                    if field.is_partly(&self.bytes) && !field.is_partly(&returned.bytes) =>
                {
                    let is_taken = self.take(field, &returned.bytes);
                    self.at_exit |= u64::from(is_taken) << index;
                }
                (Some(before), Some(after)) if before != after => self.rewritten |= 1 << index,
                _ => {}
            }
        }
    }

    /// Takes a field of the record that was written when the call returned. Returns whether it
    /// has it.
    fn take(&mut self, field: &KeptField, returned: &[u8]) -> bool {
        let place = field.place();
        let Some((from, to)) = returned
            .get(place.clone())
            .zip(self.bytes.get_mut(place.clone()))
        else {
            return false;
        };
        let mut from = from.to_vec();
        limit_to_space(field, to, &mut from);
        to.copy_from_slice(&from);
        true
    }

    /// What a system call returned, and how long it took; `None` where that was not asked for
    /// ([`ProbeBuilder::returns_of`](super::ProbeBuilder::returns_of)), of a call that has not
    /// returned, and of one whose end was lost.
    pub fn returned(&self) -> Option<SyscallReturn> {
        self.returned
    }

    /// When a string that a system call gets, or what a pointer of it points at, was read;
    /// `None` for other fields, and for what is not there to be read.
    pub fn string_origin(&self, field: &str) -> Option<StringOrigin> {
        let mut fields = self.plan().fields.iter().enumerate();
        let (index, field) = fields.find(|(_, known)| known.name == field)?;
        if !field.is_of_user() {
            return None;
        }
        let has = |set: u64| index < 64 && set & 1 << index != 0;
        Some(match field.read(&self.bytes)? {
            Kept::Unread(_) => StringOrigin::Unreadable,
            Kept::Null | Kept::Unwritten | Kept::Awaited => return None,
            _ if has(self.at_exit) => StringOrigin::Exit,
            _ if has(self.rewritten) => StringOrigin::Rewritten,
            _ => StringOrigin::Entry,
        })
    }

    fn plan(&self) -> &EventPlan {
        &self.events[self.event]
    }

    fn number(&self, offset: i16, size: usize) -> u64 {
        // The header is within every plan's size.
        Machine::NATIVE.unsigned(&self.bytes[offset as usize..][..size])
    }

    pub(super) fn context(&self) -> impl fmt::Display {
        TaskAndTime(self)
    }

    pub(super) fn values(&self) -> impl fmt::Display {
        Values(self)
    }

    /// The event that happened.
    pub fn event(&self) -> &EventName {
        &self.plan().name
    }

    /// When, in nanoseconds since boot without those asleep (`CLOCK_MONOTONIC`).
    pub fn timestamp_ns(&self) -> u64 {
        self.number(header::TIMESTAMP, 8)
    }

    /// The task it happened in.
    pub fn task(&self) -> Task {
        let both = self.number(header::PID_TGID, 8);
        let mut comm = [0; 16];
        comm.copy_from_slice(&self.bytes[header::COMM as usize..][..16]);
        Task {
            pid: (both >> 32) as u32,
            tid: both as u32,
            comm,
            cpu: self.number(header::CPU, 4) as u32,
        }
    }

    /// The task's name.
    pub fn comm(&self) -> Cow<'_, str> {
        let comm = &self.bytes[header::COMM as usize..][..16];
        String::from_utf8_lossy(until_nul(comm))
    }

    /// The fields that were asked for, in that order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, FieldValue<'_>)> {
        let fields = self.plan().fields.iter();
        fields.filter_map(|field| {
            let value = match field.read(&self.bytes)? {
                Kept::Value(value) => FieldValue::Whole(value),
                Kept::Part(value) => FieldValue::Cut(value),
                Kept::Unread(errno) => FieldValue::Unreadable { errno },
                Kept::Null => FieldValue::Null,
                Kept::Unwritten | Kept::Awaited => FieldValue::Unwritten,
            };
            Some((field.name.as_str(), value))
        })
    }

    /// The name of an enum's value: of a raw tracepoint's field that is of an enum's type.
    pub fn value_name(&self, field: &str) -> Option<&str> {
        let mut fields = self.plan().fields.iter();
        let field = fields.find(|known| known.name == field)?;
        match field.read(&self.bytes)? {
            Kept::Value(value) => field.name_of(&value),
            _ => None,
        }
    }

    /// The kernel's stack: addresses of code, the innermost first. Nothing where no stacks
    /// are kept ([`ProbeBuilder::stacks`](super::ProbeBuilder::stacks)).
    pub fn kernel_stack(&self) -> impl Iterator<Item = u64> + '_ {
        self.stack(0)
    }

    /// The stack of user space: addresses of code in the process, the innermost first, as
    /// far as its code keeps frame pointers. Nothing where no stacks are kept, and of
    /// threads of the kernel.
    pub fn user_stack(&self) -> impl Iterator<Item = u64> + '_ {
        self.stack(1)
    }

    fn stack(&self, which: usize) -> impl Iterator<Item = u64> + '_ {
        let machine = Machine::NATIVE;
        let bytes = self.plan().stacks.and_then(|stacks| {
            let (length, addresses) = self
                .bytes
                .get(stacks[which] as usize..)?
                .split_at_checked(8)?;
            // Negative: an error, as of what has no stack.
            let length = usize::try_from(machine.signed(length)).ok()?;
            addresses.get(..length.min(8 * STACK_DEPTH as usize))
        });
        let words = bytes.unwrap_or_default().chunks_exact(8);
        words.map(move |word| machine.unsigned(word))
    }

    /// The field of this name, if it was asked for.
    pub fn field(&self, name: &str) -> Option<FieldValue<'_>> {
        self.fields()
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value)
    }
}

impl fmt::Debug for ProbeRecord {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ProbeRecord({self})")
    }
}

impl fmt::Display for ProbeRecord {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}:{}", self.context(), self.event(), self.values())
    }
}

/// When, where and to whom: `14313.836195 [001] rm-21976/21976 `.
struct TaskAndTime<'r>(&'r ProbeRecord);

impl fmt::Display for TaskAndTime<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let task = self.0.task();
        let microseconds = self.0.timestamp_ns() / 1000;
        write!(
            out,
            "{}.{:06} [{:03}] {}-{}/{} ",
            microseconds / 1_000_000,
            microseconds % 1_000_000,
            task.cpu,
            self.0.comm().escape_debug(),
            task.pid,
            task.tid,
        )
    }
}

/// ` name=value` of each field.
struct Values<'r>(&'r ProbeRecord);

impl fmt::Display for Values<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = self.0.fields();
        fields.try_for_each(|(name, value)| {
            match self.0.value_name(name) {
                Some(value) => write!(out, " {name}={value}"),
                None => write!(out, " {name}={value}"),
            }?;
            match self.0.string_origin(name) {
                Some(StringOrigin::Exit) => out.write_str("@exit"),
                Some(StringOrigin::Rewritten) => out.write_str("@rewritten"),
                _ => Ok(()),
            }
        })?;
        match self.0.returned {
            Some(returned) => write!(out, " = {}", returned.value),
            None => Ok(()),
        }
    }
}

impl fmt::Display for FieldValue<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = match self {
            Self::Unreadable { errno } => {
                return write!(out, "<{}>", io::Error::from_raw_os_error(*errno));
            }
            Self::Null => return out.write_str("NULL"),
            Self::Unwritten => return out.write_str("<not written>"),
            Self::Whole(_) => "",
            // It says itself where it is cut.
            Self::Cut(Value::Typed(typed)) if typed.is_list() => "",
            Self::Cut(_) => "…",
        };
        match self.value() {
            Some(Value::Text(text)) => {
                let text = String::from_utf8_lossy(text);
                write!(out, "\"{}\"{cut}", text.escape_debug())
            }
            Some(value) => write!(out, "{value}{cut}"),
            None => Ok(()),
        }
    }
}

/// `{"timestamp_ns", "event", "cpu", "pid", "tid", "comm", "fields": {…}}`; the
/// names of fields that are cut in `"cut"`, of those that a call has not written in
/// `"unwritten"`, of strings read at exit in `"exit"`, of strings that
/// were others by then in `"rewritten"`, those that could not be read with the error's
/// number in `"unreadable"`, and those with a value of an enum that has a name, with it, in
/// `"names"`, if there are any.
impl Serialize for ProbeRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let task = self.task();
        let cut: Vec<&str> = self
            .fields()
            .filter(|(_, value)| matches!(value, FieldValue::Cut(_)))
            .map(|(name, _)| name)
            .collect();
        let of_origin = |wanted| {
            let fields = self.fields().map(|(name, _)| name);
            let fields = fields.filter(move |name| self.string_origin(name) == Some(wanted));
            fields.collect::<Vec<_>>()
        };
        let mut record = serializer.serialize_struct("ProbeRecord", 15)?;
        record.serialize_field("timestamp_ns", &self.timestamp_ns())?;
        record.serialize_field("event", self.event().as_str())?;
        record.serialize_field("cpu", &task.cpu)?;
        record.serialize_field("pid", &task.pid)?;
        record.serialize_field("tid", &task.tid)?;
        record.serialize_field("comm", &self.comm())?;
        record.serialize_field("fields", &Readable(self))?;
        match cut.is_empty() {
            true => record.skip_field("cut")?,
            false => record.serialize_field("cut", &cut)?,
        }
        let unwritten: Vec<&str> = self
            .fields()
            .filter(|(_, value)| matches!(value, FieldValue::Unwritten))
            .map(|(name, _)| name)
            .collect();
        match unwritten.is_empty() {
            true => record.skip_field("unwritten")?,
            false => record.serialize_field("unwritten", &unwritten)?,
        }
        for (key, wanted) in [
            ("exit", StringOrigin::Exit),
            ("rewritten", StringOrigin::Rewritten),
        ] {
            match of_origin(wanted) {
                fields if fields.is_empty() => record.skip_field(key)?,
                fields => record.serialize_field(key, &fields)?,
            }
        }
        match self.returned {
            None => {
                record.skip_field("ret")?;
                record.skip_field("duration_ns")?;
            }
            Some(returned) => {
                let duration = u64::try_from(returned.duration.as_nanos()).unwrap_or(u64::MAX);
                record.serialize_field("ret", &returned.value)?;
                record.serialize_field("duration_ns", &duration)?;
            }
        }
        match UnreadableFields(self).errors().next() {
            None => record.skip_field("unreadable")?,
            Some(_) => record.serialize_field("unreadable", &UnreadableFields(self))?,
        }
        let names: BTreeMap<&str, &str> = self
            .fields()
            .filter_map(|(name, _)| Some((name, self.value_name(name)?)))
            .collect();
        match names.is_empty() {
            true => record.skip_field("names")?,
            false => record.serialize_field("names", &names)?,
        }
        record.end()
    }
}

struct Readable<'r>(&'r ProbeRecord);

impl Serialize for Readable<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.0.fields() {
            map.serialize_entry(name, &value.value())?;
        }
        map.end()
    }
}

struct UnreadableFields<'r>(&'r ProbeRecord);

impl<'r> UnreadableFields<'r> {
    fn errors(&self) -> impl Iterator<Item = (&'r str, i32)> + use<'r> {
        let fields = self.0.fields();
        fields.filter_map(|(name, value)| match value {
            FieldValue::Unreadable { errno } => Some((name, errno)),
            _ => None,
        })
    }
}

impl Serialize for UnreadableFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.errors())
    }
}
