//! The instructions that count by powers of two.

use super::plan::Source;
use super::program::{
    Adding, BUCKETS, EventIndex, KEY, NUMBER, SECOND, VALUE, count, count_failed, load, narrow,
};
use crate::bpf::asm::{Alu, Assembler, Jump, Label, Reg, Size};

/// The value that is counted.
#[derive(Clone, Copy)]
pub(super) struct BucketValue<'a> {
    pub(super) source: &'a Source,
    /// Bytes and sign of the value.
    pub(super) size: u32,
    pub(super) signed: bool,
}

/// Counts one more value in its bucket; in the array there is also a key for values that cannot
/// be read.
pub(super) fn count_in_bucket(
    asm: &mut Assembler,
    value: BucketValue<'_>,
    index: EventIndex,
    (counts, unreadable): (i32, u32),
    adding: Adding,
    out: Label,
) {
    let failed = asm.label();
    let source = value.source;
    load(asm, source, VALUE, failed);
    narrow(asm, VALUE, source.size, value.size, value.signed);
    bucket(asm, value.signed);
    match index {
        EventIndex::One(index) => asm.alu(Alu::Add, SECOND, (index * BUCKETS) as i32),
        EventIndex::InNumber => {
            asm.mov_reg(Reg::R1, NUMBER);
            asm.alu(Alu::Mul, Reg::R1, BUCKETS as i32);
            asm.alu_reg(Alu::Add, SECOND, Reg::R1);
        }
    }
    asm.store(Size::B4, Reg::Fp, KEY, SECOND);
    count(asm, counts, adding, out);
    let unreadable = (counts, unreadable);
    count_failed(asm, source.can_fail(), failed, unreadable, adding, out);
}

/// `SECOND` = the bucket of `VALUE`: 0 of a negative number, 1 of zero, 2 + n of
/// what is at least 2^n.
fn bucket(asm: &mut Assembler, signed: bool) {
    let done = asm.label();
    if signed {
        asm.mov(SECOND, 0);
        asm.jump_if(Jump::SLt, VALUE, 0, done);
    }
    asm.mov(SECOND, 1);
    asm.jump_if(Jump::Eq, VALUE, 0, done);
    asm.mov(SECOND, 2);
    for bits in [32, 16, 8, 4, 2, 1] {
        let smaller = asm.label();
        asm.mov_reg(Reg::R1, VALUE);
        asm.alu(Alu::Rsh, Reg::R1, bits);
        asm.jump_if(Jump::Eq, Reg::R1, 0, smaller);
        asm.mov_reg(VALUE, Reg::R1);
        asm.alu(Alu::Add, SECOND, bits);
        asm.place(smaller);
    }
    asm.place(done);
}
