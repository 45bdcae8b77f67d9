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
    /// Anything else: so many bytes.
    Bytes { size: u32 },
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
        }
    }

    /// Whether all parts lie within the whole, and have sizes that there are. A shape that was
    /// written down may be anyone's.
    pub(crate) fn is_sound(&self) -> bool {
        let is_word = |size: u32| matches!(size, 1 | 2 | 4 | 8);
        match self {
            Self::Integer { size, .. } | Self::Pointer { size } => is_word(*size),
            Self::Text { .. } | Self::Bytes { .. } | Self::SocketAddress => true,
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
