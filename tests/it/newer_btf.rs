//! BTF as tools write it since 2026: more elements than 16 bits count, kinds that this
//! crate does not know, and the layout section that says how long their types are.

use crate::support::btf::{BtfWriter, TraceEntry};
use crate::support::capture::{COMMON, Capture};
use crate::support::with_causes;
use tracepoints::btf::{Btf, BtfError};
use tracepoints::emit::{CHeader, COptions};
use tracepoints::{Context, Error, Evidence};

/// A kind that nobody has defined.
const UNKNOWN: u32 = 40 << 24;

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
        let TraceEntry { id: entry, .. } = btf.trace_entry(8);
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
    let TraceEntry { id: entry, int, .. } = btf.trace_entry(8);
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
        let TraceEntry { int, .. } = btf.trace_entry(8);
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
        let TraceEntry { id: entry, int, .. } = btf.trace_entry(8);
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
    btf.trace_entry(8);
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
    let TraceEntry { int, .. } = btf.trace_entry(8);
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
    let TraceEntry { id: entry, int, .. } = btf.trace_entry(8);
    let unknown = btf.other("", 20 << 24 | 1, 4, &[7]);
    // The event's own class has a member of it; another has the same layout without.
    let members = [("ent", entry, 0), ("odd", unknown, 8)];
    btf.event_class("wake", 12, &members, &[0, unknown]);
    btf.event("wake", &[0, unknown]);
    let members = [("ent", entry, 0), ("odd", int, 8)];
    btf.event_class("other", 12, &members, &[0, int]);
    btf.event("sleep", &[0, int]);
    btf.layout(&[(0, 4)]);
    let (mut capture, context) = wake(&btf, &[("int odd", 8, 4)]);
    assert_eq!(context.evidence(), &Evidence::Named);
    let error = context.layout().expect_err("its size is not known");
    assert!(matches!(error, Error::Layout { .. }), "{error}");
    let text = with_causes(&error);
    assert!(text.contains("is of kind 20, which is not known"), "{text}");
    // Its field and its arguments may go with either class.
    capture.event("sched:sleep", COMMON, &[("int odd", 8, 4)]);
    let context = capture.context("sched:sleep");
    assert_eq!(context.candidates(), ["other", "wake"]);
    assert!(!context.evidence().is_proof(), "{:?}", context.evidence());
    let raw = capture
        .kernel()
        .raw_tracepoint("wake")
        .expect_err("not known either");
    assert!(with_causes(&raw).contains("kind 20"), "{raw}");
}

/// A module's object uses the layout of its base, as libbpf does.
#[test]
fn a_modules_unknown_kinds_are_in_its_bases_layout() {
    let mut vmlinux = BtfWriter::new(false);
    let TraceEntry { id: entry, int, .. } = vmlinux.trace_entry(8);
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

/// The types of vmlinux that a module refers to, and some that only look like them.
struct Shared {
    int: u32,
    entry: u32,
    state: u32,
    task: u32,
    inner: u32,
}

fn vmlinux_types(btf: &mut BtfWriter) -> Shared {
    let long = btf.int("long int", 8, true);
    let TraceEntry { id: entry, int, .. } = btf.trace_entry(8);
    btf.enumeration("state", &[("A", 0)]);
    let state = btf.enumeration64("wide");
    let task = btf.structure("task_struct", 64, &[("pid", int, 0), ("x", long, 8)]);
    // Of one name, and of another size.
    btf.structure("inner", 16, &[("a", long, 0), ("b", long, 8)]);
    let inner = btf.structure("inner", 8, &[("a", int, 0), ("b", int, 4)]);
    Shared {
        int,
        entry,
        state,
        task,
        inner,
    }
}

/// The shells of those types, in another order.
fn distilled_types(btf: &mut BtfWriter, entry_size: u32) -> Shared {
    Shared {
        task: btf.forward("task_struct", false),
        inner: btf.structure("inner", 8, &[]),
        entry: btf.structure("trace_entry", entry_size, &[]),
        state: btf.enumeration64("wide"),
        int: btf.int("int", 4, true),
    }
}

/// A module with an event, and everything that has ids and names in it.
fn module_types(btf: &mut BtfWriter, types: &Shared) {
    let pointer = btf.pointer(types.task);
    let constant = btf.constant(types.task);
    let to_constant = btf.pointer(constant);
    let array = btf.array(types.inner, 2);
    let own = btf.structure("mine", 24, &[("task", pointer, 0), ("inner", array, 8)]);
    let wide = btf.typedef("wide_t", types.state);
    let mode = btf.enumeration("mode", &[("OFF", 0), ("ON", 1)]);
    let union = btf.other("both", 5 << 24, 8, &[]);
    btf.other(".data", 15 << 24 | 1, 8, &[union, 0, 8]);
    let members = [
        ("ent", types.entry, 0),
        ("task", to_constant, 8),
        ("mine", own, 16),
        ("wide", wide, 40),
        ("mode", mode, 48),
        ("pid", types.int, 52),
    ];
    let parameters = [0, pointer, types.int, wide];
    btf.event_class("wake", 56, &members, &parameters);
    btf.event("wake", &parameters);
    let named = btf.named_prototype(&[
        ("__data", 0),
        ("t", pointer),
        ("pid", types.int),
        ("w", wide),
    ]);
    btf.function("__probestub_wake", named);
}

/// What a module built apart from its kernel refers to is looked up in the kernel's BTF:
/// then the module is read as one that was built with it.
#[test]
fn a_module_with_a_distilled_base() {
    for big_endian in [false, true] {
        let mut vmlinux = BtfWriter::new(big_endian);
        let shared = vmlinux_types(&mut vmlinux);
        let mut expected = BtfWriter::split(&vmlinux);
        module_types(&mut expected, &shared);
        let mut base = BtfWriter::new(big_endian);
        let shells = distilled_types(&mut base, 8);
        let mut split = BtfWriter::split(&base);
        module_types(&mut split, &shells);

        let vmlinux = Btf::vmlinux(vmlinux.bytes()).expect("sound");
        let expected = Btf::module("m", expected.bytes(), &vmlinux).expect("sound");
        let found = Btf::module_with_base("m", split.bytes(), base.bytes(), &vmlinux);
        let found = found.expect("each type is one of vmlinux's");
        let mut capture = Capture::new();
        let own = [
            ("const struct task_struct * task", 8, 8),
            ("struct mine mine", 16, 24),
            ("wide_t wide", 40, 8),
            ("enum mode mode", 48, 4),
            ("int pid", 52, 4),
        ];
        capture.event("m:wake", COMMON, &own);
        let tracepoint = capture.kernel().tracepoint("m:wake").expect("an event");
        let answers = [expected, found].map(|module| {
            assert!(module.defines("wake"));
            let objects = [vmlinux.clone(), module];
            let format = tracepoint.format().clone();
            let context = Context::resolve(tracepoint.name(), format, &objects);
            assert_eq!(context.evidence(), &Evidence::Named);
            assert_eq!(context.home(), Some("m"));
            let layout = context.layout().expect("a layout");
            let id = context.type_id();
            (serde_json::to_string(&layout).expect("JSON"), id)
        });
        assert_eq!(answers[0], answers[1]);
        assert!(
            answers[0].0.contains("\"c_type\":\"struct inner[2]\""),
            "{}",
            answers[0].0
        );
    }
}

#[test]
fn a_distilled_base_of_another_kernel() {
    let read = |change: &dyn Fn(&mut BtfWriter), entry_size| {
        let mut vmlinux = BtfWriter::new(false);
        vmlinux_types(&mut vmlinux);
        change(&mut vmlinux);
        let mut base = BtfWriter::new(false);
        let shells = distilled_types(&mut base, entry_size);
        let mut split = BtfWriter::split(&base);
        module_types(&mut split, &shells);
        let vmlinux = Btf::vmlinux(vmlinux.bytes()).expect("sound");
        Btf::module_with_base("m", split.bytes(), base.bytes(), &vmlinux)
    };
    let name_and_count = |error| match error {
        BtfError::Relocation { name, found, .. } => (name, found),
        other => panic!("{other}"),
    };
    read(&|_| (), 8).expect("as it is");
    // A struct that the module has inside one of its own has another size there.
    let error = read(&|_| (), 12).expect_err("another size");
    assert_eq!(name_and_count(error), ("trace_entry".to_owned(), 0));
    // Of one that it only points at the size does not matter, but there must be one.
    let two = |btf: &mut BtfWriter| {
        btf.structure("task_struct", 8, &[]);
    };
    let error = read(&two, 8).expect_err("two");
    assert_eq!(name_and_count(error), ("task_struct".to_owned(), 2));
    let declared = |btf: &mut BtfWriter| {
        btf.forward("task_struct", false);
    };
    read(&declared, 8).expect("a declaration is not another");
    let union = |btf: &mut BtfWriter| {
        btf.other("task_struct", 5 << 24, 64, &[]);
    };
    read(&union, 8).expect("a union is not it");
    let big = Btf::vmlinux(BtfWriter::new(true).bytes()).expect("sound");
    let base = BtfWriter::new(false);
    let split = BtfWriter::split(&base);
    let error = Btf::module_with_base("m", split.bytes(), base.bytes(), &big);
    assert_eq!(error.err(), Some(BtfError::Base));
}

/// It is not known what of a type of an unknown kind refers to others.
#[test]
fn unknown_kinds_are_not_relocated() {
    let mut base = BtfWriter::new(false);
    base.int("int", 4, true);
    let vmlinux = Btf::vmlinux(base.bytes()).expect("sound");
    let mut split = BtfWriter::split(&base);
    split.other("", 20 << 24, 1, &[1]);
    split.layout(&[(4, 0)]);
    Btf::module("m", split.bytes(), &vmlinux).expect("stepped over");
    let error = Btf::module_with_base("m", split.bytes(), base.bytes(), &vmlinux);
    assert_eq!(error.err(), Some(BtfError::Kind { id: 2, kind: 20 }));
}

/// Whatever the bytes are, the answer is an object or an error.
#[test]
fn damaged_distilled_bases_do_no_harm() {
    let mut vmlinux = BtfWriter::new(false);
    vmlinux_types(&mut vmlinux);
    let vmlinux = Btf::vmlinux(vmlinux.bytes()).expect("sound");
    let mut base = BtfWriter::new(false);
    let shells = distilled_types(&mut base, 8);
    let mut split = BtfWriter::split(&base);
    module_types(&mut split, &shells);
    let (base, split) = (base.bytes(), split.bytes());
    for (at, value) in
        (0..base.len().max(split.len())).flat_map(|at| [(at, 0), (at, 1), (at, 0xff)])
    {
        let damaged = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes
        };
        let _ = Btf::module_with_base("m", split.clone(), damaged(&base), &vmlinux);
        let _ = Btf::module_with_base("m", damaged(&split), base.clone(), &vmlinux);
    }
}
