//! The fields of an event that a probe keeps, and their places in the probe's own
//! record.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::context::access::{Access, Read};
use crate::error::Error;
use crate::format::FieldKind;
use crate::kernel::Tracepoint;
use crate::layout::bits::BitShift;
use crate::layout::ctype::CType;
use crate::machine::{Machine, until_nul};
use crate::name::EventName;
use crate::record::{Integers, Value};

use super::directions::Moment;
use super::error::ProbeError;
use super::pointees::{Pointee, Pointers, head};

/// The header of every record. Offsets are in bytes; the numbers have the machine's
/// byte order.
pub(crate) mod header {
    /// The time, in nanoseconds of `CLOCK_MONOTONIC`: 8 bytes.
    pub(crate) const TIMESTAMP: i16 = 0;
    /// The index of the event in the probe: 4 bytes.
    pub(crate) const EVENT: i16 = 8;
    /// On which CPU: 4 bytes.
    pub(crate) const CPU: i16 = 12;
    /// The process in the high half, the thread in the low: 8 bytes.
    pub(crate) const PID_TGID: i16 = 16;
    /// The thread's name, NULs after it: 16 bytes.
    pub(crate) const COMM: i16 = 24;
    /// Where the fields begin.
    pub(crate) const SIZE: u32 = 40;
}

/// The names that stand for what the header has.
pub(crate) const TASK_WORDS: [&str; 4] = ["pid", "tid", "comm", "cpu"];

/// An event, what is kept of it, and how it is read.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EventPlan {
    pub(crate) name: EventName,
    pub(crate) fields: Vec<KeptField>,
    /// Whether only calls that have returned are reported, because a filter asks for the result.
    pub(crate) needs_return: bool,
    /// Where stacks are in the record, in bytes, if they are kept: the kernel's, and that
    /// of user space.
    pub(crate) stacks: Option<[u32; 2]>,
    /// How many bytes a record takes, a multiple of 8.
    pub(crate) size: u32,
}

/// A field that is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeptField {
    pub(crate) name: String,
    pub(crate) source: Source,
    pub(crate) keep: Keep,
    /// Where in the record, in bytes.
    pub(crate) at: u32,
    /// Where in the record an i32 is, 0 or a negative error number, if the value may be one
    /// that cannot be read; of a string, its length is there.
    pub(crate) status: Option<u32>,
    pub(crate) names: ValueNames,
    /// How it is read, if it is what a pointer of a system call points at.
    pub(crate) pointee: Option<Pointee>,
}

/// The names of an enum's values.
pub(crate) type ValueNames = Arc<[(String, i128)]>;

/// A field to be kept, and how.
#[derive(Clone, Debug)]
pub(crate) struct ChosenField {
    pub(crate) name: String,
    pub(crate) source: Source,
    pub(crate) keep: Keep,
    pub(crate) names: ValueNames,
    pub(crate) pointee: Option<Pointee>,
}

/// Where a value is, and how it is read there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) manner: Manner,
    pub(crate) base: SourceBase,
    /// Whether a word may be loaded, without the helper.
    pub(crate) is_loadable: bool,
    /// From the base, in bytes.
    pub(crate) offset: u32,
    /// In bytes.
    pub(crate) size: u32,
    /// The bits of a bitfield.
    pub(crate) bits: Option<BitShift>,
}

/// How a value is read from its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Manner {
    /// As a word.
    Word,
    /// A string of at most the source's size.
    Text,
    /// So many bytes.
    Bytes,
    /// A u32 locates the bytes, in the context.
    Located { relative: bool },
    /// A word is the address of a string of the process.
    UserText,
    /// A word is the address of a value in the process.
    Pointee,
    /// A word is the address of a string of the kernel.
    KernelText,
    /// A string begins there, and ends with a NUL.
    Begins,
}

/// The base of offsets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum SourceBase {
    Context,
    Argument(Argument),
}

/// Memory that an argument of a raw tracepoint leads to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Argument {
    /// From 0: the argument is the address to begin with.
    pub(crate) index: u32,
    /// Whether the address may be loaded from the context, without the helper.
    pub(crate) is_loadable: bool,
    /// The offsets in bytes at which the next address is.
    pub(crate) hops: Arc<[u32]>,
    /// In bytes.
    pub(crate) pointer_size: u32,
}

/// The form a field is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Keep {
    /// The whole word that is read, and how much of it is the value.
    Integer {
        word: u32,
        size: u32,
        signed: bool,
        pointer: bool,
    },
    /// So many bytes of an array or struct, of which the whole has more perhaps.
    Fixed {
        copied: u32,
        whole: u32,
        content: Content,
    },
    /// An i32, the length in bytes or an error, and as many bytes of space.
    Variable { capacity: u32, content: Content },
    /// A head ([`head`]), and so many bytes of space.
    Pointee { capacity: u32 },
}

/// The kind of value that bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Content {
    Text,
    Integers { size: u32, signed: bool },
    Bytes,
}

impl EventPlan {
    /// Keeps the fields named, or all the context has.
    pub(crate) fn new(
        tracepoint: &Tracepoint,
        wanted: Option<&[String]>,
        data_limit: u32,
    ) -> Result<Self, ProbeError> {
        let context = tracepoint.context()?;
        let accesses = Access::of_fields(tracepoint.format(), &context)?;
        let event = tracepoint.name();
        let pointers = Pointers::new(tracepoint, &accesses, data_limit);
        let kept = |access: &Access<'_>| ChosenField {
            name: access.field.name().to_owned(),
            source: Source::of(access),
            keep: Keep::of(access, data_limit),
            names: Arc::default(),
            pointee: None,
        };
        let all = || accesses.iter().filter_map(|(_, access)| access.as_ref());
        let mut chosen = Vec::new();
        match wanted {
            None => chosen.extend(all().map(kept)),
            Some(names) => {
                for name in names {
                    if name == "*" {
                        chosen.extend(all().map(kept));
                        chosen.extend(pointers.all()?);
                        continue;
                    }
                    if let Some(argument) = name.strip_prefix('*') {
                        let field = pointers.chosen(argument)?;
                        chosen.push(field.map_err(|source| ProbeError::Pointee {
                            event: event.clone(),
                            field: name.clone(),
                            source,
                        })?);
                        continue;
                    }
                    let mut fields = accesses.iter();
                    match fields.find(|(field, _)| field.name() == name) {
                        Some((_, Some(access))) => chosen.push(kept(access)),
                        Some((_, None)) => {
                            return Err(ProbeError::NotInContext {
                                event: event.clone(),
                                field: name.clone(),
                            });
                        }
                        // Every record has them.
                        None if TASK_WORDS.contains(&name.as_str()) => {}
                        None => {
                            let fields = accesses.iter();
                            return Err(ProbeError::NoField {
                                event: event.clone(),
                                field: name.clone(),
                                fields: fields.map(|(field, _)| field.name().into()).collect(),
                            });
                        }
                    }
                }
            }
        }
        Self::of_choices(event, chosen)
    }

    /// Keeps these values, each once.
    pub(crate) fn of_choices(
        event: &EventName,
        chosen: impl IntoIterator<Item = ChosenField>,
    ) -> Result<Self, ProbeError> {
        // Sums of 32-bit sizes: `data_limit` may be any.
        let mut at = u64::from(header::SIZE);
        let mut fields: Vec<KeptField> = Vec::new();
        for choice in chosen {
            if fields.iter().any(|kept| kept.name == choice.name) {
                continue;
            }
            let keep = choice.keep;
            let status = match (choice.source.can_fail(), keep) {
                (false, _) => None,
                (true, Keep::Variable { .. }) => Some(at.next_multiple_of(keep.align())),
                (true, _) => {
                    at = at.next_multiple_of(4) + 4;
                    Some(at - 4)
                }
            };
            at = at.next_multiple_of(keep.align());
            fields.push(KeptField {
                name: choice.name,
                source: choice.source,
                keep,
                at: at as u32,
                status: status.map(|status| status as u32),
                names: choice.names,
                pointee: choice.pointee,
            });
            at += keep.size();
        }
        let size = u32::try_from(at.next_multiple_of(8)).unwrap_or(u32::MAX);
        if size > MAX_RECORD {
            return Err(ProbeError::LargeRecord {
                event: event.clone(),
                size,
                limit: MAX_RECORD,
            });
        }
        Ok(Self {
            name: event.clone(),
            fields,
            needs_return: false,
            stacks: None,
            size,
        })
    }

    /// Whether all values are in the record, and of sizes there are. A plan that was written down
    /// may be anyone's.
    pub(crate) fn is_sound(&self) -> bool {
        let size = u64::from(self.size);
        let is_within = |at: u32, length: u64| u64::from(at) + length <= size;
        let is_word = |size: u32| matches!(size, 1 | 2 | 4 | 8);
        let is_sound = |field: &KeptField| {
            let has_size = match field.keep {
                Keep::Integer { word, size, .. } => is_word(word) && (1..=word).contains(&size),
                Keep::Fixed { content, .. } | Keep::Variable { content, .. } => match content {
                    Content::Integers { size, .. } => is_word(size),
                    Content::Text | Content::Bytes => true,
                },
                Keep::Pointee { .. } => {
                    let pointee = field.pointee.as_ref();
                    pointee.is_some_and(|pointee| pointee.shape.is_sound())
                }
            };
            let has_status = field.status.is_none_or(|at| is_within(at, 4));
            has_size && has_status && is_within(field.at, field.keep.size())
        };
        let has_size = (header::SIZE..=MAX_RECORD).contains(&self.size);
        let stacks = self.stacks.iter().flatten();
        let mut stacks = stacks.map(|at| is_within(*at, STACK_SIZE.into()));
        has_size && self.fields.iter().all(is_sound) && stacks.all(|is_within| is_within)
    }

    /// Returns the fields that are in the memory of the process.
    pub(crate) fn of_user(&self) -> impl Iterator<Item = &KeptField> {
        self.fields.iter().filter(|field| field.is_of_user())
    }

    /// Whether a field is read when the call has written it.
    pub(crate) fn awaits_writing(&self) -> bool {
        let mut pointees = self
            .fields
            .iter()
            .filter_map(|field| field.pointee.as_ref());
        pointees.any(|pointee| pointee.moment != Moment::Entry)
    }

    /// Keeps stacks too, behind the fields.
    pub(crate) fn with_stacks(mut self) -> Result<Self, ProbeError> {
        let [kernel, user] = [self.size, self.size + STACK_SIZE];
        self.stacks = Some([kernel, user]);
        self.size = user + STACK_SIZE;
        match self.size > MAX_RECORD {
            true => Err(ProbeError::LargeRecord {
                event: self.name,
                size: self.size,
                limit: MAX_RECORD,
            }),
            false => Ok(self),
        }
    }
}

/// How many addresses of a stack are kept.
pub(crate) const STACK_DEPTH: u32 = 64;
/// In bytes: the length, or an error, and the addresses. 8 bytes each.
const STACK_SIZE: u32 = 8 + 8 * STACK_DEPTH;

/// The offsets in a program's loads and stores are signed 16-bit numbers.
const MAX_RECORD: u32 = 32_000;

impl Source {
    pub(crate) fn of(access: &Access<'_>) -> Self {
        Self {
            manner: Manner::of(access.read),
            base: SourceBase::Context,
            is_loadable: access.is_loadable,
            offset: access.slot.offset(),
            size: access.slot.size(),
            bits: None,
        }
    }

    /// Whether reading it may fail: it is behind a pointer of the kernel's.
    pub(crate) fn can_fail(&self) -> bool {
        matches!(self.base, SourceBase::Argument(_)) || self.manner == Manner::KernelText
    }
}

impl Manner {
    fn of(read: Read) -> Self {
        match read {
            Read::Load | Read::Probe => Self::Word,
            Read::Text => Self::Text,
            Read::Bytes => Self::Bytes,
            Read::Located { relative, .. } => Self::Located { relative },
            Read::UserText => Self::UserText,
        }
    }
}

impl Keep {
    fn of(access: &Access<'_>, data_limit: u32) -> Self {
        let field = access.field;
        let whole = access.slot.size();
        let content = || {
            let size = match field.kind() {
                FieldKind::Struct => None,
                _ => field.element_size_on(Machine::NATIVE),
            };
            match size {
                _ if field.is_text() => Content::Text,
                Some(size @ (1 | 2 | 4 | 8)) => Content::Integers {
                    size,
                    signed: field.signed() == Some(true),
                },
                _ => Content::Bytes,
            }
        };
        match access.read {
            // A size that no load has is read as bytes.
            Read::Load | Read::Probe if matches!(whole, 1 | 2 | 4 | 8) => Self::Integer {
                word: whole,
                size: access.size,
                signed: access.signed,
                pointer: field.kind() == FieldKind::Pointer
                    || matches!(access.slot.ty.resolved(), CType::Pointer { .. }),
            },
            Read::UserText => Self::Variable {
                capacity: data_limit,
                content: Content::Text,
            },
            Read::Located { .. } => Self::Variable {
                capacity: data_limit,
                content: content(),
            },
            Read::Load | Read::Probe | Read::Text | Read::Bytes => Self::Fixed {
                copied: whole.min(data_limit),
                whole,
                content: content(),
            },
        }
    }

    fn align(self) -> u64 {
        match self {
            Self::Integer { word, .. } => word.into(),
            Self::Fixed { .. } => 8,
            Self::Variable { .. } => 4,
            Self::Pointee { .. } => 8,
        }
    }

    pub(super) fn size(self) -> u64 {
        match self {
            Self::Integer { word, .. } => word.into(),
            Self::Fixed { copied, .. } => copied.into(),
            Self::Variable { capacity, .. } => 4 + u64::from(capacity),
            Self::Pointee { capacity } => u64::from(head::SIZE) + u64::from(capacity),
        }
    }
}

impl Content {
    pub(super) fn value(self, bytes: &[u8], machine: Machine) -> Value<'_> {
        match self {
            Self::Text => Value::Text(until_nul(bytes)),
            Self::Integers { size, signed } => {
                Value::Integers(Integers::new(bytes, size, signed, machine))
            }
            Self::Bytes => Value::Bytes(bytes),
        }
    }
}

impl From<Error> for ProbeError {
    fn from(error: Error) -> Self {
        Self::Kernel(error)
    }
}
