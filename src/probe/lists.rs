//! Lists of strings in the process: `argv` and `envp` of `execve`.
//!
//! A list is an array of addresses that ends with NULL. What is kept has, behind its head, how
//! the list ends, the length of each string or an error, and the strings, one behind another.
//! The program has no loop, as kernels before 5.17 have no helper for one: it reads one address
//! and one string after another, as often as there can be strings.

use super::plan::KeptField;
use super::pointees::{Words, head, load_address, place};
use super::program::{RECORD, UNREADABLE, WORD};
use crate::bpf::asm::{Alu, Assembler, Helper, Jump, Reg, Size};
use crate::layout::shape::{StringList, ValueShape};

/// How many strings are kept.
const STRINGS: u32 = 32;
/// How many strings of the greatest length there is space for.
const WHOLE_STRINGS: u32 = 8;

/// Returns the shape of a list whose strings take so many bytes at most, and its capacity.
pub(super) fn shape(data_limit: u32) -> (ValueShape, u32) {
    // Space for a NUL, so that a string without more is there, and cut.
    let data_limit = data_limit.max(1);
    let list = StringList {
        slots: STRINGS,
        longest: data_limit,
    };
    let space = data_limit.saturating_mul(WHOLE_STRINGS);
    let capacity = list.strings_at().saturating_add(space);
    (ValueShape::Strings(list), capacity)
}

/// Reads a list. Goes on behind; what is in the length's register is lost.
pub(super) fn read(asm: &mut Assembler, field: &KeptField, list: StringList, words: Words<'_>) {
    let (done, ended, more, broken) = (asm.label(), asm.label(), asm.label(), asm.label());
    let finish = asm.label();
    let used = words.length();
    let in_data = |at: u32| place(field, head::SIZE + at);
    let put = |asm: &mut Assembler, at: u32, value: i32| {
        asm.store_imm(Size::B4, RECORD, place(field, at), value);
    };
    load_address(asm, field, words, done);
    put(asm, head::STATUS, UNREADABLE);
    put(asm, head::LENGTH, 0);
    for slot in 0..list.slots {
        put(asm, head::SIZE + list.slot_at(slot), StringList::ABSENT);
    }
    asm.mov(used, 0);
    let word = field.source.size;
    // Once more than there are slots, to know whether the list ends there.
    for slot in 0..=list.slots {
        words.load(asm, &field.source, Reg::R3);
        asm.alu(Alu::Add, Reg::R3, (word * slot) as i32);
        asm.address(Reg::R1, Reg::Fp, WORD.into());
        asm.mov(Reg::R2, word as i32);
        asm.call(Helper::ProbeReadUser);
        asm.jump_if(Jump::Ne, Reg::R0, 0, if slot == 0 { done } else { broken });
        if slot == 0 {
            put(asm, head::STATUS, 0);
        }
        asm.load(Size::of(word).unwrap_or(Size::B8), Reg::R3, Reg::Fp, WORD);
        asm.jump_if(Jump::Eq, Reg::R3, 0, ended);
        if slot == list.slots {
            break;
        }
        let last = list.longest.saturating_mul(WHOLE_STRINGS - 1);
        asm.jump_if(Jump::Gt, used, last as i32, more);
        asm.mov_reg(Reg::R1, RECORD);
        asm.alu_reg(Alu::Add, Reg::R1, used);
        asm.alu(Alu::Add, Reg::R1, in_data(list.strings_at()).into());
        asm.mov(Reg::R2, list.longest as i32);
        asm.call(Helper::ProbeReadUserStr);
        asm.store(Size::B4, RECORD, in_data(list.slot_at(slot)), Reg::R0);
        let (unread, whole) = (asm.label(), asm.label());
        let next = asm.label();
        asm.jump_if(Jump::SLt, Reg::R0, 0, unread);
        asm.alu_reg(Alu::Add, used, Reg::R0);
        asm.jump_if(Jump::Ne, Reg::R0, list.longest as i32, whole);
        put(asm, head::LENGTH, -1);
        asm.place(whole);
        asm.jump(next);
        asm.place(unread);
        put(asm, head::STATUS, head::PARTLY);
        asm.place(next);
    }
    asm.place(more);
    put(asm, head::LENGTH, -1);
    put(asm, head::SIZE, StringList::MORE);
    asm.jump(finish);
    asm.place(broken);
    put(asm, head::STATUS, head::PARTLY);
    put(asm, head::SIZE, UNREADABLE);
    asm.jump(finish);
    asm.place(ended);
    put(asm, head::SIZE, StringList::ENDED);
    asm.place(finish);
    asm.alu(Alu::Add, used, list.strings_at() as i32);
    asm.store(Size::B4, RECORD, place(field, head::THERE), used);
    asm.place(done);
}
