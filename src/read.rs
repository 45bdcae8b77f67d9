//! Reading whole files, none larger than it may be.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

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
        let mut bytes = Vec::with_capacity(length.max(4096) as usize + 1);
        file.by_ref().take(limit + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    };
    match read() {
        Ok(Some(bytes)) if bytes.len() as u64 > limit => Err(Error::TooLarge {
            path: path.to_owned(),
            limit,
        }),
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
    text.map_err(|error| Error::NotText {
        path: path.to_owned(),
        offset: error.utf8_error().valid_up_to(),
    })
}

#[cfg(target_os = "linux")]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;

    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits();
    File::options()
        .read(true)
        .custom_flags(flags as i32)
        .open(path)
}

#[cfg(not(target_os = "linux"))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
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
