//! The kernel to look at: the running one, a captured one, or the one this command
//! comes with.

use std::path::PathBuf;

use clap::Args;
use flate2::read::DeflateDecoder;
use tempfile::TempDir;
use tracepoints::{Error, FileError, Kernel};

use crate::output::{Failure, with_causes};

/// Packed by build.rs.
const DEMO: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/demo.tar.deflate"));

/// Which kernel to look at.
#[derive(Args)]
pub(crate) struct KernelChoice {
    /// Use a captured kernel, laid out like /sys/kernel, instead of the running one
    #[arg(long, short, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Use the captured kernel that comes with the command: no root, no tracefs
    #[arg(long, conflicts_with = "root")]
    pub(crate) demo: bool,
}

impl KernelChoice {
    /// Opens it, and prepares it further.
    pub(crate) fn open(&self, prepare: impl FnOnce(Kernel) -> Kernel) -> Result<Chosen, Failure> {
        let dir = if self.demo {
            Some(unpack_demo()?)
        } else {
            None
        };
        let kernel = match (&dir, &self.root) {
            (Some(dir), _) => Kernel::at(dir.path())?,
            (None, Some(root)) => Kernel::at(root)?,
            (None, None) => Kernel::live().map_err(live_failure)?,
        };
        let kernel = Box::leak(Box::new(prepare(kernel)));
        Ok(Chosen { kernel, dir })
    }
}

/// The running kernel cannot be read: what to do.
pub(crate) fn live_failure(error: Error) -> Failure {
    match error {
        Error::NotMounted
        | Error::File {
            source: FileError::PermissionDenied,
            ..
        } => Failure::Other(format!(
            "{}, or use --demo to look at the captured kernel that comes with this command",
            with_causes(&error)
        )),
        error => error.into(),
    }
}

/// A kernel that is open.
pub(crate) struct Chosen {
    /// Open until the command ends, which frees it sooner than its parts one by one.
    pub(crate) kernel: &'static Kernel,
    /// Where the demo kernel is unpacked, and removed when this is dropped.
    dir: Option<TempDir>,
}

impl Chosen {
    /// The demo kernel's own pages of the ring buffer.
    pub(crate) fn demo_pages(&self) -> Vec<String> {
        let dirs = self.dir.iter();
        dirs.flat_map(|dir| ["cpu0.raw", "cpu1.raw"].map(|name| dir.path().join("ring").join(name)))
            .map(|path| path.display().to_string())
            .collect()
    }
}

fn unpack_demo() -> Result<TempDir, Failure> {
    let failed =
        |error: std::io::Error| Failure::Other(format!("unpacking the demo kernel: {error}"));
    let dir = tempfile::Builder::new()
        .prefix("tracepoints-demo-")
        .tempdir()
        .map_err(failed)?;
    tar::Archive::new(DeflateDecoder::new(DEMO))
        .unpack(dir.path())
        .map_err(failed)?;
    Ok(dir)
}
