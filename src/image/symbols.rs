//! The symbols of a kernel or a module, by name and by address.

/// The symbols of a kernel or a module.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    names: String,
    /// Sorted by address.
    all: Vec<Symbol>,
    /// Indices into `all`, sorted by name.
    by_name: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Symbol {
    address: u64,
    start: u32,
    length: u32,
}

/// Limit on symbols; a kernel has 300,000.
pub(super) const MAX_SYMBOLS: usize = 1 << 22;

impl Symbols {
    /// Creates the table. Symbols beyond the limit are left out.
    pub(super) fn new<N: AsRef<str>>(symbols: impl IntoIterator<Item = (u64, N)>) -> Self {
        let mut names = String::new();
        let mut all = Vec::new();
        for (address, name) in symbols.into_iter().take(MAX_SYMBOLS) {
            let name = name.as_ref();
            let start = u32::try_from(names.len());
            let length = u32::try_from(name.len());
            let (Ok(start), Ok(length)) = (start, length) else {
                break;
            };
            names.push_str(name);
            all.push(Symbol {
                address,
                start,
                length,
            });
        }
        all.sort_by_key(|symbol| symbol.address);
        let mut by_name: Vec<u32> = (0..all.len() as u32).collect();
        let name = |symbol: &Symbol| name_in(&names, symbol);
        by_name.sort_by(|a, b| name(&all[*a as usize]).cmp(name(&all[*b as usize])));
        Self {
            names,
            all,
            by_name,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn name(&self, symbol: &Symbol) -> &str {
        name_in(&self.names, symbol)
    }

    /// Returns all names of an address.
    pub(super) fn at(&self, address: u64) -> impl Iterator<Item = &str> {
        let start = self.all.partition_point(|symbol| symbol.address < address);
        let same = self.all[start..].iter();
        same.take_while(move |symbol| symbol.address == address)
            .map(|symbol| self.name(symbol))
    }

    /// Returns the rest of the address's name that begins with `prefix`. Parts that
    /// compilers add to names (`.llvm.123`, `.cfi_jt`) are left out.
    pub(super) fn at_with_prefix(&self, address: u64, prefix: &str) -> Option<&str> {
        let name = self
            .at(address)
            .find_map(|name| name.strip_prefix(prefix))?;
        name.split('.').next().filter(|name| !name.is_empty())
    }

    /// Returns the address of the first symbol of this name.
    pub(super) fn address_of(&self, name: &str) -> Option<u64> {
        let symbol = |place: &u32| self.all.get(*place as usize);
        let start = self
            .by_name
            .partition_point(|place| symbol(place).is_some_and(|one| self.name(one) < name));
        let first = symbol(self.by_name.get(start)?)?;
        (self.name(first) == name).then_some(first.address)
    }

    /// Returns the last symbol at or before an address: its own address and its first name.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(super) fn before(&self, address: u64) -> Option<(u64, &str)> {
        let after = self.all.partition_point(|symbol| symbol.address <= address);
        let start = self.all.get(after.checked_sub(1)?)?.address;
        Some((start, self.at(start).next()?))
    }

    /// Returns the first address after this one that has a name.
    pub(super) fn next_after(&self, address: u64) -> Option<u64> {
        let after = self.all.partition_point(|symbol| symbol.address <= address);
        self.all.get(after).map(|symbol| symbol.address)
    }
}

fn name_in<'a>(names: &'a str, symbol: &Symbol) -> &'a str {
    let start = symbol.start as usize;
    names
        .get(start..start + symbol.length as usize)
        .unwrap_or_default()
}
