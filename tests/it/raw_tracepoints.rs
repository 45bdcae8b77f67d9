//! The arguments of tracepoints, against the counts read from the kernels' own
//! memory (`truth/raw_tp.tsv`: name, function, number of arguments).

use std::collections::HashSet;
use std::fs;

use crate::example::{run, stderr, stdout};
use crate::support;
use crate::support::btf::BtfWriter;
use crate::support::capture::{COMMON, Capture};
use tracepoints::{Error, Kernel, RawTracepoint};

#[test]
fn as_many_arguments_as_the_kernel_says() {
    for root in support::corpus() {
        let Ok(truth) = fs::read_to_string(root.join("truth/raw_tp.tsv")) else {
            continue;
        };
        let kernel = Kernel::at(&root).expect("a kernel");
        let name = support::name(&root);
        // The capture of this big-endian kernel has the word after the count
        // (`writable_size`): 0, and 4 for bpf_test_finish(int *).
        let is_next_word = name == "6.12.107-s390x";
        let (mut rows, mut named) = (0, 0);
        for row in truth.lines() {
            let mut row = row.split('\t');
            let (Some(tracepoint), Some(_), Some(count)) = (row.next(), row.next(), row.next())
            else {
                panic!("a row of three");
            };
            let raw = kernel.raw_tracepoint(tracepoint).expect(tracepoint);
            let arguments = raw.arguments();
            rows += 1;
            named += usize::from(arguments.iter().all(|argument| argument.name().is_some()));
            if !is_next_word {
                assert_eq!(arguments.len().to_string(), count, "{raw}");
            }
        }
        println!("{name}: {rows} tracepoints, {named} with all arguments named");
    }
}

#[test]
fn of_known_tracepoints() {
    let text = |kernel: &str, name: &str| {
        let kernel = Kernel::at(support::fixture(kernel)).expect("a kernel");
        kernel
            .raw_tracepoint(name)
            .map_or_else(|error| error.to_string(), |raw| raw.to_string())
    };
    let mut shown = String::new();
    for kernel in ["5.10.223-x86_64", "6.18.15-x86_64", "7.3.4-x86_64"] {
        for name in [
            "sched_switch",
            "sched_process_exec",
            "rcu_utilization",
            "fib_table_lookup",
            "xfs_ilock",
            "no_such",
        ] {
            shown += &format!("{kernel}: {}\n", text(kernel, name));
        }
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn bare_tracepoints_are_those_without_an_event() {
    for root in support::corpus() {
        let kernel = Kernel::at(&root).expect("a kernel");
        if matches!(kernel.btf_objects(), Err(Error::NoBtf { .. })) {
            assert!(matches!(
                kernel.bare_tracepoints(),
                Err(Error::NoBtf { .. })
            ));
            continue;
        }
        let events = kernel.events().expect("events");
        let events: HashSet<&str> = events.names().iter().map(|name| name.event()).collect();
        let bare = kernel.bare_tracepoints().expect("bare tracepoints");
        assert!(bare.iter().all(|raw| !events.contains(raw.name())));
        // The kernel's own list is vmlinux's.
        let Ok(truth) = fs::read_to_string(root.join("truth/raw_tp.tsv")) else {
            continue;
        };
        let mut expected: Vec<&str> = truth
            .lines()
            .filter_map(|row| row.split('\t').next())
            .collect();
        expected.retain(|name| !events.contains(name));
        expected.sort_unstable();
        let found: Vec<&str> = bare
            .iter()
            .filter(|raw| raw.home() == "vmlinux")
            .map(RawTracepoint::name)
            .collect();
        assert_eq!(found, expected, "{}", support::name(&root));
        println!("{}: {found:?}", support::name(&root));
    }
}

#[test]
fn an_event_and_the_tracepoint_behind_it() {
    let kernel = Kernel::at(support::fixture("6.18.15-x86_64")).expect("a kernel");
    let raw = |name: &str| {
        kernel
            .tracepoint(name)
            .and_then(|event| event.raw())
            .expect(name)
    };
    let exec = raw("sched:sched_process_exec").expect("a tracepoint");
    assert_eq!(
        exec.sections(),
        ["raw_tp/sched_process_exec", "tp_btf/sched_process_exec"]
    );
    assert_eq!(
        (exec.home(), exec.arguments()[0].c_type()),
        ("vmlinux", "struct task_struct *")
    );
    assert_eq!(raw("xfs:xfs_ilock").expect("a tracepoint").home(), "xfs");
    assert_eq!(raw("syscalls:sys_enter_unlinkat"), None);
}

/// A tracepoint without an event, and one with; the functions that name their
/// arguments are there for the one, and do not fit for the other.
#[test]
fn a_tracepoint_without_an_event() {
    let mut btf = BtfWriter::new(false);
    let int = btf.int("int", 4, true);
    let void_pointer = btf.pointer(0);
    let task = btf.structure("task_struct", 64, &[]);
    let task = btf.pointer(task);
    btf.event("lonely_tp", &[void_pointer, task, int]);
    let stub = btf.named_prototype(&[("__data", void_pointer), ("task", task), ("cpu", int)]);
    btf.function("__probestub_lonely_tp", stub);
    btf.event("listed", &[void_pointer, int]);
    btf.function("__probestub_listed", stub);
    let mut capture = Capture::new();
    capture
        .event("x:listed", COMMON, &[("int a", 8, 4)])
        .btf("vmlinux", &btf.bytes());

    let kernel = capture.kernel();
    let bare = kernel.bare_tracepoints().expect("bare tracepoints");
    let text: Vec<String> = bare.iter().map(RawTracepoint::to_string).collect();
    assert_eq!(text, ["lonely_tp(struct task_struct *task, int cpu)"]);
    assert_eq!(
        kernel
            .raw_tracepoint("listed")
            .expect("a tracepoint")
            .to_string(),
        "listed(int arg0)"
    );
    assert!(matches!(
        kernel.raw_tracepoint("no\u{1b}"),
        Err(Error::NoRawTracepoint { .. })
    ));

    let list = |arguments: &[&str]| {
        let output = run("list", capture.root(), arguments);
        (stdout(&output).to_owned(), stderr(&output).to_owned())
    };
    let (rows, summary) = list(&["--raw"]);
    assert_eq!(rows, "x:listed   -  format\nlonely_tp  -  raw\n");
    assert_eq!(
        summary,
        "1 event, 0 classes: 1 format; 1 tracepoint without an event\n"
    );
    assert_eq!(list(&["--raw", "*_tp"]).0, "lonely_tp  -  raw\n");
    assert_eq!(list(&["--raw", "x:*"]).0, "x:listed  -  format\n");
    let (row, _) = list(&["--raw", "--json", "lonely*"]);
    let row: serde_json::Value = serde_json::from_str(&row).expect("JSON");
    assert_eq!(row["section"], "raw_tp/lonely_tp");
    assert_eq!(row["raw"]["arguments"][1]["declaration"], "int cpu");
    let output = run(
        "format",
        capture.root(),
        &["--raw", "lonely_tp", "x:listed"],
    );
    assert_eq!(
        stdout(&output),
        "lonely_tp(struct task_struct *task, int cpu)\n  home  vmlinux\n  \
         SEC   raw_tp/lonely_tp  struct bpf_raw_tracepoint_args *ctx: args[0] to args[1]\n        \
         tp_btf/lonely_tp  BPF_PROG(on_lonely_tp, …)\n\
         listed(int arg0)\n  home  vmlinux\n  \
         SEC   raw_tp/listed  struct bpf_raw_tracepoint_args *ctx: args[0] to args[0]\n        \
         tp_btf/listed  BPF_PROG(on_listed, …)\n"
    );
}
