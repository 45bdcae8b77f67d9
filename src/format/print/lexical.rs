//! The lexical elements of print fmts: strings, numbers, names, and the names of types.

use nom::branch::alt;
use nom::bytes::complete::{is_not, tag, take_while, take_while1};
use nom::character::complete::{anychar, char, multispace0, satisfy};
use nom::combinator::{map, recognize};
use nom::error::{Error, ErrorKind};
use nom::multi::{fold_many1, many0_count};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

use super::Literal;

/// The most words, asterisks and brackets in a type's name.
const TYPE_PARTS: usize = 32;

/// Parses one or more strings, which C concatenates.
pub(super) fn literal(input: &str) -> IResult<&str, Literal> {
    let part = preceded(multispace0, string);
    map(
        fold_many1(part, Vec::new, |mut parts: Vec<String>, part: &str| {
            parts.push(part.to_owned());
            parts
        }),
        |parts| Literal { parts },
    )
    .parse(input)
}

/// Parses a string in quotes; escapes stay as they are.
pub(super) fn string(input: &str) -> IResult<&str, &str> {
    let escaped = recognize((char('\\'), anychar));
    let inside = recognize(many0_count(alt((is_not("\\\""), escaped))));
    delimited(char('"'), inside, char('"')).parse(input)
}

/// Parses a bracketed text, such as a statement expression, to its closing bracket.
pub(super) fn opaque(input: &str) -> IResult<&str, &str> {
    let mut depth = 0_usize;
    let mut rest = input;
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            (rest, _) = string(rest)?;
            continue;
        }
        rest = &rest[first.len_utf8()..];
        match first {
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return Ok((rest, &input[..input.len() - rest.len()]));
        }
    }
    Err(nom::Err::Error(Error::new(input, ErrorKind::Eof)))
}

/// Parses `'x'`, with its quotes.
pub(super) fn character(input: &str) -> IResult<&str, &str> {
    let escaped = recognize((char('\\'), take_while1(|c: char| c != '\'')));
    let any_escaped = recognize((char('\\'), anychar));
    let inside = alt((any_escaped, recognize(satisfy(|c| c != '\'')), escaped));
    let more = take_while(|c: char| c.is_ascii_alphanumeric());
    recognize((char('\''), inside, more, char('\''))).parse(input)
}

/// Parses a number with its suffix.
pub(super) fn number(input: &str) -> IResult<&str, &str> {
    let (_, first) = satisfy(|c| c.is_ascii_digit())(input)?;
    let _ = first;
    take_while1(|c: char| c.is_ascii_alphanumeric()).parse(input)
}

pub(super) fn word(input: &str) -> IResult<&str, &str> {
    let start = satisfy(|c| c.is_ascii_alphabetic() || c == '_');
    let rest = take_while(|c: char| c.is_ascii_alphanumeric() || c == '_');
    recognize((start, rest)).parse(input)
}

/// Parses a cast and returns its type. `(x) - 1` is not a cast: after a name that is
/// not known to be a type's, only text that must begin an operand makes it one.
pub(super) fn cast(input: &str) -> IResult<&str, &str> {
    let (rest, name) = delimited(token("("), type_name, token(")")).parse(input)?;
    let follows = rest.trim_start();
    let begins_operand = follows
        .starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '(' | '"' | '\''));
    let may_begin = follows.starts_with(['-', '+', '*', '&', '~', '!', '{'])
        && !follows.starts_with("&&")
        && !follows.starts_with("!=");
    let is_operator_word = name == "REC" || name.starts_with("REC ");
    let is_surely_type = is_type(name);
    match !is_operator_word && (begins_operand || (may_begin && is_surely_type)) {
        true => Ok((rest, name)),
        false => Err(nom::Err::Error(Error::new(input, ErrorKind::Not))),
    }
}

/// Parses words, `*` and brackets that may be a type's name: `struct x *`, `typeof(y)`.
pub(super) fn type_name(input: &str) -> IResult<&str, &str> {
    let (input, _) = multispace0(input)?;
    let mut rest = input;
    let mut words = 0;
    let mut is_pointer = false;
    // A text that is not a type after all is parsed again, as an expression.
    for _ in 0..TYPE_PARTS {
        let trimmed = rest.trim_start();
        if let Ok((after, one)) = word(trimmed) {
            // `x * y` is a multiplication.
            if is_pointer && !matches!(one, "const" | "volatile" | "restrict") {
                break;
            }
            words += 1;
            rest = after;
            if matches!(one, "typeof" | "__typeof__") {
                (rest, _) = preceded(multispace0, opaque).parse(rest)?;
            }
        } else if let Some(after) = trimmed.strip_prefix('*').filter(|_| words > 0) {
            is_pointer = true;
            rest = after;
        } else if let Some(after) = trimmed.strip_prefix("[]").filter(|_| words > 0) {
            rest = after;
        } else if matches!(input[..input.len() - rest.len()].trim(), "struct" | "union")
            && trimmed.starts_with('{')
        {
            (rest, _) = opaque(trimmed)?;
        } else {
            break;
        }
    }
    match words {
        0 => Err(nom::Err::Error(Error::new(input, ErrorKind::Alpha))),
        _ => Ok((rest, &input[..input.len() - rest.len()])),
    }
}

/// Whether the name must be a type's, and cannot be a variable's.
fn is_type(name: &str) -> bool {
    let first = name.split([' ', '*']).next().unwrap_or(name);
    name.contains(['*', ' '])
        || matches!(
            first,
            "unsigned" | "signed" | "int" | "long" | "short" | "char" | "bool" | "void" | "const"
        )
        || first.ends_with("_t")
        || matches!(
            first.trim_start_matches('_'),
            "u8" | "u16" | "u32" | "u64" | "s8" | "s16" | "s32" | "s64"
        )
}

pub(super) fn token(sign: &'static str) -> impl Fn(&str) -> IResult<&str, &str> {
    move |input| preceded(multispace0, tag(sign)).parse(input)
}
