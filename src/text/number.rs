//! Numbers and strings as `lib/vsprintf.c` prints them.

use std::fmt::Write;

use super::output::Output;

/// The layout of a value: a conversion with its widths resolved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PrintfSpec {
    pub(super) left: bool,
    pub(super) plus: bool,
    pub(super) space: bool,
    pub(super) alternate: bool,
    pub(super) zero: bool,
    pub(super) width: usize,
    pub(super) precision: Option<usize>,
}

/// The widest field and the longest precision. The kernel's `FIELD_WIDTH_MAX` is
/// larger, and no print fmt comes near.
pub(super) const WIDEST: usize = 4096;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Appends a number with its sign.
pub(super) fn number(
    out: &mut Output,
    layout: PrintfSpec,
    negative: bool,
    value: u64,
    base: u64,
    upper: bool,
) {
    let mut digits = [0_u8; 64];
    let mut at = digits.len();
    let mut rest = value;
    if base == 10 {
        while rest > 0 {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    } else {
        let shift = if base == 16 { 4 } else { 3 };
        while rest > 0 {
            at -= 1;
            digits[at] = DIGITS[(rest & (base - 1)) as usize];
            rest >>= shift;
        }
        if upper {
            digits[at..].make_ascii_uppercase();
        }
    }
    if at == digits.len() {
        at -= 1;
        digits[at] = b'0';
    }
    let digits = &digits[at..];
    let sign = match () {
        () if negative => "-",
        () if layout.plus => "+",
        () if layout.space => " ",
        () => "",
    };
    // For zero in octal, the digit is the prefix.
    let prefix = match (layout.alternate, base) {
        (true, 16) if upper => "0X",
        (true, 16) => "0x",
        (true, 8) if value != 0 => "0",
        _ => "",
    };
    let zeros = layout
        .precision
        .unwrap_or(1)
        .min(WIDEST)
        .saturating_sub(digits.len());
    let length = sign.len() + prefix.len() + zeros + digits.len();
    let padding = layout.width.min(WIDEST).saturating_sub(length);
    // In the kernel, a precision takes precedence over zero padding.
    let pads_zeros = layout.zero && !layout.left && layout.precision.is_none();
    if !layout.left && !pads_zeros {
        out.pad(b' ', padding);
    }
    out.push_str(sign);
    out.push_str(prefix);
    if pads_zeros {
        out.pad(b'0', padding);
    }
    out.pad(b'0', zeros);
    out.push_bytes(digits);
    if layout.left {
        out.pad(b' ', padding);
    }
}

/// Appends a string, cut to the precision.
pub(super) fn string(out: &mut Output, layout: PrintfSpec, bytes: &[u8]) {
    let most = layout.precision.unwrap_or(usize::MAX);
    let bytes = &bytes[..bytes.len().min(most)];
    let padding = layout.width.min(WIDEST).saturating_sub(bytes.len());
    if !layout.left {
        out.pad(b' ', padding);
    }
    out.push_bytes(bytes);
    if layout.left {
        out.pad(b' ', padding);
    }
}

/// Appends formatted text, which is infallible.
pub(super) fn write(out: &mut Output, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(layout: PrintfSpec, negative: bool, value: u64, base: u64, upper: bool) -> String {
        let mut out = Output::default();
        number(&mut out, layout, negative, value, base, upper);
        out.to_string()
    }

    #[test]
    fn numbers() {
        let plain = PrintfSpec::default();
        let wide = |width| PrintfSpec { width, ..plain };
        let zero = |width| PrintfSpec {
            zero: true,
            ..wide(width)
        };
        let alternate = |layout| PrintfSpec {
            alternate: true,
            ..layout
        };
        let left = |layout| PrintfSpec {
            left: true,
            ..layout
        };
        let precise = |precision| PrintfSpec {
            precision: Some(precision),
            ..plain
        };
        assert_eq!(shown(plain, false, 0, 10, false), "0");
        assert_eq!(
            shown(plain, true, 1 << 63, 10, false),
            "-9223372036854775808"
        );
        assert_eq!(shown(wide(5), true, 42, 10, false), "  -42");
        assert_eq!(shown(zero(5), true, 42, 10, false), "-0042");
        assert_eq!(shown(left(zero(5)), false, 42, 10, false), "42   ");
        assert_eq!(
            shown(alternate(zero(10)), false, 0xbeef, 16, false),
            "0x0000beef"
        );
        assert_eq!(shown(alternate(plain), false, 0xbeef, 16, true), "0XBEEF");
        assert_eq!(shown(alternate(plain), false, 0, 16, false), "0x0");
        assert_eq!(shown(alternate(plain), false, 8, 8, false), "010");
        assert_eq!(shown(alternate(plain), false, 0, 8, false), "0");
        assert_eq!(shown(precise(4), false, 7, 16, false), "0007");
        assert_eq!(
            shown(
                PrintfSpec {
                    plus: true,
                    ..plain
                },
                false,
                7,
                10,
                false
            ),
            "+7"
        );
        assert_eq!(
            shown(
                PrintfSpec {
                    space: true,
                    ..plain
                },
                false,
                7,
                10,
                false
            ),
            " 7"
        );
        assert_eq!(
            shown(plain, false, u64::MAX, 8, false),
            "1777777777777777777777"
        );
    }

    #[test]
    fn strings() {
        let shown = |width, precision, left, text: &[u8]| {
            let mut out = Output::default();
            let layout = PrintfSpec {
                width,
                precision,
                left,
                ..PrintfSpec::default()
            };
            string(&mut out, layout, text);
            out.to_string()
        };
        assert_eq!(shown(6, None, false, b"abc"), "   abc");
        assert_eq!(shown(6, None, true, b"abc"), "abc   ");
        assert_eq!(shown(0, Some(2), false, b"abc"), "ab");
        assert_eq!(shown(0, None, false, b"a\xffb"), "a\u{fffd}b");
    }
}
