//! Format files of shapes that current server kernels do not write, each in a captured
//! kernel.

use crate::emit::every_event::{check_c, check_rust};
use crate::support;
use crate::support::capture::{COMMON, Capture};
use crate::support::compilers::has;
use tracepoints::emit::skeleton_c;
use tracepoints::format::{FieldKind, RepairKind};
use tracepoints::record::Value;
use tracepoints::text::Addresses;
use tracepoints::{ByteOrder, Kernel, Machine, Record, Tracepoint};

const COMMON_LINES: &str = "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
    \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
    \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
    \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n";

fn with(name: &str, text: &str) -> Capture {
    let mut capture = Capture::new();
    capture.file(name, "format", text).list(name);
    capture
}

fn head(event: &str) -> String {
    format!("name: {event}\nID: 7\nformat:\n")
}

fn tracepoint(capture: &Capture, name: &str) -> Tracepoint {
    capture.kernel().tracepoint(name).expect(name)
}

/// Before Linux 3.11 the file of an event without fields ends after the common ones
/// (Android's 3.4 and 3.10), and those of remotes and of pKVM have one empty line.
#[test]
fn events_without_fields() {
    let old = format!("{}{COMMON_LINES}\n", head("switch_end"));
    let now = format!("{}{COMMON_LINES}\n\nprint fmt: \"done\"\n", head("done"));
    let remote = format!(
        "{}\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
         print fmt: \" \",\n",
        head("hyp_enter")
    );
    let mut capture = with("sched:switch_end", &old);
    capture
        .file("x:done", "format", &now)
        .list("x:done")
        .file("hypervisor:hyp_enter", "format", &remote)
        .list("hypervisor:hyp_enter");
    let kernel = capture.kernel();
    for (name, text, print_fmt) in [
        ("sched:switch_end", &old, ""),
        ("x:done", &now, "\"done\""),
        ("hypervisor:hyp_enter", &remote, "\" \","),
    ] {
        let tracepoint = kernel.tracepoint(name).expect(name);
        let format = tracepoint.format();
        assert!(format.fields().is_empty() && format.repairs().is_empty());
        assert_eq!((&format.to_string(), format.print_fmt()), (text, print_fmt));
        let machine = Machine::new(ByteOrder::Little, true);
        let renderer = tracepoints::Renderer::new(tracepoint.name(), format, machine);
        assert_eq!(renderer.is_ok(), !print_fmt.is_empty(), "{name}");
        let context = tracepoint.context().expect("a context");
        assert_eq!(context.layout().expect("a layout").slots().len(), 0);
        skeleton_c(&tracepoint).expect("a program");
    }
    let names = kernel.events().expect("events");
    let found = kernel.contexts(names.names()).expect("all");
    assert_eq!(found.filter(|found| found.is_ok()).count(), 3);
}

/// A kernel with BTF is none of those that end a file early: there it was cut.
#[test]
fn a_file_that_ends_early_on_a_kernel_with_btf() {
    let old = format!("{}{COMMON_LINES}\n", head("switch_end"));
    let mut capture = with("sched:switch_end", &old);
    capture
        .kernel()
        .tracepoint("sched:switch_end")
        .expect("old");
    capture.btf("vmlinux", b"");
    let error = capture
        .kernel()
        .tracepoint("sched:switch_end")
        .expect_err("cut");
    assert!(error.is_of_one_event(), "{error}");
    let text = support::with_causes(&error);
    assert!(
        text.contains("line 9: expected fields or a print fmt"),
        "{text}"
    );
}

/// A file that ends after its own fields is cut: no kernel writes one.
#[test]
fn a_cut_file_is_no_event_without_fields() {
    let cut = format!(
        "{}{COMMON_LINES}\n\tfield:int x;\toffset:8;\tsize:4;\tsigned:1;\n\n",
        head("x")
    );
    let capture = with("a:x", &cut);
    let error = capture.kernel().tracepoint("a:x").expect_err("cut");
    assert!(error.is_of_one_event(), "{error}");
}

/// Files pasted into a bug report have spaces for tabs; the answer says that they were.
#[test]
fn pasted_files() {
    let good = format!(
        "{}{COMMON_LINES}\n\tfield:nid_t nid[3];\toffset:24;\tsize:12;\tsigned:0;\n\n\
         print fmt: \"nid = %u\", REC->nid[0]\n",
        head("nodes")
    );
    let as_is = with("f2fs:nodes", &good);
    assert!(
        tracepoint(&as_is, "f2fs:nodes")
            .format()
            .repairs()
            .is_empty()
    );
    let pasted = good.replace('\t', "        ").replace('\n', "\r\n");
    let capture = with("f2fs:nodes", &pasted);
    let tracepoint = tracepoint(&capture, "f2fs:nodes");
    let format = tracepoint.format();
    assert_eq!(format.to_string(), good);
    let repairs: Vec<_> = format.repairs().iter().map(|repair| repair.kind).collect();
    assert_eq!(repairs, [RepairKind::LineEnd, RepairKind::WhiteSpace]);
    let json = serde_json::to_value(format).expect("JSON");
    assert_eq!(json["repairs"][1]["kind"], "white_space");
    assert_eq!(json["repairs"][1]["count"], 5);
}

const WAKE: [(&str, u32, u32); 5] = [
    ("u64 lat", 8, 8),
    ("char[16] comm", 16, 16),
    ("unsigned char[4] mac", 32, 4),
    ("char[8] name", 36, 8),
    ("unsigned short [2] ports", 44, 4),
];

/// Fields of synthetic events and `user_events` may have the bracket in the type.
#[test]
fn arrays_whose_bracket_is_in_the_type() {
    let mut capture = Capture::new();
    capture.event("synthetic:wake", COMMON, &WAKE);
    let tracepoint = tracepoint(&capture, "synthetic:wake");
    let mut bytes = vec![0; 48];
    bytes[8] = 77;
    bytes[16..20].copy_from_slice(b"bash");
    bytes[32..36].copy_from_slice(&[1, 2, 3, 4]);
    bytes[36..44].copy_from_slice(b"bob\0junk");
    bytes[44..48].copy_from_slice(&[1, 0, 2, 0]);
    let machine = Machine::new(ByteOrder::Little, true);
    let record = Record::new(tracepoint.format(), &bytes, machine);
    let values = record.fields().map(|(field, value)| {
        let value = serde_json::to_string(&value.expect("a value")).expect("JSON");
        format!("{} {} {value}", field.name(), field.kind())
    });
    assert_eq!(
        values.collect::<Vec<_>>(),
        [
            "lat scalar 77",
            "comm array \"bash\"",
            "mac array [1,2,3,4]",
            "name array \"bob\"",
            "ports array [1,2]",
        ]
    );
    let program = skeleton_c(&tracepoint).expect("a program");
    for member in [" comm[16];", " mac[4];", " name[8];", " ports[2];"] {
        assert!(program.contains(member), "{member}: {program}");
    }
    let dir = tempfile::tempdir().expect("a directory");
    if has("clang") {
        check_c(capture.root(), dir.path());
    }
    check_rust(capture.root(), dir.path());
}

/// A probe's argument of type `string[2]`, and of `string[1]`.
#[test]
fn arrays_of_locations() {
    let text = format!(
        "{}{COMMON_LINES}\n\
         \tfield:unsigned long __probe_ip;\toffset:8;\tsize:8;\tsigned:0;\n\
         \tfield:__data_loc char[][2] names;\toffset:16;\tsize:8;\tsigned:1;\n\
         \tfield:__data_loc char[][1] one;\toffset:24;\tsize:4;\tsigned:1;\n\
         \tfield:u8 b;\toffset:28;\tsize:1;\tsigned:0;\n\n\
         print fmt: \"(%lx) names={{\\\"%s\\\",\\\"%s\\\"}} one={{\\\"%s\\\"}} b=%u [%s]\", REC->__probe_ip, \
         __get_str(names[0]), __get_str(names[1]), __get_str(one[0]), REC->b, __get_str(names[2])\n",
        head("ev")
    );
    let capture = with("probes:ev", &text);
    let kernel: Kernel = capture.kernel().with_byte_order(ByteOrder::Big);
    let tracepoint = kernel.tracepoint("probes:ev").expect("an event");
    let format = tracepoint.format();
    let names = format.field("names").expect("there");
    assert_eq!(
        (names.kind(), names.element_count()),
        (FieldKind::DataLocArray, Some(2))
    );
    for order in [ByteOrder::Little, ByteOrder::Big] {
        let machine = Machine::new(order, true);
        let word = |word: u32| match order {
            ByteOrder::Little => word.to_le_bytes(),
            ByteOrder::Big => word.to_be_bytes(),
        };
        let mut bytes = vec![0; 16];
        for location in [4 << 16 | 32, 4 << 16 | 36, 6 << 16 | 40] {
            bytes.extend(word(location));
        }
        bytes.extend([7, 0, 0, 0]);
        bytes.extend(b"one\0two\0three\0");
        let record = Record::new(format, &bytes, machine);
        let value = record.value(names).expect("two");
        assert!(matches!(value, Value::Texts(texts) if texts.iter().eq([b"one", b"two"])));
        let renderer = renderer_on(&tracepoint, machine);
        let mut text = String::new();
        renderer.render(&record, &Addresses::new(), &mut text);
        // There is no third name, so that none is shown.
        assert!(
            text.contains("names={\"one\",\"two\"} one={\"three\"} b=7 [<"),
            "{text}"
        );
    }
}

fn renderer_on(tracepoint: &Tracepoint, machine: Machine) -> tracepoints::Renderer {
    let renderer = tracepoints::Renderer::new(tracepoint.name(), tracepoint.format(), machine);
    renderer.expect("a print fmt")
}
