//! Captures of the running kernel, and what they are as roots.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::command::{stderr, stdout};
use crate::images::files;
use crate::live::{MOUNT, in_namespace};
use crate::support::skip;
use crate::unprivileged::as_nobody;

/// Rows without what says where they came from.
fn rows(text: &str) -> Vec<String> {
    let row = |line: &str| {
        let start = line.find(",\"kernel\":").expect("a kernel");
        let kernel: Value =
            serde_json::from_str(&format!("{{{}", &line[start + 1..])).expect("JSON");
        let kernel = &kernel["kernel"];
        format!(
            "{} {} {}",
            &line[..start],
            kernel["release"],
            kernel["architecture"]
        )
    };
    text.lines().map(row).collect()
}

/// A directory and archives, each a root that answers as the running kernel does, and twice
/// the same.
#[test]
fn a_capture_is_the_running_kernel() {
    /// The script's status where other programs made or removed events meanwhile.
    const CHANGED: Option<i32> = Some(7);
    const TRIES: usize = 5;
    let mut differing = Vec::new();
    for _ in 0..TRIES {
        let dir = tempfile::tempdir().expect("a directory");
        let script = format!(
            "{MOUNT}cd {}
             \"$TRACEPOINTS\" list --json --raw > live.json
             for out in a b; do
                 \"$TRACEPOINTS\" capture --symbols $out
                 \"$TRACEPOINTS\" capture $out.tar.zst
             done
             \"$TRACEPOINTS\" capture a.tar
             \"$TRACEPOINTS\" capture a.tar.gz
             \"$TRACEPOINTS\" list --json --raw > after.json
             cmp live.json after.json || exit 7
             for root in a a.tar a.tar.gz a.tar.zst; do
                 \"$TRACEPOINTS\" list --json --raw --root $root > $root.json
             done
             ! \"$TRACEPOINTS\" capture a",
            dir.path().display()
        );
        let Some(output) = in_namespace(&script) else {
            return;
        };
        if output.status.code() == CHANGED {
            continue;
        }
        assert!(output.status.success(), "{}", stderr(&output));
        let said = stdout(&output);
        assert!(said.contains(" files in a.tar.zst\n"), "{said}");
        assert!(said.contains(" events, "), "{said}");
        assert!(
            stderr(&output).contains("cannot write a: "),
            "{}",
            stderr(&output)
        );
        // Events that others made and removed in between are in one capture alone.
        match difference(dir.path()) {
            None => return check_captures(dir.path()),
            Some(what) => differing.push(what),
        }
    }
    assert!(differing.len() < TRIES, "{differing:?}");
    skip("other programs make and remove events all the time");
}

/// Which root answers otherwise than the running kernel, or than its second capture.
fn difference(dir: &Path) -> Option<&'static str> {
    let read = |name: &str| fs::read(dir.join(name)).expect(name);
    let text = |name: &str| String::from_utf8(read(name)).expect(name);
    let live = rows(&text("live.json"));
    assert!(live.len() > 100);
    let mut roots = ["a", "a.tar", "a.tar.gz", "a.tar.zst"].into_iter();
    if let Some(root) = roots.find(|root| rows(&text(&format!("{root}.json"))) != live) {
        return Some(root);
    }
    if read("a.tar.zst") != read("b.tar.zst") {
        return Some("b.tar.zst");
    }
    (files(&dir.join("a")) != files(&dir.join("b"))).then_some("b")
}

fn check_captures(dir: &Path) {
    let captured = files(&dir.join("a"));
    for (name, _) in &captured {
        let mut starts = ["tracing/", "btf/", "proc/"].iter();
        assert!(starts.any(|start| name.starts_with(start)), "{name}");
        assert!(!name.contains("saved_"), "{name}");
    }
    // Nothing is left of what was written beside.
    for entry in fs::read_dir(dir).expect("a directory") {
        let name = entry.expect("an entry").file_name();
        assert!(!name.to_string_lossy().contains("partial"), "{name:?}");
    }
}

/// Only what the command and its children do is among the pages, and its status is the
/// command's.
#[test]
fn pages_of_a_command() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = format!(
        "{MOUNT}cd {}
         sleep 60 & other=$!
         \"$TRACEPOINTS\" capture out --ring sched:sched_process_exec sched:sched_process_exit \
             -- sh -c '/bin/true; exit 3' && exit 1 || test $? = 3
         kill $other
         \"$TRACEPOINTS\" decode --json --root out out/ring/cpu*.raw
         ls /sys/kernel/tracing/instances >&2",
        dir.path().display()
    );
    let Some(output) = in_namespace(&script) else {
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        !stderr(&output).contains("tracepoints-decode"),
        "{}",
        stderr(&output)
    );
    let rows = stdout(&output).lines().filter(|line| line.starts_with('{'));
    let rows: Vec<Value> = rows
        .map(|row| serde_json::from_str(row).expect("JSON"))
        .collect();
    let seen: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| {
            let event = row["event"].as_str().expect("an event");
            (event, row["comm"].as_str().expect("a name"))
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("sched:sched_process_exec", "sh"),
            ("sched:sched_process_exec", "true"),
            ("sched:sched_process_exit", "true"),
            ("sched:sched_process_exit", "sh"),
        ]
    );
}

/// Without tracefs, everyone gets what BTF tells.
#[test]
fn as_an_ordinary_user() {
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return skip("this kernel has no BTF");
    }
    let path = format!("/dev/shm/tracepoints-{}.tar", std::process::id());
    let Some((code, said, complaints)) = as_nobody(&["capture", &path]) else {
        return;
    };
    let path = Path::new(&path);
    let output = crate::command::run("list", path, &["--raw", "sched_process_exit"]);
    let _ = fs::remove_file(path);
    assert_eq!(code, 0, "{complaints}");
    assert!(said.contains("0 events, "), "{said}");
    assert!(
        complaints.contains("left out: events: tracefs is out of reach"),
        "{complaints}"
    );
    assert!(
        stdout(&output).starts_with("sched_process_exit"),
        "{}",
        stderr(&output)
    );
}
