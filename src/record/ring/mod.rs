//! Pages of the ring buffer, as `per_cpu/cpuN/trace_pipe_raw` gives them.
//!
//! Two files of tracefs describe a page: `events/header_page` ([`PageLayout`]) and
//! `events/header_event`, which is the same on every kernel;
//! [`Kernel::page_layout`](crate::Kernel::page_layout) refuses another. In the kernel
//! these are `struct buffer_data_page` and `struct ring_buffer_event` of
//! `kernel/trace/ring_buffer.c` and `include/linux/ring_buffer.h`.
//!
//! Nothing is assumed about a page: its size and fields are in `header_page`, the size of a
//! `long` is that of its `commit`, and the byte order is that of BTF's magic number. For a
//! captured kernel without BTF the byte order must be given
//! ([`Kernel::with_byte_order`](crate::Kernel::with_byte_order)): guessing it from the
//! bytes would be right nearly always, but not always.
//!
//! Times are the kernel's own sums. Tests compare them with every line that kernels printed
//! of the captured buffers. Cases that no capture has follow `rb_read_data_buffer()` in
//! `ring_buffer.c`: the time of a discarded record counts, unless it is 1, which stands for
//! none. An error ends a page, because the place of the next record is not known; the next
//! page is read.
//!
//! Nothing here does I/O or copies data, and only errors allocate.
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

mod page_layout;
#[cfg(feature = "recording")]
mod page_writer;

pub(crate) use page_layout::check_header_event;
pub use page_layout::{PageLayout, PageLayoutError};
#[cfg(feature = "recording")]
pub(crate) use page_writer::PageWriter;

use std::iter::FusedIterator;

use crate::machine::{ByteOrder, Machine};
use page_layout::HeaderField;

impl PageLayout {
    /// Iterates over pages that follow one another, as in `trace_pipe_raw`.
    pub fn pages(self, bytes: &[u8], byte_order: ByteOrder) -> Pages<'_> {
        Pages {
            layout: self,
            byte_order,
            bytes,
            offset: 0,
        }
    }

    /// Reads one page. Bytes after its used part may be missing.
    ///
    /// # Errors
    ///
    /// [`RingError::CutPage`] and [`RingError::Overlong`], with offsets from the
    /// page's start.
    pub fn page(self, bytes: &[u8], byte_order: ByteOrder) -> Result<Page<'_>, RingError> {
        self.page_at(bytes, 0, byte_order)
    }

    /// Reads the page at `start` of a file that is read page by page; errors have offsets
    /// from the file's start.
    ///
    /// # Errors
    ///
    /// As those of [`page`](Self::page).
    pub fn page_at(
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

/// Flags in `commit`: events were lost before this page, and their number is stored after
/// its data (`RB_MISSED_EVENTS`, `RB_MISSED_STORED`).
const MISSED_EVENTS: u64 = 1 << 31;
const MISSED_STORED: u64 = 1 << 30;
/// `RB_MISSED_EVENTS` is a negative `int`: adding it to a `long` of 8 bytes also sets
/// these bits.
const SIGN_OF_MISSED_EVENTS: u64 = (u32::MAX as u64) << 32 | MISSED_EVENTS;

/// A page that no kernel writes. Offsets are in bytes from the start of the input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The bytes end inside a page.
    #[error("the page at byte {offset} needs {needed} bytes, and has {length}")]
    CutPage {
        /// Where the page begins.
        offset: usize,
        /// The least number of bytes it needs.
        needed: usize,
        /// The number of bytes there are.
        length: usize,
    },
    /// A page's used part would be larger than the page.
    #[error("the page at byte {offset} says that {used} bytes of {room} are used")]
    Overlong {
        /// Where the page begins.
        offset: usize,
        /// The size of the used part, in bytes.
        used: u64,
        /// The size of the page's data, in bytes.
        room: usize,
    },
    /// A record ends after the used part of its page.
    #[error("the record at byte {offset} would have {needed} bytes where {left} are left")]
    CutRecord {
        /// Where the record's header begins.
        offset: usize,
        /// The number of bytes it needs, including its header.
        needed: u64,
        /// The number of bytes left.
        left: usize,
    },
    /// A record has a length that no record has.
    #[error(
        "the record at byte {offset} has a length of {length} bytes: it must be a non-zero multiple of 4"
    )]
    BadLength {
        /// Where the record's header begins.
        offset: usize,
        /// The stored length, in bytes.
        length: u32,
    },
}

/// An iterator over pages: see [`PageLayout::pages`].
///
/// After a bad page it continues at the next, a page's size further on.
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

/// The events of one CPU, in the order they were written.
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
    /// This many.
    Events(u64),
    /// An unknown number: the page had no room to store it.
    Unknown,
}

impl<'a> Page<'a> {
    /// Returns when the page was begun, in units of the buffer's clock: nanoseconds for
    /// most ([`TraceClock`](crate::text::TraceClock)).
    pub fn timestamp(&self) -> u64 {
        self.timestamp
    }

    /// Returns the events lost between the previous page and this one.
    pub fn lost(&self) -> Option<Lost> {
        self.lost
    }

    /// Returns the machine that wrote it.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Iterates over its records, in order. An error is the last item, because the place
    /// of the next record is not known.
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
    /// Returns when it was written, in units of the buffer's clock: nanoseconds for most
    /// ([`TraceClock`](crate::text::TraceClock)).
    pub fn timestamp(&self) -> u64 {
        self.timestamp
    }

    /// Returns the bytes of the record, from its `common_type` on, for
    /// [`Record::new`](crate::Record::new). There may be padding at the end.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the machine that wrote it.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Returns the id of its event: `ID` in the event's format.
    pub fn event_id(&self) -> Option<u16> {
        self.machine.event_id(self.bytes)
    }
}

/// An iterator over the records of a page: see [`Page::entries`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
    /// Where `rest` ends, from the start of the input.
    end: usize,
    time: u64,
    machine: Machine,
}

/// `type_len` of entries that are not records (`enum ring_buffer_type`); up to
/// [`MAX_WORDS`] it is a record's length in 4-byte words.
const PADDING: u32 = 29;
const TIME_EXTEND: u32 = 30;
const TIME_STAMP: u32 = 31;
const MAX_WORDS: u32 = 28;
/// The number of bits of a header that store the time since the previous record.
const DELTA_BITS: u32 = 27;
/// The number of low bits of an absolute time that are stored; the others are the page's.
const STAMP_BITS: u32 = 59;

impl<'a> Entries<'a> {
    /// Reads the word at `offset` of what is left.
    #[inline]
    fn word(&self, offset: usize) -> Option<u32> {
        let byte_order = self.machine.byte_order();
        byte_order.read_u32_at(self.rest, offset)
    }

    /// Reads `type_len` and `time_delta`, bitfields of one word: compilers put the first
    /// into the lowest bits, or on big-endian machines into the highest.
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

    /// Takes the next entry: a header word, then `length` bytes, of which the first
    /// `skip` are left out of the result.
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

    /// Reads the length in the word after the header, which counts that word.
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

    /// Reads one record, or `None` for an entry between records.
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
                // A discarded record leaves its time. A time of 1 means none
                // (`rb_event_discard`, `rb_reset_tail`).
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

/// Returns the time after `last` that has these low bits (`rb_fix_abs_ts`).
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
