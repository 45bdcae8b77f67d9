//! What registers and the stack hold at an instruction, as far as it is known.

use super::elf::CodeAddress;

/// What a register or a slot of the stack holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RegisterValue {
    /// Several things of which one may be a pointer into the stack.
    Anything,
    /// A number, or an address of memory of others.
    Unknown,
    /// The same, if it depends on what the kernel was configured with and this crate
    /// does not know.
    Undecided,
    /// A number, and what relocations gave of it.
    Number {
        value: u64,
        named: Named,
    },
    Context(ContextPointer),
    /// The context at an offset that is not known.
    ContextSomewhere,
    Stack {
        frame: u8,
        offset: i32,
    },
    StackSomewhere,
    /// A place in one of the object's sections of data.
    Data {
        section: u32,
        offset: i64,
    },
    /// The address of what is defined elsewhere.
    Extern(u32),
    Function(CodeAddress),
    /// The location of a dynamic field, `__data_loc` or `__rel_loc`, whole.
    Location {
        slot: u16,
    },
    /// The offset it has in its low half, and what was added.
    LocationOffset {
        slot: u16,
        added: i64,
    },
    /// Where in the context that leads.
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
    /// In bytes from the context's start, on the kernel at hand.
    pub(super) offset: i64,
    pub(super) named: Named,
    /// The object's own type of what it points at, where its function says so.
    pub(super) type_id: Option<u32>,
}

/// What the source named, as far as relocations tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Named {
    /// No field: offsets are those of the source's own struct.
    Nothing,
    /// The field of a relocation, and how many bytes behind its start.
    Field { relocation: u32, behind: i64 },
    /// Several fields' offsets were added.
    Several,
}

/// The value of an argument of a raw tracepoint, and what was added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ArgumentPointer {
    pub(super) index: u32,
    pub(super) offset: i64,
    pub(super) named: Named,
    /// Whether it was compared with 0 on the way.
    pub(super) is_checked: bool,
}

impl Named {
    /// What is named by the sum of two numbers of which these are named.
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

    /// What is named by a number computed from these in another way.
    pub(super) fn mixed(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, Self::Nothing) => Self::Nothing,
            _ => Self::Several,
        }
    }
}

impl ContextPointer {
    /// The pointer with a number added.
    pub(super) fn plus(self, added: i64, named: Named) -> Self {
        Self {
            offset: self.offset.wrapping_add(added),
            named: Named::sum((self.named, self.offset), (named, added)),
            ..self
        }
    }
}

impl ArgumentPointer {
    /// The pointer with a number added.
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

    /// Whether everything the other stands for is what this one stands for too.
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

    /// What either of two values is.
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

/// A slot of the stack whose content is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct StackSlot {
    /// From the frame's end, in bytes: below 0.
    pub(super) offset: i32,
    pub(super) size: u32,
    pub(super) held: RegisterValue,
}

/// A part of the stack that is a copy of a part of the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct StackCopy {
    pub(super) offset: i32,
    pub(super) size: u32,
    /// From where in the context it was copied.
    pub(super) from: ContextPointer,
}

/// One function's registers and stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallFrame {
    pub(super) registers: [RegisterValue; 11],
    /// Sorted by offset; what is in none of them is not known.
    pub(super) slots: Vec<StackSlot>,
    pub(super) copies: Vec<StackCopy>,
    /// The call, to go on behind it; `None` of the program itself.
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
            // A part of what may hold a pointer into the stack.
            None => RegisterValue::Unknown,
        }
    }

    /// Of which part of the context these bytes are a copy.
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

    /// Forgets what these bytes hold: to the frame's end if it is not known how many.
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

/// The stack of a frame has 512 bytes.
const MAX_SLOTS: usize = 512;

/// The branch that led to a state, and whether it was taken, where it was decided by what
/// is not known of the kernel.
pub(super) type Guard = (CodeAddress, bool);

/// All frames, the innermost last, and what the way here depended on.
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

    /// Whether nothing is to be found from `other` that is not found from this.
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
                    // What is not known here may hold nothing that has to be.
                    && b.slots.iter().all(|slot| {
                        matches!(slot.held, RegisterValue::Number { named: Named::Nothing, .. })
                            || a.slots.iter().any(|known| {
                                (known.offset, known.size) == (slot.offset, slot.size)
                            })
                    })
            })
    }

    /// What is known of both.
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

    /// Adds what the way depends on.
    pub(super) fn guard(&mut self, guard: Guard) {
        if let Err(at) = self.guards.binary_search(&guard) {
            self.guards.insert(at, guard);
        }
    }

    /// Forgets what all stacks hold: something was written somewhere in them.
    pub(super) fn forget_stacks(&mut self) {
        for frame in &mut self.frames {
            frame.slots.clear();
            frame.copies.clear();
        }
    }

    /// Takes note that an argument was compared with 0 and is not.
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
