//! Prints pages saved of a captured kernel's ring buffer as its own `trace` file does:
//! `decode ROOT CPU FILE`, FILE being of `per_cpu/cpuN/trace_pipe_raw`.

use std::error::Error;
use std::io::Write;

use tracepoints::Kernel;
use tracepoints::text::{TaskNames, TraceContext};

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, cpu, file] = arguments.as_slice() else {
        return Err("decode ROOT CPU FILE".into());
    };
    let cpu = cpu.parse()?;
    let kernel = Kernel::at(root)?;
    let bytes = std::fs::read(file)?;
    let events = kernel.events_by_id()?;
    let addresses = kernel.addresses()?;
    let columns = kernel.flag_columns()?;
    // Which command had which pid is in a file of its own, `saved_cmdlines`.
    let names = TaskNames::default();
    let layout = kernel.page_layout()?;
    for page in layout.pages(&bytes, events.machine().byte_order()) {
        for entry in page?.entries() {
            let entry = entry?;
            let (event, record) = events.record(entry.bytes())?;
            let head = TraceContext::new(&record, cpu, entry.timestamp(), &names, columns)?;
            let renderer = kernel.renderer(event, record.format(), record.machine())?;
            let mut text = String::new();
            renderer.render(&record, &addresses, &mut text);
            writeln!(out, "{head}{}: {text}", event.event())?;
        }
    }
    Ok(())
}
