//! Contexts as source in C and Rust: it compiles, and has every member at the kernel's
//! offset.

mod accessors;
pub(crate) mod every_event;
mod shapes;
mod surroundings;
