//! Stacks that groups have in common: each is kept once, in a map, and a key has its number.
//!
//! The kernel has maps for that (`BPF_MAP_TYPE_STACK_TRACE`), which lose a stack where two have
//! the same place in their table, and where two CPUs write to it at once, give one the number
//! of the other (`bpf_get_stackid()`, `kernel/bpf/stackmap.c`). Here the number is a hash of all
//! addresses, and a program compares those that have it: of two with the same hash, which
//! happens once in 2⁶³ pairs, the second is counted as lost.
//!
//! A stack is written to a place that the program has on each CPU alone. The program of a raw
//! tracepoint may be interrupted by itself (Linux before 6.1); it then finds its place in use,
//! and the event is counted as lost.

use aya::maps::{HashMap, MapData, PerCpuArray};

use super::error::ProbeError;
use super::map_with_memory;
use super::plan::STACK_DEPTH;
use super::program::{CONTEXT, EventIndex, GET_USER_STACK, KEY, SECOND, VALUE};
use crate::bpf::asm::{Alu, Assembler, Helper, Jump, Label, Reg, Size};

/// The words that group by stacks: that of the kernel, and that of the process.
pub(super) const STACK_WORDS: [&str; 2] = ["kstack", "ustack"];

/// The words of a kept stack: its length in bytes, and the addresses.
pub(super) const STACK: usize = 1 + STACK_DEPTH as usize;
/// The same, and whether the place is in use.
pub(super) const SCRATCH: usize = STACK + 1;
const BUSY: i16 = 8 * STACK as i16;

pub(super) type StackMap = HashMap<MapData, u64, [u64; STACK]>;
pub(super) type ScratchMap = PerCpuArray<MapData, [u64; SCRATCH]>;

/// The descriptors of the maps of stacks.
#[derive(Clone, Copy, Debug)]
pub(super) struct StackMaps {
    /// The stacks, by their numbers.
    pub(super) stacks: i32,
    /// A place for each event, on each CPU.
    pub(super) scratch: i32,
}

/// Makes the maps, for so many stacks and events.
pub(super) fn make_maps(stacks: u32, events: u32) -> Result<(StackMap, ScratchMap), ProbeError> {
    let stacks = map_with_memory(|| StackMap::create(stacks, 0))?;
    let scratch = map_with_memory(|| ScratchMap::create(events.max(1), 0))?;
    Ok((stacks, scratch))
}

/// Where the program goes on if a stack cannot be kept, and whether it may be interrupted by
/// itself.
#[derive(Clone, Copy)]
pub(super) struct StackExit {
    pub(super) lost: Label,
    pub(super) may_nest: bool,
}

/// Puts the number of the stack into the key at `at`, whose bytes are zero there, and stay so
/// where there is no stack. Uses `VALUE` and `SECOND`.
pub(super) fn write_stack(
    asm: &mut Assembler,
    is_user: bool,
    (index, at): (EventIndex, i16),
    maps: StackMaps,
    exit: StackExit,
) {
    let (done, known, clash) = (asm.label(), asm.label(), asm.label());
    index.store(asm, Reg::Fp, KEY);
    asm.map_lookup(maps.scratch, KEY);
    asm.jump_if(Jump::Eq, Reg::R0, 0, exit.lost);
    asm.mov_reg(VALUE, Reg::R0);
    if exit.may_nest {
        asm.load(Size::B8, Reg::R1, VALUE, BUSY);
        asm.jump_if(Jump::Ne, Reg::R1, 0, exit.lost);
        asm.store_imm(Size::B8, VALUE, BUSY, 1);
    }
    asm.mov_reg(Reg::R1, CONTEXT);
    asm.address(Reg::R2, VALUE, 8);
    asm.mov(Reg::R3, 8 * STACK_DEPTH as i32);
    asm.mov(Reg::R4, if is_user { GET_USER_STACK } else { 0 });
    asm.call(Helper::GetStack);
    asm.jump_if(Jump::SLe, Reg::R0, 0, done);
    asm.store(Size::B8, VALUE, 0, Reg::R0);
    hash(asm);
    asm.store(Size::B8, Reg::Fp, at, SECOND);
    asm.map_lookup(maps.stacks, at);
    asm.jump_if(Jump::Ne, Reg::R0, 0, known);
    asm.map_insert(maps.stacks, at, VALUE);
    asm.jump_if(Jump::Eq, Reg::R0, 0, done);
    // There is no space; or another CPU was faster.
    asm.map_lookup(maps.stacks, at);
    asm.jump_if(Jump::Eq, Reg::R0, 0, clash);
    asm.place(known);
    compare(asm, clash, done);
    asm.place(clash);
    if exit.may_nest {
        asm.store_imm(Size::B8, VALUE, BUSY, 0);
    }
    asm.jump(exit.lost);
    asm.place(done);
    if exit.may_nest {
        asm.store_imm(Size::B8, VALUE, BUSY, 0);
    }
}

/// `SECOND` = an odd number made of the stack in `VALUE`, whose length is in `R0`.
fn hash(asm: &mut Assembler) {
    /// 2⁶⁴ divided by the golden ratio: each bit changes many.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let hashed = asm.label();
    asm.mov_reg(SECOND, Reg::R0);
    asm.load_imm64(Reg::R3, FACTOR);
    for index in 0..STACK_DEPTH as i16 {
        if index > 0 {
            asm.jump_if(Jump::Le, Reg::R0, 8 * i32::from(index), hashed);
        }
        asm.load(Size::B8, Reg::R2, VALUE, 8 + 8 * index);
        asm.alu_reg(Alu::Xor, SECOND, Reg::R2);
        asm.alu_reg(Alu::Mul, SECOND, Reg::R3);
        asm.mov_reg(Reg::R2, SECOND);
        asm.alu(Alu::Rsh, Reg::R2, 32);
        asm.alu_reg(Alu::Xor, SECOND, Reg::R2);
    }
    asm.place(hashed);
    // 0 is the number of none.
    asm.alu(Alu::Or, SECOND, 1);
}

/// Goes to `done` if the stacks in `R0` and `VALUE` are the same, and to `other` if not.
fn compare(asm: &mut Assembler, other: Label, done: Label) {
    asm.load(Size::B8, Reg::R1, VALUE, 0);
    asm.load(Size::B8, Reg::R2, Reg::R0, 0);
    asm.jump_if_reg(Jump::Ne, Reg::R1, Reg::R2, other);
    for index in 0..STACK_DEPTH as i16 {
        if index > 0 {
            asm.jump_if(Jump::Le, Reg::R1, 8 * i32::from(index), done);
        }
        asm.load(Size::B8, Reg::R2, VALUE, 8 + 8 * index);
        asm.load(Size::B8, Reg::R3, Reg::R0, 8 + 8 * index);
        asm.jump_if_reg(Jump::Ne, Reg::R2, Reg::R3, other);
    }
    asm.jump(done);
}

/// Returns the addresses of a kept stack, and whether there may be more.
pub(super) fn addresses(stack: &[u64; STACK]) -> (Vec<u64>, bool) {
    let [length, addresses @ ..] = stack;
    let count = (length / 8).min(addresses.len() as u64) as usize;
    (addresses[..count].to_vec(), count == addresses.len())
}
