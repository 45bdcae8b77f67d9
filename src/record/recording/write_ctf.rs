//! Writes the Common Trace Format 1.8, which babeltrace2, Trace Compass and others read.
//!
//! A trace is a directory: `metadata` describes the others in a language of its own, TSDL, and
//! each of them is a stream, the events of one CPU in the order of their times. What is
//! written follows the specification's version 1.8.3 (diamon.org/ctf/v1.8.3).

use std::collections::BTreeMap;
use std::fmt::Write;

use super::buffers::WrittenBuffers;
use super::files::RecordedKernel;
use crate::name::EventName;
use crate::record::{Record, RecordError, Value};

/// Writes traces in the Common Trace Format.
///
/// Each event has its fields with their values, and the common ones but for the event's id.
/// Numbers have 64 bits, whatever they have in the kernel; names of flags are not written. A
/// stream holds the events of one CPU, a trace those of one buffer.
///
/// ```
/// use tracepoints::Kernel;
/// use tracepoints::record::recording::{Occurrence, CtfWriter};
///
/// let kernel = Kernel::at("tests/fixtures/6.18.15-x86_64")?;
/// let (layout, events) = (kernel.page_layout()?, kernel.events_by_id()?);
/// let mut writer = CtfWriter::new();
/// let pages = std::fs::read("tests/fixtures/6.18.15-x86_64/ring/cpu0.raw")?;
/// for page in layout.pages(&pages, events.machine().byte_order()) {
///     for entry in page?.entries() {
///         let entry = entry?;
///         let (name, record) = events.record(entry.bytes())?;
///         let event = Occurrence { cpu: 0, time: entry.timestamp(), pid: None, tid: 7, comm: b"cat" };
///         writer.event("", event, name, &record)?;
///     }
/// }
/// let files = writer.finish(&kernel.to_recorded()?);
/// assert_eq!(files.keys().collect::<Vec<_>>(), ["cpu0", "metadata"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct CtfWriter {
    buffers: WrittenBuffers<CtfTrace>,
}

/// When and where an event happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occurrence<'a> {
    /// The CPU.
    pub cpu: u32,
    /// The time in nanoseconds.
    pub time: u64,
    /// The process; `None` if it is not known.
    pub pid: Option<i32>,
    /// The thread.
    pub tid: i32,
    /// The thread's name; empty if it is not known.
    pub comm: &'a [u8],
}

#[derive(Clone, Debug, Default)]
struct CtfTrace {
    /// By id, sorted.
    classes: BTreeMap<u32, CtfClass>,
    streams: BTreeMap<u32, Vec<CtfStream>>,
}

/// An event of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CtfClass {
    name: EventName,
    fields: Vec<(String, CtfType)>,
}

/// What a field's values are. All values of one field of an event are of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CtfType {
    Unsigned,
    Signed,
    Pointer,
    Text,
    Integers { is_signed: bool },
    Texts,
    Bytes,
}

/// The packets of one CPU. Times never decrease in it.
#[derive(Clone, Debug, Default)]
struct CtfStream {
    packets: Vec<u8>,
    /// The events of the last packet.
    events: Vec<u8>,
    begin: u64,
    end: u64,
    /// The number of events that the CPU lost so far, and before the stream.
    discarded: u64,
    discarded_before: u64,
}

/// The size of a packet's header and context, in bytes.
const HEAD: usize = 4 + 4 + 5 * 8 + 4;
/// The size after which a packet ends, in bytes. Readers look for a time packet by packet.
const PACKET: usize = 64 << 10;
const MAGIC: u32 = 0xc1fc_1fc1;

impl CtfWriter {
    /// Creates a writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an event. `buffer` is the instance's name, empty for the top buffer.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if a field is not in the record; the event is left out.
    pub fn event(
        &mut self,
        buffer: &str,
        event: Occurrence<'_>,
        name: &EventName,
        record: &Record<'_>,
    ) -> Result<(), RecordError> {
        let format = record.format();
        let common = format.common_fields().iter();
        let common = common.filter(|field| field.name() != "common_type");
        let fields = common
            .chain(format.fields())
            .map(|field| Ok((field.name(), record.value(field)?)))
            .collect::<Result<Vec<_>, RecordError>>()?;
        let id = format.id().unwrap_or_default();
        let trace = self.buffers.of(buffer);
        trace.classes.entry(id).or_insert_with(|| CtfClass {
            name: name.clone(),
            fields: class_of(&fields),
        });
        let mut bytes = Vec::new();
        bytes.extend(id.to_le_bytes());
        bytes.extend(event.time.to_le_bytes());
        bytes.extend(event.pid.unwrap_or(-1).to_le_bytes());
        bytes.extend(event.tid.to_le_bytes());
        put_text(&mut bytes, event.comm);
        for (_, value) in fields {
            put(&mut bytes, value);
        }
        let streams = trace.streams.entry(event.cpu).or_default();
        let discarded = streams.last().map_or(0, |stream| stream.discarded);
        let is_later = streams.last().is_some_and(|last| last.end <= event.time);
        if !is_later {
            streams.push(CtfStream {
                discarded,
                discarded_before: discarded,
                ..CtfStream::default()
            });
        }
        if let Some(stream) = streams.last_mut() {
            stream.push(event.cpu, event.time, &bytes);
        }
        Ok(())
    }

    /// Says that this number of events of a CPU were lost before its next event.
    pub fn lost(&mut self, buffer: &str, cpu: u32, count: u64) {
        let streams = self.buffers.of(buffer).streams.entry(cpu).or_default();
        match streams.last_mut() {
            Some(stream) => {
                stream.end_packet(cpu);
                stream.discarded = stream.discarded.saturating_add(count);
            }
            None => streams.push(CtfStream {
                discarded: count,
                ..CtfStream::default()
            }),
        }
    }

    /// Returns the files, by their paths below the directory of the trace. An instance's
    /// trace is in a directory of its own, `buffer1` and so on, whose metadata tells its
    /// name; the top buffer's is left out if it is empty and another is not.
    pub fn finish(self, kernel: &RecordedKernel) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let buffers = self.buffers.into_all();
        let has_instances = buffers.len() > 1;
        for (number, (buffer, mut trace)) in buffers.into_iter().enumerate() {
            if number == 0 && has_instances && trace.streams.is_empty() {
                continue;
            }
            let directory = match number {
                0 => String::new(),
                number => format!("buffer{number}/"),
            };
            let metadata = trace.metadata(&buffer, kernel);
            files.insert(format!("{directory}metadata"), metadata.into_bytes());
            for (cpu, streams) in &mut trace.streams {
                for (number, stream) in streams.iter_mut().enumerate() {
                    // A loss after which nothing was traced is in an empty packet.
                    if !stream.events.is_empty() || stream.discarded > 0 {
                        stream.end_packet(*cpu);
                    }
                    let more = match number {
                        0 => String::new(),
                        number => format!("_{number}"),
                    };
                    let packets = std::mem::take(&mut stream.packets);
                    files.insert(format!("{directory}cpu{cpu}{more}"), packets);
                }
            }
        }
        files
    }
}

impl CtfTrace {
    fn metadata(&self, buffer: &str, kernel: &RecordedKernel) -> String {
        let mut text = String::from(START);
        text += "env {\n\tdomain = \"kernel\";\n\tsysname = \"Linux\";\n";
        text += "\ttracer_name = \"tracepoints\";\n";
        for (name, value) in [
            ("kernel_release", kernel.release().unwrap_or_default()),
            ("architecture", kernel.architecture().unwrap_or_default()),
            ("buffer", buffer),
        ] {
            if !value.is_empty() {
                // Writing to a `String` is infallible.
                let _ = writeln!(text, "\t{name} = {};", quoted(value));
            }
        }
        text += "};\n";
        text += STREAM;
        for (id, class) in &self.classes {
            let name = quoted(class.name.as_str());
            let _ = write!(
                text,
                "\nevent {{\n\tname = {name};\n\tid = {id};\n\tstream_id = 0;\n\tfields := struct {{\n"
            );
            for (name, kind) in &class.fields {
                let _ = match kind {
                    CtfType::Unsigned => writeln!(text, "\t\tuint64_t {name};"),
                    CtfType::Signed => writeln!(text, "\t\tint64_t {name};"),
                    CtfType::Pointer => writeln!(text, "\t\tpointer_t {name};"),
                    CtfType::Text => writeln!(text, "\t\tstring {name};"),
                    CtfType::Integers { .. } | CtfType::Texts | CtfType::Bytes => {
                        let element = match kind {
                            CtfType::Integers { is_signed: true } => "int64_t",
                            CtfType::Integers { is_signed: false } => "uint64_t",
                            CtfType::Texts => "string",
                            _ => "byte_t",
                        };
                        writeln!(
                            text,
                            "\t\tuint32_t _{name}_length;\n\t\t{element} {name}[_{name}_length];"
                        )
                    }
                };
            }
            text += "\t};\n};\n";
        }
        text
    }
}

/// What all metadata begin with.
const START: &str = "\
/* CTF 1.8 */

typealias integer { size = 8; align = 8; signed = false; base = 16; } := byte_t;
typealias integer { size = 32; align = 8; signed = false; } := uint32_t;
typealias integer { size = 32; align = 8; signed = true; } := int32_t;
typealias integer { size = 64; align = 8; signed = false; } := uint64_t;
typealias integer { size = 64; align = 8; signed = true; } := int64_t;
typealias integer { size = 64; align = 8; signed = false; base = 16; } := pointer_t;

trace {
	major = 1;
	minor = 8;
	byte_order = le;
	packet.header := struct {
		uint32_t magic;
		uint32_t stream_id;
	};
};

";

/// The clock, and what all events have. A leading underscore is not part of a name: it keeps
/// names apart from TSDL's own words.
const STREAM: &str = "
clock {
	name = trace;
	description = \"the clock of the kernel's ring buffer\";
	freq = 1000000000;
	offset = 0;
};

typealias integer { size = 64; align = 8; signed = false; map = clock.trace.value; } := time_t;

stream {
	id = 0;
	packet.context := struct {
		time_t timestamp_begin;
		time_t timestamp_end;
		uint64_t content_size;
		uint64_t packet_size;
		uint64_t events_discarded;
		uint32_t cpu_id;
	};
	event.header := struct {
		uint32_t id;
		time_t timestamp;
	};
	event.context := struct {
		int32_t _pid;
		int32_t _tid;
		string _comm;
	};
};
";

impl CtfStream {
    fn push(&mut self, cpu: u32, time: u64, event: &[u8]) {
        if !self.events.is_empty() && self.events.len() + event.len() > PACKET {
            self.end_packet(cpu);
        }
        if self.events.is_empty() {
            self.begin = time;
            // Readers take losses from the difference to the packet before.
            if self.packets.is_empty() && self.discarded > self.discarded_before {
                let discarded = std::mem::replace(&mut self.discarded, self.discarded_before);
                self.end = time;
                self.end_packet(cpu);
                self.discarded = discarded;
            }
        }
        self.end = time;
        self.events.extend_from_slice(event);
    }

    fn end_packet(&mut self, cpu: u32) {
        let bits = 8 * (HEAD + self.events.len()) as u64;
        let packet = &mut self.packets;
        packet.extend(MAGIC.to_le_bytes());
        packet.extend(0_u32.to_le_bytes());
        for number in [self.begin, self.end, bits, bits, self.discarded] {
            packet.extend(number.to_le_bytes());
        }
        packet.extend(cpu.to_le_bytes());
        packet.append(&mut self.events);
        self.begin = self.end;
    }
}

/// Returns the fields' names in TSDL, each once, and their types.
fn class_of(fields: &[(&str, Value<'_>)]) -> Vec<(String, CtfType)> {
    let mut class: Vec<(String, CtfType)> = Vec::new();
    for (name, value) in fields {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let plain = name.chars().map(|c| if is_plain(c) { c } else { '_' });
        let mut name: String = std::iter::once('_').chain(plain).collect();
        while class.iter().any(|(known, _)| *known == name) {
            name.push('_');
        }
        let kind = match value {
            Value::Unsigned(_) => CtfType::Unsigned,
            Value::Signed(_) => CtfType::Signed,
            Value::Pointer(_) => CtfType::Pointer,
            Value::Text(_) => CtfType::Text,
            Value::Integers(integers) => CtfType::Integers {
                is_signed: integers.is_signed(),
            },
            Value::Texts(_) => CtfType::Texts,
            Value::Bytes(_) => CtfType::Bytes,
            #[cfg(all(feature = "probe", target_os = "linux"))]
            Value::Typed(_) => CtfType::Bytes,
        };
        class.push((name, kind));
    }
    class
}

/// Appends a value, as its type of [`class_of`] says.
fn put(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Unsigned(number) | Value::Pointer(number) => out.extend(number.to_le_bytes()),
        Value::Signed(number) => out.extend(number.to_le_bytes()),
        Value::Text(text) => put_text(out, text),
        Value::Integers(integers) => {
            put_length(out, integers.iter().count());
            for number in integers.iter() {
                out.extend(number.to_le_bytes());
            }
        }
        Value::Texts(texts) => {
            put_length(out, texts.len());
            for text in texts.iter() {
                put_text(out, text);
            }
        }
        Value::Bytes(bytes) => put_bytes(out, bytes),
        // Of probes alone, and not of recordings.
        #[cfg(all(feature = "probe", target_os = "linux"))]
        Value::Typed(typed) => put_bytes(out, typed.bytes()),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend(bytes);
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    // The parts of a record are shorter than 64 KiB.
    out.extend((length as u32).to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    let end = text.iter().position(|byte| *byte == 0);
    out.extend(&text[..end.unwrap_or(text.len())]);
    out.push(0);
}

/// Returns a string of TSDL.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            char if char.is_control() => quoted.push('?'),
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}
