//! Kernels' images, written as in the library's tests, and their laws.

use tracepoints::kernel::Events;
use tracepoints::{Error, Kernel};

use crate::is_plain;

/// The writer of images, which uses the writer of BTF by this path.
#[path = "../../tests/it/image/writer.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use more of it")]
mod writer;

/// What a kernel's memory is wrapped in.
#[path = "../../tests/it/image/wrappings.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod wrappings;

/// A kernel in memory, with few symbols: kallsyms in the form of Linux 7.0.
pub fn small_kernel() -> Vec<u8> {
    wrappings::image(&writer::kernel(), wrappings::Tables::ToPlace)
}

/// Images in each form, as seeds.
pub fn images() -> Vec<Vec<u8>> {
    let kernel = writer::kernel();
    let forms = [
        wrappings::Tables::Absolute,
        wrappings::Tables::Old,
        wrappings::Tables::OldWithOrder,
        wrappings::Tables::OldButPercpu,
        wrappings::Tables::New,
        wrappings::Tables::ToPlace,
    ];
    let mut images: Vec<Vec<u8>> = forms
        .iter()
        .map(|tables| wrappings::vmlinux(&kernel, *tables))
        .collect();
    images.push(small_kernel());
    images.push(wrappings::image_with_relocations(&kernel));
    images.push(writer::types().bytes());
    let packed: Vec<Vec<u8>> = images.iter().take(2).map(|image| gzip(image)).collect();
    for packed in packed {
        images.push(wrappings::bz_image(&packed));
        images.push(wrappings::zboot(&packed));
        images.push(packed);
    }
    images
}

/// A module, as a seed.
pub fn module() -> Vec<u8> {
    writer::module("drum", "drum_beat", "drum_class")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to memory is infallible.
    let _ = out.write_all(bytes);
    out.finish().unwrap_or_default()
}

/// Reads an image twice. Returns whether it is a kernel.
pub fn image_laws(image: Vec<u8>, modules: Vec<Vec<u8>>) -> bool {
    let read = || Kernel::from_image(image.clone(), modules.clone());
    let (kernel, again) = match (read(), read()) {
        (Ok(kernel), Ok(again)) => (kernel, again),
        (Err(error), Err(again)) => {
            let text = |error: &dyn std::error::Error| {
                let causes = std::iter::successors(Some(error), |error| error.source());
                causes.map(|cause| cause.to_string()).collect::<Vec<_>>()
            };
            assert_eq!(text(&error), text(&again));
            is_plain(&error.to_string());
            return false;
        }
        _ => panic!("an error once"),
    };
    assert!(kernel.image_files().eq(again.image_files()));
    for reason in kernel.unreadable() {
        is_plain(&reason.escape_debug().to_string());
    }
    if kernel.btf_alone().is_some() {
        let unknown = |read: Result<Events, Error>| {
            assert!(matches!(read, Err(Error::EventsUnknown { .. })));
        };
        unknown(kernel.event_directories());
        unknown(kernel.events());
        return true;
    }
    let names = kernel.event_directories().expect("events in memory");
    let listed = kernel.events().expect("events in memory");
    assert!(names.rejected().is_empty() && listed.rejected().is_empty());
    for name in &names {
        let event = kernel.tracepoint(name).expect("its format was read before");
        assert_eq!(event.id(), None);
        assert_eq!(event.format().name(), name.event());
        is_plain(name.as_str());
    }
    for name in &listed {
        assert!(names.contains(name));
    }
    true
}
