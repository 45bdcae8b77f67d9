//! Patterns of event names.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::wildcard::Wildcard;
use super::{EventName, NameError};

/// Removes the prefix that bpftrace or libbpf put before a name. Returns the rest, and
/// the character that separates its halves.
pub(super) fn strip_probe_type(text: &str) -> (&str, char) {
    let stripped = ["tracepoint:", "t:", "tracepoint/", "tp/"]
        .iter()
        // `t:x` is a name in the category `t`: a prefix must leave two halves.
        .find_map(|prefix| {
            let separator = prefix.chars().next_back()?;
            let rest = text.strip_prefix(prefix)?;
            rest.contains(separator).then_some((rest, separator))
        });
    stripped.unwrap_or((text, if text.contains(':') { ':' } else { '/' }))
}

/// A pattern of event names, in bpftrace's syntax: `sched:*`, `*:*exit*`. `?` matches any
/// one character, `[ab]` one of those, `[!ab]` any other.
///
/// A pattern without a colon is matched against the event's name alone:
/// `*exit*` is `*:*exit*`.
///
/// ```
/// use tracepoints::{EventName, EventPattern};
///
/// let pattern: EventPattern = "sched:*_exit".parse()?;
/// assert!(pattern.matches(&"sched:sched_process_exit".parse()?));
/// assert!(!pattern.matches(&"sched:sched_switch".parse()?));
/// # Ok::<(), tracepoints::name::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventPattern {
    text: String,
    category: Wildcard,
    event: Wildcard,
}

impl EventPattern {
    /// Whether the name matches.
    pub fn matches(&self, name: &EventName) -> bool {
        self.category.matches(name.category()) && self.event.matches(name.event())
    }

    /// Whether a tracepoint with this name and no category matches. A pattern that names a
    /// category matches no such tracepoint.
    pub fn matches_bare(&self, tracepoint: &str) -> bool {
        self.category.is_all() && self.event.matches(tracepoint)
    }

    /// Returns the only name that matches; `None` if the pattern has wildcards or no
    /// category. In `rawtracepoint:NAME`, as in bpftrace, `NAME` has no category.
    pub fn to_name(&self) -> Option<EventName> {
        format!("{}:{}", self.category, self.event).parse().ok()
    }
}

impl FromStr for EventPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let raw = ["raw_tp/", "raw_tracepoint/", "tp_btf/", "rawtracepoint:"];
        let raw = raw.iter().find_map(|prefix| text.strip_prefix(prefix));
        let (category, event) = match raw {
            // Raw tracepoints have no category.
            Some(event) => ("*", event),
            None => {
                let (pattern, separator) = strip_probe_type(text);
                pattern.split_once(separator).unwrap_or(("*", pattern))
            }
        };
        let half = |half: &str| {
            let reason = match Wildcard::parse(half) {
                Some(_) if half.is_empty() => "a half of it is empty",
                Some(_) if half.contains([':', '/']) => "it has more than two halves",
                Some(pattern) => return Ok(pattern),
                None => "a bracket is not closed",
            };
            Err(NameError::BadPattern {
                text: text.to_owned(),
                reason,
            })
        };
        Ok(Self {
            category: half(category)?,
            event: half(event)?,
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.text)
    }
}

impl Serialize for EventPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for EventPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}
