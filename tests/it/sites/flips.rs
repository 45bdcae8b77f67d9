//! The bytes at sites, as listeners come and go.

use tracepoints::probe::Probe;
use tracepoints::sites::{
    BpfAttachment, EventSites, Listener, PatchSite, PatchState, Sites, SitesError,
};
use tracepoints::{EventName, Kernel};

use super::{are_all, sites, unknown_parts};
use crate::support::fixture;
use crate::support::live::live;

/// Events that happen rarely, and which no other test listens to.
const RARE: [&str; 2] = ["oom:mark_victim", "cgroup:cgroup_rename"];

#[test]
fn bytes_flip_with_a_probe_and_back() {
    let Some(kernel) = live() else { return };
    let names: Vec<EventName> = RARE.map(|name| name.parse().expect("a name")).into();
    let Some(before) = sites(&kernel, &names) else {
        return;
    };
    assert!(unknown_parts(&before).is_empty(), "{:?}", before.unknown());
    for event in before.events() {
        assert!(are_all(event, PatchState::Nop), "{event:?}");
        assert_eq!(event.tracepoint().expect("a tracepoint").enabled, 0);
        assert_eq!((event.listeners(), event.unknown()), (&[][..], &[][..]));
    }
    let events = names
        .iter()
        .map(|name| kernel.tracepoint(name).expect("an event"));
    let events: Vec<_> = events.collect();
    let probe = Probe::builder(&events).attach().expect("it is attached");
    let during = sites(&kernel, &names).expect("the same kernel");
    for (event, name) in during.events().iter().zip(&names) {
        assert_eq!(event.event(), Some(name));
        assert!(are_all(event, PatchState::Jump), "{event:?}");
        assert_eq!(event.tracepoint().expect("a tracepoint").enabled, 1);
        let [
            Listener::Bpf {
                program,
                attachment: BpfAttachment::Tracepoint,
                holders,
                ..
            },
        ] = event.listeners()
        else {
            panic!("{event:?}");
        };
        // Programs have their event's name, cut to 15 letters.
        assert!(name.event().starts_with(&program.name), "{program:?}");
        assert_eq!(program.tag.len(), 16);
        let holders: Vec<u32> = holders.iter().map(|holder| holder.pid).collect();
        assert_eq!(holders, [std::process::id()]);
        assert_eq!(event.unknown(), []);
    }
    drop(probe);
    // The kernel removes the callback when the event is closed, in the background.
    let is_off = |sites: &Sites| {
        let mut events = sites.events().iter();
        events.all(|event| event.listeners().is_empty() && are_all(event, PatchState::Nop))
    };
    let begin = std::time::Instant::now();
    while !is_off(&sites(&kernel, &names).expect("the same kernel")) {
        assert!(begin.elapsed().as_secs() < 60, "they are still on");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let after = sites(&kernel, &names).expect("the same kernel");
    for (before, after) in before.events().iter().zip(after.events()) {
        assert_eq!(before.tracepoint(), after.tracepoint());
    }
}

/// Every event of the kernel has a tracepoint, and every tracepoint with code a site in a
/// function of the kernel.
#[test]
fn every_event_has_its_sites() {
    let Some(kernel) = live() else { return };
    let names: Vec<EventName> = kernel.events().expect("events").into_iter().collect();
    let Some(mut found) = sites(&kernel, &names) else {
        return;
    };
    // Other tests attach to events, and a site that is being patched is neither.
    let is_other = |site: &PatchSite| site.state == PatchState::Other;
    for _ in 0..3 {
        let tracepoints = found.events().iter().filter_map(EventSites::tracepoint);
        let mut sites = tracepoints.flat_map(|one| one.sites.iter().flatten());
        if !sites.any(is_other) {
            break;
        }
        found = self::sites(&kernel, &names).expect("the same kernel");
    }
    assert_eq!(found.events().len(), names.len());
    let mut count = 0;
    for (event, name) in found.events().iter().zip(&names) {
        assert_eq!(event.event(), Some(name));
        let tracepoint = event.tracepoint().unwrap_or_else(|| panic!("{name}"));
        match name.as_str().strip_prefix("syscalls:sys_") {
            Some(call) => assert!(
                format!("sys_{call}").starts_with(&tracepoint.name),
                "{name}: {}",
                tracepoint.name
            ),
            None => assert_eq!(tracepoint.name, name.event()),
        }
        for site in tracepoint.sites.as_ref().expect("its sites") {
            count += 1;
            assert!(
                matches!(site.state, PatchState::Freed) || site.location.is_some(),
                "{name}: {site:?}"
            );
            assert!(!is_other(site), "{name}: {site:?}");
        }
    }
    eprintln!("{count} sites of {} events", names.len());
}

#[test]
fn a_tracepoint_without_an_event() {
    let Some(kernel) = live() else { return };
    let Some(_) = sites(&kernel, &[]) else { return };
    let bare = kernel.bare_tracepoints().expect("BTF");
    let names: Vec<&str> = bare.iter().map(|raw| raw.name()).collect();
    let found = kernel.sites(&[], &names).expect("they are found");
    assert_eq!(found.events().len(), names.len());
    for (found, name) in found.events().iter().zip(names) {
        assert_eq!(found.event(), None);
        let tracepoint = found.tracepoint().expect("a tracepoint");
        assert_eq!(tracepoint.name, name);
        assert!(tracepoint.sites.is_some());
    }
    let missing = kernel
        .sites(&[], &["no_such\n"])
        .expect_err("no such tracepoint");
    assert_eq!(
        missing.to_string(),
        "no tracepoint no_such\\n in the kernel's memory"
    );
}

#[test]
fn a_captured_kernel_has_no_memory() {
    let kernel = Kernel::at(fixture("6.18.15-x86_64")).expect("a kernel");
    let error = kernel.sites(&[], &[]).expect_err("no memory");
    assert!(matches!(error, SitesError::NotLive));
    assert_eq!(
        error.to_string(),
        "this is a captured kernel, which has no code: the running one has sites and listeners, and an image (vmlinuz, a package) has sites"
    );
}
