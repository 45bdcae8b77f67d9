//! Probes on the running kernel. Takes root, and tracefs: where that is not
//! mounted, each test runs itself again in a mount namespace where it is. Only what
//! the tests themselves do is probed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support;
use crate::support::live::live;
use rustix::fs::{AtFlags, CWD};
use rustix::process::{Pid, Signal};
use tracepoints::probe::{
    FieldValue, GroupValue, Probe, ProbeError, ProbeRecord, UnattachableKind,
};
use tracepoints::{Error, Kernel, Tracepoint, Value};

/// Events, of which those the kernel has not are named on stderr.
fn events(kernel: &Kernel, names: &[&str]) -> Vec<Tracepoint> {
    let mut events = Vec::new();
    for name in names {
        match kernel.tracepoint(name) {
            Ok(event) => events.push(event),
            Err(Error::NoSuchEvent { .. }) => eprintln!("NOT ON THIS KERNEL: {name}"),
            Err(error) => panic!("{error}"),
        }
    }
    events
}

/// What a field has to be.
enum Expected {
    Is(i64),
    Text(String),
    Within(std::ops::Range<i64>),
    Bits(i64),
}

fn text(text: impl AsRef<Path>) -> Expected {
    Expected::Text(text.as_ref().to_str().expect("UTF-8").to_owned())
}

impl Expected {
    fn holds(&self, value: &FieldValue<'_>) -> bool {
        let value = match value {
            FieldValue::Whole(value) => value,
            _ => return false,
        };
        match (self, value) {
            (Self::Text(text), Value::Text(bytes)) => text.as_bytes() == *bytes,
            (Self::Is(number), value) => value.integer() == Some(*number),
            (Self::Within(range), value) => {
                value.integer().is_some_and(|value| range.contains(&value))
            }
            (Self::Bits(bits), value) => value.integer().is_some_and(|value| value & bits == *bits),
            _ => false,
        }
    }
}

/// An event that has to happen, with these values in one record.
struct Expectation {
    event: &'static str,
    fields: Vec<(&'static str, Expected)>,
}

const PROVOKED: [&str; 38] = [
    "block:block_bio_queue",
    "exceptions:page_fault_user",
    "ext4:ext4_sync_file_enter",
    "ext4:ext4_unlink_enter",
    "filemap:mm_filemap_add_to_page_cache",
    "kmem:mm_page_alloc",
    "net:net_dev_queue",
    "net:netif_rx",
    "raw_syscalls:sys_enter",
    "raw_syscalls:sys_exit",
    "sched:sched_process_exec",
    "sched:sched_process_exit",
    "sched:sched_process_fork",
    "sched:sched_switch",
    "sched:sched_wakeup_new",
    "signal:signal_deliver",
    "signal:signal_generate",
    "sock:inet_sock_set_state",
    "syscalls:sys_enter_clock_nanosleep",
    "syscalls:sys_enter_execve",
    "syscalls:sys_enter_fsync",
    "syscalls:sys_enter_kill",
    "syscalls:sys_enter_mkdir",
    "syscalls:sys_enter_openat",
    "syscalls:sys_enter_rename",
    "syscalls:sys_enter_sendto",
    "syscalls:sys_enter_symlink",
    "syscalls:sys_enter_unlinkat",
    "syscalls:sys_enter_wait4",
    "syscalls:sys_enter_waitid",
    "syscalls:sys_enter_write",
    "syscalls:sys_exit_getppid",
    "syscalls:sys_exit_openat",
    "syscalls:sys_exit_write",
    "task:task_newtask",
    "task:task_rename",
    "timer:hrtimer_start",
    "timer:hrtimer_cancel",
];

/// Does a little of everything, and says what has to be seen of it.
fn provoke(directory: &Path) -> Vec<Expectation> {
    use Expected::{Bits, Is, Within};
    let mut expected = Vec::new();
    let mut expect = |event, fields: Vec<(&'static str, Expected)>| {
        expected.push(Expectation { event, fields });
    };
    let file_path = directory.join("a file");
    let renamed = directory.join("renamed");
    let on_ext4 = Command::new("stat")
        .args(["-f", "-c", "%T"])
        .arg(directory.parent().expect("a parent"))
        .output()
        .is_ok_and(|output| output.stdout.starts_with(b"ext"));

    fs::create_dir(directory).expect("a directory");
    expect(
        "syscalls:sys_enter_mkdir",
        vec![("pathname", text(directory)), ("mode", Is(0o777))],
    );

    let mut file = File::create(&file_path).expect("a file");
    let descriptor = i64::from(file.as_raw_fd());
    expect(
        "syscalls:sys_enter_openat",
        vec![
            ("dfd", Is(-100)),
            ("filename", text(&file_path)),
            ("flags", Is(0o2001101)),
            ("mode", Is(0o666)),
        ],
    );
    expect("syscalls:sys_exit_openat", vec![("ret", Is(descriptor))]);
    File::open(directory.join("missing")).expect_err("there is none");
    expect("syscalls:sys_exit_openat", vec![("ret", Is(-2))]);

    file.write_all(&[b'x'; 4242]).expect("it is written");
    expect(
        "syscalls:sys_enter_write",
        vec![("fd", Is(descriptor)), ("count", Is(4242))],
    );
    expect("syscalls:sys_exit_write", vec![("ret", Is(4242))]);
    file.sync_all().expect("it is synced");
    expect("syscalls:sys_enter_fsync", vec![("fd", Is(descriptor))]);
    let inode = file.metadata().expect("metadata").ino() as i64;
    if on_ext4 {
        expect(
            "filemap:mm_filemap_add_to_page_cache",
            vec![("i_ino", Is(inode))],
        );
        expect("ext4:ext4_sync_file_enter", vec![("ino", Is(inode))]);
        expect(
            "block:block_bio_queue",
            vec![("nr_sector", Within(8..1024))],
        );
    }

    fs::rename(&file_path, &renamed).expect("it is renamed");
    expect(
        "syscalls:sys_enter_rename",
        vec![("oldname", text(&file_path)), ("newname", text(&renamed))],
    );
    std::os::unix::fs::symlink("nowhere", &file_path).expect("a link");
    expect(
        "syscalls:sys_enter_symlink",
        vec![("oldname", text("nowhere")), ("newname", text(&file_path))],
    );
    rustix::fs::unlinkat(CWD, &renamed, AtFlags::empty()).expect("it is removed");
    expect(
        "syscalls:sys_enter_unlinkat",
        vec![
            ("dfd", Is(-100)),
            ("pathname", text(&renamed)),
            ("flag", Is(0)),
        ],
    );
    if on_ext4 {
        expect("ext4:ext4_unlink_enter", vec![("ino", Is(inode))]);
    }

    let parent = std::os::unix::process::parent_id();
    expect(
        "syscalls:sys_exit_getppid",
        vec![("ret", Is(parent.into()))],
    );
    if cfg!(target_arch = "x86_64") {
        expect("raw_syscalls:sys_enter", vec![("id", Is(110))]);
        expect(
            "raw_syscalls:sys_exit",
            vec![("id", Is(110)), ("ret", Is(parent.into()))],
        );
    }

    let cat = ["/bin/cat", "/usr/bin/cat"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let cat = cat.expect("a cat");
    let mut child = Command::new(cat)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let pid = i64::from(child.id());
    expect("sched:sched_process_fork", vec![("child_pid", Is(pid))]);
    expect("sched:sched_wakeup_new", vec![("pid", Is(pid))]);
    expect("task:task_newtask", vec![("pid", Is(pid))]);
    expect("syscalls:sys_enter_execve", vec![("filename", text(cat))]);
    expect(
        "sched:sched_process_exec",
        vec![("filename", text(cat)), ("pid", Is(pid))],
    );
    // Until it answers it may still be within execve(2), and a signal that kills it
    // there comes before the event.
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"x").expect("it is written");
    let mut output = child.stdout.take().expect("a pipe");
    output.read_exact(&mut [0]).expect("it answers");
    rustix::process::kill_process(Pid::from_child(&child), Signal::USR1).expect("it is killed");
    expect(
        "syscalls:sys_enter_kill",
        vec![("pid", Is(pid)), ("sig", Is(10))],
    );
    expect(
        "signal:signal_generate",
        vec![("sig", Is(10)), ("pid", Is(pid))],
    );
    child.wait().expect("it ends");
    expect("sched:sched_process_exit", vec![("pid", Is(pid))]);
    expect("syscalls:sys_enter_wait4", vec![("upid", Is(pid))]);

    let handled = Arc::new(AtomicBool::new(false));
    let handler = signal_hook::flag::register(12, Arc::clone(&handled)).expect("a handler");
    rustix::process::kill_process(rustix::process::getpid(), Signal::USR2).expect("it is sent");
    while !handled.load(Ordering::Relaxed) {
        std::thread::yield_now();
    }
    signal_hook::low_level::unregister(handler);
    expect("signal:signal_deliver", vec![("sig", Is(12))]);

    std::thread::Builder::new()
        .name("tp-renamed".to_owned())
        .spawn(|| std::thread::sleep(Duration::from_millis(30)))
        .expect("a thread")
        .join()
        .expect("it ends");
    expect("task:task_rename", vec![("newcomm", text("tp-renamed"))]);
    expect(
        "sched:sched_switch",
        vec![("prev_comm", text("tp-renamed")), ("prev_state", Bits(1))],
    );
    expect(
        "syscalls:sys_enter_clock_nanosleep",
        vec![("flags", Within(0..2))],
    );
    // The task's timer and the CPU's.
    expect(
        "timer:hrtimer_start",
        vec![("softexpires", Within(1..i64::MAX))],
    );

    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = receiver.local_addr().expect("an address");
    sender.send_to(&[7; 77], address).expect("it is sent");
    expect("syscalls:sys_enter_sendto", vec![("len", Is(77))]);
    // Ethernet, IP and UDP headers before the data.
    let length = 14 + 20 + 8 + 77;
    expect(
        "net:net_dev_queue",
        vec![("name", text("lo")), ("len", Is(length))],
    );
    expect(
        "net:netif_rx",
        vec![("name", text("lo")), ("len", Is(length - 14))],
    );
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let port = listener.local_addr().expect("an address").port();
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    expect(
        "sock:inet_sock_set_state",
        vec![
            ("dport", Is(port.into())),
            ("newstate", Is(2)),
            ("family", Is(2)),
        ],
    );
    drop(stream);

    // Fresh memory is given page by page, when it is touched.
    let mut memory: Vec<u8> = Vec::with_capacity(1 << 22);
    memory.resize(1 << 22, 1);
    let start = memory.as_ptr() as i64;
    expect(
        "exceptions:page_fault_user",
        vec![("address", Within(start..start + (1 << 22)))],
    );
    expect("kmem:mm_page_alloc", vec![("order", Within(0..11))]);
    drop(memory);
    fs::remove_dir_all(directory).expect("it is removed");
    expected
}

#[test]
fn what_is_provoked_is_seen() {
    let Some(kernel) = live() else {
        return;
    };
    let events = events(&kernel, &PROVOKED);
    let directory = std::env::temp_dir().join(format!("tracepoints-{}", std::process::id()));
    let mut probe = Probe::builder(&events)
        .process_tree(std::process::id())
        .ring_size(1 << 24)
        .attach()
        .expect("it is attached");
    let expected = provoke(&directory);
    let records: Vec<ProbeRecord> = probe.records().collect();
    let losses = probe.losses().expect("losses");
    drop(probe);
    assert_eq!(losses.full, 0);
    let known = |name: &str| events.iter().any(|event| event.name().as_str() == name);
    let mut seen = std::collections::BTreeSet::new();
    let mut missing = Vec::new();
    for expectation in expected.iter().filter(|one| known(one.event)) {
        let is_it = |record: &&ProbeRecord| {
            record.event().as_str() == expectation.event
                && expectation.fields.iter().all(|(name, expected)| {
                    let value = record.field(name);
                    let value =
                        value.unwrap_or_else(|| panic!("{} has no {name}", expectation.event));
                    expected.holds(&value)
                })
        };
        match records.iter().find(is_it) {
            Some(_) => {
                seen.insert(expectation.event);
            }
            None => missing.push(expectation.event),
        }
    }
    for event in &missing {
        let all = records
            .iter()
            .filter(|record| record.event().as_str() == *event);
        for record in all.take(5) {
            eprintln!("{record}");
        }
    }
    eprintln!(
        "{} events provoked and seen, {} records, {} skipped by the kernel",
        seen.len(),
        records.len(),
        losses.skipped
    );
    assert!(missing.is_empty(), "not seen as it should be: {missing:?}");
    assert!(seen.len() >= 20, "{seen:?}");
}

/// On PREEMPT_RT kernels, and on RHEL 9, the struct that is commonly read through
/// has the arguments elsewhere than a program gets them.
#[test]
fn the_path_is_right_whatever_struct_is_common() {
    const DIRECTORY_FLAG: u64 = 0x200;
    let Some(kernel) = live() else {
        return;
    };
    let unlink = events(&kernel, &["syscalls:sys_enter_unlinkat"]);
    let context = unlink[0].context().expect("a context");
    let slot = |field: &str| context.slot_of(field).expect("a layout").expect(field);
    let directory = std::env::temp_dir().join(format!("tracepoints-d{}", std::process::id()));
    fs::create_dir(&directory).expect("a directory");
    let mut probe = Probe::builder(&unlink)
        .process(std::process::id())
        .attach()
        .expect("it is attached");
    rustix::fs::unlinkat(CWD, &directory, AtFlags::REMOVEDIR).expect("it is removed");
    let records: Vec<ProbeRecord> = probe.records().collect();
    let [record] = &*records else {
        panic!("one record, not {records:?}");
    };
    let value = |field: &str| record.field(field).expect("a field");
    assert!(text(&directory).holds(&value("pathname")), "{record}");
    assert!(
        Expected::Is(DIRECTORY_FLAG as i64).holds(&value("flag")),
        "{record}"
    );

    let common = kernel
        .tracepoint("raw_syscalls:sys_enter")
        .expect("an event")
        .context()
        .expect("a context");
    let Some(args) = common.slot_of("args").expect("a layout") else {
        return eprintln!("no BTF has trace_event_raw_sys_enter: {common:?}");
    };
    if common.struct_name() != Some("trace_event_raw_sys_enter") {
        return eprintln!("no trace_event_raw_sys_enter here: {common:?}");
    }
    if args.offset() == slot("dfd").offset() {
        eprintln!(
            "trace_event_raw_sys_enter has its arguments at {}, where programs get them",
            args.offset()
        );
        return;
    }
    // args[1] of the common struct, with what is there in truth.
    let path_at = args.offset() + 8;
    assert_ne!(path_at, slot("pathname").offset());
    assert_eq!(path_at, slot("flag").offset(), "8 bytes further on");
    assert_ne!(context.struct_name(), Some("trace_event_raw_sys_enter"));
    eprintln!(
        "trace_event_raw_sys_enter has its arguments at {}, programs get them at {}: through \
         it pathname would be {DIRECTORY_FLAG:#x}, the flag; it is {} here",
        args.offset(),
        slot("dfd").offset(),
        value("pathname")
    );
}

#[test]
fn every_event_can_be_attached_to() {
    if std::env::var_os("TRACEPOINTS_ALL_EVENTS").is_none() {
        return support::skip("it takes a minute or two: set TRACEPOINTS_ALL_EVENTS=1 to run it");
    }
    let Some(kernel) = live() else { return };
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let limit = rustix::process::Rlimit {
        current: limit.maximum,
        ..limit
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("files");
    // Each takes three files.
    let at_once = limit.maximum.map_or(4096, |files| files as usize / 4);
    let names = kernel.events().expect("events");
    let events: Vec<Tracepoint> = names
        .names()
        .iter()
        .map(|name| kernel.tracepoint(name).expect("an event"))
        .collect();
    let begin = Instant::now();
    // Nothing of what happens meanwhile passes.
    let nothing = || "tid == 4294967295".parse().expect("a filter");
    let mut attaching = Duration::ZERO;
    for some in events.chunks(at_once) {
        let begin = Instant::now();
        let probe = Probe::builder(some).filter(nothing()).attach();
        attaching += begin.elapsed();
        drop(probe.expect("it is attached"));
    }
    eprintln!(
        "{} events attached to in {attaching:?}; no program ran any more after {:?}",
        events.len(),
        begin.elapsed()
    );
}

/// Asks for the parent's number so many times.
fn getppid(times: usize) {
    for _ in 0..times {
        std::hint::black_box(std::os::unix::process::parent_id());
    }
}

#[test]
fn losses_are_counted_exactly() {
    let Some(kernel) = live() else {
        return;
    };
    let events = events(&kernel, &["syscalls:sys_enter_getppid"]);
    let mut probe = Probe::builder(&events)
        .process(std::process::id())
        .ring_size(4096)
        .attach()
        .expect("it is attached");
    getppid(1000);
    assert!(probe.wait(Some(Duration::MAX)).expect("records"));
    let early = probe.records().count();
    getppid(777);
    let late = probe.records().count();
    let losses = probe.losses().expect("losses");
    // A ring buffer of 4096 bytes has space for 85 records of 40 and 8.
    assert!(early > 50 && early < 100, "{early}");
    assert!(late >= early - 1 && late < 100, "{late}");
    assert_eq!(early as u64 + late as u64 + losses.full, 1777);
    assert_eq!(losses.skipped, 0);
}

#[test]
fn counts_and_histograms() {
    let Some(kernel) = live() else {
        return;
    };
    let counted = events(
        &kernel,
        &["syscalls:sys_enter_getppid", "syscalls:sys_enter_mkdir"],
    );
    let counter = Probe::builder(&counted)
        .process(std::process::id())
        .count()
        .expect("it is attached");
    getppid(12_345);
    let counts: Vec<u64> = counter
        .counts()
        .expect("counts")
        .iter()
        .map(|(_, count)| *count)
        .collect();
    assert_eq!(counts, [12_345, 0]);
    drop(counter);

    let written = events(&kernel, &["syscalls:sys_enter_write"]);
    let mut null = File::options()
        .write(true)
        .open("/dev/null")
        .expect("a device");
    let descriptor = null.as_raw_fd();
    let histogram = Probe::builder(&written)
        .process(std::process::id())
        .filter(format!("fd == {descriptor}").parse().expect("a filter"))
        .histogram("count")
        .expect("it is attached");
    for (size, times) in [(0, 2), (1, 3), (7, 5), (8, 1), (5000, 4)] {
        for _ in 0..times {
            // Through write(2), also of nothing.
            rustix::io::write(&mut null, &vec![0; size]).expect("it is written");
        }
    }
    let buckets = histogram.buckets().expect("buckets");
    let buckets: Vec<(u64, u64)> = buckets[0]
        .1
        .iter()
        .filter(|bucket| bucket.count > 0)
        .map(|bucket| (*bucket.values().expect("no negative").start(), bucket.count))
        .collect();
    assert_eq!(buckets, [(0, 2), (1, 3), (4, 5), (8, 1), (4096, 4)]);
}

#[test]
fn groups_are_counted_exactly() {
    let Some(kernel) = live() else {
        return;
    };
    let written = events(&kernel, &["syscalls:sys_enter_write"]);
    let null = File::options()
        .write(true)
        .open("/dev/null")
        .expect("a device");
    let descriptor = null.as_raw_fd();
    let groups = Probe::builder(&written)
        .process(std::process::id())
        .filter(format!("fd == {descriptor}").parse().expect("a filter"))
        .group_by(&["comm", "fd"], Some("count"))
        .expect("it is attached");
    // Of two threads, which may run on two CPUs.
    std::thread::scope(|scope| {
        for sizes in [[1_usize, 7], [100, 3]] {
            let null = &null;
            let named = std::thread::Builder::new().name("writer".to_owned());
            let thread = named.spawn_scoped(scope, move || {
                for size in sizes {
                    rustix::io::write(null, &vec![0; size]).expect("it is written");
                }
            });
            thread.expect("a thread");
        }
    });
    let groups = groups.groups().expect("groups");
    let [group] = groups.as_slice() else {
        panic!("{groups:?}");
    };
    let text = group.key[0].to_string();
    assert_eq!(
        (text.as_str(), &group.key[1]),
        ("writer", &GroupValue::Unsigned(descriptor as u64))
    );
    let summary = group.summary.expect("one");
    assert_eq!(
        (group.count, summary.sum, summary.min, summary.max),
        (4, 111, 1, 100)
    );
}

#[test]
fn what_a_filter_leaves() {
    let Some(kernel) = live() else {
        return;
    };
    let opened = events(&kernel, &["syscalls:sys_enter_openat"]);
    let opened = |filter: &str| {
        let mut probe = Probe::builder(&opened)
            .process(std::process::id())
            .filter(filter.parse().expect(filter))
            .fields(["filename", "flags"])
            .attach()
            .expect("it is attached");
        for path in ["/proc/self/maps", "/proc/self/map", "/proc/self/mapss", "/"] {
            let _ = File::open(path);
        }
        let records = probe
            .records()
            .map(|record| record.field("filename").expect("a field").to_string());
        records.collect::<Vec<_>>()
    };
    assert_eq!(
        opened("filename == \"/proc/self/maps\""),
        ["\"/proc/self/maps\""]
    );
    assert_eq!(
        opened("filename == \"/proc/self/map\""),
        ["\"/proc/self/map\""]
    );
    assert_eq!(opened("flags & 0x80000 && dfd == -100").len(), 4);
    assert_eq!(opened("flags & 1 || dfd >= 0").len(), 0);
    assert_eq!(opened("comm == \"nobody\"").len(), 0);
    assert_eq!(
        opened("!(filename == \"/\") && filename != \"/proc/self/mapss\""),
        ["\"/proc/self/maps\"", "\"/proc/self/map\""]
    );
}

#[test]
fn nothing_is_left_behind() {
    let Some(kernel) = live() else {
        return;
    };
    let events = events(
        &kernel,
        &["sched:sched_process_fork", "syscalls:sys_enter_getppid"],
    );
    let files = || {
        let links = fs::read_dir("/proc/self/fd")
            .expect("a directory")
            .flatten();
        let links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
        links
            .filter(|link| link.to_string_lossy().contains("bpf"))
            .count()
    };
    assert_eq!(files(), 0);
    let probe = Probe::builder(&events)
        .process_tree(std::process::id())
        .attach()
        .expect("it is attached");
    assert!(files() >= 4);
    drop(probe);
    assert_eq!(files(), 0);
    // An error half-way leaves nothing, either.
    let filter = "child_pid == 1".parse().expect("a filter");
    let error = Probe::builder(&events)
        .filter(filter)
        .attach()
        .expect_err("no field");
    assert!(matches!(error, ProbeError::Filter { .. }), "{error}");
    assert_eq!(files(), 0);
}

/// Events that take no tracepoint program, each made and removed here.
#[test]
fn kinds_of_events_that_cannot_be_attached_to() {
    let Some(kernel) = live() else { return };
    let dynamic = kernel.tracefs().join("dynamic_events");
    let command = |text: &str| {
        let file = File::options().append(true).open(&dynamic);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
    };
    let process = std::process::id();
    let mut tried = 0;
    for (kind, make, name) in [
        (
            UnattachableKind::Probe,
            format!("p:tp_{process}/k do_exit"),
            format!("tp_{process}:k"),
        ),
        (
            UnattachableKind::Probe,
            format!("p:tp_{process}/u /bin/sh:0x1000"),
            format!("tp_{process}:u"),
        ),
        (
            UnattachableKind::Synthetic,
            format!("s:tp_s_{process} u64 lat"),
            format!("synthetic:tp_s_{process}"),
        ),
        (
            UnattachableKind::EventProbe,
            format!("e:tp_{process}/e sched/sched_process_exit p=$pid:u32"),
            format!("tp_{process}:e"),
        ),
        (
            UnattachableKind::User,
            format!("u:tp_u_{process} u32 a"),
            format!("user_events:tp_u_{process}"),
        ),
    ] {
        if let Err(error) = command(&make) {
            support::skip(&format!(
                "this kernel does not make {name}, {kind:?}: {error}"
            ));
            continue;
        }
        let outcome = kernel
            .tracepoint(&name)
            .map(|event| Probe::builder([&event]).attach());
        let remove = format!(
            "-:{}",
            name.replace("synthetic:", "synthetic/").replace(':', "/")
        );
        let removal = match kind {
            UnattachableKind::Synthetic => format!("-:synthetic/tp_s_{process}"),
            UnattachableKind::User => format!("!u:tp_u_{process}"),
            _ => remove,
        };
        let removed = command(&removal);
        match outcome.expect("an event") {
            Err(ProbeError::Unattachable { kind: said, .. }) => assert_eq!(said, kind),
            other => panic!("{name}: {other:?}"),
        }
        if kind != UnattachableKind::User {
            removed.expect("it is removed");
        }
        tried += 1;
    }
    eprintln!("{tried} kinds of events refused, each by its own name");
    let function = kernel.tracepoint("ftrace:function").expect("an event");
    let error = Probe::builder([&function]).attach().expect_err("none");
    assert!(
        matches!(
            error,
            ProbeError::Unattachable {
                kind: UnattachableKind::Ftrace,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn slips_are_told() {
    let Some(kernel) = live() else {
        return;
    };
    let unlink = events(&kernel, &["syscalls:sys_enter_unlinkat"]);
    let message = |result: Result<Probe, ProbeError>| result.expect_err("a slip").to_string();
    let builder = || Probe::builder(&unlink);
    assert_eq!(
        message(builder().fields(["path"]).attach()),
        "syscalls:sys_enter_unlinkat has no field path; it has __syscall_nr, dfd, pathname, flag"
            .to_owned()
            + if kernel_has_values(&unlink[0]) {
                ", __pathname_val"
            } else {
                ""
            }
            + ", and the task has pid, tid, comm and cpu"
    );
    assert_eq!(
        message(builder().ring_size(5000).attach()),
        "a ring buffer cannot be 5000 bytes: it takes a power of two, and whole pages"
    );
    assert_eq!(
        message(builder().process(u32::MAX).attach()),
        "no process 4294967295"
    );
    for limit in [1 << 20, u32::MAX - 3, u32::MAX] {
        assert!(message(builder().data_limit(limit).attach()).contains("can take 32000"));
    }
    let error = builder().histogram("pathname").expect_err("no integer");
    assert!(matches!(error, ProbeError::NoInteger { .. }), "{error}");
    let captured = Kernel::at(support::fixture("6.18.15-x86_64"));
    if let Ok(captured) = captured {
        let exec = captured
            .tracepoint("sched:sched_process_exec")
            .expect("an event");
        let error = Probe::builder([&exec]).attach().expect_err("captured");
        assert!(matches!(error, ProbeError::NotLive { .. }), "{error}");
    }
}

/// Linux 6.19 and later record what the pointers point at.
fn kernel_has_values(event: &Tracepoint) -> bool {
    event.format().field("__pathname_val").is_some()
}
