//! How the command begins and ends, and the processes it starts.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::command::{program, stderr, stdout, tracepoints};
use crate::namespace::live;

/// Arguments, and what the exit status says.
#[test]
fn exit_statuses() {
    let Some(_) = live() else { return };
    const EXEC: &str = "sched:sched_process_exec";
    let not_executable = tempfile::NamedTempFile::new().expect("a file");
    let not_executable = not_executable.path().display().to_string();
    let cases: &[(&[&str], i32)] = &[
        (&["list", EXEC], 0),
        (&["list", "no:such"], 1),
        (&["list", "a:b:c"], 2),
        (&["no-such-command"], 2),
        (&["--help"], 0),
        (&["attach", EXEC, "--", "true"], 0),
        (&["attach", EXEC, "--", "false"], 1),
        (&["attach", EXEC, "--", "sh", "-c", "exit 42"], 42),
        (&["attach", EXEC, "--", "sh", "-c", "kill -9 $$"], 128 + 9),
        (
            &["attach", EXEC, "--", "sh", "-c", "kill -TERM $$"],
            128 + 15,
        ),
        (&["attach", EXEC, "--", "no-such-program"], 127),
        (&["attach", EXEC, "--", "/no/such/program"], 127),
        (&["attach", EXEC, "--", &not_executable], 126),
        (&["attach", EXEC, "--count", "--", "sh", "-c", "exit 7"], 7),
        // Ended by this command, not by itself.
        (
            &["attach", EXEC, "--duration", "0.3", "--", "sleep", "100"],
            0,
        ),
        (
            &[
                "attach",
                EXEC,
                "--max",
                "1",
                "--",
                "sh",
                "-c",
                "true; exec /bin/sleep 100",
            ],
            0,
        ),
        (&["attach", EXEC, "--duration", "0"], 0),
        (&["attach", "no:such", "--", "true"], 1),
    ];
    for (arguments, status) in cases {
        let output = tracepoints(arguments).output().expect("it runs");
        assert_eq!(
            output.status.code(),
            Some(*status),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn signals_end_the_command_too() {
    let Some(_) = live() else { return };
    for (signal, status) in [("INT", 128 + 15), ("TERM", 128 + 15), ("HUP", 128 + 15)] {
        let mut child = tracepoints(&[
            "attach",
            "sched:sched_process_exec",
            "-o",
            "/dev/null",
            "--",
        ])
        .args(["sh", "-c", "echo $$; exec sleep 100"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
        let mut first = [0; 64];
        let mut out = child.stdout.take().expect("a pipe");
        let length = out.read(&mut first).expect("its pid");
        let said = String::from_utf8_lossy(&first[..length]).into_owned();
        let pid = said.split_whitespace().next().expect("a pid").to_owned();
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        kill(signal, child.id());
        assert_eq!(
            child.wait().expect("an end").code(),
            Some(status),
            "{signal}"
        );
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{signal}");
    }
}

fn kill(signal: &str, pid: u32) {
    let status = Command::new("kill")
        .args([format!("-{signal}"), pid.to_string()])
        .stderr(Stdio::null())
        .status();
    status.expect("kill");
}

#[test]
fn it_ends_with_the_process_it_looks_at() {
    let Some(_) = live() else { return };
    // It ends once its input does.
    let mut process = Command::new("cat")
        .stdin(Stdio::piped())
        .spawn()
        .expect("it runs");
    let pid = process.id().to_string();
    let mut tracer = tracepoints(&["attach", "sched:sched_process_exit", "--pid", &pid])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut said = BufReader::new(tracer.stderr.take().expect("a pipe"));
    let mut line = String::new();
    said.read_line(&mut line).expect("a line");
    assert!(line.contains("attached to 1 event"), "{line}");
    drop(process.stdin.take());
    let begun = Instant::now();
    process.wait().expect("an end");
    let output = tracer.wait_with_output().expect("an end");
    assert!(output.status.success());
    assert!(begun.elapsed() < Duration::from_secs(20));
    let out = stdout(&output);
    assert!(out.contains("sched:sched_process_exit"), "{out}");
}

/// `PATH` is looked through before, by the process that is not traced.
#[test]
fn the_search_for_the_command_is_not_traced() {
    let Some(_) = live() else { return };
    let output = tracepoints(&[
        "attach",
        "syscalls:sys_enter_execve",
        "-F",
        "filename",
        "--",
        "true",
    ])
    .env("PATH", "/no/such/1:/no/such/2:/usr/bin:/bin")
    .output()
    .expect("it runs");
    let calls: Vec<&str> = stdout(&output).lines().collect();
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert!(calls[0].ends_with("bin/true\""), "{calls:?}");
}

/// A reader that goes, of what is printed and of what is said.
#[test]
fn closed_stdout_and_stderr_are_no_panic() {
    let Some(_) = live() else { return };
    for arguments in [
        "list",
        "list no:such",
        "format --json 'sched:*'",
        "attach sched:sched_process_exec -- sh -c 'true; true; /bin/true'",
        "attach no:such",
        "decode --demo",
        "decode --demo no-such-file",
        "--help",
        "completions bash",
    ] {
        for redirection in ["2>&1 | head -c 1", "2>&-", ">&-", ">&- 2>&-", "> /dev/full"] {
            let script = format!(
                "set -o pipefail; '{}' {arguments} {redirection} > out.txt; echo $? > status.txt",
                program().display()
            );
            let script = match redirection.starts_with("2>&1") {
                true => script,
                false => script.replace(" > out.txt", ""),
            };
            let dir = tempfile::tempdir().expect("a directory");
            let output = Command::new("bash")
                .args(["-c", &script])
                .current_dir(dir.path())
                .output()
                .expect("bash");
            let status = fs::read_to_string(dir.path().join("status.txt")).expect("a status");
            let said = stderr(&output);
            assert!(
                !said.contains("panicked"),
                "{arguments} {redirection}: {said}"
            );
            assert!(
                ["0\n", "1\n", "2\n"].contains(&&*status),
                "{arguments} {redirection}: {status}"
            );
        }
    }
}

/// What the kernel has of this command's: programs, links, instances, and processes that
/// it started.
fn left_behind(marker: &str) -> Vec<String> {
    let mut left = Vec::new();
    let instances = Path::new("/sys/kernel/tracing/instances");
    for entry in instances.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("tracepoints-decode-") {
            left.push(name);
        }
    }
    for entry in Path::new("/proc").read_dir().expect("/proc").flatten() {
        let path = entry.path();
        let command = fs::read(path.join("cmdline")).unwrap_or_default();
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        let is_marked = String::from_utf8_lossy(&environment).contains(marker);
        let is_zombie = command.is_empty();
        if is_marked && !is_zombie {
            left.push(command.replace('\0', " "));
        }
        // Programs and links live as long as a descriptor does.
        if is_marked {
            for descriptor in path.join("fd").read_dir().into_iter().flatten().flatten() {
                let target = fs::read_link(descriptor.path()).unwrap_or_default();
                if target.to_string_lossy().contains("bpf") {
                    left.push(target.display().to_string());
                }
            }
        }
    }
    left
}

#[test]
fn a_kill_at_any_moment_leaves_nothing_behind() {
    let Some(_) = live() else { return };
    for moment in 0..10 {
        for arguments in [
            &["decode", "--live", "sched:sched_process_exec"][..],
            &["attach", "sched:sched_process_exec", "--", "sleep", "1000"],
        ] {
            let marker = format!("TRACEPOINTS_TEST_MARKER={}-{moment}", std::process::id());
            let (name, value) = marker.split_once('=').expect("a variable");
            let mut child = tracepoints(arguments)
                .env(name, value)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("it runs");
            sleep(Duration::from_millis(4 << moment));
            child.kill().expect("SIGKILL");
            child.wait().expect("an end");
            let begun = Instant::now();
            let left = loop {
                let left = left_behind(&marker);
                if left.is_empty() || begun.elapsed() > Duration::from_secs(5) {
                    break left;
                }
                sleep(Duration::from_millis(20));
            };
            assert!(
                left.is_empty(),
                "{arguments:?} after {} ms: {left:?}",
                4 << moment
            );
        }
    }
}

/// An instance whose process, and what was to remove it, are gone.
#[test]
fn instances_of_dead_runs_are_removed() {
    let Some(_) = live() else { return };
    let orphan = Path::new("/sys/kernel/tracing/instances/tracepoints-decode-4194399");
    let other = Path::new("/sys/kernel/tracing/instances/not-of-tracepoints");
    fs::create_dir(orphan).expect("an instance");
    fs::create_dir(other).expect("an instance");
    let mut child = tracepoints(&["decode", "--live", "sched:sched_process_exec"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let begun = Instant::now();
    while orphan.exists() && begun.elapsed() < Duration::from_secs(10) {
        sleep(Duration::from_millis(20));
    }
    kill("INT", child.id());
    child.wait().expect("an end");
    let (is_there, is_other_there) = (orphan.exists(), other.exists());
    let _ = fs::remove_dir(orphan);
    fs::remove_dir(other).expect("the other is not this command's to remove");
    assert!(!is_there && is_other_there);
}
