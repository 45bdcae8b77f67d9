//! The capabilities of docs/privileges.md: with these, each subcommand works; without any
//! one of them, it does not.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::command::{program, stderr, stdout};
use crate::live::{MOUNT, in_namespace};
use crate::support::{fixture, repository, skip};

/// Where user 65534 runs copies.
struct Place {
    directory: tempfile::TempDir,
    root: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let open = |path: &Path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("permissions");
        };
        open(path);
        fs::copy(program(), path.join("tracepoints")).expect("a copy");
        fs::create_dir(path.join("out")).expect("a directory");
        open(&path.join("out"));
        // The checkout may be out of this user's reach.
        let root = path.join("kernel");
        let copied = std::process::Command::new("cp")
            .arg("-r")
            .arg(fixture("6.18.15-x86_64"))
            .arg(&root)
            .status();
        assert!(copied.expect("cp").success());
        let object = fixture("audit").join("openat.bpf.o");
        fs::copy(object, path.join("openat.bpf.o")).expect("a copy");
        fs::write(
            path.join("vmlinux"),
            fs::read(root.join("btf/vmlinux")).expect("BTF"),
        )
        .expect("a file");
        Self { directory, root }
    }

    /// Runs the command with these capabilities and no others. Returns `None`, having said
    /// so, where that cannot be.
    fn run(&self, capabilities: &[&str], command: &str) -> Option<Output> {
        self.run_after("", capabilities, command)
    }

    /// The same, after root has run a script.
    fn run_after(&self, before: &str, capabilities: &[&str], command: &str) -> Option<Output> {
        let mut set = "-all".to_owned();
        for capability in capabilities {
            set += &format!(",+{}", capability.trim_start_matches("CAP_").to_lowercase());
        }
        let path = self.directory.path().display();
        let command = command.replace("ROOT", &self.root.display().to_string());
        // What does not end by itself is interrupted.
        let seconds = if command.contains("--live") { 3 } else { 120 };
        let script = format!(
            "{MOUNT}{before}
             cd {path}/out; rm -rf out
             exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps={set} \
                 --ambient-caps={set} --bounding-set={set} -- \
                 timeout --preserve-status -s INT {seconds} {path}/tracepoints {command}"
        );
        let output = in_namespace(&script)?;
        if stderr(&output).starts_with("setpriv: ") {
            skip(stderr(&output).trim());
            return None;
        }
        Some(output)
    }
}

const READ: &str = "CAP_DAC_READ_SEARCH";
const BPF: &str = "CAP_BPF";
const PERFMON: &str = "CAP_PERFMON";

/// The start of a row in the document, its capabilities, and commands.
const NEEDED: &[(&str, &[&str], &[&str])] = &[
    (
        "| `decode`, `audit`, `diff`, `catalog`, `explore`, `completions`, `capture --image`, \
         anything with `--root` or `--demo`",
        &[],
        &[
            "list --demo",
            "list --root ROOT",
            "format --root ROOT sched:sched_switch",
            "decode --root ROOT ROOT/ring/cpu0.raw",
            "audit ../openat.bpf.o --kernels ROOT",
            "diff ROOT ROOT",
            "catalog ROOT -o out",
            "explore ROOT -o out",
            "capture --image ../vmlinux out",
            "completions bash",
        ],
    ),
    (
        "| `list --raw`, `format --raw` (what BTF alone tells)",
        &[],
        &["list --raw sched_switch", "format --raw sched_switch"],
    ),
    ("| `capture` (BTF alone)", &[], &["capture out"]),
    (
        "| `list`, `format`",
        &[READ],
        &["list sched:*", "format sched:sched_switch"],
    ),
    (
        "| `attach`, `bench`, `sites`",
        &[READ, BPF, PERFMON],
        &[
            "attach sched:sched_process_exec -- /bin/true",
            "attach --strings twice syscalls:sys_enter_openat -- /bin/true",
            "attach raw_tp/sched_process_exec -- /bin/true",
            "attach --stack sched:sched_process_exec -- /bin/true",
            "bench raw_syscalls:sys_enter",
            "sites sched:sched_process_exec",
        ],
    ),
    (
        "| `decode --live`, `capture --ring`",
        &["CAP_DAC_OVERRIDE"],
        &[
            "decode --live sched:sched_process_exec",
            "capture out --ring sched:sched_process_exec -- /bin/true",
        ],
    ),
];

/// A row, the capabilities that the command needs, those that it shows more with, the
/// command, and what it says without them.
type ShowsMore = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    &'static str,
    &'static str,
);

const MORE: &[ShowsMore] = &[
    (
        "| `capture` | `CAP_DAC_READ_SEARCH` | events |",
        &[],
        &[READ],
        "capture out",
        "left out: events: tracefs is out of reach of this user",
    ),
    (
        "| `capture --symbols` | `CAP_SYSLOG` | addresses of functions |",
        &[READ],
        &["CAP_SYSLOG"],
        "capture --symbols out",
        "left out: symbols: the kernel shows their addresses to CAP_SYSLOG alone",
    ),
    (
        "| `sites` | `CAP_SYSLOG` | where the sites are |",
        &[READ, BPF, PERFMON],
        &["CAP_SYSLOG"],
        "sites sched:sched_process_exec",
        "not known: where the sites are: the kernel shows its symbols to CAP_SYSLOG alone",
    ),
    (
        "| `sites` | `CAP_SYS_ADMIN` | BPF links |",
        &[READ, BPF, PERFMON, "CAP_SYSLOG"],
        &["CAP_SYS_ADMIN"],
        "sites sched:sched_process_exec",
        "not known: which links there are: the kernel lists them to CAP_SYS_ADMIN alone",
    ),
    (
        "| `sites` | `CAP_SYS_PTRACE` | listeners that other users' processes hold |",
        &[READ, BPF, PERFMON, "CAP_SYSLOG", "CAP_SYS_ADMIN"],
        &["CAP_SYS_PTRACE"],
        "sites sched:sched_process_exec",
        "their descriptors take CAP_SYS_PTRACE to see",
    ),
];

fn document() -> String {
    let path = repository().join("docs/privileges.md");
    fs::read_to_string(path).expect("the document")
}

/// Whether this kernel has what the commands on it take: BTF, and memory that programs read.
fn can_run() -> bool {
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        skip("this kernel has no BTF");
        return false;
    }
    // -1 gives everyone what CAP_PERFMON gives.
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    let unprivileged = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
    let is_usual = paranoid
        .is_ok_and(|text| text.trim().parse().is_ok_and(|level: i32| level >= 0))
        && unprivileged.is_ok_and(|text| text.trim() != "0");
    if !is_usual {
        skip("this kernel gives ordinary users more than usual");
    }
    is_usual
}

#[test]
fn each_subcommand_works_with_what_it_needs_and_with_no_less() {
    if !can_run() {
        return;
    }
    let (document, place) = (document(), Place::new());
    for (row, capabilities, commands) in NEEDED {
        let needed: Vec<String> = capabilities
            .iter()
            .map(|name| format!("`{name}`"))
            .collect();
        let needed = match needed.is_empty() {
            true => "none".to_owned(),
            false => needed.join(", "),
        };
        let row = format!("{row} | {needed} |");
        assert!(document.contains(&row), "docs/privileges.md lacks {row}");
        for command in *commands {
            let Some(output) = place.run(capabilities, command) else {
                return;
            };
            assert!(output.status.success(), "{command}: {}", stderr(&output));
            for missing in *capabilities {
                let rest: Vec<&str> = capabilities
                    .iter()
                    .copied()
                    .filter(|one| one != missing)
                    .collect();
                let output = place.run(&rest, command).expect("as before");
                let said = stderr(&output);
                assert_eq!(
                    output.status.code(),
                    Some(1),
                    "{command} without {missing}: {said}"
                );
                assert!(
                    said.starts_with("tracepoints: "),
                    "{command} without {missing}: {said}"
                );
            }
        }
    }
}

#[test]
fn more_capabilities_show_more() {
    if !can_run() {
        return;
    }
    /// A listener that root holds.
    const LISTEN: &str = "\"$TRACEPOINTS\" attach --count sched:sched_process_exec \
        --duration 5 > /dev/null 2>&1 & sleep 1";
    let (document, place) = (document(), Place::new());
    for (row, capabilities, more, command, said) in MORE {
        assert!(document.contains(row), "docs/privileges.md lacks {row}");
        let before = if command.starts_with("sites") {
            LISTEN
        } else {
            ""
        };
        let Some(without) = place.run_after(before, capabilities, command) else {
            return;
        };
        assert!(without.status.success(), "{command}: {}", stderr(&without));
        let all = [*capabilities, *more].concat();
        let with = place.run_after(before, &all, command).expect("as before");
        assert!(with.status.success(), "{command}: {}", stderr(&with));
        let text = |output: &Output| format!("{}{}", stdout(output), stderr(output));
        assert!(text(&without).contains(said), "{row}: {}", text(&without));
        if *more == ["CAP_SYS_PTRACE"] {
            // Some, in another user namespace or with more capabilities, stay hidden.
            let held = "held by tracepoints (";
            assert!(text(&with).contains(held), "{row}: {}", text(&with));
            assert!(!text(&without).contains(held), "{row}: {}", text(&without));
        } else {
            assert!(!text(&with).contains(said), "{row}: {}", text(&with));
        }
    }
}

#[test]
fn classes_that_only_memory_tells() {
    let row = "| `list`, `format`, `capture` | `CAP_BPF`, `CAP_PERFMON` | classes that only the \
               kernel's memory tells |";
    assert!(document().contains(row));
    if !can_run() {
        return;
    }
    let place = Place::new();
    // Each event and its evidence, the last word of a line.
    let list = |capabilities: &[&str]| -> Option<BTreeMap<String, String>> {
        let output = place.run(capabilities, "list")?;
        let words = stdout(&output).lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next_back()?.to_owned()))
        });
        Some(words.collect())
    };
    let (Some(without), Some(with)) = (list(&[READ]), list(&[READ, BPF, PERFMON])) else {
        return;
    };
    let mut told = 0;
    for (event, evidence) in &with {
        match without.get(event) {
            Some(weaker) if weaker != evidence => {
                assert_eq!(evidence, "kernel", "{event}");
                assert!(
                    ["ambiguous", "inferred"].contains(&&**weaker),
                    "{event}: {weaker}"
                );
                told += 1;
            }
            _ => {}
        }
    }
    if told == 0 {
        // Those with `btf_ids` tell everyone who may read tracefs.
        skip("this kernel's memory tells nothing that its files do not");
    }
    println!("{told} classes by memory");
}
