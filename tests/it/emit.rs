//! What is emitted compiles, and has every member where the kernel has it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support;
use crate::support::btf::BtfWriter;
use crate::support::capture::{COMMON, Capture};
use tracepoints::emit::{self, CHeader, COptions, RustModule, skeleton_c, skeleton_rust};
use tracepoints::{Error, Kernel};

/// Emits every event of a kernel, several to a file; an event that has another
/// type of a name already there begins a new file.
fn batches<T: Clone + ToString>(
    kernel: &Kernel,
    empty: &T,
    mut add: impl FnMut(&mut T, &tracepoints::Tracepoint) -> Result<String, Error>,
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

pub(crate) fn has(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

/// The option programs are compiled with, where they can be.
fn libbpf() -> Option<String> {
    let is_there = has("clang") && Path::new("/usr/include/bpf/bpf_helpers.h").exists();
    if !is_there {
        support::skip("there is no clang, or no libbpf");
    }
    is_there.then(|| format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH))
}

/// The targets a kernel's layouts are asserted for: its own machine, and BPF.
fn targets(kernel: &str) -> &'static [&'static str] {
    match kernel.rsplit('-').next() {
        Some("i686") => &["i686-linux-gnu", "bpf"],
        Some("s390x") => &["s390x-linux-gnu", "bpfeb"],
        _ => &["x86_64-linux-gnu", "bpf"],
    }
}

pub(crate) fn check_c(root: &Path, dir: &Path) {
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

pub(crate) fn check_rust(root: &Path, dir: &Path) {
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
fn kernels() -> Vec<PathBuf> {
    let mut kernels = support::fixtures();
    kernels.extend(support::corpus());
    kernels
}

#[test]
fn c_of_every_event() {
    if !has("clang") {
        return support::skip("there is no clang");
    }
    let dir = tempfile::tempdir().expect("a directory");
    for root in kernels() {
        check_c(&root, dir.path());
    }
}

#[test]
fn rust_of_every_event() {
    let dir = tempfile::tempdir().expect("a directory");
    for root in kernels() {
        check_rust(&root, dir.path());
    }
}

#[test]
fn c_programs_of_every_fixture() {
    let Some(include) = libbpf() else {
        return;
    };
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
        return support::skip("there is no clang");
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
        support::skip("there is no clang to compile C");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let mut count = 0;
    for root in kernels() {
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

/// A 32-bit kernel with BTF, whose `long` and pointers have 4 bytes where a program's
/// have 8, and whose `u64` is not aligned as a program's.
fn kernel_of_32_bits(big_endian: bool) -> Capture {
    let mut btf = BtfWriter::new(big_endian);
    let long = btf.int("long int", 4, true);
    let unsigned_long = btf.int("long unsigned int", 4, false);
    let int = btf.int("int", 4, true);
    let char = btf.int("char", 1, true);
    let byte = btf.int("unsigned char", 1, false);
    let short = btf.int("short unsigned int", 2, false);
    let long_long = btf.int("long long unsigned int", 8, false);
    let u64 = btf.typedef("u64", long_long);
    let members = [
        ("type", short, 0),
        ("flags", byte, 2),
        ("preempt_count", byte, 3),
        ("pid", int, 4),
    ];
    let entry = btf.structure("trace_entry", 8, &members);
    let void_pointer = btf.pointer(0);
    let const_char = btf.constant(char);
    let text = btf.pointer(const_char);
    let pointer_typedef = btf.typedef("handle_t", void_pointer);
    let long_typedef = btf.typedef("old_off_t", unsigned_long);
    let longs = btf.array(unsigned_long, 2);
    let pointers = btf.array(void_pointer, 2);
    let task = btf.structure("list", 0, &[]);
    let task_pointer = btf.pointer(task);
    let const_pointer = btf.constant(task_pointer);
    let callback = btf.prototype_returning(int, &[void_pointer]);
    let callback = btf.pointer(callback);
    let nested = btf.structure("nested", 8, &[("next", task_pointer, 0), ("when", long, 4)]);
    let data = btf.array(char, 0);
    let own = [
        ("a", unsigned_long, "unsigned long a", 4),
        ("b", u64, "u64 b", 8),
        ("c", text, "const char * c", 4),
        ("d", pointer_typedef, "handle_t d", 4),
        ("e", long_typedef, "old_off_t e", 4),
        ("f", longs, "unsigned long f[2]", 8),
        ("g", pointers, "void * g[2]", 8),
        ("h", nested, "struct nested h", 8),
        ("i", const_pointer, "struct list *const i", 4),
        ("j", callback, "callback_t j", 4),
        ("k", long, "long k", 4),
    ];
    let mut members = vec![("ent", entry, 0)];
    let mut fields = Vec::new();
    let mut at = 8;
    for (name, ty, declaration, size) in own {
        members.push((name, ty, at));
        fields.push((declaration, at, size));
        at += size;
    }
    members.push(("__data", data, at));
    btf.event_class("event", at, &members, &[void_pointer]);
    btf.event("event", &[void_pointer]);
    let mut capture = Capture::new();
    capture
        .event("x:event", COMMON, &fields)
        .btf("vmlinux", &btf.bytes());
    capture
}

#[test]
fn a_32_bit_kernels_types_have_its_sizes_in_a_program() {
    let dir = tempfile::tempdir().expect("a directory");
    for (big_endian, targets) in [
        (false, ["bpf", "i686-linux-gnu", "armv7-linux-gnueabi"]),
        (true, ["bpfeb", "mips-linux-gnu", "powerpc-linux-gnu"]),
    ] {
        let capture = kernel_of_32_bits(big_endian);
        let kernel = capture.kernel();
        let event = kernel.tracepoint("x:event").expect("an event");
        let context = event.context().expect("a context");
        assert_eq!(context.struct_name(), Some("trace_event_raw_event"));
        let mut header = CHeader::new(COptions::default().assertions(true));
        header.add(&event).expect("C");
        let mut module = RustModule::new();
        module.add(&event).expect("Rust");
        let text = format!("{header}\n{module}");
        insta::assert_snapshot!("types_of_a_32_bit_kernel", text);

        let file = dir.path().join("program.c");
        fs::write(&file, skeleton_c(&event).expect("a program")).expect("a file");
        if let Some(include) = libbpf() {
            let target = format!("--target={}", targets[0]);
            let arguments = [
                "-O2",
                "-Wall",
                "-Werror",
                "-fsyntax-only",
                &target,
                &include,
            ];
            compile("clang", &arguments, &file);
        }
        let file = dir.path().join("header.c");
        fs::write(&file, header.to_string()).expect("a file");
        if has("clang") {
            for target in targets {
                let target = format!("--target={target}");
                let arguments = ["-std=gnu11", "-Wall", "-Werror", "-fsyntax-only", &target];
                compile("clang", &arguments, &file);
            }
        } else {
            support::skip("there is no clang to compile C");
        }
        let file = dir.path().join("module.rs");
        fs::write(&file, module.to_string()).expect("a file");
        let out = dir.path().display().to_string();
        let arguments = ["--crate-type=lib", "--emit=metadata", "--out-dir", &out];
        compile("rustc", &arguments, &file);
    }
}

/// What a format file says goes into comments, and stays there.
#[test]
fn a_comment_ends_where_it_should() {
    let mut capture = Capture::new();
    capture.event("x:event", COMMON, &[("int */ int leak[1], /* a", 8, 4)]);
    let kernel = capture.kernel();
    let event = kernel.tracepoint("x:event").expect("an event");
    let mut header = CHeader::new(COptions::default());
    header.add(&event).expect("C");
    let program = skeleton_c(&event).expect("a program");
    for text in [header.to_string(), program] {
        assert!(text.contains("/* int * / int leak[1], / *"), "{text}");
        assert!(!text.contains("*/ int leak"), "{text}");
    }
}

/// An anonymous struct gets its name from the member, which may be a word of Rust.
#[test]
fn an_anonymous_struct_called_match() {
    let mut btf = BtfWriter::new(false);
    let int = btf.int("int", 4, true);
    let byte = btf.int("unsigned char", 1, false);
    let short = btf.int("short unsigned int", 2, false);
    let members = [
        ("type", short, 0),
        ("flags", byte, 2),
        ("preempt_count", byte, 3),
        ("pid", int, 4),
    ];
    let entry = btf.structure("trace_entry", 8, &members);
    let anonymous = btf.structure("", 4, &[("x", int, 0)]);
    let void_pointer = btf.pointer(0);
    let members = [("ent", entry, 0), ("match", anonymous, 8)];
    btf.event_class("event", 12, &members, &[void_pointer]);
    btf.event("event", &[void_pointer]);
    let mut capture = Capture::new();
    capture
        .event("x:event", COMMON, &[("struct pair match", 8, 4)])
        .btf("vmlinux", &btf.bytes());
    let kernel = capture.kernel();
    let mut module = RustModule::new();
    let event = kernel.tracepoint("x:event").expect("an event");
    module.add(&event).expect("Rust");
    let text = module.to_string();
    assert!(text.contains("pub struct trace_event_raw_event_match {"));
    assert!(text.contains("pub r#match: trace_event_raw_event_match,"));
}
