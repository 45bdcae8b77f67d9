//! Two BTF objects, the second a module's whose types go on where the first's end.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tracepoints::EventName;
use tracepoints::btf::Btf;
use tracepoints::format::Format;
use tracepoints::fuzzing::BtfObject;
use tracepoints_fuzz::{fixture, fixture_events, is_plain, object::object_laws, two_parts};

static EVENTS: LazyLock<Vec<(EventName, Format)>> =
    LazyLock::new(|| fixture_events("6.18.15-x86_64"));

static VMLINUX: LazyLock<Btf> = LazyLock::new(|| {
    let bytes = fs::read(fixture("6.18.15-x86_64").join("btf/vmlinux")).expect("a fixture's file");
    Btf::vmlinux(bytes).expect("sound BTF")
});

fuzz_target!(|data: &[u8]| {
    let (base, module) = two_parts(data);
    // The same as `.BTF.base` and `.BTF` of a module built apart from its kernel.
    match Btf::module_with_base("module", module, base, &VMLINUX) {
        Ok(module) => assert_eq!(module.name(), "module"),
        Err(error) => is_plain(&error.to_string()),
    }
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
