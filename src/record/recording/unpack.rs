//! Decompresses parts of a recording.

use std::io::{self, Read};

use super::error::{RecordingError, RecordingPlace, UnpackReason};

/// The compression of a file's parts, each of which is compressed alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Zlib,
    Zstd,
}

impl Packing {
    pub(super) fn of_name(name: &[u8]) -> Result<Self, RecordingError> {
        match name {
            b"none" => Ok(Self::None),
            b"zlib" => Ok(Self::Zlib),
            b"zstd" => Ok(Self::Zstd),
            other => Err(RecordingError::Compression {
                name: String::from_utf8_lossy(other).chars().take(80).collect(),
            }),
        }
    }
}

/// Decompresses, and counts the decompressed bytes: a few bytes may stand for gigabytes.
#[derive(Debug)]
pub(super) struct Unpacker {
    pub(super) packing: Packing,
    limit: u64,
    left: u64,
}

impl Unpacker {
    /// Creates an unpacker for a file of this size.
    pub(super) fn new(packing: Packing, file_size: usize) -> Self {
        // Pages shrink to a fifth, and texts to a tenth.
        const AT_LEAST: u64 = 64 << 20;
        const RATIO: u64 = 64;
        let limit = AT_LEAST.saturating_add((file_size as u64).saturating_mul(RATIO));
        Self {
            packing,
            limit,
            left: limit,
        }
    }

    /// Decompresses a stream of zstd in several parts, the first of which is at `place`, and
    /// appends what can be decompressed of it.
    pub(super) fn unpack_stream(
        &mut self,
        parts: &[&[u8]],
        place: RecordingPlace,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordingError> {
        // perf flushes the stream, and never ends it: an empty last block does.
        const END: &[u8] = &[1, 0, 0];
        let stream = [&parts.concat(), END].concat();
        let mut rest = stream.as_slice();
        while rest.len() > END.len() {
            let before = out.len();
            let read = zstd(&mut rest, self.left, out);
            self.left = match self.left.checked_sub((out.len() - before) as u64) {
                Some(left) => left,
                None => {
                    out.truncate(out.len() - 1);
                    return Err(RecordingError::TooLarge {
                        place,
                        limit: self.limit,
                    });
                }
            };
            read.map_err(|error| RecordingError::Unpack {
                place,
                reason: UnpackReason(error.to_string()),
            })?;
        }
        Ok(())
    }

    /// Decompresses bytes, which are said to become `size` bytes, and appends them.
    pub(super) fn unpack(
        &mut self,
        packed: &[u8],
        size: u64,
        place: RecordingPlace,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordingError> {
        self.left = match self.left.checked_sub(size) {
            Some(left) => left,
            None => {
                return Err(RecordingError::TooLarge {
                    place,
                    limit: self.limit,
                });
            }
        };
        let failed = |reason: String| RecordingError::Unpack {
            place,
            reason: UnpackReason(reason),
        };
        let before = out.len();
        let read = match self.packing {
            Packing::None => return Err(failed("the file says it has no compression".to_owned())),
            Packing::Zlib => read(flate2::read::ZlibDecoder::new(packed), size, out),
            Packing::Zstd => zstd(packed, size, out),
        };
        read.map_err(|error| failed(error.to_string()))?;
        match (out.len() - before) as u64 {
            found if found == size => Ok(()),
            found if found > size => {
                Err(failed(format!("more than the {size} bytes it should be")))
            }
            found => Err(failed(format!("{found} bytes of the {size} it should be"))),
        }
    }
}

/// Decompresses one frame of zstd.
fn zstd(packed: impl Read, limit: u64, out: &mut Vec<u8>) -> io::Result<()> {
    // `ZSTD_compress()` at any level, for at most 64 MiB.
    const WINDOW: u64 = 128 << 20;
    ruzstd::decoding::StreamingDecoder::new_with_max_window_size(packed, WINDOW)
        .map_err(io::Error::other)
        .and_then(|decoder| read(decoder, limit, out))
}

/// Appends at most one byte more than the limit.
fn read(decoder: impl Read, limit: u64, out: &mut Vec<u8>) -> io::Result<()> {
    decoder
        .take(limit.saturating_add(1))
        .read_to_end(out)
        .map(drop)
}
