//! The bytes of one event, read by its format.

#[cfg(feature = "recording")]
pub mod recording;
pub mod ring;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod typed;
mod value;

#[cfg(all(feature = "probe", target_os = "linux"))]
pub use typed::TypedValue;
pub use value::{Integers, IntegersIter, Texts, TextsIter, Value};

use crate::format::{Field, FieldKind, Format, Location};
use crate::machine::Machine;

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

    /// Whether the field is the callers in `ftrace:kernel_stack`, of which the format
    /// declares 8 and a record has any number.
    fn is_stack(&self, field: &Field) -> bool {
        field.kind() == FieldKind::Array
            && field.name() == "caller"
            && self.format.name() == "kernel_stack"
    }

    /// Returns the data of a dynamic field, wherever in the record they are, and the bytes
    /// of any other field. An array without a size, such as `char buf[]` of `ftrace:print`
    /// (`char buf` on Linux 4.x), extends to the end of the record, and so do the callers
    /// of `ftrace:kernel_stack`.
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
            // The second string could not be read; the last is not valid UTF-8.
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
            // The first location ends outside of the record, and the second begins outside.
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
