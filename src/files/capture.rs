//! Captures a kernel: collects the files that this crate reads.

use super::btf_dir::BtfDir;
use super::dir::{Dir, is_missing};
use super::tracefs::Tracefs;
use super::tree::FileTree;
use crate::error::{Error, FileError};
use crate::name::EventName;

/// Adds a file to the tree, if it exists.
fn take(tree: &mut FileTree, path: String, bytes: Option<Vec<u8>>) {
    if let Some(bytes) = bytes {
        tree.replace(path, bytes);
    }
}

/// Whether the error means that a file no longer exists or may not be read, so that a
/// capture leaves it out.
fn is_left_out(error: &Error) -> bool {
    match error {
        Error::File { source, .. } => match source {
            FileError::PermissionDenied => true,
            FileError::Io(error) => is_missing(error),
            _ => false,
        },
        _ => false,
    }
}

impl Tracefs {
    /// Adds the files that describe events, and those that decoding needs. Returns the
    /// names of events that disappeared meanwhile.
    pub(crate) fn capture(&self, tree: &mut FileTree) -> Result<Vec<EventName>, Error> {
        let mut gone = Vec::new();
        let mut reader = self.reader();
        for name in &self.event_directories()? {
            match self.format_text(&mut reader, name)? {
                Some(format) => {
                    let path = format!("tracing/events/{}/{}", name.category(), name.event());
                    tree.replace(format!("{path}/format"), format.into_bytes());
                    let ids = self.btf_ids(name)?;
                    take(tree, format!("{path}/btf_ids"), ids.map(String::into_bytes));
                }
                None => gone.push(name.clone()),
            }
        }
        for file in ["header_page", "header_event"] {
            let bytes = self.event_file(file)?;
            take(tree, format!("tracing/events/{file}"), bytes);
        }
        let events = self.available_events()?;
        take(tree, "tracing/available_events".to_owned(), events);
        let strings = self.printk_formats()?.map(String::into_bytes);
        take(tree, "tracing/printk_formats".to_owned(), strings);
        let clock = self.trace_clock()?.map(String::into_bytes);
        take(tree, "tracing/trace_clock".to_owned(), clock);
        Ok(gone)
    }
}

impl BtfDir {
    /// Adds the BTF objects of vmlinux and of modules. Returns the names of objects that
    /// may not be read.
    pub(crate) fn capture(&self, tree: &mut FileTree) -> Result<Vec<String>, Error> {
        let mut left_out = Vec::new();
        let mut names = vec!["vmlinux".to_owned()];
        names.extend(self.module_names()?);
        for name in names {
            match self.file(&name) {
                Ok(bytes) => take(tree, format!("btf/{name}"), bytes),
                Err(error) if is_left_out(&error) => left_out.push(name),
                Err(error) => return Err(error),
            }
        }
        Ok(left_out)
    }
}

/// Adds the files of `/proc` that describe the kernel itself: its version and its machine.
pub(crate) fn capture_proc(proc: &Dir, tree: &mut FileTree) -> Result<(), Error> {
    const LIMIT: u64 = 4096;
    for file in ["version", "sys/kernel/arch"] {
        let bytes = match proc.bytes(file, LIMIT) {
            Err(error) if is_left_out(&error) => None,
            bytes => bytes?,
        };
        take(tree, format!("proc/{file}"), bytes);
    }
    Ok(())
}
