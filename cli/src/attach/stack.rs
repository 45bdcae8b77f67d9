//! Stacks, with the names of their functions.

use std::fmt::Write as _;

use blazesym::symbolize::source::{Process, Source};
use blazesym::symbolize::{Input, Symbolized, Symbolizer};
use serde::{Serialize, Serializer};
use tracepoints::Kernel;
use tracepoints::probe::ProbeRecord;
use tracepoints::text::Addresses;

use crate::output::Failure;

/// Finds the names of functions, in the kernel and in processes.
pub(super) struct Stacks {
    kernel: Addresses,
    user: Symbolizer,
    /// Whether processes and modules may be others by now.
    are_old: bool,
}

/// The stacks of a record, each with the innermost function first.
#[derive(Serialize)]
pub(super) struct NamedStacks {
    kernel: Vec<Frame>,
    user: Vec<Frame>,
}

/// A call that has not returned.
#[derive(Serialize)]
pub(super) struct Frame {
    #[serde(serialize_with = "as_address")]
    address: u64,
    function: Option<String>,
    /// The offset of the address in the function, in bytes.
    offset: Option<u64>,
    /// The kernel's module, or the process's file.
    module: Option<String>,
}

fn as_address<S: Serializer>(address: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{address:#x}"))
}

impl Stacks {
    pub(super) fn new(kernel: &Kernel, are_old: bool) -> Result<Self, Failure> {
        Ok(Self {
            are_old,
            kernel: kernel.addresses()?,
            user: Symbolizer::new(),
        })
    }

    /// Names the functions of a record's stacks.
    pub(super) fn of(&self, record: &ProbeRecord) -> NamedStacks {
        NamedStacks {
            kernel: self.of_kernel(record.kernel_stack()),
            user: self.of_process(record.task().pid, record.user_stack()),
        }
    }

    /// Names the functions of the kernel. Of old records no module is taken for the one that
    /// was there.
    pub(super) fn of_kernel(&self, addresses: impl Iterator<Item = u64>) -> Vec<Frame> {
        let frames = within(addresses).into_iter().map(|(address, inside)| {
            let symbol = self.kernel.symbol(inside);
            let symbol = symbol.filter(|symbol| !self.are_old || symbol.module.is_none());
            Frame {
                address,
                function: symbol.map(|symbol| symbol.name.to_owned()),
                offset: symbol.map(|symbol| symbol.offset + (address - inside)),
                module: symbol.and_then(|symbol| symbol.module.map(str::to_owned)),
            }
        });
        frames.collect()
    }

    /// Names the functions by the process's current mappings. For a process that has
    /// ended, only addresses are known, and so for old records, since another may have its
    /// number by now.
    pub(super) fn of_process(&self, pid: u32, addresses: impl Iterator<Item = u64>) -> Vec<Frame> {
        let user = within(addresses);
        let inside: Vec<u64> = user.iter().map(|(_, inside)| *inside).collect();
        let symbols = self.symbolized(pid, &inside);
        let symbols = symbols.into_iter().map(Some);
        let symbols = symbols.chain(std::iter::repeat_with(|| None));
        let user = user
            .into_iter()
            .zip(symbols)
            .map(|((address, inside), one)| {
                let symbol = match one {
                    Some(Symbolized::Sym(symbol)) => Some(symbol),
                    _ => None,
                };
                Frame {
                    address,
                    offset: symbol
                        .as_ref()
                        .map(|symbol| symbol.offset as u64 + (address - inside)),
                    module: symbol.as_ref().and_then(|symbol| {
                        let module = symbol.module.as_deref()?;
                        Some(module.to_string_lossy().into_owned())
                    }),
                    function: symbol.map(|symbol| symbol.name.into_owned()),
                }
            });
        user.collect()
    }
}

impl Stacks {
    fn symbolized(&self, pid: u32, addresses: &[u64]) -> Vec<Symbolized<'_>> {
        let mut process = Process::new(pid.into());
        let mut symbolize = |debug_syms| {
            process.debug_syms = debug_syms;
            let source = Source::Process(process.clone());
            self.user.symbolize(&source, Input::AbsAddr(addresses))
        };
        if addresses.is_empty() || self.are_old {
            return Vec::new();
        }
        // Unreadable debug information does not hide the file's own symbols.
        symbolize(true)
            .or_else(|_| symbolize(false))
            .unwrap_or_default()
    }
}

/// Returns the addresses, each with one inside the instruction that it is about: all
/// except the innermost are return addresses, which may lie after a function's end.
fn within(stack: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let both = |(index, address): (usize, u64)| (address, address - u64::from(index > 0));
    stack
        .filter(|address| *address > 0)
        .enumerate()
        .map(both)
        .collect()
}

impl NamedStacks {
    /// Appends a line for each function, as `perf script` has them.
    pub(super) fn print(&self, out: &mut String) {
        for frame in self.kernel.iter().chain(&self.user) {
            frame.print(out);
        }
    }
}

impl Frame {
    /// Appends a line.
    pub(super) fn print(&self, out: &mut String) {
        // Writing to a `String` is infallible.
        let _ = write!(out, "\n\t{:16x}", self.address);
        if let (Some(function), Some(offset)) = (&self.function, self.offset) {
            let _ = write!(out, " {function}+{offset:#x}");
        }
        if let Some(module) = &self.module {
            let _ = write!(out, " ({module})");
        }
    }
}
