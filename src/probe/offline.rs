//! The programs run offline, without a kernel and without privileges: on records
//! of captured kernels and on any the formats allow.

// The helpers get addresses, as the kernel's do.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;

use super::constants;
use super::group::{GroupPlan, GroupValue, KEY_SIZE};
use super::plan::EventPlan;
use super::plan::Source;
use super::probed::{Hook, Probed};
use super::program::{self, Action, Adding, BUCKETS, FieldSource, Tasks};
use super::{FieldValue, PrettyPrinter, ProbeRecord};
use crate::bpf::asm::Program;
use crate::context::access::Access;
use crate::filter::{Filter, Task};
use crate::format::{Field, FieldKind, Format};
use crate::machine::{Machine, sign_extended, until_nul, zero_extended};
use crate::record::{Record, Value};
use crate::{Kernel, Tracepoint};

const RING: i32 = 100;
const COUNTS: i32 = 101;
const TASKS: i32 = 102;
const GROUPED: i32 = 103;

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
    let key: u32 = on_stack(key);
    in_world(|world| match map as i32 {
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

fn update(map: u64, key: u64, value: u64, _: u64, _: u64) -> u64 {
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
    let helpers: [(u32, rbpf::ebpf::Helper); 11] = [
        (1, lookup),
        (2, update),
        (5, now),
        (8, cpu),
        (14, pid_tgid),
        (16, comm),
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

/// An event, ready to be recorded.
struct Recorder {
    tracepoint: Tracepoint,
    plans: Arc<[EventPlan]>,
    program: Program,
}

impl Recorder {
    /// `None` for an event no program gets a context of.
    fn new(kernel: &Kernel, name: &str) -> Option<Self> {
        Self::with_limit(kernel, name, 64)
    }

    fn with_limit(kernel: &Kernel, name: &str, data_limit: u32) -> Option<Self> {
        let tracepoint = kernel.tracepoint(name).expect("an event");
        let plan = EventPlan::new(&tracepoint, None, data_limit).expect("a plan");
        let plans: Arc<[EventPlan]> = vec![plan].into();
        let action = Action::Record {
            plan: &plans[0],
            ring: RING,
            lost: COUNTS,
        };
        let program =
            program::on_event(0, Tasks::All, None, &action, Adding::Plain).expect("a program");
        Some(Self {
            tracepoint,
            plans,
            program,
        })
    }

    fn record(&self, context: &mut [u8]) -> ProbeRecord {
        in_world(|world| {
            world.ring = vec![u64::MAX; self.plans[0].size as usize / 8];
            world.counts = vec![0];
            world.task = Some(task());
            world.full = false;
        });
        run(&self.program, context);
        in_world(|world| {
            assert!(world.submitted);
            let bytes: Vec<u8> = world
                .ring
                .iter()
                .flat_map(|word| word.to_ne_bytes())
                .collect();
            ProbeRecord::new(&self.plans, &bytes).expect("a record")
        })
    }

    /// Compares what the program kept with what the record says, field by field.
    fn check(&self, bytes: &[u8]) -> usize {
        let format = self.tracepoint.format();
        let mut context = bytes.to_vec();
        // The kernel keeps a pointer of its own there.
        context[..8].fill(0xee);
        let kept = self.record(&mut context);
        assert_eq!(kept.task(), task());
        assert_eq!(kept.timestamp_ns(), 1_000_000_007);
        let record = Record::new(format, bytes, Machine::NATIVE);
        let mut compared = 0;
        for (name, value) in kept.fields() {
            let field = format.field(name).expect("a field");
            let recorded = match record.value(field) {
                Ok(recorded) => recorded,
                // What points outside of the record is what comes after it.
                Err(_) => continue,
            };
            assert!(
                is_kept(field, &value, &recorded),
                "{}: {name}: {value:?} is not {recorded:?}\n{}",
                self.tracepoint.name(),
                self.program
            );
            compared += 1;
        }
        compared
    }
}

/// Whether a value that was kept is the recorded one, or its beginning.
fn is_kept(field: &Field, kept: &FieldValue<'_>, recorded: &Value<'_>) -> bool {
    let (value, is_cut) = match kept {
        FieldValue::Whole(value) => (value, false),
        FieldValue::Cut(value) => (value, true),
        // User memory faults here.
        FieldValue::Unreadable { errno } => {
            return field.kind() == FieldKind::Pointer && *errno == 14;
        }
    };
    match (bytes_of(value), bytes_of(recorded)) {
        (Some(kept), Some(recorded)) if is_cut => {
            kept.len() < recorded.len() && recorded.starts_with(kept)
                // A cut inside of a string's last bytes loses its NUL alone.
                || kept == recorded
        }
        (Some(kept), Some(recorded)) => kept == recorded,
        (None, None) => {
            let (kept, recorded) = (value.integer(), recorded.integer());
            // An `int` in a machine word is its low half.
            kept == recorded
                || kept == recorded.map(|word| i64::from(word as i32))
                || kept == recorded.map(|word| i64::from(word as u32))
        }
        // BTF says of a typedef that it is a struct or an array.
        (Some(kept), None) => {
            Machine::NATIVE.unsigned(kept) as i64 == recorded.integer().unwrap_or(0)
        }
        (None, Some(_)) => false,
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever a record holds, the program keeps it.
    #[test]
    fn what_is_kept_is_what_was_recorded(
        kernel in 0..KERNELS.len(),
        event in any::<Index>(),
        bytes in prop::collection::vec(any::<u8>(), 16..200),
        lengths in prop::collection::vec(0..100_u8, 1..4),
    ) {
        let kernel = Kernel::at(fixture(KERNELS[kernel])).expect("a kernel");
        let events = recorded_events(&kernel);
        let recorder = Recorder::new(&kernel, event.get::<String>(&events)).expect("a recorder");
        let record = written(recorder.tracepoint.format(), &bytes, &lengths);
        recorder.check(&record);
    }

    /// A filter says the same in the kernel and in userspace.
    #[test]
    fn a_filter_is_the_same_in_the_kernel_and_in_userspace(
        kernel in 0..=KERNELS.len(),
        event in any::<Index>(),
        bytes in record_bytes(),
        lengths in prop::collection::vec(0..70_u8, 1..4),
        tree in tree(),
    ) {
        let made;
        let root = match KERNELS.get(kernel) {
            Some(name) => fixture(name),
            None => {
                made = made_kernel();
                made.path().to_owned()
            }
        };
        let kernel = Kernel::at(root).expect("a kernel");
        let events = kernel.events().expect("events");
        let tracepoint = kernel.tracepoint(event.get(events.names())).expect("an event");
        let format = tracepoint.format();
        let bytes = written(format, &bytes, &lengths);
        let record = Record::new(format, &bytes, Machine::NATIVE);
        let text = tree.text(format, &record);
        let filter = Filter::parse(&text).expect(&text);
        let bound = filter.bind(format).expect(&text);
        let expected = bound.matches(&record, &task()).expect(&text);
        let context = tracepoint.context().expect("a context");
        let accesses: Vec<Access<'_>> = Access::of_fields(tracepoint.format(), &context)
            .expect("accesses")
            .into_iter()
            .filter_map(|(_, access)| access)
            .collect();
        let program = program::on_event(
            0,
            Tasks::All,
            Some((bound.root(), &sources(&accesses))),
            &Action::Count { counts: COUNTS },
            Adding::Plain,
        )
        .expect("a program");
        in_world(|world| {
            world.counts = vec![0];
            world.task = Some(task());
        });
        let mut bytes = context_of(&record, &accesses);
        run(&program, &mut bytes);
        let passed = in_world(|world| world.counts[0]);
        prop_assert_eq!(passed, u64::from(expected), "{} on {}\n{}", text, tracepoint.name(), program);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever a record holds, it is counted in the group of its values.
    #[test]
    fn the_group_is_of_what_was_recorded(
        kernel in 0..KERNELS.len(),
        event in any::<Index>(),
        fields in prop::collection::vec(any::<Index>(), 1..4),
        measured in any::<Index>(),
        bytes in record_bytes(),
        lengths in prop::collection::vec(0..100_u8, 1..4),
    ) {
        let kernel = Kernel::at(fixture(KERNELS[kernel])).expect("a kernel");
        let events = recorded_events(&kernel);
        let tracepoint = kernel.tracepoint(event.get::<String>(&events)).expect("an event");
        let format = tracepoint.format();
        let names: Vec<String> = format.fields().iter().map(|field| field.name().to_owned()).collect();
        prop_assume!(!names.is_empty());
        let mut by: Vec<String> = fields.iter().map(|index| index.get(&names).clone()).collect();
        by.extend(["task.pid", "task.tid", "task.cpu", "task.comm"].map(str::to_owned));
        let measured = measured.get(&names).as_str();
        // Arrays make no groups, and strings are of no sum.
        let Ok(plan) = GroupPlan::new(&Probed::Event(tracepoint.clone()), &by, Some(measured), Hook::Event) else {
            return Ok(());
        };
        check_group(&tracepoint, &plan, &by, measured, &written(format, &bytes, &lengths));
    }
}

/// Runs the program of a group twice, on the same record.
fn check_group(
    tracepoint: &Tracepoint,
    plan: &GroupPlan,
    by: &[String],
    measured: &str,
    bytes: &[u8],
) {
    let format = tracepoint.format();
    let record = Record::new(format, bytes, Machine::NATIVE);
    let action = Action::Group {
        plan,
        map: GROUPED,
        lost: COUNTS,
        unreadable: 0,
    };
    let program =
        program::on_event(0, Tasks::All, None, &action, Adding::Plain).expect("a program");
    in_world(|world| {
        world.key = None;
        world.counts = vec![0];
        world.task = Some(task());
        world.no_more_groups = true;
    });
    let mut context = bytes.to_vec();
    run(&program, &mut context);
    in_world(|world| {
        assert_eq!((world.key, world.counts[0]), (None, 1));
        world.no_more_groups = false;
    });
    run(&program, &mut context);
    let key = in_world(|world| world.key).expect("a group");
    for (name, value) in std::iter::zip(by, plan.values(&key)) {
        let expected = match name.as_str() {
            "task.pid" => GroupValue::Unsigned(10),
            "task.tid" => GroupValue::Unsigned(11),
            "task.cpu" => GroupValue::Unsigned(3),
            "task.comm" => GroupValue::Text {
                text: "offline".to_owned(),
                is_cut: false,
            },
            name => match record.value(format.field(name).expect("a field")) {
                Ok(Value::Text(text)) => {
                    let kept = &text[..text.len().min(63)];
                    GroupValue::Text {
                        text: String::from_utf8_lossy(kept).into_owned(),
                        is_cut: kept.len() == 63,
                    }
                }
                // BTF alone says of a typedef that it is a pointer.
                Ok(recorded) => match (number_of(&recorded), &value) {
                    (number, GroupValue::Signed(_)) => GroupValue::Signed(number as i64),
                    (number, GroupValue::Pointer(_)) => GroupValue::Pointer(number),
                    (number, _) => GroupValue::Unsigned(number),
                },
                Err(_) => continue,
            },
        };
        assert_eq!(value, expected, "{}: {name}\n{program}", tracepoint.name());
    }
    let field = format.field(measured).expect("a field");
    let number = number_of(&record.value(field).expect("an integer"));
    let counted = |world: &mut World| world.group.clone();
    assert_eq!(in_world(counted), [1, number, number, number], "{measured}");
    run(&program, &mut context);
    let sum = number.wrapping_mul(2);
    assert_eq!(in_world(counted), [2, sum, number, number], "{measured}");
    // As another CPU finds it: nothing counted yet.
    in_world(|world| world.group = vec![0; 4]);
    run(&program, &mut context);
    assert_eq!(in_world(counted), [1, number, number, number], "{measured}");
    let (least, greatest) = match plan.measured.as_ref().expect("one").signed {
        true => (i64::MIN as u64, i64::MAX as u64),
        false => (0, u64::MAX),
    };
    in_world(|world| world.group = vec![1, 0, greatest, least]);
    run(&program, &mut context);
    assert_eq!(in_world(counted), [2, number, number, number], "{measured}");
    in_world(|world| world.group = vec![1, 0, least, greatest]);
    run(&program, &mut context);
    assert_eq!(
        in_world(counted),
        [2, number, least, greatest],
        "{measured}"
    );
}

fn number_of(value: &Value<'_>) -> u64 {
    match (value, bytes_of(value)) {
        (Value::Pointer(address), _) => *address,
        // BTF alone says of a typedef that it is an integer.
        (_, Some(bytes)) => Machine::NATIVE.unsigned(bytes),
        (value, None) => value.integer().expect("an integer") as u64,
    }
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

/// A kernel with events of what the captured ones have not: fields that are not
/// aligned, strings longer than a filter compares, `__rel_loc`.
fn made_kernel() -> tempfile::TempDir {
    const NUMBERS: &[(&str, u32, u32, bool)] = &[
        ("u8 a", 8, 1, false),
        ("s8 b", 9, 1, true),
        ("u16 c", 11, 2, false),
        ("s16 d", 13, 2, true),
        ("u32 e", 17, 4, false),
        ("int f", 21, 4, true),
        ("u64 g", 25, 8, false),
        ("s64 h", 33, 8, true),
        ("u64 i", 48, 8, false),
        ("s64 j", 56, 8, true),
        ("const void * k", 65, 8, false),
        ("bool l", 73, 1, false),
    ];
    const TEXTS: &[(&str, u32, u32, bool)] = &[
        ("char a[5]", 9, 5, true),
        ("char b[80]", 16, 80, true),
        ("__rel_loc char[] c", 96, 4, true),
        ("__data_loc char[] d", 100, 4, true),
        ("char e[16]", 105, 16, false),
        ("__rel_loc char f[]", 124, 4, true),
    ];
    let dir = tempfile::tempdir().expect("a directory");
    let tracing = dir.path().join("tracing");
    for (event, fields) in [("numbers", NUMBERS), ("texts", TEXTS)] {
        let lines = fields.iter().map(|(declaration, offset, size, signed)| {
            let signed = u8::from(*signed);
            format!("\tfield:{declaration};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n")
        });
        let format = format!(
            "name: {event}\nID: 7\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
            \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
            {}\nprint fmt: \"\"\n",
            lines.collect::<String>()
        );
        let path = tracing.join("events/made").join(event);
        fs::create_dir_all(&path).expect("a directory");
        fs::write(path.join("format"), format).expect("a file");
    }
    let listed = "made:numbers\nmade:texts\n";
    fs::write(tracing.join("available_events"), listed).expect("a file");
    dir
}

/// A filter yet without names and numbers.
#[derive(Clone, Debug)]
enum Tree {
    Test {
        field: Index,
        comparison: Index,
        /// Take the value at hand, so that equality is seen too.
        own: bool,
        /// And of a string, one byte more or less.
        twist: Index,
        number: i64,
        mask: Option<u64>,
    },
    /// Something of the task, compared with what it is or with a number.
    Task(Index, Index, u32),
    Not(Box<Tree>),
    Join(&'static str, Vec<Tree>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let test = (
        any::<Index>(),
        any::<Index>(),
        (any::<bool>(), any::<Index>()),
        prop_oneof![any::<i64>(), -3..300_i64],
        prop_oneof![
            Just(None),
            any::<u64>().prop_map(Some),
            (0..256_u64).prop_map(Some)
        ],
    );
    let test = test.prop_map(
        |(field, comparison, (own, twist), number, mask)| Tree::Test {
            field,
            comparison,
            own,
            twist,
            number,
            mask,
        },
    );
    let of_task = (any::<Index>(), any::<Index>(), 0..20_u32);
    let of_task = of_task.prop_map(|(subject, sign, number)| Tree::Task(subject, sign, number));
    let test = prop_oneof![6 => test, 1 => of_task];
    test.prop_recursive(3, 12, 3, |inner| {
        let some = prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            inner.prop_map(|tree| Tree::Not(Box::new(tree))),
            some.clone().prop_map(|trees| Tree::Join(" && ", trees)),
            some.prop_map(|trees| Tree::Join(" || ", trees)),
        ]
    })
}

impl Tree {
    fn text(&self, format: &Format, record: &Record<'_>) -> String {
        match self {
            Self::Not(tree) => format!("!({})", tree.text(format, record)),
            Self::Join(sign, trees) => {
                let trees: Vec<String> = trees
                    .iter()
                    .map(|tree| format!("({})", tree.text(format, record)))
                    .collect();
                trees.join(sign)
            }
            Self::Task(subject, sign, number) => {
                let sign = ["==", "!=", "<", "<=", ">", ">="][sign.index(6)];
                match subject.index(4) {
                    0 => format!("task.pid {sign} {number}"),
                    1 => format!("task.tid {sign} {number:#x}"),
                    2 => format!("task.cpu {sign} 0{number:o}"),
                    _ => {
                        let sign = if *number % 2 == 0 { "==" } else { "!=" };
                        let comm = ["offline", "offlin", "offline!", ""][*number as usize % 4];
                        format!("task.comm {sign} \"{comm}\"")
                    }
                }
            }
            Self::Test {
                field,
                comparison,
                own,
                twist,
                number,
                mask,
            } => {
                let fields: Vec<&Field> = format
                    .fields()
                    .iter()
                    .filter(|field| is_comparable(field, format))
                    .collect();
                if fields.is_empty() {
                    return "tid == 11".to_owned();
                }
                let field = field.get(&fields);
                let name = format!("args.{}", field.name());
                let value = record.value(field).expect("it was written so");
                if let Value::Text(text) = value {
                    let sign = ["==", "!="][comparison.index(2)];
                    let mut own_text = String::from_utf8_lossy(text).into_owned();
                    let is_own = *own && own_text.as_bytes() == text;
                    match twist.index(4) {
                        0 => drop(own_text.pop()),
                        1 => own_text.push('c'),
                        _ => {}
                    }
                    let fits = own_text.len() < 64 && !own_text.contains(['"', '\\', '\0']);
                    let text = match is_own && fits {
                        true => own_text,
                        false => format!("{number}"),
                    };
                    return format!("{name} {sign} \"{text}\"");
                }
                let sign = ["==", "!=", "<", "<=", ">", ">="][comparison.index(6)];
                let word = (field.size(), field.signed() == Some(true));
                // An `int` in a machine word is its low half.
                let (size, signed) = field.argument().unwrap_or(word);
                let value = value.integer().expect("an integer");
                let value = match signed {
                    true => sign_extended(value as u64, size),
                    false => zero_extended(value as u64, size) as i64,
                };
                if let Some(mask) = mask {
                    let number = if *own {
                        value as u64 & mask
                    } else {
                        *number as u64
                    };
                    return format!("{name} & {mask} {sign} {number}");
                }
                let number = if *own { value } else { *number };
                match signed {
                    true => format!("{name} {sign} {}", sign_extended(number as u64, size)),
                    false => format!("{name} {sign} {}", zero_extended(number as u64, size)),
                }
            }
        }
    }
}

/// Whether a filter can compare it: numbers, addresses, and strings in the record.
fn is_comparable(field: &Field, format: &Format) -> bool {
    match field.kind() {
        FieldKind::Pointer => !(is_syscall(format) && field.points_to_text()),
        FieldKind::Scalar => true,
        // The strings of a system call are the record's alone.
        _ => field.is_text() && !is_syscall(format),
    }
}

/// Whether a program with this filter lets this record pass; it is the same in userspace.
fn passes(tracepoint: &Tracepoint, bytes: &[u8], text: &str) -> bool {
    let format = tracepoint.format();
    let record = Record::new(format, bytes, Machine::NATIVE);
    let filter = Filter::parse(text).expect(text);
    let names_of = |field: &str| tracepoint.field_print(field).expect("a print fmt");
    let constant = |field: &str, name: &str| constants::value(tracepoint, field, name);
    let bound = filter.bind_with(format, &names_of, &constant).expect(text);
    let context = tracepoint.context().expect("a context");
    let accesses: Vec<Access<'_>> = Access::of_fields(format, &context)
        .expect("accesses")
        .into_iter()
        .filter_map(|(_, access)| access)
        .collect();
    let sources = sources(&accesses);
    let filter = Some((bound.root(), &*sources));
    let action = Action::Count { counts: COUNTS };
    let program =
        program::on_event(0, Tasks::All, filter, &action, Adding::Plain).expect("a program");
    in_world(|world| {
        world.counts = vec![0];
        world.task = Some(task());
    });
    run(&program, &mut context_of(&record, &accesses));
    let passed = in_world(|world| world.counts[0]) == 1;
    assert_eq!(
        bound.matches(&record, &task()),
        Ok(passed),
        "{text}\n{program}"
    );
    passed
}

#[test]
fn names_elements_and_fields_in_the_kernel() {
    let kernel = Kernel::at(fixture("6.18.15-x86_64")).expect("a kernel");
    let event = |name: &str| kernel.tracepoint(name).expect("an event");
    let number = |bytes: &mut Vec<u8>, at: usize, value: i64| {
        bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    };
    // long id, unsigned long args[6].
    let mut enter = vec![0; 64];
    number(&mut enter, 8, 3);
    number(&mut enter, 16, 0o101);
    number(&mut enter, 24, -1);
    for (text, expected) in [
        ("args[0] & O_CREAT", true),
        ("args[0] & (O_CREAT | O_EXCL) == 64", true),
        ("args[0] & O_EXCL", false),
        ("args[1] == 0xffffffffffffffff && args[5] == 0", true),
        ("id in (1, 2, 3)", true),
        ("id in (1, 2)", false),
    ] {
        assert_eq!(
            passes(&event("raw_syscalls:sys_enter"), &enter, text),
            expected,
            "{text}"
        );
    }
    // int __syscall_nr, and words: dfd, pathname, flag.
    let mut unlink = vec![0; 48];
    number(&mut unlink, 16, -100);
    number(&mut unlink, 32, 0x200);
    for (text, expected) in [
        ("dfd == AT_FDCWD && flag == AT_REMOVEDIR", true),
        ("args[0] == -100 && args[2] & AT_REMOVEDIR", true),
        ("args[2] > args[0] && flag != dfd", true),
    ] {
        assert_eq!(
            passes(&event("syscalls:sys_enter_unlinkat"), &unlink, text),
            expected,
            "{text}"
        );
    }
    let mut exit = vec![0; 24];
    number(&mut exit, 16, -2);
    let exits = event("syscalls:sys_exit_unlinkat");
    assert!(passes(&exits, &exit, "ret == -ENOENT"));
    assert!(!passes(&exits, &exit, "ret in (-EPERM, -EACCES)"));
    // char prev_comm[16], pid_t prev_pid, int prev_prio, long prev_state, char next_comm[16].
    let mut switch = vec![0; 64];
    switch[8..13].copy_from_slice(b"sleep");
    switch[24..28].copy_from_slice(&7_i32.to_ne_bytes());
    switch[28..32].copy_from_slice(&120_i32.to_ne_bytes());
    number(&mut switch, 32, 2);
    let switches = event("sched:sched_switch");
    for (text, expected) in [
        ("prev_comm ~ \"sl*\"", true),
        ("prev_comm ~ \"sleep*\" && prev_comm ~ \"sleep\"", true),
        ("prev_comm ~ \"sleeps*\" || prev_comm ~ \"slee\"", false),
        ("!(prev_comm ~ \"s*\")", false),
        ("prev_pid < prev_prio", true),
        ("prev_state > prev_pid", false),
    ] {
        assert_eq!(passes(&switches, &switch, text), expected, "{text}");
    }
    // __data_loc char[] filename.
    let mut exec = vec![0; 40];
    exec[8..12].copy_from_slice(&(9 << 16 | 20_u32).to_ne_bytes());
    exec[20..29].copy_from_slice(b"/bin/cat\0");
    let execs = event("sched:sched_process_exec");
    assert!(passes(&execs, &exec, "filename ~ \"/bin/*\""));
    assert!(passes(&execs, &exec, "filename ~ \"/bin/cat*\""));
    assert!(!passes(
        &execs,
        &exec,
        "filename ~ \"/bin/cat/*\" || filename ~ \"/sbin/*\""
    ));
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
    let accesses: Vec<Access<'_>> = Access::of_fields(tracepoint.format(), &context)
        .expect("accesses")
        .into_iter()
        .filter_map(|(_, access)| access)
        .collect();
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
fn where_there_is_no_space_it_is_counted() {
    let kernel = Kernel::at(fixture("6.18.15-x86_64")).expect("a kernel");
    let exec = Recorder::new(&kernel, "sched:sched_process_exec").expect("a recorder");
    let mut context = written(exec.tracepoint.format(), &[1; 64], &[4]);
    exec.record(&mut context);
    in_world(|world| world.full = true);
    for lost in 1..=3 {
        run(&exec.program, &mut context);
        in_world(|world| {
            assert!(!world.submitted);
            assert_eq!(world.counts, [lost]);
        });
    }
}

#[test]
fn buckets_are_powers_of_two() {
    let kernel = Kernel::at(fixture("6.18.15-x86_64")).expect("a kernel");
    let exit = kernel
        .tracepoint("raw_syscalls:sys_exit")
        .expect("an event");
    let plan = EventPlan::new(&exit, Some(&["ret".to_owned()]), 64).expect("a plan");
    let histogram = |signed| {
        let action = Action::Histogram {
            counts: COUNTS,
            source: plan.fields[0].source.clone(),
            size: 8,
            signed,
            unreadable: 0,
        };
        program::on_event(1, Tasks::All, None, &action, Adding::Plain).expect("a program")
    };
    let bucket_of = |value: i64, signed| {
        in_world(|world| {
            world.counts = vec![0; 2 * BUCKETS as usize];
            world.task = Some(task());
        });
        let mut context = vec![0; 24];
        context[16..].copy_from_slice(&value.to_ne_bytes());
        run(&histogram(signed), &mut context);
        in_world(|world| {
            assert_eq!(world.counts.iter().sum::<u64>(), 1);
            let at = world.counts.iter().position(|count| *count == 1);
            at.expect("one") as u32 - BUCKETS
        })
    };
    assert_eq!(bucket_of(-1, true), 0);
    assert_eq!(bucket_of(i64::MIN, true), 0);
    assert_eq!(bucket_of(0, true), 1);
    assert_eq!(bucket_of(-1, false), 65);
    for power in 0..63 {
        let value = 1_i64 << power;
        assert_eq!(bucket_of(value, true), 2 + power, "{value}");
        assert_eq!(bucket_of(value | (value - 1), false), 2 + power, "{value}");
    }
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

#[test]
fn strings_of_the_user() {
    let kernel = Kernel::at(fixture("6.18.15-x86_64")).expect("a kernel");
    let unlink = Recorder::new(&kernel, "syscalls:sys_enter_unlinkat").expect("a recorder");
    let mut context = vec![0; 40];
    context[16..24].copy_from_slice(&(-100_i64).to_ne_bytes());
    let mut pathname = |text: Option<&str>| {
        in_world(|world| world.user_text = text.map(|text| text.as_bytes().to_vec()));
        let record = unlink.record(&mut context);
        let dfd = record.field("dfd").and_then(|value| value.value());
        assert_eq!(dfd, Some(Value::Signed(-100)));
        format!("{}", record.field("pathname").expect("a field"))
    };
    assert_eq!(pathname(Some("/tmp/a b")), "\"/tmp/a b\"");
    assert_eq!(pathname(Some("")), "\"\"");
    let long = "x".repeat(100);
    assert_eq!(pathname(Some(&long)), format!("\"{}\"…", &long[..63]));
    assert_eq!(pathname(None), "<Bad address (os error 14)>");
}

/// On what kernels really wrote.
#[test]
fn records_of_captured_kernels_are_kept() {
    let Some(corpus) = std::env::var_os("TRACEPOINTS_CORPUS") else {
        eprintln!("SKIPPED records_of_captured_kernels_are_kept: TRACEPOINTS_CORPUS is not set");
        return;
    };
    for name in ["6.18.15-x86_64", "7.3.4-x86_64"] {
        let root = Path::new(&corpus).join(name);
        let kernel = Kernel::at(&root).expect("a kernel");
        let layout = kernel.page_layout().expect("a layout");
        let events = kernel.events_by_id().expect("events");
        let mut recorders: std::collections::HashMap<u16, Option<Recorder>> = Default::default();
        let (mut records, mut values) = (0, 0);
        for file in ["cpu0.raw", "cpu1.raw"] {
            let bytes = fs::read(root.join("ring").join(file)).expect("pages");
            for page in layout.pages(&bytes, crate::ByteOrder::Little) {
                for entry in page.expect("a page").entries() {
                    let entry = entry.expect("an entry");
                    let id = entry.event_id().expect("an id");
                    let recorder = recorders.entry(id).or_insert_with(|| {
                        let (name, _) = events.event(id).expect("an event");
                        let is_record = !matches!(name.category(), "syscalls" | "ftrace");
                        is_record.then(|| Recorder::new(&kernel, name.as_str()))?
                    });
                    let Some(recorder) = recorder else { continue };
                    records += 1;
                    values += recorder.check(entry.bytes());
                }
            }
        }
        eprintln!("{name}: {records} records, {values} values");
        assert!(records > 1000, "{name} has {records} records");
    }
}

/// A probe prints what the kernel would have.
#[test]
fn pretty_is_what_the_record_says() {
    let mut roots = vec![fixture("6.18.15-x86_64"), fixture("7.3.4-x86_64")];
    if let Some(corpus) = std::env::var_os("TRACEPOINTS_CORPUS") {
        roots.push(Path::new(&corpus).join("7.3.4-x86_64"));
    }
    let mut printed = 0;
    for root in roots {
        let kernel = Kernel::at(&root).expect("a kernel");
        let layout = kernel.page_layout().expect("a layout");
        let events = kernel.events_by_id().expect("events");
        let mut known = std::collections::HashMap::new();
        let bytes = fs::read(root.join("ring/cpu0.raw")).expect("pages");
        for page in layout.pages(&bytes, crate::ByteOrder::Little) {
            for entry in page.expect("a page").entries() {
                let entry = entry.expect("an entry");
                let (name, record) = events.record(entry.bytes()).expect("an event");
                if matches!(name.category(), "syscalls" | "ftrace") {
                    continue;
                }
                let (recorder, pretty) = known.entry(name.clone()).or_insert_with(|| {
                    let recorder = Recorder::with_limit(&kernel, name.as_str(), 4096);
                    let recorder = recorder.expect("a recorder");
                    let pretty = PrettyPrinter::new([&kernel.tracepoint(name).expect("one")]);
                    (recorder, pretty.expect("a printer"))
                });
                let kept = recorder.record(&mut entry.bytes().to_vec());
                let mut line = String::new();
                pretty.print(&kept, &mut line);
                let mut text = format!("{}: ", name.event());
                kernel
                    .renderer(name, record.format(), Machine::NATIVE)
                    .expect("a print fmt")
                    .render(&record, &kernel.addresses().expect("addresses"), &mut text);
                assert_eq!(
                    line.split_once(' ').map(|_| line.ends_with(&text)),
                    Some(true),
                    "{line}\n{text}"
                );
                printed += 1;
            }
        }
    }
    assert!(printed > 150, "{printed}");
}
