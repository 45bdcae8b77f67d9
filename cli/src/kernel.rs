//! The choice of a kernel: the running one, a captured one, or the one that comes with
//! this command.

use std::path::{Path, PathBuf};

use clap::Args;
use flate2::read::DeflateDecoder;
use serde::Serialize;
use tempfile::TempDir;
use tracepoints::image::ImageError;
use tracepoints::kernel::{BtfKernel, read_captured};
use tracepoints::record::recording::RecordedKernel;
use tracepoints::{Error, FileError, Kernel};

use crate::output::{Failure, say_first, with_causes};

/// Packed by build.rs.
const DEMO: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/demo.tar.deflate"));

/// Which kernel to look at.
#[derive(Args)]
pub(crate) struct KernelChoice {
    /// Use a captured kernel, laid out like /sys/kernel, or an archive of one (.tar, .tar.zst,
    /// .tar.gz), or a recording (trace.dat, perf.data), instead of the running one; or one
    /// never booted: a package (.deb, .rpm), an unpacked one, vmlinuz, vmlinux
    #[arg(long, short, value_name = "PATH")]
    pub(crate) root: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) modules: ModuleChoice,
    /// Use the captured kernel that comes with the command: no root, no tracefs
    #[arg(long, conflicts_with = "root")]
    pub(crate) demo: bool,
}

/// Modules that are read with a kernel's image.
#[derive(Args, Clone)]
pub(crate) struct ModuleChoice {
    /// With a --root that was never booted: also this module, which is not in it (.ko, .ko.xz,
    /// .ko.zst, .ko.gz)
    #[arg(long, value_name = "FILE")]
    module: Vec<PathBuf>,
}

impl ModuleChoice {
    /// Opens a kernel with these modules.
    pub(crate) fn open(&self, root: &Path) -> Result<Kernel, Failure> {
        Kernel::at_with_modules(root, &self.module).map_err(|error| match &error {
            Error::Image {
                path,
                source: ImageError::ModuleAlone { .. },
            } => Failure::Other(format!(
                "{}\n  give both: --root VMLINUZ --module {}",
                with_causes(&error),
                path.display()
            )),
            _ => error.into(),
        })
    }

    /// Returns an error if there are modules and no image is named.
    pub(crate) fn need_root(&self) -> Result<(), Failure> {
        match self.module.is_empty() {
            true => Ok(()),
            false => Err(Failure::Other(
                "--module is for a kernel that was never booted: name its image by --root or --image; \
                 the running kernel has the modules it has loaded"
                    .to_owned(),
            )),
        }
    }
}

/// Which kernel to look at, or which kernels to write one source for.
#[derive(Args)]
pub(crate) struct KernelChoices {
    /// Use a captured kernel, laid out like /sys/kernel, instead of the running one; with
    /// --emit core, several are served by one source
    #[arg(long, short, value_name = "DIR")]
    pub(crate) root: Vec<PathBuf>,
    #[command(flatten)]
    modules: ModuleChoice,
    /// Use the captured kernel that comes with the command: no root, no tracefs
    #[arg(long, conflicts_with = "root")]
    pub(crate) demo: bool,
}

impl KernelChoices {
    /// Returns the only one.
    pub(crate) fn only(&self) -> Result<KernelChoice, Failure> {
        if self.root.len() > 1 {
            return Err(Failure::Other(
                "several --root are for --emit core: one source for all of them".to_owned(),
            ));
        }
        Ok(KernelChoice {
            root: self.root.first().cloned(),
            modules: self.modules.clone(),
            demo: self.demo,
        })
    }

    /// Opens all, each with its name in sources.
    pub(crate) fn all(&self) -> Result<Vec<(String, Kernel)>, Failure> {
        let open = |root: &PathBuf| {
            let kernel = self.modules.open(root)?;
            Ok((Identity::of(root, &kernel).label(), kernel))
        };
        self.root.iter().map(open).collect()
    }
}

impl KernelChoice {
    /// Opens it, and prepares it further.
    pub(crate) fn open(&self, prepare: impl FnOnce(Kernel) -> Kernel) -> Result<Chosen, Failure> {
        if self.root.is_none() {
            self.modules.need_root()?;
        }
        let dir = if self.demo {
            Some(unpack_demo()?)
        } else {
            None
        };
        let (kernel, identity) = match (&dir, &self.root) {
            (Some(dir), _) => (Kernel::at(dir.path())?, Identity::demo(dir.path())),
            (None, Some(root)) => {
                let kernel = self.modules.open(root)?;
                let identity = Identity::of(root, &kernel);
                say_unreadable(&kernel);
                if kernel.btf_alone().is_some() {
                    // That BTF does not tell events is not what is wrong with a cut one.
                    kernel.btf_objects()?;
                }
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

    /// Opens it, or its BTF, where that is enough and nothing else is known of the kernel.
    pub(crate) fn open_or_btf(&self, is_btf_enough: bool) -> Result<Opened, Failure> {
        if !is_btf_enough {
            return Ok(Opened::Whole(self.open(|kernel| kernel)?));
        }
        if let Some(kernel) = self.live_btf_alone() {
            return Ok(Opened::Btf(kernel, Identity::live()));
        }
        let chosen = self.open(|kernel| kernel)?;
        Ok(match chosen.kernel.btf_alone() {
            Some(kernel) => Opened::Btf(kernel, chosen.identity),
            None => Opened::Whole(chosen),
        })
    }

    /// Returns the running kernel's BTF, if the user can read nothing else of the
    /// chosen kernel.
    fn live_btf_alone(&self) -> Option<BtfKernel> {
        if self.demo || self.root.is_some() {
            return None;
        }
        let error = Kernel::live().err()?;
        is_out_of_reach(&error).then(BtfKernel::live)
    }
}

/// Reports which parts of an image cannot be read.
pub(crate) fn say_unreadable(kernel: &Kernel) {
    say_first(kernel.unreadable(), str::to_owned, |more| {
        format!("and {more} more that cannot be read")
    });
}

pub(crate) fn is_out_of_reach(error: &Error) -> bool {
    matches!(
        error,
        Error::NotMounted
            | Error::File {
                source: FileError::PermissionDenied,
                ..
            }
    )
}

/// Converts the error of a running kernel that cannot be read, with a hint what to do.
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

/// An open kernel, or its BTF.
pub(crate) enum Opened {
    Whole(Chosen),
    Btf(BtfKernel, Identity),
}

/// An open kernel.
pub(crate) struct Chosen {
    /// Never dropped: the end of the process frees it faster.
    pub(crate) kernel: &'static Kernel,
    pub(crate) identity: Identity,
    /// The directory of the unpacked demo kernel, removed on drop.
    dir: Option<TempDir>,
}

impl Chosen {
    /// Returns the demo kernel's pages of the ring buffer.
    pub(crate) fn demo_pages(&self) -> Vec<String> {
        let dirs = self.dir.iter().map(TempDir::path);
        dirs.flat_map(|dir| ["cpu0.raw", "cpu1.raw"].map(|name| dir.join("ring").join(name)))
            .map(|path| path.display().to_string())
            .collect()
    }
}

/// The file with what `uname -m` prints (Linux 6.1 and later).
const ARCHITECTURE: &str = "proc/sys/kernel/arch";

/// The kernel that a row of JSON is about.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Identity {
    /// The release, as from `uname -r`; `None` for a captured kernel without one.
    release: Option<String>,
    /// The machine, as from `uname -m`.
    architecture: Option<String>,
    /// `live`, `demo`, the directory of a captured kernel, or a recording.
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

    /// Returns release and machine as far as they are known, otherwise the kernel's
    /// place.
    pub(crate) fn label(&self) -> String {
        match (&self.release, &self.architecture) {
            (Some(release), Some(architecture)) => format!("{release} {architecture}"),
            (Some(release), None) => release.clone(),
            _ => self.source.clone(),
        }
    }

    /// The release, as far as it is known.
    pub(crate) fn release(&self) -> Option<&str> {
        self.release.as_deref()
    }

    /// The machine, as from `uname -m`, as far as it is known.
    pub(crate) fn architecture(&self) -> Option<&str> {
        self.architecture.as_deref()
    }

    /// The identity of a kernel that is not the running one.
    pub(crate) fn of(root: &Path, kernel: &Kernel) -> Self {
        match root.is_dir() && !kernel.is_image() {
            true => Self::captured(root),
            false => Self::in_memory(root, kernel),
        }
    }

    /// Returns the release and machine of a capture, from `proc/version` and
    /// `proc/sys/kernel/arch` or, in the format of `uname -a`, from `truth/uname`.
    fn captured(root: &Path) -> Self {
        let words = |file: &str| -> Option<Vec<String>> {
            /// The most bytes that are read; the kernel writes some 200.
            const LIMIT: u64 = 4096;
            let text = read_captured(root, file, LIMIT).ok()??;
            let text = String::from_utf8_lossy(&text);
            Some(text.split_whitespace().map(str::to_owned).collect())
        };
        let uname = words("truth/uname").unwrap_or_default();
        let version = words("proc/version").unwrap_or_default();
        // `… x86_64 GNU/Linux`.
        let architecture = uname.len().checked_sub(2).map(|at| uname[at].clone());
        let own = words(ARCHITECTURE).and_then(|words| words.first().cloned());
        Self {
            release: version.get(2).or(uname.get(2)).cloned(),
            architecture: own.or(architecture),
            source: root.display().to_string(),
        }
    }

    /// Returns those of an image or an archive, from the same files.
    fn in_memory(root: &Path, kernel: &Kernel) -> Self {
        let word = |path: &str, index: usize| {
            let (_, text) = kernel.image_files().find(|(known, _)| *known == path)?;
            let text = String::from_utf8_lossy(text);
            text.split_whitespace().nth(index).map(str::to_owned)
        };
        Self {
            release: word("proc/version", 2),
            architecture: word(ARCHITECTURE, 0),
            source: root.display().to_string(),
        }
    }

    /// A recording tells both.
    pub(crate) fn recorded(path: &str, kernel: &RecordedKernel) -> Self {
        Self {
            release: kernel.release().map(str::to_owned),
            architecture: kernel.architecture().map(str::to_owned),
            source: path.to_owned(),
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
