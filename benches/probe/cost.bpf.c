/*
 * The programs that the benchmark compares with: what a C programmer writes for the same
 * questions. Compiled when the benchmark runs, with PID defined as the process to be watched.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} counts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 24);
} records SEC(".maps");

/* The context of syscalls:sys_enter_write. */
struct enter_write {
    __u64 common;
    long nr;
    unsigned long fd;
    unsigned long buf;
    unsigned long count;
};

struct record {
    __u64 time;
    __u32 cpu;
    __u32 pid;
    __u32 tid;
    char comm[16];
    unsigned long fd;
    unsigned long count;
};

static __always_inline int count(void)
{
    __u32 key = 0;
    __u64 *count;

    if (bpf_get_current_pid_tgid() >> 32 != PID)
        return 0;
    count = bpf_map_lookup_elem(&counts, &key);
    if (count)
        *count += 1;
    return 0;
}

SEC("raw_tp/sys_enter")
int count_raw(void *context)
{
    return count();
}

SEC("raw_tp/flock_lock_inode")
int count_lock(void *context)
{
    return count();
}

SEC("tp/syscalls/sys_enter_write")
int count_tp(void *context)
{
    return count();
}

SEC("tp/syscalls/sys_enter_write")
int stream_tp(struct enter_write *context)
{
    __u64 both = bpf_get_current_pid_tgid();
    struct record *record;

    if (both >> 32 != PID)
        return 0;
    record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);
    if (!record)
        return 0;
    record->time = bpf_ktime_get_ns();
    record->cpu = bpf_get_smp_processor_id();
    record->pid = both >> 32;
    record->tid = both;
    bpf_get_current_comm(record->comm, sizeof(record->comm));
    record->fd = context->fd;
    record->count = context->count;
    bpf_ringbuf_submit(record, 0);
    return 0;
}
