//! Kernels that are read from their images, without booting them, and from archives.

#[cfg(all(feature = "probe", target_os = "linux"))]
use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Kernel;
use crate::btf::Btf;
use crate::context::{CapturedFrom, ClassLine};
use crate::error::{Error, with_causes};
use crate::files::{Dir, FileTree, ModuleFile, Package, Tracefs, captured_archive, captured_files};
use crate::image::{ImageError, ImageEvents, KernelImage, ModuleContext, ModuleImage};
#[cfg(all(feature = "probe", target_os = "linux"))]
use crate::image::{ImageTracepoint, ModuleSites};
use crate::name::EventName;

/// A module that is to be read with its kernel.
struct KernelModule {
    name: String,
    image: ModuleImage,
    /// The file that the caller named: if it cannot be read, nothing is.
    named: Option<PathBuf>,
}

/// The files of a root, and what is left out of it.
#[derive(Debug, Default)]
struct Root {
    tree: FileTree,
    listed: Vec<EventName>,
    classes: String,
    events: HashSet<EventName>,
    unreadable: Vec<String>,
    /// The tracepoints of modules, and the modules' sites of others' tracepoints.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    sites: Vec<ModuleSites>,
}

impl Kernel {
    /// Reads a kernel from its image and its modules, without booting it: see
    /// [`image`](crate::image).
    ///
    /// The image is a bzImage, an arm64 or riscv `Image`, an EFI zboot image, an ELF file
    /// or a BTF object, compressed or not. Modules are `.ko` files, compressed or not; the
    /// reason why one cannot be read is among [`unreadable`](Self::unreadable).
    ///
    /// # Errors
    ///
    /// [`Error::Image`] if the image cannot be read.
    pub fn from_image(
        image: impl Into<Vec<u8>>,
        modules: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<Self, Error> {
        let path = Path::new("image");
        let mut unreadable = Vec::new();
        let mut named = Vec::new();
        for (index, bytes) in modules.into_iter().enumerate() {
            let image = ModuleImage::parse(bytes);
            match image.map(|image| (image.name().map(str::to_owned), image)) {
                Ok((Some(name), image)) => named.push(KernelModule {
                    name,
                    image,
                    named: None,
                }),
                Ok((None, _)) => unreadable.push(format!("module {index}: it has no name")),
                Err(error) => unreadable.push(format!("module {index}: {}", with_causes(&error))),
            }
        }
        Self::of_image(path, path, image.into(), named, unreadable)
    }

    /// Like [`at`](Self::at), with the files of modules that are not in the package, such as
    /// those built apart from the kernel: `.ko`, compressed or not. `root` is a kernel's image,
    /// a package or an unpacked package. A module that the package has, too, is taken from the
    /// file given.
    ///
    /// ```no_run
    /// use tracepoints::Kernel;
    ///
    /// let kernel = Kernel::at_with_modules("/boot/vmlinuz-6.12.34", ["build/drum.ko"])?;
    /// let beat = kernel.tracepoint("modular:drum_beat")?.context()?;
    /// # Ok::<(), tracepoints::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`at`](Self::at); [`Error::Image`] about a module's file, with
    /// [`ImageError::OtherKernel`] if it states that it was built for another release, and
    /// about `root`, with [`ImageError::NoImageForModules`], if that is not an image.
    pub fn at_with_modules(
        root: impl AsRef<Path>,
        modules: impl IntoIterator<Item = impl AsRef<Path>>,
    ) -> Result<Self, Error> {
        let root = root.as_ref();
        let mut files = Vec::new();
        for path in modules {
            files.push(ModuleFile::open(path.as_ref())?);
        }
        if files.is_empty() {
            return Self::at(root);
        }
        let no_image = || Error::Image {
            path: root.to_owned(),
            source: ImageError::NoImageForModules,
        };
        let is_captured = match Tracefs::at(root) {
            Ok(_) => true,
            Err(Error::NotAKernel { .. }) => captured_archive(root)?.is_some(),
            Err(error) => return Err(error),
        };
        match is_captured {
            true => Err(no_image()),
            false => Self::of_package(root, files)?.ok_or_else(no_image),
        }
    }

    /// Opens a kernel's image, a package or an unpacked package, with modules beside those of
    /// the package; `None` for a directory that is not an unpacked package.
    pub(super) fn of_package(root: &Path, named: Vec<ModuleFile>) -> Result<Option<Self>, Error> {
        let Some(mut package) = Package::open(root)? else {
            return Ok(None);
        };
        let (path, image) = package.take_kernel(root)?;
        let read = |module: ModuleFile, is_named: bool| KernelModule {
            name: module.name(),
            image: module.image,
            named: is_named.then_some(module.path),
        };
        let named: Vec<KernelModule> = named.into_iter().map(|file| read(file, true)).collect();
        let modules = package.modules.into_iter().map(|file| read(file, false));
        let is_other = |module: &KernelModule| named.iter().all(|one| one.name != module.name);
        let mut modules: Vec<KernelModule> = modules.filter(is_other).collect();
        modules.extend(named);
        let path = match path == root {
            true => path,
            false => root.join(path),
        };
        Self::of_image(root, &path, image, modules, package.unreadable).map(Some)
    }

    /// Opens an archive of a captured kernel; `None` if the file is not such an archive.
    pub(super) fn of_archive(root: &Path) -> Result<Option<Self>, Error> {
        let files = captured_archive(root)?;
        Ok(files.map(|files| Self::in_memory(root, files)))
    }

    /// Reads an archive of a captured kernel: `.tar`, alone or compressed, with the files that
    /// [`at`](Self::at) reads, in it or in one directory.
    ///
    /// # Errors
    ///
    /// [`Error::NotAKernel`] if it has no events or is not an archive, [`Error::File`] if it
    /// is cut off or too large, [`Error::Image`] if it has several kernels.
    pub fn from_archive(archive: &[u8]) -> Result<Self, Error> {
        let path = Path::new("archive");
        match captured_files(path, archive)? {
            Some(files) => Ok(Self::in_memory(path, files)),
            None => Err(Error::NotAKernel {
                root: path.to_owned(),
            }),
        }
    }

    fn in_memory(root: &Path, files: FileTree) -> Self {
        let dir = Dir::in_memory(root, Arc::new(files));
        Self::new(Tracefs::in_memory(&dir), dir)
    }

    fn of_image(
        root: &Path,
        path: &Path,
        image: Vec<u8>,
        modules: Vec<KernelModule>,
        unreadable: Vec<String>,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Image {
            path: path.to_owned(),
            source,
        };
        let image = KernelImage::parse(image).map_err(failed)?;
        let mut files = Root {
            unreadable,
            ..Root::default()
        };
        files.add_kernel(&image).map_err(failed)?;
        files.add_modules(path, &image, modules)?;
        let unreadable = std::mem::take(&mut files.unreadable);
        #[cfg(all(feature = "probe", target_os = "linux"))]
        let sites = std::mem::take(&mut files.sites);
        let mut kernel = Self::in_memory(root, files.finish(&image));
        if let Some(inner) = Arc::get_mut(&mut kernel.inner) {
            inner.is_image = true;
            inner.unreadable = unreadable;
            #[cfg(all(feature = "probe", target_os = "linux"))]
            match image.tracepoints() {
                Ok(tracepoints) => {
                    inner.tracepoints =
                        tracepoints.map(|known| with_modules(known, sites, &mut inner.unreadable));
                }
                Err(error) => {
                    let reason = with_causes(&error);
                    inner.unreadable.push(format!("its patch sites: {reason}"));
                }
            }
        }
        Ok(kernel)
    }

    /// Whether the kernel was read from its image and never booted. Its events then have no
    /// ids.
    pub fn is_image(&self) -> bool {
        self.inner.is_image
    }

    /// Returns the files that a capture of this [image](Self::is_image) has, by their paths
    /// below its root, sorted: `btf/vmlinux`, `tracing/events/sched/sched_switch/format`
    /// and so on, and `tracing/classes` with the classes. For an archive or a recording,
    /// returns the files that were read of it; for other kernels, none.
    ///
    /// Written to a directory, the files are a kernel for [`at`](Self::at).
    pub fn image_files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let tree = self.inner.proc.tree();
        let files = tree.map(|tree| tree.below(""));
        files.into_iter().flatten()
    }

    /// Returns the tracepoints of an image, where their sites are known.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(crate) fn image_tracepoints(&self) -> Option<&[ImageTracepoint]> {
        self.inner.tracepoints.as_deref()
    }

    /// Returns why modules and events of an [image](Self::is_image) cannot be read, one
    /// text each; empty for other kernels.
    pub fn unreadable(&self) -> &[String] {
        &self.inner.unreadable
    }
}

impl Root {
    fn add_kernel(&mut self, image: &KernelImage) -> Result<(), ImageError> {
        self.tree
            .add("btf/vmlinux".to_owned(), image.btf().to_vec());
        if let Some(version) = image.version() {
            self.tree.add("proc/version".to_owned(), version.into());
        }
        if let Some(machine) = image.machine_name() {
            let line = format!("{machine}\n");
            self.tree
                .add("proc/sys/kernel/arch".to_owned(), line.into_bytes());
        }
        self.add_events("vmlinux", image.events()?);
        Ok(())
    }

    fn add_modules(
        &mut self,
        path: &Path,
        image: &KernelImage,
        modules: Vec<KernelModule>,
    ) -> Result<(), Error> {
        let version = self.tree.file("proc/version").map(String::from_utf8_lossy);
        let release = version.as_deref().and_then(|version| {
            let mut words = version.split_whitespace();
            words.nth(2)
        });
        let Some(context) = image.module_context(release) else {
            return match modules.iter().all(|module| module.named.is_none()) {
                true => Ok(()),
                false => Err(Error::Image {
                    path: path.to_owned(),
                    source: ImageError::NoImageForModules,
                }),
            };
        };
        let mut vmlinux = None;
        for module in modules {
            let typed = self.add_module_btf(image, &context, &mut vmlinux, &module);
            // Without its types, its events are still known.
            let linked = match typed {
                Ok(()) | Err(ImageError::Btf(_)) => self.add_linked(&module, &context),
                Err(_) => Ok(()),
            };
            for error in [typed, linked].into_iter().filter_map(Result::err) {
                if let Some(path) = module.named {
                    return Err(Error::Image {
                        path,
                        source: error,
                    });
                }
                let reason = with_causes(&error);
                self.unreadable.push(format!("{}: {reason}", module.name));
            }
        }
        Ok(())
    }

    /// Adds a module's BTF. `vmlinux` is that of the kernel, which is parsed for the first
    /// module that was built apart from it.
    fn add_module_btf(
        &mut self,
        image: &KernelImage,
        context: &ModuleContext,
        vmlinux: &mut Option<Btf>,
        module: &KernelModule,
    ) -> Result<(), ImageError> {
        module.image.check(context)?;
        let name = &module.name;
        let path = format!("btf/{name}");
        let btf = match module.image.btf() {
            None => return Ok(()),
            Some((btf, None)) => btf.to_vec(),
            Some((btf, Some(base))) => {
                let known = match vmlinux.take() {
                    Some(known) => known,
                    None => Btf::vmlinux(image.btf())?,
                };
                let relocated = Btf::module_with_base(name, btf, base, &known);
                *vmlinux = Some(known);
                relocated?.object().section().bytes().to_vec()
            }
        };
        match self.tree.add(path, btf) {
            true => Ok(()),
            false => Err(ImageError::TwoModules),
        }
    }

    /// Adds a module's events and sites.
    fn add_linked(
        &mut self,
        module: &KernelModule,
        context: &ModuleContext,
    ) -> Result<(), ImageError> {
        let name = &module.name;
        let Some(linked) = module.image.link()? else {
            return Ok(());
        };
        self.add_events(name, linked.events(context)?);
        #[cfg(all(feature = "probe", target_os = "linux"))]
        self.sites.extend(linked.sites(name, context)?);
        Ok(())
    }

    fn add_events(&mut self, object: &str, events: ImageEvents) {
        let unreadable = events.unreadable.into_iter();
        self.unreadable
            .extend(unreadable.map(|reason| format!("{object}: {reason}")));
        for event in events.events {
            let name = event.name;
            let path = format!("tracing/events/{}/{}/format", name.category(), name.event());
            if !self.events.insert(name.clone()) {
                let other = self.tree.file(&path) != Some(event.format.as_bytes());
                if other {
                    self.unreadable.push(format!(
                        "{object}: {name}: another object has an event of this name"
                    ));
                }
                continue;
            }
            self.tree.add(path, event.format.into_bytes());
            if let Some(class) = event.class {
                let line = ClassLine {
                    event: name.clone(),
                    id: None,
                    class,
                    from: CapturedFrom::Image,
                };
                // Writing to a `String` is infallible.
                let _ = writeln!(self.classes, "{line}");
            }
            if event.is_listed {
                self.listed.push(name);
            }
        }
    }

    fn finish(mut self, image: &KernelImage) -> FileTree {
        // Its events are not known, which is not the same as none.
        if image.is_btf_alone() {
            return self.tree;
        }
        let listed: String = self.listed.iter().map(|name| format!("{name}\n")).collect();
        self.tree
            .add("tracing/available_events".to_owned(), listed.into_bytes());
        self.tree
            .add("tracing/classes".to_owned(), self.classes.into_bytes());
        self.tree
    }
}

/// Adds the tracepoints of modules, and the sites that modules have of others' tracepoints.
#[cfg(all(feature = "probe", target_os = "linux"))]
fn with_modules(
    mut known: Vec<ImageTracepoint>,
    modules: Vec<ModuleSites>,
    unreadable: &mut Vec<String>,
) -> Vec<ImageTracepoint> {
    let mut foreign = Vec::new();
    for module in modules {
        known.extend(module.own);
        foreign.extend(module.foreign);
    }
    // Names of exported symbols are unique. Other tracepoints of the same name are used by
    // their own modules alone.
    let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, tracepoint) in known.iter().enumerate() {
        by_name
            .entry(tracepoint.name.clone())
            .or_default()
            .push(index);
    }
    for (name, sites) in foreign {
        match by_name.get(&name).map(Vec::as_slice) {
            Some([only]) => known[*only].sites.extend(sites),
            Some(several) => unreadable.push(format!(
                "{} patch sites of {name}, which is one of {} tracepoints",
                sites.len(),
                several.len()
            )),
            None => unreadable.push(format!(
                "{} patch sites of {name}, whose module is not in the package",
                sites.len()
            )),
        }
    }
    known
}
