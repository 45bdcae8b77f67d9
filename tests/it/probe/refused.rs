//! Probes that cannot be attached: each error says why.

use std::fs::File;
use std::io::Write;

use super::events;
use crate::support;
use crate::support::live::live;
use tracepoints::probe::{Probe, ProbeError, UnattachableKind};
use tracepoints::{Kernel, Tracepoint};

/// Kinds of events that accept no tracepoint program, each created and removed by the
/// test.
#[test]
fn kinds_of_events_that_cannot_be_attached_to() {
    let Some(kernel) = live() else { return };
    let dynamic = kernel.tracefs().join("dynamic_events");
    let command = |text: &str| {
        let file = File::options().append(true).open(&dynamic);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
    };
    let process = std::process::id();
    let mut tried = 0;
    for (kind, make, name) in [
        (
            UnattachableKind::Probe,
            format!("p:tp_{process}/k do_exit"),
            format!("tp_{process}:k"),
        ),
        (
            UnattachableKind::Probe,
            format!("p:tp_{process}/u /bin/sh:0x1000"),
            format!("tp_{process}:u"),
        ),
        (
            UnattachableKind::Synthetic,
            format!("s:tp_s_{process} u64 lat"),
            format!("synthetic:tp_s_{process}"),
        ),
        (
            UnattachableKind::EventProbe,
            format!("e:tp_{process}/e sched/sched_process_exit p=$pid:u32"),
            format!("tp_{process}:e"),
        ),
        (
            UnattachableKind::User,
            format!("u:tp_u_{process} u32 a"),
            format!("user_events:tp_u_{process}"),
        ),
    ] {
        if let Err(error) = command(&make) {
            support::skip(&format!(
                "this kernel does not make {name}, {kind:?}: {error}"
            ));
            continue;
        }
        let outcome = kernel
            .tracepoint(&name)
            .map(|event| Probe::builder([&event]).attach());
        let remove = format!(
            "-:{}",
            name.replace("synthetic:", "synthetic/").replace(':', "/")
        );
        let removal = match kind {
            UnattachableKind::Synthetic => format!("-:synthetic/tp_s_{process}"),
            UnattachableKind::User => format!("!u:tp_u_{process}"),
            _ => remove,
        };
        let removed = command(&removal);
        match outcome.expect("an event") {
            Err(ProbeError::Unattachable { kind: said, .. }) => assert_eq!(said, kind),
            other => panic!("{name}: {other:?}"),
        }
        if kind != UnattachableKind::User {
            removed.expect("it is removed");
        }
        tried += 1;
    }
    eprintln!("{tried} kinds of events refused, each by its own name");
    let function = kernel.tracepoint("ftrace:function").expect("an event");
    let error = Probe::builder([&function]).attach().expect_err("none");
    assert!(
        matches!(
            error,
            ProbeError::Unattachable {
                kind: UnattachableKind::Ftrace,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn slips_are_told() {
    let Some(kernel) = live() else {
        return;
    };
    let unlink = events(&kernel, &["syscalls:sys_enter_unlinkat"]);
    let message = |result: Result<Probe, ProbeError>| result.expect_err("a slip").to_string();
    let builder = || Probe::builder(&unlink);
    assert_eq!(
        message(builder().fields(["path"]).attach()),
        "syscalls:sys_enter_unlinkat has no field path; it has __syscall_nr, dfd, pathname, flag"
            .to_owned()
            + if kernel_has_values(&unlink[0]) {
                ", __pathname_val"
            } else {
                ""
            }
            + ", and the task has pid, tid, comm and cpu"
    );
    assert_eq!(
        message(builder().ring_size(5000).attach()),
        "a ring buffer cannot be 5000 bytes: it takes a power of two, and whole pages"
    );
    assert_eq!(
        message(builder().process(u32::MAX).attach()),
        "no process 4294967295"
    );
    for limit in [1 << 20, u32::MAX - 3, u32::MAX] {
        assert!(message(builder().data_limit(limit).attach()).contains("can take 32000"));
    }
    let error = builder().histogram("pathname").expect_err("no integer");
    assert!(matches!(error, ProbeError::NoInteger { .. }), "{error}");
    let captured = Kernel::at(support::fixture("6.18.15-x86_64"));
    if let Ok(captured) = captured {
        let exec = captured
            .tracepoint("sched:sched_process_exec")
            .expect("an event");
        let error = Probe::builder([&exec]).attach().expect_err("captured");
        assert!(matches!(error, ProbeError::NotLive { .. }), "{error}");
    }
}

/// Whether the record contains the strings that arguments point at, as on Linux 6.19 and
/// later.
fn kernel_has_values(event: &Tracepoint) -> bool {
    event.format().field("__pathname_val").is_some()
}
