//! A kernel's memory without ELF: arm64's and riscv's `Image`, and what the boot code of s390
//! and 32-bit arm decompresses.
//!
//! The file does not say at which address it was linked. The address follows from the table
//! of events: kallsyms says where the table and each event are, relative to the kernel's
//! start, and the table has the events' addresses.

use std::collections::{HashMap, HashSet};

use super::error::ImageError;
use super::kallsyms::{Kallsyms, SymbolPlace};
use super::memory::{ImageMemory, Region};
use super::symbols::Symbols;
use super::unpack::RawKind;
use crate::machine::Machine;

/// A kernel whose address is known.
pub(super) struct RawKernel {
    pub(super) memory: ImageMemory,
    pub(super) symbols: Symbols,
}

/// Reads the kernel.
pub(super) fn kernel(bytes: Vec<u8>, kind: RawKind) -> Result<RawKernel, ImageError> {
    let machine = kind.machine();
    let kallsyms = Kallsyms::find(&bytes, machine).ok_or(ImageError::NoSymbols)?;
    let relocations = relocations(&bytes, kind);
    let start = start_from_text(&kallsyms, kind);
    let base = base(&bytes, machine, &kallsyms, start, &relocations)?;
    let region = Region {
        start: base,
        bytes: 0..bytes.len(),
    };
    let symbols = symbols(&kallsyms, base.wrapping_add_signed(start.wrapping_neg()));
    let mut memory = ImageMemory::new(machine, bytes, vec![region]);
    for (place, value) in relocations {
        // A place outside of the memory changes nothing that is read.
        let _ = memory.put(place, value, 8);
    }
    Ok(RawKernel { memory, symbols })
}

/// Returns the distance of the file's first byte from `_text`, in bytes. On riscv the header
/// and the code of the boot come first (`arch/riscv/kernel/vmlinux.lds.S`).
fn start_from_text(kallsyms: &Kallsyms, kind: RawKind) -> i64 {
    let index = match kind {
        RawKind::Riscv64 => kallsyms.names.iter().position(|name| name == "_start"),
        _ => None,
    };
    match index.map(|index| kallsyms.places[index]) {
        Some(SymbolPlace::FromText(distance @ ..=0)) => distance,
        _ => 0,
    }
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
/// values. Kernels with RELR, and s390's since 6.9, have their pointers in place, and no such
/// table.
///
/// The table has no header: it is the longest sequence of entries of that type.
fn relocations(bytes: &[u8], kind: RawKind) -> Vec<(u64, u64)> {
    /// The least number of entries that can be the table.
    const FEWEST: usize = 1000;
    // `R_<machine>_RELATIVE`, as the second word of an entry.
    let ty = match kind {
        RawKind::Arm64 => 0x403,
        RawKind::Riscv64 => 3,
        RawKind::S390x => 12,
        // Not linked to be moved.
        RawKind::Arm => return Vec::new(),
    };
    let machine = kind.machine();
    let word = |at: usize| {
        let word = bytes.get(at..)?.get(..8)?;
        Some(machine.unsigned(word))
    };
    let mut longest = 0..0;
    // The type is one of the three words of an entry of 24 bytes; which one depends on where
    // the table begins.
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
    if longest.len() < FEWEST * RELA {
        return Vec::new();
    }
    let entries = longest.step_by(RELA);
    entries
        .filter_map(|at| Some((word(at)?, word(at + 16)?)))
        .collect()
}

/// Returns the address at which the kernel's first byte was linked. `first` is its distance from
/// `_text`.
fn base(
    bytes: &[u8],
    machine: Machine,
    kallsyms: &Kallsyms,
    first: i64,
    relocations: &[(u64, u64)],
) -> Result<u64, ImageError> {
    /// Kernels begin at multiples of 64 KB, and 32-bit arm's 32 KB after one.
    const ALIGNMENT: u64 = 1 << 15;
    let long = machine.long_size() as usize;
    let in_file = |place: &SymbolPlace| match place {
        SymbolPlace::FromText(distance) => u64::try_from(distance.checked_sub(first)?).ok(),
        SymbolPlace::Absolute(_) => None,
    };
    let offset = |name: &'static str| {
        let index = kallsyms.names.iter().position(|known| known == name);
        let place = index.and_then(|index| in_file(&kallsyms.places[index]));
        place.ok_or(ImageError::NoSymbol { name })
    };
    let start = offset("__start_ftrace_events")?;
    let end = offset("__stop_ftrace_events")?;
    let events = kallsyms.names.iter().zip(&kallsyms.places);
    let events: HashSet<u64> = events
        .filter(|(name, _)| name.starts_with("event_") || name.starts_with("__event_"))
        .filter_map(|(_, place)| in_file(place))
        .collect();
    // With RELA, the table's bytes are 0, and the relocations have the addresses.
    let by_place: HashMap<u64, u64> = relocations.iter().copied().collect();
    // A 0 is not a pointer: an event at a multiple of 64 KB would make it look like one.
    let pointer = |at: u64, base: u64| {
        let in_place = usize::try_from(at).ok().and_then(|at| bytes.get(at..));
        let in_place = in_place.and_then(|rest| rest.get(..long));
        let in_place = in_place.map(|word| machine.unsigned(word));
        let pointer = by_place.get(&base.wrapping_add(at)).copied().or(in_place);
        pointer.filter(|pointer| *pointer != 0)
    };
    let is_base = |base: u64| {
        let mut places = (start..end).step_by(long).take(64);
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
