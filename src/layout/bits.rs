//! Bitfields: how their bits are taken out of a word.

use serde::{Deserialize, Serialize};

/// How a bitfield is taken out of a word of 64 bits: by these shifts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BitShift {
    pub(crate) left: u32,
    pub(crate) right: u32,
    pub(crate) signed: bool,
}

impl BitShift {
    /// Returns how a bitfield of this machine is taken out of a word of `size` bytes. BTF counts
    /// bits as the machine does: from the lowest on, or from the highest.
    pub(crate) fn new(size: u32, signed: bool, first: u32, width: u32) -> Self {
        let behind = match cfg!(target_endian = "big") {
            false => first,
            true => (8 * size).saturating_sub(first + width),
        };
        Self {
            left: 64 - (behind + width).min(64),
            right: 64 - width.min(64),
            signed,
        }
    }

    /// Returns the bitfield in a word, as the bits of an `i64` or, without a sign, of a `u64`.
    pub(crate) fn of(self, word: u64) -> u64 {
        let shifted = word.checked_shl(self.left).unwrap_or(0);
        match self.signed {
            true => (shifted as i64).checked_shr(self.right).unwrap_or(0) as u64,
            false => shifted.checked_shr(self.right).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Shifts take out the bits that BTF means, with their sign.
        #[test]
        fn bitfields(word: u64, size in prop::sample::select(vec![1u32, 2, 4, 8]), at: u32, long: u32) {
            let first = at % 8;
            let width = 1 + long % (8 * size - first);
            let word = match size {
                8 => word,
                size => word & ((1 << (8 * size)) - 1),
            };
            let behind = match cfg!(target_endian = "big") {
                true => 8 * size - first - width,
                false => first,
            };
            let expected = (word >> behind) as u128 & ((1 << width) - 1);
            let unsigned = BitShift::new(size, false, first, width);
            prop_assert_eq!(u128::from(unsigned.of(word)), expected);
            let signed = BitShift::new(size, true, first, width);
            let negative = expected >> (width - 1) != 0;
            let expected = expected as i128 - if negative { 1 << width } else { 0 };
            prop_assert_eq!(i128::from(signed.of(word) as i64), expected);
        }
    }
}
