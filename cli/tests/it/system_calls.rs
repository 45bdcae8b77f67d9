//! What `strace` sees: the system calls of docs/privileges.md and no others, and that of
//! foreign captures nothing outside of them is opened.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use walkdir::WalkDir;

use crate::command::program;
use crate::live::{MOUNT, in_namespace};
use crate::support::{fixture, repository, skip};

/// Runs the command under strace, and returns what that wrote; `None`, having said so,
/// where there is no strace or it may not trace.
fn traced(directory: &Path, options: &[&str], arguments: &[String]) -> Option<String> {
    let log = directory.join("strace.log");
    let _ = fs::remove_file(&log);
    let status = Command::new("strace")
        .args(["-f", "-o"])
        .arg(&log)
        .args(options)
        .arg("--")
        .arg(program())
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let text = fs::read_to_string(&log).unwrap_or_default();
    if status.is_err() || text.is_empty() {
        skip("there is no strace, or it may not trace");
        return None;
    }
    Some(text)
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// The paths of the files that were opened, without links.
fn opened(log: &str) -> BTreeSet<PathBuf> {
    let path = |line: &str| {
        let (_, result) = line.rsplit_once(" = ")?;
        let (number, path) = result.split_once('<')?;
        number.parse::<u32>().ok()?;
        Some(PathBuf::from(path.rsplit_once('>')?.0))
    };
    log.lines().filter_map(path).collect()
}

/// glibc's `malloc` reads it where threads give memory back.
const ALLOCATOR: &str = "/proc/sys/vm/overcommit_memory";

/// Whether any program may open it: libraries, its own memory map, the time zone.
fn is_of_any_program(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let is_library = text.contains("/lib") && text.contains(".so");
    let is_own = |file: &str| text.starts_with("/proc/") && text.ends_with(file);
    is_library
        || [
            "/etc/ld.so.cache",
            "/etc/localtime",
            "/etc/timezone",
            ALLOCATOR,
        ]
        .contains(&&*text)
        || text.contains("/zoneinfo")
        || text.starts_with("/sys/fs/cgroup/")
        || ["/maps", "/cgroup", "/exe"].iter().any(|file| is_own(file))
}

fn copy(from: &Path, to: &Path) {
    for entry in WalkDir::new(from) {
        let entry = entry.expect("an entry");
        let place = to.join(entry.path().strip_prefix(from).expect("inside"));
        match entry.file_type().is_dir() {
            true => fs::create_dir_all(place).expect("a directory"),
            false => drop(fs::copy(entry.path(), place).expect("a file")),
        }
    }
}

/// Captures with links that lead out of them, to files that are valid there.
fn hostile(directory: &Path) -> Vec<PathBuf> {
    let outside = directory.join("outside");
    copy(&fixture("6.18.15-x86_64"), &outside);
    fs::create_dir_all(outside.join("proc")).expect("a directory");
    fs::write(outside.join("proc/version"), "Linux version 6.18.15\n").expect("a file");
    fs::write(outside.join("tracing/saved_tgids"), "1 1\n").expect("a file");
    fs::write(outside.join("proc/kallsyms"), "ffffffff81000000 T _text\n").expect("a file");
    let replaced: &[&[&str]] = &[
        &[],
        &["tracing"],
        &["btf"],
        &["tracing/events"],
        &["btf/vmlinux", "tracing/events/sched"],
        &[
            "tracing/available_events",
            "tracing/events/irq",
            "btf/xfs",
            "proc",
            "tracing/saved_tgids",
        ],
        &[
            "tracing/events/sched/sched_switch",
            "tracing/events/sched/sched_process_exec/format",
            "tracing/events/header_page",
            "proc/version",
            "proc/kallsyms",
            "ring/saved_cmdlines",
        ],
    ];
    let mut roots = Vec::new();
    for (number, replaced) in replaced.iter().enumerate() {
        let root = directory.join(format!("capture{number}"));
        copy(&outside, &root);
        for (index, path) in replaced.iter().enumerate() {
            let place = root.join(path);
            let _ = fs::remove_file(&place);
            let _ = fs::remove_dir_all(&place);
            let up = "../".repeat(path.matches('/').count() + 1);
            // Absolute links, and relative ones.
            match (number + index) % 2 {
                0 => symlink(outside.join(path), place),
                _ => symlink(format!("{up}outside/{path}"), place),
            }
            .expect("a link");
        }
        roots.push(root);
    }
    // Nobody writes to it.
    let pipe = roots[0].join("tracing/saved_tgids");
    fs::remove_file(&pipe).expect("a file");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    // An archive with these links, and one whose names lead out of it.
    let last = roots.last().expect("captures").clone();
    for (name, options) in [("links.tar", &["-C"][..]), ("up.tar", &["-P", "-C"])] {
        let archive = directory.join(name);
        let mut tar = Command::new("tar");
        tar.arg("-cf")
            .arg(&archive)
            .args(options)
            .arg(&last)
            .arg(".");
        if name == "up.tar" {
            tar.arg("../outside/tracing/printk_formats")
                .arg("../outside/btf/vmlinux");
            tar.stderr(Stdio::null());
        }
        if tar.status().is_ok_and(|_| archive.exists()) {
            roots.push(archive);
        }
    }
    roots
}

#[test]
fn nothing_outside_of_foreign_captures_is_opened() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path().canonicalize().expect("a path");
    let good = fixture("5.10.223-x86_64").canonicalize().expect("a path");
    let object = fixture("audit/openat.bpf.o")
        .canonicalize()
        .expect("a path");
    let mut count = 0;
    for root in hostile(&directory) {
        let (shown, good_name) = (root.display(), good.display());
        let mut commands = vec![
            format!("list --json --raw --root {shown}"),
            format!("format --root {shown} sched:*"),
            format!("sites --root {shown}"),
            format!("diff {good_name} {shown}"),
            format!("audit {} --kernels {shown}", object.display()),
            format!("catalog {shown} -o out"),
            format!("explore {shown} -o out"),
            format!("capture --image {shown} out"),
        ];
        if root.is_dir() {
            commands.push(format!("decode --root {shown} {shown}/ring/cpu0.raw"));
        }
        for command in commands {
            let options = ["-y", "-e", "trace=open,openat,openat2"];
            let Some(log) = traced(&directory, &options, &words(&command)) else {
                return;
            };
            let files = opened(&log);
            assert!(!files.is_empty(), "{command}");
            for path in &files {
                let is_output = path == &directory
                    || ["out", ".out"].iter().any(|start| {
                        let inside = path.strip_prefix(&directory);
                        inside.is_ok_and(|path| path.to_string_lossy().starts_with(start))
                            && !path.starts_with(directory.join("outside"))
                    });
                assert!(
                    path.starts_with(&root)
                        || path.starts_with(&good)
                        || path == &object
                        || is_output
                        || is_of_any_program(path),
                    "{command} opened {}",
                    path.display()
                );
                count += usize::from(path.starts_with(&root));
            }
            let _ = fs::remove_dir_all(directory.join("out"));
        }
    }
    assert!(count > 500, "{count}");
}

/// The words of the code blocks under the heading `System calls`, one set for each block.
fn documented() -> Vec<BTreeSet<String>> {
    let path = repository().join("docs/privileges.md");
    let text = fs::read_to_string(path).expect("the document");
    let (_, section) = text.split_once("\n## System calls\n").expect("the heading");
    let (section, _) = section.split_once("\n## ").expect("the next heading");
    let blocks = section.split("```").skip(1).step_by(2);
    blocks
        .map(|block| {
            block
                .split_whitespace()
                .skip(1)
                .map(str::to_owned)
                .collect()
        })
        .collect()
}

/// The system calls in a log of strace.
fn calls(log: &str) -> BTreeSet<String> {
    let call = |line: &str| {
        let line = line.trim_start_matches(|char: char| char.is_ascii_digit());
        let (call, _) = line.trim_start().split_once('(')?;
        let is_name =
            |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_';
        call.chars().all(is_name).then(|| call.to_owned())
    };
    log.lines().filter_map(call).collect()
}

#[test]
#[cfg_attr(
    not(all(target_arch = "x86_64", target_env = "gnu")),
    expect(
        unreachable_code,
        unused_variables,
        reason = "the list is of one machine"
    )
)]
fn the_system_calls_are_those_of_the_document() {
    #[cfg(not(all(target_arch = "x86_64", target_env = "gnu")))]
    return skip("the list is of x86-64 with glibc");
    let blocks = documented();
    let [plain, writing, live] = &blocks[..] else {
        panic!("{blocks:?}");
    };
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    let root = fixture("6.18.15-x86_64").display().to_string();
    let object = fixture("audit/openat.bpf.o").display().to_string();
    let image = fixture("6.18.15-x86_64/btf/vmlinux").display().to_string();
    let mut seen = BTreeSet::new();
    let allowed: BTreeSet<String> = plain.union(writing).cloned().collect();
    for (command, allowed) in [
        (format!("list --root {root}"), plain),
        (format!("list --raw --json --root {root}"), plain),
        (format!("format --root {root} sched:*"), plain),
        (format!("decode --root {root} {root}/ring/cpu0.raw"), plain),
        (format!("diff {root} {root}"), plain),
        (format!("audit {object} --kernels {root}"), plain),
        ("completions zsh".to_owned(), plain),
        (format!("catalog {root} -o catalog"), &allowed),
        (format!("explore {root} -o page"), &allowed),
        (format!("explore {root} -o page.tar.zst"), &allowed),
        (format!("capture --image {image} capture"), &allowed),
        (
            format!("audit {object} --kernels {root} --emit-reads reads"),
            &allowed,
        ),
        ("decode --demo".to_owned(), &allowed),
        ("man .".to_owned(), &allowed),
    ] {
        let Some(log) = traced(directory, &[], &words(&command)) else {
            return;
        };
        let made = calls(&log);
        assert!(made.contains("openat"), "{command}: {log}");
        let others: Vec<_> = made.difference(allowed).collect();
        assert!(others.is_empty(), "{command} makes {others:?}");
        seen.extend(made);
    }
    let all: BTreeSet<String> = allowed.union(live).cloned().collect();
    for command in [
        "list",
        "format sched:sched_process_exit",
        "list --raw",
        "sites sched:sched_switch",
        "capture captured.tar.zst",
        "bench raw_syscalls:sys_enter",
        "attach sched:sched_process_exec --duration 0.2",
        "attach --count sched:sched_process_exec --duration 0.2",
        "attach --pid 1 --hist pid sched:sched_process_exec --duration 0.2",
    ] {
        let script = format!(
            "{MOUNT}cd {}; strace -f -o strace.log -- \"$TRACEPOINTS\" {command} > /dev/null",
            directory.display()
        );
        let Some(output) = in_namespace(&script) else {
            return;
        };
        assert!(output.status.success(), "{command}: {output:?}");
        let log = fs::read_to_string(directory.join("strace.log")).expect("a log");
        let made = calls(&log);
        let others: Vec<_> = made.difference(&all).collect();
        assert!(others.is_empty(), "{command} makes {others:?}");
        seen.extend(made);
    }
    for call in ["socket", "connect", "ptrace", "mount"] {
        assert!(!all.contains(call), "{call}");
    }
    println!("{} of {} system calls seen", seen.len(), all.len());
}
