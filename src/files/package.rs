//! The files of a kernel that is not running: a package (Debian's or RPM's), unpacked or not,
//! or one file.
//!
//! A package has the kernel's image in `boot/` or beside its modules, and modules in
//! `lib/modules/<release>/`. Packages are untrusted input: links are not followed, and
//! every read has a limit.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::thread;

use walkdir::WalkDir;

use super::archive::{self, AR_MAGIC, ArchiveVisitor, FILE_LIMIT, MAX_FILES, RPM_MAGIC};
use super::dir::{Dir, is_missing, too_large};
use crate::error::{Error, FileError, with_causes};
use crate::image::{ImageError, ModuleImage};

/// The greatest depth below `lib/modules` at which modules are searched.
const MAX_DEPTH: usize = 24;

/// A kernel's image and its modules.
#[derive(Debug, Default)]
pub(crate) struct Package {
    /// Each image, with the path at which it was found. There is one, unless the package
    /// has several kernels.
    kernels: Vec<(PathBuf, Vec<u8>)>,
    /// Sorted by their paths.
    pub(crate) modules: Vec<ModuleFile>,
    /// The errors of files that cannot be read, one text for each.
    pub(crate) unreadable: Vec<String>,
}

/// A module's file.
#[derive(Debug)]
pub(crate) struct ModuleFile {
    pub(crate) path: PathBuf,
    pub(crate) image: ModuleImage,
}

impl ModuleFile {
    /// Reads a module's file that the caller names.
    ///
    /// # Errors
    ///
    /// [`Error::File`] and [`Error::Image`].
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let bytes = read_rest(path, open_file(path)?, Vec::new())?;
        let image = ModuleImage::parse(bytes).map_err(|source| Error::Image {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            image,
        })
    }

    /// Returns the module's name: the name it states or else its file's name, as
    /// `modprobe` spells it.
    pub(crate) fn name(&self) -> String {
        if let Some(name) = self.image.name() {
            return name.to_owned();
        }
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let stem = file.split('.').next().unwrap_or_default();
        stem.replace('-', "_")
    }
}

/// The role of a file in a package, by its path below the package's root.
enum PackagePart {
    Kernel,
    Module,
}

impl PackagePart {
    fn of(path: &Path) -> Option<Self> {
        let parts: Vec<&str> = path
            .iter()
            .map(|part| part.to_str())
            .collect::<Option<_>>()?;
        let below_usr = match parts.as_slice() {
            ["usr", rest @ ..] => rest,
            parts => parts,
        };
        let is_image = |name: &str| {
            // Programs that use BPF have the kernel's types beside them.
            let is_source = name.ends_with(".h") || name.ends_with(".rs");
            let mut known = ["vmlinuz", "vmlinux", "Image", "kernel"].iter();
            let is_known = known.any(|known| {
                name.strip_prefix(known)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
            });
            is_known && !is_source
        };
        match below_usr {
            ["boot", name] if is_image(name) => Some(Self::Kernel),
            [name] if is_image(name) => Some(Self::Kernel),
            ["lib", "modules", _, name] if is_image(name) => Some(Self::Kernel),
            ["lib", "modules", _, .., name] if is_module(name) => Some(Self::Module),
            _ => None,
        }
    }
}

/// Whether a file's name is that of a module.
fn is_module(name: &str) -> bool {
    let name = [".xz", ".zst", ".gz"]
        .iter()
        .find_map(|end| name.strip_suffix(end))
        .unwrap_or(name);
    name.ends_with(".ko")
}

impl Package {
    /// Reads a package, an unpacked package, a kernel's image, or a module that lies where
    /// packages have modules. `None` if there is neither a kernel nor a module in it.
    ///
    /// # Errors
    ///
    /// [`Error::File`] and [`Error::Image`]. A module of a package that cannot be read is
    /// not an error of the package: it is reported in `unreadable`.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, Error> {
        let metadata = path.metadata().map_err(|error| Error::file(path, error))?;
        let package = match metadata.is_dir() {
            true => Self::of_directory(path)?,
            false => Self::of_file(path)?,
        };
        Ok(Some(package).filter(|package| !package.is_empty()))
    }

    fn is_empty(&self) -> bool {
        self.kernels.is_empty() && self.modules.is_empty()
    }

    /// Removes and returns the kernel's image, with its path.
    ///
    /// # Errors
    ///
    /// [`ImageError::NoKernel`] and [`ImageError::SeveralKernels`].
    pub(crate) fn take_kernel(&mut self, root: &Path) -> Result<(PathBuf, Vec<u8>), Error> {
        let failed = |source| Error::Image {
            path: root.to_owned(),
            source,
        };
        match self.kernels.len() {
            0 => Err(failed(ImageError::NoKernel)),
            1 => Ok(self.kernels.remove(0)),
            _ => Err(failed(ImageError::SeveralKernels {
                files: self
                    .kernels
                    .iter()
                    .map(|(path, _)| path.to_string_lossy().escape_debug().to_string())
                    .collect(),
            })),
        }
    }

    fn of_file(path: &Path) -> Result<Self, Error> {
        let Some(name) = path.file_name() else {
            return Err(Error::file(path, FileError::NotAFile));
        };
        if name.to_str().is_some_and(is_module) {
            return Self::of_module(path);
        }
        // A link that the user named is followed: in Debian `/vmlinuz` is one.
        let mut file = open_file(path)?;
        let mut start = [0; 8];
        let length = archive::read_start(&mut file, &mut start);
        let length = length.map_err(|error| Error::file(path, error))?;
        let start = &start[..length];
        if start == AR_MAGIC {
            return Self::of_deb(path, file);
        }
        if start.starts_with(RPM_MAGIC) {
            return Self::of_rpm(path, file);
        }
        let bytes = read_rest(path, file, start.to_vec())?;
        Ok(Self {
            kernels: vec![(path.to_owned(), bytes)],
            ..Self::default()
        })
    }

    /// Reads a module, and the kernel of the package that contains it.
    fn of_module(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Image {
            path: path.to_owned(),
            source,
        };
        // `ROOT/lib/modules/RELEASE/…`
        let mut ancestors = path.ancestors();
        let release = ancestors.find(|ancestor| {
            let mut above = ancestor.iter().rev().skip(1);
            above.next().is_some_and(|part| part == "modules")
                && above.next().is_some_and(|part| part == "lib")
        });
        let root = release.and_then(|release| release.ancestors().nth(3));
        let (Some(root), Some(release)) = (root, release) else {
            let module = ModuleFile::open(path)?;
            return Err(failed(module.image.alone()));
        };
        let root = match root.as_os_str().is_empty() {
            true => Path::new("."),
            false => root,
        };
        let below = match root.ends_with("usr") {
            true => root.parent().unwrap_or(root),
            false => root,
        };
        let mut package = Self::default();
        package.add_kernels(below, release.file_name().and_then(|name| name.to_str()))?;
        let inside = path.strip_prefix(root).unwrap_or(path).to_owned();
        let image = read_module(&Dir::captured(root), &inside)?;
        if package.kernels.is_empty() {
            return Err(failed(image.alone()));
        }
        package.modules.push(ModuleFile {
            path: inside,
            image,
        });
        Ok(package)
    }

    /// Adds the kernel images of an unpacked package: all of them, or those of `release`.
    fn add_kernels(&mut self, root: &Path, release: Option<&str>) -> Result<(), Error> {
        let dir = Dir::captured(root);
        let places = ["", "boot", "usr/lib/modules", "lib/modules"];
        for place in places {
            let walk = WalkDir::new(root.join(place))
                .min_depth(1)
                .max_depth(if place.ends_with("modules") { 2 } else { 1 })
                .sort_by_file_name();
            for entry in walk {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) if error.io_error().is_some_and(is_missing) => continue,
                    Err(error) => return Err(walk_error(root, error)),
                };
                let Ok(inside) = entry.path().strip_prefix(root) else {
                    continue;
                };
                let is_kernel = matches!(PackagePart::of(inside), Some(PackagePart::Kernel));
                if !is_kernel || !entry.file_type().is_file() {
                    continue;
                }
                let name = inside.to_string_lossy();
                if release.is_some_and(|release| !name.contains(release)) {
                    continue;
                }
                if let Some(bytes) = dir.bytes(&name, FILE_LIMIT)? {
                    // Some packages have the image twice.
                    let is_new = self.kernels.iter().all(|(_, known)| *known != bytes);
                    if is_new {
                        self.kernels.push((inside.to_owned(), bytes));
                    }
                }
            }
        }
        Ok(())
    }

    fn of_directory(root: &Path) -> Result<Self, Error> {
        let mut package = Self::default();
        package.add_kernels(root, None)?;
        let mut files = Vec::new();
        for place in ["usr/lib/modules", "lib/modules"] {
            let walk = WalkDir::new(root.join(place))
                .max_depth(MAX_DEPTH)
                .sort_by_file_name();
            for entry in walk.into_iter().take(MAX_FILES) {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) if error.io_error().is_some_and(is_missing) => continue,
                    Err(error) => return Err(walk_error(root, error)),
                };
                let Ok(inside) = entry.path().strip_prefix(root) else {
                    continue;
                };
                let is_module = matches!(PackagePart::of(inside), Some(PackagePart::Module));
                if is_module && entry.file_type().is_file() {
                    files.push(inside.to_owned());
                }
            }
        }
        if !package.kernels.is_empty() {
            package.add_modules(&Dir::captured(root), files);
        }
        Ok(package)
    }

    /// Reads modules in two threads: most of the time is spent decompressing them.
    fn add_modules(&mut self, dir: &Dir, mut files: Vec<PathBuf>) {
        files.reverse();
        let waiting = Mutex::new(files);
        let next = || {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.pop()
        };
        let work = || {
            let mut read = Self::default();
            while let Some(path) = next() {
                let image = read_module(dir, &path);
                read.add_module(path, image);
            }
            read
        };
        let (own, other) = thread::scope(|scope| {
            let helper = thread::Builder::new().spawn_scoped(scope, work);
            let own = work();
            // If the system cannot start a thread, this one has done all the work.
            let other = helper.ok().map(|helper| match helper.join() {
                Ok(other) => other,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            (own, other)
        });
        for part in [Some(own), other].into_iter().flatten() {
            self.modules.extend(part.modules);
            self.unreadable.extend(part.unreadable);
        }
        self.sort();
    }

    fn sort(&mut self) {
        self.modules.sort_by(|a, b| a.path.cmp(&b.path));
        self.unreadable.sort();
    }

    fn add_module(&mut self, path: PathBuf, image: Result<ModuleImage, Error>) {
        match image {
            Ok(image) => self.modules.push(ModuleFile { path, image }),
            Err(error) => self.unreadable.push(with_causes(&error)),
        }
    }

    /// Reads a Debian package: an ar archive with the files in `data.tar.*`.
    fn of_deb(path: &Path, mut file: File) -> Result<Self, Error> {
        let data = archive::find_deb_data(&mut file).map_err(|error| Error::file(path, error))?;
        let length = data.ok_or_else(|| Error::Image {
            path: path.to_owned(),
            source: ImageError::NoKernel,
        })?;
        let reader = archive::decompressed(path, file.take(length))?;
        Self::of_archive(path, |files| archive::tar_files(path, reader, files))
    }

    /// Reads an RPM package: a cpio archive behind headers.
    fn of_rpm(path: &Path, mut file: File) -> Result<Self, Error> {
        archive::find_rpm_payload(&mut file).map_err(|error| Error::file(path, error))?;
        let reader = archive::decompressed(path, file)?;
        Self::of_archive(path, |files| archive::cpio_files(path, reader, files))
    }

    /// Reads the files of an archive, while another thread parses the modules.
    fn of_archive(
        path: &Path,
        visit: impl FnOnce(&mut PackageFiles) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        /// The most modules that wait to be parsed.
        const WAITING: usize = 8;
        let (sender, receiver) = mpsc::sync_channel::<(PathBuf, Vec<u8>)>(WAITING);
        let read = |(inside, bytes): (PathBuf, Vec<u8>), package: &mut Self| {
            let image = ModuleImage::parse(bytes).map_err(|source| Error::Image {
                path: path.join(&inside),
                source,
            });
            package.add_module(inside, image);
        };
        thread::scope(|scope| {
            let work = move || {
                let mut package = Self::default();
                for file in receiver {
                    read(file, &mut package);
                }
                package
            };
            let helper = thread::Builder::new().spawn_scoped(scope, work);
            let helper = helper.map_err(|error| Error::file(path, error))?;
            let mut files = PackageFiles {
                kernels: Vec::new(),
                modules: sender,
            };
            let visited = visit(&mut files);
            let kernels = files.kernels;
            drop(files.modules);
            let mut package = match helper.join() {
                Ok(package) => package,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            visited?;
            package.kernels = kernels;
            package.sort();
            Ok(package)
        })
    }
}

/// Sorts the files of an archive into kernels and modules.
struct PackageFiles {
    kernels: Vec<(PathBuf, Vec<u8>)>,
    modules: mpsc::SyncSender<(PathBuf, Vec<u8>)>,
}

impl ArchiveVisitor for PackageFiles {
    fn wants(&mut self, path: &Path, _: u64) -> Result<bool, Error> {
        Ok(PackagePart::of(path).is_some())
    }

    fn take(&mut self, path: PathBuf, bytes: Vec<u8>) {
        match PackagePart::of(&path) {
            // Some packages have the image twice.
            Some(PackagePart::Kernel) if self.kernels.iter().any(|(_, known)| *known == bytes) => {}
            Some(PackagePart::Kernel) => self.kernels.push((path, bytes)),
            // Sending fails only if the other thread has panicked, which `join` reports.
            Some(PackagePart::Module) => drop(self.modules.send((path, bytes))),
            None => {}
        }
    }
}

fn read_module(dir: &Dir, inside: &Path) -> Result<ModuleImage, Error> {
    let path = || dir.path().join(inside);
    let bytes = dir.bytes(&inside.to_string_lossy(), FILE_LIMIT)?;
    ModuleImage::parse(bytes.unwrap_or_default()).map_err(|source| Error::Image {
        path: path(),
        source,
    })
}

/// Returns `start` and the rest of a file.
fn read_rest(path: &Path, file: File, start: Vec<u8>) -> Result<Vec<u8>, Error> {
    let mut bytes = start;
    let rest = FILE_LIMIT + 1 - bytes.len() as u64;
    let read = file.take(rest).read_to_end(&mut bytes);
    read.map_err(|error| Error::file(path, error))?;
    match bytes.len() as u64 > FILE_LIMIT {
        true => Err(too_large(path.to_owned(), FILE_LIMIT)),
        false => Ok(bytes),
    }
}

/// Opens a regular file; anything else is an error, so that no pipe is waited for.
fn open_file(path: &Path) -> Result<File, Error> {
    let metadata = path.metadata().map_err(|error| Error::file(path, error))?;
    if !metadata.is_file() {
        return Err(Error::file(path, FileError::NotAFile));
    }
    File::open(path).map_err(|error| Error::file(path, error))
}

fn walk_error(root: &Path, error: walkdir::Error) -> Error {
    let path = error.path().unwrap_or(root).to_owned();
    match error.into_io_error() {
        Some(source) => Error::file(path, source),
        None => Error::file(path, FileError::Link),
    }
}
