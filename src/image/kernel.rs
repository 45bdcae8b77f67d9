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
use super::module;
use super::raw;
#[cfg(all(feature = "probe", target_os = "linux"))]
use super::sites::ImageTracepoint;
use super::structs::Structs;
use super::symbols::Symbols;
use super::syscalls::{self, OpenFlags};
use super::unpack::{Unpacked, unpack};
use crate::btf::{self, Object};
use crate::machine::{ByteOrder, Machine};

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
    /// The machine that the code is for.
    pub(super) architecture: Architecture,
}

/// The parts of a kernel that are needed to read its modules.
#[derive(Clone, Debug)]
pub(crate) struct ModuleContext {
    pub(super) structs: Arc<Structs>,
    pub(super) updates: FieldUpdates,
    pub(super) is_64_bit: bool,
    /// As from `uname -r`, if the image says it.
    pub(super) release: Option<String>,
    /// The machine that the code is for.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(super) architecture: Architecture,
}

impl KernelImage {
    /// Reads an image in any form that boot loaders or users of BTF take.
    ///
    /// # Errors
    ///
    /// [`ImageError`].
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, ImageError> {
        match unpack(bytes)? {
            Unpacked::Btf(btf) => Self::btf_alone(btf),
            Unpacked::Raw(bytes, kind) => {
                let architecture = kind.architecture();
                // Distributions build kernels of 32 bits without BTF: say so before anything
                // else that may be missing.
                if kind.machine().long_size() == 4
                    && btf_by_header(&bytes, kind.machine()).is_none()
                {
                    return Err(ImageError::NoBtf);
                }
                let raw::RawKernel { memory, symbols } = raw::kernel(bytes, kind)?;
                let flags = open_flags(architecture);
                Self::whole(memory, symbols, None, flags, architecture)
            }
            Unpacked::Elf(bytes) => Self::of_elf(bytes),
        }
    }

    fn of_elf(bytes: Vec<u8>) -> Result<Self, ImageError> {
        let facts = ElfFacts::of(&bytes)?;
        if facts.is_module {
            return match (facts.btf, facts.has_events) {
                // An object of BTFHub's kind.
                (Some(btf), false) if facts.modinfo.is_empty() => Self::btf_alone(btf),
                _ => Err(module::alone(module::built_for(&facts.modinfo))),
            };
        }
        let flags = open_flags(facts.architecture);
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
                        return Self::btf_alone(btf);
                    }
                    _ if symbols.is_empty() => return Err(ImageError::NoSymbols),
                    _ => {}
                },
            }
        }
        Self::whole(linked.memory, symbols, facts.btf, flags, facts.architecture)
    }

    fn btf_alone(btf: Vec<u8>) -> Result<Self, ImageError> {
        // Damage is reported of the file itself, not of a path inside it.
        Object::parse("vmlinux".to_owned(), btf.clone(), None)?;
        Ok(Self { btf, whole: None })
    }

    fn whole(
        memory: ImageMemory,
        symbols: Symbols,
        btf: Option<Vec<u8>>,
        flags: Option<OpenFlags>,
        architecture: Architecture,
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
    /// `release` is that of the kernel, as from `uname -r`, if it is known.
    pub(crate) fn module_context(&self, release: Option<&str>) -> Option<ModuleContext> {
        let whole = self.whole.as_ref()?;
        Some(ModuleContext {
            structs: Arc::clone(&whole.structs),
            updates: whole.updates,
            is_64_bit: whole.memory.machine().long_size() == 8,
            release: release.map(str::to_owned),
            #[cfg(all(feature = "probe", target_os = "linux"))]
            architecture: whole.architecture,
        })
    }

    /// Whether there is only BTF.
    pub(crate) fn is_btf_alone(&self) -> bool {
        self.whole.is_none()
    }

    /// Returns the machine as `/proc/sys/kernel/arch` of the booted kernel has it, which is
    /// `UTS_MACHINE` of `arch/*/Makefile`. `None` if there is only BTF, and for machines whose
    /// kernels decide it at boot, by the processor (`i686`, `armv7l`).
    pub(crate) fn machine_name(&self) -> Option<&'static str> {
        let whole = self.whole.as_ref()?;
        let byte_order = whole.memory.machine().byte_order();
        match (whole.architecture, byte_order) {
            (Architecture::X86_64, _) => Some("x86_64"),
            (Architecture::Aarch64, ByteOrder::Little) => Some("aarch64"),
            (Architecture::S390x, _) => Some("s390x"),
            (Architecture::Riscv64, _) => Some("riscv64"),
            (Architecture::PowerPc64, ByteOrder::Little) => Some("ppc64le"),
            (Architecture::LoongArch64, _) => Some("loongarch64"),
            _ => None,
        }
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
    /// Returns `linux_banner`. Some images have such a line twice: that of `init/version.c`,
    /// which is not used, lacks the number behind `#` (Linux 6.2 and later).
    fn version(&self) -> Option<&str> {
        let known = self.symbols.address_of("linux_banner");
        let known = known.and_then(|at| banner(self.memory.from(at)?));
        known.or_else(|| {
            let is_numbered = |line: &&str| {
                let number = line.split_once(" #").map(|(_, rest)| rest);
                number.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            };
            self.banners().find(is_numbered).or(self.banners().next())
        })
    }

    fn banners(&self) -> impl Iterator<Item = &str> {
        self.memory.regions().flat_map(|(_, bytes)| {
            let places = memchr::memmem::find_iter(bytes, BANNER);
            places.filter_map(|at| banner(&bytes[at..]))
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

/// The start of the line of `/proc/version`.
const BANNER: &[u8] = b"Linux version ";

/// Returns the line that begins here, if it is that of `/proc/version`.
fn banner(bytes: &[u8]) -> Option<&str> {
    /// Limit on the line in bytes; the kernel writes some 200.
    const LONGEST: usize = 1024;
    let line = &bytes[..bytes.len().min(LONGEST)];
    let line = line.split_inclusive(|byte| *byte == b'\n').next()?;
    // Other text that begins like the line has no release.
    let release = line.strip_prefix(BANNER)?;
    if !line.ends_with(b"\n") || !release.first()?.is_ascii_digit() {
        return None;
    }
    let line = str::from_utf8(line).ok()?;
    (!line.trim_end().contains(char::is_control)).then_some(line)
}

/// Returns the values of the flags of `open` on this machine, if they are known.
fn open_flags(architecture: Architecture) -> Option<OpenFlags> {
    match architecture {
        Architecture::Aarch64 | Architecture::Arm => Some(OpenFlags::ARM),
        Architecture::X86_64
        | Architecture::I386
        | Architecture::S390x
        | Architecture::Riscv64
        | Architecture::LoongArch64 => Some(OpenFlags::GENERIC),
        _ => None,
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
    btf_by_header(memory.data(), memory.machine()).map(<[u8]>::to_vec)
}

fn btf_by_header(data: &[u8], machine: Machine) -> Option<&[u8]> {
    // 0xeb9f, version 1, no flags.
    let magic: [u8; 4] = match machine.byte_order() {
        ByteOrder::Little => [0x9f, 0xeb, 1, 0],
        ByteOrder::Big => [0xeb, 0x9f, 1, 0],
    };
    let mut places = memchr::memmem::find_iter(data, &magic);
    places.find_map(|at| whole_btf(&data[at..], machine))
}

/// Returns the bytes of a BTF object, by the lengths in its header.
fn whole_btf(bytes: &[u8], machine: Machine) -> Option<&[u8]> {
    btf::byte_order(bytes).ok()?;
    let word = |at: usize| usize::try_from(machine.byte_order().read_u32_at(bytes, at)?).ok();
    let header = word(4).filter(|length| (24..=64).contains(length))?;
    let types = word(8)?.checked_add(word(12)?)?;
    let strings = word(16)?.checked_add(word(20)?)?;
    /// Less than any kernel's BTF in bytes: its types alone have some megabytes.
    const SMALLEST: usize = 1 << 12;
    let end = header.checked_add(types.max(strings))?;
    bytes.get(..end).filter(|whole| whole.len() > SMALLEST)
}
