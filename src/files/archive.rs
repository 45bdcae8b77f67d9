//! Reads the files of archives one after another, without unpacking them to disk: tar, and
//! the packages of Debian (tar inside ar) and of RPM (cpio behind headers).
//!
//! Archives are untrusted input: links and devices are left out, and every read has a
//! limit.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::{Error, FileError};
use crate::image::{MAX_UNPACKED, stream};

/// The largest size of one file, in bytes.
pub(super) const FILE_LIMIT: u64 = MAX_UNPACKED;
/// The largest size of a decompressed archive, in bytes. A package's files have 300 MB to
/// 2 GB.
const ARCHIVE_LIMIT: u64 = 16 << 30;
/// The most files of an archive. Packages have up to 6,000.
pub(super) const MAX_FILES: usize = 1 << 18;

/// Receives the files of an archive.
pub(super) trait ArchiveVisitor {
    /// Whether a file of this path and size in bytes is wanted.
    ///
    /// # Errors
    ///
    /// An error ends the reading of the archive.
    fn wants(&mut self, path: &Path, size: u64) -> Result<bool, Error>;

    /// Takes a file that is wanted.
    fn take(&mut self, path: PathBuf, bytes: Vec<u8>);
}

/// Returns a reader of a stream's content, decompressed if the stream is compressed.
///
/// # Errors
///
/// [`Error::File`] if the stream cannot be read, or its decompression cannot begin.
pub(super) fn decompressed<'a>(
    path: &Path,
    mut input: impl Read + 'a,
) -> Result<Box<dyn Read + 'a>, Error> {
    let failed = |error| Error::file(path, error);
    let mut start = [0; 8];
    let count = read_start(&mut input, &mut start).map_err(failed)?;
    let start = start[..count].to_vec();
    let whole = BufReader::with_capacity(1 << 16, Cursor::new(start.clone()).chain(input));
    stream(&start, whole).map_err(failed)
}

/// The longest path of a file in bytes, with the NUL at the end: `PATH_MAX`.
const MAX_NAME: u64 = 4096;

/// Reads a tar archive.
pub(super) fn tar_files(
    path: &Path,
    reader: impl Read,
    visitor: &mut impl ArchiveVisitor,
) -> Result<(), Error> {
    let failed = |error| Error::file(path, error);
    let mut archive = tar::Archive::new(reader.take(ARCHIVE_LIMIT));
    // Entries are read raw, because the crate would allocate memory for a name of any
    // length.
    let entries = archive.entries().map_err(failed)?.raw(true);
    let mut long_name = None;
    for entry in entries.take(MAX_FILES) {
        let mut entry = entry.map_err(failed)?;
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() || kind.is_pax_local_extensions() {
            long_name = long_name_of(&mut entry).map_err(failed)?.or(long_name);
            continue;
        }
        // The target of a link may stand between a file's long name and the file.
        if kind.is_gnu_longlink() || kind.is_pax_global_extensions() {
            continue;
        }
        let inside = match long_name.take() {
            Some(name) => PathBuf::from(name),
            None => entry.path().map_err(failed)?.into_owned(),
        };
        if !kind.is_file() {
            continue;
        }
        let inside = inside.strip_prefix(".").unwrap_or(&inside).to_owned();
        let size = entry.size();
        if visitor.wants(&inside, size)? {
            let bytes = file_bytes(path, &inside, size, &mut entry)?;
            visitor.take(inside, bytes);
        }
    }
    Ok(())
}

/// Returns the name of the next file, which does not fit into that file's own header, in
/// GNU's form or as one of POSIX's extensions. `None` if the extensions have no name.
fn long_name_of(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Option<String>> {
    /// In bytes. Extensions may have times and other attributes beside the name.
    const MAX_EXTENSION: u64 = 1 << 16;
    let is_gnu = entry.header().entry_type().is_gnu_longname();
    let limit = if is_gnu { MAX_NAME } else { MAX_EXTENSION };
    if entry.size() > limit {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
    if is_gnu {
        let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        return Ok(Some(str::from_utf8(name).map_err(invalid)?.to_owned()));
    }
    for extension in tar::PaxExtensions::new(&bytes) {
        let extension = extension?;
        if extension.key_bytes() == b"path" {
            return Ok(Some(extension.value().map_err(invalid)?.to_owned()));
        }
    }
    Ok(None)
}

/// Reads a cpio archive in the format that RPM packages use, `newc`.
pub(super) fn cpio_files(
    path: &Path,
    reader: impl Read,
    visitor: &mut impl ArchiveVisitor,
) -> Result<(), Error> {
    /// The size of `struct cpio_newc_header`, in bytes.
    const HEADER: usize = 110;
    const REGULAR: u32 = 0o100_000;
    const TYPE: u32 = 0o170_000;
    let failed = |error: io::Error| Error::file(path, error);
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut input = reader.take(ARCHIVE_LIMIT);
    for _ in 0..MAX_FILES {
        let mut header = [0; HEADER];
        input.read_exact(&mut header).map_err(failed)?;
        // The crate would allocate memory for a name of any length.
        let length = str::from_utf8(&header[94..102]).ok();
        let length = length.and_then(|text| u32::from_str_radix(text, 16).ok());
        if length.is_none_or(|length| u64::from(length) > MAX_NAME) {
            return Err(failed(invalid()));
        }
        let whole = Cursor::new(header).chain(&mut input);
        let mut entry = cpio::newc::Reader::new(whole).map_err(failed)?;
        if entry.entry().is_trailer() {
            break;
        }
        let inside = Path::new(entry.entry().name());
        let inside = inside.strip_prefix(".").unwrap_or(inside);
        let inside = inside.strip_prefix("/").unwrap_or(inside).to_owned();
        let is_file = entry.entry().mode() & TYPE == REGULAR;
        let size = u64::from(entry.entry().file_size());
        if is_file && visitor.wants(&inside, size)? {
            let bytes = file_bytes(path, &inside, size, &mut entry)?;
            visitor.take(inside, bytes);
        }
        entry.finish().map_err(failed)?;
    }
    Ok(())
}

fn file_bytes(
    path: &Path,
    inside: &Path,
    size: u64,
    entry: &mut impl Read,
) -> Result<Vec<u8>, Error> {
    let failed = |error: io::Error| Error::file(path, error);
    let limit = FILE_LIMIT;
    if size > limit {
        return Err(Error::file(
            path.join(inside),
            FileError::TooLarge { limit },
        ));
    }
    let mut bytes = Vec::new();
    let read = entry.read_to_end(&mut bytes);
    read.map_err(failed)?;
    if bytes.len() as u64 != size {
        return Err(failed(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(bytes)
}

/// The first bytes of a Debian package, an archive of ar.
pub(super) const AR_MAGIC: &[u8; 8] = b"!<arch>\n";
/// The first bytes of an RPM package (`struct rpmlead`).
pub(super) const RPM_MAGIC: &[u8; 4] = &[0xed, 0xab, 0xee, 0xdb];

/// Finds `data.tar.*` in a Debian package, and positions the file at its start. Returns
/// its length in bytes; `None` if it is not found.
pub(super) fn find_deb_data(file: &mut File) -> io::Result<Option<u64>> {
    /// The size of `struct ar_hdr` (`ar.h`), in bytes.
    const HEADER: usize = 60;
    /// A Debian package has three members.
    const MAX_MEMBERS: usize = 16;
    let mut at = AR_MAGIC.len() as u64;
    for _ in 0..MAX_MEMBERS {
        file.seek(SeekFrom::Start(at))?;
        let mut header = [0; HEADER];
        if read_start(file, &mut header)? < HEADER {
            return Ok(None);
        }
        let size = str::from_utf8(&header[48..58]).ok();
        let size = size.and_then(|size| size.trim_end().parse::<u64>().ok());
        let size = size.ok_or(io::ErrorKind::InvalidData)?;
        if header.starts_with(b"data.tar") {
            return Ok(Some(size));
        }
        // Members begin at even offsets.
        at = (at + HEADER as u64)
            .saturating_add(size)
            .next_multiple_of(2);
    }
    Ok(None)
}

/// Finds the compressed archive in an RPM package, behind its lead and two headers
/// (`lib/header.c` and `lib/package.c` of rpm), and positions the file at its start.
pub(super) fn find_rpm_payload(file: &mut File) -> io::Result<()> {
    const LEAD: u64 = 96;
    const MAGIC: &[u8] = &[0x8e, 0xad, 0xe8, 0x01];
    /// The size of an entry of a header's index, in bytes.
    const ENTRY: u64 = 16;
    let mut at = LEAD;
    for is_signature in [true, false] {
        file.seek(SeekFrom::Start(at))?;
        let mut start = [0; 16];
        file.read_exact(&mut start)?;
        let word = |at: usize| -> u64 {
            let word = start[at..].first_chunk::<4>();
            word.map_or(0, |word| u32::from_be_bytes(*word).into())
        };
        if !start.starts_with(MAGIC) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        at += start.len() as u64 + ENTRY * word(8) + word(12);
        if is_signature {
            at = at.next_multiple_of(8);
        }
    }
    file.seek(SeekFrom::Start(at)).map(drop)
}

/// Fills `start` from the file, as far as the file goes. Returns the number of bytes read.
pub(super) fn read_start(file: &mut impl Read, start: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < start.len() {
        match file.read(&mut start[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
