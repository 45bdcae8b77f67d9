//! All file access: tracefs and BTF, of the running kernel or of a captured one.

#[cfg(feature = "image")]
mod archive;
mod btf_dir;
mod capture;
mod captured;
#[cfg(feature = "image")]
mod captured_archive;
mod dir;
mod listing;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod loaded;
mod mount;
#[cfg(feature = "image")]
mod package;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod processes;
mod reader;
#[cfg(feature = "recording")]
mod recording_file;
mod tracefs;
mod tree;

pub(crate) use btf_dir::{BtfDir, Modules};
pub(crate) use capture::capture_proc;
#[cfg(feature = "image")]
pub(crate) use captured_archive::{captured_archive, captured_files};
pub(crate) use dir::Dir;
pub(crate) use listing::Listing;
pub use listing::{Events, RejectedName};
#[cfg(all(feature = "probe", target_os = "linux"))]
pub(crate) use loaded::{LoadedModule, loaded_modules};
#[cfg(feature = "image")]
pub(crate) use package::{ModuleFile, Package};
#[cfg(all(feature = "probe", target_os = "linux"))]
pub(crate) use processes::{HeldFiles, HoldingProcesses};
pub(crate) use reader::Reader;
#[cfg(feature = "recording")]
pub(crate) use recording_file::recording_file;
#[cfg(all(feature = "probe", target_os = "linux"))]
pub(crate) use tracefs::InstanceUse;
pub(crate) use tracefs::Tracefs;
pub(crate) use tree::FileTree;
