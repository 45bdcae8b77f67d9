//! What is emitted compiles, and has every member where the kernel has it.

mod support;

#[path = "support/example.rs"]
mod example;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tracepoints::emit::{self, CHeader, COptions, RustModule, skeleton_c, skeleton_rust};
use tracepoints::{Error, Kernel};

/// Emits every event of a kernel, several to a file; an event that has another
/// type of a name already there begins a new file.
fn batches<T: Clone + ToString>(
    kernel: &Kernel,
    empty: &T,
    mut add: impl FnMut(&mut T, &tracepoints::Tracepoint<'_>) -> Result<String, Error>,
) -> (Vec<String>, usize) {
    let mut files = vec![empty.clone()];
    let mut added = 0;
    for name in kernel.events().expect("events") {
        let tracepoint = kernel.tracepoint(&name).expect("an event");
        let mut done = false;
        for file in &mut files {
            match add(file, &tracepoint) {
                Ok(_) => {
                    done = true;
                    break;
                }
                Err(Error::Conflict { .. }) => {}
                Err(error) => panic!("{name}: {error}"),
            }
        }
        if !done {
            let mut file = empty.clone();
            add(&mut file, &tracepoint).unwrap_or_else(|error| panic!("{name}: {error}"));
            files.push(file);
        }
        added += 1;
    }
    (files.iter().map(T::to_string).collect(), added)
}

/// Runs a compiler on a file; what it says is the panic's message.
fn compile(program: &str, arguments: &[&str], file: &Path) {
    let mut command = Command::new(program);
    let output = command.args(arguments).arg(file).output().expect(program);
    let said = String::from_utf8_lossy(&output.stderr);
    let first: Vec<&str> = said.lines().take(30).collect();
    assert!(
        output.status.success(),
        "{program} {}:\n{}",
        file.display(),
        first.join("\n")
    );
}

fn has(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

/// The targets a kernel's layouts are asserted for: its own machine, and BPF.
fn targets(kernel: &str) -> &'static [&'static str] {
    match kernel.rsplit('-').next() {
        Some("i686") => &["i686-linux-gnu", "bpf"],
        Some("s390x") => &["s390x-linux-gnu", "bpfeb"],
        _ => &["x86_64-linux-gnu", "bpf"],
    }
}

fn check_c(root: &Path, dir: &Path) {
    let kernel = Kernel::at(root).expect("a kernel");
    let empty = CHeader::new(COptions::default().assertions(true));
    let (files, added) = batches(&kernel, &empty, CHeader::add);
    let name = support::name(root);
    println!("{name}: {added} events in {} C files", files.len());
    for (index, text) in files.iter().enumerate() {
        let file = dir.join(format!("{name}-{index}.c"));
        fs::write(&file, text).expect("a file");
        for target in targets(&name) {
            let target = format!("--target={target}");
            compile(
                "clang",
                &[
                    "-std=gnu11",
                    "-Wall",
                    "-Werror",
                    "-fsyntax-only",
                    "-ffreestanding",
                    "-nostdinc",
                    &target,
                ],
                &file,
            );
        }
    }
}

fn check_rust(root: &Path, dir: &Path) {
    let kernel = Kernel::at(root).expect("a kernel");
    let (files, added) = batches(&kernel, &RustModule::new(), RustModule::add);
    let name = support::name(root);
    println!("{name}: {added} events in {} Rust files", files.len());
    for (index, text) in files.iter().enumerate() {
        let file = dir.join(format!("{name}-{index}.rs"));
        fs::write(&file, text).expect("a file");
        let metadata = dir.join("out.rmeta");
        compile(
            "rustc",
            &[
                "--edition=2024",
                "--crate-type=lib",
                "--crate-name=emitted",
                "--emit=metadata",
                "-Dwarnings",
                "-o",
                &metadata.display().to_string(),
            ],
            &file,
        );
    }
}

/// Fixtures, and whole kernels where they are.
fn kernels(test: &str) -> Vec<PathBuf> {
    let mut kernels = support::fixtures();
    kernels.extend(support::corpus(test));
    kernels
}

#[test]
fn c_of_every_event() {
    if !has("clang") {
        return support::skip("c_of_every_event", "there is no clang");
    }
    let dir = tempfile::tempdir().expect("a directory");
    for root in kernels("c_of_every_event") {
        check_c(&root, dir.path());
    }
}

#[test]
fn rust_of_every_event() {
    let dir = tempfile::tempdir().expect("a directory");
    for root in kernels("rust_of_every_event") {
        check_rust(&root, dir.path());
    }
}

#[test]
fn c_programs_of_every_fixture() {
    let include = format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    if !has("clang") || !Path::new("/usr/include/bpf/bpf_helpers.h").exists() {
        return support::skip(
            "c_programs_of_every_fixture",
            "there is no clang, or no libbpf",
        );
    }
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("program.c");
    for root in support::fixtures() {
        let kernel = Kernel::at(&root).expect("a kernel");
        let target = match support::name(&root).ends_with("s390x") {
            true => "--target=bpfeb",
            false => "--target=bpf",
        };
        for name in kernel.events().expect("events") {
            let tracepoint = kernel.tracepoint(&name).expect("an event");
            let program = skeleton_c(&tracepoint).unwrap_or_else(|error| panic!("{name}: {error}"));
            fs::write(&file, program).expect("a file");
            compile(
                "clang",
                &[
                    "-O2",
                    "-g",
                    "-Wall",
                    "-Werror",
                    "-fsyntax-only",
                    target,
                    &include,
                ],
                &file,
            );
        }
    }
}

/// One program for each way to read a field, and those whose reads changed
/// between kernels.
#[test]
fn programs() {
    let mut text = String::new();
    for (kernel, event) in [
        ("6.18.15-x86_64", "sched:sched_process_exec"),
        ("7.3.4-x86_64", "syscalls:sys_enter_unlinkat"),
        ("6.1.192-rt-x86_64", "syscalls:sys_enter_unlinkat"),
        ("6.12.107-s390x", "syscalls:sys_exit_unlinkat"),
        ("6.18.15-x86_64", "ipi:ipi_send_cpumask"),
        ("6.1.176-i686", "fib:fib_table_lookup"),
    ] {
        let kernel = Kernel::at(support::fixture(kernel)).expect("a kernel");
        let tracepoint = kernel.tracepoint(event).expect("an event");
        text += &skeleton_c(&tracepoint).expect("a program");
        text += "\n";
        text += &skeleton_rust(&tracepoint).expect("a program");
        text += "\n";
    }
    insta::assert_snapshot!(text);
}

/// CO-RE of every event that has a struct with a name.
#[test]
fn core_of_every_fixture() {
    if !has("clang") {
        return support::skip("core_of_every_fixture", "there is no clang");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("core.c");
    for root in support::fixtures() {
        let kernel = Kernel::at(&root).expect("a kernel");
        let mut header = CHeader::new(
            COptions::default()
                .preserve_access_index(true)
                .assertions(true),
        );
        let mut left_out = 0;
        for name in kernel.events().expect("events") {
            let tracepoint = kernel.tracepoint(&name).expect("an event");
            match header.add(&tracepoint) {
                Ok(_) => {}
                Err(Error::NoStruct { .. }) => left_out += 1,
                Err(error) => panic!("{name}: {error}"),
            }
            let evidence = tracepoint.context().expect("a context").evidence().as_str();
            let unnamed = matches!(evidence, "ambiguous" | "format");
            assert!(!unnamed || left_out > 0, "{name}");
        }
        fs::write(&file, header.to_string()).expect("a file");
        compile(
            "clang",
            &[
                "--target=bpf",
                "-g",
                "-O2",
                "-Wall",
                "-Werror",
                "-fsyntax-only",
            ],
            &file,
        );
    }
}

#[test]
fn contexts_without_what_they_need() {
    let kernel = Kernel::at(support::fixture("6.18.15-x86_64")).expect("a kernel");
    let mut header = CHeader::new(COptions::default().contexts_only(true));
    let tracepoint = kernel
        .tracepoint("raw_syscalls:sys_exit")
        .expect("an event");
    header.add(&tracepoint).expect("a struct");
    assert_eq!(
        header.to_string(),
        "struct trace_event_raw_sys_exit {\n\tstruct trace_entry ent;\n\tlong int id;\n\tlong int ret;\n\tchar __data[0];\n};\n"
    );
}

/// CO-RE relocates by name: without one there is nothing to emit.
#[test]
fn core_takes_a_struct_with_a_name() {
    let header = |kernel: &str, event: &str| {
        let kernel = Kernel::at(support::fixture(kernel)).expect("a kernel");
        let mut header = CHeader::new(COptions::default().preserve_access_index(true));
        let added = header.add(&kernel.tracepoint(event).expect("an event"));
        added.map(|_| header.to_string())
    };
    let text = header("6.18.15-x86_64", "sched:sched_switch").expect("a struct");
    assert!(text.starts_with(
        "#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)\n"
    ));
    assert!(text.ends_with("#pragma clang attribute pop\n"));
    for (kernel, event) in [
        ("6.18.15-x86_64", "nfs4:nfs4_read"),
        ("6.1.176-i686", "sched:sched_switch"),
    ] {
        assert!(
            matches!(header(kernel, event), Err(Error::NoStruct { .. })),
            "{event}"
        );
    }
}

/// The names of flags and values of every event, as constants that compile.
#[test]
fn constants_of_every_event() {
    let has_clang = has("clang");
    if !has_clang {
        support::skip("constants_of_every_event (C)", "there is no clang");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let mut count = 0;
    for root in kernels("constants_of_every_event") {
        let kernel = Kernel::at(&root).expect("a kernel");
        let (mut c, mut rust) = (String::new(), String::from("#![no_std]\n"));
        for (index, name) in kernel.events().expect("events").names().iter().enumerate() {
            let event = kernel.tracepoint(name).expect("an event");
            let defined = emit::constants_c(&event).expect("a print fmt");
            count += defined.matches("#define ").count();
            c += &defined;
            // Used, as a macro that is not is never read.
            for line in defined
                .lines()
                .filter_map(|line| line.strip_prefix("#define "))
            {
                let (name, value) = line.split_once(' ').expect("a value");
                c += &format!("_Static_assert({name} == {value}, \"\");\n");
            }
            let constants = emit::constants_rust(&event).expect("a print fmt");
            rust += &format!("pub mod event_{index} {{\n{constants}}}\n");
        }
        let file = dir.path().join("constants.c");
        std::fs::write(&file, c).expect("a file");
        if has_clang {
            let arguments = ["-Wall", "-Werror", "-Wno-macro-redefined", "-fsyntax-only"];
            compile("clang", &arguments, &file);
        }
        let file = dir.path().join("constants.rs");
        std::fs::write(&file, rust).expect("a file");
        let out = dir.path().display().to_string();
        let arguments = [
            "--edition=2024",
            "--crate-type=lib",
            "--emit=metadata",
            "--out-dir",
            &out,
        ];
        compile("rustc", &arguments, &file);
    }
    assert!(count > 500, "{count}");
}
