//! Traces in the Common Trace Format that `decode` writes: read here, and by babeltrace2.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::command::{stderr, stdout};
use crate::support;
use crate::written::{in_dir, inputs, rows, with_instances, with_numbers, written};

/// A field's type and name.
type Field = (String, String);

/// The events of a trace's metadata: names and fields, by id.
fn classes(metadata: &str) -> BTreeMap<u32, (String, Vec<Field>)> {
    let mut classes = BTreeMap::new();
    for block in metadata.split("\nevent {\n").skip(1) {
        let value = |key: &str| {
            let (_, rest) = block.split_once(key).expect("it");
            rest.split(';').next().expect("a value").to_owned()
        };
        let name = value("name = ").trim_matches('"').to_owned();
        let fields = block.lines().filter_map(|line| {
            let (kind, field) = line
                .strip_prefix("\t\t")?
                .strip_suffix(';')?
                .split_once(' ')?;
            Some((kind.to_owned(), field.to_owned()))
        });
        classes.insert(
            value("id = ").parse().expect("an id"),
            (name, fields.collect()),
        );
    }
    classes
}

/// Bytes that are read in order.
struct Stream<'a>(&'a [u8]);

impl<'a> Stream<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("4 bytes"))
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().expect("8 bytes"))
    }

    fn text(&mut self) -> String {
        let end = self.0.iter().position(|byte| *byte == 0).expect("an end");
        let text = String::from_utf8_lossy(self.take(end)).into_owned();
        self.take(1);
        text
    }

    fn value(&mut self, kind: &str) -> Value {
        match kind {
            "uint64_t" => json!(self.u64()),
            "int64_t" => json!(self.u64() as i64),
            "pointer_t" => json!(format!("{:#x}", self.u64())),
            "string" => json!(self.text()),
            "byte_t" => json!(self.take(1)[0]),
            other => panic!("{other}"),
        }
    }
}

/// The events of a trace, as rows of `decode --json` with these keys alone.
fn read(trace: &Path) -> Vec<Value> {
    let metadata = fs::read_to_string(trace.join("metadata")).expect("metadata");
    let classes = classes(&metadata);
    let mut rows = Vec::new();
    for entry in fs::read_dir(trace).expect("a directory") {
        let path = entry.expect("a file").path();
        if path.ends_with("metadata") || path.is_dir() {
            continue;
        }
        let bytes = fs::read(&path).expect("a stream");
        let mut file = Stream(&bytes);
        while !file.0.is_empty() {
            let size = u64::from_le_bytes(file.0[24..32].try_into().expect("8 bytes")) / 8;
            let mut packet = Stream(file.take(usize::try_from(size).expect("small")));
            assert_eq!((packet.u32(), packet.u32()), (0xc1fc_1fc1, 0));
            let (begin, end) = (packet.u64(), packet.u64());
            packet.take(24);
            let cpu = packet.u32();
            while !packet.0.is_empty() {
                let (event, fields) = &classes[&packet.u32()];
                let time = packet.u64();
                assert!((begin..=end).contains(&time));
                let (pid, tid) = (packet.u32() as i32, packet.u32());
                let comm = packet.text();
                let mut values = serde_json::Map::new();
                for (kind, field) in fields {
                    let value = match field.split_once('[') {
                        // The length of the next field.
                        None if kind == "uint32_t" => json!(packet.u32()),
                        None => packet.value(kind),
                        Some(_) => {
                            let length = values.remove("").expect("a length");
                            let length = length.as_u64().expect("a number");
                            (0..length).map(|_| packet.value(kind)).collect()
                        }
                    };
                    let name = field.split('[').next().expect("a name");
                    let name = match kind.as_str() {
                        "uint32_t" => "",
                        _ => name.strip_prefix('_').expect("an underscore"),
                    };
                    values.insert(name.to_owned(), value);
                }
                values.retain(|name, _| !name.starts_with("common_"));
                rows.push(json!({
                    "timestamp_ns": time, "cpu": cpu, "tid": tid, "event": event,
                    "pid": Some(pid).filter(|pid| *pid >= 0),
                    "comm": Some(comm).filter(|comm| !comm.is_empty()),
                    "fields": values,
                }));
            }
        }
    }
    rows.sort_by_key(order);
    rows
}

fn order(row: &Value) -> (Option<u64>, Option<u64>) {
    (row["timestamp_ns"].as_u64(), row["cpu"].as_u64())
}

/// Thread, process, name, CPU, time, event and fields are those of `decode --json`.
#[test]
fn rows_are_those_of_the_input() {
    let (dir, files) = written("ctf");
    for (input, out, said) in files {
        assert_eq!(said, format!("tracepoints: 207 records in {out}\n"));
        let input: Vec<&str> = input.iter().map(String::as_str).collect();
        let mut expected = rows(dir.path(), &input);
        for row in &mut expected {
            with_numbers(&mut row["fields"]);
            let row = row.as_object_mut().expect("an object");
            row.retain(|key, _| !matches!(key.as_str(), "text" | "flags"));
            if row["tid"] == 0 {
                row["comm"] = json!("<idle>");
            }
        }
        expected.sort_by_key(order);
        let mut found = read(&dir.path().join(out));
        for row in &mut found {
            with_numbers(&mut row["fields"]);
        }
        assert_eq!(found, expected);
    }
}

#[test]
fn metadata() {
    let (dir, _) = inputs();
    let only = [
        "--only",
        "sched:sched_process_exec",
        "--only",
        "syscalls:sys_enter_execve",
    ];
    let arguments = [&["decode", "in.dat", "--as", "ctf", "-o", "out"][..], &only].concat();
    assert!(in_dir(dir.path(), &arguments).status.success());
    let metadata = fs::read_to_string(dir.path().join("out/metadata")).expect("metadata");
    insta::assert_snapshot!(metadata);
}

/// babeltrace2 prints each event with its time, CPU, thread and fields.
#[test]
fn by_babeltrace() {
    if Command::new("babeltrace2").output().is_err() {
        return support::skip("babeltrace2 is not installed");
    }
    let (dir, files) = written("ctf");
    for (input, out, _) in files {
        let mut command = Command::new("babeltrace2");
        command
            .args(["--clock-seconds", "--no-delta"])
            .arg(dir.path().join(&out));
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{}", stderr(&output));
        let lines: Vec<&str> = stdout(&output).lines().collect();
        let input: Vec<&str> = input.iter().map(String::as_str).collect();
        let mut rows = rows(dir.path(), &input);
        rows.sort_by_key(order);
        assert_eq!(lines.len(), rows.len());
        for row in &rows {
            let time = row["timestamp_ns"].as_u64().expect("a time");
            let start = format!(
                "[{}.{:09}] {}: {{ cpu_id = {} }}, ",
                time / 1_000_000_000,
                time % 1_000_000_000,
                row["event"].as_str().expect("a name"),
                row["cpu"]
            );
            let mut same = lines.iter().filter(|line| line.starts_with(&start));
            let is_right = |line: &&&str| {
                let tid = format!(", tid = {}, ", row["tid"]);
                let fields = row["fields"].as_object().expect("an object").iter();
                let mut fields = fields.filter(|(_, value)| value.is_number());
                line.contains(&tid)
                    && fields.all(|(name, value)| {
                        let text = format!(" {name} = {value}");
                        line.contains(&format!("{text},")) || line.contains(&format!("{text} }}"))
                    })
            };
            assert!(same.any(|line| is_right(&line)), "{start}: {row}");
        }
    }
}

/// An instance is a trace of its own; its name is in the metadata. Records whose times are
/// not nanoseconds are left out, and reported.
#[test]
fn instances_and_clocks() {
    let dir = with_instances([("own \"a\"", "local"), ("counted", "counter")]);
    let arguments = ["decode", "in.dat", "--as", "ctf", "-o", "out"];
    let output = in_dir(dir.path(), &arguments);
    assert!(!output.status.success());
    assert_eq!(
        stderr(&output),
        "tracepoints: 414 records in out\n\
         tracepoints: 207 records not written: times of its buffer's clock are not in nanoseconds\n"
    );
    let out = dir.path().join("out");
    assert_eq!(read(&out.join("buffer1")).len(), 207);
    let metadata = fs::read_to_string(out.join("buffer1/metadata")).expect("metadata");
    assert!(metadata.contains(r#"	buffer = "own \"a\"";"#), "{metadata}");
    assert!(!out.join("buffer2").exists());
}
