//! Emitted source compiles with every member at its offset.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::{Line, Sketch, common, format_text, lines, name, sketches};
use crate::support;
use crate::support::btf::{BtfWriter, TraceEntry};
use crate::support::capture::Capture;
use crate::support::compilers::{compile, compile_c, compile_rust, has};
use proptest::prelude::*;
use tracepoints::Evidence;
use tracepoints::emit::{CHeader, COptions, RustModule};

/// A type in BTF: its id, how a format file declares a field of it, and its size.
type Type = (u32, &'static str, u32);

/// The types of generated members, then those of `ent` and `__data`.
fn types(btf: &mut BtfWriter, long: u32) -> (Vec<Type>, u32, u32) {
    let TraceEntry {
        id: entry,
        int,
        short,
        byte,
    } = btf.trace_entry(8);
    let char = btf.int("char", 1, true);
    let unsigned = btf.int("unsigned int", 4, false);
    let long_int = btf.int("long int", long, true);
    let long_long = btf.int("long long unsigned int", 8, false);
    let u64 = btf.typedef("u64", long_long);
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

/// A member of a generated struct, with its offset and size in bytes.
struct Member {
    name: String,
    offset: u32,
    size: u32,
}

/// A kernel with an event for each list of fields, with BTF or from format files alone,
/// and the members of each event's struct.
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
        // Most structs are longer than their last member's end.
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

/// Emits every event in C and Rust, once with BTF and once without, adds assertions for
/// every generated member, and compiles both texts.
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
            compile_c(&["-std=gnu11", &target], &file);
        }
    }
    // gcc compiles for this machine only.
    if has("gcc") && long == 8 && cfg!(target_pointer_width = "64") {
        compile("gcc", &["-std=gnu11", "-Wall", "-fsyntax-only"], &file);
    }
    let file = dir.join("generated.rs");
    fs::write(&file, rust).expect("a file");
    compile_rust(&file);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        // One case of many structs: a run of the compilers takes long for any number of
        // them, and shrinking would take minutes.
        cases: 1,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    })]

    /// Emits 64 events, with BTF and without, for each byte order and word size.
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
