//! Events the kernel prints by code of its own, whatever their print fmts say: those of
//! ftrace's own, probes' and synthetic ones.

use std::fs;

use crate::support::capture::{COMMON, Capture};
use proptest::prelude::*;
use tracepoints::format::Format;
use tracepoints::text::{Addresses, FlagColumns, TaskNames, TraceClock, TraceContext, TraceStyle};
use tracepoints::{ByteOrder, EventName, Machine, Record, Renderer};

const LITTLE: Machine = Machine::new(ByteOrder::Little, true);
const BIG: Machine = Machine::new(ByteOrder::Big, true);
const SMALL: Machine = Machine::new(ByteOrder::Little, false);

const KALLSYMS: &str = "\
ffffffff81000000 T schedule
ffffffff81000100 T caller
ffffffff81000200 t inner\t[module]
ffffffff81000300 t arch_rethook_trampoline
ffffffff81000400 T end
";

/// A format file: own fields as declarations with offsets and sizes.
fn format(name: &str, fields: &[(&str, u32, u32)], print_fmt: &str) -> Format {
    let line = |(declaration, offset, size): &(&str, u32, u32)| {
        let signed = u8::from(declaration.starts_with(['i', 's']));
        format!("\tfield:{declaration};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n")
    };
    let own: String = fields.iter().map(line).collect();
    let text = format!(
        "name: {name}\nID: 1\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
        \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        {own}\nprint fmt: {print_fmt}\n"
    );
    Format::parse(&text).expect("a format")
}

/// What follows the common fields of a record.
struct Bytes(Machine, Vec<u8>);

impl Bytes {
    fn new(machine: Machine) -> Self {
        let mut bytes = Self(machine, Vec::new());
        bytes.number(1, 2).number(0, 2).number(7, 4);
        bytes
    }

    fn number(&mut self, value: u64, size: usize) -> &mut Self {
        match self.0.byte_order() {
            ByteOrder::Little => self.1.extend(&value.to_le_bytes()[..size]),
            ByteOrder::Big => self.1.extend(&value.to_be_bytes()[8 - size..]),
        }
        self
    }

    fn words(&mut self, words: &[u64]) -> &mut Self {
        let size = self.0.long_size() as usize;
        words.iter().for_each(|word| {
            self.number(*word, size);
        });
        self
    }

    fn text(&mut self, text: &[u8]) -> &mut Self {
        self.1.extend(text);
        self
    }
}

/// The line of a record after its context, which has to be that of pid 7.
fn text_with(
    name: &str,
    format: &Format,
    bytes: &Bytes,
    style: TraceStyle,
    prepare: impl Fn(Renderer) -> Renderer,
) -> String {
    let name: EventName = name.parse().expect("a name");
    let machine = bytes.0;
    let renderer = prepare(Renderer::new(&name, format, machine).expect("a print fmt"));
    let record = Record::new(format, &bytes.1, machine);
    let names = TaskNames::parse("7 cat\n8 dog\n");
    let context = TraceContext::new(&record, 1, 5_000_000_000, &names, style).expect("whole");
    let addresses = Addresses::new()
        .with_kallsyms(KALLSYMS)
        .with_printk_formats("0xffffffff82000000 : \"n=%d \\\"%s\\\"\\n\"\n");
    let mut line = Vec::new();
    let written = renderer.write_line(&record, &context, &addresses, &mut line);
    written.expect("a whole record");
    let line = String::from_utf8(line).expect("text");
    let context = context.to_string();
    line.strip_prefix(&context).unwrap_or(&line).to_owned()
}

fn text(name: &str, format: &Format, bytes: &Bytes) -> String {
    let style = TraceStyle::new(FlagColumns::Five);
    text_with(name, format, bytes, style, |renderer| renderer)
}

const SCHEDULE: u64 = 0xffff_ffff_8100_0000;
const CALLER: u64 = 0xffff_ffff_8100_0100;
const INNER: u64 = 0xffff_ffff_8100_0200;
const RETHOOK: u64 = 0xffff_ffff_8100_0300;

#[test]
fn functions() {
    let own = [
        ("unsigned long ip", 8, 8),
        ("unsigned long parent_ip", 16, 8),
        ("unsigned long args[]", 24, 0),
    ];
    let format = format(
        "function",
        &own,
        "\" %ps <-- %ps\", REC->ip, REC->parent_ip",
    );
    let shown = |words: &[u64]| {
        let mut bytes = Bytes::new(LITTLE);
        text("ftrace:function", &format, bytes.words(words))
    };
    assert_eq!(shown(&[SCHEDULE + 4, CALLER + 9]), "schedule <-caller\n");
    assert_eq!(shown(&[INNER, RETHOOK]), "inner <-[unknown/kretprobe'd]\n");
    assert_eq!(shown(&[SCHEDULE, 0]), "schedule\n");
    assert_eq!(shown(&[0, 0x12]), "0 <-0x00000012\n");
    assert_eq!(
        shown(&[SCHEDULE, CALLER, 5, 6]),
        "schedule(<arguments 0x5, 0x6>) <-caller\n"
    );
    // Another event of that name, and one of another form, are printed by print fmt.
    let mut bytes = Bytes::new(LITTLE);
    bytes.words(&[SCHEDULE, CALLER]);
    assert!(text("mine:function", &format, &bytes).starts_with("function: "));
}

#[test]
fn functions_again() {
    let own = [
        ("unsigned long ip", 8, 8),
        ("unsigned long parent_ip", 16, 8),
        ("u16 count", 24, 2),
        ("u16 top_delta_ts", 26, 2),
        ("u32 bottom_delta_ts", 28, 4),
    ];
    let format = format("func_repeats", &own, "\"\"");
    let mut bytes = Bytes::new(LITTLE);
    bytes.words(&[SCHEDULE, CALLER]);
    bytes.number(3, 2).number(1, 2).number(5, 4);
    assert_eq!(
        text("ftrace:func_repeats", &format, &bytes),
        "schedule <-caller (repeats: 3, last_ts:     0.705033)\n"
    );
    let style = TraceStyle::new(FlagColumns::Five).with_clock(TraceClock::Counts);
    assert_eq!(
        text_with("ftrace:func_repeats", &format, &bytes, style, |it| it),
        "schedule <-caller (repeats: 3, last_ts:    705032699)\n"
    );
}

#[test]
fn graphs_of_functions() {
    let entry = format(
        "funcgraph_entry",
        &[("unsigned long func", 8, 8), ("int depth", 16, 4)],
        "\"\"",
    );
    let mut bytes = Bytes::new(LITTLE);
    bytes.words(&[SCHEDULE]).number(2, 4);
    assert_eq!(
        text("ftrace:funcgraph_entry", &entry, &bytes),
        " 1)               |      schedule() {\n"
    );
    let exit = format(
        "funcgraph_exit",
        &[
            ("unsigned long func", 8, 8),
            ("int depth", 16, 4),
            ("unsigned int overrun", 20, 4),
            ("unsigned long long calltime", 24, 8),
            ("unsigned long long rettime", 32, 8),
        ],
        "\"\"",
    );
    for (nanoseconds, expected) in [
        (1_234, " 1)   1.234 us    |  } /* schedule */\n"),
        (123_456, " 1) ! 123.456 us  |  } /* schedule */\n"),
        (12_345_678, " 1) * 12345.67 us |  } /* schedule */\n"),
        (12_345_678_901, " 1) $ 12345678 us |  } /* schedule */\n"),
    ] {
        let mut bytes = Bytes::new(LITTLE);
        bytes.words(&[SCHEDULE]).number(0, 8);
        bytes.words(&[10, 10 + nanoseconds]);
        assert_eq!(text("ftrace:funcgraph_exit", &exit, &bytes), expected);
    }
}

#[test]
fn switches() {
    let own = [
        ("unsigned int prev_pid", 8, 4),
        ("unsigned int next_pid", 12, 4),
        ("unsigned int next_cpu", 16, 4),
        ("unsigned char prev_prio", 20, 1),
        ("unsigned char prev_state", 21, 1),
        ("unsigned char next_prio", 22, 1),
        ("unsigned char next_state", 23, 1),
    ];
    let mut bytes = Bytes::new(LITTLE);
    bytes.number(7, 4).number(8, 4).number(2, 4);
    bytes.text(&[120, 1, 98, 9]);
    let switch = format("context_switch", &own, "\"\"");
    assert_eq!(
        text("ftrace:context_switch", &switch, &bytes),
        "       7:120:S ==> [002]       8: 98:? dog\n"
    );
    let wakeup = format("wakeup", &own, "\"\"");
    assert_eq!(
        text("ftrace:wakeup", &wakeup, &bytes),
        "       7:120:S   + [002]       8: 98:? dog\n"
    );
}

#[test]
fn stacks() {
    let kernel = format(
        "kernel_stack",
        &[("int size", 8, 4), ("unsigned long caller[8]", 16, 64)],
        "\"\"",
    );
    let shown = |callers: &[u64]| {
        let mut bytes = Bytes::new(LITTLE);
        bytes.number(callers.len() as u64, 8).words(callers);
        text("ftrace:kernel_stack", &kernel, &bytes)
    };
    assert_eq!(
        shown(&[SCHEDULE + 1, 0x7fff_ffff, 0x123]),
        "<stack trace>\n => schedule\n => [FTRACE TRAMPOLINE]\n => 0x00000123\n"
    );
    assert_eq!(shown(&[]), "<stack trace>\n");
    // As many as there are; kernels of old end with all bits set.
    let expected = format!("<stack trace>{}\n", "\n => caller".repeat(20));
    assert_eq!(shown(&[CALLER; 20]), expected);
    assert_eq!(shown(&[CALLER, u64::MAX, 0]), "<stack trace>\n => caller\n");
    let mut bytes = Bytes::new(LITTLE);
    bytes.number(2, 8).words(&[1, 2]);
    let record = Record::new(&kernel, &bytes.1, LITTLE);
    let value = record.value(&kernel.fields()[1]).expect("all of them");
    assert_eq!(value.to_string(), "[1, 2]");

    let user = format(
        "user_stack",
        &[
            ("unsigned int tgid", 8, 4),
            ("unsigned long caller[8]", 12, 32),
        ],
        "\"\"",
    );
    let mut bytes = Bytes::new(SMALL);
    bytes
        .number(7, 4)
        .words(&[0x40_1000, 0x7f00_0000, 0, 5, 0, 0, 0, 0]);
    assert_eq!(
        text("ftrace:user_stack", &user, &bytes),
        "<user stack trace>\n =>  <00401000>\n =>  <7f000000>\n"
    );
}

#[test]
fn printed_by_programs() {
    let bprint = format(
        "bprint",
        &[
            ("unsigned long ip", 8, 8),
            ("const char * fmt", 16, 8),
            ("u32 buf[]", 24, 0),
        ],
        "\"%ps: %s\", (void *)REC->ip, REC->fmt",
    );
    let mut bytes = Bytes::new(BIG);
    bytes.words(&[SCHEDULE, 0xffff_ffff_8200_0000]);
    bytes.number(-5_i64 as u64, 4).text(b"two\0");
    assert_eq!(
        text("ftrace:bprint", &bprint, &bytes),
        "schedule: n=-5 \"two\"\n"
    );
    let mut bytes = Bytes::new(BIG);
    bytes.words(&[SCHEDULE, 0xffff_ffff_8200_0001]);
    assert_eq!(
        text("ftrace:bprint", &bprint, &bytes),
        "schedule: <string at 0xffffffff82000001>\n"
    );
    let bputs = format(
        "bputs",
        &[("unsigned long ip", 8, 8), ("const char * str", 16, 8)],
        "\"\"",
    );
    let mut bytes = Bytes::new(LITTLE);
    bytes.words(&[SCHEDULE, 0xffff_ffff_8200_0000]);
    assert_eq!(
        text("ftrace:bputs", &bputs, &bytes),
        "schedule: n=%d \"%s\"\n"
    );
    let print = format(
        "print",
        &[("unsigned long ip", 8, 8), ("char buf[]", 16, 0)],
        "\"\"",
    );
    for text_of in [&b"a\nb\n\0\0"[..], b"a\nb"] {
        let mut bytes = Bytes::new(LITTLE);
        bytes.words(&[INNER]).text(text_of);
        assert_eq!(text("ftrace:print", &print, &bytes), "inner: a\nb\n");
    }
    let raw = format(
        "raw_data",
        &[("unsigned int id", 8, 4), ("char buf[]", 12, 0)],
        "\"\"",
    );
    let mut bytes = Bytes::new(LITTLE);
    bytes.number(0xdead, 4).text(&[1, 0, 0xff]);
    assert_eq!(
        text("ftrace:raw_data", &raw, &bytes),
        "# dead buf: 01 00 ff\n"
    );
}

#[test]
fn tracers() {
    let access = format(
        "mmiotrace_rw",
        &[
            ("resource_size_t phys", 8, 8),
            ("unsigned long value", 16, 8),
            ("unsigned long pc", 24, 8),
            ("int map_id", 32, 4),
            ("unsigned char opcode", 36, 1),
            ("unsigned char width", 37, 1),
        ],
        "\"\"",
    );
    for (opcode, expected) in [
        (1, "R 4 5.000000 3 0x10 0x123456 0x30 0\n"),
        (2, "W 4 5.000000 3 0x10 0x123456 0x30 0\n"),
        (5, "UNKNOWN 5.000000 3 0x10 12,34,56 0x30 0\n"),
        (9, "rw what?\n"),
    ] {
        let mut bytes = Bytes::new(LITTLE);
        bytes
            .words(&[0x10, 0x12_3456, 0x30])
            .number(3, 4)
            .text(&[opcode, 4]);
        assert_eq!(text("ftrace:mmiotrace_rw", &access, &bytes), expected);
    }
    let map = format(
        "mmiotrace_map",
        &[
            ("resource_size_t phys", 8, 8),
            ("unsigned long virt", 16, 8),
            ("unsigned long len", 24, 8),
            ("int map_id", 32, 4),
            ("unsigned char opcode", 36, 1),
        ],
        "\"\"",
    );
    for (opcode, expected) in [
        (3, "MAP 5.000000 3 0x10 0x20 0x30 0x0 0\n"),
        (4, "UNMAP 5.000000 3 0x0 0\n"),
        (0, "map what?\n"),
    ] {
        let mut bytes = Bytes::new(LITTLE);
        bytes
            .words(&[0x10, 0x20, 0x30])
            .number(3, 4)
            .text(&[opcode]);
        assert_eq!(text("ftrace:mmiotrace_map", &map, &bytes), expected);
    }
    let branch = format(
        "branch",
        &[
            ("unsigned int line", 8, 4),
            ("char func[8]", 12, 8),
            ("char file[8]", 20, 8),
            ("char correct", 28, 1),
        ],
        "\"\"",
    );
    for (correct, expected) in [(1, "[  ok  ] f:a.c:42\n"), (0, "[ MISS ] f:a.c:42\n")] {
        let mut bytes = Bytes::new(LITTLE);
        bytes
            .number(42, 4)
            .text(b"f\0\0\0\0\0\0\0a.c\0\0\0\0\0")
            .text(&[correct]);
        assert_eq!(text("ftrace:branch", &branch, &bytes), expected);
    }
}

#[test]
fn latencies() {
    let hwlat = format(
        "hwlat",
        &[
            ("u64 duration", 8, 8),
            ("u64 outer_duration", 16, 8),
            ("u64 nmi_total_ts", 24, 8),
            ("s64 tv_sec", 32, 8),
            ("s64 tv_nsec", 40, 8),
            ("unsigned int nmi_count", 48, 4),
            ("unsigned int seqnum", 52, 4),
            ("unsigned int count", 56, 4),
        ],
        "\"\"",
    );
    for (nmis, total, expected) in [
        (
            0,
            0,
            "#3     inner/outer(us):   12/11    ts:5.000000006 count:1\n",
        ),
        (
            2,
            0,
            "#3     inner/outer(us):   12/11    ts:5.000000006 count:1 nmi-count:2\n",
        ),
        (
            2,
            99,
            "#3     inner/outer(us):   12/11    ts:5.000000006 count:1 nmi-total:99 nmi-count:2\n",
        ),
    ] {
        let mut bytes = Bytes::new(LITTLE);
        bytes.words(&[12, 11, total, 5, 6]);
        bytes.number(nmis, 4).number(3, 4).number(1, 4);
        assert_eq!(text("ftrace:hwlat", &hwlat, &bytes), expected);
    }
    let osnoise = format(
        "osnoise",
        &[
            ("u64 noise", 8, 8),
            ("u64 runtime", 16, 8),
            ("u64 max_sample", 24, 8),
            ("unsigned int hw_count", 32, 4),
            ("unsigned int nmi_count", 36, 4),
            ("unsigned int irq_count", 40, 4),
            ("unsigned int softirq_count", 44, 4),
            ("unsigned int thread_count", 48, 4),
        ],
        "\"\"",
    );
    for (runtime, expected) in [
        (
            1_000_000,
            "1000000       1234  99.87660      77      1      2      3      4      5\n",
        ),
        (
            0,
            "0       1234   0.00000      77      1      2      3      4      5\n",
        ),
    ] {
        let mut bytes = Bytes::new(LITTLE);
        bytes.words(&[1234, runtime, 77]);
        (1..6).for_each(|count| {
            bytes.number(count, 4);
        });
        assert_eq!(text("ftrace:osnoise", &osnoise, &bytes), expected);
    }
    let timerlat = format(
        "timerlat",
        &[
            ("unsigned int seqnum", 8, 4),
            ("int context", 12, 4),
            ("u64 timer_latency", 16, 8),
        ],
        "\"\"",
    );
    for (context, expected) in [
        (0, "#9     context    irq timer_latency      1234 ns\n"),
        (1, "#9     context thread timer_latency      1234 ns\n"),
        (2, "#9     context user-ret timer_latency      1234 ns\n"),
    ] {
        let mut bytes = Bytes::new(LITTLE);
        bytes.number(9, 4).number(context, 4).number(1234, 8);
        assert_eq!(text("ftrace:timerlat", &timerlat, &bytes), expected);
    }
}

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
            => inner+0x0/0x100 [module]\n\
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
        "mine: (inner+0x0/0x100 [module]) path=(fault) n=5\n"
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
        "mine: (caller+0x52/0x100 <- schedule) ret=-3\n"
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
    assert_eq!(value.to_string(), "[one, , \u{fffd}]");
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
    fs::write(proc.join("version"), "Linux version 5.8.18 (x)\n").expect("a file");
    let kallsyms = "0000000000001000 T f\n0000000000002000 t g\t[m]\n0000000000003000 T end\n";
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

/// Kinds of events with the fields that make them what they are.
const KINDS: &[(&str, &[(&str, u32, u32)], &str)] = &[
    (
        "ftrace:function",
        &[
            ("unsigned long ip", 8, 8),
            ("unsigned long parent_ip", 16, 8),
            ("unsigned long args[]", 24, 0),
        ],
        "\"\"",
    ),
    (
        "ftrace:kernel_stack",
        &[("int size", 8, 4), ("unsigned long caller[8]", 16, 64)],
        "\"\"",
    ),
    (
        "ftrace:user_stack",
        &[
            ("unsigned int tgid", 8, 4),
            ("unsigned long caller[8]", 16, 64),
        ],
        "\"\"",
    ),
    (
        "ftrace:bprint",
        &[
            ("unsigned long ip", 8, 8),
            ("const char * fmt", 16, 8),
            ("u32 buf[]", 24, 0),
        ],
        "\"\"",
    ),
    (
        "ftrace:osnoise",
        &[
            ("u64 noise", 8, 8),
            ("u64 runtime", 16, 8),
            ("u64 max_sample", 24, 8),
            ("unsigned int hw_count", 32, 4),
            ("unsigned int nmi_count", 36, 4),
            ("unsigned int irq_count", 40, 4),
            ("unsigned int softirq_count", 44, 4),
            ("unsigned int thread_count", 48, 4),
        ],
        "\"\"",
    ),
    (
        "ftrace:funcgraph_exit",
        &[
            ("unsigned long func", 8, 8),
            ("int depth", 16, 4),
            ("unsigned long long calltime", 24, 8),
            ("unsigned long long rettime", 32, 8),
        ],
        "\"\"",
    ),
    (
        "synthetic:all",
        &[
            ("char comm[16]", 8, 16),
            ("__data_loc char[] name", 264, 8),
            ("__data_loc unsigned long[] stack", 272, 8),
            ("gfp_t flags", 280, 4),
        ],
        "\"\"",
    ),
    (
        "kprobes:all",
        &[
            ("unsigned long __probe_ip", 8, 8),
            ("__data_loc char[][3] names", 16, 12),
        ],
        "\"(%lx) names={\\\"%s\\\",\\\"%s\\\",\\\"%s\\\"}\", REC->__probe_ip, \
        __get_str(names[0]), __get_str(names[1]), __get_str(names[9])",
    ),
    (
        "eprobes:all",
        &[("__data_loc char[] file", 8, 4)],
        "\" file=\\\"%s\\\"\", __get_str(file)",
    ),
];

proptest! {
    /// Whatever a record holds: a line, or an error and nothing.
    #[test]
    fn any_bytes(
        kind in prop::sample::select(KINDS),
        bytes in prop::collection::vec(any::<u8>(), 8..320),
        small in any::<bool>(),
        machine in prop::sample::select(&[LITTLE, BIG, SMALL][..]),
    ) {
        let (name, fields, print_fmt) = kind;
        let name: EventName = name.parse().expect("a name");
        let format = format(name.event(), fields, print_fmt);
        // Most random locations are outside of the record.
        let bytes: Vec<u8> = match small {
            true => bytes.iter().map(|byte| byte & 0x1f).collect(),
            false => bytes,
        };
        let record = Record::new(&format, &bytes, machine);
        let renderer = Renderer::new(&name, &format, machine).expect("a print fmt");
        let names = TaskNames::default();
        let context = TraceContext::new(&record, 0, 0, &names, FlagColumns::Five).expect("whole");
        let addresses = Addresses::new()
            .with_printk_formats("0x0 : \"%d %s %*pbl\"\n")
            .with_kallsyms(KALLSYMS);
        let mut line = b"before".to_vec();
        let written = renderer.write_line(&record, &context, &addresses, &mut line);
        let line = line.strip_prefix(b"before").expect("it is appended");
        prop_assert_eq!(written.is_err(), line.is_empty());
        prop_assert!(line.is_empty() || line.ends_with(b"\n"));
        for (_, value) in record.fields() {
            let _ = value.map(|value| value.to_string());
        }
    }
}
