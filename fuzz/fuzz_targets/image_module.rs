//! A module's file, read with a sound kernel: an answer, or an error that is not the
//! kernel's.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tracepoints_fuzz::images::{image_laws, small_kernel};

static KERNEL: LazyLock<Vec<u8>> = LazyLock::new(small_kernel);

fuzz_target!(|data: &[u8]| {
    assert!(image_laws(KERNEL.clone(), vec![data.to_vec()]));
});
