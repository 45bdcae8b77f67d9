//! The bytes of a BTF object: read from a file or, for the running kernel's, mapped.

use std::fs::File;
use std::ops::Deref;

/// Bytes that do not change.
pub(crate) enum Bytes {
    Read(Vec<u8>),
    #[cfg(all(target_os = "linux", feature = "fast-files"))]
    Mapped(mapping::Mapping),
}

impl Bytes {
    /// Maps the file if it is the running kernel's vmlinux BTF, which Linux 6.16 and
    /// later allow. Reading its 5 MB takes ten times as long.
    #[cfg(all(target_os = "linux", feature = "fast-files"))]
    pub(crate) fn map(file: &File, limit: u64) -> Option<Self> {
        mapping::Mapping::new(file, limit).map(Self::Mapped)
    }

    #[cfg(not(all(target_os = "linux", feature = "fast-files")))]
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
            #[cfg(all(target_os = "linux", feature = "fast-files"))]
            Self::Mapped(mapping) => mapping.bytes(),
        }
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Bytes({})", self.len())
    }
}

#[cfg(all(target_os = "linux", feature = "fast-files"))]
#[allow(unsafe_code, reason = "mapping memory, see Mapping")]
mod mapping {
    use std::ffi::c_void;
    use std::fs::{self, File};
    use std::io;
    use std::os::unix::fs::MetadataExt;
    use std::ptr::NonNull;

    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

    /// `SYSFS_MAGIC` of `include/uapi/linux/magic.h`.
    const SYSFS_MAGIC: u64 = 0x6265_6572;

    /// The running kernel's BTF.
    const RUNNING: &str = "/sys/kernel/btf/vmlinux";

    /// The running kernel's BTF, mapped for reading.
    ///
    /// Mapped bytes must not change while they are read, nor may the file shrink: a read
    /// behind its new end would end the process by `SIGBUS`. No file system promises
    /// that, so files of captured kernels are never mapped, wherever links among their
    /// directories lead. The kernel promises it for this one file:
    /// `btf_sysfs_vmlinux_mmap()` in `kernel/bpf/sysfs_btf.c` maps its own read-only
    /// data, which stays as long as the kernel runs, and refuses writable mappings and
    /// those beyond its end. The file is known from others, such as a PCI device's
    /// memory, by its path, at which nobody can create one.
    pub(crate) struct Mapping {
        start: NonNull<c_void>,
        length: usize,
    }

    // SAFETY: nobody writes to this memory, and only its owner unmaps it.
    unsafe impl Send for Mapping {}
    // SAFETY: as for Send.
    unsafe impl Sync for Mapping {}

    impl Mapping {
        pub(super) fn new(file: &File, limit: u64) -> Option<Self> {
            let length = file.metadata().ok()?.len();
            if length == 0 || length > limit || !is_running_kernels(file).unwrap_or(false) {
                return None;
            }
            let length = usize::try_from(length).ok()?;
            // SAFETY: the kernel chooses the place, so that no memory in use is mapped
            // over. The bytes do not change: see `Mapping`.
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
            // SAFETY: `new` mapped all of it for reading, until `self` is dropped; nobody
            // writes to it.
            unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length) }
        }
    }

    /// Whether the file is the one at [`RUNNING`], not reached by a link, and on sysfs:
    /// something else may be mounted over that path.
    pub(super) fn is_running_kernels(file: &File) -> io::Result<bool> {
        let (own, running) = (file.metadata()?, fs::symlink_metadata(RUNNING)?);
        Ok(running.is_file()
            && (own.dev(), own.ino()) == (running.dev(), running.ino())
            && rustix::fs::fstatfs(file)?.f_type as u64 == SYSFS_MAGIC)
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: this is what `new` mapped, and no slice outlives it. If unmapping
            // fails, the memory stays mapped.
            let _ = unsafe { munmap(self.start.as_ptr(), self.length) };
        }
    }
}

#[cfg(all(test, target_os = "linux", feature = "fast-files"))]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const LIMIT: u64 = 256 << 20;

    fn is_mapped(path: &Path) -> bool {
        let file = File::open(path).expect("a file");
        match Bytes::map(&file, LIMIT) {
            Some(bytes) => {
                assert_eq!(*bytes, fs::read(path).expect("a file"));
                true
            }
            None => false,
        }
    }

    /// Other files of sysfs that could be mapped are not.
    #[test]
    fn only_the_running_kernels_btf_is_mapped() {
        let vmlinux = Path::new("/sys/kernel/btf/vmlinux");
        let major_minor = |release: String| {
            let mut numbers = release.split('.').map(|number| number.parse::<u32>().ok());
            Some((numbers.next()??, numbers.next()??))
        };
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
        let is_new = release.and_then(major_minor) >= Some((6, 16));
        if vmlinux.exists() {
            assert_eq!(is_mapped(vmlinux), is_new);
            let file = File::open(vmlinux).expect("a file");
            assert!(Bytes::map(&file, 4096).is_none(), "it is larger");
        } else {
            eprintln!("SKIPPED only_the_running_kernels_btf_is_mapped: there is none");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let copy = dir.path().join("vmlinux");
        fs::write(&copy, [0x9f, 0xeb, 1, 0]).expect("a file");
        assert!(!is_mapped(&copy));
        // A captured kernel's directories may lead anywhere.
        let mut devices = fs::read_dir("/sys/bus/pci/devices").into_iter().flatten();
        let memory = devices.find_map(|device| {
            let files = fs::read_dir(device.ok()?.path()).ok()?.flatten();
            let mut files = files.map(|file| file.path());
            files.find(|file| {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                let bar = name.strip_prefix("resource");
                bar.is_some_and(|bar| bar.parse::<u8>().is_ok())
                    // A file that could be mapped.
                    && fs::metadata(file).is_ok_and(|bar| bar.len() > 0)
            })
        });
        for other in memory.iter().map(|path| path.as_path()).chain([
            Path::new("/sys/kernel/notes"),
            Path::new("/sys/kernel/uevent_seqnum"),
            Path::new("/sys/kernel/mm/transparent_hugepage/enabled"),
        ]) {
            if let Ok(file) = File::open(other) {
                assert!(!mapping::is_running_kernels(&file).unwrap_or(false));
                assert!(Bytes::map(&file, LIMIT).is_none(), "{}", other.display());
            }
        }
    }
}
