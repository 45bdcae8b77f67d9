//! Captures of a kernel whose modules come and go while it is captured.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::copy;
use tracepoints::{Error, EventName, Evidence, Kernel};

/// A module with events and BTF.
const MODULE: &str = "xfs";

/// Loads the module or unloads it, in the order of the kernel: its BTF comes first and goes
/// last, its events are listed and get their files one by one.
fn change(root: &Path, spare: &Path, lists: &[String; 2], is_loaded: bool) {
    let (events, btf) = (
        root.join("tracing/events").join(MODULE),
        root.join("btf").join(MODULE),
    );
    let (spare_events, spare_btf) = (spare.join("events"), spare.join("btf"));
    let list = || {
        let fresh = spare.join("available_events");
        fs::write(&fresh, &lists[usize::from(is_loaded)]).expect("a file");
        fs::rename(fresh, root.join("tracing/available_events")).expect("it is moved");
    };
    let (from, to) = match is_loaded {
        true => (&spare_events, &events),
        false => (&events, &spare_events),
    };
    if is_loaded {
        fs::rename(&spare_btf, &btf).expect("it is moved");
        list();
    }
    fs::create_dir_all(to).expect("a directory");
    let mut names: Vec<_> = fs::read_dir(from)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    for name in names {
        fs::rename(from.join(&name), to.join(&name)).expect("it is moved");
    }
    if !is_loaded {
        fs::remove_dir(&events).expect("it is empty");
        list();
        fs::rename(&btf, &spare_btf).expect("it is moved");
    }
}

/// The name of an event's struct, where BTF tells it.
fn struct_of(kernel: &Kernel, name: &EventName) -> Result<Option<String>, Error> {
    let context = kernel.tracepoint(name)?.context()?;
    assert!(!matches!(context.evidence(), Evidence::Ambiguous), "{name}");
    Ok(context.struct_name().map(str::to_owned))
}

/// What a capture lists it has, and no event gets another's struct. What came or went while
/// it was read is said to be left out.
#[test]
fn a_capture_has_what_it_lists() {
    let (capture, spare) = (
        copy("6.18.15-x86_64"),
        tempfile::tempdir().expect("a directory"),
    );
    let list = capture.root().join("tracing/available_events");
    let all = fs::read_to_string(&list).expect("a list");
    let prefix = format!("{MODULE}:");
    let without: String = all
        .split_inclusive('\n')
        .filter(|line| !line.starts_with(&prefix))
        .collect();
    assert!(without.len() < all.len());
    let lists = [without, all];
    // A line for each class would decide what is to be decided by BTF.
    let _ = fs::remove_file(capture.root().join("tracing/classes"));
    let kernel = capture.kernel();
    let names: Vec<EventName> = kernel
        .event_directories()
        .expect("events")
        .into_iter()
        .collect();
    let known = |name: &EventName| {
        let context = kernel.tracepoint(name).ok()?.context().ok()?;
        (!matches!(context.evidence(), Evidence::Ambiguous)).then_some(())?;
        Some((name.clone(), context.struct_name().map(str::to_owned)))
    };
    let truth: Vec<(EventName, Option<String>)> = names.iter().filter_map(known).collect();
    assert!(truth.len() > 50);

    let is_over = AtomicBool::new(false);
    let (mut captures, mut changed, mut whole) = (0, 0, 0);
    thread::scope(|scope| {
        let (is_over, root, lists) = (&is_over, capture.root(), &lists);
        let spare = spare.path();
        scope.spawn(move || {
            let mut is_loaded = true;
            // Breaks of different lengths: captures meet every step.
            for pause in (0..).map(|round| round % 40) {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                is_loaded = !is_loaded;
                change(root, spare, lists, is_loaded);
                thread::sleep(Duration::from_millis(pause));
            }
        });
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let over = Over(is_over);
        let begun = Instant::now();
        while captures < 30 || changed == 0 || whole == 0 {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "{captures} {changed} {whole}"
            );
            let taken = Kernel::at(root)
                .expect("a kernel")
                .capture(false)
                .expect("a capture");
            let dir = tempfile::tempdir().expect("a directory");
            for (path, bytes) in taken.files() {
                let path = dir.path().join(path);
                fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
                fs::write(path, bytes).expect("a file");
            }
            let kernel = Kernel::at(dir.path()).expect("a root");
            for name in &kernel.events().expect("a list") {
                kernel
                    .tracepoint(name)
                    .expect("a listed event has its files");
            }
            for (name, expected) in &truth {
                match struct_of(&kernel, name) {
                    Ok(Some(found)) => assert_eq!(Some(&found), expected.as_ref(), "{name}"),
                    // Without its module's BTF, or without the event.
                    Ok(None) | Err(Error::NoSuchEvent { .. }) => {
                        assert!(name.category() == MODULE || expected.is_none(), "{name}");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            captures += 1;
            match taken.left_out() {
                [] => whole += 1,
                lines => {
                    let named = |line: &String| line.contains(MODULE);
                    assert!(lines.iter().all(named), "{lines:?}");
                    changed += 1;
                }
            }
        }
        drop(over);
    });
    println!("{captures} captures, {whole} whole, {changed} of a kernel that never stopped");
}
