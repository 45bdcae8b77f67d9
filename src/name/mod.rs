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

use serde::{Serialize, Serializer};

use pattern::strip_probe_type;

/// A tracepoint's name: `category:event`, as in `available_events`.
///
/// Both halves are `[A-Za-z_][A-Za-z0-9_-]*`, so that a name is safe as a path,
/// as text on a terminal and, hyphens apart, as an identifier in C.
///
/// What people paste is taken too: `sched/sched_switch`,
/// `tracepoint:sched:sched_switch` (bpftrace), `tracepoint/sched/sched_switch`
/// and `tp/sched/sched_switch` (libbpf).
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
    /// Shared by all that speak of the event.
    text: Arc<str>,
    colon: usize,
}

/// A text that is no event name or no pattern of them. The text is shown with
/// its control characters escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// There is no colon (or slash) between a category and an event.
    #[error("{text:?} has no category: an event is written category:name, like sched:sched_switch")]
    NoCategory {
        /// The text.
        text: String,
    },
    /// A half of the name has a character that no name has, is empty or longer
    /// than 255 bytes.
    #[error(
        "{text:?} is no event name: both halves are letters, digits, _ and -, and no digit or - begins one"
    )]
    BadCharacter {
        /// The text.
        text: String,
    },
    /// A pattern that cannot be read.
    #[error("{text:?} is no pattern of event names: {reason}")]
    BadPattern {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl EventName {
    /// Only `category:event` itself, not what people paste.
    pub(crate) fn listed(line: &str) -> Option<Self> {
        let colon = line.bytes().position(|byte| byte == b':')?;
        (is_name(&line[..colon]) && is_name(&line[colon + 1..])).then(|| Self {
            text: line.into(),
            colon,
        })
    }

    /// The name before the colon: a directory of `events/`.
    pub fn category(&self) -> &str {
        &self.text[..self.colon]
    }

    /// The name after the colon.
    pub fn event(&self) -> &str {
        &self.text[self.colon + 1..]
    }

    /// The whole name, `category:event`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The ELF section libbpf and aya want for a program of type
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
        if !(is_name(category) && is_name(event)) {
            return Err(NameError::BadCharacter {
                text: text.to_owned(),
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

/// A half is a directory's name, which has at most so many bytes.
const MAX_HALF: usize = 255;

fn is_name(half: &str) -> bool {
    let first = half.bytes().next();
    half.len() <= MAX_HALF
        && first.is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        // Without a way out of the loop it is vector code.
        && half.bytes().fold(true, |all, byte| {
            all & (byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        })
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
            "a:1b",
            "a:-b",
            "a:b\n",
            "a:\u{1b}[1m",
            "é:b",
            &format!("a:{}", "b".repeat(256)),
        ] {
            let error = text.parse::<EventName>().expect_err(text);
            assert!(!error.to_string().contains(['\n', '\u{1b}']), "{error}");
        }
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
