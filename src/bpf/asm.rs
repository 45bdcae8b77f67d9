//! A small assembler for eBPF: instructions by name, jumps to labels.
//!
//! Encodings follow `Documentation/bpf/standardization/instruction-set.rst` of the Linux
//! kernel. Only instructions that kernels have had since 5.8 are used.
//!
//! In one file because it is a list: each instruction's method, its bytes and its text.

use std::fmt;

/// A register of the eBPF machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reg {
    /// The result of a helper; at exit, that of the program.
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    /// The first register that helpers preserve.
    R6 = 6,
    R7,
    R8,
    R9,
    /// The end of the stack, whose 512 bytes lie below it.
    Fp,
}

/// The width of a load or store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    B1,
    B2,
    B4,
    B8,
}

/// A condition on two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Jump {
    Eq,
    Ne,
    /// Greater, unsigned.
    Gt,
    Ge,
    Lt,
    Le,
    /// Greater, signed.
    SGt,
    SGe,
    SLt,
    SLe,
}

/// Arithmetic on all 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alu {
    Add,
    Mul,
    Or,
    And,
    Xor,
    Lsh,
    Rsh,
    /// A right shift that fills with the sign.
    Arsh,
    Mov,
}

/// A helper function of the kernel (`include/uapi/linux/bpf.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Helper {
    MapLookupElem = 1,
    MapUpdateElem = 2,
    MapDeleteElem = 3,
    KtimeGetNs = 5,
    GetSmpProcessorId = 8,
    GetCurrentPidTgid = 14,
    GetCurrentUidGid = 15,
    GetCurrentComm = 16,
    GetCurrentTask = 35,
    GetStack = 67,
    GetCurrentCgroupId = 80,
    ProbeReadUser = 112,
    ProbeReadKernel = 113,
    ProbeReadUserStr = 114,
    ProbeReadKernelStr = 115,
    RingbufReserve = 131,
    RingbufSubmit = 132,
    GetCurrentTaskBtf = 158,
    Snprintf = 165,
    KallsymsLookupName = 179,
}

impl Helper {
    fn name(self) -> &'static str {
        match self {
            Self::MapLookupElem => "map_lookup_elem",
            Self::MapUpdateElem => "map_update_elem",
            Self::MapDeleteElem => "map_delete_elem",
            Self::KtimeGetNs => "ktime_get_ns",
            Self::GetSmpProcessorId => "get_smp_processor_id",
            Self::GetCurrentPidTgid => "get_current_pid_tgid",
            Self::GetCurrentUidGid => "get_current_uid_gid",
            Self::GetCurrentCgroupId => "get_current_cgroup_id",
            Self::GetCurrentComm => "get_current_comm",
            Self::GetCurrentTask => "get_current_task",
            Self::GetStack => "get_stack",
            Self::ProbeReadUser => "probe_read_user",
            Self::ProbeReadKernel => "probe_read_kernel",
            Self::ProbeReadUserStr => "probe_read_user_str",
            Self::ProbeReadKernelStr => "probe_read_kernel_str",
            Self::RingbufReserve => "ringbuf_reserve",
            Self::RingbufSubmit => "ringbuf_submit",
            Self::GetCurrentTaskBtf => "get_current_task_btf",
            Self::Snprintf => "snprintf",
            Self::KallsymsLookupName => "kallsyms_lookup_name",
        }
    }
}

/// A place in the program that jumps go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// Eight bytes of a program, which are one instruction but for 64-bit constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    opcode: u8,
    dst: u8,
    src: u8,
    offset: i16,
    imm: i32,
}

// The classes, sizes, sources and modes that make up an opcode.
const LD: u8 = 0x00;
const LDX: u8 = 0x01;
const ST: u8 = 0x02;
const STX: u8 = 0x03;
const JMP: u8 = 0x05;
const ALU64: u8 = 0x07;
const IMM: u8 = 0x00;
const MEM: u8 = 0x60;
const ATOMIC: u8 = 0xc0;
const DOUBLE_WORD: u8 = 0x18;
const REGISTER: u8 = 0x08;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;

/// An instruction's `src`, if the number loaded is the descriptor of a map
/// (`BPF_PSEUDO_MAP_FD`).
const MAP_DESCRIPTOR: u8 = 1;
/// The same, to load the address of the map's first value (`BPF_PSEUDO_MAP_VALUE`).
const MAP_VALUE: u8 = 2;

impl Size {
    /// Returns the width for this many bytes, if loads have one.
    pub(crate) fn of(bytes: u32) -> Option<Self> {
        Some(match bytes {
            1 => Self::B1,
            2 => Self::B2,
            4 => Self::B4,
            8 => Self::B8,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::B4 => 0x00,
            Self::B2 => 0x08,
            Self::B1 => 0x10,
            Self::B8 => 0x18,
        }
    }

    fn name(bits: u8) -> &'static str {
        match bits & 0x18 {
            0x00 => "u32",
            0x08 => "u16",
            0x10 => "u8",
            _ => "u64",
        }
    }
}

impl Jump {
    const ALL: [(Self, u8, &'static str); 10] = [
        (Self::Eq, 0x10, "=="),
        (Self::Gt, 0x20, ">"),
        (Self::Ge, 0x30, ">="),
        (Self::Ne, 0x50, "!="),
        (Self::SGt, 0x60, "s>"),
        (Self::SGe, 0x70, "s>="),
        (Self::Lt, 0xa0, "<"),
        (Self::Le, 0xb0, "<="),
        (Self::SLt, 0xc0, "s<"),
        (Self::SLe, 0xd0, "s<="),
    ];

    fn bits(self) -> u8 {
        let known = Self::ALL.iter().find(|(jump, ..)| *jump == self);
        known.map_or(0, |(_, bits, _)| *bits)
    }
}

impl Alu {
    const ALL: [(Self, u8, &'static str); 9] = [
        (Self::Add, 0x00, "+="),
        (Self::Mul, 0x20, "*="),
        (Self::Or, 0x40, "|="),
        (Self::Xor, 0xa0, "^="),
        (Self::And, 0x50, "&="),
        (Self::Lsh, 0x60, "<<="),
        (Self::Rsh, 0x70, ">>="),
        (Self::Arsh, 0xc0, "s>>="),
        (Self::Mov, 0xb0, "="),
    ];

    fn bits(self) -> u8 {
        let known = Self::ALL.iter().find(|(alu, ..)| *alu == self);
        known.map_or(0, |(_, bits, _)| *bits)
    }
}

impl Instruction {
    /// Returns the instruction in the byte order of this machine's kernel.
    fn bytes(self) -> [u8; 8] {
        let registers = match cfg!(target_endian = "big") {
            false => self.src << 4 | self.dst,
            true => self.dst << 4 | self.src,
        };
        let mut bytes = [0; 8];
        bytes[0] = self.opcode;
        bytes[1] = registers;
        bytes[2..4].copy_from_slice(&self.offset.to_ne_bytes());
        bytes[4..].copy_from_slice(&self.imm.to_ne_bytes());
        bytes
    }
}

/// A program being written.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    instructions: Vec<Instruction>,
    /// The place of each label, once it has one.
    labels: Vec<Option<usize>>,
    /// The jumps and their targets.
    jumps: Vec<(usize, Label)>,
}

/// A jump cannot be encoded: a label was never placed, or is too far away.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadJump;

impl Assembler {
    fn emit(&mut self, opcode: u8, dst: u8, src: u8, offset: i16, imm: i32) {
        self.instructions.push(Instruction {
            opcode,
            dst,
            src,
            offset,
            imm,
        });
    }

    /// Creates a label, to be [`place`](Self::place)d later.
    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Places a label at the next instruction.
    pub(crate) fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.instructions.len());
    }

    pub(crate) fn alu(&mut self, alu: Alu, dst: Reg, imm: i32) {
        self.emit(ALU64 | alu.bits(), dst as u8, 0, 0, imm);
    }

    pub(crate) fn alu_reg(&mut self, alu: Alu, dst: Reg, src: Reg) {
        self.emit(ALU64 | alu.bits() | REGISTER, dst as u8, src as u8, 0, 0);
    }

    pub(crate) fn mov(&mut self, dst: Reg, imm: i32) {
        self.alu(Alu::Mov, dst, imm);
    }

    pub(crate) fn mov_reg(&mut self, dst: Reg, src: Reg) {
        self.alu_reg(Alu::Mov, dst, src);
    }

    /// `dst = base + offset`, an address.
    pub(crate) fn address(&mut self, dst: Reg, base: Reg, offset: i32) {
        self.mov_reg(dst, base);
        if offset != 0 {
            self.alu(Alu::Add, dst, offset);
        }
    }

    /// `dst = value`, of 64 bits.
    pub(crate) fn load_imm64(&mut self, dst: Reg, value: u64) {
        self.emit(LD | IMM | DOUBLE_WORD, dst as u8, 0, 0, value as i32);
        self.emit(0, 0, 0, 0, (value >> 32) as i32);
    }

    /// `dst = value`, in as few instructions as possible.
    pub(crate) fn load_number(&mut self, dst: Reg, value: i64) {
        match i32::try_from(value) {
            Ok(value) => self.mov(dst, value),
            Err(_) => self.load_imm64(dst, value as u64),
        }
    }

    /// `dst` = the map with this file descriptor.
    pub(crate) fn load_map(&mut self, dst: Reg, descriptor: i32) {
        self.load_of_map(dst, MAP_DESCRIPTOR, descriptor);
    }

    /// `dst` = the address of the only value of the array with this file descriptor
    /// (Linux 5.2).
    pub(crate) fn load_map_value(&mut self, dst: Reg, descriptor: i32) {
        self.load_of_map(dst, MAP_VALUE, descriptor);
    }

    fn load_of_map(&mut self, dst: Reg, what: u8, descriptor: i32) {
        self.emit(LD | IMM | DOUBLE_WORD, dst as u8, what, 0, descriptor);
        self.emit(0, 0, 0, 0, 0);
    }

    pub(crate) fn load(&mut self, size: Size, dst: Reg, base: Reg, offset: i16) {
        self.emit(LDX | MEM | size.bits(), dst as u8, base as u8, offset, 0);
    }

    pub(crate) fn store(&mut self, size: Size, base: Reg, offset: i16, src: Reg) {
        self.emit(STX | MEM | size.bits(), base as u8, src as u8, offset, 0);
    }

    /// `*(u64 *)(base + offset) += src`, in one step that nothing comes between.
    pub(crate) fn add_atomically(&mut self, base: Reg, offset: i16, src: Reg) {
        let opcode = STX | ATOMIC | Size::B8.bits();
        self.emit(opcode, base as u8, src as u8, offset, 0);
    }

    pub(crate) fn store_imm(&mut self, size: Size, base: Reg, offset: i16, imm: i32) {
        self.emit(ST | MEM | size.bits(), base as u8, 0, offset, imm);
    }

    pub(crate) fn jump(&mut self, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.emit(JMP, 0, 0, 0, 0);
    }

    pub(crate) fn jump_if(&mut self, jump: Jump, dst: Reg, imm: i32, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.emit(JMP | jump.bits(), dst as u8, 0, 0, imm);
    }

    pub(crate) fn jump_if_reg(&mut self, jump: Jump, dst: Reg, src: Reg, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.emit(JMP | jump.bits() | REGISTER, dst as u8, src as u8, 0, 0);
    }

    pub(crate) fn call(&mut self, helper: Helper) {
        self.emit(JMP | CALL, 0, 0, 0, helper as i32);
    }

    /// `R0` = the address of the map's value for the key that is on the stack at `key`; 0 if
    /// there is none.
    pub(crate) fn map_lookup(&mut self, map: i32, key: i16) {
        self.load_key(map, key);
        self.call(Helper::MapLookupElem);
    }

    /// Sets the map's value for the key at `key` to the one at `value`, both on the stack.
    /// `R0` = 0, or a negative error.
    pub(crate) fn map_update(&mut self, map: i32, key: i16, value: i16) {
        self.load_key(map, key);
        self.address(Reg::R3, Reg::Fp, value.into());
        // `BPF_ANY`: whether or not there is one.
        self.mov(Reg::R4, 0);
        self.call(Helper::MapUpdateElem);
    }

    /// Sets the map's value for the key at `key`, on the stack, to the one at an address, unless
    /// there is one. `R0` = 0, or a negative error.
    pub(crate) fn map_insert(&mut self, map: i32, key: i16, value: Reg) {
        /// `BPF_NOEXIST`.
        const NEW_ONLY: i32 = 1;
        self.load_key(map, key);
        self.mov_reg(Reg::R3, value);
        self.mov(Reg::R4, NEW_ONLY);
        self.call(Helper::MapUpdateElem);
    }

    /// Removes the map's value for the key that is on the stack at `key`.
    pub(crate) fn map_delete(&mut self, map: i32, key: i16) {
        self.load_key(map, key);
        self.call(Helper::MapDeleteElem);
    }

    fn load_key(&mut self, map: i32, key: i16) {
        self.load_map(Reg::R1, map);
        self.address(Reg::R2, Reg::Fp, key.into());
    }

    /// `R0` = the address of `size` bytes in the ring buffer; 0 if there is no space.
    pub(crate) fn ring_reserve(&mut self, ring: i32, size: i32) {
        self.load_map(Reg::R1, ring);
        self.mov(Reg::R2, size);
        self.mov(Reg::R3, 0);
        self.call(Helper::RingbufReserve);
    }

    /// Hands out the reserved bytes at this address.
    pub(crate) fn ring_submit(&mut self, record: Reg) {
        self.mov_reg(Reg::R1, record);
        self.mov(Reg::R2, 0);
        self.call(Helper::RingbufSubmit);
    }

    pub(crate) fn exit(&mut self) {
        self.emit(JMP | EXIT, 0, 0, 0, 0);
    }

    /// Returns the program, with its jumps resolved.
    pub(crate) fn finish(mut self) -> Result<Program, BadJump> {
        for &(at, label) in &self.jumps {
            let target = self.labels[label.0].ok_or(BadJump)?;
            // Distances count from the instruction after the jump.
            let distance = target as i64 - at as i64 - 1;
            self.instructions[at].offset = i16::try_from(distance).map_err(|_| BadJump)?;
        }
        Ok(Program {
            instructions: self.instructions,
        })
    }
}

/// A whole program. [`Display`](fmt::Display) writes one instruction a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    instructions: Vec<Instruction>,
}

impl Program {
    /// Returns the bytes that this machine's kernel loads.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let instructions = self.instructions.iter();
        instructions.flat_map(|one| one.bytes()).collect()
    }
}

impl fmt::Display for Program {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.instructions.iter().enumerate();
        while let Some((at, one)) = lines.next() {
            write!(out, "{at:4}: ")?;
            if one.opcode == LD | IMM | DOUBLE_WORD {
                let high = lines.next().map_or(0, |(_, second)| second.imm);
                match one.src {
                    MAP_DESCRIPTOR => writeln!(out, "r{} = map {}", one.dst, one.imm)?,
                    MAP_VALUE => writeln!(out, "r{} = value of map {}", one.dst, one.imm)?,
                    _ => {
                        let value = (high as u64) << 32 | u64::from(one.imm as u32);
                        writeln!(out, "r{} = {value:#x}", one.dst)?;
                    }
                }
                continue;
            }
            writeln!(out, "{}", Line { at, one })?;
        }
        Ok(())
    }
}

/// An instruction and its place, from which jumps count.
struct Line<'a> {
    at: usize,
    one: &'a Instruction,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = self.one;
        let (dst, src) = (one.dst, one.src);
        let memory = |base: u8| {
            let size = Size::name(one.opcode);
            format!("*({size} *)(r{base} {:+})", one.offset)
        };
        let operand = match one.opcode & REGISTER {
            0 => one.imm.to_string(),
            _ => format!("r{src}"),
        };
        let target = || (self.at as i64 + 1 + i64::from(one.offset)).to_string();
        match one.opcode & 0x07 {
            LDX => write!(out, "r{dst} = {}", memory(src)),
            ST => write!(out, "{} = {}", memory(dst), one.imm),
            STX if one.opcode & 0xe0 == ATOMIC => {
                write!(out, "lock {} += r{src}", memory(dst))
            }
            STX => write!(out, "{} = r{src}", memory(dst)),
            ALU64 => {
                let known = Alu::ALL
                    .iter()
                    .find(|(_, bits, _)| *bits == one.opcode & 0xf0);
                let sign = known.map_or("?", |(.., sign)| sign);
                write!(out, "r{dst} {sign} {operand}")
            }
            _ => match one.opcode & 0xf0 {
                0 => write!(out, "goto {}", target()),
                CALL => write!(out, "call {}", HelperNumber(one.imm)),
                EXIT => write!(out, "exit"),
                condition => {
                    let known = Jump::ALL.iter().find(|(_, bits, _)| *bits == condition);
                    let sign = known.map_or("?", |(.., sign)| sign);
                    write!(out, "if r{dst} {sign} {operand} goto {}", target())
                }
            },
        }
    }
}

struct HelperNumber(i32);

impl fmt::Display for HelperNumber {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KNOWN: [Helper; 19] = [
            Helper::MapLookupElem,
            Helper::MapUpdateElem,
            Helper::MapDeleteElem,
            Helper::KtimeGetNs,
            Helper::GetSmpProcessorId,
            Helper::GetCurrentPidTgid,
            Helper::GetCurrentComm,
            Helper::GetCurrentTask,
            Helper::GetCurrentUidGid,
            Helper::GetCurrentCgroupId,
            Helper::GetStack,
            Helper::ProbeReadKernel,
            Helper::ProbeReadUserStr,
            Helper::ProbeReadKernelStr,
            Helper::RingbufReserve,
            Helper::RingbufSubmit,
            Helper::GetCurrentTaskBtf,
            Helper::Snprintf,
            Helper::KallsymsLookupName,
        ];
        match KNOWN.iter().find(|helper| **helper as i32 == self.0) {
            Some(helper) => out.write_str(helper.name()),
            None => write!(out, "helper {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_for_reading() {
        let mut asm = Assembler::default();
        let (again, out) = (asm.label(), asm.label());
        asm.mov(Reg::R1, -1);
        asm.place(again);
        asm.load(Size::B4, Reg::R2, Reg::R6, 16);
        asm.jump_if(Jump::SLt, Reg::R2, -7, out);
        asm.load_imm64(Reg::R3, 0x1_0000_0002);
        asm.jump_if_reg(Jump::Le, Reg::R2, Reg::R3, again);
        asm.load_map(Reg::R1, 5);
        asm.store_imm(Size::B8, Reg::Fp, -8, 0);
        asm.store(Size::B1, Reg::Fp, -1, Reg::R2);
        asm.alu(Alu::Arsh, Reg::R2, 32);
        asm.alu_reg(Alu::Add, Reg::R2, Reg::R3);
        asm.call(Helper::KtimeGetNs);
        asm.jump(again);
        asm.place(out);
        asm.exit();
        let program = asm.finish().expect("labels are placed");
        insta::assert_snapshot!(program);
        assert_eq!(program.bytes().len() % 8, 0);
    }

    #[test]
    fn encodings() {
        let mut asm = Assembler::default();
        asm.mov(Reg::R0, 1);
        asm.exit();
        let bytes = asm.finish().expect("no jumps").bytes();
        if cfg!(target_endian = "little") {
            assert_eq!(
                bytes,
                [0xb7, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]
            );
        }
    }

    #[test]
    fn jumps_that_lead_nowhere() {
        let mut asm = Assembler::default();
        let nowhere = asm.label();
        asm.jump(nowhere);
        assert_eq!(asm.finish(), Err(BadJump));
        let mut asm = Assembler::default();
        let far = asm.label();
        asm.jump(far);
        for _ in 0..40_000 {
            asm.mov(Reg::R0, 0);
        }
        asm.place(far);
        assert_eq!(asm.finish(), Err(BadJump));
    }
}
