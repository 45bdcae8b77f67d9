//! What `decode` prints of saved pages.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::capture::{COMMON, Capture};
use crate::command::{program, run, stderr, stdout, tracepoints};
use crate::support;

/// Runs `decode` on a kernel's own pages.
fn decode(root: &Path, options: &[&str], files: &[&str]) -> Output {
    let files: Vec<String> = files
        .iter()
        .map(|file| root.join("ring").join(file).display().to_string())
        .collect();
    let mut arguments = options.to_vec();
    arguments.extend(files.iter().map(String::as_str));
    run("decode", root, &arguments)
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

/// A line up to the event's name and colon.
fn without_text(line: &str) -> &str {
    let mut ends = line.match_indices(": ").map(|(at, _)| at);
    let (_time, event) = (ends.next(), ends.next());
    &line[..event.unwrap_or(line.len())]
}

#[test]
fn two_cpus_in_the_kernels_order() {
    for name in ["6.18.15-x86_64", "7.3.4-x86_64"] {
        let root = support::fixture(name);
        let trace = fs::read_to_string(root.join("ring/trace.txt")).expect("the kernel's lines");
        // Whatever order the files come in.
        for files in [["cpu0.raw", "cpu1.raw"], ["cpu1.raw", "cpu0.raw"]] {
            let output = decode(&root, &[], &files);
            assert!(output.status.success());
            assert_eq!(stderr(&output), "");
            let (printed, expected) = (lines(stdout(&output)), lines(&trace));
            assert_eq!(printed.len(), expected.len());
            for (printed, expected) in printed.iter().zip(expected) {
                assert_eq!(without_text(printed), without_text(expected));
            }
        }
    }
}

#[test]
fn json_has_every_field() {
    let root = support::fixture("6.18.15-x86_64");
    let only = ["--json", "--only", "sched:sched_process_exec"];
    let output = decode(&root, &only, &["cpu0.raw", "cpu1.raw"]);
    insta::assert_snapshot!(stdout(&output));
    let output = decode(&root, &["--json"], &["cpu0.raw", "cpu1.raw"]);
    let rows: Vec<Value> = stdout(&output)
        .lines()
        .map(|row| serde_json::from_str(row).expect("JSON"))
        .collect();
    assert_eq!(rows.len(), 207);
    let times: Vec<u64> = rows
        .iter()
        .filter_map(|row| row["timestamp_ns"].as_u64())
        .collect();
    assert!(times.len() == 207 && times.is_sorted());
}

#[test]
fn only_some_events() {
    let root = support::fixture("7.3.4-x86_64");
    let only = ["--only", "syscalls:*", "--only", "*:sched_process_exec"];
    let output = decode(&root, &only, &["cpu0.raw"]);
    insta::assert_snapshot!(stdout(&output));
}

#[test]
fn standard_input_and_whose_pages_they_are() {
    let root = support::fixture("6.18.15-x86_64");
    let pages = fs::read(root.join("ring/cpu1.raw")).expect("pages");
    let expected = decode(&root, &[], &["cpu1.raw"]);
    let mut child = tracepoints(&["decode"])
        .args(["--cpu", "1", "-", "--root"])
        .arg(&root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(&pages).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("an end");
    // There is no saved_cmdlines beside a pipe.
    let names_gone = |text: &str| text.lines().map(|line| line[16..].to_owned()).collect();
    let (printed, expected): (Vec<String>, Vec<String>) =
        (names_gone(stdout(&output)), names_gone(stdout(&expected)));
    assert_eq!(printed, expected);
    assert!(stdout(&output).starts_with("           <...>-11428   [001] "));

    let dir = tempfile::tempdir().expect("a directory");
    let pipe = dir.path().join("per_cpu/cpu12");
    fs::create_dir_all(&pipe).expect("a directory");
    fs::write(pipe.join("trace_pipe_raw"), &pages).expect("a file");
    let path = pipe.join("trace_pipe_raw").display().to_string();
    let output = run("decode", &root, &[&path]);
    assert!(
        lines(stdout(&output))
            .iter()
            .all(|line| &line[25..30] == "[012]")
    );

    let path = dir.path().join("pages").display().to_string();
    fs::write(&path, &pages).expect("a file");
    let output = run("decode", &root, &[&path]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        format!("tracepoints: {path} does not say of which CPU it is: use --cpu\n")
    );
}

#[test]
fn a_kernel_without_btf_needs_its_byte_order() {
    let root = support::fixture("6.1.176-i686");
    let dir = tempfile::tempdir().expect("a directory");
    // One record of sched:sched_process_exit, whose page has 12 bytes before it.
    let kernel = tracepoints::Kernel::at(&root).expect("a kernel");
    let exit = kernel
        .tracepoint("sched:sched_process_exit")
        .expect("an event");
    let mut page = vec![0; 4096];
    page[..8].copy_from_slice(&1_234_567_890u64.to_le_bytes());
    page[8] = 36;
    page[12..16].copy_from_slice(&8u32.to_le_bytes());
    page[16..18].copy_from_slice(&(exit.id().expect("an id") as u16).to_le_bytes());
    page[20] = 7;
    page[24..27].copy_from_slice(b"cat");
    page[40] = 9;
    page[44] = 120;
    let path = dir.path().join("cpu0").display().to_string();
    fs::write(&path, page).expect("a file");
    let output = run("decode", &root, &[&path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).starts_with("tracepoints: the byte order of this kernel is not known: ")
    );
    let output = run("decode", &root, &["--endian", "little", &path]);
    assert_eq!(
        stdout(&output),
        "           <...>-7       [000] .....     1.234568: sched_process_exit: comm=cat pid=9 prio=120\n"
    );
}

/// A 64-bit kernel with one event, x:a of ID 7, and a page of it.
fn one_event() -> (Capture, Vec<u8>) {
    let mut capture = Capture::new();
    capture.event("x:a", COMMON, &[("int n", 8, 4)]);
    let events = capture.root().join("tracing/events");
    let format = fs::read_to_string(events.join("x/a/format")).expect("a file");
    let format = format.replace("print fmt: \"\"", "print fmt: \"n=%d\", REC->n");
    fs::write(events.join("x/a/format"), format).expect("a file");
    let header = fs::read(support::fixture("6.18.15-x86_64").join("tracing/events/header_page"));
    fs::write(events.join("header_page"), header.expect("a file")).expect("a file");
    let mut page = vec![0; 4096];
    let mut entry = |at: usize, id: u8| {
        page[16 + at] = 3 | 1 << 5;
        page[16 + at + 4] = id;
        page[16 + at + 12] = id;
    };
    entry(0, 7);
    entry(16, 8);
    page[8] = 32;
    (capture, page)
}

#[test]
fn what_is_lost_or_not_known_is_said() {
    let (capture, mut page) = one_event();
    let run = |page: &[u8], options: &[&str]| {
        let path = capture.root().join("cpu3").display().to_string();
        fs::write(&path, page).expect("a file");
        let mut arguments = vec!["--endian", "little", &path];
        arguments.extend(options);
        let output = run("decode", capture.root(), &arguments);
        assert_eq!(output.status.code(), Some(1));
        (
            stdout(&output).to_owned(),
            stderr(&output).replace(&path, "cpu3"),
        )
    };
    const LINE: &str = "          <idle>-0       [003] .....     0.000000: a: n=7\n";
    const UNKNOWN: &str = "tracepoints: 1 record not printed: no event has the id 8: is the record of another kernel, or boot?\n";
    assert_eq!(run(&page, &[]), (LINE.to_owned(), UNKNOWN.to_owned()));

    // Lost before this page, of unknown number and known.
    page[11] = 0x80;
    let lost = format!("CPU:3 [LOST EVENTS]\n{LINE}");
    assert_eq!(run(&page, &[]), (lost, UNKNOWN.to_owned()));
    page[11] = 0xc0;
    page[48] = 5;
    let lost = format!("CPU:3 [LOST 5 EVENTS]\n{LINE}");
    assert_eq!(run(&page, &[]), (lost, UNKNOWN.to_owned()));
    let (json, _) = run(&page, &["--json"]);
    assert!(
        json.starts_with("{\"cpu\":3,\"lost\":5,\"kernel\":{"),
        "{json}"
    );

    // A record that ends before its fields do; what should be the next's header is
    // no header any more.
    page[11] = 0;
    page[16] = 2 | 1 << 5;
    let (printed, said) = run(&page, &[]);
    assert_eq!(printed, "");
    assert_eq!(
        said,
        "tracepoints: cpu3: the record at byte 28 would have 32 bytes where 20 are left\n\
        tracepoints: 1 record not printed: x:a: n is at bytes 8 to 12 of a record of 8\n"
    );
    // What has no pages says it once.
    let (printed, said) = run(&[b'x'; 3 * 4096], &[]);
    assert_eq!(printed, "");
    assert_eq!(
        said,
        "tracepoints: cpu3: the page at byte 0 says that 8680820739495458936 bytes of 4080 are used\n\
        tracepoints: cpu3: 2 errors more\n"
    );
}

/// Pages are read as they are needed: files, and what comes from a pipe, may be larger than
/// memory, and there may be more of them than a process usually opens.
#[test]
fn memory_does_not_grow_with_the_pages() {
    let (capture, page) = one_event();
    let place = |name: &str| capture.root().join(name).display().to_string();
    // A page, and empty ones.
    let large = fs::File::create(place("cpu3")).expect("a file");
    large.set_len(1 << 30).expect("a sparse file");
    (&large).write_all(&page).expect("a page");
    let limited = |script: &str, files: &[String]| {
        let output = Command::new("sh")
            .args(["-c", script])
            .arg(program())
            .args(["--root", &capture.root().display().to_string()])
            .args(["--endian", "little"])
            .args(files)
            .output();
        let output = output.expect("it runs");
        (stdout(&output).to_owned(), stderr(&output).to_owned())
    };
    const LINE: &str = "          <idle>-0       [003] .....     0.000000: a: n=7\n";
    const UNKNOWN: &str = "tracepoints: 1 record not printed: no event has the id 8: is the record of another kernel, or boot?\n";
    let expected = (LINE.to_owned(), UNKNOWN.to_owned());
    let script = "ulimit -v 600000; exec \"$0\" decode \"$@\"";
    assert_eq!(limited(script, &[place("cpu3")]), expected);
    let script = "ulimit -v 600000; head -c 700M \"$5\" | \"$0\" decode --cpu 3 \"$1\" \"$2\" \"$3\" \"$4\" -";
    assert_eq!(limited(script, &[place("cpu3")]), expected);

    let files: Vec<String> = (0..40)
        .map(|cpu| {
            let path = place(&format!("cpu{cpu}"));
            fs::write(&path, if cpu == 3 { &page[..] } else { &[0; 16] }).expect("a file");
            path
        })
        .collect();
    let script = "ulimit -Sn 20; exec \"$0\" decode \"$@\"";
    assert_eq!(limited(script, &files).0, LINE);
}

/// A process chooses its own name, and root's terminal shows it.
#[test]
fn a_terminal_gets_no_control_characters() {
    if Command::new("script").arg("--version").output().is_err() {
        return eprintln!("SKIPPED a_terminal_gets_no_control_characters: script(1) is missing");
    }
    let fixture = support::fixture("6.18.15-x86_64");
    let dir = tempfile::tempdir().expect("a directory");
    let pages = dir.path().join("cpu1.raw");
    fs::copy(fixture.join("ring/cpu1.raw"), &pages).expect("a copy");
    fs::write(
        dir.path().join("saved_cmdlines"),
        "11428 \u{1b}]0;evil\u{7}\n",
    )
    .expect("a file");
    let command = format!(
        "{} decode --root {} {}",
        program().display(),
        fixture.display(),
        pages.display()
    );
    let piped = Command::new("sh").args(["-c", &command]).output();
    let piped = piped.expect("it runs");
    assert!(stdout(&piped).contains("\u{1b}]0;evil\u{7}-11428"));
    let shown = Command::new("script")
        .args(["-qec", &command])
        .arg(dir.path().join("typescript"))
        .stdin(Stdio::null())
        .output();
    let shown = shown.expect("it runs");
    assert!(shown.status.success());
    let shown = stdout(&shown);
    assert!(shown.contains("\\u{1b}]0;evil\\u{7}-11428"), "{shown}");
    assert!(!shown.contains(['\u{1b}', '\u{7}']));
}
