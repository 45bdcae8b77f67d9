//! Finds a loader's data in a file, by the BTF in it.
//!
//! The two are strings of a C program, which a compiler puts anywhere. The loader knows the
//! offsets in its data of what it has the kernel load, so the data begins that far before a BTF
//! header, if sizes and names there are as the loader says.

use super::super::BpfObjectError;
use super::loader::{Loader, attr};
use crate::machine::ByteOrder;

/// The most BTF headers in a file.
const MAX_PLACES: usize = 1 << 12;

/// A file, and the places of BTF in it.
pub(super) struct BtfPlaces<'a> {
    bytes: &'a [u8],
    /// Searched when a loader is found.
    places: Option<Vec<(usize, ByteOrder)>>,
}

/// A loader's data.
#[derive(Clone, Copy)]
pub(super) struct LightData<'a> {
    bytes: &'a [u8],
    byte_order: ByteOrder,
}

impl<'a> LightData<'a> {
    pub(super) fn slice(self, at: u32, size: u32) -> Option<&'a [u8]> {
        let end = at.checked_add(size)?;
        self.bytes.get(at as usize..end as usize)
    }

    pub(super) fn word(self, at: u32) -> Option<u32> {
        self.byte_order.read_u32_at(self.bytes, at as usize)
    }

    /// Returns the text before the first NUL of these bytes.
    pub(super) fn text(self, at: u32, size: u32) -> Option<&'a [u8]> {
        let bytes = self.slice(at, size)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        Some(&bytes[..end])
    }

    /// Returns the size of the BTF there by its header.
    fn btf_size(self, at: u32) -> Option<u32> {
        let word = |index: u32| self.word(at.checked_add(4 * index)?);
        let end = |offset: u32, length: u32| word(offset)?.checked_add(word(length)?);
        word(1)?.checked_add(end(2, 3)?.max(end(4, 5)?))
    }

    /// Whether this is what the loader reads.
    fn is_of(self, loader: &Loader) -> bool {
        let btf_size = || {
            let said = self.word(loader.btf.attr.checked_add(attr::BTF_SIZE)?)?;
            (self.btf_size(loader.btf.at)? == said).then_some(())?;
            self.slice(loader.btf.at, said)
        };
        let is_map = |at: &u32| {
            // `enum bpf_map_type` has some forty, and the name ends.
            let kind = self.word(*at);
            let name = at.checked_add(attr::MAP_NAME);
            kind.is_some_and(|kind| kind < 256) && name.and_then(|at| self.text(at, 16)).is_some()
        };
        let mut programs = loader.programs.iter();
        btf_size().is_some()
            && loader.maps.iter().all(is_map)
            && programs.all(|program| {
                let field = |offset| self.word(program.attr.checked_add(offset)?);
                let name = program.attr.checked_add(attr::PROGRAM_NAME);
                let target = program.target.is_none_or(|(at, length)| {
                    let text = self.text(at, length);
                    text.is_some_and(|text| text.len() + 1 == length as usize)
                });
                field(attr::PROGRAM_TYPE).is_some_and(|kind| kind < 256)
                    && field(attr::INSTRUCTION_COUNT).is_some_and(|count| count > 0)
                    && name.and_then(|at| self.text(at, 16)).is_some()
                    && target
            })
    }
}

impl<'a> BtfPlaces<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            places: None,
        }
    }

    fn places(&mut self) -> &[(usize, ByteOrder)] {
        let bytes = self.bytes;
        self.places.get_or_insert_with(|| {
            // The magic number, version 1 and no flags.
            let places = bytes.windows(4).enumerate();
            let places = places.filter_map(|(at, start)| match start {
                [0x9f, 0xeb, 1, 0] => Some((at, ByteOrder::Little)),
                [0xeb, 0x9f, 1, 0] => Some((at, ByteOrder::Big)),
                _ => None,
            });
            places.take(MAX_PLACES).collect()
        })
    }

    /// Returns the loader's data.
    pub(super) fn data_of(&mut self, loader: &Loader) -> Result<LightData<'a>, BpfObjectError> {
        let (bytes, byte_order) = (self.bytes, loader.byte_order);
        let end = loader.end();
        let mut found: Vec<&'a [u8]> = Vec::new();
        for &(at, order) in self.places() {
            if order != byte_order {
                continue;
            }
            let start = at.checked_sub(loader.btf.at as usize);
            let Some(start) = start else { continue };
            let data = LightData {
                bytes: &bytes[start..],
                byte_order,
            };
            if !data.is_of(loader) {
                continue;
            }
            let data = &data.bytes[..data.bytes.len().min(end)];
            // A program may have the same skeleton twice.
            if !found.contains(&data) {
                found.push(data);
            }
        }
        match found[..] {
            [bytes] => Ok(LightData { bytes, byte_order }),
            [] => Err(BpfObjectError::LightSkeleton),
            _ => Err(BpfObjectError::AmbiguousLightSkeleton { found: found.len() }),
        }
    }
}
