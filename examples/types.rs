//! From an event to the kernel's types, by btf-rs: `types EVENT [--root DIR]`.
//!
//! Prints the members of the event's context struct and, of each pointer to a struct, the
//! members of that struct.

use std::process::ExitCode;

use btf_rs::{Btf, Type};
use clap::Parser;
use tracepoints::Kernel;

#[derive(Parser)]
struct Arguments {
    /// An event, as `sched:sched_switch`.
    event: String,
    /// A directory with a captured kernel. Default: the running kernel.
    #[arg(long)]
    root: Option<std::path::PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("types: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let kernel = match &arguments.root {
        Some(root) => Kernel::at(root)?,
        None => Kernel::live()?,
    };
    let context = kernel.tracepoint(&arguments.event)?.context()?;
    let id = context.type_id().ok_or("the event's struct is not known")?;
    let module;
    let btf = match context.home() {
        None | Some("vmlinux") => kernel.btf()?,
        Some(name) => {
            module = kernel.module_btf(name)?;
            &module
        }
    };
    members(btf, &btf.resolve_type_by_id(id)?, 0)
}

fn members(btf: &Btf, ty: &Type, depth: usize) -> Result<(), Box<dyn std::error::Error>> {
    let Type::Struct(record) = ty else {
        return Ok(());
    };
    println!(
        "{:1$}struct {2} {{",
        "",
        4 * depth,
        btf.resolve_name(record)?
    );
    for member in &record.members {
        let (offset, name) = (member.bit_offset() / 8, btf.resolve_name(member)?);
        println!("{:1$}{offset:>6} {name}", "", 4 * depth + 2);
        if let (Type::Ptr(pointer), 0) = (btf.resolve_chained_type(member)?, depth) {
            let target = btf.resolve_chained_type(&pointer)?;
            members(btf, &target, depth + 1)?;
        }
    }
    println!("{:1$}}}", "", 4 * depth);
    Ok(())
}
