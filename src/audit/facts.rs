//! What a program reads on a kernel, before the kernel's fields are asked whether that is
//! what its source means.
//!
//! A verdict takes two things: the instructions, relocated and interpreted for a kernel, and
//! the fields of the event. The facts are the first alone, so that a table of them can be
//! joined with a table of the fields (`docs/fleet.sql`): fields change with every kernel, and
//! the facts of a program with few.

use serde::{Deserialize, Serialize};

use super::interpret::{FoundRead, ReadBy, ReadFrom};
use super::judge::EventJudge;
use super::raw::RawJudge;
use super::verdict::Verdict;

/// A program's reads on a kernel, not yet judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProgramFacts {
    /// The program's name.
    pub program: String,
    /// Its ELF section.
    pub section: String,
    /// Its type.
    pub kind: ProgramKind,
    /// The event `category:name`, or the raw tracepoint; `None` if it is not known.
    pub event: Option<String>,
    /// The reads; empty if the kernel cannot have the program.
    pub reads: Vec<ReadFact>,
}

/// The type of a program, as far as its context depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProgramKind {
    /// `BPF_PROG_TYPE_TRACEPOINT`.
    Tracepoint,
    /// `raw_tp`.
    Raw,
    /// `tp_btf`.
    Typed,
}

impl ProgramKind {
    /// Returns the word that tables use: `tracepoint`, `raw` or `typed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tracepoint => "tracepoint",
            Self::Raw => "raw",
            Self::Typed => "typed",
        }
    }
}

/// What a fact is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FactKind {
    /// Bytes of the context that the source calls `member`.
    Member,
    /// The content of a dynamic field, whose location is at `offset`.
    Content,
    /// Bytes of a raw tracepoint's arguments.
    Argument,
    /// A read, or the program, whose verdict does not depend on fields.
    #[default]
    Decided,
}

impl FactKind {
    /// Returns the word that tables use: `member`, `content`, `argument` or `decided`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Content => "content",
            Self::Argument => "argument",
            Self::Decided => "decided",
        }
    }
}

/// A read of the context, or one of the members it reads. Offsets and sizes are in bytes, and
/// offsets count from the context's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReadFact {
    /// What it is about.
    pub kind: FactKind,
    /// The function that contains the instruction.
    pub function: Option<String>,
    /// The instruction's index in its ELF section.
    pub instruction: u32,
    /// Whether the instruction is a load, and no helper's.
    pub is_load: bool,
    /// Whether the load's register does not point to the context's start.
    pub is_moved: bool,
    /// Whether the context itself is handed on to a helper.
    pub is_handed_on: bool,
    /// Whether it depends on what is not known of the kernel that the read happens.
    pub is_guarded: bool,
    /// The offset of the read; `None` if it is not a constant.
    pub offset: Option<i64>,
    /// The number of bytes read; `None` if it is not known.
    pub size: Option<u32>,
    /// The field in the object's own types.
    pub path: Option<String>,
    /// The member that the source means.
    pub member: Option<String>,
    /// The offset from the start of that member, or of the content.
    pub behind: Option<i64>,
    /// The offset of the member's bytes; for a read of one member, that of the read.
    pub member_offset: Option<i64>,
    /// The number of the member's bytes that are read.
    pub member_size: Option<u32>,
    /// The member's size in the object's own types, if it is one value.
    pub own_size: Option<u32>,
    /// Whether the member's name is the kernel's, and not the source's invention.
    pub is_kernels: bool,
    /// The object in whose BTF the relocation found the member, and the type there.
    pub found_in: Option<(String, u32)>,
    /// The verdict, if it does not depend on fields; a load may be refused all the same.
    pub verdict: Option<Verdict>,
    /// The reason for that verdict.
    pub reason: Option<String>,
}

impl ReadFact {
    pub(super) fn decided(verdict: Verdict, reason: Option<&str>) -> Self {
        Self {
            verdict: Some(verdict),
            reason: reason.map(str::to_owned),
            ..Self::default()
        }
    }

    /// Returns what all facts of a read share.
    fn of(read: &FoundRead) -> Self {
        let offset = match read.from {
            ReadFrom::Context(pointer) => Some(pointer.offset),
            _ => None,
        };
        Self {
            is_load: matches!(read.by, ReadBy::Load { .. }),
            is_moved: matches!(read.by, ReadBy::Load { moved: true }),
            is_handed_on: matches!(read.by, ReadBy::HandedOn { is_copy: false }),
            is_guarded: !read.guards.is_empty(),
            offset,
            size: read.size,
            ..Self::default()
        }
    }

    fn with_verdict(self, verdict: Verdict, reason: Option<&str>) -> Self {
        Self {
            verdict: Some(verdict),
            reason: reason.map(str::to_owned),
            ..self
        }
    }
}

impl EventJudge<'_> {
    /// Returns the facts of a read, one for each member.
    pub(super) fn facts(&self, read: &FoundRead) -> Vec<ReadFact> {
        let fact = ReadFact::of(read);
        let pointer = match read.from {
            ReadFrom::Context(pointer) => pointer,
            ReadFrom::Dynamic { slot, added } => {
                let slot = self.shape.slots.get(usize::from(slot));
                return vec![match slot {
                    Some(slot) => ReadFact {
                        kind: FactKind::Content,
                        offset: Some(slot.offset.into()),
                        behind: Some(added),
                        ..fact
                    },
                    None => fact.with_verdict(Verdict::Unknown, None),
                }];
            }
            ReadFrom::ContextSomewhere | ReadFrom::Argument(_) => {
                let reason = "the offset in the context is not a constant";
                return vec![fact.with_verdict(Verdict::Unknown, Some(reason))];
            }
        };
        let meant = match self.meant(read, pointer) {
            Ok(meant) => meant,
            Err((verdict, reason)) => return vec![fact.with_verdict(verdict, Some(reason))],
        };
        if meant.is_empty() {
            return vec![fact.with_verdict(Verdict::Right, None)];
        }
        let is_text = matches!(read.by, ReadBy::ProbeRead { is_text: true, .. });
        let members = meant.into_iter().map(|meant| ReadFact {
            kind: FactKind::Member,
            path: Some(meant.path),
            member: Some(meant.member),
            behind: Some(meant.behind),
            member_offset: Some(meant.at),
            member_size: Some(if is_text { 1 } else { meant.size }),
            own_size: meant.own_size,
            is_kernels: meant.is_kernels,
            found_in: meant.found_in,
            ..fact.clone()
        });
        members.collect()
    }
}

impl RawJudge<'_> {
    /// Returns the fact of a read; `None` if it says nothing. Whether a cast of an argument
    /// is right is decided here, as it takes the kernel's types.
    pub(super) fn fact(&self, read: &FoundRead) -> Option<ReadFact> {
        let fact = ReadFact::of(read);
        Some(match read.from {
            ReadFrom::Context(_) => ReadFact {
                kind: FactKind::Argument,
                ..fact
            },
            _ => {
                let judgement = self.judge(read)?;
                fact.with_verdict(judgement.verdict, judgement.reason.as_deref())
            }
        })
    }
}
