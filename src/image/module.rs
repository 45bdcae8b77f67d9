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
    /// The release of the kernel that it was built for.
    built_for: Option<String>,
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
            built_for: built_for(&facts.modinfo),
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

    /// Returns the error of a module whose kernel is not there.
    pub(crate) fn alone(&self) -> ImageError {
        alone(self.built_for.clone())
    }

    /// Returns an error if the module was built for another kernel. A module that does not
    /// state its kernel, which none of `modpost`'s does, is taken for one of this kernel.
    ///
    /// # Errors
    ///
    /// [`ImageError::OtherKernel`].
    pub(crate) fn check(&self, context: &ModuleContext) -> Result<(), ImageError> {
        let bits = |is_64_bit: bool| match is_64_bit {
            true => "a machine of 64 bits".to_owned(),
            false => "a machine of 32 bits".to_owned(),
        };
        let (module, kernel) = match (&self.built_for, &context.release) {
            (Some(module), Some(kernel)) if module != kernel => (module.clone(), kernel.clone()),
            _ => (bits(self.is_64_bit), bits(context.is_64_bit)),
        };
        match module == kernel {
            true => Ok(()),
            false => Err(ImageError::OtherKernel { module, kernel }),
        }
    }

    /// Lays the module out as loading it would; `None` if it has neither events nor sites.
    ///
    /// # Errors
    ///
    /// [`ImageError`].
    pub(crate) fn link(&self) -> Result<Option<LinkedModule>, ImageError> {
        self.elf.as_deref().map(elf::module).transpose()
    }
}

/// Returns the error of a module without its kernel.
pub(super) fn alone(built_for: Option<String>) -> ImageError {
    ImageError::ModuleAlone {
        built_for: built_for.unwrap_or_else(|| "of unknown release".to_owned()),
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

/// Returns the value of a key in `.modinfo`.
fn modinfo_value<'a>(modinfo: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let mut texts = modinfo.split(|byte| *byte == 0);
    texts.find_map(|text| text.strip_prefix(key.as_bytes())?.strip_prefix(b"="))
}

/// Returns the release of the kernel that a module was built for, the first word of `vermagic`
/// (`include/linux/vermagic.h`).
pub(super) fn built_for(modinfo: &[u8]) -> Option<String> {
    /// Limit on a release in bytes: `__NEW_UTS_LEN`.
    const LONGEST: usize = 64;
    let magic = str::from_utf8(modinfo_value(modinfo, "vermagic")?).ok()?;
    let release = magic.split_whitespace().next()?;
    let is_release = release.len() <= LONGEST && !release.contains(char::is_control);
    is_release.then(|| release.to_owned())
}

/// Returns the name in `.modinfo`, if it can be a module's.
fn name(modinfo: &[u8]) -> Option<String> {
    let name = modinfo_value(modinfo, "name")?;
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let name = Some(name).filter(|name| !name.is_empty() && name.iter().all(is_name));
    Some(String::from_utf8_lossy(name?).into_owned())
}
