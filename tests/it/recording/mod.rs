//! Recordings of other programs, written by the tests.

mod hostile;
mod perf;
mod perf_hostile;
mod whole;
mod written;

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tracepoints::record::recording::TraceDat;

use crate::support::trace_dat::{DatFile, Packing, UNPACKED};

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

const PACKINGS: [Packing<'_>; 3] = [UNPACKED, ("zlib", &zlib), ("zstd", &zstd)];

/// The file in every form.
fn forms(dat: &DatFile) -> Vec<(String, Vec<u8>)> {
    let packed = PACKINGS.iter();
    let mut forms: Vec<_> = packed
        .map(|packing| (format!("7, {}", packing.0), dat.version_7(*packing)))
        .collect();
    forms.push(("6".to_owned(), dat.version_6()));
    forms
}

fn parsed(bytes: &[u8]) -> TraceDat<'_> {
    TraceDat::parse(bytes).expect("a recording")
}
