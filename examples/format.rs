//! Shows a tracepoint's fields, where the record has them and where the context of an
//! eBPF program does: `format [--root DIR] [--json] EVENT|PATTERN…`.

use std::error::Error;
use std::io::Write;

use tracepoints::{EventPattern, Kernel};

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    let (mut root, mut json, mut patterns) = (None, false, Vec::<EventPattern>::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--root" => root = Some(arguments.next().ok_or("--root needs a directory")?),
            "--json" => json = true,
            pattern => patterns.push(pattern.parse()?),
        }
    }
    if patterns.is_empty() {
        return Err("which event? format [--root DIR] [--json] EVENT|PATTERN…".into());
    }
    let kernel = match root {
        Some(root) => Kernel::at(root)?,
        None => Kernel::live()?,
    };
    for name in &kernel.select(&patterns)? {
        let tracepoint = kernel.tracepoint(name)?;
        let context = tracepoint.context()?;
        let fields = tracepoint.format().fields();
        let slots = context.field_slots()?;
        if json {
            let fields: Vec<_> = std::iter::zip(fields, slots)
                .map(|(field, slot)| serde_json::json!({"record": field, "context": slot}))
                .collect();
            let row = serde_json::json!({"event": name, "context": context, "fields": fields});
            writeln!(out, "{row}")?;
            continue;
        }
        writeln!(out, "{name}: {}", context.struct_name().unwrap_or("-"))?;
        writeln!(out, "  {}", context.evidence())?;
        writeln!(out, "  RECORD  CONTEXT  SIZE  FIELD")?;
        for (field, slot) in std::iter::zip(fields, slots) {
            // Offsets and sizes are in bytes.
            let slot = slot.map_or("-".to_owned(), |slot| slot.offset().to_string());
            let (offset, size) = (field.offset(), field.size());
            writeln!(
                out,
                "  {offset:6}  {slot:>7}  {size:4}  {}",
                field.declaration().text()
            )?;
        }
    }
    Ok(())
}
