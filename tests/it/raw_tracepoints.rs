//! Tracepoints as raw programs see them: arguments and sections.

use crate::support;

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
