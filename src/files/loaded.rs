//! The loaded modules, each with its open directory, from which its `struct module` is
//! found in the kernel's memory.

use std::fs::File;
use std::io;
use std::path::Path;

/// A loaded module, whose directory below `/sys/module` is open.
#[derive(Debug)]
pub(crate) struct LoadedModule {
    pub(crate) name: String,
    pub(crate) directory: File,
}

/// Reads the names in `/proc/modules`; none if the kernel has no modules.
pub(crate) fn loaded_modules(proc_modules: &[u8]) -> Vec<LoadedModule> {
    let text = String::from_utf8_lossy(proc_modules);
    let names = text.lines().filter_map(|line| line.split(' ').next());
    let open = |name: &str| -> io::Result<LoadedModule> {
        Ok(LoadedModule {
            directory: File::open(Path::new("/sys/module").join(name))?,
            name: name.to_owned(),
        })
    };
    // A module that was unloaded meanwhile has no directory.
    names.filter_map(|name| open(name).ok()).collect()
}
