//! Pages of the ring buffer, made to order on every kind of machine.

mod any_bytes;
mod events_by_id;
mod pages;

use tracepoints::record::ring::{Entry, PageLayout};
use tracepoints::{ByteOrder, Machine};

const HEADER_64: &str = "\
\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;
\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;
\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;
\tfield: char data;\toffset:16;\tsize:112;\tsigned:1;
";

/// A small page for tests: 64-bit or 32-bit.
fn layout(is_64_bit: bool) -> PageLayout {
    let text = match is_64_bit {
        true => HEADER_64.to_owned(),
        false => HEADER_64
            .replace("commit;\toffset:8;\tsize:8", "commit;\toffset:8;\tsize:4")
            .replace("offset:16;\tsize:112", "offset:12;\tsize:116"),
    };
    PageLayout::parse(&text).expect("a layout")
}

/// Writes pages as a kernel does.
struct PageWriter {
    machine: Machine,
    data: Vec<u8>,
}

impl PageWriter {
    fn new(machine: Machine) -> Self {
        Self {
            machine,
            data: Vec::new(),
        }
    }

    fn number(&self, value: u64, size: usize) -> Vec<u8> {
        match self.machine.byte_order() {
            ByteOrder::Little => value.to_le_bytes()[..size].to_vec(),
            ByteOrder::Big => value.to_be_bytes()[8 - size..].to_vec(),
        }
    }

    fn header(&mut self, type_len: u32, delta: u32) -> &mut Self {
        let word = match self.machine.byte_order() {
            ByteOrder::Little => delta << 5 | type_len,
            ByteOrder::Big => type_len << 27 | delta,
        };
        self.word(word)
    }

    fn word(&mut self, word: u32) -> &mut Self {
        let bytes = self.number(word.into(), 4);
        self.data.extend(bytes);
        self
    }

    /// A record of so many words, with this id.
    fn record(&mut self, words: u32, delta: u32, id: u16) -> &mut Self {
        self.header(words, delta).words(words, id)
    }

    fn words(&mut self, words: u32, id: u16) -> &mut Self {
        let id = self.number(id.into(), 2);
        self.data.extend(id);
        self.data.extend([0; 2]);
        for _ in 1..words {
            self.word(0);
        }
        self
    }

    /// The whole page; `flags` are those beside the length in `commit`.
    fn page(&self, timestamp: u64, flags: u64, behind: &[u8]) -> Vec<u8> {
        let layout = layout(self.machine.long_size() == 8);
        let mut page = self.number(timestamp, 8);
        let commit = self.data.len() as u64 | flags;
        page.extend(self.number(commit, self.machine.long_size() as usize));
        page.extend(&self.data);
        page.extend(behind);
        assert!(page.len() <= layout.page_size());
        page.resize(layout.page_size(), 0);
        page
    }
}

const MACHINES: [Machine; 4] = [
    Machine::new(ByteOrder::Little, true),
    Machine::new(ByteOrder::Little, false),
    Machine::new(ByteOrder::Big, true),
    Machine::new(ByteOrder::Big, false),
];

fn entries(machine: Machine, page: &[u8]) -> Vec<(u64, Option<u16>, usize)> {
    let page = layout(machine.long_size() == 8)
        .page(page, machine.byte_order())
        .expect("a page");
    let entry = |entry: Entry<'_>| (entry.timestamp(), entry.event_id(), entry.bytes().len());
    page.entries()
        .map(|one| entry(one.expect("an entry")))
        .collect()
}
