//! All file access: tracefs and BTF, of the running kernel or of a captured one.

mod btf_dir;
mod listing;
mod mount;
#[cfg(feature = "image")]
mod package;
mod read;
mod tracefs;
mod tree;

pub(crate) use btf_dir::{BtfDir, Modules};
pub(crate) use listing::Listing;
pub use listing::{Events, RejectedName};
#[cfg(feature = "image")]
pub(crate) use package::Package;
pub(crate) use read::{Dir, Reader};
pub(crate) use tracefs::Tracefs;
#[cfg(feature = "image")]
pub(crate) use tree::FileTree;
