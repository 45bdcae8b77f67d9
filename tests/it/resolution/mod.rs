//! From an event to its context, on kernels written for one question each.

mod class_rules;
mod classes;
mod homes;
mod many_at_once;
mod programs;
mod syscalls;

use crate::support::btf::{BtfWriter, TraceEntry};
use crate::support::capture::{COMMON, Capture};
use tracepoints::Context;

/// The types every kernel below has.
struct Types {
    btf: BtfWriter,
    int: u32,
    unsigned: u32,
    void_pointer: u32,
    entry: u32,
    data: u32,
}

impl Types {
    fn new() -> Self {
        let mut btf = BtfWriter::new(false);
        btf.int("long int", 8, true);
        let TraceEntry { id: entry, int, .. } = btf.trace_entry(8);
        let unsigned = btf.int("unsigned int", 4, false);
        let char = btf.int("char", 1, false);
        let void_pointer = btf.pointer(0);
        let data = btf.array(char, 0);
        Self {
            btf,
            int,
            unsigned,
            void_pointer,
            entry,
            data,
        }
    }

    /// A module's types, based on these.
    fn module(&self) -> Self {
        Self {
            btf: BtfWriter::split(&self.btf),
            ..*self
        }
    }

    /// Adds a class with the members `a`, at 8, and `__data_loc_b`, at 12, whose events
    /// take these arguments.
    fn class(&mut self, name: &str, arguments: &[u32]) -> u32 {
        let members = [
            ("ent", self.entry, 0),
            ("a", self.int, 8),
            ("__data_loc_b", self.unsigned, 12),
            ("__data", self.data, 16),
        ];
        let parameters = [&[self.void_pointer], arguments].concat();
        self.btf.event_class(name, 16, &members, &parameters)
    }

    fn event(&mut self, name: &str, arguments: &[u32]) {
        let parameters = [&[self.void_pointer], arguments].concat();
        self.btf.event(name, &parameters);
    }
}

/// Adds events with the record of [`Types::class`].
fn add_events(capture: &mut Capture, names: &[&str]) {
    for name in names {
        capture.event(
            name,
            COMMON,
            &[("int a", 8, 4), ("__data_loc char[] b", 12, 4)],
        );
    }
}

fn capture(types: &Types, names: &[&str]) -> Capture {
    let mut capture = Capture::new();
    add_events(&mut capture, names);
    capture.btf("vmlinux", &types.btf.bytes());
    capture
}

fn answer(context: &Context) -> (&str, Option<&str>, Option<&str>) {
    (context.evidence().as_str(), context.class(), context.home())
}
