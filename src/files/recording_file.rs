//! Files of recordings, read whole.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::Error;

/// Reads a file whole if its first 16 bytes are those of a recording; `None` if they are not,
/// or if it is not a regular file.
pub(crate) fn recording_file(
    path: &Path,
    is_recording: impl FnOnce(&[u8]) -> bool,
) -> Result<Option<Vec<u8>>, Error> {
    let failed = |error| Error::file(path, error);
    // Opening a pipe would wait for a writer.
    if !path.metadata().map_err(failed)?.is_file() {
        return Ok(None);
    }
    let mut file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    (&mut file)
        .take(16)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if !is_recording(&bytes) {
        return Ok(None);
    }
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}
