//! What addresses of the kernel stand for: functions, and strings.

use std::collections::HashMap;

/// Names of addresses in the kernel's memory, for printing.
///
/// Functions are from `/proc/kallsyms`, strings from tracefs' `printk_formats`.
/// Without them addresses are printed as numbers.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// By address.
    symbols: Vec<(u64, Box<str>)>,
    strings: HashMap<u64, Box<str>>,
}

/// A symbol of the kernel, and where in it an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelSymbol<'a> {
    /// Its name.
    pub name: &'a str,
    /// The module it is in; `None` of what is built in.
    pub module: Option<&'a str>,
    /// How far the address is behind its start, in bytes.
    pub offset: u64,
    /// To where the next symbol begins, in bytes.
    pub size: u64,
}

impl Addresses {
    /// None known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what `/proc/kallsyms` says: `address type name`, and `[module]` after a
    /// tab. Lines without an address, as others than root see them, are left out,
    /// and so are arm64's mapping symbols (`$x`).
    #[must_use]
    pub fn with_kallsyms(mut self, text: &str) -> Self {
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            let address = words
                .next()
                .and_then(|word| u64::from_str_radix(word, 16).ok());
            let name = words.nth(1).unwrap_or_default();
            let (name, module) = match name.split_once('\t') {
                Some((name, module)) => (name, Some(module)),
                None => (name, None),
            };
            let Some(address) = address.filter(|address| *address != 0) else {
                continue;
            };
            if name.is_empty() || name.starts_with('$') {
                continue;
            }
            let name = match module {
                Some(module) => format!("{name} {module}"),
                None => name.to_owned(),
            };
            self.symbols.push((address, name.into()));
        }
        self.symbols.sort_by_key(|(address, _)| *address);
        self
    }

    /// Takes what `printk_formats` says: `0xaddress : "string"`.
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

    /// The string at this address.
    pub(super) fn string(&self, address: u64) -> Option<&str> {
        self.strings.get(&address).map(|string| &**string)
    }

    /// The symbol an address is in, as far as `kallsyms` says where it ends: the last one
    /// does not.
    pub fn symbol(&self, address: u64) -> Option<KernelSymbol<'_>> {
        let after = self.symbols.partition_point(|(start, _)| *start <= address);
        let (start, _) = self.symbols.get(after.checked_sub(1)?)?;
        // The first of several at one address, as the kernel chooses.
        let first = self.symbols.partition_point(|(other, _)| other < start);
        let (_, name) = &self.symbols[first];
        let (end, _) = self.symbols.get(after)?;
        let (name, module) = match name.split_once(' ') {
            Some((name, module)) => (name, Some(module.trim_matches(['[', ']']))),
            None => (&**name, None),
        };
        Some(KernelSymbol {
            name,
            module,
            offset: address - start,
            size: end - start,
        })
    }
}
