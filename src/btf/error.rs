//! Why a BTF object cannot be read.

/// A BTF object that is not what a kernel writes.
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
        /// Where it should end, in bytes from the object's start.
        end: u64,
        /// How many bytes the object has.
        len: u64,
    },
    /// A type of a kind this crate does not know, of which the object does not say how
    /// long it is either, so that the types after it cannot be found.
    #[error(
        "type {id} is of kind {kind}, which is not known, and no layout section says how long it is"
    )]
    Kind {
        /// The type's id.
        id: u32,
        /// Its kind's number.
        kind: u32,
    },
    /// A layout section that is not an array of four bytes for each kind.
    #[error("the layout section has {length} bytes, not four for each kind")]
    LayoutLength {
        /// Its length, in bytes.
        length: usize,
    },
    /// A layout section that gives a kind another length than types of it have.
    #[error("the layout section gives kind {kind} another length than it has")]
    KindLength {
        /// The kind's number.
        kind: u32,
    },
    /// A type whose name lies outside the strings, is longer than any, or has
    /// control characters.
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
    /// A type that a module was made with is not one type of vmlinux's, so that it is not
    /// known what it is there.
    #[error(
        "type {id} of the distilled base, {name}, is {found} types of vmlinux, not one: was the module built for another kernel?"
    )]
    Relocation {
        /// The type's id in `.BTF.base`.
        id: u32,
        /// Its name, with control characters escaped.
        name: String,
        /// How many types of vmlinux have its name, kind and size.
        found: usize,
    },
    /// A module's object that does not fit the vmlinux object it came with.
    #[error("split BTF has the other byte order than its base")]
    Base,
    /// A `long int` of neither 4 nor 8 bytes: no machine Linux runs on has one.
    #[error("its long int has {size} bytes, not 4 or 8")]
    LongSize {
        /// Its size, in bytes.
        size: u32,
    },
    /// More types about tracepoints than any kernel has: contexts, typedefs and
    /// functions.
    #[error("over {limit} types about tracepoints, more than any kernel has")]
    TooManyTracepoints {
        /// How many there may be.
        limit: usize,
    },
    /// Names of tracepoints and their arguments that come to several times the
    /// object's size, as they lie over one another.
    #[error(
        "its tracepoints' names and arguments come to over {limit} bytes, more than a kernel's"
    )]
    TooLongTracepoints {
        /// How many bytes they may come to: four times the object's, and 64 KiB.
        limit: usize,
    },
    /// Types that cannot be followed.
    #[error("{0}")]
    Describe(String),
}
