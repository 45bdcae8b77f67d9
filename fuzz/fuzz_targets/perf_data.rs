//! Recordings of perf: an answer or an error, and entries in order, no more of them than the
//! file has room for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracepoints::Kernel;
use tracepoints::record::recording::{PerfData, PerfEntry};
use tracepoints_fuzz::is_plain;

fuzz_target!(|data: &[u8]| {
    let recording = PerfData::parse(data);
    let error = match &recording {
        Ok(recording) => recording.damage(),
        Err(error) => Some(error),
    };
    if let Some(error) = error {
        is_plain(&error.to_string());
        if let Some(reason) = std::error::Error::source(error) {
            is_plain(&reason.to_string());
        }
    }
    let Ok(recording) = recording else { return };
    let recorded = recording.kernel();
    let texts = recorded.left_out().iter().chain(recording.left_out());
    texts.for_each(|reason| is_plain(reason));
    for (path, _) in recorded.files() {
        is_plain(path);
        assert!(path.starts_with("tracing/") || path.starts_with("proc/"));
        assert!(!path.split('/').any(|part| matches!(part, "" | "." | "..")));
    }
    let kernel = Kernel::recorded("a", recorded);
    let _ = (
        kernel.task_names(),
        kernel.addresses(),
        kernel.trace_style(),
    );
    let events = kernel.events_by_id();
    let (mut count, mut latest) = (0, 0);
    for entry in recording.entries() {
        count += 1;
        let PerfEntry::Sample(sample) = entry else {
            continue;
        };
        assert!(latest <= sample.time);
        latest = sample.time;
        // Millions of records say nothing new.
        if let Ok(events) = &events
            && count < 4096
        {
            let _ = events.record(sample.record);
        }
    }
    // What is compressed may become 64 MiB, and 64 times the file.
    assert!(count <= ((64 << 20) + 65 * data.len()) / 16);
});
