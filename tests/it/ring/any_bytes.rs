//! Laws of pages and records, on random bytes.

use std::fs;
use std::sync::LazyLock;

use super::{MACHINES, entries, layout, writer};
use crate::support;
use proptest::prelude::*;
use tracepoints::{
    ByteOrder, Kernel,
    kernel::EventsById,
    text::{FlagColumns, SyscallText, TaskNames, TraceContext},
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Reading ends, and reads no more bytes than there are.
    #[test]
    fn any_bytes(
        mut bytes in prop::collection::vec(any::<u8>(), 0..600),
        lengths in prop::collection::vec(0u8..113, 5),
        big in any::<bool>(),
        is_64_bit in any::<bool>(),
    ) {
        // Most random lengths are longer than a page; this makes some plausible.
        let order = if big { ByteOrder::Big } else { ByteOrder::Little };
        for (page, length) in bytes.chunks_mut(128).zip(lengths) {
            let size = if is_64_bit { 8 } else { 4 };
            if length % 3 > 0 && page.len() >= 16 {
                page[8..8 + size].fill(0);
                page[if big { 7 + size } else { 8 }] = length;
            }
        }
        let mut read = 0;
        for page in layout(is_64_bit).pages(&bytes, order) {
            let Ok(page) = page else { continue };
            let mut failed = false;
            for entry in page.entries() {
                prop_assert!(!failed, "an error ends a page");
                match entry {
                    Ok(entry) => read += 4 + entry.bytes().len(),
                    Err(_) => failed = true,
                }
            }
        }
        prop_assert!(read <= bytes.len());
    }

    /// Every record on a damaged page gives an error or a line.
    #[test]
    fn damaged_records(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..80),
        end in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        static KERNEL: LazyLock<(Kernel, Vec<u8>)> = LazyLock::new(|| {
            let root = support::fixture("7.3.4-x86_64");
            let pages = fs::read(root.join("ring/cpu0.raw")).expect("pages");
            (Kernel::at(root).expect("a kernel"), pages)
        });
        static EVENTS: LazyLock<EventsById> =
            LazyLock::new(|| KERNEL.0.events_by_id().expect("events"));
        let mut bytes = KERNEL.1.clone();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(end.map_or(bytes.len(), |end| end.index(bytes.len())));
        let names = TaskNames::default();
        let layout = KERNEL.0.page_layout().expect("a layout");
        for page in layout.pages(&bytes, ByteOrder::Little).flatten() {
            for entry in page.entries().flatten() {
                let Ok((event, record)) = EVENTS.record(entry.bytes()) else { continue };
                let context = TraceContext::new(&record, 0, entry.timestamp(), &names, FlagColumns::Five);
                let text = SyscallText::new(event, record);
                let fields: Vec<String> = record
                    .fields()
                    .filter_map(|(_, value)| Some(value.ok()?.to_string()))
                    .collect();
                let _ = (
                    context.map(|context| context.to_string()),
                    text.map(|text| text.map(|text| text.to_string())),
                    fields,
                );
            }
        }
    }

    /// The records written to a page are the records read from it, on every machine.
    #[test]
    fn what_is_written_is_read(
        machine in prop::sample::select(&MACHINES[..]),
        time in any::<u32>(),
        records in prop::collection::vec((1u32..6, 0u32..1 << 27, any::<u16>(), any::<bool>()), 0..4),
    ) {
        let mut page = writer(machine);
        let mut expected = Vec::new();
        let mut now = u64::from(time);
        for (words, delta, id, long) in records {
            match long {
                true => page.header(0, delta).word(4 + 4 * words).words(words, id),
                false => page.record(words, delta, id),
            };
            now += u64::from(delta);
            expected.push((now, Some(id), 4 * words as usize));
        }
        prop_assert_eq!(entries(machine, &page.page(time.into(), 0, &[])), expected);
    }
}
