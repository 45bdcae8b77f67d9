//! Which types of programs can serve an event.

use std::fmt::Write;

use tracepoints::Kernel;

use crate::support::{fixtures, name};

/// What the fixtures' kernels have for events of each kind.
#[test]
fn programs_of_events() {
    let mut text = String::new();
    for root in fixtures() {
        let release = name(&root);
        let kernel = Kernel::at(&root).expect("a kernel");
        for event in [
            "sched:sched_switch",
            "syscalls:sys_enter_openat",
            "syscalls:sys_exit_openat",
            "xfs:xfs_iunlink",
            "ftrace:function",
        ] {
            let Ok(tracepoint) = kernel.tracepoint(event) else {
                continue;
            };
            writeln!(text, "{release} {event}").expect("a String");
            for program in tracepoint.programs().expect("programs") {
                let (section, since, gets) = (program.section(), program.since(), program.gets());
                writeln!(text, "  {section} since {since}: {gets}").expect("a String");
            }
        }
    }
    insta::assert_snapshot!(text);
}
