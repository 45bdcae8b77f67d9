//! Where the captured kernels are, and this repository.

use std::path::Path;

#[path = "../../../tests/it/support/cases.rs"]
pub(crate) mod cases;
#[path = "../../../tests/it/support/kernels.rs"]
mod kernels;

pub(crate) use kernels::{corpus, fixture, fixtures, name, skip, test_name};

/// The repository this package is a directory of.
pub(crate) fn repository() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("a directory further up")
}
