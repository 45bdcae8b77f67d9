//! The tables of a sound kernel with some bytes changed: each four bytes of the input are a
//! place, of three bytes, and the byte that is there.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tracepoints_fuzz::images::{image_laws, small_kernel};

static KERNEL: LazyLock<Vec<u8>> = LazyLock::new(small_kernel);

fuzz_target!(|data: &[u8]| {
    let mut kernel = KERNEL.clone();
    for change in data.chunks_exact(4) {
        let place = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize;
        let place = place % kernel.len();
        kernel[place] = change[3];
    }
    image_laws(kernel, Vec::new());
});
