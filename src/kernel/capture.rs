//! The files of a kernel as a capture has them: those that this crate reads, and no more.
//!
//! All are the kernel's own texts and types. Text that processes wrote is left out: names
//! of processes, records, and the paths in `dynamic_events`.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde::Serialize;

use super::by_btf::BtfKernel;
use super::{Kernel, Tracepoint};
use crate::context::{CapturedFrom, ClassLine, Evidence, KernelSource};
use crate::error::Error;
use crate::files::{FileTree, capture_proc};
use crate::name::EventName;

/// A capture of a kernel: files that [`Kernel::at`] reads when they are written below one
/// directory or into one archive.
///
/// ```
/// use tracepoints::Kernel;
///
/// let kernel = Kernel::at("tests/fixtures/6.18.15-x86_64")?;
/// let capture = kernel.capture(false)?;
/// assert!(capture.files().any(|(path, _)| path == "btf/vmlinux"));
/// assert!(capture.summary().events > 50);
/// # Ok::<(), tracepoints::Error>(())
/// ```
#[derive(Debug)]
pub struct Capture {
    tree: FileTree,
    summary: CaptureSummary,
    left_out: Vec<String>,
}

/// The numbers of events, objects and symbols in a [`Capture`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CaptureSummary {
    /// Events with a format, including those of `ftrace:*`.
    pub events: usize,
    /// BTF objects: vmlinux's and those of modules.
    pub btf_objects: usize,
    /// Classes that only the kernel's memory tells.
    pub classes: usize,
    /// Symbols of functions.
    pub symbols: usize,
}

/// The path of the list of events.
const LIST: &str = "tracing/available_events";

/// What a kernel says that it has.
#[derive(PartialEq, Eq)]
struct Lists {
    /// The content of `available_events`.
    events: Option<Vec<u8>>,
    /// The modules that have BTF.
    modules: Vec<String>,
}

impl Capture {
    /// Returns the files, by their paths below the capture's root, sorted.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.tree.below("")
    }

    /// Returns the numbers of events, objects and symbols in it.
    pub fn summary(&self) -> CaptureSummary {
        self.summary
    }

    /// Returns what the kernel has and the capture lacks, one text each with the reason.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    fn empty() -> Self {
        Self {
            tree: FileTree::default(),
            summary: CaptureSummary::default(),
            left_out: Vec::new(),
        }
    }

    fn leave_out_btf(&mut self, unreadable: &[String]) {
        let reasons = unreadable.iter();
        self.left_out
            .extend(reasons.map(|name| format!("btf/{name}: it may not be read")));
    }

    /// Whether the event's format is this one.
    fn has(&self, tracepoint: &Tracepoint) -> bool {
        let name = tracepoint.name();
        let path = format!("tracing/events/{}/{}/format", name.category(), name.event());
        let text = tracepoint.format().to_string();
        self.tree
            .file(&path)
            .is_some_and(|captured| captured.trim_ascii_end() == text.as_bytes().trim_ascii_end())
    }

    /// The lines of the list of events.
    fn listed(&self) -> impl Iterator<Item = &[u8]> {
        let list = self.tree.file(LIST).unwrap_or_default();
        list.split_inclusive(|byte| *byte == b'\n')
    }

    /// Whether there is a format of the event of this line.
    fn has_format(&self, line: &[u8]) -> bool {
        let name = String::from_utf8_lossy(line.trim_ascii_end());
        let path = format!("tracing/events/{}/format", name.replacen(':', "/", 1));
        self.tree.file(&path).is_some()
    }

    /// Removes events without a format from the list of events, and says what is missing of
    /// the kernel's lists.
    fn list_what_it_has(&mut self, lists: &[Lists]) {
        if self.tree.file(LIST).is_none() {
            return;
        }
        let (kept, missing): (Vec<&[u8]>, Vec<&[u8]>) =
            self.listed().partition(|line| self.has_format(line));
        let kept = kept.concat();
        let name = |line: &[u8]| String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
        let mut missing: BTreeSet<String> = missing.into_iter().map(name).collect();
        self.tree.replace(LIST.to_owned(), kept);
        for module in lists.iter().flat_map(|lists| &lists.modules) {
            let path = format!("btf/{module}");
            if self.tree.file(&path).is_none() {
                missing.insert(path);
            }
        }
        // Those that may not be read, or have gone, are named already.
        let is_named = |left_out: &Vec<String>, name: &str| {
            let mut names = left_out.iter().filter_map(|line| line.split_once(": "));
            names.any(|(named, _)| named == name)
        };
        missing.retain(|name| !is_named(&self.left_out, name));
        let line = |name: &String| format!("{}: the kernel changed meanwhile", name.escape_debug());
        self.left_out.extend(missing.iter().map(line));
    }

    fn count(&mut self) {
        let formats = self.tree.below("tracing/events");
        let formats = formats.filter(|(path, _)| path.ends_with("/format"));
        self.summary.events = formats.count();
        self.summary.btf_objects = self.tree.below("btf").count();
    }
}

impl Kernel {
    /// Reads the files that this crate reads of a kernel: formats, BTF, `proc/version` and,
    /// as `tracing/classes`, what the running kernel's memory says of classes. Two captures
    /// of the same kernel have the same files.
    ///
    /// A kernel whose events or modules change meanwhile is read again. If it never stops
    /// changing, the capture lists the events whose formats it has, and
    /// [`left_out`](Capture::left_out) names the others.
    ///
    /// With `symbols`, also reads the symbols of functions, `proc/kallsyms`, by which
    /// records with addresses are printed. They tell where this kernel is in memory.
    ///
    /// # Errors
    ///
    /// Those of [`event_directories`](Self::event_directories) and
    /// [`contexts`](Self::contexts); [`Error::File`].
    pub fn capture(&self, symbols: bool) -> Result<Capture, Error> {
        /// Enough where modules come and go now and then.
        const TRIES: usize = 4;
        let mut before = self.lists()?;
        let mut tries = 1;
        loop {
            let (mut capture, is_whole) = self.capture_once(symbols, &before)?;
            let after = self.lists()?;
            if is_whole && before == after {
                return Ok(capture);
            }
            if tries == TRIES {
                capture.list_what_it_has(&[before, after]);
                return Ok(capture);
            }
            before = after;
            tries += 1;
        }
    }

    fn lists(&self) -> Result<Lists, Error> {
        Ok(Lists {
            events: self.inner.tracefs.available_events()?,
            modules: self.inner.btf.module_names()?,
        })
    }

    /// Reads all files, and returns whether they are those of the lists.
    fn capture_once(&self, symbols: bool, lists: &Lists) -> Result<(Capture, bool), Error> {
        let mut capture = Capture::empty();
        let gone = self.inner.tracefs.capture(&mut capture.tree)?;
        capture.left_out.extend(
            gone.iter()
                .map(|name| format!("{name}: it was removed meanwhile")),
        );
        let unreadable = self.inner.btf.capture(&mut capture.tree)?;
        capture.leave_out_btf(&unreadable);
        let listed = capture.tree.file(LIST).map(<[u8]>::to_vec);
        let has = |module: &String| {
            let path = format!("btf/{module}");
            capture.tree.file(&path).is_some() || unreadable.contains(module)
        };
        // A module may have gone and come back between the lists.
        let is_whole = gone.is_empty()
            && listed == lists.events
            && lists.modules.iter().all(has)
            && capture.listed().all(|line| capture.has_format(line));
        capture_proc(&self.inner.proc, &mut capture.tree)?;
        self.capture_dynamic_events(&mut capture);
        self.capture_classes(&mut capture)?;
        if symbols {
            self.capture_symbols(&mut capture)?;
        }
        capture.count();
        Ok((capture, is_whole))
    }

    /// Adds `dynamic_events` without the lines of uprobes, which have paths of files.
    fn capture_dynamic_events(&self, capture: &mut Capture) {
        let text = self.dynamic_events();
        let (paths, kept): (Vec<&str>, Vec<&str>) = text
            .split_inclusive('\n')
            .partition(|line| line.split(' ').nth(1).is_some_and(|to| to.contains('/')));
        if !kept.is_empty() {
            let path = "tracing/dynamic_events".to_owned();
            capture.tree.replace(path, kept.concat().into_bytes());
        }
        if !paths.is_empty() {
            capture.left_out.push(format!(
                "{} lines of dynamic_events: they have paths of files",
                paths.len()
            ));
        }
    }

    /// Writes the classes that no other file tells.
    fn capture_classes(&self, capture: &mut Capture) -> Result<(), Error> {
        let names: Vec<EventName> = self.events()?.into_iter().collect();
        let mut lines = String::new();
        for found in self.contexts(&names)? {
            // An event that cannot be read stays in the capture.
            let Ok((tracepoint, context)) = found else {
                continue;
            };
            let from = match context.evidence() {
                Evidence::Kernel(KernelSource::Memory) => CapturedFrom::Memory,
                Evidence::Kernel(KernelSource::Capture(from)) => *from,
                Evidence::Kernel(KernelSource::Image) => CapturedFrom::Image,
                _ => continue,
            };
            let Some(class) = context.class() else {
                continue;
            };
            if !capture.has(&tracepoint) {
                continue;
            }
            let line = ClassLine {
                event: tracepoint.name().clone(),
                id: tracepoint.id(),
                class: class.to_owned(),
                from,
            };
            // Writing to a `String` is infallible.
            let _ = writeln!(lines, "{line}");
            capture.summary.classes += 1;
        }
        if !lines.is_empty() {
            let path = "tracing/classes".to_owned();
            capture.tree.replace(path, lines.into_bytes());
        }
        Ok(())
    }

    /// Adds the symbols of functions.
    fn capture_symbols(&self, capture: &mut Capture) -> Result<(), Error> {
        let limit = super::traces::KALLSYMS_LIMIT;
        let Some(bytes) = self.inner.proc.bytes("kallsyms", limit)? else {
            capture
                .left_out
                .push("symbols: there is no kallsyms".to_owned());
            return Ok(());
        };
        match text_symbols(&String::from_utf8_lossy(&bytes)) {
            Some((text, count)) => {
                capture.summary.symbols = count;
                let path = "proc/kallsyms".to_owned();
                capture.tree.replace(path, text.into_bytes());
            }
            None => capture
                .left_out
                .push("symbols: the kernel shows their addresses to CAP_SYSLOG alone".to_owned()),
        }
        Ok(())
    }
}

/// Returns the lines of functions, and of the symbol that ends each run of them; `None` if
/// addresses are hidden. Loaded BPF programs are left out, as they change from moment to
/// moment.
fn text_symbols(kallsyms: &str) -> Option<(String, usize)> {
    let mut lines: Vec<(u64, bool, &str)> = kallsyms
        .lines()
        .filter(|line| !line.ends_with("[bpf]"))
        .filter_map(|line| {
            let mut words = line.splitn(3, ' ');
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let is_text = matches!(words.next()?, "t" | "T" | "w" | "W");
            Some((address, is_text, line))
        })
        .filter(|(address, ..)| *address != 0)
        .collect();
    lines.sort_by_key(|(address, ..)| *address);
    let mut text = String::new();
    let mut count = 0;
    let mut is_in_text = false;
    for (_, is_text, line) in lines {
        if is_text || is_in_text {
            text += line;
            text.push('\n');
            count += usize::from(is_text);
        }
        is_in_text = is_text;
    }
    (count > 0).then_some((text, count))
}

impl BtfKernel {
    /// Reads the files that everyone may read: BTF and `proc/version`. Opened as a root,
    /// they are a kernel without events, whose tracepoints are known by their arguments.
    ///
    /// # Errors
    ///
    /// [`Error::NoBtf`]; [`Error::File`].
    pub fn capture(&self) -> Result<Capture, Error> {
        let mut capture = Capture::empty();
        let reason = "events: tracefs is out of reach of this user";
        capture.left_out.push(reason.to_owned());
        let unreadable = self.capture_files(&mut capture.tree)?;
        capture.leave_out_btf(&unreadable);
        capture.tree.replace(LIST.to_owned(), Vec::new());
        capture.count();
        Ok(capture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_of_functions_and_where_they_end() {
        let kallsyms = "ffff0010 T start\nffff0020 t inner\nffff0030 D data\nffff0040 d more\n\
                        ffff0050 W weak\nffff0060 t program\t[bpf]\nffff0070 b bss\n";
        let (text, count) = text_symbols(kallsyms).expect("symbols");
        assert_eq!(count, 3);
        assert_eq!(
            text,
            "ffff0010 T start\nffff0020 t inner\nffff0030 D data\nffff0050 W weak\n\
             ffff0070 b bss\n"
        );
        assert_eq!(text_symbols("0000000000000000 T start\n"), None);
    }
}
