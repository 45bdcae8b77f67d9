//! What an ordinary user gets where tracefs is not mounted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::command::{program, stderr, stdout};
use crate::support;

/// Runs the command as user 65534, in a mount namespace without tracefs; `None`, having
/// said so, where that takes rights this user does not have.
pub(crate) fn as_nobody(arguments: &[&str]) -> Option<(i32, String, String)> {
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    let copy = dir.path().join("tracepoints");
    fs::copy(program(), &copy).expect("a copy");
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-ec"])
        .arg(
            "mount --make-rprivate /
             umount -q /sys/kernel/tracing || :
             umount -q /sys/kernel/debug || :
             exec setpriv --reuid 65534 --regid 65534 --clear-groups -- \"$0\" \"$@\"",
        )
        .arg(&copy)
        .args(arguments)
        .current_dir("/")
        .output();
    match output {
        Ok(output) if stderr(&output).starts_with("unshare: ") => {
            support::skip(stderr(&output).trim());
            None
        }
        Ok(output) => Some((
            output.status.code().unwrap_or(-1),
            stdout(&output).to_owned(),
            stderr(&output).to_owned(),
        )),
        Err(error) => {
            support::skip(&format!("unshare: {error}"));
            None
        }
    }
}

#[test]
fn every_subcommand_says_what_to_do() {
    let mut shown = String::new();
    for arguments in [
        &["list"][..],
        &["list", "sched:*"],
        &["list", "--names"],
        &["list", "--json"],
        &["format", "sched:sched_switch"],
        &["format", "--emit", "c", "sched:sched_switch"],
        &["attach", "sched:sched_switch"],
        &["attach", "sched:sched_switch", "--", "true"],
        &["bench", "raw_syscalls:sys_enter"],
        &["decode", "cpu0.raw"],
        &["decode", "/etc/passwd"],
        &["decode", "--live", "sched:sched_switch"],
        &["sites", "sched:sched_switch"],
        &["list", "--raw", "no_such_*"],
        &["format", "--raw", "syscalls:sys_enter_openat"],
        &["list", "--demo", "--names", "sched:sched_sw*"],
    ] {
        let Some((status, out, said)) = as_nobody(arguments) else {
            return;
        };
        let command = arguments.join(" ");
        shown += &format!("$ tracepoints {command}\n{out}{said}[exit status {status}]\n\n");
    }
    insta::assert_snapshot!(shown);
}

/// What BTF alone tells of the running kernel, as of the demo kernel.
#[test]
fn by_btf_alone() {
    if fs::metadata("/sys/kernel/btf/vmlinux").is_err() {
        return support::skip("this kernel has no BTF");
    }
    let Some((status, out, said)) =
        as_nobody(&["list", "--raw", "sched_switch", "sched_process_exec"])
    else {
        return;
    };
    assert_eq!(
        (status, &*out),
        (
            0,
            "sched_process_exec  trace_event_raw_sched_process_exec  btf\n\
         sched_switch        trace_event_raw_sched_switch        btf\n",
        )
    );
    assert!(said.starts_with(
        "2 tracepoints: 2 btf, named by BTF alone, not checked against a format file"
    ));
    let Some((_, out, _)) = as_nobody(&["list", "--raw", "--names", "sched_switch"]) else {
        return;
    };
    assert_eq!(out, "sched_switch\n");
    let Some((status, out, _)) = as_nobody(&["format", "--raw", "sched:sched_switch"]) else {
        return;
    };
    assert_eq!(status, 0);
    assert!(
        out.starts_with("sched_switch(bool preempt, struct task_struct *prev, "),
        "{out}"
    );
    assert!(
        out.contains("context  struct trace_event_raw_sched_switch\n"),
        "{out}"
    );
    assert!(out.contains("prev_pid: pid_t\n"), "{out}");
    let Some((_, out, _)) = as_nobody(&["list", "--raw", "--json", "sched_switch"]) else {
        return;
    };
    let row: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(row["evidence"], "btf");
    assert_eq!(row["struct"], "trace_event_raw_sched_switch");
    assert_eq!(row["kernel"]["source"], "live");
}
