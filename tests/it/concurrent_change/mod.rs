//! Kernels that change while they are read: modules come and go, ids are used again,
//! files are emptied, tracefs is mounted again. The result is an error or the right
//! answer.

mod captures;
mod files;
#[cfg(target_os = "linux")]
mod mounts;
mod threads;

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support;
use crate::support::capture::Capture;

/// A copy of a fixture that may be changed.
fn copy(fixture: &str) -> Capture {
    Capture::copy_of(&support::fixture(fixture))
}

fn add(count: &AtomicUsize) {
    count.fetch_add(1, Ordering::Relaxed);
}
