//! Completions, man pages, versions.

use std::fs;
use std::process::Command;

use crate::command::{stderr, stdout, tracepoints};
use crate::support;

#[test]
fn completions_name_every_subcommand() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = tracepoints(&["completions", shell])
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{}", stderr(&output));
        for word in [
            "list", "format", "show", "attach", "bench", "decode", "sites", "--root", "--filter",
        ] {
            // fish has options without their dashes.
            let word = if shell == "fish" {
                word.trim_start_matches('-')
            } else {
                word
            };
            assert!(stdout(&output).contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn bash_reads_its_completions() {
    let output = tracepoints(&["completions", "bash"])
        .output()
        .expect("it runs");
    let script = format!("{}\ncomplete -p tracepoints", stdout(&output));
    let Ok(output) = Command::new("bash").args(["-c", &script]).output() else {
        return support::skip("there is no bash");
    };
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("_tracepoints"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn man_pages() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = tracepoints(&["man"])
        .arg(dir.path())
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let mut names: Vec<String> = fs::read_dir(dir.path())
        .expect("a directory")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "tracepoints-attach.1",
            "tracepoints-audit.1",
            "tracepoints-bench.1",
            "tracepoints-capture.1",
            "tracepoints-catalog.1",
            "tracepoints-completions.1",
            "tracepoints-decode.1",
            "tracepoints-diff.1",
            "tracepoints-explore.1",
            "tracepoints-format.1",
            "tracepoints-list.1",
            "tracepoints-sites.1",
            "tracepoints.1"
        ]
    );
    let page = fs::read_to_string(dir.path().join("tracepoints-list.1")).expect("a page");
    assert!(page.contains("\\fB\\-\\-root\\fR"), "{page}");
    for name in names {
        // groff says what it does not understand; its status is 0 all the same.
        let mut check = Command::new("groff");
        check
            .args(["-Kutf8", "-man", "-Tutf8", "-ww", "-z"])
            .arg(dir.path().join(&name));
        let Ok(output) = check.output() else {
            return support::skip("there is no groff to check them");
        };
        assert!(output.status.success(), "{name}");
        assert_eq!(stderr(&output), "", "{name}");
    }
}

#[test]
fn version_and_commit() {
    let output = tracepoints(&["--version"]).output().expect("it runs");
    let version = env!("CARGO_PKG_VERSION");
    let text = stdout(&output).trim_end();
    let rest = text
        .strip_prefix(&format!("tracepoints {version}"))
        .expect(text);
    let is_commit = rest
        .strip_prefix(" (")
        .and_then(|rest| rest.strip_suffix(')'));
    // Not in a checkout, there is no commit.
    assert!(
        rest.is_empty() || is_commit.is_some_and(|hash| hash.len() >= 9),
        "{text}"
    );
    let output = tracepoints(&["list", "--version"])
        .output()
        .expect("it runs");
    assert!(stdout(&output).starts_with(&format!("tracepoints-list {version}")));
}
