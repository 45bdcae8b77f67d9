//! Where tracepoints are in the code of an image: `__tracepoints_ptrs` and `__jump_table`,
//! as in the running kernel, where all are off.

use std::collections::HashMap;

use object::Architecture;

use super::error::ImageError;
use super::kernel::WholeImage;
use crate::patch::{CodeLocation, InstructionSet, JumpEntry, PatchSite};

/// A tracepoint that is built in.
#[derive(Clone, Debug)]
pub(crate) struct ImageTracepoint {
    pub(crate) name: String,
    /// By address, as linked.
    pub(crate) sites: Vec<PatchSite>,
}

/// More bytes than either table has.
const MAX_TABLE: u64 = 64 << 20;

impl WholeImage {
    /// Returns the tracepoints; `None` if the image's symbols or BTF do not tell where the
    /// tables are.
    ///
    /// # Errors
    ///
    /// [`ImageError::Table`].
    pub(super) fn tracepoints(&self) -> Result<Option<Vec<ImageTracepoint>>, ImageError> {
        let places = self.structs.sites;
        let pointers = self.between("__start___tracepoints_ptrs", "__stop___tracepoints_ptrs");
        let entries = self.between("__start___jump_table", "__stop___jump_table");
        let (Some(places), Some(pointers), Some(entries)) = (places, pointers, entries) else {
            return Ok(None);
        };
        let read = |table, range: &std::ops::Range<u64>| {
            let length = range.end.checked_sub(range.start);
            let length = length.filter(|length| *length <= MAX_TABLE);
            let bytes = length.and_then(|length| self.memory.bytes(range.start, length as usize));
            bytes.ok_or(ImageError::Table { table })
        };
        let mut by_key: HashMap<u64, Vec<JumpEntry>> = HashMap::new();
        let bytes = read("__jump_table", &entries)?;
        let machine = self.memory.machine();
        for entry in places.layout.entries(bytes, entries.start, machine) {
            // In a file this flag tells objtool something else (`HAVE_JUMP_LABEL_HACK`).
            let entry = JumpEntry {
                is_in_init: false,
                ..entry
            };
            by_key.entry(entry.key).or_default().push(entry);
        }
        let bytes = read("__tracepoints_ptrs", &pointers)?;
        let mut found = Vec::new();
        for (index, pointer) in bytes.chunks_exact(places.pointer_size).enumerate() {
            let at = pointers.start + (index * places.pointer_size) as u64;
            let tracepoint = match places.pointer_size {
                4 => at.wrapping_add_signed(machine.signed(pointer)),
                _ => machine.unsigned(pointer),
            };
            let name = self.structs.tracepoint_name.read(&self.memory, tracepoint);
            let name = name.and_then(|name| self.memory.text(name));
            let name = name.ok_or(ImageError::Table {
                table: "__tracepoints_ptrs",
            })?;
            let key = tracepoint.wrapping_add(places.key);
            let mut sites: Vec<PatchSite> = by_key
                .remove(&key)
                .into_iter()
                .flatten()
                .map(|entry| self.site(&entry))
                .collect();
            sites.sort_by_key(|site| site.address);
            found.push(ImageTracepoint {
                name: name.to_owned(),
                sites,
            });
        }
        Ok(Some(found))
    }

    fn site(&self, entry: &JumpEntry) -> PatchSite {
        let code = self.memory.from(entry.site).unwrap_or_default();
        let code = &code[..code.len().min(InstructionSet::LONGEST)];
        let [place, target] = [entry.site, entry.target].map(|at| self.location(at));
        let set = match self.architecture {
            Some(Architecture::X86_64 | Architecture::I386) => InstructionSet::X86,
            Some(Architecture::Aarch64) => InstructionSet::Arm64,
            _ => InstructionSet::Unknown,
        };
        PatchSite::new(set, entry, Some(code), place, target)
    }

    fn location(&self, address: u64) -> Option<CodeLocation> {
        let (start, function) = self.symbols.before(address)?;
        let end = self.symbols.next_after(address)?;
        Some(CodeLocation {
            function: function.to_owned(),
            offset: address - start,
            size: end - start,
            module: None,
        })
    }
}
