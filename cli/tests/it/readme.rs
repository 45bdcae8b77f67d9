//! README.md is true: its transcripts, its recipes, and the commands for other tools' habits.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::command::{program, stderr, stdout};
use crate::support;

fn readme() -> String {
    fs::read_to_string(support::repository().join("README.md")).expect("README.md")
}

/// The blocks of a language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let start = format!("```{language}\n");
    let blocks = text.split(&start).skip(1);
    blocks.filter_map(|rest| rest.split("```").next()).collect()
}

/// The transcripts whose prompt is this one: each a command, and what it prints.
fn transcripts<'t>(text: &'t str, prompt: &str) -> Vec<(&'t str, &'t str)> {
    let blocks = blocks(text, "console").into_iter();
    let blocks = blocks.filter_map(|block| block.strip_prefix(prompt));
    blocks
        .map(|block| block.split_once('\n').expect("what it prints"))
        .collect()
}

/// A shell that finds the command as `tracepoints`. What is said on stderr comes out on
/// stdout, too, as on a terminal.
fn shell(script: &str, dir: &Path) -> Output {
    let bin = dir.join("bin");
    fs::create_dir_all(&bin).expect("a directory");
    let link = bin.join("tracepoints");
    if !link.exists() {
        std::os::unix::fs::symlink(program(), link).expect("a link");
    }
    let path = std::env::var("PATH").unwrap_or_default();
    Command::new("sh")
        .args(["-ec", &format!("exec 2>&1\n{script}")])
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("LC_ALL", "C")
        .current_dir(dir)
        .output()
        .expect("sh")
}

#[test]
fn transcripts_are_true() {
    let text = readme();
    let transcripts = transcripts(&text, "$ ");
    assert!(transcripts.len() >= 6, "{}", transcripts.len());
    let dir = tempfile::tempdir().expect("a directory");
    for (command, shown) in transcripts {
        // A failure is shown, too.
        let output = shell(&format!("{command} || :"), dir.path());
        assert_eq!(stdout(&output), shown, "{command}");
    }
}

/// Numbers as `0`, and columns as far apart as can be.
#[cfg(target_os = "linux")]
fn skeleton(text: &str) -> String {
    let mut skeleton = String::new();
    for c in text.chars() {
        let c = if c.is_ascii_digit() { '0' } else { c };
        let is_repeated = matches!(c, '0' | ' ') && skeleton.ends_with(c);
        if !is_repeated {
            skeleton.push(c);
        }
    }
    skeleton
}

#[cfg(target_os = "linux")]
#[test]
fn transcripts_of_the_running_kernel() {
    let Some(_) = crate::namespace::live() else {
        return;
    };
    let text = readme();
    let transcripts = transcripts(&text, "# ");
    assert!(transcripts.len() >= 3, "{}", transcripts.len());
    let dir = tempfile::tempdir().expect("a directory");
    for (command, shown) in transcripts {
        let output = shell(&format!("{command} || :"), dir.path());
        assert_eq!(skeleton(stdout(&output)), skeleton(shown), "{command}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn recipes_work() {
    let Some(_) = crate::namespace::live() else {
        return;
    };
    let text = readme();
    let recipes = text.split("\n## ").find(|part| part.starts_with("Recipes"));
    let recipes = blocks(recipes.expect("recipes"), "sh");
    assert_eq!(recipes.len(), 2);
    let dir = tempfile::tempdir().expect("a directory");
    for recipe in recipes {
        let compiler = recipe
            .lines()
            .last()
            .and_then(|line| line.split(' ').next());
        let compiler = compiler.expect("a compiler");
        if Command::new(compiler).arg("--version").output().is_err() {
            support::skip(&format!("there is no {compiler}"));
            continue;
        }
        let output = shell(recipe, dir.path());
        let said = stdout(&output);
        if compiler == "clang" && said.contains("'bpf/bpf_helpers.h' file not found") {
            support::skip("libbpf's headers are not installed");
            continue;
        }
        assert!(output.status.success(), "{recipe}: {said}");
    }
}

/// Those that trace end at once.
#[cfg(target_os = "linux")]
#[test]
fn commands_for_habits_are_taken() {
    let Some(_) = crate::namespace::live() else {
        return;
    };
    let text = readme();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let commands: Vec<&str> = rows
        .filter_map(|row| row.split(" | ").nth(1))
        .flat_map(|cell| {
            cell.split('`')
                .filter(|part| part.starts_with("tracepoints "))
        })
        .collect();
    assert!(commands.len() >= 12, "{commands:?}");
    let dir = tempfile::tempdir().expect("a directory");
    let recording = crate::recorded::recording().version_6();
    fs::write(dir.path().join("trace.dat"), recording).expect("a file");
    let recording = crate::recorded_by_perf::of_pages().file();
    fs::write(dir.path().join("perf.data"), recording).expect("a file");
    for command in commands {
        let pid = std::process::id().to_string();
        let script = command
            .replace("PID", &pid)
            .replace("tracepoints attach", "tracepoints attach --duration 0");
        let script = match command.contains("decode --live") {
            true => format!("timeout --preserve-status -s INT 2 {script}"),
            false => script,
        };
        let output = shell(&script, dir.path());
        assert!(
            output.status.success(),
            "{script}: {}{}",
            stdout(&output),
            stderr(&output)
        );
    }
}
