//! The other programs: bpftrace, and one in C with libbpf that is compiled here.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/probe");

/// bpftrace at work, until it is dropped.
pub(super) struct Bpftrace(Child);

impl Bpftrace {
    /// The error is its own last line, if it does not start.
    pub(super) fn start(program: &str) -> Result<Self, String> {
        let begin = "BEGIN { printf(\"ready\\n\"); }";
        let child = Command::new("bpftrace")
            .args(["-e", &format!("{begin} {program}")])
            // It loses no records: as many bytes as the other ring buffers have, on each CPU.
            .env("BPFTRACE_PERF_RB_PAGES", "4096")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut started = Self(child.map_err(|error| error.to_string())?);
        let missing = || "its output is not there".to_owned();
        let output = started.0.stdout.take().ok_or_else(missing)?;
        let errors = started.0.stderr.take().ok_or_else(missing)?;
        let mut lines = BufReader::new(output).lines();
        // Its output is read, so that it does not have to wait.
        let last =
            std::thread::spawn(|| BufReader::new(errors).lines().map_while(Result::ok).last());
        if !lines.any(|line| line.is_ok_and(|line| line == "ready")) {
            let last = last.join().ok().flatten();
            return Err(last.unwrap_or_else(|| "it does not start".to_owned()));
        }
        std::thread::spawn(move || lines.count());
        // Its BEGIN may run before all is attached.
        std::thread::sleep(std::time::Duration::from_millis(500));
        Ok(started)
    }
}

impl Drop for Bpftrace {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.0.wait();
    }
}

/// The C program and its BPF object, compiled for this process.
pub(super) struct Compiled {
    directory: tempfile::TempDir,
}

impl Compiled {
    /// Compiles them; the error says what is missing.
    pub(super) fn new() -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let compiled = Self { directory };
        let source = |name: &str| Path::new(SOURCES).join(name);
        let mut clang = Command::new("clang");
        clang
            .args(["-O2", "-g", "-target", "bpf", "-c"])
            .arg(format!("-DPID={}", std::process::id()))
            // Where Debian has `asm/types.h`.
            .arg(format!(
                "-I/usr/include/{}-linux-gnu",
                std::env::consts::ARCH
            ))
            .arg(source("cost.bpf.c"))
            .arg("-o")
            .arg(compiled.object());
        run(clang, "clang")?;
        let mut cc = Command::new("cc");
        cc.arg("-O2").arg(source("cost.c"));
        cc.arg("-o").arg(compiled.program()).arg("-lbpf");
        run(cc, "cc with libbpf")?;
        Ok(compiled)
    }

    fn object(&self) -> PathBuf {
        self.directory.path().join("cost.bpf.o")
    }

    fn program(&self) -> PathBuf {
        self.directory.path().join("cost")
    }

    /// Attaches one of its programs; the error is its own last line, if it does not start.
    pub(super) fn start(&self, program: &str) -> Result<Libbpf, String> {
        let child = Command::new(self.program())
            .arg(self.object())
            .arg(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.map_err(|error| error.to_string())?;
        let output = child.stdout.take().ok_or("its output is not there")?;
        let mut started = Libbpf {
            child,
            output: BufReader::new(output),
        };
        if started.line().is_some_and(|line| line == "ready") {
            return Ok(started);
        }
        let errors = started.child.stderr.take().map(BufReader::new);
        let mut lines = errors.into_iter().flat_map(BufRead::lines);
        let last = lines.by_ref().map_while(Result::ok).last();
        Err(last.unwrap_or_else(|| "it does not start".to_owned()))
    }
}

fn run(mut command: Command, what: &str) -> Result<(), String> {
    let output = command.output();
    let output = output.map_err(|error| format!("{what}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let text = String::from_utf8_lossy(&output.stderr);
            let first = text.lines().find(|line| line.contains("error"));
            Err(format!("{what}: {}", first.unwrap_or("it fails")))
        }
    }
}

/// The C program at work, until it is dropped.
pub(super) struct Libbpf {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Libbpf {
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.output.read_line(&mut line).ok()?;
        Some(line.trim_end().to_owned())
    }

    /// Ends it, and returns how many events it has seen.
    pub(super) fn end(mut self) -> Option<u64> {
        drop(self.child.stdin.take());
        self.line()?.parse().ok()
    }
}

impl Drop for Libbpf {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
