//! The words of a declaration in C.

/// A token of a declaration's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    Word(&'a str),
    Star,
    /// `__attribute__((…))`, whole.
    Attribute(&'a str),
    /// `[…]`, `(…)` and anything else C allows in a type.
    Other,
}

impl<'a> Token<'a> {
    pub(super) fn split(text: &'a str) -> Option<(Self, &'a str)> {
        let first = text.chars().next()?;
        if is_identifier_char(first) {
            let end = text
                .find(|c: char| !is_identifier_char(c))
                .unwrap_or(text.len());
            let (word, tail) = text.split_at(end);
            if word == "__attribute__" {
                let end = text.len() - tail.len() + closing(tail, '(', ')');
                let (attribute, tail) = text.split_at(end);
                return Some((Self::Attribute(attribute), tail));
            }
            return Some((Self::Word(word), tail));
        }
        Some(match first {
            '*' => (Self::Star, &text[1..]),
            '[' => (Self::Other, &text[closing(text, '[', ']')..]),
            '(' => (Self::Other, &text[closing(text, '(', ')')..]),
            other => (Self::Other, &text[other.len_utf8()..]),
        })
    }
}

/// Returns the length in bytes of the bracketed text that `text` begins with (after
/// spaces); of all of `text` if it is never closed.
fn closing(text: &str, open: char, close: char) -> usize {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return at + c.len_utf8();
            }
        }
    }
    text.len()
}

/// Returns where the bracket opens that closes at the very end of `text`.
pub(super) fn opening_bracket(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, c) in text.char_indices().rev() {
        match c {
            ']' => depth += 1,
            '[' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            // The text does not end with a bracket.
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

fn is_identifier_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether the text is an identifier in C.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.bytes().all(is_identifier_byte) && text.bytes().next().is_some_and(|c| !c.is_ascii_digit())
}

pub(super) fn is_identifier_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

pub(crate) fn is_address_space(word: &str) -> bool {
    matches!(
        word,
        "__user" | "__rcu" | "__percpu" | "__iomem" | "__kernel" | "__seg_gs" | "__seg_fs"
    )
}
