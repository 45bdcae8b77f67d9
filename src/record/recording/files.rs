//! The files of the recorded kernel: formats, symbols, names.
//!
//! The files of tracefs that records need are written one after the other, each with its
//! length before it.

use std::collections::BTreeMap;

use super::cursor::Cursor;
use super::error::RecordingError;
use super::write_dat::DatHead;
use crate::machine::ByteOrder;
use crate::name::EventName;

const HEADER_PAGE: &str = "tracing/events/header_page";
const HEADER_EVENT: &str = "tracing/events/header_event";
const KALLSYMS: &str = "proc/kallsyms";
const PRINTK_FORMATS: &str = "tracing/printk_formats";
const TASK_NAMES: &str = "tracing/saved_cmdlines";
const CLOCK: &str = "tracing/trace_clock";
/// What is written for a machine that is not known, as by `uname -p`.
const UNKNOWN: &str = "unknown";

/// Returns the category and name of the event whose format has this path.
fn event_of(path: &str) -> Option<(&str, &str)> {
    let event = path.strip_prefix("tracing/events/")?;
    event.strip_suffix("/format")?.split_once('/')
}

/// The description of the recorded kernel: files that a capture of it has, for
/// [`Kernel::recorded`](crate::Kernel::recorded).
#[derive(Clone, Debug)]
pub struct RecordedKernel {
    byte_order: ByteOrder,
    release: Option<String>,
    machine: Option<String>,
    files: BTreeMap<String, Vec<u8>>,
    left_out: Vec<String>,
}

impl RecordedKernel {
    pub(super) fn new(byte_order: ByteOrder) -> Self {
        Self {
            byte_order,
            release: None,
            machine: None,
            files: BTreeMap::new(),
            left_out: Vec::new(),
        }
    }

    /// Takes those files of a capture that a recording has.
    pub(crate) fn of_files<'a>(
        byte_order: ByteOrder,
        files: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Self {
        let mut kernel = Self::new(byte_order);
        for (path, bytes) in files {
            let text = || String::from_utf8_lossy(bytes);
            match path {
                "proc/version" => {
                    kernel.set_release(text().split_whitespace().nth(2).unwrap_or_default());
                }
                "proc/sys/kernel/arch" => kernel.set_machine(text().trim()),
                HEADER_PAGE | HEADER_EVENT | KALLSYMS | PRINTK_FORMATS | TASK_NAMES | CLOCK => {
                    kernel.add(path, bytes);
                }
                _ => {
                    if let Some((category, _)) = event_of(path) {
                        kernel.add_format(category, bytes);
                    }
                }
            }
        }
        kernel
    }

    /// Sets the kernel's release and architecture, as `uname` prints them. A text that is not
    /// one word is left out.
    pub fn set_uname(&mut self, release: Option<&str>, architecture: Option<&str>) {
        self.set_release(release.unwrap_or_default());
        self.set_machine(architecture.unwrap_or_default());
    }

    /// Sets the names of threads: the text of `saved_cmdlines`, a pid and a name on each
    /// line.
    pub fn set_task_names(&mut self, saved_cmdlines: &[u8]) {
        self.add(TASK_NAMES, saved_cmdlines);
    }

    pub(super) fn set_header_page(&mut self, header_page: &str) {
        self.add(HEADER_PAGE, header_page.as_bytes());
    }

    /// Returns `trace_clock`, if it marks the clock in use.
    pub(super) fn clock(&self) -> Option<&str> {
        let text = str::from_utf8(self.file(CLOCK)).ok()?.trim_end();
        Some(text).filter(|text| text.contains('['))
    }

    /// Returns `Linux - <release> <machine>`; `None` if the release is
    /// not known.
    pub(super) fn uname(&self) -> Option<String> {
        let machine = self.machine.as_deref().unwrap_or(UNKNOWN);
        let release = self.release.as_deref()?;
        Some(format!("Linux - {release} {machine}\0"))
    }

    fn file(&self, path: &str) -> &[u8] {
        self.files.get(path).map(Vec::as_slice).unwrap_or_default()
    }

    /// Writes the files as a `trace.dat` of version 6 has them.
    pub(super) fn write_files(&self, head: &mut DatHead) {
        for (mark, path) in [
            (&b"header_page\0"[..], HEADER_PAGE),
            (b"header_event\0", HEADER_EVENT),
        ] {
            head.bytes.extend(mark);
            head.long_text(self.file(path));
        }
        let mut categories: BTreeMap<&str, Vec<&[u8]>> = BTreeMap::from([("ftrace", Vec::new())]);
        for (path, format) in &self.files {
            if let Some((category, _)) = event_of(path) {
                categories.entry(category).or_default().push(format);
            }
        }
        let write = |head: &mut DatHead, formats: &[&[u8]]| {
            head.u32(formats.len());
            for format in formats {
                head.long_text(format);
            }
        };
        write(head, &categories.remove("ftrace").unwrap_or_default());
        head.u32(categories.len());
        for (category, formats) in categories {
            head.bytes.extend(category.as_bytes());
            head.bytes.push(0);
            write(head, &formats);
        }
        head.short_text(self.file(KALLSYMS));
        head.short_text(self.file(PRINTK_FORMATS));
        head.long_text(self.file(TASK_NAMES));
    }

    /// Returns the byte order of the kernel's records.
    pub fn byte_order(&self) -> ByteOrder {
        self.byte_order
    }

    /// Returns the kernel's release, as `uname -r` prints it; `None` if the recording does
    /// not say it.
    pub fn release(&self) -> Option<&str> {
        self.release.as_deref()
    }

    /// Returns the kernel's architecture, as `uname -m` prints it; `None` if the recording
    /// does not say it.
    pub fn architecture(&self) -> Option<&str> {
        self.machine.as_deref()
    }

    /// Iterates over the kernel's files, by their paths in a capture, sorted:
    /// `tracing/events/sched/sched_switch/format` and so on.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let files = self.files.iter();
        files.map(|(path, bytes)| (path.as_str(), bytes.as_slice()))
    }

    /// Returns why formats were left out, one text each: a name is not that of an event, or
    /// two formats have one name.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    fn add(&mut self, path: &str, bytes: &[u8]) {
        self.files.insert(path.to_owned(), bytes.to_owned());
    }

    /// Reads `header_page` and `header_event`.
    pub(super) fn read_headers(&mut self, cursor: &mut Cursor<'_>) -> Result<(), RecordingError> {
        for (mark, expected, part, path) in [
            (
                &b"header_page\0"[..],
                "\"header_page\"",
                "header_page",
                HEADER_PAGE,
            ),
            (
                b"header_event\0",
                "\"header_event\"",
                "header_event",
                HEADER_EVENT,
            ),
        ] {
            cursor.expect(mark, expected)?;
            let length = cursor.u64(part)?;
            let text = cursor.take(length, part)?;
            self.add(path, text);
        }
        Ok(())
    }

    /// Reads the formats of `ftrace:*`.
    pub(super) fn read_ftrace_formats(
        &mut self,
        cursor: &mut Cursor<'_>,
    ) -> Result<(), RecordingError> {
        self.read_category("ftrace", cursor)
    }

    /// Reads the formats of all other events.
    pub(super) fn read_formats(&mut self, cursor: &mut Cursor<'_>) -> Result<(), RecordingError> {
        let categories = cursor.u32("the number of event systems")?;
        for _ in 0..categories {
            let category = cursor.text("an event system's name")?;
            let category = String::from_utf8_lossy(category);
            self.read_category(&category, cursor)?;
        }
        Ok(())
    }

    fn read_category(
        &mut self,
        category: &str,
        cursor: &mut Cursor<'_>,
    ) -> Result<(), RecordingError> {
        let count = cursor.u32("the number of formats")?;
        for _ in 0..count {
            let length = cursor.u64("a format")?;
            let format = cursor.take(length, "a format")?;
            self.add_format(category, format);
        }
        Ok(())
    }

    /// Adds a format. Its name is in its first line alone.
    fn add_format(&mut self, category: &str, format: &[u8]) {
        let line = format.split(|byte| *byte == b'\n').next();
        let line = String::from_utf8_lossy(line.unwrap_or_default());
        let name = line.strip_prefix("name: ").unwrap_or_default();
        let shown = || {
            format!("{category}:{name}")
                .escape_debug()
                .take(200)
                .collect::<String>()
        };
        match EventName::of_directories(category, name) {
            Err(reason) => self.left_out.push(format!("{}: {reason}", shown())),
            Ok(_) => {
                let path = format!("tracing/events/{category}/{name}/format");
                match self.files.get(&path) {
                    None => self.add(&path, format),
                    Some(other) if other == format => {}
                    Some(_) => self
                        .left_out
                        .push(format!("{}: two formats have this name", shown())),
                }
            }
        }
    }

    pub(super) fn read_kallsyms(&mut self, cursor: &mut Cursor<'_>) -> Result<(), RecordingError> {
        let length = cursor.u32("kallsyms")?;
        let text = cursor.take(length.into(), "kallsyms")?;
        self.add(KALLSYMS, text);
        Ok(())
    }

    pub(super) fn read_printk_formats(
        &mut self,
        cursor: &mut Cursor<'_>,
    ) -> Result<(), RecordingError> {
        let length = cursor.u32("printk_formats")?;
        let text = cursor.take(length.into(), "printk_formats")?;
        self.add(PRINTK_FORMATS, text);
        Ok(())
    }

    pub(super) fn read_task_names(
        &mut self,
        cursor: &mut Cursor<'_>,
    ) -> Result<(), RecordingError> {
        let length = cursor.u64("saved_cmdlines")?;
        let text = cursor.take(length, "saved_cmdlines")?;
        self.add(TASK_NAMES, text);
        Ok(())
    }

    /// Takes over `Linux <nodename> <release> <machine>`. Only the node's name may have
    /// spaces or be missing.
    pub(super) fn read_uname(&mut self, uname: &[u8]) {
        let uname = String::from_utf8_lossy(uname);
        let mut words = uname.split_whitespace().rev();
        let (machine, release) = (words.next(), words.next());
        self.set_machine(machine.unwrap_or_default());
        self.set_release(release.unwrap_or_default());
    }

    pub(super) fn set_machine(&mut self, machine: &str) {
        if is_plain(machine) && machine != UNKNOWN {
            self.machine = Some(machine.to_owned());
            let line = format!("{machine}\n");
            self.add("proc/sys/kernel/arch", line.as_bytes());
        }
    }

    pub(super) fn set_release(&mut self, release: &str) {
        if is_plain(release) {
            self.release = Some(release.to_owned());
            let version = format!("Linux version {release}\n");
            self.add("proc/version", version.as_bytes());
        }
    }

    pub(super) fn set_byte_order(&mut self, byte_order: ByteOrder) {
        self.byte_order = byte_order;
    }

    pub(super) fn set_clock(&mut self, trace_clock: &[u8]) {
        self.add(CLOCK, trace_clock);
    }

    pub(super) fn has_headers(&self) -> bool {
        self.files.contains_key(HEADER_PAGE)
    }
}

/// Whether a text is a word that rows and messages may show.
fn is_plain(word: &str) -> bool {
    !word.is_empty() && !word.contains(|c: char| c.is_control() || c.is_whitespace())
}
