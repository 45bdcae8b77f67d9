//! Differences between two layouts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A difference in one member between two layouts: see
/// [`Layout::differences`](super::Layout::differences).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Difference {
    /// The member's C name.
    pub slot: String,
    /// The kind of difference.
    pub kind: DifferenceKind,
}

/// The kind of difference between two members of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DifferenceKind {
    /// The member's offset in bytes differs. If a bitfield moved within a byte, both
    /// offsets are the same.
    Moved {
        /// In the first layout.
        from: u32,
        /// In the second.
        to: u32,
    },
    /// The member's size in bytes differs, or the number of a bitfield's bits.
    Resized {
        /// In the first layout.
        from: u32,
        /// In the second.
        to: u32,
    },
    /// The spelling of the member's type differs.
    Retyped {
        /// In the first layout.
        from: String,
        /// In the second.
        to: String,
    },
    /// Only the first layout has this member.
    OnlyHere,
    /// Only the second layout has this member.
    OnlyThere,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = &self.slot;
        match &self.kind {
            DifferenceKind::Moved { from, to } => write!(out, "{slot} moved from {from} to {to}"),
            DifferenceKind::Resized { from, to } => {
                write!(out, "{slot} resized from {from} to {to} bytes")
            }
            DifferenceKind::Retyped { from, to } => {
                write!(out, "{slot} retyped from {from} to {to}")
            }
            DifferenceKind::OnlyHere => write!(out, "{slot} is in the first only"),
            DifferenceKind::OnlyThere => write!(out, "{slot} is in the second only"),
        }
    }
}
