//! Reading whole files, none larger than it may be.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::{self, Utf8Error};

use crate::bytes::Bytes;
use crate::error::Error;

/// The file's bytes, or `None` if there is no such file.
///
/// Files of tracefs and sysfs say they have no size or a wrong one, so that the
/// limit is on what is read. A captured kernel may hold anything: what is no
/// file (a pipe nobody writes to, a link elsewhere) is not waited for or
/// followed.
pub(crate) fn bytes(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let read = || {
        let mut file = open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let length = metadata.len().min(limit);
        // One read to fill it, one to see the end: room for both.
        let mut bytes = Vec::with_capacity(length.max(BUFFER as u64) as usize + 1);
        file.by_ref().take(limit + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    };
    let path = || path.to_owned();
    match outcome(read(), path)? {
        Some(bytes) if bytes.len() as u64 > limit => Err(too_large(path(), limit)),
        bytes => Ok(bytes),
    }
}

/// The same of a file of sysfs mapped, where that can be done.
pub(crate) fn mapped_or_read(path: &Path, limit: u64) -> Result<Option<Bytes>, Error> {
    let mapped = open(path).ok().and_then(|file| Bytes::map(&file, limit));
    match mapped {
        Some(mapped) => Ok(Some(mapped)),
        None => Ok(bytes(path, limit)?.map(Bytes::from)),
    }
}

/// The file's first bytes, at most `length`, or `None` if there is no such file.
pub(crate) fn start(path: &Path, length: u64) -> Result<Option<Vec<u8>>, Error> {
    let read = || {
        let file = open(path)?;
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    };
    match read() {
        Ok(Some(bytes)) => Ok(Some(bytes)),
        Ok(None) => Err(Error::NotAFile {
            path: path.to_owned(),
        }),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) if is_link(&error) => Err(Error::NotAFile {
            path: path.to_owned(),
        }),
        Err(error) => Err(Error::io(path, error)),
    }
}

/// The file's text, or `None` if there is no such file.
pub(crate) fn text(path: &Path, limit: u64) -> Result<Option<String>, Error> {
    let text = bytes(path, limit)?.map(String::from_utf8).transpose();
    text.map_err(|error| not_text(path.to_owned(), &error.utf8_error()))
}

/// Enough for all format files seen but one in a hundred.
const BUFFER: usize = 1 << 16;

/// Reads small files of one directory, one after the other: into one buffer, and
/// without walking the directory's own path each time.
#[derive(Debug)]
pub(crate) struct Reader {
    dir: Dir,
    relative: String,
    buffer: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: Dir::new(dir),
            relative: String::new(),
            buffer: vec![0; BUFFER],
        }
    }

    /// The text of a file of the directory, given by its path's parts, or `None` if there is no such file.
    ///
    /// What is on tracefs is a regular file, and need not be asked. That such a
    /// file has ended only a read of nothing says, or `is_whole`: whether a text
    /// up to the end of what one read gave is all there can be.
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
        let path = || self.dir.path.join(relative);
        let mut read = || {
            let mut file = self.dir.open(relative)?;
            if !self.dir.is_tracefs && !file.metadata()?.is_file() {
                return Ok(None);
            }
            let mut length = 0;
            while length as u64 <= limit {
                if length == self.buffer.len() {
                    self.buffer.resize(2 * length, 0);
                }
                let count = match file.read(&mut self.buffer[length..]) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                length += count;
                // Where the buffer is full there may be more.
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

/// A directory, open where the system can open files relative to one.
#[derive(Debug)]
struct Dir {
    path: PathBuf,
    is_tracefs: bool,
    #[cfg(target_os = "linux")]
    fd: Option<std::os::fd::OwnedFd>,
}

#[cfg(target_os = "linux")]
const FLAGS: rustix::fs::OFlags = rustix::fs::OFlags::NONBLOCK.union(rustix::fs::OFlags::NOFOLLOW);

/// Of `include/uapi/linux/magic.h`.
#[cfg(target_os = "linux")]
const TRACEFS_MAGIC: u64 = 0x7472_6163;

#[cfg(target_os = "linux")]
impl Dir {
    fn new(path: &Path) -> Self {
        use rustix::fs::{Mode, OFlags};

        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // What is wrong with it, opening a file will say.
        let fd = rustix::fs::open(path, flags, Mode::empty()).ok();
        let filesystem = fd.as_ref().and_then(|fd| rustix::fs::fstatfs(fd).ok());
        Self {
            path: path.to_owned(),
            is_tracefs: filesystem
                .is_some_and(|filesystem| filesystem.f_type as u64 == TRACEFS_MAGIC),
            fd,
        }
    }

    fn open(&self, relative: &str) -> io::Result<File> {
        use rustix::fs::{Mode, OFlags};

        let Some(fd) = &self.fd else {
            return open(&self.path.join(relative));
        };
        let flags = FLAGS | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(fd, relative, flags, Mode::empty())?.into())
    }
}

#[cfg(not(target_os = "linux"))]
impl Dir {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            is_tracefs: false,
        }
    }

    fn open(&self, relative: &str) -> io::Result<File> {
        open(&self.path.join(relative))
    }
}

#[cfg(target_os = "linux")]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    File::options()
        .read(true)
        .custom_flags(FLAGS.bits() as i32)
        .open(path)
}

#[cfg(not(target_os = "linux"))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// What reading came to, `Ok(None)` standing for what is no file.
fn outcome<T>(
    result: io::Result<Option<T>>,
    path: impl FnOnce() -> PathBuf,
) -> Result<Option<T>, Error> {
    match result {
        Ok(Some(read)) => Ok(Some(read)),
        Ok(None) => Err(Error::NotAFile { path: path() }),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) if is_link(&error) => Err(Error::NotAFile { path: path() }),
        Err(error) => Err(Error::io(&path(), error)),
    }
}

fn too_large(path: PathBuf, limit: u64) -> Error {
    Error::TooLarge { path, limit }
}

fn not_text(path: PathBuf, error: &Utf8Error) -> Error {
    Error::NotText {
        path,
        offset: error.valid_up_to(),
    }
}

/// Whether the failure says that the file is a link.
fn is_link(error: &io::Error) -> bool {
    const ELOOP: i32 = 40;
    cfg!(target_os = "linux") && error.raw_os_error() == Some(ELOOP)
}

/// Whether the failure says that there is no such file. A file of an event that
/// goes while it is open answers ENODEV.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    const ENODEV: i32 = 19;
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    ) || error.raw_os_error() == Some(ENODEV)
}
