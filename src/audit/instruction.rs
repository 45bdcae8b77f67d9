//! Instructions of eBPF (`Documentation/bpf/standardization/instruction-set.rst`).

use crate::machine::ByteOrder;

/// The size of an instruction in bytes; a 64-bit immediate takes two instructions.
pub(super) const INSTRUCTION: usize = 8;

/// The class of an instruction: the low three bits of its opcode.
pub(super) mod class {
    pub(in crate::audit) const LD: u8 = 0;
    pub(in crate::audit) const LDX: u8 = 1;
    pub(in crate::audit) const ST: u8 = 2;
    pub(in crate::audit) const STX: u8 = 3;
    pub(in crate::audit) const ALU: u8 = 4;
    pub(in crate::audit) const JMP: u8 = 5;
    pub(in crate::audit) const JMP32: u8 = 6;
    pub(in crate::audit) const ALU64: u8 = 7;
}

/// `BPF_LD | BPF_IMM | BPF_DW`: the first of the two halves of a 64-bit immediate.
pub(super) const LOAD_IMMEDIATE: u8 = 0x18;
/// `BPF_JMP | BPF_CALL`.
pub(super) const CALL: u8 = 0x85;
/// `BPF_JMP | BPF_EXIT`.
pub(super) const EXIT: u8 = 0x95;
/// `BPF_JMP | BPF_JCOND`: `may_goto`.
pub(super) const MAY_GOTO: u8 = 0xe5;

/// The source register of a call of one of the object's functions.
pub(super) const PSEUDO_CALL: u8 = 1;

/// One instruction, or one half of a 64-bit immediate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawInstruction {
    pub(super) opcode: u8,
    pub(super) destination: u8,
    pub(super) source: u8,
    pub(super) offset: i16,
    pub(super) immediate: i32,
}

impl RawInstruction {
    pub(super) fn parse(bytes: [u8; INSTRUCTION], byte_order: ByteOrder) -> Self {
        let [opcode, registers, o0, o1, rest @ ..] = bytes;
        let (low, high) = (registers & 0xf, registers >> 4);
        let (destination, source) = match byte_order {
            ByteOrder::Little => (low, high),
            ByteOrder::Big => (high, low),
        };
        Self {
            opcode,
            destination,
            source,
            offset: byte_order.read_u16([o0, o1]) as i16,
            immediate: byte_order.read_u32(rest) as i32,
        }
    }

    pub(super) fn class(self) -> u8 {
        self.opcode & 7
    }

    /// Returns the size of a load or store, in bytes.
    pub(super) fn memory_size(self) -> u32 {
        match self.opcode & 0x18 {
            0x00 => 4,
            0x08 => 2,
            0x10 => 1,
            _ => 8,
        }
    }

    /// Returns the mode of a load or store: `BPF_MEM`, `BPF_MEMSX`, `BPF_ATOMIC`…
    pub(super) fn mode(self) -> u8 {
        self.opcode & 0xe0
    }

    /// Returns the operation of arithmetic or a jump.
    pub(super) fn operation(self) -> u8 {
        self.opcode & 0xf0
    }

    /// Whether the second operand of arithmetic or a jump is a register.
    pub(super) fn has_register_operand(self) -> bool {
        self.opcode & 8 != 0
    }

    /// Returns the immediate as in 64-bit arithmetic.
    pub(super) fn extended(self) -> u64 {
        i64::from(self.immediate) as u64
    }
}

/// `BPF_MEM`.
pub(super) const MODE_MEMORY: u8 = 0x60;
/// `BPF_MEMSX`: a load that extends the sign.
pub(super) const MODE_SIGNED: u8 = 0x80;
/// `BPF_ATOMIC`.
pub(super) const MODE_ATOMIC: u8 = 0xc0;

/// Returns the result of an operation on two numbers; `None` for an unknown operation.
pub(super) fn arithmetic(instruction: RawInstruction, left: u64, right: u64) -> Option<u64> {
    let is_wide = instruction.class() == class::ALU64;
    let (a, b) = match is_wide {
        true => (left, right),
        false => (u64::from(left as u32), u64::from(right as u32)),
    };
    let shift = (b & if is_wide { 63 } else { 31 }) as u32;
    let result = match instruction.operation() {
        0x00 => a.wrapping_add(b),
        0x10 => a.wrapping_sub(b),
        0x20 => a.wrapping_mul(b),
        // An offset of 1 means signed.
        0x30 if instruction.offset == 0 => a.checked_div(b).unwrap_or(0),
        0x40 => a | b,
        0x50 => a & b,
        0x60 => a << shift,
        0x70 => a >> shift,
        0x80 => a.wrapping_neg(),
        0x90 if instruction.offset == 0 => a.checked_rem(b).unwrap_or(a),
        0xa0 => a ^ b,
        0xb0 => match instruction.offset {
            0 => b,
            8 => i64::from(b as i8) as u64,
            16 => i64::from(b as i16) as u64,
            32 => i64::from(b as i32) as u64,
            _ => return None,
        },
        0xc0 if is_wide => ((a as i64) >> shift) as u64,
        0xc0 => ((a as i32) >> shift) as u32 as u64,
        _ => return None,
    };
    Some(match is_wide {
        true => result,
        false => u64::from(result as u32),
    })
}

/// Whether a conditional jump on two numbers is taken; `None` for an unknown condition.
pub(super) fn is_taken(instruction: RawInstruction, left: u64, right: u64) -> Option<bool> {
    let (a, b, c, d) = match instruction.class() {
        class::JMP32 => (
            u64::from(left as u32),
            u64::from(right as u32),
            i64::from(left as i32),
            i64::from(right as i32),
        ),
        _ => (left, right, left as i64, right as i64),
    };
    Some(match instruction.operation() {
        0x10 => a == b,
        0x20 => a > b,
        0x30 => a >= b,
        0x40 => a & b != 0,
        0x50 => a != b,
        0x60 => c > d,
        0x70 => c >= d,
        0xa0 => a < b,
        0xb0 => a <= b,
        0xc0 => c < d,
        0xd0 => c <= d,
        _ => return None,
    })
}
