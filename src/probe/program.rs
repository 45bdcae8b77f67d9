//! The programs a probe is made of: instructions from plans and filters.

use super::group::GroupPlan;
use super::grouping::count_in_group;
use super::plan::{EventPlan, Keep, KeptField, Source, header};
use crate::bpf::asm::{Alu, Assembler, BadJump, Helper, Jump, Label, Program, Reg, Size};
use crate::context::access::{Access, Read};
use crate::filter::{
    BoundNode, Comparison, FieldsTest, IntegerSubject, IntegerTest, Subject, TextTest,
};

/// The context, all through a program.
pub(super) const CONTEXT: Reg = Reg::R6;
/// The record in the ring buffer, once it is reserved.
const RECORD: Reg = Reg::R7;
/// A value at hand; helpers keep it.
pub(super) const VALUE: Reg = Reg::R8;
/// A second one.
pub(super) const SECOND: Reg = Reg::R9;

// What lies on the stack, as offsets from its end.
const WORD: i16 = -8;
pub(super) const KEY: i16 = -16;
const TEXT: i16 = -96;
/// How many bytes there are at `TEXT`.
const TEXT_SPACE: u32 = 80;

/// How many buckets a histogram has: negative numbers, zero, and one for each
/// power of two.
pub(crate) const BUCKETS: u32 = 66;

/// What a program does with what passes its filters.
#[derive(Debug)]
pub(crate) enum Action<'a> {
    /// Writes a record to a ring buffer; counts those it has no space for.
    Record {
        plan: &'a EventPlan,
        ring: i32,
        lost: i32,
    },
    /// Counts.
    Count { counts: i32 },
    /// Counts by the power of two of a field.
    Histogram {
        counts: i32,
        source: Source,
        /// Bytes and sign of the value.
        size: u32,
        signed: bool,
    },
    /// Counts by what fields hold; in `lost`, what there is no space for.
    Group {
        plan: &'a GroupPlan,
        map: i32,
        lost: i32,
    },
}

/// Which tasks an event is of interest for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tasks {
    All,
    /// Those of a process.
    Process(u32),
    /// Those in a map, by thread.
    InMap(i32),
}

/// The program for the event of this index among the probe's.
pub(crate) fn on_event(
    index: u32,
    tasks: Tasks,
    filter: Option<(&BoundNode<'_>, &[Access<'_>])>,
    action: &Action<'_>,
) -> Result<Program, BadJump> {
    let mut asm = Assembler::default();
    let out = asm.label();
    asm.mov_reg(CONTEXT, Reg::R1);
    only_tasks(&mut asm, tasks, out);
    if let Some((filter, accesses)) = filter {
        let passed = asm.label();
        let mut conditions = Conditions {
            asm: &mut asm,
            accesses,
        };
        conditions.node(filter, passed, out, Next::Then);
        asm.place(passed);
    }
    match action {
        Action::Record { plan, ring, lost } => {
            let full = asm.label();
            asm.load_map(Reg::R1, *ring);
            asm.mov(Reg::R2, plan.size as i32);
            asm.mov(Reg::R3, 0);
            asm.call(Helper::RingbufReserve);
            asm.jump_if(Jump::Eq, Reg::R0, 0, full);
            asm.mov_reg(RECORD, Reg::R0);
            write_header(&mut asm, index);
            for field in &plan.fields {
                write_field(&mut asm, field);
            }
            asm.mov_reg(Reg::R1, RECORD);
            asm.mov(Reg::R2, 0);
            asm.call(Helper::RingbufSubmit);
            asm.jump(out);
            asm.place(full);
            asm.store_imm(Size::B4, Reg::Fp, KEY, index as i32);
            count(&mut asm, *lost, out);
        }
        Action::Count { counts } => {
            asm.store_imm(Size::B4, Reg::Fp, KEY, index as i32);
            count(&mut asm, *counts, out);
        }
        Action::Histogram {
            counts,
            source,
            size,
            signed,
        } => {
            load(&mut asm, *source, VALUE);
            narrow(&mut asm, VALUE, source.size, *size, *signed);
            bucket(&mut asm, *signed);
            asm.alu(Alu::Add, SECOND, (index * BUCKETS) as i32);
            asm.store(Size::B4, Reg::Fp, KEY, SECOND);
            count(&mut asm, *counts, out);
        }
        Action::Group { plan, map, lost } => {
            count_in_group(&mut asm, plan, index, (*map, *lost), out);
        }
    }
    asm.place(out);
    asm.mov(Reg::R0, 0);
    asm.exit();
    asm.finish()
}

/// A program that takes the children of the tasks in the map into it.
/// Those there is no space for are counted in the array and at the key of `lost`.
pub(crate) fn on_fork(tasks: i32, child: Source, lost: (i32, u32)) -> Result<Program, BadJump> {
    let mut asm = Assembler::default();
    let out = asm.label();
    asm.mov_reg(CONTEXT, Reg::R1);
    only_tasks(&mut asm, Tasks::InMap(tasks), out);
    load(&mut asm, child, VALUE);
    asm.store(Size::B4, Reg::Fp, KEY, VALUE);
    asm.store_imm(Size::B8, Reg::Fp, WORD, 1);
    asm.load_map(Reg::R1, tasks);
    asm.address(Reg::R2, Reg::Fp, KEY.into());
    asm.address(Reg::R3, Reg::Fp, WORD.into());
    asm.mov(Reg::R4, 0);
    asm.call(Helper::MapUpdateElem);
    asm.jump_if(Jump::Eq, Reg::R0, 0, out);
    asm.store_imm(Size::B4, Reg::Fp, KEY, lost.1 as i32);
    count(&mut asm, lost.0, out);
    asm.place(out);
    asm.mov(Reg::R0, 0);
    asm.exit();
    asm.finish()
}

/// A program that takes the tasks that are freed out of the map.
pub(crate) fn on_free(tasks: i32, freed: Source) -> Result<Program, BadJump> {
    let mut asm = Assembler::default();
    asm.mov_reg(CONTEXT, Reg::R1);
    load(&mut asm, freed, VALUE);
    asm.store(Size::B4, Reg::Fp, KEY, VALUE);
    asm.load_map(Reg::R1, tasks);
    asm.address(Reg::R2, Reg::Fp, KEY.into());
    asm.call(Helper::MapDeleteElem);
    asm.mov(Reg::R0, 0);
    asm.exit();
    asm.finish()
}

fn only_tasks(asm: &mut Assembler, tasks: Tasks, out: Label) {
    match tasks {
        Tasks::All => {}
        Tasks::Process(pid) => {
            asm.call(Helper::GetCurrentPidTgid);
            asm.alu(Alu::Rsh, Reg::R0, 32);
            asm.load_number(Reg::R1, pid.into());
            asm.jump_if_reg(Jump::Ne, Reg::R0, Reg::R1, out);
        }
        Tasks::InMap(map) => {
            asm.call(Helper::GetCurrentPidTgid);
            asm.store(Size::B4, Reg::Fp, KEY, Reg::R0);
            asm.load_map(Reg::R1, map);
            asm.address(Reg::R2, Reg::Fp, KEY.into());
            asm.call(Helper::MapLookupElem);
            asm.jump_if(Jump::Eq, Reg::R0, 0, out);
        }
    }
}

/// One more in the per-CPU array, at the index in `KEY`.
///
/// It takes no atomic instruction: the kernel runs one tracing program at a time
/// on a CPU (`bpf_prog_active` in `trace_call_bpf()`, `kernel/trace/bpf_trace.c`).
pub(super) fn count(asm: &mut Assembler, map: i32, out: Label) {
    asm.load_map(Reg::R1, map);
    asm.address(Reg::R2, Reg::Fp, KEY.into());
    asm.call(Helper::MapLookupElem);
    asm.jump_if(Jump::Eq, Reg::R0, 0, out);
    asm.load(Size::B8, Reg::R1, Reg::R0, 0);
    asm.alu(Alu::Add, Reg::R1, 1);
    asm.store(Size::B8, Reg::R0, 0, Reg::R1);
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

fn write_header(asm: &mut Assembler, index: u32) {
    asm.call(Helper::KtimeGetNs);
    asm.store(Size::B8, RECORD, header::TIMESTAMP, Reg::R0);
    asm.store_imm(Size::B4, RECORD, header::EVENT, index as i32);
    asm.call(Helper::GetSmpProcessorId);
    asm.store(Size::B4, RECORD, header::CPU, Reg::R0);
    asm.call(Helper::GetCurrentPidTgid);
    asm.store(Size::B8, RECORD, header::PID_TGID, Reg::R0);
    asm.address(Reg::R1, RECORD, header::COMM.into());
    asm.mov(Reg::R2, 16);
    asm.call(Helper::GetCurrentComm);
}

fn write_field(asm: &mut Assembler, field: &KeptField) {
    // Plans keep records small enough for this.
    let at = field.at as i16;
    let source = field.source;
    match field.keep {
        Keep::Integer { word, .. } => {
            let Some(size) = Size::of(word) else { return };
            load(asm, source, Reg::R1);
            asm.store(size, RECORD, at, Reg::R1);
        }
        Keep::Fixed { copied, .. } => {
            asm.address(Reg::R1, RECORD, at.into());
            asm.mov(Reg::R2, copied as i32);
            asm.address(Reg::R3, CONTEXT, source.offset as i32);
            asm.call(Helper::ProbeReadKernel);
        }
        Keep::Variable { capacity, .. } => match source.read {
            Read::Located { relative, .. } => {
                locate(asm, source, relative);
                asm.store(Size::B4, RECORD, at, SECOND);
                let fits = asm.label();
                asm.jump_if(Jump::Le, SECOND, capacity as i32, fits);
                asm.mov(SECOND, capacity as i32);
                asm.place(fits);
                asm.address(Reg::R1, RECORD, i32::from(at) + 4);
                asm.mov_reg(Reg::R2, SECOND);
                asm.mov_reg(Reg::R3, CONTEXT);
                asm.alu_reg(Alu::Add, Reg::R3, VALUE);
                asm.call(Helper::ProbeReadKernel);
            }
            _ => {
                load(asm, source, Reg::R3);
                asm.address(Reg::R1, RECORD, i32::from(at) + 4);
                asm.mov(Reg::R2, capacity as i32);
                asm.call(Helper::ProbeReadUserStr);
                asm.store(Size::B4, RECORD, at, Reg::R0);
            }
        },
    }
}

/// `VALUE` = the offset of dynamic data from the context, `SECOND` = their length.
pub(super) fn locate(asm: &mut Assembler, source: Source, relative: bool) {
    load(asm, source, VALUE);
    asm.mov_reg(SECOND, VALUE);
    asm.alu(Alu::Rsh, SECOND, 16);
    asm.alu(Alu::And, VALUE, 0xffff);
    if relative {
        asm.alu(Alu::Add, VALUE, (source.offset + source.size) as i32);
    }
}

/// `dst` = the word, by a load where that is legal. Uses `R1` to `R5`.
pub(super) fn load(asm: &mut Assembler, source: Source, dst: Reg) {
    let Some(size) = Size::of(source.size) else {
        return asm.mov(dst, 0);
    };
    if source.is_loadable {
        return asm.load(size, dst, CONTEXT, source.offset as i16);
    }
    asm.address(Reg::R1, Reg::Fp, WORD.into());
    asm.mov(Reg::R2, source.size as i32);
    asm.address(Reg::R3, CONTEXT, source.offset as i32);
    asm.call(Helper::ProbeReadKernel);
    asm.load(size, dst, Reg::Fp, WORD);
}

/// The low `size` bytes of a word alone, as a number of this sign.
pub(super) fn narrow(asm: &mut Assembler, reg: Reg, word: u32, size: u32, signed: bool) {
    let unused = 64 - 8 * size.min(8) as i32;
    // Loads fill with zeros.
    if unused == 0 || (size == word && !signed) {
        return;
    }
    asm.alu(Alu::Lsh, reg, unused);
    asm.alu(if signed { Alu::Arsh } else { Alu::Rsh }, reg, unused);
}

/// A filter's code: jumps to where it holds and where it does not.
struct Conditions<'a, 'p> {
    asm: &'a mut Assembler,
    accesses: &'a [Access<'p>],
}

/// Which of the two places comes next in the program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Then,
    Otherwise,
}

impl Conditions<'_, '_> {
    fn node(&mut self, node: &BoundNode<'_>, then: Label, otherwise: Label, next: Next) {
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

    fn access(&self, subject: Subject<'_>) -> Option<&Access<'_>> {
        match subject {
            Subject::Field(field) | Subject::Element { field, .. } => {
                self.accesses.iter().find(|access| access.field == field)
            }
            _ => None,
        }
    }

    /// `dst` = the value, as 64 bits.
    fn value(&mut self, value: &IntegerSubject<'_>, dst: Reg) {
        let mut word = 8;
        if let Some(access) = self.access(value.subject) {
            let mut source = Source::of(access);
            if let Subject::Element { offset, size, .. } = value.subject {
                source.offset += offset;
                source.size = size;
                source.is_loadable = false;
            }
            word = source.size;
            load(self.asm, source, dst);
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
        self.value(&test.left, VALUE);
        self.value(&test.right, SECOND);
        let (jump, opposite) = jumps(test.comparison, test.is_order_signed());
        let (jump, to) = match next {
            Next::Then => (opposite, otherwise),
            Next::Otherwise => (jump, then),
        };
        self.asm.jump_if_reg(jump, VALUE, SECOND, to);
    }

    fn integer(&mut self, test: &IntegerTest<'_>, then: Label, otherwise: Label, next: Next) {
        self.value(&test.value, VALUE);
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
        // What the string has to be in front of the first zero, in whole words.
        let length = test.text.len() as u32;
        let space = (length + 1).next_multiple_of(8).min(TEXT_SPACE);
        let offset = |at: u32| TEXT + at as i16;
        for at in (0..space).step_by(8) {
            self.asm.store_imm(Size::B8, Reg::Fp, offset(at), 0);
        }
        let access = self.access(test.subject);
        let source = access.map(|access| (access.read, Source::of(access)));
        match source {
            None => {
                // At most 15 bytes and a NUL: always 16.
                self.asm.address(Reg::R1, Reg::Fp, TEXT.into());
                self.asm.mov(Reg::R2, 16);
                self.asm.call(Helper::GetCurrentComm);
                // Behind the NUL there may be the end of a longer name.
                self.compare(&test.text, is_prefix, unequal);
            }
            Some((Read::Text, source)) => {
                // An array that is full has no NUL.
                if length > source.size {
                    if is_equal_next {
                        self.asm.jump(unequal);
                    }
                    return;
                }
                let copied = source.size.min(length + 1);
                self.asm.address(Reg::R1, Reg::Fp, TEXT.into());
                self.asm.mov(Reg::R2, copied as i32);
                self.asm.address(Reg::R3, CONTEXT, source.offset as i32);
                self.asm.call(Helper::ProbeReadKernel);
                self.compare(&test.text, is_prefix, unequal);
            }
            Some((Read::Located { relative, .. }, source)) => {
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
                load(self.asm, source, Reg::R3);
                self.asm.address(Reg::R1, Reg::Fp, TEXT.into());
                // One byte more, for a longer string to be told from this.
                self.asm.mov(Reg::R2, length as i32 + 2);
                self.asm.call(Helper::ProbeReadUserStr);
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
