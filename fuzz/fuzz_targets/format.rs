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
            assert!(format.repairs().is_empty());
            assert_eq!(Format::parse_tolerant(text).as_ref(), Ok(&format));
            assert_eq!(Format::parse(&format.to_string()).as_ref(), Ok(&format));
            let _ = format!("{format:?}");
        }
        Err(error) => {
            is_plain(&error.to_string());
            is_line_of(error.line, text);
        }
    }
    // A repaired file is as a kernel writes it.
    match Format::parse_tolerant(text) {
        Ok(format) => {
            format_laws(&format.to_string(), &format);
            for repair in format.repairs() {
                is_plain(&repair.to_string());
                is_line_of(repair.line, text);
            }
        }
        Err(error) => {
            is_plain(&error.to_string());
            is_line_of(error.line, text);
        }
    }
});

/// An empty line after the last is one, where something is missing.
fn is_line_of(line: usize, text: &str) {
    assert!(line >= 1 && line <= text.split('\n').count());
}
