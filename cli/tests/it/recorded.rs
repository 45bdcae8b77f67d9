//! Decodes recordings of other programs.

use std::fs;
use std::process::{Output, Stdio};

use serde_json::Value;
use tracepoints::ByteOrder;

use crate::command::{run, stderr, stdout, tracepoints};
use crate::support;
use crate::trace_dat::{DatFile, UNPACKED};

const KERNEL: &str = "6.18.15-x86_64";

/// A recording of the pages in a fixture.
pub(crate) fn recording() -> DatFile {
    DatFile::of_capture(&support::fixture(KERNEL), ByteOrder::Little)
}

/// Decodes a file of these bytes, in a directory that has nothing else.
fn decode(bytes: &[u8], options: &[&str]) -> Output {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("a.dat"), bytes).expect("a file");
    let mut command = tracepoints(&["decode"]);
    command.current_dir(dir.path()).args(options).arg("a.dat");
    command.output().expect("it runs")
}

/// Both versions print what the pages alone do, with the kernel they are of.
#[test]
fn lines_are_those_of_the_pages() {
    let pages = ["ring/cpu0.raw", "ring/cpu1.raw"];
    let root = support::fixture(KERNEL);
    let pages = pages.map(|file| root.join(file).display().to_string());
    let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    let expected = run("decode", &root, &pages);
    for bytes in [recording().version_6(), recording().version_7(UNPACKED)] {
        let output = decode(&bytes, &[]);
        assert_eq!(stderr(&output), "");
        assert!(output.status.success());
        let lines: Vec<_> = stdout(&output)
            .lines()
            .zip(stdout(&expected).lines())
            .collect();
        assert_eq!(lines.len(), stdout(&expected).lines().count());
        let differing: Vec<_> = lines.iter().filter(|(own, pages)| own != pages).collect();
        // There is no BTF in a recording, so that the value of an enumerator may be unknown.
        assert!(
            differing.iter().all(|(own, _)| own.contains("<0x")),
            "{differing:#?}"
        );
        assert!(differing.len() < lines.len() / 10, "{}", differing.len());
    }
}

#[test]
fn json_names_the_recording_and_its_kernel() {
    let only = ["--json", "--only", "sched:sched_process_exec"];
    let output = decode(&recording().version_6(), &only);
    let rows: Vec<Value> = stdout(&output)
        .lines()
        .map(|row| serde_json::from_str(row).expect("JSON"))
        .collect();
    assert_eq!(rows.len(), 6);
    insta::assert_snapshot!(serde_json::to_string_pretty(&rows[0]).expect("JSON"));
}

/// Lines of an instance begin with its name, times have the recording's offset, and what
/// was left out is said.
#[test]
fn instances_times_and_what_is_left_out() {
    let mut dat = recording();
    let mut instance = dat.buffers[0].clone();
    instance.name = "own".to_owned();
    instance.clock = "counter".to_owned();
    dat.buffers.push(instance);
    dat.options.push((7, b"1000000000\0".to_vec()));
    dat.options.push((14, vec![0; 16]));
    dat.categories
        .push(("..".to_owned(), vec![b"name: x\n".to_vec()]));
    let output = decode(&dat.version_6(), &["--only", "sched:sched_process_exec"]);
    insta::assert_snapshot!(format!("{}{}", stderr(&output), stdout(&output)));
}

#[test]
fn standard_input() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a.dat");
    fs::write(&path, recording().version_6()).expect("a file");
    let mut command = tracepoints(&["decode", "-"]);
    command.stdin(Stdio::from(fs::File::open(&path).expect("the file")));
    let output = command.output().expect("it runs");
    assert_eq!(
        stdout(&output),
        stdout(&decode(&recording().version_6(), &[]))
    );
}

#[test]
fn refused() {
    let whole = recording().version_6();
    let mut latency = whole.clone();
    let at = whole.windows(10).position(|part| part == b"flyrecord\0");
    let at = at.expect("a list of CPUs");
    latency[at..at + 9].copy_from_slice(b"latency  ");
    let mut damaged = whole.clone();
    let page = whole.len() - 4096;
    damaged[page + 8..page + 12].copy_from_slice(&[0xff, 0xff, 0, 0]);
    let mut text = String::new();
    for (bytes, options) in [
        (&whole[..100], &[][..]),
        (&latency, &[]),
        (&damaged, &["--only", "no:event"]),
        (&whole, &["--cpu", "1"]),
        (&whole, &["--root", "."]),
        (&whole, &["--demo"]),
        (&whole, &["a.dat"]),
    ] {
        let output = decode(bytes, options);
        assert!(!output.status.success());
        assert_eq!(stdout(&output), "");
        text += &format!("{options:?}: {}", stderr(&output));
    }
    insta::assert_snapshot!(text);
}
