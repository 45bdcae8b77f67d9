//! Two kernels held against each other.

use std::process::Output;

use crate::command::{stderr, stdout, tracepoints};
use crate::schema::Schema;
use crate::support::repository;

fn diff(arguments: &[&str]) -> Output {
    let mut command = tracepoints(&["diff"]);
    command.current_dir(repository()).args(arguments);
    command.output().expect("it runs")
}

const OLD: &str = "tests/fixtures/6.1.192-rt-x86_64";
const NEW: &str = "tests/fixtures/6.18.15-x86_64";

#[test]
fn text() {
    let output = diff(&[OLD, NEW, "--only", "sched:sched_process_*"]);
    assert!(output.status.success(), "{}", stderr(&output));
    insta::assert_snapshot!(stdout(&output));
    // Nothing is said of a kernel and itself.
    let output = diff(&[OLD, OLD]);
    assert_eq!((stdout(&output), stderr(&output)), ("", ""));
}

#[test]
fn markdown() {
    let output = diff(&["--markdown", OLD, NEW, "--only", "sched:sched_*"]);
    assert!(output.status.success(), "{}", stderr(&output));
    insta::assert_snapshot!(stdout(&output));
    let output = diff(&["--markdown", NEW, NEW]);
    assert!(stdout(&output).ends_with("Nothing differs.\n"));
}

#[test]
fn json() {
    let schema = Schema::read("diff.schema.json");
    let mut seen = 0;
    for other in [
        "5.10.223-x86_64",
        "6.1.176-i686",
        "6.12.107-s390x",
        "7.3.4-x86_64",
    ] {
        let rows = schema.rows(&diff(&["--json", OLD, &format!("tests/fixtures/{other}")]));
        assert!(rows.iter().all(|row| row["from"]["source"] == OLD));
        seen += rows.len();
    }
    assert!(seen > 100);
}

#[test]
fn wrong_kernels() {
    for (arguments, complaint) in [
        (&["nowhere", NEW][..], "nowhere"),
        (&[OLD], "required arguments were not provided"),
        (&[OLD, NEW, "--json", "--markdown"], "cannot be used with"),
        (&[OLD, "docs"], "docs"),
    ] {
        let output = diff(arguments);
        assert!(!output.status.success());
        assert!(stderr(&output).contains(complaint), "{}", stderr(&output));
    }
}
