//! A module's file: `.ko`, compressed or not.

use super::elf::{self, ElfFacts, LinkedModule};
use super::error::ImageError;
use super::events::{self, EventSource, ImageEvents, TableRanges};
use super::kernel::ModuleContext;
#[cfg(all(feature = "probe", target_os = "linux"))]
use super::sites::{self, ModuleSites};
use super::unpack::{Unpacked, unpack};

/// A module, read as far as possible without its kernel.
#[derive(Debug)]
pub(crate) struct ModuleImage {
    name: Option<String>,
    btf: Option<Vec<u8>>,
    btf_base: Option<Vec<u8>>,
    /// The whole file, if it has events or patch sites of tracepoints.
    elf: Option<Vec<u8>>,
    is_64_bit: bool,
}

impl ModuleImage {
    /// Reads a module's file.
    ///
    /// # Errors
    ///
    /// [`ImageError`]; [`ImageError::Unknown`] if the file is not a module.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, ImageError> {
        let Unpacked::Elf(bytes) = unpack(bytes)? else {
            return Err(ImageError::Unknown);
        };
        let facts = ElfFacts::of(&bytes)?;
        if !facts.is_module {
            return Err(ImageError::Unknown);
        }
        // Patch sites are read only for probes.
        let has_sites = cfg!(all(feature = "probe", target_os = "linux")) && facts.has_tracepoints;
        let is_needed = facts.has_events || has_sites;
        Ok(Self {
            name: name(&facts.modinfo),
            btf: facts.btf,
            btf_base: facts.btf_base,
            elf: is_needed.then_some(bytes),
            is_64_bit: facts.machine.long_size() == 8,
        })
    }

    /// Returns the module's name, which is also that of its BTF's file; `None` if the file
    /// does not say it.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the module's BTF and, if it was built apart from its kernel, that of the
    /// types it shares with the kernel.
    pub(crate) fn btf(&self) -> Option<(&[u8], Option<&[u8]>)> {
        Some((self.btf.as_deref()?, self.btf_base.as_deref()))
    }

    /// Lays the module out as loading it would; `None` if it has neither events nor sites.
    ///
    /// # Errors
    ///
    /// [`ImageError`].
    pub(crate) fn link(&self, context: &ModuleContext) -> Result<Option<LinkedModule>, ImageError> {
        let Some(bytes) = &self.elf else {
            return Ok(None);
        };
        if self.is_64_bit != context.is_64_bit {
            return Err(ImageError::ModuleAlone);
        }
        elf::module(bytes).map(Some)
    }
}

impl LinkedModule {
    /// Returns the module's events.
    ///
    /// # Errors
    ///
    /// [`ImageError`].
    pub(crate) fn events(&self, context: &ModuleContext) -> Result<ImageEvents, ImageError> {
        let tables = TableRanges {
            events: self.section("_ftrace_events"),
            evals: self.section("_ftrace_eval_map"),
            raw_map: self.section("__bpf_raw_tp_map"),
        };
        let source = EventSource {
            memory: &self.memory,
            symbols: &self.symbols,
            structs: &context.structs,
            updates: context.updates,
            flags: None,
            called: None,
        };
        events::read(source, &tables)
    }

    /// Returns the module's tracepoints and patch sites; `None` if the layout of the tables
    /// is not known.
    ///
    /// # Errors
    ///
    /// [`ImageError::Table`].
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(crate) fn sites(
        &self,
        name: &str,
        context: &ModuleContext,
    ) -> Result<Option<ModuleSites>, ImageError> {
        sites::of_module(self, name, context)
    }
}

/// Returns the name in `.modinfo`, if it can be a module's.
fn name(modinfo: &[u8]) -> Option<String> {
    let mut texts = modinfo.split(|byte| *byte == 0);
    let name = texts.find_map(|text| text.strip_prefix(b"name="))?;
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let name = Some(name).filter(|name| !name.is_empty() && name.iter().all(is_name));
    Some(String::from_utf8_lossy(name?).into_owned())
}
