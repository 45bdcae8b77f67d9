//! The records of a `perf.data`: samples, names of tasks, losses.

use std::collections::BTreeMap;

use super::cursor::{Cursor, Span};
use super::error::{RecordingError, RecordingPlace};
use super::files::RecordedKernel;
use super::perf_attr::{RecordForm, RecordForms};
use crate::machine::until_nul;

/// Kinds of records: `enum perf_event_type`, and from 64 on `enum perf_user_event_type` of
/// `tools/lib/perf/include/perf/event.h`, in Linux 6.18.
mod kind {
    pub(super) const LOST: u32 = 2;
    pub(super) const COMM: u32 = 3;
    pub(super) const FORK: u32 = 7;
    pub(super) const SAMPLE: u32 = 9;
    pub(super) const LOST_SAMPLES: u32 = 13;
    pub(super) const ATTR: u32 = 64;
    pub(super) const TRACING_DATA: u32 = 66;
    pub(super) const AUXTRACE: u32 = 71;
    pub(super) const FEATURE: u32 = 80;
    pub(super) const COMPRESSED: u32 = 81;
    pub(super) const COMPRESSED_2: u32 = 83;
}

/// Sections of the header, and features of a stream.
pub(super) mod feature {
    pub(in crate::record::recording) const TRACING_DATA: u32 = 1;
    pub(in crate::record::recording) const HOSTNAME: u32 = 3;
    pub(in crate::record::recording) const OS_RELEASE: u32 = 4;
    pub(in crate::record::recording) const ARCH: u32 = 6;
    pub(in crate::record::recording) const DIR_FORMAT: u32 = 24;
}

/// A record with its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed {
    pub(super) time: u64,
    pub(super) record: PerfRecord,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum PerfRecord {
    Sample {
        cpu: u32,
        task: Option<(i32, i32)>,
        raw: Span,
    },
    /// A task took a name.
    Name { tid: i32, name: Span },
    /// A task was created.
    Fork { tid: i32, parent: i32 },
    /// Records were lost before this one.
    Lost { cpu: Option<u32>, count: u64 },
}

/// The records read so far.
#[derive(Debug)]
pub(super) struct PerfRecords<'a> {
    pub(super) kernel: RecordedKernel,
    pub(super) has_formats: bool,
    pub(super) forms: RecordForms,
    pub(super) timed: Vec<Timed>,
    /// The samples that perf counted as lost at the end.
    pub(super) lost_samples: u64,
    /// Numbers of samples that are left out, by reason.
    pub(super) left_out: BTreeMap<String, u64>,
    /// The compressed parts, in order.
    pub(super) packed: Vec<&'a [u8]>,
    pub(super) first_packed: Option<RecordingPlace>,
    /// The latest time so far.
    latest: u64,
}

const PART: &str = "a record";

impl<'a> PerfRecords<'a> {
    pub(super) fn new(kernel: RecordedKernel) -> Self {
        Self {
            kernel,
            has_formats: false,
            forms: RecordForms::default(),
            timed: Vec::new(),
            lost_samples: 0,
            left_out: BTreeMap::new(),
            packed: Vec::new(),
            first_packed: None,
            latest: 0,
        }
    }

    /// Reads records up to the end, and collects those that are compressed.
    pub(super) fn read_all(&mut self, cursor: &mut Cursor<'a>) -> Result<(), RecordingError> {
        while !cursor.rest().is_empty() {
            if let Some((place, packed)) = self.read(cursor)? {
                self.first_packed.get_or_insert(place);
                self.packed.push(packed);
            }
        }
        Ok(())
    }

    /// Reads the records that were compressed.
    pub(super) fn read_unpacked(&mut self, mut cursor: Cursor<'_>) -> Result<(), RecordingError> {
        while !cursor.rest().is_empty() {
            let place = cursor.place();
            if self.read(&mut cursor)?.is_some() {
                return Err(RecordingError::Expected {
                    expected: "a record that is compressed once",
                    place,
                });
            }
        }
        Ok(())
    }

    /// Reads one record. Returns the compressed data of one that has such.
    fn read<'b>(
        &mut self,
        cursor: &mut Cursor<'b>,
    ) -> Result<Option<(RecordingPlace, &'b [u8])>, RecordingError> {
        let place = cursor.place();
        let kind = cursor.u32(PART)?;
        let misc = cursor.u16(PART)?;
        let size = cursor.u16(PART)?;
        let Some(size) = size.checked_sub(8) else {
            return Err(RecordingError::Expected {
                expected: "a record of at least 8 bytes",
                place,
            });
        };
        let mut body = cursor.part(size.into(), PART)?;
        match kind {
            kind::COMPRESSED => return Ok(Some((place, body.rest()))),
            kind::COMPRESSED_2 => {
                let length = body.u64(PART)?;
                return Ok(Some((place, body.take(length, "compressed data")?)));
            }
            kind::SAMPLE => self.sample(body),
            kind::ATTR => {
                let (form, _) = RecordForm::read(&mut body)?;
                self.forms.add(form, body)?;
            }
            kind::TRACING_DATA => {
                let length = body.u32(PART)?;
                self.tracing_data(cursor.part(length.into(), "the formats")?)?;
            }
            // The data of a processor's tracing unit follow the record.
            kind::AUXTRACE => drop(cursor.take(body.u64(PART)?, "a processor's trace")?),
            kind::FEATURE => {
                let feature = body.u64(PART)?;
                if let Ok(feature) = u32::try_from(feature) {
                    self.feature(feature, body)?;
                }
            }
            // Those that a filter of perf's refused (`PERF_RECORD_MISC_LOST_SAMPLES_BPF`).
            kind::LOST_SAMPLES if misc & 1 << 15 != 0 => {}
            kind => {
                // A record that is too short has nothing to tell.
                if let Ok(Some(timed)) = self.other(kind, body) {
                    self.timed.push(timed);
                }
            }
        }
        Ok(None)
    }

    fn sample(&mut self, body: Cursor<'_>) {
        let why = match self.forms.of_sample(body).map(|form| form.sample(body)) {
            None => "samples of an event that is not described".to_owned(),
            Some(Ok(Err(why))) => why.to_owned(),
            Some(Err(error)) => match error {
                RecordingError::CutOff { part, .. } => format!("samples that end within {part}"),
                error => error.to_string(),
            },
            Some(Ok(Ok(sample))) => {
                self.latest = self.latest.max(sample.time);
                return self.timed.push(Timed {
                    time: sample.time,
                    record: PerfRecord::Sample {
                        cpu: sample.cpu,
                        task: sample.task,
                        raw: sample.raw.span(sample.raw.rest().len()),
                    },
                });
            }
        };
        *self.left_out.entry(why).or_default() += 1;
    }

    /// Reads a record that is not a sample; `None` for one of no interest.
    fn other(&mut self, kind: u32, mut body: Cursor<'_>) -> Result<Option<Timed>, RecordingError> {
        let whole = body;
        let record = match kind {
            kind::LOST => {
                body.u64(PART)?;
                let count = body.u64(PART)?;
                let cpu = self.forms.sample_id(whole).cpu;
                PerfRecord::Lost { cpu, count }
            }
            kind::LOST_SAMPLES => {
                let count = body.u64(PART)?;
                self.lost_samples = self.lost_samples.saturating_add(count);
                return Ok(None);
            }
            kind::COMM => {
                let (_pid, tid) = (body.u32(PART)?, body.u32(PART)? as i32);
                let name = body.span(until_nul(body.rest()).len());
                PerfRecord::Name { tid, name }
            }
            kind::FORK => {
                let (_pid, _ppid) = (body.u32(PART)?, body.u32(PART)?);
                let (tid, parent) = (body.u32(PART)? as i32, body.u32(PART)? as i32);
                PerfRecord::Fork { tid, parent }
            }
            _ => return Ok(None),
        };
        // One without time is read as soon as it is seen.
        let time = self.forms.sample_id(whole).time.unwrap_or(self.latest);
        self.latest = self.latest.max(time);
        Ok(Some(Timed { time, record }))
    }

    /// Reads a section of the header.
    pub(super) fn feature(
        &mut self,
        feature: u32,
        mut data: Cursor<'_>,
    ) -> Result<(), RecordingError> {
        let mut text = || {
            let length = data.u32("a text of the header")?;
            let text = data.take(length.into(), "a text of the header")?;
            Ok(until_nul(text))
        };
        match feature {
            feature::TRACING_DATA => self.tracing_data(data)?,
            feature::OS_RELEASE => self.kernel.set_release(&String::from_utf8_lossy(text()?)),
            feature::ARCH => self.kernel.set_machine(&String::from_utf8_lossy(text()?)),
            // The other files of the directory would have to be read with this one.
            feature::DIR_FORMAT => return Err(RecordingError::Directory),
            _ => {}
        }
        Ok(())
    }

    /// Reads the kernel's files, which are as in a `trace.dat`.
    fn tracing_data(&mut self, mut data: Cursor<'_>) -> Result<(), RecordingError> {
        const PART: &str = "the start of the formats";
        // A second one is not read: it would be the same.
        if std::mem::replace(&mut self.has_formats, true) {
            return Ok(());
        }
        data.expect(b"\x17\x08\x44tracing", "the start of the formats")?;
        let version = String::from_utf8_lossy(data.text(PART)?).into_owned();
        data.read_byte_order()?;
        // The size of a long in user space, and that of a page.
        data.take(1, PART)?;
        data.u32(PART)?;
        let kernel = &mut self.kernel;
        kernel.set_byte_order(data.order);
        kernel.read_headers(&mut data)?;
        kernel.read_ftrace_formats(&mut data)?;
        kernel.read_formats(&mut data)?;
        kernel.read_kallsyms(&mut data)?;
        kernel.read_printk_formats(&mut data)?;
        // The version is a decimal number to perf, too.
        if version.parse().is_ok_and(|version: f64| version >= 0.6) {
            kernel.read_task_names(&mut data)?;
        }
        Ok(())
    }
}
