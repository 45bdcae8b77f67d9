//! `bench` on the running kernel.

use crate::command::{stderr, stdout, tracepoints};
use crate::namespace::live;

/// `bench` measures what it provokes, and says of what it cannot.
#[test]
fn costs_of_programs() {
    let Some(_) = live() else { return };
    let output = tracepoints(&["bench", "raw_syscalls:sys_enter"])
        .output()
        .expect("it runs");
    let out = stdout(&output);
    assert!(
        out.starts_with("raw_syscalls:sys_enter, hit once by getppid(2), which takes "),
        "{out}{}",
        stderr(&output)
    );
    let forms: Vec<&str> = out
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(forms, ["tp", "raw_tp", "tp_btf"], "{out}");
    let output = tracepoints(&["bench", "--json", "syscalls:sys_exit_getppid"])
        .output()
        .expect("it runs");
    for line in stdout(&output).lines() {
        let row: serde_json::Value = serde_json::from_str(line).expect("a row");
        assert_eq!((&row["call"], &row["hits"]), (&"getppid".into(), &1.into()));
        assert!(row["cost_ns"].is_number() && row["doubt_ns"].as_f64() >= Some(0.0));
    }
    // Other types that serve it are named, and one that this kernel lacks.
    let output = tracepoints(&["bench", "syscalls:sys_exit_read"])
        .output()
        .expect("it runs");
    let out = stdout(&output);
    for form in ["fexit", "tp.s"] {
        let mut lines = out.lines().map(str::trim_start);
        let line = lines.find(|line| line.starts_with(form));
        let line = line.unwrap_or_else(|| panic!("{out}"));
        let is_named = ["not measured", "not on this kernel"]
            .iter()
            .any(|end| line.ends_with(end));
        assert!(is_named, "{line}");
    }
    let output = tracepoints(&["bench", "sched:sched_switch"])
        .output()
        .expect("it runs");
    assert!(!output.status.success());
    assert!(stderr(&output).contains("does not know how to provoke it"));
}
