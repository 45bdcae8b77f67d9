//! Two BTF objects, the second a module's whose types go on where the first's end.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tracepoints::EventName;
use tracepoints::format::Format;
use tracepoints::fuzzing::BtfObject;
use tracepoints_fuzz::{fixture_events, object::object_laws, two_parts};

static EVENTS: LazyLock<Vec<(EventName, Format)>> =
    LazyLock::new(|| fixture_events("6.18.15-x86_64"));

fuzz_target!(|data: &[u8]| {
    let (base, module) = two_parts(data);
    let Ok(base) = BtfObject::parse("vmlinux", base.to_vec(), None) else {
        return;
    };
    let module = BtfObject::parse("module", module.to_vec(), Some(&base));
    if let Ok(module) = &module {
        assert_eq!(module.ids().start, base.ids().end);
        // The base's types are the module's too, and the same, if they are whole.
        for id in base.ids().take(64) {
            if let Some(size) = base.size_of(id) {
                assert_eq!(module.size_of(id), Some(size));
            }
            if let Ok(text) = base.c_type(id) {
                assert_eq!(module.c_type(id), Ok(text));
            }
        }
    }
    object_laws(module, &EVENTS);
});
