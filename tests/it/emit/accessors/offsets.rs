//! Constants that the loader sets: one object, right on the kernel at hand. It is C; a
//! program in Rust has the same symbol of the same layout.

use std::collections::BTreeMap;

use aya::maps::RingBuf;
use aya::programs::TracePoint;
use aya::{EbpfLoader, maps::MapData};

use super::*;
use crate::support::live::{is_inside, live};
use tracepoints::emit::FieldConstants;

const FIELDS: [(&str, &str); 7] = [
    ("sched:sched_process_exit", "pid"),
    ("sched:sched_process_exit", "comm"),
    ("sched:sched_process_free", "pid"),
    ("sched:sched_process_free", "comm"),
    ("syscalls:sys_enter_unlinkat", "dfd"),
    ("syscalls:sys_enter_unlinkat", "pathname"),
    ("sched:sched_process_exit", "no_such_field"),
];

const PROGRAMS: &str = r#"
#include "accessors.h"

struct event {
	unsigned int kind;
	unsigned int has;
	long long number;
	char text[32];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} ring SEC(".maps");

char LICENSE[] SEC("license") = "GPL";

static __always_inline int end(const void *ctx, unsigned int kind,
			       const volatile struct tracepoint_field *pid,
			       const volatile struct tracepoint_field *comm)
{
	struct event *event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);

	if (!event)
		return 0;
	event->kind = kind;
	event->has = tracepoint_has(&tracepoint_fields.sched_process_exit_no_such_field);
	event->number = tracepoint_number(ctx, pid);
	tracepoint_string(ctx, comm, event->text, sizeof(event->text));
	bpf_ringbuf_submit(event, 0);
	return 0;
}

SEC("tracepoint/sched/sched_process_exit")
int on_sched_process_exit(void *ctx)
{
	return end(ctx, 0, &tracepoint_fields.sched_process_exit_pid,
		   &tracepoint_fields.sched_process_exit_comm);
}

SEC("tracepoint/sched/sched_process_free")
int on_sched_process_free(void *ctx)
{
	return end(ctx, 1, &tracepoint_fields.sched_process_free_pid,
		   &tracepoint_fields.sched_process_free_comm);
}

SEC("tracepoint/syscalls/sys_enter_unlinkat")
int on_sys_enter_unlinkat(void *ctx)
{
	struct event *event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);

	if (!event)
		return 0;
	event->kind = 2;
	event->has = bpf_get_current_pid_tgid() >> 32;
	event->number = tracepoint_number(ctx, &tracepoint_fields.sys_enter_unlinkat_dfd);
	bpf_probe_read_user_str(event->text, sizeof(event->text),
		(void *)(unsigned long)tracepoint_number(ctx, &tracepoint_fields.sys_enter_unlinkat_pathname));
	bpf_ringbuf_submit(event, 0);
	return 0;
}
"#;

pub(super) fn constants() -> FieldConstants {
    let mut constants = FieldConstants::new();
    for (event, field) in FIELDS {
        let event = event.parse().expect("a name");
        constants.add(&event, field).expect("new");
    }
    constants
}

pub(super) fn object() -> Option<Vec<u8>> {
    if let Some(path) = std::env::var_os("TRACEPOINTS_OFFSETS") {
        return Some(fs::read(path).expect("the object"));
    }
    let dir = tempfile::tempdir().expect("a directory");
    compile(&constants().c(), PROGRAMS, "bpf", dir.path())
}

/// Written for a machine without clang.
#[test]
fn the_object_for_other_kernels() {
    let Some(object) = object() else {
        return;
    };
    if let Some(path) = std::env::var_os("TRACEPOINTS_WRITE_OFFSETS") {
        fs::write(path, object).expect("written");
    }
}

#[test]
fn text_in_both_languages() {
    let constants = constants();
    insta::assert_snapshot!(format!("{}\n== Rust\n{}", constants.c(), constants.rust()));
    let mut again = constants.clone();
    let event = "sched:sched_process_exit".parse().expect("a name");
    assert!(matches!(
        again.add(&event, "pid"),
        Err(tracepoints::Error::Conflict { .. })
    ));
}

/// Of each kernel, what the constants are set to.
#[test]
fn places_on_every_fixture() {
    let mut text = String::new();
    for root in support::fixtures() {
        let Ok(offsets) = constants().offsets(&Kernel::at(&root).expect("a kernel")) else {
            continue;
        };
        let places = offsets.places().iter().zip(FIELDS);
        let places = places.map(|(place, (event, field))| {
            let event = event.split(':').nth(1).expect("a name");
            let (offset, size, how) = (place.offset(), place.size(), place.how());
            format!("  {event}.{field}: {size} bytes at {offset}, {how:#x}\n")
        });
        let places: String = places.collect();
        text += &format!("{}\n{places}", support::name(&root));
        assert_eq!(offsets.to_bytes().len(), 8 * FIELDS.len());
    }
    insta::assert_snapshot!(text);
}

#[test]
fn set_at_start_they_are_the_kernels() {
    let Some(kernel) = live() else {
        return;
    };
    let Some(object) = object() else {
        assert!(!is_inside() || std::env::var_os("TRACEPOINTS_OFFSETS").is_none());
        return;
    };
    let bytes = constants().offsets(&kernel).expect("places").to_bytes();
    let mut ebpf = EbpfLoader::new()
        .override_global("tracepoint_fields", bytes.as_slice(), true)
        .load(&object)
        .expect("an object");
    let ring = ebpf.take_map("ring").expect("a map");
    let mut ring: RingBuf<MapData> = RingBuf::try_from(ring).expect("a ring");
    for (category, event) in [
        ("sched", "sched_process_exit"),
        ("sched", "sched_process_free"),
        ("syscalls", "sys_enter_unlinkat"),
    ] {
        let program = ebpf.program_mut(&format!("on_{event}")).expect("a program");
        let program: &mut TracePoint = program.try_into().expect("a tracepoint's");
        program.load().expect("loaded");
        program.attach(category, event).expect("attached");
    }
    let path = std::env::temp_dir().join("unlinked by offsets");
    fs::write(&path, "").expect("a file");
    rustix::fs::unlinkat(rustix::fs::CWD, &path, rustix::fs::AtFlags::empty()).expect("unlinked");
    let mut child = Command::new("sh")
        .args(["-c", ":"])
        .spawn()
        .expect("a child");
    let pid = i64::from(child.id());
    let _ = child.wait().expect("it ends");
    std::thread::sleep(super::running::grace());
    drop(ebpf);

    let mut found = BTreeMap::new();
    while let Some(item) = ring.next() {
        let word = |at: usize| u32::from_ne_bytes(item[at..at + 4].try_into().expect("four"));
        let number = i64::from_ne_bytes(item[8..16].try_into().expect("eight"));
        let text = item[16..]
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        match word(0) {
            kind @ (0 | 1) if number == pid => {
                assert_eq!((word(4), text), (0, &b"sh"[..]), "{kind}");
                *found.entry(kind).or_insert(0) += 1;
            }
            2 if word(4) == std::process::id() => {
                let expected = path.to_string_lossy();
                let length = expected.len().min(31);
                assert_eq!((number, text), (-100, &expected.as_bytes()[..length]));
                *found.entry(2).or_insert(0) += 1;
            }
            _ => {}
        }
    }
    assert_eq!(found, BTreeMap::from([(0, 1), (1, 1), (2, 1)]));
}
