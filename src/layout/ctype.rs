//! C types as values, from BTF or from a declaration in a format file.

use serde::Deserialize;

use crate::layout::Layout;

/// A C type, complete as far as laying out a value of it needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CType {
    Void,
    Int {
        name: String,
        size: u32,
        signed: bool,
    },
    Float {
        name: String,
        size: u32,
    },
    Typedef {
        name: String,
        target: Box<CType>,
    },
    Enum {
        name: Option<String>,
        size: u32,
        signed: bool,
        values: Vec<(String, i128)>,
    },
    /// A struct or union; without a body if it is only pointed to.
    Record {
        keyword: RecordKeyword,
        name: Option<String>,
        body: Option<Box<Layout>>,
    },
    Pointer {
        target: Box<CType>,
        size: u32,
    },
    Array {
        element: Box<CType>,
        count: u32,
    },
    Function {
        result: Box<CType>,
        parameters: Vec<CType>,
        variadic: bool,
    },
    Qualified {
        qualifier: &'static str,
        target: Box<CType>,
    },
    /// A type of which only the spelling in a format file and the size are known.
    Spelled {
        text: String,
        size: u32,
        signed: bool,
        is_pointer: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RecordKeyword {
    Struct,
    Union,
}

impl RecordKeyword {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Struct => "struct",
            Self::Union => "union",
        }
    }
}

impl CType {
    /// Returns the size in bytes; 0 for types without one.
    pub(crate) fn size(&self) -> u32 {
        match self {
            Self::Void | Self::Function { .. } => 0,
            Self::Int { size, .. }
            | Self::Float { size, .. }
            | Self::Enum { size, .. }
            | Self::Pointer { size, .. }
            | Self::Spelled { size, .. } => *size,
            Self::Typedef { target, .. } | Self::Qualified { target, .. } => target.size(),
            Self::Record { body, .. } => body.as_ref().map_or(0, |body| body.size()),
            Self::Array { element, count } => element.size().saturating_mul(*count),
        }
    }

    /// Returns the alignment in bytes on 64-bit machines; at least 1.
    pub(crate) fn align(&self) -> u32 {
        match self {
            Self::Typedef { target, .. } | Self::Qualified { target, .. } => target.align(),
            Self::Record { body, .. } => body.as_ref().map_or(1, |body| body.align()),
            Self::Array { element, .. } => element.align(),
            scalar => match scalar.size() {
                size @ (2 | 4 | 8 | 16) => size,
                _ => 1,
            },
        }
    }

    /// Returns the type behind typedefs and qualifiers.
    pub(crate) fn resolved(&self) -> &CType {
        match self {
            Self::Typedef { target, .. } | Self::Qualified { target, .. } => target.resolved(),
            other => other,
        }
    }

    /// Returns a declaration of `declarator` with this type; for an empty one, the type's
    /// abstract declarator.
    pub(crate) fn declare(&self, declarator: &str) -> String {
        self.declare_with(declarator, &|specifier| match specifier {
            Self::Enum { name, .. } => format!("enum {}", name.as_deref().unwrap_or("{…}")),
            Self::Record { keyword, name, .. } => {
                format!("{} {}", keyword.as_str(), name.as_deref().unwrap_or("{…}"))
            }
            Self::Spelled { text, .. } => text.clone(),
            Self::Int { name, .. } | Self::Float { name, .. } | Self::Typedef { name, .. } => {
                name.clone()
            }
            _ => "void".to_owned(),
        })
    }

    /// Like [`declare`](Self::declare), where `specify` returns the words that stand
    /// before all declarators, for a void, int, float, typedef, enum, record or spelled
    /// type.
    pub(crate) fn declare_with(
        &self,
        declarator: &str,
        specify: &dyn Fn(&CType) -> String,
    ) -> String {
        match self {
            Self::Pointer { target, .. } => {
                let inner = match **target {
                    Self::Array { .. } | Self::Function { .. } => format!("(*{declarator})"),
                    _ => format!("*{declarator}"),
                };
                target.declare_with(&inner, specify)
            }
            Self::Array { element, count } => {
                element.declare_with(&format!("{declarator}[{count}]"), specify)
            }
            Self::Function {
                result,
                parameters,
                variadic,
            } => {
                let parameters = parameters
                    .iter()
                    .map(|parameter| parameter.declare_with("", specify));
                let dots = variadic.then(|| "...".to_owned());
                let list: Vec<String> = parameters.chain(dots).collect();
                let list = match list.as_slice() {
                    [] => "void".to_owned(),
                    some => some.join(", "),
                };
                result.declare_with(&format!("{declarator}({list})"), specify)
            }
            // A qualifier stands before the type, or after the star of the pointer, that
            // it qualifies.
            Self::Qualified { qualifier, target } => match (&**target, declarator) {
                (Self::Pointer { .. }, "") => target.declare_with(qualifier, specify),
                (Self::Pointer { .. }, _) => {
                    target.declare_with(&format!("{qualifier} {declarator}"), specify)
                }
                _ => format!("{qualifier} {}", target.declare_with(declarator, specify)),
            },
            specifier => {
                let words = specify(specifier);
                match declarator {
                    "" => words,
                    // `char[16]`, without a space, as is usual.
                    text if text.starts_with('[') => format!("{words}{text}"),
                    text => format!("{words} {text}"),
                }
            }
        }
    }
}
