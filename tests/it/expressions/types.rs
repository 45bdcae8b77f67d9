//! C's types, promotions and conversions.

use super::{BIG_32, LITTLE, names, text_on, told};

/// Expressions and what they are, printed by `%lld`, with a `long` of 8 and of 4 bytes.
const VALUES: &[(&str, &str, &str)] = &[
    ("((int)(~0U >> 1))", "2147483647", "2147483647"),
    ("~0U", "4294967295", "4294967295"),
    ("~0UL", "-1", "4294967295"),
    ("(u8)-1", "255", "255"),
    ("(s8)0xff", "-1", "-1"),
    ("(char)65", "65", "65"),
    (
        "(char)0x1c8",
        "<a char above 127: its sign is not known>",
        "<a char above 127: its sign is not known>",
    ),
    ("(signed char)200", "-56", "-56"),
    ("(unsigned char)200", "200", "200"),
    ("-1 < 0U", "0", "0"),
    ("(u8)1 - (u8)2", "-1", "-1"),
    ("(unsigned short)-1 + 1", "65536", "65536"),
    ("2147483648", "2147483648", "2147483648"),
    ("0xffffffff + 1", "0", "0"),
    ("-7 / 2", "-3", "-3"),
    ("-7 % 4", "-3", "-3"),
    ("-1 >> 4", "-1", "-1"),
    ("(1 << 31) >> 31", "-1", "-1"),
    ("(1U << 31) >> 31", "1", "1"),
    ("(bool)256", "1", "1"),
    ("!5 + !0", "1", "1"),
    ("'a' + 1", "98", "98"),
    ("sizeof(int)", "4", "4"),
    ("sizeof(long)", "8", "4"),
    ("sizeof(struct page *)", "8", "4"),
    ("sizeof((u8)1)", "1", "1"),
    ("sizeof(1 ? (u8)1 : (u8)1)", "4", "4"),
    // The type of a conditional is that of both sides.
    ("1 ? -1 : 0U", "4294967295", "4294967295"),
    ("1 ? -1 : 0LL", "-1", "-1"),
    ("(1 ? -1 : 0UL) > 0", "1", "1"),
    ("0 ?: 3", "3", "3"),
    ("KNOWN | 1", "5", "5"),
    ("NEGATIVE", "-2", "-2"),
    ("1 / 0", "<a division by zero>", "<a division by zero>"),
    ("(some_t)1", "<((some_t)(1))>", "<((some_t)(1))>"),
    ("(sector_t)1", "1", "<((sector_t)(1))>"),
    ("UNKNOWN + 1", "<UNKNOWN>", "<UNKNOWN>"),
];

#[test]
fn values_have_cs_types() {
    for (expression, on_64_bit, on_32_bit) in VALUES {
        let print = format!("\"%lld\", {expression}");
        assert_eq!(text_on(LITTLE, &print, 0, 0), *on_64_bit, "{expression}");
        assert_eq!(text_on(BIG_32, &print, 0, 0), *on_32_bit, "{expression}");
    }
}

/// The evaluator of tables is the one of texts: the same expressions, as a table's value.
#[test]
fn tables_have_the_same_values() {
    for (expression, on_64_bit, on_32_bit) in VALUES {
        let print = format!("\"%s\", __print_symbolic(REC->kind, {{ {expression}, \"x\" }})");
        let told = told(&print, "kind");
        let value = told.symbols.first().and_then(|named| named.value);
        // Without enumerators, and where a `long` may have either size.
        let has_name = expression.contains("KNOWN") || *expression == "NEGATIVE";
        let expected = match on_64_bit == on_32_bit && !has_name {
            true => on_64_bit.parse::<i64>().ok().map(|value| value as u64),
            false => None,
        };
        assert_eq!(value, expected, "{expression}");
    }
}

#[test]
fn record_fields_have_their_types() {
    for (expression, expected) in [
        ("REC->kind < 0", "1"),
        ("REC->kind < REC->flags", "0"),
        ("REC->kind + 1", "0"),
        ("(u16)REC->kind", "65535"),
        ("REC->words[1] - 3", "-1"),
        ("*REC->words", "1"),
        ("sizeof(REC->words) / sizeof((REC->words)[0])", "3"),
        ("sizeof(REC->kind)", "4"),
        ("ktime_to_us(REC->kind * 2500LL)", "-2"),
        ("ktime_to_ms(REC->flags)", "0"),
        ("ktime_to_ns(REC->kind)", "-1"),
    ] {
        let print = format!("\"%lld\", {expression}");
        assert_eq!(text_on(LITTLE, &print, 5, -1), expected, "{expression}");
        assert_eq!(text_on(BIG_32, &print, 5, -1), expected, "{expression}");
    }
}

#[test]
fn names_of_bits_and_values() {
    let print = r#""%s %s", __print_flags(REC->flags, "|", { sizeof(int), "four" }, { 1 ? 2 : 8, "two" }, { -1, NULL }, { 1, "after" }), __print_symbolic(REC->kind, { ((int)(~0U >> 1)), "most" }, { -1, "none" })"#;
    assert_eq!(names(&told(print, "flags")), "four=0x4 two=0x2");
    assert_eq!(
        names(&told(print, "kind")),
        "most=0x7fffffff none=0xffffffffffffffff"
    );
    for machine in [LITTLE, BIG_32] {
        assert_eq!(text_on(machine, print, 6, -1), "four|two none");
        assert_eq!(text_on(machine, print, 9, i32::MAX), "0x9 most");
    }
}
