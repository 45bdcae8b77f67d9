//! What README.md shows is what the programs print.

#[path = "it/support/kernels.rs"]
mod support;

#[path = "support/example.rs"]
mod example;

use std::process::Command;

#[test]
fn transcripts_are_true() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let text = std::fs::read_to_string(readme).expect("README.md");
    let blocks: Vec<&str> = text
        .split("```console\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(blocks.len(), 4);
    for block in blocks {
        let (command, shown) = block
            .split_once('\n')
            .expect("a command and what it prints");
        let command = command.strip_prefix("$ ").expect("a command");
        let (program, arguments) = command.split_once(' ').expect("arguments");
        // No argument has a space; the quotes keep the shell's hands off patterns.
        let arguments = arguments
            .split(' ')
            .map(|argument| argument.trim_matches('\''));
        let output = Command::new(example::example(program))
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("it runs");
        assert_eq!(example::stdout(&output), shown, "{command}");
    }
}
