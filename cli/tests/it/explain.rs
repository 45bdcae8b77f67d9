//! `attach --explain`, `--program`, `--strings` and `sys:CALL` on the running kernel.

use tracepoints::text::KernelVersion;

use crate::command::{stderr, stdout, tracepoints};
use crate::namespace::live;
use crate::schema::Schema;

/// `--explain` tells which program serves each event, and `--program` chooses another.
#[test]
fn which_program_serves_what() {
    let Some(_) = live() else { return };
    let explained = |arguments: &[&str]| {
        let output = tracepoints(&["attach", "--explain"])
            .args(arguments)
            .output()
            .expect("it runs");
        format!("{}{}", stdout(&output), stderr(&output))
    };
    for (arguments, expected) in [
        (
            &["sched:sched_switch", "--count"][..],
            "sched:sched_switch: raw_tp/sched_switch (no field is needed)\n",
        ),
        (
            &["sched:sched_switch", "-F", "comm,pid", "-f", "cpu < 99"],
            "sched:sched_switch: raw_tp/sched_switch (no field is needed)\n",
        ),
        (
            &["sched:sched_switch", "-F", "prev_pid"],
            "sched:sched_switch: tp/sched/sched_switch (fields of its record are needed)\n",
        ),
        (
            &["sched:sched_switch", "--count", "--program", "tp"],
            "sched:sched_switch: tp/sched/sched_switch (asked for)\n",
        ),
        (
            &["sched:sched_switch", "--program", "raw_tp", "--", "true"],
            "tracepoints: no raw_tp program can serve sched:sched_switch here: fields of its \
             record are needed; tp can\n",
        ),
        (
            &["syscalls:sys_enter_read", "--count"],
            "syscalls:sys_enter_read: tp/syscalls/sys_enter_read (few system calls: one program \
             at all of them would cost more)\n",
        ),
        (
            &["raw_tp/sched_switch", "--count"],
            "raw_tp:sched_switch: raw_tp/sched_switch (a raw tracepoint)\n",
        ),
    ] {
        assert_eq!(explained(arguments), expected, "{arguments:?}");
    }
}

/// Two programs serve all system calls where the task alone is asked for.
#[test]
fn system_calls_by_task() {
    let Some(kernel) = live() else { return };
    if kernel.version().ok().flatten() < Some(KernelVersion::new(5, 14, 0)) {
        return;
    }
    let explained = |arguments: &[&str]| {
        let output = tracepoints(&["attach", "--explain", "syscalls:sys_e*_*get*"])
            .args(arguments)
            .output()
            .expect("it runs");
        let text = stdout(&output).to_owned();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for arguments in [
        &["--by", "comm"][..],
        &["--by", "comm,cpu", "-f", "task.pid > 1"],
        &["-F", "comm"],
        &["--count"],
    ] {
        let lines = explained(arguments);
        let [enter, exit] = lines.as_slice() else {
            panic!("{arguments:?}: {lines:?}");
        };
        let is_of = |line: &str, tracepoint: &str| {
            line.contains(" events: ")
                && line.contains(&format!(
                    "/{tracepoint} (one program serves all system calls"
                ))
        };
        assert!(
            is_of(enter, "sys_enter") && is_of(exit, "sys_exit"),
            "{lines:?}"
        );
    }
    let own = explained(&["--by", "comm", "--program", "tp"]);
    assert!(
        own.len() > 20 && own.iter().all(|line| line.contains(": tp/syscalls/")),
        "{own:?}"
    );
}

/// Strings are read again at exit unless `--strings entry` is given.
#[test]
fn strings_are_read_again_at_exit() {
    let Some(_) = live() else { return };
    let attach = |arguments: &[&str]| {
        let output = tracepoints(&["attach", "syscalls:sys_enter_openat{filename}"])
            .args(arguments)
            .output()
            .expect("it runs");
        format!("{}{}", stdout(&output), stderr(&output))
    };
    let out = attach(&["--explain"]);
    assert_eq!(
        out,
        "syscalls:sys_enter_openat: tp/syscalls/sys_enter_openat (fields of its record are \
         needed)\n\
         syscalls:sys_enter_openat: tp/syscalls/sys_exit_openat (reads again what cannot be read \
         at entry)\n"
    );
    assert_eq!(
        attach(&["--explain", "--strings", "entry"]).lines().count(),
        1
    );
    // A program that was never run opens its libraries by names in pages not yet touched.
    let command = ["--strings", "twice", "--json", "--", "cat", "/etc/passwd"];
    let out = attach(&command);
    let rows = out.lines().filter(|line| line.contains("\"fields\""));
    for row in rows {
        let row: serde_json::Value = serde_json::from_str(row).expect("JSON");
        assert!(row["fields"]["filename"].is_string(), "{row}");
        assert!(row.get("rewritten").is_none(), "{row}");
    }
    assert!(out.contains("/etc/passwd"), "{out}");
}

/// `*NAME` is what an argument points at: read or written, and by the schema.
#[test]
fn what_arguments_point_at() {
    let Some(_) = live() else { return };
    let attach = |arguments: &[&str]| {
        let output = tracepoints(&["attach"]).args(arguments).output();
        output.expect("it runs")
    };
    let call = "sys:clock_nanosleep{*rqtp,*rmtp}";
    let output = attach(&[call, "--json", "--", "sleep", "0.25"]);
    let rows = Schema::read("rows.schema.json").rows(&output);
    let [row] = rows.as_slice() else {
        panic!("{rows:?}");
    };
    let time = serde_json::json!({"tv_sec": 0, "tv_nsec": 250_000_000});
    assert_eq!(row["fields"]["*rqtp"], time);
    // GNU's sleep gives a place for the rest, and others do not.
    let rest = row.get("unwritten").unwrap_or(&serde_json::Value::Null);
    assert!(row["fields"]["*rmtp"].is_null(), "{row}");
    assert!(rest.is_null() || *rest == serde_json::json!(["*rmtp"]));

    let output = attach(&["sys:newfstatat{*statbuf}", "--explain"]);
    assert!(stdout(&output).contains("(adds what the system call returned)"));
    let output = attach(&["syscalls:sys_enter_newfstatat{*statbuf}", "--explain"]);
    let reads = "tp/syscalls/sys_exit_newfstatat (reads what the system call has written)";
    assert!(stdout(&output).contains(reads), "{}", stdout(&output));
    let output = attach(&["sys:ppoll{*tsp}", "--", "true"]);
    assert!(stderr(&output).contains("*tsp@entry, for *tsp@exit"));
}

/// `sys:CALL` prints a system call with its result and duration on one line.
#[test]
fn whole_system_calls() {
    let Some(_) = live() else { return };
    let attach = |arguments: &[&str]| {
        let output = tracepoints(&["attach", "sys:mkdir*{pathname}"])
            .args(arguments)
            .output()
            .expect("it runs");
        stdout(&output).to_owned()
    };
    let command = ["--", "sh", "-c", "mkdir /usr 2> /dev/null; true"];
    let out = attach(&command);
    let mut lines = out.lines().filter(|line| line.contains("\"/usr\""));
    let line = lines.next().unwrap_or_default();
    assert!(line.contains("pathname=\"/usr\""), "{out}");
    assert!(line.contains(" = -17 EEXIST <0.0"), "{out}");
    let out = attach(&[&["--json"][..], &command].concat());
    let rows = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let rows: Vec<serde_json::Value> = rows.collect();
    let row = rows.iter().find(|row| row["fields"]["pathname"] == "/usr");
    let row = row.expect("a row");
    assert_eq!(row["ret"], -17);
    assert!(row["duration_ns"].as_u64().is_some_and(|took| took > 0));
}
