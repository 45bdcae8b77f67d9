//! Faults while the command writes: it is killed, disks are full or read-only, directories
//! vanish, readers go. A file that has the name that was asked for is whole, and the
//! next run needs no cleaning up.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::command::{program, stderr, stdout, tracepoints};
use crate::images::files;
use crate::live::{MOUNT, in_namespace};
use crate::support::fixture;
use crate::unprivileged::as_nobody;

/// A way to write files, to `out` or to a name that starts with it.
struct Writer {
    /// The file or directory that it writes, relative to the directory it runs in.
    out: &'static str,
    arguments: Vec<String>,
}

fn writers() -> Vec<Writer> {
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let kernel = |name: &str| path(&fixture(name));
    let image = path(&fixture("5.10.223-x86_64").join("btf/vmlinux"));
    let object = path(&fixture("audit").join("openat.bpf.o"));
    let (old, older, btf) = (
        kernel("4.19-x86_64"),
        kernel("4.14-x86_64"),
        kernel("5.10.223-x86_64"),
    );
    let writer = |out: &'static str, arguments: &[&str]| Writer {
        out,
        arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
    };
    vec![
        writer("out", &["capture", "--image", &image, "out"]),
        writer("out.tar", &["capture", "--image", &image, "out.tar"]),
        writer("out.tar.gz", &["capture", "--image", &image, "out.tar.gz"]),
        writer(
            "out.tar.zst",
            &["capture", "--image", &image, "out.tar.zst"],
        ),
        writer("out", &["catalog", "--jsonl", &old, &older, "-o", "out"]),
        writer("out", &["explore", &older, "-o", "out"]),
        writer("out.tgz", &["explore", &older, "-o", "out.tgz"]),
        writer(
            "out",
            &[
                "audit",
                "--emit-reads",
                "out",
                "--kernels",
                &btf,
                "--",
                &object,
            ],
        ),
        // Takes a directory that is there, and replaces pages.
        writer("out", &["man", "out"]),
    ]
}

impl Writer {
    fn is_man(&self) -> bool {
        self.arguments[0] == "man"
    }

    /// The subcommand, and what it writes.
    fn name(&self) -> String {
        format!("{} {}", self.arguments[0], self.out)
    }

    fn command(&self, directory: &Path) -> Command {
        if self.is_man() {
            let _ = fs::create_dir(directory.join(self.out));
        }
        let mut command = Command::new(program());
        command.args(&self.arguments).current_dir(directory);
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, directory: &Path) -> Output {
        self.command(directory).output().expect("it runs")
    }

    /// Writes all of it into a new directory, which is returned with the time it took.
    fn reference(&self) -> (tempfile::TempDir, Duration) {
        let directory = tempfile::tempdir().expect("a directory");
        let begun = Instant::now();
        let output = self.run(directory.path());
        assert!(
            output.status.success(),
            "{}: {}",
            self.name(),
            stderr(&output)
        );
        (directory, begun.elapsed())
    }
}

/// Names in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// All files of a directory, or the file.
fn content(path: &Path) -> Vec<(String, Vec<u8>)> {
    match path.is_dir() {
        true => files(path),
        false => vec![(String::new(), fs::read(path).expect("a file"))],
    }
}

/// Fails if what has the name is not whole. Man pages are whole one by one.
fn assert_whole_or_absent(writer: &Writer, directory: &Path, reference: &Path, when: &str) {
    let out = directory.join(writer.out);
    if !out.exists() {
        return;
    }
    let (written, whole) = (content(&out), content(&reference.join(writer.out)));
    match writer.is_man() {
        true => {
            for page in written.iter().filter(|(name, _)| !name.starts_with('.')) {
                assert!(whole.contains(page), "{when}: {}", page.0);
            }
        }
        false => assert!(
            written == whole,
            "{}, {when}: it is not whole",
            writer.name()
        ),
    }
}

#[test]
fn kills_at_any_moment_leave_nothing_half_written() {
    const MOMENTS: u32 = 8;
    let mut killed = 0;
    for writer in writers() {
        let (reference, time) = writer.reference();
        let directory = tempfile::tempdir().expect("a directory");
        let directory = directory.path();
        for moment in 0..MOMENTS {
            let when = format!("killed in part {moment} of {MOMENTS}");
            let mut child = writer
                .command(directory)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("it runs");
            sleep(time * moment / MOMENTS);
            child.kill().expect("SIGKILL");
            killed += u32::from(child.wait().expect("an end").code().is_none());
            assert_whole_or_absent(&writer, directory, reference.path(), &when);
            let _ = fs::remove_dir_all(directory.join(writer.out));
            let _ = fs::remove_file(directory.join(writer.out));
        }
        let output = writer.run(directory);
        assert!(
            output.status.success(),
            "{}: {}",
            writer.name(),
            stderr(&output)
        );
        assert_eq!(names(directory), [writer.out], "{}", writer.name());
        assert_eq!(
            content(&directory.join(writer.out)),
            content(&reference.path().join(writer.out)),
            "{}",
            writer.name()
        );
    }
    assert!(
        killed > 20,
        "only {killed} runs were killed before their end"
    );
    println!("{killed} runs were killed before their end");
}

/// The parts that killed runs left are removed; those that another run is writing, and other
/// programs' files, are not.
#[test]
fn leftovers_are_removed_by_the_next_run() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    let image = fixture("5.10.223-x86_64").join("btf/vmlinux");
    let capture = |out: &str| {
        let mut command = tracepoints(&["capture", "--image"]);
        let output = command.arg(&image).arg(out).current_dir(directory).output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{}", stderr(&output));
    };
    let put = |name: &str| fs::write(directory.join(name), "x").expect("a file");
    fs::create_dir_all(directory.join(".out.1.0.partial/btf")).expect("a directory");
    put(".out.2.7.partial");
    let kept = [
        ".other.1.0.partial",
        ".out.1.partial",
        ".out.tar.1.0.partial",
        ".out.x.0.partial",
        "out.1.0.partial",
    ];
    kept.iter().for_each(|name| put(name));
    std::os::unix::fs::symlink("out.1.0.partial", directory.join(".out.4.0.partial"))
        .expect("a link");
    fs::create_dir(directory.join(".out.3.0.partial")).expect("a directory");
    let other = File::open(directory.join(".out.3.0.partial")).expect("a directory");
    flock(&other, FlockOperation::LockExclusive).expect("a lock");
    capture("out");
    let mut expected: Vec<&str> = kept.to_vec();
    expected.extend([".out.3.0.partial", ".out.4.0.partial", "out"]);
    expected.sort_unstable();
    assert_eq!(names(directory), expected);
    drop(other);
    capture("out.tar");
    fs::remove_dir_all(directory.join("out")).expect("a directory");
    capture("out");
    let is_gone = |name: &str| !directory.join(name).exists();
    assert!(is_gone(".out.3.0.partial") && is_gone(".out.tar.1.0.partial"));
}

/// In containers, every run has the same pid.
#[test]
fn a_pid_that_comes_back() {
    let script = format!(
        "{MOUNT}cd \"$(mktemp -d)\"
         for pid in 1 2 3 4 5 6 7 8 9; do mkdir .out.$pid.0.partial; done
         mkdir .other.1.0.partial
         # Each is the first process of a pid namespace.
         unshare --pid --fork --mount-proc \"$TRACEPOINTS\" capture --image {0} out
         unshare --pid --fork --mount-proc \"$TRACEPOINTS\" capture --image {0} other
         mkdir /sys/kernel/tracing/instances/tracepoints-decode-1
         unshare --pid --fork --mount-proc \"$TRACEPOINTS\" capture ring \
             --ring sched:sched_process_exec -- /bin/true
         ls /sys/kernel/tracing/instances
         ls -A
         rm -r \"$PWD\"",
        fixture("5.10.223-x86_64").join("btf/vmlinux").display()
    );
    let Some(output) = in_namespace(&script) else {
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));
    let out = stdout(&output);
    assert!(out.ends_with("\nother\nout\nring\n"), "{out}");
    assert!(!out.contains("tracepoints-decode-1\n"), "{out}");
    assert!(!out.contains(".partial"), "{out}");
}

/// Runs each writer on file systems of these options. Returns none without the right to
/// mount, else for each run the options, its status, what is there then and what it said.
fn on_file_systems(writer: &Writer, options: &[String]) -> Option<Vec<[String; 4]>> {
    let directory = tempfile::tempdir().expect("a directory");
    let script = format!(
        "cd {}
         mkdir fs
         out=$1; shift
         for options in {}; do
             mount -t tmpfs -o rw none fs
             test $1 = man && mkdir fs/$out
             mount -o remount,$options fs
             status=0
             (cd fs && \"$TRACEPOINTS\" \"$@\" > ../said 2>&1) || status=$?
             printf '%s\\t%s\\t%s\\t' $options $status \"$(ls -A fs | paste -sd ' ')\"
             paste -sd '|' said
             cp -a fs kept.$options
             umount fs
         done",
        directory.path().display(),
        options.join(" "),
    );
    let mut words = vec![writer.out.to_owned()];
    words.extend(writer.arguments.iter().cloned());
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let output = in_namespace(&format!("set -- {}\n{script}", quoted.join(" ")))?;
    assert!(output.status.success(), "{}", stderr(&output));
    let (reference, _) = writer.reference();
    for option in options {
        let kept = directory.path().join(format!("kept.{option}"));
        assert_whole_or_absent(writer, &kept, reference.path(), option);
    }
    let rows = stdout(&output).lines().map(|line| {
        let mut parts = line.splitn(4, '\t').map(str::to_owned);
        std::array::from_fn(|_| parts.next().unwrap_or_default())
    });
    Some(rows.collect())
}

/// At every page, and at every file, a disk becomes full.
#[test]
fn full_disks() {
    let mut failed = 0;
    for writer in writers() {
        let (reference, _) = writer.reference();
        let whole = content(&reference.path().join(writer.out));
        let pages: usize = whole.iter().map(|(_, bytes)| bytes.len() / 4096 + 1).sum();
        let page = |step: usize| (pages * step).div_ceil(5).max(1);
        let mut options: Vec<String> = (0..5)
            .map(|step| format!("size={}k", 4 * page(step)))
            .chain((2..7).map(|inodes| format!("nr_inodes={inodes}")))
            .collect();
        options.dedup();
        options.push("size=64m".to_owned());
        let Some(rows) = on_file_systems(&writer, &options) else {
            return;
        };
        assert_eq!(rows.len(), options.len());
        for [options, status, there, said] in &rows {
            let context = format!("{}, {options}: {said}", writer.name());
            match &**status {
                "0" => assert_eq!(there, writer.out, "{context}"),
                "1" => {
                    failed += 1;
                    assert!(said.contains("No space left on device"), "{context}");
                    assert!(
                        said.contains(&format!("cannot write {}", writer.out)),
                        "{context}"
                    );
                    let expected = if writer.is_man() { writer.out } else { "" };
                    assert_eq!(there, expected, "{context}");
                }
                _ => panic!("{context}"),
            }
        }
        assert_eq!(rows.last().expect("rows")[1], "0", "{}", writer.name());
    }
    assert!(failed > 30, "{failed}");
}

#[test]
fn outputs_that_may_not_be_written() {
    for writer in writers() {
        let Some(rows) = on_file_systems(&writer, &["ro".to_owned()]) else {
            return;
        };
        let [[_, status, there, said]] = &rows[..] else {
            panic!("{rows:?}");
        };
        assert_eq!(status, "1", "{said}");
        let expected = if writer.is_man() { writer.out } else { "" };
        assert_eq!(there, expected);
        assert!(said.contains("cannot write out"), "{said}");
        assert!(said.contains("Read-only file system"), "{said}");
    }
    // A directory of another user's, and one that is not there.
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let out = directory.path().join("out");
    let out = out.to_str().expect("UTF-8");
    let Some((status, _, said)) = as_nobody(&["capture", out]) else {
        return;
    };
    assert_eq!(status, 1);
    assert_eq!(
        said,
        format!("tracepoints: cannot write {out}: Permission denied (os error 13)\n")
    );
    let output = tracepoints(&["man", "/no/such/directory"])
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("cannot write /no/such/directory/"),
        "{}",
        stderr(&output)
    );
}

/// Stops a process until [`go_on`], or returns once it has ended.
fn stop(child: &Child) {
    let pid = Pid::from_child(child);
    kill_process(pid, Signal::STOP).expect("it is not waited for yet");
    let states = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), states).expect("it is a child");
}

fn go_on(child: &Child) {
    kill_process(Pid::from_child(child), Signal::CONT).expect("it is not waited for yet");
}

/// Somebody removes what is being written, or the directory that it is in: nothing appears
/// that lacks a part. The writer stands still meanwhile: of a directory that gets its name
/// while somebody removes files from it, no writer can know that it is whole.
#[test]
fn directories_that_vanish() {
    let kernels = [
        "4.14-x86_64",
        "4.19-x86_64",
        "5.4-x86_64",
        "5.10.223-x86_64",
    ]
    .map(fixture);
    let catalog = |directory: &Path| {
        let place = directory.join("place");
        fs::create_dir(&place).expect("a directory");
        let mut command = tracepoints(&["catalog", "-o", "place/out"]);
        command.args(&kernels).current_dir(directory);
        (command, place)
    };
    let directory = tempfile::tempdir().expect("a directory");
    let (mut command, place) = catalog(directory.path());
    assert!(command.output().expect("it runs").status.success());
    let whole = names_below(&place.join("out"));
    let (mut failures, mut wholes) = (0, 0);
    for round in 0..12 {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut command, place) = catalog(directory.path());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it runs");
        let begun = Instant::now();
        let part = loop {
            let found = names(&place);
            if let Some(name) = found.first() {
                break place.join(name);
            }
            assert!(begun.elapsed() < Duration::from_secs(60));
        };
        sleep(Duration::from_millis(20) * (round / 2));
        let gone = if round % 2 == 0 { &part } else { &place };
        stop(&child);
        let removed = fs::remove_dir_all(gone);
        go_on(&child);
        let status = child.wait().expect("an end");
        let out = place.join("out");
        match removed {
            Ok(()) => {}
            // The part has its name already.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                assert!(status.success() && out.exists());
            }
        }
        match status.success() {
            true => wholes += 1,
            false => {
                failures += 1;
                assert!(!out.exists(), "{:?}", names(&out));
            }
        }
        match out.exists() {
            true => assert_eq!(names_below(&out), whole, "{round}"),
            false if place.exists() => assert_eq!(names(&place), Vec::<String>::new()),
            false => {}
        }
    }
    assert!(
        failures > 0,
        "{wholes} catalogs were whole before anything was removed"
    );
}

/// Names of all files of a directory, relative to it.
fn names_below(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = files(directory).into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}

/// Everything that prints, on a full disk and into a pipe that nobody reads.
#[test]
fn standard_outputs_that_take_nothing() {
    let root = fixture("6.18.15-x86_64").display().to_string();
    let old = fixture("5.10.223-x86_64").display().to_string();
    let object = fixture("audit").join("openat.bpf.o").display().to_string();
    for arguments in [
        &["list", "--root", &root][..],
        &["list", "--root", &root, "--json"],
        &["list", "--root", &root, "--raw"],
        &["format", "--root", &root, "sched:*"],
        &["format", "--root", &root, "sched:*", "--json"],
        &["format", "--root", &root, "sched:*", "--emit", "c"],
        &["sites", "--root", &root, "sched:*"],
        &["decode", "--demo"],
        &["decode", "--demo", "--json"],
        &["audit", &object, "--kernels", &root],
        &["audit", "--json", &object, "--kernels", &root],
        &["audit", "--sarif", &object, "--kernels", &root],
        &["diff", &old, &root],
        &["diff", "--json", &old, &root],
        &["diff", "--markdown", &old, &root],
        &["completions", "zsh"],
    ] {
        let plain = tracepoints(arguments).output().expect("it runs");
        if plain.stdout.is_empty() {
            // Images of BTF alone have no sites.
            assert_eq!(arguments[0], "sites");
            continue;
        }
        let full = File::options()
            .write(true)
            .open("/dev/full")
            .expect("a device");
        let output = tracepoints(arguments)
            .stdout(full)
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(
            stderr(&output).ends_with("standard output: No space left on device (os error 28)\n"),
            "{arguments:?}: {}",
            stderr(&output)
        );
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = tracepoints(arguments)
            .stdout(writer)
            .output()
            .expect("it runs");
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(!stderr(&output).contains("Broken pipe"), "{arguments:?}");
    }
}
