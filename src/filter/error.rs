//! Errors of filters.

use crate::record::RecordError;

/// Why a text is not a filter, a filter does not fit an event, or a record lacks a field
/// that the filter needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// The text is not in the language of filters.
    #[error("bad filter {filter:?}: {}", match rest.is_empty() {
        true => "it ends where something is missing".to_owned(),
        false => format!("not understood from column {column}, {rest:?}"),
    })]
    Syntax {
        /// The whole text.
        filter: String,
        /// The first character that is not understood, counted from 1.
        column: usize,
        /// The text from there on.
        rest: String,
    },
    /// A single `=`, which is not a comparison.
    #[error("bad filter {filter:?}: = in column {column} compares nothing, use ==")]
    SingleEqual {
        /// The whole text.
        filter: String,
        /// The place of the `=`, in characters counted from 1.
        column: usize,
    },
    /// The text is longer than a filter may be.
    #[error("the filter is longer than {limit} bytes")]
    TooLong {
        /// The longest allowed length, in bytes.
        limit: usize,
    },
    /// Brackets are nested too deeply.
    #[error("the filter's brackets nest deeper than {limit}")]
    TooDeep {
        /// The deepest allowed nesting.
        limit: usize,
    },
    /// The event has no field of this name.
    #[error("{event} has no field {field}; it has {}, and the task has pid, tid, comm, cpu, uid, gid and cgroup", listed(.fields))]
    NoField {
        /// The event's name, without its category.
        event: String,
        /// The name in the filter.
        field: String,
        /// The fields that the event has.
        fields: Vec<String>,
    },
    /// A field's type does not allow the comparison.
    #[error("{field} is {is}, and cannot be compared with {with}")]
    Incomparable {
        /// The field.
        field: String,
        /// The kind of field.
        is: &'static str,
        /// The other side of the comparison.
        with: &'static str,
    },
    /// A number that the field can never have.
    #[error("{field} is {bits} bits, {}, and cannot be {number}", if *.signed { "signed" } else { "unsigned" })]
    OutOfRange {
        /// The field.
        field: String,
        /// Its size in bits.
        bits: u32,
        /// Whether it is signed.
        signed: bool,
        /// The number.
        number: i128,
    },
    /// A word that is neither a field nor the name of a value of the field.
    #[error("{field} has no value called {name}; {}", known(.names))]
    NoConstant {
        /// The field.
        field: String,
        /// The word.
        name: String,
        /// The names of the field's values.
        names: Vec<String>,
    },
    /// The field has fewer elements, or is not an array.
    #[error("{field} has no element {index}")]
    NoElement {
        /// The field.
        field: String,
        /// The index of the element, from 0.
        index: u32,
    },
    /// A string is too long to be compared.
    #[error("{field} can be compared with at most {limit} bytes")]
    LongText {
        /// The field.
        field: String,
        /// The longest string, in bytes.
        limit: usize,
    },
    /// The bytes that a pointer points to are not in the record.
    #[error("the data that {field} points to are not in the record")]
    NotRecorded {
        /// The field.
        field: String,
    },
    /// A property of the task that only a program in the kernel can read.
    #[error("a record does not have the {word} of its task; only a probe's filter can use it")]
    UnknownOfTask {
        /// `uid`, `gid` or `cgroup`.
        word: &'static str,
    },
    /// The record is too short.
    #[error(transparent)]
    Record(#[from] RecordError),
}

fn known(names: &[String]) -> String {
    match names {
        [] => "its values have no names".to_owned(),
        names => format!("it has {}", names.join(", ")),
    }
}

fn listed(fields: &[String]) -> String {
    match fields {
        [] => "none of its own".to_owned(),
        fields => fields.join(", "),
    }
}
