//! Directories whose files are read whole, up to a limit. In a captured kernel no link is
//! followed.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::{self, Utf8Error};
use std::sync::Arc;

#[cfg(all(target_os = "linux", feature = "fast-files"))]
use rustix::fs::OFlags;

use super::captured::{self, Refused};
use super::tree::FileTree;
use crate::btf::Bytes;
use crate::error::{Error, FileError};

/// A directory, and whether links in it are followed.
///
/// In a captured kernel a link could lead out of it, and have this crate read, with its
/// user's rights, a file that the capture's maker chose. The running kernel's own
/// directories are trusted.
#[derive(Clone, Debug)]
pub(crate) struct Dir {
    /// The path that the user named. Links in that path itself are the user's, and are
    /// followed.
    pub(super) root: PathBuf,
    /// The directory's path below `root`; empty for `root` itself.
    pub(super) below: PathBuf,
    pub(super) are_links_followed: bool,
    /// The files, if they are in memory and not below `root`, which is then the file or
    /// directory that they were made from.
    tree: Option<Arc<FileTree>>,
}

impl Dir {
    /// Returns a directory of the running kernel.
    pub(crate) fn live(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            below: PathBuf::new(),
            are_links_followed: true,
            tree: None,
        }
    }

    /// Returns the root of a kernel in memory. Its paths are shown below `root`.
    #[cfg(any(feature = "image", feature = "recording"))]
    pub(crate) fn in_memory(root: impl Into<PathBuf>, tree: Arc<FileTree>) -> Self {
        Self {
            tree: Some(tree),
            ..Self::captured(root)
        }
    }

    /// Returns the files in memory; `None` for a directory on disk.
    pub(crate) fn tree(&self) -> Option<&FileTree> {
        self.tree.as_deref()
    }

    /// Returns the files of a tree in memory that are below this directory, by their
    /// paths below it.
    pub(crate) fn in_tree(&self) -> Option<impl Iterator<Item = (&str, &[u8])>> {
        Some(self.tree()?.below(&self.below_text()))
    }

    fn below_text(&self) -> String {
        self.below.to_string_lossy().into_owned()
    }

    /// Returns a file in memory, `Some(None)` if it does not exist; `None` for a directory
    /// on disk.
    pub(super) fn file_in_tree(&self, file: &str) -> Option<Option<&[u8]>> {
        let tree = self.tree()?;
        let path = self.below.join(file);
        Some(path.to_str().and_then(|path| tree.file(path)))
    }

    /// Whether a file of this name exists, of whatever type.
    pub(crate) fn has(&self, file: &str) -> bool {
        match self.file_in_tree(file) {
            Some(found) => found.is_some(),
            None => self.path().join(file).symlink_metadata().is_ok(),
        }
    }

    /// Returns the root of a captured kernel; no link below it is followed.
    pub(crate) fn captured(root: impl Into<PathBuf>) -> Self {
        Self {
            are_links_followed: false,
            ..Self::live(root)
        }
    }

    /// Returns a subdirectory.
    pub(crate) fn sub(&self, name: &str) -> Self {
        Self {
            below: self.below.join(name),
            ..self.clone()
        }
    }

    /// Whether the directory is the running kernel's.
    pub(crate) fn is_live(&self) -> bool {
        self.are_links_followed
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.root.join(&self.below)
    }

    /// Whether the directory exists. Fails if a link that is not followed is on the path.
    pub(crate) fn is_there(&self) -> Result<bool, Error> {
        if let Some(mut files) = self.in_tree() {
            return Ok(files.next().is_some());
        }
        let found = match self.are_links_followed {
            true => self.path().metadata().map(drop),
            false => captured::check(&self.root, &self.below.join("x")),
        };
        match found {
            Ok(()) => Ok(self.path().exists()),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(failed(self.path(), error)),
        }
    }

    /// Returns the file's bytes, or `None` if there is no such file.
    ///
    /// The limit is on the bytes read, because files of tracefs and sysfs have no size or
    /// a wrong one. Anything but a regular file (a pipe nobody writes to, an endless
    /// device) is an error, and is not waited for.
    pub(crate) fn bytes(&self, file: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        if let Some(found) = self.file_in_tree(file) {
            return match found {
                Some(bytes) if bytes.len() as u64 > limit => {
                    Err(too_large(self.path().join(file), limit))
                }
                found => Ok(found.map(<[u8]>::to_vec)),
            };
        }
        let read = || {
            let file = self.open(file)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Ok(None);
            }
            let length = metadata.len().min(limit);
            // Reserve a byte more than the file has, so that the read that finds its end
            // needs no larger buffer.
            let mut bytes = Vec::with_capacity(length.max(BUFFER as u64) as usize + 1);
            file.take(limit + 1).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        };
        let path = || self.path().join(file);
        match outcome(read(), path)? {
            Some(bytes) if bytes.len() as u64 > limit => Err(too_large(path(), limit)),
            bytes => Ok(bytes),
        }
    }

    /// Like [`bytes`](Self::bytes), but maps the file if it is the running kernel's and
    /// can be mapped. Files of a captured kernel are not mapped, because they may change
    /// or shrink while they are read.
    pub(crate) fn mapped_or_read(&self, file: &str, limit: u64) -> Result<Option<Bytes>, Error> {
        let mapped = match self.are_links_followed {
            true => self.open(file).ok(),
            false => None,
        };
        match mapped.and_then(|file| Bytes::map(&file, limit)) {
            Some(mapped) => Ok(Some(mapped)),
            None => Ok(self.bytes(file, limit)?.map(Bytes::from)),
        }
    }

    /// Returns the file's first bytes, at most `length`, or `None` if there is no such
    /// file.
    pub(crate) fn start(&self, file: &str, length: u64) -> Result<Option<Vec<u8>>, Error> {
        if let Some(found) = self.file_in_tree(file) {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            return Ok(found.map(|bytes| bytes[..bytes.len().min(length)].to_vec()));
        }
        let read = || {
            let file = self.open(file)?;
            if !file.metadata()?.is_file() {
                return Ok(None);
            }
            let mut bytes = Vec::new();
            file.take(length).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        };
        outcome(read(), || self.path().join(file))
    }

    /// Returns the file's text, or `None` if there is no such file.
    pub(crate) fn text(&self, file: &str, limit: u64) -> Result<Option<String>, Error> {
        let text = self.bytes(file, limit)?.map(String::from_utf8).transpose();
        text.map_err(|error| not_text(self.path().join(file), &error.utf8_error()))
    }

    pub(super) fn open(&self, file: &str) -> io::Result<File> {
        match self.are_links_followed {
            true => open(&self.path().join(file)),
            false => captured::open(&self.root, &self.below.join(file)),
        }
    }
}

/// The size of a buffer, in bytes. Of the format files seen, 99 of 100 fit.
pub(super) const BUFFER: usize = 1 << 16;

#[cfg(all(target_os = "linux", feature = "fast-files"))]
pub(super) const FLAGS: OFlags = OFlags::NONBLOCK
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

#[cfg(all(target_os = "linux", feature = "fast-files"))]
pub(super) fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    File::options()
        .read(true)
        .custom_flags(FLAGS.bits() as i32)
        .open(path)
}

#[cfg(not(all(target_os = "linux", feature = "fast-files")))]
pub(super) fn open(path: &Path) -> io::Result<File> {
    // Without flags that refuse links and do not wait for pipes, the file is examined
    // first. Someone who changes the capture in between can still put a link or a pipe in
    // its place.
    let found = path.symlink_metadata()?.file_type();
    match (found.is_file(), found.is_symlink()) {
        (true, _) => File::open(path),
        (_, true) => Err(io::Error::other(Refused::Link)),
        _ => Err(io::Error::other(Refused::NotAFile)),
    }
}

/// Converts the result of reading; `Ok(None)` stands for something other than a file.
pub(super) fn outcome<T>(
    result: io::Result<Option<T>>,
    path: impl FnOnce() -> PathBuf,
) -> Result<Option<T>, Error> {
    match result {
        Ok(Some(read)) => Ok(Some(read)),
        Ok(None) => Err(Error::file(path(), FileError::NotAFile)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(failed(path(), error)),
    }
}

fn failed(path: PathBuf, error: io::Error) -> Error {
    match refused(&error) {
        Some(Refused::Link) => Error::file(path, FileError::Link),
        Some(Refused::NotAFile) => Error::file(path, FileError::NotAFile),
        None => Error::file(path, error),
    }
}

pub(super) fn too_large(path: PathBuf, limit: u64) -> Error {
    Error::file(path, FileError::TooLarge { limit })
}

pub(super) fn not_text(path: PathBuf, error: &Utf8Error) -> Error {
    let offset = error.valid_up_to();
    Error::file(path, FileError::NotText { offset })
}

/// Returns what was refused on the path, by this crate or by the system: a link, or a way
/// out of the root.
fn refused(error: &io::Error) -> Option<Refused> {
    const EXDEV: i32 = 18;
    const ELOOP: i32 = 40;
    match error.raw_os_error() {
        Some(EXDEV | ELOOP) if cfg!(target_os = "linux") => Some(Refused::Link),
        Some(_) => None,
        None => error.get_ref()?.downcast_ref().copied(),
    }
}

/// Whether the error means that there is no such file. A file of an event that is removed
/// while it is open fails with ENODEV.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    const ENODEV: i32 = 19;
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    ) || error.raw_os_error() == Some(ENODEV)
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Both ways of opening, with the system's help and without, have the same result.
    #[test]
    fn both_ways_into_a_capture_are_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b")).expect("a directory");
        fs::write(root.join("a/b/file"), "inside").expect("a file");
        fs::write(dir.path().join("file"), "outside").expect("a file");
        symlink("b", root.join("a/link")).expect("a link");
        symlink("b/file", root.join("a/linked")).expect("a link");
        symlink(dir.path(), root.join("out")).expect("a link");
        for (path, expected) in [
            ("a/b/file", Some("inside")),
            ("a/link/file", None),
            ("a/linked", None),
            ("out/file", None),
            ("../file", None),
            ("a/../../file", None),
            ("/a/b/file", None),
        ] {
            let path = Path::new(path);
            let ways = [captured::open, captured::open_checked];
            for open in ways {
                match (open(&root, path), expected) {
                    (Ok(file), Some(text)) => {
                        assert_eq!(io::read_to_string(file).expect("text"), text);
                    }
                    (Err(error), None) => {
                        assert!(
                            matches!(refused(&error), Some(Refused::Link)),
                            "{path:?}: {error}"
                        );
                    }
                    (other, _) => panic!("{path:?}: {other:?}"),
                }
            }
            let missing = captured::open_checked(&root, Path::new("a/c/file"));
            assert!(is_missing(&missing.expect_err("not there")));
        }
    }
}
