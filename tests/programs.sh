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

# One object for several kernels, by libbpf: each program passes the verifier here.
TRACEPOINTS_WRITE_ACCESSORS=$work/accessors.o TRACEPOINTS_WRITE_OFFSETS=$work/offsets.o \
    cargo test --quiet --test it the_object_for_other_kernels >"$work/objects.log" ||
    { cat "$work/objects.log"; exit 1; }
unshare --mount bash -euo pipefail -c '
    mount --make-rprivate /
    mount -t bpf bpf /sys/fs/bpf
    bpftool prog loadall "$work/accessors.o" /sys/fs/bpf/accessors type tracepoint
    set -- /sys/fs/bpf/accessors/*
    echo "$# programs for several kernels passed the verifier"
    [ "$#" -ge 20 ]
'

# The recipes in Rust: structs made by build.rs and included, and constants, in both
# editions and with both versions of aya-ebpf.
root=$PWD
for variant in 2021-0.1 2024-0.2; do
    recipe=$work/recipe-$variant
    mkdir -p "$recipe/src"
    cat >"$recipe/Cargo.toml" <<TOML
[package]
name = "recipe"
version = "0.0.0"
edition = "${variant%-*}"

[dependencies]
aya-ebpf = "${variant#*-}"

[build-dependencies]
tracepoints = { path = "$root", default-features = false }

[workspace]
TOML
    cat >"$recipe/build.rs" <<RUST
use tracepoints::{Kernel, emit::{FieldConstants, RustModule}};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kernel = Kernel::at("$root/tests/fixtures/6.18.15-x86_64")?;
    let mut module = RustModule::new();
    let mut constants = FieldConstants::new();
    for event in ["sched:sched_process_exec", "sched:sched_process_exit", "ipi:ipi_send_cpumask"] {
        let tracepoint = kernel.tracepoint(event)?;
        module.add(&tracepoint)?;
        for field in tracepoint.format().fields() {
            constants.add(tracepoint.name(), field.name())?;
        }
    }
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("context.rs"), module.to_string())?;
    std::fs::write(out.join("module.rs"), module.to_mod("context"))?;
    std::fs::write(out.join("fields.rs"), constants.rust())?;
    Ok(())
}
RUST
    cat >"$recipe/src/lib.rs" <<'RUST'
#![no_std]

include!(concat!(env!("OUT_DIR"), "/context.rs"));
include!(concat!(env!("OUT_DIR"), "/fields.rs"));
pub mod apart {
    include!(concat!(env!("OUT_DIR"), "/module.rs"));
}

/// # Safety
///
/// `ctx` is a program's context.
pub unsafe fn pid(ctx: *const u8) -> Option<i64> {
    let field = TracepointField::get(&tracepoint_fields.sched_process_exit_pid);
    let _ = core::mem::offset_of!(trace_event_raw_sched_process_exec, pid);
    unsafe { field.number(ctx) }
}
RUST
    RUSTFLAGS="-D warnings" CARGO_TARGET_DIR=$work/recipes \
        cargo check --quiet --manifest-path "$recipe/Cargo.toml"
    echo "the recipes in Rust compile: edition ${variant%-*}, aya-ebpf ${variant#*-}"
done

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
