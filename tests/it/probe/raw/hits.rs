//! Hits of raw tracepoints, with the values that they must have.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tracepoints::probe::ProbeRecord;

use crate::probe::{Expected, getppid, text};

/// A tracepoint that must be hit, with these values in one record.
pub(super) struct Hit {
    pub(super) tracepoint: &'static str,
    fields: Vec<(&'static str, Expected)>,
    /// The names of enums' values.
    names: Vec<(&'static str, &'static str)>,
}

fn hit(tracepoint: &'static str, fields: Vec<(&'static str, Expected)>) -> Hit {
    Hit {
        tracepoint,
        fields,
        names: Vec::new(),
    }
}

pub(super) fn provoke(directory: &Path) -> Vec<Hit> {
    let mut all = files(directory);
    all.extend(calls());
    all.extend(child());
    all.extend(threads());
    all.extend(network());
    all
}

fn files(directory: &Path) -> Vec<Hit> {
    use Expected::Is;

    fs::create_dir(directory).expect("a directory");
    let path = directory.join("file");
    let mut file = File::create(&path).expect("a file");
    let metadata = file.metadata().expect("metadata");
    let inode = metadata.ino() as i64;
    // `dev_t` of the kernel: the minor number in the low 20 bits.
    let device = rustix::fs::major(metadata.dev()) << 20 | rustix::fs::minor(metadata.dev());
    file.write_all(&[7; 5000]).expect("it is written");
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
    rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
    file.sync_all().expect("it is synced");
    // The file's bytes in whole blocks of the file system.
    let block = rustix::fs::statvfs(directory)
        .expect("a file system")
        .f_bsize;
    let written = 5000_u64.next_multiple_of(block) as i64;
    let on_ext4 = Command::new("stat")
        .args(["-f", "-c", "%T"])
        .arg(directory)
        .output()
        .is_ok_and(|output| output.stdout.starts_with(b"ext"));
    drop(file);
    fs::remove_dir_all(directory).expect("it is removed");
    let mut hits = vec![
        hit(
            "flock_lock_inode",
            vec![("inode->i_ino", Is(inode)), ("ret", Is(0))],
        ),
        hit(
            "posix_lock_inode",
            vec![("inode->i_ino", Is(inode)), ("ret", Is(0))],
        ),
        hit(
            "locks_get_lock_context",
            // `F_WRLCK`.
            vec![
                ("inode->i_ino", Is(inode)),
                ("inode->i_sb->s_dev", Is(device.into())),
                ("type", Is(1)),
            ],
        ),
    ];
    if on_ext4 {
        hits.push(hit(
            "mm_filemap_add_to_page_cache",
            vec![("folio->mapping->host->i_ino", Is(inode))],
        ));
        hits.push(hit(
            "writeback_mark_inode_dirty",
            vec![("inode->i_ino", Is(inode))],
        ));
        hits.push(hit(
            "block_bio_queue",
            vec![
                ("bio->bi_iter.bi_size", Is(written)),
                ("bio->bi_bdev->bd_dev", Is(device.into())),
            ],
        ));
    }
    hits
}

fn calls() -> Vec<Hit> {
    use Expected::{Is, Within};

    let own = i64::from(std::process::id());
    getppid(1);
    let parent = i64::from(std::os::unix::process::parent_id());
    fs::write("/proc/self/oom_score_adj", "77").expect("it is written");
    let mut memory: Vec<u8> = Vec::with_capacity(1 << 22);
    memory.resize(1 << 22, 1);
    let start = memory.as_ptr() as i64;
    // Kept, so that the next test in this process gets pages that nobody has touched.
    std::mem::forget(memory);
    let mut hits = vec![
        hit("sys_exit", vec![("ret", Is(parent))]),
        hit(
            "oom_score_adj_update",
            vec![
                ("task->signal->oom_score_adj", Is(77)),
                ("task->tgid", Is(own)),
            ],
        ),
    ];
    if cfg!(target_arch = "x86_64") {
        hits.push(hit(
            "sys_enter",
            vec![("id", Is(110)), ("regs->orig_ax", Is(110))],
        ));
        hits.push(hit(
            "page_fault_user",
            vec![("address", Within(start..start + (1 << 22)))],
        ));
    }
    hits
}

fn child() -> Vec<Hit> {
    use Expected::Is;

    let cat = ["/bin/cat", "/usr/bin/cat"];
    let cat = cat.into_iter().find(|path| Path::new(path).exists());
    let cat = cat.expect("a cat");
    let mut process = Command::new(cat)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let (own, pid) = (i64::from(std::process::id()), i64::from(process.id()));
    // Until it answers it may still be inside execve(2).
    let mut input = process.stdin.take().expect("a pipe");
    input.write_all(b"x").expect("it is written");
    let mut output = process.stdout.take().expect("a pipe");
    output.read_exact(&mut [0]).expect("it answers");
    let child = Pid::from_child(&process);
    rustix::process::kill_process(child, Signal::USR1).expect("it is killed");
    process.wait().expect("it ends");
    vec![
        hit(
            "sched_process_fork",
            vec![
                ("parent->tgid", Is(own)),
                ("child->pid", Is(pid)),
                ("child->real_parent->tgid", Is(own)),
            ],
        ),
        hit(
            "sched_wakeup_new",
            vec![("p->pid", Is(pid)), ("p->group_leader->pid", Is(pid))],
        ),
        hit(
            "task_newtask",
            vec![("task->pid", Is(pid)), ("task->real_parent->tgid", Is(own))],
        ),
        hit(
            "sched_process_exec",
            vec![
                ("p->pid", Is(pid)),
                ("bprm->filename", text(cat)),
                ("bprm->argc", Is(2)),
                ("p->mm->owner->pid", Is(pid)),
            ],
        ),
        hit(
            "signal_generate",
            vec![
                ("sig", Is(10)),
                ("info->si_signo", Is(10)),
                ("info->_sifields._kill._pid", Is(own)),
                ("task->pid", Is(pid)),
            ],
        ),
        hit("sched_process_exit", vec![("p->pid", Is(pid))]),
        hit(
            "sched_process_wait",
            vec![("pid->numbers[0].nr", Is(pid)), ("pid->level", Is(0))],
        ),
    ]
}

/// Starts a thread with a name, wakes it and lets it sleep.
fn threads() -> Vec<Hit> {
    use Expected::{Bits, Is};

    let own = i64::from(std::process::id());
    let (wake, woken) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("tp-renamed".to_owned())
        .spawn(move || {
            woken.recv().expect("it is woken");
            std::thread::sleep(Duration::from_millis(30));
        })
        .expect("a thread");
    std::thread::sleep(Duration::from_millis(30));
    wake.send(()).expect("it waits");
    thread.join().expect("it ends");
    let mut timer = hit("hrtimer_start", Vec::new());
    timer.names = vec![("mode", "HRTIMER_MODE_")];
    vec![
        hit(
            "task_rename",
            vec![("task->tgid", Is(own)), ("comm", text("tp-renamed"))],
        ),
        // `CLONE_VM | CLONE_THREAD`.
        hit("task_newtask", vec![("clone_flags", Bits(0x10100))]),
        hit(
            "sched_switch",
            vec![
                ("prev->comm", text("tp-renamed")),
                ("prev->tgid", Is(own)),
                ("preempt", Is(0)),
            ],
        ),
        hit(
            "sched_waking",
            vec![("p->comm", text("tp-renamed")), ("p->tgid", Is(own))],
        ),
        timer,
    ]
}

fn network() -> Vec<Hit> {
    use Expected::Is;

    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = receiver.local_addr().expect("an address");
    sender.send_to(&[7; 77], address).expect("it is sent");
    drop(receiver);
    // Nobody is there any more.
    sender.send_to(&[7; 99], address).expect("it is sent");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let port = listener.local_addr().expect("an address").port();
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    drop(stream);
    // Ethernet, IP and UDP headers before the data.
    let length = 14 + 20 + 8 + 77;
    let mut dropped = hit("kfree_skb", Vec::new());
    dropped.names = vec![("reason", "SKB_DROP_REASON_NO_SOCKET")];
    vec![
        hit(
            "net_dev_queue",
            vec![
                ("skb->len", Is(length)),
                ("skb->dev->name", text("lo")),
                // `CHECKSUM_PARTIAL`, in a field of two bits.
                ("skb->ip_summed", Is(3)),
            ],
        ),
        hit(
            "netif_rx",
            vec![
                ("skb->len", Is(length - 14)),
                ("skb->dev->name", text("lo")),
                ("skb->dev->ifindex", Is(1)),
            ],
        ),
        dropped,
        hit(
            "inet_sock_set_state",
            vec![
                ("sk->__sk_common.skc_family", Is(2)),
                ("sk->__sk_common.skc_dport", Is(port.to_be().into())),
                ("newstate", Is(2)),
            ],
        ),
    ]
}

impl Hit {
    pub(super) fn is_in(&self, record: &ProbeRecord) -> bool {
        let fields = self.fields.iter().all(|(path, expected)| {
            let value = record.field(path);
            expected.holds(&value.unwrap_or_else(|| panic!("{record} has no {path}")))
        });
        let mut names = self.names.iter();
        fields
            && names.all(|(path, begin)| {
                let name = record.value_name(path);
                name.is_some_and(|name| name.starts_with(begin))
            })
    }
}
