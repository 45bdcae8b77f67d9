//! Compares compiled eBPF objects with kernels: the bytes of the context that each
//! instruction reads, with the fields that a kernel has there, also a kernel the object
//! was never loaded on.
//!
//! An object is compiled once and shipped to many kernels. libbpf relocates it, the
//! verifier checks that it does no harm, and neither says that `args[1]` is another
//! argument on a kernel whose `trace_event_raw_sys_enter` is not what its system calls'
//! programs get. A [`BpfObject`]'s instructions say what it reads; the kernel's format
//! files and BTF say what is there.
//!
//! ```
//! use tracepoints::Kernel;
//! use tracepoints::audit::{BpfObject, Verdict};
//!
//! # let bytes = std::fs::read("tests/fixtures/audit/openat.bpf.o")?;
//! let object = BpfObject::parse(&bytes)?;
//! let kernel = Kernel::at("tests/fixtures/6.1.192-rt-x86_64")?;
//! for audit in object.audit(&kernel)? {
//!     assert_eq!(audit.verdict(), Verdict::Wrong);
//!     for read in audit.reads() {
//!         println!("{:?}: wants {:?}, gets {:?}", read.line(), read.wants(), read.gets());
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! CO-RE relocations are applied as by libbpf, and a branch that they or constants of
//! `.rodata` decide is followed one way only. A read that cannot be judged is
//! [`Unknown`](Verdict::Unknown): nothing is guessed.

mod calls;
mod core_match;
mod core_spec;
mod core_types;
mod elf;
mod error;
mod ext;
mod facts;
mod helpers;
mod instruction;
mod interpret;
mod judge;
mod jumps;
mod light;
mod memory;
mod nullable;
mod on_kernel;
mod own_struct;
mod program;
mod raw;
mod relocate;
mod shape;
mod state;
mod values;
mod verdict;

pub use core_types::AuditedKernel;
pub use error::BpfObjectError;
pub use facts::{FactKind, ProgramFacts, ProgramKind, ReadFact};
pub use program::{Attachable, BpfProgram};
pub use verdict::{AuditRow, AuditedRead, ProgramAudit, SourceLine, Verdict};

use crate::error::Error;
use crate::kernel::Kernel;
use crate::machine::ByteOrder;
use crate::name::EventName;
use elf::{BpfElf, CodeAddress};
use on_kernel::ObjectOnKernel;
use relocate::CoreField;

/// A compiled eBPF object: an ELF file of machine `EM_BPF`, as clang, rustc and gcc
/// write it, of either byte order.
#[derive(Clone, Debug)]
pub struct BpfObject {
    /// Whether it is a light skeleton's.
    is_light: bool,
    elf: BpfElf,
    programs: Vec<BpfProgram>,
    /// By index of the relocation: the field it names.
    fields: Vec<Option<CoreField>>,
}

/// An object found inside another file.
#[derive(Clone, Debug)]
pub struct EmbeddedObject {
    offset: usize,
    object: Result<BpfObject, BpfObjectError>,
}

impl EmbeddedObject {
    /// Where in the file the object begins, in bytes.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Returns the object, or the error if it cannot be read.
    ///
    /// # Errors
    ///
    /// Those of [`BpfObject::parse`].
    pub fn object(&self) -> Result<&BpfObject, &BpfObjectError> {
        self.object.as_ref()
    }

    /// Returns the object, or the error if it cannot be read.
    ///
    /// # Errors
    ///
    /// Those of [`BpfObject::parse`].
    pub fn into_object(self) -> Result<BpfObject, BpfObjectError> {
        self.object
    }
}

/// The most objects in one file: tools have one or a few.
const MAX_EMBEDDED: usize = 1024;
/// The most programs in one object.
const MAX_PROGRAMS: usize = 1 << 14;

impl BpfObject {
    /// Reads an object: the bytes of a `.bpf.o` file. Bytes after its end are ignored.
    ///
    /// # Errors
    ///
    /// [`BpfObjectError`] if the bytes are not an eBPF object.
    pub fn parse(bytes: &[u8]) -> Result<Self, BpfObjectError> {
        let elf = BpfElf::parse(bytes)?;
        let mut programs = Vec::new();
        for (section, code) in elf.code.iter().enumerate() {
            // Subprograms, which programs call.
            if code.name == ".text" {
                continue;
            }
            for function in code.functions.iter().filter(|function| function.is_global) {
                if programs.len() == MAX_PROGRAMS {
                    return Err(BpfObjectError::TooMany {
                        what: "programs",
                        limit: MAX_PROGRAMS,
                    });
                }
                programs.push(BpfProgram {
                    name: function.name.clone(),
                    section: code.name.clone(),
                    attachable: Attachable::of_section(&code.name),
                    is_inferred: false,
                    start: CodeAddress {
                        section: section as u32,
                        instruction: function.start,
                    },
                });
            }
        }
        Ok(Self::new(elf, programs, false))
    }

    fn new(elf: BpfElf, programs: Vec<BpfProgram>, is_light: bool) -> Self {
        let field = |record| {
            elf.btf
                .as_deref()
                .and_then(|btf| relocate::core_field(btf, record))
        };
        let fields = elf.relocations.iter().map(field).collect();
        Self {
            is_light,
            elf,
            programs,
            fields,
        }
    }

    /// Finds the objects in a file: the file itself, or those that a program embeds
    /// (libbpf's skeletons, Go's `embed`, Rust's `include_bytes!`). Light skeletons
    /// (`bpftool gen skeleton -L`) are read as the objects they were made of, with the place
    /// of their loader; [`attach`](Self::attach) sets the events that they do not say.
    /// Compressed or encoded objects are not found.
    ///
    /// ```
    /// use tracepoints::audit::BpfObject;
    ///
    /// # let object = std::fs::read("tests/fixtures/audit/openat.bpf.o")?;
    /// let tool = [b"a program with", object.as_slice(), b"in it"].concat();
    /// let found = BpfObject::find(&tool);
    /// assert_eq!(found[0].offset(), 14);
    /// assert_eq!(found[0].object().map(|object| object.programs().len()).ok(), Some(1));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn find(bytes: &[u8]) -> Vec<EmbeddedObject> {
        const MAGIC: &[u8] = b"\x7fELF\x02";
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(rest) = bytes.get(at..) {
            let Some(start) = rest.windows(MAGIC.len()).position(|window| window == MAGIC) else {
                break;
            };
            let offset = at + start;
            at = offset + MAGIC.len();
            let object = &bytes[offset..];
            // The file's type and machine: relocatable, and eBPF's.
            let is_bpf = matches!(
                (object.get(5), object.get(16..20)),
                (Some(1), Some([1, 0, 247, 0])) | (Some(2), Some([0, 1, 0, 247]))
            );
            if is_bpf && found.len() < MAX_EMBEDDED {
                found.push(EmbeddedObject {
                    offset,
                    object: Self::parse(object),
                });
            }
        }
        let left = MAX_EMBEDDED - found.len();
        let light = light::find(bytes).take(left);
        found.extend(light.map(|(offset, object)| EmbeddedObject { offset, object }));
        found
    }

    /// Returns the programs, in the order of their sections.
    pub fn programs(&self) -> &[BpfProgram] {
        &self.programs
    }

    /// Returns the byte order that it was compiled for.
    pub fn byte_order(&self) -> ByteOrder {
        self.elf.byte_order
    }

    /// Sets the event that a program is attached to, for a program whose section does
    /// not name it (libbpf's `SEC("tp")`) or names another.
    ///
    /// # Errors
    ///
    /// [`BpfObjectError::NoProgram`] if the object has no program of this name.
    pub fn attach(&mut self, program: &str, event: &EventName) -> Result<(), BpfObjectError> {
        let mut programs = self.programs.iter_mut();
        let known = programs.find(|known| known.name == program);
        let known = known.ok_or_else(|| BpfObjectError::NoProgram {
            name: program.to_owned(),
        })?;
        known.attachable = Attachable::Tracepoint(Some(event.clone()));
        known.is_inferred = false;
        Ok(())
    }

    /// Sets a constant of `.rodata`, as a loader does before it loads the object.
    /// Branches on it are then followed accordingly. `value` has the constant's size
    /// and the object's byte order.
    ///
    /// # Errors
    ///
    /// [`BpfObjectError::NoConstant`] if the object has no such constant of this size.
    pub fn set_constant(&mut self, name: &str, value: &[u8]) -> Result<(), BpfObjectError> {
        let data = &mut self.elf.data;
        let mut constants = self.elf.constants.iter();
        let target = constants.find_map(|symbol| {
            let section = data.get(symbol.section as usize)?;
            let is_it = symbol.name == name && symbol.size == value.len() as u64;
            let start = usize::try_from(symbol.offset).ok()?;
            let end = start.checked_add(value.len())?;
            (is_it && section.is_constant() && end <= section.bytes.len())
                .then_some((symbol.section as usize, start..end))
        });
        let (section, range) = target.ok_or_else(|| BpfObjectError::NoConstant {
            name: name.to_owned(),
            size: value.len(),
        })?;
        data[section].bytes[range].copy_from_slice(value);
        Ok(())
    }

    /// Audits each program of a tracepoint on a kernel, in the order of
    /// [`programs`](Self::programs); programs of other types are left out.
    ///
    /// For many objects, [`audit_on`](Self::audit_on) indexes the kernel's types once.
    ///
    /// # Errors
    ///
    /// Those of [`Kernel::tracepoint`] and
    /// [`Tracepoint::context`](crate::Tracepoint::context) that concern the whole
    /// kernel. An event that is not there is no error, but
    /// [`Absent`](Verdict::Absent).
    pub fn audit(&self, kernel: &Kernel) -> Result<Vec<ProgramAudit>, Error> {
        self.audit_on(&AuditedKernel::new(kernel))
    }

    /// Audits on a kernel like [`audit`](Self::audit), with an index of its types that
    /// many objects share.
    ///
    /// # Errors
    ///
    /// Those of [`audit`](Self::audit).
    pub fn audit_on(&self, kernel: &AuditedKernel) -> Result<Vec<ProgramAudit>, Error> {
        let of_tracepoints = |program: &&BpfProgram| program.attachable != Attachable::Other;
        let mut programs = self.programs.iter().filter(of_tracepoints).peekable();
        if programs.peek().is_none() {
            return Ok(Vec::new());
        }
        let audit = ObjectOnKernel::load(self, kernel)?;
        programs.map(|program| audit.program(program)).collect()
    }

    /// Returns what each program of a tracepoint reads on a kernel, in the order of
    /// [`audit`](Self::audit), without the verdict on it: see [`ReadFact`].
    ///
    /// # Errors
    ///
    /// Those of [`audit`](Self::audit).
    pub fn facts_on(&self, kernel: &AuditedKernel) -> Result<Vec<ProgramFacts>, Error> {
        let of_tracepoints = |program: &&BpfProgram| program.attachable != Attachable::Other;
        let programs = self.programs.iter().filter(of_tracepoints);
        let audit = ObjectOnKernel::load(self, kernel)?;
        programs.map(|program| audit.facts(program)).collect()
    }

    /// Whether it is of a light skeleton (`bpftool gen skeleton -L`).
    pub fn is_light_skeleton(&self) -> bool {
        self.is_light
    }

    /// Whether it has CO-RE relocations, which need the kernel's BTF.
    pub fn has_relocations(&self) -> bool {
        !self.elf.relocations.is_empty()
    }
}
