//! Errors about BPF objects.

use crate::btf::BtfError;

/// Bytes that are not an eBPF object as compilers write them.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BpfObjectError {
    /// The bytes are not an ELF file.
    #[error("not an ELF file of 64 bits")]
    Elf {
        /// The fault that the reader of ELF files found.
        source: object::read::Error,
    },
    /// An ELF file of another machine.
    #[error("an ELF file of machine {machine}, not of eBPF (247)")]
    NotBpf {
        /// The file's `e_machine`.
        machine: u16,
    },
    /// The loader of a light skeleton, as `bpftool gen skeleton -L` writes it, without the
    /// object's programs, which are in its data.
    #[error(
        "a light skeleton (bpftool gen skeleton -L) whose data is not in the file: audit the object it was made of"
    )]
    LightSkeleton,
    /// The loader of a light skeleton, which would take several data in the file.
    #[error(
        "a light skeleton (bpftool gen skeleton -L) whose data may be any of {found} in the file: audit the object it was made of"
    )]
    AmbiguousLightSkeleton {
        /// The number of data that it would take.
        found: usize,
    },
    /// A light skeleton that cannot be read.
    #[error(
        "a light skeleton (bpftool gen skeleton -L) that cannot be read: {what}; audit the object it was made of"
    )]
    LightSkeletonPart {
        /// The fault.
        what: &'static str,
    },
    /// A part of the file that cannot be read.
    #[error("{part} cannot be read")]
    Part {
        /// The part: a section's name, `the symbols`…
        part: String,
        /// The fault that the reader of ELF files found.
        source: object::read::Error,
    },
    /// A section of code whose length is not a multiple of 8 bytes.
    #[error("section {section} has {length} bytes: not a multiple of an instruction's 8")]
    CodeLength {
        /// The section's name.
        section: String,
        /// Its length, in bytes.
        length: usize,
    },
    /// More of something than any object has.
    #[error("more than {limit} {what}")]
    TooMany {
        /// The things: `instructions`, `programs`…
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The section `.BTF` is not sound.
    #[error("section .BTF is not sound")]
    Btf {
        /// The fault.
        source: BtfError,
    },
    /// The section `.BTF.ext` is not sound.
    #[error("section .BTF.ext is not sound: {what}")]
    BtfExt {
        /// The fault.
        what: &'static str,
    },
    /// No program has this name.
    #[error("the object has no program {name}")]
    NoProgram {
        /// The name asked for.
        name: String,
    },
    /// No constant of `.rodata` has this name and size.
    #[error("the object has no constant {name} of {size} bytes in .rodata")]
    NoConstant {
        /// The name asked for.
        name: String,
        /// The size of the value given, in bytes.
        size: usize,
    },
}
