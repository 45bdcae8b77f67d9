//! The events that were recorded, and where their records have time, CPU and task.
//!
//! A record does not say of which event it is before its form is known, and each event
//! may have a form of its own. So the id of the event is at a place that all forms share:
//! at the start or end of the record (`PERF_SAMPLE_IDENTIFIER`), or after the same fields.
//! The order of fields is that of `enum perf_event_type` in the kernel's
//! `include/uapi/linux/perf_event.h`, of Linux 6.18; later fields follow the raw data.

use std::collections::HashMap;

use super::cursor::Cursor;
use super::error::RecordingError;
use crate::machine::ByteOrder;

/// Bits of `perf_event_attr.sample_type`.
mod sample {
    pub(super) const IP: u64 = 1 << 0;
    pub(super) const TID: u64 = 1 << 1;
    pub(super) const TIME: u64 = 1 << 2;
    pub(super) const ADDR: u64 = 1 << 3;
    pub(super) const READ: u64 = 1 << 4;
    pub(super) const CALLCHAIN: u64 = 1 << 5;
    pub(super) const ID: u64 = 1 << 6;
    pub(super) const CPU: u64 = 1 << 7;
    pub(super) const PERIOD: u64 = 1 << 8;
    pub(super) const STREAM_ID: u64 = 1 << 9;
    pub(super) const RAW: u64 = 1 << 10;
    pub(super) const IDENTIFIER: u64 = 1 << 16;
}

/// Bits of `perf_event_attr.read_format`.
mod read_format {
    pub(super) const TOTAL_TIME_ENABLED: u64 = 1 << 0;
    pub(super) const TOTAL_TIME_RUNNING: u64 = 1 << 1;
    pub(super) const ID: u64 = 1 << 2;
    pub(super) const GROUP: u64 = 1 << 3;
    pub(super) const LOST: u64 = 1 << 4;
}

/// `PERF_TYPE_TRACEPOINT`.
const TRACEPOINT: u32 = 2;

/// The parts of a `perf_event_attr` on which the form of records depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordForm {
    is_tracepoint: bool,
    sample_type: u64,
    read_format: u64,
    /// Whether records that are no samples end with time, CPU and task.
    has_sample_id: bool,
}

/// A sample of a tracepoint.
pub(super) struct RawSample<'a> {
    pub(super) time: u64,
    pub(super) cpu: u32,
    /// Process and thread.
    pub(super) task: Option<(i32, i32)>,
    /// The event's record, alone.
    pub(super) raw: Cursor<'a>,
}

/// The time and CPU of a record that is not a sample.
#[derive(Clone, Copy, Default)]
pub(super) struct SampleId {
    pub(super) time: Option<u64>,
    pub(super) cpu: Option<u32>,
}

const PART: &str = "a sample";

impl RecordForm {
    /// Reads a `perf_event_attr`, and skips it. Returns its size, too.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<(Self, u32), RecordingError> {
        const PART: &str = "the description of an event";
        let start = cursor.place();
        let kind = cursor.u32(PART)?;
        let size = cursor.u32(PART)?;
        // `PERF_ATTR_SIZE_VER0`.
        if size < 64 {
            return Err(RecordingError::Expected {
                expected: "the description of an event, of at least 64 bytes",
                place: start,
            });
        }
        let mut rest = cursor.part(u64::from(size) - 8, PART)?;
        let (_config, _period) = (rest.u64(PART)?, rest.u64(PART)?);
        let (sample_type, read_format) = (rest.u64(PART)?, rest.u64(PART)?);
        // Compilers fill bit fields from the side on which the byte order begins.
        let flags = rest.u64(PART)?;
        let flags = match cursor.order {
            ByteOrder::Little => flags,
            ByteOrder::Big => flags.reverse_bits(),
        };
        let form = Self {
            is_tracepoint: kind == TRACEPOINT,
            sample_type,
            read_format,
            has_sample_id: flags & 1 << 18 != 0,
        };
        Ok((form, size))
    }

    fn has(self, field: u64) -> bool {
        self.sample_type & field != 0
    }

    fn count(self, fields: &[u64]) -> u64 {
        fields.iter().filter(|field| self.has(**field)).count() as u64
    }

    /// Returns where a sample has the id of its event, in bytes from the body's start.
    fn id_of_sample(self) -> Option<u64> {
        use sample::{ADDR, ID, IDENTIFIER, IP, TID, TIME};
        match (self.has(IDENTIFIER), self.has(ID)) {
            (true, _) => Some(0),
            (_, true) => Some(8 * self.count(&[IP, TID, TIME, ADDR])),
            _ => None,
        }
    }

    /// Returns where another record has the id, in bytes from its end.
    fn id_of_other(self) -> Option<u64> {
        use sample::{CPU, ID, IDENTIFIER, STREAM_ID};
        match (self.has_sample_id, self.has(IDENTIFIER), self.has(ID)) {
            (true, true, _) => Some(8),
            (true, _, true) => Some(8 + 8 * self.count(&[STREAM_ID, CPU])),
            _ => None,
        }
    }

    /// Reads the body of a sample; the reason why it is left out, if it is.
    pub(super) fn sample<'a>(
        self,
        mut body: Cursor<'a>,
    ) -> Result<Result<RawSample<'a>, &'static str>, RecordingError> {
        if !self.is_tracepoint {
            return Ok(Err("samples of events that are not tracepoints"));
        }
        if !(self.has(sample::TIME) && self.has(sample::CPU) && self.has(sample::RAW)) {
            return Ok(Err("samples without time, CPU or fields"));
        }
        let (mut time, mut cpu, mut task) = (0, 0, None);
        for field in [
            sample::IDENTIFIER,
            sample::IP,
            sample::TID,
            sample::TIME,
            sample::ADDR,
            sample::ID,
            sample::STREAM_ID,
            sample::CPU,
            sample::PERIOD,
        ] {
            match field {
                field if !self.has(field) => {}
                sample::TID => task = Some((body.u32(PART)? as i32, body.u32(PART)? as i32)),
                sample::TIME => time = body.u64(PART)?,
                sample::CPU => {
                    cpu = body.u32(PART)?;
                    body.u32(PART)?;
                }
                _ => drop(body.u64(PART)?),
            }
        }
        if self.has(sample::READ) {
            self.skip_counts(&mut body)?;
        }
        if self.has(sample::CALLCHAIN) {
            let count = body.u64(PART)?;
            body.take(count.saturating_mul(8), "a sample's callers")?;
        }
        let length = body.u32(PART)?;
        let raw = body.part(length.into(), "a sample's fields")?;
        Ok(Ok(RawSample {
            time,
            cpu,
            task,
            raw,
        }))
    }

    /// Skips the values of counters.
    fn skip_counts(self, body: &mut Cursor<'_>) -> Result<(), RecordingError> {
        use read_format::{GROUP, ID, LOST, TOTAL_TIME_ENABLED, TOTAL_TIME_RUNNING};
        let count = |bits: u64| u64::from((self.read_format & bits).count_ones());
        let times = count(TOTAL_TIME_ENABLED | TOTAL_TIME_RUNNING);
        let each = 1 + count(ID | LOST);
        let values = match count(GROUP) {
            0 => 1,
            _ => body.u64(PART)?,
        };
        let words = values.saturating_mul(each).saturating_add(times);
        body.take(words.saturating_mul(8), "a sample's counts")
            .map(drop)
    }

    /// Reads time and CPU at the end of a record that is not a sample.
    fn sample_id(self, body: Cursor<'_>) -> SampleId {
        use sample::{CPU, ID, IDENTIFIER, STREAM_ID, TID, TIME};
        let fields = [TID, TIME, ID, STREAM_ID, CPU, IDENTIFIER];
        let mut found = SampleId::default();
        if !self.has_sample_id {
            return found;
        }
        let Some(mut end) = from_end(body, 8 * self.count(&fields)) else {
            return found;
        };
        for field in fields.into_iter().filter(|field| self.has(*field)) {
            let Ok(mut value) = end.part(8, PART) else {
                return found;
            };
            match field {
                // perf writes records of its own with the time 0.
                TIME => {
                    found.time = value
                        .u64(PART)
                        .ok()
                        .filter(|time| ![0, u64::MAX].contains(time))
                }
                CPU => found.cpu = value.u32(PART).ok().filter(|cpu| *cpu != u32::MAX),
                _ => {}
            }
        }
        found
    }
}

/// Returns a cursor that many bytes before the end.
fn from_end(body: Cursor<'_>, bytes: u64) -> Option<Cursor<'_>> {
    let mut body = body;
    let before = (body.rest().len() as u64).checked_sub(bytes)?;
    body.take(before, PART).ok()?;
    Some(body)
}

/// The recorded events, by the ids in their records.
#[derive(Debug, Default)]
pub(super) struct RecordForms {
    forms: Vec<RecordForm>,
    /// Indices into `forms`.
    by_id: HashMap<u64, u32>,
}

impl RecordForms {
    /// Adds an event with the ids that follow.
    pub(super) fn add(
        &mut self,
        form: RecordForm,
        mut ids: Cursor<'_>,
    ) -> Result<(), RecordingError> {
        let index = self.forms.len() as u32;
        self.forms.push(form);
        while !ids.rest().is_empty() {
            self.by_id.insert(ids.u64("the ids of an event")?, index);
        }
        Ok(())
    }

    /// Returns the form of all events, if they share one.
    fn shared(&self) -> Option<RecordForm> {
        let (first, others) = self.forms.split_first()?;
        others.iter().all(|form| form == first).then_some(*first)
    }

    /// Returns the form of a sample; `None` if its event is unknown.
    pub(super) fn of_sample(&self, body: Cursor<'_>) -> Option<RecordForm> {
        if let Some(form) = self.shared() {
            return Some(form);
        }
        let place = self.forms.first()?.id_of_sample()?;
        let mut id = body;
        id.take(place, PART).ok()?;
        let form = self.form(id.u64(PART).ok()?)?;
        (form.id_of_sample() == Some(place)).then_some(form)
    }

    /// Returns time and CPU of a record that is not a sample, as far as it has them.
    pub(super) fn sample_id(&self, body: Cursor<'_>) -> SampleId {
        let form = self.shared().or_else(|| {
            let place = self.forms.first()?.id_of_other()?;
            let id = from_end(body, place)?.u64(PART).ok()?;
            // Records that perf itself writes have the id 0 and the first event's form.
            let form = match id {
                0 => *self.forms.first()?,
                id => self.form(id)?,
            };
            (form.id_of_other() == Some(place)).then_some(form)
        });
        form.map_or(SampleId::default(), |form| form.sample_id(body))
    }

    fn form(&self, id: u64) -> Option<RecordForm> {
        let index = *self.by_id.get(&id)?;
        self.forms.get(index as usize).copied()
    }
}
