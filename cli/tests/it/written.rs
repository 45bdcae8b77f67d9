//! Files that `decode` writes for other programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::command::{stderr, stdout, tracepoints};
use crate::recorded::recording;
use crate::recorded_by_perf::of_pages;
use crate::support;
use crate::trace_dat::UNPACKED;

const KERNEL: &str = "6.18.15-x86_64";

/// Runs the command in a directory.
pub(crate) fn in_dir(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = tracepoints(arguments);
    command.current_dir(dir).output().expect("it runs")
}

/// The rows of `decode --json` by this command line, without the kernel's source.
pub(crate) fn rows(dir: &Path, arguments: &[&str]) -> Vec<Value> {
    let output = in_dir(dir, &[&["decode", "--json"], arguments].concat());
    assert_eq!(stderr(&output), "");
    let rows = stdout(&output).lines();
    rows.map(|row| {
        let mut row: Value = serde_json::from_str(row).expect("JSON");
        row.as_object_mut().expect("an object").remove("kernel");
        row
    })
    .collect()
}

/// A directory with a recording of each kind, and how each is decoded.
pub(crate) fn inputs() -> (tempfile::TempDir, Vec<Vec<String>>) {
    let dir = tempfile::tempdir().expect("a directory");
    let put = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).expect("a file");
    put("in.dat", &recording().version_6());
    put("perf.data", &of_pages().file());
    let root = support::fixture(KERNEL).display().to_string();
    let mut pages = vec!["--root".to_owned(), root.clone()];
    pages.extend(["cpu0", "cpu1"].map(|cpu| format!("{root}/ring/{cpu}.raw")));
    let inputs = vec![
        pages,
        vec!["in.dat".to_owned()],
        vec!["perf.data".to_owned()],
    ];
    (dir, inputs)
}

/// Writes `in.dat` with instances of these names and clocks, which have the records of the top
/// buffer.
pub(crate) fn with_instances(instances: [(&str, &str); 2]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let mut dat = recording();
    for (name, clock) in instances {
        let mut instance = dat.buffers[0].clone();
        name.clone_into(&mut instance.name);
        clock.clone_into(&mut instance.clock);
        dat.buffers.push(instance);
    }
    fs::write(dir.path().join("in.dat"), dat.version_7(UNPACKED)).expect("a file");
    dir
}

/// Addresses in fields of numbers are text in JSON, and numbers in other forms.
pub(crate) fn with_numbers(fields: &mut Value) {
    for value in fields.as_object_mut().expect("an object").values_mut() {
        let hex = value.as_str().and_then(|text| text.strip_prefix("0x"));
        if let Some(number) = hex.and_then(|hex| u64::from_str_radix(hex, 16).ok()) {
            *value = number.into();
        }
    }
}

/// An input, its file, and what was said of it.
type Written = (Vec<String>, String, String);

/// Each input, its file, and what was said of it.
pub(crate) fn written(form: &str) -> (tempfile::TempDir, Vec<Written>) {
    let (dir, inputs) = inputs();
    let mut files = Vec::new();
    for (index, input) in inputs.into_iter().enumerate() {
        let out = format!("out{index}");
        let mut arguments = vec!["decode", "--as", form, "-o", &out];
        arguments.extend(input.iter().map(String::as_str));
        let output = in_dir(dir.path(), &arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stdout(&output), "");
        let said = stderr(&output).to_owned();
        files.push((input, out, said));
    }
    (dir, files)
}

/// A `trace.dat` has the same rows as what it was made of.
#[test]
fn trace_dat() {
    let (dir, files) = written("trace-dat");
    for (input, out, said) in files {
        assert_eq!(said, format!("tracepoints: 207 records in {out}\n"));
        let input: Vec<&str> = input.iter().map(String::as_str).collect();
        let mut expected = rows(dir.path(), &input);
        let mut found = rows(dir.path(), &[&out]);
        // Only perf tells processes, and only a capture has BTF, whose enumerators some
        // texts need.
        for row in expected.iter_mut().chain(&mut found) {
            let row = row.as_object_mut().expect("an object");
            row.remove("pid");
            let text = row["text"].as_str().unwrap_or_default();
            if text.contains("mode=") {
                row.remove("text");
            }
        }
        assert_eq!(found, expected);
    }
}

/// `trace-cmd report` prints these rows: thread, name, CPU, time and event.
#[test]
fn trace_dat_by_trace_cmd() {
    if Command::new("trace-cmd").output().is_err() {
        return support::skip("trace-cmd is not installed");
    }
    let (dir, files) = written("trace-dat");
    for (_, out, _) in files {
        let mut report = Command::new("trace-cmd");
        report
            .args(["report", "-N", "-t"])
            .arg(dir.path().join(&out));
        let report = report.output().expect("it runs");
        assert!(report.status.success());
        let lines = stdout(&report).lines().skip(1);
        let lines: Vec<String> = lines.map(|line| line.trim().to_owned()).collect();
        let rows = rows(dir.path(), &[&out]);
        assert_eq!(lines.len(), rows.len());
        for (line, row) in lines.iter().zip(rows) {
            let time = row["timestamp_ns"].as_u64().expect("a time");
            let event = row["event"].as_str().expect("an event");
            let (_, event) = event.split_once(':').expect("two parts");
            // Padding is trace-cmd's own.
            let words: Vec<&str> = line.split_whitespace().collect();
            let start = format!(
                "{}-{} [{:03}] {}.{:09}: {event}:",
                row["comm"].as_str().unwrap_or("<idle>"),
                row["tid"],
                row["cpu"].as_u64().expect("a CPU"),
                time / 1_000_000_000,
                time % 1_000_000_000,
            );
            assert!(words.join(" ").starts_with(&start), "{line}: {start}");
        }
    }
}

/// `--only` writes only these events.
#[test]
fn only_some() {
    let (dir, _) = inputs();
    let only = ["decode", "in.dat", "--only", "sched:sched_process_exec"];
    let arguments = [&only[..], &["--as", "trace-dat", "--out", "out.dat"]].concat();
    let output = in_dir(dir.path(), &arguments);
    assert_eq!(stderr(&output), "tracepoints: 6 records in out.dat\n");
    assert_eq!(rows(dir.path(), &["out.dat"]).len(), 6);
}

/// Threads that perf gives several names, or others than the kernel's ids, are reported.
#[test]
fn threads_of_perf() {
    let dir = tempfile::tempdir().expect("a directory");
    let bytes = crate::recorded_by_perf::renamed().file();
    fs::write(dir.path().join("perf.data"), bytes).expect("a file");
    let arguments = ["decode", "perf.data", "--as", "trace-dat", "-o", "out.dat"];
    let output = in_dir(dir.path(), &arguments);
    let lines = in_dir(dir.path(), &["decode", "out.dat"]);
    insta::assert_snapshot!(format!("{}{}", stderr(&output), stdout(&lines)));
}

#[test]
fn refused() {
    let (dir, _) = inputs();
    fs::write(dir.path().join("there"), "").expect("a file");
    let mut text = String::new();
    for arguments in [
        &["in.dat", "-o", "out"][..],
        &["in.dat", "--as", "trace-dat"],
        &["in.dat", "--as", "trace-dat", "-o", "there"],
        &["in.dat", "--as", "trace-dat", "-o", "none/out"],
        &["in.dat", "--as", "trace-dat", "-o", "out", "--json"],
        &["--live", "a:b", "--as", "trace-dat", "-o", "out"],
        &["in.dat", "there", "--as", "trace-dat", "-o", "out"],
    ] {
        let output = in_dir(dir.path(), &[&["decode"], arguments].concat());
        assert!(!output.status.success());
        assert_eq!(stdout(&output), "");
        let said = stderr(&output);
        let said = said.split("\n\nUsage").next().unwrap_or_default();
        text += &format!("{arguments:?}: {}\n", said.trim_end());
    }
    insta::assert_snapshot!(text);
    let names = fs::read_dir(dir.path()).expect("a directory");
    let names: BTreeMap<_, ()> = names
        .map(|entry| (entry.expect("one").file_name(), ()))
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
}
