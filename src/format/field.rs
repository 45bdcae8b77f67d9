//! One `field:` line of a format file.

use std::fmt;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use super::argument::ArgumentType;
use super::declaration::{DATA_LOC, Declaration, REL_LOC};
use super::location::LOCATION;
use crate::layout::ctype::CType;
use crate::layout::integer::{IntegerType, Width};
use crate::machine::Machine;

/// The kind of value a field holds, from its declaration and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FieldKind {
    /// An integer, enum, bool or a typedef of one: 1, 2, 4 or 8 bytes.
    Scalar,
    /// A pointer: an address, in the kernel or, for arguments of system calls,
    /// in the caller's memory.
    Pointer,
    /// An array inside the record. An array without a size is the rest of the record:
    /// events of `ftrace:*` end with `char buf[]`, which Linux 4.x spells `char buf`.
    Array,
    /// Bytes elsewhere in the record. The field itself is a u32: the offset from the
    /// record's start in its low 16 bits, the length in its high 16.
    DataLoc,
    /// Like [`DataLoc`](Self::DataLoc), but the offset counts from the end of
    /// the field (Linux 5.17 and later).
    RelLoc,
    /// An array of such u32, each the location of one element: a probe's argument
    /// `names=+0(%di):string[3]` is `__data_loc char[][3] names`.
    DataLocArray,
    /// A struct, union, or typedef of one, by value.
    Struct,
}

impl FieldKind {
    /// Returns the kind's name in `format` and JSON: `scalar`, `data_loc`, ….
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Pointer => "pointer",
            Self::Array => "array",
            Self::DataLoc => "data_loc",
            Self::RelLoc => "rel_loc",
            Self::DataLocArray => "data_loc_array",
            Self::Struct => "struct",
        }
    }

    /// Whether the field only locates its bytes, which are in one other place of the
    /// record. The elements of an array of locations are in several;
    /// [`Record::value`](crate::Record::value) follows each.
    pub fn is_dynamic(self) -> bool {
        matches!(self, Self::DataLoc | Self::RelLoc)
    }

    /// Returns the prefix of the struct member of a field of this kind.
    pub(crate) fn member_prefix(self) -> &'static str {
        match self {
            Self::DataLoc | Self::DataLocArray => "__data_loc_",
            Self::RelLoc => "__rel_loc_",
            _ => "",
        }
    }

    fn of(declaration: &Declaration, size: u32) -> Self {
        let type_text = declaration.type_text();
        let begins_with = |word: &str| {
            let rest = type_text.strip_prefix(word);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
        };
        if begins_with(DATA_LOC) {
            match declaration.is_location_array() {
                true => Self::DataLocArray,
                false => Self::DataLoc,
            }
        } else if begins_with(REL_LOC) {
            Self::RelLoc
        } else if declaration.text().ends_with(']') || declaration.has_bracket_in_type() {
            Self::Array
        } else if type_text.contains('*') {
            Self::Pointer
        } else if size == 0 && !begins_with("struct") && !begins_with("union") {
            // Without a size it cannot be a scalar.
            Self::Array
        } else if begins_with("struct")
            || begins_with("union")
            // Only the size reveals a typedef of a struct (`uuid_t`).
            || !matches!(size, 1 | 2 | 4 | 8)
        {
            Self::Struct
        } else {
            Self::Scalar
        }
    }
}

impl fmt::Display for FieldKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

/// One field of a record: its name, its declaration in C, and the place of its bytes.
///
/// [`Display`](fmt::Display) writes its line of the format file, without the newline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    declaration: Declaration,
    offset: u32,
    size: u32,
    signed: Option<bool>,
    kind: FieldKind,
    argument: Option<ArgumentType>,
}

impl Field {
    pub(super) fn new(
        declaration: Declaration,
        offset: u32,
        size: u32,
        signed: Option<bool>,
    ) -> Self {
        let kind = FieldKind::of(&declaration, size);
        Self {
            declaration,
            offset,
            size,
            signed,
            kind,
            argument: None,
        }
    }

    /// Returns a field of no record: a value that a path through a tracepoint's arguments
    /// leads to.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(crate) fn of_path(path: &str, kind: PathKind, offset: u32) -> Self {
        let (kind, size, signed, type_text, bracket) = match kind {
            PathKind::Integer { size, signed } => {
                let name = format!("{}{}", if signed { "s" } else { "u" }, 8 * size);
                (FieldKind::Scalar, size, signed, name, String::new())
            }
            PathKind::Pointer { size } => {
                let name = "const void *".to_owned();
                (FieldKind::Pointer, size, false, name, String::new())
            }
            // Its length is no part of the type, as that of located data is not.
            PathKind::Text => (
                FieldKind::DataLoc,
                8,
                false,
                "char".to_owned(),
                "[]".to_owned(),
            ),
            PathKind::Integers {
                element,
                signed,
                size,
            } => {
                let name = format!("{}{}", if signed { "s" } else { "u" }, 8 * element);
                let bracket = format!("[{}]", size / element.max(1));
                (FieldKind::Array, size, signed, name, bracket)
            }
            PathKind::Bytes { size } => {
                let name = "struct bytes".to_owned();
                (FieldKind::Struct, size, false, name, String::new())
            }
        };
        Self {
            declaration: Declaration::of_path(&type_text, path, &bracket),
            offset,
            size,
            signed: Some(signed),
            kind,
            argument: None,
        }
    }

    /// Returns the field's name.
    pub fn name(&self) -> &str {
        self.declaration.name()
    }

    /// Returns the name of the field's member in the context struct: that of a dynamic
    /// field `f` is `__data_loc_f` or `__rel_loc_f`.
    pub fn member_name(&self) -> String {
        format!("{}{}", self.kind.member_prefix(), self.name())
    }

    /// Returns the field's C declaration.
    pub fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    /// Returns the field's offset in bytes, from the start of the record.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// Returns the field's size in bytes. Fields of `syscalls:*` have a whole machine
    /// word, whatever their type: rely on the size, not on the type.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Whether the kernel calls the field, or an array's elements, signed; `None` if the
    /// line does not say, as on very old kernels.
    pub fn signed(&self) -> Option<bool> {
        self.signed
    }

    /// Returns the kind of value it holds.
    pub fn kind(&self) -> FieldKind {
        self.kind
    }

    /// Returns the size in bytes of an element of an array or of a dynamic field, if the
    /// declaration determines it: by the type's name or, for types whose size differs
    /// between machines, by a plain number in the bracket.
    pub fn element_size(&self) -> Option<u32> {
        if !matches!(
            self.kind,
            FieldKind::Array | FieldKind::DataLoc | FieldKind::RelLoc
        ) {
            return None;
        }
        let by_name = match self.declaration.pointer_depth() {
            0 => match IntegerType::of_name(&self.declaration.base_type()) {
                Some(IntegerType {
                    width: Width::Fixed(size),
                    ..
                }) => Some(size),
                _ => None,
            },
            _ => None,
        };
        by_name.or_else(|| match self.kind {
            FieldKind::Array => {
                let count: u32 = self.declaration.array()?.parse().ok()?;
                self.size
                    .checked_rem(count)
                    .is_some_and(|rest| rest == 0)
                    .then(|| self.size / count)
            }
            _ => None,
        })
    }

    /// Like [`element_size`](Self::element_size), and also for types with the size of a
    /// `long` on `machine`.
    pub(crate) fn element_size_on(&self, machine: Machine) -> Option<u32> {
        self.element_size().or_else(|| {
            if self.declaration.pointer_depth() > 0 {
                return Some(machine.long_size());
            }
            match self.declaration.base_type().as_ref() {
                "cpumask_t" => Some(machine.long_size()),
                name => IntegerType::of_name(name)?.width.size(machine.long_size()),
            }
        })
    }

    /// Whether it is an array of `char`, inside the record or located by it: a string
    /// that ends at its first NUL.
    pub fn is_text(&self) -> bool {
        matches!(
            self.kind,
            FieldKind::Array | FieldKind::DataLoc | FieldKind::RelLoc
        ) && self.declaration.pointer_depth() == 0
            && self.declaration.base_type() == "char"
    }

    /// Whether it is an array of locations of strings.
    pub(crate) fn is_text_array(&self) -> bool {
        self.kind == FieldKind::DataLocArray
            && self.declaration.pointer_depth() == 0
            && self.declaration.base_type() == "char"
    }

    /// Whether it is the rest of the record, from its offset on.
    pub(crate) fn is_rest(&self) -> bool {
        self.kind == FieldKind::Array
            && self.size == 0
            && matches!(self.declaration.array(), None | Some(""))
    }

    /// Returns the field's type, as far as declaration and size determine it.
    pub(super) fn c_type(&self) -> CType {
        let declaration = &self.declaration;
        let spelled = |text: &str, size| CType::Spelled {
            text: text.to_owned(),
            size,
            signed: self.signed == Some(true),
            is_pointer: declaration.pointer_depth() > 0,
        };
        match (self.kind, self.element_size()) {
            (kind, _) if kind.is_dynamic() => CType::Spelled {
                text: format!("u{}", self.size.saturating_mul(8)),
                size: self.size,
                signed: false,
                is_pointer: false,
            },
            (FieldKind::DataLocArray, _) => CType::Array {
                element: Box::new(CType::Spelled {
                    text: "u32".to_owned(),
                    size: LOCATION,
                    signed: false,
                    is_pointer: false,
                }),
                count: self.size / LOCATION,
            },
            (FieldKind::Array, Some(size)) if size > 0 => CType::Array {
                element: Box::new(spelled(declaration.element_text(), size)),
                count: self.size / size,
            },
            // With elements of unknown size, the array is that many bytes.
            (FieldKind::Array, _) => {
                let length = declaration.array().unwrap_or_default();
                let element = declaration.element_text();
                spelled(&format!("{element}[{length}]"), self.size)
            }
            _ => spelled(declaration.type_text(), self.size),
        }
    }

    /// Returns the number of elements of an array: its size divided by the element's. The
    /// text in the bracket, which may be any C expression, does not count. For an array
    /// of locations, returns their number.
    pub fn element_count(&self) -> Option<u32> {
        match self.kind {
            FieldKind::Array => self.size.checked_div(self.element_size()?),
            FieldKind::DataLocArray => Some(self.size / LOCATION),
            _ => None,
        }
    }

    /// Whether a pointer points to a string, by its declaration. Only a system call's
    /// surely does; those of other events may point into the kernel, or be dangling by
    /// now.
    pub(crate) fn points_to_text(&self) -> bool {
        let declaration = self.declaration();
        declaration.base_type() == "char" && declaration.pointer_depth() == 1
    }

    /// Returns size in bytes and sign of a system call's argument that is smaller than
    /// its word in the record; `None` for any other field.
    pub(crate) fn argument(&self) -> Option<ArgumentType> {
        self.argument
    }

    pub(super) fn set_argument(&mut self, argument: Option<ArgumentType>) {
        self.argument = argument;
    }
}

/// What a value is that a path leads to.
#[cfg(all(feature = "probe", target_os = "linux"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathKind {
    /// Size in bytes.
    Integer { size: u32, signed: bool },
    /// Size in bytes.
    Pointer { size: u32 },
    /// A string.
    Text,
    /// Sizes in bytes, of an element and of all.
    Integers {
        element: u32,
        signed: bool,
        size: u32,
    },
    /// Anything else.
    Bytes { size: u32 },
}

impl fmt::Display for Field {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "\tfield:{};\toffset:{};\tsize:{};",
            self.declaration, self.offset, self.size
        )?;
        match self.signed {
            Some(signed) => write!(out, "\tsigned:{};", u8::from(signed)),
            None => Ok(()),
        }
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let declaration = &self.declaration;
        let mut field = serializer.serialize_struct("Field", 11)?;
        field.serialize_field("name", self.name())?;
        field.serialize_field("declaration", declaration)?;
        field.serialize_field("type", declaration.type_text())?;
        field.serialize_field("pointer_depth", &declaration.pointer_depth())?;
        field.serialize_field("array", &declaration.array())?;
        field.serialize_field("attributes", &declaration.attributes())?;
        field.serialize_field("offset", &self.offset)?;
        field.serialize_field("size", &self.size)?;
        field.serialize_field("signed", &self.signed)?;
        field.serialize_field("kind", &self.kind)?;
        field.serialize_field("element_count", &self.element_count())?;
        field.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(declaration: &str, size: u32) -> Field {
        let declaration = Declaration::parse(declaration).expect("a declaration");
        Field::new(declaration, 8, size, Some(false))
    }

    #[test]
    fn kinds() {
        for (declaration, size, kind) in [
            ("int dfd", 8, FieldKind::Scalar),
            ("enum xfs_free_counter ctr", 4, FieldKind::Scalar),
            ("const char * pathname", 8, FieldKind::Pointer),
            ("char comm[16]", 16, FieldKind::Array),
            ("const char * names[2]", 16, FieldKind::Array),
            ("__data_loc char[] name", 4, FieldKind::DataLoc),
            ("__data_loc cpumask_t cpumask", 4, FieldKind::DataLoc),
            ("__data_loc char[][3] names", 12, FieldKind::DataLocArray),
            ("__data_loc char[][1] names", 4, FieldKind::DataLocArray),
            ("char[16] comm", 16, FieldKind::Array),
            ("char[8] name", 8, FieldKind::Array),
            ("unsigned char[4] mac", 4, FieldKind::Array),
            ("struct x[2] pair", 16, FieldKind::Array),
            ("__rel_loc char name[]", 4, FieldKind::RelLoc),
            ("struct irb irb", 64, FieldKind::Struct),
            ("struct crw crw", 8, FieldKind::Struct),
            ("union orb orb", 32, FieldKind::Struct),
            ("uuid_t uuid", 16, FieldKind::Struct),
            ("char buf", 0, FieldKind::Array),
            ("u32 buf[]", 0, FieldKind::Array),
            ("struct empty empty", 0, FieldKind::Struct),
        ] {
            assert_eq!(field(declaration, size).kind(), kind, "{declaration}");
        }
    }

    #[test]
    fn an_array_is_one_wherever_its_bracket_is() {
        for (declaration, size, spelled) in [
            ("char[16] comm", 16, "char[16]"),
            ("char comm[TASK_COMM_LEN]", 16, "char[16]"),
            ("struct x[N] pair", 16, "struct x[N]"),
            ("__data_loc char[][3] names", 12, "u32[3]"),
        ] {
            let field = field(declaration, size);
            assert_eq!(field.c_type().declare(""), spelled, "{declaration}");
        }
        assert!(field("char[16] comm", 16).is_text());
        // It is several strings.
        assert!(!field("__data_loc char[][3] names", 12).is_text());
        assert!(field("__data_loc char[][3] names", 12).is_text_array());
    }

    #[test]
    fn elements_are_counted_by_size() {
        for (declaration, size, element, count) in [
            ("char comm[TASK_COMM_LEN]", 16, Some(1), Some(16)),
            ("__u8 addr[(48) + 10]", 58, Some(1), Some(58)),
            ("int mcast_rate[NUM_NL80211_BANDS]", 24, Some(4), Some(6)),
            // The size counts, not the bracket, which is wrong.
            ("u8 rates[4]", 6, Some(1), Some(6)),
            // A long has 4 or 8 bytes, which the plain number in the bracket decides.
            ("unsigned long args[6]", 24, Some(4), Some(6)),
            ("unsigned long args[6]", 48, Some(8), Some(6)),
            ("unsigned long args[N]", 48, None, None),
            ("unsigned long args[0]", 0, None, None),
            ("u32 buf", 0, Some(4), Some(0)),
            ("__data_loc u32[] values", 4, Some(4), None),
            ("__data_loc char[][3] names", 12, None, Some(3)),
            ("char[16] comm", 16, Some(1), Some(16)),
            ("unsigned short[3] ports", 6, Some(2), Some(3)),
            ("struct x[2] pair", 16, Some(8), Some(2)),
            ("int dfd", 8, None, None),
        ] {
            let field = field(declaration, size);
            assert_eq!(field.element_size(), element, "{declaration}");
            assert_eq!(field.element_count(), count, "{declaration}");
        }
    }
}
