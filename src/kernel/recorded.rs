//! Kernels that are known from recordings of other programs.

use std::path::Path;
use std::sync::Arc;

use super::Kernel;
use crate::files::{Dir, FileTree, Tracefs};
use crate::record::recording::RecordedKernel;

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
}
