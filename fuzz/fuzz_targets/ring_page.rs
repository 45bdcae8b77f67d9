//! Pages of the ring buffer: what is on one lies inside it, and its records are
//! read by a captured kernel's formats.
#![no_main]

use std::collections::HashMap;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tracepoints::record::ring::PageLayout;
use tracepoints::{
    ByteOrder, EventName, Kernel, Record, Renderer,
    text::{Addresses, FlagColumns, TaskNames, TraceContext},
};
use tracepoints_fuzz::{fixture, fixture_text, is_plain, machine, record_laws, two_parts};

const KERNEL: &str = "6.18.15-x86_64";

/// 64-bit and 32-bit.
static HEADERS: LazyLock<[String; 2]> = LazyLock::new(|| {
    ["6.18.15-x86_64", "6.1.176-i686"]
        .map(|kernel| fixture_text(kernel, "tracing/events/header_page"))
});

/// The events by the ids their records carry, each ready to print.
type Events = HashMap<u16, (EventName, tracepoints::format::Format, [Renderer; 4])>;

static EVENTS: LazyLock<Events> = LazyLock::new(|| {
    let kernel = Kernel::at(fixture(KERNEL)).expect("a fixture");
    let mut events = Events::new();
    for name in kernel.event_directories().expect("events") {
        let format = kernel.tracepoint(&name).expect("an event").format().clone();
        let renderers = [0, 1, 2, 3].map(|bits| {
            let renderer = kernel.renderer(&name, &format, machine(bits));
            renderer.expect("a fixture's print fmt")
        });
        let id = u16::try_from(format.id().expect("an id")).expect("an id");
        events.insert(id, (name, format, renderers));
    }
    events
});

fuzz_target!(|data: &[u8]| {
    let Some((&bits, data)) = data.split_first() else {
        return;
    };
    // A `header_page` of the input's own, or one of a kernel.
    let (header, bytes) = match bits & 0x80 {
        0 => (HEADERS[usize::from(bits & 2 != 0)].as_str(), data),
        _ => {
            let (header, bytes) = two_parts(data);
            match std::str::from_utf8(header) {
                Ok(header) => (header, bytes),
                Err(_) => return,
            }
        }
    };
    let layout = match PageLayout::parse(header) {
        Ok(layout) => layout,
        Err(error) => return is_plain(&error.to_string()),
    };
    let order = match bits & 1 {
        0 => ByteOrder::Little,
        _ => ByteOrder::Big,
    };
    let size = layout.page_size();
    let pages: Vec<_> = layout.pages(bytes, order).collect();
    assert_eq!(pages.len(), bytes.len().div_ceil(size));
    let names = TaskNames::default();
    let addresses = Addresses::new();
    for (index, page) in pages.into_iter().enumerate() {
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                is_plain(&error.to_string());
                continue;
            }
        };
        let start = index * size;
        let of_page = &bytes[start..bytes.len().min(start + size)];
        let range = of_page.as_ptr_range();
        let again = layout.page(of_page, order).expect("the page alone");
        assert_eq!(
            (again.timestamp(), again.lost()),
            (page.timestamp(), page.lost())
        );
        let mut used = 0;
        let mut ended = false;
        let mut reached = range.start;
        for entry in page.entries() {
            assert!(!ended, "nothing comes after an error");
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    is_plain(&error.to_string());
                    ended = true;
                    continue;
                }
            };
            let record = entry.bytes();
            let place = record.as_ptr_range();
            assert!(record.is_empty() || reached <= place.start && place.end <= range.end);
            reached = reached.max(place.end);
            assert_eq!(record.len() % 4, 0);
            used += 4 + record.len();
            assert!(used <= size);
            let event = entry.event_id().and_then(|id| EVENTS.get(&id));
            let Some((_, format, renderers)) = event else {
                continue;
            };
            let machine_bits =
                u8::from(order == ByteOrder::Big) | u8::from(entry.machine().long_size() == 4) << 1;
            assert_eq!(machine(machine_bits), entry.machine());
            let record = Record::new(format, record, entry.machine());
            record_laws(&record);
            let columns = FlagColumns::Five;
            let context = TraceContext::new(&record, 0, entry.timestamp(), &names, columns);
            let mut line = context
                .map(|context| context.to_string())
                .unwrap_or_default();
            renderers[usize::from(machine_bits)].render(&record, &addresses, &mut line);
        }
    }
});
