//! Reads a recording's numbers and texts in order, with the place of each for errors.

use super::error::{RecordingError, RecordingPlace};
use crate::machine::ByteOrder;

/// Bytes of the file, or of what was compressed in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) is_unpacked: bool,
    pub(super) start: usize,
    pub(super) length: usize,
}

/// A position in a recording, or in a part of it that was compressed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    pub(super) order: ByteOrder,
    /// Where in the file the bytes are compressed; `None` if they are the file's own.
    packed_at: Option<u64>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], order: ByteOrder) -> Self {
        Self {
            bytes,
            at: 0,
            order,
            packed_at: None,
        }
    }

    /// Creates a cursor in bytes that are compressed at this offset of the file.
    pub(super) fn unpacked(bytes: &'a [u8], order: ByteOrder, offset: u64) -> Self {
        Self {
            packed_at: Some(offset),
            ..Self::new(bytes, order)
        }
    }

    /// Returns a cursor in the same bytes, at another offset.
    pub(super) fn seek(&self, offset: u64, part: &'static str) -> Result<Self, RecordingError> {
        match usize::try_from(offset) {
            Ok(at) if at <= self.bytes.len() => Ok(Self { at, ..*self }),
            _ => Err(RecordingError::CutOff {
                part,
                place: RecordingPlace {
                    offset,
                    within: None,
                },
                needed: 1,
                left: 0,
            }),
        }
    }

    pub(super) fn place(&self) -> RecordingPlace {
        let at = self.at as u64;
        match self.packed_at {
            None => RecordingPlace {
                offset: at,
                within: None,
            },
            Some(offset) => RecordingPlace {
                offset,
                within: Some(at),
            },
        }
    }

    /// Returns where the first bytes of the rest are.
    pub(super) fn span(&self, length: usize) -> Span {
        Span {
            is_unpacked: self.packed_at.is_some(),
            start: self.at,
            length,
        }
    }

    /// Reads the byte that says the byte order, which applies from here on.
    pub(super) fn read_byte_order(&mut self) -> Result<(), RecordingError> {
        let place = self.place();
        self.order = match self.take(1, "the byte order")? {
            [0] => ByteOrder::Little,
            [1] => ByteOrder::Big,
            _ => {
                return Err(RecordingError::Expected {
                    expected: "a byte order, 0 or 1",
                    place,
                });
            }
        };
        Ok(())
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    pub(super) fn take(
        &mut self,
        length: u64,
        part: &'static str,
    ) -> Result<&'a [u8], RecordingError> {
        let rest = self.rest();
        let taken = usize::try_from(length)
            .ok()
            .and_then(|length| rest.get(..length));
        let taken = taken.ok_or_else(|| RecordingError::CutOff {
            part,
            place: self.place(),
            needed: length,
            left: rest.len() as u64,
        })?;
        self.at += taken.len();
        Ok(taken)
    }

    /// Returns a cursor in the next bytes alone. Places are still those in the whole.
    pub(super) fn part(&mut self, length: u64, part: &'static str) -> Result<Self, RecordingError> {
        let at = self.at;
        self.take(length, part)?;
        Ok(Self {
            bytes: self.bytes.get(..self.at).unwrap_or_default(),
            at,
            ..*self
        })
    }

    pub(super) fn u16(&mut self, part: &'static str) -> Result<u16, RecordingError> {
        let bytes = self.take(2, part)?;
        Ok(self.order.read_unsigned(bytes) as u16)
    }

    pub(super) fn u32(&mut self, part: &'static str) -> Result<u32, RecordingError> {
        let bytes = self.take(4, part)?;
        Ok(self.order.read_unsigned(bytes) as u32)
    }

    pub(super) fn u64(&mut self, part: &'static str) -> Result<u64, RecordingError> {
        let bytes = self.take(8, part)?;
        Ok(self.order.read_unsigned(bytes))
    }

    /// Reads bytes up to a zero, and skips the zero.
    pub(super) fn text(&mut self, part: &'static str) -> Result<&'a [u8], RecordingError> {
        let rest = self.rest();
        let end = rest.iter().position(|byte| *byte == 0);
        let end = end.ok_or_else(|| RecordingError::CutOff {
            part,
            place: self.place(),
            needed: rest.len() as u64 + 1,
            left: rest.len() as u64,
        })?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    /// Skips bytes that every recording has here.
    pub(super) fn expect(
        &mut self,
        bytes: &[u8],
        expected: &'static str,
    ) -> Result<(), RecordingError> {
        match self.rest().starts_with(bytes) {
            true => {
                self.at += bytes.len();
                Ok(())
            }
            false => Err(RecordingError::Expected {
                expected,
                place: self.place(),
            }),
        }
    }
}
