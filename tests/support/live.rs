//! The running kernel. Where tracefs is not mounted, a test runs itself again in a
//! mount namespace where it is.

use std::process::Command;

use tracepoints::Kernel;

/// Set in the process that runs in a mount namespace with tracefs.
pub(crate) const INSIDE: &str = "TRACEPOINTS_TEST_INSIDE";

/// The running kernel, if this process can read it. Otherwise the test has run in
/// another process, or it was said why not.
pub(crate) fn live(test: &str) -> Option<Kernel> {
    let error = match Kernel::live() {
        Ok(kernel) => return Some(kernel),
        Err(error) => error,
    };
    if std::env::var_os(INSIDE).is_some() {
        panic!("{error}");
    }
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec"]);
        command.arg(format!(
            "mount --make-rprivate /\nmount -t tracefs tracefs /sys/kernel/tracing\n{script}"
        ));
        command.env(INSIDE, "1");
        command
    };
    match unshare("").output() {
        Ok(output) if output.status.success() => {}
        _ => {
            crate::support::skip(test, &error.to_string());
            return None;
        }
    }
    let program = std::env::current_exe().expect("this program");
    let status = unshare("exec \"$0\" \"$@\"")
        .arg(program)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .status()
        .expect("it runs");
    assert!(status.success(), "{test} failed in a namespace");
    None
}
