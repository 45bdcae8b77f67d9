//! Files and lists larger than any kernel has.

use std::fs;
use std::time::{Duration, Instant};

use super::{SOON, many_classes, one_event, sparse};
use crate::support::btf::BtfWriter;
use crate::support::capture::{COMMON, Capture};
use tracepoints::{ByteOrder, Error, EventName, Evidence, FileError, context::FormatReason};

#[test]
fn files_of_two_gigabytes() {
    const SIZE: u64 = 2 << 30;
    let start = Instant::now();
    let events = one_event();
    for file in ["tracing/available_events", "btf/vmlinux", "btf/xfs"] {
        sparse(&events.root().join(file), SIZE);
    }
    let kernel = events.kernel();
    assert!(matches!(
        kernel.events(),
        Err(Error::File {
            source: FileError::TooLarge { .. },
            ..
        })
    ));
    let named = one_event();
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
        assert!(
            matches!(
                result,
                Err(Error::File {
                    source: FileError::TooLarge { .. },
                    ..
                })
            ),
            "{result:?}"
        );
    };
    too_large(kernel.tracepoint("sched:wake").map(drop));
    too_large(kernel.btf_objects().map(drop));
    too_large(kernel.page_layout().map(drop));
    too_large(kernel.addresses().map(drop));
    for file in ["saved_cmdlines", "trace_clock"] {
        sparse(&named.root().join("tracing").join(file), SIZE);
    }
    too_large(kernel.task_names().map(drop));
    too_large(kernel.trace_style().map(drop));
    fs::remove_file(named.root().join("tracing/saved_cmdlines")).expect("it was there");
    sparse(&named.root().join("tracing/saved_tgids"), SIZE);
    too_large(kernel.task_names().map(drop));
    fs::remove_file(named.root().join("tracing/printk_formats")).expect("it was there");
    fs::create_dir(named.root().join("proc")).expect("a directory");
    sparse(&named.root().join("proc/kallsyms"), SIZE);
    too_large(kernel.addresses().map(drop));
    let named_anew = named.kernel();
    sparse(&named.root().join("proc/version"), SIZE);
    too_large(named_anew.version().map(drop));
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
    let mut capture = one_event();
    let header = "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\
        \tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
        \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\
        \tfield: char data;\toffset:16;\tsize:4080;\tsigned:1;\n";
    fs::write(capture.root().join("tracing/events/header_page"), header).expect("a file");
    let native = |capture: &Capture| capture.kernel().with_byte_order(ByteOrder::Little);
    native(&capture).events_by_id().expect("by their formats");
    sparse(&capture.path("sched:wake", "id"), SIZE);
    let kernel = native(&capture);
    // One event's bad id does not affect records of the others.
    let events = kernel.events_by_id().expect("the others");
    let result = events.event(7).map(drop);
    assert!(
        matches!(result, Err(Error::UnknownEventId { id: 7 })),
        "{result:?}"
    );
    // A `btf_ids` file that cannot be read leaves the class ambiguous.
    sparse(&capture.path("sched:wake", "btf_ids"), SIZE);
    capture.btf("vmlinux", &many_classes(2).bytes());
    let context = capture.context("sched:wake");
    assert_eq!(context.evidence(), &Evidence::Ambiguous);
}

/// Events that share a name are not each compared with all the others.
#[test]
fn one_name_in_many_categories() {
    let mut btf = BtfWriter::new(false);
    let int = btf.int("int", 4, true);
    btf.event("wake", &[int]);
    let mut capture = one_event();
    capture.btf("vmlinux", &btf.bytes());
    let list = |count: usize| {
        let mut lines: String = (0..count)
            .map(|number| format!("c{number}:wake\n"))
            .collect();
        lines += "sched:wake\n";
        fs::write(capture.root().join("tracing/available_events"), lines).expect("a file");
    };
    // Few enough that each is looked for; none of them exists.
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
fn many_events_that_are_gone() {
    let mut capture = Capture::new();
    capture.event("x:there", COMMON, &[]);
    let mut listed = String::from("x:there\n");
    for number in 0..20_000 {
        listed += &format!("x:gone_{number}\n");
    }
    fs::write(capture.root().join("tracing/available_events"), listed).expect("a file");
    let kernel = capture.kernel();
    let start = Instant::now();
    let gone = kernel.events().expect("events").into_iter();
    let gone = gone.filter(|name| matches!(kernel.tracepoint(name), Err(Error::EventGone { .. })));
    assert_eq!(gone.count(), 20_000);
    assert!(start.elapsed() < SOON);
}
