//! eBPF without libbpf: instructions, the system call, and the kernel's memory.

pub(crate) mod asm;
pub(crate) mod memory;
pub(crate) mod sys;
