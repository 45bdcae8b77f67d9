//! One `format` file of tracefs, read into values and written back to the same
//! bytes.
//!
//! The file describes the **record** that ftrace and perf write for an event. The context
//! of an eBPF program of type `BPF_PROG_TYPE_TRACEPOINT` is the same, except for its
//! first eight bytes and for `syscalls:*`: see [`Context`](crate::Context).
//!
//! Nothing here does I/O: text in, values out. The grammar is that of
//! `f_show()` in the kernel's `kernel/trace/trace_events.c`.

mod argument;
mod declaration;
mod field;
mod location;
mod parse;
pub mod print;
mod token;
mod tolerant;

pub(crate) use argument::ArgumentType;
#[cfg(test)]
pub(crate) use argument::known_argument_type;
pub use declaration::{Declaration, DeclarationError};
#[cfg(all(feature = "probe", target_os = "linux"))]
pub(crate) use field::PathKind;
pub use field::{Field, FieldKind};
pub(crate) use location::{LOCATION, Location};
pub use parse::FormatError;
pub(crate) use parse::page_header;
pub(crate) use token::{Token, is_address_space, is_identifier};
pub use tolerant::{Repair, RepairKind};

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use parse::Ending;

use crate::layout::ctype::RecordKeyword;
use crate::layout::{Layout, Slot};

/// One `format` file: the event's name and id, its fields and how
/// the kernel prints them.
///
/// [`Display`](fmt::Display) writes the file again, byte for byte.
///
/// ```
/// use tracepoints::format::{FieldKind, Format};
///
/// let text = "\
/// name: sys_exit
/// ID: 22
/// format:
/// \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
/// \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;
///
/// \tfield:long id;\toffset:8;\tsize:8;\tsigned:1;
/// \tfield:long ret;\toffset:16;\tsize:8;\tsigned:1;
///
/// print fmt: \"NR %ld = %ld\", REC->id, REC->ret
/// ";
/// let format = Format::parse(text)?;
/// let ret = format.field("ret").ok_or("no field ret")?;
/// assert_eq!((ret.offset(), ret.size(), ret.kind()), (16, 8, FieldKind::Scalar));
/// assert_eq!(format.to_string(), text);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Format {
    /// The whole file, shared by its fields.
    text: Arc<str>,
    /// Its place in `text`; so is `print_fmt`.
    name: Range<usize>,
    /// `None` in a format from a kernel's image.
    id: Option<u32>,
    /// The common ones first.
    fields: Vec<Field>,
    common_count: usize,
    ending: Ending,
    print_fmt: Range<usize>,
    repairs: Vec<Repair>,
}

impl Format {
    /// Reads the text of one `format` file.
    ///
    /// # Errors
    ///
    /// [`FormatError`] with the line's number and text if the file is not what a kernel
    /// writes. Nothing is skipped, and nothing is guessed.
    ///
    /// A file that ends after its common fields is that of an event without fields, as
    /// Linux before 3.11 writes it.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        parse::format(text)
    }

    /// Returns the format of no record: the fields are values that a raw tracepoint's
    /// program reads.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(crate) fn of_paths(name: &str, fields: Vec<Field>) -> Self {
        Self {
            text: name.into(),
            name: 0..name.len(),
            id: None,
            fields,
            common_count: 0,
            ending: Ending::Nothing,
            print_fmt: name.len()..name.len(),
            repairs: Vec::new(),
        }
    }

    /// Reads a format file as people paste it into a mail or a bug report: with other
    /// white space than a kernel writes, with the line ends of another system, or without
    /// the last of them. [`repairs`](Self::repairs) says what was put right;
    /// [`Display`](fmt::Display) writes the file as the kernel would have written it.
    ///
    /// Only white space is tolerated, and a missing end only if other white space shows
    /// that the file was pasted; a file that is otherwise as a kernel writes it was cut.
    /// All words, names and numbers are read as they are.
    ///
    /// ```
    /// use tracepoints::format::Format;
    ///
    /// let pasted = "\
    /// name: x
    /// ID: 7
    /// format:
    ///     field:unsigned short common_type;    offset:0;    size:2;    signed:0;
    ///
    ///     field:int y;    offset:4;    size:4;    signed:1;
    ///
    /// print fmt: \"%d\", REC->y";
    /// assert!(Format::parse(pasted).is_err());
    /// let format = Format::parse_tolerant(pasted)?;
    /// assert_eq!(format.field("y").map(|field| field.offset()), Some(4));
    /// assert_eq!(
    ///     format.repairs()[0].to_string(),
    ///     "other white space than a kernel writes, in 2 lines from line 4 on"
    /// );
    /// # Ok::<(), tracepoints::format::FormatError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`FormatError`], as of [`parse`](Self::parse), where something other than white
    /// space differs from what a kernel writes.
    pub fn parse_tolerant(text: &str) -> Result<Self, FormatError> {
        match parse::format(text) {
            Ok(format) => Ok(format),
            Err(_) => tolerant::format(text),
        }
    }

    /// Returns the repairs that [`parse_tolerant`](Self::parse_tolerant) made; empty for
    /// a file that is as a kernel writes it.
    pub fn repairs(&self) -> &[Repair] {
        &self.repairs
    }

    /// Returns the event's name, without its category, which the file does not state.
    pub fn name(&self) -> &str {
        &self.text[self.name.clone()]
    }

    /// Returns the event's id: the value of `perf_event_attr.config` and of a record's
    /// `common_type`.
    ///
    /// Ids are assigned at boot and when modules load. They differ from boot to boot, and
    /// are used again. `None` in a format from a kernel's image, which has no ids: such a
    /// file has no line `ID: `, and is otherwise the same.
    pub fn id(&self) -> Option<u32> {
        self.id
    }

    /// Returns the fields that every record begins with (`common_type`, `common_pid`, …):
    /// the kernel's `struct trace_entry`. An eBPF context does not have them.
    pub fn common_fields(&self) -> &[Field] {
        &self.fields[..self.common_count]
    }

    /// Returns the event's own fields, in the file's order.
    pub fn fields(&self) -> &[Field] {
        &self.fields[self.common_count..]
    }

    /// Returns the field of this name, common fields included.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name() == name)
    }

    /// Returns the record as a layout: common fields and own ones, under the names of the
    /// context struct's members (that of a dynamic field `f` is `__data_loc_f`, a u32).
    pub fn layout(&self) -> Layout {
        Self::layout_of(self.fields.iter())
    }

    /// Returns where the last field ends, in bytes: the kernel does not attach programs that
    /// load from behind it (`perf_event_set_bpf_prog()` in `kernel/events/core.c`).
    pub fn record_end(&self) -> u32 {
        let last = self.fields.last();
        last.map_or(0, |field| field.offset().saturating_add(field.size()))
    }

    /// Refuses a file that ends before its print fmt. Only Linux before 3.11 writes such
    /// files; another kernel's was cut.
    pub(crate) fn check_has_print_fmt(&self) -> Result<(), FormatError> {
        match self.ending {
            Ending::Nothing => Err(FormatError {
                line: self.text.split('\n').count(),
                text: String::new(),
                expected: "fields or a print fmt, without which only Linux before 3.11 ends",
            }),
            _ => Ok(()),
        }
    }

    pub(crate) fn layout_of<'a>(fields: impl Iterator<Item = &'a Field>) -> Layout {
        let slots: Vec<Slot> = fields
            .map(|field| {
                let bit_offset = u64::from(field.offset()) * 8;
                Slot::new(field.member_name(), field.c_type(), bit_offset, None)
            })
            .collect();
        let size = slots.iter().map(Slot::end).max().unwrap_or(0);
        Layout::new(RecordKeyword::Struct, None, size, slots)
    }

    /// Parses the print fmt, anew at each call.
    ///
    /// # Errors
    ///
    /// [`PrintFmtError`](print::PrintFmtError) with the place, if the text is not C of
    /// the kind used in print fmts.
    pub fn print(&self) -> Result<print::PrintFmt, print::PrintFmtError> {
        print::PrintFmt::parse(self.print_fmt())
    }

    /// Returns the text after `print fmt: `, exactly as in the file, escapes and newlines
    /// included; empty if there is none, for an event without fields on Linux before
    /// 3.11.
    pub fn print_fmt(&self) -> &str {
        &self.text[self.print_fmt.clone()]
    }
}

impl fmt::Display for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "name: {}", self.name())?;
        if let Some(id) = self.id {
            writeln!(out, "ID: {id}")?;
        }
        writeln!(out, "format:")?;
        for field in self.common_fields() {
            writeln!(out, "{field}")?;
        }
        writeln!(out)?;
        for field in self.fields() {
            writeln!(out, "{field}")?;
        }
        match self.ending {
            Ending::BlankAndPrintFmt => writeln!(out, "\nprint fmt: {}", self.print_fmt()),
            Ending::PrintFmt => writeln!(out, "print fmt: {}", self.print_fmt()),
            Ending::Nothing => Ok(()),
        }
    }
}

/// Formats are equal if their texts are.
impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Format {}

impl Hash for Format {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl FromStr for Format {
    type Err = FormatError;

    /// Like [`parse`](Self::parse).
    fn from_str(text: &str) -> Result<Self, FormatError> {
        Self::parse(text)
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Format")
            .field("name", &self.name())
            .field("id", &self.id)
            .field("common", &self.common_fields())
            .field("fields", &self.fields())
            .field("print_fmt", &self.print_fmt())
            .finish()
    }
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut format = serializer.serialize_struct("Format", 6)?;
        format.serialize_field("name", self.name())?;
        format.serialize_field("id", &self.id)?;
        format.serialize_field("common_fields", self.common_fields())?;
        format.serialize_field("fields", self.fields())?;
        format.serialize_field("print_fmt", self.print_fmt())?;
        match self.repairs() {
            [] => format.skip_field("repairs")?,
            repairs => format.serialize_field("repairs", repairs)?,
        }
        format.end()
    }
}
