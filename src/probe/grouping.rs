//! The instructions that count in groups.

use super::group::{GroupPlan, KEY_SIZE, KEY_TEXT, KeyPart};
use super::plan::{Manner, Source};
use super::program::{
    Adding, CONTEXT, EventIndex, KEY, SECOND, VALUE, address, address_of_text, count, count_failed,
    load, locate, narrow,
};
use super::stacks::{StackExit, StackMaps, write_stack};
use crate::bpf::asm::{Alu, Assembler, Helper, Jump, Label, Reg, Size};

// What lies on the stack, below what all programs have there.
const GROUP: i16 = -96 - KEY_SIZE as i16;
const COUNTS: i16 = GROUP - 32;

/// The offset of each count in the map's value.
const COUNT: i16 = 0;
const SUM: i16 = 8;
const MIN: i16 = 16;
const MAX: i16 = 24;

/// The maps in which groups are counted.
pub(super) struct GroupMaps {
    pub(super) groups: i32,
    pub(super) stacks: Option<StackMaps>,
    /// The array for events without space, and its key for values that cannot be read.
    pub(super) lost: i32,
    pub(super) unreadable: u32,
}

/// Counts one more event in its group. If there is no space for a new group, it is
/// counted in the array `lost` at the event's index.
pub(super) fn count_in_group(
    asm: &mut Assembler,
    plan: &GroupPlan,
    index: EventIndex,
    maps: &GroupMaps,
    adding: Adding,
    out: Label,
) {
    let (failed, no_space) = (asm.label(), asm.label());
    let exit = StackExit {
        lost: no_space,
        may_nest: adding == Adding::Atomic,
    };
    for at in (0..KEY_SIZE as i16).step_by(8) {
        asm.store_imm(Size::B8, Reg::Fp, GROUP + at, 0);
    }
    index.store(asm, Reg::Fp, GROUP);
    for (part, at) in &plan.parts {
        let at = GROUP + *at as i16;
        match (part, maps.stacks) {
            (KeyPart::KernelStack, Some(stacks)) => {
                write_stack(asm, false, (index, at), stacks, exit);
            }
            (KeyPart::UserStack, Some(stacks)) => {
                write_stack(asm, true, (index, at), stacks, exit);
                let none = asm.label();
                asm.load(Size::B8, Reg::R1, Reg::Fp, at);
                asm.jump_if(Jump::Eq, Reg::R1, 0, none);
                // Addresses are a process's own.
                write_part(asm, &KeyPart::Pid, at + 8, failed);
                asm.place(none);
            }
            _ => write_part(asm, part, at, failed),
        }
    }
    match &plan.measured {
        Some(measured) => {
            load(asm, &measured.source, SECOND, failed);
            narrow(
                asm,
                SECOND,
                measured.source.size,
                measured.size,
                measured.signed,
            );
        }
        None => asm.mov(SECOND, 0),
    }
    let (known, first, added) = (asm.label(), asm.label(), asm.label());
    asm.map_lookup(maps.groups, GROUP);
    asm.jump_if(Jump::Ne, Reg::R0, 0, known);

    // A new group: the other CPUs' counts are zero.
    asm.store_imm(Size::B8, Reg::Fp, COUNTS + COUNT, 1);
    for at in [SUM, MIN, MAX] {
        asm.store(Size::B8, Reg::Fp, COUNTS + at, SECOND);
    }
    asm.map_update(maps.groups, GROUP, COUNTS);
    asm.jump_if(Jump::Eq, Reg::R0, 0, out);
    asm.place(no_space);
    index.store(asm, Reg::Fp, KEY);
    count(asm, maps.lost, adding, out);
    asm.jump(out);

    asm.place(known);
    asm.load(Size::B8, Reg::R1, Reg::R0, COUNT);
    asm.mov_reg(Reg::R2, Reg::R1);
    asm.alu(Alu::Add, Reg::R2, 1);
    asm.store(Size::B8, Reg::R0, COUNT, Reg::R2);
    if let Some(measured) = &plan.measured {
        // The first on this CPU: there is nothing to compare with.
        asm.jump_if(Jump::Eq, Reg::R1, 0, first);
        asm.load(Size::B8, Reg::R1, Reg::R0, SUM);
        asm.alu_reg(Alu::Add, Reg::R1, SECOND);
        asm.store(Size::B8, Reg::R0, SUM, Reg::R1);
        let (less, greater) = match measured.signed {
            true => (Jump::SLe, Jump::SGe),
            false => (Jump::Le, Jump::Ge),
        };
        for (at, is_in_order) in [(MIN, less), (MAX, greater)] {
            let kept = asm.label();
            asm.load(Size::B8, Reg::R1, Reg::R0, at);
            asm.jump_if_reg(is_in_order, Reg::R1, SECOND, kept);
            asm.store(Size::B8, Reg::R0, at, SECOND);
            asm.place(kept);
        }
        asm.jump(added);
        asm.place(first);
        for at in [SUM, MIN, MAX] {
            asm.store(Size::B8, Reg::R0, at, SECOND);
        }
        asm.place(added);
    }
    let unreadable = (maps.lost, maps.unreadable);
    count_failed(asm, plan.can_fail(), failed, unreadable, adding, out);
}

/// Puts a value into the key, whose bytes are zero there.
fn write_part(asm: &mut Assembler, part: &KeyPart, at: i16, failed: Label) {
    match part {
        KeyPart::Integer {
            source,
            size,
            signed,
            ..
        } => {
            load(asm, source, VALUE, failed);
            narrow(asm, VALUE, source.size, *size, *signed);
            asm.store(Size::B8, Reg::Fp, at, VALUE);
        }
        KeyPart::Pid | KeyPart::Tid => {
            asm.call(Helper::GetCurrentPidTgid);
            match part {
                KeyPart::Pid => asm.alu(Alu::Rsh, Reg::R0, 32),
                _ => narrow(asm, Reg::R0, 8, 4, false),
            }
            asm.store(Size::B8, Reg::Fp, at, Reg::R0);
        }
        KeyPart::Cpu => {
            asm.call(Helper::GetSmpProcessorId);
            narrow(asm, Reg::R0, 8, 4, false);
            asm.store(Size::B8, Reg::Fp, at, Reg::R0);
        }
        KeyPart::Comm => {
            asm.address(Reg::R1, Reg::Fp, at.into());
            asm.mov(Reg::R2, 16);
            asm.call(Helper::GetCurrentComm);
        }
        KeyPart::Text(source) => write_text(asm, source, at, failed),
        // Without maps there are none.
        KeyPart::KernelStack | KeyPart::UserStack => {}
    }
}

/// A string, to its NUL or to the end of its bytes: not all that are dynamic have a NUL.
fn write_text(asm: &mut Assembler, source: &Source, at: i16, failed: Label) {
    let helper = match source.manner {
        Manner::Located { relative } => {
            locate(asm, source, relative);
            asm.mov_reg(Reg::R3, CONTEXT);
            asm.alu_reg(Alu::Add, Reg::R3, VALUE);
            let fits = asm.label();
            asm.mov_reg(Reg::R2, SECOND);
            asm.alu(Alu::Add, Reg::R2, 1);
            asm.jump_if(Jump::Le, Reg::R2, KEY_TEXT as i32, fits);
            asm.mov(Reg::R2, KEY_TEXT as i32);
            asm.place(fits);
            Helper::ProbeReadKernelStr
        }
        Manner::UserText | Manner::KernelText | Manner::Begins => {
            let helper = address_of_text(asm, source, failed);
            asm.mov(Reg::R2, KEY_TEXT as i32);
            helper
        }
        _ => {
            address(asm, source, Reg::R3, failed);
            let size = KEY_TEXT.min(source.size.saturating_add(1));
            asm.mov(Reg::R2, size as i32);
            Helper::ProbeReadKernelStr
        }
    };
    asm.address(Reg::R1, Reg::Fp, at.into());
    asm.call(helper);
    if source.can_fail() {
        asm.jump_if(Jump::SLt, Reg::R0, 0, failed);
    }
}
