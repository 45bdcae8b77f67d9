//! Fixtures, kernels made to order, and the running kernel.

pub(crate) mod btf;
pub(crate) mod capture;
#[cfg(all(feature = "probe", target_os = "linux"))]
pub(crate) mod kcore;
mod kernels;
#[cfg(target_os = "linux")]
pub(crate) mod live;

#[cfg(target_os = "linux")]
pub(crate) use kernels::test_name;
pub(crate) use kernels::{corpus, fixture, fixtures, name, skip};
