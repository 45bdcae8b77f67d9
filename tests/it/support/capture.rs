//! Writes captured kernels.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tracepoints::{Context, Kernel};

/// A directory laid out like `/sys/kernel`, removed when dropped.
pub(crate) struct Capture {
    dir: TempDir,
    listed: Vec<String>,
}

/// A record's own field: declaration, offset and size.
pub(crate) type FieldLine<'a> = (&'a str, u32, u32);

/// The common fields of an 8-byte `struct trace_entry`.
pub(crate) const COMMON: &[FieldLine<'_>] = &[
    ("unsigned short common_type", 0, 2),
    ("unsigned char common_flags", 2, 1),
    ("unsigned char common_preempt_count", 3, 1),
    ("int common_pid", 4, 4),
];

impl Capture {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("tracing/events")).expect("a directory");
        Self {
            dir,
            listed: Vec::new(),
        }
    }

    /// Copies a captured kernel.
    pub(crate) fn copy_of(kernel: &Path) -> Self {
        let capture = Self::new();
        copy_into(kernel, capture.root());
        capture
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Adds an event, listed and with a format file.
    pub(crate) fn event(
        &mut self,
        name: &str,
        common: &[FieldLine<'_>],
        own: &[FieldLine<'_>],
    ) -> &mut Self {
        let event = name.split_once(':').expect("a name").1;
        let lines = |fields: &[FieldLine<'_>]| -> String {
            let line = |(declaration, offset, size): &FieldLine<'_>| {
                format!("\tfield:{declaration};\toffset:{offset};\tsize:{size};\tsigned:0;\n")
            };
            fields.iter().map(line).collect()
        };
        let text = format!(
            "name: {event}\nID: 7\nformat:\n{}\n{}\nprint fmt: \"\"\n",
            lines(common),
            lines(own)
        );
        self.file(name, "format", &text).list(name)
    }

    /// Lists an event, with or without files.
    pub(crate) fn list(&mut self, name: &str) -> &mut Self {
        self.listed.push(name.to_owned());
        fs::write(
            self.root().join("tracing/available_events"),
            self.listed.join("\n") + "\n",
        )
        .expect("a file");
        self
    }

    /// Writes a file of an event.
    pub(crate) fn file(&mut self, name: &str, file: &str, content: impl AsRef<[u8]>) -> &mut Self {
        let path = self.path(name, file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, content).expect("a file");
        self
    }

    /// The path of a file of an event.
    pub(crate) fn path(&self, name: &str, file: &str) -> PathBuf {
        let (category, event) = name.split_once(':').expect("a name");
        self.root()
            .join("tracing/events")
            .join(category)
            .join(event)
            .join(file)
    }

    /// Writes a BTF object.
    pub(crate) fn btf(&mut self, object: &str, bytes: &[u8]) -> &mut Self {
        let dir = self.root().join("btf");
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join(object), bytes).expect("a file");
        self
    }

    pub(crate) fn kernel(&self) -> Kernel {
        Kernel::at(self.root()).expect("a kernel")
    }

    /// The context of one event.
    pub(crate) fn context(&self, name: &str) -> Context {
        let kernel = self.kernel();
        let tracepoint = kernel.tracepoint(name).expect("an event");
        tracepoint.context().expect("a context")
    }
}

fn copy_into(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        match entry.file_type().expect("its type").is_dir() {
            true => copy_into(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).expect("a file")),
        }
    }
}
