//! From an event to the kernel's types, by btf-rs: `types [--root DIR] EVENT`.
//!
//! Prints the members of the event's context struct and, of each pointer to a struct, the
//! members of that struct.

use std::error::Error;

use btf_rs::{Btf, Type};
use tracepoints::Kernel;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut root, mut event) = (None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--root" => root = Some(arguments.next().ok_or("--root needs a directory")?),
            _ => event = Some(argument),
        }
    }
    let event = event.ok_or("which event? types [--root DIR] EVENT")?;
    let kernel = match root {
        Some(root) => Kernel::at(root)?,
        None => Kernel::live()?,
    };
    let context = kernel.tracepoint(&event)?.context()?;
    let id = context.type_id().ok_or("the event's struct is not known")?;
    let module;
    let btf = match context.home() {
        None | Some("vmlinux") => kernel.btf()?,
        Some(name) => {
            module = kernel.module_btf(name)?;
            &module
        }
    };
    print_members(btf, &btf.resolve_type_by_id(id)?, 0)
}

fn print_members(btf: &Btf, ty: &Type, depth: usize) -> Result<(), Box<dyn Error>> {
    let Type::Struct(record) = ty else {
        return Ok(());
    };
    let indent = "    ".repeat(depth);
    println!("{indent}struct {} {{", btf.resolve_name(record)?);
    for member in &record.members {
        let (offset, name) = (member.bit_offset() / 8, btf.resolve_name(member)?);
        println!("{indent}  {offset:>6} {name}");
        if let (Type::Ptr(pointer), 0) = (btf.resolve_chained_type(member)?, depth) {
            let target = btf.resolve_chained_type(&pointer)?;
            print_members(btf, &target, depth + 1)?;
        }
    }
    println!("{indent}}}");
    Ok(())
}
