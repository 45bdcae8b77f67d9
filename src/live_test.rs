//! The running kernel, for tests that need it.

use std::process::Command;

use crate::kernel::Kernel;

/// Set in the process that runs in a mount namespace with tracefs.
const INSIDE: &str = "TRACEPOINTS_TEST_INSIDE";

/// Returns the running kernel. `None` if tracefs is not mounted: the test has then run in
/// another process, where it is mounted, or has reported that it needs root.
pub(crate) fn kernel(test: &str) -> Option<Kernel> {
    if let Ok(kernel) = Kernel::live() {
        return Some(kernel);
    }
    if std::env::var_os(INSIDE).is_some() {
        panic!("tracefs cannot be read");
    }
    let mount = "mount --make-rprivate / && mount -t tracefs tracefs /sys/kernel/tracing";
    let run = |script: String| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]);
        command.env(INSIDE, "1");
        command
    };
    let may = run(mount.to_owned()).output();
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED {test}: it takes root and tracefs");
        return None;
    }
    let status = run(format!("{mount} && exec \"$0\" \"$@\""))
        .arg(std::env::current_exe().expect("this program"))
        .args([test, "--exact", "--nocapture"])
        .status();
    assert!(
        status.expect("it runs").success(),
        "{test} failed in a namespace"
    );
    None
}
