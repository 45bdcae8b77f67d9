//! Images that are cut, damaged or made to take for ever: an answer or an error.

use std::time::{Duration, Instant};

use tracepoints::{Error, Kernel};

use super::forms;
use super::wrappings::{self, Tables};
use super::writer;
use crate::support::with_causes;

/// Reads an image and all of its events.
fn outcome(image: Vec<u8>) -> Result<usize, String> {
    let kernel = Kernel::from_image(image, []).map_err(|error| with_causes(&error))?;
    let names = match kernel.event_directories() {
        // What is left of it may be BTF alone.
        Err(error @ Error::EventsUnknown { .. }) => return Err(error.to_string()),
        names => names.expect("names").into_iter(),
    };
    let formats = names.map(|name| kernel.tracepoint(&name).expect("an event"));
    let count = formats
        .inspect(|event| assert_eq!(event.id(), None))
        .count();
    for reason in kernel.unreadable() {
        assert!(!reason.contains(char::is_control), "{reason:?}");
    }
    Ok(count)
}

/// Cut anywhere, an image is an error or a kernel with fewer events.
#[test]
fn cut() {
    let kernel = writer::kernel();
    let whole = wrappings::vmlinux(&kernel, Tables::New);
    let all = outcome(whole.clone()).expect("a kernel");
    for length in (0..whole.len()).step_by(997) {
        if let Ok(count) = outcome(whole[..length].to_vec()) {
            assert!(count <= all);
        }
    }
    let packed = wrappings::bz_image(&forms::gzip(&whole));
    for length in (0..packed.len()).step_by(331) {
        assert!(outcome(packed[..length].to_vec()).is_err(), "{length}");
    }
}

/// Any byte may be another.
#[test]
fn damaged() {
    let kernel = writer::kernel();
    for image in [
        wrappings::vmlinux(&kernel, Tables::OldButPercpu),
        wrappings::image(&kernel, Tables::ToPlace),
    ] {
        for at in (0..image.len()).step_by(211) {
            let mut image = image.clone();
            image[at] ^= 0xff;
            let _ = outcome(image);
        }
    }
}

/// Modules, too.
#[test]
fn damaged_modules() {
    let kernel = wrappings::vmlinux(&writer::kernel(), Tables::New);
    let module = writer::module("drum", "drum_beat", "drum_class");
    let damaged = (0..module.len()).step_by(17).map(|at| {
        let mut module = module.clone();
        module[at] ^= 0x81;
        module
    });
    let cut = (0..module.len())
        .step_by(101)
        .map(|at| module[..at].to_vec());
    for module in damaged.chain(cut) {
        let kernel = Kernel::from_image(kernel.clone(), [module]).expect("a kernel");
        assert!(kernel.events().expect("events").len() <= 7);
    }
}

/// Tables that lead back into themselves, or have no end.
#[test]
fn tables_without_an_end() {
    let mut kernel = writer::kernel();
    // All names are one long text that no NUL ends.
    let start = kernel.bytes.len() as u64;
    kernel.bytes.resize(kernel.bytes.len() + (2 << 20), b'x');
    for (_, to) in &mut kernel.pointers {
        if *to > 64 {
            *to = start;
        }
    }
    let began = Instant::now();
    let _ = outcome(wrappings::vmlinux(&kernel, Tables::New));
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// Compressed data that becomes larger than any kernel.
#[test]
fn a_bomb() {
    // A thousandth of its content, and again.
    let zeros = forms::gzip(&vec![0; 64 << 20]);
    let many: Vec<u8> = std::iter::repeat_n(zeros, 12).flatten().collect();
    let error = outcome(many).expect_err("not a kernel");
    // One member of many is read; bzip2 and gzip end there.
    assert!(error.contains("not a kernel image"), "{error}");
    let nested = (0..6).fold(b"\x7fEL".to_vec(), |inside, _| forms::gzip(&inside));
    let error = outcome(nested).expect_err("not a kernel");
    assert!(error.contains("inside each other"), "{error}");
}

/// Every format with a limit of its own is cut off at the limit, and not at a multiple of
/// it.
#[test]
fn bombs_near_the_limit() {
    const LIMIT: usize = 512 << 20;
    const MIB: usize = 1 << 20;
    // Blocks of one byte and how often it is repeated (RFC 8878), 128 KiB each.
    let zstd = |size: usize| {
        let block = 128 << 10;
        let count = size / block;
        // A window of 512 KiB, and no checksum.
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 9 << 3];
        for index in 1..=count {
            let is_last = u32::from(index == count);
            let header = is_last | 1 << 1 | (block as u32) << 3;
            frame.extend(&header.to_le_bytes()[..3]);
            frame.push(b'x');
        }
        frame
    };
    // The same block of 8 MiB again and again.
    let zeros = forms::lz4(&vec![0; 8 * MIB]);
    let lz4 = |size: usize| {
        let blocks = std::iter::repeat_n(&zeros[4..], size / (8 * MIB));
        [&zeros[..4], &blocks.flatten().copied().collect::<Vec<u8>>()].concat()
    };
    let too_large = "larger than 536870912 bytes";
    let not_a_kernel = "not a kernel image";
    for (bomb, expected) in [
        (zstd(LIMIT), not_a_kernel),
        (zstd(LIMIT + MIB), too_large),
        (zstd(4 * LIMIT), too_large),
        (lz4(LIMIT), not_a_kernel),
        (lz4(LIMIT + 8 * MIB), too_large),
    ] {
        assert!(bomb.len() < 3 * MIB);
        let began = Instant::now();
        let error = outcome(bomb).expect_err("not a kernel");
        assert!(error.contains(expected), "{error}");
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}
