//! Writes pages of the ring buffer.

use tracepoints::record::ring::PageLayout;
use tracepoints::{ByteOrder, Machine};

/// A number's `size` low bytes, in the machine's byte order.
pub(crate) fn number(machine: Machine, value: i64, size: u32) -> Vec<u8> {
    let size = size as usize;
    match machine.byte_order() {
        ByteOrder::Little => value.to_le_bytes()[..size].to_vec(),
        ByteOrder::Big => value.to_be_bytes()[8 - size..].to_vec(),
    }
}

/// Writes pages as a kernel does.
pub(crate) struct PageWriter {
    machine: Machine,
    layout: PageLayout,
    pub(crate) data: Vec<u8>,
}

impl PageWriter {
    pub(crate) fn new(machine: Machine, layout: PageLayout) -> Self {
        Self {
            machine,
            layout,
            data: Vec::new(),
        }
    }

    pub(crate) fn header(&mut self, type_len: u32, delta: u32) -> &mut Self {
        let word = match self.machine.byte_order() {
            ByteOrder::Little => delta << 5 | type_len,
            ByteOrder::Big => type_len << 27 | delta,
        };
        self.word(word)
    }

    pub(crate) fn word(&mut self, word: u32) -> &mut Self {
        self.data.extend(number(self.machine, word.into(), 4));
        self
    }

    /// Bytes, and zeros up to a multiple of 4.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.data.extend(bytes);
        self.data.resize(self.data.len().next_multiple_of(4), 0);
        self
    }

    /// A record of this many words of 4 bytes, with this id.
    pub(crate) fn record(&mut self, words: u32, delta: u32, id: u16) -> &mut Self {
        self.header(words, delta).words(words, id)
    }

    pub(crate) fn words(&mut self, words: u32, id: u16) -> &mut Self {
        self.data.extend(number(self.machine, id.into(), 2));
        self.data.extend([0; 2]);
        for _ in 1..words {
            self.word(0);
        }
        self
    }

    /// The whole page, with these flags beside the length in `commit`, and bytes after
    /// the entries.
    pub(crate) fn page(&self, timestamp: u64, flags: u64, behind: &[u8]) -> Vec<u8> {
        let commit = self.data.len() as u64 | flags;
        let mut page = number(self.machine, timestamp as i64, 8);
        page.extend(number(
            self.machine,
            commit as i64,
            self.machine.long_size(),
        ));
        page.extend(&self.data);
        page.extend(behind);
        assert!(page.len() <= self.layout.page_size());
        page.resize(self.layout.page_size(), 0);
        page
    }
}
