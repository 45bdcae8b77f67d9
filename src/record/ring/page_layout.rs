//! The files of tracefs that describe a page and the headers of its records.

use crate::format::{Field, FormatError, page_header};
use crate::machine::{ByteOrder, Machine};

/// The places of the parts of a page: the kernel's `events/header_page`.
///
/// An instance (`instances/<name>`) has a page size and a `header_page` of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLayout {
    pub(super) timestamp: HeaderField,
    pub(super) commit: HeaderField,
    pub(super) data: HeaderField,
}

/// A field's offset and size, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeaderField {
    pub(super) offset: usize,
    pub(super) size: usize,
}

impl HeaderField {
    pub(super) fn end(self) -> usize {
        self.offset.saturating_add(self.size)
    }

    pub(super) fn of(self, bytes: &[u8]) -> Option<&[u8]> {
        bytes.get(self.offset..self.end())
    }
}

/// A `header_page` file that does not describe a page this crate can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageLayoutError {
    /// A line is not what a kernel writes.
    #[error(transparent)]
    Line(#[from] FormatError),
    /// The file lacks a field.
    #[error("header_page has no field {field}")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A field is larger or smaller than on any kernel, or overlaps another.
    #[error("header_page has {field} at bytes {offset} to {end}, where no kernel has it")]
    Misplaced {
        /// The field.
        field: &'static str,
        /// Where it begins, in bytes.
        offset: u32,
        /// Where it ends, in bytes.
        end: u64,
    },
}

impl PageLayout {
    /// Parses the text of `events/header_page`.
    ///
    /// # Errors
    ///
    /// [`PageLayoutError`].
    pub fn parse(header_page: &str) -> Result<Self, PageLayoutError> {
        let fields = page_header(header_page)?;
        let place = |name, sizes: &[u32]| {
            let field = fields.iter().find(|field| field.name() == name);
            let field = field.ok_or(PageLayoutError::Missing { field: name })?;
            let place = HeaderField {
                offset: field.offset() as usize,
                size: field.size() as usize,
            };
            match sizes.is_empty() && field.size() > 0 || sizes.contains(&field.size()) {
                true => Ok((place, field)),
                false => Err(misplaced(name, field)),
            }
        };
        let (timestamp, _) = place("timestamp", &[8])?;
        let (commit, commit_field) = place("commit", &[4, 8])?;
        let (data, data_field) = place("data", &[])?;
        if commit.offset < timestamp.end() && timestamp.offset < commit.end() {
            return Err(misplaced("commit", commit_field));
        }
        if data.offset < timestamp.end().max(commit.end()) {
            return Err(misplaced("data", data_field));
        }
        Ok(Self {
            timestamp,
            commit,
            data,
        })
    }

    /// Returns the size of a page in bytes: 4096 on most machines, or what
    /// `buffer_subbuf_size_kb` sets since Linux 6.8.
    pub fn page_size(self) -> usize {
        self.data.end()
    }

    /// Returns the layout of pages of this size in bytes, at least that of their header.
    #[cfg(feature = "recording")]
    pub(crate) fn with_page_size(mut self, page_size: usize) -> Self {
        self.data.size = page_size.saturating_sub(self.data.offset);
        self
    }

    /// Returns the layout that [`PageWriter`](super::page_writer::PageWriter) writes: the
    /// kernel's `struct buffer_data_page`, without gaps.
    #[cfg(feature = "recording")]
    pub(super) fn written(machine: Machine, page_size: usize) -> Self {
        let after = |field: HeaderField, size| HeaderField {
            offset: field.end(),
            size,
        };
        let timestamp = HeaderField { offset: 0, size: 8 };
        let commit = after(timestamp, machine.long_size() as usize);
        let data = after(commit, page_size.saturating_sub(commit.end()));
        Self {
            timestamp,
            commit,
            data,
        }
    }

    /// Returns the text of `events/header_page` for this layout.
    #[cfg(feature = "recording")]
    pub(crate) fn header_page(self) -> String {
        let line = |declaration, HeaderField { offset, size }, is_signed| {
            format!(
                "\tfield: {declaration};\toffset:{offset};\tsize:{size};\tsigned:{is_signed};\n"
            )
        };
        let overwrite = HeaderField {
            size: 1,
            ..self.commit
        };
        [
            line("u64 timestamp", self.timestamp, 0),
            line("local_t commit", self.commit, 1),
            line("int overwrite", overwrite, 1),
            line("char data", self.data, 1),
        ]
        .concat()
    }

    /// Returns the machine that wrote the pages. Its word size is that of `local_t`, as
    /// large as a `long`, in which a page stores how much of it is used.
    pub fn machine(self, byte_order: ByteOrder) -> Machine {
        Machine::new(byte_order, self.commit.size == 8)
    }
}

/// Checks that `events/header_event` describes a record's header as this module reads it.
/// The text is fixed in the kernel's source (`ring_buffer_print_entry_header()`). Old
/// kernels have no line for `time_stamp`, which they never wrote.
pub(crate) fn check_header_event(text: &str) -> Result<(), PageLayoutError> {
    const KNOWN: [&str; 9] = [
        "# compressed entry header",
        "\ttype_len    :    5 bits",
        "\ttime_delta  :   27 bits",
        "\tarray       :   32 bits",
        "",
        "\tpadding     : type == 29",
        "\ttime_extend : type == 30",
        "\ttime_stamp : type == 31",
        "\tdata max type_len  == 28",
    ];
    let mut known = KNOWN.iter();
    for (index, line) in text.lines().enumerate() {
        if known.find(|one| **one == line).is_none() {
            return Err(PageLayoutError::Line(FormatError {
                line: index + 1,
                text: line.chars().take(200).collect(),
                expected: "a line of the header every known kernel has",
            }));
        }
    }
    Ok(())
}

fn misplaced(name: &'static str, field: &Field) -> PageLayoutError {
    PageLayoutError::Misplaced {
        field: name,
        offset: field.offset(),
        end: u64::from(field.offset()) + u64::from(field.size()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER_EVENT: &str = "\
# compressed entry header
\ttype_len    :    5 bits
\ttime_delta  :   27 bits
\tarray       :   32 bits

\tpadding     : type == 29
\ttime_extend : type == 30
\ttime_stamp : type == 31
\tdata max type_len  == 28
";

    #[test]
    fn headers_of_entries() {
        assert_eq!(check_header_event(HEADER_EVENT), Ok(()));
        // As on kernels that write no absolute times.
        let old = HEADER_EVENT.replace("\ttime_stamp : type == 31\n", "");
        assert_eq!(check_header_event(&old), Ok(()));
        for (from, to, line) in [("27 bits", "28 bits", 3), ("== 30", "== 31", 7)] {
            let other = HEADER_EVENT.replace(from, to);
            let Err(PageLayoutError::Line(error)) = check_header_event(&other) else {
                panic!("{other}");
            };
            assert_eq!(error.line, line);
        }
    }
}
