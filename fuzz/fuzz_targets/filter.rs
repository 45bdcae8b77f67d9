//! A filter, the fixtures' events and a record's bytes: it means the same however it
//! is bracketed, and its contrary the contrary.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tracepoints::format::Format;
use tracepoints::{
    EventName, Filter, Record,
    filter::{FilterError, Task},
};
use tracepoints_fuzz::{fixture_events, is_plain, machine, two_parts};

static EVENTS: LazyLock<Vec<(EventName, Format)>> =
    LazyLock::new(|| fixture_events("7.3.4-x86_64"));

fuzz_target!(|data: &[u8]| {
    // The machine, the event, the filter, the record.
    let [bits, event, data @ ..] = data else {
        return;
    };
    let (text, bytes) = two_parts(data);
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let filter = match Filter::parse(text) {
        Ok(filter) => filter,
        Err(error) => {
            if let FilterError::Syntax { column, .. } = &error {
                assert!((1..=text.chars().count() + 1).contains(column));
            }
            return is_plain(&error.to_string());
        }
    };
    assert_eq!(filter.to_string(), text);
    let (_, format) = &EVENTS[usize::from(*event) % EVENTS.len()];
    let record = Record::new(format, bytes, machine(*bits));
    let mut comm = [0; 16];
    comm[..bytes.len().min(16)].copy_from_slice(&bytes[..bytes.len().min(16)]);
    let word = bytes
        .first_chunk()
        .map_or(0, |word| u32::from_le_bytes(*word));
    let task = Task {
        pid: word,
        tid: !word,
        comm,
        cpu: u32::from(*event),
    };
    let ask = |filter: &Filter| filter.bind(format)?.matches(&record, &task);
    let said = ask(&filter);
    if let Err(error) = &said {
        is_plain(&error.to_string());
    }
    for (other, contrary) in [
        (format!("!({text})"), true),
        (format!("!!({text})"), false),
        (format!("({text}) && ({text})"), false),
        (format!("({text})||({text})"), false),
        (format!("!(!({text}) && !({text}))"), false),
    ] {
        match Filter::parse(&other) {
            Ok(other) => assert_eq!(ask(&other), said.clone().map(|said| said != contrary)),
            // There is room for no more.
            Err(FilterError::TooLong { .. } | FilterError::TooDeep { .. }) => {}
            Err(error) => panic!("{other}: {error}"),
        }
    }
});
