//! Errors of BTF objects.

/// Why a BTF object cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    /// The first two bytes are neither byte order's magic number, 0xeb9f.
    #[error("not BTF: it begins with {found:#06x}, not with 0xeb9f")]
    Magic {
        /// The first two bytes, as a little-endian number.
        found: u16,
    },
    /// A version or flags this crate does not know.
    #[error("BTF version {version} with flags {flags:#x} is not known; 1 with 0 is")]
    Version {
        /// The header's version.
        version: u8,
        /// The header's flags.
        flags: u8,
    },
    /// The object ends before something its header promises.
    #[error("truncated: {what} ends at byte {end}, the object at {len}")]
    Truncated {
        /// The part that is cut.
        what: &'static str,
        /// Where the part should end, in bytes from the object's start.
        end: u64,
        /// How many bytes the object has.
        len: u64,
    },
    /// A type of a kind this crate does not know, whose length the object does not state
    /// either, so that the types after it cannot be found.
    #[error(
        "type {id} is of kind {kind}, which is not known, and no layout section says how long it is"
    )]
    Kind {
        /// The type's id.
        id: u32,
        /// The kind's number.
        kind: u32,
    },
    /// The layout section is not an array of four bytes for each kind.
    #[error("the layout section has {length} bytes, not four for each kind")]
    LayoutLength {
        /// The section's length, in bytes.
        length: usize,
    },
    /// The layout section gives a kind another length than its types have.
    #[error("the layout section gives kind {kind} another length than it has")]
    KindLength {
        /// The kind's number.
        kind: u32,
    },
    /// A type's name lies outside of the strings, is too long, or has control characters.
    #[error("type {id} has no name at {offset} of the strings that a type may have")]
    Name {
        /// The type's id.
        id: u32,
        /// The name's offset.
        offset: u32,
    },
    /// The strings do not end with a NUL byte.
    #[error("the strings do not end with a NUL byte")]
    Strings,
    /// A type of a module's distilled base that matches none of vmlinux's types, or
    /// several, so that its id in vmlinux is not known.
    #[error(
        "type {id} of the distilled base, {name}, is {found} types of vmlinux, not one: was the module built for another kernel?"
    )]
    Relocation {
        /// The type's id in `.BTF.base`.
        id: u32,
        /// The type's name, with control characters escaped.
        name: String,
        /// The number of types of vmlinux that match the type.
        found: usize,
    },
    /// A module's object does not fit the vmlinux object it is read with: their byte
    /// orders differ.
    #[error("split BTF has the other byte order than its base")]
    Base,
    /// A `long int` of neither 4 nor 8 bytes, which no machine that Linux runs on has.
    #[error("its long int has {size} bytes, not 4 or 8")]
    LongSize {
        /// The size of `long int`, in bytes.
        size: u32,
    },
    /// More types about tracepoints (contexts, typedefs and functions) than any kernel
    /// has.
    #[error("over {limit} types about tracepoints, more than any kernel has")]
    TooManyTracepoints {
        /// The most types that are read.
        limit: usize,
    },
    /// The names of tracepoints and their arguments overlap, and add up to several times
    /// the object's size.
    #[error(
        "its tracepoints' names and arguments come to over {limit} bytes, more than a kernel's"
    )]
    TooLongTracepoints {
        /// The limit in bytes: four times the object's size, plus 64 KiB.
        limit: usize,
    },
    /// Types that cannot be followed, with the reason.
    #[error("{0}")]
    Describe(String),
}
