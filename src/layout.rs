//! Where named things lie in a run of bytes: what a format file says of a
//! record and BTF of a struct, in one form.

use serde::Serialize;

/// A struct's or record's members in the order of their offsets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layout {
    size: u32,
    slots: Vec<Slot>,
}

/// One named run of bytes of a [`Layout`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Slot {
    name: String,
    c_type: String,
    offset: u32,
    size: u32,
}

impl Layout {
    /// Sorts the slots by offset; those at one offset (a union, an empty array)
    /// stay in the order given.
    pub(crate) fn new(size: u32, mut slots: Vec<Slot>) -> Self {
        slots.sort_by_key(|slot| slot.offset);
        Self { size, slots }
    }

    /// The whole size in bytes. For a record it is the end of the last field:
    /// what dynamic fields point at comes after it.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The members, by offset.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The member of this C name: a dynamic field `f` is `__data_loc_f`.
    pub fn slot(&self, name: &str) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.name == name)
    }

    /// The bytes no member covers, as ranges of offsets: padding, and what the
    /// kernel does not tell about.
    pub fn gaps(&self) -> Vec<std::ops::Range<u32>> {
        let mut gaps = Vec::new();
        let mut covered = 0;
        for slot in &self.slots {
            if slot.offset > covered {
                gaps.push(covered..slot.offset);
            }
            covered = covered.max(slot.end());
        }
        if covered < self.size {
            gaps.push(covered..self.size);
        }
        gaps
    }
}

impl Slot {
    pub(crate) fn new(name: String, c_type: String, offset: u32, size: u32) -> Self {
        Self {
            name,
            c_type,
            offset,
            size,
        }
    }

    /// The member's C name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its C type as an abstract declarator: `pid_t`, `char[16]`,
    /// `struct page *`.
    pub fn c_type(&self) -> &str {
        &self.c_type
    }

    /// Where it begins, in bytes.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// How many bytes it takes; 0 for a flexible array. A bitfield takes the
    /// bytes its bits touch.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The offset after its last byte.
    pub fn end(&self) -> u32 {
        self.offset.saturating_add(self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_lie_between_before_and_after() {
        let slot = |name: &str, offset, size| Slot::new(name.into(), "u8".into(), offset, size);
        let layout = Layout::new(
            24,
            vec![
                slot("b", 8, 4),
                slot("inner", 9, 1),
                slot("a", 2, 4),
                slot("c", 12, 4),
            ],
        );
        assert_eq!(layout.gaps(), [0..2, 6..8, 16..24]);
        let full = Layout::new(4, vec![slot("x", 0, 4), slot("flexible", 4, 0)]);
        assert_eq!(full.gaps(), []);
    }
}
