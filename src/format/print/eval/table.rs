//! Tables of names: those of `__print_flags()` and `__print_symbolic()`.

use super::super::{Expression, NamedValue};
use super::{CValue, Compiler};

/// The entries of a table, in the order the kernel tries them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    entries: Vec<NamedValue>,
    /// The entries of unknown value, as written in the print fmt.
    unknown: Vec<String>,
}

impl Table {
    pub(crate) fn entries(&self) -> &[NamedValue] {
        &self.entries
    }

    pub(crate) fn into_entries(self) -> Vec<NamedValue> {
        self.entries
    }

    pub(super) fn unknown(&self) -> impl Iterator<Item = &str> {
        self.unknown.iter().map(String::as_str)
    }
}

impl Compiler<'_> {
    /// Returns the entries of a table; `None` if these expressions are not a table, or
    /// a name in it is not known.
    pub(crate) fn table(&self, entries: &[Expression]) -> Option<Table> {
        // Braces around all entries are part of the table.
        let entries = match entries {
            [Expression::List(items)] if matches!(items.first(), Some(Expression::List(_))) => {
                items
            }
            entries => entries,
        };
        let mut table = Table::default();
        for entry in entries {
            let Expression::List(items) = entry else {
                return None;
            };
            let [value, name] = &items[..] else {
                return None;
            };
            let name = match self.node(name).constant(self.machine) {
                CValue::Text(name) => name.to_owned(),
                // `{ -1, NULL }` or `{ -1, 0 }` ends the table.
                CValue::Integer { bits: 0, .. } => break,
                _ => return None,
            };
            let number = match self.node(value).constant(self.machine) {
                CValue::Integer { bits, .. } => Some(bits),
                _ => None,
            };
            if number.is_none() {
                table.unknown.push(entry.to_string());
            }
            table.entries.push(NamedValue {
                value: number,
                name,
            });
        }
        Some(table)
    }
}
