//! What can fail, one variant for each way.

use std::io;
use std::path::{Path, PathBuf};

use crate::btf::BtfError;
use crate::format::FormatError;
use crate::name::{EventName, NameError};
use crate::record::ring::PageLayoutError;

/// Why a kernel's tracepoints cannot be read, or one of them cannot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No tracefs is mounted in this mount namespace.
    #[error(
        "tracefs is not mounted: mount it as root, `mount -t tracefs tracefs /sys/kernel/tracing`"
    )]
    NotMounted,
    /// A file or directory is there, and this user may not read it.
    #[error("permission denied: {}: run as root", shown(.path))]
    PermissionDenied {
        /// What may not be read.
        path: PathBuf,
    },
    /// A directory given as a captured kernel has no `tracing/` with events.
    #[error(
        "{} is no captured kernel: it has neither tracing/available_events nor tracing/events (is tracefs mounted, or the kernel a directory further down or up?)",
        shown(.root)
    )]
    NotAKernel {
        /// The directory.
        root: PathBuf,
    },
    /// The kernel has no BTF.
    #[error(
        "no BTF: {} does not exist; the kernel was built without CONFIG_DEBUG_INFO_BTF",
        shown(.path)
    )]
    NoBtf {
        /// Where it would be.
        path: PathBuf,
    },
    /// No event has this name.
    #[error("no event {name}{}", did_you_mean(.near))]
    NoSuchEvent {
        /// The name.
        name: EventName,
        /// Names of events it may be a slip for, nearest first.
        near: Vec<EventName>,
    },
    /// No BTF object defines a tracepoint of this name.
    #[error("no tracepoint {name} in the kernel's BTF")]
    NoRawTracepoint {
        /// The name, with control characters escaped.
        name: String,
    },
    /// No event's name matches a pattern.
    #[error("no event matches {pattern:?}{}", did_you_mean(.near))]
    NoMatch {
        /// The pattern.
        pattern: String,
        /// Names of events it may be a slip for, nearest first.
        near: Vec<EventName>,
    },
    /// The event is listed, and its directory is gone: its module was unloaded
    /// just now, or the capture is not whole.
    #[error("{name} is listed, but {} is gone: was its module unloaded?", shown(.path))]
    EventGone {
        /// The event.
        name: EventName,
        /// The file that is not there.
        path: PathBuf,
    },
    /// A text is no event name, or no pattern of them.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A format file is not what a kernel writes.
    #[error("{}: {source}", shown(.path))]
    Format {
        /// The file.
        path: PathBuf,
        /// Which line, and what is wrong with it.
        source: FormatError,
    },
    /// A format file names another event than the directory it lies in.
    #[error("{} is the format of {found:?}", shown(.path))]
    OtherEvent {
        /// The file.
        path: PathBuf,
        /// The event it names.
        found: String,
    },
    /// A BTF object cannot be read.
    #[error("{}: {source}", shown(.path))]
    Btf {
        /// The object's file.
        path: PathBuf,
        /// What is wrong with it.
        source: BtfError,
    },
    /// A struct's types cannot be followed.
    #[error("the context of {name} cannot be laid out: {source}")]
    Layout {
        /// The event.
        name: EventName,
        /// What is wrong with the types.
        source: BtfError,
    },
    /// The context has no struct of a known name, which CO-RE relocates by.
    #[error("the context of {name} has no struct to relocate by: {reason}")]
    NoStruct {
        /// The event.
        name: EventName,
        /// Why it has none.
        reason: String,
    },
    /// A header already has another type of the same name.
    #[error("{name} needs another {of} than the header has: give it a header of its own")]
    Conflict {
        /// The event.
        name: EventName,
        /// The type: `struct x`, `enum x` or a typedef's name.
        of: String,
    },
    /// Nothing says in which order the kernel keeps the bytes of a number: it has
    /// no BTF, and is not the running one.
    #[error(
        "the byte order of this kernel is not known: {} does not exist, so say which it is",
        shown(.path)
    )]
    UnknownByteOrder {
        /// The file that would have told.
        path: PathBuf,
    },
    /// There is no file that says how the pages of the ring buffer are made.
    #[error("{} does not exist: without it no page of the ring buffer can be read", shown(.path))]
    NoPageLayout {
        /// The file.
        path: PathBuf,
    },
    /// The pages of the ring buffer are not what this crate can read.
    #[error("{}: {source}", shown(.path))]
    PageLayout {
        /// The file that describes them.
        path: PathBuf,
        /// What is wrong with it.
        source: PageLayoutError,
    },
    /// A record is too short to say which event it is of.
    #[error("a record of {length} bytes does not say which event it is of")]
    NoEventId {
        /// How many bytes it has.
        length: usize,
    },
    /// A record is of an event the kernel does not have: the event was removed
    /// since, or the record is another kernel's.
    #[error("no event has the id {id}: is the record of another kernel, or boot?")]
    UnknownEventId {
        /// The record's `common_type`.
        id: u16,
    },
    /// Two events have one id, so that what is of one may be of the other.
    #[error("{first} and {second} both have the id {id}")]
    SharedEventId {
        /// The id.
        id: u16,
        /// One of them.
        first: EventName,
        /// The other.
        second: EventName,
    },
    /// The format of an event has another id than its `id` file.
    #[error("{} has the ID {found}, its id file {id}: was a module loaded meanwhile?", shown(.path))]
    OtherEventId {
        /// The format file.
        path: PathBuf,
        /// What the `id` file says.
        id: u16,
        /// What the format file says.
        found: u32,
    },
    /// A file is no UTF-8 text.
    #[error("{} is not text: byte {offset} is no UTF-8", shown(.path))]
    NotText {
        /// The file.
        path: PathBuf,
        /// Where the text ends, in bytes.
        offset: usize,
    },
    /// A link stands where a file or a directory of a kernel should. In a captured
    /// one links are not followed: they might lead out of it.
    #[error("{} is a link, or behind one, and links are not followed: copy what it leads to in its place", shown(.path))]
    Link {
        /// The file or directory.
        path: PathBuf,
    },
    /// What should be a file is a pipe, a device or a directory.
    #[error("{} is no regular file", shown(.path))]
    NotAFile {
        /// What it is not.
        path: PathBuf,
    },
    /// A file is larger than any kernel makes it.
    #[error("{} is larger than {limit} bytes", shown(.path))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How many bytes are read at most.
        limit: u64,
    },
    /// Any other failure of the system.
    #[error("{}: {source}", shown(.path))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The failure.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { path },
            _ => Self::Io { path, source },
        }
    }

    /// Whether it is what one file of an event is or holds, and so no matter to other
    /// events.
    pub(crate) fn is_of_its_file(&self) -> bool {
        matches!(
            self,
            Self::Format { .. }
                | Self::OtherEvent { .. }
                | Self::NotText { .. }
                | Self::TooLarge { .. }
                | Self::NotAFile { .. }
                | Self::Link { .. }
        )
    }
}

/// A path as a terminal may show it: a captured kernel's directories may have any
/// name.
pub(crate) fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let escaped = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    match text.contains(char::is_control) {
        true => text.chars().map(escaped).collect(),
        false => text.into_owned(),
    }
}

fn did_you_mean(near: &[EventName]) -> String {
    let names: Vec<&str> = near.iter().map(EventName::as_str).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => format!("; did you mean {one}?"),
        [start @ .., last] => format!("; did you mean {} or {last}?", start.join(", ")),
    }
}
