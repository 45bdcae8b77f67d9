//! Replaces enumerators and sizes in print fmts and types by their values, as the kernel
//! does at boot and when a module is loaded: `trace_event_eval_update()` in
//! `kernel/trace/trace_events.c`.

use super::memory::{ImageMemory, pointers};
use super::structs::Structs;
use std::ops::Range;

/// One replacement, for the events of one system.
#[derive(Clone, Debug)]
pub(super) struct EvalMap {
    /// The address of the system's name, by which the kernel compares it.
    system: u64,
    name: String,
    value: String,
}

/// The changes that a kernel makes to types of fields at load.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FieldUpdates {
    /// Whether enumerators in an array's length are replaced (Linux 5.18).
    pub(super) evals: bool,
    /// Whether `__attribute__(…)` is removed (Linux 6.18).
    pub(super) attributes: bool,
}

/// Limit on maps; a kernel has 3,000.
const MAX_MAPS: usize = 1 << 16;

/// Reads the maps that the pointers in a range point to.
pub(super) fn maps(
    memory: &ImageMemory,
    structs: &Structs,
    range: Range<u64>,
) -> Option<Vec<EvalMap>> {
    let Some(places) = &structs.eval else {
        return Some(Vec::new());
    };
    let map = |address: u64| {
        let name = memory.text(places.name.read(memory, address)?)?;
        let value = places.value.read(memory, address)?;
        // The kernel prints the value by `%ld`.
        let value = match memory.machine().long_size() {
            4 => (value as u32 as i32).to_string(),
            _ => (value as i64).to_string(),
        };
        let map = EvalMap {
            system: places.system.read(memory, address)?,
            name: name.to_owned(),
            value,
        };
        // An empty name would match everywhere.
        Some(map).filter(|map| !map.name.is_empty())
    };
    let maps = pointers(memory, range, MAX_MAPS)?.into_iter();
    // A map that cannot be read is skipped, and its name stays in the text.
    Some(maps.filter_map(map).collect())
}

/// Returns the maps of the system whose name is at this address.
pub(super) fn of_system(maps: &[EvalMap], system: u64) -> impl Iterator<Item = &EvalMap> {
    maps.iter().filter(move |map| map.system == system)
}

impl EvalMap {
    /// Replaces words outside of strings, as `update_event_printk()` does.
    pub(super) fn update_print_fmt(&self, text: &str) -> Option<String> {
        // Few print fmts contain the name.
        if !text.contains(&*self.name) {
            return None;
        }
        let bytes = text.as_bytes();
        let name = self.name.as_bytes();
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
        let mut out = String::with_capacity(text.len());
        let (mut copied, mut index, mut is_quoted) = (0, 0, false);
        while index < bytes.len() {
            match at(index) {
                b'\\' => index += 1,
                b'"' => is_quoted = !is_quoted,
                _ if is_quoted => {}
                digit if digit.is_ascii_digit() => {
                    // Skips the number with a suffix such as ULL, and the character after
                    // it.
                    while at(index).is_ascii_alphanumeric() {
                        index += 1;
                    }
                }
                first if is_word(first) => {
                    let end = index + name.len();
                    if bytes[index..].starts_with(name) && !is_word(at(end)) {
                        // The kernel replaces in place and has no room for a longer value.
                        if self.value.len() > self.name.len() {
                            break;
                        }
                        out.push_str(text.get(copied..index)?);
                        out.push_str(&self.value);
                        copied = end;
                        index = end;
                    } else {
                        index = after_word(bytes, index);
                    }
                }
                _ => {}
            }
            index += 1;
        }
        out.push_str(text.get(copied..)?);
        Some(out)
    }

    /// Replaces the beginning of an array's length, as `update_event_fields()` does.
    pub(super) fn update_type(&self, text: &str) -> Option<String> {
        let (element, length) = text.split_once('[')?;
        let first = length.bytes().next()?;
        if !first.is_ascii_alphabetic() && first != b'_' || self.value.len() > self.name.len() {
            return None;
        }
        let rest = length.strip_prefix(&*self.name)?;
        Some(format!("{element}[{}{rest}", self.value))
    }
}

/// Returns the end of a word and of the members that follow it (`REC->x`, `a.b`).
fn after_word(bytes: &[u8], start: usize) -> usize {
    let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
    let mut index = start;
    loop {
        index += 1;
        while at(index).is_ascii_alphanumeric() || at(index) == b'_' {
            index += 1;
        }
        match (at(index), at(index + 1)) {
            (b'.', _) => index += 1,
            (b'-', b'>') => index += 2,
            _ => return index,
        }
        if index >= bytes.len() {
            return index;
        }
    }
}

/// Removes `__attribute__(…)`, as `sanitize_field_type()` does.
pub(super) fn without_attributes(text: &str) -> String {
    const ATTRIBUTE: &str = "__attribute__(";
    let mut rest = text.to_owned();
    let mut from = 0;
    while let Some(found) = rest[from..].find(ATTRIBUTE) {
        let start = from + found;
        let before = rest[..start].bytes().next_back();
        let inside = start + ATTRIBUTE.len();
        if start != from && !before.is_none_or(|byte| byte.is_ascii_whitespace()) {
            from = inside;
            continue;
        }
        let mut depth = 1;
        let end = rest[inside..].bytes().position(|byte| {
            match byte {
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        let Some(end) = end else {
            return text.to_owned();
        };
        let after = rest[inside + end + 1..].trim_ascii_start().to_owned();
        rest.truncate(start);
        rest += &after;
        from = start;
    }
    rest
}
