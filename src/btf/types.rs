//! Types, their members, enumerators and parameters, read in place.

use super::kind::{Info, Kind};
use super::section::{Section, TypeId, read_u32};

/// One type, read in place.
#[derive(Clone, Copy)]
pub(crate) struct Type<'a> {
    pub(super) section: &'a Section,
    pub(crate) kind: Kind,
    pub(super) name: u32,
    pub(super) info: Info,
    pub(super) size_or_type: u32,
    pub(super) tail: &'a [u8],
}

/// A member of a struct or union.
#[derive(Clone, Copy)]
pub(crate) struct Member<'a> {
    pub(super) section: &'a Section,
    pub(super) name: u32,
    pub(crate) type_id: TypeId,
    /// From the start of the struct, in bits.
    pub(crate) bit_offset: u32,
    /// In bits; 0 for a member that is not a bitfield.
    pub(crate) bitfield_size: u32,
}

/// A parameter of a function prototype.
#[derive(Clone, Copy)]
pub(crate) struct Parameter<'a> {
    pub(super) section: &'a Section,
    pub(super) name: u32,
    pub(crate) type_id: TypeId,
}

impl<'a> Type<'a> {
    /// Returns the type's name; empty for an anonymous type, and for one of an unknown
    /// kind.
    pub(crate) fn name(&self) -> &'a [u8] {
        match self.kind {
            Kind::Unknown => &[],
            _ => self.section.name(self.name).unwrap_or_default(),
        }
    }

    /// Returns the offset of the type's name in BTF's strings.
    pub(super) fn name_offset(&self) -> u32 {
        self.name
    }

    pub(crate) fn is_typedef(&self) -> bool {
        self.kind == Kind::Typedef
    }

    pub(crate) fn is_enum(&self) -> bool {
        matches!(self.kind, Kind::Enum | Kind::Enum64)
    }

    /// Whether nothing may be concluded from the type, because its kind is unknown.
    pub(crate) fn is_of_unknown_kind(&self) -> bool {
        self.kind == Kind::Unknown
    }

    /// Returns the number of the type's kind, known or not.
    pub(super) fn kind_number(&self) -> usize {
        self.info.kind_number()
    }

    /// Returns the size in bytes that a struct, union, int, enum or float states.
    pub(crate) fn size(&self) -> u32 {
        self.size_or_type
    }

    /// Returns the target of a pointer, typedef, qualifier, function or tag.
    pub(crate) fn target(&self) -> Option<TypeId> {
        use Kind::*;
        matches!(
            self.kind,
            Ptr | Typedef
                | Volatile
                | Const
                | Restrict
                | Func
                | FuncProto
                | Var
                | DeclTag
                | TypeTag
        )
        .then_some(self.size_or_type)
    }

    /// Whether it is a pointer.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(crate) fn is_pointer(&self) -> bool {
        self.kind == Kind::Ptr
    }

    /// Whether values of this type have the same layout as those of its target.
    pub(super) fn is_alias(&self) -> bool {
        use Kind::*;
        matches!(self.kind, Typedef | Volatile | Const | Restrict | TypeTag)
    }

    /// Whether an int is signed.
    pub(crate) fn is_signed_int(&self) -> bool {
        const BTF_INT_SIGNED: u32 = 1;
        self.kind == Kind::Int && self.word(0) >> 24 & BTF_INT_SIGNED != 0
    }

    /// Returns the element type and length of an array.
    pub(crate) fn array(&self) -> Option<(TypeId, u32)> {
        (self.kind == Kind::Array).then(|| (self.word(0), self.word(8)))
    }

    /// Iterates over the members of a struct or union; other types have none.
    pub(crate) fn members(&self) -> impl ExactSizeIterator<Item = Member<'a>> + use<'a> {
        let ty = *self;
        let count = match ty.kind {
            Kind::Struct | Kind::Union => ty.info.elements(),
            _ => 0,
        };
        // With the kind flag, the top byte of the offset is a bitfield's size.
        let sized = ty.flag();
        (0..count).map(move |index| {
            let offset = ty.word(12 * index + 8);
            Member {
                section: ty.section,
                name: ty.word(12 * index),
                type_id: ty.word(12 * index + 4),
                bit_offset: if sized { offset & 0x00ff_ffff } else { offset },
                bitfield_size: if sized { offset >> 24 } else { 0 },
            }
        })
    }

    /// Iterates over the variables of a section of data: the type `VAR`, and the offset and
    /// size in bytes. Other types have none.
    #[cfg(feature = "audit")]
    pub(crate) fn variables(&self) -> impl ExactSizeIterator<Item = (TypeId, u32, u32)> + use<'a> {
        let ty = *self;
        let count = match ty.kind {
            Kind::Datasec => ty.info.elements(),
            _ => 0,
        };
        (0..count).map(move |index| {
            let at = 12 * index;
            (ty.word(at), ty.word(at + 4), ty.word(at + 8))
        })
    }

    /// Iterates over an enum's values as the kernel's code has them in a `long`. Those of 32
    /// bits are sign-extended: BTF did not always tell which enums are signed.
    pub(crate) fn enumerators(&self) -> impl Iterator<Item = (&'a [u8], i64)> + use<'a> {
        let is_int = self.kind == Kind::Enum;
        self.values().map(move |(name, value)| match is_int {
            true => (name, i64::from(value as i32)),
            false => (name, value as i64),
        })
    }

    /// Iterates over the parameters of a function prototype; other types have none.
    pub(crate) fn parameters(&self) -> impl ExactSizeIterator<Item = Parameter<'a>> + use<'a> {
        let ty = *self;
        let count = match ty.kind {
            Kind::FuncProto => ty.info.elements(),
            _ => 0,
        };
        (0..count).map(move |index| Parameter {
            section: ty.section,
            name: ty.word(8 * index),
            type_id: ty.word(8 * index + 4),
        })
    }

    /// Iterates over an enum's values, each with its name; other types have none.
    pub(crate) fn values(&self) -> impl ExactSizeIterator<Item = (&'a [u8], i128)> + use<'a> {
        let ty = *self;
        let (count, length) = match ty.kind {
            Kind::Enum => (ty.info.elements(), 8),
            Kind::Enum64 => (ty.info.elements(), 12),
            _ => (0, 0),
        };
        (0..count).map(move |index| {
            let at = length * index;
            let name = ty.section.name(ty.word(at)).unwrap_or_default();
            let low = ty.word(at + 4);
            let value = match ty.kind {
                Kind::Enum64 => u64::from(ty.word(at + 8)) << 32 | u64::from(low),
                // Sign-extended to 64 bits.
                _ if ty.flag() => i64::from(low as i32) as u64,
                _ => u64::from(low),
            };
            let value = match ty.flag() {
                true => i128::from(value as i64),
                false => i128::from(value),
            };
            (name, value)
        })
    }

    /// Returns the kind flag: an enum is signed, a forward declaration is a union's, a
    /// struct has bitfields.
    pub(crate) fn flag(&self) -> bool {
        self.info.flag()
    }

    /// Returns all words of the type: name, info, size or type, and those that follow.
    pub(super) fn words(&self) -> Vec<u32> {
        let tail = (0..self.tail.len()).step_by(4).map(|at| self.word(at));
        let head = [self.name, self.info.0, self.size_or_type];
        head.into_iter().chain(tail).collect()
    }

    fn word(&self, at: usize) -> u32 {
        read_u32(self.tail, at, self.section.is_big_endian()).unwrap_or(0)
    }
}

impl<'a> Parameter<'a> {
    /// Returns the parameter's name; empty for an anonymous one.
    pub(crate) fn name(&self) -> &'a [u8] {
        self.section.name(self.name).unwrap_or_default()
    }

    /// Whether the parameter is `...`.
    pub(crate) fn is_variadic(&self) -> bool {
        (self.name, self.type_id) == (0, 0)
    }
}

impl<'a> Member<'a> {
    /// Returns the member's name; empty for an anonymous one.
    pub(crate) fn name(&self) -> &'a [u8] {
        self.section.name(self.name).unwrap_or_default()
    }

    /// Whether the name is the concatenation of these parts.
    pub(crate) fn is_named(&self, parts: [&[u8]; 2]) -> bool {
        self.section.is_name(self.name, parts)
    }
}
