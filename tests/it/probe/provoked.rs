//! Events that the test provokes, and the values their records must have.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Expected, events, text};
use crate::support::live::live;
use rustix::fs::{AtFlags, CWD};
use rustix::process::{Pid, Signal};
use tracepoints::probe::{Probe, ProbeRecord};

/// An event that must be seen, with these values in one record.
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

/// Events that were provoked, and must be seen.
struct Provoked(Vec<Expectation>);

impl Provoked {
    /// Provokes events of every kind.
    fn new(directory: &Path) -> Self {
        let mut provoked = Self(Vec::new());
        provoked.files(directory);
        provoked.parent();
        provoked.child();
        provoked.signal();
        provoked.thread();
        provoked.network();
        provoked.memory();
        provoked
    }

    fn add(&mut self, event: &'static str, fields: Vec<(&'static str, Expected)>) {
        self.0.push(Expectation { event, fields });
    }

    /// Makes, writes, renames and removes files in a new directory.
    fn files(&mut self, directory: &Path) {
        use Expected::{Is, Within};

        let file_path = directory.join("a file");
        let renamed = directory.join("renamed");
        let on_ext4 = Command::new("stat")
            .args(["-f", "-c", "%T"])
            .arg(directory.parent().expect("a parent"))
            .output()
            .is_ok_and(|output| output.stdout.starts_with(b"ext"));

        fs::create_dir(directory).expect("a directory");
        self.add(
            "syscalls:sys_enter_mkdir",
            vec![("pathname", text(directory)), ("mode", Is(0o777))],
        );

        let mut file = File::create(&file_path).expect("a file");
        let descriptor = i64::from(file.as_raw_fd());
        self.add(
            "syscalls:sys_enter_openat",
            vec![
                ("dfd", Is(-100)),
                ("filename", text(&file_path)),
                ("flags", Is(0o2001101)),
                ("mode", Is(0o666)),
            ],
        );
        self.add("syscalls:sys_exit_openat", vec![("ret", Is(descriptor))]);
        File::open(directory.join("missing")).expect_err("there is none");
        self.add("syscalls:sys_exit_openat", vec![("ret", Is(-2))]);

        file.write_all(&[b'x'; 4242]).expect("it is written");
        self.add(
            "syscalls:sys_enter_write",
            vec![("fd", Is(descriptor)), ("count", Is(4242))],
        );
        self.add("syscalls:sys_exit_write", vec![("ret", Is(4242))]);
        file.sync_all().expect("it is synced");
        self.add("syscalls:sys_enter_fsync", vec![("fd", Is(descriptor))]);
        let inode = file.metadata().expect("metadata").ino() as i64;
        if on_ext4 {
            self.add(
                "filemap:mm_filemap_add_to_page_cache",
                vec![("i_ino", Is(inode))],
            );
            self.add("ext4:ext4_sync_file_enter", vec![("ino", Is(inode))]);
            self.add(
                "block:block_bio_queue",
                vec![("nr_sector", Within(8..1024))],
            );
        }

        fs::rename(&file_path, &renamed).expect("it is renamed");
        self.add(
            "syscalls:sys_enter_rename",
            vec![("oldname", text(&file_path)), ("newname", text(&renamed))],
        );
        std::os::unix::fs::symlink("nowhere", &file_path).expect("a link");
        self.add(
            "syscalls:sys_enter_symlink",
            vec![("oldname", text("nowhere")), ("newname", text(&file_path))],
        );
        rustix::fs::unlinkat(CWD, &renamed, AtFlags::empty()).expect("it is removed");
        self.add(
            "syscalls:sys_enter_unlinkat",
            vec![
                ("dfd", Is(-100)),
                ("pathname", text(&renamed)),
                ("flag", Is(0)),
            ],
        );
        if on_ext4 {
            self.add("ext4:ext4_unlink_enter", vec![("ino", Is(inode))]);
        }
        fs::remove_dir_all(directory).expect("it is removed");
    }

    /// Makes the system call getppid.
    fn parent(&mut self) {
        use Expected::Is;

        let parent = std::os::unix::process::parent_id();
        self.add(
            "syscalls:sys_exit_getppid",
            vec![("ret", Is(parent.into()))],
        );
        if cfg!(target_arch = "x86_64") {
            self.add("raw_syscalls:sys_enter", vec![("id", Is(110))]);
            self.add(
                "raw_syscalls:sys_exit",
                vec![("id", Is(110)), ("ret", Is(parent.into()))],
            );
        }
    }

    /// Starts a process, and kills it.
    fn child(&mut self) {
        use Expected::Is;

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
        self.add("sched:sched_process_fork", vec![("child_pid", Is(pid))]);
        self.add("sched:sched_wakeup_new", vec![("pid", Is(pid))]);
        self.add("task:task_newtask", vec![("pid", Is(pid))]);
        self.add("syscalls:sys_enter_execve", vec![("filename", text(cat))]);
        self.add(
            "sched:sched_process_exec",
            vec![("filename", text(cat)), ("pid", Is(pid))],
        );
        // Until it answers it may still be inside execve(2), and a signal that kills it
        // there would come before the exec event.
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(b"x").expect("it is written");
        let mut output = child.stdout.take().expect("a pipe");
        output.read_exact(&mut [0]).expect("it answers");
        rustix::process::kill_process(Pid::from_child(&child), Signal::USR1).expect("it is killed");
        self.add(
            "syscalls:sys_enter_kill",
            vec![("pid", Is(pid)), ("sig", Is(10))],
        );
        self.add(
            "signal:signal_generate",
            vec![("sig", Is(10)), ("pid", Is(pid))],
        );
        child.wait().expect("it ends");
        self.add("sched:sched_process_exit", vec![("pid", Is(pid))]);
        self.add("syscalls:sys_enter_wait4", vec![("upid", Is(pid))]);
    }

    /// Handles a signal to this process.
    fn signal(&mut self) {
        use Expected::Is;

        let handled = Arc::new(AtomicBool::new(false));
        let handler = signal_hook::flag::register(12, Arc::clone(&handled)).expect("a handler");
        rustix::process::kill_process(rustix::process::getpid(), Signal::USR2).expect("it is sent");
        while !handled.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        signal_hook::low_level::unregister(handler);
        self.add("signal:signal_deliver", vec![("sig", Is(12))]);
    }

    /// Starts a thread with a name, which sleeps.
    fn thread(&mut self) {
        use Expected::{Bits, Within};

        std::thread::Builder::new()
            .name("tp-renamed".to_owned())
            .spawn(|| std::thread::sleep(Duration::from_millis(30)))
            .expect("a thread")
            .join()
            .expect("it ends");
        self.add("task:task_rename", vec![("newcomm", text("tp-renamed"))]);
        self.add(
            "sched:sched_switch",
            vec![("prev_comm", text("tp-renamed")), ("prev_state", Bits(1))],
        );
        self.add(
            "syscalls:sys_enter_clock_nanosleep",
            vec![("flags", Within(0..2))],
        );
        // A timer of the task or of the CPU.
        self.add(
            "timer:hrtimer_start",
            vec![("softexpires", Within(1..i64::MAX))],
        );
    }

    /// Sends a packet and opens a connection, to this machine.
    fn network(&mut self) {
        use Expected::Is;

        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = receiver.local_addr().expect("an address");
        sender.send_to(&[7; 77], address).expect("it is sent");
        self.add("syscalls:sys_enter_sendto", vec![("len", Is(77))]);
        // Ethernet, IP and UDP headers before the data.
        let length = 14 + 20 + 8 + 77;
        self.add(
            "net:net_dev_queue",
            vec![("name", text("lo")), ("len", Is(length))],
        );
        self.add(
            "net:netif_rx",
            vec![("name", text("lo")), ("len", Is(length - 14))],
        );
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let port = listener.local_addr().expect("an address").port();
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        self.add(
            "sock:inet_sock_set_state",
            vec![
                ("dport", Is(port.into())),
                ("newstate", Is(2)),
                ("family", Is(2)),
            ],
        );
        drop(stream);
    }

    /// Touches new memory, which the kernel maps page by page.
    fn memory(&mut self) {
        use Expected::Within;

        // Fresh memory is given page by page, when it is touched.
        let mut memory: Vec<u8> = Vec::with_capacity(1 << 22);
        memory.resize(1 << 22, 1);
        let start = memory.as_ptr() as i64;
        self.add(
            "exceptions:page_fault_user",
            vec![("address", Within(start..start + (1 << 22)))],
        );
        self.add("kmem:mm_page_alloc", vec![("order", Within(0..11))]);
        drop(memory);
    }
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
    let Provoked(expected) = Provoked::new(&directory);
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
