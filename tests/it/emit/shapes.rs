//! Emitted source of single events of each shape, and with each option.

use crate::support;
use crate::support::btf::{BtfWriter, TraceEntry};
use crate::support::capture::{COMMON, Capture};
use tracepoints::Error;
use tracepoints::emit::{CHeader, COptions, RustModule, skeleton_c, skeleton_rust};

/// A program for each way to read a field, and for fields whose place differs between
/// kernels.
#[test]
fn programs() {
    let mut text = String::new();
    for (kernel, event) in [
        ("6.18.15-x86_64", "sched:sched_process_exec"),
        ("7.3.4-x86_64", "syscalls:sys_enter_unlinkat"),
        ("6.1.192-rt-x86_64", "syscalls:sys_enter_unlinkat"),
        ("6.12.107-s390x", "syscalls:sys_exit_unlinkat"),
        ("6.18.15-x86_64", "ipi:ipi_send_cpumask"),
        ("6.1.176-i686", "fib:fib_table_lookup"),
    ] {
        let kernel = support::kernel(kernel);
        let tracepoint = kernel.tracepoint(event).expect("an event");
        text += &skeleton_c(&tracepoint).expect("a program");
        text += "\n";
        text += &skeleton_rust(&tracepoint).expect("a program");
        text += "\n";
    }
    insta::assert_snapshot!(text);
}

#[test]
fn contexts_without_what_they_need() {
    let kernel = support::kernel("6.18.15-x86_64");
    let mut header = CHeader::new(COptions::default().contexts_only(true).assertions(false));
    let tracepoint = kernel
        .tracepoint("raw_syscalls:sys_exit")
        .expect("an event");
    header.add(&tracepoint).expect("a struct");
    assert_eq!(
        header.to_string(),
        "struct trace_event_raw_sys_exit {\n\tstruct trace_entry ent;\n\tlong int id;\n\tlong int ret;\n\tchar __data[0];\n};\n"
    );
}

/// CO-RE relocates by the struct's name, so an event without one is an error.
#[test]
fn core_takes_a_struct_with_a_name() {
    let options = COptions::default()
        .preserve_access_index(true)
        .assertions(false);
    let header = |kernel: &str, event: &str| {
        let kernel = support::kernel(kernel);
        let mut header = CHeader::new(options);
        let added = header.add(&kernel.tracepoint(event).expect("an event"));
        added.map(|_| header.to_string())
    };
    let text = header("6.18.15-x86_64", "sched:sched_switch").expect("a struct");
    assert!(text.starts_with(
        "#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)\n"
    ));
    assert!(text.ends_with("#pragma clang attribute pop\n"));
    for (kernel, event) in [
        ("6.18.15-x86_64", "nfs4:nfs4_read"),
        ("6.1.176-i686", "sched:sched_switch"),
    ] {
        assert!(
            matches!(header(kernel, event), Err(Error::NoStruct { .. })),
            "{event}"
        );
    }
}

/// Text from a format file is emitted in comments, and cannot end them.
#[test]
fn a_comment_ends_where_it_should() {
    let mut capture = Capture::new();
    capture.event("x:event", COMMON, &[("int */ int leak[1], /* a", 8, 4)]);
    let kernel = capture.kernel();
    let event = kernel.tracepoint("x:event").expect("an event");
    let mut header = CHeader::new(COptions::default());
    header.add(&event).expect("C");
    let program = skeleton_c(&event).expect("a program");
    for text in [header.to_string(), program] {
        assert!(text.contains("/* int * / int leak[1], / *"), "{text}");
        assert!(!text.contains("*/ int leak"), "{text}");
    }
}

/// An anonymous struct is named after its member, whose name may be a keyword of Rust.
#[test]
fn an_anonymous_struct_called_match() {
    let mut btf = BtfWriter::new(false);
    let TraceEntry { id: entry, int, .. } = btf.trace_entry(8);
    let anonymous = btf.structure("", 4, &[("x", int, 0)]);
    let void_pointer = btf.pointer(0);
    let members = [("ent", entry, 0), ("match", anonymous, 8)];
    btf.event_class("event", 12, &members, &[void_pointer]);
    btf.event("event", &[void_pointer]);
    let mut capture = Capture::new();
    capture
        .event("x:event", COMMON, &[("struct pair match", 8, 4)])
        .btf("vmlinux", &btf.bytes());
    let kernel = capture.kernel();
    let mut module = RustModule::new();
    let event = kernel.tracepoint("x:event").expect("an event");
    module.add(&event).expect("Rust");
    let text = module.to_string();
    assert!(text.contains("pub struct trace_event_raw_event_match {"));
    assert!(text.contains("pub r#match: trace_event_raw_event_match,"));
}
