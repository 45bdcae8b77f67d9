//! Probes that go on in a BPF file system without what attached them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{events, getppid};
use crate::support::live::live;
use tempfile::TempDir;
use tracepoints::Kernel;
use tracepoints::probe::{
    FieldValue, GroupValue, PinError, PinnedProbe, PinnedResults, Probe, ProbeBuilder, ProbeError,
};

/// A BPF file system, unmounted when dropped.
struct Bpffs(TempDir);

impl Bpffs {
    fn mount() -> Self {
        let dir = tempfile::Builder::new().prefix("bpf").tempdir();
        let dir = dir.expect("a directory");
        let mut mount = Command::new("mount");
        let status = mount.args(["-t", "bpf", "bpf"]).arg(dir.path()).status();
        assert!(status.expect("mount").success());
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.0.path()).status();
        assert!(status.expect("umount").success());
    }
}

fn on_getppid(kernel: &Kernel) -> ProbeBuilder {
    Probe::builder(&events(kernel, &["syscalls:sys_enter_getppid"])).process(std::process::id())
}

fn why(result: Result<PinnedProbe, ProbeError>) -> PinError {
    match result {
        Err(ProbeError::Pin { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

fn count(pinned: &PinnedProbe) -> u64 {
    match pinned.results() {
        PinnedResults::Counts(counter) => counter.counts().expect("counts")[0].1,
        other => panic!("{other:?}"),
    }
}

#[test]
fn counting_goes_on_without_its_starter() {
    let Some(kernel) = live() else {
        return;
    };
    let bpffs = Bpffs::mount();
    let path = bpffs.path("count");
    let counter = on_getppid(&kernel).count().expect("it is attached");
    getppid(100);
    drop(counter.pin(&path).expect("it is pinned"));
    getppid(1000);

    let pinned = PinnedProbe::open(&path).expect("it is there");
    assert_eq!(count(&pinned), 1100);
    assert_eq!(pinned.detached_programs().expect("links"), 0);
    assert_eq!(pinned.results().plan().len(), 1);
    drop(pinned);
    getppid(11);
    let pinned = PinnedProbe::open(&path).expect("it is there");
    let other = PinnedProbe::open(&path).expect("counts have any number of readers");
    assert_eq!((count(&pinned), count(&other)), (1111, 1111));

    pinned.detach().expect("it is detached");
    getppid(5000);
    assert_eq!(count(&pinned), 1111);
    assert_eq!(pinned.detached_programs().expect("links"), 1);
    pinned.remove().expect("it is removed");
    assert!(!path.exists());
    assert!(matches!(why(PinnedProbe::open(&path)), PinError::None));
}

/// Deleting the files is enough.
#[test]
fn removing_the_directory_detaches() {
    let Some(kernel) = live() else {
        return;
    };
    let bpffs = Bpffs::mount();
    for (name, builder) in [
        ("tp", on_getppid(&kernel)),
        ("raw", {
            let fork = events(&kernel, &["sched:sched_process_fork"]);
            Probe::builder(&fork).process(std::process::id())
        }),
    ] {
        let path = bpffs.path(name);
        let pinned = builder.count().expect("it is attached").pin(&path);
        let pinned = pinned.expect("it is pinned");
        let act = || {
            getppid(1);
            Command::new("true").status().expect("it runs");
        };
        act();
        assert!(count(&pinned) > 0);
        fs::remove_dir_all(&path).expect("it is deleted");
        // The kernel detaches in a thread of its own.
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let before = count(&pinned);
            act();
            if count(&pinned) == before {
                break;
            }
            assert!(Instant::now() < end, "{name} still counts");
        }
    }
}

#[test]
fn records_wait_to_be_read() {
    let Some(kernel) = live() else {
        return;
    };
    let bpffs = Bpffs::mount();
    let path = bpffs.path("records");
    // Not mkdir, by which probes are pinned.
    let rmdir = events(&kernel, &["syscalls:sys_enter_rmdir"]);
    let probe = Probe::builder(&rmdir)
        .returns_of(rmdir[0].name())
        .process(std::process::id())
        .ring_size(4096)
        .data_limit(64)
        .attach()
        .expect("it is attached");
    drop(probe.pin(&path).expect("it is pinned"));
    let attempt = |name: &str| fs::remove_dir(Path::new("/proc").join(name)).expect_err("refused");
    attempt("first");

    let read = |pinned: &mut PinnedProbe| match pinned.results_mut() {
        PinnedResults::Records(probe) => {
            let records = probe.records().map(|record| {
                let ret = record.returned().expect("a result").value;
                let name = record.field("pathname").expect("a field").to_string();
                (name, ret)
            });
            records.collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let of = |name: &str| {
        (
            format!("\"/proc/{name}\""),
            -i64::from(rustix::io::Errno::NOENT.raw_os_error()),
        )
    };
    let mut pinned = PinnedProbe::open(&path).expect("it is there");
    assert_eq!(read(&mut pinned), [of("first")]);
    // A second reader would take records from the first.
    assert!(matches!(why(PinnedProbe::open(&path)), PinError::InUse));
    let known = pinned.unchanged_events(&kernel).expect("events");
    assert_eq!(known.len(), 1);
    attempt("second");
    drop(pinned);

    let mut pinned = PinnedProbe::open(&path).expect("it is there");
    assert_eq!(read(&mut pinned), [of("second")]);
    for _ in 0..500 {
        attempt("third");
    }
    let PinnedResults::Records(probe) = pinned.results_mut() else {
        panic!("records");
    };
    // Of each call the record of its begin is lost, or that of its return, or neither.
    let records = probe.records().filter(|record| record.returned().is_some());
    let whole = records.count() as u64;
    let losses = probe.losses().expect("losses");
    assert!(whole > 5 && whole < 100, "{whole}");
    assert_eq!(whole + losses.full, 500);
    pinned.detach().expect("it is detached");
    assert!(pinned.unchanged_events(&kernel).expect("events").is_empty());
    pinned.remove().expect("it is removed");
}

#[test]
fn groups_and_histograms_are_kept() {
    let Some(kernel) = live() else {
        return;
    };
    let bpffs = Bpffs::mount();
    let write = events(&kernel, &["syscalls:sys_enter_write"]);
    let mut null = fs::File::options()
        .write(true)
        .open("/dev/null")
        .expect("a device");
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&null);
    let builder = Probe::builder(&write)
        .process(std::process::id())
        .filter(format!("fd == {descriptor}").parse().expect("a filter"));
    let groups = builder.group_by(&["kstack", "count"], Some("count"));
    groups
        .expect("it is attached")
        .pin(bpffs.path("groups"))
        .expect("it is pinned");
    let histogram = builder.histogram("count").expect("it is attached");
    histogram
        .pin(bpffs.path("histogram"))
        .expect("it is pinned");
    let mut probe = builder.stacks().attach().expect("it is attached");
    for size in [7, 7, 100] {
        rustix::io::write(&mut null, &vec![0; size]).expect("it is written");
    }
    // Linux 6.1 gives programs of system calls' events no stack of the kernel.
    let stacks: BTreeSet<Vec<u64>> = probe
        .records()
        .map(|record| record.kernel_stack().collect())
        .collect();
    drop(probe);
    assert!(!stacks.is_empty());

    let pinned = PinnedProbe::open(bpffs.path("groups")).expect("it is there");
    let PinnedResults::Groups(groups) = pinned.results() else {
        panic!("{pinned:?}");
    };
    assert_eq!((groups.by().len(), groups.measured()), (2, Some("count")));
    let all = groups.groups().expect("groups");
    for group in &all {
        let stack = match &group.key[0] {
            GroupValue::KernelStack { addresses, .. } => addresses,
            other => panic!("{other:?}"),
        };
        assert!(stacks.contains(stack), "{stack:?}, not of {stacks:?}");
    }
    let all = all.iter().map(|group| {
        let sum = group.summary.expect("a sum").sum;
        (group.key[1].clone(), group.count, sum)
    });
    let expected = [
        (GroupValue::Unsigned(7), 2, Some(14)),
        (GroupValue::Unsigned(100), 1, Some(100)),
    ];
    assert_eq!(all.collect::<Vec<_>>(), expected);
    pinned.remove().expect("it is removed");

    let pinned = PinnedProbe::open(bpffs.path("histogram")).expect("it is there");
    let PinnedResults::Histogram(histogram) = pinned.results() else {
        panic!("{pinned:?}");
    };
    assert_eq!(histogram.field(), "count");
    let buckets = &histogram.buckets().expect("buckets")[0].1;
    let buckets = buckets.iter().filter(|bucket| bucket.count > 0);
    let buckets: Vec<_> = buckets.map(|bucket| (bucket.from, bucket.count)).collect();
    assert_eq!(buckets, [(Some(4), 2), (Some(64), 1)]);
    pinned.remove().expect("it is removed");
}

/// Paths through arguments, enums with names, and the programs that follow children.
#[test]
fn raw_tracepoints_and_children_are_kept() {
    let Some(kernel) = live() else {
        return;
    };
    let bpffs = Bpffs::mount();
    let path = bpffs.path("raw");
    let builder = Probe::builder([]).process_tree(std::process::id());
    let builder = builder.raw_tracepoint(&kernel, "sched_process_exec", Default::default());
    let probe = builder
        .expect("a tracepoint")
        .fields(["bprm->filename", "p->comm"])
        .attach();
    drop(
        probe
            .expect("it is attached")
            .pin(&path)
            .expect("it is pinned"),
    );
    // Forked after the programs were left alone.
    Command::new("/bin/true").status().expect("it runs");
    let mut pinned = PinnedProbe::open(&path).expect("it is there");
    let PinnedResults::Records(probe) = pinned.results_mut() else {
        panic!("records");
    };
    let names = probe
        .records()
        .map(|record| match record.field("bprm->filename") {
            Some(FieldValue::Whole(value)) => value.to_string(),
            other => panic!("{other:?}"),
        });
    assert_eq!(names.collect::<Vec<_>>(), ["/bin/true"]);
    pinned.remove().expect("it is removed");
}

#[test]
fn nothing_else_is_read() {
    let Some(kernel) = live() else {
        return;
    };
    let bpffs = Bpffs::mount();
    let attached = || on_getppid(&kernel).count().expect("it is attached");
    let (one, two) = (bpffs.path("one"), bpffs.path("two"));
    attached().pin(&one).expect("it is pinned");
    assert!(matches!(why(attached().pin(&one)), PinError::Exists));
    attached().pin(&two).expect("it is pinned");
    assert!(matches!(
        why(attached().pin(bpffs.path("a.b"))),
        PinError::Dot
    ));
    assert!(matches!(
        why(attached().pin("/tmp/one")),
        PinError::NotBpffs
    ));
    assert!(matches!(
        why(attached().pin(bpffs.path("no/one"))),
        PinError::Io(_)
    ));
    assert!(matches!(why(PinnedProbe::open("/tmp")), PinError::NotBpffs));
    assert!(matches!(
        why(PinnedProbe::open(bpffs.0.path())),
        PinError::None
    ));

    // The map of one in place of another's: the same size, and not what was counted.
    let rename = |from: PathBuf, to: PathBuf| fs::rename(from, to).expect("it is renamed");
    rename(one.join("counts"), bpffs.path("kept"));
    match why(PinnedProbe::open(&one)) {
        PinError::Missing { name } => assert_eq!(name, "counts"),
        other => panic!("{other}"),
    }
    rename(two.join("counts"), one.join("counts"));
    match why(PinnedProbe::open(&one)) {
        PinError::Foreign { name } => assert_eq!(name, "counts"),
        other => panic!("{other}"),
    }
    rename(one.join("counts"), two.join("counts"));
    rename(bpffs.path("kept"), one.join("counts"));
    // A program, or a map, in place of the description.
    rename(one.join("description"), bpffs.path("kept"));
    fs::hard_link(one.join("counts"), one.join("description")).expect("a second name");
    assert!(matches!(why(PinnedProbe::open(&one)), PinError::None));
    fs::remove_file(one.join("description")).expect("removed");
    rename(bpffs.path("kept"), one.join("description"));

    // Who puts something else there keeps it.
    let stranger = one.join("links/stranger");
    fs::hard_link(one.join("counts"), &stranger).expect("a second name");
    let pinned = PinnedProbe::open(&one).expect("it is there");
    match pinned.remove() {
        Err(ProbeError::Pin { source, .. }) => assert!(matches!(source, PinError::Io(_))),
        other => panic!("{other:?}"),
    }
    assert!(stranger.exists());
}
