//! Pages of the ring buffer, as `per_cpu/cpuN/trace_pipe_raw` gives them.
//!
//! What a page is made of stands in two files of tracefs: `events/header_page`
//! ([`PageLayout`]) and `events/header_event`, which says the same on every kernel;
//! [`Kernel::page_layout`](crate::Kernel::page_layout) refuses another. In the kernel: `struct buffer_data_page`
//! and `struct ring_buffer_event` of `kernel/trace/ring_buffer.c` and
//! `include/linux/ring_buffer.h`.
//!
//! Nothing here does I/O, nothing is copied, and nothing is allocated but errors.
//!
//! ```
//! use tracepoints::ByteOrder;
//! use tracepoints::record::ring::PageLayout;
//!
//! let layout = PageLayout::parse("\
//! \tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;
//! \tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;
//! \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;
//! \tfield: char data;\toffset:16;\tsize:4080;\tsigned:1;
//! ")?;
//! let mut bytes = [0; 4096];
//! bytes[0] = 100; // the page's time, in nanoseconds
//! bytes[8] = 12; // of the data, so many are used
//! bytes[16..28].copy_from_slice(&[2 | 7 << 5, 0, 0, 0, 5, 0, 0, 0, 0xef, 1, 0, 0]);
//! for page in layout.pages(&bytes, ByteOrder::Little) {
//!     for entry in page?.entries() {
//!         let entry = entry?;
//!         assert_eq!((entry.timestamp(), entry.event_id()), (107, Some(5)));
//!         assert_eq!(entry.bytes().len(), 8);
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::iter::FusedIterator;

use crate::format::{Field, FormatError, page_header};
use crate::machine::{ByteOrder, Machine};

/// Where a page has what: the kernel's `events/header_page`.
///
/// An instance (`instances/<name>`) has pages of its own size and a
/// `header_page` of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLayout {
    timestamp: HeaderField,
    commit: HeaderField,
    data: HeaderField,
}

/// A field's offset and size, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeaderField {
    offset: usize,
    size: usize,
}

impl HeaderField {
    fn end(self) -> usize {
        self.offset.saturating_add(self.size)
    }

    fn of(self, bytes: &[u8]) -> Option<&[u8]> {
        bytes.get(self.offset..self.end())
    }
}

/// A `header_page` file that describes no page this crate can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageLayoutError {
    /// A line is not what a kernel writes.
    #[error(transparent)]
    Line(#[from] FormatError),
    /// There is no such field.
    #[error("header_page has no field {field}")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A field is larger or smaller than on any kernel, or overlaps another.
    #[error("header_page has {field} at bytes {offset} to {end}, where no kernel has it")]
    Misplaced {
        /// The field.
        field: &'static str,
        /// Where it begins, in bytes.
        offset: u32,
        /// Where it ends, in bytes.
        end: u64,
    },
}

impl PageLayout {
    /// Reads the text of `events/header_page`.
    ///
    /// # Errors
    ///
    /// [`PageLayoutError`].
    pub fn parse(header_page: &str) -> Result<Self, PageLayoutError> {
        let fields = page_header(header_page)?;
        let place = |name, sizes: &[u32]| {
            let field = fields.iter().find(|field| field.name() == name);
            let field = field.ok_or(PageLayoutError::Missing { field: name })?;
            let place = HeaderField {
                offset: field.offset() as usize,
                size: field.size() as usize,
            };
            match sizes.is_empty() && field.size() > 0 || sizes.contains(&field.size()) {
                true => Ok((place, field)),
                false => Err(misplaced(name, field)),
            }
        };
        let (timestamp, _) = place("timestamp", &[8])?;
        let (commit, commit_field) = place("commit", &[4, 8])?;
        let (data, data_field) = place("data", &[])?;
        if commit.offset < timestamp.end() && timestamp.offset < commit.end() {
            return Err(misplaced("commit", commit_field));
        }
        if data.offset < timestamp.end().max(commit.end()) {
            return Err(misplaced("data", data_field));
        }
        Ok(Self {
            timestamp,
            commit,
            data,
        })
    }

    /// The size of a page in bytes: 4096 on most machines; since Linux 6.8
    /// `buffer_subbuf_size_kb` says otherwise.
    pub fn page_size(self) -> usize {
        self.data.end()
    }

    /// The machine the pages are of. What has been written of a page stands in a
    /// `local_t`, which is as large as a `long`.
    pub fn machine(self, byte_order: ByteOrder) -> Machine {
        Machine::new(byte_order, self.commit.size == 8)
    }

    /// The pages one after another, as a file of `trace_pipe_raw` has them.
    pub fn pages(self, bytes: &[u8], byte_order: ByteOrder) -> Pages<'_> {
        Pages {
            layout: self,
            byte_order,
            bytes,
            offset: 0,
        }
    }

    /// One page. It may be cut off behind what is used of it.
    ///
    /// # Errors
    ///
    /// [`RingError::CutPage`] and [`RingError::Overlong`], with offsets from the
    /// page's start.
    pub fn page(self, bytes: &[u8], byte_order: ByteOrder) -> Result<Page<'_>, RingError> {
        self.page_at(bytes, 0, byte_order)
    }

    /// One page, `start` bytes into a file.
    fn page_at(
        self,
        bytes: &[u8],
        start: usize,
        byte_order: ByteOrder,
    ) -> Result<Page<'_>, RingError> {
        let machine = self.machine(byte_order);
        let cut = |needed: usize| RingError::CutPage {
            offset: start,
            needed,
            length: bytes.len(),
        };
        let field = |place: HeaderField| place.of(bytes).ok_or_else(|| cut(self.data.offset));
        let timestamp = machine.unsigned(field(self.timestamp)?);
        let commit = machine.unsigned(field(self.commit)?);
        let used = match commit & SIGN_OF_MISSED_EVENTS {
            SIGN_OF_MISSED_EVENTS => commit & u64::from(u32::MAX),
            _ => commit,
        };
        let used = used & !(MISSED_EVENTS | MISSED_STORED);
        let used = match usize::try_from(used) {
            Ok(used) if used <= self.data.size => used,
            _ => {
                return Err(RingError::Overlong {
                    offset: start,
                    used,
                    room: self.data.size,
                });
            }
        };
        let place = |offset: usize, size| HeaderField {
            offset: self.data.offset.saturating_add(offset),
            size,
        };
        let data = place(0, used);
        let data = data.of(bytes).ok_or_else(|| cut(data.end()))?;
        let lost = match commit & (MISSED_EVENTS | MISSED_STORED) {
            0 => None,
            flags if flags & MISSED_STORED == 0 => Some(Lost::Unknown),
            _ => {
                let count = place(used, machine.long_size() as usize);
                if count.end() > self.page_size() {
                    return Err(RingError::Overlong {
                        offset: start,
                        used: (used as u64).saturating_add(machine.long_size().into()),
                        room: self.data.size,
                    });
                }
                let count = count.of(bytes).ok_or_else(|| cut(count.end()))?;
                Some(Lost::Events(machine.unsigned(count)))
            }
        };
        Ok(Page {
            timestamp,
            lost,
            data,
            data_offset: start.saturating_add(self.data.offset),
            machine,
        })
    }
}

/// Whether `events/header_event` says of a record's header what this module reads.
/// The text stands in the kernel word for word (`ring_buffer_print_entry_header()`);
/// old kernels have no line on `time_stamp`, which they never wrote.
pub(crate) fn check_header_event(text: &str) -> Result<(), PageLayoutError> {
    const KNOWN: [&str; 9] = [
        "# compressed entry header",
        "\ttype_len    :    5 bits",
        "\ttime_delta  :   27 bits",
        "\tarray       :   32 bits",
        "",
        "\tpadding     : type == 29",
        "\ttime_extend : type == 30",
        "\ttime_stamp : type == 31",
        "\tdata max type_len  == 28",
    ];
    let mut known = KNOWN.iter();
    for (index, line) in text.lines().enumerate() {
        if known.find(|one| **one == line).is_none() {
            return Err(PageLayoutError::Line(FormatError {
                line: index + 1,
                text: line.chars().take(200).collect(),
                expected: "a line of the header every known kernel has",
            }));
        }
    }
    Ok(())
}

fn misplaced(name: &'static str, field: &Field) -> PageLayoutError {
    PageLayoutError::Misplaced {
        field: name,
        offset: field.offset(),
        end: u64::from(field.offset()) + u64::from(field.size()),
    }
}

/// Flags in `commit`: events were lost before this page, and how many stands
/// behind its data (`RB_MISSED_EVENTS`, `RB_MISSED_STORED`).
const MISSED_EVENTS: u64 = 1 << 31;
const MISSED_STORED: u64 = 1 << 30;
/// The first of them is an `int`, and below 0: where a `long` has 8 bytes, adding it
/// sets these.
const SIGN_OF_MISSED_EVENTS: u64 = (u32::MAX as u64) << 32 | MISSED_EVENTS;

/// Pages that are not as the kernel makes them. Offsets are in bytes from the
/// start of what was given to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The bytes end inside a page.
    #[error("the page at byte {offset} needs {needed} bytes, and has {length}")]
    CutPage {
        /// Where the page begins.
        offset: usize,
        /// How many bytes of it are needed at least.
        needed: usize,
        /// How many there are.
        length: usize,
    },
    /// A page says that more of it is used than it has room for.
    #[error("the page at byte {offset} says that {used} bytes of {room} are used")]
    Overlong {
        /// Where the page begins.
        offset: usize,
        /// How many bytes would be used.
        used: u64,
        /// How many there are for data.
        room: usize,
    },
    /// A record ends behind the used part of its page.
    #[error("the record at byte {offset} would have {needed} bytes where {left} are left")]
    CutRecord {
        /// Where the record's header begins.
        offset: usize,
        /// How many bytes it needs, its header included.
        needed: u64,
        /// How many there are.
        left: usize,
    },
    /// A record has a length that no record has.
    #[error(
        "the record at byte {offset} says it is {length} bytes long: no multiple of 4 from 4 on"
    )]
    BadLength {
        /// Where the record's header begins.
        offset: usize,
        /// The length it says it has, in bytes.
        length: u32,
    },
}

/// The pages of some bytes: see [`PageLayout::pages`].
///
/// A bad page does not end it: the next begins a page's size further on.
#[derive(Clone, Debug)]
pub struct Pages<'a> {
    layout: PageLayout,
    byte_order: ByteOrder,
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for Pages<'a> {
    type Item = Result<Page<'a>, RingError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.offset..)?;
        if rest.is_empty() {
            return None;
        }
        let size = self.layout.page_size();
        let bytes = rest.get(..size).unwrap_or(rest);
        let page = self.layout.page_at(bytes, self.offset, self.byte_order);
        self.offset = self.offset.saturating_add(size);
        Some(page)
    }
}

impl FusedIterator for Pages<'_> {}

/// What the kernel wrote on one CPU, in order.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    timestamp: u64,
    lost: Option<Lost>,
    data: &'a [u8],
    data_offset: usize,
    machine: Machine,
}

/// Events of a CPU overwritten before anyone read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// So many.
    Events(u64),
    /// Some: the page had no room to say how many.
    Unknown,
}

impl<'a> Page<'a> {
    /// When the page was begun, in units of the buffer's clock: nanoseconds for most
    /// ([`TraceClock`](crate::text::TraceClock)).
    pub fn timestamp(&self) -> u64 {
        self.timestamp
    }

    /// What was lost between the page before this one and this.
    pub fn lost(&self) -> Option<Lost> {
        self.lost
    }

    /// The machine it is of.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// The records on it, in order. After an error there are no more: where the
    /// next would begin is not known.
    pub fn entries(&self) -> Entries<'a> {
        Entries {
            rest: self.data,
            end: self.data_offset.saturating_add(self.data.len()),
            time: self.timestamp,
            machine: self.machine,
        }
    }
}

/// One record with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    timestamp: u64,
    bytes: &'a [u8],
    machine: Machine,
}

impl<'a> Entry<'a> {
    /// When it was written, in units of the buffer's clock: nanoseconds for most
    /// ([`TraceClock`](crate::text::TraceClock)).
    pub fn timestamp(&self) -> u64 {
        self.timestamp
    }

    /// The record, from its `common_type` on: what a
    /// [`Record`](crate::Record) is made of. There may be padding at its end.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The machine it is of.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Which event it is of: `ID` of the event's format.
    pub fn event_id(&self) -> Option<u16> {
        self.machine.event_id(self.bytes)
    }
}

/// The records of a page: see [`Page::entries`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
    /// Where `rest` ends, from the start of what was given to read.
    end: usize,
    time: u64,
    machine: Machine,
}

/// `type_len` of what is no record (`enum ring_buffer_type`); up to
/// [`MAX_WORDS`] it is a record's length in words of 4 bytes.
const PADDING: u32 = 29;
const TIME_EXTEND: u32 = 30;
const TIME_STAMP: u32 = 31;
const MAX_WORDS: u32 = 28;
/// Of its 32 bits a header has so many for the time since the record before.
const DELTA_BITS: u32 = 27;
/// Of an absolute time so many bits are written; the rest is the page's.
const STAMP_BITS: u32 = 59;

impl<'a> Entries<'a> {
    /// The word at `offset` of what is left, as a number.
    #[inline]
    fn word(&self, offset: usize) -> Option<u32> {
        let bytes = *self.rest.get(offset..)?.first_chunk()?;
        Some(match self.machine.byte_order() {
            ByteOrder::Little => u32::from_le_bytes(bytes),
            ByteOrder::Big => u32::from_be_bytes(bytes),
        })
    }

    /// `type_len` and `time_delta`, bitfields of one word: compilers put the
    /// first in the lowest bits, or in the highest where bytes are in that order.
    #[inline]
    fn header(&self) -> Option<(u32, u64)> {
        let word = self.word(0)?;
        let (type_len, delta) = match self.machine.byte_order() {
            ByteOrder::Little => (word & 0x1f, word >> 5),
            ByteOrder::Big => (word >> DELTA_BITS, word & ((1 << DELTA_BITS) - 1)),
        };
        Some((type_len, delta.into()))
    }

    fn cut(&self, needed: u64) -> RingError {
        RingError::CutRecord {
            offset: self.end.saturating_sub(self.rest.len()),
            needed,
            left: self.rest.len(),
        }
    }

    /// Takes what is at the front: a header word, `skip` bytes and the rest of
    /// the `length` bytes behind the header word.
    #[inline]
    fn take(&mut self, length: u32, skip: usize) -> Result<&'a [u8], RingError> {
        let needed = 4 + u64::from(length);
        let taken = usize::try_from(needed).ok();
        match taken.and_then(|needed| self.rest.split_at_checked(needed)) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken.get(4 + skip..).unwrap_or_default())
            }
            None => Err(self.cut(needed)),
        }
    }

    /// The length in the word behind the header, that word included.
    fn long_length(&self) -> Result<u32, RingError> {
        let length = self.word(4).ok_or_else(|| self.cut(8))?;
        match length >= 4 && length % 4 == 0 {
            true => Ok(length),
            false => Err(RingError::BadLength {
                offset: self.end.saturating_sub(self.rest.len()),
                length,
            }),
        }
    }

    /// Reads one record, or what stands between two of them: `None`.
    #[inline]
    fn step(&mut self) -> Result<Option<&'a [u8]>, RingError> {
        let (type_len, delta) = self.header().ok_or_else(|| self.cut(4))?;
        match type_len {
            1..=MAX_WORDS => {
                self.time = self.time.wrapping_add(delta);
                self.take(type_len * 4, 0).map(Some)
            }
            PADDING if delta == 0 => {
                self.rest = &[];
                Ok(None)
            }
            PADDING => {
                // A record given up leaves its time; 1 is what the kernel writes
                // where there was none (rb_event_discard, rb_reset_tail).
                if delta != 1 {
                    self.time = self.time.wrapping_add(delta);
                }
                let length = self.long_length()?;
                self.take(length, 0).map(|_| None)
            }
            TIME_EXTEND | TIME_STAMP => {
                let high = self.word(4).ok_or_else(|| self.cut(8))?;
                let time = u64::from(high) << DELTA_BITS | delta;
                self.time = match type_len {
                    TIME_EXTEND => self.time.wrapping_add(time),
                    _ => absolute(time, self.time),
                };
                self.take(4, 4).map(|_| None)
            }
            _ => {
                self.time = self.time.wrapping_add(delta);
                let length = self.long_length()?;
                self.take(length, 4).map(Some)
            }
        }
    }
}

/// The time whose low bits these are, after `last` (`rb_fix_abs_ts`).
fn absolute(low_bits: u64, last: u64) -> u64 {
    let high_bits = last >> STAMP_BITS << STAMP_BITS;
    if high_bits == 0 {
        return low_bits;
    }
    match low_bits | high_bits {
        time if time < last => time.wrapping_add(1 << STAMP_BITS),
        time => time,
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, RingError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            match self.step() {
                Ok(Some(bytes)) => {
                    return Some(Ok(Entry {
                        timestamp: self.time,
                        bytes,
                        machine: self.machine,
                    }));
                }
                Ok(None) => {}
                Err(error) => {
                    self.rest = &[];
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl FusedIterator for Entries<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER_EVENT: &str = "\
# compressed entry header
\ttype_len    :    5 bits
\ttime_delta  :   27 bits
\tarray       :   32 bits

\tpadding     : type == 29
\ttime_extend : type == 30
\ttime_stamp : type == 31
\tdata max type_len  == 28
";

    #[test]
    fn headers_of_entries() {
        assert_eq!(check_header_event(HEADER_EVENT), Ok(()));
        // As on kernels that write no absolute times.
        let old = HEADER_EVENT.replace("\ttime_stamp : type == 31\n", "");
        assert_eq!(check_header_event(&old), Ok(()));
        for (from, to, line) in [("27 bits", "28 bits", 3), ("== 30", "== 31", 7)] {
            let other = HEADER_EVENT.replace(from, to);
            let Err(PageLayoutError::Line(error)) = check_header_event(&other) else {
                panic!("{other}");
            };
            assert_eq!(error.line, line);
        }
    }
}
