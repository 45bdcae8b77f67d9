//! Arguments of system calls have the right values on every kernel.

use std::fs;

use super::{Expected, events, text};
use crate::support::live::live;
use rustix::fs::{AtFlags, CWD};
use tracepoints::probe::{Probe, ProbeRecord};

/// On PREEMPT_RT kernels and on RHEL 9, `trace_event_raw_sys_enter`, which programs
/// commonly use, has the arguments at other offsets than the context.
#[test]
fn the_path_is_right_whatever_struct_is_common() {
    const DIRECTORY_FLAG: u64 = 0x200;
    let Some(kernel) = live() else {
        return;
    };
    let unlink = events(&kernel, &["syscalls:sys_enter_unlinkat"]);
    let context = unlink[0].context().expect("a context");
    let slot = |field: &str| context.slot_of(field).expect("a layout").expect(field);
    let directory = std::env::temp_dir().join(format!("tracepoints-d{}", std::process::id()));
    fs::create_dir(&directory).expect("a directory");
    let mut probe = Probe::builder(&unlink)
        .process(std::process::id())
        .attach()
        .expect("it is attached");
    rustix::fs::unlinkat(CWD, &directory, AtFlags::REMOVEDIR).expect("it is removed");
    let records: Vec<ProbeRecord> = probe.records().collect();
    let [record] = &*records else {
        panic!("one record, not {records:?}");
    };
    let value = |field: &str| record.field(field).expect("a field");
    assert!(text(&directory).holds(&value("pathname")), "{record}");
    assert!(
        Expected::Is(DIRECTORY_FLAG as i64).holds(&value("flag")),
        "{record}"
    );

    let common = kernel
        .tracepoint("raw_syscalls:sys_enter")
        .expect("an event")
        .context()
        .expect("a context");
    let Some(args) = common.slot_of("args").expect("a layout") else {
        return eprintln!("no BTF has trace_event_raw_sys_enter: {common:?}");
    };
    if common.struct_name() != Some("trace_event_raw_sys_enter") {
        return eprintln!("no trace_event_raw_sys_enter here: {common:?}");
    }
    if args.offset() == slot("dfd").offset() {
        eprintln!(
            "trace_event_raw_sys_enter has its arguments at {}, where programs get them",
            args.offset()
        );
        return;
    }
    // `args[1]` of the common struct lies where the context has another argument.
    let path_at = args.offset() + 8;
    assert_ne!(path_at, slot("pathname").offset());
    assert_eq!(path_at, slot("flag").offset(), "8 bytes further on");
    assert_ne!(context.struct_name(), Some("trace_event_raw_sys_enter"));
    eprintln!(
        "trace_event_raw_sys_enter has its arguments at {}, programs get them at {}: through \
         it pathname would be {DIRECTORY_FLAG:#x}, the flag; it is {} here",
        args.offset(),
        slot("dfd").offset(),
        value("pathname")
    );
}
