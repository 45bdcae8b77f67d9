//! Many threads use one `Kernel` while its files change.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{add, copy};
use crate::support::capture::{COMMON, Capture};
use tracepoints::{Context, Error, EventName, Evidence, Kernel, Tracepoint};

/// The right answers for each event.
struct Truth {
    /// All texts its format file has during the test.
    formats: HashMap<String, Vec<String>>,
    structs: HashMap<String, Option<String>>,
}

impl Truth {
    /// The answers of a kernel that does not change.
    fn of(kernel: &Kernel, names: &[EventName]) -> Self {
        let mut truth = Self {
            formats: HashMap::new(),
            structs: HashMap::new(),
        };
        for (name, found) in names.iter().zip(kernel.contexts(names).expect("BTF")) {
            let (tracepoint, context) = found.expect("an event");
            let text = tracepoint.format().to_string();
            truth.formats.insert(name.to_string(), vec![text]);
            let name_of_struct = context.struct_name().map(str::to_owned);
            truth.structs.insert(name.to_string(), name_of_struct);
        }
        truth
    }

    /// Makes the events of [`REUSED`], moves them to `spare`, and adds their answers.
    fn add_reused(&mut self, capture: &mut Capture, spare: &Path) {
        for (index, (name, field)) in REUSED.iter().enumerate() {
            capture.event(name, COMMON, &[(&format!("int {field}"), 8, 4)]);
            let format = capture.path(name, "format");
            let text = fs::read_to_string(&format).expect("a file");
            let text = text.replace("ID: 7", "ID: 60000");
            fs::write(&format, &text).expect("a file");
            capture.file(name, "id", "60000\n");
            let directory = format.parent().expect("a directory");
            fs::rename(directory, spare.join(index.to_string())).expect("it is moved");
            let formats = self.formats.entry((*name).to_owned());
            formats.or_default().push(text);
            self.structs.insert((*name).to_owned(), None);
        }
    }

    fn check(&self, tracepoint: &Tracepoint) {
        let name = tracepoint.name().as_str();
        let text = tracepoint.format().to_string();
        assert!(self.formats[name].contains(&text), "{name}: {text}");
        assert_eq!(tracepoint.id(), tracepoint.format().id());
    }

    fn check_context(&self, name: &EventName, context: &Context) {
        // Without its module's BTF the name of an event's struct is not known.
        if !matches!(context.evidence(), Evidence::Format { .. }) {
            let expected = &self.structs[name.as_str()];
            assert_eq!(context.struct_name(), expected.as_deref(), "{name}");
        }
    }
}

/// Counts of the threads' results.
#[derive(Default)]
struct Met {
    rounds: AtomicUsize,
    found: AtomicUsize,
    gone: AtomicUsize,
    without_btf: AtomicUsize,
    by_id: AtomicUsize,
}

/// The modules that come and go.
const MODULES: [&str; 3] = ["xfs", "nbd", "kvm"];

/// Events that share one id. One of them exists at a time.
const REUSED: [(&str, &str); 4] = [
    ("reused:one", "a"),
    ("reused:two", "b"),
    ("reused:again", "c"),
    ("reused:again", "d"),
];

/// Replaces the event of [`REUSED`] by the next, and removes the modules or puts them
/// back.
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

/// One thread's next step.
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
                        assert_eq!(format.id(), Some(u32::from(id)));
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

    let kernel = capture.kernel();
    let names = kernel.event_directories().expect("directories");
    let mut names: Vec<EventName> = names.into_iter().collect();
    let mut truth = Truth::of(&kernel, &names);
    truth.add_reused(&mut capture, spare.path());
    names.extend(REUSED.map(|(name, _)| name.parse().expect("a name")));
    names.dedup();
    fs::write(&listed, &all).expect("a file");

    // A second `Kernel`, which has read nothing yet.
    let kernel = capture.kernel();
    let (met, is_over) = (Met::default(), AtomicBool::new(false));
    let start = Instant::now();
    let mut rounds = 0;
    thread::scope(|scope| {
        // Ends the threads also if this one panics.
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

    // Once everything is as it was, so are the answers.
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
