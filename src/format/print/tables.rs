//! Facts about fields that print fmts contain: names of values, and bases.

use serde::{Deserialize, Serialize};

use super::conversion::{Conversion, Piece, pieces};
use super::eval::Compiler;
use super::{Expression, PrintFmt};
use crate::machine::{ByteOrder, Machine};

/// The names and the base of a field's values, by a print fmt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FieldPrint {
    /// The names of its bits (`__print_flags`), in the order the kernel tries them.
    pub flags: Vec<NamedValue>,
    /// The names of its values (`__print_symbolic`), in the order the kernel tries
    /// them.
    pub symbols: Vec<NamedValue>,
    /// The base it is printed in: 8, 10 or 16; `None` if it is not a number, or is
    /// printed in several bases.
    pub base: Option<u8>,
    /// Whether it is an address in the kernel's memory: printed by `%p`, `%px`, `%pS`
    /// or `%ps`.
    pub is_kernel_pointer: bool,
}

/// A number and the kernel's name for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NamedValue {
    /// The number, as 64 bits; `None` if the print fmt names it by an enumerator of
    /// unknown value.
    pub value: Option<u64>,
    /// Its name.
    pub name: String,
}

impl FieldPrint {
    /// Returns a word for it: `flags`, `names`, `pointer`, `decimal`, `hex`, `octal`;
    /// `None` if nothing is known.
    pub fn as_str(&self) -> Option<&'static str> {
        Some(match self.base {
            _ if !self.flags.is_empty() => "flags",
            _ if !self.symbols.is_empty() => "names",
            _ if self.is_kernel_pointer => "pointer",
            Some(8) => "octal",
            Some(16) => "hex",
            Some(_) => "decimal",
            None => return None,
        })
    }

    /// Iterates over the names of bits, then those of values.
    pub fn names(&self) -> impl Iterator<Item = &NamedValue> {
        self.flags.iter().chain(&self.symbols)
    }
}

impl PrintFmt {
    /// Returns the names and the base of the field of this name. A value that depends
    /// on an enumerator or on the size of a `long` is `None` here;
    /// [`Tracepoint::field_print`](crate::Tracepoint::field_print) knows both.
    pub fn field(&self, name: &str) -> FieldPrint {
        self.field_with_constants(name, &|_| None, &|| None)
    }

    /// `long_size` is called only if a value depends on the size of a `long`.
    pub(crate) fn field_with_constants(
        &self,
        name: &str,
        constants: &dyn Fn(&str) -> Option<i64>,
        long_size: &dyn Fn() -> Option<u32>,
    ) -> FieldPrint {
        let mut print = FieldPrint::default();
        for argument in &self.arguments {
            argument.visit(&mut |expression| {
                let Expression::Call(function, arguments) = expression else {
                    return;
                };
                let (names, entries) = match function.as_str() {
                    "__print_flags" | "__print_flags_u64" => (&mut print.flags, 2),
                    "__print_symbolic" | "__print_symbolic_u64" => (&mut print.symbols, 1),
                    _ => return,
                };
                let subject = arguments.first().and_then(Expression::masked_field);
                if names.is_empty() && subject == Some(name) {
                    let entries = arguments.get(entries..).unwrap_or_default();
                    *names = table(entries, constants, long_size);
                }
            });
        }
        let mut bases = Vec::new();
        for (conversion, argument) in self.conversions_with_arguments() {
            if argument.only_field() != Some(name) {
                continue;
            }
            match conversion.specifier {
                'd' | 'i' | 'u' => bases.push(10),
                'x' | 'X' => bases.push(16),
                'o' => bases.push(8),
                'p' if matches!(
                    &*conversion.extension,
                    "" | "x" | "S" | "s" | "F" | "f" | "B"
                ) =>
                {
                    print.is_kernel_pointer = true;
                }
                _ => {}
            }
        }
        bases.dedup();
        if let [base] = bases[..] {
            print.base = Some(base);
        }
        print
    }

    /// Iterates over the conversions of the format string, each with the argument it
    /// prints. Conversions without an argument, and arguments that are widths, are left
    /// out.
    fn conversions_with_arguments(&self) -> Vec<(Conversion, &Expression)> {
        let mut arguments = self.arguments.iter();
        let mut found = Vec::new();
        for piece in pieces(&self.format.text()) {
            let Piece::Conversion(conversion) = piece else {
                continue;
            };
            for _ in 0..conversion.stars() {
                arguments.next();
            }
            if let Some(argument) = arguments.next() {
                found.push((conversion, argument));
            }
        }
        found
    }
}

/// Returns the names of a table.
fn table(
    entries: &[Expression],
    constants: &dyn Fn(&str) -> Option<i64>,
    long_size: &dyn Fn() -> Option<u32>,
) -> Vec<NamedValue> {
    // The values do not depend on the byte order.
    let of = |is_64_bit: bool| {
        let compiler = Compiler {
            format: None,
            machine: Machine::new(ByteOrder::NATIVE, is_64_bit),
            constants,
        };
        let table = compiler.table(entries).unwrap_or_default();
        table.into_entries()
    };
    let (mut long, short) = (of(true), of(false));
    if long != short {
        match long_size() {
            Some(8) => {}
            Some(_) => long = short,
            None => {
                for (entry, other) in long.iter_mut().zip(&short) {
                    entry.value = entry.value.filter(|value| other.value == Some(*value));
                }
            }
        }
    }
    // An entry with neither a known value nor a name means nothing.
    long.retain(|entry| entry.value.is_some() || !entry.name.is_empty());
    long
}

impl Expression {
    /// Calls `act` with the expression and each of its parts, from the outside in.
    pub(crate) fn visit<'e>(&'e self, act: &mut impl FnMut(&'e Expression)) {
        act(self);
        match self {
            Self::Unary(_, one)
            | Self::Cast(_, one)
            | Self::Sizeof(one)
            | Self::Designated(_, one) => one.visit(act),
            Self::Member { whole, .. } => whole.visit(act),
            Self::Binary(_, left, right) | Self::Index(left, right) => {
                left.visit(act);
                right.visit(act);
            }
            Self::Conditional {
                condition,
                then,
                otherwise,
            } => {
                condition.visit(act);
                if let Some(then) = then {
                    then.visit(act);
                }
                otherwise.visit(act);
            }
            Self::Call(_, items) | Self::List(items) => {
                items.iter().for_each(|item| item.visit(act));
            }
            _ => {}
        }
    }

    /// Returns the field that the expression is, apart from casts and masks: `REC->f &
    /// 0xff`.
    fn masked_field(&self) -> Option<&str> {
        match self {
            Self::Binary(super::BinaryOperator::And, left, right) => {
                left.masked_field().or_else(|| right.masked_field())
            }
            Self::Cast(_, operand) => operand.masked_field(),
            other => other.only_field(),
        }
    }

    /// Returns the field that the expression is, apart from casts.
    fn only_field(&self) -> Option<&str> {
        match self {
            Self::Field(name) => Some(name),
            Self::Cast(_, operand) => operand.only_field(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: an entry with neither a value nor a name was listed.
    #[test]
    fn an_unknown_value_without_a_name_is_none() {
        let print = PrintFmt::parse(
            r#""%s", __print_symbolic(REC->x, { 7to"" }, { Y, "" }, { 0, "" }, { Y, "y" })"#,
        )
        .expect("a print fmt");
        let symbols = print.field("x").symbols;
        let told: Vec<(Option<u64>, &str)> =
            symbols.iter().map(|it| (it.value, &*it.name)).collect();
        assert_eq!(told, [(Some(0), ""), (None, "y")]);
    }

    #[test]
    fn what_is_told_of_fields() {
        let print = PrintFmt::parse(
            r#""%s %s 0x%x %d %x %pS %o %.*s", REC->state ? __print_flags((long)REC->state & 0xff, "|", { 1 << 0, "S" }, { MODE, "M" }, { 0, NULL }) : "R", __print_symbolic(REC->kind, { -1, "none" }, { A | 4, "a" }), REC->hex, REC->both, REC->both, (void *)REC->ip, REC->mode, REC->len, __get_str(text)"#,
        )
        .expect("a print fmt");
        let constants = |name: &str| (name == "A").then_some(3);
        let field = |name| print.field_with_constants(name, &constants, &|| None);
        let named = |value, name: &str| NamedValue {
            value,
            name: name.to_owned(),
        };
        assert_eq!(
            field("state").flags,
            [named(Some(1), "S"), named(None, "M")]
        );
        assert_eq!(
            field("kind").symbols,
            [named(Some(u64::MAX), "none"), named(Some(7), "a")]
        );
        let words = ["state", "kind", "hex", "both", "ip", "mode", "len", "text"]
            .map(|name| field(name).as_str());
        let expected = [
            Some("flags"),
            Some("names"),
            Some("hex"),
            None,
            Some("pointer"),
            Some("octal"),
            None,
            None,
        ];
        assert_eq!(words, expected);
    }
}
