//! A kernel's own image: vmlinux, in any wrapping.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use object::Architecture;

use super::elf::{self, ElfFacts};
use super::error::ImageError;
use super::eval::FieldUpdates;
use super::events::{self, EventSource, ImageEvents, TableRanges};
use super::kallsyms::Kallsyms;
use super::memory::ImageMemory;
use super::raw;
#[cfg(all(feature = "probe", target_os = "linux"))]
use super::sites::ImageTracepoint;
use super::structs::Structs;
use super::symbols::Symbols;
use super::syscalls::{self, OpenFlags};
use super::unpack::{Unpacked, unpack};
use crate::btf::{self, Object};

/// A kernel's image that was read.
#[derive(Debug)]
pub(crate) struct KernelImage {
    /// vmlinux's BTF.
    btf: Vec<u8>,
    /// Everything beyond BTF; `None` for a file that has only BTF.
    whole: Option<WholeImage>,
}

/// The image's memory, and what is needed to read it.
#[derive(Debug)]
pub(super) struct WholeImage {
    pub(super) memory: ImageMemory,
    pub(super) symbols: Symbols,
    pub(super) structs: Arc<Structs>,
    updates: FieldUpdates,
    flags: Option<OpenFlags>,
    /// The machine that the code is for, if the image says so.
    #[cfg_attr(not(all(feature = "probe", target_os = "linux")), allow(dead_code))]
    pub(super) architecture: Option<Architecture>,
}

/// The parts of a kernel that are needed to read its modules.
#[derive(Clone, Debug)]
pub(crate) struct ModuleContext {
    pub(super) structs: Arc<Structs>,
    pub(super) updates: FieldUpdates,
    pub(super) is_64_bit: bool,
    /// The machine that the code is for, if the image says so.
    #[cfg_attr(not(all(feature = "probe", target_os = "linux")), allow(dead_code))]
    pub(super) architecture: Option<Architecture>,
}

impl KernelImage {
    /// Reads an image in any form that boot loaders or users of BTF take.
    ///
    /// # Errors
    ///
    /// [`ImageError`].
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, ImageError> {
        match unpack(bytes)? {
            Unpacked::Btf(btf) => Ok(Self { btf, whole: None }),
            Unpacked::Raw(bytes) => {
                let (flags, architecture) = match bytes.get(0x38..0x3c) {
                    Some(b"ARM\x64") => (OpenFlags::ARM, Some(Architecture::Aarch64)),
                    _ => (OpenFlags::GENERIC, None),
                };
                let raw::RawKernel { memory, symbols } = raw::kernel(bytes)?;
                Self::whole(memory, symbols, None, Some(flags), architecture)
            }
            Unpacked::Elf(bytes) => Self::of_elf(bytes),
        }
    }

    fn of_elf(bytes: Vec<u8>) -> Result<Self, ImageError> {
        let facts = ElfFacts::of(&bytes)?;
        if facts.is_module {
            return match (facts.btf, facts.has_events) {
                // An object of BTFHub's kind.
                (Some(btf), false) if facts.modinfo.is_empty() => Ok(Self { btf, whole: None }),
                _ => Err(ImageError::ModuleAlone),
            };
        }
        let flags = match facts.architecture {
            Architecture::Aarch64 | Architecture::Arm => Some(OpenFlags::ARM),
            Architecture::X86_64
            | Architecture::I386
            | Architecture::S390x
            | Architecture::Riscv64
            | Architecture::LoongArch64 => Some(OpenFlags::GENERIC),
            _ => None,
        };
        let linked = elf::linked(bytes)?;
        let mut symbols = linked.symbols;
        if symbols.address_of("__start_ftrace_events").is_none() {
            let mut regions = linked.memory.regions();
            let found = regions.find_map(|(_, bytes)| Kallsyms::find(bytes, facts.machine));
            match (found, linked.text) {
                (Some(kallsyms), Some(text)) => symbols = raw::symbols(&kallsyms, text),
                // The file may have only BTF.
                _ => match facts.btf {
                    Some(btf) if linked.memory.regions().next().is_none() => {
                        return Ok(Self { btf, whole: None });
                    }
                    _ if symbols.is_empty() => return Err(ImageError::NoSymbols),
                    _ => {}
                },
            }
        }
        Self::whole(
            linked.memory,
            symbols,
            facts.btf,
            flags,
            Some(facts.architecture),
        )
    }

    fn whole(
        memory: ImageMemory,
        symbols: Symbols,
        btf: Option<Vec<u8>>,
        flags: Option<OpenFlags>,
        architecture: Option<Architecture>,
    ) -> Result<Self, ImageError> {
        let btf = match btf {
            Some(btf) => btf,
            None => find_btf(&memory, &symbols).ok_or(ImageError::NoBtf)?,
        };
        let object = Object::parse("vmlinux".to_owned(), btf.clone(), None)?;
        let structs = Structs::of(object.section())?;
        let has = |name: &str| symbols.address_of(name).is_some();
        // The function was renamed to this when it began to remove attributes.
        let attributes = has("trace_event_update_all");
        let updates = FieldUpdates {
            // `module_strings` lists the texts of modules; `update_event_fields` may be
            // inlined.
            evals: attributes || has("module_strings") || has("update_event_fields"),
            attributes,
        };
        Ok(Self {
            btf,
            whole: Some(WholeImage {
                memory,
                symbols,
                structs: Arc::new(structs),
                updates,
                flags,
                architecture,
            }),
        })
    }

    /// Returns vmlinux's BTF.
    pub(crate) fn btf(&self) -> &[u8] {
        &self.btf
    }

    /// Returns the context in which the kernel's modules are read; `None` if there is only
    /// BTF.
    pub(crate) fn module_context(&self) -> Option<ModuleContext> {
        let whole = self.whole.as_ref()?;
        Some(ModuleContext {
            structs: Arc::clone(&whole.structs),
            updates: whole.updates,
            is_64_bit: whole.memory.machine().long_size() == 8,
            architecture: whole.architecture,
        })
    }

    /// Returns the line of `/proc/version`; `None` if there is only BTF.
    pub(crate) fn version(&self) -> Option<&str> {
        self.whole.as_ref()?.version()
    }

    /// Returns the tracepoints with their sites; `None` if the image does not tell where
    /// the tables are.
    ///
    /// # Errors
    ///
    /// [`ImageError::Table`].
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(crate) fn tracepoints(&self) -> Result<Option<Vec<ImageTracepoint>>, ImageError> {
        match &self.whole {
            Some(whole) => whole.tracepoints(),
            None => Ok(None),
        }
    }

    /// Returns the events; none if there is only BTF.
    ///
    /// # Errors
    ///
    /// [`ImageError::NoSymbol`] and [`ImageError::Table`].
    pub(crate) fn events(&self) -> Result<ImageEvents, ImageError> {
        match &self.whole {
            Some(whole) => whole.events(),
            None => Ok(ImageEvents::default()),
        }
    }
}

impl WholeImage {
    fn version(&self) -> Option<&str> {
        const START: &[u8] = b"Linux version ";
        /// Limit on the line in bytes; the kernel writes some 200.
        const LONGEST: usize = 1024;
        self.memory.regions().find_map(|(_, bytes)| {
            let mut from = 0;
            loop {
                let rest = bytes.get(from..)?;
                let at = rest
                    .windows(START.len())
                    .position(|window| window == START)?;
                let text = &rest[at..rest.len().min(at + LONGEST)];
                let line = text.split_inclusive(|byte| *byte == b'\n').next()?;
                // Other text that begins like the line has no release.
                if line.ends_with(b"\n") && line.get(START.len()).is_some_and(u8::is_ascii_digit) {
                    return str::from_utf8(line)
                        .ok()
                        .filter(|line| !line.trim_end().contains(char::is_control));
                }
                from += at + 1;
            }
        })
    }

    /// Returns the range between two symbols that the linker defines.
    pub(super) fn between(&self, start: &str, end: &str) -> Option<Range<u64>> {
        Some(self.symbols.address_of(start)?..self.symbols.address_of(end)?)
    }

    fn events(&self) -> Result<ImageEvents, ImageError> {
        let events = self.between("__start_ftrace_events", "__stop_ftrace_events");
        let evals = self.between("__start_ftrace_eval_maps", "__stop_ftrace_eval_maps");
        let raw_map = self.between("__start__bpf_raw_tp", "__stop__bpf_raw_tp");
        let tables = TableRanges {
            events: events.ok_or(ImageError::NoSymbol {
                name: "__start_ftrace_events",
            })?,
            evals: evals.unwrap_or_default(),
            raw_map: raw_map.unwrap_or_default(),
        };
        let called: Option<HashSet<&str>> = syscalls::called_functions(&self.memory, &self.symbols);
        let source = EventSource {
            memory: &self.memory,
            symbols: &self.symbols,
            structs: &self.structs,
            updates: self.updates,
            flags: self.flags.as_ref(),
            called: called.as_ref(),
        };
        events::read(source, &tables)
    }
}

/// Finds BTF by the linker's symbols, or else by its header.
fn find_btf(memory: &ImageMemory, symbols: &Symbols) -> Option<Vec<u8>> {
    let start = symbols.address_of("__start_BTF");
    let end = symbols.address_of("__stop_BTF");
    if let (Some(start), Some(end)) = (start, end) {
        let length = usize::try_from(end.checked_sub(start)?).ok()?;
        return memory.bytes(start, length).map(<[u8]>::to_vec);
    }
    let magic: [u8; 4] = [0x9f, 0xeb, 1, 0];
    let data = memory.data();
    let mut from = 0;
    loop {
        let rest = data.get(from..)?;
        let at = rest.windows(4).position(|window| window == magic)?;
        if let Some(found) = whole_btf(&rest[at..]) {
            return Some(found.to_vec());
        }
        from += at + 4;
    }
}

/// Returns the bytes of a BTF object, by the lengths in its header.
fn whole_btf(bytes: &[u8]) -> Option<&[u8]> {
    btf::byte_order(bytes).ok()?;
    let word = |at: usize| {
        let word = bytes.get(at..)?.first_chunk::<4>()?;
        usize::try_from(u32::from_le_bytes(*word)).ok()
    };
    let header = word(4).filter(|length| (24..=64).contains(length))?;
    let types = word(8)?.checked_add(word(12)?)?;
    let strings = word(16)?.checked_add(word(20)?)?;
    /// Less than any kernel's BTF in bytes: its types alone have some megabytes.
    const SMALLEST: usize = 1 << 12;
    let end = header.checked_add(types.max(strings))?;
    bytes.get(..end).filter(|whole| whole.len() > SMALLEST)
}
