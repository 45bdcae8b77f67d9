//! Reads many small files of one directory, with one buffer.

use std::fs::File;
use std::io::{self, Read};
#[cfg(all(target_os = "linux", feature = "fast-files"))]
use std::os::fd::OwnedFd;
use std::str;

#[cfg(all(target_os = "linux", feature = "fast-files"))]
use rustix::fs::{Mode, OFlags};

#[cfg(all(target_os = "linux", feature = "fast-files"))]
use super::captured;
#[cfg(all(target_os = "linux", feature = "fast-files"))]
use super::dir::FLAGS;
use super::dir::{BUFFER, Dir, not_text, outcome, too_large};
use crate::error::Error;

/// The size of a [`Reader`]'s first buffer, in bytes. Zeroing a buffer of [`BUFFER`] bytes
/// would be most of the work of a reader of one file. Most format files fit.
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
    /// Files on tracefs are always regular, and their type is not checked. Such a file
    /// ends where a read returns nothing, or where `is_whole` says that the text up to the
    /// end of a read must be complete.
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
                // A full buffer means that there may be more.
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

/// A directory, kept open where the system can open files relative to one.
#[derive(Debug)]
struct OpenDir {
    dir: Dir,
    is_tracefs: bool,
    #[cfg(all(target_os = "linux", feature = "fast-files"))]
    fd: Option<OwnedFd>,
}

/// `TRACEFS_MAGIC` of `include/uapi/linux/magic.h`.
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
