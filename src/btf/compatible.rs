//! Whether a C compiler accepts one type for another.
//!
//! Every function here errs on one side: `false` means that no C compiler the kernel is
//! built with would accept the type.

use std::cell::Cell;

use super::kind::Kind;
use super::section::{MAX_CHAIN, Section, TypeId};
use super::types::Type;

/// The types, beside itself, that an enum is compatible with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnumRule {
    /// The enum's underlying integer type: C11 6.7.2.2. The compiler chooses it by the
    /// enum's values, so any integer of its size is accepted.
    OwnInteger,
    /// Any enum or integer of its size. Two prototypes that are each compatible with a
    /// third may differ in this way: one has `enum a`, one `enum b`, and the third
    /// `unsigned int`.
    AnyOfItsSize,
}

/// The greatest nesting of pointers, arrays and functions that is compared. Deeper types
/// count as compatible.
const MAX_DEPTH: u32 = 16;

/// The most pairs of types that are compared; further pairs count as compatible. Functions
/// that take functions can make more pairs from few bytes than any machine can count;
/// kernels' prototypes make some thirty.
const MAX_PAIRS: u32 = 4096;

/// Whether two function prototypes are compatible types (C11 6.7.6.3, paragraph 15): they
/// have the same number of parameters, and each parameter is compatible with its
/// counterpart, apart from its own qualifiers.
///
/// Under `-Werror=incompatible-pointer-types`, with which the kernel is built, gcc and
/// clang refuse a pointer to a function of an incompatible prototype. They refuse `int`
/// for `unsigned int`, `long` for `long long`, `void *` for `T *`, `T *` for `const T *`,
/// one enum for another, and `bool` for `u8`. They accept a typedef for its target, and
/// an enum for its integer.
pub(crate) fn are_compatible(section: &Section, a: TypeId, b: TypeId, enums: EnumRule) -> bool {
    let pairs_left = Cell::new(MAX_PAIRS);
    let compared = Compared {
        section,
        enums,
        pairs_left,
    };
    match (section.type_by_id(a), section.type_by_id(b)) {
        (Some(a), Some(b)) if (a.kind, b.kind) == (Kind::FuncProto, Kind::FuncProto) => {
            compared.prototypes(a, b, 0)
        }
        _ => true,
    }
}

struct Compared<'a> {
    section: &'a Section,
    enums: EnumRule,
    pairs_left: Cell<u32>,
}

/// A type behind its typedefs and qualifiers.
struct Bare<'a> {
    id: TypeId,
    /// `None` for `void`.
    ty: Option<Type<'a>>,
    is_const: bool,
    is_volatile: bool,
}

impl<'a> Compared<'a> {
    fn prototypes(&self, a: Type<'_>, b: Type<'_>, depth: u32) -> bool {
        let (mut a, mut b) = (a.parameters(), b.parameters());
        // `()` accepts any arguments.
        if depth > 0 && (a.len() == 0 || b.len() == 0) {
            return true;
        }
        a.len() == b.len()
            && a.all(|a| {
                b.next()
                    .is_some_and(|b| self.parameters(a.type_id, b.type_id, depth))
            })
    }

    /// Compares the types of two parameters, without their own qualifiers, which do not
    /// concern a caller.
    fn parameters(&self, a: TypeId, b: TypeId, depth: u32) -> bool {
        match (self.bare(a), self.bare(b)) {
            (Some(a), Some(b)) => self.bare_types(&a, &b, depth),
            _ => true,
        }
    }

    fn pointees(&self, a: TypeId, b: TypeId, depth: u32) -> bool {
        let (Some(a), Some(b)) = (self.bare(a), self.bare(b)) else {
            return true;
        };
        let is_array = |bare: &Bare<'_>| bare.ty.is_some_and(|ty| ty.kind == Kind::Array);
        // The qualifiers of an array may be on its elements.
        let qualified_alike = is_array(&a)
            || is_array(&b)
            || (a.is_const, a.is_volatile) == (b.is_const, b.is_volatile);
        qualified_alike && self.bare_types(&a, &b, depth)
    }

    fn bare_types(&self, a: &Bare<'_>, b: &Bare<'_>, depth: u32) -> bool {
        let pairs_left = self.pairs_left.get();
        self.pairs_left.set(pairs_left.saturating_sub(1));
        let is_unknown = |bare: &Bare<'_>| bare.ty.is_some_and(|ty| ty.is_of_unknown_kind());
        if a.id == b.id || depth > MAX_DEPTH || pairs_left == 0 || is_unknown(a) || is_unknown(b) {
            return true;
        }
        let (Some(a), Some(b)) = (a.ty, b.ty) else {
            return false;
        };
        match (a.kind, b.kind) {
            (Kind::Ptr, Kind::Ptr) => match (a.target(), b.target()) {
                (Some(a), Some(b)) => self.pointees(a, b, depth + 1),
                _ => true,
            },
            // Lengths are not compared: an array of unknown length is compatible with one
            // of any length.
            (Kind::Array, Kind::Array) => match (a.array(), b.array()) {
                (Some((a, _)), Some((b, _))) => self.parameters(a, b, depth + 1),
                _ => true,
            },
            (Kind::FuncProto, Kind::FuncProto) => {
                let results = a.target().zip(b.target());
                results.is_none_or(|(a, b)| self.parameters(a, b, depth + 1))
                    && self.prototypes(a, b, depth + 1)
            }
            (Kind::Int, Kind::Int) => are_one_integer(a.name(), b.name()),
            (Kind::Float, Kind::Float) => a.name() == b.name(),
            (Kind::Struct | Kind::Union | Kind::Fwd, Kind::Struct | Kind::Union | Kind::Fwd) => {
                is_union(a) == is_union(b) && may_be_one_tag(a, b)
            }
            (Kind::Enum | Kind::Enum64, Kind::Enum | Kind::Enum64) => match self.enums {
                EnumRule::OwnInteger => may_be_one_tag(a, b),
                EnumRule::AnyOfItsSize => a.size() == b.size(),
            },
            (Kind::Enum | Kind::Enum64, Kind::Int) => is_integer_of(b, a),
            (Kind::Int, Kind::Enum | Kind::Enum64) => is_integer_of(a, b),
            _ => false,
        }
    }

    /// Returns the type behind its typedefs and qualifiers; `None` if they do not end.
    fn bare(&self, mut id: TypeId) -> Option<Bare<'a>> {
        let (mut is_const, mut is_volatile) = (false, false);
        for _ in 0..MAX_CHAIN {
            let ty = self.section.type_by_id(id);
            match ty.map(|ty| ty.kind) {
                Some(Kind::Typedef | Kind::TypeTag | Kind::Restrict) => {}
                Some(Kind::Const) => is_const = true,
                Some(Kind::Volatile) => is_volatile = true,
                _ if ty.is_none() && id != 0 => return None,
                _ => {
                    return Some(Bare {
                        id,
                        ty,
                        is_const,
                        is_volatile,
                    });
                }
            }
            id = ty?.target()?;
        }
        None
    }
}

/// Whether both may be one type: a struct and its declaration may, and so may types
/// without a name.
fn may_be_one_tag(a: Type<'_>, b: Type<'_>) -> bool {
    let (a, b) = (a.name(), b.name());
    a.is_empty() || b.is_empty() || a == b
}

fn is_union(ty: Type<'_>) -> bool {
    ty.kind == Kind::Union || (ty.kind == Kind::Fwd && ty.flag())
}

fn is_integer_of(int: Type<'_>, of: Type<'_>) -> bool {
    let is_bool = IntegerWords::of_name(int.name()) == Some(IntegerWords::BOOL);
    int.size() == of.size() && !is_bool
}

fn are_one_integer(a: &[u8], b: &[u8]) -> bool {
    match (IntegerWords::of_name(a), IntegerWords::of_name(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// An integer type of C, by the words that spell it in any order: gcc's `long unsigned
/// int` is clang's `unsigned long`.
///
/// `char` is neither `signed char` nor `unsigned char`. The signedness flag is not
/// compared: BTF of Linux 5.10 sets it for no `char`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IntegerWords {
    is_bool: bool,
    is_char: bool,
    is_short: bool,
    is_int128: bool,
    is_unsigned: bool,
    is_signed_char: bool,
    longs: u8,
}

impl IntegerWords {
    pub(crate) const BOOL: Self = Self {
        is_bool: true,
        is_char: false,
        is_short: false,
        is_int128: false,
        is_unsigned: false,
        is_signed_char: false,
        longs: 0,
    };

    /// Returns the integer type that the words spell; `None` if there are no words, or if
    /// one of them does not spell an integer type.
    pub(crate) fn of<'a>(words: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut integer = Self::default();
        let (mut is_signed, mut count) = (false, 0);
        for word in words {
            count += 1;
            match word {
                b"int" => {}
                b"_Bool" | b"bool" => integer.is_bool = true,
                b"char" => integer.is_char = true,
                b"short" => integer.is_short = true,
                b"long" => integer.longs = integer.longs.saturating_add(1),
                b"__int128" => integer.is_int128 = true,
                b"unsigned" => integer.is_unsigned = true,
                b"signed" | b"__signed__" => is_signed = true,
                _ => return None,
            }
        }
        integer.is_signed_char = integer.is_char && is_signed;
        (count > 0).then_some(integer)
    }

    /// Returns the integer with this name in BTF.
    pub(crate) fn of_name(name: &[u8]) -> Option<Self> {
        Self::of(name.split(|byte| *byte == b' '))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_by_their_words() {
        let integer = |name: &str| IntegerWords::of_name(name.as_bytes()).expect("an integer");
        for (a, b) in [
            ("unsigned", "unsigned int"),
            ("long unsigned int", "unsigned long"),
            ("long long unsigned int", "unsigned long long"),
            ("short int", "short"),
            ("short unsigned int", "unsigned short"),
            ("signed int", "int"),
            ("_Bool", "bool"),
        ] {
            assert_eq!(integer(a), integer(b), "{a}");
        }
        for (a, b) in [
            ("int", "unsigned int"),
            ("long", "long long"),
            ("long", "int"),
            ("char", "signed char"),
            ("char", "unsigned char"),
            ("unsigned char", "_Bool"),
            ("__int128", "__int128 unsigned"),
        ] {
            assert_ne!(integer(a), integer(b), "{a}");
        }
        for name in ["", "u32", "int*", "long double"] {
            assert_eq!(IntegerWords::of_name(name.as_bytes()), None, "{name}");
        }
    }
}
