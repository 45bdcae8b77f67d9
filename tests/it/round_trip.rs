//! Reading a format file and writing it again gives the same bytes.

use std::fs;
use std::path::Path;

use crate::support;
use proptest::prelude::*;
use tracepoints::Kernel;
use tracepoints::format::{FieldKind, Format};

/// Reads and writes every format file of a kernel; says how many.
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
            assert_eq!(format.id().to_string(), id.trim(), "{name}");
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

/// A field line, as a kernel may write one.
fn field() -> impl Strategy<Value = String> {
    let c_type = prop_oneof![
        "(const )?(unsigned )?(int|long|char|u64|pid_t)( \\*){0,3}",
        "__(data|rel)_loc (char|u32|unsigned long)\\[\\]",
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
        .prop_map(|(c_type, name, bracket, offset, size, signed)| {
            format!("\tfield:{c_type} {name}{bracket};\toffset:{offset};\tsize:{size};{signed}\n")
        })
}

prop_compose! {
    fn format_file()(
        name in "[a-z_][a-z0-9_-]{0,12}",
        id in any::<u32>(),
        common in prop::collection::vec(field(), 0..5),
        own in prop::collection::vec(field(), 0..8),
        print_fmt in "\"[ -~\n]{0,60}\"[ -~\n]{0,60}",
    ) -> String {
        format!(
            "name: {name}\nID: {id}\nformat:\n{}\n{}\nprint fmt: {print_fmt}\n",
            common.concat(),
            own.concat()
        )
    }
}

proptest! {
    #[test]
    fn of_any_file_a_kernel_may_write(text in format_file()) {
        let format = Format::parse(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(format.to_string(), text);
    }

    /// What is accepted is written back, whatever it was.
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
