//! Shell wildcards, on text without slashes.

use std::fmt;

use nom::branch::alt;
use nom::character::complete::{anychar, char, none_of};
use nom::combinator::{all_consuming, map, opt, value};
use nom::error::Error;
use nom::multi::{many0, many1};
use nom::sequence::{delimited, pair, preceded};
use nom::{IResult, Parser};

/// A pattern: `*` matches any text, `?` any one character, `[a-cx]` one of these,
/// `[!a-cx]` any other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Wildcard {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    Any,
    One(Brackets),
}

/// A set of characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Brackets {
    /// First and last character of each range, both included.
    ranges: Vec<(char, char)>,
    is_negated: bool,
}

impl Wildcard {
    /// Parses a pattern; `None` if a bracket is not closed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (_, parts) = all_consuming(many0(part)).parse(text).ok()?;
        Some(Self {
            text: text.to_owned(),
            parts,
        })
    }

    /// Whether every text matches.
    pub(crate) fn is_all(&self) -> bool {
        self.parts == [Part::Any]
    }

    /// Whether the whole text matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let (mut parts, mut rest) = (&*self.parts, text.chars());
        // The pattern after the last `*`, and the text that this `*` has not taken yet.
        let mut any: Option<(&[Part], std::str::Chars<'_>)> = None;
        loop {
            let next = match parts.split_first() {
                Some((Part::Any, after)) => {
                    any = Some((after, rest.clone()));
                    parts = after;
                    continue;
                }
                Some((Part::One(class), after)) => rest
                    .next()
                    .filter(|character| class.has(*character))
                    .map(|_| after),
                None if rest.as_str().is_empty() => return true,
                None => None,
            };
            parts = match (next, &mut any) {
                (Some(after), _) => after,
                (None, None) => return false,
                // The `*` takes one more character; what was matched before it stays.
                (None, Some((after, taken))) => {
                    if taken.next().is_none() {
                        return false;
                    }
                    rest = taken.clone();
                    after
                }
            };
        }
    }
}

impl fmt::Display for Wildcard {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl Brackets {
    fn has(&self, character: char) -> bool {
        let is_in = |(from, to): &(char, char)| (*from..=*to).contains(&character);
        self.ranges.iter().any(is_in) != self.is_negated
    }
}

fn part(input: &str) -> IResult<&str, Part> {
    let one = |ranges, is_negated| Part::One(Brackets { ranges, is_negated });
    alt((
        value(Part::Any, many1(char('*'))),
        map(char('?'), move |_| one(Vec::new(), true)),
        map(class, Part::One),
        map(none_of("*?["), move |literal| {
            one(vec![(literal, literal)], false)
        }),
    ))
    .parse(input)
}

/// Parses brackets. A `]` that comes first is one of the characters.
fn class(input: &str) -> IResult<&str, Brackets> {
    let first = range(anychar);
    let more = many0(range(none_of("]")));
    let mut class = delimited(char('['), (opt(char('!')), first, more), char(']'));
    let (rest, (negation, first, mut ranges)) = class.parse(input)?;
    ranges.push(first);
    let is_negated = negation.is_some();
    Ok((rest, Brackets { ranges, is_negated }))
}

/// Parses a character, or a range of them.
fn range<'i>(
    one: impl Parser<&'i str, Output = char, Error = Error<&'i str>>,
) -> impl Parser<&'i str, Output = (char, char), Error = Error<&'i str>> {
    let to = opt(preceded(char('-'), none_of("]")));
    map(pair(one, to), |(from, to)| (from, to.unwrap_or(from)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Results are those of the glob crate.
        #[test]
        fn patterns_are_those_of_the_glob_crate(
            pattern in "[ab*?\\[\\]!-]{0,12}",
            texts in prop::collection::vec("[ab\\]!-]{0,10}", 8),
        ) {
            // glob gives several stars a meaning in paths.
            prop_assume!(!pattern.contains("**"));
            let expected = glob::Pattern::new(&pattern);
            let found = Wildcard::parse(&pattern);
            prop_assert_eq!(found.is_some(), expected.is_ok(), "{}", &pattern);
            if let (Some(found), Ok(expected)) = (found, expected) {
                for text in texts {
                    prop_assert_eq!(found.matches(&text), expected.matches(&text), "{} {}", &pattern, text);
                }
            }
        }
    }

    /// Time grows linearly in the length of pattern and text, not exponentially.
    #[test]
    fn many_stars() {
        let pattern = Wildcard::parse(&"*a".repeat(2000)).expect("a pattern");
        assert!(!pattern.matches(&("a".repeat(1999) + "b")));
        assert!(pattern.matches(&"a".repeat(2000)));
    }
}
