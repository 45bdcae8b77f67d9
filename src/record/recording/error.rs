//! Why a recording cannot be read.

use std::fmt;

/// A recording that no program writes, or in a form that this crate does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The first bytes are not a `trace.dat`'s.
    #[error("not a trace.dat: the first bytes are not 17 08 44 and \"tracing\"")]
    NotTraceDat,
    /// The first bytes are not a `perf.data`'s.
    #[error("not a perf.data: the first bytes are not \"PERFILE2\", in either byte order")]
    NotPerfData,
    /// A `perf.data` without formats of events.
    #[error(
        "no formats of tracepoints: none was recorded, or perf record was killed before it wrote them"
    )]
    NoFormats,
    /// A `perf.data` that is one file of a directory.
    #[error("recorded with --threads: the records are in other files of the directory")]
    Directory,
    /// The file's version is neither 6 nor 7.
    #[error("version {version:?} of trace.dat: 6 and 7 are read")]
    Version {
        /// The version in the file.
        version: String,
    },
    /// The file ends inside a part, or a part is longer than what holds it.
    #[error("cut off at {place}: {part} needs {needed} bytes, and {left} are left")]
    CutOff {
        /// The part.
        part: &'static str,
        /// Where the part begins.
        place: RecordingPlace,
        /// The number of bytes it needs.
        needed: u64,
        /// The number of bytes there are.
        left: u64,
    },
    /// A part does not begin as in every recording, or a number is not one that a recording
    /// has.
    #[error("{expected} expected at {place}")]
    Expected {
        /// The content that every recording has there.
        expected: &'static str,
        /// The place of the part or number.
        place: RecordingPlace,
    },
    /// A section of version 7 is missing that no other section can replace.
    #[error("no section with {part}")]
    Missing {
        /// The content that the section would have.
        part: &'static str,
    },
    /// More items of a kind than any recording has.
    #[error("more than {limit} {what}")]
    TooMany {
        /// The kind.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The CPUs' data together are larger than the file, so that some of them overlap.
    #[error("the data of CPU {cpu} at {place} overlaps other CPUs' data")]
    Overlap {
        /// The CPU.
        cpu: u32,
        /// Where its data begins.
        place: RecordingPlace,
    },
    /// Text that the kernel's latency tracers printed, without records.
    #[error("recorded by a latency tracer: the file holds text, and no pages of records")]
    Latency,
    /// The file is compressed in a way that this crate does not know.
    #[error("compressed by {name:?}: zlib and zstd are read")]
    Compression {
        /// The compression, as the file names it.
        name: String,
    },
    /// A compressed part that cannot be decompressed.
    #[error("the data at {place} cannot be decompressed")]
    Unpack {
        /// Where it begins.
        place: RecordingPlace,
        /// The decompressor's reason.
        #[source]
        reason: UnpackReason,
    },
    /// The decompressed data are larger than any recording's of this size.
    #[error("the data at {place}, decompressed, exceed {limit} bytes")]
    TooLarge {
        /// The place of the part that exceeds the limit.
        place: RecordingPlace,
        /// The limit on all compressed parts together, decompressed, in bytes.
        limit: u64,
    },
}

/// A place in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingPlace {
    /// The offset from the file's start, in bytes; for compressed data, that of the part.
    pub offset: u64,
    /// The offset in the decompressed part, for compressed data.
    pub within: Option<u64>,
}

impl fmt::Display for RecordingPlace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.within {
            None => write!(out, "byte {}", self.offset),
            Some(within) => write!(
                out,
                "byte {within} of what is compressed at byte {}",
                self.offset
            ),
        }
    }
}

/// The reason of a decompressor, as text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnpackReason(pub(super) String);
