//! Traces of Perfetto that `decode` writes: read here, and by Perfetto's own classes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use prost::Message;
use serde_json::{Value, json};

use crate::command::{stderr, stdout};
use crate::recorded_by_perf::with_losses;
use crate::support;
use crate::written::{in_dir, rows, with_instances, with_numbers, written};

/// The messages that are read, by `protos/perfetto/trace/` of Perfetto's sources.
#[derive(Message)]
struct Trace {
    #[prost(message, repeated, tag = "1")]
    packet: Vec<Packet>,
}

#[derive(Message)]
struct Packet {
    #[prost(message, optional, tag = "1")]
    ftrace_events: Option<Bundle>,
    #[prost(message, optional, tag = "2")]
    process_tree: Option<Tree>,
    #[prost(uint32, optional, tag = "10")]
    trusted_packet_sequence_id: Option<u32>,
    #[prost(message, optional, tag = "34")]
    ftrace_stats: Option<Stats>,
}

#[derive(Message)]
struct Bundle {
    #[prost(uint32, optional, tag = "1")]
    cpu: Option<u32>,
    #[prost(message, repeated, tag = "2")]
    event: Vec<Event>,
    #[prost(bool, optional, tag = "3")]
    lost_events: Option<bool>,
}

#[derive(Message)]
struct Event {
    #[prost(uint64, optional, tag = "1")]
    timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "2")]
    pid: Option<u32>,
    #[prost(message, optional, tag = "237")]
    sched_process_exec: Option<Exec>,
    #[prost(message, optional, tag = "327")]
    generic: Option<Generic>,
}

#[derive(Message)]
struct Exec {
    #[prost(string, optional, tag = "1")]
    filename: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pid: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    old_pid: Option<i32>,
}

#[derive(Message)]
struct Generic {
    #[prost(string, optional, tag = "1")]
    event_name: Option<String>,
    #[prost(message, repeated, tag = "2")]
    field: Vec<Field>,
}

#[derive(Message)]
struct Field {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "3")]
    str_value: Option<String>,
    #[prost(int64, optional, tag = "4")]
    int_value: Option<i64>,
    #[prost(uint64, optional, tag = "5")]
    uint_value: Option<u64>,
}

#[derive(Message)]
struct Tree {
    #[prost(message, repeated, tag = "1")]
    processes: Vec<Process>,
    #[prost(message, repeated, tag = "2")]
    threads: Vec<Thread>,
}

#[derive(Message)]
struct Process {
    #[prost(int32, optional, tag = "1")]
    pid: Option<i32>,
    #[prost(string, repeated, tag = "3")]
    cmdline: Vec<String>,
    #[prost(bool, optional, tag = "9")]
    cmdline_is_comm: Option<bool>,
}

#[derive(Message)]
struct Thread {
    #[prost(int32, optional, tag = "1")]
    tid: Option<i32>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    #[prost(int32, optional, tag = "3")]
    tgid: Option<i32>,
}

#[derive(Message)]
struct Stats {
    #[prost(int32, optional, tag = "1")]
    phase: Option<i32>,
    #[prost(message, repeated, tag = "2")]
    cpu_stats: Vec<CpuStats>,
}

#[derive(Message)]
struct CpuStats {
    #[prost(uint64, optional, tag = "1")]
    cpu: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    overrun: Option<u64>,
}

fn read(path: &Path) -> Trace {
    let bytes = fs::read(path).expect("a file");
    Trace::decode(&bytes[..]).expect("a trace")
}

/// The events of a trace, as rows with these keys alone.
fn events(trace: &Trace) -> Vec<Value> {
    let bundles = trace
        .packet
        .iter()
        .filter_map(|packet| packet.ftrace_events.as_ref());
    let mut rows = Vec::new();
    for bundle in bundles {
        let times: Vec<_> = bundle.event.iter().map(|event| event.timestamp).collect();
        assert!(times.is_sorted());
        for event in &bundle.event {
            let (name, fields) = match (&event.sched_process_exec, &event.generic) {
                (Some(exec), None) => (
                    "sched:sched_process_exec".to_owned(),
                    json!({"filename": exec.filename, "pid": exec.pid, "old_pid": exec.old_pid}),
                ),
                (None, Some(generic)) => {
                    (generic.event_name.clone().expect("a name"), fields(generic))
                }
                // Events of other messages than are read here.
                (None, None) => continue,
                _ => panic!("{event:?}"),
            };
            rows.push(json!({
                "timestamp_ns": event.timestamp, "cpu": bundle.cpu, "tid": event.pid,
                "event": name, "fields": fields,
            }));
        }
    }
    rows.sort_by_key(order);
    rows
}

fn fields(generic: &Generic) -> Value {
    let mut fields = serde_json::Map::new();
    for field in &generic.field {
        let value = match (&field.str_value, field.int_value, field.uint_value) {
            (Some(text), None, None) => json!(text),
            (None, Some(number), None) => json!(number),
            (None, None, Some(number)) => json!(number),
            _ => panic!("{field:?}"),
        };
        let name = field.name.as_deref().expect("a name");
        match name.split_once('[') {
            None => assert_eq!(fields.insert(name.to_owned(), value), None),
            Some((name, index)) => {
                let array = fields.entry(name).or_insert_with(|| json!([]));
                let array = array.as_array_mut().expect("an array");
                assert_eq!(index, format!("{}]", array.len()));
                array.push(value);
            }
        }
    }
    fields.into()
}

fn order(row: &Value) -> (Option<u64>, Option<u64>, String) {
    (
        row["timestamp_ns"].as_u64(),
        row["cpu"].as_u64(),
        row["event"].to_string(),
    )
}

/// The fields that Perfetto's own messages of events lack, as the command names them.
fn missing(said: &str) -> BTreeMap<String, Vec<String>> {
    said.lines()
        .filter_map(|line| {
            let (_, lack) = line.split_once("Perfetto's ")?;
            let (event, fields) = lack.split_once(" does not have: ")?;
            Some((
                event.to_owned(),
                fields.split(", ").map(str::to_owned).collect(),
            ))
        })
        .collect()
}

/// Time, CPU, thread, event and fields are those of `decode --json`, and so are the processes
/// of threads.
#[test]
fn rows_are_those_of_the_input() {
    let (dir, files) = written("perfetto");
    for (input, out, said) in files {
        assert!(
            said.starts_with(&format!("tracepoints: 207 records in {out}\n")),
            "{said}"
        );
        let missing = missing(&said);
        assert_eq!(said.lines().count(), 1 + missing.len(), "{said}");
        let input: Vec<&str> = input.iter().map(String::as_str).collect();
        let mut expected = rows(dir.path(), &input);
        let trace = read(&dir.path().join(out));
        let found = events(&trace);
        let names: Vec<_> = found.iter().map(|row| row["event"].clone()).collect();
        let mut processes = BTreeMap::new();
        for row in &mut expected {
            with_numbers(&mut row["fields"]);
            let tid = row["tid"].as_i64().expect("a thread");
            if let (Some(pid), 1..) = (row["pid"].as_i64(), tid) {
                processes.insert(tid, pid);
            }
            let row = row.as_object_mut().expect("an object");
            row.retain(|key, _| {
                matches!(
                    key.as_str(),
                    "timestamp_ns" | "cpu" | "tid" | "event" | "fields"
                )
            });
        }
        let tree = trace
            .packet
            .iter()
            .find_map(|packet| packet.process_tree.as_ref());
        let tree = tree.expect("a tree");
        let leaders = tree.processes.iter().map(|process| {
            let pid = i64::from(process.pid.expect("a process"));
            (pid, pid)
        });
        let threads = tree.threads.iter().map(|thread| {
            let (tid, tgid) = (
                thread.tid.expect("a thread"),
                thread.tgid.expect("a process"),
            );
            (i64::from(tid), i64::from(tgid))
        });
        let known: BTreeMap<i64, i64> = leaders.chain(threads).collect();
        assert_eq!(known, processes);
        expected.retain(|row| names.contains(&row["event"]));
        expected.sort_by_key(order);
        assert!(expected.len() > 60, "{}", expected.len());
        assert_eq!(found, expected);
    }
}

/// A bundle of events has a mark if some were lost before it, and the trace's end has the counts.
#[test]
fn losses_and_unknown_threads() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("perf.data"), with_losses().file()).expect("a file");
    let arguments = ["decode", "perf.data", "--as", "perfetto", "-o", "out"];
    let output = in_dir(dir.path(), &arguments);
    assert!(!output.status.success());
    insta::assert_snapshot!(stderr(&output));
    let trace = read(&dir.path().join("out"));
    let bundles = trace
        .packet
        .iter()
        .filter_map(|packet| packet.ftrace_events.as_ref());
    let bundles: Vec<_> = bundles
        .map(|bundle| (bundle.cpu, bundle.event.len(), bundle.lost_events))
        .collect();
    assert_eq!(bundles, [(Some(1), 1, None), (Some(1), 0, Some(true))]);
    let stats = trace
        .packet
        .iter()
        .filter_map(|packet| packet.ftrace_stats.as_ref());
    let stats: Vec<_> = stats
        .map(|stats| {
            let [cpu] = &stats.cpu_stats[..] else {
                panic!("{stats:?}");
            };
            (stats.phase, cpu.cpu, cpu.overrun)
        })
        .collect();
    assert_eq!(
        stats,
        [(Some(1), Some(1), Some(0)), (Some(2), Some(1), Some(3))]
    );
}

/// The events of all buffers are in one trace, which is said; each buffer's packets have a
/// number of their own. Records whose times are not nanoseconds are left out, and reported.
#[test]
fn instances_and_clocks() {
    let dir = with_instances([("own", "local"), ("counted", "counter")]);
    let arguments = ["decode", "in.dat", "--as", "perfetto", "-o", "out"];
    let output = in_dir(dir.path(), &arguments);
    assert!(!output.status.success());
    let said = stderr(&output);
    assert!(
        said.contains("out does not tell the 2 buffers of its events apart\n"),
        "{said}"
    );
    assert!(
        said.contains("207 records not written: times of its buffer's clock are not in"),
        "{said}"
    );
    let mut of_buffers = BTreeMap::new();
    for packet in &read(&dir.path().join("out")).packet {
        if let Some(bundle) = &packet.ftrace_events {
            let number = packet.trusted_packet_sequence_id;
            *of_buffers.entry(number).or_insert(0) += bundle.event.len();
        }
    }
    assert_eq!(of_buffers, BTreeMap::from([(Some(2), 207), (Some(3), 207)]));
}

/// Prints each event by Perfetto's own description of a trace.
const BY_PERFETTO: &str = r#"
import json, sys
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

trace = protos.Trace()
trace.ParseFromString(open(sys.argv[1], 'rb').read())
assert trace.SerializeToString()
for packet in trace.packet:
    for event in packet.ftrace_events.event:
        kind = event.WhichOneof('event')
        message = getattr(event, kind)
        if kind == 'generic':
            kind = message.event_name
            fields = {field.name: getattr(field, field.WhichOneof('value')) for field in message.field}
        else:
            fields = {}
            for field, value in message.ListFields():
                repeated = not isinstance(value, (int, str))
                fields[field.name] = list(value) if repeated else value
        row = [event.timestamp, packet.ftrace_events.cpu, event.pid, kind, fields]
        print(json.dumps(row))
"#;

/// Perfetto's own classes read every event, those of its own messages too.
#[test]
fn by_perfetto() {
    let python = std::env::var("TRACEPOINTS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = |module: &str| {
        let mut command = Command::new(&python);
        command.args(["-c", &format!("import {module}")]);
        command.output().is_ok_and(|output| output.status.success())
    };
    if !has("perfetto.protos.perfetto.trace.perfetto_trace_pb2") {
        return support::skip("Python's package perfetto is not installed");
    }
    let (dir, files) = written("perfetto");
    for (input, out, said) in files {
        let mut command = Command::new(&python);
        command.args(["-c", BY_PERFETTO]).arg(dir.path().join(&out));
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{}", stderr(&output));
        let found: BTreeMap<_, _> = stdout(&output)
            .lines()
            .map(|line| {
                let row: Value = serde_json::from_str(line).expect("JSON");
                let key = (row[0].as_u64(), row[1].as_u64(), row[2].as_u64());
                let event = row[3].as_str().expect("a name").to_owned();
                (key, (event, row[4].clone()))
            })
            .collect();
        let missing = missing(&said);
        let input: Vec<&str> = input.iter().map(String::as_str).collect();
        let rows = rows(dir.path(), &input);
        assert_eq!(found.len(), rows.len());
        let mut own = 0;
        for mut row in rows {
            let key = (
                row["timestamp_ns"].as_u64(),
                row["cpu"].as_u64(),
                row["tid"].as_u64(),
            );
            let (event, fields) = &found[&key];
            let name = row["event"].as_str().expect("a name").to_owned();
            let short = name.split_once(':').expect("two parts").1;
            with_numbers(&mut row["fields"]);
            let expected = row["fields"].as_object_mut().expect("an object");
            for field in missing.get(&name).into_iter().flatten() {
                assert!(expected.remove(field).is_some(), "{name}: {field}");
            }
            if *event == name {
                // Elements of arrays have names of their own.
                let arrays: Vec<_> = expected
                    .iter()
                    .filter(|(_, value)| value.is_array())
                    .map(|(name, _)| name.clone())
                    .collect();
                for array in arrays {
                    let values = expected.remove(&array).expect("an array");
                    for (index, value) in values.as_array().expect("an array").iter().enumerate() {
                        expected.insert(format!("{array}[{index}]"), value.clone());
                    }
                }
            } else {
                assert_eq!(event, short);
                own += 1;
            }
            assert_eq!(*fields, row["fields"], "{name}");
        }
        assert!(own > 10, "{own}");
    }
}
