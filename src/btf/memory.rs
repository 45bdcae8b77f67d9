//! BTF that a program already has in memory.

use std::sync::Arc;

use super::relocate::relocated;
use super::{BtfError, Object, Section};

/// The BTF of one object, vmlinux or a module, from bytes in memory: for programs without
/// a file system, or whose kernels are stored elsewhere.
///
/// [`Context::resolve`](crate::Context::resolve) resolves contexts from it and the text
/// of a format file.
///
/// Cloning is cheap: clones share the bytes.
#[derive(Clone, Debug)]
pub struct Btf {
    object: Arc<Object>,
}

impl Btf {
    /// Reads vmlinux's BTF: the bytes of `/sys/kernel/btf/vmlinux`, of either byte
    /// order.
    ///
    /// # Errors
    ///
    /// [`BtfError`] if the bytes are not sound BTF.
    pub fn vmlinux(bytes: impl Into<Vec<u8>>) -> Result<Self, BtfError> {
        Self::parse("vmlinux", bytes.into(), None)
    }

    /// Reads a module's split BTF: the bytes of `/sys/kernel/btf/<module>`, whose types
    /// follow those of `vmlinux`.
    ///
    /// # Errors
    ///
    /// [`BtfError`] if the bytes are not sound BTF that goes with that of `vmlinux`.
    pub fn module(name: &str, bytes: impl Into<Vec<u8>>, vmlinux: &Self) -> Result<Self, BtfError> {
        Self::parse(name, bytes.into(), Some(Arc::clone(&vmlinux.object)))
    }

    /// Reads the BTF of a module that was built apart from its kernel: the sections
    /// `.BTF` and `.BTF.base` of its file. Types that the module shares with the kernel
    /// are looked up in `vmlinux`, as the kernel does when it loads the module.
    /// Afterwards the kernel has, in `/sys/kernel/btf/<module>`, the BTF that
    /// [`module`](Self::module) reads.
    ///
    /// # Errors
    ///
    /// [`BtfError`] if the bytes are not sound BTF; [`BtfError::Relocation`] if a type is
    /// not in `vmlinux`, or more than once.
    pub fn module_with_base(
        name: &str,
        bytes: impl Into<Vec<u8>>,
        base: impl Into<Vec<u8>>,
        vmlinux: &Self,
    ) -> Result<Self, BtfError> {
        let section = |bytes: Vec<u8>, base| Section::parse(bytes.into(), base, |_, _, _, _| {});
        let base = Arc::new(section(base.into(), None)?);
        let split = section(bytes.into(), Some(Arc::clone(&base)))?;
        let bytes = relocated(&split, &base, vmlinux.object.section())?;
        Self::parse(name, bytes, Some(Arc::clone(&vmlinux.object)))
    }

    fn parse(name: &str, bytes: Vec<u8>, base: Option<Arc<Object>>) -> Result<Self, BtfError> {
        let object = Object::parse(name.to_owned(), bytes, base)?;
        Ok(Self {
            object: Arc::new(object),
        })
    }

    /// Returns `vmlinux`, or the module's name.
    pub fn name(&self) -> &str {
        self.object.name()
    }

    /// Whether the object defines a tracepoint of this name, given without a category.
    pub fn defines(&self, event: &str) -> bool {
        self.object.index().has_event(event)
    }

    pub(crate) fn object(&self) -> &Arc<Object> {
        &self.object
    }
}
