//! What a captured kernel may hold that no kernel has: each is an error that says
//! so or is left out, within bounds of time and memory.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support;
use crate::support::btf::BtfWriter;
use crate::support::capture::{COMMON, Capture};
use tracepoints::{
    Addresses, BtfError, ByteOrder, Error, EventName, Evidence, FormatReason, Kernel, Machine,
    Record,
};

/// Far more than any of these takes, and far less than what is without end.
const SOON: Duration = Duration::from_secs(20);

/// A kernel with one event.
fn capture() -> Capture {
    let mut capture = Capture::new();
    capture.event("sched:wake", COMMON, &[("int pid", 8, 4)]);
    capture
}

fn tracepoint_error(capture: &Capture) -> Error {
    let kernel = capture.kernel();
    kernel
        .tracepoint("sched:wake")
        .map(drop)
        .expect_err("no format")
}

/// A file that takes no space on the disk.
fn sparse(path: &Path, size: u64) {
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    let file = File::create(path).expect("a file");
    file.set_len(size).expect("a size");
}

fn shows_no_control(error: &Error) {
    let text = error.to_string();
    assert!(!text.contains(char::is_control), "{text:?}");
}

#[test]
fn files_of_two_gigabytes() {
    const SIZE: u64 = 2 << 30;
    let start = Instant::now();
    let events = capture();
    for file in ["tracing/available_events", "btf/vmlinux", "btf/xfs"] {
        sparse(&events.root().join(file), SIZE);
    }
    let kernel = events.kernel();
    assert!(matches!(kernel.events(), Err(Error::TooLarge { .. })));
    let named = capture();
    for file in ["format", "id", "btf_ids"] {
        sparse(&named.path("sched:wake", file), SIZE);
    }
    for file in ["header_page", "header_event"] {
        sparse(&named.root().join("tracing/events").join(file), SIZE);
    }
    sparse(&named.root().join("tracing/printk_formats"), SIZE);
    sparse(&named.root().join("btf/vmlinux"), SIZE);
    let kernel = named.kernel();
    let too_large = |result: Result<(), Error>| {
        assert!(matches!(result, Err(Error::TooLarge { .. })), "{result:?}");
    };
    too_large(kernel.tracepoint("sched:wake").map(drop));
    too_large(kernel.btf_objects().map(drop));
    too_large(kernel.page_layout().map(drop));
    too_large(kernel.addresses().map(drop));
    let names = kernel
        .events()
        .expect("small")
        .into_iter()
        .collect::<Vec<_>>();
    too_large(kernel.contexts(&names).map(drop));
    assert!(start.elapsed() < SOON);
}

#[test]
fn small_files_that_are_large() {
    const SIZE: u64 = 2 << 30;
    let mut capture = capture();
    let header = "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\
        \tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
        \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\
        \tfield: char data;\toffset:16;\tsize:4080;\tsigned:1;\n";
    fs::write(capture.root().join("tracing/events/header_page"), header).expect("a file");
    let native = |capture: &Capture| capture.kernel().with_byte_order(ByteOrder::Little);
    native(&capture).events_by_id().expect("by their formats");
    sparse(&capture.path("sched:wake", "id"), SIZE);
    let kernel = native(&capture);
    // One event's id is no matter to the others' records.
    let events = kernel.events_by_id().expect("the others");
    let result = events.event(7).map(drop);
    assert!(
        matches!(result, Err(Error::UnknownEventId { id: 7 })),
        "{result:?}"
    );
    // What only chooses between classes leaves the choice open.
    sparse(&capture.path("sched:wake", "btf_ids"), SIZE);
    capture.btf("vmlinux", &many_classes(2).bytes());
    let context = capture.context("sched:wake");
    assert_eq!(context.evidence(), &Evidence::Ambiguous);
}

#[test]
fn more_enumerators_than_any_kernel_has() {
    let text = |others: usize| {
        let mut capture = capture();
        let format = fs::read_to_string(capture.path("sched:wake", "format")).expect("a file");
        let format = format.replace("print fmt: \"\"", "print fmt: \"%d\", WAKE_UP");
        capture.file("sched:wake", "format", format);
        let mut btf = BtfWriter::new(false);
        btf.enumeration("wakes", &[("WAKE_UP", 5)]);
        let mut left = others;
        while left > 0 {
            let count = left.min(65_535);
            btf.enumeration("many", &vec![("SAME", 1); count]);
            left -= count;
        }
        capture.btf("vmlinux", &btf.bytes());
        let kernel = capture.kernel();
        let event = kernel.tracepoint("sched:wake").expect("an event");
        let machine = Machine::new(ByteOrder::Little, true);
        let renderer = kernel
            .renderer(event.name(), event.format(), machine)
            .expect("C");
        let record = Record::new(event.format(), &[0; 12], machine);
        let mut text = String::new();
        renderer.render(&record, &Addresses::new(), &mut text);
        text
    };
    assert_eq!(text((1 << 20) - 1), "5");
    assert_eq!(text(1 << 20), "<WAKE_UP>");
}

#[test]
fn more_types_about_tracepoints_than_any_kernel_has() {
    let evidence = |count: usize| {
        let mut btf = BtfWriter::new(false);
        let int = btf.int("int", 4, true);
        for number in 0..count {
            btf.typedef(&format!("btf_trace_{number}"), int);
        }
        let mut capture = capture();
        capture.btf("vmlinux", &btf.bytes());
        let kernel = capture.kernel();
        let event = kernel.tracepoint("sched:wake").expect("an event");
        event.context().map(|context| context.evidence().clone())
    };
    assert_eq!(
        evidence(1 << 16).expect("a context"),
        Evidence::Format(FormatReason::NoModuleBtf)
    );
    let error = evidence((1 << 16) + 1).expect_err("too many");
    let Error::Btf { source, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(source, BtfError::TooManyTracepoints { limit: 1 << 16 });
}

#[test]
fn a_long_of_no_machine() {
    for (size, expected) in [(4, None), (8, None), (2, Some(2)), (1 << 28, Some(1 << 28))] {
        let mut btf = BtfWriter::new(false);
        btf.int("long int", size, true);
        let mut capture = capture();
        capture.btf("vmlinux", &btf.bytes());
        let kernel = capture.kernel();
        let context = kernel.tracepoint("sched:wake").expect("an event").context();
        let found = match context {
            Ok(_) => None,
            Err(Error::Btf {
                source: BtfError::LongSize { size },
                ..
            }) => Some(size),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(found, expected);
    }
}

/// Each was compared with all others of the name.
#[test]
fn one_name_in_many_categories() {
    let mut btf = BtfWriter::new(false);
    let int = btf.int("int", 4, true);
    btf.event("wake", &[int]);
    let mut capture = capture();
    capture.btf("vmlinux", &btf.bytes());
    let list = |count: usize| {
        let mut lines: String = (0..count)
            .map(|number| format!("c{number}:wake\n"))
            .collect();
        lines += "sched:wake\n";
        fs::write(capture.root().join("tracing/available_events"), lines).expect("a file");
    };
    // Few enough to look at each: none of them is there.
    list(64);
    let context = capture.context("sched:wake");
    assert_eq!(
        *context.evidence(),
        Evidence::Format(FormatReason::NotInHome {
            home: "vmlinux".to_owned()
        })
    );
    list(65);
    let context = capture.context("sched:wake");
    assert_eq!(
        *context.evidence(),
        Evidence::Format(FormatReason::SharedName)
    );

    let start = Instant::now();
    list(300_000);
    let kernel = capture.kernel();
    let names: Vec<EventName> = kernel.events().expect("events").into_iter().collect();
    assert_eq!(names.len(), 300_001);
    let found = kernel.contexts(&names).expect("contexts");
    assert_eq!(found.filter(Result::is_ok).count(), 1);
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn of_many_modules_that_cannot_be_read_some_are_named() {
    let mut capture = capture();
    let vmlinux = BtfWriter::new(false);
    capture.btf("vmlinux", &vmlinux.bytes());
    for number in 0..20 {
        capture.btf(&format!("m{number:02}"), b"");
    }
    let context = capture.context("sched:wake");
    let Evidence::Format(FormatReason::UnreadableModuleBtf { modules }) = context.evidence() else {
        panic!("{:?}", context.evidence());
    };
    assert_eq!(modules.len(), 17);
    assert!(modules[15].contains("m15"), "{modules:?}");
    assert_eq!(modules[16], "and 4 more");
}

/// What is wrong with it does not change; to read it took a tenth of a second.
#[test]
fn a_module_that_cannot_be_read_is_read_once() {
    let mut capture = capture();
    capture
        .btf("vmlinux", &BtfWriter::new(false).bytes())
        .btf("m", b"not BTF");
    let path = capture.root().join("btf/m");
    let file = File::options().write(true).open(&path).expect("a file");
    file.set_len(60 << 20).expect("a size");
    let kernel = capture.kernel();
    let event = kernel.tracepoint("sched:wake").expect("an event");
    let start = Instant::now();
    for _ in 0..2_000 {
        let context = event.context().expect("a context");
        let Evidence::Format(FormatReason::UnreadableModuleBtf { .. }) = context.evidence() else {
            panic!("{:?}", context.evidence());
        };
    }
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn objects_of_btf_that_together_are_too_large() {
    let mut vmlinux = BtfWriter::new(false);
    vmlinux.int("int", 4, true);
    let mut capture = capture();
    capture.btf("vmlinux", &vmlinux.bytes());
    // Sound, but for zeros behind it: what may be is 64 MiB each, 256 in all.
    for number in 0..8 {
        let name = format!("m{number}");
        capture.btf(&name, &BtfWriter::split(&vmlinux).bytes());
        let path = capture.root().join("btf").join(&name);
        let file = File::options().write(true).open(path).expect("a file");
        file.set_len(60 << 20).expect("a size");
    }
    let context = capture.context("sched:wake");
    let Evidence::Format(FormatReason::UnreadableModuleBtf { modules }) = context.evidence() else {
        panic!("{:?}", context.evidence());
    };
    assert_eq!(modules.len(), 4);
    assert!(
        modules.iter().all(|why| why.contains("larger than")),
        "{modules:?}"
    );
}

#[cfg(unix)]
mod no_files {
    use super::*;

    use std::os::unix::fs::symlink;

    fn replace(path: &Path, make: impl FnOnce(&Path)) {
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        make(path);
    }

    fn fifo(path: &Path) {
        let status = std::process::Command::new("mkfifo").arg(path).status();
        assert!(status.expect("mkfifo").success());
    }

    /// Nobody writes to it, so that who waits for it waits without end.
    #[test]
    fn a_fifo() {
        let start = Instant::now();
        let capture = capture();
        replace(&capture.path("sched:wake", "format"), fifo);
        let error = tracepoint_error(&capture);
        assert!(matches!(error, Error::NotAFile { .. }), "{error}");
        let root = capture.root();
        replace(&root.join("tracing/available_events"), fifo);
        let error = capture.kernel().events().expect_err("a FIFO");
        assert!(matches!(error, Error::NotAFile { .. }), "{error}");
        replace(&root.join("btf/vmlinux"), fifo);
        let error = capture.kernel().btf_objects().expect_err("a FIFO");
        assert!(matches!(error, Error::NotAFile { .. }), "{error}");
        let error = capture.kernel().machine().expect_err("a FIFO");
        assert!(matches!(error, Error::NotAFile { .. }), "{error}");
        assert!(start.elapsed() < SOON);
    }

    /// Opening one can do something already. Of this number there is none, so that
    /// opening it would fail otherwise.
    #[test]
    fn a_device() {
        let capture = capture();
        let format = capture.path("sched:wake", "format");
        fs::remove_file(&format).expect("a file");
        let made = std::process::Command::new("mknod")
            .arg(&format)
            .args(["c", "511", "77"])
            .output();
        if !made.is_ok_and(|made| made.status.success()) {
            return support::skip("making a device takes root");
        }
        let error = tracepoint_error(&capture);
        assert!(matches!(error, Error::NotAFile { .. }), "{error}");
        let file = std::process::Command::new("cat").arg(&format).output();
        assert!(!file.expect("cat").status.success());
    }

    /// What is wrong with one event is no matter to the others' records.
    #[test]
    fn an_id_that_is_no_file() {
        let mut capture = capture();
        capture
            .event("sched:other", COMMON, &[("int pid", 8, 4)])
            .file("sched:wake", "id", "7\n")
            .btf("vmlinux", &BtfWriter::new(false).bytes());
        let page = "tracing/events/header_page";
        let fixture = Path::new("tests/fixtures/6.18.15-x86_64").join(page);
        fs::copy(fixture, capture.root().join(page)).expect("a file");
        let id = capture.path("sched:other", "id");
        let is_read = || {
            let kernel = capture.kernel();
            let events = kernel.events_by_id().expect("events");
            let (name, _) = events.event(7).expect("an event");
            assert_eq!(name.as_str(), "sched:wake");
        };
        for make in [
            fifo as fn(&Path),
            |path| symlink("/etc/hostname", path).expect("a link"),
            |path| fs::create_dir(path).expect("a directory"),
            |path| sparse(path, 1 << 31),
        ] {
            replace(&id, make);
            is_read();
            replace(&capture.path("sched:other", "format"), make);
            is_read();
        }
    }

    #[test]
    fn saved_names_of_processes() {
        let capture = capture();
        let file = capture.root().join("tracing/saved_cmdlines");
        let kernel = capture.kernel();
        assert_eq!(kernel.task_names().expect("none").of(1), "<...>");
        fs::write(&file, "1 init\n").expect("a file");
        assert_eq!(kernel.task_names().expect("names").of(1), "init");
        replace(&file, fifo);
        let error = kernel.task_names().expect_err("a FIFO");
        assert!(matches!(error, Error::NotAFile { .. }), "{error}");
        replace(&file, |path| symlink("/etc/passwd", path).expect("a link"));
        let error = kernel.task_names().expect_err("a link");
        assert!(matches!(error, Error::Link { .. }), "{error}");
        replace(&file, |path| sparse(path, 1 << 31));
        let error = kernel.task_names().expect_err("too large");
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }

    #[test]
    fn a_directory_in_place_of_a_file_and_a_file_of_a_directory() {
        let capture = capture();
        let format = capture.path("sched:wake", "format");
        replace(&format, |path| fs::create_dir(path).expect("a directory"));
        assert!(matches!(tracepoint_error(&capture), Error::NotAFile { .. }));
        let event = format.parent().expect("a directory");
        replace(event, |path| {
            fs::write(path, "no directory").expect("a file")
        });
        assert!(matches!(
            tracepoint_error(&capture),
            Error::EventGone { .. }
        ));
    }

    /// Whatever on the way to a file is a link, it is not followed.
    #[test]
    fn links() {
        let elsewhere = capture();
        elsewhere
            .kernel()
            .tracepoint("sched:wake")
            .expect("an event");
        for link in [
            "tracing",
            "tracing/events",
            "tracing/events/sched",
            "tracing/events/sched/wake",
            "tracing/events/sched/wake/format",
        ] {
            let capture = capture();
            let target = elsewhere.root().join(link);
            replace(&capture.root().join(link), |path| {
                symlink(&target, path).expect("a link");
            });
            let error = Kernel::at(capture.root()).and_then(|kernel| {
                let name = kernel.events()?.names()[0].clone();
                let one = kernel.tracepoint(&name).map(drop);
                let mut all = kernel.contexts(&[name])?;
                let all = all.next().expect("one").map(drop);
                assert_eq!(one.is_err(), all.is_err());
                one
            });
            let error = error.expect_err(link);
            assert!(matches!(error, Error::Link { .. }), "{link}: {error}");
        }
    }

    #[test]
    fn links_to_btf() {
        let mut elsewhere = capture();
        elsewhere.btf("vmlinux", &BtfWriter::new(false).bytes());
        for link in ["btf", "btf/vmlinux"] {
            let capture = capture();
            let target = elsewhere.root().join(link);
            replace(&capture.root().join(link), |path| {
                symlink(&target, path).expect("a link");
            });
            for result in [
                capture.kernel().btf_objects().map(drop),
                capture
                    .kernel()
                    .tracepoint("sched:wake")
                    .and_then(|event| event.context())
                    .map(drop),
                capture.kernel().machine().map(drop),
            ] {
                assert!(
                    matches!(result, Err(Error::Link { .. })),
                    "{link}: {result:?}"
                );
            }
        }
    }

    /// Without `available_events` the directories are walked.
    #[test]
    fn links_that_lead_in_circles() {
        let start = Instant::now();
        let capture = capture();
        let events = capture.root().join("tracing/events");
        fs::remove_file(capture.root().join("tracing/available_events")).expect("a file");
        symlink(".", events.join("self")).expect("a link");
        symlink("../..", events.join("sched/up")).expect("a link");
        symlink("loop", events.join("loop")).expect("a link");
        let names = capture.kernel().events().expect("events");
        assert_eq!(names.names().len(), 1);
        let error = capture
            .kernel()
            .tracepoint("self:sched")
            .expect_err("a link");
        assert!(matches!(error, Error::Link { .. }), "{error}");
        assert!(start.elapsed() < SOON);
    }

    /// The root itself is what the user named, links and all.
    #[test]
    fn a_link_to_the_root_is_the_users() {
        let capture = capture();
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("link");
        symlink(capture.root(), &root).expect("a link");
        let kernel = Kernel::at(&root).expect("a kernel");
        kernel.tracepoint("sched:wake").expect("an event");
    }

    #[test]
    fn names_of_files_are_never_printed_raw() {
        let capture = capture();
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("\u{1b}[2Jroot\u{9b}1m");
        symlink(capture.root(), &root).expect("a link");
        fs::remove_dir_all(
            capture
                .path("sched:wake", "format")
                .parent()
                .expect("there"),
        )
        .expect("a directory");
        shows_no_control(&Kernel::at(root.join("nowhere")).expect_err("nothing there"));
        let kernel = Kernel::at(&root).expect("a kernel");
        shows_no_control(&kernel.tracepoint("sched:wake").expect_err("gone"));
        shows_no_control(&kernel.btf_objects().expect_err("no BTF"));
        fs::create_dir_all(capture.root().join("btf")).expect("a directory");
        fs::write(root.join("btf/vmlinux"), "no BTF").expect("a file");
        shows_no_control(&kernel.btf_objects().expect_err("no BTF"));
    }
}

#[test]
fn paths_that_lead_out() {
    let capture = capture();
    fs::create_dir_all(capture.root().join("etc/passwd")).expect("a directory");
    let kernel = capture.kernel();
    for name in [
        "..:etc",
        "../..:etc/passwd",
        "sched:../../etc",
        "sched:..",
        "/etc:passwd",
        "a/../b:c",
    ] {
        let error = kernel.tracepoint(name).expect_err(name);
        assert!(matches!(error, Error::Name(_)), "{name}: {error}");
    }
    fs::write(
        capture.root().join("tracing/available_events"),
        "..:etc\n../..:etc/passwd\nsched:../../etc\nsched:wake\n",
    )
    .expect("a file");
    let events = kernel.events().expect("events");
    assert_eq!(events.names().len(), 1);
    assert_eq!(events.rejected().len(), 3);
}

#[test]
fn control_characters() {
    let capture = capture();
    let listed = "\u{1b}]0;title\u{7}:x\nsched:\u{9b}31m\nsched:wake\n";
    fs::write(capture.root().join("tracing/available_events"), listed).expect("a file");
    let kernel = capture.kernel();
    for line in kernel.events().expect("events").rejected() {
        assert!(!line.text.contains(char::is_control), "{line:?}");
    }
    let path = capture.path("sched:wake", "format");
    let format = fs::read_to_string(&path).expect("a format file");
    for (from, to) in [
        ("name: wake", "name: \u{1b}[31mwake"),
        ("int pid", "int \u{1b}[31mpid"),
        ("int pid", "int\u{9b}31m pid"),
        ("print fmt: \"", "print fmt: \"\u{1b}[31m"),
        ("ID: 7", "ID: 7\u{8}8"),
    ] {
        fs::write(&path, format.replace(from, to)).expect("a file");
        let error = kernel.tracepoint("sched:wake").expect_err(to);
        assert!(matches!(error, Error::Format { .. }), "{error}");
        shows_no_control(&error);
    }
    fs::write(&path, format.replace("name: wake", "name: \u{e9}vil\"")).expect("a file");
    let error = kernel.tracepoint("sched:wake").expect_err("another's");
    assert!(matches!(error, Error::OtherEvent { .. }), "{error}");
    shows_no_control(&error);
    for name in ["int\u{1b}[2J", "trace_event_raw_\u{9b}31m", "x\u{7f}"] {
        let mut btf = BtfWriter::new(false);
        btf.structure(name, 4, &[]);
        let mut capture = self::capture();
        capture.btf("vmlinux", &btf.bytes());
        let error = capture.kernel().btf_objects().expect_err(name);
        assert!(
            matches!(
                error,
                Error::Btf {
                    source: BtfError::Name { .. },
                    ..
                }
            ),
            "{error}"
        );
    }
    let mut btf = BtfWriter::new(false);
    btf.structure("stra\u{df}e", 4, &[]);
    let mut capture = self::capture();
    capture.btf("vmlinux", &btf.bytes());
    capture.kernel().btf_objects().expect("odd, and harmless");
    let vmlinux = BtfWriter::new(false);
    let mut capture = self::capture();
    capture.btf("vmlinux", &vmlinux.bytes());
    if cfg!(unix) {
        capture.btf("\u{1b}[31m", &BtfWriter::split(&vmlinux).bytes());
    }
    assert_eq!(
        capture.kernel().btf_objects().expect("objects"),
        ["vmlinux"]
    );
}

/// A class and an event of it, as often as may be.
fn many_classes(count: u32) -> BtfWriter {
    let mut btf = BtfWriter::new(false);
    let int = btf.int("int", 4, true);
    let short = btf.int("short unsigned int", 2, false);
    let byte = btf.int("unsigned char", 1, false);
    let entry = btf.structure(
        "trace_entry",
        8,
        &[
            ("type", short, 0),
            ("flags", byte, 2),
            ("preempt_count", byte, 3),
            ("pid", int, 4),
        ],
    );
    let prototype = btf.prototype(&[int]);
    let pointer = btf.pointer(prototype);
    btf.typedef("btf_trace_wake", pointer);
    for number in 0..count {
        btf.structure(
            &format!("trace_event_raw_c{number}"),
            12,
            &[("ent", entry, 0), ("pid", int, 8)],
        );
        btf.function(&format!("__bpf_trace_c{number}"), prototype);
        btf.typedef(&format!("btf_trace_e{number}"), pointer);
    }
    btf
}

#[test]
fn more_classes_of_one_layout_than_any_kernel_has() {
    let mut capture = capture();
    capture.btf("vmlinux", &many_classes(256).bytes());
    let context = capture.context("sched:wake");
    assert_eq!(context.evidence(), &Evidence::Ambiguous);
    assert_eq!(context.candidates().len(), 256);
    capture.btf("vmlinux", &many_classes(257).bytes());
    let context = capture.context("sched:wake");
    let home = "vmlinux".to_owned();
    let reason = FormatReason::TooManyClasses { home };
    assert_eq!(context.evidence(), &Evidence::Format(reason));
    assert!(context.candidates().is_empty());
    assert_eq!(context.field_slots().expect("by the format file").len(), 1);
}

#[test]
fn a_million_types() {
    let start = Instant::now();
    let mut capture = capture();
    let mut btf = many_classes(21_000);
    for _ in 0..1_000_000 {
        btf.pointer(0);
    }
    capture.btf("vmlinux", &btf.bytes());
    for number in 0..200 {
        capture.event(&format!("sched:e{number}"), COMMON, &[("int pid", 8, 4)]);
    }
    let made = start.elapsed();
    let start = Instant::now();
    let kernel = capture.kernel();
    let names = kernel
        .events()
        .expect("events")
        .into_iter()
        .collect::<Vec<_>>();
    let contexts = kernel.contexts(&names).expect("sound BTF");
    assert_eq!(contexts.filter(Result::is_ok).count(), 201);
    let took = start.elapsed();
    println!("made in {made:?}, read in {took:?}");
    assert!(took < SOON);
}

#[test]
fn lengths_and_ids_that_lie() {
    let sound = many_classes(2).bytes();
    // The fields of struct btf_header, each with lies.
    for at in [4, 8, 12, 16, 20] {
        for lie in [1, 0x7fff_ffff, 0x8000_0000, u32::MAX - 23, u32::MAX] {
            let mut bytes = sound.clone();
            bytes[at..at + 4].copy_from_slice(&lie.to_le_bytes());
            let mut capture = capture();
            capture.btf("vmlinux", &bytes);
            match capture.kernel().btf_objects() {
                Err(Error::Btf {
                    source:
                        BtfError::Truncated { .. }
                        | BtfError::Strings
                        | BtfError::Kind { .. }
                        | BtfError::Name { .. },
                    ..
                }) => {}
                // A lie this small may leave something sound.
                Ok(_) if lie == 1 => {}
                other => panic!("{at} {lie:#x}: {other:?}"),
            }
        }
    }
    // Every word of the types, as an id outside, a count or an offset.
    let header = 24;
    for at in (header..sound.len().min(header + 600)).step_by(4) {
        for lie in [u32::MAX, 0x7fff_ffff, 0x00ff_ffff, 40_000] {
            let mut bytes = sound.clone();
            bytes[at..at + 4].copy_from_slice(&lie.to_le_bytes());
            let mut capture = capture();
            capture.btf("vmlinux", &bytes);
            let kernel = capture.kernel();
            let tracepoint = kernel.tracepoint("sched:wake").expect("an event");
            if let Ok(context) = tracepoint.context() {
                let _ = (context.layout(), context.field_slots(), tracepoint.raw());
            }
            let _ = kernel.bare_tracepoints();
        }
    }
}
