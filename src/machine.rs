//! The machine whose bytes are read: its byte order and the size of a `long`.

use serde::{Deserialize, Serialize};

/// The order in which a machine stores the bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ByteOrder {
    /// The least significant byte first: x86, arm64, riscv.
    Little,
    /// The most significant byte first: s390x.
    Big,
}

impl ByteOrder {
    /// The byte order of the machine this code is compiled for.
    pub const NATIVE: Self = match cfg!(target_endian = "big") {
        true => Self::Big,
        false => Self::Little,
    };

    /// Reads a 2-byte number.
    #[inline]
    pub(crate) const fn read_u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    /// Reads a 4-byte number.
    #[inline]
    pub(crate) const fn read_u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    /// Reads the 4-byte number at an offset; `None` if it ends after the bytes do.
    #[inline]
    pub(crate) fn read_u32_at(self, bytes: &[u8], offset: usize) -> Option<u32> {
        bytes
            .get(offset..)?
            .first_chunk()
            .map(|word| self.read_u32(*word))
    }

    /// Reads up to 8 bytes as an unsigned number; of more bytes, only the first 8.
    #[inline]
    pub(crate) fn read_unsigned(self, bytes: &[u8]) -> u64 {
        let size = bytes.len().min(8);
        let mut word = [0; 8];
        match self {
            Self::Little => {
                word[..size].copy_from_slice(&bytes[..size]);
                u64::from_le_bytes(word)
            }
            Self::Big => {
                word[8 - size..].copy_from_slice(&bytes[..size]);
                u64::from_be_bytes(word)
            }
        }
    }

    /// Writes the low bytes of a number over all of `bytes`; of more than 8, the first 8.
    #[cfg(feature = "recording")]
    pub(crate) fn write_unsigned(self, bytes: &mut [u8], number: u64) {
        let size = bytes.len().min(8);
        match self {
            Self::Little => bytes[..size].copy_from_slice(&number.to_le_bytes()[..size]),
            Self::Big => bytes[..size].copy_from_slice(&number.to_be_bytes()[8 - size..]),
        }
    }
}

/// Returns the low `size` bytes of `bits` as a number in two's complement.
#[inline]
pub(crate) const fn sign_extended(bits: u64, size: u32) -> i64 {
    match size {
        0 => 0,
        1..8 => {
            let unused = 64 - 8 * size;
            (bits << unused) as i64 >> unused
        }
        8.. => bits as i64,
    }
}

/// Returns the low `size` bytes of `bits` as an unsigned number.
#[inline]
pub(crate) const fn zero_extended(bits: u64, size: u32) -> u64 {
    match size {
        0 => 0,
        1..8 => bits & (u64::MAX >> (64 - 8 * size)),
        8.. => bits,
    }
}

/// The byte order and word size of a machine, on which the meaning of a record's bytes
/// depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Machine {
    byte_order: ByteOrder,
    is_64_bit: bool,
}

impl Machine {
    /// The machine this code is compiled for. In a 32-bit program on a 64-bit kernel, this
    /// is not the kernel's machine.
    pub const NATIVE: Self = Self {
        byte_order: ByteOrder::NATIVE,
        is_64_bit: cfg!(target_pointer_width = "64"),
    };

    /// Returns a machine of this byte order, with a 64-bit or a 32-bit kernel.
    pub const fn new(byte_order: ByteOrder, is_64_bit: bool) -> Self {
        Self {
            byte_order,
            is_64_bit,
        }
    }

    /// Returns the machine's byte order.
    pub const fn byte_order(self) -> ByteOrder {
        self.byte_order
    }

    /// Returns the size in bytes of the kernel's `long` and of its pointers: 8 or 4.
    pub const fn long_size(self) -> u32 {
        if self.is_64_bit { 8 } else { 4 }
    }

    /// Reads up to 8 bytes as an unsigned number; of more bytes, only the first 8.
    #[inline]
    pub fn unsigned(self, bytes: &[u8]) -> u64 {
        self.byte_order.read_unsigned(bytes)
    }

    /// Reads up to 8 bytes as a number in two's complement; of more bytes, only the first
    /// 8.
    #[inline]
    pub fn signed(self, bytes: &[u8]) -> i64 {
        sign_extended(self.unsigned(bytes), bytes.len() as u32)
    }

    /// Returns the id of a record's event: its `common_type`, the u16 that every record
    /// begins with (`struct trace_entry`); `None` for fewer than 2 bytes.
    ///
    /// A record is the bytes between two headers of the ring buffer, or those that perf's
    /// `PERF_SAMPLE_RAW` has after its u32 size.
    #[inline]
    pub fn event_id(self, record: &[u8]) -> Option<u16> {
        Some(self.byte_order.read_u16(*record.first_chunk()?))
    }
}

pub(crate) fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|&byte| byte == 0);
    &bytes[..end.unwrap_or(bytes.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_size() {
        let little = Machine::new(ByteOrder::Little, true);
        let big = Machine::new(ByteOrder::Big, true);
        let bytes = [0x01, 0x02, 0x83];
        assert_eq!(little.unsigned(&bytes), 0x83_02_01);
        assert_eq!(big.unsigned(&bytes), 0x01_02_83);
        assert_eq!(little.signed(&bytes), 0x83_02_01 - 0x100_0000);
        assert_eq!(big.signed(&bytes), 0x01_02_83);
        assert_eq!((little.unsigned(&[]), little.signed(&[])), (0, 0));
        assert_eq!(big.signed(&[0xff; 8]), -1);
        assert_eq!(big.unsigned(&[0xff; 12]), u64::MAX);
    }
}
