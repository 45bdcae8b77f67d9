//! tracefs: the list of events, and the files that describe each.

use std::io;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::dir::{Dir, is_missing};
use super::listing::Events;
use super::mount::Mount;
use super::reader::Reader;
#[cfg(any(feature = "image", feature = "recording"))]
use super::tree::FileTree;
use crate::error::{Error, FileError};
use crate::format::Format;
use crate::name::EventName;
use crate::record::ring::{self, PageLayout};

/// Limits in bytes. Kernels' lists have some 100 KB, format files up to 10 KB.
const AVAILABLE_EVENTS_LIMIT: u64 = 4 << 20;
const FORMAT_LIMIT: u64 = 1 << 20;
const BTF_IDS_LIMIT: u64 = 4096;
const ID_LIMIT: u64 = 64;

/// An instance of tracefs that has an event on.
#[cfg(all(feature = "probe", target_os = "linux"))]
#[derive(Debug)]
pub(crate) struct InstanceUse {
    /// Its name; `None` for the instance that always exists.
    pub(crate) instance: Option<String>,
    pub(crate) is_filtered: bool,
    /// Whether only triggers see the event.
    pub(crate) is_soft_disabled: bool,
}

/// The root of a mounted or captured tracefs.
#[derive(Debug)]
pub(crate) struct Tracefs {
    root: PathBuf,
    dir: Dir,
    /// The path of vmlinux's BTF. A kernel that has it is too new to write format files
    /// without a print fmt.
    btf: PathBuf,
    /// Whether nothing is known of the kernel but its BTF: then its events are not known,
    /// which is not the same as none.
    is_btf_alone: bool,
}

impl Tracefs {
    /// Finds the mounted tracefs, trying its usual places in the order that the kernel's
    /// documentation has. `system` is `/`, and `mountinfo` the text of
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
                Ok(_) => {
                    let btf = system.join("sys/kernel/btf/vmlinux");
                    return Ok(Self::new(Dir::live(path), btf, false));
                }
                // Without root even an empty mount point may be inaccessible; root would
                // help only if something is mounted.
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
            Some(path) => Error::file(path, FileError::PermissionDenied),
            None => Error::NotMounted,
        })
    }

    /// Returns the tracefs of a root in memory, which may have no events.
    #[cfg(any(feature = "image", feature = "recording"))]
    pub(crate) fn in_memory(root: &Dir) -> Self {
        let is_btf_alone = |files: &FileTree| {
            files.file("tracing/available_events").is_none()
                && files.below("tracing/events").next().is_none()
                && files.file("btf/vmlinux").is_some()
        };
        let is_btf_alone = root.tree().is_some_and(is_btf_alone);
        let btf = root.path().join("btf/vmlinux");
        Self::new(root.sub("tracing"), btf, is_btf_alone)
    }

    /// Returns the tracefs of a root laid out like `/sys/kernel`, which may have BTF alone.
    pub(crate) fn at(kernel_root: &Path) -> Result<Self, Error> {
        let dir = Dir::captured(kernel_root).sub("tracing");
        let root = dir.path();
        for part in ["available_events", "events"] {
            match root.join(part).symlink_metadata() {
                Ok(_) if dir.is_there()? => {
                    return Ok(Self::new(dir, kernel_root.join("btf/vmlinux"), false));
                }
                Ok(_) => {}
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(Error::file(root, error)),
            }
        }
        let btf = Dir::captured(kernel_root).sub("btf");
        if btf.is_there()? && btf.has("vmlinux") {
            return Ok(Self::new(dir, kernel_root.join("btf/vmlinux"), true));
        }
        // A directory that does not exist is a different error.
        match kernel_root.metadata() {
            Ok(_) => Err(Error::NotAKernel {
                root: kernel_root.to_owned(),
            }),
            Err(error) => Err(Error::file(kernel_root, error)),
        }
    }

    fn new(dir: Dir, btf: PathBuf, is_btf_alone: bool) -> Self {
        Self {
            root: dir.path(),
            dir,
            btf,
            is_btf_alone,
        }
    }

    /// Whether nothing is known of the kernel but its BTF.
    pub(crate) fn is_btf_alone(&self) -> bool {
        self.is_btf_alone
    }

    /// Fails if a file does not exist only because there is no tracefs: it was unmounted,
    /// which cannot happen to a capture, or BTF alone is known.
    fn check_is_there(&self) -> Result<(), Error> {
        match () {
            () if self.dir.is_live() && !self.root.join("events").is_dir() => {
                Err(Error::NotMounted)
            }
            () if self.is_btf_alone => Err(Error::EventsUnknown {
                btf: self.btf.clone(),
            }),
            () => Ok(()),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the events that programs can be attached to or, if a capture has no
    /// `available_events`, all events that have a directory.
    pub(crate) fn events(&self) -> Result<Events, Error> {
        match self.available_events()? {
            // A line that is not UTF-8 is not a name.
            Some(bytes) => Ok(match str::from_utf8(&bytes) {
                Ok(text) => Events::parse(text),
                Err(_) => Events::parse(&String::from_utf8_lossy(&bytes)),
            }),
            None => self.event_directories(),
        }
    }

    /// Returns all events that have a directory, sorted: those of
    /// [`events`](Self::events), and those of `ftrace:*`, which `available_events` does
    /// not list.
    pub(crate) fn event_directories(&self) -> Result<Events, Error> {
        self.check_is_there()?;
        let dir = self.dir.sub("events");
        let events = dir.path();
        dir.is_there()?;
        let mut found = Events::default();
        if let Some(files) = dir.in_tree() {
            for (path, _) in files {
                if let [category, event, "format"] = *path.split('/').collect::<Vec<_>>() {
                    found.add_directory(category, event);
                }
            }
            return Ok(found);
        }
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
                        // A module was unloaded during the walk.
                        Some(source) if is_missing(&source) && path != events => continue,
                        Some(source) => return Err(Error::file(path, source)),
                        // A loop of links; none occurs, because links are not followed.
                        None => continue,
                    }
                }
            };
            // `events/sched/enable` looks like a name too; only events have a format
            // file.
            if !entry.file_type().is_dir()
                || entry.path().join("format").symlink_metadata().is_err()
            {
                continue;
            }
            let category = entry.path().parent().and_then(Path::file_name);
            let category = category.unwrap_or_default().to_string_lossy();
            found.add_directory(&category, &entry.file_name().to_string_lossy());
        }
        Ok(found)
    }

    /// Whether the event has a format file, of whatever type.
    pub(crate) fn has_format(&self, name: &EventName) -> bool {
        let events = self.dir.sub("events");
        events.has(&format!("{}/{}/format", name.category(), name.event()))
    }

    pub(crate) fn format_path(&self, name: &EventName) -> PathBuf {
        self.file(name, "format")
    }

    /// Returns a reader for files of many events.
    pub(crate) fn reader(&self) -> Reader {
        Reader::new(self.dir.sub("events"))
    }

    /// Reads the event's format file; `None` if it does not exist.
    pub(crate) fn format(&self, name: &EventName) -> Result<Option<Format>, Error> {
        self.format_by(&mut self.reader(), name)
    }

    /// Like [`format`](Self::format), with a [`reader`](Self::reader).
    pub(crate) fn format_by(
        &self,
        reader: &mut Reader,
        name: &EventName,
    ) -> Result<Option<Format>, Error> {
        let relative = [name.category(), name.event(), "format"];
        let text = reader.text(relative, FORMAT_LIMIT, is_whole_format);
        let Some(text) = text.map_err(|error| error.of_event(name))? else {
            self.check_is_there()?;
            return Ok(None);
        };
        let path = || self.format_path(name);
        // A capture's file may have been pasted together; the running kernel's was not.
        let format = match self.dir.is_live() {
            true => Format::parse(text),
            false => Format::parse_tolerant(text),
        };
        let format = format.and_then(|format| match format.check_has_print_fmt() {
            Err(error) if self.btf.symlink_metadata().is_ok() => Err(error),
            _ => Ok(format),
        });
        match format {
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

    /// Reads the event's format file as it is; `None` if it does not exist.
    pub(crate) fn format_text(
        &self,
        reader: &mut Reader,
        name: &EventName,
    ) -> Result<Option<String>, Error> {
        let relative = [name.category(), name.event(), "format"];
        let text = reader.text(relative, FORMAT_LIMIT, is_whole_format);
        let text = text.map_err(|error| error.of_event(name))?;
        Ok(text.map(str::to_owned))
    }

    /// Reads the event's `btf_ids` file; `None` if it does not exist.
    pub(crate) fn btf_ids(&self, name: &EventName) -> Result<Option<String>, Error> {
        self.text(name, "btf_ids", BTF_IDS_LIMIT)
    }

    /// Reads a file of `events/` itself; `None` if it does not exist.
    pub(crate) fn event_file(&self, file: &str) -> Result<Option<Vec<u8>>, Error> {
        self.dir.sub("events").bytes(file, FORMAT_LIMIT)
    }

    /// Reads `available_events`; `None` if it does not exist.
    pub(crate) fn available_events(&self) -> Result<Option<Vec<u8>>, Error> {
        self.dir.bytes("available_events", AVAILABLE_EVENTS_LIMIT)
    }

    /// Returns the id of the event's context struct in its `btf_ids` file; `None` if the
    /// file does not exist, or has no such id.
    pub(crate) fn context_type_id(&self, name: &EventName) -> Result<Option<u32>, Error> {
        let text = self.btf_ids(name)?;
        Ok(text.and_then(|text| {
            let id = text
                .lines()
                .find_map(|line| line.strip_prefix("tp_btf_id: "))?;
            id.parse().ok().filter(|id| *id != 0)
        }))
    }

    /// Returns the id of an event, from its `id` file or else (events of `ftrace:*` have
    /// none on some kernels) from its format; `None` if it has neither.
    pub(crate) fn id(&self, name: &EventName) -> Result<Option<u32>, Error> {
        self.id_by(&mut self.reader(), name)
    }

    /// Like [`id`](Self::id), with a [`reader`](Self::reader).
    pub(crate) fn id_by(
        &self,
        reader: &mut Reader,
        name: &EventName,
    ) -> Result<Option<u32>, Error> {
        let relative = [name.category(), name.event(), "id"];
        let id = reader.text(relative, ID_LIMIT, |id| id.ends_with('\n'));
        let id = id.map_err(|error| error.of_event(name))?;
        match id.and_then(|id| id.trim_end().parse().ok()) {
            Some(id) => Ok(Some(id)),
            None => {
                let format = self.format_by(reader, name)?;
                Ok(format.and_then(|format| format.id()))
            }
        }
    }

    /// Returns the instances that have an event on, by their files `enable`; `None` if the
    /// event has no such file, as those of `ftrace:*`, which tracers write.
    ///
    /// `enable` is `1` or `0`, followed by `*` if triggers decide whether the event is recorded
    /// (`event_enable_read` of `kernel/trace/trace_events.c`, all versions).
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(crate) fn instances_using(
        &self,
        name: &EventName,
    ) -> Result<Option<Vec<InstanceUse>>, Error> {
        /// Limits in bytes.
        const ENABLE_LIMIT: u64 = 64;
        const FILTER_LIMIT: u64 = 1 << 20;
        /// The most instances that are asked. Each has ring buffers of its own.
        const MAX_INSTANCES: usize = 4096;
        let mut roots = vec![(None, self.dir.clone())];
        let instances = self.dir.path().join("instances");
        match std::fs::read_dir(&instances) {
            Ok(entries) => roots.extend(entries.flatten().take(MAX_INSTANCES).map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                (Some(name), Dir::live(entry.path()))
            })),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(Error::file(instances, error)),
        }
        let mut using = Vec::new();
        for (instance, root) in roots {
            let event = root.sub("events").sub(name.category()).sub(name.event());
            let Some(enable) = event.bytes("enable", ENABLE_LIMIT)? else {
                match instance {
                    None => return Ok(None),
                    // The instance, or the event, was removed meanwhile.
                    Some(_) => continue,
                }
            };
            let is_soft_disabled = enable.starts_with(b"0*");
            if !enable.starts_with(b"1") && !is_soft_disabled {
                continue;
            }
            let filter = event.bytes("filter", FILTER_LIMIT)?;
            using.push(InstanceUse {
                instance,
                is_filtered: filter.is_some_and(|filter| filter.trim_ascii() != b"none"),
                is_soft_disabled,
            });
        }
        Ok(Some(using))
    }

    pub(crate) fn page_layout(&self) -> Result<PageLayout, Error> {
        let events = self.dir.sub("events");
        let path = events.path().join("header_page");
        let Some(text) = events.text("header_page", FORMAT_LIMIT)? else {
            self.check_is_there()?;
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

    /// Reads `printk_formats`; `None` if it does not exist.
    pub(crate) fn printk_formats(&self) -> Result<Option<String>, Error> {
        /// In bytes. Thousands of strings have a few hundred kilobytes.
        const LIMIT: u64 = 16 << 20;
        self.lossy_text("printk_formats", LIMIT)
    }

    /// Reads `saved_cmdlines`; `None` if it does not exist.
    pub(crate) fn saved_cmdlines(&self) -> Result<Option<Vec<u8>>, Error> {
        /// `saved_cmdlines_size` is 128 by default, and can be changed.
        const LIMIT: u64 = 16 << 20;
        self.dir.bytes("saved_cmdlines", LIMIT)
    }

    /// Reads `saved_tgids`; `None` if it does not exist.
    pub(crate) fn saved_tgids(&self) -> Result<Option<Vec<u8>>, Error> {
        /// One line for each pid, of which there are at most 4 million.
        const LIMIT: u64 = 64 << 20;
        self.dir.bytes("saved_tgids", LIMIT)
    }

    /// Whether lines of `trace` have thread groups, by `options/record-tgid`; `None` if
    /// that file does not exist.
    pub(crate) fn shows_groups(&self) -> Result<Option<bool>, Error> {
        const LIMIT: u64 = 64;
        let option = self.dir.sub("options").bytes("record-tgid", LIMIT)?;
        Ok(option.map(|option| option.starts_with(b"1")))
    }

    /// Reads `dynamic_events`, the list of events made at run time; `None` if it does not
    /// exist.
    pub(crate) fn dynamic_events(&self) -> Result<Option<String>, Error> {
        const LIMIT: u64 = 16 << 20;
        self.lossy_text("dynamic_events", LIMIT)
    }

    /// Reads `trace_clock`; `None` if it does not exist.
    pub(crate) fn trace_clock(&self) -> Result<Option<String>, Error> {
        const LIMIT: u64 = 4096;
        self.lossy_text("trace_clock", LIMIT)
    }

    /// Reads a capture's `classes`; `None` if it does not exist.
    pub(crate) fn classes(&self) -> Result<Option<String>, Error> {
        /// In bytes. Each event has some 60.
        const LIMIT: u64 = 4 << 20;
        self.lossy_text("classes", LIMIT)
    }

    /// Reads a text file that may contain bytes written by others than the kernel.
    fn lossy_text(&self, file: &str, limit: u64) -> Result<Option<String>, Error> {
        let bytes = self.dir.bytes(file, limit)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Reads one of an event's small files; `None` if it does not exist.
    fn text(&self, name: &EventName, file: &str, limit: u64) -> Result<Option<String>, Error> {
        let file = format!("{}/{}/{file}", name.category(), name.event());
        let text = self.dir.sub("events").text(&file, limit);
        text.map_err(|error| error.of_event(name))
    }

    fn file(&self, name: &EventName, file: &str) -> PathBuf {
        let mut path = self.root.join("events");
        path.extend([name.category(), name.event(), file]);
        path
    }
}

/// Whether a text, up to where one read ended, is a whole format file: the kernel writes a
/// print fmt at once, including newlines inside it (`f_show()` in
/// `kernel/trace/trace_events.c`).
fn is_whole_format(text: &str) -> bool {
    text.ends_with('\n') && text.contains("\nprint fmt: ")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

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
}
