//! Places of fields, as constants that programs are given before they are loaded.

use std::collections::HashMap;

use super::Kernel;
use crate::context::access::{Access, Read};
use crate::error::Error;
use crate::machine::ByteOrder;
use crate::name::EventName;

/// The place of a field in the context on one kernel: 8 bytes, which a program has as a
/// constant. Returned by [`Kernel::offsets`].
///
/// In memory it is a `u32` and two `u16`, of the kernel's byte order: offset, size, and
/// [`how`](Self::how).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldPlace {
    offset: u32,
    size: u16,
    how: u16,
}

impl FieldPlace {
    /// A value of [`how`](Self::how): the kernel does not have the field in the context.
    pub const ABSENT: u16 = 0;
    /// A value of [`how`](Self::how): the value, or the array, is in the context.
    pub const IN_PLACE: u16 = 1;
    /// A value of [`how`](Self::how): a `u32` in the context locates the bytes. Its low 16
    /// bits count from the context's start, and its high 16 bits are the number of bytes.
    pub const LOCATED: u16 = 2;
    /// A value of [`how`](Self::how): like [`LOCATED`](Self::LOCATED), but counted from the
    /// end of the `u32`.
    pub const RELATIVE: u16 = 3;
    /// A bit of [`how`](Self::how): the value is signed.
    pub const SIGNED: u16 = 0x100;

    /// Returns the offset in bytes from the context's start, of the value or of the `u32`
    /// that locates it.
    pub fn offset(self) -> u32 {
        self.offset
    }

    /// Returns the size in bytes, of the value or of the `u32` that locates it.
    pub fn size(self) -> u16 {
        self.size
    }

    /// Returns one of the constants of this type, with [`SIGNED`](Self::SIGNED) added for
    /// a signed value.
    pub fn how(self) -> u16 {
        self.how
    }

    fn of(access: &Access<'_>, byte_order: ByteOrder) -> Self {
        let slot = &access.slot;
        let Ok(word) = u16::try_from(slot.size()) else {
            return Self::default();
        };
        match access.read {
            Read::Load | Read::Probe | Read::UserText => {
                // A system call's value may be a part of its word.
                let skipped = match byte_order {
                    ByteOrder::Big => slot.size().saturating_sub(access.size),
                    ByteOrder::Little => 0,
                };
                let sign = if access.signed { Self::SIGNED } else { 0 };
                Self {
                    offset: slot.offset().saturating_add(skipped),
                    size: access.size as u16,
                    how: Self::IN_PLACE | sign,
                }
            }
            Read::Text | Read::Bytes => Self {
                offset: slot.offset(),
                size: word,
                how: Self::IN_PLACE,
            },
            // Programs read a `u32`, and no location has another size.
            Read::Located { .. } if word != 4 => Self::default(),
            Read::Located { relative, .. } => Self {
                offset: slot.offset(),
                size: word,
                how: match relative {
                    true => Self::RELATIVE,
                    false => Self::LOCATED,
                },
            },
        }
    }
}

/// The places of some fields on one kernel: see [`Kernel::offsets`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldOffsets {
    places: Vec<FieldPlace>,
    byte_order: ByteOrder,
}

impl FieldOffsets {
    /// Returns the places, in the order that was asked for.
    pub fn places(&self) -> &[FieldPlace] {
        &self.places
    }

    /// Returns the places as a program has them in memory, 8 bytes each, in the kernel's
    /// byte order.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 * self.places.len());
        for FieldPlace { offset, size, how } in &self.places {
            match self.byte_order {
                ByteOrder::Little => {
                    bytes.extend(offset.to_le_bytes());
                    bytes.extend(size.to_le_bytes());
                    bytes.extend(how.to_le_bytes());
                }
                ByteOrder::Big => {
                    bytes.extend(offset.to_be_bytes());
                    bytes.extend(size.to_be_bytes());
                    bytes.extend(how.to_be_bytes());
                }
            }
        }
        bytes
    }
}

impl Kernel {
    /// Returns where the contexts of this kernel have fields, for programs that are given
    /// the places before they are loaded: see
    /// [`FieldConstants`](crate::emit::FieldConstants). A field that the kernel does not
    /// have in a context, or whose event it does not have, is
    /// [`ABSENT`](FieldPlace::ABSENT).
    ///
    /// # Errors
    ///
    /// Those of [`tracepoint`](Self::tracepoint), but for missing events, of
    /// [`Tracepoint::context`](crate::Tracepoint::context) and of
    /// [`machine`](Self::machine).
    ///
    /// ```
    /// use tracepoints::Kernel;
    ///
    /// let kernel = Kernel::at("tests/fixtures/6.18.15-x86_64")?;
    /// let exit = "sched:sched_process_exit".parse()?;
    /// let offsets = kernel.offsets(&[(&exit, "pid"), (&exit, "no such field")])?;
    /// let [pid, missing] = offsets.places() else { return Err("two".into()) };
    /// assert_eq!((pid.offset(), pid.size()), (24, 4));
    /// assert_eq!(missing.how(), tracepoints::kernel::FieldPlace::ABSENT);
    /// assert_eq!(offsets.to_bytes()[..8], [24, 0, 0, 0, 4, 0, 1, 1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn offsets(&self, fields: &[(&EventName, &str)]) -> Result<FieldOffsets, Error> {
        let byte_order = self.machine()?.byte_order();
        let mut known: HashMap<&EventName, HashMap<String, FieldPlace>> = HashMap::new();
        let mut places = Vec::with_capacity(fields.len());
        for (event, field) in fields {
            if !known.contains_key(event) {
                known.insert(event, self.places_of(event, byte_order)?);
            }
            let place = known.get(event).and_then(|places| places.get(*field));
            places.push(place.copied().unwrap_or_default());
        }
        Ok(FieldOffsets { places, byte_order })
    }

    fn places_of(
        &self,
        event: &EventName,
        byte_order: ByteOrder,
    ) -> Result<HashMap<String, FieldPlace>, Error> {
        let tracepoint = match self.tracepoint(event) {
            Err(Error::NoSuchEvent { .. }) => return Ok(HashMap::new()),
            other => other?,
        };
        let context = tracepoint.context()?;
        let accesses = Access::of_fields(tracepoint.format(), &context)?;
        let places = accesses.into_iter().filter_map(|(field, access)| {
            Some((
                field.name().to_owned(),
                FieldPlace::of(&access?, byte_order),
            ))
        });
        Ok(places.collect())
    }
}
