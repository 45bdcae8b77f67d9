//! Probes on the running kernel. The tests take root, and each runs in its own process
//! (`support::live`). They probe only what they do themselves.

mod attaching;
mod c_program;
mod cheapest;
mod counting;
mod hotplug;
mod paths;
mod pinned;
mod pointees;
mod provoked;
mod raw;
mod refused;
mod results;
mod stacks;
mod strings;

use std::path::Path;

use tracepoints::probe::FieldValue;
use tracepoints::{Error, Kernel, Tracepoint, Value};

/// Those of the events that this kernel has; the others are reported on stderr.
fn events(kernel: &Kernel, names: &[&str]) -> Vec<Tracepoint> {
    let mut events = Vec::new();
    for name in names {
        match kernel.tracepoint(name) {
            Ok(event) => events.push(event),
            Err(Error::NoSuchEvent { .. }) => eprintln!("NOT ON THIS KERNEL: {name}"),
            Err(error) => panic!("{error}"),
        }
    }
    events
}

/// The value a field must have.
enum Expected {
    Is(i64),
    Text(String),
    Within(std::ops::Range<i64>),
    Bits(i64),
}

fn text(text: impl AsRef<Path>) -> Expected {
    Expected::Text(text.as_ref().to_str().expect("UTF-8").to_owned())
}

impl Expected {
    fn holds(&self, value: &FieldValue<'_>) -> bool {
        let value = match value {
            FieldValue::Whole(value) => value,
            _ => return false,
        };
        match (self, value) {
            (Self::Text(text), Value::Text(bytes)) => text.as_bytes() == *bytes,
            (Self::Is(number), value) => value.integer() == Some(*number),
            (Self::Within(range), value) => {
                value.integer().is_some_and(|value| range.contains(&value))
            }
            (Self::Bits(bits), value) => value.integer().is_some_and(|value| value & bits == *bits),
            _ => false,
        }
    }
}

/// Makes the system call getppid this many times.
fn getppid(times: usize) {
    for _ in 0..times {
        std::hint::black_box(std::os::unix::process::parent_id());
    }
}
