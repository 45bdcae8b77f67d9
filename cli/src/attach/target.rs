//! `EVENT{FIELD,…}/FILTER/`: events to attach to, the fields to print, and a condition.
//! `sys:CALL` is the event at which a system call begins, with its return.

use std::fmt;
use std::str::FromStr;

use tracepoints::probe::RawProgram;
use tracepoints::{EventPattern, Filter};

/// Events, with the fields and the condition for them alone.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(super) pattern: EventPattern,
    /// The type of program, for raw tracepoints.
    pub(super) raw: Option<RawProgram>,
    /// Whether each record is of a whole system call: `sys:unlinkat`.
    pub(super) is_call: bool,
    /// The fields; those of `--fields` by default.
    pub(super) fields: Option<Vec<String>>,
    /// The condition, in addition to `--filter`.
    pub(super) filter: Option<Filter>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (raw, text) = strip_raw(text);
        // In `tracepoint/sched/sched_switch` slashes precede the event's name; a filter
        // follows it.
        let from = match text.split_once(':') {
            Some((category, _)) => category.len(),
            None => 0,
        };
        let has_filter = text.len() > 1 && text.ends_with('/');
        let (mut event, mut fields, mut filter) = (text, None, None);
        if has_filter && let Some(start) = text[from..text.len() - 1].find('/') {
            let start = from + start;
            event = &text[..start];
            filter = Some(text[start + 1..text.len() - 1].parse().map_err(in_words)?);
        }
        if let Some((name, rest)) = event.split_once('{') {
            let list = rest
                .strip_suffix('}')
                .ok_or("a list of fields ends with }: EVENT{FIELD,FIELD}/FILTER/")?;
            let names = list.split(',').map(|name| name.trim().to_owned());
            fields = Some(names.filter(|name| !name.is_empty()).collect());
            event = name;
        }
        let call = event.trim().strip_prefix("sys:").filter(|_| raw.is_none());
        let enter = call.map(|call| format!("syscalls:sys_enter_{call}"));
        let pattern = enter.as_deref().unwrap_or(event.trim());
        Ok(Self {
            pattern: pattern.parse().map_err(in_words)?,
            raw,
            is_call: call.is_some(),
            fields,
            filter,
        })
    }
}

/// Strips the prefix of a raw tracepoint's name: libbpf's sections, and the categories that
/// records have.
fn strip_raw(text: &str) -> (Option<RawProgram>, &str) {
    const PREFIXES: [(&str, RawProgram); 6] = [
        ("raw_tp/", RawProgram::RawTp),
        ("raw_tp:", RawProgram::RawTp),
        ("raw_tracepoint/", RawProgram::RawTp),
        ("rawtracepoint:", RawProgram::Cheapest),
        ("tp_btf/", RawProgram::TpBtf),
        ("tp_btf:", RawProgram::TpBtf),
    ];
    let mut prefixes = PREFIXES.iter();
    let found = prefixes.find_map(|(prefix, raw)| Some((Some(*raw), text.strip_prefix(prefix)?)));
    found.unwrap_or((None, text))
}

fn in_words(error: impl fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::{RawProgram, Target};

    fn parts(text: &str) -> Result<String, String> {
        let target: Target = text.parse()?;
        let filter = target.filter.map(|filter| filter.to_string());
        Ok(format!("{} {:?} {filter:?}", target.pattern, target.fields))
    }

    #[test]
    fn events_with_fields_and_filters() {
        for (text, expected) in [
            ("sched:*", "sched:* None None"),
            ("a:b{c, d}", "a:b Some([\"c\", \"d\"]) None"),
            ("a:b/ret < 0/", "a:b None Some(\"ret < 0\")"),
            (
                "a:b{c}/d == \"/etc\"/",
                "a:b Some([\"c\"]) Some(\"d == \\\"/etc\\\"\")",
            ),
            ("a:b{}", "a:b Some([]) None"),
            (
                "sys:unlink*{pathname}/flag == 0/",
                "syscalls:sys_enter_unlink* Some([\"pathname\"]) Some(\"flag == 0\")",
            ),
        ] {
            assert_eq!(parts(text).as_deref(), Ok(expected));
        }
        let raw = |text: &str| {
            let target: Target = text.parse().expect(text);
            (target.raw, parts(text).expect(text))
        };
        for (text, program, expected) in [
            ("raw_tp/x", RawProgram::RawTp, "x None None"),
            ("tp_btf:x*", RawProgram::TpBtf, "x* None None"),
            (
                "raw_tp/x{a->b}/c->d == 1/",
                RawProgram::RawTp,
                "x Some([\"a->b\"]) Some(\"c->d == 1\")",
            ),
            ("rawtracepoint:x", RawProgram::Cheapest, "x None None"),
        ] {
            assert_eq!(raw(text), (Some(program), expected.to_owned()));
        }
        for text in ["a:b{c", "a:b/ret </", "a:b:c"] {
            assert!(parts(text).is_err(), "{text}");
        }
    }
}
