//! A file or directory that is written beside its place, and gets its name when it is whole.
//!
//! If this process is killed, the part that it wrote stays, under a name that starts with a
//! dot. The next run that writes to the same place removes it: whoever writes holds a lock
//! on the file or directory, which the kernel releases at the end of the process.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Removed when this is dropped, unless it was renamed.
pub(crate) struct Partial {
    path: PathBuf,
    /// The name that it is to get.
    to: PathBuf,
    /// Holds the lock.
    #[cfg(target_os = "linux")]
    _lock: File,
}

impl Partial {
    /// Creates an empty directory beside `to`, which has this file name.
    pub(crate) fn directory(to: &Path, name: &str) -> io::Result<Self> {
        Self::create(to, name, |path| fs::create_dir(path))
    }

    /// Creates an empty file beside `to`, which has this file name.
    pub(crate) fn file(to: &Path, name: &str) -> io::Result<Self> {
        Self::create(to, name, |path| File::create_new(path).map(drop))
    }

    fn create(to: &Path, name: &str, create: impl Fn(&Path) -> io::Result<()>) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        lock::remove_orphans(to, name);
        // Names are taken by runs with the same pid in other pid namespaces.
        const NAMES: u32 = 1000;
        let pid = std::process::id();
        for number in 0..NAMES {
            let path = to.with_file_name(format!(".{name}.{pid}.{number}.partial"));
            match create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                created => created?,
            }
            #[cfg(target_os = "linux")]
            match lock::lock(&path) {
                Ok(Some(lock)) => {
                    return Ok(Self {
                        path,
                        to: to.to_owned(),
                        _lock: lock,
                    });
                }
                // Another run took it for an orphan before it was locked.
                Ok(None) => continue,
                Err(error) => {
                    remove(&path);
                    return Err(error);
                }
            }
            #[cfg(not(target_os = "linux"))]
            return Ok(Self {
                path,
                to: to.to_owned(),
            });
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, which nothing may have yet.
    pub(crate) fn rename_to_new(self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            use rustix::io::Errno;

            match renameat_with(CWD, &self.path, CWD, &self.to, RenameFlags::NOREPLACE) {
                // Not every file system can.
                Err(Errno::INVAL | Errno::NOSYS) => {}
                renamed => return Ok(renamed?),
            }
        }
        if self.to.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        fs::rename(&self.path, &self.to)
    }

    /// Gives it its name, in place of a file that may have it.
    pub(crate) fn rename_over(self) -> io::Result<()> {
        fs::rename(&self.path, &self.to)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes a file or a directory, if it is there.
fn remove(path: &Path) {
    // One of both fails.
    let _ = fs::remove_file(path);
    let _ = fs::remove_dir_all(path);
}

/// Whether this is the name of a part of `name`: `.NAME.PID.NUMBER.partial`.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
fn is_part_of(part: &OsStr, name: &str) -> bool {
    let part = part.to_str().and_then(|part| part.strip_prefix('.'));
    let part = part.and_then(|part| part.strip_prefix(name)?.strip_prefix('.'));
    let numbers = part.and_then(|part| part.strip_suffix(".partial")?.split_once('.'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(pid, number)| is_number(pid) && is_number(number))
}

#[cfg(target_os = "linux")]
mod lock {
    use std::fs::{self, File};
    use std::io;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
    use rustix::io::Errno;

    /// Returns the locked file or directory, or `None` if another process has the lock or
    /// has removed it. A file system that has no locks is not an error.
    pub(super) fn lock(path: &Path) -> io::Result<Option<File>> {
        // Not blocked by a pipe, and no link is followed.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match open(path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) | Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // Whoever removes an orphan holds its lock meanwhile.
        let locked = file.metadata()?;
        match path.symlink_metadata() {
            Ok(named) if (named.dev(), named.ino()) == (locked.dev(), locked.ino()) => {
                Ok(Some(file))
            }
            _ => Ok(None),
        }
    }

    /// Removes what killed runs left of a file or directory with this name.
    pub(super) fn remove_orphans(to: &Path, name: &str) {
        let parent = match to.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        // If it cannot be read, nothing can be written there, which is reported.
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            if super::is_part_of(&entry.file_name(), name)
                && let Ok(Some(orphan)) = lock_surely(&entry.path())
            {
                super::remove(&entry.path());
                drop(orphan);
            }
        }
    }

    /// Like [`lock`], but fails on a file system that has no locks: there, nothing tells
    /// orphans from what another process writes.
    fn lock_surely(path: &Path) -> io::Result<Option<File>> {
        let Some(file) = lock(path)? else {
            return Ok(None);
        };
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Some(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts() {
        let is = |part: &str| is_part_of(part.as_ref(), "a.tar");
        assert!(is(".a.tar.17.0.partial"));
        for other in [
            "a.tar.17.0.partial",
            ".a.tar.17.partial",
            ".a.tar.17.0",
            ".a.tar..0.partial",
            ".a.tar.17.0.1.partial",
            ".a.tar.x.0.partial",
            ".b.a.tar.17.0.partial",
            ".a.tar",
            "",
        ] {
            assert!(!is(other), "{other}");
        }
    }

    /// Each drop removes one, whatever it has become meanwhile.
    #[test]
    fn parts_are_removed_or_renamed() {
        let dir = tempfile::tempdir().expect("a directory");
        let to = dir.path().join("to");
        let names = || -> Vec<String> {
            let entries = fs::read_dir(dir.path()).expect("a directory");
            let name = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name());
            let names = entries.map(name).collect::<io::Result<Vec<_>>>();
            let names = names.expect("entries").into_iter();
            names
                .map(|name| name.to_string_lossy().into_owned())
                .collect()
        };
        let first = Partial::directory(&to, "to").expect("a directory");
        let second = Partial::file(&to, "to").expect("a file");
        fs::write(first.path().join("inside"), "text").expect("a file");
        assert_eq!(names().len(), 2);
        drop(first);
        assert_eq!(names().len(), 1);
        second.rename_to_new().expect("its name");
        assert_eq!(names(), ["to"]);
        let third = Partial::directory(&to, "to").expect("a directory");
        let error = third.rename_to_new().expect_err("there is one");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let fourth = Partial::file(&to, "to").expect("a file");
        fs::write(fourth.path(), "new").expect("a file");
        fourth.rename_over().expect("its name");
        assert_eq!(names(), ["to"]);
        assert_eq!(fs::read(&to).expect("a file"), b"new");
    }
}
