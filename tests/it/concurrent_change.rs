//! Kernels that change while they are asked: modules come and go, ids are used
//! again, files are emptied, tracefs is mounted anew. An error or the right answer
//! comes out.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support;
use crate::support::btf::BtfWriter;
use crate::support::capture::{COMMON, Capture};
use crate::support::live;
use tracepoints::{Context, Error, EventName, Evidence, Kernel, Tracepoint};
use walkdir::WalkDir;

/// A copy of a fixture that may be changed.
fn copy(fixture: &str) -> Capture {
    let (capture, from) = (Capture::new(), support::fixture(fixture));
    for entry in WalkDir::new(&from) {
        let entry = entry.expect("an entry");
        let to = capture
            .root()
            .join(entry.path().strip_prefix(&from).expect("inside"));
        match entry.file_type().is_dir() {
            true => fs::create_dir_all(to).expect("a directory"),
            false => drop(fs::copy(entry.path(), to).expect("a file")),
        }
    }
    capture
}

/// What is right to say of each event.
struct Truth {
    /// The texts its format file has at one time or another.
    formats: HashMap<String, Vec<String>>,
    structs: HashMap<String, Option<String>>,
}

impl Truth {
    fn check(&self, tracepoint: &Tracepoint) {
        let name = tracepoint.name().as_str();
        let text = tracepoint.format().to_string();
        assert!(self.formats[name].contains(&text), "{name}: {text}");
        assert_eq!(tracepoint.id(), tracepoint.format().id());
    }

    fn check_context(&self, name: &EventName, context: &Context) {
        // Without its module's BTF an event has no struct of a known name.
        if !matches!(context.evidence(), Evidence::Format { .. }) {
            let expected = &self.structs[name.as_str()];
            assert_eq!(context.struct_name(), expected.as_deref(), "{name}");
        }
    }
}

/// Counts of what the threads met.
#[derive(Default)]
struct Met {
    rounds: AtomicUsize,
    found: AtomicUsize,
    gone: AtomicUsize,
    without_btf: AtomicUsize,
    by_id: AtomicUsize,
}

fn add(count: &AtomicUsize) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// The events whose modules come and go.
const MODULES: [&str; 3] = ["xfs", "nbd", "kvm"];

/// All these have one id, and one of them is there at a time.
const REUSED: [(&str, &str); 4] = [
    ("reused:one", "a"),
    ("reused:two", "b"),
    ("reused:again", "c"),
    ("reused:again", "d"),
];

/// Puts one of the events of [`REUSED`] there, and takes the modules away or back.
fn change(root: &Path, spare: &Path, round: usize, all: &str) {
    let listed = root.join("tracing/available_events");
    let events = root.join("tracing/events");
    let move_it = |from: &Path, to: &Path| {
        if from.exists() {
            fs::rename(from, to).expect("it is moved");
        }
    };
    let (old, new) = (round % REUSED.len(), (round + 1) % REUSED.len());
    let place = |index: usize| events.join(REUSED[index].0.replace(':', "/"));
    move_it(&place(old), &spare.join(old.to_string()));
    move_it(&spare.join(new.to_string()), &place(new));
    let are_loaded = round.is_multiple_of(2);
    for module in MODULES {
        for directory in [&events, &root.join("btf")] {
            let (there, away) = (
                directory.join(module),
                spare.join(format!(
                    "{}-{module}",
                    directory.file_name().expect("a name").display()
                )),
            );
            match are_loaded {
                true => move_it(&away, &there),
                false => move_it(&there, &away),
            }
        }
    }
    let is_there = |line: &&str| {
        are_loaded
            || !MODULES
                .iter()
                .any(|module| line.starts_with(&format!("{module}:")))
    };
    let mut lines: Vec<&str> = all.lines().filter(is_there).collect();
    lines.push(REUSED[new].0);
    let fresh = spare.join("available_events");
    fs::write(&fresh, lines.join("\n") + "\n").expect("a file");
    fs::rename(fresh, listed).expect("it is moved");
}

/// What one of twenty threads asks for, over and over.
fn ask(kernel: &Kernel, names: &[EventName], turn: usize, truth: &Truth, met: &Met) {
    let is_gone = |error: &Error| match error {
        Error::NoSuchEvent { .. } | Error::EventGone { .. } => add(&met.gone),
        error => panic!("{error}"),
    };
    let name = &names[turn % names.len()];
    match turn % 7 {
        0 => {
            for name in &kernel.events().expect("a list") {
                assert!(truth.formats.contains_key(name.as_str()));
            }
            kernel.event_directories().expect("directories");
        }
        1 => {
            for found in kernel.contexts(names).expect("BTF") {
                match found {
                    Ok((tracepoint, context)) => {
                        truth.check(&tracepoint);
                        truth.check_context(tracepoint.name(), &context);
                    }
                    Err(error) => is_gone(&error),
                }
            }
        }
        2 => {
            let events = kernel.events_by_id().expect("ids");
            for id in 0..=u16::MAX {
                match events.event(id) {
                    Ok((name, format)) => {
                        assert_eq!(format.id(), u32::from(id));
                        assert!(truth.formats[name.as_str()].contains(&format.to_string()));
                        add(&met.by_id);
                    }
                    Err(
                        Error::UnknownEventId { .. }
                        | Error::SharedEventId { .. }
                        | Error::OtherEventId { .. }
                        | Error::EventGone { .. },
                    ) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        _ => match kernel.tracepoint(name) {
            Ok(tracepoint) => {
                truth.check(&tracepoint);
                add(&met.found);
                let context = match tracepoint.context() {
                    Ok(context) => context,
                    Err(error) => return is_gone(&error),
                };
                truth.check_context(name, &context);
                if matches!(context.evidence(), Evidence::Format { .. }) {
                    add(&met.without_btf);
                }
                if let Ok(Some(raw)) = tracepoint.raw() {
                    assert_eq!(raw.name(), name.event());
                    assert!(raw.arguments().len() <= 12);
                }
                let _ = (tracepoint.siblings(), tracepoint.sections());
            }
            Err(error) => is_gone(&error),
        },
    }
    add(&met.rounds);
}

#[test]
fn twenty_threads_on_one_kernel_that_changes() {
    let mut capture = copy("6.18.15-x86_64");
    let spare = tempfile::tempdir().expect("a directory");
    let listed = capture.root().join("tracing/available_events");
    let all = fs::read_to_string(&listed).expect("a list");

    let mut truth = Truth {
        formats: HashMap::new(),
        structs: HashMap::new(),
    };
    let kernel = capture.kernel();
    let names = kernel.event_directories().expect("directories");
    let mut names: Vec<EventName> = names.into_iter().collect();
    for (name, found) in names.iter().zip(kernel.contexts(&names).expect("BTF")) {
        let (tracepoint, context) = found.expect("an event");
        let text = tracepoint.format().to_string();
        truth.formats.insert(name.to_string(), vec![text]);
        let name_of_struct = context.struct_name().map(str::to_owned);
        truth.structs.insert(name.to_string(), name_of_struct);
    }
    for (index, (name, field)) in REUSED.iter().enumerate() {
        capture.event(name, COMMON, &[(&format!("int {field}"), 8, 4)]);
        let format = capture.path(name, "format");
        let text = fs::read_to_string(&format).expect("a file");
        let text = text.replace("ID: 7", "ID: 60000");
        fs::write(&format, &text).expect("a file");
        capture.file(name, "id", "60000\n");
        fs::rename(
            format.parent().expect("a directory"),
            spare.path().join(index.to_string()),
        )
        .expect("it is moved");
        truth
            .formats
            .entry((*name).to_owned())
            .or_default()
            .push(text);
        truth.structs.insert((*name).to_owned(), None);
        names.push(name.parse().expect("a name"));
    }
    names.dedup();
    fs::write(&listed, &all).expect("a file");

    // What the first kernel has read the second does not know.
    let kernel = capture.kernel();
    let (met, is_over) = (Met::default(), AtomicBool::new(false));
    let start = Instant::now();
    let mut rounds = 0;
    thread::scope(|scope| {
        // However it ends, the threads do.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let over = Over(&is_over);
        for number in 0..20 {
            let (kernel, names, truth, met, is_over) = (&kernel, &names, &truth, &met, &is_over);
            scope.spawn(move || {
                let mut turn = number;
                while !is_over.load(Ordering::Relaxed) {
                    ask(kernel, names, turn, truth, met);
                    turn += 11;
                }
            });
        }
        let enough = |count: &AtomicUsize, least| count.load(Ordering::Relaxed) >= least;
        while rounds < 200
            || !(enough(&met.rounds, 400)
                && enough(&met.found, 50)
                && enough(&met.gone, 50)
                && enough(&met.by_id, 50))
        {
            assert!(
                start.elapsed() < Duration::from_secs(120),
                "they met too little"
            );
            change(capture.root(), spare.path(), rounds, &all);
            rounds += 1;
            thread::sleep(Duration::from_millis(2));
        }
        drop(over);
    });
    println!(
        "{rounds} changes, {} rounds of questions, {} events found, {} gone, {} without BTF, {} by id",
        met.rounds.into_inner(),
        met.found.into_inner(),
        met.gone.into_inner(),
        met.without_btf.into_inner(),
        met.by_id.into_inner(),
    );

    // When all is as it was, so are the answers.
    change(capture.root(), spare.path(), 0, &all);
    for (name, found) in names.iter().zip(kernel.contexts(&names).expect("BTF")) {
        if name.category() != "reused" {
            let (tracepoint, context) = found.expect("an event");
            truth.check(&tracepoint);
            assert_eq!(
                context.struct_name(),
                truth.structs[name.as_str()].as_deref()
            );
        }
    }
}

/// A format file that has lost its end is an error, or has all its fields.
#[test]
fn files_that_lost_their_end() {
    let mut capture = Capture::new();
    let name = "sched:sched_switch";
    let from = support::fixture("6.18.15-x86_64").join("tracing/events/sched/sched_switch");
    let whole = fs::read_to_string(from.join("format")).expect("a file");
    capture.file(name, "format", &whole).list(name);
    // Of a kernel without BTF it would be a file of Linux 3.10.
    capture.btf("vmlinux", &BtfWriter::new(false).bytes());
    let read = |text: &str| {
        fs::write(capture.path(name, "format"), text).expect("a file");
        let kernel = capture.kernel();
        kernel
            .tracepoint(name)
            .map(|found| found.format().to_string())
    };
    let mut taken = 0;
    for end in 0..whole.len() {
        match read(&whole[..end]) {
            Ok(text) => {
                // Behind the fields there is only what is printed.
                assert_eq!(text, format!("{}\n", whole[..end].trim_end_matches('\n')));
                assert!(end > whole.find("print fmt: ").expect("it is there"));
                taken += 1;
            }
            Err(error) => assert!(
                matches!(error, Error::Format { .. } | Error::OtherEvent { .. }),
                "{error}"
            ),
        }
    }
    assert!(taken < whole.len() / 2, "{taken}");

    fs::write(capture.path(name, "format"), &whole).expect("a file");
    for id in ["", "\n", "x", "-1", "4294967296"] {
        capture.file(name, "id", id);
        let kernel = capture
            .kernel()
            .with_byte_order(tracepoints::ByteOrder::Little);
        match kernel.events_by_id() {
            Err(Error::NoPageLayout { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    // An empty list has no events, and their files are still there to be asked for.
    fs::write(capture.root().join("tracing/available_events"), "").expect("a file");
    let kernel = capture.kernel();
    assert!(kernel.events().expect("a list").names().is_empty());
    assert!(
        !kernel
            .tracepoint(name)
            .expect("an event")
            .is_listed()
            .expect("a list")
    );
}

/// A driver is unloaded, and another with an event of the same name and class loaded.
#[test]
fn an_event_moves_to_another_module() {
    let mut vmlinux = BtfWriter::new(false);
    let int = vmlinux.int("int", 4, true);
    let (char, short) = (
        vmlinux.int("char", 1, false),
        vmlinux.int("short", 2, false),
    );
    let members = [
        ("type", short, 0),
        ("flags", char, 2),
        ("preempt_count", char, 3),
        ("pid", int, 4),
    ];
    let entry = vmlinux.structure("trace_entry", 8, &members);
    let data = vmlinux.array(char, 0);
    let module = || {
        let mut module = BtfWriter::split(&vmlinux);
        module.event_class(
            "x",
            12,
            &[("ent", entry, 0), ("value", int, 8), ("__data", data, 12)],
            &[int],
        );
        module.event("x", &[int]);
        module.bytes()
    };
    let mut capture = Capture::new();
    capture.event("a:x", COMMON, &[("int value", 8, 4)]);
    capture
        .btf("vmlinux", &vmlinux.bytes())
        .btf("a_driver", &module());
    let kernel = capture.kernel();
    let home = |name: &str| {
        let context = kernel.tracepoint(name).expect("an event").context();
        context.expect("a context").home().map(str::to_owned)
    };
    assert_eq!(home("a:x").as_deref(), Some("a_driver"));
    fs::remove_file(capture.root().join("btf/a_driver")).expect("a file");
    let _ = fs::remove_dir_all(capture.root().join("tracing/events/a"));
    capture
        .event("b:x", COMMON, &[("int value", 8, 4)])
        .btf("b_driver", &module());
    assert_eq!(home("b:x").as_deref(), Some("b_driver"));
}

/// A captured kernel's BTF is read, not mapped: what is done to the file later does no
/// harm.
#[test]
fn btf_that_shrinks_underneath() {
    let capture = copy("6.18.15-x86_64");
    let kernel = capture.kernel();
    let names = kernel.event_directories().expect("directories");
    let names = names.names();
    let answers = || -> Vec<String> {
        let found = kernel.contexts(names).expect("BTF");
        let text = |found: Result<(Tracepoint, Context), Error>| {
            let (tracepoint, context) = found.expect("an event");
            let layout = context.layout().expect("a layout");
            format!(
                "{} {context:?} {layout:?} {:?}",
                tracepoint.name(),
                tracepoint.raw()
            )
        };
        found.map(text).collect()
    };
    let before = answers();
    let objects: Vec<_> = fs::read_dir(capture.root().join("btf"))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert!(objects.len() > 5);
    if let Ok(maps) = fs::read_to_string("/proc/self/maps") {
        let root = capture.root().to_str().expect("UTF-8");
        assert!(!maps.contains(root), "{maps}");
    }
    for object in &objects {
        fs::File::options()
            .write(true)
            .truncate(true)
            .open(object)
            .expect("it is emptied");
    }
    assert_eq!(answers(), before);
    for object in &objects {
        fs::write(object, [0xff; 1 << 16]).expect("it is overwritten");
    }
    assert_eq!(answers(), before);
}

/// In a mount namespace of the test's own, tracefs goes and comes back.
#[cfg(target_os = "linux")]
#[test]
fn tracefs_mounted_anew() {
    // Mounts of the machine's own are left alone.
    if !live::is_inside() && Kernel::live().is_ok() {
        return support::skip("tracefs is mounted here");
    }
    let Some(kernel) = live::live() else {
        return;
    };
    let root = kernel.tracefs().to_owned();
    let run = |program: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(program);
        let status = command.args(arguments).arg(&root).status();
        assert!(status.expect(program).success(), "{program}");
    };
    let unmount = || run("umount", &["-l"]);
    let mount = || run("mount", &["-t", "tracefs", "tracefs"]);
    let names: Vec<EventName> = ["sched:sched_switch", "sched:sched_process_exec"]
        .map(|name| name.parse().expect("a name"))
        .to_vec();
    let answers = |kernel: &Kernel| -> Vec<String> {
        let found = kernel.contexts(&names).expect("BTF");
        let text = |found: Result<(Tracepoint, Context), Error>| {
            let (tracepoint, context) = found.expect("an event");
            format!("{:?} {context:?}", tracepoint.format())
        };
        found.map(text).collect()
    };
    let before = answers(&kernel);
    let tracepoint = kernel.tracepoint(&names[0]).expect("an event");

    unmount();
    let is_said =
        |error: Option<Error>| assert!(matches!(error, Some(Error::NotMounted)), "{error:?}");
    is_said(kernel.events().err());
    is_said(kernel.event_directories().err());
    is_said(kernel.tracepoint(&names[0]).err());
    is_said(kernel.tracepoint("no:event").err());
    is_said(kernel.events_by_id().err());
    for found in kernel.contexts(&names).expect("BTF") {
        is_said(found.err());
    }
    is_said(Kernel::live().err());
    #[cfg(feature = "probe")]
    {
        use tracepoints::probe::{Probe, ProbeError};

        let error = Probe::builder([&tracepoint])
            .attach()
            .expect_err("no tracefs");
        assert!(
            matches!(error, ProbeError::Kernel(Error::NotMounted)),
            "{error}"
        );
    }

    mount();
    assert_eq!(answers(&kernel), before);
    assert!(tracepoint.context().is_ok());

    // And while it is being read.
    let is_over = AtomicBool::new(false);
    let (read, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    match kernel.tracepoint(&names[0]) {
                        Ok(found) => {
                            assert_eq!(found.format(), tracepoint.format());
                            add(&read);
                        }
                        // Mounted again before it was asked why there is no file.
                        Err(Error::NotMounted | Error::EventGone { .. }) => add(&failed),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        let start = Instant::now();
        let few = |count: &AtomicUsize| count.load(Ordering::Relaxed) < 100;
        while (few(&read) || few(&failed)) && start.elapsed() < Duration::from_secs(60) {
            unmount();
            thread::sleep(Duration::from_millis(5));
            mount();
            thread::sleep(Duration::from_millis(20));
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(!few(&read) && !few(&failed));
    });
    assert_eq!(answers(&kernel), before);
}
