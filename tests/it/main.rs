//! The tests of the library, in one program.

mod house;
mod support;

#[cfg(feature = "audit")]
mod audit;
#[cfg(feature = "btf-rs")]
mod btf_rs;
mod class_rules;
mod concurrent_change;
mod dependencies;
mod emit;
mod failures;
mod format_files;
mod generated_kernels;
mod ground_truth;
mod layout;
mod many_at_once;
mod names;
mod newer_btf;
mod other_architectures;
mod print_fmts;
mod printed_by_code;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod probe;
mod programs;
mod raw_tracepoints;
mod resolution;
mod ring;
mod round_trip;
mod syscalls;
mod unsafe_code;
mod untrusted;
