//! Text as the kernel writes it.

use std::fmt;

/// Text as bytes, because names of processes and files need not be UTF-8.
#[derive(Clone, Debug, Default)]
pub(super) struct Output(Vec<u8>);

impl Output {
    /// Creates an output that appends to these bytes.
    pub(super) fn after(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    #[inline]
    pub(super) fn push_str(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    #[inline]
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    #[inline]
    pub(super) fn push(&mut self, character: char) {
        match character.is_ascii() {
            true => self.0.push(character as u8),
            false => self.push_str(character.encode_utf8(&mut [0; 4])),
        }
    }

    pub(super) fn pad(&mut self, with: u8, count: usize) {
        self.0.resize(self.0.len().saturating_add(count), with);
    }

    /// Appends the names of the bits, and the bits without a name as a number
    /// (`trace_print_flags_seq()`). If a flag of unknown value may be among them, the
    /// whole is a number in `<…>`.
    pub(super) fn flags<'n>(
        &mut self,
        value: u64,
        delimiter: &str,
        names: impl IntoIterator<Item = (Option<u64>, &'n str)>,
    ) {
        let (start, mut bits) = (self.len(), value);
        let mut separator = "";
        for (flag, name) in names {
            if bits == 0 {
                break;
            }
            let Some(flag) = flag else {
                self.0.truncate(start);
                let _ = fmt::Write::write_fmt(self, format_args!("<{value:#x}>"));
                return;
            };
            if bits & flag == flag {
                self.push_str(separator);
                self.push_str(name);
                separator = delimiter;
                bits &= !flag;
            }
        }
        if bits != 0 {
            let _ = fmt::Write::write_fmt(self, format_args!("{separator}{bits:#x}"));
        }
    }

    /// Removes the spaces at the end.
    pub(super) fn trim_spaces(&mut self) {
        let end = self.0.iter().rposition(|byte| *byte != b' ');
        self.0.truncate(end.map_or(0, |end| end + 1));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Splits off the bytes from this offset on.
    pub(super) fn split_off(&mut self, length: usize) -> Vec<u8> {
        self.0.split_off(length)
    }
}

/// Infallible.
impl fmt::Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_str(text);
        Ok(())
    }
}

/// Replaces bytes that are not UTF-8.
#[cfg(test)]
impl fmt::Display for Output {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&String::from_utf8_lossy(&self.0))
    }
}
