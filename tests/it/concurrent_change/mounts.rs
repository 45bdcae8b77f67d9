//! tracefs is unmounted and mounted again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::add;
use crate::support;
use crate::support::live;
use tracepoints::{Context, Error, EventName, Kernel, Tracepoint};

/// Unmounts tracefs in the test's own mount namespace, and mounts it again.
#[test]
fn tracefs_mounted_anew() {
    // The machine's own mounts are left alone.
    if !live::is_inside() && Kernel::live().is_ok() {
        return support::skip("tracefs is mounted here");
    }
    let Some(kernel) = live::live() else {
        return;
    };
    let root = kernel.tracefs().to_owned();
    let run = |program: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(program);
        let status = command.args(arguments).arg(&root).status();
        assert!(status.expect(program).success(), "{program}");
    };
    let unmount = || run("umount", &["-l"]);
    let mount = || run("mount", &["-t", "tracefs", "tracefs"]);
    let names: Vec<EventName> = ["sched:sched_switch", "sched:sched_process_exec"]
        .map(|name| name.parse().expect("a name"))
        .to_vec();
    let answers = |kernel: &Kernel| -> Vec<String> {
        let found = kernel.contexts(&names).expect("BTF");
        let text = |found: Result<(Tracepoint, Context), Error>| {
            let (tracepoint, context) = found.expect("an event");
            format!("{:?} {context:?}", tracepoint.format())
        };
        found.map(text).collect()
    };
    let before = answers(&kernel);
    let tracepoint = kernel.tracepoint(&names[0]).expect("an event");

    unmount();
    let is_said =
        |error: Option<Error>| assert!(matches!(error, Some(Error::NotMounted)), "{error:?}");
    is_said(kernel.events().err());
    is_said(kernel.event_directories().err());
    is_said(kernel.tracepoint(&names[0]).err());
    is_said(kernel.tracepoint("no:event").err());
    is_said(kernel.events_by_id().err());
    for found in kernel.contexts(&names).expect("BTF") {
        is_said(found.err());
    }
    is_said(Kernel::live().err());
    #[cfg(feature = "probe")]
    {
        use tracepoints::probe::{Probe, ProbeError};

        let error = Probe::builder([&tracepoint])
            .attach()
            .expect_err("no tracefs");
        assert!(
            matches!(error, ProbeError::Kernel(Error::NotMounted)),
            "{error}"
        );
    }

    mount();
    assert_eq!(answers(&kernel), before);
    assert!(tracepoint.context().is_ok());

    // The same while other threads read it.
    let is_over = AtomicBool::new(false);
    let (read, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    match kernel.tracepoint(&names[0]) {
                        Ok(found) => {
                            assert_eq!(found.format(), tracepoint.format());
                            add(&read);
                        }
                        // It was mounted again before the crate looked why the file is
                        // missing.
                        Err(Error::NotMounted | Error::EventGone { .. }) => add(&failed),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        let start = Instant::now();
        let few = |count: &AtomicUsize| count.load(Ordering::Relaxed) < 100;
        while (few(&read) || few(&failed)) && start.elapsed() < Duration::from_secs(60) {
            unmount();
            thread::sleep(Duration::from_millis(5));
            mount();
            thread::sleep(Duration::from_millis(20));
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(!few(&read) && !few(&failed));
    });
    assert_eq!(answers(&kernel), before);
}
