//! Prints the conversions of a print fmt: `vsnprintf()` and ftrace's helpers
//! (`trace_print_flags_seq()` and the like).

use super::addresses::Addresses;
use super::number::{self, PrintfSpec, WIDEST, write};
use super::output::Output;
use super::pointer;
use crate::format::Format;
use crate::format::print::eval::{CValue, Compiler, Node, Printed, Scope};
use crate::format::print::{Conversion, Count, Expression, Length, Piece, PrintFmtError, pieces};
use crate::machine::{sign_extended, zero_extended};

/// A part of a text.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Text(String),
    Value {
        conversion: Conversion,
        width: Option<Node>,
        precision: Option<Node>,
        value: Node,
    },
}

pub(super) fn steps(format: &Format, compiler: &Compiler<'_>) -> Result<Vec<Step>, PrintFmtError> {
    let print = format.print()?;
    let pieces = pieces(&print.format().text());
    Ok(steps_of(compiler, pieces, print.arguments()))
}

pub(super) fn steps_of(
    compiler: &Compiler<'_>,
    pieces: Vec<Piece>,
    arguments: &[Expression],
) -> Vec<Step> {
    let mut arguments = arguments.iter();
    let mut next = || match arguments.next() {
        Some(argument) => compiler.node(argument),
        None => Node::Unknown("missing".to_owned()),
    };
    let steps = pieces.into_iter().map(|piece| match piece {
        Piece::Text(text) => Step::Text(text),
        Piece::Conversion(conversion) => {
            let width = (conversion.width == Some(Count::Argument)).then(&mut next);
            let precision = (conversion.precision == Some(Count::Argument)).then(&mut next);
            Step::Value {
                width,
                precision,
                value: next(),
                conversion,
            }
        }
    });
    steps.collect()
}

/// Prints values of one record.
pub(super) struct Printer<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) addresses: &'a Addresses,
}

impl Printer<'_> {
    pub(super) fn steps(&self, steps: &[Step], out: &mut Output) {
        for step in steps {
            match step {
                Step::Text(text) => out.push_str(text),
                Step::Value {
                    conversion,
                    width,
                    precision,
                    value,
                } => {
                    self.value(conversion, width.as_ref(), precision.as_ref(), value, out);
                }
            }
        }
    }

    fn unknown(&self, value: CValue<'_>, out: &mut Output) {
        match value {
            CValue::Unknown(text) => write(out, format_args!("<{text}>")),
            _ => out.push_str("<of another type>"),
        }
    }

    fn value(
        &self,
        conversion: &Conversion,
        width: Option<&Node>,
        precision: Option<&Node>,
        node: &Node,
        out: &mut Output,
    ) {
        let mut layout = PrintfSpec {
            left: conversion.left,
            plus: conversion.plus,
            space: conversion.space,
            alternate: conversion.alternate,
            zero: conversion.zero,
            ..PrintfSpec::default()
        };
        if let Some(Count::Is(width)) = conversion.width {
            layout.width = width;
        }
        if let Some(Count::Is(precision)) = conversion.precision {
            layout.precision = Some(precision);
        }
        // A negative width means left-aligned, a negative precision means none.
        if let Some(CValue::Integer { bits, .. }) = width.map(|node| node.evaluate(&self.scope)) {
            layout.left |= (bits as i32) < 0;
            layout.width = (bits as i32).unsigned_abs() as usize;
        }
        if let Some(CValue::Integer { bits, .. }) = precision.map(|node| node.evaluate(&self.scope))
        {
            layout.precision = usize::try_from(bits as i32).ok();
        }
        layout.width = layout.width.min(WIDEST);
        let value = match conversion.specifier {
            's' => match node.printed(&self.scope) {
                Some(printed) => return self.printed(printed, layout, out),
                None => node.evaluate(&self.scope),
            },
            _ => node.evaluate(&self.scope),
        };
        match (conversion.specifier, value) {
            (_, CValue::Unknown(_)) => self.unknown(value, out),
            ('d' | 'i' | 'u' | 'x' | 'X' | 'o', CValue::Integer { bits, .. }) => {
                self.integer(conversion, layout, bits, out);
            }
            ('c', CValue::Integer { bits, .. }) => {
                number::string(
                    out,
                    PrintfSpec {
                        precision: None,
                        ..layout
                    },
                    &[bits as u8],
                );
            }
            ('s', CValue::Integer { bits: 0, .. }) => number::string(out, layout, b"(null)"),
            ('s', CValue::Integer { bits, .. }) => match self.addresses.string(bits) {
                Some(string) => number::string(out, layout, string.as_bytes()),
                // Neither in the record nor among the kernel's known strings.
                None => write(out, format_args!("({bits:#x})")),
            },
            ('s', value) => match value.string() {
                Some(string) => number::string(out, layout, &string),
                None => self.unknown(value, out),
            },
            ('p', value) => pointer::pointer(
                out,
                &conversion.extension,
                layout,
                value,
                self.scope.machine,
                self.addresses,
            ),
            (_, value) => self.unknown(value, out),
        }
    }

    fn integer(&self, conversion: &Conversion, layout: PrintfSpec, bits: u64, out: &mut Output) {
        let size = match conversion.length {
            Length::Byte => 1,
            Length::Short => 2,
            Length::Int => 4,
            Length::Long => self.scope.machine.long_size(),
            Length::LongLong => 8,
        };
        let (signed, unsigned) = (sign_extended(bits, size), zero_extended(bits, size));
        match conversion.specifier {
            'd' | 'i' => number::number(out, layout, signed < 0, signed.unsigned_abs(), 10, false),
            'u' => number::number(
                out,
                PrintfSpec {
                    plus: false,
                    space: false,
                    ..layout
                },
                false,
                unsigned,
                10,
                false,
            ),
            'o' => number::number(out, layout, false, unsigned, 8, false),
            specifier => number::number(out, layout, false, unsigned, 16, specifier == 'X'),
        }
    }

    /// Appends the text of a helper, which `%s` pads like any string.
    fn printed(&self, printed: &Printed, layout: PrintfSpec, out: &mut Output) {
        let start = out.len();
        self.print(printed, out);
        let is_plain = layout.width == 0 && layout.precision.is_none();
        if !is_plain {
            let text = out.split_off(start);
            number::string(out, layout, &text);
        }
    }

    fn print(&self, printed: &Printed, out: &mut Output) {
        let long = |bits: u64, is_long: bool| match is_long && self.scope.machine.long_size() == 4 {
            true => bits & 0xffff_ffff,
            false => bits,
        };
        match printed {
            Printed::Flags {
                value,
                delimiter,
                names,
                is_long,
            } => {
                let CValue::Integer { bits, .. } = value.evaluate(&self.scope) else {
                    return self.unknown(value.evaluate(&self.scope), out);
                };
                let names = names.entries().iter().map(|named| {
                    let mask = named.value.map(|mask| long(mask, *is_long));
                    (mask, named.name.as_str())
                });
                out.flags(long(bits, *is_long), delimiter, names);
            }
            Printed::Symbol {
                value,
                names,
                is_long,
            } => {
                let CValue::Integer { bits, .. } = value.evaluate(&self.scope) else {
                    return self.unknown(value.evaluate(&self.scope), out);
                };
                let bits = long(bits, *is_long);
                // The first entry that has the value, or may have it.
                let named = names.entries().iter().find(|named| {
                    let value = named.value.map(|value| long(value, *is_long));
                    value.is_none_or(|value| value == bits)
                });
                match named {
                    Some(named) if named.value.is_some() => out.push_str(&named.name),
                    Some(_) => write(out, format_args!("<{bits:#x}>")),
                    None => write(out, format_args!("{bits:#x}")),
                }
            }
            Printed::Hex {
                data,
                length,
                separated,
            } => {
                let (data, length) = (data.evaluate(&self.scope), length.evaluate(&self.scope));
                let (CValue::Bytes { data, .. }, CValue::Integer { bits, .. }) = (data, length)
                else {
                    return self.unknown(data, out);
                };
                let length = usize::try_from(bits as i32).unwrap_or(0);
                let Some(data) = data.get(..length) else {
                    return out.push_str("<outside of the record>");
                };
                for (index, byte) in data.iter().enumerate() {
                    out.push_str(if *separated && index > 0 { " " } else { "" });
                    write(out, format_args!("{byte:02x}"));
                }
            }
            Printed::Array {
                data,
                count,
                element,
            } => self.array(data, count.as_ref(), element, out),
            Printed::Bitmask { data } => match data.evaluate(&self.scope) {
                CValue::Bytes { data, .. } => {
                    pointer::bits(out, data, 8 * data.len(), self.scope.machine);
                }
                other => self.unknown(other, out),
            },
        }
    }

    /// Appends an array as `trace_print_array_seq()` does.
    fn array(&self, data: &Node, count: Option<&Node>, element: &Node, out: &mut Output) {
        let data = data.evaluate(&self.scope);
        let element = element.evaluate(&self.scope);
        let (CValue::Bytes { data, .. }, CValue::Integer { bits: size, .. }) = (data, element)
        else {
            return self.unknown(data, out);
        };
        let size = match size {
            1 | 2 | 4 | 8 => size as usize,
            other => return write(out, format_args!("BAD SIZE:{other}")),
        };
        let data = match count.map(|count| count.evaluate(&self.scope)) {
            None => data,
            Some(CValue::Integer { bits, .. }) => {
                let length = usize::try_from(bits as i32)
                    .unwrap_or(0)
                    .saturating_mul(size);
                match data.get(..length) {
                    Some(data) => data,
                    None => return out.push_str("<outside of the record>"),
                }
            }
            Some(other) => return self.unknown(other, out),
        };
        out.push('{');
        for (index, bytes) in data.chunks_exact(size).enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let value = self.scope.machine.unsigned(bytes);
            write(out, format_args!("{comma}{value:#x}"));
        }
        out.push('}');
    }
}
