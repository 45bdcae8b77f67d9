//! From an event to its class, on kernels made for one question each.

use crate::support;
use crate::support::btf::BtfWriter;
use crate::support::capture::{COMMON, Capture};
use tracepoints::{Context, Error, Evidence, Kernel, context::FormatReason};

/// The types every kernel below has, and a class's two fields.
pub(crate) struct Types {
    pub(crate) btf: BtfWriter,
    pub(crate) int: u32,
    pub(crate) unsigned: u32,
    pub(crate) void_pointer: u32,
    pub(crate) entry: u32,
    pub(crate) data: u32,
}

impl Types {
    pub(crate) fn new() -> Self {
        let mut btf = BtfWriter::new(false);
        btf.int("long int", 8, true);
        let int = btf.int("int", 4, true);
        let unsigned = btf.int("unsigned int", 4, false);
        let char = btf.int("char", 1, false);
        let short = btf.int("short unsigned int", 2, false);
        let void_pointer = btf.pointer(0);
        let members = [
            ("type", short, 0),
            ("flags", char, 2),
            ("preempt_count", char, 3),
            ("pid", int, 4),
        ];
        let entry = btf.structure("trace_entry", 8, &members);
        let data = btf.array(char, 0);
        Self {
            btf,
            int,
            unsigned,
            void_pointer,
            entry,
            data,
        }
    }

    /// The types a module adds to these.
    pub(crate) fn module(&self) -> Self {
        Self {
            btf: BtfWriter::split(&self.btf),
            ..*self
        }
    }

    /// A class with the fields `a`, at 8, and `__data_loc_b`, at 12, whose
    /// events take these arguments.
    pub(crate) fn class(&mut self, name: &str, arguments: &[u32]) -> u32 {
        let members = [
            ("ent", self.entry, 0),
            ("a", self.int, 8),
            ("__data_loc_b", self.unsigned, 12),
            ("__data", self.data, 16),
        ];
        let parameters = [&[self.void_pointer], arguments].concat();
        self.btf.event_class(name, 16, &members, &parameters)
    }

    pub(crate) fn event(&mut self, name: &str, arguments: &[u32]) {
        let parameters = [&[self.void_pointer], arguments].concat();
        self.btf.event(name, &parameters);
    }
}

/// Adds events with the record of [`Types::class`].
fn add_events(capture: &mut Capture, names: &[&str]) {
    for name in names {
        capture.event(
            name,
            COMMON,
            &[("int a", 8, 4), ("__data_loc char[] b", 12, 4)],
        );
    }
}

pub(crate) fn capture(types: &Types, names: &[&str]) -> Capture {
    let mut capture = Capture::new();
    add_events(&mut capture, names);
    capture.btf("vmlinux", &types.btf.bytes());
    capture
}

fn answer(context: &Context) -> (&str, Option<&str>, Option<&str>) {
    (context.evidence().as_str(), context.class(), context.home())
}

#[test]
fn a_struct_of_the_events_name_must_have_its_layout() {
    let mut types = Types::new();
    types.class("own", &[types.int]);
    types.event("own", &[types.int]);
    let mut capture = capture(&types, &["x:own"]);
    assert_eq!(
        answer(&capture.context("x:own")),
        ("named", Some("own"), Some("vmlinux"))
    );

    // The record of another kernel: a field moved, one resized, renamed, added,
    // or fixed where the struct has it dynamic; the common fields of another.
    let fields = [("int a", 8, 4), ("__data_loc char[] b", 12, 4)];
    for (common, own) in [
        (COMMON, vec![("int a", 12, 4), fields[1]]),
        (COMMON, vec![("long a", 8, 8), fields[1]]),
        (COMMON, vec![("int c", 8, 4), fields[1]]),
        (COMMON, vec![fields[0], fields[1], ("int c", 16, 4)]),
        (COMMON, vec![fields[0]]),
        (COMMON, vec![fields[0], ("int b", 12, 4)]),
        (COMMON, vec![fields[0], ("__rel_loc char[] b", 12, 4)]),
        (&COMMON[..3], fields.to_vec()),
        (
            &[COMMON, &[("unsigned char common_x", 8, 1)]].concat()[..],
            fields.to_vec(),
        ),
    ] {
        capture.event("x:own", common, &own);
        let reason = FormatReason::NotInHome {
            home: "vmlinux".into(),
        };
        assert_eq!(
            capture.context("x:own").evidence(),
            &Evidence::Format(reason),
            "{own:?}"
        );
    }
}

#[test]
fn an_object_that_does_not_define_the_event_is_not_its_home() {
    let mut types = Types::new();
    // A class of the event's name and layout, but of other events.
    types.class("alloc", &[types.int]);
    types.event("other", &[types.int]);
    let capture = capture(&types, &["x:alloc", "x:other"]);
    let alloc = capture.context("x:alloc");
    assert_eq!(
        alloc.evidence(),
        &Evidence::Format(FormatReason::NoModuleBtf)
    );
    assert_eq!(alloc.class(), None);
    assert_eq!(answer(&capture.context("x:other")).0, "template");
}

#[test]
fn a_class_of_the_layout_and_arguments() {
    let mut types = Types::new();
    types.class("template", &[types.int]);
    types.class("other_arguments", &[types.int, types.int]);
    types.event("event", &[types.int]);
    types.event("sibling", &[types.int]);
    types.event("stranger", &[types.int, types.int]);
    let names = ["x:event", "y:sibling", "x:stranger"];
    let capture = capture(&types, &names);
    assert_eq!(
        answer(&capture.context("x:event")),
        ("template", Some("template"), Some("vmlinux"))
    );
    let kernel = capture.kernel();
    let siblings = kernel
        .tracepoint("x:event")
        .and_then(|event| event.siblings())
        .expect("siblings");
    assert_eq!(siblings, ["y:sibling".parse().expect("a name")]);
}

/// `DEFINE_EVENT` may spell its arguments otherwise than its class, as long as
/// the compiler takes one for the other: xfs says `uint64_t` for
/// `xfs_fsblock_t`.
#[test]
fn arguments_are_compared_as_the_compiler_does() {
    let mut types = Types::new();
    let record = types.btf.structure("record", 4, &[]);
    let pointer = types.btf.pointer(record);
    let constant = types.btf.constant(record);
    let pointer_to_constant = types.btf.pointer(constant);
    let alias = types.btf.typedef("int_alias", types.int);
    let alias = types.btf.typedef("alias_alias", alias);
    let record_alias = types.btf.typedef("record_t", record);
    let pointer_to_alias = types.btf.pointer(record_alias);
    let constant_int = types.btf.constant(types.int);
    let enumeration = types.btf.enumeration("colour", &[("RED", 0)]);
    let enumeration64 = types.btf.enumeration64("large");
    let long = types.btf.int("long unsigned int", 8, false);
    let row_of_ints = types.btf.array(types.int, 6);
    let row_of_ints = types.btf.pointer(row_of_ints);
    let row_of_aliases = types.btf.array(alias, 6);
    let row_of_aliases = types.btf.pointer(row_of_aliases);
    let boolean = types.btf.int("_Bool", 1, false);
    let byte = types.btf.int("unsigned char", 1, false);
    let one_function = types.btf.prototype(&[types.int]);
    let one_function = types.btf.pointer(one_function);
    let same_function = types.btf.prototype(&[alias]);
    let same_function = types.btf.pointer(same_function);
    types.class("by_long", &[long, long]);
    types.class("by_row", &[row_of_ints]);
    types.class("by_bool", &[boolean]);
    types.class("by_byte", &[byte]);
    types.class("by_function", &[one_function]);
    types.event("enum64", &[enumeration64, long]);
    types.event("row", &[row_of_aliases]);
    types.event("bool", &[boolean]);
    types.event("function", &[same_function]);
    types.class("by_int", &[types.int]);
    types.class("by_unsigned_and_int", &[types.unsigned, types.int]);
    types.class("by_pointer", &[pointer]);
    types.class("by_pointer_to_constant", &[pointer_to_constant]);
    types.event("typedef", &[alias]);
    types.event("qualified", &[constant_int]);
    types.event("enum", &[enumeration, types.int]);
    types.event("pointer", &[pointer_to_alias]);
    types.event("pointer_to_constant", &[pointer_to_constant]);
    let names = [
        "x:typedef",
        "x:qualified",
        "x:enum",
        "x:enum64",
        "x:row",
        "x:bool",
        "x:function",
        "x:pointer",
        "x:pointer_to_constant",
    ];
    let capture = capture(&types, &names);
    for (name, class) in [
        ("x:typedef", "by_int"),
        ("x:qualified", "by_int"),
        ("x:enum", "by_unsigned_and_int"),
        ("x:enum64", "by_long"),
        ("x:row", "by_row"),
        ("x:bool", "by_bool"),
        ("x:function", "by_function"),
        ("x:pointer", "by_pointer"),
        ("x:pointer_to_constant", "by_pointer_to_constant"),
    ] {
        assert_eq!(
            answer(&capture.context(name)),
            ("template", Some(class), Some("vmlinux")),
            "{name}"
        );
    }
}

#[test]
fn a_class_whose_arguments_btf_does_not_say_is_not_ruled_out() {
    let mut types = Types::new();
    types.class("template", &[types.int]);
    let members = [
        ("ent", types.entry, 0),
        ("a", types.int, 8),
        ("__data_loc_b", types.unsigned, 12),
        ("__data", types.data, 16),
    ];
    types.btf.structure("trace_event_raw_silent", 16, &members);
    types.event("event", &[types.int]);
    let context = capture(&types, &["x:event"]).context("x:event");
    assert_eq!(context.evidence(), &Evidence::Ambiguous);
    assert_eq!(context.candidates(), ["silent", "template"]);
}

#[test]
fn of_several_classes_the_one_that_is_no_events_own_is_inferred() {
    let mut types = Types::new();
    types.class("template", &[types.int]);
    types.class("own", &[types.int]);
    types.event("own", &[types.int]);
    types.event("event", &[types.int]);
    let context = capture(&types, &["x:own", "x:event"]).context("x:event");
    assert_eq!(
        answer(&context),
        ("inferred", Some("template"), Some("vmlinux"))
    );
    assert_eq!(context.candidates(), ["own", "template"]);
    assert_eq!(context.struct_name(), Some("trace_event_raw_template"));
}

#[test]
fn several_templates_stay_ambiguous_unless_the_kernel_says() {
    let mut types = Types::new();
    types.class("red", &[types.int]);
    let blue = types.class("blue", &[types.int]);
    types.event("event", &[types.int]);
    let mut capture = capture(&types, &["x:event"]);
    let context = capture.context("x:event");
    assert_eq!(answer(&context), ("ambiguous", None, Some("vmlinux")));
    assert_eq!((context.struct_name(), context.type_id()), (None, None));
    assert_eq!(context.candidates(), ["blue", "red"]);
    // Every candidate reads the same bytes.
    let slot = context.slot_of("a").expect("types").expect("a slot");
    assert_eq!((slot.offset(), slot.size()), (8, 4));

    let ids = |id: u32| format!("btf_obj_id: 1\nraw_btf_id: 3\ntp_btf_id: {id}\n");
    capture.file("x:event", "btf_ids", ids(blue));
    let context = capture.context("x:event");
    assert_eq!(answer(&context), ("kernel", Some("blue"), Some("vmlinux")));
    assert_eq!(context.type_id(), Some(blue));
    // An id that is no candidate's, none at all, and nonsense settle nothing.
    for content in [
        ids(types.entry),
        ids(0),
        ids(u32::MAX),
        "tp_btf_id: x".into(),
        String::new(),
    ] {
        capture.file("x:event", "btf_ids", &content);
        assert_eq!(
            capture.context("x:event").evidence(),
            &Evidence::Ambiguous,
            "{content:?}"
        );
    }
}

/// Linux 5.4: a struct of the event's name may be that of a module's namesake.
#[test]
fn structs_without_typedefs_prove_nothing() {
    let mut types = Types::new();
    types.class("event", &[types.int]);
    let context = capture(&types, &["x:event"]).context("x:event");
    assert_eq!(
        context.evidence(),
        &Evidence::Format(FormatReason::NoEventsInBtf)
    );
    assert_eq!(answer(&context), ("format", None, None));
    assert_eq!(
        context.evidence().to_string(),
        "layout from the format file: this kernel's BTF does not say which events it defines"
    );
}

#[test]
fn an_event_of_a_module() {
    let types = {
        let mut types = Types::new();
        types.event("elsewhere", &[types.int]);
        types
    };
    let mut module = types.module();
    module.class("template", &[module.int]);
    module.event("event", &[module.int]);
    let mut capture = capture(&types, &["x:event", "x:unknown"]);
    let no_modules = capture.context("x:event");
    assert_eq!(
        no_modules.evidence(),
        &Evidence::Format(FormatReason::NoModuleBtf)
    );

    capture.btf("some_module", &module.btf.bytes());
    assert_eq!(
        answer(&capture.context("x:event")),
        ("template", Some("template"), Some("some_module"))
    );
    assert_eq!(
        capture.context("x:unknown").evidence(),
        &Evidence::Format(FormatReason::NoHome)
    );
    let objects = capture.kernel().btf_objects().expect("objects");
    assert_eq!(objects, ["vmlinux", "some_module"]);
    let layout = capture.context("x:event").layout().expect("a layout");
    let slots: Vec<_> = layout
        .slots()
        .iter()
        .map(|slot| (slot.name(), slot.c_type(), slot.offset(), slot.size()))
        .collect();
    assert_eq!(
        slots,
        [
            ("ent", "struct trace_entry", 0, 8),
            ("a", "int", 8, 4),
            ("__data_loc_b", "unsigned int", 12, 4),
            ("__data", "char[0]", 16, 0)
        ]
    );

    // A module whose BTF is broken is only in the way of what is not found.
    capture.btf("broken", b"no BTF at all, and longer than a header");
    assert_eq!(answer(&capture.context("x:event")).0, "template");
    let Evidence::Format(FormatReason::UnreadableModuleBtf { modules }) =
        capture.context("x:unknown").evidence().clone()
    else {
        panic!("an unreadable module");
    };
    assert_eq!(modules.len(), 1);
    assert!(modules[0].contains("broken: not BTF"), "{modules:?}");
}

#[test]
fn events_of_one_name_in_several_categories() {
    // Both in vmlinux's BTF: only one typedef, so that no answer is safe.
    let mut types = Types::new();
    types.class("event", &[types.int]);
    types.event("event", &[types.int]);
    let mut capture = capture(&types, &["x:event", "y:event"]);
    for name in ["x:event", "y:event"] {
        assert_eq!(
            capture.context(name).evidence(),
            &Evidence::Format(FormatReason::SharedName)
        );
    }

    // The other is of a module, and of another class with the same layout: which
    // is which cannot be told, but what fits can.
    let mut module = types.module();
    module.class("template", &[module.int, module.int]);
    module.event("event", &[module.int, module.int]);
    capture.btf("y", &module.btf.bytes());
    let context = capture.context("y:event");
    assert_eq!(context.evidence(), &Evidence::Ambiguous);
    assert_eq!(context.candidates(), ["event", "template"]);

    // Where both have a class of one name, that is the name.
    let mut module = types.module();
    module.class("event", &[module.int, module.int]);
    module.event("event", &[module.int, module.int]);
    capture.btf("y", &module.btf.bytes());
    // Whose it is, is not known.
    assert_eq!(
        answer(&capture.context("y:event")),
        ("named", Some("event"), None)
    );
    assert_eq!(capture.context("y:event").type_id(), None);
    assert_eq!(answer(&capture.context("x:event")).1, Some("event"));
}

/// One home's inference is no proof for the other's class.
#[test]
fn the_weaker_evidence_of_two_homes_counts() {
    let mut types = Types::new();
    types.class("t", &[types.int]);
    types.event("event", &[types.int]);
    let mut module = types.module();
    module.class("t", &[module.unsigned, module.unsigned]);
    module.class("own", &[module.unsigned, module.unsigned]);
    module.event("own", &[module.unsigned, module.unsigned]);
    module.event("event", &[module.unsigned, module.unsigned]);
    let mut capture = capture(&types, &["x:event", "y:event"]);
    capture.btf("mod", &module.btf.bytes());
    let context = capture.context("y:event");
    assert_eq!(answer(&context), ("ambiguous", None, None));
    assert_eq!(context.candidates(), ["own", "t"]);
}

/// The ids of two modules' types overlap: what `btf_ids` says is no answer where
/// the home is not known.
#[test]
fn an_id_of_no_known_home_says_nothing() {
    let mut types = Types::new();
    types.class("t", &[types.int]);
    types.event("event", &[types.int]);
    let mut module = types.module();
    let t = module.class("t", &[module.int, module.int]);
    module.class("u", &[module.int, module.int]);
    module.event("event", &[module.int, module.int]);
    let mut capture = capture(&types, &["x:event", "y:event"]);
    capture.btf("mod", &module.btf.bytes());
    capture.file(
        "y:event",
        "btf_ids",
        format!("btf_obj_id: 9\nraw_btf_id: 3\ntp_btf_id: {t}\n"),
    );
    let context = capture.context("y:event");
    assert_eq!(context.evidence(), &Evidence::Ambiguous);
    assert_eq!(context.candidates(), ["t", "u"]);
}

/// Someone's kprobe beside a tracepoint of the same name does not hide it.
#[test]
fn an_event_that_fits_nowhere_takes_no_home() {
    let mut types = Types::new();
    types.class("event", &[types.int]);
    types.event("event", &[types.int]);
    let mut capture = capture(&types, &["x:event"]);
    capture.event(
        "kprobes:event",
        COMMON,
        &[("unsigned long __probe_ip", 8, 8)],
    );
    assert_eq!(
        answer(&capture.context("x:event")),
        ("named", Some("event"), Some("vmlinux"))
    );
    assert_eq!(
        capture.context("kprobes:event").evidence().as_str(),
        "format"
    );
    let kernel = capture.kernel();
    let sections = |name: &str| {
        kernel
            .tracepoint(name)
            .and_then(|event| event.sections())
            .expect("sections")
    };
    assert_eq!(
        sections("x:event"),
        ["tracepoint/x/event", "raw_tp/event", "tp_btf/event"]
    );
    assert_eq!(sections("kprobes:event"), [""; 0]);
    let kprobe = capture.context("kprobes:event");
    assert_eq!(
        kprobe.evidence(),
        &Evidence::Format(FormatReason::ProbeEvent)
    );
    assert_eq!(kprobe.slot_of("__probe_ip").expect("a layout"), None);
}

/// pahole leaves out of a module's BTF what vmlinux's has to the letter.
#[test]
fn a_class_vmlinux_has_too_is_a_candidate() {
    let mut types = Types::new();
    types.class("shared", &[types.int]);
    let mut module = types.module();
    module.event("event", &[module.int]);
    let mut capture = capture(&types, &["x:event"]);
    capture.btf("mod", &module.btf.bytes());
    assert_eq!(
        answer(&capture.context("x:event")),
        ("template", Some("shared"), Some("vmlinux"))
    );
    module.class("other", &[module.int]);
    capture.btf("mod", &module.btf.bytes());
    let context = capture.context("x:event");
    assert_eq!(context.evidence(), &Evidence::Ambiguous);
    assert_eq!(context.candidates(), ["other", "shared"]);
}

/// One kernel object sees modules that are loaded after it was first asked.
#[test]
fn modules_loaded_later_are_found() {
    let mut types = Types::new();
    types.class("event", &[types.int]);
    types.event("event", &[types.int]);
    let mut module = types.module();
    module.class("template", &[module.int, module.int]);
    module.event("event", &[module.int, module.int]);
    module.event("new", &[module.int, module.int]);
    let mut capture = capture(&types, &["x:event"]);
    capture.btf("early", b"no BTF");
    let kernel = capture.kernel();
    let context = |name: &str| {
        kernel
            .tracepoint(name)
            .and_then(|event| event.context())
            .expect("a context")
    };
    assert_eq!(context("x:event").evidence(), &Evidence::Named);
    add_events(&mut capture, &["y:new", "y:event"]);
    assert_eq!(context("y:new").evidence().as_str(), "format");
    capture.btf("early", &module.btf.bytes());
    assert_eq!(
        answer(&context("y:new")),
        ("template", Some("template"), Some("early"))
    );
    assert_eq!(context("y:event").candidates(), ["event", "template"]);
}

#[test]
fn a_bitfield_is_no_field() {
    let mut types = Types::new();
    let flags = types.btf.bitfields("flags", 4, &[("a", types.int, 0, 3)]);
    let members = [("ent", types.entry, 0), ("a", flags, 8)];
    types
        .btf
        .event_class("nested", 12, &members, &[types.void_pointer, types.int]);
    // The struct of the event's name has in bits what the record has in bytes.
    let prototype = types.btf.prototype(&[types.void_pointer, types.int]);
    types.btf.function("__bpf_trace_event", prototype);
    types.btf.bitfields(
        "trace_event_raw_event",
        12,
        &[("ent", types.entry, 0, 0), ("a", types.int, 64, 32)],
    );
    types.event("event", &[types.int]);
    let mut capture = Capture::new();
    capture
        .event("x:event", COMMON, &[("int a", 8, 4)])
        .btf("vmlinux", &types.btf.bytes());
    assert_eq!(answer(&capture.context("x:event")).1, Some("nested"));
}

/// Two functions of one name with other arguments say nothing.
#[test]
fn arguments_that_contradict_each_other_rule_nothing_out() {
    let mut types = Types::new();
    let other = types.btf.prototype(&[types.void_pointer]);
    types.btf.function("__bpf_trace_one", other);
    types.class("one", &[types.int]);
    types.class("two", &[types.int]);
    types.event("event", &[types.int]);
    let context = capture(&types, &["x:event"]).context("x:event");
    assert_eq!(context.candidates(), ["one", "two"]);
}

#[test]
fn a_broken_vmlinux_is_an_error_and_none_is_not() {
    let types = Types::new();
    let mut capture = capture(&types, &["x:event", "syscalls:sys_enter_x"]);
    let bytes = types.btf.bytes();
    for broken in [
        &bytes[..10],
        &bytes[..40],
        &bytes[..bytes.len() - 1],
        b"\x9f\xeb\x02\x00aaaaaaaaaaaaaaaaaaaaaaaa",
    ] {
        capture.btf("vmlinux", broken);
        for name in ["x:event", "syscalls:sys_enter_x"] {
            let kernel = capture.kernel();
            let error = kernel
                .tracepoint(name)
                .and_then(|event| event.context())
                .expect_err("broken");
            assert!(matches!(error, Error::Btf { .. }), "{error}");
        }
    }
    std::fs::remove_dir_all(capture.root().join("btf")).expect("removed");
    let kernel = capture.kernel();
    assert!(matches!(kernel.btf_objects(), Err(Error::NoBtf { .. })));
    let context = kernel
        .tracepoint("x:event")
        .and_then(|event| event.context())
        .expect("a context");
    assert_eq!(context.evidence(), &Evidence::Format(FormatReason::NoBtf));
    assert_eq!(context.layout().expect("the record's").slots().len(), 2);
}

/// The answers the captured kernels are known for.
#[test]
fn on_captured_kernels() {
    for (kernel, event, expected) in [
        ("5.10.223-x86_64", "xfs:kmem_alloc", ("format", None, None)),
        (
            "6.1.192-rt-x86_64",
            "sched:sched_process_exit",
            ("template", Some("sched_process_template"), Some("vmlinux")),
        ),
        (
            "6.18.15-x86_64",
            "sched:sched_process_exit",
            ("named", Some("sched_process_exit"), Some("vmlinux")),
        ),
        (
            "6.18.15-x86_64",
            "irq_vectors:vector_deactivate",
            ("template", Some("vector_activate"), Some("vmlinux")),
        ),
        (
            "6.18.15-x86_64",
            "xfs:xfs_ilock",
            ("template", Some("xfs_lock_class"), Some("xfs")),
        ),
        (
            "5.10.223-x86_64",
            "block:block_rq_complete",
            ("named", Some("block_rq_complete"), Some("vmlinux")),
        ),
        (
            "6.18.15-x86_64",
            "block:block_rq_complete",
            ("template", Some("block_rq_completion"), Some("vmlinux")),
        ),
    ] {
        let kernel = Kernel::at(support::fixture(kernel)).expect("a kernel");
        let context = kernel
            .tracepoint(event)
            .and_then(|event| event.context())
            .expect("a context");
        assert_eq!(answer(&context), expected, "{event}");
    }
}
