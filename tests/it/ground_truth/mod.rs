//! Our answers against ground truth: what captured kernels, and the running one, report
//! about themselves.

mod classes;
mod raw_tracepoints;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod running_kernel;
mod trace_lines;
