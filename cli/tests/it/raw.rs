//! Tracepoints without an event.

use crate::btf::BtfWriter;
use crate::capture::{COMMON, Capture};
use crate::command::{run, stderr, stdout};

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
    assert_eq!(list(&["--raw", "--names"]).0, "x:listed\nlonely_tp\n");
    assert_eq!(list(&["--raw", "--names", "*_tp"]).0, "lonely_tp\n");
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
        "\
lonely_tp(struct task_struct *task, int cpu)
  home      vmlinux
  SEC       raw_tp/lonely_tp  struct bpf_raw_tracepoint_args *ctx: args[0] to args[1]
            tp_btf/lonely_tp  BPF_PROG(on_lonely_tp, …)
  programs  raw_tp  since 4.17: __u64 args[2]
            tp_btf  since 5.5: struct task_struct *task, int cpu
listed(int arg0)
  home      vmlinux
  SEC       raw_tp/listed  struct bpf_raw_tracepoint_args *ctx: args[0]
            tp_btf/listed  BPF_PROG(on_listed, …)
  programs  raw_tp  since 4.17: __u64 args[1]
            tp_btf  since 5.5: int arg0
"
    );
    // A tracepoint without an event has no format file to describe.
    let described = |arguments: &[&str]| {
        let output = run("format", capture.root(), arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).to_owned()
    };
    let both = described(&["--raw", "lonely_tp"]);
    assert_eq!(described(&["lonely_tp"]), both);
    assert_eq!(described(&["lone*"]), both);
    let mixed = described(&["lonely_tp", "x:listed"]);
    assert!(mixed.starts_with("x:listed\n"), "{mixed}");
    assert!(mixed.ends_with(&format!("\n\n{both}")), "{mixed}");
    let row = described(&["--json", "lonely_tp"]);
    let row: serde_json::Value = serde_json::from_str(&row).expect("JSON");
    assert_eq!(row["name"], "lonely_tp");
    assert_eq!(row["arguments"][1]["declaration"], "int cpu");
    assert_eq!(row["programs"][0]["section"], "raw_tp/lonely_tp");
    assert_eq!(row["programs"][1]["form"], "tp_btf");
    let output = run("format", capture.root(), &["lonely_fp"]);
    assert_eq!(output.status.code(), Some(1));
}
