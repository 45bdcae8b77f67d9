//! The C declaration of a field: its parts are parts of it, and a format file with
//! it has the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracepoints::format::{Declaration, Format};
use tracepoints_fuzz::{format_laws, is_plain};

fuzz_target!(|data: &[u8]| {
    // The size of the field, then its declaration.
    let Some((&size, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let Some(declaration) = Declaration::parse(text) else {
        return;
    };
    assert_eq!(declaration.text(), text);
    is_plain(text);
    let name = declaration.name();
    assert!(name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_'));
    assert!(name.bytes().next().is_some_and(|c| !c.is_ascii_digit()));
    let type_text = declaration.type_text();
    let behind = text.strip_prefix(type_text).expect("the type is first");
    let behind = behind
        .trim_start()
        .strip_prefix(name)
        .expect("then the name");
    match declaration.array() {
        Some(array) if !behind.is_empty() => assert_eq!(behind, format!("[{array}]")),
        Some(array) => assert!(type_text.ends_with(&format!("[{array}]"))),
        None => assert_eq!(behind, ""),
    }
    assert!(declaration.pointer_depth() <= text.matches('*').count());
    assert!(!declaration.base_type().contains(['*', '[', '(']));
    for attribute in declaration.attributes() {
        assert!(type_text.contains(attribute));
    }

    let file = format!(
        "name: x\nID: 1\nformat:\n\n\tfield:{text};\toffset:8;\tsize:{size};\tsigned:0;\n\nprint fmt: \"\"\n"
    );
    let format = Format::parse(&file).expect("a declaration can be a field's");
    format_laws(&file, &format);
    assert_eq!(format.fields()[0].declaration(), &declaration);
});
