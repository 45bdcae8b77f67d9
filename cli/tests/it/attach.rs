//! `attach` on the running kernel.

use std::fs;
use std::os::unix::fs::PermissionsExt;
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
    let end = format!("sys_unlinkat(dfd: AT_FDCWD, pathname: \"{path}\", flag: 0)\n");
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

/// Arguments of system calls by the names of their manual pages.
#[test]
fn pretty_names_flags_of_system_calls() {
    let Some(_) = live() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    let file = file.to_str().expect("UTF-8");
    let filter = format!("filename == \"{file}\"");
    let output = tracepoints(&["attach", "--pretty", "syscalls:sys_enter_openat"])
        .args([
            "--filter",
            &filter,
            "--",
            "sh",
            "-c",
            &format!(": > {file}"),
        ])
        .output()
        .expect("it runs");
    let end = format!(
        "sys_openat(dfd: AT_FDCWD, filename: \"{file}\", flags: O_WRONLY|O_CREAT|O_TRUNC, \
         mode: 0x1b6)\n"
    );
    let out = stdout(&output);
    assert!(out.ends_with(&end), "{out}{}", stderr(&output));
}

/// `syscalls:*` do not see the system calls of 32-bit programs.
#[test]
fn a_program_of_32_bits_is_named() {
    let Some(_) = live() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("old");
    // The start of an ELF file with EI_CLASS 1; the kernel refuses the rest.
    fs::write(&file, b"\x7fELF\x01\x01\x01").expect("a file");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("permissions");
    let file = file.to_str().expect("UTF-8");
    let run = |event: &str| {
        let output = tracepoints(&["attach", event, "--", file]).output();
        stderr(&output.expect("it runs")).to_owned()
    };
    let hint = format!("{file} is of 32 bits");
    let said = run("syscalls:sys_enter_openat");
    assert!(said.contains(&hint), "{said}");
    let said = run("sched:sched_process_exec");
    assert!(!said.contains(&hint), "{said}");
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

/// Fields and filters of each event alone, with names of values.
#[test]
fn events_with_fields_and_filters_of_their_own() {
    let Some(_) = live() else { return };
    let attach = |arguments: &[&str]| {
        let output = tracepoints(&["attach"])
            .args(arguments)
            .output()
            .expect("it runs");
        (
            stdout(&output).to_owned(),
            stderr(&output).to_owned(),
            output.status.code(),
        )
    };
    let command = ["--", "cat", "/no/such/file", "/dev/null"];
    let events = [
        "syscalls:sys_enter_openat{filename}/filename ~ \"/no/*\" || filename == \"/dev/null\"/",
        "syscalls:sys_exit_openat/ret == -ENOENT/",
        "sched:sched_process_exec{}",
    ];
    let (out, said, status) = attach(&[&events[..], &command[..]].concat());
    assert_eq!(status, Some(1), "{said}");
    let count = |what: &str| out.lines().filter(|line| line.contains(what)).count();
    assert_eq!(
        count("sys_enter_openat: filename=\"/no/such/file\"\n".trim_end()),
        1,
        "{out}"
    );
    assert_eq!(
        count("sys_enter_openat: filename=\"/dev/null\""),
        1,
        "{out}"
    );
    assert_eq!(count("sys_enter_openat"), 2, "{out}");
    assert!(count("sys_exit_openat") >= 1, "{out}");
    assert_eq!(count("ret=-2 ENOENT"), count("sys_exit_openat"), "{out}");
    assert!(
        out.lines()
            .any(|line| line.ends_with("sched:sched_process_exec:")),
        "{out}"
    );

    let uid = rustix::process::getuid().as_raw();
    let filter = format!("flags & (O_WRONLY | O_CREAT) == O_WRONLY && uid == {uid} && cgroup > 0");
    let shell = [
        "--",
        "sh",
        "-c",
        "echo > /dev/null; read x < /dev/null; true",
    ];
    let (out, said, _) = attach(
        &[
            &["syscalls:sys_enter_openat", "--filter", &filter][..],
            &shell,
        ]
        .concat(),
    );
    // The shell creates what it writes to.
    assert_eq!(out, "", "{said}");
    let filter = filter
        .replace("== O_WRONLY", "== (0x41)")
        .replace("(0x41)", "65");
    let (out, said, _) = attach(
        &[
            &["syscalls:sys_enter_openat", "--filter", &filter][..],
            &shell,
        ]
        .concat(),
    );
    assert_eq!(out.lines().count(), 1, "{out}{said}");

    for (arguments, message) in [
        (
            &["--filter", "flags = 1"][..],
            "= in column 7 compares nothing, use ==",
        ),
        (
            &["--filter", "flags & O_NONE"],
            "flags has no value called O_NONE",
        ),
        (
            &["--filter", "common_pid == 1"],
            "common_* fields are in the kernel's records only",
        ),
        (
            &["--fields", "nothing"],
            "and the task has pid, tid, comm and cpu",
        ),
    ] {
        let (out, said, _) = attach(&[&["syscalls:sys_enter_openat"][..], arguments].concat());
        assert!(out.is_empty() && said.contains(message), "{said}");
    }
}

#[test]
fn times_and_durations() {
    let Some(_) = live() else { return };
    let attach = |arguments: &[&str]| {
        let output = tracepoints(&[
            "attach",
            "syscalls:sys_*_nanosleep",
            "syscalls:sys_*_clock_nanosleep",
        ])
        .args(arguments)
        .args(["--", "sleep", "0.02"])
        .output()
        .expect("it runs");
        stdout(&output).to_owned()
    };
    let out = attach(&["--durations", "--time", "delta"]);
    let exit = out.lines().last().expect("two lines");
    let (delta, _) = exit.split_once(' ').expect("a time");
    let duration = exit
        .split_once(" <")
        .and_then(|(_, rest)| rest.strip_suffix('>'));
    let (delta, duration): (f64, f64) = (
        delta.parse().expect("a number"),
        duration.expect("a duration").parse().expect("a number"),
    );
    assert!(
        (0.02..5.0).contains(&duration) && (delta - duration).abs() < 1e-5,
        "{out}"
    );
    let out = attach(&["--time", "wall"]);
    let (time, _) = out.split_once(' ').expect("a time");
    assert_eq!(time.len(), "12:34:56.123456".len(), "{out}");
    let now = Command::new("date").arg("+%H:").output().expect("date");
    let earlier = Command::new("date")
        .args(["-d", "-1 min", "+%H:"])
        .output()
        .expect("date");
    assert!(
        time.starts_with(stdout(&now).trim()) || time.starts_with(stdout(&earlier).trim()),
        "{time}"
    );
}

#[test]
fn counts_at_intervals() {
    let Some(_) = live() else { return };
    let output = tracepoints(&[
        "attach",
        // Few: a PREEMPT_RT kernel takes a second to let go of each.
        "syscalls:sys_enter_mmap",
        "syscalls:sys_enter_read",
        "syscalls:sys_enter_wait4",
        "--count",
        "--top",
        "2",
        "--interval",
        "0.2",
    ])
    .args([
        "--json",
        "-o",
        "/dev/stdout",
        "--",
        "sh",
        "-c",
        "for i in 1 2 3; do sleep 0.3; done",
    ])
    .output()
    .expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let rows: Vec<serde_json::Value> = stdout(&output)
        .lines()
        .map(|row| serde_json::from_str(row).expect("JSON"))
        .collect();
    assert!(rows.len() >= 6 && rows.len().is_multiple_of(2), "{rows:?}");
    let counts: Vec<u64> = rows
        .iter()
        .filter_map(|row| row["count"].as_u64())
        .collect();
    assert!(counts.last() > counts.get(1), "{counts:?}");
}

/// Counted by the kernel in groups, against records of the same.
#[test]
fn groups_and_sums() {
    let Some(_) = live() else { return };
    let attach = |arguments: &[&str]| {
        let script =
            "for i in 1 2 3; do cat /proc/version /no/such/file; done > /dev/null 2>&1; true";
        let output = tracepoints(&["attach", "--json"])
            .args(arguments)
            .args(["--", "sh", "-c", script])
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{}", stderr(&output));
        let rows = stdout(&output).lines();
        rows.map(|row| serde_json::from_str(row).expect("JSON"))
            .collect::<Vec<serde_json::Value>>()
    };
    let of_cat = |rows: &[serde_json::Value]| -> Vec<i64> {
        let rows = rows.iter().filter(|row| row["comm"] == "cat");
        rows.filter_map(|row| row["fields"]["ret"].as_i64())
            .collect()
    };
    let returned = of_cat(&attach(&["syscalls:sys_exit_openat"]));
    assert!(returned.len() >= 6, "{returned:?}");
    let groups = attach(&["syscalls:sys_exit_openat", "--by", "comm", "--stats", "ret"]);
    let group = groups
        .iter()
        .find(|row| row["by"]["comm"] == "cat")
        .expect("cat");
    assert_eq!(group["count"], returned.len());
    assert_eq!(group["min"], returned.iter().copied().min().expect("one"));
    assert_eq!(group["max"], returned.iter().copied().max().expect("one"));
    assert_eq!(group["sum"], returned.iter().sum::<i64>());

    // A user's string, a string elsewhere in the record, one in it, numbers, and the task.
    let groups = attach(&[
        "syscalls:sys_enter_openat",
        "--by",
        "comm,filename",
        "--filter",
        "filename ~ \"/no/*\"",
    ]);
    assert_eq!(groups.len(), 1, "{groups:?}");
    assert_eq!(
        (&groups[0]["count"], &groups[0]["by"]["filename"]),
        (&3.into(), &"/no/such/file".into())
    );
    let groups = attach(&["sched:sched_process_exec", "--by", "filename,cpu"]);
    let cats = groups.iter().filter(|row| {
        row["by"]["filename"]
            .as_str()
            .is_some_and(|name| name.ends_with("/cat"))
    });
    assert_eq!(cats.filter_map(|row| row["count"].as_u64()).sum::<u64>(), 3);
    let groups = attach(&["task:task_rename", "--by", "oldcomm,newcomm"]);
    let renamed = groups
        .iter()
        .find(|row| row["by"]["newcomm"] == "cat")
        .expect("cat");
    assert_eq!(
        (&renamed["by"]["oldcomm"], &renamed["count"]),
        (&"sh".into(), &3.into())
    );

    let steps = attach(&["syscalls:sys_exit_openat", "--lhist", "ret:10"]);
    let counted: u64 = steps[0]["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .filter_map(|step| step["count"].as_u64())
        .sum();
    let all = attach(&["syscalls:sys_exit_openat", "--count"]);
    assert_eq!(all[0]["count"], counted);
}

/// Raw tracepoints by prefix, pattern and name alone, and what is said of wrong ones.
#[test]
fn raw_tracepoints_by_paths() {
    let Some(_) = live() else { return };
    let attach = |arguments: &[&str]| {
        let output = tracepoints(&["attach"])
            .args(arguments)
            .output()
            .expect("it runs");
        let said = stderr(&output).to_owned();
        (stdout(&output).to_owned(), said, output.status.success())
    };
    for prefix in ["raw_tp/", "tp_btf/", "rawtracepoint:"] {
        let target = format!("{prefix}sched_process_exec{{bprm->argc,bprm.filename}}/p->pid > 1/");
        let (out, said, is_well) = attach(&[&target, "--", "/bin/true", "x"]);
        let event = match prefix {
            "tp_btf/" => "tp_btf:sched_process_exec",
            _ => "raw_tp:sched_process_exec",
        };
        let end = format!("{event}: bprm->argc=2 bprm.filename=\"/bin/true\"\n");
        assert!(is_well && out.ends_with(&end), "{out}{said}");
    }
    let events = [
        "sched_process_exec",
        "raw_tp/sched_process_ex*",
        "sched_util_est_cfs_tp",
    ];
    let (out, said, is_well) = attach(&[&events[..], &["--count", "--", "true"]].concat());
    assert!(is_well, "{said}");
    for counted in [
        "1  sched:sched_process_exec",
        "1  raw_tp:sched_process_exec",
        "1  raw_tp:sched_process_exit",
    ] {
        assert!(out.contains(counted), "{out}{said}");
    }
    let (out, ..) = attach(&[
        "tp_btf/sched_process_exit",
        "-F",
        "p->exit_state",
        "--json",
        "--",
        "true",
    ]);
    let row: serde_json::Value = serde_json::from_str(&out).expect("one row");
    assert_eq!(row["event"], "tp_btf:sched_process_exit");
    assert!(row["fields"]["p->exit_state"].is_number(), "{out}");
    for (arguments, expected) in [
        (
            ["raw_tp/sched_switch", "-F", "prev->nothing"],
            "struct task_struct has no member nothing; it has ",
        ),
        (
            ["raw_tp/sched_switch", "-F", "nothing"],
            "the arguments are preempt, prev, next",
        ),
        (
            ["raw_tp/sched_switch", "-F", "prev-"],
            "a shell takes > for itself",
        ),
        (
            ["raw_tp/sched_switch", "-f", "prev->pid == NOTHING"],
            "prev->pid has no value called NOTHING",
        ),
        (
            ["raw_tp/sched_switch", "-f", "prev->comm == 7"],
            "prev->comm is a string",
        ),
        (
            ["raw_tp/sched_switch", "-f", "nothing == 7"],
            "it has preempt, prev, next",
        ),
        (
            ["raw_tp/nothing", "-F", "x"],
            "no BTF object of this kernel defines such a tracepoint",
        ),
        (
            ["raw_tp/sched_switch", "-H", "prev->comm"],
            "prev->comm of raw_tp:sched_switch is not an integer",
        ),
    ] {
        let (_, said, is_well) = attach(&arguments);
        assert!(!is_well && said.contains(expected), "{arguments:?}: {said}");
    }
}
