//! Pages of the ring buffer, written by the tests for every kind of machine.

mod any_bytes;
mod events_by_id;
mod pages;

use crate::support::page::PageWriter;
use tracepoints::record::ring::{Entry, PageLayout};
use tracepoints::{ByteOrder, Machine};

const HEADER_64: &str = "\
\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;
\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;
\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;
\tfield: char data;\toffset:16;\tsize:112;\tsigned:1;
";

/// The layout of a page of 128 bytes, on a 64-bit or 32-bit machine.
fn layout(is_64_bit: bool) -> PageLayout {
    let text = match is_64_bit {
        true => HEADER_64.to_owned(),
        false => HEADER_64
            .replace("commit;\toffset:8;\tsize:8", "commit;\toffset:8;\tsize:4")
            .replace("offset:16;\tsize:112", "offset:12;\tsize:116"),
    };
    PageLayout::parse(&text).expect("a layout")
}

fn writer(machine: Machine) -> PageWriter {
    PageWriter::new(machine, layout(machine.long_size() == 8))
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
