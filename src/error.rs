//! Errors, with one variant for each way to fail.

use std::io;
use std::path::{Path, PathBuf};

use crate::btf::BtfError;
use crate::format::FormatError;
use crate::format::print::PrintFmtError;
#[cfg(feature = "image")]
use crate::image::ImageError;
use crate::name::{EventName, NameError};
#[cfg(feature = "recording")]
use crate::record::recording::RecordingError;
use crate::record::ring::PageLayoutError;

/// An error about a kernel's tracepoints, or about one of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No tracefs is mounted in this mount namespace.
    #[error(
        "tracefs is not mounted: mount it as root, `mount -t tracefs tracefs /sys/kernel/tracing`"
    )]
    NotMounted,
    /// A file or directory cannot be read.
    #[error("cannot read {}", shown(.path))]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The event whose file it is; `None` for a file that many events need.
        event: Option<EventName>,
        /// The reason.
        source: FileError,
    },
    /// A file of a kernel that is not running (its image, a module, a package) cannot be
    /// read.
    #[cfg(feature = "image")]
    #[error("cannot read the kernel in {}", shown(.path))]
    Image {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: ImageError,
    },
    /// A recording of another program cannot be read.
    #[cfg(feature = "recording")]
    #[error("cannot read the recording {}", shown(.path))]
    Recording {
        /// The recording.
        path: PathBuf,
        /// The reason.
        source: RecordingError,
    },
    /// A directory given as a captured kernel has neither `tracing/` with events nor BTF.
    #[error(
        "{} is not a captured kernel: it has neither tracing/available_events nor tracing/events (is tracefs mounted there, or is the kernel in a directory above or below?)",
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
        /// The path at which vmlinux's BTF would be.
        path: PathBuf,
    },
    /// Only BTF is known of the kernel, which does not tell its events, their categories and
    /// fields. [`Kernel::btf_alone`](crate::Kernel::btf_alone) has what it tells.
    #[error(
        "only the kernel's BTF is known, {}, which does not tell its events: there is no tracing/events beside it (capture the kernel as root, or read its image)",
        shown(.btf)
    )]
    EventsUnknown {
        /// The path of the BTF in the root.
        btf: PathBuf,
    },
    /// No event has this name.
    #[error("no event {name}{}", did_you_mean(.near))]
    NoSuchEvent {
        /// The name.
        name: EventName,
        /// Names of events it may be a misspelling of, nearest first.
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
        /// Names of events it may be a misspelling of, nearest first.
        near: Vec<EventName>,
    },
    /// The event is listed, but its directory is gone: its module was unloaded just now,
    /// or the capture is incomplete.
    #[error("{name} is listed, but {} is gone: was its module unloaded?", shown(.path))]
    EventGone {
        /// The event.
        name: EventName,
        /// The missing file.
        path: PathBuf,
    },
    /// A text is not an event name, or not a pattern of them.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A format file is not what a kernel writes.
    #[error("cannot parse {}", shown(.path))]
    Format {
        /// The file.
        path: PathBuf,
        /// The line, and the reason.
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
    #[error("cannot read the BTF in {}", shown(.path))]
    Btf {
        /// The object's file.
        path: PathBuf,
        /// The reason.
        source: BtfError,
    },
    /// `btf-rs` cannot read a BTF object that this crate can.
    #[cfg(feature = "btf-rs")]
    #[error("btf-rs cannot read the BTF in {}", shown(.path))]
    BtfRs {
        /// The object's file.
        path: PathBuf,
        /// The error of `btf-rs`.
        source: btf_rs::Error,
    },
    /// No module of this name has BTF.
    #[cfg(feature = "btf-rs")]
    #[error("no module {name} with BTF: is it loaded?")]
    NoModule {
        /// The name, with control characters escaped.
        name: String,
    },
    /// A struct's types cannot be followed.
    #[error("the context of {name} cannot be laid out")]
    Layout {
        /// The event.
        name: EventName,
        /// The reason.
        source: BtfError,
    },
    /// The event's print fmt cannot be parsed.
    #[error("cannot parse the print fmt of {name}")]
    PrintFmt {
        /// The event.
        name: EventName,
        /// The place, and the reason.
        source: PrintFmtError,
    },
    /// The context has no struct with a known name, which CO-RE needs for relocation.
    #[error("the context of {name} has no named struct, which CO-RE needs: {reason}")]
    NoStruct {
        /// The event.
        name: EventName,
        /// Why the context has no named struct.
        reason: String,
    },
    /// A header already has another type of the same name.
    #[error("the header already has a different {of} than {name} needs: use a separate header")]
    Conflict {
        /// The event.
        name: EventName,
        /// The type: `struct x`, `enum x` or a typedef's name.
        of: String,
    },
    /// The byte order of the kernel is not known: it has no BTF, and is not the running
    /// one.
    #[error(
        "the byte order of this kernel is not known: {} does not exist; set it by Kernel::with_byte_order, or --endian of the command",
        shown(.path)
    )]
    UnknownByteOrder {
        /// The file that would tell the byte order.
        path: PathBuf,
    },
    /// The file that describes the pages of the ring buffer does not exist.
    #[error("{} does not exist: without it no page of the ring buffer can be read", shown(.path))]
    NoPageLayout {
        /// The file.
        path: PathBuf,
    },
    /// The pages of the ring buffer are of a form that this crate cannot read.
    #[error("cannot read the page layout in {}", shown(.path))]
    PageLayout {
        /// The file that describes them.
        path: PathBuf,
        /// The reason.
        source: PageLayoutError,
    },
    /// A record is too short to have the id of its event.
    #[error("a record of {length} bytes is too short to have an event's id")]
    NoEventId {
        /// The record's length in bytes.
        length: usize,
    },
    /// The kernel has no event with a record's id: the event was removed since, or the
    /// record is another kernel's.
    #[error("no event has the id {id}: is the record of another kernel, or boot?")]
    UnknownEventId {
        /// The record's `common_type`.
        id: u16,
    },
    /// Two events have the same id, so that a record could be of either.
    #[error("{first} and {second} both have the id {id}")]
    SharedEventId {
        /// The id.
        id: u16,
        /// One of the events.
        first: EventName,
        /// The other event.
        second: EventName,
    },
    /// An event's format file has another id than its `id` file.
    #[error("{} has {}, but the id file has {id}: was a module loaded meanwhile?", shown(.path), shown_id(.found))]
    OtherEventId {
        /// The format file.
        path: PathBuf,
        /// The id in the `id` file.
        id: u16,
        /// The id in the format file, if there is one.
        found: Option<u32>,
    },
}

/// Why a file or a directory cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// This user may not read the file.
    #[error("permission denied: run as root")]
    PermissionDenied,
    /// The file is not UTF-8 text.
    #[error("not valid UTF-8 (byte {offset})")]
    NotText {
        /// The number of valid bytes at the file's start.
        offset: usize,
    },
    /// The file is a symbolic link, or is reached through one. In a captured kernel no
    /// link is followed, as it could lead out of the capture.
    #[error(
        "a symbolic link, which is not followed: copy the file or directory it leads to in its place"
    )]
    Link,
    /// The file is a pipe, a device or a directory.
    #[error("not a regular file")]
    NotAFile,
    /// The file is larger than any kernel's file of its kind.
    #[error("larger than {limit} bytes")]
    TooLarge {
        /// The largest size that is read, in bytes.
        limit: u64,
    },
    /// Any other failure of the system.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::PermissionDenied,
            _ => Self::Io(error),
        }
    }
}

impl Error {
    /// Makes the error about a file that does not belong to one event.
    pub(crate) fn file(path: impl Into<PathBuf>, source: impl Into<FileError>) -> Self {
        Self::File {
            path: path.into(),
            event: None,
            source: source.into(),
        }
    }

    /// Returns the error as one about a file of this event.
    pub(crate) fn of_event(mut self, name: &EventName) -> Self {
        if let Self::File { event, .. } = &mut self {
            *event = Some(name.clone());
        }
        self
    }

    /// Whether the error concerns only one event, so that a walk over many can report it
    /// and continue: a file of that event cannot be read or is not what a kernel writes,
    /// the event's module was unloaded, or its context cannot be laid out.
    pub fn is_of_one_event(&self) -> bool {
        match self {
            Self::File { event, .. } => event.is_some(),
            Self::EventGone { .. }
            | Self::Format { .. }
            | Self::OtherEvent { .. }
            | Self::OtherEventId { .. }
            | Self::Layout { .. }
            | Self::PrintFmt { .. }
            | Self::NoStruct { .. }
            | Self::Conflict { .. } => true,
            _ => false,
        }
    }
}

/// Returns an error with its causes in one line, for places that store a text.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += ": ";
        text += &error.to_string();
        cause = error.source();
    }
    text
}

/// Returns a path with control characters escaped: a captured kernel's directories may
/// have any name.
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

fn shown_id(id: &Option<u32>) -> String {
    match id {
        Some(id) => format!("the ID {id}"),
        None => "no ID".to_owned(),
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
