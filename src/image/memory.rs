//! The memory of a kernel or a module, as its files would fill it.

use std::ops::Range;

use crate::machine::{Machine, until_nul};

/// Addresses and the bytes that are there.
#[derive(Debug)]
pub(crate) struct ImageMemory {
    machine: Machine,
    data: Vec<u8>,
    /// Sorted by address, without overlaps.
    regions: Vec<Region>,
}

/// A range of consecutive addresses.
#[derive(Clone, Debug)]
pub(super) struct Region {
    pub(super) start: u64,
    /// The place of their bytes in the file.
    pub(super) bytes: Range<usize>,
}

impl Region {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// Limit on a text's length in bytes; a print fmt has up to 10 KB.
const MAX_TEXT: usize = 1 << 20;

impl ImageMemory {
    /// Creates a memory. Leaves out regions that lie outside of `data` or overlap one
    /// before.
    pub(super) fn new(machine: Machine, data: Vec<u8>, mut regions: Vec<Region>) -> Self {
        regions.retain(|region| {
            region.bytes.start < region.bytes.end
                && region.bytes.end <= data.len()
                && region.start.checked_add(region.len()).is_some()
        });
        regions.sort_by_key(|region| region.start);
        let mut end = 0;
        regions.retain(|region| {
            let is_apart = region.start >= end;
            if is_apart {
                end = region.start + region.len();
            }
            is_apart
        });
        Self {
            machine,
            data,
            regions,
        }
    }

    pub(super) fn machine(&self) -> Machine {
        self.machine
    }

    /// Returns the bytes of all regions, with those between them in the file.
    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    pub(super) fn regions(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let regions = self.regions.iter();
        regions.map(|region| (region.start, &self.data[region.bytes.clone()]))
    }

    /// Returns the place in the file of the bytes from an address to the end of its region.
    fn place(&self, address: u64) -> Option<Range<usize>> {
        let after = self
            .regions
            .partition_point(|region| region.start <= address);
        let region = &self.regions[after.checked_sub(1)?];
        let offset = usize::try_from(address - region.start).ok()?;
        let start = region.bytes.start.checked_add(offset)?;
        (start < region.bytes.end).then_some(start..region.bytes.end)
    }

    /// Returns the bytes from an address to the end of its region.
    pub(super) fn from(&self, address: u64) -> Option<&[u8]> {
        self.data.get(self.place(address)?)
    }

    pub(super) fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        self.from(address)?.get(..length)
    }

    /// Overwrites bytes, as a relocation does.
    pub(super) fn put(&mut self, address: u64, value: u64, size: usize) -> Option<()> {
        let place = self.place(address)?;
        let bytes = self.data.get_mut(place)?.get_mut(..size)?;
        match self.machine.byte_order() {
            crate::machine::ByteOrder::Little => {
                bytes.copy_from_slice(value.to_le_bytes().get(..size)?);
            }
            crate::machine::ByteOrder::Big => {
                bytes.copy_from_slice(value.to_be_bytes().get(8usize.checked_sub(size)?..)?);
            }
        }
        Some(())
    }

    /// Reads a number of `size` bytes, at most 8.
    pub(super) fn unsigned(&self, address: u64, size: usize) -> Option<u64> {
        Some(self.machine.unsigned(self.bytes(address, size)?))
    }

    pub(super) fn pointer(&self, address: u64) -> Option<u64> {
        self.unsigned(address, self.machine.long_size() as usize)
    }

    /// Reads a NUL-terminated text; `None` if it has no end or is not valid UTF-8.
    pub(super) fn text(&self, address: u64) -> Option<&str> {
        let bytes = self.from(address)?;
        let text = until_nul(&bytes[..bytes.len().min(MAX_TEXT)]);
        if bytes.get(text.len()) != Some(&0) {
            return None;
        }
        str::from_utf8(text).ok()
    }
}

/// Reads an array of pointers that lies between two addresses.
pub(super) fn pointers(memory: &ImageMemory, range: Range<u64>, limit: usize) -> Option<Vec<u64>> {
    let size = u64::from(memory.machine().long_size());
    let length = range.end.checked_sub(range.start)?;
    let count = usize::try_from(length / size)
        .ok()
        .filter(|count| *count <= limit)?;
    let all = memory.bytes(range.start, usize::try_from(length).ok()?);
    // An empty array may begin where a region ends.
    let all = if length == 0 { &[] } else { all? };
    let words = all.chunks_exact(size as usize).take(count);
    Some(words.map(|word| memory.machine().unsigned(word)).collect())
}
