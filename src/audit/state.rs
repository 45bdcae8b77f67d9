//! Known values of registers and the stack at an instruction.

use super::elf::CodeAddress;

/// The value of a register or of a slot of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RegisterValue {
    /// One of several values, which may be a pointer into the stack.
    Anything,
    /// Unknown: a number, or an address of memory that is not the program's stack.
    Unknown,
    /// Unknown, because it depends on the kernel's configuration.
    Undecided,
    /// A number, and the relocations it comes from.
    Number {
        value: u64,
        named: Named,
    },
    Context(ContextPointer),
    /// The context, at an unknown offset.
    ContextSomewhere,
    Stack {
        frame: u8,
        offset: i32,
    },
    StackSomewhere,
    /// A place in one of the object's data sections.
    Data {
        section: u32,
        offset: i64,
    },
    /// The address of an extern.
    Extern(u32),
    Function(CodeAddress),
    /// The whole location of a dynamic field, `__data_loc` or `__rel_loc`.
    Location {
        slot: u16,
    },
    /// The offset in a location's low half, and the number added to it.
    LocationOffset {
        slot: u16,
        added: i64,
    },
    /// The data of a dynamic field in the context, at this distance from their start.
    Dynamic {
        slot: u16,
        added: i64,
    },
    /// An argument of a raw tracepoint.
    Argument(ArgumentPointer),
}

/// A pointer to the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ContextPointer {
    /// The offset from the context's start on this kernel, in bytes.
    pub(super) offset: i64,
    pub(super) named: Named,
    /// The object's own type for the pointee, if its function declares it.
    pub(super) type_id: Option<u32>,
}

/// The fields that the source named, by its relocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Named {
    /// No field: the offset is from the source's own struct.
    Nothing,
    /// The field of a relocation, and the offset from its start in bytes.
    Field { relocation: u32, behind: i64 },
    /// A sum of several fields' offsets.
    Several,
}

/// The value of an argument of a raw tracepoint, and the number added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ArgumentPointer {
    pub(super) index: u32,
    pub(super) offset: i64,
    pub(super) named: Named,
    /// Whether it was compared with 0 on this path.
    pub(super) is_checked: bool,
}

impl Named {
    /// Returns the fields named by the sum of two numbers that have these.
    pub(super) fn sum(of_left: (Self, i64), of_right: (Self, i64)) -> Self {
        match (of_left, of_right) {
            ((Self::Nothing, _), (Self::Nothing, _)) => Self::Nothing,
            ((Self::Field { relocation, behind }, _), (Self::Nothing, added))
            | ((Self::Nothing, added), (Self::Field { relocation, behind }, _)) => Self::Field {
                relocation,
                behind: behind.wrapping_add(added),
            },
            _ => Self::Several,
        }
    }

    /// Returns the fields named by a number computed from numbers that have these,
    /// other than as a sum.
    pub(super) fn mixed(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, Self::Nothing) => Self::Nothing,
            _ => Self::Several,
        }
    }
}

impl ContextPointer {
    /// Returns the pointer with a number added.
    pub(super) fn plus(self, added: i64, named: Named) -> Self {
        Self {
            offset: self.offset.wrapping_add(added),
            named: Named::sum((self.named, self.offset), (named, added)),
            ..self
        }
    }
}

impl ArgumentPointer {
    /// Returns the pointer with a number added.
    pub(super) fn plus(self, added: i64, named: Named) -> Self {
        Self {
            offset: self.offset.wrapping_add(added),
            named: Named::sum((self.named, self.offset), (named, added)),
            ..self
        }
    }
}

impl RegisterValue {
    pub(super) fn is_in_stack(self) -> bool {
        matches!(
            self,
            Self::Anything | Self::Stack { .. } | Self::StackSomewhere
        )
    }

    fn is_of_context(self) -> bool {
        matches!(
            self,
            Self::Context(_) | Self::ContextSomewhere | Self::Dynamic { .. }
        )
    }

    /// Whether this value includes all that the other may be.
    pub(super) fn covers(self, other: Self) -> bool {
        self == other
            || match self {
                Self::Anything => true,
                Self::Unknown => matches!(
                    other,
                    Self::Number {
                        named: Named::Nothing,
                        ..
                    }
                ),
                Self::ContextSomewhere => matches!(other, Self::Context(_)),
                Self::StackSomewhere => matches!(other, Self::Stack { .. }),
                _ => false,
            }
    }

    /// Returns a value that includes both.
    pub(super) fn joined(self, other: Self) -> Self {
        if self.covers(other) {
            return self;
        }
        if other.covers(self) {
            return other;
        }
        let both = [self, other];
        let is_only_stack = |held: Self| matches!(held, Self::Stack { .. } | Self::StackSomewhere);
        if both.into_iter().all(is_only_stack) {
            Self::StackSomewhere
        } else if both.into_iter().any(Self::is_in_stack) {
            Self::Anything
        } else if both.into_iter().any(Self::is_of_context) {
            Self::ContextSomewhere
        } else if both.contains(&Self::Undecided) {
            Self::Undecided
        } else {
            Self::Unknown
        }
    }
}

/// A slot of the stack with known content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct StackSlot {
    /// The offset from the frame's end in bytes, negative.
    pub(super) offset: i32,
    pub(super) size: u32,
    pub(super) held: RegisterValue,
}

/// A part of the stack that is a copy of a part of the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct StackCopy {
    pub(super) offset: i32,
    pub(super) size: u32,
    /// The place in the context that it was copied from.
    pub(super) from: ContextPointer,
}

/// One function's registers and stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallFrame {
    pub(super) registers: [RegisterValue; 11],
    /// Sorted by offset; the rest of the stack is unknown.
    pub(super) slots: Vec<StackSlot>,
    pub(super) copies: Vec<StackCopy>,
    /// The call, after which the caller continues; `None` for the program itself.
    pub(super) called_at: Option<CodeAddress>,
}

impl CallFrame {
    pub(super) fn new(frame: u8, called_at: Option<CodeAddress>) -> Self {
        let mut registers = [RegisterValue::Unknown; 11];
        registers[10] = RegisterValue::Stack { frame, offset: 0 };
        Self {
            registers,
            slots: Vec::new(),
            copies: Vec::new(),
            called_at,
        }
    }

    pub(super) fn load(&self, offset: i32, size: u32) -> RegisterValue {
        let slot = self
            .slots
            .iter()
            .find(|slot| (slot.offset, slot.size) == (offset, size));
        match slot.map(|slot| slot.held) {
            Some(held) => held,
            // A part of a value that may be a pointer into the stack.
            None => RegisterValue::Unknown,
        }
    }

    /// Returns the part of the context that these bytes are a copy of.
    pub(super) fn copied(&self, offset: i32, size: u32) -> Option<ContextPointer> {
        let (start, end) = (i64::from(offset), i64::from(offset) + i64::from(size));
        let copy = self.copies.iter().find(|copy| {
            let copy_start = i64::from(copy.offset);
            copy_start <= start && end <= copy_start + i64::from(copy.size)
        })?;
        let behind = start - i64::from(copy.offset);
        Some(copy.from.plus(behind, Named::Nothing))
    }

    pub(super) fn store(&mut self, offset: i32, size: u32, held: RegisterValue) {
        self.forget(offset, Some(size));
        if held != RegisterValue::Unknown && self.slots.len() < MAX_SLOTS {
            let slot = StackSlot { offset, size, held };
            let at = self.slots.partition_point(|known| known.offset < offset);
            self.slots.insert(at, slot);
        }
    }

    pub(super) fn copy(&mut self, offset: i32, size: u32, from: ContextPointer) {
        self.forget(offset, Some(size));
        if self.copies.len() < MAX_SLOTS {
            self.copies.push(StackCopy { offset, size, from });
            self.copies.sort_unstable_by_key(|copy| copy.offset);
        }
    }

    /// Forgets these bytes, up to the frame's end if their number is not known.
    pub(super) fn forget(&mut self, offset: i32, size: Option<u32>) {
        let start = i64::from(offset);
        let end = size.map_or(i64::MAX, |size| start + i64::from(size));
        let is_apart = |at: i32, length: u32| {
            i64::from(at) >= end || i64::from(at) + i64::from(length) <= start
        };
        self.slots.retain(|slot| is_apart(slot.offset, slot.size));
        self.copies.retain(|copy| is_apart(copy.offset, copy.size));
    }
}

/// The size of a frame's stack in bytes.
const MAX_SLOTS: usize = 512;

/// A branch that led to a state, and whether it was taken, if it was decided by
/// something that is not known of the kernel.
pub(super) type Guard = (CodeAddress, bool);

/// All frames, the innermost last, and the unknown conditions of this path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MachineState {
    pub(super) frames: Vec<CallFrame>,
    /// Sorted.
    pub(super) guards: Vec<Guard>,
}

impl MachineState {
    pub(super) fn frame(&self) -> &CallFrame {
        self.frames.last().expect("a program has a frame")
    }

    pub(super) fn frame_mut(&mut self) -> &mut CallFrame {
        self.frames.last_mut().expect("a program has a frame")
    }

    /// Whether all that can be found from `other` is found from this state, too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.frames.len() == other.frames.len()
            && self.guards.iter().all(|guard| other.guards.contains(guard))
            && self.frames.iter().zip(&other.frames).all(|(a, b)| {
                let mut registers = a.registers.iter().zip(&b.registers);
                registers.all(|(a, b)| a.covers(*b))
                    && a.copies == b.copies
                    && a.slots
                        .iter()
                        .all(|slot| slot.held.covers(b.load(slot.offset, slot.size)))
                    // A slot that is unknown here must not matter there.
                    && b.slots.iter().all(|slot| {
                        matches!(slot.held, RegisterValue::Number { named: Named::Nothing, .. })
                            || a.slots.iter().any(|known| {
                                (known.offset, known.size) == (slot.offset, slot.size)
                            })
                    })
            })
    }

    /// Returns a state that includes both.
    pub(super) fn joined(&self, other: &Self) -> Self {
        let frames = self.frames.iter().zip(&other.frames).map(|(a, b)| {
            let mut frame = a.clone();
            for (held, other) in frame.registers.iter_mut().zip(&b.registers) {
                *held = held.joined(*other);
            }
            let offsets = |frame: &CallFrame| -> Vec<(i32, u32)> {
                let slots = frame.slots.iter();
                slots.map(|slot| (slot.offset, slot.size)).collect()
            };
            let mut places = offsets(a);
            places.extend(offsets(b));
            places.sort_unstable();
            places.dedup();
            frame.slots.clear();
            for (offset, size) in places {
                let held = a.load(offset, size).joined(b.load(offset, size));
                if held != RegisterValue::Unknown && frame.slots.len() < MAX_SLOTS {
                    frame.slots.push(StackSlot { offset, size, held });
                }
            }
            frame.copies.retain(|copy| b.copies.contains(copy));
            frame
        });
        let guards = self.guards.iter();
        Self {
            frames: frames.collect(),
            guards: guards
                .filter(|guard| other.guards.contains(guard))
                .copied()
                .collect(),
        }
    }

    /// Adds an unknown condition of the path.
    pub(super) fn guard(&mut self, guard: Guard) {
        if let Err(at) = self.guards.binary_search(&guard) {
            self.guards.insert(at, guard);
        }
    }

    /// Forgets all stacks: something was written at an unknown place in them.
    pub(super) fn forget_stacks(&mut self) {
        for frame in &mut self.frames {
            frame.slots.clear();
            frame.copies.clear();
        }
    }

    /// Records that an argument was compared with 0 and is not 0.
    pub(super) fn check_argument(&mut self, index: u32) {
        for frame in &mut self.frames {
            let registers = frame.registers.iter_mut();
            let slots = frame.slots.iter_mut().map(|slot| &mut slot.held);
            for held in registers.chain(slots) {
                if let RegisterValue::Argument(argument) = held
                    && argument.index == index
                {
                    argument.is_checked = true;
                }
            }
        }
    }
}
