//! `perf.data`, as a file and as a stream (`perf record -o -`).

use std::collections::HashMap;

use super::cursor::{Cursor, Span};
use super::error::RecordingError;
use super::files::RecordedKernel;
use super::perf_attr::RecordForm;
use super::perf_records::{PerfRecord, PerfRecords, Timed, feature};
use super::unpack::{Packing, Unpacker};
use crate::machine::ByteOrder;

/// The number of bits that tell which sections a header has.
const FEATURES: u32 = 256;

/// A file of `perf record`, or what it wrote to a pipe: see
/// [`recording`](crate::record::recording).
///
/// It borrows the file's bytes. Compressed records are decompressed at once.
#[derive(Clone, Debug)]
pub struct PerfData<'a> {
    kernel: RecordedKernel,
    file: &'a [u8],
    unpacked: Vec<u8>,
    /// In the order of their times.
    timed: Vec<Timed>,
    lost_samples: u64,
    left_out: Vec<String>,
    damage: Option<RecordingError>,
}

/// A sample of a tracepoint, or a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PerfEntry<'a> {
    /// An event that happened.
    Sample(PerfSample<'a>),
    /// Records that were lost before the next ones.
    Lost {
        /// The CPU; `None` if the recording does not say it.
        cpu: Option<u32>,
        /// The number of records. Most are samples, but not all.
        count: u64,
    },
}

/// An event that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PerfSample<'a> {
    /// The time in nanoseconds, by the clock that `perf record` chose.
    pub time: u64,
    /// The CPU.
    pub cpu: u32,
    /// The process and the thread that ran, by their ids in the pid namespace of `perf
    /// record`: -1 for one that had exited. `None` if they were not recorded. A record's
    /// `common_pid` is the thread's id in the first namespace.
    pub task: Option<(i32, i32)>,
    /// The thread's name at that time; `None` if it is not known, as for thread 0.
    pub name: Option<&'a [u8]>,
    /// The event's record, from its `common_type` on.
    pub record: &'a [u8],
}

impl<'a> PerfData<'a> {
    /// Whether bytes begin as a `perf.data` does: the first 8 are enough.
    pub fn is_one(bytes: &[u8]) -> bool {
        byte_order(bytes).is_some()
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`RecordingError`], with the place in the file. If only its records are damaged, those
    /// before the damage are kept: see [`damage`](Self::damage).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RecordingError> {
        const PART: &str = "the header";
        let Some(order) = byte_order(bytes) else {
            return Err(RecordingError::NotPerfData);
        };
        let mut file = Cursor::new(bytes, order);
        file.u64(PART)?;
        let header_size = file.u64(PART)?;
        let mut records = PerfRecords::new(RecordedKernel::new(order));
        let mut data = match header_size {
            16 => file,
            _ => read_header(file, &mut records)?,
        };
        let mut damage = records.read_all(&mut data).err();
        let mut unpacked = Vec::new();
        if let Some(place) = records.first_packed {
            let mut unpacker = Unpacker::new(Packing::Zstd, bytes.len());
            let packed = std::mem::take(&mut records.packed);
            let unpacking = unpacker.unpack_stream(&packed, place, &mut unpacked);
            let cursor = Cursor::unpacked(&unpacked, order, place.offset);
            let reading = records.read_unpacked(cursor);
            damage = damage.or(unpacking.err()).or(reading.err());
        }
        if !records.has_formats {
            return Err(damage.unwrap_or(RecordingError::NoFormats));
        }
        let mut timed = records.timed;
        // Of records of one time, perf prints the first in the file first.
        timed.sort_by_key(|timed| timed.time);
        let left_out = records.left_out.into_iter();
        Ok(Self {
            kernel: records.kernel,
            file: bytes,
            unpacked,
            timed,
            lost_samples: records.lost_samples,
            left_out: left_out
                .map(|(why, count)| format!("{why}: {count}"))
                .collect(),
            damage,
        })
    }

    /// Returns the recorded kernel.
    pub fn kernel(&self) -> &RecordedKernel {
        &self.kernel
    }

    /// Iterates over the samples of tracepoints, and the losses, in the order of their times.
    /// Of several at one time, the first in the file comes first.
    pub fn entries(&self) -> impl Iterator<Item = PerfEntry<'_>> {
        let mut names: HashMap<i32, &[u8]> = HashMap::new();
        self.timed.iter().filter_map(move |timed| {
            match timed.record {
                PerfRecord::Sample { cpu, task, raw } => {
                    return Some(PerfEntry::Sample(PerfSample {
                        time: timed.time,
                        cpu,
                        task,
                        name: task.and_then(|(_, tid)| names.get(&tid).copied()),
                        record: self.bytes(raw),
                    }));
                }
                PerfRecord::Lost { cpu, count } => return Some(PerfEntry::Lost { cpu, count }),
                PerfRecord::Name { tid, name } => drop(names.insert(tid, self.bytes(name))),
                // Threads of one id follow one another.
                PerfRecord::Fork { tid, parent } => match names.get(&parent).copied() {
                    Some(name) => drop(names.insert(tid, name)),
                    None => drop(names.remove(&tid)),
                },
            }
            None
        })
    }

    /// Returns the number of samples that `perf record` counted as lost when it ended, from
    /// Linux 6.0 on; otherwise 0. Those that [entries](Self::entries) tell are among them,
    /// but not those at the end, after which nothing was recorded.
    pub fn lost_samples(&self) -> u64 {
        self.lost_samples
    }

    /// Returns which samples were left out and why, one text for each reason:
    /// `samples of events that are not tracepoints: 7`.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Returns why the records that follow could not be read; `None` if all were read.
    pub fn damage(&self) -> Option<&RecordingError> {
        self.damage.as_ref()
    }

    fn bytes(&self, span: Span) -> &[u8] {
        let bytes = match span.is_unpacked {
            true => &self.unpacked,
            false => self.file,
        };
        let rest = bytes.get(span.start..);
        rest.and_then(|rest| rest.get(..span.length))
            .unwrap_or_default()
    }
}

fn byte_order(bytes: &[u8]) -> Option<ByteOrder> {
    match bytes.first_chunk()? {
        b"PERFILE2" => Some(ByteOrder::Little),
        b"2ELIFREP" => Some(ByteOrder::Big),
        _ => None,
    }
}

/// A part of the file: `struct perf_file_section`.
struct FilePart {
    offset: u64,
    size: u64,
}

impl FilePart {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, RecordingError> {
        let offset = cursor.u64("where a part is")?;
        let size = cursor.u64("where a part is")?;
        Ok(Self { offset, size })
    }

    fn cursor<'a>(
        &self,
        file: Cursor<'a>,
        part: &'static str,
    ) -> Result<Cursor<'a>, RecordingError> {
        // Without content the offset means nothing.
        let offset = if self.size == 0 { 0 } else { self.offset };
        file.seek(offset, part)?.part(self.size, part)
    }
}

/// Reads the header of a file, which is not a stream. Returns where its records are.
fn read_header<'a>(
    file: Cursor<'a>,
    records: &mut PerfRecords<'a>,
) -> Result<Cursor<'a>, RecordingError> {
    const PART: &str = "the header";
    let mut header = file;
    let attr_size = header.u64(PART)?;
    let attrs = FilePart::read(&mut header)?;
    let data = FilePart::read(&mut header)?;
    let _event_types = FilePart::read(&mut header)?;
    let features = features(header)?;
    let mut attrs = attrs.cursor(file, "the descriptions of events")?;
    // Ids that are in the file once take as many bytes as they have.
    let mut ids_left = file.rest().len() as u64;
    while !attrs.rest().is_empty() {
        let mut entry = attrs.part(attr_size, "the description of an event")?;
        let place = entry.place();
        let (form, size) = RecordForm::read(&mut entry)?;
        // Between the description and its ids may be what this perf does not know.
        let between = attr_size.checked_sub(u64::from(size) + 16);
        let between = between.ok_or(RecordingError::Expected {
            expected: "the description of an event, with the place of its ids",
            place,
        })?;
        entry.take(between, "the description of an event")?;
        let ids = FilePart::read(&mut entry)?;
        let Some(left) = ids_left.checked_sub(ids.size) else {
            return Err(RecordingError::Expected {
                expected: "ids of an event that are not those of others",
                place,
            });
        };
        ids_left = left;
        records
            .forms
            .add(form, ids.cursor(file, "the ids of an event")?)?;
    }
    let end = data.offset.saturating_add(data.size);
    let mut table = match features.is_empty() {
        true => file,
        false => file.seek(end, "the sections of the header")?,
    };
    for feature in features {
        let section = FilePart::read(&mut table)?;
        // The sizes of most are not needed, and some perf wrote wrong ones.
        if matches!(
            feature,
            feature::TRACING_DATA | feature::OS_RELEASE | feature::ARCH | feature::DIR_FORMAT
        ) {
            records.feature(feature, section.cursor(file, "a section of the header")?)?;
        }
    }
    data.cursor(file, "the records")
}

/// Returns which sections a header has, in their order: bits of the words of a long.
fn features(header: Cursor<'_>) -> Result<Vec<u32>, RecordingError> {
    const PART: &str = "which sections there are";
    let (mut longs, mut ints) = (header, header);
    let mut by_long = Vec::new();
    let mut by_int = Vec::new();
    for first in (0..FEATURES).step_by(64) {
        let word = longs.u64(PART)?;
        by_long.extend(
            (0..64)
                .filter(|bit| word >> bit & 1 != 0)
                .map(|bit| first + bit),
        );
    }
    for first in (0..FEATURES).step_by(32) {
        let word = ints.u32(PART)?;
        by_int.extend(
            (0..32)
                .filter(|bit| word >> bit & 1 != 0)
                .map(|bit| first + bit),
        );
    }
    // A 32-bit perf of big-endian words is recognized as perf does it: by the host's name,
    // which every header has.
    Ok(match by_long.contains(&feature::HOSTNAME) {
        false if by_int.contains(&feature::HOSTNAME) => by_int,
        _ => by_long,
    })
}
