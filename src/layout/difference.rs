//! In which ways two layouts differ.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How one member differs between two layouts: see [`Layout::differences`](super::Layout::differences).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Difference {
    /// The member's C name.
    pub slot: String,
    /// What differs.
    pub kind: DifferenceKind,
}

/// What differs between two members of one name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DifferenceKind {
    /// Its offset, in bytes.
    Moved {
        /// In the first layout.
        from: u32,
        /// In the second.
        to: u32,
    },
    /// How many bytes it takes, or, the same, bits.
    Resized {
        /// In the first layout.
        from: u32,
        /// In the second.
        to: u32,
    },
    /// The spelling of its type.
    Retyped {
        /// In the first layout.
        from: String,
        /// In the second.
        to: String,
    },
    /// The second layout has no such member.
    OnlyHere,
    /// The first layout has no such member.
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
