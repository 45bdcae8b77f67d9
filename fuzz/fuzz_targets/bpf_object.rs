//! A compiled object, held against a captured kernel: of which byte order and size it is,
//! any input gets an answer, and the same one twice.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tracepoints::Kernel;
use tracepoints::audit::{AuditedKernel, BpfObject, Verdict};
use tracepoints_fuzz::{fixture, is_plain};

static KERNELS: LazyLock<[AuditedKernel; 2]> = LazyLock::new(|| {
    ["6.18.15-x86_64", "6.12.107-s390x"]
        .map(|kernel| AuditedKernel::new(&Kernel::at(fixture(kernel)).expect("a fixture")))
});

fuzz_target!(|data: &[u8]| {
    for found in BpfObject::find(data) {
        assert!(found.offset() < data.len());
        match found.object() {
            Ok(object) if object.is_light_skeleton() => laws(object),
            Ok(_) => {}
            Err(error) => is_plain(&error.to_string().escape_debug().to_string()),
        }
    }
    match BpfObject::parse(data) {
        Ok(object) => laws(&object),
        Err(error) => is_plain(&error.to_string().escape_debug().to_string()),
    }
});

fn laws(object: &BpfObject) {
    for kernel in &*KERNELS {
        let audits = object.audit_on(kernel).expect("a sound kernel");
        let rows = serde_json::to_string(&audits).expect("JSON");
        let again = object.audit_on(kernel).expect("a sound kernel");
        assert_eq!(rows, serde_json::to_string(&again).expect("JSON"));
        for audit in audits {
            // The verdict is at least as bad as each read's.
            let worst = audit.reads().iter().map(|read| read.verdict()).max();
            assert!(worst.is_none_or(|worst| worst <= audit.verdict()));
            assert!(audit.verdict() == Verdict::Right || audit.reason().is_some());
        }
    }
}
