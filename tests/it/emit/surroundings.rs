//! Emitted C beside other headers, and what it says of the kernel it is from.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::every_event::batches;
use crate::support;
use crate::support::compilers::{compile_c, has};
use tracepoints::Kernel;
use tracepoints::emit::{CHeader, COptions, CSurroundings};
use tracepoints::layout::Slot;

/// Headers that define names of the kernel's, some of them as other types.
const SYSTEM: &str = "\
#include <linux/types.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
";

fn headers(kernel: &Kernel, options: COptions) -> Vec<String> {
    let empty = CHeader::new(options)
        .of_kernel("*/ a kernel")
        .guarded_by("all:events");
    let vmlinux = COptions::default().beside(CSurroundings::Vmlinux);
    let mut left_out = 0;
    let (files, added) = batches(kernel, &empty, |header, tracepoint| {
        // bpftool before 7.5 writes enums of one byte as those of four; a header that has
        // them is wrong, as the assertions say.
        let layout = tracepoint.context()?.layout()?;
        let is_narrow = |slot: &Slot| slot.c_type().starts_with("enum ") && slot.size() != 4;
        if options == vmlinux && layout.slots().iter().any(is_narrow) {
            left_out += 1;
            return Ok(String::new());
        }
        header.add(tracepoint)
    });
    assert!(
        added > 10 && left_out * 20 < added,
        "{left_out} of {added} left out"
    );
    files
}

#[test]
fn system_headers() {
    if !has("clang") {
        return support::skip("there is no clang");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("system.c");
    let options = COptions::default().beside(CSurroundings::SystemHeaders);
    for root in support::fixtures() {
        let kernel = Kernel::at(&root).expect("a kernel");
        for header in headers(&kernel, options) {
            // Twice: the guard steps over the second.
            let text = format!("{SYSTEM}{header}{header}bool b; dev_t d;\n");
            fs::write(&file, text).expect("a file");
            compile_c(&["-std=gnu11"], &file);
        }
    }
}

/// The kernel's types in C, as `bpftool` writes them.
pub(super) fn vmlinux_h(btf: &Path, to: &Path) {
    let mut bpftool = Command::new("bpftool");
    bpftool.args(["btf", "dump", "file"]).arg(btf);
    let output = bpftool.args(["format", "c"]).output().expect("bpftool");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::write(to, output.stdout).expect("a file");
}

fn compile_with_vmlinux(kernel: &Kernel, btf: &Path) {
    let dir = tempfile::tempdir().expect("a directory");
    vmlinux_h(btf, &dir.path().join("vmlinux.h"));
    let file = dir.path().join("beside.c");
    let options = COptions::default().beside(CSurroundings::Vmlinux);
    for header in headers(kernel, options) {
        fs::write(&file, format!("#include \"vmlinux.h\"\n{header}")).expect("a file");
        compile_c(&["--target=bpf", "-g", "-Wno-missing-declarations"], &file);
    }
    // The events of vmlinux need nothing but its header.
    let mut header = CHeader::new(options.preserve_access_index(true));
    let switch = kernel.tracepoint("sched:sched_switch").expect("an event");
    header.add(&switch).expect("a struct");
    assert_eq!(header.to_string(), "");
}

/// The BTF of fixtures is cut down, and no whole header can be made of it.
#[test]
fn vmlinux_h_of_captured_kernels() {
    if !has("clang") || !has("bpftool") {
        return support::skip("there is no clang, or no bpftool");
    }
    for root in support::corpus() {
        let btf = root.join("btf/vmlinux");
        // Of another machine, or without BTF.
        if btf.exists() && support::name(&root).contains("x86_64") {
            compile_with_vmlinux(&Kernel::at(&root).expect("a kernel"), &btf);
        }
    }
}

#[cfg(all(feature = "probe", target_os = "linux"))]
#[test]
fn vmlinux_h_of_the_running_kernel() {
    let Some(kernel) = support::live::live() else {
        return;
    };
    if !has("clang") || !has("bpftool") {
        return support::skip("there is no clang, or no bpftool");
    }
    compile_with_vmlinux(&kernel, Path::new("/sys/kernel/btf/vmlinux"));
}

#[test]
fn each_way_to_write_a_struct() {
    let kernel = support::kernel("6.18.15-x86_64");
    let mut text = String::new();
    for (title, options) in [
        ("default", COptions::default()),
        ("CO-RE", COptions::default().preserve_access_index(true)),
        (
            "beside system headers",
            COptions::default().beside(CSurroundings::SystemHeaders),
        ),
        (
            "CO-RE beside system headers",
            COptions::default()
                .beside(CSurroundings::SystemHeaders)
                .preserve_access_index(true),
        ),
        (
            "vmlinux.h",
            COptions::default().beside(CSurroundings::Vmlinux),
        ),
        (
            "CO-RE, vmlinux.h",
            COptions::default()
                .beside(CSurroundings::Vmlinux)
                .preserve_access_index(true),
        ),
    ] {
        let mut header = CHeader::new(options.assertions(title == "default"))
            .of_kernel("6.18.15")
            .guarded_by("a/b.h");
        for event in ["sched:sched_process_exit", "timer:hrtimer_start"] {
            let tracepoint = kernel.tracepoint(event).expect("an event");
            header.add(&tracepoint).expect("a struct");
        }
        text += &format!("== {title}\n{header}\n");
    }
    insta::assert_snapshot!(text);
}
