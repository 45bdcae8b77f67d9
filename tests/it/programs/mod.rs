//! The example programs.

#[cfg(all(feature = "probe", target_os = "linux"))]
mod attach;
mod raw;
#[cfg(target_os = "linux")]
mod running_kernel;

#[path = "../../support/example.rs"]
mod example;
