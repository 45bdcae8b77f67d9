//! One line for each record.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::Write;

use tracepoints::record::ring::Lost;
use tracepoints::{
    EventName, EventPattern, Kernel, Record, Renderer,
    kernel::EventsById,
    record::RecordError,
    text::{Addresses, FlagColumns, TaskNames, TraceContext},
};

use crate::output::{Failure, JsonRows, Screen, say, with_causes};
use crate::row::{AddressFields, EventRow, FieldMap, LossesRow, LostRow};

pub(crate) struct Printer<'a> {
    kernel: &'a Kernel,
    events: &'a EventsById,
    columns: FlagColumns,
    pub(crate) names: TaskNames,
    pub(crate) addresses: Addresses,
    /// By event id; `None` of an event whose print fmt is not understood.
    renderers: HashMap<u32, Option<Renderer>>,
    /// Which events to print; all without any.
    pub(crate) only: Vec<EventPattern>,
    json: Option<JsonRows>,
    address_fields: AddressFields,
    /// Which process a thread is of, where the kernel saved it.
    pub(crate) processes: HashMap<i32, u32>,
    /// How many events were lost, as far as the kernel says it.
    lost: u64,
    is_any_lost: bool,
    out: &'a mut dyn Write,
    screen: Screen,
    text: String,
    line: String,
    /// How many records could not be printed, by why.
    failures: BTreeMap<String, usize>,
}

impl<'a> Printer<'a> {
    pub(crate) fn new(
        kernel: &'a Kernel,
        events: &'a EventsById,
        columns: FlagColumns,
        json: Option<JsonRows>,
        out: &'a mut dyn Write,
    ) -> Self {
        Self {
            kernel,
            events,
            columns,
            names: TaskNames::default(),
            addresses: Addresses::new(),
            renderers: HashMap::new(),
            only: Vec::new(),
            json,
            address_fields: AddressFields::default(),
            processes: HashMap::new(),
            lost: 0,
            is_any_lost: false,
            out,
            screen: Screen::of_stdout(),
            text: String::new(),
            line: String::new(),
            failures: BTreeMap::new(),
        }
    }

    /// Prints a record, or counts it as one that cannot be.
    pub(crate) fn print(&mut self, cpu: u32, timestamp: u64, bytes: &[u8]) -> Result<(), Failure> {
        let (event, record) = match self.events.record(bytes) {
            Ok(found) => found,
            Err(error) => {
                self.failed(with_causes(&error));
                return Ok(());
            }
        };
        if !self.only.is_empty() && !self.only.iter().any(|pattern| pattern.matches(event)) {
            return Ok(());
        }
        self.text.clear();
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
        let context = TraceContext::new(&record, cpu, timestamp, &self.names, self.columns);
        let renderer = self.renderers.get(&id).and_then(Option::as_ref);
        let text = text(&mut self.text, event, record, renderer, &self.addresses);
        let context = match text.and(context) {
            Ok(context) => context,
            Err(error) => {
                self.failed(format!("{event}: {error}"));
                return Ok(());
            }
        };
        let Some(json) = &mut self.json else {
            let text = &self.text;
            self.line.clear();
            let _ = match has_own_form(event) {
                true => write!(self.line, "{context}{text}"),
                false => write!(self.line, "{context}{}: {text}", event.event()),
            };
            writeln!(self.out, "{}", self.screen.show(&self.line))?;
            return Ok(());
        };
        let tid = context.pid();
        let is_known = |comm: &&str| !matches!(*comm, "<...>" | "<XXX>");
        let values = record.fields();
        let row = EventRow {
            timestamp_ns: timestamp,
            cpu,
            pid: match tid {
                0 => Some(0),
                tid => self.processes.get(&tid).copied(),
            },
            tid: tid as u32,
            comm: Some(context.command()).filter(is_known),
            event,
            fields: FieldMap {
                values: values
                    .map(|(field, value)| (field.name(), value.ok()))
                    .collect(),
                addresses: self.address_fields.of(event, record.format()),
            },
            cut: Vec::new(),
            unreadable: BTreeMap::new(),
            flags: Some(context.flags().to_string()),
            text: Some(&self.text),
        };
        json.write(&row, self.out)
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
        self.is_any_lost = true;
        self.lost += count.unwrap_or(0);
        match (&mut self.json, count) {
            (Some(json), lost) => json.write(&LostRow { cpu, lost }, self.out)?,
            (None, Some(count)) => writeln!(self.out, "CPU:{cpu} [LOST {count} EVENTS]")?,
            (None, None) => writeln!(self.out, "CPU:{cpu} [LOST EVENTS]")?,
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }

    /// Says what could not be printed; whether there was any.
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

/// Whether `trace` shows the event without its name.
fn has_own_form(event: &EventName) -> bool {
    event.category() == "syscalls" || event.as_str() == "ftrace:print"
}

/// What `trace` has behind the event's name.
fn text(
    out: &mut String,
    event: &EventName,
    record: Record<'_>,
    renderer: Option<&Renderer>,
    addresses: &Addresses,
) -> Result<(), RecordError> {
    let field = |name| record.format().field(name);
    if let ("ftrace:print", Some(ip), Some(buf)) = (event.as_str(), field("ip"), field("buf")) {
        // The kernel has a symbol for the address; the text ends its line itself.
        let address = record.machine().unsigned(record.data(ip)?);
        let text = record.value(buf)?.to_string();
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let _ = write!(out, "{address:#x}: {text}");
        return Ok(());
    }
    if let Some(renderer) = renderer {
        // A record that is cut is told as such, and not printed as if it were one.
        for field in record.format().fields() {
            record.data(field)?;
        }
        renderer.render(&record, addresses, out);
        return Ok(());
    }
    for (index, (field, value)) in record.fields().enumerate() {
        let space = if index > 0 { " " } else { "" };
        let _ = write!(out, "{space}{}={}", field.name(), value?);
    }
    Ok(())
}
