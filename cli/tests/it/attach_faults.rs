//! `attach`, `bench` and `sites` when disks are full and when they are killed.

use crate::command::{stderr, stdout};
use crate::live::{MOUNT, in_namespace};
use crate::support::skip;

/// The file of `attach --output` is named by what cannot be written to it, the command that
/// it traces ends with it, and nothing stays attached.
#[test]
fn a_disk_that_attach_fills() {
    let script = format!(
        "{MOUNT}cd \"$(mktemp -d)\"
         mkdir fs; mount -t tmpfs -o size=8k none fs
         for arguments in '' --json '--count --interval 0.01'; do
             status=0
             \"$TRACEPOINTS\" attach 'syscalls:*' $arguments -o fs/out -- \
                 sh -c 'echo $$ > pid; while :; do /bin/true; done' 2> said || status=$?
             echo $status; grep -v 'did not happen' said
             test ! -e /proc/$(cat pid)
         done
         umount fs; rm -r \"$PWD\""
    );
    let Some(output) = in_namespace(&script) else {
        return;
    };
    assert!(
        output.status.success(),
        "{}\n{}",
        stdout(&output),
        stderr(&output)
    );
    let said = "1\ntracepoints: fs/out: No space left on device (os error 28)\n";
    assert_eq!(stdout(&output), said.repeat(3));
}

/// `attach`, `bench` and `sites`, killed at any moment: their programs and links go with
/// them, which the kernel's memory tells.
#[test]
fn kills_leave_no_listeners() {
    let script = format!(
        "{MOUNT}
         event=raw_syscalls:sys_enter
         # A name that no other test's processes have.
         name=tp$$
         cp \"$TRACEPOINTS\" $name
         ours() {{
             \"$TRACEPOINTS\" sites --listened --json $event 2> /dev/null |
                 tr '{{' '\\n' | grep -cF \"comm\\\":\\\"$name\\\"\" || :
         }}
         for moment in 0.02 0.06 0.15 0.4 1; do
             for arguments in \"attach $event\" \"attach --count $event\" \"bench $event\" \
                 \"sites $event\" \"attach --hist id $event -- sleep 1000\"; do
                 ./$name $arguments > /dev/null 2>&1 & pid=$!
                 sleep $moment
                 kill -9 $pid 2> /dev/null || :
                 wait $pid 2> /dev/null || :
                 for try in 1 2 3 4 5 6 7 8 9 10; do
                     left=$(ours)
                     test $left = 0 && break
                     sleep 0.1
                 done
                 test $left = 0 || echo \"$arguments after $moment: $left\"
             done
         done
         # It would be seen.
         ./$name attach --count $event > /dev/null 2> said & pid=$!
         for try in $(seq 100); do
             grep -q attached said && break
             sleep 0.1
         done
         seen=$(ours)
         kill -INT $pid; wait $pid || :
         test $seen = 0 && echo blind || echo seen"
    );
    let script = format!("cd \"$(mktemp -d)\"\n{script}\nrm -r \"$PWD\"");
    let Some(output) = in_namespace(&script) else {
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));
    match stdout(&output) {
        "blind\n" => skip("this kernel does not tell who listens"),
        out => assert_eq!(out, "seen\n"),
    }
}

/// The file of `attach --output` keeps its content until it is attached, and no longer.
#[test]
fn a_file_that_is_there_already() {
    let script = format!(
        "{MOUNT}cd \"$(mktemp -d)\"
         echo before > out
         \"$TRACEPOINTS\" attach sched:no_such_event -o out -- /bin/true 2> said || cat out
         # It writes nothing.
         \"$TRACEPOINTS\" attach sched:sched_process_exec/pid==1/ -o out -- /bin/true 2> said
         wc -c < out
         echo before > out
         \"$TRACEPOINTS\" attach sched:sched_process_exec -o out -- /bin/true 2> said
         grep -c before out || wc -l < out
         \"$TRACEPOINTS\" attach sched:sched_process_exec -o /dev/null -- /bin/true 2> said
         rm -r \"$PWD\""
    );
    let Some(output) = in_namespace(&script) else {
        return;
    };
    assert!(
        output.status.success(),
        "{}\n{}",
        stdout(&output),
        stderr(&output)
    );
    assert_eq!(stdout(&output), "before\n0\n0\n1\n");
}
