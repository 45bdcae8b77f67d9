//! Recordings of trace-cmd: an answer or an error, and of what is there only as much as the
//! file may hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracepoints::Kernel;
use tracepoints::record::recording::TraceDat;
use tracepoints_fuzz::is_plain;

fuzz_target!(|data: &[u8]| {
    let recording = match TraceDat::parse(data) {
        Ok(recording) => recording,
        Err(error) => {
            is_plain(&error.to_string());
            if let Some(reason) = std::error::Error::source(&error) {
                is_plain(&reason.to_string());
            }
            return;
        }
    };
    let recorded = recording.kernel();
    recorded
        .left_out()
        .iter()
        .for_each(|reason| is_plain(reason));
    for (path, _) in recorded.files() {
        is_plain(path);
        assert!(path.starts_with("tracing/") || path.starts_with("proc/"));
        assert!(!path.split('/').any(|part| matches!(part, "" | "." | "..")));
    }
    let pages = recording.buffers().iter().flat_map(|buffer| buffer.cpus());
    let all: usize = pages.map(|pages| pages.bytes().len()).sum();
    assert!(all <= (64 << 20) + 65 * data.len());
    let kernel = Kernel::recorded("a", recorded);
    let _ = (
        kernel.task_names(),
        kernel.addresses(),
        kernel.trace_style(),
    );
    let (Ok(layout), Ok(events)) = (kernel.page_layout(), kernel.events_by_id()) else {
        return;
    };
    for buffer in recording.buffers() {
        let layout = buffer.layout(layout);
        for cpu in buffer.cpus() {
            // Millions of empty pages say nothing new.
            for page in layout.pages(cpu.bytes(), recorded.byte_order()).take(64) {
                let Ok(page) = page else { continue };
                for entry in page.entries().flatten() {
                    let _ = events.record(entry.bytes());
                }
            }
        }
    }
});
