//! Records that no kernel wrote.

use super::{BIG, KALLSYMS, LITTLE, SMALL, format};
use crate::support::capture::FieldLine;
use proptest::prelude::*;
use tracepoints::text::{Addresses, FlagColumns, TaskNames, TraceContext};
use tracepoints::{EventName, Record, Renderer};

/// Kinds of events with the fields that make them what they are.
const KINDS: &[(&str, &[FieldLine<'_>], &str)] = &[
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
    /// Any record gives a line, or an error and no line.
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
