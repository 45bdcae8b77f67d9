//! The kernel to look at: the running one, a captured one, or the one this command
//! comes with.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use flate2::read::DeflateDecoder;
use serde::Serialize;
use tempfile::TempDir;
use tracepoints::kernel::BtfKernel;
use tracepoints::{Error, FileError, Kernel};

use crate::output::{Failure, say, with_causes};

/// Packed by build.rs.
const DEMO: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/demo.tar.deflate"));

/// Which kernel to look at.
#[derive(Args)]
pub(crate) struct KernelChoice {
    /// Use a captured kernel, laid out like /sys/kernel, instead of the running one; or
    /// one never booted: a package (.deb, .rpm), an unpacked one, vmlinuz, vmlinux
    #[arg(long, short, value_name = "PATH")]
    pub(crate) root: Option<PathBuf>,
    /// Use the captured kernel that comes with the command: no root, no tracefs
    #[arg(long, conflicts_with = "root")]
    pub(crate) demo: bool,
}

/// Which kernel to look at, or which kernels to write one source for.
#[derive(Args)]
pub(crate) struct KernelChoices {
    /// Use a captured kernel, laid out like /sys/kernel, instead of the running one; with
    /// --emit core, several are served by one source
    #[arg(long, short, value_name = "DIR")]
    pub(crate) root: Vec<PathBuf>,
    /// Use the captured kernel that comes with the command: no root, no tracefs
    #[arg(long, conflicts_with = "root")]
    pub(crate) demo: bool,
}

impl KernelChoices {
    /// The only one.
    pub(crate) fn only(&self) -> Result<KernelChoice, Failure> {
        if self.root.len() > 1 {
            return Err(Failure::Other(
                "several --root are for --emit core: one source for all of them".to_owned(),
            ));
        }
        Ok(KernelChoice {
            root: self.root.first().cloned(),
            demo: self.demo,
        })
    }

    /// Opens all, each with the name that sources have for it.
    pub(crate) fn all(&self) -> Result<Vec<(String, Kernel)>, Failure> {
        let open = |root: &PathBuf| Ok((Identity::captured(root).label(), Kernel::at(root)?));
        self.root.iter().map(open).collect()
    }
}

impl KernelChoice {
    /// Opens it, and prepares it further.
    pub(crate) fn open(&self, prepare: impl FnOnce(Kernel) -> Kernel) -> Result<Chosen, Failure> {
        let dir = if self.demo {
            Some(unpack_demo()?)
        } else {
            None
        };
        let (kernel, identity) = match (&dir, &self.root) {
            (Some(dir), _) => (Kernel::at(dir.path())?, Identity::demo(dir.path())),
            (None, Some(root)) => {
                let kernel = Kernel::at(root)?;
                let identity = match kernel.is_image() {
                    true => Identity::of_image(root, &kernel),
                    false => Identity::captured(root),
                };
                say_unreadable(&kernel);
                (kernel, identity)
            }
            (None, None) => (Kernel::live().map_err(live_failure)?, Identity::live()),
        };
        Ok(Chosen {
            kernel: Box::leak(Box::new(prepare(kernel))),
            identity,
            dir,
        })
    }

    /// The running kernel's BTF, if that is all this user can read of the kernel chosen.
    pub(crate) fn btf_alone(&self) -> Option<BtfKernel> {
        if self.demo || self.root.is_some() {
            return None;
        }
        let error = Kernel::live().err()?;
        is_out_of_reach(&error).then(BtfKernel::live)
    }
}

/// Says which parts of an image cannot be read.
pub(crate) fn say_unreadable(kernel: &Kernel) {
    /// More are counted.
    const SAID: usize = 5;
    for reason in kernel.unreadable().iter().take(SAID) {
        say!("{reason}");
    }
    if let Some(more @ 1..) = kernel.unreadable().len().checked_sub(SAID) {
        say!("and {more} more that cannot be read");
    }
}

fn is_out_of_reach(error: &Error) -> bool {
    matches!(
        error,
        Error::NotMounted
            | Error::File {
                source: FileError::PermissionDenied,
                ..
            }
    )
}

/// The running kernel cannot be read: what to do.
pub(crate) fn live_failure(error: Error) -> Failure {
    if !is_out_of_reach(&error) {
        return error.into();
    }
    Failure::Other(format!(
        "{}\n  list --raw and format --raw show what everyone may read, the kernel's BTF; \
         --demo shows the captured kernel that comes with this command",
        with_causes(&error)
    ))
}

/// A kernel that is open.
pub(crate) struct Chosen {
    /// Open until the command ends, which frees it sooner than its parts one by one.
    pub(crate) kernel: &'static Kernel,
    pub(crate) identity: Identity,
    /// Where the demo kernel is unpacked, and removed when this is dropped.
    dir: Option<TempDir>,
}

impl Chosen {
    /// The demo kernel's own pages of the ring buffer.
    pub(crate) fn demo_pages(&self) -> Vec<String> {
        let dirs = self.dir.iter().map(TempDir::path);
        dirs.flat_map(|dir| ["cpu0.raw", "cpu1.raw"].map(|name| dir.join("ring").join(name)))
            .map(|path| path.display().to_string())
            .collect()
    }
}

/// Which kernel a row of JSON is about.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Identity {
    /// As `uname -r` has it; `None` of a captured kernel that does not say it.
    release: Option<String>,
    /// As `uname -m` has it.
    architecture: Option<String>,
    /// `live`, `demo`, or the directory of a captured kernel.
    source: String,
}

impl Identity {
    #[cfg(target_os = "linux")]
    pub(crate) fn live() -> Self {
        let uname = rustix::system::uname();
        let text = |text: &std::ffi::CStr| Some(text.to_string_lossy().into_owned());
        Self {
            release: text(uname.release()),
            architecture: text(uname.machine()),
            source: "live".to_owned(),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn live() -> Self {
        Self {
            release: None,
            architecture: None,
            source: "live".to_owned(),
        }
    }

    /// Release and machine as far as they are known, or else where the kernel is.
    pub(crate) fn label(&self) -> String {
        match (&self.release, &self.architecture) {
            (Some(release), Some(architecture)) => format!("{release} {architecture}"),
            (Some(release), None) => release.clone(),
            _ => self.source.clone(),
        }
    }

    /// A capture tells its release in `proc/version` or, as `uname -a`, in
    /// `truth/uname`.
    fn captured(root: &Path) -> Self {
        let words = |file: &str| -> Option<Vec<String>> {
            /// In bytes; the kernel writes some 200.
            const LIMIT: u64 = 4096;
            let path = root.join(file);
            // No device, no link out of the capture.
            if !fs::symlink_metadata(&path).ok()?.is_file() {
                return None;
            }
            let mut text = String::new();
            let mut file = fs::File::open(path).ok()?.take(LIMIT);
            file.read_to_string(&mut text).ok()?;
            Some(text.split_whitespace().map(str::to_owned).collect())
        };
        let uname = words("truth/uname").unwrap_or_default();
        let version = words("proc/version").unwrap_or_default();
        // `… x86_64 GNU/Linux`.
        let architecture = uname.len().checked_sub(2).map(|at| uname[at].clone());
        Self {
            release: version.get(2).or(uname.get(2)).cloned(),
            architecture,
            source: root.display().to_string(),
        }
    }

    /// An image tells its release in the text of `/proc/version`.
    fn of_image(root: &Path, kernel: &Kernel) -> Self {
        let mut files = kernel.image_files();
        let version = files.find(|(path, _)| *path == "proc/version");
        let version = version.map(|(_, text)| String::from_utf8_lossy(text));
        let release = version
            .as_deref()
            .and_then(|text| text.split_whitespace().nth(2));
        Self {
            release: release.map(str::to_owned),
            architecture: None,
            source: root.display().to_string(),
        }
    }

    fn demo(dir: &Path) -> Self {
        Self {
            source: "demo".to_owned(),
            ..Self::captured(dir)
        }
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
