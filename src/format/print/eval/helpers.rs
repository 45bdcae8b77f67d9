//! Helpers that print fmts call: those of ftrace, and of the kernel's headers.

use super::super::{BinaryOperator, Expression, UnaryOperator};
use super::{CValue, Cast, Compiler, Node, Printed};
use crate::machine::ByteOrder;

const SIGNED_64: Cast = Cast::Integer {
    size: 8,
    signed: true,
};

impl Compiler<'_> {
    pub(super) fn call(&self, function: &str, arguments: &[Expression]) -> Option<Node> {
        let argument = |index: usize| arguments.get(index);
        let node = |index: usize| argument(index).map(|argument| self.node(argument));
        let is_64_bit = function.ends_with("_u64");
        Some(match function {
            "__get_str"
            | "__get_rel_str"
            | "__get_dynamic_array"
            | "__get_rel_dynamic_array"
            | "__get_sockaddr"
            | "__get_rel_sockaddr"
            | "__get_buf" => Node::Located(self.dynamic(argument(0)?)?),
            "__get_dynamic_array_len" | "__get_rel_dynamic_array_len" => {
                Node::LocatedLength(self.dynamic(argument(0)?)?)
            }
            "__get_bitmask" | "__get_cpumask" | "__get_rel_bitmask" | "__get_rel_cpumask" => {
                let data = Node::Located(self.dynamic(argument(0)?)?);
                Node::Printed(Box::new(Printed::Bitmask { data }))
            }
            "__print_flags" | "__print_flags_u64" => Node::Printed(Box::new(Printed::Flags {
                value: node(0)?,
                delimiter: match node(1)?.constant(self.machine) {
                    CValue::Text(text) => text.to_owned(),
                    // NULL.
                    CValue::Integer { bits: 0, .. } => String::new(),
                    _ => return None,
                },
                names: self.table(arguments.get(2..)?)?,
                is_long: !is_64_bit,
            })),
            "__print_symbolic" | "__print_symbolic_u64" => {
                Node::Printed(Box::new(Printed::Symbol {
                    value: node(0)?,
                    names: self.table(arguments.get(1..)?)?,
                    is_long: !is_64_bit,
                }))
            }
            "__print_hex" | "__print_hex_str" => Node::Printed(Box::new(Printed::Hex {
                data: node(0)?,
                length: node(1)?,
                separated: function == "__print_hex",
            })),
            "__print_array" => Node::Printed(Box::new(Printed::Array {
                data: node(0)?,
                count: Some(node(1)?),
                element: node(2)?,
            })),
            "__print_dynamic_array" => Node::Printed(Box::new(Printed::Array {
                data: Node::Located(self.dynamic(argument(0)?)?),
                count: None,
                element: node(1)?,
            })),
            "__print_ns_to_secs" => self.quotient(BinaryOperator::Divide, node(0)?, 8),
            "__print_ns_without_secs" => self.quotient(BinaryOperator::Remainder, node(0)?, 4),
            // s64, divided as by ktime_divns(): rounded toward zero.
            "ktime_to_ns" => Node::Cast(SIGNED_64, Box::new(node(0)?)),
            "ktime_to_us" => self.divided(node(0)?, 1_000),
            "ktime_to_ms" => self.divided(node(0)?, 1_000_000),
            "__builtin_bswap16" | "__fswab16" | "__swab16" => Node::Swap(2, Box::new(node(0)?)),
            "__builtin_bswap32" | "__fswab32" | "__swab32" => Node::Swap(4, Box::new(node(0)?)),
            "__builtin_bswap64" | "__fswab64" | "__swab64" => Node::Swap(8, Box::new(node(0)?)),
            "__builtin_expect" => {
                let long = Cast::Integer {
                    size: self.machine.long_size() as u8,
                    signed: true,
                };
                Node::Cast(long, Box::new(node(0)?))
            }
            "__le16_to_cpup" | "__le32_to_cpup" | "__le64_to_cpup" | "__be16_to_cpup"
            | "__be32_to_cpup" | "__be64_to_cpup" => self.to_cpup(function, node(0)?)?,
            "str_plural" => {
                let one = Node::Integer {
                    bits: 1,
                    size: 4,
                    signed: true,
                };
                let is_one = Node::Binary(BinaryOperator::Equal, Box::new(node(0)?), Box::new(one));
                Node::Choice(Box::new(is_one), "", "s")
            }
            _ => {
                let (yes, no) = words(function)?;
                Node::Choice(Box::new(node(0)?), yes, no)
            }
        })
    }

    /// Converts a time in nanoseconds to a larger unit.
    fn divided(&self, value: Node, by: u64) -> Node {
        let by = Node::Integer {
            bits: by,
            size: 8,
            signed: true,
        };
        let value = Box::new(Node::Cast(SIGNED_64, Box::new(value)));
        Node::Binary(BinaryOperator::Divide, value, Box::new(by))
    }

    /// Returns the seconds of a time in nanoseconds, or the rest.
    fn quotient(&self, operator: BinaryOperator, value: Node, size: u8) -> Node {
        let unsigned = |size| Cast::Integer {
            size,
            signed: false,
        };
        let second = Node::Integer {
            bits: 1_000_000_000,
            size: 8,
            signed: false,
        };
        let value = Box::new(Node::Cast(unsigned(8), Box::new(value)));
        let quotient = Node::Binary(operator, value, Box::new(second));
        Node::Cast(unsigned(size), Box::new(quotient))
    }

    fn to_cpup(&self, function: &str, pointer: Node) -> Option<Node> {
        let size: u8 = match function.get(4..6)? {
            "16" => 2,
            "32" => 4,
            _ => 8,
        };
        let order = match function.starts_with("__be") {
            true => ByteOrder::Big,
            false => ByteOrder::Little,
        };
        let cast = Cast::Pointer {
            size: self.machine.long_size() as u8,
            element: size.into(),
            signed: false,
        };
        let pointer = Box::new(Node::Cast(cast, Box::new(pointer)));
        let value = Box::new(Node::Unary(UnaryOperator::Dereference, pointer));
        Some(match order == self.machine.byte_order() {
            true => *value,
            false => Node::Swap(size, value),
        })
    }
}

/// Returns the two words, for true and false, of a helper in the kernel's
/// `include/linux/string_choices.h`.
fn words(function: &str) -> Option<(&'static str, &'static str)> {
    Some(match function {
        "str_yes_no" => ("yes", "no"),
        "str_no_yes" => ("no", "yes"),
        "str_on_off" => ("on", "off"),
        "str_off_on" => ("off", "on"),
        "str_true_false" => ("true", "false"),
        "str_false_true" => ("false", "true"),
        "str_enable_disable" => ("enable", "disable"),
        "str_disable_enable" => ("disable", "enable"),
        "str_enabled_disabled" => ("enabled", "disabled"),
        "str_disabled_enabled" => ("disabled", "enabled"),
        "str_read_write" => ("read", "write"),
        "str_write_read" => ("write", "read"),
        "str_up_down" => ("up", "down"),
        "str_down_up" => ("down", "up"),
        "str_hi_lo" => ("hi", "lo"),
        "str_lo_hi" => ("lo", "hi"),
        "str_high_low" => ("high", "low"),
        "str_low_high" => ("low", "high"),
        "str_input_output" => ("input", "output"),
        "str_output_input" => ("output", "input"),
        "str_assert_deassert" => ("assert", "deassert"),
        "str_deassert_assert" => ("deassert", "assert"),
        _ => return None,
    })
}
