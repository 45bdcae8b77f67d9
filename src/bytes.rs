//! The bytes of a BTF object: read, or the kernel's own, mapped.

use std::fs::File;
use std::ops::Deref;

/// Bytes that do not change.
pub(crate) enum Bytes {
    Read(Vec<u8>),
    #[cfg(target_os = "linux")]
    Mapped(mapping::Mapping),
}

impl Bytes {
    /// The file's bytes mapped, if it is one of sysfs that can be: vmlinux's BTF
    /// since Linux 6.16. To read its 5 MB takes ten times as long.
    #[cfg(target_os = "linux")]
    pub(crate) fn map(file: &File, limit: u64) -> Option<Self> {
        mapping::Mapping::new(file, limit).map(Self::Mapped)
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn map(_: &File, _: u64) -> Option<Self> {
        None
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Read(bytes)
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Read(bytes) => bytes,
            #[cfg(target_os = "linux")]
            Self::Mapped(mapping) => mapping.bytes(),
        }
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Bytes({})", self.len())
    }
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "mapping memory, see Mapping")]
mod mapping {
    use std::ffi::c_void;
    use std::fs::File;
    use std::ptr::NonNull;

    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

    /// `SYSFS_MAGIC` of `include/uapi/linux/magic.h`.
    const SYSFS_MAGIC: u64 = 0x6265_6572;

    /// A file of sysfs, mapped for reading.
    ///
    /// Bytes that are mapped must not change while they are read, nor the file
    /// shrink. Neither can be promised of a captured kernel's files, which are
    /// therefore never mapped. Of sysfs, BTF alone can be: `btf_sysfs_vmlinux_mmap()`
    /// in `kernel/bpf/sysfs_btf.c` maps the running kernel's own read-only data,
    /// there as long as the kernel runs, and refuses to map it writable or beyond
    /// its end. Other files of sysfs that can be mapped, such as a PCI device's
    /// memory, are not under `/sys/kernel/btf`, where no file can be made.
    pub(crate) struct Mapping {
        start: NonNull<c_void>,
        length: usize,
    }

    // SAFETY: it is memory nobody writes to, and is unmapped by its owner alone.
    unsafe impl Send for Mapping {}
    // SAFETY: as for Send.
    unsafe impl Sync for Mapping {}

    impl Mapping {
        pub(super) fn new(file: &File, limit: u64) -> Option<Self> {
            let is_sysfs = rustix::fs::fstatfs(file)
                .is_ok_and(|filesystem| filesystem.f_type as u64 == SYSFS_MAGIC);
            let length = file.metadata().ok()?.len();
            if !is_sysfs || length == 0 || length > limit {
                return None;
            }
            let length = usize::try_from(length).ok()?;
            // SAFETY: the kernel chooses the place, so that no memory in use is
            // mapped over. Why the bytes do not change is said above.
            let start = unsafe {
                mmap(
                    std::ptr::null_mut(),
                    length,
                    ProtFlags::READ,
                    MapFlags::PRIVATE,
                    file,
                    0,
                )
            };
            Some(Self {
                start: NonNull::new(start.ok()?)?,
                length,
            })
        }

        pub(super) fn bytes(&self) -> &[u8] {
            // SAFETY: mapped for reading by `new`, all of it, until `self` is
            // dropped; nobody writes to it.
            unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length) }
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: what `new` mapped, which no slice outlives. Should it fail,
            // the memory stays mapped.
            let _ = unsafe { munmap(self.start.as_ptr(), self.length) };
        }
    }
}
