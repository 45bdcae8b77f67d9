//! Tracepoints as raw programs see them: arguments and sections.

use crate::support;
use tracepoints::kernel::{BtfKernel, BtfTracepoint};
use tracepoints::{Error, EventName, Kernel};

#[test]
fn of_known_tracepoints() {
    let text = |kernel: &str, name: &str| {
        let kernel = support::kernel(kernel);
        kernel
            .raw_tracepoint(name)
            .map_or_else(|error| error.to_string(), |raw| raw.to_string())
    };
    let mut shown = String::new();
    for kernel in ["5.10.223-x86_64", "6.18.15-x86_64", "7.3.4-x86_64"] {
        for name in [
            "sched_switch",
            "sched_process_exec",
            "rcu_utilization",
            "fib_table_lookup",
            "xfs_ilock",
            "no_such",
        ] {
            shown += &format!("{kernel}: {}\n", text(kernel, name));
        }
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn an_event_and_the_tracepoint_behind_it() {
    let kernel = support::kernel("6.18.15-x86_64");
    let raw = |name: &str| {
        kernel
            .tracepoint(name)
            .and_then(|event| event.raw())
            .expect(name)
    };
    let exec = raw("sched:sched_process_exec").expect("a tracepoint");
    assert_eq!(
        exec.sections(),
        ["raw_tp/sched_process_exec", "tp_btf/sched_process_exec"]
    );
    assert_eq!(
        (exec.home(), exec.arguments()[0].c_type()),
        ("vmlinux", "struct task_struct *")
    );
    assert_eq!(raw("xfs:xfs_ilock").expect("a tracepoint").home(), "xfs");
    assert_eq!(raw("syscalls:sys_enter_unlinkat"), None);
}

/// The answer from BTF alone is that from tracefs and BTF, or there is none.
#[test]
fn by_btf_alone_no_struct_is_wrong() {
    let kernels = support::fixtures().into_iter().chain(support::corpus());
    for root in kernels {
        let kernel = Kernel::at(&root).expect("a kernel");
        if matches!(kernel.btf_objects(), Err(Error::NoBtf { .. })) {
            let by_btf = BtfKernel::at(&root).tracepoints();
            assert!(matches!(by_btf, Err(Error::NoBtf { .. })));
            continue;
        }
        let by_btf = BtfKernel::at(&root).tracepoints().expect("tracepoints");
        let json = serde_json::to_string(&by_btf).expect("JSON");
        let read: Vec<BtfTracepoint> = serde_json::from_str(&json).expect("tracepoints");
        assert!(read == by_btf, "{}", support::name(&root));
        let names: Vec<EventName> = kernel.events().expect("events").into_iter().collect();
        let mut agreed = 0;
        for found in kernel.contexts(&names).expect("contexts") {
            let (tracepoint, context) = found.expect("a context");
            let same_name = |one: &&BtfTracepoint| {
                one.raw().name() == tracepoint.name().event()
                    && Some(one.raw().home()) == context.home()
            };
            let (Some(named), Some(by_btf)) = (
                context.struct_name(),
                by_btf
                    .iter()
                    .find(same_name)
                    .and_then(BtfTracepoint::struct_name),
            ) else {
                continue;
            };
            assert_eq!(
                named,
                by_btf,
                "{}: {}",
                support::name(&root),
                tracepoint.name()
            );
            agreed += 1;
        }
        assert!(agreed > 10);
        println!("{}: {agreed} structs by BTF alone", support::name(&root));
    }
}
