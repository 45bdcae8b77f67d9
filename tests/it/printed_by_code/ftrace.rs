//! Events of ftrace's own.

use super::{BIG, Bytes, CALLER, INNER, LITTLE, RETHOOK, SCHEDULE, SMALL, format, text, text_with};
use tracepoints::Record;
use tracepoints::text::{FlagColumns, TraceClock, TraceStyle};

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
