//! Programs that record events: they keep what the kernel's record says.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;

use super::{
    COUNTS, KERNELS, RING, bytes_of, fixture, in_world, recorded_events, run, task, written,
};
use crate::bpf::asm::Program;
use crate::format::{Field, FieldKind};
use crate::machine::Machine;
use crate::probe::plan::EventPlan;
use crate::probe::program::{self, Action, Adding, Tasks};
use crate::probe::{FieldValue, PrettyPrinter, ProbeRecord};
use crate::record::{Record, Value};
use crate::{Kernel, Tracepoint};

/// An event, ready to be recorded.
pub(super) struct Recorder {
    pub(super) tracepoint: Tracepoint,
    plans: Arc<[EventPlan]>,
    pub(super) program: Program,
}

impl Recorder {
    /// `None` for an event no program gets a context of.
    pub(super) fn new(kernel: &Kernel, name: &str) -> Option<Self> {
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
            waiting: None,
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
            ProbeRecord::new(&self.plans, &bytes).expect("a record").0
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
        // Of what pointers point at, which is not asked for.
        FieldValue::Null | FieldValue::Unwritten => return false,
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
