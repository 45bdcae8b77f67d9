//! The bytes of one event, read by its format.

pub mod ring;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::{Serialize, Serializer};

use crate::format::{Field, FieldKind, Format, LOCATION, Location};
use crate::machine::{Machine, sign_extended, until_nul, zero_extended};

/// One event's bytes as the kernel wrote them, from its `common_type` on.
///
/// ```
/// use tracepoints::format::Format;
/// use tracepoints::{ByteOrder, Machine, Record};
///
/// let format = Format::parse("\
/// name: x
/// ID: 1
/// format:
/// \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
///
/// \tfield:__data_loc char[] path;\toffset:4;\tsize:4;\tsigned:0;
/// \tfield:int ret;\toffset:8;\tsize:4;\tsigned:1;
///
/// print fmt: \"\"
/// ")?;
/// let bytes = [1, 0, 0, 0, 12, 0, 4, 0, 0xfe, 0xff, 0xff, 0xff, b'a', b'/', b'b', 0];
/// let record = Record::new(&format, &bytes, Machine::new(ByteOrder::Little, true));
/// let values: Vec<String> = record
///     .fields()
///     .map(|(field, value)| Ok(format!("{}={}", field.name(), value?)))
///     .collect::<Result<_, tracepoints::record::RecordError>>()?;
/// assert_eq!(values, ["path=a/b", "ret=-2"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    format: &'a Format,
    bytes: &'a [u8],
    machine: Machine,
}

/// Why a field's value is not in a record's bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The record ends before the field does.
    #[error("{field} is at bytes {offset} to {end} of a record of {length}")]
    Short {
        /// The field.
        field: String,
        /// Where it begins, in bytes.
        offset: u32,
        /// Where it would end, in bytes.
        end: u64,
        /// The length of the record, in bytes.
        length: usize,
    },
    /// A dynamic field points outside the record.
    #[error("the data of {field} would be at bytes {offset} to {end} of a record of {length}")]
    Outside {
        /// The field.
        field: String,
        /// Where its data would begin, in bytes.
        offset: u64,
        /// Where they would end, in bytes.
        end: u64,
        /// The length of the record, in bytes.
        length: usize,
    },
}

impl<'a> Record<'a> {
    /// Takes bytes as a record of this format. There may be more than the fields need:
    /// dynamic data come after them, then padding.
    pub fn new(format: &'a Format, bytes: &'a [u8], machine: Machine) -> Self {
        Self {
            format,
            bytes,
            machine,
        }
    }

    /// Returns the format by which the bytes are read.
    pub fn format(&self) -> &'a Format {
        self.format
    }

    /// Returns all bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the machine that wrote the bytes.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Returns the bytes of the field itself: those of a dynamic field are the u32 that
    /// locates its data.
    ///
    /// # Errors
    ///
    /// [`RecordError::Short`].
    #[inline]
    pub fn raw(&self, field: &Field) -> Result<&'a [u8], RecordError> {
        let start = field.offset() as usize;
        let end = start.checked_add(field.size() as usize);
        end.and_then(|end| self.bytes.get(start..end))
            .ok_or_else(|| self.short(field))
    }

    fn short(&self, field: &Field) -> RecordError {
        RecordError::Short {
            field: field.name().to_owned(),
            offset: field.offset(),
            end: u64::from(field.offset()) + u64::from(field.size()),
            length: self.bytes.len(),
        }
    }

    /// Whether the field is the callers in `ftrace:kernel_stack`: the format says 8, but
    /// a record has as many as there are.
    fn is_stack(&self, field: &Field) -> bool {
        field.kind() == FieldKind::Array
            && field.name() == "caller"
            && self.format.name() == "kernel_stack"
    }

    /// Returns the data of a dynamic field, wherever in the record they are, and the
    /// bytes of any other. The rest of the record belongs to an array without a size,
    /// such as `char buf[]` of `ftrace:print` (`char buf` on Linux 4.x), and to the
    /// callers of `ftrace:kernel_stack`.
    ///
    /// # Errors
    ///
    /// [`RecordError::Short`] and [`RecordError::Outside`].
    #[inline]
    pub fn data(&self, field: &Field) -> Result<&'a [u8], RecordError> {
        if self.is_stack(field) {
            let rest = self.bytes.get(field.offset() as usize..);
            return rest.ok_or_else(|| self.short(field));
        }
        let raw = self.raw(field)?;
        if !field.kind().is_dynamic() {
            return Ok(match field.is_rest() {
                true => self
                    .bytes
                    .get(field.offset() as usize..)
                    .unwrap_or_default(),
                false => raw,
            });
        }
        let location = Location::read(raw, field.location_base(), self.machine);
        let range = location.range(self.bytes.len());
        self.bytes
            .get(range.clone())
            .ok_or_else(|| RecordError::Outside {
                field: field.name().to_owned(),
                offset: range.start as u64,
                end: range.end as u64,
                length: self.bytes.len(),
            })
    }

    /// Returns the value of a field of the format.
    ///
    /// # Errors
    ///
    /// [`RecordError::Short`] and [`RecordError::Outside`].
    pub fn value(&self, field: &Field) -> Result<Value<'a>, RecordError> {
        if field.is_text_array() {
            return self.texts(field).map(Value::Texts);
        }
        Ok(Value::of(field, self.data(field)?, self.machine))
    }

    /// Returns the strings that an array of locations refers to.
    fn texts(&self, field: &Field) -> Result<Texts<'a>, RecordError> {
        let texts = Texts {
            record: self.bytes,
            locations: self.raw(field)?,
            machine: self.machine,
        };
        for (index, location) in texts.locations().enumerate() {
            if self.bytes.get(location.clone()).is_none() {
                return Err(RecordError::Outside {
                    field: format!("{}[{index}]", field.name()),
                    offset: location.start as u64,
                    end: location.end as u64,
                    length: self.bytes.len(),
                });
            }
        }
        Ok(texts)
    }

    /// Iterates over the event's own fields with their values, in the format's order.
    pub fn fields(&self) -> Fields<'a> {
        Fields {
            record: *self,
            fields: self.format.fields().iter(),
        }
    }
}

/// The fields of a record with their values: see [`Record::fields`].
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    record: Record<'a>,
    fields: std::slice::Iter<'a, Field>,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a Field, Result<Value<'a>, RecordError>);

    fn next(&mut self) -> Option<Self::Item> {
        let field = self.fields.next()?;
        Some((field, self.record.value(field)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.fields.size_hint()
    }
}

impl ExactSizeIterator for Fields<'_> {}

/// The value of one field.
///
/// [`Display`](fmt::Display) writes numbers in decimal, pointers and bytes in
/// hexadecimal, texts as they are (with invalid UTF-8 replaced) and arrays in brackets. A
/// value serializes as a number, a string, or an array of numbers or of strings.
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
    record: &'a [u8],
    /// Each inside the record.
    locations: &'a [u8],
    machine: Machine,
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
    fn locations(self) -> impl Iterator<Item = Range<usize>> {
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

/// Equal if the strings are, wherever they lie.
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
    /// `size` must be 1, 2, 4 or 8.
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::ByteOrder;

    /// A probe with the arguments `names=+0(%di):string[3] b=%si:u8`.
    #[test]
    fn an_array_of_locations_is_a_list_of_texts() {
        let text = "name: ev\nID: 9\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
            \tfield:__data_loc char[][3] names;\toffset:4;\tsize:12;\tsigned:1;\n\
            \tfield:u8 b;\toffset:16;\tsize:1;\tsigned:0;\n\
            \nprint fmt: \"%u\", REC->b\n";
        let format = Format::parse(text).expect("a format");
        let names = &format.fields()[0];
        for order in [ByteOrder::Little, ByteOrder::Big] {
            let word = |word: u32| match order {
                ByteOrder::Little => word.to_le_bytes(),
                ByteOrder::Big => word.to_be_bytes(),
            };
            let mut bytes = vec![0; 4];
            // The second could not be read; the last is not valid UTF-8.
            for location in [5 << 16 | 20, 0, 3 << 16 | 25] {
                bytes.extend(word(location));
            }
            bytes.extend([7, 0, 0, 0]);
            bytes.extend(b"a, b\0\xff!\0");
            let record = Record::new(&format, &bytes, Machine::new(order, true));
            let value = record.value(names).expect("in the record");
            let Value::Texts(texts) = value else {
                panic!("{value:?}");
            };
            assert_eq!((texts.len(), texts.iter().len()), (3, 3));
            let texts: Vec<&[u8]> = texts.iter().collect();
            assert_eq!(texts, [&b"a, b"[..], b"", b"\xff!"]);
            assert_eq!(value.to_string(), "[\"a, b\", \"\", \"\u{fffd}!\"]");
            let json = serde_json::to_string(&value).expect("JSON");
            assert_eq!(json, "[\"a, b\",\"\",\"\u{fffd}!\"]");
            assert_eq!((value.text(), value.integer()), (None, None));
            // One ends outside, and one begins outside.
            for bad in [2 << 16 | 27, 1 << 16 | 0xffff] {
                let mut bytes = bytes.clone();
                bytes[8..12].copy_from_slice(&word(bad));
                let record = Record::new(&format, &bytes, Machine::new(order, true));
                let error = record.value(names).expect_err("outside");
                assert!(
                    matches!(&error, RecordError::Outside { field, .. } if field == "names[1]"),
                    "{error}"
                );
            }
            let short = Record::new(&format, &bytes[..15], Machine::new(order, true));
            assert!(matches!(short.value(names), Err(RecordError::Short { .. })));
        }
    }

    #[test]
    fn an_array_of_no_size_is_the_rest() {
        for buffer in ["buf[]", "buf"] {
            let text = format!(
                "name: print\nID: 5\nformat:\n\n\
                \tfield:int id;\toffset:0;\tsize:4;\tsigned:1;\n\
                \tfield:char {buffer};\toffset:4;\tsize:0;\tsigned:0;\n\
                \nprint fmt: \"\"\n"
            );
            let format = Format::parse(&text).expect("a format");
            let value = |bytes: &[u8]| {
                let record = Record::new(&format, bytes, Machine::NATIVE);
                let value = record.value(&format.fields()[1]);
                value.map(|value| value.to_string())
            };
            assert_eq!(value(b"....marker\n\0\0"), Ok("marker\n".to_owned()));
            assert_eq!(value(b"...."), Ok(String::new()));
            assert!(matches!(value(b"..."), Err(RecordError::Short { .. })));
        }
    }
}
