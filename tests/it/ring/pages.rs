//! Pages: each kind of entry, times, losses, and errors of damaged pages.

use super::{HEADER_64, MACHINES, entries, layout, writer};
use crate::support::page::{PageWriter, number};
use tracepoints::record::ring::{Lost, PageLayout, PageLayoutError, RingError};
use tracepoints::{ByteOrder, Machine};

#[test]
fn every_kind_of_entry() {
    for machine in MACHINES {
        let mut page = writer(machine);
        page.record(3, 0, 0x102)
            // The length after the header includes itself.
            .header(0, 5)
            .word(4 + 8)
            .words(2, 7)
            .header(30, 6)
            .word(2)
            .record(1, 1, 8)
            // A discarded entry, whose time still counts.
            .header(29, 10)
            .word(8)
            .word(0)
            .record(1, 0, 9)
            // A discarded entry without a time: the kernel writes 1.
            .header(29, 1)
            .word(4)
            .record(1, 0, 10)
            // The end of the page's entries, whatever follows.
            .header(29, 0)
            .record(1, 0, 11);
        let long_after = 1005 + (2 << 27) + 7;
        assert_eq!(
            entries(machine, &page.page(1000, 0, &[])),
            [
                (1000, Some(0x102), 12),
                (1005, Some(7), 8),
                (long_after, Some(8), 4),
                (long_after + 10, Some(9), 4),
                (long_after + 10, Some(10), 4),
            ]
        );
    }
}

/// An absolute time has 59 bits; the page's time has the others.
#[test]
fn absolute_times() {
    for machine in MACHINES {
        let at = |page_time: u64, written: u64| {
            let mut page = writer(machine);
            page.header(31, (written & 0x7ff_ffff) as u32)
                .word((written >> 27) as u32)
                .record(1, 2, 1);
            entries(machine, &page.page(page_time, 0, &[]))[0].0
        };
        // Below 2^59 ns (18 years) a time may also be before the page's.
        assert_eq!(at(1 << 40, 5000), 5002);
        let high = 3 << 59;
        assert_eq!(at(high + 100, 5000), high + 5002);
        // The low 59 bits have wrapped since the page's time.
        assert_eq!(at(high + 6000, 5000), (4 << 59) + 5002);
    }
}

/// Clocks that are set back, and counters that begin again: each page has its own time, and
/// no entry's time is invented to keep an order.
#[test]
fn times_that_go_back_or_wrap() {
    for machine in MACHINES {
        let mut page = writer(machine);
        page.record(1, 1, 1).record(1, 2, 2);
        let layout = layout(machine.long_size() == 8);
        let times = |starts: &[u64]| -> Vec<u64> {
            let bytes: Vec<u8> = starts
                .iter()
                .flat_map(|start| page.page(*start, 0, &[]))
                .collect();
            let pages = layout.pages(&bytes, machine.byte_order());
            let times = pages.flat_map(|page| {
                let page = page.expect("a page");
                let entries = page.entries();
                let times = entries.map(|entry| entry.expect("an entry").timestamp());
                times.collect::<Vec<u64>>()
            });
            times.collect()
        };
        assert_eq!(times(&[9000, 50, 9000]), [9001, 9003, 51, 53, 9001, 9003]);
        // 584 years after boot, or a clock's garbage.
        let end = u64::MAX - 2;
        assert_eq!(times(&[end, 0]), [u64::MAX - 1, 0, 1, 3]);
    }
}

/// Newer kernels declare `overwrite` differently, and pages may have any size; neither
/// moves the data.
#[test]
fn headers_of_newer_kernels() {
    let newer = HEADER_64
        .replace("int overwrite", "char overwrite")
        .replace("size:1;\tsigned:1", "size:1;\tsigned:0");
    assert_ne!(newer, HEADER_64);
    assert_eq!(PageLayout::parse(&newer), PageLayout::parse(HEADER_64));
    // An instance with sub-buffers of 64 KiB.
    let large = newer.replace("size:112", "size:65520");
    let large = PageLayout::parse(&large).expect("a layout");
    assert_eq!(large.page_size(), 65536);
    let mut page = PageWriter::new(MACHINES[0], large);
    page.header(0, 3).word(4 + 60_000).words(15_000, 9);
    page.record(2, 4, 10);
    let bytes = page.page(100, 0, &[]);
    let both = [bytes.clone(), bytes].concat();
    let read: Vec<_> = large
        .pages(&both, ByteOrder::Little)
        .flat_map(|page| page.expect("a page").entries())
        .map(|entry| entry.expect("an entry"))
        .map(|entry| (entry.timestamp(), entry.event_id(), entry.bytes().len()))
        .collect();
    let once = [(103, Some(9), 60_000), (107, Some(10), 8)];
    assert_eq!(read, [once, once].concat());
}

#[test]
fn lost_events_are_a_fact() {
    for machine in MACHINES {
        let layout = layout(machine.long_size() == 8);
        let mut page = writer(machine);
        page.record(2, 0, 1);
        let count = number(machine, 70_000, machine.long_size());
        let lost = |bytes: &[u8]| {
            layout
                .page(bytes, machine.byte_order())
                .map(|page| page.lost())
        };
        assert_eq!(lost(&page.page(0, 0, &[])), Ok(None));
        let bytes = page.page(0, 3 << 30, &count);
        assert_eq!(lost(&bytes), Ok(Some(Lost::Events(70_000))));
        assert_eq!(entries(machine, &bytes).len(), 1);
        assert_eq!(lost(&page.page(0, 1 << 31, &[])), Ok(Some(Lost::Unknown)));
        // The kernel adds `1 << 31`, a negative int, to a long.
        let sign = match machine.long_size() {
            8 => u64::from(u32::MAX) << 32,
            _ => 0,
        };
        let bytes = page.page(0, sign | 3 << 30, &count);
        assert_eq!(lost(&bytes), Ok(Some(Lost::Events(70_000))));
        assert_eq!(entries(machine, &bytes).len(), 1);

        // The page is full where the flags announce a count.
        let mut full = writer(machine);
        let room = layout.page_size() - 8 - machine.long_size() as usize;
        full.data.resize(room, 0);
        assert!(matches!(
            lost(&full.page(0, 1 << 31, &[])),
            Ok(Some(Lost::Unknown))
        ));
        assert!(matches!(
            lost(&full.page(0, 3 << 30, &[])),
            Err(RingError::Overlong { .. })
        ));
    }
}

#[test]
fn damaged_pages() {
    let machine = Machine::new(ByteOrder::Little, true);
    let read = |bytes: &[u8]| -> Vec<Result<u64, RingError>> {
        layout(true)
            .pages(bytes, ByteOrder::Little)
            .flat_map(|page| match page {
                Ok(page) => page
                    .entries()
                    .map(|entry| entry.map(|entry| entry.timestamp()))
                    .collect(),
                Err(error) => vec![Err(error)],
            })
            .collect()
    };
    let good = writer(machine).record(1, 1, 1).page(10, 0, &[]);

    // A page that claims more bytes than it has room for. The next page is still read.
    let mut overlong = good.clone();
    overlong[8] = 113;
    let error = RingError::Overlong {
        offset: 0,
        used: 113,
        room: 112,
    };
    assert_eq!(
        read(&[overlong, good.clone()].concat()),
        [Err(error), Ok(11)]
    );
    let mut overlong = good.clone();
    overlong[14] = 1;
    assert!(matches!(
        read(&overlong)[..],
        [Err(RingError::Overlong { .. })]
    ));

    // A file that ends inside a page, before or after the page's used bytes.
    let twice = [good.clone(), good.clone()].concat();
    assert_eq!(read(&twice[..128 + 24]), [Ok(11), Ok(11)]);
    let cut = |needed, length| {
        Err(RingError::CutPage {
            offset: 128,
            needed,
            length,
        })
    };
    assert_eq!(read(&twice[..128 + 23]), [Ok(11), cut(24, 23)]);
    assert_eq!(read(&twice[..128 + 1]), [Ok(11), cut(16, 1)]);
    assert_eq!(read(&twice[..128]), [Ok(11)]);

    // Records that end after their page, or have a bad length.
    let cut = |offset, needed, left| {
        Err(RingError::CutRecord {
            offset,
            needed,
            left,
        })
    };
    let bad = |length| Err(RingError::BadLength { offset: 24, length });
    for (header, behind, expected) in [
        (5, &[][..], cut(24, 24, 4)),
        (28, &[0; 4], cut(24, 116, 8 + 12)),
        (0, &[], cut(24, 8, 4)),
        (0, &[0], bad(0)),
        (0, &[3], bad(3)),
        (0, &[6, 0, 0], bad(6)),
        (0, &[8], cut(24, 12, 8)),
        (0, &[u32::MAX - 3], cut(24, u64::from(u32::MAX) + 1, 8)),
        (29, &[], cut(24, 8, 4)),
        (29, &[0], bad(0)),
        (29, &[400], cut(24, 404, 8)),
        (30, &[], cut(24, 8, 4)),
        (31, &[], cut(24, 8, 4)),
    ] {
        let mut page = writer(machine);
        page.record(1, 1, 1).header(header, 2);
        for word in behind {
            page.word(*word);
        }
        let found = read(&page.page(10, 0, &[]));
        let left = page.data.len() - 8;
        let expected = match expected {
            Err(RingError::CutRecord { offset, needed, .. }) => cut(offset, needed, left),
            other => other,
        };
        assert_eq!(found, [Ok(11), expected], "{header} {behind:?}");
    }
    // A header that is cut off.
    let mut page = writer(machine);
    page.record(1, 1, 1).data.extend([1, 2]);
    assert_eq!(read(&page.page(10, 0, &[])), [Ok(11), cut(24, 4, 2)]);
}

#[test]
fn layouts_no_kernel_has() {
    for (from, to) in [
        ("timestamp", "time"),
        ("commit", "written"),
        ("data", "bytes"),
        ("offset:0;\tsize:8", "offset:0;\tsize:4"),
        ("offset:8;\tsize:8", "offset:8;\tsize:2"),
        ("offset:8;\tsize:8", "offset:4;\tsize:8"),
        ("offset:16", "offset:12"),
        ("size:112", "size:0"),
        ("\tfield: char", "\tfield:char"),
        ("signed:1;\n\tfield: int", "signed:2;\n\tfield: int"),
    ] {
        let text = HEADER_64.replace(from, to);
        assert_ne!(text, HEADER_64);
        let error = PageLayout::parse(&text).expect_err(to);
        assert!(!error.to_string().is_empty());
    }
    assert_eq!(
        PageLayout::parse(""),
        Err(PageLayoutError::Missing { field: "timestamp" })
    );
    // The largest page a file can describe.
    let huge = HEADER_64.replace("size:112", "size:4294967295");
    let huge = PageLayout::parse(&huge).expect("a layout");
    let pages: Vec<_> = huge.pages(&[0; 64], ByteOrder::Little).collect();
    assert!(matches!(pages[..], [Ok(_)]));
}
