//! Events made at run time: synthetic ones and probes'.

use super::{BIG, Bytes, CALLER, INNER, LITTLE, SCHEDULE, format, text, text_with};
use tracepoints::text::{Addresses, FlagColumns, TaskNames, TraceContext, TraceStyle};
use tracepoints::{EventName, Record, Renderer};

/// Dynamic fields are words of which the first four bytes are the location; the rest
/// says nothing. Old print fmts have commas, and `%.*s` with one argument.
#[test]
fn synthetic_events() {
    let own = [
        ("u64 lat", 8, 8),
        ("s16 small", 16, 2),
        ("char comm[16]", 24, 16),
        ("__data_loc char[] name", 280, 8),
        ("__data_loc unsigned long[] stack", 288, 8),
        ("gfp_t flags", 296, 4),
        ("pid_t pid", 304, 4),
    ];
    let format = format(
        "wake",
        &own,
        "\"lat=%llu, small=%d, comm=%.*s, name=%.*s\", REC->lat, REC->small, REC->comm, \
        __get_str(name)",
    );
    for machine in [LITTLE, BIG] {
        let mut bytes = Bytes::new(machine);
        bytes
            .number(77, 8)
            .number(-2_i64 as u64, 2)
            .text(&[0xee; 6]);
        bytes.text(b"longer than sixteen\0").text(&[0xee; 236]);
        let location = |start: u64, length: u64| length << 16 | start;
        bytes.number(location(312, 4), 4).text(&[0xee; 4]);
        bytes.number(location(316, 24), 4).text(&[0xee; 4]);
        bytes.number(0x41, 4).text(&[0xee; 4]);
        bytes.number(-1_i64 as u64, 4).text(&[0xee; 4]);
        bytes.text(b"abc\0").words(&[2, SCHEDULE + 1, INNER]);
        assert_eq!(
            text("synthetic:wake", &format, &bytes),
            "wake: lat=77 small=65534 comm=longer than sixteen name=abc stack=STACK:\n\
            => schedule+0x1/0x100\n\
            => inner+0x0/0xc0 [module]\n\
            flags=41  (<names of flags>)pid=-1\n"
        );
    }
}

#[test]
fn probes_in_the_kernel() {
    let entry = format(
        "mine",
        &[
            ("unsigned long __probe_ip", 8, 8),
            ("__data_loc char[] path", 16, 4),
            ("u32 n", 20, 4),
        ],
        "\"(%lx) path=\\\"%s\\\" n=%u\", REC->__probe_ip, __get_str(path), REC->n",
    );
    let shown = |name: &str, address: u64, length: u64| {
        let mut bytes = Bytes::new(LITTLE);
        bytes.words(&[address]).number(length << 16 | 24, 4);
        bytes.number(5, 4).text(b"/x\0");
        text(name, &entry, &bytes)
    };
    // In a category of real events, under the name of a system call's, or any.
    for name in ["kprobes:mine", "sched:mine", "syscalls:sys_enter_mine"] {
        let event = name.split_once(':').expect("a name").1;
        assert_eq!(
            shown(name, SCHEDULE + 4, 3),
            format!("{event}: (schedule+0x4/0x100) path=\"/x\" n=5\n")
        );
    }
    assert_eq!(
        shown("kprobes:mine", INNER, 0),
        "mine: (inner+0x0/0xc0 [module]) path=(fault) n=5\n"
    );
    let exit = format(
        "mine",
        &[
            ("unsigned long __probe_func", 8, 8),
            ("unsigned long __probe_ret_ip", 16, 8),
            ("s64 ret", 24, 8),
        ],
        "\"(%lx <- %lx) ret=%Ld\", REC->__probe_func, REC->__probe_ret_ip, REC->ret",
    );
    let mut bytes = Bytes::new(BIG);
    bytes.words(&[SCHEDULE, CALLER + 0x52, -3_i64 as u64]);
    assert_eq!(
        text("fprobes:mine", &exit, &bytes),
        "mine: (caller+0x52/0x80 <- schedule) ret=-3\n"
    );
    assert_eq!(
        text("uprobes:mine", &exit, &bytes),
        "mine: (0xffffffff81000152 <- 0xffffffff81000000) ret=-3\n"
    );
}

#[test]
fn probes_of_programs() {
    let entry = format(
        "ev",
        &[
            ("unsigned long __probe_ip", 8, 8),
            ("__data_loc char[][3] names", 16, 12),
        ],
        "\"(%lx) names={\\\"%s\\\",\\\"%s\\\",\\\"%s\\\"}\", REC->__probe_ip, \
        __get_str(names[0]), __get_str(names[1]), __get_str(names[2])",
    );
    let mut bytes = Bytes::new(LITTLE);
    bytes.words(&[0x40_1136]);
    bytes
        .number(4 << 16 | 28, 4)
        .number(28, 4)
        .number(2 << 16 | 32, 4);
    bytes.text(b"one\0\xc3\0");
    let line = |name: &str, dynamic_events: &'static str| {
        let style = TraceStyle::new(FlagColumns::Five);
        let name: &str = name;
        let mut line = Vec::new();
        let event: EventName = name.parse().expect("a name");
        let renderer = Renderer::new(&event, &entry, LITTLE).expect("a print fmt");
        let renderer = renderer.with_dynamic_events(dynamic_events);
        let record = Record::new(&entry, &bytes.1, LITTLE);
        let names = TaskNames::default();
        let context = TraceContext::new(&record, 0, 0, &names, style).expect("whole");
        let addresses =
            Addresses::new().with_kallsyms("0000000000400000 T low\n0000000000500000 T end\n");
        let written = renderer.write_line(&record, &context, &addresses, &mut line);
        written.expect("a whole record");
        line.split_off(context.to_string().len())
    };
    // Bytes that are not UTF-8 are the kernel's.
    let user = b"ev: (0x401136) names={\"one\",(fault),\"\xc3\"}\n";
    let kernel = b"ev: (low+0x1136/0x100000) names={\"one\",(fault),\"\xc3\"}\n";
    assert_eq!(line("uprobes:ev", ""), user);
    assert_eq!(line("probes:ev", "p:probes/ev /bin/true:0x1136"), user);
    // A machine whose kernel has addresses of its own.
    assert_eq!(line("probes:ev", "p:probes/ev low+0x1136"), kernel);
    let record = Record::new(&entry, &bytes.1, LITTLE);
    let value = record.value(&entry.fields()[1]).expect("three strings");
    assert_eq!(value.to_string(), "[\"one\", \"\", \"\u{fffd}\"]");
    let json = serde_json::to_string(&value).expect("JSON");
    assert_eq!(json, "[\"one\",\"\",\"\u{fffd}\"]");
}

#[test]
fn probes_of_events() {
    let format = format(
        "open",
        &[("__data_loc char[] file", 8, 4), ("u32 flags", 12, 4)],
        "\" file=\\\"%s\\\" flags=0x%x\", __get_str(file), REC->flags",
    );
    let mut bytes = Bytes::new(LITTLE);
    bytes.number(2 << 16 | 16, 4).number(0x80, 4).text(b"x\0");
    let shown = |dynamic_events: &'static str| {
        let style = TraceStyle::new(FlagColumns::Five);
        text_with("eprobes:open", &format, &bytes, style, |renderer| {
            renderer.with_dynamic_events(dynamic_events)
        })
    };
    assert_eq!(
        shown("p:kprobes/open x\ne:eprobes/open syscalls.sys_enter_openat file=+0($a):ustring\n"),
        "open: (syscalls.sys_enter_openat) file=\"x\" flags=0x80\n"
    );
    assert_eq!(shown(""), "open: (<event>) file=\"x\" flags=0x80\n");
}
