//! The kinds of BTF types, and how many bytes each takes.

/// What a type is: `BTF_KIND_*`.
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
}

impl Kind {
    pub(super) fn from_number(number: u32) -> Option<Self> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        KINDS.get(index).copied()
    }

    /// How many bytes follow the twelve every type has.
    pub(super) fn tail(self, vlen: usize) -> usize {
        TAILS[self as usize + 1].length(vlen)
    }
}

/// How long is what follows the twelve bytes every type has.
#[derive(Clone, Copy)]
pub(super) struct Tail {
    fixed: u8,
    each: u8,
}

impl Tail {
    const fn of(kind: Kind) -> Self {
        use Kind::*;
        let (fixed, each) = match kind {
            Ptr | Fwd | Typedef | Volatile | Const | Restrict | Func | Float | TypeTag => (0, 0),
            Int | Var | DeclTag => (4, 0),
            Enum | FuncProto => (0, 8),
            Array => (12, 0),
            Struct | Union | Datasec | Enum64 => (0, 12),
        };
        Self { fixed, each }
    }

    pub(super) fn length(self, vlen: usize) -> usize {
        usize::from(self.fixed) + usize::from(self.each) * vlen
    }
}

/// The kinds by their numbers, the first being 1.
const KINDS: [Kind; 19] = {
    use Kind::*;
    [
        Int, Ptr, Array, Struct, Union, Enum, Fwd, Typedef, Volatile, Const, Restrict, Func,
        FuncProto, Var, Datasec, Float, DeclTag, TypeTag, Enum64,
    ]
};

/// Of each number a kind has; what has no kind is as if nothing followed.
///
/// Where a type begins is known from the one before, so that the pass over all
/// types is as fast as this is found: without a branch, which would be one hard to
/// foresee, and in one step from the number.
pub(super) const TAILS: [Tail; 32] = {
    let mut tails = [Tail { fixed: 0, each: 0 }; 32];
    let mut index = 0;
    while index < KINDS.len() {
        tails[index + 1] = Tail::of(KINDS[index]);
        index += 1;
    }
    tails
};
