//! Bytes in which a kernel's symbols may be: as many names as places, or none. The first
//! byte has the machine.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracepoints::fuzzing;
use tracepoints_fuzz::machine;

fuzz_target!(|data: &[u8]| {
    let Some((&bits, data)) = data.split_first() else {
        return;
    };
    if let Some((names, places)) = fuzzing::kallsyms(data, machine(bits)) {
        assert_eq!(names, places);
        assert!(names > 256, "kernels have more than a marker's");
        assert!(names <= data.len());
    }
});
