//! Names for addresses of the kernel: functions and strings.

use std::collections::HashMap;
use std::fmt::Write;

use super::output::Output;

/// Names of addresses in the kernel's memory, for printing.
///
/// Functions come from `/proc/kallsyms`, strings from tracefs' `printk_formats`. An
/// address without a name is printed as a number.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// Sorted by address; symbols of one address are in the order of `kallsyms`.
    symbols: Vec<NamedAddress>,
    /// The modules that symbols are in.
    modules: Vec<Box<str>>,
    strings: HashMap<u64, Box<str>>,
}

/// A line of `/proc/kallsyms`.
#[derive(Clone, Debug)]
struct NamedAddress {
    address: u64,
    name: Box<str>,
    /// The index of its module in [`Addresses::modules`].
    module: Option<u32>,
    is_code: bool,
}

/// A symbol of the kernel, and an address inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelSymbol<'a> {
    /// Its name.
    pub name: &'a str,
    /// The module that has it; `None` if it is built in.
    pub module: Option<&'a str>,
    /// The distance of the address from its start, in bytes.
    pub offset: u64,
    /// The distance from its start to the next symbol, in bytes. `None` for a module's
    /// last function and for data that may be the last, because `kallsyms` does not say
    /// where they end.
    pub size: Option<u64>,
}

impl KernelSymbol<'_> {
    /// Appends the name, the offset and the size: `schedule+0x8/0x130`.
    pub(super) fn write_with_offset(self, out: &mut Output) {
        let (name, offset) = (self.name, self.offset);
        let _ = match self.size {
            Some(size) => write!(out, "{name}+{offset:#x}/{size:#x}"),
            None => write!(out, "{name}+{offset:#x}/<size>"),
        };
    }
}

/// The smallest size of a page, in bytes. A module's code ends at the end of a page.
const PAGE: u64 = 4096;

/// Whether a compiler or assembler made the symbol, to mark places in code: the kernel's
/// `is_mapping_symbol()` (`include/linux/module_symbol.h`).
fn is_mapping_symbol(name: &str) -> bool {
    name.starts_with(".L") || name.starts_with("L0") || name.starts_with('$')
}

impl Addresses {
    /// Creates a table without names.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the symbols of `/proc/kallsyms`: `address type name`, and `[module]` after
    /// a tab. Lines without an address, which users other than root see, are left out,
    /// and so are symbols that the kernel never uses as names: `.L…`, `L0…` and `$…`.
    #[must_use]
    pub fn with_kallsyms(mut self, text: &str) -> Self {
        let mut modules: HashMap<&str, u32> = HashMap::new();
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            let address = words
                .next()
                .and_then(|word| u64::from_str_radix(word, 16).ok());
            let is_code = matches!(words.next(), Some("t" | "T" | "w" | "W"));
            let name = words.next().unwrap_or_default();
            let (name, module) = match name.split_once('\t') {
                Some((name, module)) => (name, Some(module.trim_matches(['[', ']']))),
                None => (name, None),
            };
            let Some(address) = address.filter(|address| *address != 0) else {
                continue;
            };
            if name.is_empty() || is_mapping_symbol(name) {
                continue;
            }
            let module = module.map(|module| {
                *modules.entry(module).or_insert_with(|| {
                    self.modules.push(module.into());
                    self.modules.len() as u32 - 1
                })
            });
            self.symbols.push(NamedAddress {
                address,
                name: name.into(),
                module,
                is_code,
            });
        }
        self.symbols.sort_by_key(|symbol| symbol.address);
        self
    }

    /// Adds the strings of `printk_formats`: `0xaddress : "string"`.
    #[must_use]
    pub fn with_printk_formats(mut self, text: &str) -> Self {
        for line in text.lines() {
            let Some((address, string)) = line.split_once(" : ") else {
                continue;
            };
            let address = address.trim().trim_start_matches("0x");
            let string = string
                .strip_prefix('"')
                .and_then(|string| string.strip_suffix('"'));
            if let (Ok(address), Some(string)) = (u64::from_str_radix(address, 16), string) {
                self.strings.insert(address, string.into());
            }
        }
        self
    }

    /// Returns the string at this address.
    pub(super) fn string(&self, address: u64) -> Option<&str> {
        self.strings.get(&address).map(|string| &**string)
    }

    /// Returns the symbol that contains an address. The kernel's last symbol contains
    /// none, since `kallsyms` does not say where it ends; the last function of a module
    /// extends at least to the end of its page.
    pub fn symbol(&self, address: u64) -> Option<KernelSymbol<'_>> {
        let start_of = |symbol: &NamedAddress| symbol.address;
        let after = self.symbols.partition_point(|it| start_of(it) <= address);
        let start = start_of(self.symbols.get(after.checked_sub(1)?)?);
        // The kernel, too, takes the first of several at one address.
        let first = self.symbols.partition_point(|it| start_of(it) < start);
        let symbol = &self.symbols[first];
        let last = start | (PAGE - 1);
        let next = self.symbols.get(after);
        let next = next.filter(|next| next.module == symbol.module);
        // A module's code, data and init sections each have their own pages. Of code,
        // kallsyms lists one part.
        let next = next.filter(|next| {
            let is_code = next.is_code && symbol.is_code;
            symbol.module.is_none() || is_code || next.address <= last
        });
        let size = next.map(|next| next.address - start);
        let is_in_page = || symbol.module.is_some() && address <= last;
        (size.is_some() || is_in_page()).then(|| KernelSymbol {
            name: &symbol.name,
            module: symbol.module.map(|index| &*self.modules[index as usize]),
            offset: address - start,
            size,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KALLSYMS: &str = "\
ffffffff81000000 T start
ffffffff81000010 t $x
ffffffff81000020 t .LBB7
ffffffff81000030 t L0^A
ffffffff81000100 d end
ffffffffc0000000 t first\t[one]
ffffffffc0000f00 t last\t[one]
ffffffffc0004000 r table\t[one]
ffffffffc0004100 d more\t[one]
ffffffffc0008000 d far\t[one]
ffffffffc0009000 t other\t[two]
";

    #[test]
    fn symbols_end_where_the_kernel_ends_them() {
        let addresses = Addresses::new().with_kallsyms(KALLSYMS);
        let shown = |address| {
            addresses.symbol(address).map(|it| {
                let size = it.size.map_or("?".to_owned(), |size| format!("{size:#x}"));
                let module = it.module.unwrap_or("-");
                format!("{}+{:#x}/{size} {module}", it.name, it.offset)
            })
        };
        for (address, expected) in [
            (0xffff_ffff_8000_0000, None),
            (0xffff_ffff_8100_0031, Some("start+0x31/0x100 -")),
            // Anything may follow the kernel's last symbol.
            (0xffff_ffff_8100_0101, None),
            (0xffff_ffff_c000_0001, Some("first+0x1/0xf00 one")),
            (0xffff_ffff_c000_0fff, Some("last+0xff/? one")),
            (0xffff_ffff_c000_1000, None),
            (0xffff_ffff_c000_4001, Some("table+0x1/0x100 one")),
            (0xffff_ffff_c000_4101, Some("more+0x1/? one")),
            (0xffff_ffff_c000_5000, None),
            (0xffff_ffff_c000_9000, Some("other+0x0/? two")),
            (u64::MAX, None),
        ] {
            assert_eq!(shown(address).as_deref(), expected, "{address:#x}");
        }
    }
}
