//! All file access: tracefs and BTF, of the running kernel or of a captured one.

mod btf_dir;
mod listing;
mod mount;
mod read;
mod tracefs;

pub(crate) use btf_dir::{BtfDir, Modules};
pub(crate) use listing::Listing;
pub use listing::{Events, RejectedName};
pub(crate) use read::{Dir, Reader};
pub(crate) use tracefs::Tracefs;
