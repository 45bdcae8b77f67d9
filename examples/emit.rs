//! Writes what a build script or a program needs of a kernel's tracepoints: their context
//! structs in C and Rust, and a whole program: `emit [--root DIR] EVENT`.

use std::error::Error;
use std::io::Write;

use tracepoints::Kernel;
use tracepoints::emit::{self, CHeader, COptions, RustModule};

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (kernel, event) = match arguments[..] {
        ["--root", root, event] => (Kernel::at(root)?, event),
        [event] => (Kernel::live()?, event),
        _ => return Err("emit [--root DIR] EVENT".into()),
    };
    let tracepoint = kernel.tracepoint(event)?;

    // A header takes many events; a type that several need is written once.
    let mut header = CHeader::new(COptions::default().assertions(true));
    header.add(&tracepoint)?;
    writeln!(out, "/* C: without vmlinux.h */\n{header}")?;

    let mut module = RustModule::new();
    module.add(&tracepoint)?;
    writeln!(out, "// Rust: #[repr(C)], with nothing but core\n{module}")?;

    writeln!(
        out,
        "/* A program for libbpf */\n{}",
        emit::skeleton_c(&tracepoint)?
    )?;
    Ok(())
}
