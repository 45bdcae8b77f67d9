//! `docs/unsafe.md` lists exactly the `unsafe` in the source.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use walkdir::WalkDir;

/// A file, and the function or `impl` that contains `unsafe`.
type Place = (String, String);

/// A source line without its comments, strings and brackets in character literals.
fn code(line: &str) -> String {
    let mut code = String::new();
    let mut characters = line.chars().peekable();
    let mut in_string = false;
    while let Some(character) = characters.next() {
        match (in_string, character) {
            (true, '\\') => drop(characters.next()),
            (_, '"') => in_string = !in_string,
            (false, '/') if characters.peek() == Some(&'/') => break,
            (false, '\'') if matches!(characters.peek(), Some('"' | '{' | '}' | '\\')) => {
                // A character literal that would be read as a string or a bracket.
                characters.by_ref().find(|next| *next == '\'');
            }
            (false, character) => code.push(character),
            (true, _) => {}
        }
    }
    code
}

fn has_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|one| one == word)
}

/// How often `unsafe` occurs at each place, and the number of lines: of a block all up to
/// its closing bracket, of a function or `impl` the first.
fn found() -> (BTreeMap<Place, usize>, usize) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut places, mut lines) = (BTreeMap::new(), 0);
    for directory in ["src", "tests", "examples", "benches"] {
        for entry in WalkDir::new(root.join(directory)) {
            let entry = entry.expect("an entry");
            if entry.path().extension().is_none_or(|end| end != "rs") {
                continue;
            }
            let file = entry.path().strip_prefix(root).expect("inside");
            let text = fs::read_to_string(entry.path()).expect("a file");
            let (mut item, mut depth) = (String::new(), 0);
            for code in text.lines().map(code) {
                let words: Vec<&str> = code.split_whitespace().collect();
                let after = |word| words.iter().skip_while(|one| **one != word).nth(1);
                if let Some(name) = after("fn") {
                    item = name.split(['(', '<']).next().unwrap_or(name).to_owned();
                } else if words.contains(&"impl") {
                    item = code.trim().trim_end_matches(['{', '}', ' ']).to_owned();
                }
                let brackets = |code: &str| {
                    code.matches('{').count() as i64 - code.matches('}').count() as i64
                };
                if depth > 0 {
                    lines += 1;
                    depth = (depth + brackets(&code)).max(0);
                }
                if has_word(&code, "unsafe") {
                    let count = code.matches("unsafe").count();
                    let place = (file.display().to_string(), item.clone());
                    *places.entry(place).or_insert(0) += count;
                    if depth == 0 {
                        lines += 1;
                        let is_block = code.contains("unsafe {");
                        let rest = code.find("unsafe").map_or("", |at| &code[at..]);
                        depth = if is_block { brackets(rest).max(0) } else { 0 };
                    }
                }
            }
        }
    }
    (places, lines)
}

/// The table's rows: ``| `file` | `item` | how many | …``.
fn listed(document: &str) -> BTreeMap<Place, usize> {
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let rows = rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim()).collect();
        let [_, file, item, count, ..] = cells[..] else {
            panic!("{row}");
        };
        let plain = |cell: &str| cell.trim_matches('`').to_owned();
        let count = count.parse().expect("a number");
        ((plain(file), plain(item)), count)
    });
    rows.collect()
}

#[test]
fn the_document_lists_all_unsafe_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/unsafe.md");
    let document = fs::read_to_string(path).expect("docs/unsafe.md");
    let (places, lines) = found();
    assert_eq!(places, listed(&document));
    let count: usize = places.values().sum();
    let sentence = format!("{count} times, in {lines} lines");
    assert!(
        document.contains(&sentence),
        "not in the document: {sentence}"
    );
}

#[test]
fn what_is_taken_for_unsafe_code() {
    for (line, expected) in [
        ("let a = unsafe { b() };", true),
        ("unsafe fn bpf() {", true),
        ("    \"unsafe {{ text }}\"", false),
        ("// unsafe { a }", false),
        ("#![allow(unsafe_code)]", false),
        ("'\"', unsafe { '{' } '\"'", true),
        ("(\"a\\\"b\", unsafe { c })", true),
    ] {
        assert_eq!(has_word(&code(line), "unsafe"), expected, "{line}");
    }
    // The lints that demand a safety comment for each block, and deny `unsafe` elsewhere.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("Cargo.toml");
    assert!(manifest.contains("\nundocumented_unsafe_blocks = \"deny\"\n"));
    assert!(manifest.contains("\nunsafe_code = \"deny\"\n"));
}
