//! Messages of Perfetto's traces, and the events that have messages of their own.

use prost::encoding::{WireType, encode_key, encode_varint};
use tracepoints::{EventName, Value};

/// A message of an event, with the number it has among those of all events.
pub(super) struct Typed {
    pub(super) event: &'static str,
    pub(super) number: u32,
    /// In the order of their numbers, from 1 on.
    fields: &'static [(&'static str, ProtoType)],
}

/// A type of Protocol Buffers.
#[derive(Clone, Copy)]
enum ProtoType {
    Text,
    Int32,
    Int64,
    Uint32,
    Uint64,
    /// Any number of them.
    Uint64s,
}

use ProtoType::{Int32, Int64, Text, Uint32, Uint64, Uint64s};

const WAKEUP: &[(&str, ProtoType)] = &[
    ("comm", Text),
    ("pid", Int32),
    ("prio", Int32),
    ("success", Int32),
    ("target_cpu", Int32),
];
const CPU_STATE: &[(&str, ProtoType)] = &[("state", Uint32), ("cpu_id", Uint32)];
const WORK: &[(&str, ProtoType)] = &[("work", Uint64), ("function", Uint64)];
const SOFTIRQ: &[(&str, ProtoType)] = &[("vec", Uint32)];

/// The events of which Perfetto draws more than marks. All others are messages of names and
/// values, which its tables have, too.
pub(super) const TYPED: &[Typed] = &[
    typed("ftrace:print", 3, &[("ip", Uint64), ("buf", Text)]),
    typed(
        "sched:sched_switch",
        4,
        &[
            ("prev_comm", Text),
            ("prev_pid", Int32),
            ("prev_prio", Int32),
            ("prev_state", Int64),
            ("next_comm", Text),
            ("next_pid", Int32),
            ("next_prio", Int32),
        ],
    ),
    typed("power:cpu_frequency", 11, CPU_STATE),
    typed("power:cpu_idle", 13, CPU_STATE),
    typed("sched:sched_wakeup", 17, WAKEUP),
    typed("sched:sched_waking", 20, WAKEUP),
    typed("irq:softirq_entry", 24, SOFTIRQ),
    typed("irq:softirq_exit", 25, SOFTIRQ),
    typed("irq:softirq_raise", 26, SOFTIRQ),
    typed(
        "irq:irq_handler_entry",
        36,
        &[("irq", Int32), ("name", Text), ("handler", Uint32)],
    ),
    typed(
        "irq:irq_handler_exit",
        37,
        &[("irq", Int32), ("ret", Int32)],
    ),
    typed("workqueue:workqueue_execute_end", 57, WORK),
    typed("workqueue:workqueue_execute_start", 58, WORK),
    typed("sched:sched_wakeup_new", 114, WAKEUP),
    typed(
        "task:task_newtask",
        235,
        &[
            ("pid", Int32),
            ("comm", Text),
            ("clone_flags", Uint64),
            ("oom_score_adj", Int32),
        ],
    ),
    typed(
        "task:task_rename",
        236,
        &[
            ("pid", Int32),
            ("oldcomm", Text),
            ("newcomm", Text),
            ("oom_score_adj", Int32),
        ],
    ),
    typed(
        "sched:sched_process_exec",
        237,
        &[("filename", Text), ("pid", Int32), ("old_pid", Int32)],
    ),
    typed(
        "sched:sched_process_exit",
        238,
        &[
            ("comm", Text),
            ("pid", Int32),
            ("tgid", Int32),
            ("prio", Int32),
        ],
    ),
    typed(
        "sched:sched_process_fork",
        239,
        &[
            ("parent_comm", Text),
            ("parent_pid", Int32),
            ("child_comm", Text),
            ("child_pid", Int32),
        ],
    ),
    typed(
        "sched:sched_process_free",
        240,
        &[("comm", Text), ("pid", Int32), ("prio", Int32)],
    ),
    typed(
        "raw_syscalls:sys_enter",
        329,
        &[("id", Int64), ("args", Uint64s)],
    ),
    typed(
        "raw_syscalls:sys_exit",
        330,
        &[("id", Int64), ("ret", Int64)],
    ),
];

const fn typed(
    event: &'static str,
    number: u32,
    fields: &'static [(&'static str, ProtoType)],
) -> Typed {
    Typed {
        event,
        number,
        fields,
    }
}

/// A message's bytes.
#[derive(Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    /// Appends a number; negative ones of 32 and of 64 bits have the same bytes.
    pub(super) fn number(&mut self, field: u32, number: u64) {
        encode_key(field, WireType::Varint, &mut self.0);
        encode_varint(number, &mut self.0);
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        encode_key(field, WireType::LengthDelimited, &mut self.0);
        encode_varint(bytes.len() as u64, &mut self.0);
        self.0.extend_from_slice(bytes);
    }

    /// Appends a text up to its null byte. What is not UTF-8 is replaced.
    pub(super) fn text(&mut self, field: u32, text: &[u8]) {
        self.bytes(field, plain(text).as_bytes());
    }

    pub(super) fn message(&mut self, field: u32, message: &Self) {
        self.bytes(field, &message.0);
    }
}

impl Typed {
    /// Returns the message, and the names of the fields that it lacks; none if a value is not
    /// of the type that it has there.
    pub(super) fn message(&self, fields: &[(&str, Value<'_>)]) -> Option<(Message, Vec<String>)> {
        let mut message = Message::default();
        let mut missing = Vec::new();
        for (name, value) in fields {
            let found = self.fields.iter().zip(1..);
            let Some(((_, kind), number)) = found.clone().find(|((known, _), _)| known == name)
            else {
                missing.push((*name).to_owned());
                continue;
            };
            kind.put(&mut message, number, value)?;
        }
        Some((message, missing))
    }
}

impl ProtoType {
    /// Appends a value; none if it is not of this type.
    fn put(self, message: &mut Message, field: u32, value: &Value<'_>) -> Option<()> {
        match (self, value) {
            (Text, Value::Text(text)) => message.text(field, text),
            (Uint64s, Value::Integers(numbers)) => {
                for number in numbers.iter() {
                    message.number(field, number.cast_unsigned());
                }
            }
            (Int32 | Int64, Value::Signed(number)) => {
                if let Int32 = self {
                    i32::try_from(*number).ok()?;
                }
                message.number(field, number.cast_unsigned());
            }
            (Int32 | Int64, Value::Unsigned(number)) => {
                match self {
                    Int32 => i32::try_from(*number).map(i64::from).ok()?,
                    _ => i64::try_from(*number).ok()?,
                };
                message.number(field, *number);
            }
            (Uint32 | Uint64, Value::Unsigned(number) | Value::Pointer(number)) => {
                if let Uint32 = self {
                    u32::try_from(*number).ok()?;
                }
                message.number(field, *number);
            }
            (Uint32 | Uint64, Value::Signed(number)) => {
                let number = u64::try_from(*number).ok()?;
                if let Uint32 = self {
                    u32::try_from(number).ok()?;
                }
                message.number(field, number);
            }
            _ => return None,
        }
        Some(())
    }
}

/// Returns the message of an event that has no message of its own.
pub(super) fn generic(name: &EventName, fields: &[(&str, Value<'_>)]) -> Message {
    let mut message = Message::default();
    message.text(1, name.as_str().as_bytes());
    let mut put = |name: &str, value: &dyn Fn(&mut Message)| {
        let mut field = Message::default();
        field.text(1, name.as_bytes());
        value(&mut field);
        message.message(2, &field);
    };
    for (name, value) in fields {
        match value {
            Value::Text(text) => put(name, &|field| field.text(3, text)),
            Value::Signed(number) => put(name, &|field| field.number(4, number.cast_unsigned())),
            Value::Unsigned(number) | Value::Pointer(number) => {
                put(name, &|field| field.number(5, *number));
            }
            Value::Integers(numbers) => {
                let tag = if numbers.is_signed() { 4 } else { 5 };
                for (index, number) in numbers.iter().enumerate() {
                    let name = format!("{name}[{index}]");
                    put(&name, &|field| field.number(tag, number.cast_unsigned()));
                }
            }
            Value::Texts(texts) => {
                for (index, text) in texts.iter().enumerate() {
                    put(&format!("{name}[{index}]"), &|field| field.text(3, text));
                }
            }
            Value::Bytes(bytes) => {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                put(name, &|field| field.text(3, hex.as_bytes()));
            }
            other => put(name, &|field| field.text(3, other.to_string().as_bytes())),
        }
    }
    message
}

/// Returns a text up to its null byte.
pub(super) fn plain(text: &[u8]) -> String {
    let end = text.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&text[..end.unwrap_or(text.len())]).into_owned()
}
