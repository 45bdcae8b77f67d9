//! The kinds of BTF types, and how many bytes each takes.
//!
//! Since 2026 `include/uapi/linux/btf.h` has seven bits for a kind and 24 for the number
//! of its elements, where it had five and 16; the bits between were 0. An object may have
//! a layout section, which says of each kind how long its types are, so that a reader
//! finds the types after one whose kind it does not know.

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
    /// A kind that this crate does not know, of a length the object itself says. Nothing
    /// may be concluded from such a type: what is made of it may have any size, and be
    /// compatible with anything.
    Unknown,
}

impl Kind {
    /// How many bytes follow the twelve that every type has: a part that is always there,
    /// and one for each element.
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

/// The length of a type whose length is not known: over any object's end.
const ENDLESS: u32 = u32::MAX;

/// A type's info word.
#[derive(Clone, Copy)]
pub(super) struct Info(pub(super) u32);

impl Info {
    /// The kind's number, below [`NUMBERS`].
    pub(super) fn kind_number(self) -> usize {
        (self.0 >> 24 & 0x7f) as usize
    }

    /// How many elements follow: members, enumerators or parameters.
    pub(super) fn elements(self) -> usize {
        (self.0 & 0x00ff_ffff) as usize
    }

    /// The kind flag.
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

    /// Whether it is not known how long types of the kind are.
    pub(super) fn is_endless(self) -> bool {
        self.fixed == ENDLESS
    }

    /// In bytes, behind the twelve that every type has.
    pub(super) fn length(self, info: Info) -> u64 {
        u64::from(self.fixed) + u64::from(self.each) * info.elements() as u64
    }
}

/// How many kinds an info word can tell apart.
const NUMBERS: usize = 128;

/// The kinds by their numbers.
///
/// Where a type begins is known from the one before, so that the pass over all
/// types is as fast as this is found: without a branch, which would be one hard to
/// foresee, and in one step from the number.
#[derive(Clone, Debug)]
pub(super) struct Kinds([KindEntry; NUMBERS]);

/// Those of objects without a layout section.
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

    /// Adds what a layout section says: for each kind from 0 on the bytes that follow its
    /// types' twelve, those for each element, and two bytes of flags, of which none is
    /// defined yet. `Err` is a kind this crate knows to be of another length.
    pub(super) fn add_layout(&mut self, section: &[u8]) -> Result<(), usize> {
        // No type is of kind 0.
        let layouts = section.chunks_exact(LAYOUT).zip(&mut self.0).enumerate();
        for (number, (layout, entry)) in layouts.skip(1) {
            let (fixed, each) = (u32::from(layout[0]), u16::from(layout[1]));
            // Everything in BTF is made of words of four bytes.
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

/// Bytes of a layout section for each kind: `struct btf_layout`.
pub(super) const LAYOUT: usize = 4;
