//! The records of `trace_printk()`: a format, and arguments packed by `vbin_printf()`
//! (`lib/vsprintf.c`, `bstr_printf()`).

use super::addresses::Addresses;
use super::number::{self, PrintfSpec, WIDEST};
use super::output::Output;
use super::pointer::pointer;
use crate::format::print::eval::CValue;
use crate::format::print::{Conversion, Count, Length, Piece, pieces};
use crate::machine::{Machine, until_nul};

/// Appends the text of a format with these arguments. A conversion whose argument is
/// cut off is marked.
pub(super) fn binary_printf(
    format: &str,
    arguments: &[u8],
    machine: Machine,
    addresses: &Addresses,
    out: &mut Output,
) {
    let mut arguments = Arguments {
        bytes: arguments,
        at: 0,
        machine,
    };
    for piece in pieces(format) {
        match piece {
            Piece::Text(text) => out.push_str(&text),
            Piece::Conversion(conversion) => {
                if arguments.write(&conversion, addresses, out).is_none() {
                    out.push_str("<no more arguments>");
                }
            }
        }
    }
}

/// Packed arguments. Each is aligned to its size, but at most to 4 bytes.
struct Arguments<'a> {
    bytes: &'a [u8],
    at: usize,
    machine: Machine,
}

impl<'a> Arguments<'a> {
    fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        self.at = self.at.next_multiple_of(size.min(4));
        let bytes = self.bytes.get(self.at..self.at.checked_add(size)?)?;
        self.at += size;
        Some(bytes)
    }

    /// Takes a string, which is packed itself, with its NUL.
    fn string(&mut self) -> Option<&'a [u8]> {
        let rest = self.bytes.get(self.at..)?;
        let string = until_nul(rest);
        if string.len() == rest.len() {
            return None;
        }
        self.at += string.len() + 1;
        Some(string)
    }

    /// Takes the `int` of a `*`.
    fn count(&mut self, count: Option<Count>) -> Option<Option<i32>> {
        Some(match count {
            None => None,
            Some(Count::Is(count)) => Some(count.min(WIDEST) as i32),
            Some(Count::Argument) => Some(self.machine.signed(self.take(4)?) as i32),
        })
    }

    fn write(
        &mut self,
        conversion: &Conversion,
        addresses: &Addresses,
        out: &mut Output,
    ) -> Option<()> {
        let width = self.count(conversion.width)?.unwrap_or(0);
        let precision = self.count(conversion.precision)?;
        let layout = PrintfSpec {
            left: conversion.left || width < 0,
            plus: conversion.plus,
            space: conversion.space,
            alternate: conversion.alternate,
            zero: conversion.zero,
            width: (width.unsigned_abs() as usize).min(WIDEST),
            precision: precision.and_then(|precision| usize::try_from(precision).ok()),
        };
        match conversion.specifier {
            's' => number::string(out, layout, self.string()?),
            'c' => {
                let layout = PrintfSpec {
                    precision: None,
                    ..layout
                };
                number::string(out, layout, self.take(1)?);
            }
            'p' => self.pointer(&conversion.extension, layout, addresses, out)?,
            'd' | 'i' | 'u' | 'x' | 'X' | 'o' => self.integer(conversion, layout, out)?,
            other => {
                out.push_str("<%");
                out.push(other);
                out.push('>');
            }
        }
        Some(())
    }

    fn integer(
        &mut self,
        conversion: &Conversion,
        layout: PrintfSpec,
        out: &mut Output,
    ) -> Option<()> {
        let bytes = self.take(match conversion.length {
            Length::Byte => 1,
            Length::Short => 2,
            Length::Int => 4,
            Length::Long => self.machine.long_size() as usize,
            Length::LongLong => 8,
        })?;
        let (signed, unsigned) = (self.machine.signed(bytes), self.machine.unsigned(bytes));
        match conversion.specifier {
            'd' | 'i' => {
                number::number(out, layout, signed < 0, signed.unsigned_abs(), 10, false);
            }
            'u' => {
                let layout = PrintfSpec {
                    plus: false,
                    space: false,
                    ..layout
                };
                number::number(out, layout, false, unsigned, 10, false);
            }
            'o' => number::number(out, layout, false, unsigned, 8, false),
            specifier => number::number(out, layout, false, unsigned, 16, specifier == 'X'),
        }
        Some(())
    }

    /// Writes a pointer. Functions and plain addresses are packed as pointers. Other
    /// pointees were printed when the record was written, and are packed as strings.
    fn pointer(
        &mut self,
        extension: &str,
        layout: PrintfSpec,
        addresses: &Addresses,
        out: &mut Output,
    ) -> Option<()> {
        if !matches!(
            extension.as_bytes().first(),
            None | Some(b'S' | b's' | b'F' | b'f' | b'x' | b'K' | b'e')
        ) {
            out.push_bytes(self.string()?);
            return Some(());
        }
        let address = self.take(self.machine.long_size() as usize)?;
        let value = CValue::Integer {
            bits: self.machine.unsigned(address),
            size: self.machine.long_size() as u8,
            signed: false,
        };
        pointer(out, extension, layout, value, self.machine, addresses);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::ByteOrder;

    fn shown(format: &str, arguments: &[u8], machine: Machine) -> String {
        let mut out = Output::default();
        let addresses =
            Addresses::new().with_kallsyms("0000000000001000 T f\n0000000000001010 T g\n");
        binary_printf(format, arguments, machine, &addresses, &mut out);
        out.to_string()
    }

    #[test]
    fn packed_arguments() {
        const LITTLE: Machine = Machine::new(ByteOrder::Little, true);
        const BIG: Machine = Machine::new(ByteOrder::Big, false);
        let mut bytes = Vec::new();
        bytes.extend(3i32.to_le_bytes());
        bytes.extend(b"abc\0x\0");
        bytes.push(b'!');
        bytes.push(0);
        bytes.extend((-2i16).to_le_bytes());
        // Of 8 bytes at a multiple of 4.
        bytes.extend([0; 2]);
        bytes.extend((-5i64).to_le_bytes());
        bytes.extend(0x1004u64.to_le_bytes());
        bytes.extend(b"0102\0");
        assert_eq!(
            shown("%d%% %s|%-3s|%c %hd %lld %ps %ld", &bytes[..], LITTLE),
            "3% abc|x  |! -2 -5 f <no more arguments>"
        );
        assert_eq!(
            shown("%d%% %s|%-3s|%c %hd %lld %pS %pM", &bytes[..], LITTLE),
            "3% abc|x  |! -2 -5 f+0x4/0x10 0102"
        );
        let mut bytes = Vec::new();
        bytes.extend(5i32.to_be_bytes());
        bytes.extend(0x1008u32.to_be_bytes());
        bytes.extend((-1i32).to_be_bytes());
        assert_eq!(shown("%*d", &bytes[..], BIG), " 4104");
        assert_eq!(shown("%d %ps %ld", &bytes[..], BIG), "5 f -1");
        // Cut off.
        assert_eq!(shown("%s", b"abc", LITTLE), "<no more arguments>");
        assert_eq!(shown("%d", b"abc", LITTLE), "<no more arguments>");
        assert_eq!(shown("%n", b"", LITTLE), "<%n>");
    }
}
