//! The bytes of one BTF object, checked once and then read in place.
//!
//! The format is defined in `include/uapi/linux/btf.h` and `Documentation/bpf/btf.rst`.
//! Types are read in place, so that resolving thousands of events takes only
//! milliseconds.

use std::ffi::CStr;
use std::ops::Range;
use std::sync::Arc;

use super::bytes::Bytes;
use super::error::BtfError;
use super::kind::{Info, KNOWN_KINDS, Kind, Kinds, kinds_of_layout};
use super::types::Type;
use crate::machine::ByteOrder;

/// A type's number: 0 is `void`; a module's types continue after vmlinux's.
pub(crate) type TypeId = u32;

/// The number of bytes that every type begins with: name, info, size or type.
const TYPE_HEADER: usize = 12;
/// The header's length in BTF version 1.
const HEADER: usize = 24;
/// The length of a header that locates the layout section; later headers may be longer.
const HEADER_WITH_LAYOUT: u64 = 32;

/// How far a chain of types (typedef of const of array of …) is followed. Kernels' chains
/// are shorter than ten; a cycle in hostile bytes ends here.
pub(super) const MAX_CHAIN: usize = 64;

/// The greatest length of a name, in bytes. The kernel's limit is `KSYM_NAME_LEN`, 512.
const MAX_NAME: usize = 1024;

/// A BTF object, all of whose types and names are known to lie inside it.
#[derive(Debug)]
pub(crate) struct Section {
    bytes: Bytes,
    big_endian: bool,
    /// Where the strings begin in `bytes`, and their length.
    strings: usize,
    strings_len: usize,
    /// Where each type begins in `bytes`, the first being `first_id`.
    types: Vec<u32>,
    first_id: TypeId,
    /// Names at smaller offsets are the base's.
    first_name: u32,
    /// Whether every offset inside the strings is a valid name of a type.
    are_names_plain: bool,
    pointer_size: u32,
    /// The kinds by the layout section of the object or its base; `None` without one.
    kinds: Option<Arc<Kinds>>,
    base: Option<Arc<Section>>,
}

impl Section {
    /// Checks the bytes and finds where every type begins. Calls `visit` for each type
    /// that is looked up by name, in order, with its name's offset.
    pub(crate) fn parse(
        bytes: Bytes,
        base: Option<Arc<Section>>,
        mut visit: impl FnMut(&Self, TypeId, Kind, u32),
    ) -> Result<Self, BtfError> {
        let truncated = |what, end: u64| BtfError::Truncated {
            what,
            end,
            len: bytes.len() as u64,
        };
        let header = bytes
            .first_chunk::<HEADER>()
            .ok_or_else(|| truncated("the header", HEADER as u64))?;
        let big_endian = byte_order(header)? == ByteOrder::Big;
        let (version, flags) = (header[2], header[3]);
        if (version, flags) != (1, 0) {
            return Err(BtfError::Version { version, flags });
        }
        let word = |at: usize| u64::from(read_u32(header, at, big_endian).unwrap_or(0));
        let [header_len, type_off, type_len, str_off, str_len] = [4, 8, 12, 16, 20].map(word);
        // Sums of three u32 in u64 cannot overflow.
        let range = |what, from: u64, len: u64| {
            let end = header_len + from + len;
            match usize::try_from(end) {
                Ok(end_at) if end_at <= bytes.len() => Ok(end_at - len as usize..end_at),
                _ => Err(truncated(what, end)),
            }
        };
        let type_range = range("the type section", type_off, type_len)?;
        let string_range = range("the string section", str_off, str_len)?;
        let kinds = match header_len >= HEADER_WITH_LAYOUT {
            true => {
                let word = |at| read_u32(&bytes, at, big_endian).map(u64::from);
                let [offset, length] = [24, 28].map(word);
                let (Some(offset), Some(length)) = (offset, length) else {
                    return Err(truncated("the header", header_len));
                };
                let section = &bytes[range("the layout section", offset, length)?];
                let known = base.as_ref().and_then(|base| base.kinds.as_deref());
                kinds_of_layout(section, known.unwrap_or(&KNOWN_KINDS))?
            }
            false => None,
        };
        let kinds = kinds.or_else(|| base.as_ref()?.kinds.clone());
        let (first_id, first_name, base_pointer_size) = match &base {
            None => (1, 0, None),
            Some(base) if base.big_endian != big_endian => return Err(BtfError::Base),
            Some(base) => (base.end_id(), base.end_name(), Some(base.pointer_size)),
        };
        if !string_range.is_empty() && bytes[string_range.end - 1] != 0 {
            return Err(BtfError::Strings);
        }

        let mut section = Self {
            are_names_plain: are_plain(&bytes[string_range.clone()]),
            big_endian,
            strings: string_range.start,
            strings_len: string_range.len(),
            types: Vec::new(),
            first_id,
            first_name,
            pointer_size: base_pointer_size.unwrap_or(8),
            kinds,
            bytes,
            base,
        };
        let mut long_size = None;
        let visit = |id, kind, name: u32, size| {
            if kind == Kind::Int && section.is_long(name) {
                long_size = Some(size);
            }
            visit(&section, id, kind, name);
        };
        let types = match big_endian {
            true => section.find_types::<true>(type_range, visit),
            false => section.find_types::<false>(type_range, visit),
        }?;
        section.types = types;
        match (base_pointer_size, long_size) {
            // On Linux pointers are as long as `long`.
            (None, Some(size @ (4 | 8))) => section.pointer_size = size,
            (None, Some(size)) => return Err(BtfError::LongSize { size }),
            _ => {}
        }
        Ok(section)
    }

    /// Returns where each type of this range begins. `visit` gets the id, kind, name and
    /// size of those that are looked up by name.
    #[inline]
    fn find_types<const BIG_ENDIAN: bool>(
        &self,
        range: Range<usize>,
        mut visit: impl FnMut(TypeId, Kind, u32, u32),
    ) -> Result<Vec<u32>, BtfError> {
        // Names at these offsets of the section's own strings need no further check.
        let plain_names = match self.are_names_plain {
            true => self.strings_len as u32,
            false => 0,
        };
        // Kernels' types take some 22 bytes on average.
        let mut types = Vec::with_capacity(range.len() / 20);
        let bytes = &self.bytes[..range.end];
        let kinds = self.kinds();
        let mut at = range.start;
        while at < range.end {
            let id = self.first_id.saturating_add(types.len() as u32);
            let cut = |end: u64| BtfError::Truncated {
                what: "the last type",
                end,
                len: range.end as u64,
            };
            let Some(header) = bytes[at..].first_chunk::<TYPE_HEADER>() else {
                return Err(cut((at + TYPE_HEADER) as u64));
            };
            let word = |at| read_u32(header, at, BIG_ENDIAN).unwrap_or(0);
            let [name, info, size] = [0, 4, 8].map(word);
            let info = Info(info);
            let entry = kinds.entry(info);
            let end = (at + TYPE_HEADER) as u64 + entry.length(info);
            if end > range.end as u64 {
                return Err(match entry.is_endless() {
                    true => BtfError::Kind {
                        id,
                        kind: info.kind_number() as u32,
                    },
                    false => cut(end),
                });
            }
            if name.wrapping_sub(self.first_name) >= plain_names
                && !self.is_type_name(name)
                // Types of an unknown kind may have something else in that word.
                && entry.kind != Kind::Unknown
            {
                return Err(BtfError::Name { id, offset: name });
            }
            if entry.is_looked_for {
                visit(id, entry.kind, name, size);
            }
            // The header refuses a type section longer than a u32.
            types.push(at as u32);
            at = end as usize;
        }
        Ok(types)
    }

    fn kinds(&self) -> &Kinds {
        self.kinds.as_deref().unwrap_or(&KNOWN_KINDS)
    }

    pub(super) fn is_big_endian(&self) -> bool {
        self.big_endian
    }

    /// Returns the object's byte order.
    #[cfg(feature = "audit")]
    pub(crate) fn byte_order(&self) -> ByteOrder {
        match self.big_endian {
            true => ByteOrder::Big,
            false => ByteOrder::Little,
        }
    }

    /// Returns the ids of the object's own types.
    pub(super) fn own_ids(&self) -> Range<TypeId> {
        self.first_id..self.end_id()
    }

    /// Returns the object's own strings, and the offset of the first.
    pub(super) fn own_strings(&self) -> (u32, &[u8]) {
        let strings = self
            .bytes
            .get(self.strings..self.strings + self.strings_len);
        (self.first_name, strings.unwrap_or_default())
    }

    /// Iterates over the object's own strings, in their order.
    #[cfg(feature = "audit")]
    pub(crate) fn strings(&self) -> impl Iterator<Item = &[u8]> {
        self.own_strings().1.split(|byte| *byte == 0)
    }

    /// Returns the checked bytes.
    #[cfg(any(test, feature = "btf-rs", feature = "image"))]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the object's size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the id after the last type's.
    pub(crate) fn end_id(&self) -> TypeId {
        self.first_id.saturating_add(self.types.len() as u32)
    }

    /// Returns the type with this id, from the base too; `None` for `void` and unknown
    /// ids.
    pub(crate) fn type_by_id(&self, id: TypeId) -> Option<Type<'_>> {
        if id < self.first_id {
            return self.base.as_ref()?.type_by_id(id);
        }
        let at = *self.types.get((id - self.first_id) as usize)? as usize;
        let info = Info(self.u32_at(at + 4));
        let entry = self.kinds().entry(info);
        let tail_at = at + TYPE_HEADER;
        let length = usize::try_from(entry.length(info)).ok()?;
        Some(Type {
            section: self,
            kind: entry.kind,
            name: self.u32_at(at),
            info,
            size_or_type: self.u32_at(at + 8),
            tail: self.bytes.get(tail_at..tail_at.checked_add(length)?)?,
        })
    }

    /// Returns the string at this offset, from the base too; `None` outside, and if it is
    /// longer than any name.
    pub(crate) fn name(&self, offset: u32) -> Option<&[u8]> {
        if offset < self.first_name {
            return self.base.as_ref()?.name(offset);
        }
        let offset = (offset - self.first_name) as usize;
        if offset >= self.strings_len {
            return None;
        }
        // No string is searched further than the longest name goes: names may overlap.
        let end = self.strings_len.min(offset + MAX_NAME + 1);
        let string = self.bytes.get(self.strings + offset..self.strings + end)?;
        Some(CStr::from_bytes_until_nul(string).ok()?.to_bytes())
    }

    /// Returns the strings from this offset on. For the many names that do not begin as
    /// required, this is cheaper than finding the end of each.
    pub(super) fn text_from(&self, offset: u32) -> &[u8] {
        let Some(offset) = offset.checked_sub(self.first_name) else {
            return self
                .base
                .as_ref()
                .map_or(&[], |base| base.text_from(offset));
        };
        let start = self.strings.saturating_add(offset as usize);
        let strings = self.bytes.get(start..self.strings + self.strings_len);
        strings.unwrap_or_default()
    }

    /// Whether the string at this offset is the concatenation of these parts.
    pub(super) fn is_name(&self, offset: u32, parts: [&[u8]; 2]) -> bool {
        let rest = self.text_from(offset).strip_prefix(parts[0]);
        let rest = rest.and_then(|rest| rest.strip_prefix(parts[1]));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Whether the string at this offset is a name of `long`.
    #[cold]
    fn is_long(&self, offset: u32) -> bool {
        matches!(
            self.name(offset),
            Some(b"long int" | b"long unsigned int" | b"long" | b"unsigned long")
        )
    }

    /// Whether the string at this offset is a valid name of a type.
    fn is_type_name(&self, offset: u32) -> bool {
        match offset.checked_sub(self.first_name) {
            Some(offset) if self.are_names_plain => (offset as usize) < self.strings_len,
            Some(_) => self
                .name(offset)
                .is_some_and(|name| !String::from_utf8_lossy(name).contains(char::is_control)),
            None => self
                .base
                .as_ref()
                .is_some_and(|base| base.is_type_name(offset)),
        }
    }

    /// Returns the size of a value of this type in bytes; `None` if it has none, or it is
    /// unknown.
    pub(crate) fn size_of(&self, id: TypeId) -> Option<u32> {
        match self.value_size(id)? {
            ValueSize::Bytes(size) => Some(size),
            ValueSize::Unknown => None,
        }
    }

    /// Whether a value of this type may have this size: any size, if the type contains
    /// one of an unknown kind.
    pub(crate) fn may_have_size(&self, id: TypeId, size: u32) -> bool {
        match self.value_size(id) {
            Some(ValueSize::Bytes(found)) => found == size,
            Some(ValueSize::Unknown) => true,
            None => false,
        }
    }

    fn value_size(&self, id: TypeId) -> Option<ValueSize> {
        let mut count = 1u32;
        let mut id = id;
        for _ in 0..MAX_CHAIN {
            let current = self.type_by_id(id)?;
            match current.kind {
                Kind::Int
                | Kind::Struct
                | Kind::Union
                | Kind::Enum
                | Kind::Enum64
                | Kind::Float => {
                    return count
                        .checked_mul(current.size_or_type)
                        .map(ValueSize::Bytes);
                }
                Kind::Ptr => return count.checked_mul(self.pointer_size).map(ValueSize::Bytes),
                Kind::Unknown => return Some(ValueSize::Unknown),
                Kind::Array => {
                    let (element, length) = current.array()?;
                    count = count.checked_mul(length)?;
                    id = element;
                }
                _ => id = current.target()?,
            }
        }
        None
    }

    /// Returns the type behind typedefs, qualifiers and type tags.
    pub(crate) fn resolve(&self, id: TypeId) -> Option<(TypeId, Type<'_>)> {
        let mut id = id;
        for _ in 0..MAX_CHAIN {
            let current = self.type_by_id(id)?;
            match current.target() {
                Some(target) if current.is_alias() => id = target,
                _ => return Some((id, current)),
            }
        }
        None
    }

    /// Whether the id is that of `void`, behind any typedefs and qualifiers.
    #[cfg(feature = "audit")]
    pub(crate) fn is_void(&self, id: TypeId) -> bool {
        let mut id = id;
        for _ in 0..MAX_CHAIN {
            if id == 0 {
                return true;
            }
            match self.type_by_id(id) {
                Some(alias) if alias.is_alias() => id = alias.target().unwrap_or(id),
                _ => return false,
            }
        }
        false
    }

    /// Returns the size of a pointer in bytes: 4 or 8.
    pub(crate) fn pointer_size(&self) -> u32 {
        self.pointer_size
    }

    /// Returns the offset of the object's first own name. Smaller offsets are the base's.
    pub(super) fn first_name(&self) -> u32 {
        self.first_name
    }

    /// Returns the offset after the object's last string.
    pub(super) fn end_name(&self) -> u32 {
        self.first_name.saturating_add(self.strings_len as u32)
    }

    /// Reads a word that `parse` has checked; 0 outside.
    fn u32_at(&self, at: usize) -> u32 {
        read_u32(&self.bytes, at, self.big_endian).unwrap_or(0)
    }
}

/// The size of a value.
enum ValueSize {
    Bytes(u32),
    /// The value contains a type of an unknown kind.
    Unknown,
}

/// Whether all strings are printable ASCII and none is too long. One pass over all costs
/// less than a check of each type's name, and kernels' BTF passes.
fn are_plain(strings: &[u8]) -> bool {
    let is_odd = |byte: u8| (1..0x20).contains(&byte) || byte >= 0x7f;
    // A loop over a block has no early exit, so it is vectorized.
    let has_odd = |block: &[u8]| block.iter().fold(false, |has, &byte| has | is_odd(byte));
    if strings.chunks(256).any(has_odd) {
        return false;
    }
    let mut rest = strings;
    while let Some(longest) = rest.get(..MAX_NAME + 1) {
        match longest.iter().rposition(|&byte| byte == 0) {
            Some(end) => rest = &rest[end + 1..],
            None => return false,
        }
    }
    true
}

/// Returns the byte order of an object, by the magic number it begins with.
pub(crate) fn byte_order(bytes: &[u8]) -> Result<ByteOrder, BtfError> {
    match bytes.first_chunk() {
        Some([0x9f, 0xeb]) => Ok(ByteOrder::Little),
        Some([0xeb, 0x9f]) => Ok(ByteOrder::Big),
        Some(other) => Err(BtfError::Magic {
            found: u16::from_le_bytes(*other),
        }),
        None => Err(BtfError::Truncated {
            what: "the header",
            end: HEADER as u64,
            len: bytes.len() as u64,
        }),
    }
}

pub(super) fn read_u32(bytes: &[u8], at: usize, big_endian: bool) -> Option<u32> {
    let byte_order = match big_endian {
        true => ByteOrder::Big,
        false => ByteOrder::Little,
    };
    byte_order.read_u32_at(bytes, at)
}
