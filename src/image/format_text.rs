//! The text of a format file, as `f_show()` in `kernel/trace/trace_events.c` prints it.

use std::fmt::Write;

use super::structs::{CommonField, Structs};

/// A field of an event, `struct ftrace_event_field`.
#[derive(Clone, Debug)]
pub(super) struct ImageField {
    pub(super) type_text: String,
    pub(super) name: String,
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) is_signed: bool,
    /// The length of an array; 0 for other fields.
    pub(super) length: u64,
}

/// Writes a format file without the line of the id, which only a running kernel has.
pub(super) fn write(
    name: &str,
    structs: &Structs,
    fields: &[ImageField],
    print_fmt: &str,
) -> String {
    let mut text = format!("name: {name}\nformat:\n");
    for common in &structs.common {
        line(&mut text, &ImageField::from(common), structs);
    }
    text.push('\n');
    for field in fields {
        line(&mut text, field, structs);
    }
    text.push_str("\nprint fmt: ");
    text.push_str(print_fmt);
    text.push('\n');
    text
}

impl From<&CommonField> for ImageField {
    fn from(common: &CommonField) -> Self {
        Self {
            type_text: common.type_text.clone(),
            name: format!("common_{}", common.name),
            offset: common.offset.into(),
            size: common.size.into(),
            is_signed: common.is_signed,
            length: 0,
        }
    }
}

fn line(text: &mut String, field: &ImageField, structs: &Structs) {
    let ImageField {
        type_text,
        name,
        offset,
        size,
        is_signed,
        length,
    } = field;
    // `__data_loc char[] name` stays as it is.
    let bracket = match type_text.starts_with("__data_loc") {
        true => None,
        false => type_text.find('['),
    };
    text.push_str("\tfield:");
    // Writing to a `String` is infallible.
    let _ = match (bracket, structs.field_length.is_some()) {
        (None, _) => write!(text, "{type_text} {name}"),
        (Some(at), false) => write!(text, "{} {name}{}", &type_text[..at], &type_text[at..]),
        (Some(at), true) => match length {
            0 => write!(text, "{} {name}[]", &type_text[..at]),
            length => write!(text, "{} {name}[{length}]", &type_text[..at]),
        },
    };
    let signed = u8::from(*is_signed);
    let _ = writeln!(text, ";\toffset:{offset};\tsize:{size};\tsigned:{signed};");
}
