//! An archive of a captured kernel: a kernel or an error, and the same one twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracepoints::Kernel;
use tracepoints_fuzz::is_plain;

/// What the archive gives, as text.
fn told(archive: &[u8]) -> String {
    let kernel = match Kernel::from_archive(archive) {
        Ok(kernel) => kernel,
        Err(error) => {
            let text = error.to_string();
            is_plain(&text);
            return text;
        }
    };
    let Ok(names) = kernel.event_directories() else {
        return String::new();
    };
    names
        .into_iter()
        .map(|name| match kernel.tracepoint(&name) {
            Ok(event) => event.format().to_string(),
            Err(error) => error.to_string(),
        })
        .collect()
}

fuzz_target!(|data: &[u8]| {
    assert_eq!(told(data), told(data));
});
