//! What holds of any kernel, on generated ones.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support;
use crate::support::btf::BtfWriter;
use crate::support::capture::Capture;
use proptest::prelude::*;
use proptest::sample::Index;
use tracepoints::emit::{CHeader, COptions, RustModule};
use tracepoints::format::Format;
use tracepoints::{EventName, Evidence, Kernel, layout::Layout};

/// A field of a record, as its line says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    declaration: String,
    offset: u32,
    size: u32,
    signed: Option<bool>,
}

impl Line {
    fn text(&self) -> String {
        let Self {
            declaration,
            offset,
            size,
            signed,
        } = self;
        let signed = signed.map(|signed| format!("\tsigned:{};", u8::from(signed)));
        let signed = signed.unwrap_or_default();
        format!("\tfield:{declaration};\toffset:{offset};\tsize:{size};{signed}\n")
    }

    fn of(field: &tracepoints::format::Field) -> Self {
        Self {
            declaration: field.declaration().text().to_owned(),
            offset: field.offset(),
            size: field.size(),
            signed: field.signed(),
        }
    }
}

fn format_text(name: &str, common: &[Line], own: &[Line], print_fmt: &str) -> String {
    let lines = |lines: &[Line]| lines.iter().map(Line::text).collect::<String>();
    format!(
        "name: {name}\nID: 7\nformat:\n{}\n{}\nprint fmt: {print_fmt}\n",
        lines(common),
        lines(own)
    )
}

/// How large a type is.
#[derive(Clone, Copy)]
enum Size {
    Bytes(u32),
    Longs(u32),
}

use Size::{Bytes, Longs};

/// Types a format file has, with `@` for the field's name.
const TYPES: [(&str, Size); 24] = [
    ("u8 @", Bytes(1)),
    ("bool @", Bytes(1)),
    ("unsigned char @", Bytes(1)),
    ("unsigned short @", Bytes(2)),
    ("__be16 @", Bytes(2)),
    ("int @", Bytes(4)),
    ("pid_t @", Bytes(4)),
    ("enum zone_type @", Bytes(4)),
    ("u64 @", Bytes(8)),
    ("sector_t @", Bytes(8)),
    ("unsigned long @", Longs(1)),
    ("const void * @", Longs(1)),
    ("const char *const @", Longs(1)),
    ("unsigned long @[2]", Longs(2)),
    ("char @[16]", Bytes(16)),
    ("char @[TASK_COMM_LEN]", Bytes(16)),
    ("__u8 @[6]", Bytes(6)),
    ("u32 @[(sizeof(struct x) / 4)]", Bytes(12)),
    ("struct irb @", Bytes(20)),
    ("uuid_t @", Bytes(16)),
    ("__data_loc char[] @", Bytes(4)),
    ("__data_loc cpumask_t @", Bytes(4)),
    ("__rel_loc u32 @[]", Bytes(4)),
    (
        "const char __attribute__((btf_type_tag(\"user\"))) * @",
        Longs(1),
    ),
];

impl Size {
    fn on(self, long: u32) -> u32 {
        match self {
            Bytes(bytes) => bytes,
            Longs(count) => count * long,
        }
    }
}

/// Names of fields: no two alike, some of them words of Rust.
fn name(index: usize) -> String {
    match ["type", "self", "match", "r", "move", "_"].get(index) {
        Some(&"_") | None => format!("field_{index}"),
        Some(name) => (*name).to_owned(),
    }
}

/// A field to come: its type, the bytes left free before it, and its sign.
type Sketch = (Index, u32, Option<bool>);

fn sketches() -> impl Strategy<Value = Vec<Sketch>> {
    let gap = prop_oneof![4 => Just(0), 1 => 1..9_u32, 1 => Just(8)];
    let signed = prop_oneof![Just(None), any::<bool>().prop_map(Some)];
    prop::collection::vec((any::<Index>(), gap, signed), 0..12)
}

fn common(entry: u32) -> Vec<Line> {
    let mut places = vec![
        ("unsigned short common_type", 0, 2),
        ("unsigned char common_flags", 2, 1),
        ("unsigned char common_preempt_count", 3, 1),
        ("int common_pid", 4, 4),
    ];
    if entry == 12 {
        places.push(("unsigned char common_preempt_lazy_count", 8, 1));
    }
    let line = |(declaration, offset, size): (&str, u32, u32)| Line {
        declaration: declaration.to_owned(),
        offset,
        size,
        signed: Some(declaration.starts_with("int")),
    };
    places.into_iter().map(line).collect()
}

/// The fields of a record, one behind the other.
fn lines(sketches: &[Sketch], entry: u32, long: u32) -> Vec<Line> {
    let mut at = entry;
    let line = |(index, (ty, gap, signed)): (usize, &Sketch)| {
        let (declaration, size) = ty.get(&TYPES);
        let size = size.on(long);
        let offset = at + gap;
        at = offset + size;
        Line {
            declaration: declaration.replace('@', &name(index)),
            offset,
            size,
            signed: *signed,
        }
    };
    sketches.iter().enumerate().map(line).collect()
}

/// Slots stand by offset, within the layout, and slots and gaps together are all its
/// bytes, each of them once but for unions and bits.
fn check_layout(layout: &Layout, what: &str) {
    let mut covered = vec![0_u32; layout.size() as usize];
    let mut bits_end = 0;
    let mut has_bits = false;
    let offsets = layout.slots().iter().map(|slot| slot.offset());
    assert!(offsets.is_sorted(), "{what}: {layout:#?}");
    for slot in layout.slots() {
        assert!(slot.end() <= layout.size(), "{what}: {slot:?}");
        for byte in &mut covered[slot.offset() as usize..slot.end() as usize] {
            *byte += 1;
        }
        match slot.bits() {
            _ if layout.is_union() => assert_eq!(slot.offset(), 0, "{what}"),
            Some(bits) => {
                has_bits = true;
                assert!(bits.start >= bits_end, "{what}: {slot:?}");
                bits_end = bits.end;
            }
            None => {
                let start = u64::from(slot.offset()) * 8;
                assert!(start >= bits_end, "{what}: {slot:?}");
                bits_end = u64::from(slot.end()) * 8;
            }
        }
        if let Some(nested) = slot.nested() {
            check_layout(nested, &format!("{what}, {}", slot.name()));
        }
    }
    for gap in layout.gaps() {
        assert!(gap.start < gap.end, "{what}: {gap:?}");
        for byte in &mut covered[gap.start as usize..gap.end as usize] {
            assert_eq!(*byte, 0, "{what}: {gap:?}");
            *byte += 1;
        }
    }
    let once = |count: &u32| *count == 1 || *count > 1 && (layout.is_union() || has_bits);
    assert!(covered.iter().all(once), "{what}: {layout:#?}");
    if !layout.is_union() && !has_bits {
        let slots: u32 = layout.slots().iter().map(|slot| slot.size()).sum();
        let gaps: u32 = layout.gaps().iter().map(|gap| gap.end - gap.start).sum();
        assert_eq!(slots + gaps, layout.size(), "{what}");
    }
}

#[test]
fn sizes_and_gaps_of_every_fixture_sum_up() {
    let mut count = 0;
    for root in support::fixtures() {
        let kernel = Kernel::at(&root).expect("a kernel");
        for name in kernel.event_directories().expect("events") {
            let event = kernel.tracepoint(&name).expect("an event");
            let context = event.context().expect("a context");
            let what = format!("{}: {name}", support::name(&root));
            check_layout(&context.layout().expect("a layout"), &what);
            check_layout(&event.format().layout(), &what);
            count += 2;
        }
    }
    assert_eq!(count, 2 * 568);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A file is written back to the byte, and says what it was made of.
    #[test]
    fn a_format_is_what_was_written(
        sketches in sketches(),
        is_long_entry in any::<bool>(),
        is_64_bit in any::<bool>(),
        print_fmt in r#""([ -!#-\[\]-~]|\\n|\\"|%[dsx]){0,40}"(, REC->[a-z_]{1,9}|, \(\{ \P{Cc}{0,9}; \}\)|\n){0,4}"#,
    ) {
        let entry = if is_long_entry { 12 } else { 8 };
        let long = if is_64_bit { 8 } else { 4 };
        let (common, own) = (common(entry), lines(&sketches, entry, long));
        let text = format_text("generated", &common, &own, &print_fmt);
        let format = Format::parse(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(format.to_string(), text);
        prop_assert_eq!(format.print_fmt(), print_fmt);
        let read: Vec<Line> = format.fields().iter().map(Line::of).collect();
        prop_assert_eq!(read, own);
        let read: Vec<Line> = format.common_fields().iter().map(Line::of).collect();
        prop_assert_eq!(read, common);
        for (index, field) in format.fields().iter().enumerate() {
            prop_assert_eq!(field.name(), name(index));
        }
    }

    /// A record's layout has every field where its line says, and its sizes sum up.
    #[test]
    fn a_records_sizes_and_gaps_sum_up(
        sketches in sketches(),
        is_long_entry in any::<bool>(),
        is_64_bit in any::<bool>(),
    ) {
        let entry = if is_long_entry { 12 } else { 8 };
        let long = if is_64_bit { 8 } else { 4 };
        let (common, own) = (common(entry), lines(&sketches, entry, long));
        let text = format_text("generated", &common, &own, "\"\"");
        let format = Format::parse(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let layout = format.layout();
        check_layout(&layout, "a record");
        for (field, line) in format.fields().iter().zip(&own) {
            let slot = layout.slot(&field.member_name()).expect("a slot");
            prop_assert_eq!((slot.offset(), slot.size()), (line.offset, line.size));
        }
        let end = own.last().map_or(0, |line| line.offset + line.size);
        let common_end = if is_long_entry { 9 } else { 8 };
        prop_assert_eq!(layout.size(), end.max(common_end));
    }
}

/// A type in BTF: its id, how a format file declares a field of it, and its size.
type Type = (u32, &'static str, u32);

/// The types members of generated structs have; the last is that of `ent`.
fn types(btf: &mut BtfWriter, long: u32) -> (Vec<Type>, u32, u32) {
    let int = btf.int("int", 4, true);
    let char = btf.int("char", 1, true);
    let byte = btf.int("unsigned char", 1, false);
    let short = btf.int("short unsigned int", 2, false);
    let unsigned = btf.int("unsigned int", 4, false);
    let long_int = btf.int("long int", long, true);
    let long_long = btf.int("long long unsigned int", 8, false);
    let u64 = btf.typedef("u64", long_long);
    let members = [
        ("type", short, 0),
        ("flags", byte, 2),
        ("preempt_count", byte, 3),
        ("pid", int, 4),
    ];
    let entry = btf.structure("trace_entry", 8, &members);
    let pointer = btf.pointer(0);
    let constant = btf.constant(char);
    let text = btf.pointer(constant);
    let handle = btf.typedef("handle_t", text);
    let comm = btf.array(char, 16);
    let bytes = btf.array(byte, 3);
    let longs = btf.array(long_int, 2);
    let row = btf.array(short, 2);
    let matrix = btf.array(row, 2);
    let colour = btf.enumeration("colour", &[("RED", 1), ("BLUE", 2)]);
    let holes = btf.structure("holes", 16, &[("a", byte, 1), ("b", unsigned, 8)]);
    let tight = btf.structure("tight", 9, &[("a", byte, 0), ("b", u64, 1)]);
    let bits = btf.bitfields(
        "bits",
        8,
        &[("a", int, 0, 3), ("b", int, 3, 7), ("c", unsigned, 40, 8)],
    );
    let anonymous = btf.structure("", 2 * long, &[("x", pointer, 0), ("y", long_int, long)]);
    let data = btf.array(char, 0);
    let types = vec![
        (int, "int @", 4),
        (byte, "u8 @", 1),
        (short, "unsigned short @", 2),
        (unsigned, "__data_loc char[] @", 4),
        (unsigned, "__rel_loc char[] @", 4),
        (long_int, "long @", long),
        (u64, "u64 @", 8),
        (pointer, "void * @", long),
        (handle, "handle_t @", long),
        (comm, "char @[16]", 16),
        (bytes, "u8 @[3]", 3),
        (longs, "long @[2]", 2 * long),
        (matrix, "matrix_t @", 8),
        (colour, "enum colour @", 4),
        (holes, "struct holes @", 16),
        (tight, "struct tight @", 9),
        (bits, "struct bits @", 8),
        (anonymous, "struct pair @", 2 * long),
    ];
    (types, entry, data)
}

/// Where a struct that was asked for has a member.
struct Member {
    name: String,
    offset: u32,
    size: u32,
}

/// A kernel with an event for each list of fields, and what each struct has; with BTF
/// or from format files alone.
fn kernel_of(
    events: &[Vec<Sketch>],
    long: u32,
    big_endian: bool,
    with_btf: bool,
) -> (Capture, BTreeMap<String, Vec<Member>>) {
    let mut capture = Capture::new();
    let mut structs = BTreeMap::new();
    let mut btf = BtfWriter::new(big_endian);
    let (types, entry, data) = types(&mut btf, long);
    let pointer = types[7].0;
    for (index, sketches) in events.iter().enumerate() {
        let event = format!("e{index}");
        let (mut members, mut in_btf) = (Vec::new(), vec![("ent".to_owned(), entry, 0)]);
        let own = match with_btf {
            false => lines(sketches, 8, long),
            true => {
                let mut at = 8;
                let line = |(index, (ty, gap, signed)): (usize, &Sketch)| {
                    let (ty, declaration, size) = *ty.get(&types);
                    let (offset, name) = (at + gap, name(index));
                    at = offset + size;
                    in_btf.push((format!("{}{name}", prefix(declaration)), ty, offset));
                    Line {
                        declaration: declaration.replace('@', &name),
                        offset,
                        size,
                        signed: *signed,
                    }
                };
                sketches.iter().enumerate().map(line).collect()
            }
        };
        for (index, line) in own.iter().enumerate() {
            members.push(Member {
                name: format!("{}{}", prefix(&line.declaration), name(index)),
                offset: line.offset,
                size: line.size,
            });
        }
        let end = members.last().map_or(8, |last| last.offset + last.size);
        let text = format_text(&event, &common(8), &own, "\"\"");
        let full = format!("x:{event}");
        capture.list(&full).file(&full, "format", text);
        in_btf.push(("__data".to_owned(), data, end));
        let in_btf: Vec<_> = in_btf
            .iter()
            .map(|(name, ty, at)| (&**name, *ty, *at))
            .collect();
        // Often, and not always, longer than its last member.
        let size = end.next_multiple_of(if index % 3 == 0 { 1 } else { 8 });
        btf.event_class(&event, size, &in_btf, &[pointer]);
        btf.event(&event, &[pointer]);
        let name = match with_btf {
            true => format!("trace_event_raw_{event}"),
            false => format!("{event}_context"),
        };
        structs.insert(name, members);
    }
    if with_btf {
        capture.btf("vmlinux", &btf.bytes());
    }
    (capture, structs)
}

fn prefix(declaration: &str) -> &'static str {
    match declaration.split(' ').next() {
        Some("__data_loc") => "__data_loc_",
        Some("__rel_loc") => "__rel_loc_",
        _ => "",
    }
}

fn compile(program: &str, arguments: &[&str], file: &Path) -> Result<(), TestCaseError> {
    let output = Command::new(program).args(arguments).arg(file).output();
    let output = output.expect(program);
    let said = String::from_utf8_lossy(&output.stderr);
    let first: Vec<&str> = said.lines().take(12).collect();
    prop_assert!(
        output.status.success(),
        "{program} {arguments:?}\n{}",
        first.join("\n")
    );
    Ok(())
}

/// Emits every event in C and Rust, once with BTF and once without, adds assertions
/// made of what was asked for, and has both texts compiled.
fn check_emitted(
    events: &[Vec<Sketch>],
    long: u32,
    big_endian: bool,
    dir: &Path,
) -> Result<(), TestCaseError> {
    let mut header = CHeader::new(COptions::default().assertions(true));
    let mut module = RustModule::new();
    let mut structs = BTreeMap::new();
    for with_btf in [false, true] {
        let (capture, asked) = kernel_of(events, long, big_endian, with_btf);
        let kernel = capture.kernel();
        for name in kernel.events().expect("events") {
            let event = kernel.tracepoint(&name).expect("an event");
            let evidence = event.context().expect("a context").evidence().clone();
            prop_assert_eq!(
                evidence == Evidence::Named,
                with_btf,
                "{}: {}",
                name,
                evidence
            );
            let fail = |error: tracepoints::Error| TestCaseError::fail(error.to_string());
            let in_c = header.add(&event).map_err(fail)?;
            let in_rust = module.add(&event).map_err(fail)?;
            prop_assert!(asked.contains_key(&in_c) && in_c == in_rust);
        }
        structs.extend(asked);
    }
    let (mut c, mut rust) = (header.to_string(), module.to_string());
    for (name, members) in &structs {
        for Member {
            name: member,
            offset,
            size,
        } in members
        {
            let _ = write!(
                c,
                "_Static_assert(__builtin_offsetof(struct {name}, {member}) == {offset}, \"\");\n\
                _Static_assert(sizeof(((struct {name} *)0)->{member}) == {size}, \"\");\n"
            );
            let member = match &**member {
                "type" | "match" | "move" => format!("r#{member}"),
                "self" => "self_".to_owned(),
                other => other.to_owned(),
            };
            let _ = writeln!(
                rust,
                "const _: () = assert!(core::mem::offset_of!({name}, {member}) == {offset});"
            );
        }
    }
    let file = dir.join("generated.c");
    fs::write(&file, c).expect("a file");
    let targets = match (long, big_endian) {
        (8, false) => ["bpf", "x86_64-linux-gnu"],
        (8, true) => ["bpfeb", "s390x-linux-gnu"],
        (_, false) => ["bpf", "i686-linux-gnu"],
        (_, true) => ["bpfeb", "mips-linux-gnu"],
    };
    if has("clang") {
        for target in targets {
            let target = format!("--target={target}");
            let arguments = ["-std=gnu11", "-Wall", "-Werror", "-fsyntax-only", &target];
            compile("clang", &arguments, &file)?;
        }
    }
    // Only of a machine like this one.
    if has("gcc") && long == 8 && cfg!(target_pointer_width = "64") {
        compile("gcc", &["-std=gnu11", "-Wall", "-fsyntax-only"], &file)?;
    }
    let file = dir.join("generated.rs");
    fs::write(&file, rust).expect("a file");
    let out = dir.display().to_string();
    let arguments = [
        "--edition=2024",
        "--crate-type=lib",
        "--emit=metadata",
        "--out-dir",
        &out,
    ];
    compile("rustc", &arguments, &file)
}

fn has(program: &str) -> bool {
    let output = Command::new(program).arg("--version").output();
    output.is_ok_and(|output| output.status.success())
}

proptest! {
    #![proptest_config(ProptestConfig {
        // It is many structs at once, as compilers take their time; and made smaller
        // by them, it would be minutes.
        cases: 1,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    })]

    /// What is emitted has every member where it was asked for: 64 events, with BTF and
    /// without, of every byte order and word size.
    #[test]
    fn emitted_offsets_hold(events in prop::collection::vec(sketches(), 64)) {
        if !has("clang") && !has("gcc") {
            support::skip("there is no compiler of C");
        }
        let dir = tempfile::tempdir().expect("a directory");
        for (long, big_endian) in [(8, false), (8, true), (4, false), (4, true)] {
            check_emitted(&events, long, big_endian, dir.path())?;
        }
    }
}

/// What is done to a record's lines.
#[derive(Clone, Debug)]
enum Change {
    Move(Index, i32),
    Resize(Index, u32),
    Rename(Index),
    Swap(Index, Index),
    Remove(Index),
    Repeat(Index),
    Add(Index, u32),
    /// A value where the bytes are said to be elsewhere, or the other way round.
    Relocate(Index),
    /// Not a change of what is where.
    Sign(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), -8..9_i32).prop_map(|(at, by)| Change::Move(at, by)),
        (at(), 0..20_u32).prop_map(|(at, size)| Change::Resize(at, size)),
        at().prop_map(Change::Rename),
        (at(), at()).prop_map(|(one, other)| Change::Swap(one, other)),
        at().prop_map(Change::Remove),
        at().prop_map(Change::Repeat),
        (at(), 1..9_u32).prop_map(|(at, size)| Change::Add(at, size)),
        at().prop_map(Change::Relocate),
        at().prop_map(Change::Sign),
    ]
}

impl Change {
    fn apply(&self, lines: &mut Vec<Line>) {
        if lines.is_empty() {
            return;
        }
        let length = lines.len();
        match self {
            Self::Move(at, by) => {
                let line = &mut lines[at.index(length)];
                line.offset = line.offset.saturating_add_signed(*by);
            }
            Self::Resize(at, size) => lines[at.index(length)].size = *size,
            Self::Rename(at) => {
                let line = &mut lines[at.index(length)];
                let end = line.declaration.find('[');
                let end = end.filter(|_| line.declaration.ends_with(']'));
                let end = end.unwrap_or(line.declaration.len());
                line.declaration.insert_str(end, "_x");
            }
            Self::Swap(one, other) => lines.swap(one.index(length), other.index(length)),
            Self::Remove(at) => drop(lines.remove(at.index(length))),
            Self::Repeat(at) => {
                let line = lines[at.index(length)].clone();
                lines.push(line);
            }
            Self::Add(at, size) => {
                let before = at.index(length);
                let added = Line {
                    declaration: "int added".to_owned(),
                    size: *size,
                    ..lines[before].clone()
                };
                lines.insert(before, added);
            }
            Self::Relocate(at) => {
                let line = &mut lines[at.index(length)];
                line.declaration = match line.declaration.strip_prefix("__data_loc ") {
                    Some(rest) => rest.replace("[]", ""),
                    None => format!("__data_loc {}", line.declaration),
                };
            }
            Self::Sign(at) => {
                let line = &mut lines[at.index(length)];
                line.signed = None;
            }
        }
    }
}

/// A copy of a fixture, and its events that are not system calls.
type Copied = (Capture, Kernel, Vec<(EventName, Format)>);

/// Copies of the fixtures with BTF.
fn kernels_with_btf() -> Vec<Copied> {
    let mut kernels = Vec::new();
    for root in support::fixtures() {
        if !root.join("btf/vmlinux").exists() {
            continue;
        }
        let mut copy = Capture::new();
        for object in fs::read_dir(root.join("btf")).expect("objects") {
            let object = object.expect("an object");
            let name = object.file_name().into_string().expect("a name");
            copy.btf(&name, &fs::read(object.path()).expect("an object"));
        }
        let mut events = Vec::new();
        let original = Kernel::at(&root).expect("a kernel");
        for name in original.events().expect("events") {
            let event = original.tracepoint(&name).expect("an event");
            let format = event.format();
            copy.list(name.as_str());
            copy.file(name.as_str(), "format", format.to_string());
            if name.category() != "syscalls" {
                events.push((name, format.clone()));
            }
        }
        let kernel = copy.kernel();
        kernels.push((copy, kernel, events));
    }
    kernels
}

/// No struct is named for a record it differs from, whatever the record.
#[test]
fn no_class_is_named_for_another_layout() {
    let kernels = kernels_with_btf();
    let (named, refused) = (Cell::new(0), Cell::new(0));
    let changes = (
        any::<Index>(),
        any::<Index>(),
        prop::collection::vec((any::<bool>(), change()), 0..4),
    );
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(1024));
    let result = runner.run(&changes, |(kernel, event, changes)| {
        let (capture, kernel, events) = kernel.get::<Copied>(&kernels);
        let (name, original) = event.get::<(EventName, Format)>(events);
        let mut common: Vec<Line> = original.common_fields().iter().map(Line::of).collect();
        let mut own: Vec<Line> = original.fields().iter().map(Line::of).collect();
        for (in_common, change) in changes {
            // Rarely of what all events share.
            match in_common && own.len().is_multiple_of(3) {
                true => change.apply(&mut common),
                false => change.apply(&mut own),
            }
        }
        let text = format_text(original.name(), &common, &own, "\"\"");
        let Ok(format) = Format::parse(&text) else {
            return Ok(());
        };
        let path = capture.path(name.as_str(), "format");
        fs::write(&path, &text).expect("a file");
        let context = kernel.tracepoint(name).and_then(|event| event.context());
        fs::write(&path, original.to_string()).expect("a file");
        let context = context.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let layout = context
            .layout()
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        check_layout_of_hostile(&layout);
        if let Evidence::Format(_) = context.evidence() {
            prop_assert_eq!(context.struct_name(), None);
            prop_assert_eq!(context.type_id(), None);
            refused.set(refused.get() + 1);
            return Ok(());
        }
        // A name, or candidates, all of this layout.
        named.set(named.get() + 1);
        let names_one = context.struct_name().is_some();
        prop_assert!(names_one || context.candidates().len() > 1);
        let mut slots = layout.slots().iter();
        let entry = slots.next().and_then(|slot| slot.nested());
        let entry = entry.expect("the common fields").slots();
        prop_assert_eq!(entry.len(), format.common_fields().len());
        for (slot, field) in entry.iter().zip(format.common_fields()) {
            prop_assert_eq!(format!("common_{}", slot.name()), field.name());
            prop_assert_eq!((slot.offset(), slot.size()), (field.offset(), field.size()));
        }
        let members: Vec<_> = slots
            .filter(|slot| slot.name() != "__data")
            .map(|slot| (slot.name().to_owned(), slot.offset(), slot.size()))
            .collect();
        let mut fields: Vec<_> = format
            .fields()
            .iter()
            .map(|field| (field.member_name(), field.offset(), field.size()))
            .collect();
        fields.sort_by_key(|(_, offset, _)| *offset);
        prop_assert_eq!(members, fields);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}\n{runner}");
    }
    let (named, refused) = (named.get(), refused.get());
    assert!(named > 100 && refused > 300, "{named} named, {refused} not");
}

/// Of fields that may lie over each other: gaps are what none of them covers.
fn check_layout_of_hostile(layout: &Layout) {
    let mut covered = vec![false; layout.size() as usize];
    for slot in layout.slots() {
        covered[slot.offset() as usize..slot.end() as usize].fill(true);
    }
    for gap in layout.gaps() {
        let bytes = &mut covered[gap.start as usize..gap.end as usize];
        assert!(!bytes.iter().any(|covered| *covered), "{gap:?}");
        bytes.fill(true);
    }
    assert!(covered.iter().all(|covered| *covered), "{layout:?}");
}
