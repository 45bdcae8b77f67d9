//! The house: each room of `src/` imports only rooms below it.
//!
//! The picture is computed from the paths that begin with `crate::`, tests and
//! documentation left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// A room, a folder or a file right below `src/`, and the rooms it imports.
type Picture = BTreeMap<String, BTreeSet<String>>;

/// Files that are not rooms: the crate's head, and code for tests and fuzzing.
const NOT_ROOMS: [&str; 3] = ["lib", "fuzzing", "live_test"];

/// Imports that must never be, whatever the floors: the two parsers meet in `context`.
const NEVER: [(&str, &str); 4] = [
    ("format", "btf"),
    ("btf", "format"),
    ("kernel", "probe"),
    ("context", "kernel"),
];

/// The files of `src/`, by their paths below it.
fn sources() -> Vec<(PathBuf, String)> {
    sources_in("src")
}

fn sources_in(directory: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let entries = WalkDir::new(&root).sort_by_file_name().into_iter();
    entries
        .map(|entry| entry.expect("an entry").into_path())
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a file");
            let below = path.strip_prefix(&root).expect("inside").to_owned();
            (below, text)
        })
        .collect()
}

/// The source without its tests, its comments and its documentation.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let text = text.split("#[cfg(all(test").next().unwrap_or(text);
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn room_of(file: &Path) -> String {
    let first = file.iter().next().unwrap_or_default();
    Path::new(first)
        .with_extension("")
        .to_string_lossy()
        .into_owned()
}

/// Whether the file has tests alone: those that run programs offline, and of full counters.
fn is_of_tests(file: &Path) -> bool {
    let files = ["probe/offline.rs", "probe/near_wrap.rs"];
    file.starts_with("probe/offline") || files.iter().any(|end| file.ends_with(end))
}

fn picture() -> Picture {
    let mut picture = Picture::new();
    for (file, text) in sources() {
        let room = room_of(&file);
        if NOT_ROOMS.contains(&&*room) || is_of_tests(&file) {
            continue;
        }
        let imports = picture.entry(room.clone()).or_default();
        for path in code(&text).split("crate::").skip(1) {
            let end = path.find(|c: char| !c.is_alphanumeric() && c != '_');
            let imported = &path[..end.unwrap_or(path.len())];
            if imported != room {
                imports.insert(imported.to_owned());
            }
        }
    }
    picture
}

/// The floor of each room: one above the highest room it imports. `Err` names rooms
/// that import each other in a circle.
fn floors(picture: &Picture) -> Result<BTreeMap<&str, usize>, Vec<&str>> {
    let mut floors: BTreeMap<&str, usize> = BTreeMap::new();
    while floors.len() < picture.len() {
        let before = floors.len();
        for (room, imports) in picture {
            if floors.contains_key(&**room) {
                continue;
            }
            let below: Option<Vec<usize>> = imports
                .iter()
                .map(|room| floors.get(&**room).copied())
                .collect();
            if let Some(below) = below {
                floors.insert(room, below.iter().max().map_or(0, |highest| highest + 1));
            }
        }
        if floors.len() == before {
            let circle = picture.keys().map(|room| &**room);
            return Err(circle.filter(|room| !floors.contains_key(room)).collect());
        }
    }
    Ok(floors)
}

#[test]
fn rooms_import_only_rooms_below_them() {
    let picture = picture();
    for imported in picture.values().flatten() {
        assert!(
            picture.contains_key(imported),
            "crate::{imported} is not a room: import from the room itself"
        );
    }
    for (room, imported) in NEVER {
        assert!(
            !picture[room].contains(imported),
            "{room} imports {imported}"
        );
    }
    let floors = floors(&picture).unwrap_or_else(|circle| {
        panic!("rooms import each other in a circle, among {circle:?}: {picture:#?}")
    });
    let highest = floors.values().max().map_or(0, |floor| floor + 1);
    assert!(picture.len() <= 20, "{} rooms", picture.len());
    assert!(highest <= 10, "{highest} floors: {floors:#?}");
    let mut rows: Vec<String> = Vec::new();
    for floor in (0..highest).rev() {
        let rooms = floors.iter().filter(|(_, at)| **at == floor);
        let rooms: Vec<&str> = rooms.map(|(room, _)| *room).collect();
        rows.push(format!("{floor}: {}", rooms.join(" ")));
    }
    insta::assert_snapshot!("floors", rows.join("\n"));
}

/// A picture with a circle has no floors.
#[test]
fn a_circle_is_found() {
    let picture = |arrows: &[(&str, &[&str])]| -> Picture {
        let to_owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let rooms = arrows.iter();
        rooms
            .map(|(room, imports)| ((*room).to_owned(), to_owned(imports)))
            .collect()
    };
    let sound = picture(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])]);
    assert_eq!(floors(&sound).expect("no circle")["a"], 2);
    let circle = picture(&[("a", &["b"]), ("b", &["d"]), ("c", &[]), ("d", &["b", "c"])]);
    assert_eq!(floors(&circle), Err(vec!["a", "b", "d"]));
}

/// No two types of the crate have one name: a reader who meets one knows which it is.
#[test]
fn names_of_types_are_unique() {
    let mut places: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for (file, text) in sources() {
        if is_of_tests(&file) || file.ends_with("fuzzing.rs") {
            continue;
        }
        for line in code(&text).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let at = words
                .iter()
                .position(|word| matches!(*word, "struct" | "enum" | "union"));
            let Some(name) = at.filter(|at| *at < 3).and_then(|at| words.get(at + 1)) else {
                continue;
            };
            let end = name.find(|c: char| !c.is_alphanumeric());
            let name = &name[..end.unwrap_or(name.len())];
            if name.starts_with(char::is_uppercase) && line.trim_end().ends_with(['{', ';', '}']) {
                places
                    .entry(name.to_owned())
                    .or_default()
                    .push(file.clone());
            }
        }
    }
    let shared: Vec<_> = places.iter().filter(|(_, files)| files.len() > 1).collect();
    assert!(shared.is_empty(), "{shared:#?}");
}

/// The source of the library, the command, and what belongs to them.
const ALL_SOURCES: [&str; 6] = [
    "src",
    "cli/src",
    "cli/tests",
    "tests",
    "examples",
    "benches",
];

/// A file of more than about 500 lines gives the reason in its head: "In one file because …".
#[test]
fn files_are_short() {
    const LONGEST: usize = 550;
    let mut long = Vec::new();
    for directory in ALL_SOURCES {
        for (file, text) in sources_in(directory) {
            let lines = text.lines().count();
            if lines <= LONGEST {
                continue;
            }
            let head = text.lines().take_while(|line| line.starts_with("//!"));
            let head: Vec<&str> = head.map(|line| line[3..].trim()).collect();
            if !head.join(" ").contains("In one file because ") {
                long.push(format!("{directory}/{}: {lines} lines", file.display()));
            }
        }
    }
    assert!(
        long.is_empty(),
        "over {LONGEST} lines, and no reason in the head:\n{}",
        long.join("\n")
    );
}

/// A function that does not fit on two screens does several things.
#[test]
fn functions_are_short() {
    const LONGEST: usize = 100;
    let mut long = Vec::new();
    for (file, text) in ALL_SOURCES.map(sources_in).concat() {
        let lines: Vec<&str> = text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            let is_function = code.starts_with("fn ") || code.contains(" fn ");
            if !is_function || code.starts_with("//") || code.ends_with(';') {
                continue;
            }
            let indent = &line[..line.len() - code.len()];
            let end = lines[start..]
                .iter()
                .position(|line| *line == format!("{indent}}}"));
            if end.is_some_and(|length| length + 1 > LONGEST) {
                long.push(format!("{}:{}: {code}", file.display(), start + 1));
            }
        }
    }
    assert!(
        long.is_empty(),
        "over {LONGEST} lines:\n{}",
        long.join("\n")
    );
}

/// Small programs that show the library; the command is in `cli/`.
#[test]
fn examples_are_small() {
    const LONGEST: usize = 60;
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut count = 0;
    for entry in WalkDir::new(examples).min_depth(1) {
        let path = entry.expect("an entry").into_path();
        let text = fs::read_to_string(&path).expect("a file, and no directory");
        let lines = text.lines().count();
        assert!(lines <= LONGEST, "{}: {lines} lines", path.display());
        count += 1;
    }
    assert!(count >= 6, "{count} examples");
}
