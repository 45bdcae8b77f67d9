//! Kernels that are known from recordings of other programs.

use std::path::Path;
use std::sync::Arc;

use super::Kernel;
use crate::error::Error;
use crate::files::{Dir, FileTree, Tracefs, capture_proc, recording_file};
use crate::record::recording::{PerfData, RecordedKernel, RecordingError, TraceDat};

impl Kernel {
    /// Returns the kernel that a recording is of, as far as the recording describes it: the
    /// formats of its events, with ids, the layout of its ring buffer's pages, symbols, and
    /// names of tasks. It has no BTF. `path` is the recording's file, for messages.
    ///
    /// The [`recording`](crate::record::recording) tells which buffers and pages there are.
    pub fn recorded(path: impl AsRef<Path>, recorded: &RecordedKernel) -> Self {
        let mut tree = FileTree::default();
        for (path, bytes) in recorded.files() {
            tree.add(path.to_owned(), bytes.to_owned());
        }
        let dir = Dir::in_memory(path.as_ref(), Arc::new(tree));
        let kernel = Self::new(Tracefs::in_memory(&dir), dir);
        kernel.with_byte_order(recorded.byte_order())
    }

    /// Returns the files of this kernel that a recording has, for
    /// [`TraceDatWriter`](crate::record::recording::TraceDatWriter): formats, symbols, and
    /// names of threads. Events that disappear meanwhile are left out, and symbols that this
    /// process may not see.
    ///
    /// # Errors
    ///
    /// Those of [`event_directories`](Self::event_directories) and [`machine`](Self::machine);
    /// [`Error::File`].
    pub fn to_recorded(&self) -> Result<RecordedKernel, Error> {
        let mut tree = FileTree::default();
        self.inner.tracefs.capture(&mut tree)?;
        capture_proc(&self.inner.proc, &mut tree)?;
        let mut take = |path: &str, bytes: Option<Vec<u8>>| {
            if let Some(bytes) = bytes {
                tree.replace(path.to_owned(), bytes);
            }
        };
        take(
            "tracing/saved_cmdlines",
            self.inner.tracefs.saved_cmdlines()?,
        );
        take("proc/kallsyms", self.symbols()?);
        let byte_order = self.machine()?.byte_order();
        Ok(RecordedKernel::of_files(byte_order, tree.below("")))
    }

    /// Opens a recording; `None` if the file is not one.
    pub(super) fn of_recording(root: &Path) -> Result<Option<Self>, Error> {
        let is_one = |bytes: &[u8]| TraceDat::is_one(bytes) || PerfData::is_one(bytes);
        let Some(bytes) = recording_file(root, is_one)? else {
            return Ok(None);
        };
        let recorded = match TraceDat::is_one(&bytes) {
            true => TraceDat::parse(&bytes).map(|recording| recording.kernel().clone()),
            false => PerfData::parse(&bytes).map(|recording| recording.kernel().clone()),
        };
        let failed = |source: RecordingError| Error::Recording {
            path: root.to_owned(),
            source,
        };
        Ok(Some(Self::recorded(root, &recorded.map_err(failed)?)))
    }
}
