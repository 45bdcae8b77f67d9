//! `list` and `format` of captured kernels.

use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::capture::{COMMON, Capture};
use crate::command::{run, stderr, stdout, tracepoints};
use crate::support;

#[test]
fn list_of_every_fixture() {
    for root in support::fixtures() {
        let output = run("list", &root, &[]);
        assert!(output.status.success());
        let text = format!("{}stderr: {}", stdout(&output), stderr(&output));
        insta::assert_snapshot!(format!("list-{}", support::name(&root)), text);
    }
}

/// Events of different shapes, and those whose answer changed between kernels.
const EVENTS: [&str; 12] = [
    "sched:sched_process_exit",
    "sched:sched_process_free",
    "sched:sched_switch",
    "syscalls:sys_enter_unlinkat",
    "syscalls:sys_exit_unlinkat",
    "irq_vectors:vector_deactivate",
    "xfs:kmem_alloc",
    "xfs:xfs_extent_busy",
    "block:block_rq_complete",
    "ipi:ipi_send_cpumask",
    "fib:fib_table_lookup",
    "nfs4:nfs4_read",
];

#[test]
fn format_of_every_fixture() {
    for root in support::fixtures() {
        let kernel = tracepoints::Kernel::at(&root).expect("a kernel");
        let known = kernel.events().expect("events");
        let events: Vec<&str> = EVENTS
            .into_iter()
            .filter(|event| known.contains(&event.parse().expect("a name")))
            .collect();
        let output = run("format", &root, &events);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stderr(&output), "");
        insta::assert_snapshot!(format!("format-{}", support::name(&root)), stdout(&output));
    }
}

#[test]
fn format_as_json() {
    let root = support::fixture("7.3.4-x86_64");
    let output = run(
        "format",
        &root,
        &[
            "--json",
            "syscalls:sys_enter_unlinkat",
            "sched:sched_process_exec",
        ],
    );
    let mut pretty = String::new();
    for line in stdout(&output).lines() {
        let value: Value = serde_json::from_str(line).expect("JSON");
        pretty += &serde_json::to_string_pretty(&value).expect("JSON");
        pretty.push('\n');
    }
    insta::assert_snapshot!(pretty);
}

/// Source for CO-RE that is wrong on another kernel comes with a warning.
#[test]
fn emitted_core_warns() {
    let root = support::fixture("6.12.107-s390x");
    let output = run(
        "format",
        &root,
        &["--emit", "core", "sched:sched_process_exit"],
    );
    assert!(output.status.success());
    insta::assert_snapshot!(format!("{}stderr: {}", stdout(&output), stderr(&output)));
    let switch = run("format", &root, &["--emit", "core", "sched:sched_switch"]);
    assert_eq!(stderr(&switch), "");
    let rust = ["--emit", "rust", "--beside", "system", "sched:sched_switch"];
    let refused = run("format", &root, &rust);
    assert!(!refused.status.success());
    assert_eq!(
        stderr(&refused),
        "tracepoints: --beside is for --emit c and --emit core\n"
    );
}

/// One source for several kernels, and what is to be known of it.
#[test]
fn emitted_for_several_kernels() {
    let roots = ["6.1.192-rt-x86_64", "6.18.15-x86_64", "7.3.4-x86_64"];
    let roots = roots.map(|root| format!("tests/fixtures/{root}"));
    let emit = |what: &str, patterns: &[&str]| {
        let mut command = tracepoints(&["format", "--emit", what]);
        command.current_dir(support::repository());
        for root in &roots {
            command.arg("--root").arg(root);
        }
        command.args(patterns).output().expect("it runs")
    };
    let output = emit("core", &["sched:sched_process_exit", "block:block_rq_*"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let heads = stdout(&output).lines();
    let heads = heads.filter(|line| line.starts_with("static") || line.starts_with("#"));
    let heads: Vec<&str> = heads.collect();
    insta::assert_snapshot!(format!("{}\nstderr: {}", heads.join("\n"), stderr(&output)));

    for (what, pattern, expected) in [
        ("core", "sched:no_such", "sched:no_such"),
        (
            "c",
            "sched:sched_switch",
            "several --root are for --emit core",
        ),
    ] {
        let refused = emit(what, &[pattern]);
        assert!(!refused.status.success());
        assert!(stderr(&refused).contains(expected), "{}", stderr(&refused));
    }
    let root = support::fixture("6.18.15-x86_64");
    for (what, expected) in [
        ("offsets", "struct tracepoint_field sched_switch_prev_pid;"),
        (
            "offsets-rust",
            "pub sched_switch_prev_pid: TracepointField,",
        ),
    ] {
        let output = run("format", &root, &["--emit", what, "sched:sched_switch"]);
        assert!(stdout(&output).contains(expected), "{}", stdout(&output));
    }
}

#[test]
fn list_as_json_is_one_object_a_line() {
    let root = support::fixture("6.18.15-x86_64");
    let output = run("list", &root, &["--json", "sched:sched_process_exit"]);
    assert_eq!(
        stdout(&output),
        concat!(
            r#"{"event":"sched:sched_process_exit","category":"sched","name":"sched_process_exit","id":305,"#,
            r#""section":"tracepoint/sched/sched_process_exit","context":{"#,
            r#""struct":"trace_event_raw_sched_process_exit","class":"sched_process_exit","#,
            r#""evidence":"named","home":"vmlinux","candidates":[]},"#,
            r#""kernel":{"release":"6.18.15+deb13-cloud-amd64","architecture":"x86_64","#,
            r#""source":"tests/fixtures/6.18.15-x86_64"}}"#,
            "\n"
        )
    );
    let output = run("list", &root, &["--json"]);
    let rows: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(rows.len(), 93);
    for row in rows {
        let context = &row["context"];
        let text = |key: &str| context[key].as_str();
        let candidates = context["candidates"].as_array().expect("a list");
        match text("evidence").expect("an evidence") {
            "ambiguous" => {
                assert!(text("struct").is_none() && text("class").is_none());
                assert!(candidates.len() > 1);
            }
            "syscall" => assert!(text("class").is_none() && text("struct").is_some()),
            _ => {
                let class = text("class").expect("a class");
                assert_eq!(text("struct"), Some(&*format!("trace_event_raw_{class}")));
            }
        }
    }
}

#[test]
fn list_of_patterns_and_of_a_class() {
    let root = support::fixture("6.18.15-x86_64");
    let events = |arguments: &[&str]| -> Vec<String> {
        let output = run("list", &root, arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        let rows = stdout(&output).lines();
        rows.map(|row| row.split(' ').next().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(
        events(&["power:*"]),
        ["power:cpu_frequency", "power:cpu_idle"]
    );
    assert_eq!(
        events(&["*:*_exit", "power:cpu_idle"]),
        [
            "kvm:kvm_exit",
            "irq:irq_handler_exit",
            "sched:sched_process_exit",
            "raw_syscalls:sys_exit",
            "power:cpu_idle"
        ]
    );
    assert_eq!(
        events(&["--class", "vector_activate"]),
        [
            "irq_vectors:vector_deactivate",
            "irq_vectors:vector_activate"
        ]
    );
    assert_eq!(
        events(&["--class", "trace_event_raw_cpu"]),
        ["power:cpu_frequency", "power:cpu_idle"]
    );
    // Those that may be of the class are told by their evidence.
    assert_eq!(
        events(&["--class", "nfs4_read_event"]),
        ["nfs4:nfs4_read", "nfs4:nfs4_pnfs_read", "nfs4:nfs4_write"]
    );
    assert_eq!(events(&["--class", "trace_event_raw_sys_exit"]).len(), 3);
}

#[test]
fn wrong_inputs_say_what_is_wrong() {
    let root = support::fixture("6.18.15-x86_64");
    for (program, arguments, message) in [
        (
            "format",
            &["sched:sched_proces_exit"][..],
            "tracepoints: no event sched:sched_proces_exit; did you mean sched:sched_process_exit?\n",
        ),
        (
            "format",
            &["kvn:*"],
            "tracepoints: no event matches \"kvn:*\"\n",
        ),
        (
            "list",
            &["unlink"],
            "tracepoints: no event matches \"unlink\"; did you mean syscalls:sys_exit_unlinkat or syscalls:sys_enter_unlinkat?\n",
        ),
        (
            "list",
            &["--class", "no_such"],
            "tracepoints: no event of class \"no_such\"\n0 events, 0 classes\n",
        ),
        (
            "list",
            &["sched:sched_swich"],
            "tracepoints: no event sched:sched_swich; did you mean sched:sched_switch?\n",
        ),
    ] {
        let output = run(program, &root, arguments);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!((stdout(&output), stderr(&output)), ("", message));
    }
    let output = run("format", &root, &["a:b:c"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output)
            .contains("\"a:b:c\" is not a pattern of event names: it has more than two halves")
    );

    let empty = tempfile::tempdir().expect("a directory");
    let output = run("list", empty.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("it has neither tracing/available_events nor tracing/events"));
}

#[test]
fn an_event_gone_is_a_fact_and_a_bad_file_a_failure() {
    let mut capture = Capture::new();
    capture
        .event("x:a", COMMON, &[])
        .list("x:gone")
        .event("x:b", COMMON, &[]);
    let output = run("list", capture.root(), &[]);
    assert!(output.status.success());
    assert_eq!(stdout(&output), "x:a  -  format\nx:b  -  format\n");
    assert!(stderr(&output).contains("tracepoints: x:gone is listed, but "));
    assert!(stderr(&output).ends_with("2 events, 0 classes: 2 format\n"));

    capture.file("x:a", "format", "name: a\nID: x\n");
    let output = run("list", capture.root(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "x:b  -  format\n");
    assert!(stderr(&output).contains("line 2: expected `ID: ` and a number, found \"ID: x\""));
}

/// `list | head -1`.
#[test]
fn a_reader_that_goes_is_no_failure() {
    // More than a pipe holds, so that writing must fail.
    let mut capture = Capture::new();
    for number in 0..2000 {
        capture.event(
            &format!("x:event_with_a_rather_long_name_{number}"),
            COMMON,
            &[],
        );
    }
    let mut child = tracepoints(&["list"])
        .arg("--root")
        .arg(capture.root())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    drop(child.stdout.take());
    let mut text = String::new();
    child
        .stderr
        .take()
        .expect("a pipe")
        .read_to_string(&mut text)
        .expect("text");
    assert_eq!(
        (child.wait().expect("an end").code(), &*text),
        (Some(0), "")
    );
}

#[test]
fn no_colour_in_a_pipe() {
    let output = run("list", &support::fixture("6.18.15-x86_64"), &[]);
    assert!(!stdout(&output).contains('\u{1b}'));
}

#[test]
fn list_of_names() {
    for root in support::fixtures() {
        let output = run("list", &root, &["--names", "sched:*"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let kernel = tracepoints::Kernel::at(&root).expect("a kernel");
        let names = kernel
            .select(&["sched:*".parse().expect("a pattern")])
            .expect("events");
        let names: Vec<&str> = names.names().iter().map(|name| name.as_str()).collect();
        assert_eq!(stdout(&output).lines().collect::<Vec<_>>(), names);
        assert!(!names.is_empty());
    }
}
