//! Writes records as pages of the ring buffer, which [`PageLayout::pages`] reads.

use super::{
    DELTA_BITS, Lost, MAX_WORDS, MISSED_EVENTS, MISSED_STORED, PageLayout, STAMP_BITS, TIME_EXTEND,
};
use crate::machine::{ByteOrder, Machine};

/// The pages of one CPU, written record by record.
#[derive(Clone, Debug)]
pub(crate) struct PageWriter {
    layout: PageLayout,
    machine: Machine,
    /// The pages before the last one, whole.
    pages: Vec<u8>,
    /// The data of the last page.
    data: Vec<u8>,
    start: u64,
    time: u64,
    /// What was lost before the last page.
    lost: Option<Lost>,
}

impl PageWriter {
    /// Creates a writer of pages of this size in bytes, which is at least 1 KiB.
    pub(crate) fn new(machine: Machine, page_size: usize) -> Self {
        Self {
            layout: PageLayout::written(machine, page_size),
            machine,
            pages: Vec::new(),
            data: Vec::new(),
            start: 0,
            time: 0,
            lost: None,
        }
    }

    /// Returns the layout of the pages.
    pub(crate) fn layout(&self) -> PageLayout {
        self.layout
    }

    /// Returns the size of the largest record that fits into a page, in bytes.
    pub(crate) fn room(&self) -> usize {
        let headers = 8 + self.machine.long_size() as usize;
        self.layout.data.size.saturating_sub(headers) & !3
    }

    /// Appends a record. A time before that of the last record begins a new page, which is
    /// the only place for one. Returns `false` if the record is larger than
    /// [`room`](Self::room).
    pub(crate) fn push(&mut self, time: u64, record: &[u8]) -> bool {
        if record.len() > self.room() {
            return false;
        }
        let delta = time.checked_sub(self.time);
        let fits = |delta: u64| {
            let extend = if delta >> DELTA_BITS == 0 { 0 } else { 8 };
            delta >> STAMP_BITS == 0 && self.data.len() + extend + size_of(record) <= self.space()
        };
        let delta = match delta {
            Some(delta) if !self.data.is_empty() && fits(delta) => delta,
            _ => {
                if !self.data.is_empty() {
                    self.end_page();
                }
                self.start = time;
                0
            }
        };
        self.time = time;
        self.append(delta, record);
        true
    }

    /// Says that events were lost before the next record.
    pub(crate) fn lose(&mut self, lost: Lost) {
        if !self.data.is_empty() {
            self.end_page();
        }
        self.start = self.time;
        self.lost = Some(match (self.lost, lost) {
            (None, lost) => lost,
            (Some(Lost::Events(before)), Lost::Events(now)) => {
                before.checked_add(now).map_or(Lost::Unknown, Lost::Events)
            }
            _ => Lost::Unknown,
        });
        // A page has a `long` for the number.
        if let Some(Lost::Events(count)) = self.lost
            && self.machine.long_size() == 4
            && count > u32::MAX.into()
        {
            self.lost = Some(Lost::Unknown);
        }
    }

    /// Returns the pages.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        if !self.data.is_empty() || self.lost.is_some() {
            self.end_page();
        }
        self.pages
    }

    /// Returns the size of the part of the last page that records may fill: the number of
    /// lost events comes after them.
    fn space(&self) -> usize {
        let count = match self.lost {
            Some(Lost::Events(_)) => self.machine.long_size() as usize,
            _ => 0,
        };
        self.layout.data.size.saturating_sub(count)
    }

    /// Appends a record and the header before it.
    fn append(&mut self, delta: u64, record: &[u8]) {
        let delta = match delta >> DELTA_BITS {
            0 => delta as u32,
            high => {
                self.header(TIME_EXTEND, (delta & ((1 << DELTA_BITS) - 1)) as u32);
                self.word(high as u32);
                0
            }
        };
        let words = record.len().div_ceil(4) as u32;
        match words {
            1..=MAX_WORDS => self.header(words, delta),
            _ => {
                self.header(0, delta);
                // The length counts itself.
                self.word(4 * (words + 1));
            }
        }
        self.data.extend_from_slice(record);
        self.data.resize(self.data.len().next_multiple_of(4), 0);
    }

    fn header(&mut self, type_len: u32, delta: u32) {
        self.word(match self.machine.byte_order() {
            ByteOrder::Little => type_len | delta << 5,
            ByteOrder::Big => type_len << DELTA_BITS | delta,
        });
    }

    fn word(&mut self, word: u32) {
        let mut bytes = [0; 4];
        self.machine
            .byte_order()
            .write_unsigned(&mut bytes, word.into());
        self.data.extend(bytes);
    }

    fn end_page(&mut self) {
        let layout = self.layout;
        let begin = self.pages.len();
        self.pages.resize(begin + layout.page_size(), 0);
        let page = &mut self.pages[begin..];
        let order = self.machine.byte_order();
        let mut commit = self.data.len() as u64;
        let data = &mut page[layout.data.offset..];
        data[..self.data.len()].copy_from_slice(&self.data);
        match self.lost {
            None => {}
            Some(Lost::Events(count)) => {
                commit |= MISSED_EVENTS | MISSED_STORED;
                let size = self.machine.long_size() as usize;
                order.write_unsigned(&mut data[self.data.len()..][..size], count);
            }
            Some(Lost::Unknown) => commit |= MISSED_EVENTS,
        }
        let timestamp = layout.timestamp;
        order.write_unsigned(&mut page[timestamp.offset..timestamp.end()], self.start);
        let place = layout.commit;
        order.write_unsigned(&mut page[place.offset..place.end()], commit);
        self.data.clear();
        self.lost = None;
    }
}

/// Returns the size of a record with its header, in bytes.
fn size_of(record: &[u8]) -> usize {
    const MAX: usize = MAX_WORDS as usize;
    match record.len().div_ceil(4) {
        words @ 1..=MAX => 4 + 4 * words,
        words => 8 + 4 * words,
    }
}
