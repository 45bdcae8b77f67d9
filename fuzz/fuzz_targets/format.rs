//! A format file: what is read is written back byte for byte, and its parts are
//! where it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracepoints::format::Format;
use tracepoints_fuzz::{format_laws, is_plain};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Format::parse(text) {
        Ok(format) => {
            format_laws(text, &format);
            assert_eq!(Format::parse(&format.to_string()).as_ref(), Ok(&format));
            let _ = format!("{format:?}");
        }
        Err(error) => {
            is_plain(&error.to_string());
            assert!(error.line >= 1 && error.line <= text.split('\n').count());
        }
    }
});
