//! The filter language: text in, tree out.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while1};
use nom::character::complete::{char, multispace0, satisfy};
use nom::combinator::{cut, map, not, opt, recognize};
use nom::error::{Error, ErrorKind};
use nom::multi::fold_many0;
use nom::sequence::{delimited, preceded};
use nom::{Finish, IResult, Parser};

use super::{Bits, Comparison, Condition, Constant, FilterError, Name, Owner, Test};

/// The deepest nesting of brackets and `!`.
const DEPTH: usize = 64;

/// The longest filter, in bytes.
const LENGTH: usize = 4096;

pub(super) fn filter(text: &str) -> Result<Condition, FilterError> {
    if text.len() > LENGTH {
        return Err(FilterError::TooLong { limit: LENGTH });
    }
    let bad = |rest: &str| {
        let filter = text.to_owned();
        let column = text[..text.len() - rest.len()].chars().count() + 1;
        match rest.starts_with('=') && !rest.starts_with("==") {
            true => FilterError::SingleEqual { filter, column },
            false => FilterError::Syntax {
                filter,
                column,
                rest: rest.chars().take(20).collect(),
            },
        }
    };
    match alternatives(text, DEPTH).finish() {
        Ok(("", node)) => Ok(node),
        Ok((rest, _)) => Err(bad(rest)),
        Err(Error {
            code: ErrorKind::TooLarge,
            ..
        }) => Err(FilterError::TooDeep { limit: DEPTH }),
        Err(error) => Err(bad(error.input)),
    }
}

fn alternatives(input: &str, depth: usize) -> IResult<&str, Condition> {
    let (input, first) = conjunction(input, depth)?;
    let more = preceded(token("||"), cut(|input| conjunction(input, depth)));
    joined(more, first, Condition::Or).parse(input)
}

fn conjunction(input: &str, depth: usize) -> IResult<&str, Condition> {
    let (input, first) = operand(input, depth)?;
    let more = preceded(token("&&"), cut(|input| operand(input, depth)));
    joined(more, first, Condition::And).parse(input)
}

/// Joins the first operand with those that follow; returns it alone if there are none.
fn joined<'i>(
    more: impl Parser<&'i str, Output = Condition, Error = Error<&'i str>>,
    first: Condition,
    join: fn(Vec<Condition>) -> Condition,
) -> impl Parser<&'i str, Output = Condition, Error = Error<&'i str>> {
    let operands = fold_many0(
        more,
        move || vec![first.clone()],
        |mut operands, operand| {
            operands.push(operand);
            operands
        },
    );
    map(operands, move |mut operands| match operands.len() {
        1 => operands.remove(0),
        _ => join(operands),
    })
}

fn operand(input: &str, depth: usize) -> IResult<&str, Condition> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(nom::Err::Failure(Error::new(input, ErrorKind::TooLarge)));
    };
    let (input, _) = multispace0(input)?;
    let negated = preceded(char('!'), cut(|input| operand(input, depth)));
    let bracketed = delimited(
        char('('),
        cut(|input| alternatives(input, depth)),
        cut(token(")")),
    );
    let operand = alt((
        map(negated, |node| Condition::Not(Box::new(node))),
        bracketed,
        any_of,
        map(test, Condition::Test),
    ));
    let mut operand = (operand, multispace0);
    let (input, (node, _)) = operand.parse(input)?;
    Ok((input, node))
}

/// Parses `ret in (-1, 0)`: equal to any of these.
fn any_of(input: &str) -> IResult<&str, Condition> {
    let sign = (token("in"), token("("));
    let (input, (name, mask, _)) = (name, opt(mask), sign).parse(input)?;
    let operand = |input| delimited(multispace0, cut(literal), multispace0).parse(input);
    let more = preceded(char(','), operand);
    let (input, first) = operand(input)?;
    let literals = fold_many0(
        more,
        move || vec![first.clone()],
        |mut literals, literal| {
            literals.push(literal);
            literals
        },
    );
    let (input, literals) = (literals, cut(char(')')))
        .parse(input)
        .map(|(rest, all)| (rest, all.0))?;
    let test = |literal| {
        Condition::Test(Test {
            name: name.clone(),
            mask: mask.clone(),
            comparison: Comparison::Eq,
            is_prefix: false,
            literal,
        })
    };
    let mut tests: Vec<Condition> = literals.into_iter().map(test).collect();
    let condition = match tests.len() {
        1 => tests.remove(0),
        _ => Condition::Or(tests),
    };
    Ok((input, condition))
}

/// Parses `& 0x200`, `& O_CREAT`, `& (O_CREAT | O_EXCL)`.
fn mask(input: &str) -> IResult<&str, Vec<Bits>> {
    // `a && b` is not a mask.
    let sign = (token("&"), not(char('&')), multispace0);
    preceded(sign, cut(alt((several_bits, map(bits, |one| vec![one]))))).parse(input)
}

fn bits(input: &str) -> IResult<&str, Bits> {
    let named = map(word, |word: &str| Bits::Named(word.to_owned()));
    alt((map(unsigned, Bits::Number), named)).parse(input)
}

fn several_bits(input: &str) -> IResult<&str, Vec<Bits>> {
    let (input, _) = (char('('), multispace0).parse(input)?;
    let (input, first) = bits(input)?;
    let more = preceded((token("|"), multispace0), bits);
    let all = fold_many0(
        more,
        move || vec![first.clone()],
        |mut all, one| {
            all.push(one);
            all
        },
    );
    let (input, (all, _)) = (all, token(")")).parse(input)?;
    Ok((input, all))
}

fn test(input: &str) -> IResult<&str, Test> {
    if let Ok((input, (name, _, text))) = (name, token("~"), multispace0_then(glob)).parse(input) {
        let test = Test {
            name,
            mask: None,
            comparison: Comparison::Eq,
            is_prefix: text.ends_with('*'),
            literal: Constant::Text(text.strip_suffix('*').unwrap_or(&text).to_owned()),
        };
        return Ok((input, test));
    }
    let mask = opt(mask);
    let against = (comparison, multispace0, cut(literal));
    let mut test = (name, mask, opt(against));
    let (input, (name, mask, against)) = test.parse(input)?;
    let (comparison, literal) = match against {
        Some((comparison, _, literal)) => (comparison, literal),
        None => (Comparison::Ne, Constant::Number(0)),
    };
    let test = Test {
        name,
        mask,
        comparison,
        is_prefix: false,
        literal,
    };
    Ok((input, test))
}

fn multispace0_then<'i, T>(
    parser: impl Parser<&'i str, Output = T, Error = Error<&'i str>>,
) -> impl Parser<&'i str, Output = T, Error = Error<&'i str>> {
    preceded(multispace0, cut(parser))
}

/// Parses a string with at most one `*`, as its last character.
fn glob(input: &str) -> IResult<&str, String> {
    let (rest, text) = string(input)?;
    match text.find('*') {
        Some(at) if at + 1 < text.len() => {
            Err(nom::Err::Error(Error::new(input, ErrorKind::Verify)))
        }
        _ => Ok((rest, text)),
    }
}

/// Parses `ret`, `task.pid`, `args[0]`, and paths: `prev->comm`, `rq->q->id`, `skb->cb[3]`.
/// An index at the end is not a part of the path.
fn name(input: &str) -> IResult<&str, Name> {
    let (rest, first) = word(input)?;
    let (scope, start) = match (first, opt(char('.')).parse(rest)?) {
        ("args", (after, Some(_))) => (Owner::Event, after),
        ("task", (after, Some(_))) => (Owner::Task, after),
        _ => (Owner::Either, input),
    };
    let scoped = |error| match (scope, error) {
        (Owner::Either, error) => error,
        (_, nom::Err::Error(error)) => nom::Err::Failure(error),
        (_, error) => error,
    };
    let (mut rest, _) = word(start).map_err(scoped)?;
    let (mut end, mut index) = (rest, None);
    loop {
        let member = preceded(alt((tag("->"), tag("."))), cut(word));
        let element = delimited(char('['), cut(unsigned), cut(char(']')));
        let step = alt((map(member, |_| None), map(element, Some)));
        let (after, step) = opt(step).parse(rest)?;
        match step {
            None => break,
            Some(None) => (end, index) = (after, None),
            // The index is a part of the path if something follows.
            Some(Some(number)) => match u32::try_from(number) {
                Ok(number) if index.is_none() => index = Some(number),
                Ok(number) => (end, index) = (rest, Some(number)),
                Err(_) => return Err(nom::Err::Failure(Error::new(rest, ErrorKind::Digit))),
            },
        }
        rest = after;
    }
    let word = start[..start.len() - end.len()].to_owned();
    Ok((rest, Name { scope, word, index }))
}

fn word(input: &str) -> IResult<&str, &str> {
    let start = satisfy(|c| c.is_ascii_alphabetic() || c == '_');
    let rest = take_while(|c: char| c.is_ascii_alphanumeric() || c == '_');
    recognize((start, rest)).parse(input)
}

fn comparison(input: &str) -> IResult<&str, Comparison> {
    let (input, _) = multispace0(input)?;
    alt((
        map(tag("=="), |_| Comparison::Eq),
        map(tag("!="), |_| Comparison::Ne),
        map(tag("<="), |_| Comparison::Le),
        map(tag(">="), |_| Comparison::Ge),
        map(tag("<"), |_| Comparison::Lt),
        map(tag(">"), |_| Comparison::Gt),
    ))
    .parse(input)
}

fn literal(input: &str) -> IResult<&str, Constant> {
    let negative = preceded((char('-'), multispace0), unsigned);
    let negative_name = preceded((char('-'), multispace0), word);
    alt((
        map(negative, |value| Constant::Number(-i128::from(value))),
        map(unsigned, |value| Constant::Number(i128::from(value))),
        map(string, Constant::Text),
        map(negative_name, |word: &str| {
            Constant::NegativeName(word.to_owned())
        }),
        map(name, Constant::Name),
    ))
    .parse(input)
}

/// Parses a number as in C: decimal, hexadecimal after `0x`, octal after `0`.
fn unsigned(input: &str) -> IResult<&str, u64> {
    let (rest, digits) = take_while1(|c: char| c.is_ascii_alphanumeric())(input)?;
    let value = if let Some(digits) = digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        u64::from_str_radix(digits, 16)
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(&digits[1..], 8)
    } else {
        digits.parse()
    };
    match value {
        Ok(value) => Ok((rest, value)),
        Err(_) => Err(nom::Err::Error(Error::new(input, ErrorKind::Digit))),
    }
}

/// Parses a string in double quotes, in which `\"` and `\\` stand for `"` and `\`.
fn string(input: &str) -> IResult<&str, String> {
    let plain = satisfy(|c| c != '"' && c != '\\' && c != '\0');
    let escaped = preceded(char('\\'), alt((char('"'), char('\\'))));
    let text = fold_many0(alt((plain, escaped)), String::new, |mut text, c| {
        text.push(c);
        text
    });
    delimited(char('"'), text, char('"')).parse(input)
}

/// Parses an operator, with blanks before it.
fn token(sign: &'static str) -> impl Fn(&str) -> IResult<&str, &str> {
    move |input| preceded(multispace0, tag(sign)).parse(input)
}
