//! Pages of the ring buffer: what a command did, in a tracefs instance of its own.

use std::collections::HashSet;
use std::ffi::OsString;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use std::sync::atomic::Ordering;

use tracepoints::kernel::EventsById;
use tracepoints::record::ring::PageLayout;
use tracepoints::{EventPattern, Kernel, Value};

use super::Files;
use crate::attach::command::{Suspended, code_of};
use crate::decode::instance::{Instance, interrupted};
use crate::output::{Failure, say};
use crate::select::select;

/// In bytes, all pages together.
const LIMIT: usize = 1 << 30;
/// How long to wait where nothing came.
const PAUSE: Duration = Duration::from_millis(10);

/// Runs the command, and returns the files of `ring/` and the command's status.
pub(super) fn record(
    kernel: &Kernel,
    patterns: &[EventPattern],
    command: &[OsString],
) -> Result<(Files, ExitCode), Failure> {
    let selected = select(kernel, patterns)?;
    let events = kernel.events_by_id()?;
    let command = Suspended::start(command)?
        .ok_or_else(|| Failure::Other("there is no command to trace".to_owned()))?;
    let interrupted = interrupted()?;
    let instance = Instance::make(kernel.tracefs())?;
    let layout = instance.page_layout()?;
    let mut buffers = instance.buffers(layout)?;
    let pid = command.pid().into_iter().collect::<Vec<u32>>();
    instance.choose_processes(&pid)?;
    instance.enable(&selected)?;
    let mut running = command.resume()?;
    let mut pages: Vec<Vec<u8>> = vec![Vec::new(); buffers.len()];
    let mut size = 0;
    loop {
        let is_last = running.has_ended() || interrupted.load(Ordering::Relaxed);
        if is_last {
            instance.write("tracing_on", "0")?;
        }
        let mut is_idle = true;
        for (buffer, pages) in buffers.iter_mut().zip(&mut pages) {
            while size < LIMIT && buffer.fill()? {
                pages.extend_from_slice(buffer.page());
                size += buffer.page().len();
                is_idle = false;
            }
        }
        if size >= LIMIT {
            say!("the pages have {LIMIT} bytes: what followed is left out");
            break;
        }
        if is_last {
            break;
        }
        if is_idle {
            thread::sleep(PAUSE);
        }
    }
    let mut files = Files::new();
    let mut tasks = HashSet::new();
    for (buffer, pages) in buffers.iter().zip(pages) {
        if !pages.is_empty() {
            tasks.extend(tasks_of(&pages, layout, &events));
            files.insert(format!("ring/cpu{}.raw", buffer.cpu()), pages);
        }
    }
    let clock = instance.read("trace_clock")?;
    files.insert("ring/trace_clock".to_owned(), clock.into_bytes());
    let names = std::fs::read(kernel.tracefs().join("saved_cmdlines")).unwrap_or_default();
    files.insert("ring/saved_cmdlines".to_owned(), lines_of(&names, &tasks));
    drop(buffers);
    instance.remove()?;
    let code = running.end().map_or(ExitCode::FAILURE, code_of);
    Ok((files, code))
}

/// The tasks that traced something.
fn tasks_of(pages: &[u8], layout: PageLayout, events: &EventsById) -> HashSet<i64> {
    let pages = layout.pages(pages, events.machine().byte_order());
    let entries = pages.flatten().flat_map(|page| {
        let entries = page.entries().map_while(Result::ok);
        let entries = entries.filter_map(|entry| {
            let (_, record) = events.record(entry.bytes()).ok()?;
            match record.value(record.format().field("common_pid")?).ok()? {
                Value::Signed(pid) => Some(pid),
                _ => None,
            }
        });
        entries.collect::<Vec<i64>>()
    });
    entries.collect()
}

/// The lines of `saved_cmdlines`, `pid name`, that are of these tasks.
fn lines_of(saved: &[u8], tasks: &HashSet<i64>) -> Vec<u8> {
    let is_wanted = |line: &&[u8]| {
        let pid = line.split(|byte| *byte == b' ').next();
        let pid = pid.and_then(|pid| str::from_utf8(pid).ok()?.parse().ok());
        pid.is_some_and(|pid: i64| tasks.contains(&pid))
    };
    let lines = saved.split_inclusive(|byte| *byte == b'\n');
    lines.filter(is_wanted).flatten().copied().collect()
}
