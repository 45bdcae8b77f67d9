//! The grammar of print fmt: a format string and C expressions.

use nom::branch::alt;
use nom::bytes::complete::tag;
use nom::character::complete::{char, multispace0};
use nom::combinator::{cut, map, opt, value};
use nom::error::{Error, ErrorKind};
use nom::sequence::preceded;
use nom::{Finish, IResult, Parser};

use super::conversion::{Piece, pieces};
use super::lexical::{cast, character, literal, number, opaque, string, token, type_name, word};
use super::{BinaryOperator, Expression, Literal, PrintFmt, PrintFmtError, UnaryOperator};

/// The deepest nesting of expressions. Conditionals in the last part of others do not
/// count: the kernel's `ilog2()` has 63 of them.
const DEPTH: usize = 96;

/// The greatest height of a tree. Nodes are evaluated, written and dropped recursively.
const HEIGHT: usize = 200;

/// The most quotes that are tried as the end of a format string with quotes inside.
const BARE_QUOTES: usize = 64;

pub(super) fn print_fmt(text: &str) -> Result<PrintFmt, PrintFmtError> {
    let mut whole = (literal, arguments(DEPTH), multispace0);
    match whole.parse(text).finish() {
        Ok(("", (format, arguments, _))) => Ok(PrintFmt { format, arguments }),
        Ok((rest, _)) => Err(error_at(text, rest)),
        Err(Error {
            code: ErrorKind::TooLarge,
            ..
        }) => Err(PrintFmtError::TooDeep { limit: DEPTH }),
        Err(Error {
            code: ErrorKind::Count,
            ..
        }) => Err(PrintFmtError::TooDeep { limit: HEIGHT }),
        Err(error) => Err(error_at(text, error.input)),
    }
}

/// Parses a print fmt whose format string is as in the compiler's memory, without
/// escapes: of the quotes after its first, exactly one must be a possible end. A text
/// without quotes is a string in place of `TP_printk()`
/// (`drivers/input/keyboard/applespi_trace.h`); the kernel then adds no newline.
pub(super) fn unstringified(text: &str) -> Option<PrintFmt> {
    if !text.contains('"') {
        let format = text.strip_suffix('\n')?;
        let takes_none = pieces(format).iter().all(|piece| piece.arguments() == 0);
        return takes_none.then(|| PrintFmt {
            format: as_it_is(format),
            arguments: Vec::new(),
        });
    }
    let inside = text.trim_start().strip_prefix('"')?;
    let ends = inside.match_indices('"').filter(|(end, _)| {
        let rest = inside[end + 1..].trim_start();
        rest.is_empty() || rest.starts_with(',')
    });
    let mut found = None;
    for (end, _) in ends.take(BARE_QUOTES) {
        let mut rest = (arguments(DEPTH), multispace0);
        let Ok(("", (arguments, _))) = rest.parse(&inside[end + 1..]).finish() else {
            continue;
        };
        let format = &inside[..end];
        let taken = pieces(format).iter().map(Piece::arguments).sum::<usize>();
        if taken != arguments.len() {
            continue;
        }
        let format = as_it_is(format);
        if found.replace(PrintFmt { format, arguments }).is_some() {
            return None;
        }
    }
    found
}

/// Returns a literal of this text, in which nothing is an escape.
fn as_it_is(text: &str) -> Literal {
    Literal {
        parts: vec![text.replace('\\', "\\\\").replace('"', "\\\"")],
    }
}

fn error_at(text: &str, rest: &str) -> PrintFmtError {
    PrintFmtError::Syntax {
        offset: text.len() - rest.len(),
        rest: rest.chars().take(40).collect(),
    }
}

/// Parses arguments, each after a comma.
fn arguments(depth: usize) -> impl Fn(&str) -> IResult<&str, Vec<Expression>> {
    move |input| {
        let mut arguments = Vec::new();
        let mut input = input;
        while let (rest, Some(_)) = opt(token(",")).parse(input)? {
            let (rest, argument) = expression(rest, depth)?;
            arguments.push(argument.expression);
            input = rest;
        }
        Ok((input, arguments))
    }
}

/// An expression and the height of its tree. Left-associative operators make it higher
/// without nesting.
struct Tree {
    expression: Expression,
    height: usize,
}

impl Tree {
    fn leaf(expression: Expression) -> Self {
        Self {
            expression,
            height: 0,
        }
    }

    /// Returns an expression made of others, of which `height` is the highest.
    fn over(height: usize, input: &str, expression: Expression) -> IResult<&str, Self> {
        let height = height + 1;
        match height <= HEIGHT {
            true => Ok((input, Self { expression, height })),
            false => Err(too_high(input)),
        }
    }
}

fn too_high(input: &str) -> nom::Err<Error<&str>> {
    nom::Err::Failure(Error::new(input, ErrorKind::Count))
}

fn highest(trees: &[Tree]) -> usize {
    trees.iter().map(|tree| tree.height).max().unwrap_or(0)
}

fn expressions(trees: Vec<Tree>) -> Vec<Expression> {
    trees.into_iter().map(|tree| tree.expression).collect()
}

fn deeper(input: &str, depth: usize) -> Result<usize, nom::Err<Error<&str>>> {
    let deeper = depth.checked_sub(1);
    deeper.ok_or_else(|| nom::Err::Failure(Error::new(input, ErrorKind::TooLarge)))
}

/// A conditional without its last part.
struct Pending {
    condition: Tree,
    then: Option<Tree>,
    /// The number of brackets that were opened before its condition and close after its
    /// last part.
    brackets: usize,
}

/// Parses an operand, or conditionals, each in the last part of the one before. A loop,
/// not recursion, parses these, since there may be as many as a number has bits.
fn expression(mut input: &str, depth: usize) -> IResult<&str, Tree> {
    let depth = deeper(input, depth)?;
    let mut pending: Vec<Pending> = Vec::new();
    let mut whole = loop {
        let mut brackets = 0;
        while !pending.is_empty()
            && let Some(inside) = bracketed_conditional(input)
        {
            brackets += 1;
            input = inside;
        }
        let (rest, condition) = binary(input, depth, 0)?;
        let (rest, question) = opt(token("?")).parse(rest)?;
        if question.is_none() {
            if brackets > 0 {
                return Err(nom::Err::Error(Error::new(rest, ErrorKind::Char)));
            }
            input = rest;
            break condition;
        }
        if pending.len() == HEIGHT {
            return Err(too_high(input));
        }
        // GNU C: `a ?: b` is `a ? a : b`.
        let (rest, colon) = opt(token(":")).parse(rest)?;
        let (rest, then) = match colon {
            Some(_) => (rest, None),
            None => {
                let (rest, then) = expression(rest, depth)?;
                let (rest, _) = token(":")(rest)?;
                (rest, Some(then))
            }
        };
        pending.push(Pending {
            condition,
            then,
            brackets,
        });
        input = rest;
    };
    while let Some(last) = pending.pop() {
        let then_height = last.then.as_ref().map_or(0, |then| then.height);
        let height = last.condition.height.max(then_height).max(whole.height);
        let conditional = Expression::Conditional {
            condition: Box::new(last.condition.expression),
            then: last.then.map(|then| Box::new(then.expression)),
            otherwise: Box::new(whole.expression),
        };
        (input, whole) = Tree::over(height, input, conditional)?;
        for _ in 0..last.brackets {
            (input, _) = token(")")(input)?;
        }
    }
    Ok((input, whole))
}

/// Returns the text after an opening bracket, if the bracket encloses a conditional and
/// the expression ends with it.
fn bracketed_conditional(input: &str) -> Option<&str> {
    let inside = input.trim_start().strip_prefix('(')?;
    let (mut rest, mut open, mut is_conditional) = (inside, 1_usize, false);
    while open > 0 {
        let first = rest.chars().next()?;
        rest = match first {
            '"' => string(rest).ok()?.0,
            '\'' => character(rest).ok()?.0,
            _ => &rest[first.len_utf8()..],
        };
        match first {
            '(' | '{' | '[' => open += 1,
            ')' | '}' | ']' => open -= 1,
            '?' if open == 1 => is_conditional = true,
            _ => {}
        }
    }
    let follows = rest.trim_start();
    let is_end = follows.is_empty() || follows.starts_with([')', ',', ':', '}', ']']);
    (is_conditional && is_end).then_some(inside)
}

/// Parses operators that bind at least as tightly as `level`.
fn binary(input: &str, depth: usize, level: u8) -> IResult<&str, Tree> {
    let depth = deeper(input, depth)?;
    let (mut input, mut left) = unary(input, depth)?;
    loop {
        let (after_space, _) = multispace0(input)?;
        let Some(operator) = BinaryOperator::at(after_space).filter(|op| op.level() >= level)
        else {
            return Ok((input, left));
        };
        let rest = &after_space[operator.as_str().len()..];
        let (rest, right) = binary(rest, depth, operator.level() + 1)?;
        let height = left.height.max(right.height);
        let (left_operand, right) = (Box::new(left.expression), Box::new(right.expression));
        let whole = Expression::Binary(operator, left_operand, right);
        (input, left) = Tree::over(height, rest, whole)?;
    }
}

fn unary(input: &str, depth: usize) -> IResult<&str, Tree> {
    let depth = deeper(input, depth)?;
    let (input, _) = multispace0(input)?;
    let operator = alt((
        value(UnaryOperator::Not, char('!')),
        value(UnaryOperator::Complement, char('~')),
        value(UnaryOperator::Minus, char('-')),
        value(UnaryOperator::Plus, char('+')),
        value(UnaryOperator::Dereference, char('*')),
        value(UnaryOperator::Address, char('&')),
    ));
    if let (rest, Some(operator)) = opt(operator).parse(input)? {
        let (rest, operand) = unary(rest, depth)?;
        let whole = Expression::Unary(operator, Box::new(operand.expression));
        return Tree::over(operand.height, rest, whole);
    }
    if let (rest, Some(type_name)) = opt(cast).parse(input)? {
        let (rest, _) = multispace0(rest)?;
        if rest.starts_with('{') {
            // A compound literal, after which an index or a member may follow.
            let (rest, items) = list(rest, depth)?;
            let literal = Expression::Cast(type_name.to_owned(), Box::new(items.expression));
            let (rest, literal) = Tree::over(items.height, rest, literal)?;
            return postfix(rest, literal, depth);
        }
        let (rest, operand) = unary(rest, depth)?;
        let whole = Expression::Cast(type_name.to_owned(), Box::new(operand.expression));
        return Tree::over(operand.height, rest, whole);
    }
    let (input, primary) = primary(input, depth)?;
    postfix(input, primary, depth)
}

fn postfix(mut input: &str, mut left: Tree, depth: usize) -> IResult<&str, Tree> {
    loop {
        let (rest, sign) =
            opt(alt((token("->"), token("."), token("["), token("(")))).parse(input)?;
        let height = left.height;
        (input, left) = match (sign, left.expression) {
            (Some("->"), Expression::Name(name)) if name == "REC" => {
                let (rest, field) = preceded(multispace0, word).parse(rest)?;
                (rest, Tree::leaf(Expression::Field(field.to_owned())))
            }
            (Some(sign @ ("->" | ".")), whole) => {
                let (rest, member) = preceded(multispace0, word).parse(rest)?;
                let member = Expression::Member {
                    whole: Box::new(whole),
                    is_pointer: sign == "->",
                    member: member.to_owned(),
                };
                Tree::over(height, rest, member)?
            }
            (Some("["), array) => {
                let (rest, index) = expression(rest, depth)?;
                let (rest, _) = token("]")(rest)?;
                let height = height.max(index.height);
                let element = Expression::Index(Box::new(array), Box::new(index.expression));
                Tree::over(height, rest, element)?
            }
            (Some(_), Expression::Name(function)) => {
                let (rest, arguments) = call_arguments(rest, depth)?;
                let height = highest(&arguments);
                let call = Expression::Call(function, expressions(arguments));
                Tree::over(height, rest, call)?
            }
            (_, expression) => return Ok((input, Tree { expression, height })),
        };
    }
}

/// Parses the arguments of a call and the closing bracket.
fn call_arguments(input: &str, depth: usize) -> IResult<&str, Vec<Tree>> {
    if let (rest, Some(_)) = opt(token(")")).parse(input)? {
        return Ok((rest, Vec::new()));
    }
    let (input, first) = argument(input, depth)?;
    let mut arguments = vec![first];
    let mut input = input;
    while let (rest, Some(_)) = opt(token(",")).parse(input)? {
        let (rest, next) = argument(rest, depth)?;
        arguments.push(next);
        input = rest;
    }
    let (input, _) = token(")")(input)?;
    Ok((input, arguments))
}

/// Parses an expression, a list in braces or a type's name.
fn argument(input: &str, depth: usize) -> IResult<&str, Tree> {
    let (input, _) = multispace0(input)?;
    if input.starts_with('{') {
        return list(input, depth);
    }
    let ends = |rest: &str| rest.trim_start().starts_with([',', ')', '}']);
    match expression(input, depth) {
        Ok((rest, argument)) if ends(rest) => Ok((rest, argument)),
        Err(nom::Err::Failure(error)) => Err(nom::Err::Failure(error)),
        other => match type_name(input) {
            Ok((rest, name)) if ends(rest) => {
                Ok((rest, Tree::leaf(Expression::Type(name.to_owned()))))
            }
            _ => other,
        },
    }
}

fn list(input: &str, depth: usize) -> IResult<&str, Tree> {
    let depth = deeper(input, depth)?;
    let (mut input, _) = token("{")(input)?;
    let mut items = Vec::new();
    loop {
        if let (rest, Some(_)) = opt(token("}")).parse(input)? {
            let height = highest(&items);
            return Tree::over(height, rest, Expression::List(expressions(items)));
        }
        let (rest, item) = match opt(token(".")).parse(input)? {
            (rest, Some(_)) => designated(rest, depth)?,
            (rest, None) => argument(rest, depth)?,
        };
        items.push(item);
        let (rest, _) = opt(token(",")).parse(rest)?;
        if rest.len() == input.len() {
            return Err(nom::Err::Error(Error::new(input, ErrorKind::Many0)));
        }
        input = rest;
    }
}

/// Parses the part after the dot of `.member = value`.
fn designated(input: &str, depth: usize) -> IResult<&str, Tree> {
    let (rest, member) = word(input)?;
    let (rest, _) = token("=")(rest)?;
    let (rest, value) = argument(rest, depth)?;
    let whole = Expression::Designated(member.to_owned(), Box::new(value.expression));
    Tree::over(value.height, rest, whole)
}

/// Parses `({ static const struct trace_print_flags_u64 symbols[] = { … };
/// trace_print_symbols_seq_u64(p, REC->x, symbols, …); })`, which 32-bit kernels have
/// in place of `__print_symbolic_u64(REC->x, …)`, and likewise for
/// `__print_flags_u64()`: these macros are expanded before the arguments are
/// stringified.
fn expanded_helper(input: &str, depth: usize) -> IResult<&str, Tree> {
    const TABLE: &str = "({ static const struct trace_print_flags_u64 ";
    let depth = deeper(input, depth)?;
    let (rest, table) = preceded(tag(TABLE), word).parse(input)?;
    let (rest, _) = (tag("[]"), token("=")).parse(rest)?;
    let (rest, entries) = list(rest, depth)?;
    let (rest, _) = token(";")(rest)?;
    let (rest, _) = multispace0(rest)?;
    let (rest, function) = word(rest)?;
    let (rest, _) = token("(")(rest)?;
    let (rest, mut arguments) = call_arguments(rest, depth)?;
    let (rest, _) = (token(";"), token("}"), token(")")).parse(rest)?;
    let is_table = |tree: &Tree| tree.expression == Expression::Name(table.to_owned());
    let (helper, before) = match function {
        "trace_print_symbols_seq_u64" => ("__print_symbolic_u64", 1),
        "trace_print_flags_seq_u64" => ("__print_flags_u64", 2),
        _ => return Err(nom::Err::Error(Error::new(input, ErrorKind::Tag))),
    };
    if !arguments.get(before + 1).is_some_and(is_table) {
        return Err(nom::Err::Error(Error::new(input, ErrorKind::Verify)));
    }
    let height = highest(&arguments).max(entries.height);
    // The first argument is the output; those after the table give its length.
    let mut arguments = expressions(arguments.drain(1..=before).collect());
    if before == 2 {
        // `__print_flags_u64()` takes the value first.
        arguments.swap(0, 1);
    }
    let Expression::List(entries) = entries.expression else {
        return Err(nom::Err::Error(Error::new(input, ErrorKind::Verify)));
    };
    arguments.extend(entries);
    Tree::over(height, rest, Expression::Call(helper.to_owned(), arguments))
}

fn primary(input: &str, depth: usize) -> IResult<&str, Tree> {
    let (input, _) = multispace0(input)?;
    if input.starts_with("({") {
        match expanded_helper(input, depth) {
            Err(nom::Err::Error(_)) => {}
            helper => return helper,
        }
        let leaf = |text: &str| Tree::leaf(Expression::Opaque(text.to_owned()));
        return map(opaque, leaf).parse(input);
    }
    if let Some(inside) = input.strip_prefix('(') {
        let (rest, inner) = expression(inside, depth)?;
        let (rest, _) = token(")")(rest)?;
        return Ok((rest, inner));
    }
    alt((
        map(literal, |text| Tree::leaf(Expression::String(text))),
        map(character, |text| {
            Tree::leaf(Expression::Character(text.to_owned()))
        }),
        map(number, |text| {
            Tree::leaf(Expression::Number(text.to_owned()))
        }),
        |input| sizeof(input, depth),
        map(word, |name| Tree::leaf(Expression::Name(name.to_owned()))),
    ))
    .parse(input)
}

fn sizeof(input: &str, depth: usize) -> IResult<&str, Tree> {
    let (rest, name) = word(input)?;
    if name != "sizeof" {
        return Err(nom::Err::Error(Error::new(input, ErrorKind::Tag)));
    }
    // From here on it can be nothing else. If it were parsed again as a call, each
    // level of nesting would double the time.
    if let (rest, Some(_)) = opt(token("(")).parse(rest)? {
        let (rest, inner) = cut(|input| argument(input, depth)).parse(rest)?;
        let (rest, _) = cut(token(")")).parse(rest)?;
        let whole = Expression::Sizeof(Box::new(inner.expression));
        return Tree::over(inner.height, rest, whole);
    }
    let (rest, operand) = cut(|input| unary(input, depth)).parse(rest)?;
    let whole = Expression::Sizeof(Box::new(operand.expression));
    Tree::over(operand.height, rest, whole)
}
