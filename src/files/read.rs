//! Reads whole files, up to a limit.

use std::fs::File;
use std::io::{self, Read};
#[cfg(all(target_os = "linux", feature = "fast-files"))]
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::str::{self, Utf8Error};
use std::sync::Arc;

#[cfg(all(target_os = "linux", feature = "fast-files"))]
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
#[cfg(all(target_os = "linux", feature = "fast-files"))]
use rustix::io::Errno;

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
    root: PathBuf,
    /// The directory's path below `root`; empty for `root` itself.
    below: PathBuf,
    are_links_followed: bool,
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
    #[cfg(feature = "image")]
    pub(crate) fn in_memory(root: impl Into<PathBuf>, tree: Arc<FileTree>) -> Self {
        Self {
            tree: Some(tree),
            ..Self::captured(root)
        }
    }

    /// The files in memory; `None` of directories.
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

    /// A file in memory.
    fn file_in_tree(&self, file: &str) -> Option<Option<&[u8]>> {
        let tree = self.tree()?;
        let path = self.below.join(file);
        Some(path.to_str().and_then(|path| tree.file(path)))
    }

    /// Whether there is a file of this name, of whatever type.
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

    /// Whether it is the running kernel's.
    pub(crate) fn is_live(&self) -> bool {
        self.are_links_followed
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.root.join(&self.below)
    }

    /// Whether the directory exists, without a link on the way that is not followed.
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
            // One read fills it, another finds the end: reserve for both.
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
    /// can be mapped. Files of a captured kernel may change or shrink while they are
    /// read.
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

    fn open(&self, file: &str) -> io::Result<File> {
        match self.are_links_followed {
            true => open(&self.path().join(file)),
            false => captured::open(&self.root, &self.below.join(file)),
        }
    }
}

/// All format files seen fit, but for one in a hundred.
const BUFFER: usize = 1 << 16;

/// The buffer that a [`Reader`] begins with: it is zeroed, which for a reader of one file
/// is more work than the rest if it is as large as [`BUFFER`]. Most format files fit.
const FIRST_BUFFER: usize = 1 << 13;

/// Reads small files of one directory, one after another, into one buffer and without
/// resolving the directory's path each time.
#[derive(Debug)]
pub(crate) struct Reader {
    dir: OpenDir,
    relative: String,
    buffer: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(dir: Dir) -> Self {
        Self {
            dir: OpenDir::new(dir),
            relative: String::new(),
            buffer: vec![0; FIRST_BUFFER],
        }
    }

    /// Returns the text of a file, whose path below the directory is given in parts, or
    /// `None` if there is no such file.
    ///
    /// Files on tracefs are regular and are not checked. Their end is found by a read
    /// that returns nothing, or by `is_whole`: whether a text, up to where one read
    /// ended, must be complete.
    pub(crate) fn text(
        &mut self,
        relative: [&str; 3],
        limit: u64,
        is_whole: impl Fn(&str) -> bool,
    ) -> Result<Option<&str>, Error> {
        self.relative.clear();
        for (index, part) in relative.into_iter().enumerate() {
            self.relative += if index > 0 { "/" } else { "" };
            self.relative += part;
        }
        let relative = &*self.relative;
        let path = || self.dir.dir.path().join(relative);
        if let Some(found) = self.dir.dir.file_in_tree(relative) {
            return match found {
                Some(bytes) if bytes.len() as u64 > limit => Err(too_large(path(), limit)),
                Some(bytes) => str::from_utf8(bytes)
                    .map(Some)
                    .map_err(|error| not_text(path(), &error)),
                None => Ok(None),
            };
        }
        let mut read = || {
            let mut file = self.dir.open(relative)?;
            if !self.dir.is_tracefs && !file.metadata()?.is_file() {
                return Ok(None);
            }
            let mut length = 0;
            while length as u64 <= limit {
                if length == self.buffer.len() {
                    self.buffer.resize((2 * length).max(BUFFER), 0);
                }
                let count = match file.read(&mut self.buffer[length..]) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                length += count;
                // If the buffer is full there may be more.
                if self.dir.is_tracefs
                    && length < self.buffer.len()
                    && str::from_utf8(&self.buffer[..length]).is_ok_and(&is_whole)
                {
                    break;
                }
            }
            Ok(Some(length))
        };
        let result = read();
        let Some(length) = outcome(result, path)? else {
            return Ok(None);
        };
        if length as u64 > limit {
            return Err(too_large(path(), limit));
        }
        match str::from_utf8(&self.buffer[..length]) {
            Ok(text) => Ok(Some(text)),
            Err(error) => Err(not_text(path(), &error)),
        }
    }
}

/// A directory that is open, where the system can open files relative to one.
#[derive(Debug)]
struct OpenDir {
    dir: Dir,
    is_tracefs: bool,
    #[cfg(all(target_os = "linux", feature = "fast-files"))]
    fd: Option<OwnedFd>,
}

#[cfg(all(target_os = "linux", feature = "fast-files"))]
const FLAGS: OFlags = OFlags::NONBLOCK
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Of `include/uapi/linux/magic.h`.
#[cfg(all(target_os = "linux", feature = "fast-files"))]
const TRACEFS_MAGIC: u64 = 0x7472_6163;

#[cfg(all(target_os = "linux", feature = "fast-files"))]
impl OpenDir {
    fn new(dir: Dir) -> Self {
        if dir.tree().is_some() {
            return Self {
                dir,
                is_tracefs: false,
                fd: None,
            };
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match dir.are_links_followed {
            true => rustix::fs::open(dir.path(), flags, Mode::empty()),
            false => captured::open_directory(&dir.root, &dir.below),
        };
        // An error will be reported when a file is opened.
        let fd = fd.ok();
        let filesystem = fd.as_ref().and_then(|fd| rustix::fs::fstatfs(fd).ok());
        Self {
            dir,
            is_tracefs: filesystem
                .is_some_and(|filesystem| filesystem.f_type as u64 == TRACEFS_MAGIC),
            fd,
        }
    }

    fn open(&self, relative: &str) -> io::Result<File> {
        match &self.fd {
            Some(fd) if self.dir.are_links_followed => {
                Ok(rustix::fs::openat(fd, relative, FLAGS, Mode::empty())?.into())
            }
            Some(fd) => {
                captured::check_is_no_device(fd, relative.as_ref())?;
                Ok(captured::open_in(fd, relative, FLAGS)?.into())
            }
            None => self.dir.open(relative),
        }
    }
}

#[cfg(not(all(target_os = "linux", feature = "fast-files")))]
impl OpenDir {
    fn new(dir: Dir) -> Self {
        Self {
            dir,
            is_tracefs: false,
        }
    }

    fn open(&self, relative: &str) -> io::Result<File> {
        self.dir.open(relative)
    }
}

#[cfg(all(target_os = "linux", feature = "fast-files"))]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    File::options()
        .read(true)
        .custom_flags(FLAGS.bits() as i32)
        .open(path)
}

#[cfg(not(all(target_os = "linux", feature = "fast-files")))]
fn open(path: &Path) -> io::Result<File> {
    // Without flags that refuse links and do not wait for pipes, the file is examined
    // first. Someone who changes the capture in between can still put one there.
    let found = path.symlink_metadata()?.file_type();
    match (found.is_file(), found.is_symlink()) {
        (true, _) => File::open(path),
        (_, true) => Err(io::Error::other(Refused::Link)),
        _ => Err(io::Error::other(Refused::NotAFile)),
    }
}

/// Opens files of a captured kernel without following links: neither the file nor a
/// directory between it and the capture's root may be a link, or lead out of the capture.
mod captured {
    use super::*;

    #[cfg(all(target_os = "linux", feature = "fast-files"))]
    pub(super) fn open(root: &Path, relative: &Path) -> io::Result<File> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(root, flags, Mode::empty())?;
        check_is_no_device(&fd, relative)?;
        match open_in(&fd, relative, FLAGS) {
            // Linux before 5.6, or a sandbox that does not know the newer call.
            Err(Errno::NOSYS | Errno::PERM) => open_checked(root, relative),
            opened => Ok(opened?.into()),
        }
    }

    #[cfg(not(all(target_os = "linux", feature = "fast-files")))]
    pub(super) fn open(root: &Path, relative: &Path) -> io::Result<File> {
        open_checked(root, relative)
    }

    /// Opening a device may already have an effect. Only root could replace the file by
    /// one after this check.
    #[cfg(all(target_os = "linux", feature = "fast-files"))]
    pub(super) fn check_is_no_device(fd: &OwnedFd, relative: &Path) -> io::Result<()> {
        let Ok(found) = rustix::fs::statat(fd, relative, AtFlags::SYMLINK_NOFOLLOW) else {
            // An error will be reported when it is opened.
            return Ok(());
        };
        match FileType::from_raw_mode(found.st_mode) {
            FileType::CharacterDevice | FileType::BlockDevice => {
                Err(io::Error::other(Refused::NotAFile))
            }
            _ => Ok(()),
        }
    }

    #[cfg(all(target_os = "linux", feature = "fast-files"))]
    pub(super) fn open_directory(root: &Path, relative: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(root, flags, Mode::empty())?;
        open_in(&fd, relative, flags)
    }

    #[cfg(all(target_os = "linux", feature = "fast-files"))]
    pub(super) fn open_in(
        fd: &OwnedFd,
        relative: impl AsRef<Path>,
        flags: OFlags,
    ) -> rustix::io::Result<OwnedFd> {
        use rustix::fs::{ResolveFlags, openat2};

        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(fd, relative.as_ref(), flags, Mode::empty(), resolve)
    }

    /// Opens without the system's help: someone who changes the capture meanwhile can
    /// still put a link in the way.
    pub(super) fn open_checked(root: &Path, relative: &Path) -> io::Result<File> {
        check(root, relative)?;
        super::open(&root.join(relative))
    }

    /// Checks that no directory on the way is a link.
    pub(super) fn check(root: &Path, relative: &Path) -> io::Result<()> {
        let mut way = root.to_owned();
        for part in relative.parent().into_iter().flat_map(Path::components) {
            if !matches!(part, Component::Normal(_)) {
                return Err(io::Error::other(Refused::Link));
            }
            way.push(part);
            if way.symlink_metadata()?.is_symlink() {
                return Err(io::Error::other(Refused::Link));
            }
        }
        Ok(())
    }
}

/// Why a file is not opened, found by examining it first.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Refused {
    #[error("a link")]
    Link,
    #[error("no file")]
    NotAFile,
}

/// Converts the result of reading; `Ok(None)` stands for something other than a file.
fn outcome<T>(
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

fn too_large(path: PathBuf, limit: u64) -> Error {
    Error::file(path, FileError::TooLarge { limit })
}

fn not_text(path: PathBuf, error: &Utf8Error) -> Error {
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
