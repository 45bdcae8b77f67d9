//! Texts that depend on more than the record.

use std::fs;

use super::{Bytes, LITTLE, format};
use crate::support::capture::{COMMON, Capture};
use tracepoints::format::Format;
use tracepoints::text::{Addresses, FlagColumns, TaskNames, TraceContext};
use tracepoints::{ByteOrder, EventName, Record, Renderer};

/// What else texts depend on, a kernel knows: its version, symbols, events made at run
/// time, names of flags.
#[test]
fn what_a_captured_kernel_knows() {
    let mut capture = Capture::new();
    let header = "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\
        \tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
        \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\
        \tfield: char data;\toffset:16;\tsize:4080;\tsigned:1;\n";
    let call = [
        ("int __syscall_nr", 8, 4),
        ("unsigned int oldfd", 16, 8),
        ("pid_t pid", 24, 8),
    ];
    let kmalloc = format(
        "kmalloc",
        &[("unsigned long gfp_flags", 8, 8)],
        "\"%s\", __print_flags(REC->gfp_flags, \"|\", { 0x40, \"GFP_X\" }, { 1, \"__GFP_Y\" })",
    );
    let open = format(
        "open",
        &[("u32 flags", 8, 4)],
        "\" flags=0x%x\", REC->flags",
    );
    capture
        .event("syscalls:sys_enter_mine", COMMON, &call)
        .file("eprobes:open", "format", open.to_string())
        .list("eprobes:open")
        .event("synthetic:wake", COMMON, &[("gfp_t flags", 8, 4)])
        .event(
            "ftrace:function",
            COMMON,
            &[
                ("unsigned long ip", 8, 8),
                ("unsigned long parent_ip", 16, 8),
            ],
        )
        .file("kmem:kmalloc", "format", kmalloc.to_string())
        .list("kmem:kmalloc");
    let tracing = capture.root().join("tracing");
    let write = |file: &str, text: &str| fs::write(tracing.join(file), text).expect("a file");
    write("events/header_page", header);
    write(
        "dynamic_events",
        "e:eprobes/open syscalls/sys_enter_openat fl=$flags:x32\n",
    );
    write("trace_clock", "local [counter]\n");
    write("saved_cmdlines", "7 cat\n");
    write("saved_tgids", "7 6\n");
    let lines = |capture: &Capture| {
        let kernel = capture.kernel().with_byte_order(ByteOrder::Little);
        let names = kernel.task_names().expect("names");
        let style = kernel.trace_style().expect("a style");
        let addresses = kernel.addresses().expect("addresses");
        let mut out = Vec::new();
        for (event, words) in [
            ("syscalls:sys_enter_mine", &[2, 0x1f, -5_i64 as u64][..]),
            ("eprobes:open", &[5]),
            ("synthetic:wake", &[0x41]),
            ("ftrace:function", &[0x1004, 0x2008]),
        ] {
            let mut bytes = Bytes::new(LITTLE);
            bytes.words(words);
            let tracepoint = kernel.tracepoint(event).expect(event);
            let format = tracepoint.format();
            let renderer = kernel.renderer(tracepoint.name(), format, LITTLE);
            let record = Record::new(format, &bytes.1, LITTLE);
            let context = TraceContext::new(&record, 0, 42, &names, style).expect("whole");
            let renderer = renderer.expect("a print fmt");
            let written = renderer.write_line(&record, &context, &addresses, &mut out);
            written.expect("a whole record");
        }
        String::from_utf8(out).expect("text")
    };
    insta::assert_snapshot!("of-a-kernel-of-unknown-version", lines(&capture));
    let proc = capture.root().join("proc");
    fs::create_dir(&proc).expect("a directory");
    fs::write(proc.join("version"), "Linux version 5.8.13 (x)\n").expect("a file");
    let kallsyms = "0000000000001000 T f\n0000000000001800 T _etext\n0000000000002000 t g\t[m]\n0000000000003000 T end\n";
    fs::write(proc.join("kallsyms"), kallsyms).expect("a file");
    fs::create_dir(capture.root().join("tracing/options")).expect("a directory");
    write("options/record-tgid", "0\n");
    insta::assert_snapshot!("of-linux-5.8", lines(&capture));
    let kernel = capture.kernel().with_byte_order(ByteOrder::Little);
    let call = kernel
        .tracepoint("syscalls:sys_enter_mine")
        .expect("an event");
    let mut bytes = Bytes::new(LITTLE);
    bytes.words(&[2, 0x1_0000_001f, 0x5_ffff_fffb]);
    let record = Record::new(call.format(), &bytes.1, LITTLE);
    let values = record
        .fields()
        .map(|(_, value)| value.expect("whole").to_string());
    assert_eq!(values.collect::<Vec<_>>(), ["2", "31", "-5"]);
}

/// Records of a hypervisor have no process, and their lines no colon after the name.
#[test]
fn records_of_a_remote() {
    let line = |own: &str, print_fmt: &str, bytes: &[u8]| {
        let text = format!(
            "name: host_smc\nID: 3\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
            {own}\nprint fmt: {print_fmt}\n"
        );
        let format = Format::parse(&text).expect("a format");
        let name: EventName = "hypervisor:host_smc".parse().expect("a name");
        let renderer = Renderer::new(&name, &format, LITTLE).expect("a print fmt");
        let record = Record::new(&format, bytes, LITTLE);
        let names = TaskNames::default();
        let style = FlagColumns::Five;
        let context = TraceContext::new(&record, 2, 1_234_567_999, &names, style).expect("whole");
        let mut line = Vec::new();
        let written = renderer.write_line(&record, &context, &Addresses::new(), &mut line);
        written.expect("a whole record");
        String::from_utf8(line).expect("text")
    };
    let id = "\tfield:u64 id;\toffset:2;\tsize:8;\tsigned:0;\n";
    assert_eq!(
        line(id, "\"id=%llu\", REC->id", &[3, 0, 5, 0, 0, 0, 0, 0, 0, 0]),
        "[002]\t    1.234567: host_smc id=5\n"
    );
    assert_eq!(
        line("", "\" \"", &[3, 0]),
        "[002]\t    1.234567: host_smc\n"
    );
}
