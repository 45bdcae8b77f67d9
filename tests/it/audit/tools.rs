//! The objects that Debian 12's `libbpf-tools` embed, where the environment variable
//! `TRACEPOINTS_BPF_TOOLS` names the directory of its programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use tracepoints::Kernel;
use tracepoints::audit::{Attachable, AuditedKernel, BpfObject, ProgramAudit, Verdict};

use crate::support::{corpus, name, skip};

/// The objects of each tool as bytes that begin with them, links to tools among them.
pub(super) fn embedded() -> Vec<(String, Vec<Vec<u8>>)> {
    let Some(dir) = std::env::var_os("TRACEPOINTS_BPF_TOOLS").map(PathBuf::from) else {
        skip("TRACEPOINTS_BPF_TOOLS names no directory of tools that embed objects");
        return Vec::new();
    };
    let entries = dir.read_dir().expect("a directory");
    let mut tools: Vec<(String, Vec<Vec<u8>>)> = entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let bytes = fs::read(&path).expect("a file");
            let found = BpfObject::find(&bytes);
            let objects = found.iter().map(|found| bytes[found.offset()..].to_vec());
            (name(&path), objects.collect())
        })
        .collect();
    tools.sort_by(|a, b| a.0.cmp(&b.0));
    tools
}

/// The objects of each tool.
fn tools() -> Vec<(String, Vec<BpfObject>)> {
    let parse = |bytes: &Vec<u8>| BpfObject::parse(bytes).expect("a sound object");
    let tools = embedded().into_iter();
    tools
        .map(|(tool, objects)| (tool, objects.iter().map(parse).collect()))
        .collect()
}

fn audits(
    tools: &[(String, Vec<BpfObject>)],
    kernel: &AuditedKernel,
) -> Vec<(String, ProgramAudit)> {
    let mut audits = Vec::new();
    for (tool, objects) in tools {
        for object in objects {
            let audited = object.audit_on(kernel).expect("a whole kernel");
            audits.extend(audited.into_iter().map(|audit| (tool.clone(), audit)));
        }
    }
    audits
}

/// On Debian 12's own RT kernel 24 of 40 programs of tracepoints are refused and 8 read
/// other arguments than they mean; elsewhere none. `biopattern` has both names of a
/// struct that was renamed, and is right everywhere.
#[test]
fn tools_of_debian_on_every_kernel() {
    let (tools, kernels) = (tools(), corpus());
    if tools.is_empty() {
        return;
    }
    for root in kernels {
        let kernel = AuditedKernel::new(&Kernel::at(&root).expect("a kernel"));
        let audits = audits(&tools, &kernel);
        let mut counts: BTreeMap<Verdict, u32> = BTreeMap::new();
        for (tool, audit) in &audits {
            assert!(
                tool != "biopattern" || !audit.verdict().is_fault(),
                "{audit:?}"
            );
            let is_of_event = matches!(
                Attachable::of_section(audit.section()),
                Attachable::Tracepoint(_)
            );
            if is_of_event {
                *counts.entry(audit.verdict()).or_default() += 1;
            } else {
                assert!(!audit.verdict().is_fault(), "{audit:?}");
            }
        }
        let count = |verdict| counts.get(&verdict).copied().unwrap_or(0);
        let name = name(&root);
        match name.starts_with("6.1.192-rt") {
            true => {
                let found = [Verdict::Right, Verdict::Wrong, Verdict::Refused].map(count);
                assert_eq!(found, [8, 8, 24], "{name}: {counts:?}");
                insta::assert_snapshot!("wrong_on_rt", wrong(&audits));
            }
            false => {
                let faults = [Verdict::Wrong, Verdict::Refused].map(count);
                assert_eq!(faults, [0, 0], "{name}: {counts:?}");
            }
        }
        eprintln!("{name}: {counts:?}");
    }
}

fn wrong(audits: &[(String, ProgramAudit)]) -> String {
    let wrong = audits
        .iter()
        .filter(|(_, audit)| audit.verdict() == Verdict::Wrong);
    let rows: Vec<String> = wrong
        .map(|(tool, audit)| {
            let mut reads = audit.reads().iter();
            let read = reads.find(|read| read.verdict() == Verdict::Wrong);
            let read = read.expect("a wrong read");
            let (section, line) = (audit.section(), read.line().map(|(_, line)| line));
            let (wants, gets) = (
                read.wants().unwrap_or_default(),
                read.gets().unwrap_or_default(),
            );
            format!("{tool} {section}, line {line:?}: wants {wants}, gets {gets}")
        })
        .collect();
    rows.join("\n")
}
