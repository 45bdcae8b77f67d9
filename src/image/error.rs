//! Why a kernel's files cannot be read.

use crate::btf::BtfError;

/// Bytes that are not a kernel image, a module or a BTF object, or that this crate cannot
/// read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The first bytes match none of the formats that are read.
    #[error(
        "not a kernel image, a module or a BTF object (bzImage, Image, zboot, ELF; compressed or not)"
    )]
    Unknown,
    /// A compressed file that cannot be decompressed.
    #[error("the {format} data cannot be decompressed")]
    Compressed {
        /// The compression: `gzip`, `xz`, `zstd`, `lz4`, `lzo`, `bzip2` or `lzma`.
        format: &'static str,
        /// The decompressor's reason.
        #[source]
        reason: Reason,
    },
    /// Compressed or archived data that is larger than any kernel's.
    #[error("larger than {limit} bytes when decompressed")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Files nested inside each other, more deeply than in any kernel.
    #[error("more than {limit} files inside each other")]
    TooDeep {
        /// The limit on nesting.
        limit: u32,
    },
    /// A part of the file extends beyond the file's end.
    #[error("cut off: {part} ends beyond the file")]
    CutOff {
        /// The part.
        part: &'static str,
    },
    /// An ELF file that cannot be read.
    #[error("the ELF file cannot be read")]
    Elf {
        /// The ELF reader's reason.
        #[source]
        reason: Reason,
    },
    /// The image has no table of symbols: it was built without `CONFIG_KALLSYMS`, or in a
    /// form this crate does not know.
    #[error("no symbols: neither an ELF symbol table nor kallsyms")]
    NoSymbols,
    /// A symbol that the kernel's linker defines is missing from the image.
    #[error("no symbol {name} in the image: built without CONFIG_EVENT_TRACING?")]
    NoSymbol {
        /// The symbol.
        name: &'static str,
    },
    /// The image has no BTF, which describes the layout of the kernel's structs.
    #[error("no BTF in the image: the kernel was built without CONFIG_DEBUG_INFO_BTF")]
    NoBtf,
    /// The image's BTF is invalid.
    #[error("the BTF in the image cannot be read")]
    Btf(#[from] BtfError),
    /// The kernel's structs differ from those this crate knows. Before Linux 5.5, an
    /// event's fields are defined by code and not by data.
    #[error("the image's BTF has no {what}: Linux 5.5 and later are read")]
    Structs {
        /// The struct and its member, or the enumerator.
        what: String,
    },
    /// The image's address in memory cannot be determined.
    #[error("the image's address in memory cannot be found out")]
    NoBase,
    /// A package or directory contains no kernel's image.
    #[error(
        "no kernel's image: neither boot/vmlinuz-* nor lib/modules/*/vmlinuz; distributions may have it in another package"
    )]
    NoKernel,
    /// A package or directory contains several kernels' images.
    #[error("several kernels' images, of which one has to be named: {}", files.join(", "))]
    SeveralKernels {
        /// The files.
        files: Vec<String>,
    },
    /// An archive contains several captured kernels.
    #[error("several captured kernels in one archive: {}", directories.join(", "))]
    SeveralCaptures {
        /// The directories that contain them, or the first of these.
        directories: Vec<String>,
    },
    /// A module without its kernel's image, which has the types that the module uses.
    #[error("a module alone: the image of its kernel, {built_for}, has the types that it uses")]
    ModuleAlone {
        /// The release of the kernel that the module was built for, or `of unknown release`.
        built_for: String,
    },
    /// The module was built for another kernel: its BTF has numbers of that kernel's types.
    #[error("the module was built for {module}, and the kernel is {kernel}")]
    OtherKernel {
        /// The release that the module was built for, or the size of its machine's words.
        module: String,
        /// The same of the kernel.
        kernel: String,
    },
    /// Another module of the package has the same name.
    #[error("there are two modules of this name")]
    TwoModules,
    /// Modules were given with a captured kernel or with BTF alone, to which no module can be
    /// linked.
    #[error("no kernel's image, which modules are linked to: it is a captured kernel or BTF alone")]
    NoImageForModules,
    /// A table in the image is not one that a kernel has.
    #[error("the image's {table} is not a kernel's")]
    Table {
        /// The table.
        table: &'static str,
    },
}

/// Another crate's reason, as text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Reason(pub(super) String);

impl Reason {
    pub(super) fn of(error: &dyn std::error::Error) -> Self {
        Self(error.to_string())
    }
}
