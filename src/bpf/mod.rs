//! eBPF without libbpf: instructions, the system call, and the kernel's memory.

pub(crate) mod asm;
pub(crate) mod memory;
pub(crate) mod reader;
pub(crate) mod sys;

/// Whether the kernel is locked down to confidentiality, so that no program may read its
/// memory (`kernel_lockdown(7)`).
pub(crate) fn is_locked_down() -> bool {
    let modes = std::fs::read_to_string("/sys/kernel/security/lockdown");
    modes.is_ok_and(|modes| modes.contains("[confidentiality]"))
}
