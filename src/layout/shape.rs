//! The shape of a value in memory: which bytes of it are which member's.

use serde::{Deserialize, Serialize};

use super::bits::BitShift;

/// The most elements that an array of a shape can have.
pub(crate) const MAX_ELEMENTS: u32 = 1 << 16;

/// How the bytes of a value are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ValueShape {
    Integer {
        /// In bytes: 1, 2, 4 or 8.
        size: u32,
        signed: bool,
        bits: Option<BitShift>,
    },
    /// An address, of so many bytes.
    Pointer { size: u32 },
    /// A string of at most so many bytes.
    Text { size: u32 },
    /// Elements of one shape, one behind another.
    Array {
        element: Box<ValueShape>,
        count: u32,
    },
    /// A struct or union. Members of anonymous structs in it are its own.
    Record {
        size: u32,
        members: Vec<MemberShape>,
    },
    /// A `struct sockaddr` of any family, which its first member tells.
    SocketAddress,
    /// A list of strings.
    Strings(StringList),
    /// Anything else: so many bytes.
    Bytes { size: u32 },
}

/// How a list of strings is kept: an i32, how it ends; for each string an i32, its length with the
/// NUL, a negative error, or [`ABSENT`](Self::ABSENT); and the strings. Linux 6.1 says 0 of
/// an empty string, and 6.18 says 1 (`strncpy_from_user_nofault()`, `mm/maccess.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StringList {
    /// For how many strings there are lengths.
    pub(crate) slots: u32,
    /// The length of the longest string, in bytes.
    pub(crate) longest: u32,
}

impl StringList {
    /// In place of the length of a string that is not in the list.
    pub(crate) const ABSENT: i32 = i32::MAX;
    /// The list ends behind the strings.
    pub(crate) const ENDED: i32 = 0;
    /// There are more strings. Negative: an error, as nothing tells whether there are.
    pub(crate) const MORE: i32 = 1;

    /// Returns where the length of a string is, in bytes.
    pub(crate) fn slot_at(self, slot: u32) -> u32 {
        slot.saturating_add(1).saturating_mul(4)
    }

    /// Returns where the strings begin, in bytes.
    pub(crate) fn strings_at(self) -> u32 {
        self.slot_at(self.slots)
    }
}

/// A member of a struct or union.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberShape {
    pub(crate) name: String,
    /// From the start of the struct, in bytes.
    pub(crate) offset: u32,
    pub(crate) shape: ValueShape,
}

/// `sizeof(struct sockaddr_storage)`: the kernel takes no longer address.
pub(crate) const MAX_SOCKET_ADDRESS: u32 = 128;

impl ValueShape {
    /// Returns the size in bytes, of an address of a socket the greatest.
    pub(crate) fn size(&self) -> u32 {
        match self {
            Self::Integer { size, .. }
            | Self::Pointer { size }
            | Self::Text { size }
            | Self::Record { size, .. }
            | Self::Bytes { size } => *size,
            Self::Array { element, count } => element.size().saturating_mul(*count),
            Self::SocketAddress => MAX_SOCKET_ADDRESS,
            Self::Strings(list) => list.strings_at(),
        }
    }

    /// Whether all parts lie within the whole, and have sizes that there are. A shape that was
    /// written down may be anyone's.
    pub(crate) fn is_sound(&self) -> bool {
        let is_word = |size: u32| matches!(size, 1 | 2 | 4 | 8);
        match self {
            Self::Integer { size, .. } | Self::Pointer { size } => is_word(*size),
            Self::Text { .. } | Self::Bytes { .. } | Self::SocketAddress | Self::Strings(_) => true,
            Self::Array { element, count } => {
                element.size() > 0 && *count <= MAX_ELEMENTS && element.is_sound()
            }
            Self::Record { size, members } => members.iter().all(|member| {
                let end = member.offset.checked_add(member.shape.size());
                end.is_some_and(|end| end <= *size) && member.shape.is_sound()
            }),
        }
    }
}
