//! Contexts as source: it compiles, and has every member where the kernel has it.

pub(crate) mod every_event;
mod shapes;
