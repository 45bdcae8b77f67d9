//! `audit` of an object of the fixtures.

use std::path::Path;

use serde_json::Value;

use crate::command::{stderr, stdout, tracepoints};
use crate::schema::Schema;

/// `tracepoints audit` in the directory of the fixtures, where paths are short.
fn audit(arguments: &[&str]) -> std::process::Output {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let mut command = tracepoints(&["audit", "audit/openat.bpf.o"]);
    command.args(arguments).current_dir(fixtures);
    command.output().expect("it runs")
}

const KERNELS: [&str; 4] = [
    "--kernels",
    "5.10.223-x86_64",
    "6.1.192-rt-x86_64",
    "6.18.15-x86_64",
];

#[test]
fn a_matrix_and_what_is_wrong() {
    let output = audit(&KERNELS);
    assert!(output.status.success(), "{}", stderr(&output));
    insta::assert_snapshot!(stdout(&output));
    assert_eq!(
        stderr(&output),
        "1 program on 3 kernels: 1 wrong or refused\n"
    );
}

/// A directory of kernels stands for them, whatever else is in it.
#[test]
fn kernels_of_a_directory() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let dir = tempfile::tempdir().expect("a directory");
    for kernel in ["6.1.192-rt-x86_64", "6.18.15-x86_64"] {
        let image = fixtures.join(kernel).join("btf/vmlinux");
        std::fs::copy(image, dir.path().join(kernel)).expect("a copy");
    }
    std::fs::write(dir.path().join("README"), "no kernel").expect("a file");
    std::fs::create_dir(dir.path().join("tools")).expect("a directory");
    let kernels = dir.path().to_str().expect("UTF-8");
    let output = audit(&["--json", "--kernels", kernels]);
    assert!(output.status.success(), "{}", stderr(&output));
    let rows = Schema::read("audit.schema.json").rows(&output);
    let names: Vec<&str> = rows
        .iter()
        .filter_map(|row| row["kernel"].as_str())
        .collect();
    assert_eq!(names.len(), 2);
    assert!(names[0].ends_with("/6.1.192-rt-x86_64"), "{names:?}");
    assert!(
        stderr(&output).contains("on 2 kernels"),
        "{}",
        stderr(&output)
    );
    let tools = dir.path().join("tools");
    let output = audit(&["--kernels", tools.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(1));
}

/// Of a program that does not say what it means, which is most that are not in C.
#[test]
fn a_read_that_is_of_another_field_elsewhere() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let mut command = tracepoints(&["audit", "audit/loads.bpf.o"]);
    command.args(KERNELS).current_dir(fixtures);
    insta::assert_snapshot!(stdout(&command.output().expect("it runs")));
}

#[test]
fn faults_are_denied_where_asked() {
    let deny = |kernel| audit(&["--deny", "--kernels", kernel]).status.code();
    assert_eq!(deny("6.1.192-rt-x86_64"), Some(1));
    assert_eq!(deny("6.18.15-x86_64"), Some(0));
    assert_eq!(deny("no-kernel"), Some(1));
}

#[test]
fn rows_of_json_name_object_and_kernel() {
    let output = audit(&[&KERNELS[..], &["--json"]].concat());
    let rows = Schema::read("audit.schema.json").rows(&output);
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[1]["kernel"], "6.1.192-rt-x86_64");
    assert_eq!(rows[1]["object"], "audit/openat.bpf.o");
    assert_eq!(rows[1]["verdict"], "wrong");
    assert_eq!(rows[1]["reads"][0]["line"], 7);
    assert_eq!(rows[2]["verdict"], "right");
}

#[test]
fn sarif_names_the_line() {
    let output = audit(&[&KERNELS[..], &["--sarif"]].concat());
    let log: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let results = log["runs"][0]["results"].as_array().expect("results");
    assert_eq!(results.len(), 1);
    assert_eq!(
        (&results[0]["ruleId"], &results[0]["level"]),
        (&"wrong".into(), &"error".into())
    );
    let place = &results[0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "./openat.bpf.c");
    assert_eq!(place["region"]["startLine"], 7);
}

#[test]
fn a_program_can_be_attached_by_hand() {
    let event = "openat=syscalls:sys_enter_write";
    let output = audit(&["--attach", event, "--json", "--kernels", "6.18.15-x86_64"]);
    let row: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(row["event"], "syscalls:sys_enter_write");
    let output = audit(&["--attach", "close=a:b", "--kernels", "6.18.15-x86_64"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "tracepoints: no object has a program close\n"
    );
}
