//! The kernel's BTF as types of `btf-rs`, for programs that walk them.

use std::sync::OnceLock;

use btf_rs::Btf;

use super::Kernel;
use crate::error::Error;

/// vmlinux's types, read by `btf-rs` when first needed.
#[derive(Default)]
pub(super) struct BtfRs(OnceLock<Btf>);

impl std::fmt::Debug for BtfRs {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let is_read = self.0.get().is_some();
        out.debug_tuple("BtfRs").field(&is_read).finish()
    }
}

impl Kernel {
    /// Returns vmlinux's BTF, which the first call reads with `btf-rs`. Type ids are
    /// those of [`Context::type_id`](crate::Context::type_id) if
    /// [`Context::home`](crate::Context::home) is `vmlinux`.
    ///
    /// `btf-rs` gets bytes that this crate has read and checked. It keeps a copy of every
    /// type: for a distribution's kernel that takes 75 to 110 ms.
    ///
    /// ```
    /// use tracepoints::Kernel;
    ///
    /// let kernel = Kernel::at("tests/fixtures/6.1.192-rt-x86_64")?;
    /// let switch = kernel.tracepoint("sched:sched_switch")?.context()?;
    /// let id = switch.type_id().ok_or("no struct")?;
    /// let btf_rs::Type::Struct(class) = kernel.btf()?.resolve_type_by_id(id)? else {
    ///     return Err("not a struct".into());
    /// };
    /// let name = kernel.btf()?.resolve_name(&class)?;
    /// assert_eq!(Some(&*name), switch.struct_name());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NoBtf`]; [`Error::Btf`] if vmlinux's is not sound; [`Error::BtfRs`] if
    /// `btf-rs` does not read it; [`Error::File`].
    pub fn btf(&self) -> Result<&Btf, Error> {
        if let Some(btf) = self.inner.btf_rs.0.get() {
            return Ok(btf);
        }
        let vmlinux = self.inner.btf.vmlinux()?.ok_or_else(|| self.no_btf())?;
        let btf = Btf::from_bytes(vmlinux.section().bytes());
        let btf = btf.map_err(|source| self.btf_rs_error("vmlinux", source))?;
        Ok(self.inner.btf_rs.0.get_or_init(|| btf))
    }

    /// Reads a module's BTF with `btf-rs`, at each call: the types of [`btf`](Self::btf)
    /// and, at the ids after them, the module's own.
    ///
    /// # Errors
    ///
    /// [`Error::NoModule`] if no module of this name has BTF, and those of
    /// [`btf`](Self::btf).
    pub fn module_btf(&self, name: &str) -> Result<Btf, Error> {
        let base = self.btf()?;
        let missing = || Error::NoModule {
            name: name.escape_debug().to_string(),
        };
        let module = self.inner.btf.module_named(name)?.ok_or_else(missing)?;
        Btf::from_split_bytes(module.section().bytes(), base)
            .map_err(|source| self.btf_rs_error(name, source))
    }

    fn btf_rs_error(&self, name: &str, source: btf_rs::Error) -> Error {
        Error::BtfRs {
            path: self.inner.btf.path().join(name),
            source,
        }
    }
}
