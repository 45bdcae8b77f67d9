//! Kernels that were never booted. The images here have BTF alone; the library's tests have
//! images with events.

use std::fs;
use std::path::Path;

use crate::command::{run, stderr, stdout, tracepoints};
use crate::support::fixture;

/// All files below a directory, with their content.
pub(crate) fn files(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let inside = path.strip_prefix(root).expect("inside");
            let inside = inside.to_string_lossy().into_owned();
            found.push((inside, fs::read(&path).expect("a file")));
        }
    }
    found.sort();
    found
}

#[test]
fn an_image_becomes_a_capture() {
    let image = fixture("6.18.15-x86_64").join("btf/vmlinux");
    let dir = tempfile::tempdir().expect("a directory");
    let mut captures = Vec::new();
    for name in ["one", "two"] {
        let out = dir.path().join(name);
        let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let output = tracepoints(&["capture", "--image", &path(&image), &path(&out)])
            .output()
            .expect("the command");
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stdout(&output), format!("3 files in {}\n", out.display()));
        // A capture is not written over.
        let again = tracepoints(&["capture", "--image", &path(&image), &path(&out)])
            .output()
            .expect("the command");
        assert_eq!(again.status.code(), Some(1));
        assert!(
            stderr(&again).contains("cannot write"),
            "{}",
            stderr(&again)
        );
        captures.push(files(&out));
    }
    assert_eq!(captures[0], captures[1]);
    let names: Vec<&str> = captures[0].iter().map(|(name, _)| &**name).collect();
    assert_eq!(
        names,
        ["btf/vmlinux", "tracing/available_events", "tracing/classes"]
    );
    assert_eq!(captures[0][0].1, fs::read(&image).expect("BTF"));
    // Both are roots, with the same tracepoints.
    let raw = |root: &Path| {
        let output = run("list", root, &["--raw", "sched_process_exit"]);
        stdout(&output).to_owned()
    };
    let listed = raw(&image);
    assert!(listed.starts_with("sched_process_exit"), "{listed}");
    assert_eq!(listed, raw(&dir.path().join("one")));
}

#[test]
fn a_file_that_is_no_image() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("vmlinuz");
    fs::write(&path, "not a kernel").expect("a file");
    let output = run("list", &path, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("not a kernel image"),
        "{}",
        stderr(&output)
    );
}
