//! The C declaration of a field: `const char * pathname`, `char comm[16]`,
//! `__data_loc char[] name`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::token::{Token, is_address_space, is_identifier_byte, opening_bracket};

/// A field's C declaration as the kernel prints it, and its parts.
///
/// The kernel stringifies the source text, so a type may have any spelling C allows, and
/// an array's length may be any expression. Only [`Field::offset`](super::Field::offset)
/// and [`Field::size`](super::Field::size) locate the bytes.
///
/// ```
/// use tracepoints::format::Declaration;
///
/// let declaration = Declaration::parse("const char *const * argv").ok_or("no declaration")?;
/// assert_eq!(declaration.name(), "argv");
/// assert_eq!(declaration.type_text(), "const char *const *");
/// assert_eq!(declaration.base_type(), "char");
/// assert_eq!(declaration.pointer_depth(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Declaration {
    /// The text that contains it: a format file's, shared by all its declarations.
    source: Arc<str>,
    /// Its offset in `source`, in bytes.
    start: u32,
    shape: Shape,
}

/// Offsets of the parts of a declaration, in bytes from its start; all are character
/// boundaries, found by [`Shape::of`].
#[derive(Clone, Copy)]
pub(super) struct Shape {
    type_end: u32,
    name_start: u32,
    name_end: u32,
    end: u32,
}

/// Marks a dynamic field: the record has a u32 that locates the bytes, counted from the
/// record's start …
pub(crate) const DATA_LOC: &str = "__data_loc";
/// … or from the end of that u32.
pub(crate) const REL_LOC: &str = "__rel_loc";

impl Declaration {
    /// Parses a declaration: a type, then a name, then possibly one array bracket.
    /// Returns `None` if the text has another shape.
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self::within(text.into(), 0, Shape::of(text)?))
    }

    /// Returns a declaration whose name is any text: a path through arguments.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(super) fn of_path(type_text: &str, name: &str, bracket: &str) -> Self {
        let text = format!("{type_text} {name}{bracket}");
        let (type_end, name_end) = (type_text.len() as u32, (text.len() - bracket.len()) as u32);
        let shape = Shape {
            type_end,
            name_start: type_end + 1,
            name_end,
            end: text.len() as u32,
        };
        Self::within(text.into(), 0, shape)
    }

    /// Returns the declaration at `start` of a text, whose shape has been found.
    pub(super) fn within(source: Arc<str>, start: u32, shape: Shape) -> Self {
        Self {
            source,
            start,
            shape,
        }
    }

    fn part(&self, from: u32, to: u32) -> &str {
        let at = |offset: u32| self.start as usize + offset as usize;
        &self.source[at(from)..at(to)]
    }

    /// Returns the whole declaration, exactly as in the file.
    pub fn text(&self) -> &str {
        self.part(0, self.shape.end)
    }

    /// Returns the field's name.
    pub fn name(&self) -> &str {
        self.part(self.shape.name_start, self.shape.name_end)
    }

    /// Returns the text before the name, exactly as in the file: `const char *`,
    /// `__data_loc char[]`.
    pub fn type_text(&self) -> &str {
        self.part(0, self.shape.type_end)
    }

    /// Returns the text inside the array bracket, wherever the kernel put it: `16`,
    /// `sizeof(struct sockaddr_in6)`, or an empty text; `None` without a bracket.
    pub fn array(&self) -> Option<&str> {
        let bracketed = match self.part(self.shape.name_end, self.shape.end) {
            "" => {
                let type_text = self.type_text();
                &type_text[opening_bracket(type_text)?..]
            }
            after_name => after_name,
        };
        bracketed.strip_prefix('[')?.strip_suffix(']')
    }

    /// Returns the type of one element, exactly as in the file:
    /// [`type_text`](Self::type_text) without the bracket that a type such as `char[16]`
    /// ends with.
    pub fn element_text(&self) -> &str {
        let type_text = self.type_text();
        match opening_bracket(type_text) {
            Some(at) => type_text[..at].trim_end(),
            None => type_text,
        }
    }

    /// Whether it is an array whose bracket ends the type rather than the declaration, as
    /// in `char[16] comm` of synthetic events.
    pub(super) fn has_bracket_in_type(&self) -> bool {
        self.type_text().ends_with(']')
    }

    /// Whether it is an array of dynamic fields, such as `__data_loc char[][3] names`:
    /// the type ends with two brackets, of which the first belongs to the located data.
    pub(super) fn is_location_array(&self) -> bool {
        self.has_bracket_in_type() && self.element_text().ends_with(']')
    }

    /// Returns the type without pointers, qualifiers, attributes, brackets and
    /// `__data_loc`: `char`, `unsigned long`, `struct io_event`.
    pub fn base_type(&self) -> String {
        let words: Vec<&str> = self
            .tokens()
            .filter_map(|token| match token {
                Token::Word(word) if !is_qualifier(word) => Some(word),
                _ => None,
            })
            .collect();
        words.join(" ")
    }

    /// Returns the number of `*` in the type.
    pub fn pointer_depth(&self) -> usize {
        self.tokens().filter(|token| *token == Token::Star).count()
    }

    /// Returns attributes and address spaces of the type, as written:
    /// `__attribute__((btf_type_tag("user")))`, `__seg_gs`, `__user`.
    pub fn attributes(&self) -> Vec<&str> {
        self.tokens()
            .filter_map(|token| match token {
                Token::Attribute(text) => Some(text),
                Token::Word(word) if is_address_space(word) => Some(word),
                _ => None,
            })
            .collect()
    }

    /// Iterates over the type's tokens, left to right.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = Token<'_>> {
        let mut rest = self.type_text();
        std::iter::from_fn(move || {
            rest = rest.trim_start();
            let (token, tail) = Token::split(rest)?;
            rest = tail;
            Some(token)
        })
    }
}

impl Shape {
    pub(super) fn of(text: &str) -> Option<Self> {
        let name_end = match text.ends_with(']') {
            true => opening_bracket(text)?,
            false => text.len(),
        };
        let head = &text[..name_end];
        // Bytes suffice: no byte of a multi-byte character is an identifier's.
        let name_length = head
            .bytes()
            .rev()
            .take_while(|byte| is_identifier_byte(*byte));
        let name_start = name_end - name_length.count();
        let type_text = head[..name_start].trim_end();
        let first = |text: &str| text.bytes().next();
        let plausible = first(&head[name_start..]).is_some_and(|byte| !byte.is_ascii_digit())
            && first(type_text).is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && is_printable(text);
        let offset = |at: usize| u32::try_from(at).ok();
        plausible.then_some(Self {
            type_end: offset(type_text.len())?,
            name_start: offset(name_start)?,
            name_end: offset(name_end)?,
            end: offset(text.len())?,
        })
    }
}

/// Whether the text has no control character, and no semicolon, which would end it early.
fn is_printable(text: &str) -> bool {
    // Without an early exit the loop is vectorized.
    let plain = text.bytes().fold(true, |plain, byte| {
        plain & matches!(byte, b' '..=b':' | b'<'..=b'~')
    });
    plain || !text.contains(|c: char| c == ';' || c.is_control())
}

fn is_qualifier(word: &str) -> bool {
    matches!(word, "const" | "volatile" | "restrict" | DATA_LOC | REL_LOC) || is_address_space(word)
}

impl PartialEq for Declaration {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Declaration {}

impl Hash for Declaration {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text().hash(state);
    }
}

impl FromStr for Declaration {
    type Err = DeclarationError;

    fn from_str(text: &str) -> Result<Self, DeclarationError> {
        Self::parse(text).ok_or_else(|| DeclarationError {
            text: text.escape_debug().to_string(),
        })
    }
}

/// A text that is not the declaration of a field.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("not a field's declaration: {text}")]
#[non_exhaustive]
pub struct DeclarationError {
    /// The text, with control characters escaped.
    pub text: String,
}

impl fmt::Display for Declaration {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.text())
    }
}

impl fmt::Debug for Declaration {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Declaration({:?})", self.text())
    }
}

impl Serialize for Declaration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

impl<'de> Deserialize<'de> for Declaration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Declaration {
        Declaration::parse(text).unwrap_or_else(|| panic!("{text:?} is a declaration"))
    }

    /// Text, type, name, array length, base type and pointer depth of a declaration.
    type Known = (
        &'static str,
        &'static str,
        &'static str,
        Option<&'static str>,
        &'static str,
        usize,
    );

    const KNOWN: &[Known] = &[
        ("int common_pid", "int", "common_pid", None, "int", 0),
        (
            "const char * pathname",
            "const char *",
            "pathname",
            None,
            "char",
            1,
        ),
        (
            "const void *const ptr",
            "const void *const",
            "ptr",
            None,
            "void",
            1,
        ),
        (
            "struct iocb * * iocbpp",
            "struct iocb * *",
            "iocbpp",
            None,
            "struct iocb",
            2,
        ),
        (
            "char comm[TASK_COMM_LEN]",
            "char",
            "comm",
            Some("TASK_COMM_LEN"),
            "char",
            0,
        ),
        (
            "__u8 addr[(48) + 10]",
            "__u8",
            "addr",
            Some("(48) + 10"),
            "__u8",
            0,
        ),
        (
            "u32 m[(sizeof(struct x) / 32)]",
            "u32",
            "m",
            Some("(sizeof(struct x) / 32)"),
            "u32",
            0,
        ),
        ("u8 t[a[2]]", "u8", "t", Some("a[2]"), "u8", 0),
        ("struct irb irb", "struct irb", "irb", None, "struct irb", 0),
        (
            "__data_loc char[] name",
            "__data_loc char[]",
            "name",
            Some(""),
            "char",
            0,
        ),
        (
            "__rel_loc char name[]",
            "__rel_loc char",
            "name",
            Some(""),
            "char",
            0,
        ),
        (
            "__data_loc cpumask_t cpumask",
            "__data_loc cpumask_t",
            "cpumask",
            None,
            "cpumask_t",
            0,
        ),
        (
            "void __seg_gs * dev",
            "void __seg_gs *",
            "dev",
            None,
            "void",
            1,
        ),
        (
            "unsigned long long x",
            "unsigned long long",
            "x",
            None,
            "unsigned long long",
            0,
        ),
    ];

    #[test]
    fn declarations_kernels_print() {
        for &(text, type_text, name, array, base, stars) in KNOWN {
            let parsed = parse(text);
            assert_eq!(parsed.type_text(), type_text, "{text}");
            assert_eq!(parsed.name(), name, "{text}");
            assert_eq!(parsed.array(), array, "{text}");
            assert_eq!(parsed.base_type(), base, "{text}");
            assert_eq!(parsed.pointer_depth(), stars, "{text}");
            assert_eq!(parsed.text(), text);
        }
    }

    #[test]
    fn brackets_in_the_type() {
        for (text, element, array, in_type, locations) in [
            ("char comm[16]", "char", Some("16"), false, false),
            ("char[16] comm", "char", Some("16"), true, false),
            ("char [16] comm", "char", Some("16"), true, false),
            (
                "unsigned char[4] mac",
                "unsigned char",
                Some("4"),
                true,
                false,
            ),
            (
                "__data_loc char[] name",
                "__data_loc char",
                Some(""),
                true,
                false,
            ),
            (
                "__data_loc char[][3] names",
                "__data_loc char[]",
                Some("3"),
                true,
                true,
            ),
            (
                "__data_loc char[][N + a[1]] x",
                "__data_loc char[]",
                Some("N + a[1]"),
                true,
                true,
            ),
            ("u8 t[a[2]]", "u8", Some("a[2]"), false, false),
            ("int x", "int", None, false, false),
        ] {
            let parsed = parse(text);
            assert_eq!(parsed.element_text(), element, "{text}");
            assert_eq!(parsed.array(), array, "{text}");
            assert_eq!(parsed.has_bracket_in_type(), in_type, "{text}");
            assert_eq!(parsed.is_location_array(), locations, "{text}");
        }
    }

    #[test]
    fn attributes_are_told_apart_from_the_type() {
        let clang = parse(r#"const char __attribute__((btf_type_tag("user"))) * name"#);
        assert_eq!(clang.base_type(), "char");
        assert_eq!(clang.pointer_depth(), 1);
        assert_eq!(
            clang.attributes(),
            [r#"__attribute__((btf_type_tag("user")))"#]
        );
        assert_eq!(parse("void __seg_gs * p").attributes(), ["__seg_gs"]);
    }

    #[test]
    fn what_is_not_a_declaration() {
        for text in [
            "",
            "int",
            "int 9lives",
            "comm]",
            "a[",
            "char x]",
            "[3]",
            "* x",
            "int a;",
            "é x]",
            "é",
            "int\u{1b}[31m x",
        ] {
            assert_eq!(Declaration::parse(text), None, "{text:?}");
        }
    }
}
