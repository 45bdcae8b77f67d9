//! Reads what `sites` needs of the running kernel alone.

use std::fs::File;
use std::io;
use std::path::Path;

use super::Kernel;
use crate::error::Error;
use crate::files::{HoldingProcesses, InstanceUse, LoadedModule, loaded_modules};
use crate::name::EventName;

impl Kernel {
    /// Returns the processes that hold perf events and BPF links.
    pub(crate) fn holding_processes(&self) -> Result<HoldingProcesses, Error> {
        const PROC: &str = "/proc";
        HoldingProcesses::read(Path::new(PROC)).map_err(|error| Error::file(PROC, error))
    }

    /// Returns the loaded modules, in the kernel's order.
    pub(crate) fn loaded_modules(&self) -> Result<Vec<LoadedModule>, Error> {
        /// Limit on the file in bytes; hundreds of modules have some 50 KB.
        const LIMIT: u64 = 16 << 20;
        let modules = self.inner.proc.bytes("modules", LIMIT)?;
        Ok(loaded_modules(&modules.unwrap_or_default()))
    }

    /// Opens the file by which the event is enabled, for reading.
    pub(crate) fn event_switch(&self, name: &EventName) -> io::Result<File> {
        let format = self.inner.tracefs.format_path(name);
        File::open(format.with_file_name("enable"))
    }

    /// Returns the instances of tracefs that have an event on; `None` if the event cannot be
    /// switched.
    pub(crate) fn instances_using(
        &self,
        name: &EventName,
    ) -> Result<Option<Vec<InstanceUse>>, Error> {
        self.inner.tracefs.instances_using(name)
    }

    /// Returns the addresses of symbols, from `/proc/kallsyms`; `None` if this process may
    /// not see them, or the kernel has no such file.
    pub(crate) fn symbol_addresses(&self, names: &[&str]) -> Option<Vec<Option<u64>>> {
        let text = self.symbols().ok()??;
        let mut found = vec![None; names.len()];
        let mut are_shown = false;
        for line in text.split(|byte| *byte == b'\n') {
            // `address type name`, and the module's name if there is one.
            let mut words = line.splitn(3, |byte| *byte == b' ');
            let (address, name) = (words.next()?, words.nth(1).unwrap_or_default());
            let at = names.iter().position(|wanted| wanted.as_bytes() == name);
            let Some(at) = at else {
                continue;
            };
            let address = str::from_utf8(address).ok();
            let address = address.and_then(|text| u64::from_str_radix(text, 16).ok());
            found[at] = address.filter(|address| *address != 0);
            are_shown |= found[at].is_some();
        }
        are_shown.then_some(found)
    }
}
