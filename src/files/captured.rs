//! Opens files of a captured kernel without following links: neither the file nor a
//! directory between it and the capture's root may be a link, or lead out of the capture.

use std::fs::File;
use std::io;
#[cfg(all(target_os = "linux", feature = "fast-files"))]
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

#[cfg(all(target_os = "linux", feature = "fast-files"))]
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
#[cfg(all(target_os = "linux", feature = "fast-files"))]
use rustix::io::Errno;

use super::dir;
#[cfg(all(target_os = "linux", feature = "fast-files"))]
use super::dir::FLAGS;

#[cfg(all(target_os = "linux", feature = "fast-files"))]
pub(super) fn open(root: &Path, relative: &Path) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(root, flags, Mode::empty())?;
    check_is_no_device(&fd, relative)?;
    match open_in(&fd, relative, FLAGS) {
        // Linux before 5.6, or a sandbox that does not know `openat2`.
        Err(Errno::NOSYS | Errno::PERM) => open_checked(root, relative),
        opened => Ok(opened?.into()),
    }
}

#[cfg(not(all(target_os = "linux", feature = "fast-files")))]
pub(super) fn open(root: &Path, relative: &Path) -> io::Result<File> {
    open_checked(root, relative)
}

/// Fails if the file is a device, because opening one may already have an effect. Only
/// root could put a device in the file's place after this check.
#[cfg(all(target_os = "linux", feature = "fast-files"))]
pub(super) fn check_is_no_device(fd: &OwnedFd, relative: &Path) -> io::Result<()> {
    let Ok(found) = rustix::fs::statat(fd, relative, AtFlags::SYMLINK_NOFOLLOW) else {
        // The error is reported when the file is opened.
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

    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(fd, relative.as_ref(), flags, Mode::empty(), resolve)
}

/// Opens a file without `openat2`, after checking the path: someone who changes the
/// capture meanwhile can still put a link in the way.
pub(super) fn open_checked(root: &Path, relative: &Path) -> io::Result<File> {
    check(root, relative)?;
    dir::open(&root.join(relative))
}

/// Checks that no directory between `root` and the file is a link, and that the path does
/// not lead out of `root`.
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

/// Why a file is not opened, found by examining it first.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("a link")]
    Link,
    #[error("no file")]
    NotAFile,
}
