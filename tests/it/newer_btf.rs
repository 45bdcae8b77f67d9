//! BTF as tools write it since 2026: more elements than 16 bits count, kinds that this
//! crate does not know, and the layout section that says how long their types are.

use crate::support::btf::BtfWriter;
use crate::support::capture::{COMMON, Capture};
use crate::support::with_causes;
use tracepoints::btf::{Btf, BtfError};
use tracepoints::emit::{CHeader, COptions};
use tracepoints::{Context, Error, Evidence};

/// A kind that nobody has defined.
const UNKNOWN: u32 = 40 << 24;

/// What every event class needs: int, and `struct trace_entry`.
fn entry(btf: &mut BtfWriter) -> (u32, u32) {
    let int = btf.int("int", 4, true);
    let short = btf.int("short unsigned int", 2, false);
    let byte = btf.int("unsigned char", 1, false);
    let entry = btf.structure(
        "trace_entry",
        8,
        &[
            ("type", short, 0),
            ("flags", byte, 2),
            ("preempt_count", byte, 3),
            ("pid", int, 4),
        ],
    );
    (int, entry)
}

fn wake(btf: &BtfWriter, own: &[(&str, u32, u32)]) -> (Capture, Context) {
    let mut capture = Capture::new();
    capture.event("sched:wake", COMMON, own);
    capture.btf("vmlinux", &btf.bytes());
    let context = capture.context("sched:wake");
    (capture, context)
}

/// 70,000 enumerators are more than 16 bits count: 70,000 - 65,536 of them were read, and
/// the rest as types of kind 0.
#[test]
fn an_enum_of_70_000() {
    for big_endian in [false, true] {
        let names: Vec<String> = (0..70_000).map(|index| format!("STATE_{index}")).collect();
        let values = names.iter().zip(0..).map(|(name, value)| (&**name, value));
        let values: Vec<(&str, u32)> = values.collect();
        let mut btf = BtfWriter::new(big_endian);
        let (_, entry) = entry(&mut btf);
        let state = btf.enumeration("state", &values);
        let members = [("ent", entry, 0), ("state", state, 8)];
        btf.event_class("wake", 12, &members, &[0, state]);
        btf.event("wake", &[0, state]);
        let (capture, context) = wake(&btf, &[("enum state state", 8, 4)]);
        assert_eq!(context.evidence(), &Evidence::Named);
        let layout = context.layout().expect("its types are followed");
        let slot = layout.slot("state").expect("a member");
        assert_eq!((slot.c_type(), slot.size()), ("enum state", 4));
        let kernel = capture.kernel();
        let tracepoint = kernel.tracepoint("sched:wake").expect("an event");
        let mut header = CHeader::new(COptions::default());
        header.add(&tracepoint).expect("a header");
        assert!(header.to_string().contains("STATE_69999 = 69999"));
    }
}

/// A struct of more members than 16 bits count is one whole, too.
#[test]
fn a_struct_of_66_000() {
    let names: Vec<String> = (0..66_000).map(|index| format!("m{index}")).collect();
    let mut btf = BtfWriter::new(false);
    let (int, entry) = entry(&mut btf);
    let large: Vec<_> = names
        .iter()
        .zip(0..)
        .map(|(name, at)| (&**name, int, at * 4))
        .collect();
    let large = btf.structure("large", 264_000, &large);
    let pointer = btf.pointer(large);
    let members = [("ent", entry, 0), ("all", pointer, 8)];
    btf.event_class("wake", 16, &members, &[0, pointer]);
    btf.event("wake", &[0, pointer]);
    let (_, context) = wake(&btf, &[("struct large * all", 8, 8)]);
    assert_eq!(context.evidence(), &Evidence::Named);
}

/// Kind 40 was read as kind 8, a typedef.
#[test]
fn an_unknown_kind_without_a_layout_section_is_an_error_that_names_it() {
    for (info, kind) in [(UNKNOWN, 40), (20 << 24, 20), (0, 0), (127 << 24, 127)] {
        let mut btf = BtfWriter::new(false);
        let (int, _) = entry(&mut btf);
        let id = btf.other("x", info, int, &[]);
        btf.event("wake", &[0]);
        let error = Btf::vmlinux(btf.bytes()).expect_err("it is not known how long it is");
        assert_eq!(error, BtfError::Kind { id, kind });
        let mut capture = Capture::new();
        capture
            .event("sched:wake", COMMON, &[])
            .btf("vmlinux", &btf.bytes());
        let error = capture.kernel().btf_objects().expect_err("the same");
        let text = with_causes(&error);
        assert!(
            text.contains(&format!("is of kind {kind}, which is not known")),
            "{text}"
        );
    }
}

#[test]
fn a_layout_section_leads_over_unknown_kinds() {
    for big_endian in [false, true] {
        // A fixed part of 8 bytes, and 12 for each element.
        let mut more = vec![(0, 0); 20];
        more.push((8, 12));
        let mut btf = BtfWriter::new(big_endian);
        let (int, entry) = entry(&mut btf);
        btf.other("unknown", UNKNOWN | 2, 1, &[0xdead_beef; 8]);
        // Whatever is in place of its name is not one.
        let name = btf.other("", 30 << 24, 0, &[]);
        let members = [("ent", entry, 0), ("pid", int, 8)];
        btf.event_class("wake", 12, &members, &[0, int]);
        btf.event("wake", &[0, int]);
        let mut bytes = btf.layout(&more).bytes();
        let (_, context) = wake(&btf, &[("int pid", 8, 4)]);
        assert_eq!(context.evidence(), &Evidence::Named);
        assert_eq!(context.struct_name(), Some("trace_event_raw_wake"));
        assert_eq!(context.layout().expect("a layout").slots().len(), 2);
        assert!(name > entry);
        // Its layout alone is needed, and it must be sound.
        let layout_length = 4 * (20 + more.len() as u32);
        for (length, expected) in [
            (
                layout_length - 1,
                BtfError::LayoutLength {
                    length: layout_length as usize - 1,
                },
            ),
            (80, BtfError::Kind { id: 5, kind: 40 }),
            (0, BtfError::Kind { id: 5, kind: 40 }),
        ] {
            let length_bytes = match big_endian {
                true => length.to_be_bytes(),
                false => length.to_le_bytes(),
            };
            bytes[28..32].copy_from_slice(&length_bytes);
            assert_eq!(Btf::vmlinux(bytes.clone()).err(), Some(expected));
        }
        bytes[28..32].copy_from_slice(&[0xff; 4]);
        let error = Btf::vmlinux(bytes.clone()).expect_err("it ends nowhere");
        assert!(
            matches!(
                error,
                BtfError::Truncated {
                    what: "the layout section",
                    ..
                }
            ),
            "{error}"
        );
    }
}

/// A layout section that has a kind longer than it is would have everything after it read
/// from the wrong place.
#[test]
fn a_layout_section_that_contradicts_what_is_known() {
    let mut btf = BtfWriter::new(false);
    entry(&mut btf);
    let mut bytes = btf.layout(&[]).bytes();
    assert!(Btf::vmlinux(bytes.clone()).is_ok());
    let types = u32::from_le_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]) as usize;
    // Of kind 4, a struct.
    bytes[32 + types + 4 * 4 + 1] = 16;
    assert_eq!(
        Btf::vmlinux(bytes).err(),
        Some(BtfError::KindLength { kind: 4 })
    );
}

/// Lengths that are no whole words are of no use.
#[test]
fn a_layout_of_odd_lengths() {
    let mut btf = BtfWriter::new(false);
    let (int, _) = entry(&mut btf);
    btf.other("", 20 << 24, int, &[]);
    assert!(Btf::vmlinux(btf.layout(&[(0, 0)]).bytes()).is_ok());
    for odd in [(2, 0), (0, 5)] {
        let error = Btf::vmlinux(btf.layout(&[odd]).bytes()).expect_err("odd");
        assert_eq!(error, BtfError::Kind { id: 5, kind: 20 });
    }
    // As long as they say, it would end behind the object.
    let error = Btf::vmlinux(btf.layout(&[(252, 0)]).bytes()).expect_err("cut");
    assert!(
        matches!(
            error,
            BtfError::Truncated {
                what: "the last type",
                ..
            }
        ),
        "{error}"
    );
}

/// What is made of a type of an unknown kind may have any size, so that no class is ruled
/// out by it; its layout is an error, and not a guess.
#[test]
fn nothing_is_concluded_from_an_unknown_kind() {
    let mut btf = BtfWriter::new(false);
    let (int, entry) = entry(&mut btf);
    let unknown = btf.other("", 20 << 24 | 1, 4, &[7]);
    let of_unknown = btf.typedef("odd_t", unknown);
    // The event's own class has a member of it; another has the same layout without.
    let members = [("ent", entry, 0), ("odd", of_unknown, 8)];
    btf.event_class("wake", 12, &members, &[0, of_unknown]);
    btf.event("wake", &[0, of_unknown]);
    let members = [("ent", entry, 0), ("odd", int, 8)];
    btf.event_class("other", 12, &members, &[0, int]);
    btf.event("sleep", &[0, of_unknown]);
    btf.layout(&[(0, 4)]);
    let (mut capture, context) = wake(&btf, &[("odd_t odd", 8, 4)]);
    assert_eq!(context.evidence(), &Evidence::Named);
    let error = context.layout().expect_err("its size is not known");
    assert!(matches!(error, Error::Layout { .. }), "{error}");
    let text = with_causes(&error);
    assert!(text.contains("is of kind 20, which is not known"), "{text}");
    // Its arguments may go with either class.
    capture.event("sched:sleep", COMMON, &[("odd_t odd", 8, 4)]);
    let context = capture.context("sched:sleep");
    assert_eq!(context.candidates(), ["other", "wake"]);
    assert_ne!(context.evidence(), &Evidence::Template);
    let raw = capture
        .kernel()
        .raw_tracepoint("sleep")
        .expect_err("not known either");
    assert!(with_causes(&raw).contains("kind 20"), "{raw}");
}

/// A module's object uses the layout of its base, as libbpf does.
#[test]
fn a_modules_unknown_kinds_are_in_its_bases_layout() {
    let mut vmlinux = BtfWriter::new(false);
    let (int, entry) = entry(&mut vmlinux);
    let mut module = BtfWriter::split(&vmlinux);
    module.other("", 20 << 24 | 1, 4, &[7]);
    let members = [("ent", entry, 0), ("pid", int, 8)];
    module.event_class("wake", 12, &members, &[0, int]);
    module.event("wake", &[0, int]);
    for (has_layout, is_read) in [(false, false), (true, true)] {
        if has_layout {
            vmlinux.layout(&[(0, 4)]);
        }
        let base = Btf::vmlinux(vmlinux.bytes()).expect("sound");
        let read = Btf::module("m", module.bytes(), &base);
        assert_eq!(read.is_ok_and(|read| read.defines("wake")), is_read);
    }
}
