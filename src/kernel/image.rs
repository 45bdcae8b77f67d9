//! Kernels that are read from their images, without booting them, and from archives.

#[cfg(all(feature = "probe", target_os = "linux"))]
use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use super::Kernel;
use crate::btf::Btf;
use crate::context::{CapturedFrom, ClassLine};
use crate::error::{Error, with_causes};
use crate::files::{Dir, FileTree, Package, Tracefs, captured_archive, captured_files};
use crate::image::{ImageError, ImageEvents, KernelImage, ModuleContext, ModuleImage};
#[cfg(all(feature = "probe", target_os = "linux"))]
use crate::image::{ImageTracepoint, ModuleSites};
use crate::name::EventName;

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
                Ok((Some(name), image)) => named.push((name, image)),
                Ok((None, _)) => unreadable.push(format!("module {index}: it has no name")),
                Err(error) => unreadable.push(format!("module {index}: {}", with_causes(&error))),
            }
        }
        Self::of_image(path, path, image.into(), named, unreadable)
    }

    /// Opens a kernel's image, a package or an unpacked package; `None` for a directory
    /// that is not an unpacked package.
    pub(super) fn of_package(root: &Path) -> Result<Option<Self>, Error> {
        let Some(mut package) = Package::open(root)? else {
            return Ok(None);
        };
        let (path, image) = package.take_kernel(root)?;
        let modules = package.modules.into_iter();
        let modules = modules
            .map(|module| (module.name(), module.image))
            .collect();
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
        modules: Vec<(String, ModuleImage)>,
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
        files.add_modules(&image, modules).map_err(failed)?;
        let unreadable = std::mem::take(&mut files.unreadable);
        #[cfg(all(feature = "probe", target_os = "linux"))]
        let sites = std::mem::take(&mut files.sites);
        let mut kernel = Self::in_memory(root, files.finish());
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
        self.add_events("vmlinux", image.events()?);
        Ok(())
    }

    fn add_modules(
        &mut self,
        image: &KernelImage,
        modules: Vec<(String, ModuleImage)>,
    ) -> Result<(), ImageError> {
        let Some(context) = image.module_context() else {
            return Ok(());
        };
        let mut vmlinux = None;
        for (name, module) in modules {
            if let Some((btf, base)) = module.btf() {
                let btf = match base {
                    None => btf.to_vec(),
                    Some(base) => {
                        let known = match vmlinux.take() {
                            Some(known) => known,
                            None => Btf::vmlinux(image.btf())?,
                        };
                        let relocated = Btf::module_with_base(&name, btf, base, &known);
                        vmlinux = Some(known);
                        match relocated {
                            Ok(relocated) => relocated.object().section().bytes().to_vec(),
                            Err(error) => {
                                let reason = with_causes(&error);
                                self.unreadable.push(format!("{name}: its BTF: {reason}"));
                                Vec::new()
                            }
                        }
                    }
                };
                if !btf.is_empty() && !self.tree.add(format!("btf/{name}"), btf) {
                    self.unreadable.push(format!("{name}: there are two"));
                    continue;
                }
            }
            if let Err(error) = self.add_linked(&name, &module, &context) {
                self.unreadable
                    .push(format!("{name}: {}", with_causes(&error)));
            }
        }
        Ok(())
    }

    /// Adds a module's events and sites.
    fn add_linked(
        &mut self,
        name: &str,
        module: &ModuleImage,
        context: &ModuleContext,
    ) -> Result<(), ImageError> {
        let Some(linked) = module.link(context)? else {
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

    fn finish(mut self) -> FileTree {
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
