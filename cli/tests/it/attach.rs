//! `attach` on the running kernel.

use std::fs;
use std::process::Command;

use crate::command::{program, stderr, stdout, tracepoints};
use crate::namespace::live;
use crate::support;

/// The classic first program: who unlinks what.
#[test]
fn attach_traces_a_command() {
    let Some(_) = live() else {
        return;
    };
    let attach = |arguments: &[&str]| {
        let output = tracepoints(&["attach"])
            .args(arguments)
            .output()
            .expect("it runs");
        let said = stderr(&output).to_owned();
        (stdout(&output).to_owned(), said, output.status)
    };
    let file = std::env::temp_dir().join(format!("tracepoints-rm-{}", std::process::id()));
    fs::write(&file, "").expect("a file");
    let path = file.to_str().expect("UTF-8");
    let unlink = [
        "syscalls:sys_enter_unlinkat",
        "--fields",
        "pid,comm,pathname",
    ];
    // A shell of its own, so that the one that removes is a grandchild.
    let remove = format!("rm {path}; true");
    let command = ["--", "sh", "-c", &remove];
    let (out, said, status) = attach(&[&unlink[..], &command[..]].concat());
    assert!(status.success(), "{said}");
    let end = format!("syscalls:sys_enter_unlinkat: pathname=\"{path}\"\n");
    assert!(out.contains("] rm-") && out.ends_with(&end), "{out}");
    assert_eq!(out.lines().count(), 1, "{out}");
    assert_eq!(said, "tracepoints: 1 record\n");

    fs::write(&file, "").expect("a file");
    let (out, ..) = attach(&[&unlink[..], &["--json"], &command[..]].concat());
    let record: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(record["fields"]["pathname"], *path);
    assert_eq!(record["comm"], "rm");
    assert_eq!(record["pid"], record["tid"]);

    fs::write(&file, "").expect("a file");
    let (out, ..) = attach(&[&unlink[..1], &["--pretty"], &command[..]].concat());
    let end = format!("sys_unlinkat(dfd: -100, pathname: \"{path}\", flag: 0)\n");
    assert!(out.ends_with(&end), "{out}");

    let (out, said, _) = attach(&["--count", "syscalls:sys_enter_exit_group", "--", "true"]);
    assert_eq!(
        (out.as_str(), said.as_str()),
        ("1  syscalls:sys_enter_exit_group\n", "")
    );
    let histogram = [
        "--hist",
        "error_code",
        "syscalls:sys_enter_exit_group",
        "--",
    ];
    let (out, said, _) = attach(&[&histogram[..], &["sh", "-c", "exit 5"]].concat());
    assert!(
        out.contains("[4, 7]") && out.lines().count() == 2,
        "{out}{said}"
    );
    let (_, said, status) = attach(&["sched:sched_process_exec", "--", "/no/such/program"]);
    assert!(said.contains("/no/such/program: No such file"), "{said}");
    assert_eq!(status.code(), Some(127));

    let refused = |arguments: &[&str]| {
        let (out, said, status) = attach(arguments);
        assert!(!status.success() && out.is_empty(), "{out}");
        said
    };
    assert_eq!(
        refused(&["sched:sched_proces_exec"]),
        "tracepoints: no event sched:sched_proces_exec; did you mean sched:sched_process_exec?\n"
    );
    assert_eq!(
        refused(&["sched:sched_process_exec", "--filter", "pid == -9999999999"]),
        "tracepoints: the filter does not fit sched:sched_process_exec: pid is 32 bits, signed, and cannot be -9999999999\n"
    );
}

/// Without the rights to, it is said which are missing.
#[test]
fn without_rights_it_is_said_which() {
    let Some(_) = live() else { return };
    // Root without what makes it so; it still reads tracefs, which is root's.
    let output = Command::new("setpriv")
        .args(["--bounding-set", "-bpf,-perfmon,-sys_admin,-sys_resource"])
        .args(["--inh-caps", "-bpf,-perfmon,-sys_admin,-sys_resource", "--"])
        .arg(program())
        .args(["attach", "sched:sched_process_exec", "--duration", "0"])
        .output();
    let Ok(output) = output else {
        return support::skip("there is no setpriv");
    };
    assert!(!output.status.success());
    assert_eq!(
        stderr(&output),
        "tracepoints: permission denied: making maps takes CAP_BPF and CAP_PERFMON \
         (before Linux 5.8, CAP_SYS_ADMIN): run as root\n"
    );
}
