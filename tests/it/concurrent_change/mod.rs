//! Kernels that change while they are read: modules come and go, ids are used again,
//! files are emptied, tracefs is mounted again. The result is an error or the right
//! answer.

mod captures;
mod files;
#[cfg(target_os = "linux")]
mod mounts;
mod threads;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support;
use crate::support::capture::Capture;
use walkdir::WalkDir;

/// A copy of a fixture that may be changed.
fn copy(fixture: &str) -> Capture {
    let (capture, from) = (Capture::new(), support::fixture(fixture));
    for entry in WalkDir::new(&from) {
        let entry = entry.expect("an entry");
        let to = capture
            .root()
            .join(entry.path().strip_prefix(&from).expect("inside"));
        match entry.file_type().is_dir() {
            true => fs::create_dir_all(to).expect("a directory"),
            false => drop(fs::copy(entry.path(), to).expect("a file")),
        }
    }
    capture
}

fn add(count: &AtomicUsize) {
    count.fetch_add(1, Ordering::Relaxed);
}
