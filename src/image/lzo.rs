//! LZO1X, in the container of `lzop`, as the kernel reads it (`lib/decompress_unlzo.c`,
//! `lib/lzo/lzo1x_decompress_safe.c`; the format is described in
//! `Documentation/staging/lzo.rst`).
//!
//! No maintained crate that this one may link reads it.

use std::io;

use super::unpack::MAX_UNPACKED;

/// The magic of `lzop`'s header.
const MAGIC: &[u8] = &[0x89, b'L', b'Z', b'O', 0, 0x0d, 0x0a, 0x1a, 0x0a];
const HAS_FILTER: u32 = 0x800;

/// Appends the decompressed data.
pub(super) fn decompress(bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut input = Input { bytes, at: 0 };
    header(&mut input)?;
    loop {
        let length = input.number(4)? as usize;
        if length == 0 {
            return Ok(());
        }
        let packed = input.number(4)? as usize;
        // The checksum of the decompressed block.
        input.number(4)?;
        let block = input.take(packed)?;
        if out.len() as u64 + length as u64 > MAX_UNPACKED {
            // For a size over the limit, the caller reports an error.
            out.resize(MAX_UNPACKED as usize + 1, 0);
            return Ok(());
        }
        match packed >= length {
            true => out.extend_from_slice(block),
            false => {
                let start = out.len();
                block_of(block, out, start + length)?;
                if out.len() != start + length {
                    return Err(invalid("a block of another length"));
                }
            }
        }
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..length).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.at += length;
        Ok(taken)
    }

    fn byte(&mut self) -> io::Result<usize> {
        Ok(usize::from(self.take(1)?[0]))
    }

    /// Reads a big-endian number.
    fn number(&mut self, size: usize) -> io::Result<u32> {
        let bytes = self.take(size)?;
        Ok(bytes
            .iter()
            .fold(0, |all, byte| all << 8 | u32::from(*byte)))
    }

    fn word_le(&mut self) -> io::Result<usize> {
        let bytes = self.take(2)?;
        Ok(usize::from(bytes[0]) | usize::from(bytes[1]) << 8)
    }

    /// Reads a length, which continues in the following bytes as long as they are 0.
    fn length(&mut self, base: usize) -> io::Result<usize> {
        let mut length = base;
        loop {
            match self.byte()? {
                0 => length += 255,
                last => return Ok(length + last),
            }
        }
    }
}

/// Reads the header, as `parse_header()` does.
fn header(input: &mut Input<'_>) -> io::Result<()> {
    if input.take(MAGIC.len())? != MAGIC {
        return Err(invalid("not the header of lzop"));
    }
    let version = input.number(2)?;
    // The library's version and, since 0.9.4, the version needed to read the file.
    input.number(2)?;
    if version >= 0x0940 {
        input.number(2)?;
    }
    input.number(1)?;
    if version >= 0x0940 {
        input.number(1)?;
    }
    let flags = input.number(4)?;
    if flags & HAS_FILTER != 0 {
        input.number(4)?;
    }
    // Mode and time.
    input.take(8)?;
    if version >= 0x0940 {
        input.take(4)?;
    }
    let name = input.number(1)? as usize;
    input.take(name)?;
    input.take(4)?;
    Ok(())
}

/// Copies bytes that were written `distance` bytes before.
fn copy(out: &mut Vec<u8>, distance: usize, length: usize, end: usize) -> io::Result<()> {
    let from = out.len().checked_sub(distance);
    let from = from.ok_or_else(|| invalid("a distance before the beginning"))?;
    if out.len() + length > end {
        return Err(invalid("a block that is too long"));
    }
    for at in from..from + length {
        out.push(out[at]);
    }
    Ok(())
}

fn literals(input: &mut Input<'_>, out: &mut Vec<u8>, length: usize, end: usize) -> io::Result<()> {
    if out.len() + length > end {
        return Err(invalid("a block that is too long"));
    }
    out.extend_from_slice(input.take(length)?);
    Ok(())
}

/// Decompresses one block, which fills `out` up to `end`.
fn block_of(bytes: &[u8], out: &mut Vec<u8>, end: usize) -> io::Result<()> {
    let mut input = Input { bytes, at: 0 };
    // The number of literals that the last instruction copied: 0 to 3, or 4 for more.
    let mut state = 0;
    if let Some(first @ 18..) = bytes.first().copied() {
        input.at = 1;
        let length = usize::from(first) - 17;
        literals(&mut input, out, length, end)?;
        state = length.min(4);
    }
    loop {
        let code = input.byte()?;
        let (distance, length, next) = match code {
            0..16 if state == 0 => {
                let length = match code {
                    0 => input.length(15 + 3)?,
                    code => code + 3,
                };
                literals(&mut input, out, length, end)?;
                state = 4;
                continue;
            }
            0..16 => {
                let distance = (code >> 2) + (input.byte()? << 2);
                match state {
                    4 => (distance + 2049, 3, code & 3),
                    _ => (distance + 1, 2, code & 3),
                }
            }
            16..32 => {
                let length = match code & 7 {
                    0 => input.length(7 + 2)?,
                    length => length + 2,
                };
                let word = input.word_le()?;
                let distance = ((code & 8) << 11) + (word >> 2);
                if distance == 0 {
                    return Ok(());
                }
                (distance + 16384, length, word & 3)
            }
            32..64 => {
                let length = match code & 31 {
                    0 => input.length(31 + 2)?,
                    length => length + 2,
                };
                let word = input.word_le()?;
                ((word >> 2) + 1, length, word & 3)
            }
            _ => {
                let distance = (input.byte()? << 3) + (code >> 2 & 7) + 1;
                (distance, (code >> 5) + 1, code & 3)
            }
        };
        copy(out, distance, length, end)?;
        literals(&mut input, out, next, end)?;
        state = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five equal lines, packed by `lzop -9`.
    const PACKED: &[u8] = b"\x89LZO\0\x0d\x0a\x1a\x0a\x10\x40\x20\xa0\x09\x40\x03\x09\x03\0\0\x09\
        \0\0\x81\xa4\x6b\x0a\x46\x98\0\0\0\0\x07lzo.txt\x5c\x23\x06\xd4\0\0\x01\xea\0\0\0\x36\
        \xb2\x04\x92\xbe\x1fthe kernel is \x20\x05\x34\0\x0d, and 012345678\
        95\x28\0L\x06\x01not\x0a\x20\0h\x84\x01\x11\0\0\0\0\0\0";

    #[test]
    fn what_lzop_packs() {
        let line = "the kernel is the kernel is the kernel is the kernel, \
                    and 0123456789 0123456789 0123456789 is not\n";
        let mut out = Vec::new();
        decompress(PACKED, &mut out).expect("sound");
        assert_eq!(String::from_utf8(out).expect("text"), line.repeat(5));
    }

    /// Truncated input is an error, and damaged input does not panic.
    #[test]
    fn damaged() {
        for length in 0..PACKED.len() {
            let mut out = Vec::new();
            assert!(decompress(&PACKED[..length], &mut out).is_err());
        }
        for at in 0..PACKED.len() {
            for bit in 0..8 {
                let mut packed = PACKED.to_vec();
                packed[at] ^= 1 << bit;
                let _ = decompress(&packed, &mut Vec::new());
            }
        }
    }
}
