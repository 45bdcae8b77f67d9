//! The running kernel, for tests that each run in a process of their own.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tracepoints::Kernel;

/// Set in a process where tests run that read the running kernel.
const INSIDE: &str = "TRACEPOINTS_TEST_INSIDE";

/// Whether this process was started to run one test on the running kernel.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// The running kernel, in the process that runs only the current test.
///
/// Elsewhere this starts that process, in a mount namespace with tracefs where tracefs
/// is not mounted, waits for the test to pass there, and returns `None`. It also
/// returns `None`, having reported the skipped test, where mounting is not permitted.
///
/// Each test has its own process because tests count exactly what their process does,
/// and unmount tracefs.
pub(crate) fn live() -> Option<Kernel> {
    let error = match Kernel::live() {
        Ok(kernel) if is_inside() => return Some(kernel),
        Err(error) if is_inside() => panic!("{error}"),
        Ok(_) => {
            run_alone(&mut Command::new(this_program()));
            return None;
        }
        Err(error) => error,
    };
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec"]);
        command.arg(format!(
            "mount --make-rprivate /\nmount -t tracefs tracefs /sys/kernel/tracing\n{script}"
        ));
        command
    };
    match unshare("").output() {
        Ok(output) if output.status.success() => {
            run_alone(unshare("exec \"$0\" \"$@\"").arg(this_program()));
        }
        _ => crate::support::skip(&error.to_string()),
    }
    None
}

fn this_program() -> PathBuf {
    std::env::current_exe().expect("its path")
}

/// Runs the current test, and no other. `command` runs this program with the arguments
/// appended to it.
fn run_alone(command: &mut Command) {
    let test = crate::support::test_name();
    let Output { status, stdout, .. } = command
        .args([&*test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .stderr(Stdio::inherit())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&stdout);
    // A name that selects no test would pass, too.
    let has_run = said.contains("\ntest result: ok. 1 passed; 0 failed;");
    assert!(status.success() && has_run, "{test} alone:\n{said}");
    print!("{said}");
}
