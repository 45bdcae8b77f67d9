//! `/sys/kernel/btf` or a copy of it. BTF objects are read when they are first needed.

use std::collections::HashMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::SystemTime;

use super::dir::{Dir, is_missing};
use crate::btf::{self, Object};
use crate::error::{Error, FileError, with_causes};
use crate::machine::ByteOrder;

/// The largest size of an object, in bytes. vmlinux's BTF has 3 to 10 MB, a module's at
/// most a few.
const OBJECT_LIMIT: u64 = 64 << 20;
/// The largest size of all objects together, in bytes. The objects of a kernel with a
/// thousand modules have some 100 MB.
const TOTAL_LIMIT: u64 = 256 << 20;

#[derive(Debug)]
pub(crate) struct BtfDir {
    path: PathBuf,
    dir: Dir,
    /// Held while an object is read, so that none is read twice.
    reading: Mutex<()>,
    vmlinux: OnceLock<Option<Arc<Object>>>,
    /// The modules as last listed; `None` before the first listing.
    modules: RwLock<Option<Arc<Modules>>>,
}

/// The modules as listed at one time.
#[derive(Debug)]
pub(crate) struct Modules {
    list: Vec<Arc<Module>>,
    opened: OnceLock<Opened>,
}

/// The events that modules define, once all have been read.
#[derive(Debug)]
struct Opened {
    homes: HashMap<Box<str>, Vec<Arc<Object>>>,
    /// The errors of the modules that could not be read.
    unreadable: Vec<String>,
}

#[derive(Debug)]
struct Module {
    name: String,
    file: FileState,
    object: OnceLock<Result<Arc<Object>, BadModule>>,
}

/// The error of a module's object, as text: an `Error` would be about a file that the
/// caller did not ask for.
#[derive(Clone, Debug)]
struct BadModule {
    error: String,
    /// Whether the file itself is at fault, so that reading it again would fail too.
    is_lasting: bool,
}

/// The identity of a module's file when it was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileState {
    inode: u64,
    /// In bytes.
    size: u64,
    modified: Option<SystemTime>,
}

impl FileState {
    fn of(file: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(file);
        #[cfg(not(unix))]
        let inode = 0;
        Self {
            inode,
            size: file.len(),
            modified: file.modified().ok(),
        }
    }

    /// Returns the state of a file in memory, which does not change.
    fn in_memory(bytes: &[u8]) -> Self {
        Self {
            inode: 0,
            size: bytes.len() as u64,
            modified: None,
        }
    }

    /// Whether both are the same file. A module that is loaded later under the same name
    /// has a different file.
    fn is_of_the_file_of(&self, other: &Self) -> bool {
        self.inode == other.inode
    }
}

impl Modules {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether the modules `loaded` are among these, and the events of all are known
    /// already, so that [`BtfDir::defining`] reads nothing.
    pub(crate) fn are_known<'l>(&self, mut loaded: impl Iterator<Item = &'l str>) -> bool {
        let opened = || self.opened.get();
        (self.is_empty() || opened().is_some_and(|opened| opened.unreadable.is_empty()))
            && loaded.all(|name| self.list.iter().any(|module| module.name == name))
    }
}

/// The most unreadable modules that are named; others are only counted.
const MAX_UNREADABLE: usize = 16;

impl BtfDir {
    pub(crate) fn new(dir: Dir) -> Self {
        Self {
            path: dir.path(),
            dir,
            reading: Mutex::new(()),
            vmlinux: OnceLock::new(),
            modules: RwLock::new(None),
        }
    }

    /// Returns one for the same files, of which nothing is read yet.
    pub(crate) fn anew(&self) -> Self {
        Self::new(self.dir.clone())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns vmlinux's object; `None` on a kernel without BTF.
    pub(crate) fn vmlinux(&self) -> Result<Option<Arc<Object>>, Error> {
        if let Some(vmlinux) = self.vmlinux.get() {
            return Ok(vmlinux.clone());
        }
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(vmlinux) = self.vmlinux.get() {
            return Ok(vmlinux.clone());
        }
        let vmlinux = self.read("vmlinux", None)?;
        Ok(self.vmlinux.get_or_init(|| vmlinux).clone())
    }

    /// Returns the byte order of vmlinux's object, by its first bytes; `None` on a kernel
    /// without BTF.
    pub(crate) fn byte_order(&self) -> Result<Option<ByteOrder>, Error> {
        let path = self.path.join("vmlinux");
        let Some(magic) = self.dir.start("vmlinux", 2)? else {
            return Ok(None);
        };
        match btf::byte_order(&magic) {
            Ok(byte_order) => Ok(Some(byte_order)),
            Err(source) => Err(Error::Btf { path, source }),
        }
    }

    /// Whether vmlinux's object has been read, so that asking for it takes no time.
    pub(crate) fn is_vmlinux_read(&self) -> bool {
        self.vmlinux.get().is_some()
    }

    /// Returns the modules' names, sorted.
    pub(crate) fn module_names(&self) -> Result<Vec<String>, Error> {
        let modules = self.list()?.into_iter();
        Ok(modules.map(|(name, _)| name).collect())
    }

    /// Returns the object of the module of this name; `None` if no module of this name has
    /// BTF. Unlike [`objects`](Self::objects), this returns the error if the object cannot
    /// be read.
    #[cfg(feature = "btf-rs")]
    pub(crate) fn module_named(&self, name: &str) -> Result<Option<Arc<Object>>, Error> {
        let Some(vmlinux) = self.vmlinux()? else {
            return Ok(None);
        };
        // Only a listed name becomes part of a path.
        match self.module_names()?.iter().any(|listed| listed == name) {
            true => self.read(name, Some(vmlinux)),
            false => Ok(None),
        }
    }

    /// Returns every object that can be read, vmlinux first; none on a kernel without
    /// BTF.
    pub(crate) fn objects(&self) -> Result<Vec<Arc<Object>>, Error> {
        let Some(vmlinux) = self.vmlinux()? else {
            return Ok(Vec::new());
        };
        let mut objects = vec![Arc::clone(&vmlinux)];
        let modules = self.refreshed()?;
        let read = modules
            .list
            .iter()
            .filter_map(|module| self.module(module, &vmlinux).ok());
        objects.extend(read);
        Ok(objects)
    }

    /// Returns the objects of those `modules` that define an event of this name.
    pub(crate) fn defining<'m>(
        &self,
        event: &str,
        vmlinux: &Arc<Object>,
        modules: &'m Modules,
    ) -> &'m [Arc<Object>] {
        let opened = self.opened(vmlinux, modules);
        opened.homes.get(event).map_or(&[], Vec::as_slice)
    }

    /// Returns the errors of those `modules` whose BTF cannot be read, one text for each.
    pub(crate) fn unreadable<'m>(
        &self,
        vmlinux: &Arc<Object>,
        modules: &'m Modules,
    ) -> &'m [String] {
        &self.opened(vmlinux, modules).unreadable
    }

    fn opened<'m>(&self, vmlinux: &Arc<Object>, modules: &'m Modules) -> &'m Opened {
        modules
            .opened
            .get_or_init(|| self.open(&modules.list, vmlinux))
    }

    /// Whether the module that this object describes is still loaded.
    pub(crate) fn is_loaded(&self, object: &Object, modules: &Modules) -> bool {
        if self.dir.tree().is_some() {
            return true;
        }
        let file = self.path.join(object.name()).symlink_metadata();
        let mut listed = modules.list.iter();
        let listed = listed.find(|module| module.name == object.name());
        match (file, listed) {
            (Ok(file), Some(module)) => FileState::of(&file).is_of_the_file_of(&module.file),
            _ => false,
        }
    }

    fn open(&self, modules: &[Arc<Module>], vmlinux: &Arc<Object>) -> Opened {
        let mut opened = Opened {
            homes: HashMap::new(),
            unreadable: Vec::new(),
        };
        let mut unnamed = 0;
        for module in modules {
            match self.module(module, vmlinux) {
                Ok(object) => {
                    for event in object.index().event_names() {
                        let homes = opened.homes.entry(event.into()).or_default();
                        homes.push(Arc::clone(&object));
                    }
                }
                Err(BadModule { error, .. }) if opened.unreadable.len() < MAX_UNREADABLE => {
                    opened.unreadable.push(error);
                }
                Err(_) => unnamed += 1,
            }
        }
        if unnamed > 0 {
            opened.unreadable.push(format!("and {unnamed} more"));
        }
        opened
    }

    fn module(&self, module: &Module, vmlinux: &Arc<Object>) -> Result<Arc<Object>, BadModule> {
        if let Some(object) = module.object.get() {
            return object.clone();
        }
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let object = module.object.get_or_init(|| {
            match self.read(&module.name, Some(Arc::clone(vmlinux))) {
                Ok(Some(object)) => Ok(object),
                Ok(None) => Err(BadModule {
                    error: format!("{} was unloaded", module.name),
                    is_lasting: false,
                }),
                Err(error) => Err(BadModule {
                    is_lasting: !matches!(
                        error,
                        Error::File {
                            source: FileError::Io(_) | FileError::PermissionDenied,
                            ..
                        }
                    ),
                    error: with_causes(&error),
                }),
            }
        });
        object.clone()
    }

    /// Returns the modules as last listed.
    pub(crate) fn modules(&self) -> Result<Arc<Modules>, Error> {
        let known = self
            .modules
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        known.map_or_else(|| self.refreshed(), Ok)
    }

    /// Lists the modules anew. Objects that were read before are kept, and so are errors
    /// that reading an unchanged file again would repeat.
    pub(crate) fn refreshed(&self) -> Result<Arc<Modules>, Error> {
        let files = self.list()?;
        let mut modules = self.modules.write().unwrap_or_else(PoisonError::into_inner);
        let known = modules.as_ref().map_or(&[][..], |known| &known.list);
        let known: HashMap<&str, &Arc<Module>> =
            known.iter().map(|module| (&*module.name, module)).collect();
        let module = |(name, file): (String, FileState)| {
            let kept = known
                .get(&*name)
                .filter(|module| match module.object.get() {
                    None | Some(Ok(_)) => file.is_of_the_file_of(&module.file),
                    // The file may have been rewritten.
                    Some(Err(failed)) => failed.is_lasting && file == module.file,
                });
            kept.copied().cloned().unwrap_or_else(|| {
                Arc::new(Module {
                    name,
                    file,
                    object: OnceLock::new(),
                })
            })
        };
        let list: Vec<Arc<Module>> = files.into_iter().map(module).collect();
        if let Some(known) = modules.as_ref()
            && known.list.len() == list.len()
            && std::iter::zip(&known.list, &list).all(|(old, new)| Arc::ptr_eq(old, new))
        {
            return Ok(Arc::clone(known));
        }
        let now = Arc::new(Modules {
            list,
            opened: OnceLock::new(),
        });
        *modules = Some(Arc::clone(&now));
        Ok(now)
    }

    /// Reads an object's file as it is; `None` if it does not exist.
    pub(crate) fn file(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.dir.bytes(name, OBJECT_LIMIT)
    }

    /// Returns the modules' names and files, sorted by name.
    fn list(&self) -> Result<Vec<(String, FileState)>, Error> {
        // Module names have no other characters; some others would also be unsafe to
        // print.
        let is_name = |name: &str| {
            name != "vmlinux"
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        };
        if let Some(files) = self.dir.in_tree() {
            let files = files.filter(|(name, _)| is_name(name));
            return Ok(files
                .map(|(name, bytes)| (name.to_owned(), FileState::in_memory(bytes)))
                .collect());
        }
        self.dir.is_there()?;
        let entries = match self.path.read_dir() {
            Ok(entries) => entries,
            Err(error) if is_missing(&error) => return Ok(Vec::new()),
            Err(error) => return Err(Error::file(&self.path, error)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| Error::file(&self.path, error))?;
            let name = entry.file_name().into_string().ok();
            let Some(name) = name.filter(|name| is_name(name)) else {
                continue;
            };
            match entry.metadata() {
                Ok(file) => files.push((name, FileState::of(&file))),
                // The module was unloaded just now.
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(Error::file(entry.path(), error)),
            }
        }
        files.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(files)
    }

    /// Returns the size in bytes of the objects read so far.
    fn held(&self) -> u64 {
        let modules = self.modules.read().unwrap_or_else(PoisonError::into_inner);
        let modules = modules.iter().flat_map(|modules| &modules.list);
        let modules = modules.filter_map(|module| module.object.get()?.as_ref().ok());
        let vmlinux = self.vmlinux.get().and_then(Option::as_ref);
        let objects = modules.chain(vmlinux);
        objects.map(|object| object.section().len() as u64).sum()
    }

    fn read(&self, name: &str, base: Option<Arc<Object>>) -> Result<Option<Arc<Object>>, Error> {
        let path = self.path.join(name);
        let limit = OBJECT_LIMIT.min(TOTAL_LIMIT.saturating_sub(self.held()));
        let Some(bytes) = self.dir.mapped_or_read(name, limit)? else {
            return Ok(None);
        };
        match Object::parse(name.to_owned(), bytes, base) {
            Ok(object) => Ok(Some(Arc::new(object))),
            Err(source) => Err(Error::Btf { path, source }),
        }
    }
}
