//! The file `tracing/classes` of a captured kernel: the class of each event, recorded
//! while the kernel could still be asked.
//!
//! Each line has four words, separated by tabs: `category:event`, the event's id (`-` for
//! the events of an image, which have no ids), the class, and its source (`btf_ids`,
//! `memory`, `kcore`, `image`). Captures are untrusted input, and the file may be of
//! another boot: a line counts only if its id is the event's, and its class is one of
//! those that fit.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::str::FromStr;

use crate::name::EventName;

/// The source of a class in `tracing/classes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CapturedFrom {
    /// The event's `btf_ids` file.
    BtfIds,
    /// The kernel's memory, read by a program.
    Memory,
    /// The kernel's memory, read through `/proc/kcore`.
    Kcore,
    /// The files the kernel and its modules were loaded from.
    Image,
}

impl CapturedFrom {
    const ALL: [Self; 4] = [Self::BtfIds, Self::Memory, Self::Kcore, Self::Image];
}

/// Writes the word in the file: `btf_ids`, `memory`, `kcore`, `image`.
impl fmt::Display for CapturedFrom {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::BtfIds => "btf_ids",
            Self::Memory => "memory",
            Self::Kcore => "kcore",
            Self::Image => "image",
        })
    }
}

/// The second word of a line about an event of an image, which has no id.
const NO_ID: &str = "-";

/// A line of `tracing/classes`. [`Display`](fmt::Display) writes it without the newline;
/// [`FromStr`] reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClassLine {
    pub(crate) event: EventName,
    /// `None` if the capture is of an image, whose events have no ids.
    pub(crate) id: Option<u32>,
    pub(crate) class: String,
    pub(crate) from: CapturedFrom,
}

impl fmt::Display for ClassLine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            event,
            id,
            class,
            from,
        } = self;
        match id {
            Some(id) => write!(out, "{event}\t{id}\t{class}\t{from}"),
            None => write!(out, "{event}\t{NO_ID}\t{class}\t{from}"),
        }
    }
}

impl FromStr for ClassLine {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let words: Vec<&str> = line.split('\t').collect();
        let [event, id, class, from] = words[..] else {
            return Err(());
        };
        let from = CapturedFrom::ALL
            .into_iter()
            .find(|known| known.to_string() == from);
        Ok(Self {
            event: event.parse().map_err(drop)?,
            id: match id {
                NO_ID => None,
                id => Some(id.parse().map_err(drop)?),
            },
            class: class.to_owned(),
            from: from.ok_or(())?,
        })
    }
}

/// The content of `tracing/classes`.
#[derive(Debug, Default)]
pub(crate) struct CapturedClasses {
    /// `None` for an event about which lines contradict each other.
    by_event: HashMap<EventName, Option<ClassLine>>,
}

impl CapturedClasses {
    /// Parses the file's text. Lines of any other form are ignored.
    pub(crate) fn parse(text: &str) -> Self {
        let mut by_event: HashMap<EventName, Option<ClassLine>> = HashMap::new();
        for line in text.lines().flat_map(ClassLine::from_str) {
            match by_event.entry(line.event.clone()) {
                Entry::Vacant(entry) => drop(entry.insert(Some(line))),
                Entry::Occupied(mut entry) => {
                    let known = entry.get().as_ref();
                    let agrees = known
                        .is_some_and(|known| (known.id, &known.class) == (line.id, &line.class));
                    if !agrees {
                        entry.insert(None);
                    }
                }
            }
        }
        Self { by_event }
    }

    /// Returns the class of the event with this name and id, and the class's source.
    pub(crate) fn class_of(
        &self,
        event: &EventName,
        id: Option<u32>,
    ) -> Option<(String, CapturedFrom)> {
        let line = self.by_event.get(event)?.as_ref()?;
        (line.id == id).then(|| (line.class.clone(), line.from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_is_written() {
        let ids = CapturedFrom::ALL
            .into_iter()
            .zip([Some(317), None].into_iter().cycle());
        for (from, id) in ids {
            let line = ClassLine {
                event: "sched:sched_process_exit".parse().expect("a name"),
                id,
                class: "sched_process_template".to_owned(),
                from,
            };
            assert_eq!(line.to_string().parse(), Ok(line));
        }
    }

    #[test]
    fn lines_of_another_form_say_nothing() {
        let classes = CapturedClasses::parse(
            "a:one\t1\tc\tmemory\n\
             a:two\t2\tc\tguess\n\
             a:three\t3\tc\n\
             a:four\t4\tc\tmemory\tmore\n\
             a:five\tx\tc\tmemory\n\
             six\t6\tc\tmemory\n\
             a:seven 7 c memory\n\
             a:eight\t8\tc\tkcore\n\
             a:eight\t8\td\tmemory\n\
             a:nine\t9\tc\tkcore\n\
             a:nine\t9\tc\timage\n",
        );
        let class_of =
            |event: &str, id: u32| classes.class_of(&event.parse().expect("a name"), Some(id));
        let class = |from| Some(("c".to_owned(), from));
        assert_eq!(class_of("a:one", 1), class(CapturedFrom::Memory));
        assert_eq!(class_of("a:one", 2), None);
        for (event, id) in [
            ("a:two", 2),
            ("a:three", 3),
            ("a:four", 4),
            ("a:five", 5),
            ("a:six", 6),
            ("a:seven", 7),
            ("a:eight", 8),
        ] {
            assert_eq!(class_of(event, id), None, "{event}");
        }
        assert_eq!(class_of("a:nine", 9), class(CapturedFrom::Kcore));
    }
}
