//! A kernel's memory without ELF: arm64's and riscv's `Image`.
//!
//! The file does not say at which address it was linked. The address follows from the table
//! of events: kallsyms says where the table and each event are, relative to the kernel's
//! start, and the table has the events' addresses.

use std::collections::{HashMap, HashSet};

use super::error::ImageError;
use super::kallsyms::{Kallsyms, SymbolPlace};
use super::memory::{ImageMemory, Region};
use super::symbols::Symbols;
use crate::machine::{ByteOrder, Machine};

/// A kernel whose address is known.
pub(super) struct RawKernel {
    pub(super) memory: ImageMemory,
    pub(super) symbols: Symbols,
}

/// arm64 and riscv are little-endian, and have kernels of 64 bits.
const MACHINE: Machine = Machine::new(ByteOrder::Little, true);

/// Reads the kernel.
pub(super) fn kernel(bytes: Vec<u8>) -> Result<RawKernel, ImageError> {
    let kallsyms = Kallsyms::find(&bytes, MACHINE).ok_or(ImageError::NoSymbols)?;
    let relocations = relocations(&bytes);
    let base = base(&bytes, &kallsyms, &relocations)?;
    let region = Region {
        start: base,
        bytes: 0..bytes.len(),
    };
    let symbols = symbols(&kallsyms, base);
    let mut memory = ImageMemory::new(MACHINE, bytes, vec![region]);
    for (place, value) in relocations {
        // A place outside of the memory changes nothing that is read.
        let _ = memory.put(place, value, 8);
    }
    Ok(RawKernel { memory, symbols })
}

/// Returns the symbols of a kernel whose `_text` is at this address.
pub(super) fn symbols(kallsyms: &Kallsyms, text: u64) -> Symbols {
    let address = |place: &SymbolPlace| match *place {
        SymbolPlace::FromText(offset) => text.wrapping_add_signed(offset),
        SymbolPlace::Absolute(address) => address,
    };
    let addresses = kallsyms.places.iter().map(address);
    Symbols::new(addresses.zip(&kallsyms.names))
}

/// The size of `struct elf64_rela` in bytes.
const RELA: usize = 24;

/// Returns the relative relocations of a kernel that was linked with RELA, as places and
/// values. Kernels with RELR have their pointers in place, and no such table.
///
/// The table has no header: it is the longest sequence of entries of that type.
fn relocations(bytes: &[u8]) -> Vec<(u64, u64)> {
    /// `R_AARCH64_RELATIVE` and `R_RISCV_RELATIVE`, as the second word of an entry.
    const TYPES: [u64; 2] = [0x403, 3];
    /// The least number of entries that can be the table.
    const FEWEST: usize = 1000;
    let word = |at: usize| {
        let word = bytes.get(at..)?.first_chunk::<8>()?;
        Some(u64::from_le_bytes(*word))
    };
    let mut longest = 0..0;
    for ty in TYPES {
        // The type is one of the three words of an entry of 24 bytes; which one depends on
        // where the table begins.
        for phase in 0..3 {
            let mut at = 8 * phase;
            let mut start = at;
            while let Some(found) = word(at + 8) {
                at += RELA;
                if found != ty {
                    start = at;
                } else if at - start > longest.len() {
                    longest = start..at;
                }
            }
        }
    }
    if longest.len() < FEWEST * RELA {
        return Vec::new();
    }
    let entries = longest.step_by(RELA);
    entries
        .filter_map(|at| Some((word(at)?, word(at + 16)?)))
        .collect()
}

/// Returns the address at which the kernel was linked.
fn base(bytes: &[u8], kallsyms: &Kallsyms, relocations: &[(u64, u64)]) -> Result<u64, ImageError> {
    /// Kernels begin at multiples of 64 KB.
    const ALIGNMENT: u64 = 1 << 16;
    let offset = |name: &'static str| {
        let index = kallsyms.names.iter().position(|known| known == name);
        match index.map(|index| kallsyms.places[index]) {
            Some(SymbolPlace::FromText(offset)) => u64::try_from(offset).ok(),
            _ => None,
        }
        .ok_or(ImageError::NoSymbol { name })
    };
    let start = offset("__start_ftrace_events")?;
    let end = offset("__stop_ftrace_events")?;
    let events = kallsyms.names.iter().zip(&kallsyms.places);
    let events: HashSet<u64> = events
        .filter(|(name, _)| name.starts_with("event_") || name.starts_with("__event_"))
        .filter_map(|(_, place)| match place {
            SymbolPlace::FromText(offset) => u64::try_from(*offset).ok(),
            SymbolPlace::Absolute(_) => None,
        })
        .collect();
    // With RELA, the table's bytes are 0, and the relocations have the addresses.
    let by_place: HashMap<u64, u64> = relocations.iter().copied().collect();
    // A 0 is not a pointer: an event at a multiple of 64 KB would make it look like one.
    let pointer = |at: u64, base: u64| {
        let in_place = usize::try_from(at).ok().and_then(|at| bytes.get(at..));
        let in_place = in_place.and_then(|rest| rest.first_chunk::<8>());
        let in_place = in_place.map(|word| u64::from_le_bytes(*word));
        let pointer = by_place.get(&base.wrapping_add(at)).copied().or(in_place);
        pointer.filter(|pointer| *pointer != 0)
    };
    let is_base = |base: u64| {
        let mut places = (start..end).step_by(8).take(64);
        base.is_multiple_of(ALIGNMENT)
            && start < end
            && places.all(|at| {
                pointer(at, base).is_some_and(|call| events.contains(&call.wrapping_sub(base)))
            })
    };
    let by_pointer = pointer(start, 0).into_iter();
    let by_pointer =
        by_pointer.flat_map(|call| events.iter().map(move |at| call.wrapping_sub(*at)));
    let by_relocation = by_place.keys().map(|place| place.wrapping_sub(start));
    by_pointer
        .chain(by_relocation)
        .find(|base| is_base(*base))
        .ok_or(ImageError::NoBase)
}
