//! Raw tracepoints: values through paths, by both types of program.

mod hits;

use tracepoints::Kernel;
use tracepoints::probe::{
    FieldValue, Probe, ProbeBuilder, ProbeError, ProbeRecord, RawProgram, nullable_arguments,
};

use super::getppid;
use crate::support::live::live;
use hits::provoke;

/// What is provoked, and the paths that are kept.
const PATHS: [(&str, &[&str]); 25] = [
    (
        "block_bio_queue",
        &["bio->bi_iter.bi_size", "bio->bi_bdev->bd_dev"],
    ),
    ("flock_lock_inode", &["inode->i_ino", "ret"]),
    ("hrtimer_start", &["mode", "hrtimer->is_soft"]),
    (
        "inet_sock_set_state",
        &[
            "sk->__sk_common.skc_family",
            "sk->__sk_common.skc_dport",
            "oldstate",
            "newstate",
        ],
    ),
    ("kfree_skb", &["skb->len", "reason"]),
    (
        "locks_get_lock_context",
        &["inode->i_ino", "inode->i_sb->s_dev", "type"],
    ),
    (
        "mm_filemap_add_to_page_cache",
        &["folio->mapping->host->i_ino"],
    ),
    (
        "net_dev_queue",
        &["skb->len", "skb->dev->name", "skb->ip_summed"],
    ),
    (
        "netif_rx",
        &["skb->len", "skb->dev->name", "skb->dev->ifindex"],
    ),
    (
        "oom_score_adj_update",
        &["task->signal->oom_score_adj", "task->tgid", "task->comm"],
    ),
    ("page_fault_user", &["address"]),
    ("posix_lock_inode", &["inode->i_ino", "ret"]),
    (
        "sched_process_exec",
        &[
            "p->pid",
            "bprm->filename",
            "bprm->argc",
            "p->mm->owner->pid",
        ],
    ),
    ("sched_process_exit", &["p->pid", "p->signal->nr_threads"]),
    (
        "sched_process_fork",
        &["parent->tgid", "child->pid", "child->real_parent->tgid"],
    ),
    ("sched_process_wait", &["pid->numbers[0].nr", "pid->level"]),
    ("sched_switch", &["prev->comm", "prev->tgid", "preempt"]),
    ("sched_waking", &["p->comm", "p->tgid"]),
    ("sched_wakeup_new", &["p->pid", "p->group_leader->pid"]),
    (
        "signal_generate",
        &[
            "sig",
            "info->si_signo",
            "info->_sifields._kill._pid",
            "task->pid",
        ],
    ),
    ("sys_enter", &["id", "regs->orig_ax"]),
    ("sys_exit", &["ret"]),
    (
        "task_newtask",
        &["task->pid", "task->real_parent->tgid", "clone_flags"],
    ),
    ("task_rename", &["task->tgid", "comm"]),
    ("writeback_mark_inode_dirty", &["inode->i_ino"]),
];

/// A builder of a probe on those of these that the kernel has with all their paths: Linux
/// 5.10 has no folios, no reasons and no `bi_bdev`.
fn builder(kernel: &Kernel, program: RawProgram) -> (ProbeBuilder, Vec<&'static str>) {
    let category = match program {
        RawProgram::TpBtf => "tp_btf",
        _ => "raw_tp",
    };
    let mut builder = Probe::builder([]);
    let mut there = Vec::new();
    for (name, paths) in PATHS {
        if kernel.raw_tracepoint(name).is_err() {
            eprintln!("NOT ON THIS KERNEL: {name}");
            continue;
        }
        let alone = Probe::builder([]).raw_tracepoint(kernel, name, program);
        let alone = alone.unwrap_or_else(|error| panic!("{name}: {error}"));
        let attached = alone
            .fields(paths.iter().copied())
            .process(std::process::id())
            .attach();
        if let Err(ProbeError::Path { source, .. }) = attached {
            eprintln!("NOT ON THIS KERNEL: {name}: {source}");
            continue;
        }
        let with = builder.clone().raw_tracepoint(kernel, name, program);
        builder = with.unwrap_or_else(|error| panic!("{name}: {error}"));
        let event = format!("{category}:{name}").parse().expect("a name");
        builder = builder.fields_of(&event, paths.iter().copied());
        there.push(name);
    }
    (builder, there)
}

fn values_through_paths(program: RawProgram) {
    let Some(kernel) = live() else {
        return;
    };
    let (builder, there) = builder(&kernel, program);
    let mut probe = builder
        .process_tree(std::process::id())
        .ring_size(1 << 24)
        .attach()
        .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
    let directory = std::env::temp_dir().join(format!("tracepoints-{}", std::process::id()));
    let hits = provoke(&directory);
    let records: Vec<ProbeRecord> = probe.records().collect();
    let losses = probe.losses().expect("losses");
    assert_eq!(losses.full, 0);
    drop(probe);
    let (mut seen, mut missing) = (Vec::new(), Vec::new());
    for hit in hits.iter().filter(|hit| there.contains(&hit.tracepoint)) {
        let of_it = |record: &&ProbeRecord| record.event().event() == hit.tracepoint;
        match records.iter().filter(of_it).any(|record| hit.is_in(record)) {
            true => seen.push(hit.tracepoint),
            false => {
                missing.push(hit.tracepoint);
                for record in records.iter().filter(of_it).take(5) {
                    eprintln!("{record}");
                }
            }
        }
    }
    seen.sort_unstable();
    seen.dedup();
    eprintln!(
        "{} raw tracepoints provoked and seen by {program:?}, {} records, {} skipped",
        seen.len(),
        records.len(),
        losses.skipped
    );
    assert!(missing.is_empty(), "not seen as it should be: {missing:?}");
    assert!(seen.len() >= 20, "{seen:?}");
}

#[test]
fn values_through_paths_by_raw_tp() {
    values_through_paths(RawProgram::RawTp);
}

#[test]
fn values_through_paths_by_tp_btf() {
    values_through_paths(RawProgram::TpBtf);
}

/// The choice of the crate: loads where these are safe, the helper elsewhere.
#[test]
fn values_through_paths_by_the_cheapest() {
    values_through_paths(RawProgram::Cheapest);
}

/// Those without events, and those of all modules: with all arguments, and counted.
#[test]
fn all_bare_tracepoints_attach_and_detach() {
    let Some(kernel) = live() else {
        return;
    };
    let bare = kernel.bare_tracepoints().expect("tracepoints");
    let mut names: Vec<String> = bare.iter().map(|raw| raw.name().to_owned()).collect();
    assert!(names.len() > 5, "{names:?}");
    let all = kernel.raw_tracepoint_names().expect("names");
    let of_modules = all.into_iter().filter(|name| {
        let raw = kernel.raw_tracepoint(name).expect("it is there");
        raw.home() != "vmlinux"
    });
    let of_modules: Vec<String> = of_modules.collect();
    let (bare, modules) = (names.len(), of_modules.len());
    names.extend(of_modules);
    for program in [RawProgram::RawTp, RawProgram::TpBtf, RawProgram::Cheapest] {
        let mut typed = 0;
        for name in &names {
            let builder = Probe::builder([]).process(std::process::id());
            let builder = match builder.raw_tracepoint(&kernel, name, program) {
                Ok(builder) => builder,
                // Two modules may have one of the same name.
                Err(ProbeError::Ambiguous { .. }) => continue,
                Err(error) => panic!("{name}: {error}"),
            };
            match builder.attach() {
                Ok(probe) => drop(probe),
                Err(error) => panic!("{name} by {program:?}: {error}"),
            }
            let counter = builder
                .count()
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            counter.losses().expect("losses");
            typed += 1;
        }
        eprintln!("{typed} by {program:?}: {bare} bare, {modules} of modules");
    }
}

fn raw(kernel: &Kernel, name: &str) -> ProbeBuilder {
    Probe::builder([])
        .raw_tracepoint(kernel, name, RawProgram::Cheapest)
        .expect("it is there")
        .process(std::process::id())
}

#[test]
fn counts_groups_and_histograms() {
    let Some(kernel) = live() else {
        return;
    };
    let filter = |text: &str| text.parse().expect(text);
    // The number of getppid, by what it is called in all registers: 110 on x86-64.
    let number = match std::env::consts::ARCH {
        "x86_64" => 110,
        _ => 173,
    };
    let builder = raw(&kernel, "sys_enter").filter(filter(&format!("id == {number}")));
    let counter = builder.count().expect("it is attached");
    getppid(12_345);
    assert_eq!(counter.counts().expect("counts")[0].1, 12_345);
    drop(counter);

    let groups = builder
        .group_by(&["id", "pid"], Some("id"))
        .expect("it is attached");
    getppid(77);
    let groups = groups.groups().expect("groups");
    let [group] = groups.as_slice() else {
        panic!("{groups:?}");
    };
    let summary = group.summary.expect("one");
    assert_eq!((group.count, summary.sum), (77, Some(77 * number)));
    assert_eq!(group.key[1].to_string(), std::process::id().to_string());

    let histogram = builder.histogram("id").expect("it is attached");
    getppid(33);
    let buckets = histogram.buckets().expect("buckets");
    assert_eq!(buckets[0].1.last().expect("one").count, 33);
}

/// NULL on the way: it is said, no condition on it holds, and no group has it.
#[test]
fn what_cannot_be_read_is_said() {
    let Some(kernel) = live() else {
        return;
    };
    // A thread that has read and written nothing has none.
    let path = "task->io_context->active_ref.counter";
    let builder = raw(&kernel, "task_rename");
    let rename = || {
        std::thread::Builder::new()
            .name("tp-other".to_owned())
            .spawn(|| ())
            .expect("a thread")
            .join()
            .expect("it ends");
    };
    let seen = |filter: Option<&str>| {
        let builder = builder.clone().fields([path, "comm"]);
        let builder = match filter {
            Some(filter) => builder.filter(filter.parse().expect(filter)),
            None => builder,
        };
        let mut probe = builder.attach().expect("it is attached");
        rename();
        probe.records().collect::<Vec<_>>()
    };
    let all = seen(None);
    assert_eq!(all.len(), 1);
    assert_eq!(
        all[0].field(path),
        Some(FieldValue::Unreadable { errno: 14 })
    );
    assert_eq!(
        all[0].field("comm").expect("it is kept").to_string(),
        "\"tp-other\""
    );
    for filter in ["== 0", "!= 0", "< 1", ">= 0", "& 1"] {
        assert_eq!(seen(Some(&format!("{path} {filter}"))).len(), 0, "{filter}");
        assert_eq!(
            seen(Some(&format!("!({path} {filter})"))).len(),
            1,
            "{filter}"
        );
    }
    assert_eq!(seen(Some("comm == \"tp-other\"")).len(), 1);
    assert_eq!(seen(Some("comm ~ \"other*\"")).len(), 0);

    let histogram = builder.histogram(path).expect("it is attached");
    rename();
    assert!(histogram.buckets().expect("buckets")[0].1.is_empty());
    assert_eq!(histogram.losses().expect("losses").unreadable, 1);
    drop(histogram);
    let groups = builder
        .group_by(&["comm", path], None)
        .expect("it is attached");
    rename();
    rename();
    assert!(groups.groups().expect("groups").is_empty());
    assert_eq!(groups.losses().expect("losses").unreadable, 2);
}

/// The verifier's own word, and that of the kernel's list.
#[test]
fn arguments_that_may_be_null() {
    let Some(kernel) = live() else {
        return;
    };
    let asked = |tracepoint: &str| {
        let asked = nullable_arguments(&kernel, tracepoint).expect("it is there");
        asked.map(|all| {
            let all = all.into_iter();
            all.map(|(name, nullness)| format!("{name}: {nullness:?}"))
                .collect::<Vec<_>>()
        })
    };
    let Some(boosted) = asked("sched_pi_setprio") else {
        return eprintln!("NOT ON THIS KERNEL: a list of arguments that may be NULL");
    };
    assert_eq!(boosted, ["tsk: Never", "pi_task: MayBeNull"]);
    assert_eq!(
        asked("sys_enter").expect("a list"),
        ["regs: Never", "id: Number"]
    );
    let switched = asked("sched_switch").expect("a list");
    assert_eq!(
        switched[..3],
        ["preempt: Number", "prev: Never", "next: Never"]
    );
    assert!(nullable_arguments(&kernel, "no_such_tracepoint").is_err());
}
