//! One BTF object, and all that is asked of one.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tracepoints::EventName;
use tracepoints::format::Format;
use tracepoints::fuzzing::BtfObject;
use tracepoints_fuzz::{fixture_events, object::object_laws};

static EVENTS: LazyLock<Vec<(EventName, Format)>> =
    LazyLock::new(|| fixture_events("6.18.15-x86_64"));

fuzz_target!(|data: &[u8]| object_laws(BtfObject::parse("vmlinux", data.to_vec(), None), &EVENTS));
