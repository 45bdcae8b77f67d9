//! Synthetic events, which the kernel prints by their fields' types and not by their
//! print fmts (`kernel/trace/trace_events_synth.c`, `print_synth_event()`).

use std::fmt::Write;

use super::output::Output;
use super::pointer::symbol;
use super::scene::Scene;
use crate::format::{Field, FieldKind, Format};
use crate::machine::until_nul;
use crate::name::EventName;
use crate::record::{Record, RecordError};

/// The names of the bits of a `gfp_t`, in the kernel's order.
pub(crate) type GfpFlags = Vec<(u64, String)>;

/// A synthetic event: how the kernel prints each of its fields.
#[derive(Clone, Debug)]
pub(super) struct SyntheticText {
    fields: Vec<(Field, SyntheticShape)>,
    gfp_flags: Option<GfpFlags>,
}

#[derive(Clone, Copy, Debug)]
enum SyntheticShape {
    /// A string in the field itself, which ends before this offset.
    Text(u32),
    /// A string elsewhere in the record.
    LocatedText,
    /// Addresses of functions, after their number.
    Stack,
    Number(Numeral),
}

/// The notation of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numeral {
    Signed,
    Unsigned,
    /// A `gfp_t`: hexadecimal, and its bits by name.
    Gfp,
}

impl SyntheticText {
    /// Returns `None` if the event is not synthetic.
    pub(super) fn of(name: &EventName, format: &Format) -> Option<Self> {
        if name.category() != "synthetic" {
            return None;
        }
        let fields = format.fields();
        let ends = fields.iter().skip(1).map(Field::offset).chain([u32::MAX]);
        let shaped = fields.iter().zip(ends).map(|(field, end)| {
            // Kernels before 5.17 have the bracket in the type: `char[16] comm`.
            let is_text = field.is_text() || field.declaration().type_text().contains("char[");
            let shape = match field.kind() {
                FieldKind::DataLoc if is_text => SyntheticShape::LocatedText,
                FieldKind::DataLoc => SyntheticShape::Stack,
                _ if is_text => SyntheticShape::Text(end),
                FieldKind::Scalar => SyntheticShape::Number(numeral(field)),
                _ => return None,
            };
            Some((field.clone(), shape))
        });
        Some(Self {
            fields: shaped.collect::<Option<_>>()?,
            gfp_flags: None,
        })
    }

    /// Whether it has a `gfp_t` field.
    pub(super) fn has_gfp(&self) -> bool {
        let mut shapes = self.fields.iter().map(|(_, shape)| shape);
        shapes.any(|shape| matches!(shape, SyntheticShape::Number(Numeral::Gfp)))
    }

    pub(super) fn set_gfp_flags(&mut self, flags: GfpFlags) {
        self.gfp_flags = Some(flags);
    }

    pub(super) fn write(
        &self,
        record: &Record<'_>,
        scene: &Scene<'_>,
        out: &mut Output,
    ) -> Result<(), RecordError> {
        let last = self.fields.len().saturating_sub(1);
        for (index, (field, shape)) in self.fields.iter().enumerate() {
            let space = if index < last { " " } else { "" };
            let _ = write!(out, "{}=", field.name());
            match *shape {
                SyntheticShape::Text(end) => {
                    let bytes = record.bytes();
                    let start = field.offset() as usize;
                    let end = bytes.len().min(end as usize);
                    // The string may be longer than the field's type.
                    let text = bytes.get(start..end).unwrap_or(record.raw(field)?);
                    out.push_bytes(until_nul(text));
                    out.push_str(space);
                }
                SyntheticShape::LocatedText => {
                    out.push_bytes(until_nul(record.data(field)?));
                    out.push_str(space);
                }
                SyntheticShape::Stack => {
                    out.push_str("STACK:\n");
                    let size = record.machine().long_size() as usize;
                    for address in record.data(field)?.chunks_exact(size).skip(1) {
                        out.push_str("=> ");
                        let address = record.machine().unsigned(address);
                        symbol(out, address, true, scene.addresses);
                        out.push('\n');
                    }
                }
                SyntheticShape::Number(numeral) => {
                    self.number(numeral, record.raw(field)?, record, space, out);
                }
            }
        }
        Ok(())
    }

    fn number(
        &self,
        numeral: Numeral,
        bytes: &[u8],
        record: &Record<'_>,
        space: &str,
        out: &mut Output,
    ) {
        let value = record.machine().unsigned(bytes);
        let _ = match (numeral, bytes.len()) {
            // The kernel converts smaller types to `int`, by way of unsigned types.
            (Numeral::Signed, 4..) => write!(out, "{}", record.machine().signed(bytes)),
            (Numeral::Signed | Numeral::Unsigned, _) => write!(out, "{value}"),
            (Numeral::Gfp, _) => write!(out, "{value:x}"),
        };
        out.push_str(space);
        if numeral == Numeral::Gfp {
            out.push_str(" (");
            match &self.gfp_flags {
                Some(names) => {
                    let names = names
                        .iter()
                        .map(|(flag, name)| (Some(*flag), name.as_str()));
                    out.flags(value, "|", names);
                }
                None => out.push_str("<names of flags>"),
            }
            out.push(')');
        }
    }
}

/// Chooses the notation by type, as `synth_field_fmt()` does.
fn numeral(field: &Field) -> Numeral {
    match field.declaration().base_type().as_str() {
        "s64" | "s32" | "s16" | "s8" | "char" | "int" | "long" | "bool" | "pid_t" => {
            Numeral::Signed
        }
        "gfp_t" => Numeral::Gfp,
        _ => Numeral::Unsigned,
    }
}
