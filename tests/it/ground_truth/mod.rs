//! What captured kernels, and the running one, say of themselves, and we must say too.

mod classes;
mod raw_tracepoints;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod running_kernel;
mod trace_lines;
