//! The writer of BTF, by the path at which the tests' writers look for it.

#[path = "../../tests/it/support/btf.rs"]
pub(crate) mod btf;
