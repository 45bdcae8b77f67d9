//! Evaluates a filter on a record and the task that hit its event.

use std::cmp::Ordering;

use super::{
    BoundNode, Comparison, FieldsTest, FilterError, IntegerSubject, IntegerTest, Subject, Task,
    TextTest,
};
#[cfg(all(feature = "probe", target_os = "linux"))]
use crate::format::Field;
use crate::format::FieldKind;
use crate::machine::{sign_extended, zero_extended};
use crate::record::Record;

impl BoundNode<'_> {
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(super) fn asks_for(&self, field: &Field) -> bool {
        match self {
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().any(|node| node.asks_for(field)),
            Self::Not(node) => node.asks_for(field),
            Self::Integer(test) => test.value.subject.is_of(field),
            Self::Fields(test) => test.left.subject.is_of(field) || test.right.subject.is_of(field),
            Self::Text(test) => test.subject.is_of(field),
        }
    }

    pub(super) fn matches(&self, record: &Record<'_>, task: &Task) -> Result<bool, FilterError> {
        Ok(match self {
            Self::And(nodes) => {
                for node in nodes {
                    if !node.matches(record, task)? {
                        return Ok(false);
                    }
                }
                true
            }
            Self::Or(nodes) => {
                for node in nodes {
                    if node.matches(record, task)? {
                        return Ok(true);
                    }
                }
                false
            }
            Self::Not(node) => !node.matches(record, task)?,
            Self::Integer(test) => test.matches(record, task)?,
            Self::Fields(test) => test.matches(record, task)?,
            Self::Text(test) => test.matches(record, task)?,
        })
    }
}

impl Subject<'_> {
    /// Whether the subject is the field or a part of it.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    fn is_of(self, field: &Field) -> bool {
        match self {
            Self::Field(own) | Self::Element { field: own, .. } => own == field,
            _ => false,
        }
    }
}

impl IntegerSubject<'_> {
    /// Returns the value as 64 bits.
    fn of(&self, record: &Record<'_>, task: &Task) -> Result<u64, FilterError> {
        let unknown = |word| Err(FilterError::UnknownOfTask { word });
        let word = match self.subject {
            Subject::Pid => u64::from(task.pid),
            Subject::Tid => u64::from(task.tid),
            Subject::Cpu => u64::from(task.cpu),
            Subject::Comm => 0,
            Subject::Uid => return unknown("uid"),
            Subject::Gid => return unknown("gid"),
            Subject::Cgroup => return unknown("cgroup"),
            Subject::Field(field) => record.machine().unsigned(record.raw(field)?),
            Subject::Element {
                field,
                offset,
                size,
            } => {
                let bytes = record.raw(field)?;
                let (start, end) = (offset as usize, (offset + size) as usize);
                record
                    .machine()
                    .unsigned(bytes.get(start..end).unwrap_or_default())
            }
        };
        // The argument is in the low bits of a larger word.
        Ok(match self.signed {
            true => sign_extended(word, self.size) as u64,
            false => zero_extended(word, self.size),
        })
    }
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Eq => order.is_eq(),
            Self::Ne => order.is_ne(),
            Self::Lt => order.is_lt(),
            Self::Le => order.is_le(),
            Self::Gt => order.is_gt(),
            Self::Ge => order.is_ge(),
        }
    }
}

/// Compares two 64-bit values.
fn order(left: u64, right: u64, is_signed: bool) -> Ordering {
    match is_signed {
        true => (left as i64).cmp(&(right as i64)),
        false => left.cmp(&right),
    }
}

impl FieldsTest<'_> {
    /// Whether the values are compared as signed ones. An unsigned one then has fewer than
    /// 64 bits.
    pub(crate) fn is_order_signed(&self) -> bool {
        self.left.signed || self.right.signed
    }

    fn matches(&self, record: &Record<'_>, task: &Task) -> Result<bool, FilterError> {
        let (left, right) = (self.left.of(record, task)?, self.right.of(record, task)?);
        Ok(self
            .comparison
            .holds(order(left, right, self.is_order_signed())))
    }
}

impl IntegerTest<'_> {
    /// Whether the values are compared as signed ones. Masked bits are unsigned.
    pub(crate) fn is_order_signed(&self) -> bool {
        self.value.signed && self.mask.is_none()
    }

    fn matches(&self, record: &Record<'_>, task: &Task) -> Result<bool, FilterError> {
        let value = self.value.of(record, task)? & self.mask.unwrap_or(u64::MAX);
        Ok(self
            .comparison
            .holds(order(value, self.number, self.is_order_signed())))
    }
}

impl TextTest<'_> {
    fn matches(&self, record: &Record<'_>, task: &Task) -> Result<bool, FilterError> {
        let text = match self.subject {
            Subject::Field(field) if field.kind() == FieldKind::Pointer => {
                return Err(FilterError::NotRecorded {
                    field: field.name().to_owned(),
                });
            }
            Subject::Field(field) => crate::machine::until_nul(record.data(field)?),
            _ => crate::machine::until_nul(&task.comm),
        };
        let is_such = match self.is_prefix {
            true => text.starts_with(&self.text),
            false => text == self.text,
        };
        Ok(is_such == self.equal)
    }
}
