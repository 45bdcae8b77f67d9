//! The running kernel, for tests that need it.

use std::process::Command;

use crate::kernel::Kernel;
use crate::name::EventName;

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

/// Returns the events of the running kernel without those that tests make, which have
/// `tracepoints_` in their names: they come and go while another test runs.
pub(crate) fn lasting_events(kernel: &Kernel) -> Vec<EventName> {
    let events = kernel.events().expect("events").into_iter();
    let is_lasting = |name: &EventName| !name.as_str().contains("tracepoints_");
    events.filter(is_lasting).collect()
}
