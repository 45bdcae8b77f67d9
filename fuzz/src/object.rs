//! Laws of BTF objects.

use tracepoints::format::Format;
use tracepoints::fuzzing::BtfObject;
use tracepoints::{EventName, btf::BtfError};

use crate::{context_laws, is_json, is_plain, layout_laws};

/// What is asked of one object: each question's work is bounded, and not that of
/// thousands of them.
const QUESTIONS: usize = 64;

/// Of an object, or of what is wrong with it.
#[track_caller]
pub fn object_laws(object: Result<BtfObject, BtfError>, events: &[(EventName, Format)]) {
    let object = match object {
        Ok(object) => object,
        Err(error) => return is_plain(&error.to_string()),
    };
    let ids = object.ids();
    for id in [0, ids.end, u32::MAX] {
        assert!(object.layout(id).is_err());
    }
    for id in ids.clone().take(QUESTIONS) {
        type_laws(&object, id);
    }
    let classes: Vec<_> = object.classes().collect();
    for (name, id) in classes.into_iter().take(QUESTIONS) {
        is_plain(name);
        assert!(ids.contains(&id));
        type_laws(&object, id);
    }
    for name in object.tracepoints().into_iter().take(QUESTIONS) {
        is_plain(name);
        match object.raw(name) {
            Ok(raw) => {
                let raw = raw.expect("a tracepoint that is listed is there");
                assert_eq!(raw.name(), name);
                is_plain(&raw.to_string());
                is_json(&raw);
            }
            Err(error) => is_plain(&error.to_string()),
        }
    }
    assert!(object.raw("no tracepoint").is_ok_and(|raw| raw.is_none()));
    for (name, format) in events {
        let is_here = name.category() == "syscalls" || object.tracepoints().contains(&name.event());
        if is_here {
            context_laws(format, &object.context(name, format));
        }
    }
}

fn type_laws(object: &BtfObject, id: u32) {
    match object.layout(id) {
        Ok(layout) => {
            layout_laws(&layout);
            assert_eq!(object.size_of(id), Some(layout.size()));
        }
        Err(error) => is_plain(&error.to_string()),
    }
    match object.c_type(id) {
        Ok(text) => is_plain(&text),
        Err(error) => is_plain(&error.to_string()),
    }
    let _ = object.enumerators(id);
}
