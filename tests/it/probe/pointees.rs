//! Values that pointers of system calls point at: calls with predicted values.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;

use serde_json::json;

use super::c_program::CProgram;
use super::events;
use crate::support::live::live;
use tracepoints::probe::{FieldValue, Probe, ProbeRecord, StringOrigin, StringReading};
use tracepoints::record::TypedValue;
use tracepoints::{Kernel, Value};

fn probe(kernel: &Kernel, call: &str, fields: &[&str], reading: StringReading) -> Probe {
    let called = events(kernel, &[&format!("syscalls:sys_enter_{call}")]);
    let attached = Probe::builder(&called)
        .process_tree(std::process::id())
        .fields(fields.iter().copied())
        .strings(reading)
        .ring_size(1 << 20)
        .attach();
    attached.expect("it is attached")
}

/// The records of a process, oldest first.
fn records_of(probe: &mut Probe, pid: u32) -> Vec<ProbeRecord> {
    let mut records: Vec<_> = probe.records().collect();
    assert!(probe.losses().expect("losses").is_empty());
    records.extend(probe.unfinished());
    records.retain(|record| record.task().pid == pid);
    records.sort_by_key(ProbeRecord::timestamp_ns);
    records
}

fn texts(records: &[ProbeRecord], field: &str) -> Vec<String> {
    let fields = records.iter().map(|one| one.field(field).expect("a field"));
    fields.map(|value| value.to_string()).collect()
}

fn origins(records: &[ProbeRecord], field: &str) -> Vec<Option<StringOrigin>> {
    records.iter().map(|one| one.string_origin(field)).collect()
}

fn typed<'r>(record: &'r ProbeRecord, field: &str) -> TypedValue<'r> {
    match record.field(field) {
        Some(FieldValue::Whole(Value::Typed(typed))) => typed,
        other => panic!("{other:?}"),
    }
}

/// A process of `pointees.c` and its output.
fn traced(
    kernel: &Kernel,
    (act, call): (&str, &str),
    fields: &[&str],
    reading: StringReading,
) -> Option<(Vec<ProbeRecord>, String)> {
    let program = CProgram::compiled("pointees")?;
    let mut probe = probe(kernel, call, fields, reading);
    let (pid, printed) = program.run(act);
    Some((records_of(&mut probe, pid), printed))
}

const READING: StringReading = StringReading::WhereReadable;
const FAULT: &str = "<Bad address (os error 14)>";

/// Of this process alone, so that guests without a compiler load such programs, too.
#[test]
fn calls_of_the_standard_library() {
    let Some(kernel) = live() else { return };
    let pid = std::process::id();
    let mut connected = probe(&kernel, "connect", &["*uservaddr"], READING);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect("127.0.0.1:53").expect("it is local");
    let unix = UnixDatagram::unbound().expect("a socket");
    unix.connect("/nofault/missing").expect_err("no such file");
    let records = records_of(&mut connected, pid);
    assert_eq!(
        texts(&records, "*uservaddr"),
        [
            "{family=AF_INET, port=53, addr=127.0.0.1}",
            "{family=AF_UNIX, path=\"/nofault/missing\"}"
        ]
    );
    drop(connected);

    let mut named = probe(&kernel, "getsockname", &["*usockaddr"], READING);
    let port = socket.local_addr().expect("an address").port();
    let records = records_of(&mut named, pid);
    assert_eq!(
        texts(&records, "*usockaddr"),
        [format!("{{family=AF_INET, port={port}, addr=127.0.0.1}}")]
    );
    let address = typed(&records[0], "*usockaddr");
    assert_eq!(address.integer("port"), Some(port.into()));
    assert_eq!(address.integer("family"), Some(2));
    drop(named);

    let mut gathered = probe(&kernel, "writev", &["*vec"], READING);
    let mut null = File::options().write(true).open("/dev/null").expect("it");
    let slices = [b"two".as_slice(), b"parts".as_slice()].map(IoSlice::new);
    assert_eq!(null.write_vectored(&slices).expect("it takes all"), 8);
    let records = records_of(&mut gathered, pid);
    let vec = typed(records.last().expect("a record"), "*vec");
    let lengths = ["0.iov_len", "1.iov_len", "2.iov_len"].map(|name| vec.integer(name));
    assert_eq!(lengths, [Some(3), Some(5), None]);
    drop(gathered);

    let mut asked = probe(&kernel, "statx", &["filename", "*buffer"], READING);
    let program = std::env::current_exe().expect("its path");
    let metadata = program.metadata().expect("metadata");
    let records = records_of(&mut asked, pid);
    let name = format!("{:?}", program.to_str().expect("UTF-8"));
    let is_own = |one: &&ProbeRecord| texts(std::slice::from_ref(*one), "filename") == [&*name];
    let answer = typed(records.iter().find(is_own).expect("one"), "*buffer");
    assert_eq!(answer.integer("stx_ino"), Some(metadata.ino() as i64));
    assert_eq!(answer.integer("stx_size"), Some(metadata.size() as i64));
    assert_eq!(
        answer.integer("stx_mtime.tv_nsec"),
        Some(metadata.mtime_nsec())
    );
    assert_eq!(answer.integer("stx_mtime.tv_usec"), None);
}

#[test]
fn what_the_kernel_reads() {
    let Some(kernel) = live() else { return };
    let fields = ["*rqtp", "*rmtp"];
    let Some((records, _)) = traced(&kernel, ("read", "nanosleep"), &fields, READING) else {
        return;
    };
    let expected = [
        "{tv_sec=0, tv_nsec=1234567}",
        "{tv_sec=0, tv_nsec=7654}",
        "NULL",
        FAULT,
    ];
    assert_eq!(texts(&records, "*rqtp"), expected);
    assert_eq!(
        origins(&records, "*rqtp"),
        [
            Some(StringOrigin::Entry),
            Some(StringOrigin::Exit),
            None,
            Some(StringOrigin::Unreadable)
        ]
    );
    assert_eq!(texts(&records, "*rmtp"), ["NULL"; 4]);
    let first = typed(&records[0], "*rqtp");
    assert_eq!(first.integer("tv_nsec"), Some(1_234_567));
    assert_eq!((first.integer("tv_usec"), first.bytes().len()), (None, 16));
    let row = serde_json::to_value(&records[1]).expect("JSON");
    assert_eq!(
        row["fields"]["*rqtp"],
        json!({"tv_sec": 0, "tv_nsec": 7654})
    );
    assert_eq!(row["exit"], json!(["*rqtp"]));
    assert_eq!(row["fields"]["*rmtp"], json!(null));
}

/// Read at entry alone, what is in an untouched page stays unreadable, and is said to be.
#[test]
fn at_entry_alone() {
    let Some(kernel) = live() else { return };
    let reading = StringReading::AtEntry;
    let Some((records, _)) = traced(&kernel, ("read", "nanosleep"), &["*rqtp"], reading) else {
        return;
    };
    let expected = ["{tv_sec=0, tv_nsec=1234567}", FAULT, "NULL", FAULT];
    assert_eq!(texts(&records, "*rqtp"), expected);
}

#[test]
fn what_changes_is_marked() {
    let Some(kernel) = live() else { return };
    let reading = StringReading::Twice;
    let Some((records, _)) = traced(&kernel, ("rewrite", "nanosleep"), &["*rqtp"], reading) else {
        return;
    };
    let expected = ["{tv_sec=0, tv_nsec=400000000}", "{tv_sec=0, tv_nsec=5}"];
    assert_eq!(texts(&records, "*rqtp"), expected);
    let marks = [Some(StringOrigin::Rewritten), Some(StringOrigin::Entry)];
    assert_eq!(origins(&records, "*rqtp"), marks);
}

#[test]
fn what_the_kernel_writes() {
    let Some(kernel) = live() else { return };
    let fields = ["filename", "*statbuf"];
    let Some((records, _)) = traced(&kernel, ("stat", "newfstatat"), &fields, READING) else {
        return;
    };
    let is_own = |one: &ProbeRecord| {
        let name = one.field("filename").expect("a field").to_string();
        name.contains("/tracepoints-") || name.contains("/nofault")
    };
    let records: Vec<_> = records.into_iter().filter(is_own).collect();
    let [first, untouched, missing, null, bad] = records.as_slice() else {
        panic!("{records:?}");
    };
    for record in [first, untouched] {
        let answer = typed(record, "*statbuf");
        assert_eq!(answer.integer("st_size"), Some(65536));
        assert_eq!(answer.integer("st_mode"), Some(0o100_600));
        assert_eq!(record.string_origin("*statbuf"), Some(StringOrigin::Exit));
    }
    assert_eq!(null.field("*statbuf"), Some(FieldValue::Null));
    // These calls failed, and have written nothing.
    assert_eq!(missing.field("*statbuf"), Some(FieldValue::Unwritten));
    assert_eq!(bad.field("*statbuf"), Some(FieldValue::Unwritten));
    assert_eq!(bad.string_origin("*statbuf"), None);
    let row = serde_json::to_value(missing).expect("JSON");
    assert_eq!(row["unwritten"], json!(["*statbuf"]));
}

/// The rest of a sleep is written only where a signal ends it.
#[test]
fn what_is_written_by_result() {
    let Some(kernel) = live() else { return };
    let of = ("interrupt", "nanosleep");
    let Some((records, printed)) = traced(&kernel, of, &["*rmtp", "*rmtp@exit"], READING) else {
        return;
    };
    assert_eq!(texts(&records, "*rmtp"), ["<not written>", &*printed]);
    // The content, whoever has written it.
    let there = ["{tv_sec=77, tv_nsec=77}", &*printed];
    assert_eq!(texts(&records, "*rmtp@exit"), there);
}

#[test]
fn addresses_of_sockets() {
    let Some(kernel) = live() else { return };
    let fields = ["*uservaddr"];
    let Some((records, _)) = traced(&kernel, ("connect", "connect"), &fields, READING) else {
        return;
    };
    let inet = "{family=AF_INET, port=53, addr=127.0.0.1}";
    let refused = "<Invalid argument (os error 22)>";
    let expected = [
        inet,
        "{family=AF_INET6, port=443, flowinfo=5, addr=::1, scope_id=3}",
        "{family=AF_UNIX, path=\"/nofault/\\\"x\\\"\"}",
        "{family=AF_UNIX, abstract=\"no\\0fault\"}",
        "{family=AF_UNIX}",
        "{family=AF_NETLINK, pid=4242, groups=9}",
        "{family=AF_INET, port=53}",
        "{family=250, data=00357f00}",
        "{}",
        "{}",
        FAULT,
        inet,
        refused,
        refused,
        "NULL",
        FAULT,
    ];
    assert_eq!(texts(&records, "*uservaddr"), expected);
}

/// The kernel writes no more than there is space for, and says how much it would need.
#[test]
fn addresses_that_the_kernel_writes() {
    let Some(kernel) = live() else { return };
    let fields = ["*usockaddr"];
    let Some((records, port)) = traced(&kernel, ("names", "getsockname"), &fields, READING) else {
        return;
    };
    let whole = format!("{{family=AF_INET, port={port}, addr=127.0.0.1}}");
    let cut = format!("{{family=AF_INET, port={port}}}…");
    let expected = [&*whole, &whole, &cut, "{}…", "<not written>"];
    assert_eq!(texts(&records, "*usockaddr"), expected);
}

/// A struct is as long as the caller says.
#[test]
fn structs_that_grow() {
    let Some(kernel) = live() else { return };
    let Some((records, _)) = traced(&kernel, ("open", "openat2"), &["*how"], READING) else {
        return;
    };
    let flags = libc::O_PATH;
    let whole = format!("{{flags={flags}, mode=0, resolve=0}}");
    let (short, cut) = (format!("{{flags={flags}}}"), format!("{whole}…"));
    let long = "<Argument list too long (os error 7)>";
    assert_eq!(texts(&records, "*how"), [&*whole, &short, &cut, long, long]);
}

/// The strings of lists, as many as are kept; what is left out, and what cannot be read, is said.
#[test]
fn lists_of_strings() {
    let Some(kernel) = live() else { return };
    let fields = ["*argv", "*envp"];
    let Some((records, _)) = traced(&kernel, ("exec", "execve"), &fields, READING) else {
        return;
    };
    // The first begins the program.
    let (begin, records) = records.split_first().expect("records");
    let strings: Vec<_> = typed(begin, "*argv").strings().collect();
    assert_eq!((strings.len(), strings[1]), (3, Some(&b"exec"[..])));
    let list = |string: &str, times| vec![string; times].join(", ");
    let long = format!("\"{}\"…", "e".repeat(255));
    let expected = [
        r#"["ls", "-l", "a \"b\"", ""]"#.to_owned(),
        format!("[\"x\", {FAULT}, \"y\"]"),
        format!("[{}, …]", list("\"m\"", 32)),
        format!("[{}, …]", list(&long, 8)),
        format!("[{}]", list("\"x\"", 32)),
        FAULT.to_owned(),
        format!("[\"edge\", {FAULT}]"),
        r#"["x", "late"]"#.to_owned(),
        r#"["true", "one"]"#.to_owned(),
    ];
    assert_eq!(texts(records, "*argv"), expected);
    let one = r#"["A=1"]"#;
    let environments = [
        one, "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", one, one,
    ];
    assert_eq!(texts(records, "*envp"), environments);
    let (entry, exit) = (Some(StringOrigin::Entry), Some(StringOrigin::Exit));
    let origins = origins(records, "*argv");
    assert_eq!((origins[0], origins[7], origins[8]), (entry, exit, entry));
    assert_eq!(origins[5], Some(StringOrigin::Unreadable));
    let row = |at: usize| serde_json::to_value(&records[at]).expect("JSON");
    assert_eq!(row(1)["fields"]["*argv"], json!(["x", null, "y"]));
    assert_eq!(row(1).get("cut"), None);
    assert_eq!(row(2)["fields"]["*argv"], json!(vec!["m"; 32]));
    assert_eq!(row(2)["cut"], json!(["*argv"]));
    assert_eq!(row(4).get("cut"), None);
}

/// Arrays have as many elements as the call says or returns.
#[test]
fn arrays_by_their_lengths() {
    let Some(kernel) = live() else { return };
    let vectors = |call: &str, fields: &[&str]| {
        let traced = traced(&kernel, ("vectors", call), fields, READING);
        traced.map(|(records, _)| records)
    };
    let Some(written) = vectors("writev", &["*vec"]) else {
        return;
    };
    let list = |count: u64| {
        let one = |i| format!("{{iov_base={:#x}, iov_len={i}}}", 16 * (i + 1));
        let all: Vec<String> = (0..count).map(one).collect();
        format!("[{}]", all.join(", "))
    };
    let refused = "<Invalid argument (os error 22)>";
    let expected = [
        list(3),
        "[]".to_owned(),
        format!("{}…", list(16)),
        refused.to_owned(),
        refused.to_owned(),
        "NULL".to_owned(),
        FAULT.to_owned(),
        list(2),
    ];
    // The C library may write lines so, too: those come before.
    let own = written.len() - expected.len();
    assert_eq!(texts(&written[own..], "*vec"), expected);
    let (first, last) = (&written[own], &written[own + 7]);
    assert_eq!(typed(first, "*vec").integer("2.iov_len"), Some(2));
    for nothing in ["3.iov_len", "iov_len", "2"] {
        assert_eq!(typed(first, "*vec").integer(nothing), None, "{nothing}");
    }
    assert_eq!(last.string_origin("*vec"), Some(StringOrigin::Exit));
    let row = serde_json::to_value(first).expect("JSON");
    assert_eq!(
        row["fields"]["*vec"][1],
        json!({"iov_base": "0x20", "iov_len": 1})
    );

    let polled = vectors("ppoll", &["*ufds@entry", "*ufds@exit"]).expect("as before");
    let polled = polled.last().expect("a record");
    for (field, results) in [("*ufds@entry", [0, 0]), ("*ufds@exit", [1, 4])] {
        let ufds = typed(polled, field);
        assert_eq!(ufds.bytes().len(), 16);
        let found = ["0.revents", "1.revents"].map(|name| ufds.integer(name));
        assert_eq!(found, results.map(Some), "{field}");
        assert_eq!(ufds.integer("1.events"), Some(4));
    }

    let got = vectors("epoll_pwait", &["*events"]).expect("as before");
    let events = texts(&got, "*events");
    assert_eq!(events, ["[{events=1, data=4242}]", "<not written>"]);
}

/// `*` is all that has a type; what a call may read and write, at both moments.
#[test]
fn all_that_has_a_type() {
    let Some(kernel) = live() else { return };
    let names = |call: &str| {
        let called = events(&kernel, &[&format!("syscalls:sys_enter_{call}")]);
        let builder = Probe::builder(&called).process(std::process::id());
        let probe = builder.fields(["*"]).attach().expect("it is attached");
        format!("{probe:?}")
    };
    let nanosleep = names("nanosleep");
    assert!(nanosleep.contains("sys_enter_nanosleep"), "{nanosleep}");
    let Some((records, _)) = traced(&kernel, ("read", "nanosleep"), &["*"], READING) else {
        return;
    };
    let fields: Vec<_> = records[0].fields().map(|(name, _)| name).collect();
    let expected = ["__syscall_nr", "rqtp", "rmtp", "*rqtp", "*rmtp"];
    assert_eq!(fields, expected);
    names("ppoll");
}

#[test]
fn what_cannot_be_kept() {
    let Some(kernel) = live() else { return };
    let refused = |event: &str, field: &str| {
        let called = events(&kernel, &[event]);
        let builder = Probe::builder(&called).process(std::process::id());
        let error = builder.fields([field]).attach();
        let error = error.expect_err("no such field");
        let source = std::error::Error::source(&error).expect("a source");
        format!("{error}: {source}")
    };
    let of_call = "only arguments of syscalls:sys_enter_* have their pointers followed in this way";
    let no_struct = "not a pointer to a struct or union in the kernel's BTF, nor to strings";
    for (event, field, why) in [
        (
            "syscalls:sys_enter_nanosleep",
            "*rqtpp",
            "the call has no argument of this name".to_owned(),
        ),
        (
            "syscalls:sys_enter_nanosleep",
            "*rqtp@later",
            "@later is not a moment of a call: use @entry or @exit".to_owned(),
        ),
        (
            "syscalls:sys_enter_ppoll",
            "*tsp",
            "the call may read and write there: ask for *tsp@entry, for *tsp@exit, or for both"
                .to_owned(),
        ),
        (
            "syscalls:sys_enter_ppoll",
            "*nfds",
            format!("its type is unsigned int: {no_struct}"),
        ),
        (
            "syscalls:sys_enter_read",
            "*buf",
            format!("its type is char *: {no_struct}"),
        ),
        (
            "syscalls:sys_enter_io_submit",
            "*iocbpp",
            format!("its type is struct iocb * *: {no_struct}"),
        ),
        (
            "syscalls:sys_enter_perf_event_open",
            "*attr_uptr@entry",
            "no argument says how long it is, and its type does not either".to_owned(),
        ),
        ("syscalls:sys_exit_nanosleep", "*ret", of_call.to_owned()),
        ("sched:sched_switch", "*prev_pid", of_call.to_owned()),
    ] {
        assert_eq!(
            refused(event, field),
            format!("{event} has no {field}: {why}")
        );
    }
}
