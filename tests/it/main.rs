//! The tests of the library, in one program. `tests/README.md` says what each folder
//! holds and which test proves what.

mod support;

#[cfg(feature = "image")]
mod archives;
#[cfg(feature = "audit")]
mod audit;
#[cfg(feature = "btf-rs")]
mod btf_rs;
mod concurrent_change;
mod diff;
mod emit;
mod expressions;
mod failures;
mod format_files;
mod generated_kernels;
mod ground_truth;
#[cfg(feature = "image")]
mod image;
mod layout;
mod names;
mod newer_btf;
mod old_kernels;
mod other_architectures;
mod print_fmts;
mod printed_by_code;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod probe;
mod raw_tracepoints;
#[cfg(feature = "recording")]
mod recording;
mod resolution;
mod ring;
mod round_trip;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod sites;
mod source;
mod untrusted;
