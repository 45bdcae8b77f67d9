//! The events a kernel has.

use std::borrow::Borrow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::name::EventName;

/// The events a kernel has, in its own order.
#[derive(Clone, Debug, Default)]
pub struct Events {
    names: Vec<EventName>,
    rejected: Vec<RejectedName>,
}

/// An entry that a kernel lists as an event, but that is not a valid event name: a line of
/// `available_events` or, without that file, a directory of `events/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RejectedName {
    /// The line's number, from 1; `None` for a directory.
    pub line: Option<usize>,
    /// The line, or the directory as `category:event`, with control characters escaped.
    pub text: String,
    /// Why it is not an event name.
    pub reason: String,
}

impl fmt::Display for RejectedName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, reason, .. } = self;
        match self.line {
            Some(line) => write!(out, "line {line} of available_events")?,
            None => out.write_str("a directory of events/")?,
        }
        write!(out, ", \"{text}\", is not an event name: {reason}")
    }
}

impl Events {
    /// Returns the names, in the kernel's order.
    pub fn names(&self) -> &[EventName] {
        &self.names
    }

    /// Returns the number of names.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Iterates over the names, in the kernel's order.
    pub fn iter(&self) -> std::slice::Iter<'_, EventName> {
        self.names.iter()
    }

    /// Returns the entries that the kernel lists as events under invalid names, each with
    /// the reason. No kernel seen so far has any; `user_events` can be given such names.
    pub fn rejected(&self) -> &[RejectedName] {
        &self.rejected
    }

    /// Whether the event is listed.
    pub fn contains(&self, name: &EventName) -> bool {
        self.names.contains(name)
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&EventName) -> bool) {
        self.names.retain(keep);
    }

    pub(crate) fn extend(&mut self, names: Vec<EventName>) {
        self.names.extend(names);
    }

    /// Reads the text of `available_events`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut events = Self::default();
        let mut rest = text;
        let mut number = 0;
        // Lines are short: a plain loop finds their ends sooner than `lines` does.
        while !rest.is_empty() {
            let end = rest.bytes().position(|byte| byte == b'\n');
            let (line, after) = match end {
                Some(end) => {
                    let line = &rest[..end];
                    (line.strip_suffix('\r').unwrap_or(line), &rest[end + 1..])
                }
                None => (rest, ""),
            };
            number += 1;
            rest = after;
            match EventName::listed(line) {
                Ok(name) => events.names.push(name),
                Err(reason) => events.reject(Some(number), line, reason),
            }
        }
        events
    }

    /// Adds an event by the names of its directories.
    pub(super) fn add_directory(&mut self, category: &str, event: &str) {
        match EventName::of_directories(category, event) {
            Ok(name) => self.names.push(name),
            Err(reason) => self.reject(None, &format!("{category}:{event}"), reason),
        }
    }

    fn reject(&mut self, line: Option<usize>, text: &str, reason: &str) {
        self.rejected.push(RejectedName {
            line,
            text: text.escape_debug().to_string(),
            reason: reason.to_owned(),
        });
    }
}

/// An index of the names of [`Events`].
#[derive(Debug)]
pub(crate) struct Listing {
    names: Vec<EventName>,
    /// Built on first use: many callers list names and look none up.
    lookup: OnceLock<Lookup>,
}

#[derive(Debug)]
struct Lookup {
    /// The first event of each name (the half after the colon).
    first: HashMap<ByEvent, ()>,
    /// Events of the same name in further categories, which few names have.
    others: HashMap<Box<str>, Vec<EventName>>,
    /// The events in `others`, to be looked up by their whole names.
    namesakes: HashSet<EventName>,
}

/// A name that is hashed and compared by its half after the colon.
#[derive(Debug)]
struct ByEvent(EventName);

impl Borrow<str> for ByEvent {
    fn borrow(&self) -> &str {
        self.0.event()
    }
}

impl Hash for ByEvent {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.event().hash(state);
    }
}

impl PartialEq for ByEvent {
    fn eq(&self, other: &Self) -> bool {
        self.0.event() == other.0.event()
    }
}

impl Eq for ByEvent {}

impl Listing {
    pub(crate) fn new(events: &Events) -> Self {
        Self {
            names: events.names.clone(),
            lookup: OnceLock::new(),
        }
    }

    fn lookup(&self) -> &Lookup {
        self.lookup.get_or_init(|| {
            let mut lookup = Lookup {
                first: HashMap::with_capacity(self.names.len()),
                others: HashMap::new(),
                namesakes: HashSet::new(),
            };
            for name in &self.names {
                match lookup.first.entry(ByEvent(name.clone())) {
                    Entry::Vacant(entry) => drop(entry.insert(())),
                    Entry::Occupied(entry) if entry.key().0 == *name => {}
                    Entry::Occupied(_) => {
                        if lookup.namesakes.insert(name.clone()) {
                            let others = lookup.others.entry(name.event().into()).or_default();
                            others.push(name.clone());
                        }
                    }
                }
            }
            lookup
        })
    }

    /// Returns all names, in the kernel's order.
    pub(crate) fn names(&self) -> &[EventName] {
        &self.names
    }

    /// Whether an event of any category has this name.
    pub(crate) fn has_event(&self, event: &str) -> bool {
        self.of_name(event).next().is_some()
    }

    /// Iterates over all events of this name, in all categories.
    fn of_name(&self, event: &str) -> impl Iterator<Item = &EventName> {
        let lookup = self.lookup();
        let first = lookup
            .first
            .get_key_value(event)
            .map(|(first, ())| &first.0);
        let others = lookup.others.get(event);
        first.into_iter().chain(others.into_iter().flatten())
    }

    /// Returns the event of this name, if only one category has one.
    pub(crate) fn only(&self, event: &str) -> Option<&EventName> {
        let mut named = self.of_name(event);
        named.next().filter(|_| named.next().is_none())
    }

    pub(crate) fn contains(&self, name: &EventName) -> bool {
        let lookup = self.lookup();
        let first = lookup.first.get_key_value(name.event());
        first.is_some_and(|(first, ())| first.0 == *name) || lookup.namesakes.contains(name)
    }

    /// Iterates over the events of the same name in other categories.
    pub(crate) fn namesakes(&self, name: &EventName) -> impl Iterator<Item = &EventName> {
        self.of_name(name.event())
            .filter(move |other| *other != name)
    }
}

impl IntoIterator for Events {
    type Item = EventName;
    type IntoIter = std::vec::IntoIter<EventName>;

    fn into_iter(self) -> Self::IntoIter {
        self.names.into_iter()
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = &'a EventName;
    type IntoIter = std::slice::Iter<'a, EventName>;

    fn into_iter(self) -> Self::IntoIter {
        self.names.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_not_names_are_rejected() {
        let events =
            Events::parse("sched:sched_switch\nbad name:x\ntp/a/b\n\nhv-x:y\u{1b}[1m\na:b");
        let names: Vec<&str> = events.names().iter().map(EventName::as_str).collect();
        assert_eq!(names, ["sched:sched_switch", "a:b"]);
        let lines: Vec<usize> = events.rejected().iter().filter_map(|it| it.line).collect();
        assert_eq!(lines, [2, 3, 4, 5]);
        assert_eq!(
            events.rejected()[0].to_string(),
            "line 2 of available_events, \"bad name:x\", is not an event name: \
             a name has letters, digits, `_`, `-` and `.` only"
        );
        assert_eq!(events.rejected()[3].text, "hv-x:y\\u{1b}[1m");
    }

    proptest::proptest! {
        /// Lines end where those of `str::lines` do.
        #[test]
        fn lines_of_any_text(text in "[a:\r\n]{0,12}") {
            let events = Events::parse(&text);
            let rejected = events.rejected().iter().map(|line| line.text.clone());
            let names = events.names().iter().map(|name| name.as_str().to_owned());
            let mut read: Vec<String> = names.chain(rejected).collect();
            let lines = text.lines().map(|line| line.escape_debug().to_string());
            let mut lines: Vec<String> = lines.collect();
            read.sort();
            lines.sort();
            proptest::prop_assert_eq!(read, lines);
        }
    }

    #[test]
    fn names_in_several_categories() {
        let listing = Listing::new(&Events::parse("a:x\nb:y\nc:x\nd:x\nb:y\n"));
        let namesakes = |name: &str| {
            let name = name.parse().expect("a name");
            let mut names: Vec<_> = listing.namesakes(&name).map(EventName::to_string).collect();
            names.sort();
            names
        };
        assert_eq!(namesakes("c:x"), ["a:x", "d:x"]);
        assert_eq!(namesakes("e:x"), ["a:x", "c:x", "d:x"]);
        assert!(namesakes("b:y").is_empty());
    }
}
