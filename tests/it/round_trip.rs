//! A format file that is read and written again has the same bytes.

use std::fs;
use std::path::Path;

use crate::support;
use proptest::prelude::*;
use tracepoints::Kernel;
use tracepoints::format::{FieldKind, Format};

/// Reads and writes every format file of a kernel. Returns their number.
fn check(root: &Path) -> usize {
    let kernel = Kernel::at(root).expect("a kernel");
    let names = kernel.event_directories().expect("events");
    for name in &names {
        let path = root
            .join("tracing/events")
            .join(name.category())
            .join(name.event());
        let text = fs::read_to_string(path.join("format")).expect("a format file");
        let format = Format::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(format.to_string(), text, "{name}");
        // The id files of ftrace:* are empty.
        if name.category() != "ftrace" {
            let id = fs::read_to_string(path.join("id")).expect("an id file");
            assert_eq!(format.id(), id.trim().parse().ok(), "{name}");
        }
        for field in format
            .fields()
            .iter()
            .filter(|field| field.kind() == FieldKind::Array)
        {
            let elements = field.element_size().zip(field.element_count());
            assert!(
                elements.is_none_or(|(size, count)| size * count == field.size()),
                "{name}: {field}"
            );
        }
    }
    names.len()
}

#[test]
fn of_every_fixture() {
    let files: usize = support::fixtures().iter().map(|root| check(root)).sum();
    assert_eq!(files, 568);
}

#[test]
fn of_every_whole_kernel() {
    for root in support::corpus() {
        let files = check(&root);
        println!("{}: {files} format files", support::name(&root));
    }
}

/// A field line, as a kernel may write one, its name behind a prefix.
fn field(prefix: &'static str) -> impl Strategy<Value = String> {
    let c_type = prop_oneof![
        "(const )?(unsigned )?(int|long|char|u64|pid_t)( \\*){0,3}",
        "__(data|rel)_loc (char|u32|unsigned long)\\[\\]",
        "__data_loc char\\[\\]\\[[1-9]\\]",
        "(char|unsigned char|u16) ?\\[[0-9]{1,2}\\]",
        "struct [a-z_]{1,8}( \\*)?",
        "void __seg_gs \\*",
    ];
    let bracket = prop_oneof![
        Just(String::new()),
        "\\[[0-9]{1,3}\\]",
        "\\[\\(sizeof\\(struct [a-z]{1,5}\\) / [0-9]\\)\\]",
        "\\[[A-Z_]{1,6}\\[[0-9]\\]\\]",
    ];
    let signed = prop_oneof![Just(""), Just("\tsigned:0;"), Just("\tsigned:1;")];
    (
        c_type,
        "[a-z_][a-z0-9_]{0,8}",
        bracket,
        any::<u32>(),
        any::<u32>(),
        signed,
    )
        .prop_map(move |(c_type, name, bracket, offset, size, signed)| {
            format!("\tfield:{c_type} {prefix}{name}{bracket};\toffset:{offset};\tsize:{size};{signed}\n")
        })
}

prop_compose! {
    fn format_file()(
        name in "[a-z_][a-z0-9_-]{0,12}",
        id in any::<u32>(),
        common in prop::collection::vec(field("common_"), 0..5),
        own in prop::collection::vec(field(""), 0..8),
        print_fmt in "\"[ -~\n]{0,60}\"[ -~\n]{0,60}",
        ending in 0..4,
    ) -> String {
        let (common_text, own_text) = (common.concat(), own.concat());
        let head = format!("name: {name}\nID: {id}\nformat:\n{common_text}\n");
        match ending {
            // Linux before 3.11, and remote events.
            0 if own.is_empty() && !common.is_empty() => head,
            1 if own.is_empty() && !common.is_empty() => format!("{head}print fmt: {print_fmt}\n"),
            _ => format!("{head}{own_text}\nprint fmt: {print_fmt}\n"),
        }
    }
}

/// A file whose tabs a terminal made spaces.
fn pasted(text: &str, width: usize) -> String {
    let (head, print_fmt) = match text.find("\nprint fmt: ") {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    head.replace('\t', &" ".repeat(width)) + print_fmt
}

proptest! {
    #[test]
    fn of_any_file_a_kernel_may_write(text in format_file()) {
        let format = Format::parse(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(format.to_string(), text);
    }

    /// The same file is read when it was pasted, and its repairs are reported.
    #[test]
    fn of_any_file_that_was_pasted(text in format_file(), width in 1usize..9) {
        let format = Format::parse(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        // White space at the end of a print fmt is not pasted.
        prop_assume!(format.print_fmt() == format.print_fmt().trim());
        let pasted = pasted(&text, width);
        let read = Format::parse_tolerant(&pasted);
        let read = read.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(read.to_string(), &*text);
        prop_assert_eq!(read.repairs().is_empty(), pasted == text);
    }

    /// Any text that is accepted is written back byte for byte.
    #[test]
    fn of_any_damaged_file(text in format_file(), at in any::<prop::sample::Index>(), with in "[ -~\n\té]{0,3}") {
        let mut at = at.index(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let damaged = format!("{}{with}{}", &text[..at], text[at..].chars().skip(1).collect::<String>());
        if let Ok(format) = Format::parse(&damaged) {
            prop_assert_eq!(format.to_string(), damaged);
        }
    }
}
