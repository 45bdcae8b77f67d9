//! The machine whose bytes are read: its byte order and the size of a `long`.

use serde::{Deserialize, Serialize};

/// In which order a machine keeps the bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ByteOrder {
    /// The lowest byte first: x86, arm64, riscv.
    Little,
    /// The highest byte first: s390x.
    Big,
}

impl ByteOrder {
    /// That of the machine this code is compiled for.
    pub const NATIVE: Self = match cfg!(target_endian = "big") {
        true => Self::Big,
        false => Self::Little,
    };
}

/// What of a machine the meaning of a record's bytes depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Machine {
    byte_order: ByteOrder,
    is_64_bit: bool,
}

impl Machine {
    /// The machine this code is compiled for. Of a 32-bit program on a 64-bit
    /// kernel it is not the kernel's.
    pub const NATIVE: Self = Self {
        byte_order: ByteOrder::NATIVE,
        is_64_bit: cfg!(target_pointer_width = "64"),
    };

    /// A machine of this byte order, with a 64-bit or a 32-bit kernel.
    pub const fn new(byte_order: ByteOrder, is_64_bit: bool) -> Self {
        Self {
            byte_order,
            is_64_bit,
        }
    }

    /// In which order it keeps the bytes of a number.
    pub const fn byte_order(self) -> ByteOrder {
        self.byte_order
    }

    /// The size in bytes of the kernel's `long` and of its pointers: 8 or 4.
    pub const fn long_size(self) -> u32 {
        if self.is_64_bit { 8 } else { 4 }
    }

    /// The unsigned number these 0 to 8 bytes are; of more, the first 8.
    #[inline]
    pub fn unsigned(self, bytes: &[u8]) -> u64 {
        let size = bytes.len().min(8);
        let mut word = [0; 8];
        match self.byte_order {
            ByteOrder::Little => {
                word[..size].copy_from_slice(&bytes[..size]);
                u64::from_le_bytes(word)
            }
            ByteOrder::Big => {
                word[8 - size..].copy_from_slice(&bytes[..size]);
                u64::from_be_bytes(word)
            }
        }
    }

    /// The number these 0 to 8 bytes are in two's complement.
    #[inline]
    pub fn signed(self, bytes: &[u8]) -> i64 {
        let unused = 64 - 8 * bytes.len().min(8) as u32;
        // A shift by all 64 bits is none: there was no byte, and it is 0.
        let shifted = self.unsigned(bytes).checked_shl(unused).unwrap_or(0);
        (shifted as i64).checked_shr(unused).unwrap_or(0)
    }

    /// The id of the event a record is of: its `common_type`, the u16 every
    /// record begins with (`struct trace_entry`); `None` of less than 2 bytes.
    ///
    /// A record is what stands between two headers of the ring buffer, and what
    /// perf's `PERF_SAMPLE_RAW` gives behind its u32 of the size.
    #[inline]
    pub fn event_id(self, record: &[u8]) -> Option<u16> {
        let id = *record.first_chunk()?;
        Some(match self.byte_order {
            ByteOrder::Little => u16::from_le_bytes(id),
            ByteOrder::Big => u16::from_be_bytes(id),
        })
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
