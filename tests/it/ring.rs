//! Pages of the ring buffer: what is on them, and that whatever is on them does no
//! harm.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::support;
use crate::support::capture::{COMMON, Capture};
use proptest::prelude::*;
use tracepoints::ring::{Entry, Lost, PageLayout, PageLayoutError, RingError};
use tracepoints::{
    ByteOrder, Error, EventsById, FlagColumns, Kernel, Machine, SyscallText, TaskNames,
    TraceContext,
};

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

#[test]
fn every_kind_of_entry() {
    for machine in MACHINES {
        let mut page = PageWriter::new(machine);
        page.record(3, 0, 0x102)
            // The length behind the header counts itself.
            .header(0, 5)
            .word(4 + 8)
            .words(2, 7)
            .header(30, 6)
            .word(2)
            .record(1, 1, 8)
            // One given up, of which the time goes on.
            .header(29, 10)
            .word(8)
            .word(0)
            .record(1, 0, 9)
            // One that took no time: the kernel writes 1.
            .header(29, 1)
            .word(4)
            .record(1, 0, 10)
            // The end, whatever comes.
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

/// Of absolute times the page knows the highest bits.
#[test]
fn absolute_times() {
    for machine in MACHINES {
        let at = |page_time: u64, written: u64| {
            let mut page = PageWriter::new(machine);
            page.header(31, (written & 0x7ff_ffff) as u32)
                .word((written >> 27) as u32)
                .record(1, 2, 1);
            entries(machine, &page.page(page_time, 0, &[]))[0].0
        };
        // Below 2^59 ns, 18 years, a time may also go back.
        assert_eq!(at(1 << 40, 5000), 5002);
        let high = 3 << 59;
        assert_eq!(at(high + 100, 5000), high + 5002);
        // The low bits began anew since the page was.
        assert_eq!(at(high + 6000, 5000), (4 << 59) + 5002);
    }
}

#[test]
fn lost_events_are_a_fact() {
    for machine in MACHINES {
        let layout = layout(machine.long_size() == 8);
        let mut page = PageWriter::new(machine);
        page.record(2, 0, 1);
        let count = page.number(70_000, machine.long_size() as usize);
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
        // Adding 1 << 31, an int, to a long is subtracting it.
        let sign = match machine.long_size() {
            8 => u64::from(u32::MAX) << 32,
            _ => 0,
        };
        let bytes = page.page(0, sign | 3 << 30, &count);
        assert_eq!(lost(&bytes), Ok(Some(Lost::Events(70_000))));
        assert_eq!(entries(machine, &bytes).len(), 1);

        // No room for the count that is said to be there.
        let mut full = PageWriter::new(machine);
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
    let good = PageWriter::new(machine).record(1, 1, 1).page(10, 0, &[]);

    // More used than there is room for; the next page is read all the same.
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

    // A file that ends inside a page: what is used of it may be there.
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

    // Records that end behind their page, or have no length.
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
        let mut page = PageWriter::new(machine);
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
    // A header cut off.
    let mut page = PageWriter::new(machine);
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
    // As large as a file can say.
    let huge = HEADER_64.replace("size:112", "size:4294967295");
    let huge = PageLayout::parse(&huge).expect("a layout");
    let pages: Vec<_> = huge.pages(&[0; 64], ByteOrder::Little).collect();
    assert!(matches!(pages[..], [Ok(_)]));
}

#[test]
fn machines_of_the_fixtures() {
    for (name, machine) in [
        ("5.10.223-x86_64", MACHINES[0]),
        ("6.12.107-s390x", MACHINES[2]),
        ("7.3.4-x86_64", MACHINES[0]),
    ] {
        let kernel = Kernel::at(support::fixture(name)).expect("a kernel");
        assert_eq!(kernel.machine().expect("BTF says"), machine, "{name}");
        assert_eq!(kernel.page_layout().expect("a layout").page_size(), 4096);
    }
    // No BTF: nobody says which byte order it is.
    let kernel = Kernel::at(support::fixture("6.1.176-i686")).expect("a kernel");
    assert!(matches!(
        kernel.machine(),
        Err(Error::UnknownByteOrder { .. })
    ));
    let kernel = kernel.with_byte_order(ByteOrder::Little);
    assert_eq!(kernel.machine().expect("it was said"), MACHINES[1]);
}

/// Records as perf gives them: the same, with no page around them.
#[test]
fn records_without_a_page() {
    let kernel = Kernel::at(support::fixture("6.12.107-s390x")).expect("a kernel");
    let events = kernel.events_by_id().expect("events");
    let id = kernel
        .tracepoint("sched:sched_process_exit")
        .expect("an event")
        .id();
    let mut raw = vec![0; 36];
    raw[..2].copy_from_slice(&(id as u16).to_be_bytes());
    raw[4..8].copy_from_slice(&77u32.to_be_bytes());
    raw[8..11].copy_from_slice(b"cat");
    let (event, record) = events.record(&raw).expect("an event");
    assert_eq!(event.as_str(), "sched:sched_process_exit");
    let values: Vec<String> = ["common_pid", "comm"]
        .into_iter()
        .map(|name| {
            let field = record.format().field(name).expect(name);
            record.value(field).expect("a value").to_string()
        })
        .collect();
    assert_eq!(values, ["77", "cat"]);
    assert!(matches!(
        events.record(&raw[..1]),
        Err(Error::NoEventId { length: 1 })
    ));
    let error = events.record(&[0xff, 0xfe]).expect_err("no event");
    assert!(matches!(error, Error::UnknownEventId { id: 0xfffe }));
}

#[test]
fn ids_and_pages_of_captures_that_lie() {
    let machine = |capture: &Capture| {
        let kernel = capture.kernel().with_byte_order(ByteOrder::Little);
        kernel.machine()
    };
    let mut capture = Capture::new();
    capture.event("x:a", COMMON, &[]);
    assert!(matches!(machine(&capture), Err(Error::NoPageLayout { .. })));
    let events = capture.root().join("tracing/events");
    fs::write(events.join("header_page"), HEADER_64.replace("commit", "x")).expect("a file");
    let error = machine(&capture).expect_err("no layout");
    assert!(
        error
            .to_string()
            .ends_with("header_page: header_page has no field commit"),
        "{error}"
    );
    fs::write(events.join("header_page"), HEADER_64).expect("a file");
    assert_eq!(machine(&capture).expect("a machine"), MACHINES[0]);
    fs::write(events.join("header_event"), "\ttype_len    :    6 bits\n").expect("a file");
    let error = machine(&capture).expect_err("another header");
    assert!(matches!(error, Error::PageLayout { .. }));
    assert!(
        error
            .to_string()
            .contains("header_event: line 1: expected "),
        "{error}"
    );
    fs::remove_file(events.join("header_event")).expect("it was there");
    capture.btf("vmlinux", b"\x7fELF");
    assert!(matches!(capture.kernel().machine(), Err(Error::Btf { .. })));
    capture.btf("vmlinux", b"\xeb");
    assert!(matches!(capture.kernel().machine(), Err(Error::Btf { .. })));
    capture.btf("vmlinux", b"\xeb\x9f");
    assert_eq!(capture.kernel().machine().expect("big-endian"), MACHINES[2]);

    // The id is the format's where there is no file of it, and must be the same
    // where there is.
    let of = |capture: &Capture, id: u16| {
        let kernel = capture.kernel();
        let events = kernel.events_by_id().expect("ids");
        events.event(id).map(|(name, _)| name.to_string())
    };
    assert_eq!(of(&capture, 7).expect("an event"), "x:a");
    capture.file("x:a", "id", "9\n");
    assert!(matches!(
        of(&capture, 7),
        Err(Error::UnknownEventId { id: 7 })
    ));
    assert!(matches!(
        of(&capture, 9),
        Err(Error::OtherEventId {
            id: 9,
            found: 7,
            ..
        })
    ));
    capture.event("x:b", COMMON, &[]).file("x:b", "id", "9\n");
    let error = of(&capture, 9).expect_err("two events");
    assert_eq!(error.to_string(), "x:a and x:b both have the id 9");
    capture
        .file("x:a", "format", "nonsense")
        .file("x:b", "id", "10\n");
    assert!(matches!(of(&capture, 9), Err(Error::Format { .. })));
    // An id no record can carry.
    capture.file("x:b", "id", "65536\n");
    assert!(matches!(
        of(&capture, 10),
        Err(Error::UnknownEventId { id: 10 })
    ));
}

/// The lines of a `trace` file, by the CPU they are of.
fn lines_by_cpu(trace: &str) -> BTreeMap<u32, Vec<&str>> {
    let mut lines: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    // The print fmt of mmap:vm_unmapped_area ends a line of its own on Linux 5.10.
    let is_event = |line: &&str| !line.starts_with('#') && !line.is_empty();
    for line in trace.lines().filter(is_event) {
        // A command's name may have brackets; it has 15 bytes at most.
        let rest = line.get(16..).unwrap_or_default();
        let cpu = rest.split_once('[').and_then(|(_, rest)| rest.get(..3));
        let cpu = cpu.and_then(|cpu| cpu.parse().ok()).expect(line);
        lines.entry(cpu).or_default().push(line);
    }
    lines
}

/// What the kernel printed of its pages, and what is read of them: as many events,
/// of the same commands, CPUs, flags and times. Texts are compared where they are
/// not the print fmt's. Says how many.
fn compare(root: &Path) -> (usize, usize, usize) {
    let name = support::name(root);
    let trace = fs::read_to_string(root.join("ring/trace.txt")).expect("what the kernel printed");
    let kernel = Kernel::at(root).expect("a kernel");
    let layout = kernel.page_layout().expect("a layout");
    let byte_order = kernel.machine().expect("a machine").byte_order();
    let events = kernel.events_by_id().expect("events");
    let columns = FlagColumns::of_legend(&trace).expect("a legend");
    assert_eq!(kernel.flag_columns().expect("columns"), columns, "{name}");
    let saved = fs::read_to_string(root.join("ring/saved_cmdlines")).expect("names");
    let names = TaskNames::parse(&saved);
    let (mut total, mut syscalls, mut texts) = (0, 0, 0);
    let addresses = kernel.addresses().expect("addresses");
    let mut renderers = std::collections::HashMap::new();
    for (cpu, lines) in lines_by_cpu(&trace) {
        let bytes = fs::read(root.join(format!("ring/cpu{cpu}.raw"))).expect("pages");
        let mut expected = lines.iter();
        for page in layout.pages(&bytes, byte_order) {
            let page = page.expect("a page");
            assert_eq!(page.lost(), None);
            for entry in page.entries() {
                let entry = entry.expect("an entry");
                let (event, record) = events.record(entry.bytes()).expect("an event");
                let context = TraceContext::new(&record, cpu, entry.timestamp(), &names, columns);
                let context = context.expect("all common fields");
                let line = *expected.next().expect("a line of the kernel's");
                // Old kernels write arguments another way.
                let text = SyscallText::new(event, record).expect("all arguments");
                let renderer = renderers.entry(record.format().id()).or_insert_with(|| {
                    let machine = record.machine();
                    kernel
                        .renderer(event, record.format(), machine)
                        .expect("a print fmt")
                });
                if event.category() != "syscalls" && event.category() != "ftrace" {
                    let mut rendered = format!("{context}{}: ", event.event());
                    renderer.render(&record, &addresses, &mut rendered);
                    // A print fmt may end in a newline of its own.
                    let rendered = rendered.trim_end_matches('\n');
                    assert!(is_same(rendered, line), "{name}\n{rendered}\n{line}");
                    texts += 1;
                }
                let text = match text.filter(|_| !name.starts_with("5.10")) {
                    Some(text) => {
                        syscalls += 1;
                        format!("{context}{text}\n")
                    }
                    None if event.category() == "syscalls" => context.to_string(),
                    None => format!("{context}{}: ", event.event()),
                };
                assert!(format!("{line}\n").starts_with(&text), "{text}\n{line}");
                total += 1;
            }
        }
        // Of 5.10 the last page was still being written: its `stats` count 85
        // events that nobody read.
        let unread = unread(&root.join(format!("ring/cpu{cpu}.stats")));
        assert_eq!(expected.len(), unread, "{name} CPU {cpu}");
    }
    (total, syscalls, texts)
}

/// Whether two lines are the same but for what the record does not hold: `%p` is an
/// address for us and a hash for the kernel, functions have names for the kernel
/// alone, and of a pointer made from the kernel's own variable we know none.
fn is_same(ours: &str, kernels: &str) -> bool {
    have_same_words(ours, kernels) || have_same_words(ours, &without_modules(kernels))
}

/// Without the ` [module]` behind functions' names.
fn without_modules(line: &str) -> String {
    let mut parts = line.split(" [");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(']') {
            Some((module, rest))
                if module
                    .bytes()
                    .all(|byte| byte == b'_' || byte.is_ascii_lowercase()) =>
            {
                text += rest;
            }
            _ => {
                text += " [";
                text += part;
            }
        }
    }
    text
}

fn have_same_words(ours: &str, kernels: &str) -> bool {
    let is_separator = |c: char| " =,()[]:\t".contains(c);
    let mut ours = ours.split(is_separator);
    let mut theirs = kernels.split(is_separator);
    loop {
        let (our, their) = match (ours.next(), theirs.next()) {
            (None, None) => return true,
            (Some(our), Some(their)) => (our, their),
            _ => return false,
        };
        // Kernels before 5.12 did not hash in traces.
        let is_hash = their.len() == 16 && their.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_address = our.len() == 18
            && our.starts_with("0x")
            && our[2..].bytes().all(|byte| byte.is_ascii_hexdigit());
        let symbol = their.split('+').next().unwrap_or_default();
        let is_symbol = symbol.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && symbol
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
        let is_known = our == their
            || is_address && (is_hash || is_symbol)
            || our == "<vmemmap_base>" && is_hash;
        if !is_known {
            return false;
        }
    }
}

fn unread(stats: &Path) -> usize {
    let Ok(stats) = fs::read_to_string(stats) else {
        return 0;
    };
    let entries = stats
        .lines()
        .find_map(|line| line.strip_prefix("entries: "));
    let count = entries.and_then(|count| count.parse().ok());
    count.expect("a count")
}

fn with_ring(kernels: Vec<PathBuf>) -> Vec<PathBuf> {
    let has_ring = |root: &PathBuf| root.join("ring").exists();
    kernels.into_iter().filter(has_ring).collect()
}

#[test]
fn lines_are_the_kernels() {
    let kernels = with_ring(support::fixtures());
    let counts: Vec<_> = kernels.iter().map(|root| compare(root)).collect();
    assert_eq!(counts, [(207, 27, 180), (221, 28, 193)]);
}

#[test]
fn lines_are_the_kernels_on_whole_ones() {
    let kernels = support::corpus();
    for root in with_ring(kernels) {
        let (total, syscalls, texts) = compare(&root);
        println!(
            "{}: {total} events; {texts} texts, {syscalls} system calls to the letter",
            support::name(&root)
        );
        assert!(total > 10_000);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever the bytes are: an end, and no entry outside them.
    #[test]
    fn any_bytes(
        mut bytes in prop::collection::vec(any::<u8>(), 0..600),
        lengths in prop::collection::vec(0u8..113, 5),
        big in any::<bool>(),
        is_64_bit in any::<bool>(),
    ) {
        // Most random lengths are longer than a page: make some plausible.
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

    /// Pages damaged anywhere: an error or a line, of every record.
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
        static EVENTS: LazyLock<EventsById<'static>> =
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

    /// What is written is read, on every machine.
    #[test]
    fn what_is_written_is_read(
        machine in prop::sample::select(&MACHINES[..]),
        time in any::<u32>(),
        records in prop::collection::vec((1u32..6, 0u32..1 << 27, any::<u16>(), any::<bool>()), 0..4),
    ) {
        let mut page = PageWriter::new(machine);
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
