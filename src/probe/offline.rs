//! The programs run offline, without a kernel and without privileges: on records
//! of captured kernels and on any the formats allow.

// The helpers get addresses, as the kernel's do.
#![allow(unsafe_code)]

mod filters;
mod groups;
mod records;
mod stacks;

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::group::KEY_SIZE;
use super::plan::EventPlan;
use super::plan::Source;
use super::program::{self, Action, Adding, FieldSource, GET_USER_STACK, Tasks};
use super::stacks::STACK;
use crate::Kernel;
use crate::bpf::asm::Program;
use crate::context::Context;
use crate::context::access::Access;
use crate::filter::{Filter, Task};
use crate::format::{FieldKind, Format};
use crate::machine::{Machine, until_nul};
use crate::record::{Record, Value};
use records::Recorder;

const RING: i32 = 100;
const COUNTS: i32 = 101;
const TASKS: i32 = 102;
const GROUPED: i32 = 103;
const STACKS: i32 = 104;
const SCRATCHES: i32 = 105;

/// What the kernel is, for a program that runs offline.
#[derive(Default)]
struct World {
    /// The context, and what of it exists.
    context: Range<u64>,
    /// What the ring buffer gives out, and whether it has been submitted.
    ring: Vec<u64>,
    submitted: bool,
    full: bool,
    /// The value of each key.
    counts: Vec<u64>,
    tasks: Vec<u32>,
    /// The one group there is, once there is one.
    key: Option<[u8; KEY_SIZE]>,
    group: Vec<u64>,
    no_more_groups: bool,
    /// The program's place for a stack.
    scratch: Vec<u64>,
    /// Space for stacks that are kept, and the number of each.
    stacks: Vec<u64>,
    stack_numbers: Vec<u64>,
    /// The stacks there are now, of the kernel and of user space; `None` faults.
    now: [Option<Vec<u64>>; 2],
    task: Option<Task>,
    /// What every user pointer points at; `None` faults.
    user_text: Option<Vec<u8>>,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

fn in_world<T>(act: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with(|world| act(&mut world.borrow_mut()))
}

const EFAULT: u64 = -14_i64 as u64;
const E2BIG: u64 = -7_i64 as u64;

fn write(to: u64, bytes: &[u8]) {
    // SAFETY: `to` is a place on the stack or in the ring, both of this thread, and
    // the program that the kernel's verifier takes keeps within them.
    unsafe { std::ptr::copy(bytes.as_ptr(), to as *mut u8, bytes.len()) }
}

/// A key or a value, of the size that the map has.
fn on_stack<T: Copy>(at: u64) -> T {
    // SAFETY: programs keep keys and values on their stack, and those are integers or
    // arrays of them.
    unsafe { (at as *const T).read_unaligned() }
}

/// The fields that the context has.
fn accesses<'a>(format: &'a Format, context: &Context) -> Vec<Access<'a>> {
    let accesses = Access::of_fields(format, context).expect("accesses");
    accesses
        .into_iter()
        .filter_map(|(_, access)| access)
        .collect()
}

fn sources<'a>(accesses: &[Access<'a>]) -> Vec<FieldSource<'a>> {
    let sources = accesses.iter();
    sources
        .map(|access| (access.field, Source::of(access)))
        .collect()
}

/// Bytes of the context; the caller has looked whether they are inside of it.
fn of_context<'a>(from: u64, size: u64) -> &'a [u8] {
    // SAFETY: it is inside of the context, which lives as long as the program runs.
    unsafe { std::slice::from_raw_parts(from as *const u8, size as usize) }
}

fn read_kernel(to: u64, size: u64, from: u64, _: u64, _: u64) -> u64 {
    let inside = in_world(|world| {
        world.context.start <= from && from.saturating_add(size) <= world.context.end
    });
    if !inside {
        write(to, &vec![0; size as usize]);
        return EFAULT;
    }
    write(to, of_context(from, size));
    0
}

fn read_kernel_text(to: u64, size: u64, from: u64, _: u64, _: u64) -> u64 {
    let end = in_world(|world| match world.context.contains(&from) {
        true => world.context.end,
        false => from,
    });
    // The kernel reads on behind the context; here is nothing.
    let text = until_nul(of_context(from, end - from));
    let text = &text[..text.len().min(size as usize - 1)];
    write(to, text);
    write(to + text.len() as u64, &[0]);
    text.len() as u64 + 1
}

fn read_user_text(to: u64, size: u64, _: u64, _: u64, _: u64) -> u64 {
    let Some(mut text) = in_world(|world| world.user_text.clone()) else {
        return EFAULT;
    };
    text.truncate(size as usize - 1);
    text.push(0);
    write(to, &text);
    text.len() as u64
}

fn comm(to: u64, size: u64, _: u64, _: u64, _: u64) -> u64 {
    let comm = in_world(|world| world.task.expect("a task").comm);
    write(to, &comm[..size as usize]);
    0
}

fn pid_tgid(_: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
    let task = in_world(|world| world.task.expect("a task"));
    u64::from(task.pid) << 32 | u64::from(task.tid)
}

fn cpu(_: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
    in_world(|world| world.task.expect("a task").cpu.into())
}

fn now(_: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
    1_000_000_007
}

fn reserve(map: u64, size: u64, _: u64, _: u64, _: u64) -> u64 {
    assert_eq!(map, RING as u64);
    in_world(|world| {
        assert!(size as usize <= world.ring.len() * 8);
        match world.full {
            true => 0,
            false => world.ring.as_ptr() as u64,
        }
    })
}

fn submit(record: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
    in_world(|world| {
        assert_eq!(record, world.ring.as_ptr() as u64);
        world.submitted = true;
    });
    0
}

fn lookup(map: u64, key: u64, _: u64, _: u64, _: u64) -> u64 {
    if map == GROUPED as u64 {
        return in_world(|world| match world.key == Some(on_stack(key)) {
            true => world.group.as_ptr() as u64,
            false => 0,
        });
    }
    if map == STACKS as u64 {
        let number: u64 = on_stack(key);
        return in_world(|world| {
            let mut known = world.stack_numbers.iter();
            let at = known.position(|known| *known == number);
            at.map_or(0, |at| (&raw const world.stacks[at * STACK]) as u64)
        });
    }
    let key: u32 = on_stack(key);
    in_world(|world| match map as i32 {
        SCRATCHES => world.scratch.as_ptr() as u64,
        COUNTS => match world.counts.get(key as usize) {
            Some(count) => (&raw const *count) as u64,
            None => 0,
        },
        TASKS => match world.tasks.contains(&key) {
            true => world.tasks.as_ptr() as u64,
            false => 0,
        },
        other => panic!("no map {other}"),
    })
}

/// `bpf_get_stack()`.
fn stack(_: u64, to: u64, size: u64, flags: u64, _: u64) -> u64 {
    let which = usize::from(flags == GET_USER_STACK as u64);
    let Some(stack) = in_world(|world| world.now[which].clone()) else {
        return EFAULT;
    };
    let bytes: Vec<u8> = stack.iter().flat_map(|word| word.to_ne_bytes()).collect();
    assert!(bytes.len() as u64 <= size);
    write(to, &bytes);
    bytes.len() as u64
}

fn update(map: u64, key: u64, value: u64, flags: u64, _: u64) -> u64 {
    if map == STACKS as u64 {
        assert_eq!(flags, 1, "BPF_NOEXIST");
        let (number, stack): (u64, [u64; STACK]) = (on_stack(key), on_stack(value));
        return in_world(|world| {
            let at = world.stack_numbers.len() * STACK;
            let Some(place) = world.stacks.get_mut(at..at + STACK) else {
                return E2BIG;
            };
            place.copy_from_slice(&stack);
            world.stack_numbers.push(number);
            0
        });
    }
    if map == GROUPED as u64 {
        let (key, value): ([u8; KEY_SIZE], [u64; 4]) = (on_stack(key), on_stack(value));
        return in_world(|world| {
            if world.no_more_groups {
                return E2BIG;
            }
            world.key = Some(key);
            world.group = value.to_vec();
            0
        });
    }
    assert_eq!(map, TASKS as u64);
    let key: u32 = on_stack(key);
    in_world(|world| world.tasks.push(key));
    0
}

/// Runs a program on a context.
fn run(program: &Program, context: &mut [u8]) {
    let bytes = program.bytes();
    let mut vm = rbpf::EbpfVmRaw::new(Some(&bytes)).expect("a program");
    let helpers: [(u32, rbpf::ebpf::Helper); 12] = [
        (1, lookup),
        (2, update),
        (5, now),
        (8, cpu),
        (14, pid_tgid),
        (16, comm),
        (67, stack),
        (113, read_kernel),
        (114, read_user_text),
        (115, read_kernel_text),
        (131, reserve),
        (132, submit),
    ];
    for (number, helper) in helpers {
        vm.register_helper(number, helper).expect("a helper");
    }
    in_world(|world| {
        let start = context.as_ptr() as u64;
        world.context = start..start + context.len() as u64;
        world.submitted = false;
        let ring = world.ring.as_ptr() as u64;
        vm.register_allowed_memory(ring..ring + 8 * world.ring.len() as u64);
        let counts = world.counts.as_ptr() as u64;
        vm.register_allowed_memory(counts..counts + 8 * world.counts.len() as u64);
        let group = world.group.as_ptr() as u64;
        vm.register_allowed_memory(group..group + 8 * world.group.len() as u64);
        for words in [&world.scratch, &world.stacks] {
            let start = words.as_ptr() as u64;
            vm.register_allowed_memory(start..start + 8 * words.len() as u64);
        }
    });
    assert_eq!(
        vm.execute_program(context).expect("it runs"),
        0,
        "{program}"
    );
}

fn task() -> Task {
    let mut comm = [0; 16];
    comm[..7].copy_from_slice(b"offline");
    Task {
        pid: 10,
        tid: 11,
        comm,
        cpu: 3,
    }
}

fn bytes_of<'v>(value: &Value<'v>) -> Option<&'v [u8]> {
    match *value {
        Value::Text(bytes) | Value::Bytes(bytes) => Some(bytes),
        Value::Integers(integers) => Some(integers.bytes()),
        _ => None,
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Captured kernels of this machine's byte order and word size.
const KERNELS: [&str; 4] = [
    "5.10.223-x86_64",
    "6.1.192-rt-x86_64",
    "6.18.15-x86_64",
    "7.3.4-x86_64",
];

/// The events whose context is their record: all but system calls, of which the
/// number is elsewhere.
fn recorded_events(kernel: &Kernel) -> Vec<String> {
    let events = kernel.events().expect("events");
    let names = events.names().iter();
    let names = names.filter(|name| name.category() != "syscalls");
    names.map(ToString::to_string).collect()
}

/// A record as the kernel would write it: any bytes, but dynamic data are in it.
fn written(format: &Format, bytes: &[u8], lengths: &[u8]) -> Vec<u8> {
    let all = format.common_fields().iter().chain(format.fields());
    let end = all
        .map(|field| field.offset() + field.size())
        .max()
        .unwrap_or(8);
    let mut record: Vec<u8> = bytes.iter().copied().cycle().take(end as usize).collect();
    let mut lengths = lengths.iter().cycle();
    for field in format.fields() {
        if !field.kind().is_dynamic() || field.size() != 4 {
            continue;
        }
        let length = u32::from(*lengths.next().unwrap_or(&0));
        let start = record.len() as u32;
        let base = match field.kind() {
            FieldKind::RelLoc => field.offset() + 4,
            _ => 0,
        };
        let location = (length << 16) | (start - base);
        record[field.offset() as usize..][..4].copy_from_slice(&location.to_ne_bytes());
        let data = bytes.iter().rev().copied().cycle().take(length as usize);
        record.extend(data);
    }
    record.resize(record.len().next_multiple_of(8), 0);
    record
}

/// Any bytes, or such as make strings that can be written in a filter.
fn record_bytes() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![8 => b'a'..b'd', 1 => Just(0)];
    prop_oneof![
        prop::collection::vec(any::<u8>(), 16..200),
        prop::collection::vec(text, 16..200),
    ]
}

/// What the kernel gives a program with this record: the record, but of a system call
/// its values, each where the context has it.
fn context_of(record: &Record<'_>, accesses: &[Access<'_>]) -> Vec<u8> {
    if !is_syscall(record.format()) {
        let mut context = record.bytes().to_vec();
        // The kernel keeps a pointer of its own there.
        context[..8].fill(0xee);
        return context;
    }
    let end = accesses.iter().map(|access| access.slot.end()).max();
    let mut context = vec![0xee; end.unwrap_or(8).max(64) as usize];
    for Access { field, slot, .. } in accesses {
        // The number is an `int` in the record, and may be a `long` here.
        let raw = record.raw(field).expect("it was written so");
        let value = match field.name() {
            "__syscall_nr" => Machine::NATIVE.signed(raw),
            _ => Machine::NATIVE.unsigned(raw) as i64,
        };
        let (start, end) = (slot.offset() as usize, slot.end() as usize);
        context[start..end].copy_from_slice(&value.to_le_bytes()[..end - start]);
    }
    context
}

fn is_syscall(format: &Format) -> bool {
    format.has_syscall_shape()
}

#[test]
fn a_program_for_reading() {
    let kernel = Kernel::at(fixture("6.18.15-x86_64")).expect("a kernel");
    let exec = Recorder::new(&kernel, "sched:sched_process_exec").expect("a recorder");
    insta::assert_snapshot!(exec.program);
    let tracepoint = &exec.tracepoint;
    let filter =
        Filter::parse("pid > 7 && filename == \"/bin/rm\" || comm != \"sh\"").expect("a filter");
    let bound = filter.bind(tracepoint.format()).expect("it fits");
    let context = tracepoint.context().expect("a context");
    let accesses = accesses(tracepoint.format(), &context);
    let program = program::on_event(
        2,
        Tasks::InMap(TASKS),
        Some((bound.root(), &sources(&accesses))),
        &Action::Count { counts: COUNTS },
        Adding::Plain,
    )
    .expect("a program");
    insta::assert_snapshot!(program);
}

#[test]
fn children_are_followed() {
    let kernel = Kernel::at(fixture("6.18.15-x86_64")).expect("a kernel");
    let fork = kernel
        .tracepoint("sched:sched_process_fork")
        .expect("an event");
    let plan = EventPlan::new(&fork, Some(&["child_pid".to_owned()]), 64).expect("a plan");
    let child = plan.fields[0].source.clone();
    let program = program::on_fork(TASKS, &child, (COUNTS, 0)).expect("a program");
    let mut context = vec![0; 64];
    context[child.offset as usize..][..4].copy_from_slice(&77_u32.to_ne_bytes());
    in_world(|world| {
        world.tasks = vec![9];
        world.task = Some(task());
    });
    run(&program, &mut context);
    in_world(|world| assert_eq!(world.tasks, [9]));
    in_world(|world| world.tasks = vec![11]);
    run(&program, &mut context);
    in_world(|world| assert_eq!(world.tasks, [11, 77]));
}
