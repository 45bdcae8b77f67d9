//! Counting in the kernel by what fields hold: a per-CPU hash map, whose keys are made of
//! the values of fields.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use aya::maps::{MapData, PerCpuHashMap};
use serde::{Deserialize, Serialize, Serializer};

use super::attached::{Attached, Losses};
use super::error::ProbeError;
use super::map_error;
use super::pin::{self, PinnedProbe, PinnedResults};
use super::plan::{Content, Keep, KeptField, Source, TASK_WORDS};
use super::probed::{Hook, Probed};
use super::service::PlannedProgram;
use super::stacks::{self, STACK_WORDS, StackMap};
use super::summary::{GroupCounts, GroupTotal, Summary};
use crate::machine::{Machine, until_nul};
use crate::name::EventName;

/// How many bytes a key has: the event, and the values it is grouped by.
pub(crate) const KEY_SIZE: usize = 176;
/// Where the first value is.
const FIRST: usize = 8;
/// How many bytes of a string are in a key, a NUL included.
pub(crate) const KEY_TEXT: u32 = 64;
/// How many bytes a task's name takes, NULs after it.
const KEY_COMM: u32 = 16;

/// How many groups there can be, of all events together.
pub(crate) const GROUPS: u32 = 10_240;

pub(crate) type GroupMap = PerCpuHashMap<MapData, [u8; KEY_SIZE], GroupCounts>;

/// The parts of the key of an event's groups.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GroupPlan {
    pub(crate) event: EventName,
    /// Each with its offset in the key, in bytes.
    pub(crate) parts: Vec<(KeyPart, u32)>,
    /// The field whose sum, smallest and greatest value are kept.
    pub(crate) measured: Option<Measured>,
}

/// A field whose values are added up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) source: Source,
    pub(crate) size: u32,
    pub(crate) signed: bool,
}

/// One of the values that a group has in common.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum KeyPart {
    Integer {
        source: Source,
        size: u32,
        signed: bool,
        pointer: bool,
    },
    Text(Source),
    Pid,
    Tid,
    Cpu,
    Comm,
    /// The number of a stack.
    KernelStack,
    /// The same, and the process.
    UserStack,
}

impl KeyPart {
    fn of(field: &KeptField) -> Option<Self> {
        let source = field.source.clone();
        match field.keep {
            Keep::Integer {
                size,
                signed,
                pointer,
                ..
            } => Some(Self::Integer {
                source,
                size,
                signed,
                pointer,
            }),
            Keep::Fixed {
                content: Content::Text,
                ..
            }
            | Keep::Variable {
                content: Content::Text,
                ..
            } => Some(Self::Text(source)),
            _ => None,
        }
    }

    fn of_task(word: &str) -> Option<Self> {
        Some(match word {
            "pid" => Self::Pid,
            "tid" => Self::Tid,
            "cpu" => Self::Cpu,
            "comm" => Self::Comm,
            "kstack" => Self::KernelStack,
            "ustack" => Self::UserStack,
            _ => return None,
        })
    }

    /// In bytes, a multiple of 8.
    fn size(&self) -> u32 {
        match self {
            Self::Text(_) => KEY_TEXT,
            Self::Comm => KEY_COMM,
            Self::UserStack => 16,
            _ => 8,
        }
    }

    /// Reads its value from the bytes of a key that begin with it.
    fn read(
        &self,
        bytes: &[u8],
        stack: &impl Fn(u64) -> Result<(Vec<u64>, bool), ProbeError>,
    ) -> Result<GroupValue, ProbeError> {
        let text = |size: u32| {
            let bytes = bytes.get(..size as usize).unwrap_or_default();
            let text = until_nul(bytes);
            GroupValue::Text {
                text: String::from_utf8_lossy(text).into_owned(),
                // The helper puts a NUL at the end of what it cuts.
                is_cut: matches!(self, Self::Text(_)) && text.len() + 1 == size as usize,
            }
        };
        let number = Machine::NATIVE.unsigned(bytes.get(..8).unwrap_or_default());
        Ok(match self {
            Self::Text(_) => text(KEY_TEXT),
            Self::Comm => text(KEY_COMM),
            Self::Integer { pointer: true, .. } => GroupValue::Pointer(number),
            Self::Integer { signed: true, .. } => GroupValue::Signed(number as i64),
            Self::KernelStack => {
                let (addresses, is_cut) = stack(number)?;
                GroupValue::KernelStack { addresses, is_cut }
            }
            Self::UserStack => {
                let (addresses, is_cut) = stack(number)?;
                let pid = bytes.get(8..16).unwrap_or_default();
                GroupValue::UserStack {
                    pid: Machine::NATIVE.unsigned(pid) as u32,
                    addresses,
                    is_cut,
                }
            }
            _ => GroupValue::Unsigned(number),
        })
    }
}

fn is_stack(word: &str) -> bool {
    STACK_WORDS.contains(&word)
}

impl GroupPlan {
    pub(crate) fn new(
        event: &Probed,
        by: &[String],
        measured: Option<&str>,
        hook: Hook,
    ) -> Result<Self, ProbeError> {
        let is_of_task = |word: &str| {
            let word = word.strip_prefix("task.");
            word.is_some_and(|word| TASK_WORDS.contains(&word))
        };
        let mut wanted = by.to_vec();
        wanted.retain(|word| !is_of_task(word) && !is_stack(word));
        wanted.extend(measured.map(str::to_owned));
        let plan = event.plan(Some(&wanted), KEY_TEXT, hook)?;
        let name = || event.name().clone();
        let mut parts = Vec::new();
        let mut at = FIRST as u32;
        for word in by {
            let field = plan.fields.iter().find(|field| field.name == *word);
            let part = match field {
                Some(field) => KeyPart::of(field),
                None => KeyPart::of_task(word.strip_prefix("task.").unwrap_or(word)),
            };
            let part = part.ok_or_else(|| ProbeError::NoKey {
                event: name(),
                field: word.clone(),
            })?;
            let size = part.size();
            parts.push((part, at));
            at += size;
            if at as usize > KEY_SIZE {
                return Err(ProbeError::LongKey {
                    event: name(),
                    limit: KEY_SIZE - FIRST,
                });
            }
        }
        let measured = measured.map(|word| {
            let field = plan.fields.iter().find(|field| field.name == word);
            match field.map(|field| (field.source.clone(), field.keep)) {
                Some((source, Keep::Integer { size, signed, .. })) => Ok(Measured {
                    source,
                    size,
                    signed,
                }),
                _ => Err(ProbeError::NoInteger {
                    event: name(),
                    field: word.to_owned(),
                }),
            }
        });
        Ok(Self {
            event: name(),
            parts,
            measured: measured.transpose()?,
        })
    }

    /// Whether a value may be one that cannot be read.
    pub(crate) fn can_fail(&self) -> bool {
        let of_part = |(part, _): &(KeyPart, u32)| match part {
            KeyPart::Integer { source, .. } | KeyPart::Text(source) => source.can_fail(),
            _ => false,
        };
        let measured = self.measured.as_ref();
        self.parts.iter().any(of_part) || measured.is_some_and(|one| one.source.can_fail())
    }

    /// Whether all parts are in the key.
    pub(crate) fn is_sound(&self) -> bool {
        let ends = self.parts.iter();
        let mut ends = ends.map(|(part, at)| u64::from(*at) + u64::from(part.size()));
        ends.all(|end| end <= KEY_SIZE as u64)
    }

    /// Whether groups have a stack in common.
    pub(crate) fn has_stacks(&self) -> bool {
        let mut parts = self.parts.iter();
        parts.any(|(part, _)| matches!(part, KeyPart::KernelStack | KeyPart::UserStack))
    }

    /// The values that a key is made of; stacks by their numbers.
    pub(crate) fn values(
        &self,
        key: &[u8; KEY_SIZE],
        stack: &impl Fn(u64) -> Result<(Vec<u64>, bool), ProbeError>,
    ) -> Result<Vec<GroupValue>, ProbeError> {
        let parts = self.parts.iter();
        parts
            .map(|(part, at)| part.read(key.get(*at as usize..).unwrap_or_default(), stack))
            .collect()
    }
}

/// Programs that count by what fields hold: see
/// [`ProbeBuilder::group_by`](super::ProbeBuilder::group_by).
pub struct Groups {
    pub(super) attached: Attached,
    pub(super) map: GroupMap,
    pub(super) stacks: Option<StackMap>,
    pub(super) plans: Vec<GroupPlan>,
    pub(super) by: Vec<String>,
    pub(super) measured: Option<String>,
}

impl fmt::Debug for Groups {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plans.fmt(out)
    }
}

/// Events with the same values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Group {
    /// The event.
    pub event: EventName,
    /// The values, in the order they were asked for.
    pub key: Vec<GroupValue>,
    /// How often it happened.
    pub count: u64,
    /// The summary of the measured field.
    pub summary: Option<Summary>,
}

/// A value that a group has in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum GroupValue {
    /// An unsigned integer.
    Unsigned(u64),
    /// A signed integer.
    Signed(i64),
    /// An address.
    Pointer(u64),
    /// A string, of which 63 bytes are kept: strings that begin with the same 63 bytes
    /// are one group.
    Text {
        /// The part that is kept, with bytes that are not UTF-8 replaced.
        text: String,
        /// Whether there may be more.
        is_cut: bool,
    },
    /// The kernel's stack: addresses of code, the innermost first.
    KernelStack {
        /// None where there is no stack.
        addresses: Vec<u64>,
        /// Whether there may be more than the 64 that are kept.
        is_cut: bool,
    },
    /// The stack of user space, as far as the process's code keeps frame pointers.
    UserStack {
        /// The process, which alone knows what the addresses are; 0 where there is no stack.
        pid: u32,
        /// None of threads of the kernel.
        addresses: Vec<u64>,
        /// Whether there may be more than the 64 that are kept.
        is_cut: bool,
    },
}

impl fmt::Display for GroupValue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(value) => value.fmt(out),
            Self::Signed(value) => value.fmt(out),
            Self::Pointer(value) => write!(out, "{value:#x}"),
            Self::Text { text, is_cut } => {
                let more = if *is_cut { "…" } else { "" };
                write!(out, "{}{more}", text.escape_debug())
            }
            Self::KernelStack { addresses, is_cut }
            | Self::UserStack {
                addresses, is_cut, ..
            } => {
                for (index, address) in addresses.iter().enumerate() {
                    let space = if index > 0 { " " } else { "" };
                    write!(out, "{space}{address:#x}")?;
                }
                out.write_str(if *is_cut { " …" } else { "" })
            }
        }
    }
}

/// A number, or a string; an address as `0x…`; a stack as a list of them.
impl Serialize for GroupValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Signed(value) => serializer.serialize_i64(*value),
            Self::Pointer(value) => serializer.collect_str(&format_args!("{value:#x}")),
            Self::Text { text, .. } => serializer.serialize_str(text),
            Self::KernelStack { addresses, .. } | Self::UserStack { addresses, .. } => {
                serializer.collect_seq(addresses.iter().map(|address| format!("{address:#x}")))
            }
        }
    }
}

impl Groups {
    /// The fields that make groups.
    pub fn by(&self) -> &[String] {
        &self.by
    }

    /// The field whose values are summed up.
    pub fn measured(&self) -> Option<&str> {
        self.measured.as_deref()
    }

    /// The programs that count, and which event each serves.
    pub fn plan(&self) -> &[PlannedProgram] {
        &self.attached.plan
    }

    /// The groups there have been so far, by event and values.
    ///
    /// # Errors
    ///
    /// [`ProbeError::System`].
    pub fn groups(&self) -> Result<Vec<Group>, ProbeError> {
        let mut totals: BTreeMap<(usize, Vec<GroupValue>), GroupTotal> = BTreeMap::new();
        for entry in self.map.iter() {
            let (key, counts) = entry.map_err(|error| map_error("reading groups", error))?;
            let index = Machine::NATIVE.unsigned(&key[..4]) as usize;
            let Some(plan) = self.plans.get(index) else {
                continue;
            };
            let values = plan.values(&key, &|number| self.stack(number))?;
            let total = totals.entry((index, values)).or_default();
            let is_signed = plan.measured.as_ref().map(|measured| measured.signed);
            for counts in counts.iter().copied() {
                total.add(counts, is_signed);
            }
        }
        let groups = totals.into_iter().map(|((index, key), total)| Group {
            event: self.plans[index].event.clone(),
            key,
            count: total.count,
            summary: total.summary,
        });
        Ok(groups.collect())
    }

    /// Whether groups have stacks in common.
    pub fn has_stacks(&self) -> bool {
        self.stacks.is_some()
    }

    /// Returns the stack of this number; 0 is none.
    fn stack(&self, number: u64) -> Result<(Vec<u64>, bool), ProbeError> {
        let stacks = self.stacks.as_ref().filter(|_| number != 0);
        let Some(stacks) = stacks else {
            return Ok((Vec::new(), false));
        };
        let stack = stacks.get(&number, 0);
        let stack = stack.map_err(|error| map_error("reading stacks", error))?;
        Ok(stacks::addresses(&stack))
    }

    /// Returns the numbers of events that were not counted. Events for which there was
    /// no space, because there are as many groups as possible, are in [`Losses::full`]; so
    /// are those whose stack could not be kept.
    ///
    /// # Errors
    ///
    /// [`ProbeError::System`].
    pub fn losses(&self) -> Result<Losses, ProbeError> {
        let full = self.attached.count_of_events(self.plans.len())?;
        self.attached.losses(full)
    }

    /// As [`Probe::is_any_task_left`](super::Probe::is_any_task_left).
    ///
    /// # Errors
    ///
    /// [`ProbeError::System`].
    pub fn is_any_task_left(&self) -> Result<bool, ProbeError> {
        self.attached.is_any_task_left()
    }

    /// Pins it to a new directory of a BPF file system, where it goes on without this process:
    /// see [`PinnedProbe`].
    ///
    /// # Errors
    ///
    /// [`ProbeError::Pin`]. It is detached then.
    pub fn pin(self, directory: impl AsRef<Path>) -> Result<PinnedProbe, ProbeError> {
        pin::pin(PinnedResults::Groups(Box::new(self)), directory.as_ref())
    }
}
