//! Decodes recordings of perf.

use std::collections::BTreeMap;
use std::fs;
use std::process::Output;

use tracepoints::Kernel;

use crate::command::{run, stderr, stdout, tracepoints};
use crate::perf_data::{Moment, PerfEvent, PerfFile};
use crate::recorded::recording;
use crate::schema::Schema;
use crate::support;

const KERNEL: &str = "6.18.15-x86_64";
const EVENT: PerfEvent = PerfEvent::TRACEPOINT;

/// A recording without records.
fn empty() -> PerfFile {
    let mut file = PerfFile {
        dat: recording(),
        events: vec![EVENT],
        ..PerfFile::default()
    };
    file.features = vec![
        (3, file.text("node")),
        (4, file.text("6.18.15")),
        (6, file.text("x86_64")),
    ];
    file
}

/// Names of threads, then samples with the records of the fixture's pages, CPU by CPU.
pub(crate) fn of_pages() -> PerfFile {
    let mut file = empty();
    let root = support::fixture(KERNEL);
    let kernel = Kernel::at(&root).expect("a kernel");
    let layout = kernel.page_layout().expect("a layout");
    let events = kernel.events_by_id().expect("events");
    let names = fs::read_to_string(root.join("ring/saved_cmdlines")).expect("names");
    for line in names.lines() {
        let (pid, name) = line.split_once(' ').expect("a pid and a name");
        let tid = pid.parse().expect("a pid");
        file.name(name, EVENT, at(0, 0, tid));
    }
    for cpu in [0, 1] {
        let raw = fs::read(root.join(format!("ring/cpu{cpu}.raw"))).expect("pages");
        for page in layout.pages(&raw, events.machine().byte_order()) {
            for entry in page.expect("a page").entries() {
                let entry = entry.expect("an entry");
                let pid = i32::from_le_bytes(*entry.bytes()[4..].first_chunk().expect("a pid"));
                file.sample(EVENT, at(entry.timestamp(), cpu, pid), entry.bytes());
            }
        }
    }
    file
}

/// A thread with two names, and one with another id than the kernel's.
pub(crate) fn renamed() -> PerfFile {
    let mut file = empty();
    let kernel = Kernel::at(support::fixture(KERNEL)).expect("a kernel");
    let exit = kernel.tracepoint("sched:sched_process_exit").expect("one");
    let mut record = vec![0; exit.format().layout().size() as usize];
    let id = exit.id().and_then(|id| u16::try_from(id).ok());
    record[..2].copy_from_slice(&id.expect("an id").to_le_bytes());
    for (time, name, pid, tid) in [
        (1_000, "one", 7_i32, 7),
        (2_000, "two", 7, 7),
        (3_000, "three", 1_008, 8),
    ] {
        file.name(name, EVENT, at(time, 0, tid));
        record[4..8].copy_from_slice(&pid.to_le_bytes());
        file.sample(EVENT, at(time + 500, 1, tid), &record);
    }
    file
}

fn at(time: u64, cpu: u32, tid: i32) -> Moment {
    Moment {
        time,
        cpu,
        pid: tid,
        tid,
    }
}

/// Runs a subcommand in a directory that has nothing but a file of these bytes.
fn on(bytes: &[u8], arguments: &[&str]) -> Output {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("perf.data"), bytes).expect("a file");
    let mut command = tracepoints(arguments);
    command.current_dir(dir.path());
    command.output().expect("it runs")
}

/// Each form prints what the pages do, with the kernel they are of.
#[test]
fn lines_are_those_of_the_pages() {
    let root = support::fixture(KERNEL);
    let pages = ["ring/cpu0.raw", "ring/cpu1.raw"];
    let pages = pages.map(|file| root.join(file).display().to_string());
    let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    let expected = run("decode", &root, &pages);
    for (form, bytes) in of_pages().forms() {
        let output = on(&bytes, &["decode", "perf.data"]);
        assert_eq!(stderr(&output), "", "{form}");
        assert!(output.status.success());
        let (own, pages) = (stdout(&output).lines(), stdout(&expected).lines());
        let own: Vec<&str> = own.collect();
        let pages: Vec<&str> = pages.filter(|line| !line.contains("[LOST")).collect();
        assert_eq!(own.len(), pages.len(), "{form}");
        let lines = own.iter().zip(&pages);
        let differing: Vec<_> = lines.filter(|(own, pages)| own != pages).collect();
        // There is no BTF in a recording, so that the value of an enumerator may be unknown.
        assert!(
            differing.iter().all(|(own, _)| own.contains("<0x")),
            "{differing:#?}"
        );
        assert!(differing.len() < own.len() / 10, "{}", differing.len());
    }
}

/// A recording of `sched:sched_process_exit` with losses, threads that were gone, and records
/// that are left out.
pub(crate) fn with_losses() -> PerfFile {
    let mut file = empty();
    file.events.push(PerfEvent {
        kind: 1,
        id: 12,
        ..EVENT
    });
    let kernel = Kernel::at(support::fixture(KERNEL)).expect("a kernel");
    let exit = kernel.tracepoint("sched:sched_process_exit").expect("one");
    let id = exit
        .id()
        .and_then(|id| u16::try_from(id).ok())
        .expect("one");
    let mut record = vec![0; exit.format().layout().size() as usize];
    record[..2].copy_from_slice(&id.to_le_bytes());
    file.name("one", EVENT, at(0, 0, 7));
    file.sample(EVENT, at(1_000, 1, 7), &record);
    file.lost(3, EVENT, at(1_500, 1, 7));
    file.sample(EVENT, at(2_000, 0, -1), &record);
    file.sample(file.events[1], at(2_000, 0, 7), &record);
    file.other(13, &9_u64.to_le_bytes(), EVENT, at(0, 0, 0));
    file
}

/// Losses, threads that were gone, and what is left out.
#[test]
fn rows_and_reports() {
    let pages = of_pages();
    let file = with_losses();
    let bytes = file.file();
    let text = on(&bytes, &["decode", "perf.data"]);
    let json = on(&bytes, &["decode", "--json", "perf.data"]);
    let rows = Schema::read("rows.schema.json").rows(&json);
    assert_eq!(rows.len(), 4);
    insta::assert_snapshot!(format!(
        "{}{}{}",
        stderr(&text),
        stdout(&text),
        stdout(&json)
    ));
    // A stream that ends in the middle of a record.
    let mut cut = pages.stream();
    cut.truncate(cut.len() - 3);
    let output = on(&cut, &["decode", "perf.data"]);
    assert!(!output.status.success());
    assert!(stdout(&output).lines().count() > 100);
    let told = stderr(&output);
    assert!(
        told.contains("the records end early: cut off at byte "),
        "{told}"
    );
}

/// `list` and `format` take a recording as the root.
#[test]
fn a_root() {
    let bytes = empty().file();
    let listed = on(&bytes, &["list", "--root", "perf.data", "--names"]);
    assert_eq!(stderr(&listed), "");
    let fixture = support::fixture(KERNEL);
    let expected = run("list", &fixture, &["--names"]);
    let names = |output: &Output| -> BTreeMap<String, ()> {
        let lines = stdout(output).lines();
        lines.map(|line| (line.to_owned(), ())).collect()
    };
    assert_eq!(names(&listed), names(&expected));
    let arguments = [
        "format",
        "--root",
        "perf.data",
        "--json",
        "sched:sched_switch",
    ];
    let output = on(&bytes, &arguments);
    assert_eq!(stderr(&output), "");
    let row: serde_json::Value = serde_json::from_str(stdout(&output)).expect("a row");
    assert_eq!(row["kernel"]["release"], "6.18.15");
    assert_eq!(row["kernel"]["architecture"], "x86_64");
}

#[test]
fn refused() {
    let whole = empty().file();
    let mut text = String::new();
    for (bytes, arguments) in [
        (&whole[..50], &["decode", "perf.data"][..]),
        (&whole, &["decode", "--cpu", "1", "perf.data"]),
        (&whole, &["decode", "perf.data", "perf.data"]),
        (&whole, &["decode", "."]),
        (&whole[..50], &["list", "--root", "perf.data"]),
    ] {
        let output = on(bytes, arguments);
        assert!(!output.status.success());
        assert_eq!(stdout(&output), "");
        text += &format!("{arguments:?}: {}", stderr(&output));
    }
    insta::assert_snapshot!(text);
}
