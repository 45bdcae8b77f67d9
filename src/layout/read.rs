//! Deserializes layouts.
//!
//! A stored layout has its types as text. It can still be described and compared, nested
//! structs included.

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::ctype::{CType, RecordKeyword};
use super::{Layout, Slot};

/// The largest width of a bitfield, in bits: BTF stores it in a byte.
const MAX_WIDTH: u64 = 255;

/// The serialized form of a [`Layout`], without `align` and `gaps`, which follow from the
/// slots.
#[derive(Deserialize)]
struct StoredLayout {
    kind: RecordKeyword,
    name: Option<String>,
    size: u32,
    slots: Vec<Slot>,
}

/// The serialized form of a [`Slot`].
#[derive(Deserialize)]
struct StoredSlot {
    name: String,
    c_type: String,
    offset: u32,
    size: u32,
    align: u32,
    bits: Option<[u64; 2]>,
    nested: Option<Layout>,
}

impl<'de> Deserialize<'de> for Layout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = StoredLayout::deserialize(deserializer)?;
        Ok(Self::new(
            stored.kind,
            stored.name,
            stored.size,
            stored.slots,
        ))
    }
}

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = StoredSlot::deserialize(deserializer)?;
        let (bit_offset, width) = match stored.bits {
            None => (u64::from(stored.offset) * 8, None),
            Some([start, end]) => {
                let width = end.checked_sub(start).filter(|width| *width <= MAX_WIDTH);
                let width = width.ok_or_else(|| {
                    D::Error::custom("bits that end before they begin, or are too many")
                })?;
                (start, Some(width as u32))
            }
        };
        let ty = stored
            .c_type()
            .ok_or_else(|| D::Error::custom("a size that is not a whole number of elements"))?;
        let slot = Self {
            name: stored.name,
            ty,
            c_type: stored.c_type,
            bit_offset,
            width,
        };
        let place = (slot.offset(), slot.size(), slot.align());
        match place == (stored.offset, stored.size, stored.align) {
            true => Ok(slot),
            false => Err(D::Error::custom(
                "an offset, a size or an alignment that the others contradict",
            )),
        }
    }
}

impl StoredSlot {
    /// Returns a type of this size and alignment, with the nested layout.
    fn c_type(&self) -> Option<CType> {
        let element = match &self.nested {
            Some(nested) => CType::Record {
                keyword: nested.keyword(),
                name: nested.name().map(str::to_owned),
                body: Some(Box::new(nested.clone())),
            },
            None => CType::Spelled {
                text: self.c_type.clone(),
                size: self.align,
                signed: false,
                is_pointer: false,
            },
        };
        // The size of a bitfield follows from its bits.
        if self.bits.is_some() || element.size() == self.size {
            return Some(element);
        }
        let count = match element.size() {
            0 => return None,
            size => self.size / size,
        };
        let whole = element.size().checked_mul(count) == Some(self.size);
        whole.then(|| CType::Array {
            element: Box::new(element),
            count,
        })
    }
}
