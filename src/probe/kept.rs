//! Values of the fields that a record keeps.

use super::plan::{Keep, KeptField, Manner};
use super::pointees::head;
use crate::machine::{Machine, sign_extended, zero_extended};
use crate::record::{TypedValue, Value};

/// The part of a field that a record has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept<'r> {
    Value(Value<'r>),
    /// A part of the data, which are longer than what is kept.
    Part(Value<'r>),
    /// The kernel could not read it: an error number.
    Unread(i32),
    /// The pointer to it is NULL.
    Null,
    /// The call has not written it.
    Unwritten,
    /// The call has not returned.
    Awaited,
}

impl KeptField {
    /// Reads the field from a record; `None` if the record is too short.
    pub(crate) fn read<'r>(&'r self, record: &'r [u8]) -> Option<Kept<'r>> {
        let machine = Machine::NATIVE;
        let rest = record.get(self.at as usize..)?;
        if let Some(status) = self.status {
            let status = machine.signed(record.get(status as usize..)?.get(..4)?);
            if status < 0 {
                return Some(Kept::Unread((status as i32).saturating_neg()));
            }
        }
        Some(match self.keep {
            Keep::Integer {
                word,
                size,
                signed,
                pointer,
            } => {
                let word = machine.unsigned(rest.get(..word as usize)?);
                Kept::Value(match (pointer, signed) {
                    (true, _) => Value::Pointer(word),
                    (_, true) => Value::Signed(sign_extended(word, size)),
                    (_, false) => Value::Unsigned(zero_extended(word, size)),
                })
            }
            Keep::Fixed {
                copied,
                whole,
                content,
            } => {
                let value = content.value(rest.get(..copied as usize)?, machine);
                // A string that ends before its array does is whole.
                let ended = matches!(value, Value::Text(text) if text.len() < copied as usize);
                match copied < whole && !ended {
                    true => Kept::Part(value),
                    false => Kept::Value(value),
                }
            }
            Keep::Variable { capacity, content } => {
                let length = machine.signed(rest.get(..4)?);
                let Ok(length) = usize::try_from(length) else {
                    return Some(Kept::Unread((length as i32).saturating_neg()));
                };
                let copied = length.min(capacity as usize);
                let data = rest.get(4..)?.get(..copied)?;
                let value = content.value(data, machine);
                // `bpf_probe_read_user_str` and `bpf_probe_read_kernel_str` put a NUL at the
                // end of what they cut.
                let is_cut = match self.source.manner {
                    Manner::UserText | Manner::KernelText | Manner::Begins => {
                        length == capacity as usize
                    }
                    _ => length > copied,
                };
                match is_cut {
                    true => Kept::Part(value),
                    false => Kept::Value(value),
                }
            }
            Keep::Pointee { capacity } => return self.read_pointee(rest, capacity),
        })
    }

    fn read_pointee<'r>(&'r self, bytes: &'r [u8], capacity: u32) -> Option<Kept<'r>> {
        let word = |at: u32| bytes.get(at as usize..)?.get(..4);
        match Machine::NATIVE.signed(word(head::STATUS)?) as i32 {
            0 | head::PARTLY => {}
            head::NULL => return Some(Kept::Null),
            head::AWAITED => return Some(Kept::Awaited),
            status if status < 0 => return Some(Kept::Unread(status.saturating_neg())),
            _ => return Some(Kept::Unwritten),
        }
        let length = Machine::NATIVE.unsigned(word(head::LENGTH)?);
        let there = Machine::NATIVE.unsigned(word(head::THERE)?);
        let there = there.min(capacity.into());
        let data = bytes.get(head::SIZE as usize..)?.get(..there as usize)?;
        let value = Value::Typed(TypedValue::new(&self.pointee.as_ref()?.shape, data));
        Some(match length > there {
            true => Kept::Part(value),
            false => Kept::Value(value),
        })
    }
}

impl KeptField {
    /// Whether it is in the memory of the process.
    pub(crate) fn is_of_user(&self) -> bool {
        matches!(self.source.manner, Manner::UserText | Manner::Pointee)
    }

    /// Returns how many bytes of space a value of any length has; 0 for others.
    pub(crate) fn capacity(&self) -> u32 {
        match self.keep {
            Keep::Variable { capacity, .. } | Keep::Pointee { capacity } => capacity,
            _ => 0,
        }
    }

    /// Whether parts of it could not be read.
    pub(crate) fn is_partly(&self, record: &[u8]) -> bool {
        let status = record
            .get(self.at as usize..)
            .and_then(|bytes| bytes.get(..4));
        let is_pointee = self.source.manner == Manner::Pointee;
        is_pointee && status == Some(&head::PARTLY.to_ne_bytes()[..])
    }

    /// Returns where in the record it is, head included, if it is in the memory of the process.
    pub(crate) fn place(&self) -> std::ops::Range<usize> {
        let start = self.at as usize;
        start..start + self.keep.size() as usize
    }

    /// The name of an enum's value.
    pub(crate) fn name_of(&self, value: &Value<'_>) -> Option<&str> {
        let Keep::Integer { size, .. } = self.keep else {
            return None;
        };
        // Not all BTF says rightly which enums are signed.
        let number = zero_extended(value.integer()? as u64, size);
        let mut names = self.names.iter();
        let named = names.find(|(_, value)| zero_extended(*value as u64, size) == number);
        named.map(|(name, _)| name.as_str())
    }
}
