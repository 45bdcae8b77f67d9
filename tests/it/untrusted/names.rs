//! Names and texts that lead elsewhere or control a terminal.

use std::fs;

use super::one_event;
use crate::support::btf::BtfWriter;
use tracepoints::{Error, Kernel, btf::BtfError};

fn shows_no_control(error: &Error) {
    let text = error.to_string();
    assert!(!text.contains(char::is_control), "{text:?}");
}

#[test]
fn paths_that_lead_out() {
    let capture = one_event();
    fs::create_dir_all(capture.root().join("etc/passwd")).expect("a directory");
    let kernel = capture.kernel();
    for name in [
        "..:etc",
        "../..:etc/passwd",
        "sched:../../etc",
        "sched:..",
        "/etc:passwd",
        "a/../b:c",
    ] {
        let error = kernel.tracepoint(name).expect_err(name);
        assert!(matches!(error, Error::Name(_)), "{name}: {error}");
    }
    fs::write(
        capture.root().join("tracing/available_events"),
        "..:etc\n../..:etc/passwd\nsched:../../etc\nsched:wake\n",
    )
    .expect("a file");
    let events = kernel.events().expect("events");
    assert_eq!(events.names().len(), 1);
    assert_eq!(events.rejected().len(), 3);
}

#[test]
fn control_characters() {
    let capture = one_event();
    let listed = "\u{1b}]0;title\u{7}:x\nsched:\u{9b}31m\nsched:wake\n";
    fs::write(capture.root().join("tracing/available_events"), listed).expect("a file");
    let kernel = capture.kernel();
    for line in kernel.events().expect("events").rejected() {
        assert!(!line.text.contains(char::is_control), "{line:?}");
    }
    let path = capture.path("sched:wake", "format");
    let format = fs::read_to_string(&path).expect("a format file");
    for (from, to) in [
        ("name: wake", "name: \u{1b}[31mwake"),
        ("int pid", "int \u{1b}[31mpid"),
        ("int pid", "int\u{9b}31m pid"),
        ("print fmt: \"", "print fmt: \"\u{1b}[31m"),
        ("ID: 7", "ID: 7\u{8}8"),
    ] {
        fs::write(&path, format.replace(from, to)).expect("a file");
        let error = kernel.tracepoint("sched:wake").expect_err(to);
        assert!(matches!(error, Error::Format { .. }), "{error}");
        shows_no_control(&error);
    }
    fs::write(&path, format.replace("name: wake", "name: \u{e9}vil\"")).expect("a file");
    let error = kernel.tracepoint("sched:wake").expect_err("another's");
    assert!(matches!(error, Error::OtherEvent { .. }), "{error}");
    shows_no_control(&error);
    for name in ["int\u{1b}[2J", "trace_event_raw_\u{9b}31m", "x\u{7f}"] {
        let mut btf = BtfWriter::new(false);
        btf.structure(name, 4, &[]);
        let mut capture = one_event();
        capture.btf("vmlinux", &btf.bytes());
        let error = capture.kernel().btf_objects().expect_err(name);
        assert!(
            matches!(
                error,
                Error::Btf {
                    source: BtfError::Name { .. },
                    ..
                }
            ),
            "{error}"
        );
    }
    let mut btf = BtfWriter::new(false);
    btf.structure("stra\u{df}e", 4, &[]);
    let mut capture = one_event();
    capture.btf("vmlinux", &btf.bytes());
    capture.kernel().btf_objects().expect("odd, and harmless");
    let vmlinux = BtfWriter::new(false);
    let mut capture = one_event();
    capture.btf("vmlinux", &vmlinux.bytes());
    if cfg!(unix) {
        capture.btf("\u{1b}[31m", &BtfWriter::split(&vmlinux).bytes());
    }
    assert_eq!(
        capture.kernel().btf_objects().expect("objects"),
        ["vmlinux"]
    );
}

#[cfg(unix)]
#[test]
fn names_of_files_are_never_printed_raw() {
    use std::os::unix::fs::symlink;

    let capture = one_event();
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("\u{1b}[2Jroot\u{9b}1m");
    symlink(capture.root(), &root).expect("a link");
    fs::remove_dir_all(
        capture
            .path("sched:wake", "format")
            .parent()
            .expect("there"),
    )
    .expect("a directory");
    shows_no_control(&Kernel::at(root.join("nowhere")).expect_err("nothing there"));
    let kernel = Kernel::at(&root).expect("a kernel");
    shows_no_control(&kernel.tracepoint("sched:wake").expect_err("gone"));
    shows_no_control(&kernel.btf_objects().expect_err("no BTF"));
    fs::create_dir_all(capture.root().join("btf")).expect("a directory");
    fs::write(root.join("btf/vmlinux"), "no BTF").expect("a file");
    shows_no_control(&kernel.btf_objects().expect_err("no BTF"));
}
