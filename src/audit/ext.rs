//! `.BTF.ext`: the source line of each instruction, the type of each function, and the
//! instructions that CO-RE relocates. The format is that of
//! `Documentation/bpf/btf.rst`.

use super::BpfObjectError;
use crate::machine::ByteOrder;

/// A record of one of the section's tables, with its code section.
pub(super) struct ExtRecord<const WORDS: usize> {
    /// The offset of the code section's name in BTF's strings.
    pub(super) section_name: u32,
    pub(super) words: [u32; WORDS],
}

/// The three tables, in the section's order.
#[derive(Default)]
pub(super) struct BtfExt {
    /// The function's offset in bytes, and its type.
    pub(super) functions: Vec<ExtRecord<2>>,
    /// The instruction's offset in bytes, the file's name, the line's text, and line and
    /// column.
    pub(super) lines: Vec<ExtRecord<4>>,
    /// The instruction's offset in bytes, type, access string and kind.
    pub(super) relocations: Vec<ExtRecord<4>>,
}

/// The bytes, read as words.
#[derive(Clone, Copy)]
struct Ext<'a> {
    bytes: &'a [u8],
    byte_order: ByteOrder,
}

impl BtfExt {
    pub(super) fn parse(bytes: &[u8], byte_order: ByteOrder) -> Result<Self, BpfObjectError> {
        let ext = Ext { bytes, byte_order };
        let magic = match byte_order {
            ByteOrder::Little => [0x9f, 0xeb],
            ByteOrder::Big => [0xeb, 0x9f],
        };
        if !bytes.starts_with(&magic) || bytes.get(2) != Some(&1) {
            return Err(BpfObjectError::BtfExt {
                what: "its header is not known",
            });
        }
        let header = ext.word(4)?;
        let mut found = Self {
            functions: ext.table(header, 8)?,
            lines: ext.table(header, 16)?,
            relocations: Vec::new(),
        };
        // Objects of compilers before CO-RE have a shorter header.
        if header >= 32 {
            found.relocations = ext.table(header, 24)?;
        }
        Ok(found)
    }
}

impl Ext<'_> {
    fn word(self, at: usize) -> Result<u32, BpfObjectError> {
        let word = self.byte_order.read_u32_at(self.bytes, at);
        word.ok_or(BpfObjectError::BtfExt {
            what: "it ends before what its header promises",
        })
    }

    /// Returns the table whose offset, from the header's end, and length are at `at`.
    fn table<const WORDS: usize>(
        self,
        header: u32,
        at: usize,
    ) -> Result<Vec<ExtRecord<WORDS>>, BpfObjectError> {
        let start = header as usize + self.word(at)? as usize;
        let end = start + self.word(at + 4)? as usize;
        let mut records = Vec::new();
        if start == end {
            return Ok(records);
        }
        let size = self.word(start)? as usize;
        if size < 4 * WORDS || end > self.bytes.len() {
            return Err(BpfObjectError::BtfExt {
                what: "a table's records are cut",
            });
        }
        let mut at = start + 4;
        while at < end {
            let (section_name, count) = (self.word(at)?, self.word(at + 4)?);
            at += 8;
            for _ in 0..count {
                let mut words = [0; WORDS];
                for (index, word) in words.iter_mut().enumerate() {
                    *word = self.word(at + 4 * index)?;
                }
                records.push(ExtRecord {
                    section_name,
                    words,
                });
                at += size;
            }
        }
        Ok(records)
    }
}
