//! One line for each record.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::Write;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use tracepoints::record::ring::Lost;
use tracepoints::{
    EventName, EventPattern, Kernel, Record, Renderer,
    kernel::EventsById,
    record::RecordError,
    text::{Addresses, TaskNames, TraceContext, TraceStyle},
};

use crate::shared::{Failure, Screen};

pub(crate) struct Printer<'a> {
    kernel: &'a Kernel,
    events: &'a EventsById,
    style: TraceStyle,
    pub(crate) names: TaskNames,
    pub(crate) addresses: Addresses,
    /// By event id; `None` of an event whose print fmt is not understood.
    renderers: HashMap<u32, Option<Renderer>>,
    /// Which events to print; all without any.
    pub(crate) only: Vec<EventPattern>,
    json: bool,
    out: &'a mut dyn Write,
    screen: Screen,
    text: String,
    line: Vec<u8>,
    /// How many records could not be printed, by why.
    failures: BTreeMap<String, usize>,
}

/// A line as JSON.
#[derive(Serialize)]
struct Row<'a> {
    /// Nanoseconds.
    timestamp: u64,
    cpu: u32,
    pid: i32,
    command: Cow<'a, str>,
    flags: String,
    event: &'a EventName,
    fields: Fields<'a>,
    text: &'a str,
}

struct Fields<'a>(Record<'a>);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (field, value) in self.0.fields() {
            map.serialize_entry(field.name(), &value.ok())?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct LostRow {
    cpu: u32,
    /// How many, where the kernel says it.
    lost: Option<u64>,
}

impl<'a> Printer<'a> {
    pub(crate) fn new(
        kernel: &'a Kernel,
        events: &'a EventsById,
        style: TraceStyle,
        json: bool,
        out: &'a mut dyn Write,
    ) -> Self {
        Self {
            kernel,
            events,
            style,
            names: TaskNames::default(),
            addresses: Addresses::new(),
            renderers: HashMap::new(),
            only: Vec::new(),
            json,
            out,
            screen: Screen::of_stdout(),
            text: String::new(),
            line: Vec::new(),
            failures: BTreeMap::new(),
        }
    }

    /// Prints a record, or counts it as one that cannot be.
    pub(crate) fn print(&mut self, cpu: u32, timestamp: u64, bytes: &[u8]) -> Result<(), Failure> {
        let (event, record) = match self.events.record(bytes) {
            Ok(found) => found,
            Err(error) => {
                self.failed(crate::shared::with_causes(&error));
                return Ok(());
            }
        };
        if !self.only.is_empty() && !self.only.iter().any(|pattern| pattern.matches(event)) {
            return Ok(());
        }
        let id = record.format().id();
        if !self.renderers.contains_key(&id) {
            let renderer = self
                .kernel
                .renderer(event, record.format(), record.machine());
            if let Err(error) = &renderer {
                self.failed(format!("{event} by its print fmt but as fields: {error}"));
            }
            self.renderers.insert(id, renderer.ok());
        }
        let renderer = self.renderers.get(&id).and_then(Option::as_ref);
        let context = TraceContext::new(&record, cpu, timestamp, &self.names, self.style);
        let line = context.and_then(|context| {
            self.text.clear();
            self.line.clear();
            match (self.json, renderer) {
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
        if !self.json {
            self.out.write_all(&self.screen.show_bytes(&self.line))?;
            return Ok(());
        }
        let row = Row {
            timestamp,
            cpu,
            pid: context.pid(),
            command: context.command(),
            flags: context.flags().to_string(),
            event,
            fields: Fields(record),
            text: &self.text,
        };
        serde_json::to_writer(&mut *self.out, &row)?;
        writeln!(self.out)?;
        Ok(())
    }

    fn failed(&mut self, why: String) {
        *self.failures.entry(why).or_default() += 1;
    }

    /// Says what was lost, in the words of `print_trace_line()`.
    pub(crate) fn lost(&mut self, cpu: u32, lost: Option<Lost>) -> Result<(), Failure> {
        let count = match lost {
            None => return Ok(()),
            Some(Lost::Events(count)) => Some(count),
            Some(_) => None,
        };
        match (self.json, count) {
            (true, lost) => {
                serde_json::to_writer(&mut *self.out, &LostRow { cpu, lost })?;
                writeln!(self.out)?;
            }
            (false, Some(count)) => writeln!(self.out, "CPU:{cpu} [LOST {count} EVENTS]")?,
            (false, None) => writeln!(self.out, "CPU:{cpu} [LOST EVENTS]")?,
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }

    /// Says what could not be printed; whether there was any.
    pub(crate) fn finish(&mut self) -> Result<bool, Failure> {
        self.flush()?;
        for (why, count) in &self.failures {
            let records = if *count == 1 { "record" } else { "records" };
            eprintln!("decode: {count} {records} not printed: {why}");
        }
        Ok(!self.failures.is_empty())
    }
}

/// What is known of a record whose print fmt is not understood.
fn write_fields(out: &mut String, record: Record<'_>) -> Result<(), RecordError> {
    for (index, (field, value)) in record.fields().enumerate() {
        let space = if index > 0 { " " } else { "" };
        let _ = write!(out, "{space}{}={}", field.name(), value?);
    }
    Ok(())
}
