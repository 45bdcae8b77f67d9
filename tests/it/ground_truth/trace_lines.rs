//! Lines of `trace` files: the kernel's own text of captured records, against ours.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use crate::support;
use tracepoints::{
    ByteOrder, Kernel,
    record::ring::PageLayout,
    text::{FlagColumns, TaskNames, TraceClock, TraceContext},
};

/// How a ring's lines compare with the kernel's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// The kernel's, but for what a record does not hold: hashes of pointers, and the
    /// names of functions of kernels whose symbols were not captured.
    same: usize,
    /// The kernel's but where ours says in `<…>` that a value is not known.
    marked: usize,
    /// All others.
    different: usize,
}

impl Counts {
    fn total(self) -> usize {
        self.same + self.marked + self.different
    }

    /// Of ten thousand.
    fn same_of_10_000(self) -> usize {
        self.same * 10_000 / self.total().max(1)
    }
}

/// The events made to capture their kinds, as `dynamic_events` had them: captures lack that
/// file.
const DYNAMIC_EVENTS: &str = "\
e:eprobes/ep_open syscalls.sys_enter_openat
e:eprobes/ep_wake sched.sched_waking
";

/// The lines of a `trace` file, by CPU; those that one record prints are one entry.
fn lines_by_cpu(trace: &[u8]) -> BTreeMap<u32, Vec<Vec<u8>>> {
    let mut lines: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
    let mut last = None;
    for line in trace.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b"CPU:") || last.is_none() && line.starts_with(b"#") {
            continue;
        }
        if let Some(cpu) = cpu_of(line) {
            lines.entry(cpu).or_default().push(Vec::new());
            last = Some(cpu);
        }
        let entry = last.and_then(|cpu| lines.get_mut(&cpu)?.last_mut());
        if let Some(entry) = entry {
            entry.extend(line);
        }
    }
    lines
}

/// The CPU of a record's first line: `           cat-4711    [001] …`.
fn cpu_of(line: &[u8]) -> Option<u32> {
    let rest = line.get(16..)?.strip_prefix(b"-")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut rest = rest[digits..].trim_ascii_start();
    if let Some(group) = rest.strip_prefix(b"(") {
        rest = group.split(|byte| *byte == b')').nth(1)?.trim_ascii_start();
    }
    let cpu = rest.strip_prefix(b"[")?.get(..3)?;
    str::from_utf8(cpu).ok()?.parse().ok()
}

/// The thread groups a `trace` shows, as `saved_tgids` would have them.
fn groups(trace: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(trace);
    let mut legend = text.lines().take_while(|line| line.starts_with('#'));
    legend.find(|line| line.contains("TGID"))?;
    let pair = |line: &str| {
        let (head, rest) = line.split_once(" (")?;
        let pid: u32 = head.rsplit('-').next()?.trim().parse().ok()?;
        let group: u32 = rest.split(')').next()?.trim().parse().ok()?;
        Some(format!("{pid} {group}\n"))
    };
    Some(text.lines().filter_map(pair).collect())
}

/// Compares the lines the kernel printed of the pages in a directory with ours.
fn compare(root: &Path, ring: &str) -> Counts {
    let name = format!("{}/{ring}", support::name(root));
    let dir = root.join(ring);
    let read = |file: &str| fs::read(dir.join(file)).ok();
    let text = |file| read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let trace = read("trace.txt").expect("what the kernel printed");
    let mut kernel = Kernel::at(root).expect("a kernel");
    if kernel.machine().is_err() {
        kernel = kernel.with_byte_order(ByteOrder::Little);
    }
    let layout = match text("header_page") {
        Some(text) => PageLayout::parse(&text).expect("a layout"),
        None => kernel.page_layout().expect("a layout"),
    };
    let events = kernel.events_by_id().expect("events");
    let byte_order = events.machine().byte_order();
    let legend = FlagColumns::of_legend(&String::from_utf8_lossy(&trace));
    assert_eq!(kernel.flag_columns().ok(), legend, "{name}");
    let mut style = kernel.trace_style().expect("a style");
    if let Some(clock) = text("trace_clock") {
        style = style.with_clock(TraceClock::of_file(&clock).expect("a clock"));
    }
    let mut names = TaskNames::parse(read("saved_cmdlines").expect("names"));
    if let Some(groups) = groups(&trace) {
        names = names.with_groups(groups);
    }
    let addresses = kernel.addresses().expect("addresses");
    let has_symbols = root.join("proc/kallsyms").exists();
    let mut renderers = HashMap::new();
    let mut counts = Counts::default();
    // After records the kernel gave up its own times are too early.
    let has_times = ring != "ring2";
    for (cpu, kernels) in lines_by_cpu(&trace) {
        let bytes = read(&format!("cpu{cpu}.raw")).expect("pages");
        let mut ours = Vec::new();
        for page in layout.pages(&bytes, byte_order) {
            for entry in page.expect("a page").entries() {
                let entry = entry.expect("an entry");
                let (event, record) = events.record(entry.bytes()).expect("an event");
                let context = TraceContext::new(&record, cpu, entry.timestamp(), &names, style);
                let context = context.expect("all common fields");
                let renderer = renderers.entry(record.format().id()).or_insert_with(|| {
                    let renderer = kernel.renderer(event, record.format(), record.machine());
                    let renderer = renderer.expect("a print fmt");
                    renderer.with_dynamic_events(DYNAMIC_EVENTS)
                });
                let written = renderer.write_line(&record, &context, &addresses, &mut ours);
                written.expect("a whole record");
            }
        }
        let ours = lines_by_cpu(&ours).remove(&cpu).unwrap_or_default();
        // In the 5.10 capture the last page was still being written: `stats` counts 85
        // events that are not in the pages.
        let unread = unread(&dir.join(format!("cpu{cpu}.stats")));
        assert_eq!(ours.len(), kernels.len() - unread, "{name} CPU {cpu}");
        for (ours, kernels) in ours.iter().zip(&kernels) {
            let (ours, kernels) = (shown(ours, has_times), shown(kernels, has_times));
            let count = match () {
                () if is_same(&ours, &kernels, has_symbols) => &mut counts.same,
                () if is_marked(&ours, &kernels) => &mut counts.marked,
                () => {
                    if counts.different < 3 {
                        println!("{name}\n{ours}\n{kernels}");
                    }
                    &mut counts.different
                }
            };
            *count += 1;
        }
    }
    counts
}

/// A line as it is compared: without its time, unless `has_time`.
fn shown(line: &[u8], has_time: bool) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    // A character for each byte, ASCII or not.
    let mut line: String = line.iter().map(|byte| char::from(*byte)).collect();
    if !has_time && let Some(colon) = line.get(20..).and_then(|rest| rest.find(": ")) {
        let colon = 20 + colon;
        let start = line[..colon].rfind(' ').unwrap_or(colon);
        line.replace_range(start..colon, "");
    }
    // Variables of the kernel that its pointers are computed from.
    for variable in [
        "<mem_map>",
        "<vmemmap>",
        "<sizeof(struct page)>",
        "<vmemmap_base>",
    ] {
        line = line.replace(variable, "<variable>");
    }
    line
}

/// Whether two lines differ only in what the record does not hold: the kernel hashes `%p`
/// where we print addresses, knows the values of its own variables in pointers, and names
/// functions even if its symbols were not captured.
fn is_same(ours: &str, kernels: &str, has_symbols: bool) -> bool {
    have_same_words(ours, kernels, has_symbols)
        || !has_symbols && have_same_words(ours, &without_modules(kernels), false)
}

/// The line without the ` [module]` after names of functions.
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

fn have_same_words(ours: &str, kernels: &str, has_symbols: bool) -> bool {
    let is_separator = |c: char| " =,()[]:\t\n".contains(c);
    let mut ours = ours.split(is_separator);
    let mut theirs = kernels.split(is_separator);
    loop {
        let (our, their) = match (ours.next(), theirs.next()) {
            (None, None) => return true,
            (Some(our), Some(their)) => (our, their),
            _ => return false,
        };
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        // Kernels before 5.12 print addresses, not hashes.
        let is_hash = matches!(their.len(), 8 | 16) && is_hex(their);
        let address = our.strip_prefix("0x");
        let is_address = address.is_some_and(|our| matches!(our.len(), 8 | 16) && is_hex(our));
        let symbol = their.split('+').next().unwrap_or_default();
        let is_symbol = symbol.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && symbol
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
        let is_known = our == their
            || is_address && (is_hash || is_symbol && !has_symbols)
            || our == "<variable>" && is_hash;
        if !is_known {
            return false;
        }
    }
}

/// Whether our line is the kernel's but for unknown values, marked `<…>`, and addresses.
fn is_marked(ours: &str, kernels: &str) -> bool {
    let mut known = vec![String::new()];
    let mut rest = ours;
    while let Some(character) = rest.chars().next() {
        let unknown = match (rest.split_once('>'), rest.strip_prefix("0x")) {
            (Some((mark, _)), _) if character == '<' => mark.len() + 1,
            (_, Some(hex)) => {
                let digits = hex.bytes().take_while(u8::is_ascii_hexdigit).count();
                if matches!(digits, 8 | 16) {
                    2 + digits
                } else {
                    0
                }
            }
            _ => 0,
        };
        match (unknown, known.last_mut()) {
            (0, Some(last)) => last.push(character),
            _ => known.push(String::new()),
        }
        rest = &rest[unknown.max(character.len_utf8())..];
    }
    let Some((last, first)) = known.split_last() else {
        return false;
    };
    let mut rest = kernels;
    for (index, known) in first.iter().enumerate() {
        match rest.find(known.as_str()) {
            Some(at) if index > 0 || at == 0 => rest = &rest[at + known.len()..],
            _ => return false,
        }
    }
    ours.contains('<') && rest.ends_with(last.as_str())
}

/// The number of a CPU's events that were unread when its pages were saved.
fn unread(stats: &Path) -> usize {
    let stats = fs::read_to_string(stats).unwrap_or_default();
    let count = |name: &str| -> usize {
        let line = stats.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|count| count.parse().ok()).unwrap_or(0)
    };
    match count("read events: ") {
        0 => 0,
        _ => count("entries: "),
    }
}

/// The directories of a captured kernel that hold pages.
fn rings(root: &Path) -> Vec<&'static str> {
    let rings = ["ring", "ring2", "ring3", "ring4", "ring5"].into_iter();
    rings.filter(|ring| root.join(ring).exists()).collect()
}

fn counts(kernels: Vec<PathBuf>) -> Vec<(String, Counts)> {
    let rings = kernels.iter().flat_map(|root| {
        let count = move |ring| {
            let counts = compare(root, ring);
            (format!("{}/{ring}", support::name(root)), counts)
        };
        rings(root).into_iter().map(count)
    });
    rings.collect()
}

#[test]
fn lines_are_the_kernels() {
    let counts = counts(support::fixtures());
    let all = |same| Counts {
        same,
        ..Counts::default()
    };
    assert_eq!(
        counts,
        [
            ("6.18.15-x86_64/ring".to_owned(), all(207)),
            ("7.3.4-x86_64/ring".to_owned(), all(221)),
        ]
    );
}

/// For each ring: how many of ten thousand lines must be the kernel's, and how many lines
/// in all may be neither the kernel's nor marked. Of a ring that is not listed, every line
/// must be the kernel's.
const LEAST: [(&str, usize, usize); 3] = [
    // No BTF, and so no values of enumerators.
    ("7.2.13-armhf-lpae/ring", 9780, 0),
    ("7.2.13-armhf-lpae/ring2", 9940, 0),
    ("7.2.13-armhf-lpae/ring5", 6090, 0),
];

#[test]
fn lines_are_the_kernels_on_whole_ones() {
    let mut too_few = Vec::new();
    for (ring, counts) in counts(support::corpus()) {
        println!("{ring}: {counts:?}");
        let least = LEAST.iter().find(|(listed, ..)| *listed == ring);
        let (least, most) = least.map_or((10_000, 0), |(_, least, most)| (*least, *most));
        if counts.same_of_10_000() < least || counts.different > most {
            too_few.push((ring, counts));
        }
    }
    assert!(too_few.is_empty(), "{too_few:#?}");
}
