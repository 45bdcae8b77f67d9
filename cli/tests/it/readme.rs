//! What README.md shows is what the command prints.

use crate::command::{stdout, tracepoints};
use crate::support;

#[test]
fn transcripts_are_true() {
    let readme = support::repository().join("README.md");
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
        assert_eq!(program, "tracepoints");
        let output = tracepoints(&[])
            .args(arguments)
            .current_dir(support::repository())
            .output()
            .expect("it runs");
        assert_eq!(stdout(&output), shown, "{command}");
    }
}
