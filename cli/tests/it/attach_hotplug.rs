//! `attach` while CPUs go and come. Only where the machine is the tests' own: in guests
//! (`tests/vm`).

use std::path::Path;

use crate::command::{stderr, stdout, tracepoints};
use crate::namespace::live;

const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";

/// Two shells make 400 calls each, while the second CPU goes and comes.
const COMMAND: &str = r#"
calls() { i=0; while [ $i -lt 100 ]; do kill -0 $$; i=$((i+1)); done; }
all() { for round in 1 2 3 4; do calls; sleep 0.1; done; }
cpu() { echo $1 >/sys/devices/system/cpu/cpu1/online; }
all & all &
sleep 0.1; cpu 0; sleep 0.1; cpu 1
wait
"#;

#[test]
fn attach_across_cpus_that_go_and_come() {
    let Some(_) = live() else {
        return;
    };
    if std::env::var_os("TRACEPOINTS_CPU_HOTPLUG").is_none() || !Path::new(ONLINE).exists() {
        return eprintln!(
            "SKIPPED attach_hotplug: it takes CPUs away, which a guest of tests/vm allows"
        );
    }
    let attach = |arguments: &[&str]| {
        let output = tracepoints(&["attach", "syscalls:sys_enter_kill"])
            .args(arguments)
            .args(["--", "sh", "-c", COMMAND])
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{}", stderr(&output));
        (stdout(&output).to_owned(), stderr(&output).to_owned())
    };
    let counted = attach(&["--count"]);
    let expected = ("800  syscalls:sys_enter_kill\n".to_owned(), String::new());
    assert_eq!(counted, expected);
    let (lines, said) = attach(&["--fields", "sig"]);
    assert_eq!(lines.lines().count(), 800);
    assert_eq!(said, "tracepoints: 800 records\n");
}
