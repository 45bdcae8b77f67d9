//! One line for each record.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::io::Write;

use tracepoints::record::ring::Lost;
use tracepoints::{
    EventName, EventPattern, Kernel, Record, Renderer,
    kernel::EventsById,
    record::RecordError,
    text::{Addresses, TaskNames, TraceContext, TraceStyle},
};

use crate::output::{Failure, JsonRows, Screen, say, with_causes};
use crate::row::{EventRow, FieldMap, LossesRow, LostRow, address_fields};
use crate::select::is_among;

pub(crate) struct Printer<'a> {
    kernel: &'a Kernel,
    pub(super) events: &'a EventsById,
    style: TraceStyle,
    /// The start of each line: the buffer, if there are several.
    prefix: String,
    pub(crate) names: TaskNames,
    pub(crate) addresses: Addresses,
    /// By event id, each made when first needed.
    printed: Vec<Option<PrintedEvent>>,
    /// The events to print; all if it is empty.
    pub(crate) only: Vec<EventPattern>,
    json: Option<JsonRows>,
    /// The process of each thread, if the kernel saved it.
    pub(crate) groups: TaskNames,
    /// The process and thread of the next record, if something else tells them than the
    /// record and the lists above.
    pub(crate) task: Option<(i32, i32)>,
    /// The number of lost events, as far as the kernel tells it.
    lost: u64,
    is_any_lost: bool,
    out: &'a mut dyn Write,
    screen: Screen,
    text: String,
    flags: String,
    line: Vec<u8>,
    /// The number of records that could not be printed, by reason.
    failures: BTreeMap<String, usize>,
}

/// How the records of an event are printed.
struct PrintedEvent {
    /// `None` if the print fmt is not understood.
    renderer: Option<Renderer>,
    /// In JSON, the fields that are addresses although their type does not show it.
    addresses: HashSet<String>,
}

impl<'a> Printer<'a> {
    pub(crate) fn new(
        kernel: &'a Kernel,
        events: &'a EventsById,
        style: TraceStyle,
        json: Option<JsonRows>,
        out: &'a mut dyn Write,
    ) -> Self {
        Self {
            kernel,
            events,
            style,
            prefix: String::new(),
            names: TaskNames::default(),
            addresses: Addresses::new(),
            printed: Vec::new(),
            only: Vec::new(),
            json,
            groups: TaskNames::default(),
            task: None,
            lost: 0,
            is_any_lost: false,
            out,
            screen: Screen::of_stdout(),
            text: String::new(),
            flags: String::new(),
            line: Vec::new(),
            failures: BTreeMap::new(),
        }
    }

    /// Sets the buffer of the next records, and the style of its lines. As in
    /// `trace-cmd report`, lines begin with the name of an instance.
    pub(crate) fn turn_to(&mut self, buffer: &str, style: TraceStyle) {
        self.style = style;
        self.prefix.clear();
        if !buffer.is_empty() {
            self.prefix.extend([buffer, ": "]);
        }
    }

    /// Prints a record, or counts it as one that could not be printed.
    pub(crate) fn print(&mut self, cpu: u32, timestamp: u64, bytes: &[u8]) -> Result<(), Failure> {
        let (event, record) = match self.events.record(bytes) {
            Ok(found) => found,
            Err(error) => {
                self.failed(with_causes(&error));
                return Ok(());
            }
        };
        if !is_among(&self.only, event) {
            return Ok(());
        }
        // The record was found by its id of 16 bits, so the format has one.
        let id = record.format().id().unwrap_or_default() as usize;
        self.prepare(id, event, &record);
        let Some(Some(printed)) = self.printed.get(id) else {
            return Ok(());
        };
        let renderer = printed.renderer.as_ref();
        let context = TraceContext::new(&record, cpu, timestamp, &self.names, self.style);
        let line = context.and_then(|context| {
            let context = match self.task {
                Some((_, tid)) => context.with_pid(tid),
                None => context,
            };
            self.text.clear();
            self.line.clear();
            self.line.extend_from_slice(self.prefix.as_bytes());
            match (self.json.is_some(), renderer) {
                (true, Some(renderer)) => {
                    renderer.check(&record)?;
                    renderer.render_in(&record, &context, &self.addresses, &mut self.text);
                }
                (false, Some(renderer)) => {
                    renderer.write_line(&record, &context, &self.addresses, &mut self.line)?;
                }
                (json, None) => {
                    write_fields(&mut self.text, record)?;
                    if !json {
                        let line = format!("{context}{}: {}\n", event.event(), self.text);
                        self.line.extend(line.into_bytes());
                    }
                }
            }
            Ok(context)
        });
        let context = match line {
            Ok(context) => context,
            Err(error) => {
                self.failed(format!("{event}: {error}"));
                return Ok(());
            }
        };
        let Some(json) = &mut self.json else {
            self.out.write_all(&self.screen.show_bytes(&self.line))?;
            return Ok(());
        };
        let tid = context.pid();
        let command = context.command();
        let is_known = |comm: &&str| !matches!(*comm, "<...>" | "<XXX>");
        let values = record.fields();
        self.flags.clear();
        let _ = write!(self.flags, "{}", context.flags());
        let row = EventRow {
            timestamp_ns: timestamp,
            cpu,
            pid: process_of(self.task, tid, &self.groups).and_then(|pid| u32::try_from(pid).ok()),
            tid: u32::try_from(tid).ok(),
            comm: Some(&*command).filter(is_known),
            event,
            fields: FieldMap {
                values: values
                    .map(|(field, value)| (field.name(), value.ok()))
                    .collect(),
                addresses: &printed.addresses,
            },
            cut: Vec::new(),
            unreadable: BTreeMap::new(),
            unwritten: Vec::new(),
            exit: Vec::new(),
            rewritten: Vec::new(),
            names: BTreeMap::new(),
            flags: Some(&self.flags),
            text: Some(&self.text),
        };
        json.write(&row, self.out)
    }

    /// Prepares to print the records of an event, if that was not done before.
    fn prepare(&mut self, id: usize, event: &EventName, record: &Record<'_>) {
        if id >= self.printed.len() {
            self.printed.resize_with(id + 1, || None);
        }
        if self.printed[id].is_some() {
            return;
        }
        let (format, machine) = (record.format(), record.machine());
        let renderer = self.kernel.renderer(event, format, machine);
        if let Err(error) = &renderer {
            self.failed(format!("{event} by its print fmt but as fields: {error}"));
        }
        self.printed[id] = Some(PrintedEvent {
            renderer: renderer.ok(),
            addresses: match self.json {
                Some(_) => address_fields(format),
                None => HashSet::new(),
            },
        });
    }

    fn failed(&mut self, why: String) {
        *self.failures.entry(why).or_default() += 1;
    }

    /// Prints the number of lost events, in the words of `print_trace_line()`.
    pub(crate) fn lost(&mut self, cpu: u32, lost: Option<Lost>) -> Result<(), Failure> {
        match lost {
            None => Ok(()),
            Some(Lost::Events(count)) => self.lost_on(cpu, Some(count)),
            Some(_) => self.lost_on(cpu, None),
        }
    }

    /// Prints the number of events that one CPU lost; `None` if it is not known.
    pub(crate) fn lost_on(&mut self, cpu: u32, count: Option<u64>) -> Result<(), Failure> {
        self.is_any_lost = true;
        self.lost = self.lost.saturating_add(count.unwrap_or(0));
        match (&mut self.json, count) {
            (Some(json), lost) => json.write(&LostRow { cpu, lost }, self.out)?,
            (None, count) => {
                let count = count.map_or(String::new(), |count| format!(" {count}"));
                let line = format!("{}CPU:{cpu} [LOST{count} EVENTS]\n", self.prefix);
                self.out
                    .write_all(&self.screen.show_bytes(line.as_bytes()))?;
            }
        }
        Ok(())
    }

    /// Adds lost events to the total, of which the CPU or the time is not known.
    pub(crate) fn lost_somewhere(&mut self, count: u64) {
        self.is_any_lost |= count > 0;
        self.lost = self.lost.saturating_add(count);
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }

    /// Reports records that could not be printed. Returns whether there were any.
    pub(crate) fn finish(&mut self) -> Result<bool, Failure> {
        if self.is_any_lost
            && let Some(json) = &mut self.json
        {
            let losses = BTreeMap::from([("events", self.lost)]);
            json.write(&LossesRow { losses }, self.out)?;
        }
        self.flush()?;
        for (why, count) in &self.failures {
            let records = if *count == 1 { "record" } else { "records" };
            say!("{count} {records} not printed: {why}");
        }
        Ok(!self.failures.is_empty())
    }
}

/// Returns the process of a record's thread: as perf says it, or as the kernel saved it.
pub(super) fn process_of(task: Option<(i32, i32)>, tid: i32, groups: &TaskNames) -> Option<i32> {
    match (task, tid) {
        (Some((pid, _)), _) => Some(pid),
        (None, 0) => Some(0),
        (None, tid) => groups.group_of(tid).filter(|pid| *pid > 0),
    }
}

/// Writes the fields of a record whose print fmt is not understood.
fn write_fields(out: &mut String, record: Record<'_>) -> Result<(), RecordError> {
    for (index, (field, value)) in record.fields().enumerate() {
        let space = if index > 0 { " " } else { "" };
        let _ = write!(out, "{space}{}={}", field.name(), value?);
    }
    Ok(())
}
