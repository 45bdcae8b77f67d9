//! Counting by stacks.

use std::collections::BTreeMap;
use std::fs;

use super::events;
use crate::support::live::live;
use tracepoints::probe::{GroupValue, PlanReason, Probe};

/// The kernel's stack, the process and its stack.
type Stacks = (Vec<u64>, u32, Vec<u64>);

/// Groups have the stacks that records of the same hits have, as often.
#[test]
fn groups_have_the_stacks_of_records() {
    let Some(kernel) = live() else {
        return;
    };
    let alloc = events(&kernel, &["kmem:kmem_cache_alloc", "kmem:kmem_cache_free"]);
    // All that a thread of this name does, and nothing before and after.
    let builder = Probe::builder(&alloc)
        .fields(Vec::<String>::new())
        .process(std::process::id())
        .filter("comm == \"actor\"".parse().expect("a filter"));
    let groups = builder
        .group_by(&["kstack", "ustack"], None)
        .expect("it is attached");
    assert_eq!(groups.plan()[0].reason, PlanReason::Stacks);
    let builder = builder.stacks().ring_size(16 << 20);
    let mut probe = builder.attach().expect("it is attached");
    let actor = std::thread::spawn(|| {
        let rename = |name: &str| fs::write("/proc/thread-self/comm", name).expect("a name");
        rename("actor");
        for at in 0..200 {
            let _ = fs::read_dir("/proc/self/fd").expect("a directory").count();
            drop(fs::read("/proc/self/stat"));
            drop(std::os::unix::net::UnixStream::pair());
            if at % 20 == 0 {
                drop(std::process::Command::new("/no/such/file").spawn());
            }
        }
        rename("done");
    });
    actor.join().expect("it ends");

    let mut expected: BTreeMap<Stacks, u64> = BTreeMap::new();
    for record in probe.records() {
        let user: Vec<u64> = record.user_stack().collect();
        let pid = match user.is_empty() {
            true => 0,
            false => record.task().pid,
        };
        *expected
            .entry((record.kernel_stack().collect(), pid, user))
            .or_default() += 1;
    }
    assert_eq!(probe.losses().expect("losses").full, 0);
    assert_eq!(groups.losses().expect("losses").full, 0);
    let mut counted: BTreeMap<Stacks, u64> = BTreeMap::new();
    for group in groups.groups().expect("groups") {
        let [
            GroupValue::KernelStack { addresses, .. },
            GroupValue::UserStack {
                pid,
                addresses: user,
                ..
            },
        ] = group.key.as_slice()
        else {
            panic!("{group:?}");
        };
        let stacks = (addresses.clone(), *pid, user.clone());
        *counted.entry(stacks).or_default() += group.count;
    }
    let hits: u64 = counted.values().sum();
    assert!(
        counted.len() > 10 && hits > 1000,
        "{} {hits}",
        counted.len()
    );
    assert!(counted == expected, "{} {}", counted.len(), expected.len());
}
