//! Closing links and perf events, each of which takes the kernel grace periods.

use std::os::fd::OwnedFd;

use crate::bpf::sys;

/// Closes links first, after which no program runs any more, and then perf events.
///
/// Closing a link to a perf event takes the kernel a grace period, some 40 ms on Linux 6.18
/// (`perf_event_detach_bpf_prog()`). Links closed at the same time wait together; on Linux
/// 6.1.192 the kernel waits holding a lock, and they are detached one after another all the
/// same. The link of a raw tracepoint waits for nothing.
///
/// A perf event takes as much (`perf_trace_event_unreg()`), and the kernel closes them one
/// after another, whoever asks. Nobody has to wait for it: a map that holds the last
/// reference to them leaves them to a thread of the kernel when it is closed.
///
/// Without links (Linux before 5.15) programs run until their event is closed.
pub(super) fn detach(links: Vec<OwnedFd>, events: Vec<OwnedFd>, are_linked: bool) {
    close_at_once(links);
    if are_linked && events.len() > 1 {
        // The map is closed behind the events. Without it they are closed here.
        let map = sys::event_holder(&events);
        drop(events);
        drop(map);
    }
}

/// Closes files in as many threads: their grace periods are the same ones then.
fn close_at_once(mut files: Vec<OwnedFd>) {
    /// They wait and do nothing else, and need next to no stack.
    const THREADS: usize = 256;
    const STACK: usize = 64 << 10;
    let share = files.len().div_ceil(THREADS);
    std::thread::scope(|scope| {
        while files.len() > share {
            let part = files.split_off(files.len() - share);
            let thread = std::thread::Builder::new().stack_size(STACK);
            // Without a thread they are closed here.
            let _ = thread.spawn_scoped(scope, move || drop(part));
        }
        drop(files);
    });
}
