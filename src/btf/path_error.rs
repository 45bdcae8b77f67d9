//! Errors about paths through a tracepoint's arguments.

use super::error::BtfError;

/// Why a path through a tracepoint's arguments leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The text is not a path.
    #[error(
        "{path:?} is not a path: not understood from column {column} ({})", if .path.ends_with('-') { "a shell takes > for itself: quote the path, or write . for ->" } else { "a path is ARGUMENT->MEMBER.MEMBER[N]" }
    )]
    Syntax {
        /// The text.
        path: String,
        /// The first character that is not understood, from 1.
        column: usize,
    },
    /// The path is longer than any useful one.
    #[error("the path is longer than {limit} {unit}")]
    TooLong {
        /// The most there may be.
        limit: usize,
        /// The unit of the limit.
        unit: &'static str,
    },
    /// The tracepoint has no argument of the name that the path begins with.
    #[error("there is no argument {argument}; {}", listed("the arguments are", "there are none", .arguments))]
    NoArgument {
        /// The name.
        argument: String,
        /// The names to choose from.
        arguments: Vec<String>,
    },
    /// The type has no member of that name.
    #[error("{path}: {within} has no member {member}; {}", listed("it has", "it has none", .members))]
    NoMember {
        /// The path up to the struct.
        path: String,
        /// The struct's type.
        within: String,
        /// The name.
        member: String,
        /// The names to choose from.
        members: Vec<String>,
    },
    /// The value that the path has reached has no members.
    #[error("{path} is {is}, which has no members")]
    NoStruct {
        /// The path so far.
        path: String,
        /// The value's type.
        is: String,
    },
    /// The value that the path has reached has no elements, or fewer.
    #[error("{path} is {is}, which has no element {index}")]
    NoElement {
        /// The path so far.
        path: String,
        /// The value's type.
        is: String,
        /// The element, from 0.
        index: u32,
    },
    /// The path ends at something without a value that a program could read.
    #[error("{path} is {is}, which has no value to read")]
    NoValue {
        /// The path.
        path: String,
        /// The value's type.
        is: String,
    },
    /// The path leads into a struct that the tracepoint passes by value.
    #[error("{path} is passed by value: its members cannot be read")]
    ByValue {
        /// The argument.
        path: String,
    },
    /// The types are not sound.
    #[error("the types of {path} are not sound")]
    Types {
        /// The path.
        path: String,
        /// The error of the types.
        source: BtfError,
    },
}

fn listed(some: &str, none: &str, names: &[String]) -> String {
    match names {
        [] => none.to_owned(),
        names => format!("{some} {}", names.join(", ")),
    }
}
