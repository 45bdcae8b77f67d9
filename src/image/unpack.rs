//! Tells what a file is, and unpacks the files inside it: boot headers and compression.
//!
//! A kernel is compressed, and wrapped in code that decompresses it at boot
//! (`arch/x86/boot/header.S`, `drivers/firmware/efi/libstub/zboot-header.S`). The
//! compressed kernel is found by the headers that boot loaders read. The boot code of s390 and
//! 32-bit arm does not tell where it is: the first compressed data in it is the kernel.

use std::io::{self, Read};

use ruzstd::decoding::StreamingDecoder;

use object::Architecture;

use super::error::{ImageError, Reason};
use crate::machine::{ByteOrder, Machine};

/// Limit on decompressed data in bytes. Kernels have 30 to 100 MB, and modules with
/// debugging information up to some 100 MB.
pub(crate) const MAX_UNPACKED: u64 = 512 << 20;

/// Limit on files inside each other. A bzImage in a `.gz` has three.
const MAX_DEPTH: u32 = 5;

/// The innermost file.
#[derive(Debug)]
pub(super) enum Unpacked {
    /// An ELF file: a kernel, a module, or an object with a section `.BTF`.
    Elf(Vec<u8>),
    /// The kernel's memory from its first byte on: arm64's and riscv's `Image`, and the kernel
    /// in the boot code of s390 and of 32-bit arm.
    Raw(Vec<u8>, RawKind),
    /// A BTF object.
    Btf(Vec<u8>),
}

/// The machine of a kernel's memory without ELF, by the boot header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RawKind {
    Arm64,
    Riscv64,
    S390x,
    Arm,
}

impl RawKind {
    pub(super) const fn machine(self) -> Machine {
        match self {
            Self::Arm64 | Self::Riscv64 => Machine::new(ByteOrder::Little, true),
            Self::S390x => Machine::new(ByteOrder::Big, true),
            Self::Arm => Machine::new(ByteOrder::Little, false),
        }
    }

    pub(super) const fn architecture(self) -> Architecture {
        match self {
            Self::Arm64 => Architecture::Aarch64,
            Self::Riscv64 => Architecture::Riscv64,
            Self::S390x => Architecture::S390x,
            Self::Arm => Architecture::Arm,
        }
    }
}

/// A format of compressed data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    Gzip,
    Xz,
    Zstd,
    /// The format of `lz4 -l`, which the kernel uses.
    Lz4,
    Lzo,
    Bzip2,
    /// The format of `lzma`, the predecessor of xz.
    Lzma,
}

impl Compression {
    /// Returns the compression by its first bytes, as `lib/decompress.c` lists them.
    fn of(bytes: &[u8]) -> Option<Self> {
        const MAGICS: [(&[u8], Compression); 7] = [
            (&[0x1f, 0x8b], Compression::Gzip),
            (b"\xfd7zXZ\0", Compression::Xz),
            (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
            (&[0x02, 0x21, 0x4c, 0x18], Compression::Lz4),
            (b"\x89LZO", Compression::Lzo),
            (b"BZh", Compression::Bzip2),
            (&[0x5d, 0, 0], Compression::Lzma),
        ];
        let mut known = MAGICS.into_iter();
        let (_, compression) = known.find(|(magic, _)| bytes.starts_with(magic))?;
        Some(compression)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Lzo => "lzo",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
        }
    }
}

/// Returns the innermost file.
///
/// # Errors
///
/// [`ImageError::Unknown`], [`ImageError::Compressed`], [`ImageError::CutOff`],
/// [`ImageError::TooLarge`] and [`ImageError::TooDeep`].
pub(super) fn unpack(mut bytes: Vec<u8>) -> Result<Unpacked, ImageError> {
    for _ in 0..MAX_DEPTH {
        if bytes.starts_with(b"\x7fELF") {
            return Ok(Unpacked::Elf(bytes));
        }
        if let Some(kind) = raw_kind(&bytes) {
            return Ok(Unpacked::Raw(bytes, kind));
        }
        if let Some(kind) = boot_code(&bytes) {
            return behind_boot_code(&bytes).map(|bytes| Unpacked::Raw(bytes, kind));
        }
        if matches!(bytes.get(..3), Some([0x9f, 0xeb, 1] | [0xeb, 0x9f, 1])) {
            return Ok(Unpacked::Btf(bytes));
        }
        bytes = match payload(&bytes)? {
            Some(inside) => decompressed(inside)?.ok_or(ImageError::Unknown)?,
            None => match decompressed(&bytes)? {
                Some(inside) => inside,
                None => btf_in_tar(&bytes).ok_or(ImageError::Unknown)?,
            },
        };
    }
    Err(ImageError::TooDeep { limit: MAX_DEPTH })
}

/// Returns the decompressed bytes; `None` if they are not compressed.
///
/// # Errors
///
/// [`ImageError::Compressed`] and [`ImageError::TooLarge`].
fn decompressed(bytes: &[u8]) -> Result<Option<Vec<u8>>, ImageError> {
    let Some(compression) = Compression::of(bytes) else {
        return Ok(None);
    };
    let mut out = Vec::new();
    let read = read_all(compression, bytes, &mut out);
    if out.len() as u64 > MAX_UNPACKED {
        return Err(ImageError::TooLarge {
            limit: MAX_UNPACKED,
        });
    }
    match read {
        Ok(()) => Ok(Some(out)),
        Err(error) => Err(ImageError::Compressed {
            format: compression.name(),
            reason: Reason::of(&error),
        }),
    }
}

/// Appends the decompressed data, and at most one byte more than the limit.
fn read_all(compression: Compression, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let limit = MAX_UNPACKED + 1;
    match compression {
        Compression::Lz4 => lz4(bytes, out),
        Compression::Lzo => super::lzo::decompress(bytes, out),
        _ => reader(compression, bytes, true)?
            .take(limit)
            .read_to_end(out)
            .map(drop),
    }
}

/// Returns a reader of the decompressed data. Formats without streams are decompressed
/// whole. `is_all` says whether the input ends with the data: then it may be several streams of
/// xz, one after another.
fn reader<'a>(
    compression: Compression,
    input: impl Read + 'a,
    is_all: bool,
) -> io::Result<Box<dyn Read + 'a>> {
    // Kernels' dictionaries have at most 128 MB: `xz --lzma2=dict=128MiB`,
    // `zstd --ultra -22`.
    const DICTIONARY: u64 = 128 << 20;
    const MEMORY_KB: u32 = 2 * (DICTIONARY >> 10) as u32;
    Ok(match compression {
        Compression::Gzip => Box::new(flate2::read::GzDecoder::new(input)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(
            input, is_all, MEMORY_KB,
        )),
        Compression::Lzma => {
            let reader = lzma_rust2::LzmaReader::new_mem_limit(input, MEMORY_KB, None);
            Box::new(reader.map_err(io::Error::other)?)
        }
        Compression::Zstd => {
            let reader = StreamingDecoder::new_with_max_window_size(input, DICTIONARY);
            Box::new(reader.map_err(io::Error::other)?)
        }
        Compression::Bzip2 => Box::new(bzip2::read::BzDecoder::new(input)),
        Compression::Lz4 | Compression::Lzo => {
            return Err(io::Error::other("not a format with streams"));
        }
    })
}

/// Returns a reader of a stream that begins with `start`. If the stream is compressed, the
/// reader decompresses it.
///
/// # Errors
///
/// Those of the decompressor, and an error if the stream is compressed by lz4 or lzo.
pub(crate) fn stream<'a>(start: &[u8], input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    match Compression::of(start) {
        Some(compression) => reader(compression, input, true),
        None => Ok(Box::new(input)),
    }
}

/// Decompresses the format of `lib/decompress_unlz4.c`: blocks of up to 8 MB, each with its
/// length before it.
fn lz4(bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    const BLOCK: usize = 8 << 20;
    let mut rest = bytes.get(4..).unwrap_or_default();
    // x86 appends the kernel's length in 4 bytes; no block is as short.
    while rest.len() > 4 {
        let length = u32::from_le_bytes(*rest.first_chunk().unwrap_or(&[0; 4])) as usize;
        if length == 0 {
            break;
        }
        let block = rest.get(4..).and_then(|rest| rest.get(..length));
        let block = block.ok_or(io::ErrorKind::UnexpectedEof)?;
        let block = lz4_flex::block::decompress(block, BLOCK).map_err(io::Error::other)?;
        out.extend_from_slice(&block);
        if out.len() as u64 > MAX_UNPACKED {
            break;
        }
        rest = &rest[4 + length..];
    }
    Ok(())
}

/// Returns the machine of a kernel's memory with a header of arm64
/// (`arch/arm64/kernel/head.S`) or riscv (`arch/riscv/include/asm/image.h`).
fn raw_kind(bytes: &[u8]) -> Option<RawKind> {
    match bytes.get(0x38..0x3c) {
        Some(b"ARM\x64") => Some(RawKind::Arm64),
        Some(b"RSC\x05") => Some(RawKind::Riscv64),
        _ => None,
    }
}

/// Returns the machine of boot code that holds a compressed kernel and does not tell where:
/// s390's bzImage (`arch/s390/boot/head.S`) and arm's zImage
/// (`arch/arm/boot/compressed/head.S`).
fn boot_code(bytes: &[u8]) -> Option<RawKind> {
    const ZIMAGE: [u8; 4] = 0x016f_2818_u32.to_le_bytes();
    if bytes.get(0x10008..0x1000e) == Some(b"S390EP") {
        return Some(RawKind::S390x);
    }
    (bytes.get(0x24..0x28) == Some(&ZIMAGE)).then_some(RawKind::Arm)
}

/// Returns the kernel inside boot code: the first data that can be decompressed and is larger
/// than the boot code with it.
///
/// # Errors
///
/// [`ImageError::Unknown`] if there is none.
fn behind_boot_code(bytes: &[u8]) -> Result<Vec<u8>, ImageError> {
    /// Limit on places that are tried; the two first bytes of gzip's may be anything's.
    const MAX_TRIED: usize = 256;
    let places = (0..bytes.len()).filter_map(|at| {
        let rest = &bytes[at..];
        Some((Compression::of(rest)?, rest))
    });
    for (compression, rest) in places.take(MAX_TRIED) {
        let mut kernel = Vec::new();
        let read = match compression {
            Compression::Lz4 | Compression::Lzo => {
                read_all(compression, rest, &mut kernel).map(|()| kernel.len())
            }
            // Other code follows the data.
            _ => reader(compression, rest, false)
                .and_then(|reader| reader.take(MAX_UNPACKED + 1).read_to_end(&mut kernel)),
        };
        if kernel.len() as u64 > MAX_UNPACKED {
            return Err(ImageError::TooLarge {
                limit: MAX_UNPACKED,
            });
        }
        if read.is_ok() && kernel.len() > bytes.len() {
            return Ok(kernel);
        }
    }
    Err(ImageError::Unknown)
}

/// Returns the compressed kernel inside a kernel that decompresses itself.
fn payload(bytes: &[u8]) -> Result<Option<&[u8]>, ImageError> {
    let word = |at: usize| {
        let word = bytes.get(at..)?.first_chunk::<4>()?;
        usize::try_from(u32::from_le_bytes(*word)).ok()
    };
    let cut_off = ImageError::CutOff {
        part: "the compressed kernel",
    };
    // `Documentation/arch/x86/boot.rst`.
    if bytes.get(0x202..0x206) == Some(b"HdrS") {
        const SECTOR: usize = 512;
        let setup = match bytes[0x1f1] {
            0 => 4,
            sectors => usize::from(sectors),
        };
        let start = word(0x248).and_then(|offset| offset.checked_add((setup + 1) * SECTOR));
        let length = word(0x24c);
        let (Some(start), Some(length)) = (start, length) else {
            return Err(cut_off);
        };
        let inside = bytes.get(start..).and_then(|rest| rest.get(..length));
        let inside = inside.ok_or(cut_off)?;
        return Ok(Some(without_length(inside)));
    }
    // `drivers/firmware/efi/libstub/zboot-header.S`.
    if bytes.starts_with(b"MZ") && bytes.get(4..8) == Some(b"zimg") {
        let (Some(start), Some(length)) = (word(8), word(12)) else {
            return Err(cut_off);
        };
        let inside = bytes.get(start..).and_then(|rest| rest.get(..length));
        return inside.map(Some).ok_or(cut_off);
    }
    Ok(None)
}

/// Removes the length of the kernel that `scripts/Makefile.lib` (`size_append`) adds after
/// all formats but gzip, which has it already.
fn without_length(bytes: &[u8]) -> &[u8] {
    match Compression::of(bytes) {
        None | Some(Compression::Gzip) => bytes,
        Some(_) => &bytes[..bytes.len().saturating_sub(4)],
    }
}

/// Returns the BTF object that is alone in a tar archive, as BTFHub packs it.
fn btf_in_tar(bytes: &[u8]) -> Option<Vec<u8>> {
    const BLOCK: usize = 512;
    if bytes.get(257..262) != Some(b"ustar") {
        return None;
    }
    let size = str::from_utf8(bytes.get(124..136)?).ok()?;
    let size = size.trim_matches(|c: char| c == '\0' || c == ' ');
    let size = usize::from_str_radix(size, 8).ok()?;
    let inside = bytes.get(BLOCK..)?.get(..size)?;
    Some(inside.to_vec())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{RawKind, Unpacked, unpack};

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    /// The kernel is the first compressed data that is larger than its wrapping, wherever it is
    /// and whatever looks like other data before it.
    #[test]
    fn kernels_behind_boot_code() {
        let kernel: Vec<u8> = (0..1 << 20).map(|index: u32| (index >> 12) as u8).collect();
        let small = gzip(b"a font");
        let mut s390 = vec![0; 0x10100];
        s390[0x10008..0x1000e].copy_from_slice(b"S390EP");
        let mut arm = vec![0; 0x100];
        arm[0x24..0x28].copy_from_slice(&0x016f_2818_u32.to_le_bytes());
        for (code, expected) in [(s390, RawKind::S390x), (arm, RawKind::Arm)] {
            let mut image = code.clone();
            image.extend([0x1f, 0x8b, 8, 0xff, 0x28, 0xb5, 0x2f, 0xfd]);
            image.extend(&small);
            image.extend(gzip(&kernel));
            image.extend([0x5a; 100]);
            match unpack(image) {
                Ok(Unpacked::Raw(bytes, kind)) => {
                    assert_eq!(kind, expected);
                    assert!(bytes == kernel, "another kernel");
                }
                other => panic!("{other:?}"),
            }
            unpack(code).expect_err("no kernel in it");
        }
    }
}
