//! `attach --pin`, `--read` and `--unpin` on the running kernel.

use crate::command::{stderr, stdout};
use crate::live::{MOUNT, in_namespace};

/// What is pinned goes on when the command has ended.
#[test]
fn pinned_and_read_later() {
    let script = format!(
        "{MOUNT}
        dir=$(mktemp -d /tmp/bpfXXXXXX); trap 'umount $dir; rmdir $dir' EXIT
        mount -t bpf bpf $dir
        attach() {{ \"$TRACEPOINTS\" attach \"$@\" 2>&1; }}
        attach --count sched:sched_process_exec --pid $$ --children --pin $dir/count
        attach 'sys:rmdir{{pathname}}' --pid $$ --children --pin $dir/calls
        rmdir /proc/nowhere 2> /dev/null || :
        attach --read $dir/count
        attach --read $dir/calls --pretty
        rmdir /proc/elsewhere 2> /dev/null || :
        rm $dir/calls/links/0
        attach --unpin $dir/calls
        attach --unpin $dir/count --json
        attach --read $dir/count || :
        attach --count sched:sched_process_exec --pid $$ --pin $dir/count || :
        attach --count sched:sched_process_exec --pin /tmp/count || :
        attach --count sched:sched_process_exec --pin $dir/count --json || :"
    );
    let Some(output) = in_namespace(&script) else {
        return;
    };
    let text = stdout(&output);
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            // The directory's name, times and ids are others each time.
            let words = line
                .split(' ')
                .map(|word| match word.split_once("/tmp/bpf") {
                    Some((_, rest)) => rest.get(6..).unwrap_or_default().to_owned(),
                    None => word.to_owned(),
                });
            let line = words.collect::<Vec<_>>().join(" ");
            match (line.split_once("] "), line.split_once(",\"kernel\"")) {
                (Some((_, rest)), _) => {
                    let (task, rest) = rest.split_once(' ').unwrap_or_default();
                    let (comm, _) = task.split_once('-').unwrap_or_default();
                    let (rest, _) = rest.split_once(" <").unwrap_or((rest, ""));
                    format!("{comm} {rest}")
                }
                (None, Some((row, _))) => row.to_owned(),
                _ => line,
            }
        })
        .collect();
    assert!(output.status.success(), "{text}{}", stderr(&output));
    insta::assert_snapshot!(lines.join("\n"));
}
