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
        assert_eq!(stdout(&output), format!("1 file in {}\n", out.display()));
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
    // The events are not known, which an empty list would not say.
    assert_eq!(names, ["btf/vmlinux"]);
    assert_eq!(captures[0][0].1, fs::read(&image).expect("BTF"));
    // Both are roots, with the same tracepoints.
    let raw = |root: &Path| {
        let output = run("list", root, &["--raw", "sched_process_exit"]);
        stdout(&output).to_owned()
    };
    let listed = raw(&image);
    assert_eq!(
        listed,
        "sched_process_exit  trace_event_raw_sched_process_exit  btf\n"
    );
    let capture = dir.path().join("one");
    assert_eq!(listed, raw(&capture));
    for root in [&image, &capture] {
        what_btf_alone_does_not_tell(root);
    }
}

/// Nothing is concluded from events that are not known.
fn what_btf_alone_does_not_tell(root: &Path) {
    for (subcommand, arguments) in [("list", &[][..]), ("format", &["sched:sched_process_exit"])] {
        let output = run(subcommand, root, arguments);
        assert_eq!(output.status.code(), Some(1));
        let said = stderr(&output);
        assert!(said.contains("does not tell its events"), "{said}");
        assert!(said.contains("list --raw and format --raw"), "{said}");
    }
    let object = fixture("audit").join("openat.bpf.o");
    let mut audit = tracepoints(&["audit", "--kernels"]);
    let output = audit
        .arg(root)
        .arg("--")
        .arg(object)
        .output()
        .expect("it runs");
    let said = stdout(&output);
    assert!(
        said.contains("unknown: only the kernel's BTF is known"),
        "{said}"
    );
    assert!(!said.contains("absent: no event"), "{said}");
}

/// A cut BTF object is the fault, and not that BTF does not tell events.
#[test]
fn cut_btf() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("vmlinux.btf");
    let btf = fs::read(fixture("6.18.15-x86_64").join("btf/vmlinux")).expect("a file");
    fs::write(&path, &btf[..3000]).expect("a file");
    for arguments in [&[][..], &["--raw"]] {
        let output = run("list", &path, arguments);
        assert_eq!(output.status.code(), Some(1));
        let said = stderr(&output);
        assert!(
            said.contains("truncated: the type section ends at"),
            "{said}"
        );
        assert!(!said.contains("does not tell its events"), "{said}");
        // The file has no file inside.
        assert!(said.contains("/vmlinux.btf: "), "{said}");
    }
}

/// The kernel's types in a language, which programs have beside them, are not its image.
#[test]
fn types_beside_a_program() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["vmlinux.h", "vmlinux.rs"] {
        fs::write(dir.path().join(name), "struct task_struct;\n").expect("a file");
    }
    let output = run("list", dir.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("is not a captured kernel"), "{said}");
    assert!(!said.contains("vmlinux.h"), "{said}");
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
