//! The kinds of BTF types, and how many bytes each takes.
//!
//! Since 2026 `include/uapi/linux/btf.h` has seven bits for a kind and 24 for the number
//! of its elements, where it had five and 16; the bits between were 0. An object may have
//! a layout section, which gives the length of each kind's types, so that a reader can
//! step over types of kinds it does not know.

use std::sync::Arc;

use super::error::BtfError;

/// A type's kind: `BTF_KIND_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
    /// A kind that this crate does not know, whose length the object states. Nothing may
    /// be concluded from such a type: anything that contains it may have any size, and be
    /// compatible with anything.
    Unknown,
}

impl Kind {
    /// Returns the number of bytes that follow the twelve that every type has: a fixed
    /// number, and a number for each element.
    const fn lengths(self) -> (u32, u16) {
        use Kind::*;
        match self {
            Ptr | Fwd | Typedef | Volatile | Const | Restrict | Func | Float | TypeTag => (0, 0),
            Int | Var | DeclTag => (4, 0),
            Enum | FuncProto => (0, 8),
            Array => (12, 0),
            Struct | Union | Datasec | Enum64 => (0, 12),
            Unknown => (ENDLESS, 0),
        }
    }

    /// Whether types of the kind are looked for by name.
    const fn is_looked_for(self) -> bool {
        matches!(self, Kind::Int | Kind::Struct | Kind::Typedef | Kind::Func)
    }
}

/// Stands for an unknown length: beyond the end of any object.
const ENDLESS: u32 = u32::MAX;

/// A type's info word.
#[derive(Clone, Copy)]
pub(super) struct Info(pub(super) u32);

impl Info {
    /// Returns the kind's number, below [`NUMBERS`].
    pub(super) fn kind_number(self) -> usize {
        (self.0 >> 24 & 0x7f) as usize
    }

    /// Returns the number of elements that follow: members, enumerators or parameters.
    pub(super) fn elements(self) -> usize {
        (self.0 & 0x00ff_ffff) as usize
    }

    /// Returns the kind flag.
    pub(super) fn flag(self) -> bool {
        self.0 >> 31 == 1
    }
}

/// One kind and the length of its types, in one machine word.
#[derive(Clone, Copy, Debug)]
pub(super) struct KindEntry {
    fixed: u32,
    each: u16,
    pub(super) kind: Kind,
    pub(super) is_looked_for: bool,
}

impl KindEntry {
    const fn of(kind: Kind) -> Self {
        let (fixed, each) = kind.lengths();
        Self {
            fixed,
            each,
            kind,
            is_looked_for: kind.is_looked_for(),
        }
    }

    /// Whether the length of the kind's types is unknown.
    pub(super) fn is_endless(self) -> bool {
        self.fixed == ENDLESS
    }

    /// Returns the number of bytes that follow the twelve that every type has.
    pub(super) fn length(self, info: Info) -> u64 {
        u64::from(self.fixed) + u64::from(self.each) * info.elements() as u64
    }
}

/// The number of kinds that an info word can distinguish.
const NUMBERS: usize = 128;

/// The kinds by number.
///
/// Where a type begins follows from the one before, so the pass over all types is as fast
/// as this lookup: one step from the number, without a branch, which would be hard to
/// predict.
#[derive(Clone, Debug)]
pub(super) struct Kinds([KindEntry; NUMBERS]);

/// The kinds of objects without a layout section.
pub(super) static KNOWN_KINDS: Kinds = Kinds::known();

impl Kinds {
    const fn known() -> Self {
        use Kind::*;
        let known = [
            Int, Ptr, Array, Struct, Union, Enum, Fwd, Typedef, Volatile, Const, Restrict, Func,
            FuncProto, Var, Datasec, Float, DeclTag, TypeTag, Enum64,
        ];
        let mut entries = [KindEntry::of(Unknown); NUMBERS];
        let mut index = 0;
        while index < known.len() {
            entries[index + 1] = KindEntry::of(known[index]);
            index += 1;
        }
        Self(entries)
    }

    pub(super) fn entry(&self, info: Info) -> KindEntry {
        self.0[info.kind_number()]
    }

    /// Adds a layout section: for each kind, from 0 on, the number of bytes after the
    /// twelve that its types have, the number for each element, and two bytes of flags,
    /// none of which is defined yet. `Err` is a kind that this crate knows to have
    /// another length.
    pub(super) fn add_layout(&mut self, section: &[u8]) -> Result<(), usize> {
        // Kind 0 is `void`, which is never stored.
        let layouts = section.chunks_exact(LAYOUT).zip(&mut self.0).enumerate();
        for (number, (layout, entry)) in layouts.skip(1) {
            let (fixed, each) = (u32::from(layout[0]), u16::from(layout[1]));
            // All of BTF consists of 4-byte words.
            let is_sound = fixed % 4 == 0 && each % 4 == 0;
            match entry.kind {
                Kind::Unknown if is_sound => (entry.fixed, entry.each) = (fixed, each),
                Kind::Unknown => {}
                kind if kind.lengths() == (fixed, each) => {}
                _ => return Err(number),
            }
        }
        Ok(())
    }
}

/// Returns the kinds that an object's layout section describes; `None` if the section is
/// empty.
#[cold]
pub(super) fn kinds_of_layout(
    section: &[u8],
    known: &Kinds,
) -> Result<Option<Arc<Kinds>>, BtfError> {
    if section.is_empty() {
        return Ok(None);
    }
    if !section.len().is_multiple_of(LAYOUT) {
        return Err(BtfError::LayoutLength {
            length: section.len(),
        });
    }
    let mut kinds = known.clone();
    match kinds.add_layout(section) {
        Ok(()) => Ok(Some(Arc::new(kinds))),
        Err(kind) => Err(BtfError::KindLength { kind: kind as u32 }),
    }
}

/// The number of bytes for each kind in a layout section: `struct btf_layout`.
const LAYOUT: usize = 4;
