//! Named members at offsets: one form for the records of format files and the structs of
//! BTF.

#[cfg(all(feature = "probe", target_os = "linux"))]
pub(crate) mod bits;
pub(crate) mod ctype;
mod difference;
pub(crate) mod integer;
mod read;
#[cfg(all(feature = "probe", target_os = "linux"))]
pub(crate) mod shape;

pub use difference::{Difference, DifferenceKind};

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::ops::Range;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use ctype::{CType, RecordKeyword};

/// The members of a struct or union, or the fields of a record, by offset.
///
/// ```
/// use tracepoints::Kernel;
/// use tracepoints::layout::DifferenceKind;
///
/// let layout = |kernel: &str| {
///     let kernel = Kernel::at(format!("tests/fixtures/{kernel}"))?;
///     kernel.tracepoint("sched:sched_process_exit")?.context()?.layout()
/// };
/// let (old, new) = (layout("5.10.223-x86_64")?, layout("6.18.15-x86_64")?);
/// let comm = new.slot("comm").ok_or("no such member")?;
/// assert_eq!((comm.c_type(), comm.offset(), comm.size()), ("char[16]", 8, 16));
/// assert_eq!((new.size(), new.gaps()), (36, vec![33..36]));
/// // The flag was added, so the dynamic data begin one byte later.
/// let differences = old.differences(&new);
/// assert_eq!(differences[0].kind, DifferenceKind::Moved { from: 32, to: 33 });
/// assert_eq!(differences[1].slot, "group_dead");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    keyword: RecordKeyword,
    name: Option<String>,
    size: u32,
    align: u32,
    slots: Vec<Slot>,
}

/// One member of a [`Layout`]: a named range of bytes or, for a bitfield, of bits.
///
/// Slots are equal if they have the same name, place, alignment, C type and nested slots;
/// that is also what they serialize as.
#[derive(Clone, Debug)]
pub struct Slot {
    name: String,
    pub(crate) ty: CType,
    c_type: String,
    /// In bits. The bits of a large offset do not fit a u32.
    bit_offset: u64,
    /// In bits; `None` if the member is not a bitfield.
    width: Option<u32>,
}

impl Layout {
    /// Makes a layout with its slots sorted by offset. Slots at the same offset (in a
    /// union, after an empty array) stay in the order given.
    pub(crate) fn new(
        keyword: RecordKeyword,
        name: Option<String>,
        size: u32,
        mut slots: Vec<Slot>,
    ) -> Self {
        slots.sort_by_key(|slot| slot.bit_offset);
        let align = slots.iter().map(Slot::align).max().unwrap_or(1);
        Self {
            keyword,
            name,
            size,
            align,
            slots,
        }
    }

    /// Returns the name of the struct or union; `None` for a record or an anonymous one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether all members lie at offset 0.
    pub fn is_union(&self) -> bool {
        self.keyword == RecordKeyword::Union
    }

    pub(crate) fn keyword(&self) -> RecordKeyword {
        self.keyword
    }

    /// Returns the whole size in bytes. For a record this is the end of the last field;
    /// the data of dynamic fields come after it.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Returns the largest alignment any member needs on a 64-bit machine, in bytes.
    /// Neither BTF nor a format file says whether the struct itself is aligned so.
    pub fn align(&self) -> u32 {
        self.align
    }

    /// Returns the members, by offset.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Returns the member of this C name: that of a dynamic field `f` is `__data_loc_f`.
    pub fn slot(&self, name: &str) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.name == name)
    }

    /// Returns the bytes that no member covers, as ranges of offsets: padding, and
    /// anything the kernel does not describe. In a union, these are the bytes after its
    /// largest member.
    pub fn gaps(&self) -> Vec<Range<u32>> {
        let mut gaps = Vec::new();
        let mut covered = 0;
        for slot in &self.slots {
            if slot.offset() > covered {
                gaps.push(covered..slot.offset());
            }
            covered = covered.max(slot.end());
        }
        if covered < self.size {
            gaps.push(covered..self.size);
        }
        gaps
    }

    /// Whether every member that is not a bitfield is aligned as its type requires.
    pub(crate) fn is_aligned(&self) -> bool {
        self.slots
            .iter()
            .all(|slot| slot.width.is_some() || slot.offset() % slot.align() == 0)
    }

    /// Rounds the size up to the alignment.
    pub(crate) fn rounded_up(self) -> Self {
        let size = self.size.checked_next_multiple_of(self.align);
        Self {
            size: size.unwrap_or(self.size),
            ..self
        }
    }

    /// Compares the members that have the same name. Returns the differences in the order
    /// of this layout, then the members that only the other has. Members without a name
    /// are paired in order. Gaps and the size of the whole are not compared.
    pub fn differences(&self, other: &Layout) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut add = |slot: &str, kind| {
            differences.push(Difference {
                slot: slot.to_owned(),
                kind,
            });
        };
        // Several members may have one name, as anonymous ones do; they are taken in
        // order.
        let mut others: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, there) in other.slots.iter().enumerate().rev() {
            others.entry(&there.name).or_default().push(at);
        }
        for here in &self.slots {
            let there = others.get_mut(&*here.name).and_then(Vec::pop);
            let Some(there) = there.and_then(|at| other.slots.get(at)) else {
                add(&here.name, DifferenceKind::OnlyHere);
                continue;
            };
            if here.bit_offset != there.bit_offset {
                add(
                    &here.name,
                    DifferenceKind::Moved {
                        from: here.offset(),
                        to: there.offset(),
                    },
                );
            }
            if here.size() != there.size() || here.width != there.width {
                add(
                    &here.name,
                    DifferenceKind::Resized {
                        from: here.size(),
                        to: there.size(),
                    },
                );
            }
            if here.c_type != there.c_type {
                add(
                    &here.name,
                    DifferenceKind::Retyped {
                        from: here.c_type.clone(),
                        to: there.c_type.clone(),
                    },
                );
            }
        }
        let mut left: Vec<usize> = others.into_values().flatten().collect();
        left.sort_unstable();
        for there in left.into_iter().filter_map(|at| other.slots.get(at)) {
            add(&there.name, DifferenceKind::OnlyThere);
        }
        differences
    }
}

impl Slot {
    pub(crate) fn new(name: String, ty: CType, bit_offset: u64, width: Option<u32>) -> Self {
        Self {
            c_type: ty.declare(""),
            name,
            ty,
            bit_offset,
            width,
        }
    }

    /// Returns the member's C name; empty for an anonymous struct or union, whose members
    /// are accessed as if they were the outer one's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the member's C type as an abstract declarator: `pid_t`, `char[16]`, `struct
    /// page *`.
    pub fn c_type(&self) -> &str {
        &self.c_type
    }

    /// Returns the member's offset in bytes; for a bitfield, the offset of the byte that
    /// contains its first bit.
    pub fn offset(&self) -> u32 {
        u32::try_from(self.bit_offset / 8).unwrap_or(u32::MAX)
    }

    /// Returns the member's size in bytes; 0 for a flexible array. The size of a bitfield
    /// is the number of bytes that contain its bits.
    pub fn size(&self) -> u32 {
        match self.width {
            Some(width) => ((self.bit_offset % 8) as u32 + width).div_ceil(8),
            None => self.ty.size(),
        }
    }

    /// Returns the offset of the first byte after the member.
    pub fn end(&self) -> u32 {
        self.offset().saturating_add(self.size())
    }

    /// Returns the alignment that the member's type requires on a 64-bit machine, in
    /// bytes.
    pub fn align(&self) -> u32 {
        self.ty.align()
    }

    /// Returns the bits of a bitfield, counted from the start of the layout; `None` for
    /// other members. As in BTF, a big-endian machine counts from each byte's highest
    /// bit.
    pub fn bits(&self) -> Option<Range<u64>> {
        self.width
            .map(|width| self.bit_offset..self.bit_offset + u64::from(width))
    }

    pub(crate) fn width(&self) -> Option<u32> {
        self.width
    }

    pub(crate) fn bit_offset(&self) -> u64 {
        self.bit_offset
    }

    /// Returns the layout of the struct or union that the member is, or is an array of;
    /// `None` for other members.
    pub fn nested(&self) -> Option<&Layout> {
        let mut ty = self.ty.resolved();
        while let CType::Array { element, .. } = ty {
            ty = element.resolved();
        }
        match ty {
            CType::Record { body, .. } => body.as_deref(),
            _ => None,
        }
    }
}

impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        let said = |slot: &Self| (slot.bit_offset, slot.width, slot.size(), slot.align());
        (&self.name, &self.c_type, said(self)) == (&other.name, &other.c_type, said(other))
            && self.nested() == other.nested()
    }
}

impl Eq for Slot {}

impl Hash for Slot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, &self.c_type, self.bit_offset, self.width).hash(state);
    }
}

impl Serialize for Layout {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let gaps: Vec<[u32; 2]> = self.gaps().iter().map(|gap| [gap.start, gap.end]).collect();
        let mut layout = serializer.serialize_struct("Layout", 6)?;
        layout.serialize_field("kind", self.keyword.as_str())?;
        layout.serialize_field("name", &self.name)?;
        layout.serialize_field("size", &self.size)?;
        layout.serialize_field("align", &self.align)?;
        layout.serialize_field("slots", &self.slots)?;
        layout.serialize_field("gaps", &gaps)?;
        layout.end()
    }
}

impl Serialize for Slot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bits = self.bits().map(|bits| [bits.start, bits.end]);
        let mut slot = serializer.serialize_struct("Slot", 7)?;
        slot.serialize_field("name", &self.name)?;
        slot.serialize_field("c_type", &self.c_type)?;
        slot.serialize_field("offset", &self.offset())?;
        slot.serialize_field("size", &self.size())?;
        slot.serialize_field("align", &self.align())?;
        match bits {
            Some(bits) => slot.serialize_field("bits", &bits)?,
            None => slot.skip_field("bits")?,
        }
        match self.nested() {
            Some(nested) => slot.serialize_field("nested", nested)?,
            None => slot.skip_field("nested")?,
        }
        slot.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(name: &str, offset: u32, size: u32) -> Slot {
        let ty = CType::Int {
            name: format!("u{}", size * 8),
            size,
            signed: false,
        };
        Slot::new(name.into(), ty, u64::from(offset) * 8, None)
    }

    fn layout(size: u32, slots: Vec<Slot>) -> Layout {
        Layout::new(RecordKeyword::Struct, None, size, slots)
    }

    #[test]
    fn gaps_lie_between_before_and_after() {
        let holes = layout(
            24,
            vec![
                slot("b", 8, 4),
                slot("inner", 9, 1),
                slot("a", 2, 4),
                slot("c", 12, 4),
            ],
        );
        assert_eq!(holes.gaps(), [0..2, 6..8, 16..24]);
        let full = layout(4, vec![slot("x", 0, 4), slot("flexible", 4, 0)]);
        assert_eq!(full.gaps(), []);
    }

    #[test]
    fn bitfields_take_the_bytes_their_bits_touch() {
        let ty = slot("", 0, 4).ty;
        let bits = |bit_offset, width| Slot::new("b".into(), ty.clone(), bit_offset, Some(width));
        let slots = vec![bits(0, 3), bits(3, 6), bits(9, 1), bits(32, 32)];
        let places: Vec<_> = slots
            .iter()
            .map(|slot| (slot.offset(), slot.size()))
            .collect();
        assert_eq!(places, [(0, 1), (0, 2), (1, 1), (4, 4)]);
        assert_eq!(slots[1].bits(), Some(3..9));
        let gaps = layout(8, slots).gaps();
        assert_eq!(gaps.len(), 1);
        assert_eq!(gaps[0], 2..4);
    }

    #[test]
    fn every_difference_is_named() {
        let here = layout(
            24,
            vec![
                slot("same", 0, 4),
                slot("moved", 4, 4),
                slot("grown", 8, 4),
                slot("gone", 12, 4),
            ],
        );
        let there = layout(
            24,
            vec![
                slot("same", 0, 4),
                slot("grown", 8, 8),
                slot("moved", 16, 4),
                slot("new", 20, 4),
            ],
        );
        let text: Vec<String> = here
            .differences(&there)
            .iter()
            .map(Difference::to_string)
            .collect();
        assert_eq!(
            text,
            [
                "moved moved from 4 to 16",
                "grown resized from 4 to 8 bytes",
                "grown retyped from u32 to u64",
                "gone is in the first only",
                "new is in the second only",
            ]
        );
        assert_eq!(here.differences(&here), []);
    }

    #[test]
    fn members_without_a_name_are_compared_in_order() {
        let here = layout(24, vec![slot("", 0, 8), slot("", 8, 8), slot("", 16, 8)]);
        assert_eq!(here.differences(&here), []);
        let there = layout(16, vec![slot("", 0, 8), slot("", 12, 8)]);
        let kinds = |differences: Vec<Difference>| -> Vec<DifferenceKind> {
            let kinds = differences.into_iter();
            kinds.map(|difference| difference.kind).collect()
        };
        assert_eq!(
            kinds(here.differences(&there)),
            [
                DifferenceKind::Moved { from: 8, to: 12 },
                DifferenceKind::OnlyHere
            ]
        );
        assert_eq!(
            kinds(there.differences(&here)),
            [
                DifferenceKind::Moved { from: 12, to: 8 },
                DifferenceKind::OnlyThere
            ]
        );
    }
}
