//! The instructions of a filter.

use super::plan::{Manner, Source};
use super::program::{
    CONTEXT, FieldSource, SECOND, TEXT, TEXT_SPACE, VALUE, address, address_of_text, load, locate,
    narrow,
};
use crate::bpf::asm::{Alu, Assembler, Helper, Jump, Label, Reg, Size};
use crate::filter::{
    BoundNode, Comparison, FieldsTest, IntegerSubject, IntegerTest, Subject, TextTest,
};

/// A filter's code: jumps to where it holds and where it does not.
pub(super) struct Conditions<'a, 'p> {
    pub(super) asm: &'a mut Assembler,
    pub(super) sources: &'a [FieldSource<'p>],
}

/// Which of the two places comes next in the program.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Then,
    Otherwise,
}

impl Conditions<'_, '_> {
    pub(super) fn node(&mut self, node: &BoundNode<'_>, then: Label, otherwise: Label, next: Next) {
        match node {
            BoundNode::Not(node) => {
                let next = match next {
                    Next::Then => Next::Otherwise,
                    Next::Otherwise => Next::Then,
                };
                self.node(node, otherwise, then, next);
            }
            BoundNode::And(nodes) => {
                let Some((last, first)) = nodes.split_last() else {
                    return;
                };
                for node in first {
                    let more = self.asm.label();
                    self.node(node, more, otherwise, Next::Then);
                    self.asm.place(more);
                }
                self.node(last, then, otherwise, next);
            }
            BoundNode::Or(nodes) => {
                let Some((last, first)) = nodes.split_last() else {
                    return;
                };
                for node in first {
                    let more = self.asm.label();
                    self.node(node, then, more, Next::Otherwise);
                    self.asm.place(more);
                }
                self.node(last, then, otherwise, next);
            }
            BoundNode::Integer(test) => self.integer(test, then, otherwise, next),
            BoundNode::Fields(test) => self.fields(test, then, otherwise, next),
            BoundNode::Text(test) => self.text(test, then, otherwise, next),
        }
    }

    fn source(&self, subject: Subject<'_>) -> Option<Source> {
        match subject {
            Subject::Field(field) | Subject::Element { field, .. } => {
                let mut sources = self.sources.iter();
                let found = sources.find(|(known, _)| *known == field);
                found.map(|(_, source)| source.clone())
            }
            _ => None,
        }
    }

    /// `dst` = the value, as 64 bits. Nothing that is compared with what cannot be read
    /// holds: goes to `otherwise` then.
    fn value(&mut self, value: &IntegerSubject<'_>, dst: Reg, otherwise: Label) {
        let mut word = 8;
        if let Some(mut source) = self.source(value.subject) {
            if let Subject::Element { offset, size, .. } = value.subject {
                source.offset += offset;
                source.size = size;
                source.is_loadable = false;
            }
            word = source.size;
            load(self.asm, &source, dst, otherwise);
        } else {
            match value.subject {
                Subject::Cpu => self.asm.call(Helper::GetSmpProcessorId),
                Subject::Uid | Subject::Gid => self.asm.call(Helper::GetCurrentUidGid),
                Subject::Cgroup => self.asm.call(Helper::GetCurrentCgroupId),
                _ => self.asm.call(Helper::GetCurrentPidTgid),
            }
            // The process in the high half, and the group.
            if matches!(value.subject, Subject::Pid | Subject::Gid) {
                self.asm.alu(Alu::Rsh, Reg::R0, 32);
            }
            self.asm.mov_reg(dst, Reg::R0);
        }
        narrow(self.asm, dst, word, value.size, value.signed);
    }

    fn fields(&mut self, test: &FieldsTest<'_>, then: Label, otherwise: Label, next: Next) {
        self.value(&test.left, VALUE, otherwise);
        self.value(&test.right, SECOND, otherwise);
        let (jump, opposite) = jumps(test.comparison, test.is_order_signed());
        let (jump, to) = match next {
            Next::Then => (opposite, otherwise),
            Next::Otherwise => (jump, then),
        };
        self.asm.jump_if_reg(jump, VALUE, SECOND, to);
    }

    fn integer(&mut self, test: &IntegerTest<'_>, then: Label, otherwise: Label, next: Next) {
        self.value(&test.value, VALUE, otherwise);
        if let Some(mask) = test.mask {
            self.asm.load_number(Reg::R1, mask as i64);
            self.asm.alu_reg(Alu::And, VALUE, Reg::R1);
        }
        let (jump, opposite) = jumps(test.comparison, test.is_order_signed());
        let (jump, to) = match next {
            Next::Then => (opposite, otherwise),
            Next::Otherwise => (jump, then),
        };
        // The kernel extends the sign of a number in a jump, rbpf does not.
        match i32::try_from(test.number) {
            Ok(number) => self.asm.jump_if(jump, VALUE, number, to),
            Err(_) => {
                self.asm.load_number(Reg::R1, test.number as i64);
                self.asm.jump_if_reg(jump, VALUE, Reg::R1, to);
            }
        }
    }

    /// Compares the bytes of a string, and its NUL, on the stack.
    fn text(&mut self, test: &TextTest<'_>, then: Label, otherwise: Label, next: Next) {
        let (equal, unequal) = match test.equal {
            true => (then, otherwise),
            false => (otherwise, then),
        };
        let is_equal_next = (next == Next::Then) == test.equal;
        let is_prefix = test.is_prefix;
        // The bytes that the string must have before the first zero, in whole words.
        let length = test.text.len() as u32;
        let space = (length + 1).next_multiple_of(8).min(TEXT_SPACE);
        let offset = |at: u32| TEXT + at as i16;
        for at in (0..space).step_by(8) {
            self.asm.store_imm(Size::B8, Reg::Fp, offset(at), 0);
        }
        let source = self.source(test.subject);
        match source.as_ref().map(|source| (source.manner, source)) {
            None => {
                // At most 15 bytes and a NUL: always 16.
                self.asm.address(Reg::R1, Reg::Fp, TEXT.into());
                self.asm.mov(Reg::R2, 16);
                self.asm.call(Helper::GetCurrentComm);
                // Behind the NUL there may be the end of a longer name.
                self.compare(&test.text, is_prefix, unequal);
            }
            Some((Manner::Text, source)) => {
                // An array that is full has no NUL.
                if length > source.size {
                    if is_equal_next {
                        self.asm.jump(unequal);
                    }
                    return;
                }
                let copied = source.size.min(length + 1);
                address(self.asm, source, Reg::R3, otherwise);
                self.asm.address(Reg::R1, Reg::Fp, TEXT.into());
                self.asm.mov(Reg::R2, copied as i32);
                self.asm.call(Helper::ProbeReadKernel);
                if source.can_fail() {
                    self.asm.jump_if(Jump::Ne, Reg::R0, 0, otherwise);
                }
                self.compare(&test.text, is_prefix, unequal);
            }
            Some((Manner::Located { relative }, source)) => {
                locate(self.asm, source, relative);
                // The whole, with its NUL if it has one.
                let shorter = self.asm.label();
                self.asm
                    .jump_if(Jump::Le, SECOND, length as i32 + 1, shorter);
                self.asm.mov(SECOND, length as i32 + 1);
                self.asm.place(shorter);
                self.asm.address(Reg::R1, Reg::Fp, TEXT.into());
                self.asm.mov_reg(Reg::R2, SECOND);
                self.asm.mov_reg(Reg::R3, CONTEXT);
                self.asm.alu_reg(Alu::Add, Reg::R3, VALUE);
                self.asm.call(Helper::ProbeReadKernel);
                self.compare(&test.text, is_prefix, unequal);
            }
            Some((_, source)) => {
                let helper = address_of_text(self.asm, source, otherwise);
                self.asm.address(Reg::R1, Reg::Fp, TEXT.into());
                // One byte more, for a longer string to be told from this.
                self.asm.mov(Reg::R2, length as i32 + 2);
                self.asm.call(helper);
                if source.can_fail() {
                    self.asm.jump_if(Jump::SLt, Reg::R0, 0, otherwise);
                }
                // Of one that begins so, no more than that and a NUL.
                let jump = if is_prefix { Jump::SLt } else { Jump::Ne };
                self.asm.jump_if(jump, Reg::R0, length as i32 + 1, unequal);
                self.compare(&test.text, is_prefix, unequal);
            }
        }
        if !is_equal_next {
            self.asm.jump(equal);
        }
    }

    /// Jumps if the bytes at `TEXT` are not these and, of a whole string, a NUL.
    fn compare(&mut self, text: &[u8], is_prefix: bool, unequal: Label) {
        let mut wanted = text.to_vec();
        if !is_prefix {
            wanted.push(0);
        }
        let mut at = 0;
        while at < wanted.len() {
            let rest = &wanted[at..];
            let size = [8, 4, 2, 1].into_iter().find(|size| *size <= rest.len());
            let size = size.unwrap_or(1);
            let Some(load) = Size::of(size as u32) else {
                return;
            };
            let number = crate::machine::Machine::NATIVE.unsigned(&rest[..size]);
            self.asm.load(load, VALUE, Reg::Fp, TEXT + at as i16);
            self.asm.load_number(Reg::R1, number as i64);
            self.asm.jump_if_reg(Jump::Ne, VALUE, Reg::R1, unequal);
            at += size;
        }
    }
}

/// The jump for a comparison, and that for its opposite.
fn jumps(comparison: Comparison, signed: bool) -> (Jump, Jump) {
    match (comparison, signed) {
        (Comparison::Eq, _) => (Jump::Eq, Jump::Ne),
        (Comparison::Ne, _) => (Jump::Ne, Jump::Eq),
        (Comparison::Lt, false) => (Jump::Lt, Jump::Ge),
        (Comparison::Le, false) => (Jump::Le, Jump::Gt),
        (Comparison::Gt, false) => (Jump::Gt, Jump::Le),
        (Comparison::Ge, false) => (Jump::Ge, Jump::Lt),
        (Comparison::Lt, true) => (Jump::SLt, Jump::SGe),
        (Comparison::Le, true) => (Jump::SLe, Jump::SGt),
        (Comparison::Gt, true) => (Jump::SGt, Jump::SLe),
        (Comparison::Ge, true) => (Jump::SGe, Jump::SLt),
    }
}
