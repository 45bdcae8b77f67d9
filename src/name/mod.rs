//! Names of events, and patterns of names.

mod likeness;
mod near;
mod pattern;
mod syscall;
mod wildcard;

pub(crate) use near::near;
pub use pattern::EventPattern;
pub(crate) use syscall::{SYSCALL_NUMBER, SyscallSide};

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use pattern::strip_probe_type;

/// A tracepoint's name: `category:event`, as in `available_events`.
///
/// Both halves consist of letters, digits, `_`, `-` and `.`, as in `9p:9p_client_req`,
/// `hv-pci:x` and `user_events_multi:test.0`; neither is `.` or `..`, or longer than 255
/// bytes. Each half is therefore a single component of a path, and plain text on a
/// terminal, but not always an identifier in C.
///
/// The kernel checks little: the preprocessor pastes the names of tracepoints,
/// `is_good_system_name()` and `is_good_name()` (`kernel/trace/trace.h`) check those of
/// probes, and nothing checks those of `user_events`.
///
/// Other common spellings are read too: `sched/sched_switch`,
/// `tracepoint:sched:sched_switch` (bpftrace), `tracepoint/sched/sched_switch` and
/// `tp/sched/sched_switch` (libbpf).
///
/// ```
/// use tracepoints::EventName;
///
/// let name: EventName = "tracepoint/sched/sched_switch".parse()?;
/// assert_eq!((name.category(), name.event()), ("sched", "sched_switch"));
/// assert_eq!(name.to_string(), "sched:sched_switch");
/// # Ok::<(), tracepoints::name::NameError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventName {
    /// Shared by everything that refers to the event.
    text: Arc<str>,
    colon: usize,
}

/// A text that is not an event name, or not a pattern of event names. The text is shown
/// with its control characters escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// No colon or slash separates a category from an event.
    #[error("{text:?} has no category: an event is written category:name, like sched:sched_switch")]
    NoCategory {
        /// The text.
        text: String,
    },
    /// A half of the name is not valid.
    #[error("{text:?} is not an event name: {reason}")]
    BadName {
        /// The text.
        text: String,
        /// The reason.
        reason: &'static str,
    },
    /// The text is not a valid pattern.
    #[error("{text:?} is not a pattern of event names: {reason}")]
    BadPattern {
        /// The text.
        text: String,
        /// The reason.
        reason: &'static str,
    },
}

impl EventName {
    /// Parses `category:event` only, not the other spellings. `Err` is the reason why the
    /// line is not a name.
    pub(crate) fn listed(line: &str) -> Result<Self, &'static str> {
        let colon = line.bytes().position(|byte| byte == b':');
        let colon = colon.ok_or("there is no colon")?;
        let (category, event) = (&line[..colon], &line[colon + 1..]);
        match is_name(category) && is_name(event) {
            true => Ok(Self {
                text: line.into(),
                colon,
            }),
            false => Err(fault(category).or(fault(event)).unwrap_or_default()),
        }
    }

    /// Returns the name for a category and an event, each a directory of `events/`. `Err`
    /// is the reason why they do not make a name.
    pub(crate) fn of_directories(category: &str, event: &str) -> Result<Self, &'static str> {
        match fault(category).or(fault(event)) {
            Some(fault) => Err(fault),
            None => Ok(Self {
                text: format!("{category}:{event}").into(),
                colon: category.len(),
            }),
        }
    }

    /// Returns the part before the colon, a directory of `events/`.
    pub fn category(&self) -> &str {
        &self.text[..self.colon]
    }

    /// Returns the part after the colon.
    pub fn event(&self) -> &str {
        &self.text[self.colon + 1..]
    }

    /// Returns the whole name, `category:event`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the ELF section in which libbpf and aya expect a program of type
    /// `BPF_PROG_TYPE_TRACEPOINT`: `tracepoint/sched/sched_switch`.
    pub fn section(&self) -> String {
        format!("tracepoint/{}/{}", self.category(), self.event())
    }
}

impl FromStr for EventName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (name, separator) = strip_probe_type(text);
        let (category, event) =
            name.split_once(separator)
                .ok_or_else(|| NameError::NoCategory {
                    text: text.to_owned(),
                })?;
        if let Some(reason) = fault(category).or(fault(event)) {
            return Err(NameError::BadName {
                text: text.to_owned(),
                reason,
            });
        }
        Ok(Self {
            text: match separator {
                ':' => name.into(),
                _ => format!("{category}:{event}").into(),
            },
            colon: category.len(),
        })
    }
}

/// The greatest length of a half of a name in bytes: that of a directory's name.
const MAX_HALF: usize = 255;

fn is_name(half: &str) -> bool {
    matches!(half.len(), 1..=MAX_HALF)
        && !matches!(half, "." | "..")
        && half.bytes().all(|byte| IS_OF_NAMES[usize::from(byte)])
}

/// Whether each byte may be part of a name.
const IS_OF_NAMES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        let value = byte as u8;
        table[byte] = value.is_ascii_alphanumeric() || matches!(value, b'_' | b'-' | b'.');
        byte += 1;
    }
    table
};

/// Returns why `half` is not half of a name; `None` if it is.
fn fault(half: &str) -> Option<&'static str> {
    match half {
        half if is_name(half) => None,
        "" => Some("a half of it is empty"),
        "." | ".." => Some("`.` and `..` are not names"),
        half if half.len() > MAX_HALF => Some("a half of it is longer than 255 bytes"),
        _ => Some("a name has letters, digits, `_`, `-` and `.` only"),
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.text)
    }
}

impl AsRef<str> for EventName {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for EventName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "EventName({})", self.text)
    }
}

impl Serialize for EventName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Accepts what [`FromStr`] does.
impl<'de> Deserialize<'de> for EventName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_people_paste_them() {
        for text in [
            "sched:sched_switch",
            "sched/sched_switch",
            "tracepoint:sched:sched_switch",
            "t:sched:sched_switch",
            "tracepoint/sched/sched_switch",
            "tp/sched/sched_switch",
        ] {
            let name: EventName = text.parse().expect(text);
            assert_eq!(name.as_str(), "sched:sched_switch");
            assert_eq!(name.section(), "tracepoint/sched/sched_switch");
        }
        let hyphens: EventName = "hv-pci:a-b".parse().expect("hyphens are legal");
        assert_eq!((hyphens.category(), hyphens.event()), ("hv-pci", "a-b"));
        let short: EventName = "t:x".parse().expect("a category t");
        assert_eq!(short.category(), "t");
        for text in [
            "9p:9p_client_req",
            "mac802154:802154_drv_start",
            "user_events_multi:test.0",
            "-group:x",
            "a:-b",
            "a:...",
        ] {
            let name: EventName = text.parse().expect(text);
            assert_eq!(name.as_str(), text);
            assert_eq!(EventName::listed(text), Ok(name.clone()));
            let (category, event) = (name.category(), name.event());
            assert_eq!(EventName::of_directories(category, event), Ok(name.clone()));
            let json = serde_json::to_string(&name).expect("JSON");
            assert_eq!(serde_json::from_str::<EventName>(&json).expect(text), name);
        }
    }

    #[test]
    fn what_is_no_name() {
        for text in [
            "",
            "sched_switch",
            ":",
            "a:",
            ":b",
            "a:b:c",
            "a:b c",
            "..:x",
            "a:../b",
            "a:.",
            ".:b",
            "a:*",
            "a:b\"",
            "a:b\n",
            "a:\u{1b}[1m",
            "é:b",
            &format!("a:{}", "b".repeat(256)),
        ] {
            let error = text.parse::<EventName>().expect_err(text);
            assert!(!error.to_string().contains(['\n', '\u{1b}']), "{error}");
            let listed = EventName::listed(text);
            assert!(listed.is_err_and(|fault| !fault.is_empty()), "{text}");
        }
        for (text, reason) in [
            ("a:", "a half of it is empty"),
            ("..:x", "`.` and `..` are not names"),
            (
                &format!("{}:a", "b".repeat(256)),
                "a half of it is longer than 255 bytes",
            ),
            ("a:b c", "a name has letters, digits, `_`, `-` and `.` only"),
            ("a", "there is no colon"),
        ] {
            assert_eq!(EventName::listed(text), Err(reason), "{text}");
        }
        assert!(serde_json::from_str::<EventName>("\"a:../b\"").is_err());
    }

    #[test]
    fn patterns() {
        let matches = |pattern: &str, name: &str| {
            let pattern: EventPattern = pattern.parse().expect(pattern);
            pattern.matches(&name.parse().expect(name))
        };
        for (pattern, name, expected) in [
            ("sched:*", "sched:sched_switch", true),
            ("sched:*", "rcu:rcu_utilization", false),
            ("*:*exit*", "sched:sched_process_exit", true),
            ("*exit*", "sched:sched_process_exit", true),
            ("tracepoint:sched:**", "sched:sched_switch", true),
            ("sched:sched_?witch", "sched:sched_switch", true),
            ("sched:sched_[sw]*", "sched:sched_waking", true),
            ("sched:sched_switc", "sched:sched_switch", false),
            ("sched/*", "sched:sched_switch", true),
            ("raw_tp/sched_switch", "sched:sched_switch", true),
            ("tp_btf/sched_switch", "sched:sched_switch", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        for bad in ["", ":", "sched:", "a:b:c", "sched:[a", ":*"] {
            assert!(bad.parse::<EventPattern>().is_err(), "{bad:?}");
        }
    }
}
