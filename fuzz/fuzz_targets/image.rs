//! A kernel's image in any form: an answer or an error, and the same one twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracepoints_fuzz::images::image_laws;

fuzz_target!(|data: &[u8]| {
    image_laws(data.to_vec(), Vec::new());
});
