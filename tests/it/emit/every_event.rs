//! Source emitted for every event of every kernel compiles, with assertions of all
//! offsets.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use crate::support;
use crate::support::compilers::{compile_c, compile_rust, has, libbpf};
use tracepoints::emit::{self, CHeader, COptions, RustModule, skeleton_c};
use tracepoints::{Error, Kernel};

/// Emits every event of a kernel, several to a file. An event whose type conflicts with a
/// type of the same name goes into another file.
pub(super) fn batches<T: Clone + ToString>(
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
            compile_c(
                &["-std=gnu11", "-ffreestanding", "-nostdinc", &target],
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
        compile_rust(&file);
    }
}

/// The fixtures, and the whole kernels of the corpus.
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
    // Many programs are the same on several kernels.
    let mut programs = BTreeMap::new();
    for root in support::fixtures() {
        let kernel = Kernel::at(&root).expect("a kernel");
        let target = match support::name(&root).ends_with("s390x") {
            true => "--target=bpfeb",
            false => "--target=bpf",
        };
        for name in kernel.events().expect("events") {
            let tracepoint = kernel.tracepoint(&name).expect("an event");
            let program = skeleton_c(&tracepoint).unwrap_or_else(|error| panic!("{name}: {error}"));
            let file = format!("{} {name}.c", support::name(&root));
            programs.insert((target, program), file);
        }
    }
    println!("{} programs", programs.len());
    let dir = tempfile::tempdir().expect("a directory");
    let programs = Mutex::new(programs.into_iter());
    let next = || programs.lock().expect("no panic").next();
    let compile = || {
        while let Some(((target, program), file)) = next() {
            let file = dir.path().join(file);
            fs::write(&file, program).expect("a file");
            compile_c(&["-O2", "-g", target, &include], &file);
        }
    };
    let threads = thread::available_parallelism().map_or(1, |count| count.get());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(compile);
        }
    });
}

/// CO-RE structs of every event whose struct has a name.
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
        compile_c(&["--target=bpf", "-g", "-O2"], &file);
    }
}

/// The flags and values in the print fmts of every event, as constants.
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
            // Uses each macro: the compiler does not check one that is never expanded.
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
            compile_c(&["-Wno-macro-redefined"], &file);
        }
        let file = dir.path().join("constants.rs");
        std::fs::write(&file, rust).expect("a file");
        compile_rust(&file);
    }
    assert!(count > 500, "{count}");
}
