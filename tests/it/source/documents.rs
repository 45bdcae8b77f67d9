//! Documents and scripts name folders, files and tests that exist.

use std::fs;
use std::path::Path;

use walkdir::WalkDir;

/// Whether there is a module of this path, or a test in one.
fn exists(path: &str) -> bool {
    let mut file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let mut parts = path.split("::").peekable();
    while let Some(part) = parts.next() {
        let module = file.join(part);
        if module.is_dir() {
            file = module;
            continue;
        }
        let text = fs::read_to_string(module.with_extension("rs"));
        return match (text, parts.next(), parts.next()) {
            (Ok(_), None, _) => true,
            (Ok(text), Some(test), None) => text.contains(&format!("fn {test}(")),
            _ => false,
        };
    }
    true
}

#[test]
fn names_of_the_tables_exist() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/README.md");
    let document = fs::read_to_string(path).expect("tests/README.md");
    let rows = document.lines().filter(|line| line.starts_with("| "));
    let mut names = Vec::new();
    for row in rows {
        let in_code = row.split('`').skip(1).step_by(2);
        let names_of_row = in_code.filter(|text| {
            let is_name =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c);
            text.ends_with(".rs")
                || text.ends_with('/')
                || text.contains("::") && text.chars().all(is_name)
        });
        names.extend(names_of_row.map(|name| name.trim_end_matches('/').trim_end_matches(".rs")));
    }
    assert!(names.len() > 60, "{}", names.len());
    let missing: Vec<_> = names.iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // Every module of the program has a row.
    let main = include_str!("../main.rs");
    for line in main.lines() {
        if let Some(module) = line.strip_prefix("mod ") {
            let module = module.trim_end_matches(';');
            assert!(names.contains(&module), "no row for {module}");
        }
    }
}

#[test]
fn names_that_do_not_exist() {
    for path in [
        "ring::nothing",
        "nothing",
        "failures::nothing",
        "failures::a::b",
    ] {
        assert!(!exists(path), "{path}");
    }
}

/// Paths that begin with `tests/`, in all documents and scripts.
#[test]
fn paths_in_documents_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        ".ci",
        ".github",
        "docs",
        "fuzz/README.md",
        "fuzz/run.sh",
        "tests",
    ];
    let entries = documents
        .iter()
        .flat_map(|path| WalkDir::new(root.join(path)));
    let mut count = 0;
    for entry in entries {
        let path = entry.expect("an entry").into_path();
        let is_read = path
            .extension()
            .is_some_and(|end| end == "md" || end == "sh" || end == "yml");
        let is_script = path.parent() == Some(&root.join(".ci"));
        if !is_read && !is_script && !path.ends_with("vm/init") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("text");
        let is_of_path = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
        for word in text.split(|c| !is_of_path(c)) {
            let word = word.trim_end_matches('.');
            if word.starts_with("tests/") {
                assert!(root.join(word).exists(), "{}: {word}", path.display());
                count += 1;
            }
        }
    }
    assert!(count > 30, "{count}");
}
