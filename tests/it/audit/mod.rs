//! Compiled objects held against kernels.

mod cases;
mod light;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod mutations;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod running_kernel;
mod tools;
