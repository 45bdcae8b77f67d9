//! Literals in C: strings, characters and numbers, and their values.

use std::fmt;

/// Adjacent string literals, which C concatenates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal {
    pub(super) parts: Vec<String>,
}

impl Literal {
    /// Returns the string with its escapes resolved. Bytes that are then not UTF-8 are
    /// replaced.
    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.parts.iter().flat_map(|part| unescaped(part)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().enumerate() {
            let space = if index > 0 { " " } else { "" };
            write!(out, "{space}\"{part}\"")?;
        }
        Ok(())
    }
}

/// Resolves C's escapes.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'\\' {
            bytes.push(first);
            continue;
        }
        let Some((&escape, after)) = rest.split_first() else {
            break;
        };
        rest = after;
        bytes.push(match escape {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'v' => 11,
            b'e' => 27,
            b'x' => take_digits(&mut rest, 16, 2, 0),
            b'0'..=b'7' => take_digits(&mut rest, 8, 2, escape - b'0'),
            other => other,
        });
    }
    bytes
}

/// Takes at most `most` digits, which continue the number `first`.
fn take_digits(rest: &mut &[u8], radix: u32, most: usize, first: u8) -> u8 {
    let mut value = u32::from(first);
    for _ in 0..most {
        let Some((&digit, after)) = rest.split_first() else {
            break;
        };
        let Some(digit) = char::from(digit).to_digit(radix) else {
            break;
        };
        value = value * radix + digit;
        *rest = after;
    }
    value as u8
}

/// Returns the value and the suffix of a number; `None` if C has no such number.
pub(crate) fn number_value(text: &str) -> Option<(u64, &str)> {
    let end = |digits: &str, radix: u32| {
        digits
            .find(|c: char| !c.is_digit(radix))
            .unwrap_or(digits.len())
    };
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', b'b' | b'B', ..] => (&text[2..], 2),
        [b'0', ..] => (text, 8),
        _ => (text, 10),
    };
    let end = end(digits, radix);
    let value = u64::from_str_radix(digits.get(..end)?, radix).ok()?;
    let suffix = &digits[end..];
    suffix
        .bytes()
        .all(|byte| matches!(byte, b'u' | b'U' | b'l' | b'L'))
        .then_some((value, suffix))
}

/// Returns the value of a character constant.
pub(crate) fn character_value(text: &str) -> Option<u8> {
    let inside = text.strip_prefix('\'')?.strip_suffix('\'')?;
    unescaped(inside).first().copied()
}
