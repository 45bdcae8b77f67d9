//! Values of fields.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::{Serialize, Serializer};

#[cfg(all(feature = "probe", target_os = "linux"))]
use super::TypedValue;
use crate::format::{Field, FieldKind, LOCATION, Location};
use crate::machine::{Machine, sign_extended, until_nul, zero_extended};

/// The value of one field.
///
/// [`Display`](fmt::Display) writes numbers in decimal, pointers and bytes in
/// hexadecimal, texts as they are (with invalid UTF-8 replaced) and arrays in brackets. A
/// value serializes as a number, a string, or an array of numbers or of strings; a struct that a
/// pointer points at as an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// An unsigned integer.
    Unsigned(u64),
    /// A signed integer.
    Signed(i64),
    /// An address.
    Pointer(u64),
    /// A string, without the NUL that ends it.
    Text(&'a [u8]),
    /// Numbers of one size.
    Integers(Integers<'a>),
    /// Strings, each somewhere in the record: a probe's argument of type `string[3]`.
    Texts(Texts<'a>),
    /// The bytes of anything else: of a struct, or of elements of unknown size.
    Bytes(&'a [u8]),
    /// The value that a pointer of a system call points at, by its type: a probe's alone.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    Typed(TypedValue<'a>),
}

impl<'a> Value<'a> {
    /// Reads bytes as the value of this field.
    pub(crate) fn of(field: &Field, bytes: &'a [u8], machine: Machine) -> Self {
        let signed = field.signed() == Some(true);
        if let Some((size, signed)) = field.argument() {
            return Self::argument(machine.unsigned(bytes), size, signed);
        }
        match field.kind() {
            FieldKind::Scalar if signed => Self::Signed(machine.signed(bytes)),
            FieldKind::Scalar => Self::Unsigned(machine.unsigned(bytes)),
            FieldKind::Pointer => Self::Pointer(machine.unsigned(bytes)),
            FieldKind::Struct | FieldKind::DataLocArray => Self::Bytes(bytes),
            FieldKind::Array | FieldKind::DataLoc | FieldKind::RelLoc => {
                if field.is_text() {
                    return Self::Text(until_nul(bytes));
                }
                match field.element_size_on(machine) {
                    Some(size @ (1 | 2 | 4 | 8)) => {
                        Self::Integers(Integers::new(bytes, size, signed, machine))
                    }
                    _ => Self::Bytes(bytes),
                }
            }
        }
    }

    /// Returns a system call's argument that is smaller than the word it was passed in.
    fn argument(word: u64, size: u32, signed: bool) -> Self {
        match signed {
            true => Self::Signed(sign_extended(word, size)),
            false => Self::Unsigned(zero_extended(word, size)),
        }
    }

    /// Returns the text of a [`Value::Text`], with bytes that are not UTF-8 replaced;
    /// `None` for any other value.
    pub fn text(&self) -> Option<Cow<'a, str>> {
        match *self {
            Self::Text(bytes) => Some(String::from_utf8_lossy(bytes)),
            _ => None,
        }
    }

    /// Returns the number of an integer or a pointer; `None` for any other value. An
    /// unsigned number above `i64::MAX` is negative.
    pub fn integer(&self) -> Option<i64> {
        match *self {
            Self::Signed(value) => Some(value),
            Self::Unsigned(value) | Self::Pointer(value) => Some(value as i64),
            _ => None,
        }
    }
}

/// Strings at several places of a record: see [`Value::Texts`].
#[derive(Clone, Copy)]
pub struct Texts<'a> {
    pub(super) record: &'a [u8],
    /// The locations of the strings, each inside the record.
    pub(super) locations: &'a [u8],
    pub(super) machine: Machine,
}

impl<'a> Texts<'a> {
    /// Iterates over the strings, each without the NUL that ends it.
    pub fn iter(&self) -> TextsIter<'a> {
        TextsIter {
            texts: *self,
            next: 0,
        }
    }

    /// Returns the number of strings.
    pub fn len(&self) -> usize {
        self.locations.len() / LOCATION as usize
    }

    /// Whether there are no strings.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Iterates over the places of the strings in the record.
    pub(super) fn locations(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.len()).filter_map(move |index| self.location(index))
    }

    fn location(self, index: usize) -> Option<Range<usize>> {
        let words = self.locations.chunks_exact(LOCATION as usize);
        let location = Location::read(words.clone().nth(index)?, 0, self.machine);
        Some(location.range(self.record.len()))
    }
}

/// An iterator over the strings of [`Texts`]: see [`Texts::iter`].
#[derive(Clone, Debug)]
pub struct TextsIter<'a> {
    texts: Texts<'a>,
    next: usize,
}

impl<'a> Iterator for TextsIter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let location = self.texts.location(self.next)?;
        self.next += 1;
        self.texts.record.get(location).map(until_nul)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.texts.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for TextsIter<'_> {}

impl<'a> IntoIterator for Texts<'a> {
    type Item = &'a [u8];
    type IntoIter = TextsIter<'a>;

    fn into_iter(self) -> TextsIter<'a> {
        self.iter()
    }
}

/// Equal if the strings are equal, wherever they lie.
impl PartialEq for Texts<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Texts<'_> {}

impl fmt::Debug for Texts<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.iter().map(String::from_utf8_lossy);
        out.debug_list().entries(texts).finish()
    }
}

/// Numbers of one size, one after another: see [`Value::Integers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integers<'a> {
    bytes: &'a [u8],
    size: u32,
    signed: bool,
    machine: Machine,
}

impl<'a> Integers<'a> {
    /// Creates numbers of this size, which must be 1, 2, 4 or 8 bytes.
    pub(crate) fn new(bytes: &'a [u8], size: u32, signed: bool, machine: Machine) -> Self {
        Self {
            bytes,
            size,
            signed,
            machine,
        }
    }

    /// Iterates over the numbers; unsigned ones above `i64::MAX` are negative.
    pub fn iter(&self) -> IntegersIter<'a> {
        IntegersIter {
            signed: self.signed,
            machine: self.machine,
            elements: self.bytes.chunks_exact(self.size as usize),
        }
    }

    /// Whether the numbers are signed.
    pub fn is_signed(&self) -> bool {
        self.signed
    }

    /// Returns the bytes of the numbers.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl<'a> IntoIterator for Integers<'a> {
    type Item = i64;
    type IntoIter = IntegersIter<'a>;

    fn into_iter(self) -> IntegersIter<'a> {
        self.iter()
    }
}

/// An iterator over the numbers of [`Integers`]: see [`Integers::iter`].
#[derive(Clone, Debug)]
pub struct IntegersIter<'a> {
    signed: bool,
    machine: Machine,
    elements: std::slice::ChunksExact<'a, u8>,
}

impl Iterator for IntegersIter<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        let bytes = self.elements.next()?;
        Some(match self.signed {
            true => self.machine.signed(bytes),
            false => self.machine.unsigned(bytes) as i64,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.elements.size_hint()
    }
}

impl ExactSizeIterator for IntegersIter<'_> {}

impl fmt::Display for Value<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(value) => value.fmt(out),
            Self::Signed(value) => value.fmt(out),
            Self::Pointer(value) => write!(out, "{value:#x}"),
            Self::Text(bytes) => out.pad(&String::from_utf8_lossy(bytes)),
            Self::Integers(integers) => {
                out.write_str("[")?;
                for (index, value) in integers.iter().enumerate() {
                    out.write_str(if index > 0 { ", " } else { "" })?;
                    match integers.signed {
                        true => write!(out, "{value}")?,
                        false => write!(out, "{}", value as u64)?,
                    }
                }
                out.write_str("]")
            }
            // Quoted as the kernel does, since a string may contain a comma.
            Self::Texts(texts) => out.write_fmt(format_args!("{texts:?}")),
            Self::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}")),
            #[cfg(all(feature = "probe", target_os = "linux"))]
            Self::Typed(typed) => typed.fmt(out),
        }
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unsigned(value) | Self::Pointer(value) => serializer.serialize_u64(*value),
            Self::Signed(value) => serializer.serialize_i64(*value),
            Self::Text(bytes) => serializer.serialize_str(&String::from_utf8_lossy(bytes)),
            Self::Integers(integers) if integers.signed => serializer.collect_seq(integers.iter()),
            Self::Integers(integers) => {
                serializer.collect_seq(integers.iter().map(|value| value as u64))
            }
            Self::Texts(texts) => serializer.collect_seq(texts.iter().map(String::from_utf8_lossy)),
            Self::Bytes(bytes) => serializer.collect_seq(*bytes),
            #[cfg(all(feature = "probe", target_os = "linux"))]
            Self::Typed(typed) => typed.serialize(serializer),
        }
    }
}
