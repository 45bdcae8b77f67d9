//! Stacks in `attach`, with the names of functions.

use crate::command::{stderr, stdout, tracepoints};
use crate::namespace::live;

/// Functions of the kernel and of the process by their names.
#[test]
fn stacks_of_records() {
    let Some(_) = live() else { return };
    let attach = |arguments: &[&str]| {
        let output = tracepoints(&["attach", "syscalls:sys_enter_*nanosleep{}", "--stack"])
            .args(arguments)
            .args(["--", "sleep", "1"])
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).to_owned()
    };
    let out = attach(&[]);
    let mut lines = out.lines();
    let first = lines.next().expect("a record");
    assert!(first.ends_with("nanosleep:"), "{out}");
    let frames: Vec<&str> = lines.collect();
    let is_frame = |line: &&str| line.starts_with('\t') && line.trim().contains(' ');
    assert!(frames.iter().any(is_frame), "{out}");
    assert!(
        out.contains(" do_syscall_64+0x") || !cfg!(target_arch = "x86_64"),
        "{out}"
    );

    let row: serde_json::Value = serde_json::from_str(&attach(&["--json"])).expect("JSON");
    let user = row["stack"]["user"].as_array().expect("frames");
    let function = user[0]["function"].as_str().unwrap_or_default();
    assert!(function.contains("nanosleep"), "{row}");
    let module = user[0]["module"].as_str().unwrap_or_default();
    assert!(module.contains("libc"), "{row}");
}

/// Stacks are below the row of their group, the innermost function first.
#[test]
fn groups_by_stacks() {
    let Some(_) = live() else { return };
    let attach = |arguments: &[&str]| {
        let output = tracepoints(&["attach", "syscalls:sys_enter_*nanosleep"])
            .args(arguments)
            .args(["--", "sh", "-c", "sleep 0.01; sleep 0.02"])
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).to_owned()
    };
    let out = attach(&["--by", "comm,kstack,ustack"]);
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("COUNT  COMM   EVENT"), "{out}");
    let row = lines.next().expect("a group");
    assert!(
        row.starts_with("    1  sleep  syscalls:sys_enter_"),
        "{out}"
    );
    let frames: Vec<&str> = lines
        .clone()
        .take_while(|line| line.starts_with('\t'))
        .collect();
    let between = frames
        .iter()
        .position(|line| *line == "\t--")
        .expect("two stacks");
    assert!(between > 0 && between + 1 < frames.len(), "{out}");
    if cfg!(target_arch = "x86_64") {
        assert!(
            frames[..between]
                .iter()
                .any(|line| line.contains(" do_syscall_64+0x")),
            "{out}"
        );
    }

    // Without processes, one group.
    let out = attach(&["--by", "kstack", "--json"]);
    let row: serde_json::Value = serde_json::from_str(&out).expect("one row of JSON");
    assert_eq!(row["count"], 2);
    let stack = row["by"]["kstack"].as_array().expect("frames");
    assert!(
        stack.len() > 1 && stack.iter().all(|frame| frame["address"].is_string()),
        "{row}"
    );
}
