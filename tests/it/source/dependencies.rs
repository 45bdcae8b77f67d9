//! Dependencies: those `docs/dependencies.md` lists, with licences `deny.toml` allows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Cargo's metadata about packages and their dependencies, for this machine only: the
/// packages for it are downloaded when the test runs, and cargo needs no network.
fn metadata(arguments: &[&str]) -> Value {
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc");
    let rustc = String::from_utf8(rustc.stdout).expect("text");
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--offline", "--locked"]);
    let output = command
        .args(["--filter-platform", host.expect("a host")])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// All packages of a build, and the direct dependencies among them, without
/// dev-dependencies.
fn built(metadata: &Value) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .map(|node| (text(node, "id"), node))
        .collect();
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| (text(package, "id"), text(package, "name")))
        .collect();
    let own = text(&metadata["resolve"], "root");
    let (mut waiting, mut all, mut direct) = (vec![own], BTreeSet::new(), BTreeSet::new());
    while let Some(id) = waiting.pop() {
        let dependencies = nodes[id]["deps"].as_array().expect("dependencies");
        for dependency in dependencies {
            let is_built = |kind: &Value| text(kind, "kind") != "dev";
            if !list(&dependency["dep_kinds"]).iter().any(is_built) {
                continue;
            }
            let name = names[text(dependency, "pkg")];
            if id == own {
                direct.insert(name);
            }
            if all.insert(name) {
                waiting.push(text(dependency, "pkg"));
            }
        }
    }
    (all, direct)
}

#[test]
fn without_features_four_packages_do() {
    // `cargo metadata` resolves the workspace, whose command takes the default features.
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--package", "tracepoints"])
        .args(["--no-default-features", "--edges", "normal,build"])
        .args(["--depth", "1", "--prefix", "none", "--format", "{lib}"])
        .current_dir(root())
        .output()
        .expect("cargo");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let tree = String::from_utf8(output.stdout).expect("text");
    let mut lines: Vec<&str> = tree.lines().collect();
    assert_eq!(lines.remove(0), "tracepoints");
    lines.sort_unstable();
    assert_eq!(lines, ["nom", "serde", "thiserror", "walkdir"]);
}

/// Holds the document's table to the manifest. Its rows are ``| `name` | …``.
#[test]
fn every_dependency_is_there_for_a_reason() {
    let metadata = metadata(&["--all-features"]);
    let (_, direct) = built(&metadata);
    let document = fs::read_to_string(root().join("docs/dependencies.md")).expect("a file");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
    let named: BTreeSet<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    assert_eq!(direct, named);
}

/// btf-rs is under the LGPL, and is built only with its feature.
#[test]
fn what_is_built_by_default_is_not_under_the_lgpl() {
    let metadata = metadata(&[]);
    let (all, _) = built(&metadata);
    assert!(all.contains("nom"), "{all:?}");
    assert!(
        !all.iter().any(|name| name.starts_with("btf-rs")),
        "{all:?}"
    );
}

/// As `cargo deny check licenses sources` checks, where it is installed.
#[test]
fn licences_and_sources_are_those_allowed() {
    let deny = fs::read_to_string(root().join("deny.toml")).expect("a file");
    let line = deny.lines().find_map(|line| line.strip_prefix("allow = ["));
    let allowed: Vec<&str> = line
        .expect("licences")
        .trim_end_matches(']')
        .split(", ")
        .map(|licence| licence.trim_matches('"'))
        .collect();
    // `{ crate = "btf-rs", allow = ["LGPL-2.1-or-later"] },`
    let exceptions: Vec<(&str, &str)> = deny
        .lines()
        .filter_map(|line| line.trim().strip_prefix("{ crate = \""))
        .filter_map(|line| line.split_once("\", allow = [\""))
        .filter_map(|(name, rest)| Some((name, rest.split('"').next()?)))
        .collect();
    let of: Vec<&str> = exceptions.iter().map(|(name, _)| *name).collect();
    assert_eq!(of, ["blazesym", "libbz2-rs-sys", "btf-rs", "btf-rs-derive"]);
    let metadata = metadata(&["--all-features"]);
    let (all, _) = built(&metadata);
    assert!(!all.contains("blazesym"), "it is the command's");
    assert!(all.len() > 20, "{all:?}");
    for package in metadata["packages"].as_array().expect("packages") {
        let (name, licence) = (text(package, "name"), text(package, "license"));
        if !all.contains(name) {
            continue;
        }
        // `(MIT OR Apache-2.0) AND Unicode-3.0`: one of each choice.
        let is_allowed = licence.split(" AND ").all(|choice| {
            choice
                .split(" OR ")
                .flat_map(|one| one.split('/'))
                .any(|one| allowed.contains(&one.trim_matches(['(', ')', ' '])))
        }) || exceptions.contains(&(name, licence));
        assert!(is_allowed, "{name}: {licence}");
        assert!(
            text(package, "source")
                .starts_with("registry+https://github.com/rust-lang/crates.io-index"),
            "{name}"
        );
    }
}
