//! Shapes of print fmts that kernels ship and that are not plain C, or need more than the
//! record: each is evaluated, or marked as not known.

use super::{BIG_32, LITTLE, format, names, renderer, text, text_on, told};
use tracepoints::format::print::{PrintFmt, PrintFmtError};

#[test]
fn quotes_in_the_format_string() {
    for (print, expected) in [
        (
            r#""kind="%d" flags=%u", REC->kind, REC->flags"#,
            "kind=\"-1\" flags=5",
        ),
        (r#""%d "%u"", REC->kind, REC->flags"#, "-1 \"5\""),
        (r#"""%d"", REC->kind"#, "\"-1\""),
        (r#""a "b" c""#, "a \"b\" c"),
        (
            r#""is "%s", so", REC->kind < 0 ? "less" : "not", less""#,
            "",
        ),
        (
            r#""is "%s", %u", REC->kind < 0 ? "less" : "more", REC->flags"#,
            "is \"less\", 5",
        ),
        // A backslash is one, since nothing is escaped.
        (r#""\"%d"", REC->kind"#, "\\\"-1\""),
    ] {
        match expected {
            "" => {
                PrintFmt::parse(print).expect_err(print);
            }
            expected => assert_eq!(text(print, 5, -1), expected, "{print}"),
        }
    }
}

/// More than one quote may be the end, or none: then it is not understood.
#[test]
fn quotes_of_which_none_is_surely_the_end() {
    for print in [
        r#""a"%d", 1, "b"%d", 2"#,
        r#""a"%d%d", 1"#,
        r#""a"b", 1"#,
        r#""a"%d", 1, "#,
    ] {
        let error = PrintFmt::parse(print).expect_err(print);
        assert!(matches!(error, PrintFmtError::Syntax { .. }), "{print}");
    }
}

#[test]
fn a_print_fmt_with_quotes_is_written_as_c() {
    let print = PrintFmt::parse(r#""a="%d" \b", REC->kind"#).expect("a print fmt");
    assert_eq!(print.format().text(), r#"a="%d" \b"#);
    assert_eq!(print.to_string(), r#""a=\"%d\" \\b", REC->kind"#);
    assert_eq!(PrintFmt::parse(&print.to_string()), Ok(print));
}

/// As of `applespi:applespi_irq_received`.
#[test]
fn a_string_in_place_of_tp_printk() {
    for (print, expected) in [("\n", ""), ("so\\n it is\n", "so\\n it is")] {
        let parsed = PrintFmt::parse(print).expect(print);
        assert_eq!(parsed.format().text(), expected);
        assert_eq!(PrintFmt::parse(&parsed.to_string()), Ok(parsed));
        assert_eq!(text(print, 5, -1), expected);
    }
    for other in ["so", "%d\n", ""] {
        PrintFmt::parse(other).expect_err(other);
    }
}

#[test]
fn designated_initialisers() {
    // As of hrtimers before Linux 4.10.
    let print = r#""%llu %lld", (unsigned long long)(((ktime_t) { .tv64 = REC->flags }).tv64), ((union ktime){.tv64 = (REC->kind)}).tv64"#;
    assert_eq!(text(print, 5, -1), "5 -1");
    let print = PrintFmt::parse(print).expect("a print fmt");
    assert_eq!(PrintFmt::parse(&print.to_string()), Ok(print));
    // The types of other members are not known.
    for other in [
        "((ktime_t) { .tv64 = REC->kind }).other",
        "((struct x) { .tv64 = REC->kind }).tv64",
        "((ktime_t) { .a = 1, .tv64 = REC->kind }).tv64",
    ] {
        let shown = text(&format!("\"%d\", {other}"), 5, -1);
        assert!(shown.starts_with('<'), "{shown}");
    }
}

#[test]
fn sizes_of_anonymous_structs() {
    let zero = "((int)(sizeof(struct { int:(-!!(__builtin_types_compatible_p(typeof((REC->words)), typeof(&(REC->words)[0])))); })))";
    let assertion = "((int)sizeof(struct {_Static_assert(!(0), \"must be; array\");}))";
    for none in [zero, assertion] {
        let print = format!("\"%zu\", (sizeof(REC->words) / sizeof((REC->words)[0]) + {none})");
        assert_eq!(text(&print, 5, -1), "3", "{none}");
    }
    let print = "\"%s\", __print_array(REC->words, 1 + ((int)sizeof(struct {int: -!!(0);})), 2)";
    assert_eq!(text(print, 5, -1), "{0x1}");
    for other in ["struct { int a; }", "struct { int:3; }", "struct x"] {
        let shown = text(&format!("\"%d\", sizeof({other})"), 5, -1);
        assert!(shown.starts_with("<sizeof("), "{shown}");
    }
}

/// `ilog2()` of a constant is as deep as this.
#[test]
fn conditionals_63_deep() {
    let chain = |open: &str, close: &str| {
        let mut text = "-1".to_owned();
        for bit in 0..63 {
            text = format!("(REC->flags) & (1ULL << {bit}) ? {bit} : {open}{text}{close}");
        }
        format!("\"%d\", ({text})")
    };
    for print in [chain("", ""), chain("(", ")")] {
        assert_eq!(text(&print, 0x80, -1), "7");
        assert_eq!(text(&print, 0, -1), "-1");
    }
}

#[test]
fn tables_that_end_with_a_plain_zero() {
    for end in [
        "{ -1, 0 }",
        "{ -1, NULL }",
        "{ 0, ((void *)0) }",
        "{ (-1), 0UL }",
    ] {
        let print = format!(
            "\"%s\", __print_symbolic(REC->kind, {{ 0, \"ZERO\" }}, {{ 2, \"TWO\" }}, {end}, {{ 3, \"THREE\" }})"
        );
        assert_eq!(text(&print, 5, 2), "TWO", "{end}");
        assert_eq!(text(&print, 5, 3), "0x3", "{end}");
        assert_eq!(names(&told(&print, "kind")), "ZERO=0x0 TWO=0x2", "{end}");
    }
}

#[test]
fn common_fields_by_their_struct() {
    let print = r#""pid=%d type=%u", REC->ent.pid, REC->ent.type"#;
    assert_eq!(text(print, 5, -1), "pid=7 type=0");
    assert_eq!(text(r#""%d", REC->ent.other"#, 5, -1), "<REC->ent.other>");
}

/// 32-bit kernels have the helper for 64-bit values expanded.
#[test]
fn expanded_helpers() {
    let symbols = r#""%s", ({ static const struct trace_print_flags_u64 symbols[] = { { 5ULL, "five" }, { -9ULL, "nine" } }; trace_print_symbols_seq_u64(p, REC->flags, symbols, (sizeof(symbols) / sizeof((symbols)[0]) + ((int)sizeof(struct {_Static_assert(1, "must be array");})))); })"#;
    let flags = r#""%s", ({ static const struct trace_print_flags_u64 __flags[] = { { (1ULL << 0), "one" }, { 4, "four" }, { -1, ((void *)0) } }; trace_print_flags_seq_u64(p, "+", REC->flags, __flags); })"#;
    for (print, expected, shown) in [
        (symbols, "five=0x5 nine=0xfffffffffffffff7", "five"),
        (flags, "one=0x1 four=0x4", "one+four"),
    ] {
        assert_eq!(text_on(BIG_32, print, 5, -1), shown);
        assert_eq!(text_on(LITTLE, print, 5, -1), shown);
        assert_eq!(names(&told(print, "flags")), expected);
        let print = PrintFmt::parse(print).expect("a print fmt");
        assert_eq!(PrintFmt::parse(&print.to_string()), Ok(print));
    }
    // What is not the expansion stays as it is written.
    for other in [
        symbols.replace("symbols, (", "other, ("),
        symbols.replace("_seq_u64", "_seq"),
        symbols.replace("; })", "; 1; })"),
    ] {
        let shown = text(&other, 5, -1);
        assert!(shown.starts_with("<({ static"), "{shown}");
    }
}

/// The kernel knows the value of an enumerator that is left in the text; where it may
/// decide what is printed, the whole value is marked.
#[test]
fn enumerators_of_unknown_value() {
    let flags = r#""%s", __print_flags(REC->flags, "|", { 1, "ONE" }, { HARD, "HARD" }, { KNOWN, "FOUR" })"#;
    for (value, expected) in [
        (0, ""),
        // Nothing is left when the unknown flag is tried.
        (1, "ONE"),
        (4, "<0x4>"),
        (9, "<0x9>"),
    ] {
        assert_eq!(text(flags, value, 0), expected, "{value}");
    }
    let symbols =
        r#""%s", __print_symbolic(REC->kind, { 1, "ONE" }, { REL, "REL" }, { KNOWN, "FOUR" })"#;
    for (value, expected) in [(1, "ONE"), (2, "<0x2>"), (4, "<0x4>")] {
        assert_eq!(text(symbols, 0, value), expected, "{value}");
    }
    assert_eq!(names(&told(symbols, "kind")), "ONE=0x1 REL=? FOUR=?");
    for (print, expected) in [(flags, "{ HARD, \"HARD\" }"), (symbols, "{ REL, \"REL\" }")] {
        let format = format(print);
        assert_eq!(renderer(&format, LITTLE).unknown(), [expected]);
    }
}

#[test]
fn helpers_of_drivers_are_marked() {
    for call in [
        "jbd2_dev_to_name(REC->flags)",
        "scsi_trace_parse_cdb(p, REC->words, 6)",
        "some_names[REC->kind]",
        "({ char *s = \")\"; s; })",
    ] {
        let shown = text(&format!("\"%s %d\", {call}, REC->kind"), 5, 3);
        assert!(shown.starts_with('<') && shown.ends_with("> 3"), "{shown}");
    }
}
