//! Big-endian and 32-bit kernels: events from their files to a record on a page and back.

use crate::support::all_the_way::{all_the_way, kernel};

/// The events in the snapshots, where a kernel has them.
const EVENTS: [&str; 12] = [
    "workqueue:workqueue_execute_start",
    "irq:irq_handler_entry",
    "sched:sched_switch",
    "sched:sched_process_fork",
    "sched:sched_process_exec",
    "raw_syscalls:sys_enter",
    "block:block_rq_issue",
    "kmem:kfree",
    "ipi:ipi_send_cpumask",
    "fib:fib_table_lookup",
    "syscalls:sys_enter_openat",
    "syscalls:sys_exit_openat",
];

#[test]
fn big_endian_and_32_bit() {
    for name in ["6.12.107-s390x", "6.1.176-i686"] {
        let text = all_the_way(&kernel(name), &EVENTS);
        insta::assert_snapshot!(format!("all-the-way-{name}"), text);
    }
}
