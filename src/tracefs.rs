//! tracefs: which events there are, and the files that describe one.

use std::borrow::Borrow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use walkdir::WalkDir;

use crate::error::Error;
use crate::event_name::EventName;
use crate::format::Format;
use crate::read::{self, Dir, Reader};
use crate::ring::{self, PageLayout};

/// Kernels write some 100 KB, or 10 KB for a format file.
const AVAILABLE_EVENTS_LIMIT: u64 = 4 << 20;
const FORMAT_LIMIT: u64 = 1 << 20;
const BTF_IDS_LIMIT: u64 = 4096;
const ID_LIMIT: u64 = 64;

/// The root of a mounted or captured tracefs.
#[derive(Debug)]
pub(crate) struct Tracefs {
    root: PathBuf,
    dir: Dir,
}

/// The events a kernel has, in its own order.
#[derive(Clone, Debug, Default)]
pub struct Events {
    names: Vec<EventName>,
    rejected: Vec<RejectedLine>,
}

/// A line of `available_events` that is no event name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RejectedLine {
    /// The line's number; the first is 1.
    pub line: usize,
    /// The line, with control characters escaped.
    pub text: String,
}

impl Events {
    /// The names, in the kernel's order.
    pub fn names(&self) -> &[EventName] {
        &self.names
    }

    /// The lines that are no event names: the kernel has events this crate
    /// cannot speak of. None on any kernel seen so far.
    pub fn rejected(&self) -> &[RejectedLine] {
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
        for (index, line) in text.lines().enumerate() {
            match EventName::listed(line) {
                Some(name) => events.names.push(name),
                None => events.rejected.push(RejectedLine {
                    line: index + 1,
                    text: line.escape_debug().to_string(),
                }),
            }
        }
        events
    }
}

/// The names of [`Events`], to be looked up.
#[derive(Debug)]
pub(crate) struct Listing {
    names: Vec<EventName>,
    /// Made when first asked for: many who list names look none up.
    lookup: OnceLock<Lookup>,
}

#[derive(Debug)]
struct Lookup {
    /// The first event of each name (the half after the colon).
    first: HashMap<ByEvent, ()>,
    /// Those of other categories, of the few names that have any.
    others: HashMap<Box<str>, Vec<EventName>>,
    /// All of these.
    namesakes: HashSet<EventName>,
}

/// A name to be found by its half after the colon.
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

    /// All names, in the kernel's order.
    pub(crate) fn names(&self) -> &[EventName] {
        &self.names
    }

    /// Whether an event of any category has this name.
    pub(crate) fn has_event(&self, event: &str) -> bool {
        self.of_name(event).next().is_some()
    }

    /// All events of this name, in all categories.
    fn of_name(&self, event: &str) -> impl Iterator<Item = &EventName> {
        let lookup = self.lookup();
        let first = lookup
            .first
            .get_key_value(event)
            .map(|(first, ())| &first.0);
        let others = lookup.others.get(event);
        first.into_iter().chain(others.into_iter().flatten())
    }

    pub(crate) fn contains(&self, name: &EventName) -> bool {
        let lookup = self.lookup();
        let first = lookup.first.get_key_value(name.event());
        first.is_some_and(|(first, ())| first.0 == *name) || lookup.namesakes.contains(name)
    }

    /// The events of this name in other categories.
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

impl Tracefs {
    /// Finds the mounted tracefs, in the order the kernel's documentation names
    /// its places. `system` is `/`, and `mountinfo` the text of
    /// `/proc/self/mountinfo`.
    pub(crate) fn find(system: &Path, mountinfo: &str) -> Result<Self, Error> {
        let mounts = Mount::list(mountinfo);
        let usual = [
            ("sys/kernel/tracing", "sys/kernel/tracing"),
            ("sys/kernel/debug/tracing", "sys/kernel/debug"),
        ];
        let usual = usual.map(|(path, mount)| (system.join(path), system.join(mount)));
        let elsewhere = mounts.iter().filter_map(|mount| {
            let path = match mount.fs_type {
                "tracefs" => mount.point.clone(),
                "debugfs" => mount.point.join("tracing"),
                _ => return None,
            };
            Some((path, mount.point.clone()))
        });
        let mut denied = None;
        for (path, mount_point) in usual.into_iter().chain(elsewhere) {
            match path.join("available_events").metadata() {
                Ok(_) => return Ok(Self::new(Dir::live(path))),
                // Without root even an empty place to mount at may be closed:
                // only where something is mounted would root help.
                Err(error)
                    if error.kind() == io::ErrorKind::PermissionDenied
                        && mounts.iter().any(|mount| mount.point == mount_point) =>
                {
                    denied.get_or_insert(path);
                }
                Err(_) => {}
            }
        }
        Err(match denied {
            Some(path) => Error::PermissionDenied { path },
            None => Error::NotMounted,
        })
    }

    /// The tracefs of a root laid out like `/sys/kernel`.
    pub(crate) fn at(kernel_root: &Path) -> Result<Self, Error> {
        let dir = Dir::captured(kernel_root).sub("tracing");
        let root = dir.path();
        for part in ["available_events", "events"] {
            match root.join(part).symlink_metadata() {
                Ok(_) if dir.is_there()? => return Ok(Self::new(dir)),
                Ok(_) => {}
                Err(error) if read::is_missing(&error) => {}
                Err(error) => return Err(Error::io(&root, error)),
            }
        }
        // That there is no such directory is another thing to say.
        match kernel_root.metadata() {
            Ok(_) => Err(Error::NotAKernel {
                root: kernel_root.to_owned(),
            }),
            Err(error) => Err(Error::io(kernel_root, error)),
        }
    }

    fn new(dir: Dir) -> Self {
        Self {
            root: dir.path(),
            dir,
        }
    }

    /// To be asked where a file is not there: whether that says anything of the
    /// kernel. A capture is no mount that may end.
    fn check_mounted(&self) -> Result<(), Error> {
        match self.dir.is_live() && !self.root.join("events").is_dir() {
            true => Err(Error::NotMounted),
            false => Ok(()),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The events programs can be attached to. Where a capture has no
    /// `available_events`, all that have a directory.
    pub(crate) fn events(&self) -> Result<Events, Error> {
        match self.dir.bytes("available_events", AVAILABLE_EVENTS_LIMIT)? {
            // A line that is no text is one that is no name.
            Some(bytes) => Ok(match str::from_utf8(&bytes) {
                Ok(text) => Events::parse(text),
                Err(_) => Events::parse(&String::from_utf8_lossy(&bytes)),
            }),
            None => Ok(Events {
                names: self.event_directories()?,
                rejected: Vec::new(),
            }),
        }
    }

    /// Every event with a directory of its own, sorted: those of
    /// [`events`](Self::events), and those of `ftrace:*`, which are not listed.
    pub(crate) fn event_directories(&self) -> Result<Vec<EventName>, Error> {
        self.check_mounted()?;
        let dir = self.dir.sub("events");
        let events = dir.path();
        dir.is_there()?;
        let mut names = Vec::new();
        for entry in WalkDir::new(&events)
            .min_depth(2)
            .max_depth(2)
            .sort_by_file_name()
        {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let path = error.path().unwrap_or(&events).to_owned();
                    match error.into_io_error() {
                        // A module unloaded during the walk.
                        Some(source) if read::is_missing(&source) && path != events => continue,
                        Some(source) => return Err(Error::io(&path, source)),
                        // A loop of links: no link is followed, so none comes.
                        None => continue,
                    }
                }
            };
            let relative = entry
                .path()
                .strip_prefix(&events)
                .ok()
                .and_then(Path::to_str);
            // `events/sched/enable` has the form of a name too; only an event
            // has a format.
            let name = relative.and_then(|path| path.parse::<EventName>().ok());
            if let Some(name) = name.filter(|_| entry.file_type().is_dir())
                && entry.path().join("format").symlink_metadata().is_ok()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Whether the event has a format file, or something in its place.
    pub(crate) fn has_format(&self, name: &EventName) -> bool {
        self.format_path(name).symlink_metadata().is_ok()
    }

    pub(crate) fn format_path(&self, name: &EventName) -> PathBuf {
        self.file(name, "format")
    }

    /// Reads files of many events.
    pub(crate) fn reader(&self) -> Reader {
        Reader::new(self.dir.sub("events"))
    }

    /// The event's format file, or `None` if it is not there.
    pub(crate) fn format(&self, name: &EventName) -> Result<Option<Format>, Error> {
        self.format_by(&mut self.reader(), name)
    }

    /// The same by a [`reader`](Self::reader).
    pub(crate) fn format_by(
        &self,
        reader: &mut Reader,
        name: &EventName,
    ) -> Result<Option<Format>, Error> {
        let relative = [name.category(), name.event(), "format"];
        // The kernel writes the print fmt in one piece, newlines included
        // (`f_show()` in `kernel/trace/trace_events.c`).
        let is_whole = |text: &str| text.ends_with('\n') && text.contains("\nprint fmt: ");
        let Some(text) = reader.text(relative, FORMAT_LIMIT, is_whole)? else {
            self.check_mounted()?;
            return Ok(None);
        };
        let path = || self.format_path(name);
        match Format::parse(text) {
            Ok(format) if format.name() == name.event() => Ok(Some(format)),
            Ok(format) => Err(Error::OtherEvent {
                path: path(),
                found: format.name().to_owned(),
            }),
            Err(source) => Err(Error::Format {
                path: path(),
                source,
            }),
        }
    }

    /// The id of the event's context struct as its `btf_ids` file has it;
    /// `None` where there is no such file, or it names none.
    pub(crate) fn context_type_id(&self, name: &EventName) -> Result<Option<u32>, Error> {
        let text = self.text(name, "btf_ids", BTF_IDS_LIMIT)?;
        Ok(text.and_then(|text| {
            let id = text
                .lines()
                .find_map(|line| line.strip_prefix("tp_btf_id: "))?;
            id.parse().ok().filter(|id| *id != 0)
        }))
    }

    /// The id of an event, from its `id` file or, where that has none, as those of
    /// `ftrace:*` in some kernels, from its format; `None` if it has neither file.
    pub(crate) fn id(&self, name: &EventName) -> Result<Option<u32>, Error> {
        let id = self.text(name, "id", ID_LIMIT)?;
        match id.and_then(|id| id.trim_end().parse().ok()) {
            Some(id) => Ok(Some(id)),
            None => Ok(self.format(name)?.map(|format| format.id())),
        }
    }

    pub(crate) fn page_layout(&self) -> Result<PageLayout, Error> {
        let events = self.dir.sub("events");
        let path = events.path().join("header_page");
        let Some(text) = events.text("header_page", FORMAT_LIMIT)? else {
            self.check_mounted()?;
            return Err(Error::NoPageLayout { path });
        };
        let layout = PageLayout::parse(&text);
        let layout = layout.map_err(|source| Error::PageLayout { path, source })?;
        let path = events.path().join("header_event");
        if let Some(text) = events.text("header_event", FORMAT_LIMIT)? {
            let known = ring::check_header_event(&text);
            known.map_err(|source| Error::PageLayout { path, source })?;
        }
        Ok(layout)
    }

    /// What `printk_formats` says; `None` if there is no such file.
    pub(crate) fn printk_formats(&self) -> Result<Option<String>, Error> {
        /// Thousands of strings take a few hundred kilobytes.
        const LIMIT: u64 = 16 << 20;
        self.lossy_text("printk_formats", LIMIT)
    }

    /// What `saved_cmdlines` says; `None` if there is no such file.
    pub(crate) fn saved_cmdlines(&self) -> Result<Option<String>, Error> {
        /// `saved_cmdlines_size` is 128 unless somebody writes another number.
        const LIMIT: u64 = 16 << 20;
        self.lossy_text("saved_cmdlines", LIMIT)
    }

    /// The text of a file in which others than the kernel have words of their own.
    fn lossy_text(&self, file: &str, limit: u64) -> Result<Option<String>, Error> {
        let bytes = self.dir.bytes(file, limit)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The text of one of an event's small files, or `None` if it is not there.
    fn text(&self, name: &EventName, file: &str, limit: u64) -> Result<Option<String>, Error> {
        let file = format!("{}/{}/{file}", name.category(), name.event());
        self.dir.sub("events").text(&file, limit)
    }

    fn file(&self, name: &EventName, file: &str) -> PathBuf {
        let mut path = self.root.join("events");
        path.extend([name.category(), name.event(), file]);
        path
    }
}

/// A line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    point: PathBuf,
    fs_type: &'a str,
}

impl<'a> Mount<'a> {
    fn list(mountinfo: &'a str) -> Vec<Self> {
        mountinfo.lines().filter_map(Self::parse).collect()
    }

    /// `22 20 0:7 / /sys/kernel/tracing rw,nosuid shared:4 - tracefs tracefs rw`
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        Some(Self {
            point: unescape(mount.split(' ').nth(4)?).into(),
            fs_type: file_system.split(' ').next()?,
        })
    }
}

/// Space, tab, newline and backslash stand as `\040` and the like.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let escaped = after
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        rest = match escaped {
            Some(byte) if byte.is_ascii() => {
                plain.push(char::from(byte));
                &after[3..]
            }
            _ => {
                plain.push('\\');
                after
            }
        };
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn mountinfo_lines() {
        let text = "\
            22 20 0:7 / /sys/kernel/tracing rw,nosuid shared:4 - tracefs tracefs rw\n\
            23 20 0:8 / /mnt/a\\040b\\134c rw - debugfs debugfs rw\n\
            nonsense\n";
        let mounts = Mount::list(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].point, Path::new("/sys/kernel/tracing"));
        assert_eq!(
            (mounts[1].point.to_str(), mounts[1].fs_type),
            (Some("/mnt/a b\\c"), "debugfs")
        );
    }

    #[test]
    fn tracefs_is_found_where_it_is_mounted() {
        let system = tempfile::tempdir().expect("a directory");
        let found = |mountinfo: &str| Tracefs::find(system.path(), mountinfo);
        let place = |path: &str| {
            let path = system.path().join(path);
            fs::create_dir_all(&path).expect("a directory");
            fs::write(path.join("available_events"), "").expect("a file");
            path
        };
        fs::create_dir_all(system.path().join("sys/kernel/tracing")).expect("a directory");
        assert!(matches!(found(""), Err(Error::NotMounted)));

        let odd = place("mnt/odd place");
        let mountinfo = format!(
            "9 1 0:7 / {} rw - tracefs t rw\n",
            odd.display().to_string().replace(' ', "\\040")
        );
        assert_eq!(found(&mountinfo).expect("found").root(), odd);
        let debug = place("sys/kernel/debug/tracing");
        assert_eq!(found(&mountinfo).expect("found").root(), debug);
        let usual = place("sys/kernel/tracing");
        assert_eq!(found(&mountinfo).expect("found").root(), usual);
    }

    #[test]
    fn lines_that_are_no_names_are_told() {
        let events =
            Events::parse("sched:sched_switch\nbad name:x\ntp/a/b\n\nhv-x:y\u{1b}[1m\na:b");
        let names: Vec<&str> = events.names().iter().map(EventName::as_str).collect();
        assert_eq!(names, ["sched:sched_switch", "a:b"]);
        let lines: Vec<usize> = events.rejected().iter().map(|line| line.line).collect();
        assert_eq!(lines, [2, 3, 4, 5]);
        assert_eq!(events.rejected()[3].text, "hv-x:y\\u{1b}[1m");
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
