//! Rows of JSON are as the schemas of `docs/` say.

use std::fs;
use std::process::Output;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

use crate::command::{run, stderr, stdout, tracepoints};
use crate::support;

pub(crate) struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    /// Reads a schema of `docs/`.
    pub(crate) fn read(file: &str) -> Self {
        let path = support::repository().join("docs").join(file);
        let text = fs::read_to_string(path).expect("the schema");
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        let schema = serde_json::from_str(&text).expect("JSON");
        compiler
            .add_resource("rows.json", schema)
            .expect("a schema");
        let index = compiler
            .compile("rows.json", &mut schemas)
            .expect("a schema");
        Self { schemas, index }
    }

    fn is_valid(&self, row: &Value) -> Result<(), String> {
        let checked = self.schemas.validate(row, self.index);
        checked.map_err(|error| format!("{row}\n{error:#}"))
    }

    /// The rows, each of which is valid.
    pub(crate) fn rows(&self, output: &Output) -> Vec<Value> {
        let rows = stdout(output).lines().map(|line| {
            let row: Value = serde_json::from_str(line).expect("JSON");
            self.is_valid(&row)
                .unwrap_or_else(|error| panic!("{error}"));
            row
        });
        rows.collect()
    }
}

#[test]
fn decoded_pages() {
    let schema = Schema::read("rows.schema.json");
    for name in ["6.18.15-x86_64", "7.3.4-x86_64"] {
        let root = support::fixture(name);
        let pages = root.join("ring/cpu0.raw").display().to_string();
        let rows = schema.rows(&run("decode", &root, &["--json", &pages]));
        assert!(rows.len() > 50);
        let timers = rows
            .iter()
            .filter(|row| row["event"] == "timer:hrtimer_start");
        for timer in timers {
            let address = timer["fields"]["hrtimer"].as_str().expect("text");
            assert!(address.starts_with("0xff"), "{address}");
        }
        let release = rows[0]["kernel"]["release"].as_str().expect("a release");
        assert!(
            name.starts_with(&release[..6]) || release.starts_with("7.3.4"),
            "{release}"
        );
    }
    let rows = schema.rows(
        &tracepoints(&["decode", "--demo", "--json"])
            .output()
            .expect("it runs"),
    );
    assert_eq!(rows.len(), 207);
    assert_eq!(rows[0]["kernel"]["source"], "demo");
}

#[test]
fn what_is_no_row() {
    let schema = Schema::read("rows.schema.json");
    for text in [
        "{}",
        r#"{"event":"a:b","count":1}"#,
        r#"{"event":"a","count":1,"kernel":{"release":null,"architecture":null,"source":"live"}}"#,
        r#"{"event":"a:b","count":1,"more":1,"kernel":{"release":null,"architecture":null,"source":"live"}}"#,
    ] {
        let row = serde_json::from_str(text).expect("JSON");
        assert!(schema.is_valid(&row).is_err(), "{text}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_running_kernel() {
    let Some(_) = crate::namespace::live() else {
        return;
    };
    let schema = Schema::read("rows.schema.json");
    let attach = |arguments: &[&str]| {
        let output = tracepoints(&["attach", "--json"])
            .args(arguments)
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{}", stderr(&output));
        schema.rows(&output)
    };
    attach(&["sched:sched_process_exec", "--stack", "--", "true"]);
    let events = [
        "sched:sched_process_exec",
        "syscalls:sys_*_openat",
        "kmem:kmalloc",
    ];
    // Of its own, what it prints is not among the rows.
    let command = ["--", "sh", "-c", "cat /proc/version > /dev/null"];
    let rows = attach(&[&events[..], &["--durations"], &command[..]].concat());
    assert!(rows.iter().any(|row| row["duration_ns"].is_u64()));
    assert!(rows.iter().all(|row| row["kernel"]["source"] == "live"));
    // An unsigned long, which the kernel prints by %pS.
    let kmalloc = rows
        .iter()
        .find(|row| row["event"] == "kmem:kmalloc")
        .expect("memory");
    assert!(
        kmalloc["fields"]["call_site"]
            .as_str()
            .expect("text")
            .starts_with("0x")
    );
    // Both at once.
    let rows = attach(&[&["sched:sched_process_exec", "--pretty"][..], &command].concat());
    let text = rows[0]["text"].as_str().expect("text");
    assert!(text.starts_with("sched_process_exec: filename="), "{text}");
    assert_eq!(
        attach(&[&["--count", "sched:sched_process_exec"][..], &command].concat())[0]["count"],
        2
    );
    attach(&["--explain", "--count", "sched:sched_switch"]);
    let rows = attach(&[&["sys:openat"][..], &command].concat());
    assert!(rows[0]["ret"].is_number() && rows[0]["duration_ns"].is_number());
    attach(&[&["--hist", "ret", "syscalls:sys_exit_read"][..], &command].concat());
    let row = &attach(
        &[
            &["--by", "comm,filename", "sched:sched_process_exec"][..],
            &command,
        ]
        .concat(),
    )[0];
    assert!(row["by"]["filename"].is_string());
    attach(&[&["--stats", "ret", "syscalls:sys_exit_read"][..], &command].concat());
    attach(
        &[
            &["--lhist", "ret:100", "syscalls:sys_exit_read"][..],
            &command,
        ]
        .concat(),
    );
    // A program that opens files faster than records of 4000 bytes can be printed.
    let many = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); read x < /dev/null; done; true";
    let wide = [
        "--data",
        "4000",
        "syscalls:sys_enter_openat",
        "--",
        "sh",
        "-c",
        many,
    ];
    let rows = attach(&wide);
    let opened = rows.iter().filter(|row| row.get("event").is_some()).count() as u64;
    let lost = rows
        .last()
        .and_then(|row| row["losses"]["records"].as_u64());
    assert!(
        opened + lost.unwrap_or(0) >= 20_000,
        "{opened} and {lost:?}"
    );
}
