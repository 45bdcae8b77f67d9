//! Archives of captured kernels, read into memory: `.tar`, `.tar.zst`, `.tar.gz` and what
//! else is decompressed.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use super::archive::{self, ArchiveVisitor};
use super::tree::FileTree;
use crate::error::{Error, FileError};
use crate::image::ImageError;

/// In bytes: the files of a capture that are read, together. Captures have 10 to 50 MB.
const CAPTURE_LIMIT: u64 = 1 << 30;

/// Reads the files of an archive of a captured kernel; `None` if the file is not one.
///
/// # Errors
///
/// [`Error::File`], and [`ImageError::SeveralCaptures`].
pub(crate) fn captured_archive(path: &Path) -> Result<Option<FileTree>, Error> {
    let metadata = path.metadata().map_err(|error| Error::file(path, error))?;
    // A pipe is not waited for.
    if !metadata.is_file() {
        return Ok(None);
    }
    let file = File::open(path).map_err(|error| Error::file(path, error))?;
    captured_files(path, file)
}

/// The same of bytes; `path` is for errors.
pub(crate) fn captured_files(path: &Path, input: impl Read) -> Result<Option<FileTree>, Error> {
    // What cannot be decompressed is told by who reads images.
    let Ok(mut reader) = archive::decompressed(path, input) else {
        return Ok(None);
    };
    let mut start = [0; 512];
    let Ok(count) = archive::read_start(&mut reader, &mut start) else {
        return Ok(None);
    };
    // POSIX's and GNU's archives say so in each header.
    if start.get(257..262) != Some(b"ustar") || count < start.len() {
        return Ok(None);
    }
    let mut files = CapturedFiles {
        archive: path,
        tree: FileTree::default(),
        tops: Vec::new(),
        size: 0,
    };
    let whole = Cursor::new(start).chain(reader);
    archive::tar_files(path, whole, &mut files)?;
    let CapturedFiles { tree, tops, .. } = files;
    let has_events = tree.file("tracing/available_events").is_some()
        || tree.below("tracing/events").next().is_some();
    match (has_events, tops.as_slice()) {
        (false, _) => Ok(None),
        (true, [_]) => Ok(Some(tree)),
        (true, _) => Err(Error::Image {
            path: path.to_owned(),
            source: ImageError::SeveralCaptures { directories: tops },
        }),
    }
}

/// The files of a captured kernel, among those of an archive.
struct CapturedFiles<'a> {
    archive: &'a Path,
    tree: FileTree,
    /// The directories in which they are: `.`, or one above it.
    tops: Vec<String>,
    size: u64,
}

/// The directory above a captured kernel's file, and the file's path below it; `None` if it
/// is a file that this crate does not read.
fn place(path: &Path) -> Option<(&str, String)> {
    let parts: Vec<&str> = path
        .iter()
        .map(|part| part.to_str())
        .collect::<Option<_>>()?;
    let is_read = |parts: &[&str]| {
        matches!(
            parts,
            ["tracing", _, ..]
                | ["btf", _]
                | ["proc", "version" | "kallsyms"]
                | ["proc", "sys", "kernel", "arch"]
        )
    };
    match parts.as_slice() {
        inside if is_read(inside) => Some((".", inside.join("/"))),
        [top, inside @ ..] if is_read(inside) => Some((top, inside.join("/"))),
        _ => None,
    }
}

impl ArchiveVisitor for CapturedFiles<'_> {
    fn wants(&mut self, path: &Path, size: u64) -> Result<bool, Error> {
        if place(path).is_none() {
            return Ok(false);
        }
        self.size = self.size.saturating_add(size);
        if self.size > CAPTURE_LIMIT {
            let limit = CAPTURE_LIMIT;
            return Err(Error::file(self.archive, FileError::TooLarge { limit }));
        }
        Ok(true)
    }

    fn take(&mut self, path: PathBuf, bytes: Vec<u8>) {
        /// Of several kernels these many are named.
        const MAX_TOPS: usize = 8;
        let Some((top, inside)) = place(&path) else {
            return;
        };
        let top = top.escape_debug().to_string();
        if !self.tops.contains(&top) && self.tops.len() < MAX_TOPS {
            self.tops.push(top);
        }
        // Of two files of one name the last is the one that unpacking would leave.
        self.tree.replace(inside, bytes);
    }
}
