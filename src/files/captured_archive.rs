//! Archives of captured kernels, read into memory: `.tar`, `.tar.zst`, `.tar.gz` and other
//! compressions.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use super::archive::{self, ArchiveVisitor};
use super::tree::FileTree;
use crate::error::{Error, FileError};
use crate::image::ImageError;

/// The largest size in bytes of a capture's files together. Captures have 10 to 50 MB.
const CAPTURE_LIMIT: u64 = 1 << 30;

/// Reads the files of an archive of a captured kernel; `None` if the file is not one.
///
/// # Errors
///
/// [`Error::File`] if the archive cannot be read; [`ImageError::SeveralCaptures`] if it
/// has the files of several kernels.
pub(crate) fn captured_archive(path: &Path) -> Result<Option<FileTree>, Error> {
    let metadata = path.metadata().map_err(|error| Error::file(path, error))?;
    // Opening a pipe would wait for a writer.
    if !metadata.is_file() {
        return Ok(None);
    }
    let file = File::open(path).map_err(|error| Error::file(path, error))?;
    captured_files(path, file)
}

/// Like [`captured_archive`], from the archive's bytes; `path` is for errors.
pub(crate) fn captured_files(path: &Path, input: impl Read) -> Result<Option<FileTree>, Error> {
    // A file that cannot be decompressed is reported when it is read as an image.
    let Ok(mut reader) = archive::decompressed(path, input) else {
        return Ok(None);
    };
    let mut start = [0; 512];
    let Ok(count) = archive::read_start(&mut reader, &mut start) else {
        return Ok(None);
    };
    // The headers of POSIX's and of GNU's archives have this word.
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
    /// The directories that contain captured kernels: `.`, or directories at the top of
    /// the archive.
    tops: Vec<String>,
    size: u64,
}

/// Returns the directory that contains the captured kernel, `.` or one at the top of the
/// archive, and the file's path below it; `None` for a file that this crate does not read.
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
        /// The most directories that the error names.
        const MAX_TOPS: usize = 8;
        let Some((top, inside)) = place(&path) else {
            return;
        };
        let top = top.escape_debug().to_string();
        if !self.tops.contains(&top) && self.tops.len() < MAX_TOPS {
            self.tops.push(top);
        }
        // Unpacking would leave the last of several files of one name.
        self.tree.replace(inside, bytes);
    }
}
