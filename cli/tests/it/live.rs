//! The programs on the running kernel. As root each test mounts tracefs in its own mount
//! namespace; without root it reports that it is skipped.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::command::{program, run, stderr, stdout};
use crate::support::{self, fixture};

/// Runs a shell script in its own mount namespace, with the command as `$TRACEPOINTS`.
/// Returns `None`, having reported the skipped test, without the right to mount.
pub(crate) fn in_namespace(script: &str) -> Option<Output> {
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec"]);
        command.arg(format!("mount --make-rprivate /\n{script}"));
        command.env("TRACEPOINTS", program());
        command
    };
    let trial = unshare("mount -t tracefs tracefs /sys/kernel/tracing").output();
    match trial {
        Ok(output) if output.status.success() => Some(unshare(script).output().expect("it runs")),
        Ok(output) => {
            support::skip(stderr(&output).trim());
            None
        }
        Err(error) => {
            support::skip(&format!("unshare: {error}"));
            None
        }
    }
}

pub(crate) const MOUNT: &str = "mount -t tracefs tracefs /sys/kernel/tracing\n";

#[test]
fn list_of_the_running_kernel() {
    let script = format!(
        "{MOUNT}cat /sys/kernel/tracing/available_events; echo; exec \"$TRACEPOINTS\" list --json"
    );
    let Some(output) = in_namespace(&script) else {
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));
    let (events, rows) = stdout(&output).split_once("\n\n").expect("two lists");
    let rows: Vec<Value> = rows
        .lines()
        .map(|row| serde_json::from_str(row).expect("JSON"))
        .collect();
    let names: Vec<&str> = rows
        .iter()
        .filter_map(|row| row["event"].as_str())
        .collect();
    assert_eq!(names, events.lines().collect::<Vec<_>>());

    let has_btf = Path::new("/sys/kernel/btf/vmlinux").exists();
    let context =
        |name: &str| &rows[names.iter().position(|one| *one == name).expect(name)]["context"];
    if has_btf {
        // An event of every kernel, whose class never changed its name.
        assert_eq!(
            context("sched:sched_switch")["struct"],
            "trace_event_raw_sched_switch"
        );
        assert_eq!(context("sched:sched_switch")["evidence"], "named");
    } else {
        assert_eq!(context("sched:sched_switch")["evidence"], "format");
    }
    assert!(stderr(&output).starts_with(&format!("{} events, ", names.len())));
    println!("{}", stderr(&output));
}

#[test]
fn format_on_the_running_kernel() {
    let script = format!(
        "{MOUNT}cat /sys/kernel/tracing/events/sched/sched_switch/id; exec \"$TRACEPOINTS\" format sched:sched_switch"
    );
    let Some(output) = in_namespace(&script) else {
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));
    let (id, text) = stdout(&output).split_once('\n').expect("an id");
    assert!(
        text.starts_with(&format!("sched:sched_switch\n  id        {id}\n")),
        "{text}"
    );
    for field in [
        "prev_comm",
        "prev_pid",
        "prev_state",
        "next_comm",
        "next_pid",
        "next_prio",
    ] {
        assert!(text.contains(&format!("\n  {field} ")), "{text}");
    }
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_slip_on_the_running_kernel() {
    let script = format!("{MOUNT}exec \"$TRACEPOINTS\" format sched:sched_proces_exit");
    let Some(output) = in_namespace(&script) else {
        return;
    };
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "tracepoints: no event sched:sched_proces_exit; did you mean sched:sched_process_exit?\n"
    );
}

/// No other kernel in disguise.
#[test]
fn without_tracefs_it_says_what_to_do() {
    let script = "umount -q /sys/kernel/tracing || :\numount -q /sys/kernel/debug || :\nexec \"$TRACEPOINTS\" list sched:sched_switch";
    let Some(output) = in_namespace(script) else {
        return;
    };
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "");
    assert_eq!(
        stderr(&output),
        "tracepoints: tracefs is not mounted: mount it as root, `mount -t tracefs tracefs /sys/kernel/tracing`\n  \
        list --raw and format --raw show what everyone may read, the kernel's BTF; \
        --demo shows the captured kernel that comes with this command\n"
    );
}

#[test]
fn without_root_permission_is_denied() {
    // A place from where any user may run the program.
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    let list = dir.path().join("tracepoints");
    fs::copy(program(), &list).expect("a copy");
    let script = format!(
        "{MOUNT}exec setpriv --reuid 65534 --regid 65534 --clear-groups '{}' list sched:sched_switch",
        list.display()
    );
    let Some(output) = in_namespace(&script) else {
        return;
    };
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).starts_with(
            "tracepoints: cannot read /sys/kernel/tracing: permission denied: run as root"
        ),
        "{}",
        stderr(&output)
    );
}

/// The kernel's memory says every class BTF does not prove to a process that may load
/// programs, read memory with them and enter tracefs, and that sees no kernel address.
#[test]
fn classes_from_memory_take_no_addresses() {
    // A place from where any user may run the program.
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    let list = dir.path().join("tracepoints");
    fs::copy(program(), &list).expect("a copy");
    let script = |capabilities: &str| {
        let sets = ["inh-caps", "ambient-caps", "bounding-set"];
        let sets = sets
            .map(|set| format!("--{set}=-all,{capabilities}"))
            .join(" ");
        format!(
            "{MOUNT}exec setpriv --reuid 65534 --regid 65534 --clear-groups {sets} '{}' list --json",
            list.display()
        )
    };
    let evidence = |capabilities: &str| {
        let output = in_namespace(&script(capabilities))?;
        assert!(output.status.success(), "{}", stderr(&output));
        let rows = stdout(&output).lines().map(|row| {
            let row: Value = serde_json::from_str(row).expect("JSON");
            row["context"]["evidence"]
                .as_str()
                .expect("a word")
                .to_owned()
        });
        Some(rows.collect::<Vec<String>>())
    };
    let Some(offline) = evidence("+dac_read_search") else {
        return;
    };
    let count =
        |evidence: &[String], word: &str| evidence.iter().filter(|one| *one == word).count();
    let is_open = count(&offline, "ambiguous") + count(&offline, "inferred");
    assert_eq!(count(&offline, "kernel"), 0);
    let asked = evidence("+bpf,+perfmon,+dac_read_search").expect("as before");
    // Nothing to decide, or a kernel without programs that a system call runs.
    if count(&asked, "kernel") == 0 {
        return support::skip(&format!(
            "{is_open} events open, and this kernel cannot be asked"
        ));
    }
    assert_eq!(count(&asked, "kernel"), is_open);
    assert_eq!(count(&asked, "ambiguous") + count(&asked, "inferred"), 0);
    eprintln!("{is_open} events that BTF leaves open are settled without CAP_SYSLOG");
}

/// Starts a process that waits, traces it with `decode --live` and with an instance
/// of the script's own, and lets it go. `$END` ends `decode`; what it printed, what
/// the kernel did and what `decode` said come out, parted by `==`.
const TRACED: &str = r#"
T=/sys/kernel/tracing
mkfifo go
sh -c 'read line < go; exec cat /proc/version' > /dev/null &
traced=$!
own=$T/instances/live-test-$$
mkdir $own
trap 'rmdir $own' EXIT
echo $traced > $own/set_event_pid
"$TRACEPOINTS" decode --live --pid $traced $EVENTS > printed 2> said &
decode=$!
until grep -q 'Ctrl-C ends it' said; do
    kill -0 $decode 2> gone || { cat said >&2; exit 1; }
    sleep 0.05
done
for event in $EVENTS; do echo 1 > $own/events/${event%:*}/${event#*:}/enable; done
echo > go
wait $traced
eval "$END"
status=0; wait $decode || status=$?
cat printed; echo ==; cat $own/trace; echo ==; cat said
[ ! -e $T/instances/tracepoints-decode-$decode ]
exit $status
"#;

/// A line without what differs between two instances: the time, whether the CPU
/// should have been given up, and the command's name when it was read.
fn who_and_what(line: &str) -> String {
    let (who, rest) = line.split_once(']').expect("a CPU");
    let (_time, event) = rest.split_once(": ").expect("a time");
    let end = event.find([':', '(']).or_else(|| event.find(" ->"));
    format!("{}] {}", &who[16..], &event[..end.unwrap_or(event.len())])
}

#[test]
fn decode_of_the_running_kernel() {
    const EVENTS: &str = "sched:sched_process_exec sched:sched_process_exit \
        syscalls:sys_enter_openat syscalls:sys_exit_openat syscalls:sys_enter_read";
    for signal in ["INT", "TERM", "HUP"] {
        let dir = tempfile::tempdir().expect("a directory");
        let script = format!(
            "{MOUNT}cd '{}'\nEVENTS='{EVENTS}'\nEND='kill -{signal} $decode'\n{TRACED}",
            dir.path().display()
        );
        let Some(output) = in_namespace(&script) else {
            return;
        };
        assert!(output.status.success(), "{}", stderr(&output));
        let parts: Vec<&str> = stdout(&output).split("==\n").collect();
        let [printed, kernels, said] = parts[..] else {
            panic!("{}", stdout(&output));
        };
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.starts_with("tracepoints: tracing 5 events in /sys/kernel/tracing/instances/")
        );
        let kernels: Vec<&str> = kernels
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
        let printed: Vec<&str> = printed.lines().collect();
        let events: Vec<_> = printed.iter().map(|line| who_and_what(line)).collect();
        let expected: Vec<_> = kernels.iter().map(|line| who_and_what(line)).collect();
        assert!(
            events == expected,
            "{}\n\n{}",
            events.join("\n"),
            expected.join("\n")
        );
        for what in [
            "sched_process_exec",
            "sched_process_exit",
            "sys_openat",
            "sys_read",
        ] {
            let is_it = |event: &String| event.ends_with(&format!("] {what}"));
            assert!(events.iter().any(is_it), "{what}");
        }
        let last = printed.last().expect("the process ended");
        assert!(last.trim_start().starts_with("cat-"), "{last}");
        // As wide and where the kernel's are.
        let flags = |line: &str| {
            let (start, rest) = line.split_once("] ").expect("a CPU");
            (start.len(), rest.find(' '))
        };
        assert_eq!(flags(printed[0]), flags(kernels[0]));
    }
}

/// `decode --live … | head -1` leaves no instance behind either.
#[test]
fn decode_whose_reader_goes() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = format!(
        "{MOUNT}cd '{}'
mkfifo lines
\"$TRACEPOINTS\" decode --live --pid $$ syscalls:sys_enter_openat > lines 2> said &
decode=$!
head -n 1 < lines &
head=$!
until grep -q 'Ctrl-C ends it' said; do sleep 0.05; done
until ! kill -0 $decode 2> gone; do cat /proc/version > version; sleep 0.05; done
wait $decode; wait $head
[ ! -e /sys/kernel/tracing/instances/tracepoints-decode-$decode ]",
        dir.path().display()
    );
    let Some(output) = in_namespace(&script) else {
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 1);
    assert!(stdout(&output).contains(": sys_openat("));
}

#[test]
fn decode_of_what_cannot_be_traced() {
    let script = format!(
        "{MOUNT}for event in ftrace:print sched:sched_swich; do
\"$TRACEPOINTS\" decode --live $event & decode=$!
wait $decode && exit 3
[ ! -e /sys/kernel/tracing/instances/tracepoints-decode-$decode ]
done"
    );
    let Some(output) = in_namespace(&script) else {
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));
    let said: Vec<&str> = stderr(&output).lines().collect();
    assert!(
        said[0].ends_with("/events/ftrace/print/enable: No such file or directory (os error 2)"),
        "{said:?}"
    );
    assert_eq!(
        said[1..],
        ["tracepoints: no event sched:sched_swich; did you mean sched:sched_switch?"]
    );
}

/// A buffer of an instance with pages of its own size, run over: what was lost is
/// counted, and what is left printed. Records of 44 bytes leave room on a page to say
/// how many.
#[test]
fn decode_of_a_buffer_run_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = format!(
        r#"{MOUNT}cd '{}'
own=/sys/kernel/tracing/instances/live-test-$$
mkdir $own
trap 'rmdir $own' EXIT
if [ -e $own/buffer_subbuf_size_kb ]; then echo 8 > $own/buffer_subbuf_size_kb; fi
echo 16 > $own/buffer_size_kb
taskset -c 0 sh -c 'i=1000; while [ $i -lt 2000 ]; do echo "number $i of them" > $0/trace_marker; i=$((i+1)); done' $own
cat $own/per_cpu/cpu0/stats
echo ==; grep -v '^#' $own/trace
cat $own/events/header_page > header_page
dd if=$own/per_cpu/cpu0/trace_pipe_raw of=cpu0.raw iflag=nonblock status=none \
    bs=$(($(sed -n 's/.*char data;.*offset:\([0-9]*\);.*size:\([0-9]*\);.*/\1+\2/p' header_page)))
echo ==; "$TRACEPOINTS" decode cpu0.raw"#,
        dir.path().display()
    );
    let Some(output) = in_namespace(&script) else {
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));
    let parts: Vec<&str> = stdout(&output).split("==\n").collect();
    let [stats, kernels, printed] = parts[..] else {
        panic!("{}", stdout(&output));
    };
    let count = |name: &str| -> usize {
        let line = stats.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|count| count.parse().ok()).expect("a count")
    };
    let (entries, overrun) = (count("entries: "), count("overrun: "));
    assert_eq!(entries + overrun, 1000);
    let mut lines = printed.lines();
    assert_eq!(
        lines.next(),
        Some(&*format!("CPU:0 [LOST {overrun} EVENTS]"))
    );
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len(), entries);
    for (index, (line, kernels)) in lines.iter().zip(kernels.lines()).enumerate() {
        assert_eq!(*line, kernels);
        let number = format!(": number {} of them", 2000 - entries + index);
        assert!(line.ends_with(&number), "{line}");
    }
}

/// Off, on while `attach` runs, and off again, each time with the bytes there.
#[test]
fn sites_of_an_event_that_is_attached() {
    let script = format!(
        r#"{MOUNT}event=oom:finish_task_reaping
sites() {{ "$TRACEPOINTS" sites --json $event; }}
until_it_is() {{
    i=0
    until sites 2>/dev/null | grep -q "\"state\":\"$1\""; do
        i=$((i+1)); [ $i -lt 200 ]; sleep 0.1
    done
}}
sites
"$TRACEPOINTS" attach $event >/dev/null 2>&1 & attach=$!
until_it_is jump
sites
"$TRACEPOINTS" sites $event
kill -INT $attach; wait $attach || :
until_it_is nop
sites
echo $attach"#
    );
    let Some(output) = with_kernel_memory(&script) else {
        return;
    };
    let lines: Vec<&str> = stdout(&output).lines().collect();
    let rows = lines.iter().filter(|line| line.starts_with('{'));
    let rows: Vec<Value> = rows
        .map(|row| serde_json::from_str(row).expect("JSON"))
        .collect();
    let [off, on, off_again] = &rows[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(off, off_again);
    assert_eq!(off["event"], "oom:finish_task_reaping");
    assert_eq!(off["listeners"], Value::Array(Vec::new()));
    assert_eq!(off["kernel"]["source"], "live");
    assert_eq!(off["tracepoint"]["enabled"], 0);
    assert_eq!(on["tracepoint"]["enabled"], 1);
    let listener = &on["listeners"][0];
    assert_eq!(listener["by"], "bpf");
    assert_eq!(listener["attachment"], "tracepoint");
    assert_eq!(listener["program"]["name"], "finish_task_rea");
    let pid: u64 = lines.last().expect("a pid").parse().expect("a pid");
    assert_eq!(listener["holders"][0]["pid"], pid);
    let (before, site) = (
        &off["tracepoint"]["sites"][0],
        &on["tracepoint"]["sites"][0],
    );
    assert_ne!(before["bytes"], site["bytes"]);
    for name in ["address", "location", "target", "target_location"] {
        assert_eq!(before[name], site[name]);
    }
    // The same as text.
    let text = lines.iter().filter(|line| !line.starts_with('{'));
    let text: Vec<&str> = text.copied().collect();
    assert_eq!(text[0], "oom:finish_task_reaping  on");
    let words: Vec<&str> = text[1].split_whitespace().collect();
    assert_eq!(words[0], "site");
    assert_eq!(Some(words[2]), site["address"].as_str());
    let bytes = words[3..].iter().take_while(|word| **word != "jump");
    assert_eq!(
        Some(&*bytes.copied().collect::<String>()),
        site["bytes"].as_str()
    );
    let held = format!(", held by tracepoints ({pid})");
    assert!(text.iter().any(|line| line.ends_with(&held)), "{text:?}");
}

/// Runs a script that needs the kernel's memory; `None`, with a note, where it cannot be read.
fn with_kernel_memory(script: &str) -> Option<Output> {
    let output = in_namespace(script)?;
    if stderr(&output).contains("cannot run a program once") {
        support::skip(stderr(&output).trim());
        return None;
    }
    assert!(output.status.success(), "{}", stderr(&output));
    Some(output)
}

/// `format --sites` shows what `sites` does of the same event.
#[test]
fn a_format_with_its_sites() {
    let script = format!(
        r#"{MOUNT}event=oom:compact_retry
"$TRACEPOINTS" sites --json $event 2>/dev/null
"$TRACEPOINTS" format --sites --json $event
"$TRACEPOINTS" sites $event 2>/dev/null
echo --
"$TRACEPOINTS" format --sites $event"#
    );
    let Some(output) = with_kernel_memory(&script) else {
        return;
    };
    let lines: Vec<&str> = stdout(&output).lines().collect();
    let row = |line: &str| -> Value { serde_json::from_str(line).expect("JSON") };
    let (sites, format) = (row(lines[0]), row(lines[1]));
    for key in ["event", "tracepoint", "listeners", "unknown", "kernel"] {
        assert_eq!(sites[key], format[key], "{key}");
    }
    assert!(format["fields"].is_array());
    let mut texts = lines[2..].split(|line| *line == "--");
    let (sites, format) = (texts.next().expect("sites"), texts.next().expect("format"));
    let state = sites[0].strip_prefix("oom:compact_retry  ");
    let state = format!("  state     {}", state.expect("its name"));
    let state = format.iter().position(|line| *line == state);
    let state = state.expect("a state");
    assert!(sites[1].starts_with("  site      "), "{sites:?}");
    assert_eq!(sites[1..], format[state + 1..state + sites.len()]);
}

#[test]
fn a_captured_kernel_has_no_sites() {
    let output = run(
        "format",
        &fixture("6.18.15-x86_64"),
        &["--sites", "sched:sched_switch"],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("a captured kernel, which has no code"),
        "{}",
        stderr(&output)
    );
}
