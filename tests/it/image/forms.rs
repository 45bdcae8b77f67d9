//! Each wrapping and compression, and each form of kallsyms, holds the same kernel.

use std::io::{Read, Write};

use tracepoints::Error;

use super::wrappings::{self, Tables};
use super::writer;
use super::{read, told};

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).expect("memory");
    out.finish().expect("memory")
}

pub(super) fn xz(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut out = lzma_rust2::XzWriter::new(Vec::new(), options).expect("memory");
    out.write_all(bytes).expect("memory");
    out.finish().expect("memory")
}

fn lzma(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::LzmaOptions::with_preset(1);
    let out = lzma_rust2::LzmaWriter::new_use_header(Vec::new(), &options, None);
    let mut out = out.expect("memory");
    out.write_all(bytes).expect("memory");
    out.finish().expect("memory")
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    ruzstd::encoding::compress_to_vec(bytes, level)
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut reader = bzip2::read::BzEncoder::new(bytes, bzip2::Compression::fast());
    reader.read_to_end(&mut out).expect("memory");
    out
}

/// `lz4 -l`.
pub(super) fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x02, 0x21, 0x4c, 0x18];
    for block in bytes.chunks(8 << 20) {
        let block = lz4_flex::block::compress(block);
        out.extend((block.len() as u32).to_le_bytes());
        out.extend(block);
    }
    out
}

/// The container of `lzop`, with blocks that are stored.
fn lzop(bytes: &[u8]) -> Vec<u8> {
    let mut out = b"\x89LZO\0\x0d\x0a\x1a\x0a".to_vec();
    // Versions, method and level, flags, mode, times, no name, checksum.
    out.extend([0x10, 0x30, 0x20, 0x80, 0x09, 0x40, 1, 5]);
    out.extend([0; 4 + 8 + 4 + 1 + 4]);
    for block in bytes.chunks(256 << 10) {
        let length = (block.len() as u32).to_be_bytes();
        out.extend([length, length, [0; 4]].concat());
        out.extend(block);
    }
    out.extend([0; 4]);
    out
}

#[test]
fn every_form_of_kallsyms() {
    let kernel = writer::kernel();
    let expected = told(&read(wrappings::vmlinux(&kernel, Tables::New)));
    for tables in [
        Tables::Absolute,
        Tables::Old,
        Tables::OldWithOrder,
        Tables::OldButPercpu,
        Tables::New,
        Tables::ToPlace,
    ] {
        for (form, image) in [
            ("ELF", wrappings::vmlinux(&kernel, tables)),
            ("Image", wrappings::image(&kernel, tables)),
        ] {
            assert_eq!(told(&read(image)), expected, "{form}, {tables:?}");
        }
    }
}

/// With RELA, pointers are in a table and not in their places.
#[test]
fn pointers_in_a_table() {
    let kernel = writer::kernel();
    let expected = told(&read(wrappings::image(&kernel, Tables::New)));
    let image = wrappings::image_with_relocations(&kernel);
    assert_eq!(told(&read(image)), expected);
}

/// The zeros in their places are not taken for pointers where an event is at a multiple of
/// 64 KB, to which kernels are aligned.
#[test]
fn pointers_in_a_table_and_an_event_at_a_round_place() {
    let mut kernel = writer::kernel();
    let at = kernel.align(1 << 16);
    kernel.bytes.resize(kernel.bytes.len() + 64, 0);
    kernel.symbol("event_at_a_round_place", at);
    let expected = told(&read(wrappings::image(&kernel, Tables::New)));
    let image = wrappings::image_with_relocations(&kernel);
    assert_eq!(told(&read(image)), expected);
}

/// riscv's image begins before `_text`, and its header says that it is riscv's.
#[test]
fn an_image_that_begins_before_its_text() {
    let mut kernel = writer::kernel();
    let expected = told(&read(wrappings::image(&kernel, Tables::New)));
    for (name, at) in &mut kernel.symbols {
        if name == "_text" {
            assert_eq!(*at, 0);
            "_start".clone_into(name);
        }
    }
    kernel.symbols.push(("_text".to_owned(), 64));
    for tables in [Tables::Old, Tables::New, Tables::ToPlace] {
        let mut image = wrappings::image(&kernel, tables);
        image[0x38..0x3c].copy_from_slice(b"RSC\x05");
        assert_eq!(told(&read(image)), expected, "{tables:?}");
    }
}

#[test]
fn every_compression_in_every_wrapping() {
    let kernel = writer::kernel();
    let vmlinux = wrappings::vmlinux(&kernel, Tables::OldButPercpu);
    let image = wrappings::image(&kernel, Tables::New);
    let expected = told(&read(vmlinux.clone()));
    type Compress = fn(&[u8]) -> Vec<u8>;
    let all: [(&str, Compress); 7] = [
        ("gzip", gzip),
        ("xz", xz),
        ("zstd", zstd),
        ("lz4", lz4),
        ("lzo", lzop),
        ("bzip2", bzip2),
        ("lzma", lzma),
    ];
    for (name, compress) in all {
        let mut payload = compress(&vmlinux);
        if name != "gzip" {
            // The length that the kernel's Makefile appends.
            payload.extend((vmlinux.len() as u32).to_le_bytes());
        }
        let compressed = compress(&image);
        for (form, bytes) in [
            ("bzImage", wrappings::bz_image(&payload)),
            ("zboot", wrappings::zboot(&compressed)),
            ("compressed", compressed),
        ] {
            assert_eq!(told(&read(bytes)), expected, "{name}, {form}");
        }
    }
}

/// BTF alone does not tell events, and is a kernel all the same: its tracepoints are known.
#[test]
fn btf_alone() {
    let btf = writer::types().bytes();
    for bytes in [btf.clone(), xz(&btf)] {
        let kernel = read(bytes);
        // Not known is not none.
        for error in [
            kernel.events().expect_err("no list"),
            kernel.event_directories().expect_err("no directories"),
            kernel.tracepoint("test:first").expect_err("no format file"),
        ] {
            assert!(matches!(error, Error::EventsUnknown { .. }), "{error}");
        }
        let known = kernel.btf_alone().expect("BTF alone");
        assert_eq!(
            known
                .tracepoint("first")
                .expect("a tracepoint")
                .raw()
                .home(),
            "vmlinux"
        );
        let raw = kernel.raw_tracepoint("first").expect("a tracepoint");
        assert_eq!(raw.home(), "vmlinux");
    }
}
