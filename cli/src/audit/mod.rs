//! Audits compiled eBPF objects: prints a matrix of programs and kernels, and each read
//! that is not right.

mod differing;
mod mend;
mod reads;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use tracepoints::audit::{AuditRow, AuditedKernel, AuditedRead, BpfObject, ProgramAudit, Verdict};
use tracepoints::image::ImageError;
use tracepoints::{Error, EventName, Kernel};

use crate::kernel::say_unreadable;
use crate::output::{self, Failure, Screen, note, plural, say, say_first, with_causes};

/// Hold compiled eBPF objects against kernels: what each program reads, and what is there
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Kernels as for --root, or directories of such; the running one without any
    #[arg(long, short, value_name = "PATH", num_args = 1..)]
    kernels: Vec<PathBuf>,
    /// Say to which event a program is attached whose section does not
    #[arg(long, value_name = "PROGRAM=EVENT", value_parser = attachment)]
    attach: Vec<(String, EventName)>,
    /// Print one JSON object a line: a program on a kernel
    #[arg(long, short)]
    json: bool,
    /// Print SARIF 2.1.0, which code review tools read
    #[arg(long, conflicts_with = "json")]
    sarif: bool,
    /// Write tables of what programs read instead, which joined with those of `catalog` give
    /// the verdicts: a directory to create
    #[arg(long, value_name = "DIR", conflicts_with_all = ["json", "sarif", "deny"])]
    emit_reads: Option<PathBuf>,
    /// Write JSON Lines beside the Parquet files
    #[arg(long, requires = "emit_reads")]
    jsonl: bool,
    /// Exit with status 1 if a program is wrong or refused on any of the kernels
    #[arg(long)]
    deny: bool,
    /// Objects (.bpf.o), or programs that embed them
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  tracepoints audit exec.bpf.o
  tracepoints audit --deny exec.bpf.o --kernels kernels/6.1 kernels/6.18
  tracepoints audit --deny exec.bpf.o --kernels kernels
  tracepoints audit /usr/sbin/execsnoop --kernels kernels/6.1-rt --json
  tracepoints audit /usr/sbin/*snoop --kernels kernels/* --emit-reads reads";

fn attachment(text: &str) -> Result<(String, EventName), String> {
    let (program, event) = text.split_once('=').ok_or("not PROGRAM=EVENT")?;
    let event = event.parse().map_err(|error| with_causes(&error))?;
    Ok((program.to_owned(), event))
}

/// An object, and the file it is in.
struct Named {
    name: String,
    object: BpfObject,
}

/// The audits of an object's programs on a kernel, with the names of both.
struct Audited {
    object: String,
    kernel: String,
    programs: Vec<ProgramAudit>,
}

pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    output::run(false, |out| audit(arguments, out))
}

fn audit(arguments: &Arguments, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let objects = objects(arguments)?;
    if let Some(out) = &arguments.emit_reads {
        return reads::emit(arguments, &objects, out);
    }
    let mut all = Vec::new();
    let mut opened = Vec::new();
    each_kernel(&arguments.kernels, |name, kernel| {
        opened.push((name.clone(), kernel.clone()));
        let kernel = AuditedKernel::new(&kernel);
        for named in &objects {
            all.push(Audited {
                object: named.name.clone(),
                kernel: name.clone(),
                programs: named.object.audit_on(&kernel)?,
            });
        }
        Ok(())
    })?;
    let count = opened.len();
    if arguments.json {
        for row in rows(&all) {
            serde_json::to_writer(&mut *out, &row)?;
            out.write_all(b"\n")?;
        }
    } else if arguments.sarif {
        serde_json::to_writer_pretty(&mut *out, &sarif(&all))?;
        out.write_all(b"\n")?;
    } else {
        write_matrix(&all, out)?;
        write_findings(&all, out)?;
        differing::write(&all, out)?;
        mend::write(&all, &opened, out)?;
    }
    out.flush()?;
    let faults = rows(&all).filter(|row| row.audit.verdict().is_fault());
    let faults = faults.count();
    let programs = objects.iter().map(|named| named.object.programs().len());
    let programs: usize = programs.sum();
    note!(
        "{} on {}: {} wrong or refused",
        plural(programs as u64, "program", "s"),
        plural(count as u64, "kernel", "s"),
        faults
    );
    Ok(match arguments.deny && faults > 0 {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// Opens the kernels one after the other, and those in directories that are no kernel, each
/// with its path; without any, the running one.
fn each_kernel(
    paths: &[PathBuf],
    mut audit: impl FnMut(String, Kernel) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if paths.is_empty() {
        return audit("running".to_owned(), Kernel::live()?);
    }
    let mut audit = |path: &Path, kernel: Kernel| {
        say_unreadable(&kernel);
        audit(path.display().to_string(), kernel)
    };
    for path in paths {
        let error = match Kernel::at(path) {
            Ok(kernel) => {
                audit(path, kernel)?;
                continue;
            }
            Err(error @ Error::NotAKernel { .. }) => error,
            Err(error) => return Err(error.into()),
        };
        let mut inside: Vec<PathBuf> = fs::read_dir(path)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        inside.sort();
        // Other directories and files may be beside them.
        let mut left_out = Vec::new();
        let mut has_kernel = false;
        for path in inside {
            match Kernel::at(&path) {
                Ok(kernel) => {
                    has_kernel = true;
                    audit(&path, kernel)?;
                }
                Err(
                    Error::NotAKernel { .. }
                    | Error::Image {
                        source: ImageError::Unknown,
                        ..
                    },
                ) => left_out.push(path.display().to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        if !has_kernel {
            return Err(error.into());
        }
        say_first(
            &left_out,
            |path| format!("{path}: no kernel, left out"),
            |more| format!("and {more} more left out"),
        );
    }
    Ok(())
}

fn rows(all: &[Audited]) -> impl Iterator<Item = AuditRow<'_>> {
    all.iter().flat_map(|audited| {
        let programs = audited.programs.iter();
        programs.map(|audit| AuditRow {
            object: &audited.object,
            kernel: &audited.kernel,
            audit,
        })
    })
}

/// Returns the objects of all files. An object inside another file is named by its
/// offset there.
fn objects(arguments: &Arguments) -> Result<Vec<Named>, Failure> {
    let mut objects = Vec::new();
    for file in &arguments.files {
        let failure = |why: String| Failure::Other(format!("{}: {why}", file.display()));
        let bytes = fs::read(file).map_err(|error| failure(error.to_string()))?;
        let found = BpfObject::find(&bytes);
        if found.is_empty() {
            return Err(failure("no eBPF object is in it".to_owned()));
        }
        for found in found {
            let name = match found.offset() {
                0 => file.display().to_string(),
                offset => format!("{}@{offset:#x}", file.display()),
            };
            match found.into_object() {
                Ok(object) => objects.push(Named { name, object }),
                Err(error) => return Err(failure(with_causes(&error))),
            }
        }
    }
    for (program, event) in &arguments.attach {
        let mut known = objects.iter_mut();
        if !known.any(|named| named.object.attach(program, event).is_ok()) {
            return Err(Failure::Other(format!("no object has a program {program}")));
        }
    }
    for named in &objects {
        let programs = named.object.programs().iter();
        let inferred = programs.filter(|program| program.is_section_inferred());
        let events: Vec<&str> = inferred.map(|program| program.section()).collect();
        if !events.is_empty() {
            say!(
                "{}: which program of the light skeleton is in which section is inferred: {}",
                named.name,
                events.join(", ")
            );
        }
    }
    if objects
        .iter()
        .all(|named| named.object.programs().is_empty())
    {
        say!("the objects have no programs");
    }
    Ok(objects)
}

/// Writes a line for each program, with a column for each kernel.
fn write_matrix(all: &[Audited], out: &mut dyn Write) -> Result<(), Failure> {
    let screen = Screen::of_stdout();
    let mut kernels: Vec<&str> = Vec::new();
    let mut programs: Vec<(&str, &str)> = Vec::new();
    let mut verdicts: BTreeMap<((&str, &str), &str), Verdict> = BTreeMap::new();
    for row in rows(all) {
        let program = (row.object, row.audit.program());
        if !programs.contains(&program) {
            programs.push(program);
        }
        if !kernels.contains(&row.kernel) {
            kernels.push(row.kernel);
        }
        verdicts.insert((program, row.kernel), row.audit.verdict());
    }
    let title = |(object, program): &(&str, &str)| {
        let object = object.rsplit('/').next().unwrap_or(object);
        format!("{object} {program}")
    };
    let width = programs.iter().map(|program| title(program).len()).max();
    let width = width.unwrap_or(0);
    let names: Vec<&str> = kernels
        .iter()
        .map(|kernel| {
            kernel
                .trim_end_matches('/')
                .rsplit('/')
                .next()
                .unwrap_or(kernel)
        })
        .collect();
    write!(out, "{:width$}", "")?;
    for name in &names {
        write!(out, "  {name:8}")?;
    }
    writeln!(out)?;
    for program in &programs {
        write!(out, "{:width$}", screen.show(&title(program)))?;
        for (kernel, name) in kernels.iter().zip(&names) {
            let verdict = verdicts.get(&(*program, *kernel));
            let verdict = verdict.map_or("", |verdict| verdict.as_str());
            write!(out, "  {verdict:0$}", name.len().max(8))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn write_findings(all: &[Audited], out: &mut dyn Write) -> Result<(), Failure> {
    let screen = Screen::of_stdout();
    for row in rows(all) {
        let audit = row.audit;
        if audit.verdict() == Verdict::Right {
            continue;
        }
        let reason = audit.reason().unwrap_or_default();
        writeln!(out)?;
        let (object, program) = (row.object, audit.program());
        let text = format!(
            "{object} {program} on {}: {}: {reason}",
            row.kernel,
            audit.verdict()
        );
        writeln!(out, "{}", screen.show(&text))?;
        let reads = audit.reads().iter();
        for read in reads.filter(|read| read.verdict() != Verdict::Right) {
            writeln!(out, "  {}", screen.show(&said(read)))?;
        }
    }
    Ok(())
}

/// The line of a read, or its instruction.
fn place(read: &AuditedRead) -> String {
    match (read.line(), read.function()) {
        (Some((file, line)), _) => match read.near() {
            Some(near) => format!("{file}:{line}, near {}:{}", near.file, near.line),
            None => format!("{file}:{line}"),
        },
        (None, Some(function)) => format!("{function}, instruction {}", read.instruction()),
        (None, None) => format!("instruction {}", read.instruction()),
    }
}

fn said(read: &AuditedRead) -> String {
    let mut text = format!(
        "{}: {}",
        place(read),
        read.path().unwrap_or("a read of the context")
    );
    if let Some(wants) = read.wants() {
        text += &format!(" wants {wants},");
    }
    if let Some(gets) = read.gets() {
        text += &format!(" gets {gets}");
    }
    if let Some(reason) = read.reason() {
        text += &format!(" ({reason})");
    }
    if let Some(mend) = read.mend() {
        text += &format!("; {mend}");
    }
    text
}

/// Writes SARIF 2.1.0: a result for each read, or program, that is wrong, refused or
/// unknown.
fn sarif(all: &[Audited]) -> Value {
    let mut results = Vec::new();
    for row in rows(all) {
        let audit = row.audit;
        let mut result = |verdict: Verdict, text: String, line: Option<(&str, u32)>| {
            let level = if verdict.is_fault() { "error" } else { "note" };
            let (uri, line) = line.unwrap_or((row.object, 1));
            results.push(json!({
                "ruleId": verdict.as_str(),
                "level": level,
                "message": { "text": text },
                "locations": [{ "physicalLocation": {
                    "artifactLocation": { "uri": uri },
                    "region": { "startLine": line },
                } }],
            }));
        };
        let head = format!("{} on {}", audit.program(), row.kernel);
        let reads = audit.reads().iter();
        let reads = reads.filter(|read| read.verdict() != Verdict::Right);
        let mut has_read = false;
        for read in reads {
            has_read = true;
            result(
                read.verdict(),
                format!("{head}: {}", said(read)),
                read.line(),
            );
        }
        if !has_read && (audit.verdict().is_fault() || audit.verdict() == Verdict::Unknown) {
            let reason = audit.reason().unwrap_or_default();
            result(audit.verdict(), format!("{head}: {reason}"), None);
        }
    }
    let rules = [Verdict::Wrong, Verdict::Refused, Verdict::Unknown];
    let rules: Vec<Value> = rules
        .iter()
        .map(|rule| json!({ "id": rule.as_str() }))
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "tracepoints", "rules": rules } },
            "results": results,
        }],
    })
}
