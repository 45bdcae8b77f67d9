//! Twenty-one listeners of seven kinds, all of which are found, and none besides.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{RawTracePoint, TracePoint};
use tracepoints::probe::Probe;
use tracepoints::sites::{
    BpfAttachment, HoldingProcess, Listener, PatchState, Sites, SitesError, UnknownPart,
};
use tracepoints::{EventName, Kernel};

use super::{are_all, sites, unknown_parts};
use crate::support;
use crate::support::compilers;
use crate::support::live::live;

/// Events that happen rarely, and which no other test listens to.
const EVENTS: [&str; 6] = [
    "oom:wake_reaper",
    "oom:start_task_reaping",
    "oom:skip_task_reaping",
    "cgroup:cgroup_freeze",
    "cgroup:cgroup_unfreeze",
    "syscalls:sys_enter_pivot_root",
];

/// Who must be found listening to an event: a kind, and the pids that hold it.
type Expected = BTreeMap<EventName, BTreeSet<String>>;

fn listener(kind: &str, holders: &[u32]) -> String {
    format!("{kind} {holders:?}")
}

fn seen(listener: &Listener) -> String {
    let pids = |holders: &[HoldingProcess]| -> Vec<u32> {
        holders.iter().map(|holder| holder.pid).collect()
    };
    match listener {
        Listener::Ftrace {
            instance,
            is_filtered: false,
            is_soft_disabled: false,
        } => self::listener(&format!("ftrace {instance:?}"), &[]),
        Listener::Perf { holders, .. } => self::listener("perf", &pids(holders)),
        Listener::Bpf {
            attachment,
            holders,
            ..
        } => {
            let attachment = match attachment {
                BpfAttachment::RawTracepoint => "raw",
                _ => "tracepoint",
            };
            self::listener(attachment, &pids(holders))
        }
        other => format!("{other:?}"),
    }
}

fn names() -> Vec<EventName> {
    EVENTS.map(|name| name.parse().expect("a name")).into()
}

/// Who listens now; `None` on a kernel whose memory no program can read.
fn found(kernel: &Kernel) -> Option<Expected> {
    let found = sites(kernel, &names())?;
    assert!(unknown_parts(&found).is_empty(), "{:?}", found.unknown());
    let each = found.events().iter().map(|event| {
        let listeners = event.listeners().iter().map(seen);
        let listeners: Vec<String> = listeners.collect();
        let set: BTreeSet<String> = listeners.iter().cloned().collect();
        assert_eq!(set.len(), listeners.len(), "twice: {listeners:?}");
        (event.event().expect("an event").clone(), set)
    });
    Some(each.collect())
}

/// How long is waited: the kernel's threads may be busy with hundreds of perf events that
/// other tests have left to them.
const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until the kernel shows exactly these.
fn wait_for(kernel: &Kernel, expected: &Expected) {
    let begin = Instant::now();
    loop {
        let found = found(kernel).expect("the same kernel");
        if found == *expected {
            return;
        }
        if begin.elapsed() > PATIENCE {
            assert_eq!(found, *expected);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Attached by tracefs; undone when dropped.
struct Tracing<'a> {
    tracefs: &'a Path,
    instances: Vec<PathBuf>,
    set: Vec<&'a str>,
}

impl Tracing<'_> {
    fn enable(&mut self, instance: &str, events: &[&str]) {
        let instance = self.tracefs.join("instances").join(instance);
        fs::create_dir(&instance).expect("an instance");
        self.instances.push(instance.clone());
        for event in events {
            let event = event.replace(':', "/");
            fs::write(instance.join("events").join(event).join("enable"), "1").expect("enabled");
        }
    }
}

impl<'a> Tracing<'a> {
    fn set_event(&mut self, event: &'a str) {
        let file = fs::File::options()
            .append(true)
            .open(self.tracefs.join("set_event"));
        let mut file = file.expect("set_event");
        std::io::Write::write_all(&mut file, event.as_bytes()).expect("it is set");
        self.set.push(event);
    }
}

impl Drop for Tracing<'_> {
    fn drop(&mut self) {
        for event in &self.set {
            let _ = fs::write(
                self.tracefs
                    .join("events")
                    .join(event.replace(':', "/"))
                    .join("enable"),
                "0",
            );
        }
        for instance in &self.instances {
            let _ = fs::write(instance.join("events/enable"), "0");
            let _ = fs::remove_dir(instance);
        }
    }
}

/// A tool that runs until this is dropped.
struct Tool(Child);

impl Tool {
    /// `None` where it is not installed.
    fn start(program: &str, arguments: &[&str]) -> Option<Self> {
        if !compilers::has(program) {
            eprintln!("NOT INSTALLED: {program}");
            return None;
        }
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Some(Self(command.spawn().expect(program)))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Programs that do nothing, for the first three events.
const PROGRAMS: &str = r#"
#define SEC(name) __attribute__((section(name), used))
SEC("raw_tp/x") int raw_held(void *context) { return 0; }
SEC("raw_tp/x") int raw_pinned(void *context) { return 0; }
SEC("tp/x/x") int event_pinned(void *context) { return 0; }
char _license[] SEC("license") = "GPL";
"#;

fn compiled(directory: &Path) -> Option<Ebpf> {
    if !compilers::has("clang") {
        eprintln!("NOT INSTALLED: clang");
        return None;
    }
    let (source, object) = (directory.join("listen.c"), directory.join("listen.o"));
    fs::write(&source, PROGRAMS).expect("a file");
    let out = object.display().to_string();
    let arguments = ["-O2", "-target", "bpf", "-c", "-o", &out];
    compilers::compile("clang", &arguments, &source);
    Some(Ebpf::load(&fs::read(object).expect("an object")).expect("it is read"))
}

/// Attaches raw programs, two that this process holds and two that are pinned, and a
/// pinned one on an event.
fn attach_compiled(bpf: &mut Ebpf, pins: &Path, expected: &mut Expected) -> Vec<FdLink> {
    let mut held = Vec::new();
    let own = std::process::id();
    let mut expect = |event: &str, kind: &str, holders: &[u32]| {
        let event = expected.get_mut(&event.parse().expect("a name"));
        event.expect("an event").insert(listener(kind, holders));
    };
    let raw = |bpf: &mut Ebpf, program: &str, name: &str| -> FdLink {
        let program: &mut RawTracePoint = bpf
            .program_mut(program)
            .expect("a program")
            .try_into()
            .expect("a raw program");
        let _ = program.load();
        let link = program.attach(name).expect("it is attached");
        program.take_link(link).expect("a link").into()
    };
    for event in ["oom:wake_reaper", "cgroup:cgroup_freeze"] {
        let (_, name) = event.split_once(':').expect("a name");
        held.push(raw(bpf, "raw_held", name));
        expect(event, "raw", &[own]);
        let pinned = raw(bpf, "raw_pinned", name);
        drop(pinned.pin(pins.join(name)).expect("pinned"));
        expect(event, "raw", &[]);
    }
    let program: &mut TracePoint = bpf
        .program_mut("event_pinned")
        .expect("a program")
        .try_into()
        .expect("a tracepoint program");
    program.load().expect("it is loaded");
    let link = program
        .attach("oom", "skip_task_reaping")
        .expect("it is attached");
    let link: FdLink = program
        .take_link(link)
        .expect("a link")
        .try_into()
        .expect("a link of BPF");
    drop(link.pin(pins.join("event")).expect("pinned"));
    expect("oom:skip_task_reaping", "tracepoint", &[]);
    held
}

#[test]
fn known_listeners_are_found_and_no_others() {
    let Some(kernel) = live() else { return };
    let none: Expected = names()
        .into_iter()
        .map(|name| (name, BTreeSet::new()))
        .collect();
    match found(&kernel) {
        None => return,
        Some(found) => assert_eq!(found, none),
    }
    let before = sites(&kernel, &names()).expect("the same kernel");
    let own = std::process::id();
    let mut expected = none.clone();
    let mut expect = |events: &[&str], kind: &str, holders: &[u32]| {
        for event in events {
            let event = expected.get_mut(&event.parse().expect("a name"));
            event.expect("an event").insert(listener(kind, holders));
        }
    };

    let mut tracing = Tracing {
        tracefs: kernel.tracefs(),
        instances: Vec::new(),
        set: Vec::new(),
    };
    let [one, two] = ["one", "two"].map(|name| format!("listeners-{name}-{own}"));
    tracing.enable(&one, &EVENTS[..3]);
    expect(&EVENTS[..3], &format!("ftrace {:?}", Some(&one)), &[]);
    tracing.enable(&two, &EVENTS[3..]);
    expect(&EVENTS[3..], &format!("ftrace {:?}", Some(&two)), &[]);
    for event in &EVENTS[4..] {
        tracing.set_event(event);
    }
    expect(&EVENTS[4..], "ftrace None", &[]);

    let events = EVENTS[..3]
        .iter()
        .map(|name| kernel.tracepoint(name).expect("an event"));
    let probe = Probe::builder(&events.collect::<Vec<_>>())
        .attach()
        .expect("attached");
    expect(&EVENTS[..3], "tracepoint", &[own]);

    let counted = EVENTS[2..].join(",");
    let perf = Tool::start("perf", &["stat", "-a", "-e", &counted]);
    if let Some(perf) = &perf {
        expect(&EVENTS[2..], "perf", &[perf.pid()]);
    }
    let script = "tracepoint:oom:wake_reaper { @ = count(); } \
                  tracepoint:syscalls:sys_enter_pivot_root { @ = count(); }";
    let bpftrace = Tool::start("bpftrace", &["-e", script]);
    if let Some(bpftrace) = &bpftrace {
        let events = ["oom:wake_reaper", "syscalls:sys_enter_pivot_root"];
        expect(&events, "tracepoint", &[bpftrace.pid()]);
    }

    let directory = tempfile::tempdir().expect("a directory");
    let pins = directory.path().join("pins");
    fs::create_dir(&pins).expect("a directory");
    let mounted = Command::new("mount")
        .args(["-t", "bpf", "bpf"])
        .arg(&pins)
        .status();
    assert!(mounted.expect("mount").success());
    let mut bpf = compiled(directory.path());
    let held = bpf
        .as_mut()
        .map(|bpf| attach_compiled(bpf, &pins, &mut expected));

    wait_for(&kernel, &expected);
    let count: usize = expected.values().map(BTreeSet::len).sum();
    eprintln!("{count} listeners found, and no others");
    let all = perf.is_some() && bpftrace.is_some() && held.is_some();
    assert!(!all || count >= 20, "{count}");
    for event in sites(&kernel, &names()).expect("the same kernel").events() {
        assert!(are_all(event, PatchState::Jump), "{event:?}");
    }

    drop((tracing, probe, perf, bpftrace, held, bpf));
    let unmounted = Command::new("umount").arg(&pins).status();
    assert!(unmounted.expect("umount").success());
    wait_for(&kernel, &none);
    // The kernel lets go of a perf event some time after the program that was in it. Where
    // nobody listens, nobody of this test does; where somebody else did before, it is as then.
    let is_off = |event: &tracepoints::sites::EventSites| {
        let tracepoint = event.tracepoint().expect("a tracepoint");
        tracepoint.enabled == 0 && are_all(event, PatchState::Nop)
    };
    let begin = Instant::now();
    loop {
        let after = sites(&kernel, &names()).expect("the same kernel");
        let mut pairs = before.events().iter().zip(after.events());
        let other = pairs
            .find(|(before, after)| before.tracepoint() != after.tracepoint() && !is_off(after));
        let Some((before, after)) = other else { break };
        assert!(begin.elapsed() < PATIENCE, "{before:?} became {after:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The tracepoint of an event made at run time, if it has one, is not in the kernel's tables:
/// tracefs says which instances have it on. Those of `ftrace:*` have nothing that says it.
#[test]
fn instances_of_an_event_made_at_run_time() {
    let Some(kernel) = live() else { return };
    let event = format!("synthetic:tp_use_{}", std::process::id());
    let made = event.replace("synthetic:", "");
    let command = |text: &str| {
        let path = kernel.tracefs().join("dynamic_events");
        let file = fs::File::options().append(true).open(path);
        file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
    };
    if let Err(error) = command(&format!("s:{made} u64 lat")) {
        return support::skip(&format!("this kernel makes no synthetic events: {error}"));
    }
    let name: EventName = event.parse().expect("a name");
    let found = || kernel.sites(std::slice::from_ref(&name), &[]);
    let before = found();
    let mut tracing = Tracing {
        tracefs: kernel.tracefs(),
        instances: Vec::new(),
        set: Vec::new(),
    };
    tracing.enable(&made, &[&event]);
    tracing.set_event(&event);
    let filter = tracing.instances[0]
        .join("events")
        .join(event.replace(':', "/"));
    let filtered = fs::write(filter.join("filter"), "lat > 5");
    let during = found();
    drop(tracing);
    let after = found();
    command(&format!("-:synthetic/{made}")).expect("it is removed");
    filtered.expect("a filter");
    if let Err(error @ (SitesError::TooOld { .. } | SitesError::LockedDown)) = &before {
        return support::skip(&error.to_string());
    }
    let listeners = |sites: Result<Sites, SitesError>| {
        let sites = sites.expect("a readable kernel");
        let event = &sites.events()[0];
        // Kernels with modules show that of a synthetic event, which has no sites.
        let tracepoint = event.tracepoint();
        let sites = tracepoint.and_then(|tracepoint| tracepoint.sites.as_deref());
        assert_eq!(sites.unwrap_or_default(), []);
        assert_eq!(event.unknown(), []);
        let mut listeners = event.listeners().to_vec();
        listeners.sort_by_key(|listener| format!("{listener:?}"));
        listeners
    };
    assert_eq!(listeners(before), []);
    let ftrace = |instance: Option<String>, is_filtered| Listener::Ftrace {
        instance,
        is_filtered,
        is_soft_disabled: false,
    };
    assert_eq!(
        listeners(during),
        [ftrace(None, false), ftrace(Some(made), true)]
    );
    assert_eq!(listeners(after), []);
    let function = "ftrace:function".parse().expect("a name");
    let function = sites(&kernel, &[function]).expect("the same kernel");
    assert_eq!(
        function.events()[0].unknown(),
        [UnknownPart::NotATracepoint]
    );
}
