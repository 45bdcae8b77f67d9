//! A format file and the bytes of a record of it: values, and the line they are
//! printed as.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracepoints::format::Format;
use tracepoints::{
    EventName, Record, Renderer,
    text::{Addresses, FlagColumns, TaskNames, TraceContext},
};
use tracepoints_fuzz::{machine, record_laws, two_parts};

/// More than widths, precisions and what a record has can make of a print fmt.
const MOST_FOR_EACH_BYTE: usize = 64 * 1024;

fuzz_target!(|data: &[u8]| {
    // The machine, the format file, the record.
    let Some((&bits, data)) = data.split_first() else {
        return;
    };
    let (text, bytes) = two_parts(data);
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let Ok(format) = Format::parse(text) else {
        return;
    };
    let machine = machine(bits);
    let record = Record::new(&format, bytes, machine);
    record_laws(&record);
    let names = TaskNames::default();
    let context = TraceContext::new(
        &record,
        1,
        u64::MAX,
        &names,
        FlagColumns::of_format(&format),
    );
    let context = context.ok();
    let _ = context.map(|context| context.to_string());

    let addresses = Addresses::new()
        .with_kallsyms("ffff000000000000 T f\nffff000000000100 t g\t[m]\n")
        .with_printk_formats("0xffff000000000200 : \"a string\"\n");
    for category in ["x", "syscalls", "ftrace", "synthetic", "eprobes", "uprobes"] {
        let name: Result<EventName, _> = format!("{category}:{}", format.name()).parse();
        let Ok(name) = name else {
            continue;
        };
        let constants = |name: &str| name.len().is_multiple_of(2).then_some(name.len() as i64);
        let renderer = match Renderer::with_constants(&name, &format, machine, &constants) {
            Ok(renderer) => renderer,
            Err(error) => {
                assert_eq!(format.print().err(), Some(error));
                continue;
            }
        };
        let _ = renderer.unknown();
        if let Some(context) = &context {
            let mut line = b"before".to_vec();
            let written = renderer.write_line(&record, context, &addresses, &mut line);
            let line = line.strip_prefix(b"before").expect("it is appended");
            assert_eq!(written.is_err(), line.is_empty());
            assert!(line.is_empty() || line.ends_with(b"\n"));
        }
        let mut out = String::from("before");
        renderer.render(&record, &addresses, &mut out);
        let line = out.strip_prefix("before").expect("it is appended");
        assert!(line.len() <= MOST_FOR_EACH_BYTE * (data.len() + 1));
        let mut again = String::new();
        renderer.render(&record, &addresses, &mut again);
        assert_eq!(line, again);
    }
});
