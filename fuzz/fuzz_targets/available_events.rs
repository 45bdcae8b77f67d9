//! `available_events`: each line is a name that reads as itself, or is shown as
//! rejected.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracepoints::{EventName, EventPattern, fuzzing};
use tracepoints_fuzz::{is_json, is_plain};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let events = fuzzing::available_events(&text);
    let mut names = events.names().iter();
    let mut rejected = events.rejected().iter().peekable();
    for (index, line) in text.lines().enumerate() {
        if let Some(bad) = rejected.next_if(|bad| bad.line == Some(index + 1)) {
            is_plain(&bad.text);
            is_plain(&bad.to_string());
            assert_eq!(bad.text, line.escape_debug().to_string());
            continue;
        }
        let name = names.next().expect("a line is a name or rejected");
        assert_eq!(name.as_str(), line);
        assert_eq!(format!("{}:{}", name.category(), name.event()), line);
        assert_eq!(line.parse::<EventName>().as_ref(), Ok(name));
        // As directories, both halves stay where they are.
        for half in [name.category(), name.event()] {
            is_plain(half);
            assert!(!half.is_empty() && half.len() <= 255 && !half.contains(['/', ' ']));
            assert!(half != "." && half != "..");
        }
        let pattern: EventPattern = line.parse().expect("a name is a pattern of itself");
        assert!(pattern.matches(name));
        // `rawtracepoint:` is how bpftrace asks for one of no category.
        let own = (name.category() != "rawtracepoint").then_some(name);
        assert_eq!(pattern.to_name().as_ref(), own);
        is_json(name);
    }
    assert_eq!((names.next(), rejected.next()), (None, None));
    // A pattern anybody may write, on these names.
    let first = text.lines().next().unwrap_or_default();
    match first.parse::<EventPattern>() {
        Ok(pattern) => {
            for name in events.names().iter().take(64) {
                let _ = pattern.matches(name);
            }
        }
        Err(error) => is_plain(&error.to_string()),
    }
    if let Err(error) = first.parse::<EventName>() {
        is_plain(&error.to_string());
    }
});
