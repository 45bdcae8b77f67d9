//! Writes traces of Perfetto, for its page (ui.perfetto.dev) and its trace processor.
//!
//! A trace is one message of Protocol Buffers, as `protos/perfetto/trace/` of Perfetto's
//! sources describes it: here by its version 0.59, whose numbers of fields never change.

mod messages;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tracepoints::record::RecordError;
use tracepoints::record::recording::{Occurrence, RecordedKernel};
use tracepoints::record::ring::Lost;
use tracepoints::{EventName, Record, Value};

use messages::{Message, TYPED, generic, plain};

/// Writes a trace, whose events are in the order of each CPU.
#[derive(Default)]
pub(super) struct PerfettoWriter {
    /// By the number of its buffer and by CPU.
    bundles: BTreeMap<(u32, u32), Bundle>,
    /// By name; the empty one is the top buffer's.
    buffers: BTreeMap<String, u32>,
    /// All bundles that are complete.
    packets: Message,
    /// The number of events that each CPU is known to have lost.
    lost: BTreeMap<u32, u64>,
    /// The process of each thread, and its name.
    tasks: BTreeMap<i32, (i32, String)>,
    begin: Option<u64>,
    /// The fields that Perfetto's messages lack, by event.
    missing: BTreeMap<EventName, Vec<String>>,
}

/// Events of one CPU.
#[derive(Default)]
struct Bundle {
    events: Message,
    /// Whether events were lost before the first.
    has_lost: bool,
}

/// The size after which a bundle ends, in bytes.
const BUNDLE: usize = 64 << 10;

impl PerfettoWriter {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Appends an event. `buffer` is the instance's name, empty for the top buffer.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if a field is not in the record; the event is left out.
    pub(super) fn event(
        &mut self,
        buffer: &str,
        at: Occurrence<'_>,
        name: &EventName,
        record: &Record<'_>,
    ) -> Result<(), RecordError> {
        let fields = record
            .fields()
            .map(|(field, value)| Ok((field.name(), value?)))
            .collect::<Result<Vec<_>, RecordError>>()?;
        let mut message = Message::default();
        message.number(1, at.time);
        message.number(2, u64::from(at.tid.cast_unsigned()));
        if let Some(field) = record.format().field("common_flags")
            && let Value::Unsigned(flags) = record.value(field)?
        {
            message.number(5, flags);
        }
        let typed = TYPED.iter().find(|typed| typed.event == name.as_str());
        match typed.and_then(|typed| Some((typed, typed.message(&fields)?))) {
            Some((typed, (specific, missing))) => {
                message.message(typed.number, &specific);
                if !missing.is_empty() {
                    self.missing.entry(name.clone()).or_insert(missing);
                }
            }
            None => message.message(327, &generic(name, &fields)),
        }
        self.note_task(at);
        self.begin = Some(self.begin.map_or(at.time, |begin| begin.min(at.time)));
        let number = self.number_of(buffer);
        let bundle = self.bundles.entry((number, at.cpu)).or_default();
        bundle.events.message(2, &message);
        if bundle.events.0.len() > BUNDLE {
            bundle.end(number, at.cpu, &mut self.packets);
        }
        Ok(())
    }

    fn note_task(&mut self, at: Occurrence<'_>) {
        let (Some(pid), true) = (at.pid, at.tid > 0) else {
            return;
        };
        match self.tasks.entry(at.tid) {
            Entry::Vacant(entry) => {
                entry.insert((pid, plain(at.comm)));
            }
            // A thread's number comes back, and its name changes.
            Entry::Occupied(mut entry) => {
                let (known, name) = entry.get_mut();
                *known = pid;
                if !at.comm.is_empty() && name.as_bytes() != at.comm {
                    *name = plain(at.comm);
                }
            }
        }
    }

    fn number_of(&mut self, buffer: &str) -> u32 {
        if let Some(number) = self.buffers.get(buffer) {
            return *number;
        }
        // There are fewer buffers than records.
        let number = self.buffers.len() as u32;
        self.buffers.insert(buffer.to_owned(), number);
        number
    }

    /// Says that events of a CPU were lost before its next event.
    pub(super) fn lost(&mut self, buffer: &str, cpu: u32, lost: Lost) {
        let number = self.number_of(buffer);
        let bundle = self.bundles.entry((number, cpu)).or_default();
        if !bundle.events.0.is_empty() {
            bundle.end(number, cpu, &mut self.packets);
        }
        bundle.has_lost = true;
        if let Lost::Events(count) = lost {
            let known = self.lost.entry(cpu).or_default();
            *known = known.saturating_add(count);
        }
    }

    /// Returns the number of buffers that have events or losses.
    pub(super) fn buffers(&self) -> usize {
        self.buffers.len()
    }

    /// Returns the fields that are not in the trace, by event.
    pub(super) fn missing(&self) -> &BTreeMap<EventName, Vec<String>> {
        &self.missing
    }

    /// Returns the trace.
    pub(super) fn finish(mut self, kernel: &RecordedKernel) -> Vec<u8> {
        for ((number, cpu), mut bundle) in std::mem::take(&mut self.bundles) {
            if bundle.has_lost || !bundle.events.0.is_empty() {
                bundle.end(number, cpu, &mut self.packets);
            }
        }
        let mut trace = Message::default();
        let mut packet = |field, message: &Message| {
            let mut packet = Message::default();
            packet.number(8, self.begin.unwrap_or_default());
            packet.message(field, message);
            packet.number(10, 1);
            trace.message(1, &packet);
        };
        packet(45, &system(kernel));
        packet(34, &losses(1, self.lost.keys().map(|cpu| (*cpu, 0))));
        packet(2, &process_tree(&self.tasks));
        trace.0.append(&mut self.packets.0);
        let mut packet = Message::default();
        let all = self.lost.iter().map(|(cpu, count)| (*cpu, *count));
        packet.message(34, &losses(2, all));
        packet.number(10, 1);
        trace.message(1, &packet);
        trace.0
    }
}

impl Bundle {
    /// Moves the events into a packet.
    fn end(&mut self, buffer: u32, cpu: u32, packets: &mut Message) {
        let mut bundle = Message::default();
        bundle.number(1, u64::from(cpu));
        bundle.0.append(&mut self.events.0);
        if std::mem::take(&mut self.has_lost) {
            bundle.number(3, 1);
        }
        let mut packet = Message::default();
        packet.message(1, &bundle);
        // Each writer of packets has a number of its own.
        packet.number(10, u64::from(buffer) + 2);
        packets.message(1, &packet);
    }
}

fn system(kernel: &RecordedKernel) -> Message {
    let mut utsname = Message::default();
    utsname.text(1, b"Linux");
    if let Some(release) = kernel.release() {
        utsname.text(3, release.as_bytes());
    }
    if let Some(architecture) = kernel.architecture() {
        utsname.text(4, architecture.as_bytes());
    }
    let mut system = Message::default();
    system.message(1, &utsname);
    system
}

/// Returns the statistics of CPUs at the begin (1) or the end (2): readers take the number of
/// lost events from their difference.
fn losses(phase: u64, counts: impl Iterator<Item = (u32, u64)>) -> Message {
    let mut message = Message::default();
    message.number(1, phase);
    for (cpu, count) in counts {
        let mut of_cpu = Message::default();
        of_cpu.number(1, u64::from(cpu));
        of_cpu.number(3, count);
        message.message(2, &of_cpu);
    }
    message
}

/// Returns the threads whose processes are known.
fn process_tree(tasks: &BTreeMap<i32, (i32, String)>) -> Message {
    let mut tree = Message::default();
    for (tid, (pid, name)) in tasks {
        let mut task = Message::default();
        task.number(1, i64::from(*tid).cast_unsigned());
        match tid == pid {
            true => {
                task.text(3, name.as_bytes());
                task.number(9, 1);
                tree.message(1, &task);
            }
            false => {
                task.text(2, name.as_bytes());
                task.number(3, i64::from(*pid).cast_unsigned());
                tree.message(2, &task);
            }
        }
    }
    tree
}
