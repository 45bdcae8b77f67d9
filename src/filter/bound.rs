//! A filter's conditions with the fields of one event.

use super::{Comparison, FilterError, Task};
use crate::format::Field;
use crate::record::Record;

/// A [`Filter`](super::Filter) for one event: see [`Filter::bind`](super::Filter::bind).
#[derive(Clone, Debug)]
pub struct BoundFilter<'f> {
    pub(super) root: BoundNode<'f>,
}

#[derive(Clone, Debug)]
pub(crate) enum BoundNode<'f> {
    And(Vec<BoundNode<'f>>),
    Or(Vec<BoundNode<'f>>),
    Not(Box<BoundNode<'f>>),
    Integer(IntegerTest<'f>),
    Fields(FieldsTest<'f>),
    Text(TextTest<'f>),
}

/// The left side of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject<'f> {
    Field(&'f Field),
    /// An element of a field, at an offset inside it, with its size in bytes.
    Element {
        field: &'f Field,
        offset: u32,
        size: u32,
    },
    Pid,
    Tid,
    Comm,
    Cpu,
    Uid,
    Gid,
    Cgroup,
}

/// An integer: its place, size and sign.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IntegerSubject<'f> {
    pub(crate) subject: Subject<'f>,
    /// The size of the value in bytes.
    pub(crate) size: u32,
    pub(crate) signed: bool,
}

/// A comparison of two fields.
#[derive(Clone, Debug)]
pub(crate) struct FieldsTest<'f> {
    pub(crate) left: IntegerSubject<'f>,
    pub(crate) right: IntegerSubject<'f>,
    pub(crate) comparison: Comparison,
}

#[derive(Clone, Debug)]
pub(crate) struct IntegerTest<'f> {
    pub(crate) value: IntegerSubject<'f>,
    pub(crate) mask: Option<u64>,
    pub(crate) comparison: Comparison,
    /// The number as 64 bits: unsigned with a mask, otherwise with the value's sign.
    pub(crate) number: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct TextTest<'f> {
    pub(crate) subject: Subject<'f>,
    pub(crate) equal: bool,
    /// Whether the string is a prefix.
    pub(crate) is_prefix: bool,
    pub(crate) text: Vec<u8>,
}

impl BoundFilter<'_> {
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(crate) fn root(&self) -> &BoundNode<'_> {
        &self.root
    }

    /// Whether the filter depends on the field.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(crate) fn asks_for(&self, field: &Field) -> bool {
        self.root.asks_for(field)
    }

    /// Whether the condition holds for a record of the event and the task that
    /// hit it.
    ///
    /// # Errors
    ///
    /// [`FilterError::NotRecorded`] if it needs a string that a system call's argument
    /// points to, and [`FilterError::Record`] if the record is too short.
    pub fn matches(&self, record: &Record<'_>, task: &Task) -> Result<bool, FilterError> {
        self.root.matches(record, task)
    }
}
