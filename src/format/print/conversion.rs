//! Conversions of a format string, as `vsnprintf()` of the kernel's `lib/vsprintf.c`
//! reads them.

/// A part of a format string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Conversion(Conversion),
}

/// A conversion specification, as `lib/vsprintf.c` reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conversion {
    pub(crate) left: bool,
    pub(crate) plus: bool,
    pub(crate) space: bool,
    pub(crate) alternate: bool,
    pub(crate) zero: bool,
    pub(crate) width: Option<Count>,
    pub(crate) precision: Option<Count>,
    pub(crate) length: Length,
    pub(crate) specifier: char,
    /// The letters and digits after `%p`.
    pub(crate) extension: String,
}

/// A width or precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    Is(usize),
    Argument,
}

/// The size of an integer argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Length {
    Byte,
    Short,
    #[default]
    Int,
    Long,
    LongLong,
}

impl Piece {
    /// Returns the number of arguments that the piece takes.
    pub(super) fn arguments(&self) -> usize {
        match self {
            Self::Text(_) => 0,
            Self::Conversion(conversion) => conversion.stars() + 1,
        }
    }
}

impl Conversion {
    pub(super) fn stars(&self) -> usize {
        let is_argument = |count: Option<Count>| usize::from(count == Some(Count::Argument));
        is_argument(self.width) + is_argument(self.precision)
    }
}

/// Splits a format string into texts and conversions; `%%` is a text.
pub(crate) fn pieces(format: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        text += &rest[..at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            text.push('%');
            rest = after;
            continue;
        }
        let Some((conversion, after)) = conversion(rest) else {
            text.push('%');
            continue;
        };
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
        }
        pieces.push(Piece::Conversion(conversion));
        rest = after;
    }
    text += rest;
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

/// Returns the conversion after a `%`, and the text after it.
fn conversion(text: &str) -> Option<(Conversion, &str)> {
    let mut conversion = Conversion::default();
    let mut rest = text;
    loop {
        let flag = rest.chars().next()?;
        match flag {
            '-' => conversion.left = true,
            '+' => conversion.plus = true,
            ' ' => conversion.space = true,
            '#' => conversion.alternate = true,
            '0' => conversion.zero = true,
            _ => break,
        }
        rest = &rest[1..];
    }
    (conversion.width, rest) = count(rest);
    if let Some(after) = rest.strip_prefix('.') {
        (conversion.precision, rest) = count(after);
        conversion.precision.get_or_insert(Count::Is(0));
    }
    for (sign, length) in [
        ("hh", Length::Byte),
        ("h", Length::Short),
        ("ll", Length::LongLong),
        ("l", Length::Long),
        ("L", Length::LongLong),
        ("q", Length::LongLong),
        ("z", Length::Long),
        ("Z", Length::Long),
        ("t", Length::Long),
        ("j", Length::LongLong),
    ] {
        if let Some(after) = rest.strip_prefix(sign) {
            conversion.length = length;
            rest = after;
            break;
        }
    }
    conversion.specifier = rest.chars().next().filter(char::is_ascii_alphabetic)?;
    rest = &rest[1..];
    if conversion.specifier == 'p' {
        let end = extension_end(rest);
        conversion.extension = rest[..end].to_owned();
        rest = &rest[end..];
    }
    Some((conversion, rest))
}

/// Returns the length of the extension after `%p`. The kernel skips all letters and
/// digits, also those without a meaning (`lib/vsprintf.c`, `vsnprintf()`).
fn extension_end(rest: &str) -> usize {
    rest.bytes()
        .position(|byte| !byte.is_ascii_alphanumeric())
        .unwrap_or(rest.len())
}

fn count(text: &str) -> (Option<Count>, &str) {
    if let Some(rest) = text.strip_prefix('*') {
        return (Some(Count::Argument), rest);
    }
    let end = text.bytes().position(|byte| !byte.is_ascii_digit());
    let (digits, rest) = text.split_at(end.unwrap_or(text.len()));
    (digits.parse().ok().map(Count::Is), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions() {
        let [
            Piece::Text(text),
            Piece::Conversion(conversion),
            Piece::Text(rest),
        ] = &pieces("100%% %-08.*llx!")[..]
        else {
            panic!("three pieces");
        };
        assert_eq!((text.as_str(), rest.as_str()), ("100% ", "!"));
        assert!(conversion.left && conversion.zero && !conversion.alternate);
        assert_eq!(conversion.width, Some(Count::Is(8)));
        assert_eq!(conversion.precision, Some(Count::Argument));
        assert_eq!(
            (conversion.length, conversion.specifier),
            (Length::LongLong, 'x')
        );
        assert_eq!(pieces("%"), [Piece::Text("%".to_owned())]);
        assert_eq!(pieces("%5"), [Piece::Text("%5".to_owned())]);
    }
}
