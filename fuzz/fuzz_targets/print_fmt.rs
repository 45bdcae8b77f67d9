//! A print fmt: what is written of its tree reads as the same tree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracepoints::format::print::{PrintFmt, PrintFmtError};
use tracepoints_fuzz::is_plain;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let print = match PrintFmt::parse(text) {
        Ok(print) => print,
        Err(error) => {
            if let PrintFmtError::Syntax { offset, rest } = &error {
                assert!(text[*offset..].starts_with(rest.as_str()));
            }
            return is_plain(&error.to_string());
        }
    };
    let written = print.to_string();
    match PrintFmt::parse(&written) {
        Ok(again) => {
            assert_eq!(again, print);
            assert_eq!(again.to_string(), written);
        }
        // Written with all its brackets, it is deeper.
        Err(PrintFmtError::TooDeep { .. }) => {}
        Err(error) => panic!("{written}: {error}"),
    }
    let _ = print.format().text();
    for field in ["x", "flags", "ret"] {
        let said = print.field(field);
        for name in said.names() {
            assert!(name.value.is_some() || !name.name.is_empty());
        }
    }
});
