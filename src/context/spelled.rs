//! Compares the type of a struct member with the type that a format file spells.

use crate::btf::{IntegerWords, Kind, Section, Type, TypeId};
use crate::format::{Declaration, Token, is_address_space};

/// The most pointers, or dimensions of an array, of one type that are followed; kernels'
/// fields have two or three.
const MAX_LEVELS: usize = 8;

/// A type, as far as its spelling determines it.
struct Spelled<'a> {
    base: Base<'a>,
    /// The qualifiers of the base, then those of each pointer, outwards.
    levels: Vec<Qualifiers>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Qualifiers {
    is_const: bool,
    is_volatile: bool,
}

/// The type that pointers and qualifiers are added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base<'a> {
    Void,
    Integer(IntegerWords),
    Struct(&'a str),
    Union(&'a str),
    Enum(&'a str),
    Typedef(&'a str),
}

/// Whether the member's type certainly differs from the declared one.
///
/// Returns `false` for spellings that are not parsed (`typeof(…)`, a pointer to a
/// function) and for types of unknown kinds. Arrays are compared by their elements.
pub(super) fn is_other_type(declaration: &Declaration, section: &Section, member: TypeId) -> bool {
    let Some(spelled) = Spelled::of(declaration) else {
        return false;
    };
    let mut id = member;
    if declaration.array().is_some() {
        for _ in 0..MAX_LEVELS {
            match section.type_by_id(id).and_then(|ty| ty.array()) {
                Some((element, _)) => id = element,
                None => break,
            }
        }
    }
    let mut outwards = spelled.levels.iter().rev();
    let mut level = Qualifiers::default();
    // Each pointer may be followed by attributes and qualifiers.
    for _ in 0..4 * MAX_LEVELS {
        let ty = section.type_by_id(id);
        match ty.map(|ty| ty.kind) {
            Some(Kind::Const) => level.is_const = true,
            Some(Kind::Volatile) => level.is_volatile = true,
            Some(Kind::Restrict | Kind::TypeTag) => {}
            Some(Kind::Unknown) => return false,
            Some(Kind::Ptr) => {
                // The outermost of the spelled levels is this pointer's.
                if outwards.len() < 2 || outwards.next() != Some(&level) {
                    return true;
                }
                level = Qualifiers::default();
            }
            _ => {
                let is_last = outwards.len() == 1 && outwards.next() == Some(&level);
                return !(is_last && spelled.base.may_be(id, ty));
            }
        }
        match ty.and_then(|ty| ty.target()) {
            Some(target) => id = target,
            None => return false,
        }
    }
    false
}

impl<'a> Spelled<'a> {
    /// Parses the declaration; `None` if it has anything but words, qualifiers and
    /// asterisks.
    fn of(declaration: &'a Declaration) -> Option<Self> {
        let mut words: Vec<&str> = Vec::new();
        let mut levels = Vec::new();
        let mut level = Qualifiers::default();
        for token in declaration.tokens() {
            match token {
                Token::Attribute(_) | Token::Word("restrict") => {}
                Token::Star if levels.len() < MAX_LEVELS => {
                    levels.push(std::mem::take(&mut level));
                }
                Token::Word("const") => level.is_const = true,
                Token::Word("volatile") => level.is_volatile = true,
                Token::Word(word) if is_address_space(word) => {}
                Token::Word(word) if levels.is_empty() => words.push(word),
                _ => return None,
            }
        }
        levels.push(level);
        Some(Self {
            base: Base::of(&words)?,
            levels,
        })
    }
}

impl<'a> Base<'a> {
    fn of(words: &[&'a str]) -> Option<Self> {
        Some(match *words {
            ["void"] => Self::Void,
            ["struct", tag] => Self::Struct(tag),
            ["union", tag] => Self::Union(tag),
            ["enum", tag] => Self::Enum(tag),
            // `bool` is a typedef of the kernel, or `_Bool` itself.
            ["bool"] => Self::Typedef("bool"),
            _ => match IntegerWords::of(words.iter().map(|word| word.as_bytes())) {
                Some(integer) => Self::Integer(integer),
                None => match *words {
                    [word] => Self::Typedef(word),
                    _ => return None,
                },
            },
        })
    }

    fn may_be(self, id: TypeId, ty: Option<Type<'_>>) -> bool {
        let Some(ty) = ty else {
            // An id without a type proves nothing.
            return id != 0 || self == Self::Void;
        };
        let is_named = |name: &str| ty.name() == name.as_bytes();
        match (self, ty.kind) {
            (Self::Integer(integer), Kind::Int) => {
                IntegerWords::of_name(ty.name()).is_none_or(|named| named == integer)
            }
            (Self::Struct(tag), Kind::Struct) => is_named(tag),
            (Self::Union(tag), Kind::Union) => is_named(tag),
            (Self::Struct(tag), Kind::Fwd) => is_named(tag) && !ty.flag(),
            (Self::Union(tag), Kind::Fwd) => is_named(tag) && ty.flag(),
            (Self::Enum(tag), Kind::Enum | Kind::Enum64) => is_named(tag),
            (Self::Typedef("bool"), Kind::Int) => {
                IntegerWords::of_name(ty.name()) == Some(IntegerWords::BOOL)
            }
            (Self::Typedef(name), Kind::Typedef) => is_named(name),
            _ => false,
        }
    }
}
