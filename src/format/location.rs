//! Where in a record the data of a dynamic field are.

use std::ops::Range;

use super::{Field, FieldKind};
use crate::machine::Machine;

/// The size of a location, in bytes.
pub(crate) const LOCATION: u32 = 4;

/// A `__data_loc` or `__rel_loc`: its low 16 bits are the offset of the data in bytes, the
/// others their length (`__dynamic_array()` in the kernel's
/// `include/trace/stages/stage4_event_fields.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    start: usize,
    /// `None` in 2-byte locations, which old kernels have: they have no length.
    length: Option<usize>,
}

impl Location {
    /// Reads a location whose offset counts from `base`, in bytes from the record's
    /// start.
    #[inline]
    pub(crate) fn read(raw: &[u8], base: usize, machine: Machine) -> Self {
        // In synthetic events a location is half of a 64-bit slot; the other half is
        // undefined.
        let raw = raw.get(..LOCATION as usize).unwrap_or(raw);
        let word = machine.unsigned(raw) as usize;
        match raw.len() == LOCATION as usize {
            true => Self {
                start: base.saturating_add(word & 0xffff),
                length: Some(word >> 16),
            },
            false => Self {
                start: base.saturating_add(word),
                length: None,
            },
        }
    }

    /// Returns the bytes of the data in a record of this length.
    #[inline]
    pub(crate) fn range(self, record: usize) -> Range<usize> {
        let end = match self.length {
            Some(length) => self.start.saturating_add(length),
            None => record,
        };
        self.start..end
    }

    /// Whether there are no data, as where the kernel could not read a string.
    pub(crate) fn is_empty(self) -> bool {
        self.length == Some(0)
    }
}

impl Field {
    /// Returns where the locations of a dynamic field count from, in bytes from the
    /// record's start: those of a `__rel_loc` from its own end.
    #[inline]
    pub(crate) fn location_base(&self) -> usize {
        match self.kind() {
            FieldKind::RelLoc => (self.offset() as usize).saturating_add(self.size() as usize),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::ByteOrder;

    #[test]
    fn locations_of_all_sizes() {
        let little = Machine::new(ByteOrder::Little, true);
        let big = Machine::new(ByteOrder::Big, true);
        let range = |raw: &[u8], base, machine| Location::read(raw, base, machine).range(40);
        assert_eq!(range(&[20, 0, 3, 0], 0, little), 20..23);
        assert_eq!(range(&[0, 3, 0, 20], 0, big), 20..23);
        assert_eq!(range(&[2, 0, 3, 0], 16, little), 18..21);
        assert_eq!(range(&[20, 0], 0, little), 20..40);
        // The other half of a slot of a synthetic event.
        let slot = [20, 0, 3, 0, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(range(&slot, 0, little), 20..23);
        assert!(Location::read(&[20, 0, 0, 0], 0, little).is_empty());
        assert!(!Location::read(&[20, 0], 0, little).is_empty());
        assert_eq!(
            range(&[0xff; 4], usize::MAX, little),
            usize::MAX..usize::MAX
        );
    }
}
