#!/usr/bin/env bash
# The emitted programs, for real: those in C pass the running kernel's verifier,
# those in Rust compile against aya. Needs root, clang, bpftool, libbpf's headers,
# and the crates aya-ebpf and aya-log-ebpf.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --quiet --release -p tracepoints-cli
tracepoints=$PWD/target/release/tracepoints
work=$PWD/target/programs
rm -rf "$work/c" "$work/rust/src"
mkdir -p "$work/c" "$work/rust/src/bin"

# Of different shapes: system calls with and without strings, dynamic strings and
# bitmasks, arrays of text and of bytes, pointers, enums, templates, and events
# whose struct bears another name.
events="
    sched:sched_process_exec sched:sched_process_exit sched:sched_process_free
    sched:sched_process_fork sched:sched_switch sched:sched_wakeup sched:sched_stat_runtime
    syscalls:sys_enter_unlinkat syscalls:sys_exit_unlinkat syscalls:sys_enter_openat
    syscalls:sys_enter_execve syscalls:sys_enter_write
    raw_syscalls:sys_enter signal:signal_generate task:task_rename
    irq:irq_handler_entry irq:softirq_entry timer:hrtimer_start
    workqueue:workqueue_execute_start net:netif_receive_skb net:net_dev_xmit skb:kfree_skb
    sock:inet_sock_set_state tcp:tcp_probe tcp:tcp_retransmit_skb fib:fib_table_lookup
    block:block_rq_complete kmem:mm_page_alloc power:cpu_idle
    ipi:ipi_send_cpumask cgroup:cgroup_mkdir writeback:writeback_dirty_folio
    bpf_trace:bpf_trace_printk"

# In namespaces of its own: tracefs to read, and a bpffs to load programs into.
export tracepoints work events
unshare --mount bash -euo pipefail -c '
    mount --make-rprivate /
    mount -t tracefs tracefs /sys/kernel/tracing
    mount -t bpf bpf /sys/fs/bpf
    loaded=0
    for event in $events; do
        # Not every kernel is built with all of them.
        [ -d "/sys/kernel/tracing/events/${event/://}" ] || { echo "not here: $event"; continue; }
        name=${event/:/-}
        "$tracepoints" format --emit skel-c "$event" > "$work/c/$name.c"
        "$tracepoints" format --emit skel-rust "$event" > "$work/rust/src/bin/$name.rs"
        clang -O2 -g -Wall -Werror -target bpf "-I/usr/include/$(uname -m)-linux-gnu" \
            -c "$work/c/$name.c" -o "$work/c/$name.o"
        bpftool prog load "$work/c/$name.o" "/sys/fs/bpf/$name" type tracepoint
        rm "/sys/fs/bpf/$name"
        loaded=$((loaded + 1))
    done
    echo "$loaded programs in C passed the verifier"
    [ "$loaded" -ge 20 ]
'

cat > "$work/rust/Cargo.toml" <<'TOML'
[package]
name = "programs"
version = "0.0.0"
edition = "2024"

[dependencies]
aya-ebpf = "0.2"
aya-log-ebpf = "0.2"

[profile.dev]
panic = "abort"

[workspace]
TOML
# For the host, whose compiler is there: the types and the calls are the same.
RUSTFLAGS="-D warnings" cargo check --quiet --manifest-path "$work/rust/Cargo.toml"
echo "$(find "$work/rust/src/bin" -name '*.rs' | wc -l) programs in Rust compile"
