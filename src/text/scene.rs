//! The surroundings of a record that is printed.

use std::fmt::Write;

use super::addresses::Addresses;
use super::line::TraceContext;
use super::output::Output;
use super::version::KernelVersion;

/// Everything besides its bytes that a record's text depends on.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) addresses: &'a Addresses,
    /// The place and time of the record, if its whole line is printed.
    pub(super) context: Option<&'a TraceContext<'a>>,
    pub(super) version: Option<KernelVersion>,
}

/// Functions whose address replaces a return address while a probe waits for the
/// return; the kernel marks them (`kretprobed()`).
const TRAMPOLINES: [&str; 3] = [
    "kretprobe_trampoline",
    "__kretprobe_trampoline",
    "arch_rethook_trampoline",
];

impl Scene<'_> {
    /// Appends a function's name, or the address: `seq_print_ip_sym()`.
    pub(super) fn symbol(&self, address: u64, out: &mut Output) {
        self.write_symbol(address, false, out);
    }

    /// Appends the name with the offset in the function, its size and its module:
    /// `schedule+0x8/0x130`.
    pub(super) fn symbol_with_offset(&self, address: u64, out: &mut Output) {
        self.write_symbol(address, true, out);
    }

    fn write_symbol(&self, address: u64, with_offset: bool, out: &mut Output) {
        let symbol = match address {
            0 => return out.push('0'),
            _ => self.addresses.symbol(address),
        };
        let _ = match symbol {
            None => write!(out, "0x{address:08x}"),
            Some(symbol) if TRAMPOLINES.contains(&symbol.name) => {
                write!(out, "[unknown/kretprobe'd]")
            }
            Some(symbol) if !with_offset => write!(out, "{}", symbol.name),
            Some(symbol) => {
                symbol.write_with_offset(out);
                match symbol.module {
                    Some(module) => write!(out, " [{module}]"),
                    None => Ok(()),
                }
            }
        };
    }
}
