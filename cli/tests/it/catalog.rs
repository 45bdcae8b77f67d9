//! Tables of kernels and of programs, and the verdicts that they give together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Value, json};
use tracepoints::{ByteOrder, Kernel};

use crate::command::{program, stderr, stdout};
use crate::support::cases::{cases, clang};
use crate::support::{self, fixtures, repository, skip};

/// Runs the command in a directory with links to kernels and objects.
fn tracepoints(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).current_dir(dir);
    command.output().expect("it runs")
}

/// Files below a directory, by their paths.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(place) = waiting.pop() {
        for entry in fs::read_dir(place).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let bytes = fs::read(&path).expect("a file");
                let path = path.strip_prefix(dir).expect("below").to_owned();
                found.insert(path, bytes);
            }
        }
    }
    found
}

/// A directory with the kernels in `kernels/`, and the objects in `objects/`.
fn place(kernels: &[PathBuf], objects: &[PathBuf]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, paths) in [("kernels", kernels), ("objects", objects)] {
        let links = dir.path().join(name);
        fs::create_dir(&links).expect("a directory");
        for path in paths {
            let link = links.join(path.file_name().expect("a name"));
            std::os::unix::fs::symlink(path, link).expect("a link");
        }
    }
    dir
}

/// The rows of a Parquet file, as the JSON Lines beside it have them.
fn parquet_rows(path: &Path) -> Vec<Value> {
    let reader = SerializedFileReader::new(File::open(path).expect("a file")).expect("Parquet");
    let metadata = reader.metadata().file_metadata();
    let pairs = metadata.key_value_metadata().expect("metadata");
    let version = pairs.iter().find(|pair| pair.key == "tracepoints.schema");
    assert_eq!(version.and_then(|pair| pair.value.as_deref()), Some("1"));
    assert!(reader.num_row_groups() <= 1, "{}", path.display());
    let rows = reader.get_row_iter(None).expect("rows");
    let rows = rows.map(|row| {
        let row = row.expect("a row");
        let columns = row.get_column_iter().map(|(name, field)| {
            let value = match field {
                Field::Null => Value::Null,
                Field::Bool(truth) => json!(truth),
                Field::Long(number) => json!(number),
                Field::Str(text) => json!(text),
                other => panic!("{other:?}"),
            };
            (name.clone(), value)
        });
        Value::Object(columns.collect())
    });
    rows.collect()
}

fn json_rows(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).expect("text");
    let rows = text.lines().map(serde_json::from_str);
    rows.map(|row| row.expect("JSON")).collect()
}

/// Both forms have the same rows, twice the same bytes; each kernel is a file in its partition.
#[test]
fn tables_of_kernels() {
    let dir = place(&fixtures(), &[]);
    let mut roots: Vec<String> = fs::read_dir(dir.path().join("kernels"))
        .expect("kernels")
        .map(|entry| format!("kernels/{}", entry.expect("one").file_name().display()))
        .collect();
    roots.sort();
    for out in ["one", "two"] {
        let mut arguments: Vec<&str> = vec!["catalog", "--jsonl", "-o", out];
        arguments.extend(roots.iter().map(String::as_str));
        let output = tracepoints(dir.path(), &arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        // The order of the roots means nothing.
        roots.reverse();
    }
    let one = files(&dir.path().join("one"));
    assert!(one == files(&dir.path().join("two")), "not the same bytes");
    let mut tables: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (path, bytes) in &one {
        if path.extension().is_some_and(|ending| ending == "parquet") {
            let json = json_rows(&one[&path.with_extension("jsonl")]);
            let rows = parquet_rows(&dir.path().join("one").join(path));
            assert!(rows == json, "{}", path.display());
            let table = path.iter().next().and_then(|name| name.to_str());
            tables
                .entry(table.expect("a table"))
                .or_default()
                .extend(rows);
            assert!(bytes.starts_with(b"PAR1"));
        }
    }
    let mut text = String::new();
    for kernel in &tables["kernels"] {
        text += &format!("{kernel}\n");
    }
    let of_rt = |row: &&Value| row["kernel"] == "kernels/6.1.192-rt-x86_64";
    for (table, key, value) in [
        ("events", "event", "syscalls:sys_enter_openat"),
        ("fields", "event", "syscalls:sys_enter_openat"),
        ("symbols", "event", "irq:softirq_entry"),
        ("arguments", "tracepoint", "sched_switch"),
    ] {
        let rows = tables[table].iter().filter(of_rt);
        for row in rows.filter(|row| row[key] == value) {
            text += &format!("{table}: {row}\n");
        }
    }
    insta::assert_snapshot!(text);
    let partitions: BTreeSet<String> = one
        .keys()
        .filter_map(|path| path.strip_prefix("kernels").ok())
        .map(|path| path.with_extension("").display().to_string())
        .collect();
    insta::assert_snapshot!(partitions.into_iter().collect::<Vec<_>>().join("\n"));
}

/// The rows of an event agree with its `Context`.
#[test]
fn rows_are_what_contexts_say() {
    let dir = place(&fixtures(), &[]);
    let mut checked = 0;
    for root in fixtures() {
        let name = support::name(&root);
        let path = format!("kernels/{name}");
        let output = tracepoints(dir.path(), &["catalog", "-o", &name, &path]);
        assert!(output.status.success(), "{}", stderr(&output));
        let mut tables: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for file in files(&dir.path().join(&name)).keys() {
            let rows = parquet_rows(&dir.path().join(&name).join(file));
            let table = file.iter().next().and_then(|name| name.to_str());
            let rows_of = tables
                .entry(table.expect("a table").to_owned())
                .or_default();
            rows_of.extend(rows);
        }
        let kernel = Kernel::at(&root).expect("a kernel");
        for row in tables["events"].iter().filter(|row| row["error"].is_null()) {
            let event = row["event"].as_str().expect("a name");
            let tracepoint = kernel.tracepoint(event).expect("an event");
            let context = tracepoint.context().expect("a context");
            let expected = json!({
                "id": tracepoint.id(),
                "is_syscall": tracepoint.is_syscall(),
                "class": context.class(),
                "context_struct": context.struct_name(),
                "evidence": context.evidence().as_str(),
                "home": context.home(),
                "type_id": context.type_id(),
                "record_end": tracepoint.format().record_end(),
                "print_fmt": tracepoint.format().print_fmt(),
            });
            for (column, value) in expected.as_object().expect("columns") {
                assert_eq!(&row[column], value, "{name} {event} {column}");
            }
            let slots = context.field_slots().expect("slots");
            let mut fields = tables["fields"]
                .iter()
                .filter(|row| row["event"] == event && row["is_common"] == false);
            for (field, slot) in tracepoint.format().fields().iter().zip(slots) {
                let row = fields.next().expect("a row for each field");
                let said =
                    ["field", "offset", "size", "is_signed"].map(|column| row[column].clone());
                let expected = json!([field.name(), field.offset(), field.size(), field.signed()]);
                assert_eq!(json!(said), expected, "{name} {event}");
                if let Some(slot) = slot {
                    let said = [&row["context_offset"], &row["context_size"]];
                    assert_eq!(
                        said,
                        [&json!(slot.offset()), &json!(slot.size())],
                        "{name} {event}"
                    );
                }
                checked += 1;
            }
            assert!(fields.next().is_none(), "{name} {event}");
        }
    }
    assert!(checked > 1000, "{checked} fields");
}

/// A kernel that cannot be read is left out, and the reason printed. Nothing is written over,
/// or in part.
#[test]
fn what_cannot_be_read() {
    let dir = place(&[support::fixture("6.18.15-x86_64")], &[]);
    fs::create_dir(dir.path().join("empty")).expect("a directory");
    let kernel = "kernels/6.18.15-x86_64";
    let mut text = String::new();
    for arguments in [
        &["catalog", "empty", "-o", "none"][..],
        &["catalog", kernel, "nowhere", "-o", "some"],
        &["catalog", kernel, "-o", "some"],
        &["catalog", kernel, kernel, "-o", "twice"],
        &["catalog", kernel, "-o", "empty/none/there"],
    ] {
        let output = tracepoints(dir.path(), arguments);
        assert!(!output.status.success());
        assert_eq!(stdout(&output), "");
        text += &format!("{arguments:?}\n{}", stderr(&output));
    }
    insta::assert_snapshot!(text);
    let names = fs::read_dir(dir.path()).expect("a directory");
    let names: BTreeSet<_> = names.map(|entry| entry.expect("one").file_name()).collect();
    let expected = ["empty", "kernels", "objects", "some"];
    assert_eq!(names, expected.into_iter().map(Into::into).collect());
}

/// The Python that the document shows, one program for each engine.
fn engines() -> Vec<(String, String)> {
    let text = fs::read_to_string(repository().join("docs/fleet.md")).expect("the document");
    let blocks = text.split("```python\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    let named = blocks.map(|block| {
        let engine = block.split([' ', ',']).nth(1).expect("an engine");
        (engine.to_owned(), block.to_owned())
    });
    named.collect()
}

/// The objects of all cases of `audit`, in both byte orders, written to a directory.
fn compiled_cases(dir: &Path) -> Vec<PathBuf> {
    let Some(clang) = clang() else {
        return Vec::new();
    };
    let mut objects = Vec::new();
    for case in ["faults.bpf.c", "right.bpf.c"].into_iter().flat_map(cases) {
        for (order, ending) in [(ByteOrder::Little, "little"), (ByteOrder::Big, "big")] {
            // Some names are those of several cases.
            let number = objects.len();
            let path = dir.join(format!("{}.{number}.{ending}.bpf.o", case.name));
            let object = clang.compile(&case.name, &case.code, order);
            fs::write(&path, object).expect("a file");
            objects.push(path);
        }
    }
    objects
}

/// The join of the tables gives what `audit` says, row by row, with each engine: for all cases
/// of `audit`, and on the whole captured kernels and with Debian's tools, where there are some.
#[test]
fn the_join_is_the_verdict() {
    let python = std::env::var("TRACEPOINTS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut kernels = fixtures();
    kernels.extend(support::corpus());
    let audit = repository().join("tests/fixtures/audit");
    let mut objects = vec![audit.join("openat.bpf.o"), audit.join("loads.bpf.o")];
    let made = tempfile::tempdir().expect("a directory");
    objects.extend(compiled_cases(made.path()));
    match std::env::var_os("TRACEPOINTS_BPF_TOOLS") {
        None => skip("TRACEPOINTS_BPF_TOOLS names no directory of tools that embed objects"),
        Some(tools) => {
            let tools = fs::read_dir(tools).expect("a directory");
            objects.extend(tools.map(|entry| entry.expect("a tool").path()));
        }
    }
    // Whole kernels have the names of fixtures that were cut from them.
    let names: BTreeMap<_, _> = kernels
        .into_iter()
        .map(|path| (path.file_name().map(ToOwned::to_owned), path))
        .collect();
    let kernels: Vec<PathBuf> = names.into_values().collect();
    let dir = place(&kernels, &objects);
    let run = |script: &str| {
        let script = script.replace("tracepoints ", &format!("{} ", program().display()));
        let output = Command::new("sh")
            .args(["-ec", &script])
            .current_dir(dir.path())
            .output();
        let output = output.expect("sh");
        assert!(output.status.success(), "{script}: {}", stderr(&output));
        stdout(&output).to_owned()
    };
    let text = fs::read_to_string(repository().join("docs/fleet.md")).expect("the document");
    for block in text.split("```bash\n").skip(1) {
        run(block.split("```").next().expect("a command"));
    }
    fs::copy(
        repository().join("docs/fleet.sql"),
        dir.path().join("fleet.sql"),
    )
    .expect("SQL");
    let expected: BTreeSet<String> = run("tracepoints audit objects/* --kernels kernels/* --json")
        .lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).expect("JSON");
            let text = |key: &str| row[key].as_str().unwrap_or("None").to_owned();
            let keys = ["object", "program", "kernel", "section", "event", "verdict"];
            keys.map(text).join("\t")
        })
        .collect();
    assert!(expected.len() >= 18, "{expected:?}");
    for verdict in ["right", "wrong", "absent"] {
        assert!(
            expected.iter().any(|row| row.ends_with(verdict)),
            "{verdict}"
        );
    }
    let engines = engines();
    assert_eq!(engines.len(), 3);
    for (engine, script) in engines {
        let found = Command::new(&python)
            .args(["-c", &format!("import {engine}")])
            .output();
        if !found.is_ok_and(|output| output.status.success()) {
            skip(&format!("{python} has no {engine}"));
            continue;
        }
        let output = Command::new(&python)
            .args(["-c", &script])
            .current_dir(dir.path())
            .output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{engine}: {}", stderr(&output));
        let rows: BTreeSet<String> = stdout(&output).lines().map(str::to_owned).collect();
        let differing: Vec<_> = rows.symmetric_difference(&expected).collect();
        assert!(differing.is_empty(), "{engine}: {differing:#?}");
        assert_eq!(stdout(&output).lines().count(), expected.len(), "{engine}");
    }
}
