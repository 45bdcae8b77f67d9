//! The symbols that a kernel carries for itself, found in its read-only data.
//!
//! `scripts/kallsyms.c` writes these tables. A stripped image does not say where they are.
//! They are found by the token table, in which the digits `0` to `9` follow one another,
//! and every other table is checked against those found before:
//!
//! | Linux | order |
//! | --- | --- |
//! | up to 6.1 | addresses, relative base, number, names, markers, tokens, token index |
//! | 6.2, 6.3 | as up to 6.1, with the names' order between markers and tokens |
//! | 6.4 to 6.19 | number, names, markers, tokens, token index, addresses, relative base, order |
//! | 7.0 and later | as in 6.4, without relative base: addresses are relative to their places |
//!
//! Addresses are 8 bytes (4 on 32-bit machines), or 4 bytes relative to the lowest address.
//! With `CONFIG_KALLSYMS_ABSOLUTE_PERCPU` (x86 up to 6.14), a word of 0 or more is an
//! absolute address, and a negative one is `-1 - offset` of a relative address.

use crate::machine::Machine;

/// A table of symbols: their names, and where they are.
#[derive(Debug)]
pub(super) struct Kallsyms {
    /// The names without the letter of their kind, in the order of addresses.
    pub(super) names: Vec<String>,
    pub(super) places: Vec<SymbolPlace>,
}

/// The place of a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SymbolPlace {
    /// The distance in bytes from `_text`, the kernel's start.
    FromText(i64),
    /// An absolute address, which does not move with the kernel.
    Absolute(u64),
}

/// Limit on symbols; a kernel has 300,000.
const MAX_SYMBOLS: usize = super::symbols::MAX_SYMBOLS;
/// Limit on a name's length in bytes. The kernel's is `KSYM_NAME_LEN`, 512.
const MAX_NAME: usize = 1024;
/// Limit on the size of all names together in bytes. Kernels' have some 10 MB.
const MAX_NAMES: usize = 256 << 20;

/// The number of tokens.
const TOKENS: usize = 256;
/// The index of the token `0`.
const DIGIT: usize = b'0' as usize;

impl Kallsyms {
    /// Finds the tables in the bytes of a kernel; `None` if there are none.
    pub(super) fn find(bytes: &[u8], machine: Machine) -> Option<Self> {
        let mut from = 0;
        while let Some(digits) = find_digits(bytes, from) {
            from = digits + 1;
            let found = Tokens::around(bytes, digits, machine)
                .and_then(|tokens| Self::beside(bytes, machine, &tokens));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn beside(bytes: &[u8], machine: Machine, tokens: &Tokens<'_>) -> Option<Self> {
        let names = SymbolNames::before(bytes, tokens.start, machine)?;
        let decoded = names.decode(bytes, tokens)?;
        let text = decoded.iter().position(|name| name == "_text");
        let text = text.or_else(|| decoded.iter().position(|name| name == "_stext"))?;
        let places = places(bytes, machine, tokens, &names, text)?;
        Some(Self {
            names: decoded,
            places,
        })
    }
}

/// Finds the tokens `0` to `9`.
fn find_digits(bytes: &[u8], from: usize) -> Option<usize> {
    const DIGITS: &[u8] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0";
    let at = memchr::memmem::find(bytes.get(from..)?, DIGITS)?;
    Some(from + at)
}

fn align(at: usize, to: usize) -> usize {
    at.next_multiple_of(to)
}

/// The texts that the bytes of compressed names stand for.
struct Tokens<'a> {
    start: usize,
    texts: Vec<&'a [u8]>,
    /// Where the token index ends.
    end: usize,
}

impl<'a> Tokens<'a> {
    /// Reads the table whose token `0` is at `digits`, and checks it against its index.
    fn around(bytes: &'a [u8], digits: usize, machine: Machine) -> Option<Self> {
        /// Limit on the size of all tokens together in bytes; kernels' have 1 KB.
        const MAX_TABLE: usize = 1 << 16;
        let table = bytes.get(digits..)?;
        let table = &table[..table.len().min(MAX_TABLE)];
        let mut ends = table.iter().enumerate().filter(|(_, byte)| **byte == 0);
        let (last, _) = ends.nth(TOKENS - DIGIT - 1)?;
        let end = digits + last + 1;
        [2, 4, 8].into_iter().find_map(|alignment| {
            let index = align(end, alignment);
            let words = bytes.get(index..index + 2 * TOKENS)?.chunks_exact(2);
            let offsets: Vec<usize> = words.map(|word| machine.unsigned(word) as usize).collect();
            let start = digits.checked_sub(offsets[DIGIT])?;
            let mut texts = Vec::with_capacity(TOKENS);
            let mut expected = 0;
            for offset in offsets {
                if offset != expected {
                    return None;
                }
                let rest = bytes.get(start + offset..end)?;
                let length = rest.iter().position(|byte| *byte == 0)?;
                texts.push(&rest[..length]);
                expected += length + 1;
            }
            Some(Self {
                start,
                texts,
                end: index + 2 * TOKENS,
            })
        })
    }
}

/// The compressed names, and the tables beside them.
struct SymbolNames {
    /// The place of the number of names.
    number: usize,
    count: usize,
    /// The place of the first name.
    start: usize,
    end: usize,
}

impl SymbolNames {
    /// Finds the markers before the tokens, then the names before the markers.
    fn before(bytes: &[u8], tokens: usize, machine: Machine) -> Option<Self> {
        // The markers end right before the tokens, except in 6.2 and 6.3, which have 3
        // bytes for each symbol in between.
        let reach = 3 * MAX_SYMBOLS;
        let nearest = tokens - tokens % 4;
        let ends = (nearest.saturating_sub(reach)..=nearest).rev().step_by(4);
        for end in ends {
            // A marker has 4 bytes since 4.20, and the size of a `long` before.
            for size in [4, machine.long_size() as usize] {
                let Some(markers) = Markers::ending_at(bytes, end, size, machine) else {
                    continue;
                };
                if let Some(names) = Self::before_markers(bytes, &markers, machine) {
                    return Some(names);
                }
            }
        }
        None
    }

    fn before_markers(bytes: &[u8], markers: &Markers, machine: Machine) -> Option<Self> {
        let last = *markers.offsets.last()?;
        // At most 256 names follow the last marker.
        let farthest = markers.start.checked_sub(last)?;
        let nearest = farthest.saturating_sub(256 * (MAX_NAME + 2));
        let numbers = nearest - nearest % 4..=farthest - farthest % 4;
        for number in numbers.rev().step_by(4) {
            let Some(word) = bytes.get(number..number + 4) else {
                continue;
            };
            let count = machine.unsigned(word) as usize;
            if count.div_ceil(256) != markers.offsets.len() {
                continue;
            }
            // Up to 6.19, each table is aligned like a `long`.
            for gap in [4, 8] {
                let start = number + gap;
                if let Some(end) = names_end(bytes, start, count, markers) {
                    return Some(Self {
                        number,
                        count,
                        start,
                        end,
                    });
                }
            }
        }
        None
    }

    fn decode(&self, bytes: &[u8], tokens: &Tokens<'_>) -> Option<Vec<String>> {
        let mut names = Vec::with_capacity(self.count);
        let mut at = self.start;
        let mut all = 0;
        for _ in 0..self.count {
            let (length, header) = name_length(bytes, at)?;
            let packed = bytes.get(at + header..at + header + length)?;
            let mut name = Vec::with_capacity(32);
            for byte in packed {
                name.extend_from_slice(tokens.texts[usize::from(*byte)]);
            }
            all += name.len();
            if name.len() > MAX_NAME || all > MAX_NAMES || at > self.end {
                return None;
            }
            // The first letter is the symbol's kind.
            let name = str::from_utf8(name.get(1..)?).ok()?;
            names.push(name.to_owned());
            at += header + length;
        }
        Some(names)
    }
}

/// Returns the length of the compressed name at this place, and the size of the length
/// itself: a second byte follows if the first has its highest bit set (Linux 6.1 and
/// later).
fn name_length(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let first = usize::from(*bytes.get(at)?);
    match first & 0x80 {
        0 => Some((first, 1)),
        _ => {
            let second = usize::from(*bytes.get(at + 1)?);
            Some(((first & 0x7f) | second << 7, 2))
        }
    }
}

/// Walks all names, and checks that every 256th is where its marker says. Returns the end
/// of the names.
fn names_end(bytes: &[u8], start: usize, count: usize, markers: &Markers) -> Option<usize> {
    let mut at = start;
    for index in 0..count {
        if index % 256 == 0 && start + markers.offsets[index / 256] != at {
            return None;
        }
        let (length, header) = name_length(bytes, at)?;
        if length == 0 {
            return None;
        }
        at += header + length;
        if at > markers.start {
            return None;
        }
    }
    (markers.start - at < 8).then_some(at)
}

/// The offsets of every 256th name.
struct Markers {
    start: usize,
    offsets: Vec<usize>,
}

impl Markers {
    /// Reads the markers backwards, from their end to the first, which is 0.
    fn ending_at(bytes: &[u8], end: usize, size: usize, machine: Machine) -> Option<Self> {
        /// Limits on the distance of two markers, the size of 256 names in bytes.
        const SHORTEST: usize = 256 * 2;
        const LONGEST: usize = 256 * (MAX_NAME + 2);
        let marker = |at: usize| -> Option<usize> {
            usize::try_from(machine.unsigned(bytes.get(at..at + size)?)).ok()
        };
        let mut at = end.checked_sub(size)?;
        let mut offsets = vec![marker(at)?];
        while *offsets.last()? != 0 {
            at = at.checked_sub(size)?;
            let before = marker(at)?;
            let distance = offsets.last()?.checked_sub(before)?;
            if !(SHORTEST..=LONGEST).contains(&distance) || offsets.len() > MAX_SYMBOLS / 256 {
                return None;
            }
            offsets.push(before);
        }
        offsets.reverse();
        // A kernel has more than 256 symbols, and so more than one marker.
        (offsets.len() > 1).then_some(Self { start: at, offsets })
    }
}

/// Finds the addresses, which are before the names or after the tokens.
fn places(
    bytes: &[u8],
    machine: Machine,
    tokens: &Tokens<'_>,
    names: &SymbolNames,
    text: usize,
) -> Option<Vec<SymbolPlace>> {
    let count = names.count;
    let long = machine.long_size() as usize;
    let small = align(4 * count, long);
    // Before the number of names, with the relative base in between.
    let old = names.number.checked_sub(long + small);
    let new = [align(tokens.end, 4), align(tokens.end, 8)];
    let starts = new.into_iter().chain(old);
    for start in starts {
        let table = bytes.get(start..).and_then(|rest| rest.get(..4 * count));
        let Some(table) = table else { continue };
        let words: Vec<i32> = table
            .chunks_exact(4)
            .map(|word| machine.signed(word) as i32)
            .collect();
        if let Some(places) = relative(&words, text)
            .or_else(|| relative_but_percpu(&words, text))
            .or_else(|| relative_to_place(&words, text))
        {
            return Some(places);
        }
    }
    // Absolute addresses: before Linux 4.6, and on few machines since.
    let start = names.number.checked_sub(align(long * count, long))?;
    let table = bytes.get(start..)?.get(..long * count)?;
    let addresses: Vec<u64> = table
        .chunks_exact(long)
        .map(|word| machine.unsigned(word))
        .collect();
    let base = addresses[text];
    let place = |address: &u64| SymbolPlace::FromText(address.wrapping_sub(base) as i64);
    (base != 0 && addresses.is_sorted()).then(|| addresses.iter().map(place).collect())
}

/// Returns the places if all addresses are relative to the lowest.
fn relative(words: &[i32], text: usize) -> Option<Vec<SymbolPlace>> {
    let offset = |word: &i32| i64::from(*word as u32);
    let base = offset(&words[text]);
    let place = |word: &i32| SymbolPlace::FromText(offset(word) - base);
    // A symbol is at the lowest address, so the first offset is 0.
    (words.first() == Some(&0) && words.is_sorted_by_key(offset))
        .then(|| words.iter().map(place).collect())
}

/// Returns the places if words below 0 are relative addresses, and others absolute ones.
fn relative_but_percpu(words: &[i32], text: usize) -> Option<Vec<SymbolPlace>> {
    // Absolute addresses come first, as they are lower.
    let key = |word: &i32| match *word {
        absolute @ 0.. => (false, i64::from(absolute)),
        relative => (true, -1 - i64::from(relative)),
    };
    let (is_relative, base) = key(&words[text]);
    let place = |word: &i32| match key(word) {
        (false, absolute) => SymbolPlace::Absolute(absolute as u64),
        (true, offset) => SymbolPlace::FromText(offset - base),
    };
    (is_relative && words.contains(&-1) && words.is_sorted_by_key(key))
        .then(|| words.iter().map(place).collect())
}

/// Returns the places if each address is relative to where it is written (Linux 7.0).
fn relative_to_place(words: &[i32], text: usize) -> Option<Vec<SymbolPlace>> {
    let offsets: Vec<i64> = words
        .iter()
        .zip((0..).step_by(4))
        .map(|(word, place)| i64::from(*word) + place)
        .collect();
    let base = offsets[text];
    let place = |offset: &i64| SymbolPlace::FromText(offset - base);
    // The offsets must differ: a table of zeros is sorted in every sense.
    (offsets.first() != offsets.last() && offsets.is_sorted())
        .then(|| offsets.iter().map(place).collect())
}
