//! The cases of `audit`, one object each, compiled where there is a clang that knows eBPF.
//! `tests/fixtures/audit` has the sources, each with the verdict expected.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use tracepoints::ByteOrder;

use super::{fixture, skip};

/// One case of a source file.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) kernel: String,
    pub(crate) verdict: String,
    pub(crate) reason: String,
    pub(crate) code: String,
}

pub(crate) fn sources() -> PathBuf {
    fixture("audit")
}

/// The cases of a file.
pub(crate) fn cases(file: &str) -> Vec<Case> {
    let text = fs::read_to_string(sources().join(file)).expect("a source");
    let mut cases = Vec::new();
    for case in text.split("\n//// ").skip(1) {
        let (head, code) = case.split_once('\n').expect("a head");
        let head: Vec<&str> = head.split('|').map(str::trim).collect();
        let [name, kernel, verdict, reason] = head[..] else {
            panic!("{head:?} is not name | kernel | verdict | reason");
        };
        cases.push(Case {
            name: name.to_owned(),
            kernel: kernel.to_owned(),
            verdict: verdict.to_owned(),
            reason: reason.to_owned(),
            code: code.to_owned(),
        });
    }
    cases
}

/// A clang that compiles for eBPF; says that the test is skipped if there is none.
pub(crate) fn clang() -> Option<Clang> {
    let targets = Command::new("clang").arg("--print-targets").output();
    let targets = targets.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    if !targets.is_ok_and(|targets| targets.contains("bpfeb")) {
        skip("there is no clang that compiles for eBPF");
        return None;
    }
    Some(Clang(tempfile::tempdir().expect("a directory")))
}

/// A compiler with a directory to work in.
pub(crate) struct Clang(TempDir);

impl Clang {
    /// The object of a source.
    pub(crate) fn compile(&self, name: &str, code: &str, byte_order: ByteOrder) -> Vec<u8> {
        let (source, object) = (
            self.0.path().join(format!("{name}.c")),
            self.0.path().join("o"),
        );
        let code = format!("#include \"context.h\"\n#line 1 \"{name}.c\"\n{code}");
        fs::write(&source, code).expect("a file");
        let target = match byte_order {
            ByteOrder::Little => "bpfel",
            ByteOrder::Big => "bpfeb",
        };
        let output = Command::new("clang")
            .args(["-g", "-O2", "-target", target, "-c", "-I"])
            .arg(sources())
            .arg(&source)
            .arg("-o")
            .arg(&object)
            .output()
            .expect("clang runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        fs::read(&object).expect("an object")
    }
}
