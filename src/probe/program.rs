//! The programs a probe is made of: instructions from plans and filters.

use super::buckets::{BucketValue, count_in_bucket};
use super::conditions::{Conditions, Next};
use super::group::GroupPlan;
use super::grouping::{GroupMaps, count_in_group};
use super::plan::{
    Argument, EventPlan, Keep, KeptField, Manner, STACK_DEPTH, Source, SourceBase, header,
};
use super::pointees;
use super::stacks::StackMaps;
use super::strings::{self, Waiting};
use crate::bpf::asm::{Alu, Assembler, BadJump, Helper, Jump, Label, Program, Reg, Size};
use crate::filter::BoundNode;
use crate::format::Field;

/// The context, all through a program.
pub(super) const CONTEXT: Reg = Reg::R6;
/// The record in the ring buffer, once it is reserved.
pub(super) const RECORD: Reg = Reg::R7;
/// A system call's number, in programs that write no record.
pub(super) const NUMBER: Reg = Reg::R7;
/// A value at hand; helpers keep it.
pub(super) const VALUE: Reg = Reg::R8;
/// A second one.
pub(super) const SECOND: Reg = Reg::R9;

// Places on the stack, as offsets from its end.
pub(super) const WORD: i16 = -8;
pub(super) const KEY: i16 = -16;
pub(super) const TEXT: i16 = -96;
/// The number of bytes at `TEXT`.
pub(super) const TEXT_SPACE: u32 = 80;

/// The number of a histogram's buckets: negative numbers, zero, and one for each power
/// of two.
pub(crate) const BUCKETS: u32 = 66;

/// The action of a program on events that pass its filters.
#[derive(Debug)]
pub(crate) enum Action<'a> {
    /// Writes a record to a ring buffer, and counts records for which it has no space.
    Record {
        plan: &'a EventPlan,
        ring: i32,
        lost: i32,
        /// Whose strings are read again when their call returns.
        waiting: Option<Waiting>,
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
        /// The key of `counts` for values that cannot be read.
        unreadable: u32,
    },
    /// Counts by values of fields; in `lost`, events without space.
    Group {
        plan: &'a GroupPlan,
        map: i32,
        /// Those of stacks, if the groups have some.
        stacks: Option<StackMaps>,
        lost: i32,
        /// The key of `lost` for values that cannot be read.
        unreadable: u32,
    },
}

/// How a program adds to counts of its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adding {
    /// The kernel runs one program of an event at a time on a CPU (`bpf_prog_active` in
    /// `trace_call_bpf()`, `kernel/trace/bpf_trace.c`), so that nothing comes between.
    Plain,
    /// Kernels before 6.1 run the program of a raw tracepoint again in an interrupt that
    /// comes while it runs.
    Atomic,
}

/// A field that a filter may ask for, and where it is.
pub(crate) type FieldSource<'p> = (&'p Field, Source);

/// Which tasks an event is of interest for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tasks {
    All,
    /// Those of a process.
    Process(u32),
    /// Those in a map, by thread.
    InMap(i32),
}

/// Where a program has the index of its event among the probe's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventIndex {
    /// It serves one event.
    One(u32),
    /// It serves many, and [`NUMBER`] has the index: of actions, only one that writes records
    /// needs the register for something else, and only once the index is written.
    InNumber,
}

impl EventIndex {
    /// Stores the index, 4 bytes.
    pub(super) fn store(self, asm: &mut Assembler, base: Reg, at: i16) {
        match self {
            Self::One(index) => asm.store_imm(Size::B4, base, at, index as i32),
            Self::InNumber => asm.store(Size::B4, base, at, NUMBER),
        }
    }
}

/// The program for the event of this index among the probe's.
pub(crate) fn on_event(
    index: u32,
    tasks: Tasks,
    filter: Option<(&BoundNode<'_>, &[FieldSource<'_>])>,
    action: &Action<'_>,
    adding: Adding,
) -> Result<Program, BadJump> {
    let mut asm = Assembler::default();
    let out = asm.label();
    asm.mov_reg(CONTEXT, Reg::R1);
    only_tasks(&mut asm, tasks, out);
    if let Some((filter, sources)) = filter {
        let passed = asm.label();
        let mut conditions = Conditions {
            asm: &mut asm,
            sources,
        };
        conditions.node(filter, passed, out, Next::Then);
        asm.place(passed);
    }
    act(&mut asm, EventIndex::One(index), action, adding, out);
    asm.place(out);
    asm.mov(Reg::R0, 0);
    asm.exit();
    asm.finish()
}

/// Does with the event what is to be done, and goes on behind that or at `out`.
pub(super) fn act(
    asm: &mut Assembler,
    index: EventIndex,
    action: &Action<'_>,
    adding: Adding,
    out: Label,
) {
    match action {
        Action::Record {
            plan,
            ring,
            lost,
            waiting,
        } => {
            let full = asm.label();
            asm.ring_reserve(*ring, plan.size as i32);
            asm.jump_if(Jump::Eq, Reg::R0, 0, full);
            index.store(asm, Reg::R0, header::EVENT);
            asm.mov_reg(RECORD, Reg::R0);
            write_header(asm);
            for field in &plan.fields {
                write_field(asm, field);
            }
            write_stacks(asm, plan);
            // Of many system calls no fields are kept.
            if let (Some(waiting), EventIndex::One(index)) = (waiting, index) {
                strings::wait_for_return(asm, plan, index, waiting);
            }
            asm.ring_submit(RECORD);
            asm.jump(out);
            asm.place(full);
            index.store(asm, Reg::Fp, KEY);
            count(asm, *lost, adding, out);
        }
        Action::Count { counts } => {
            index.store(asm, Reg::Fp, KEY);
            count(asm, *counts, adding, out);
        }
        Action::Histogram {
            counts,
            source,
            size,
            signed,
            unreadable,
        } => {
            let value = BucketValue {
                source,
                size: *size,
                signed: *signed,
            };
            let maps = (*counts, *unreadable);
            count_in_bucket(asm, value, index, maps, adding, out);
        }
        Action::Group {
            plan,
            map,
            stacks,
            lost,
            unreadable,
        } => {
            let maps = GroupMaps {
                groups: *map,
                stacks: *stacks,
                lost: *lost,
                unreadable: *unreadable,
            };
            count_in_group(asm, plan, index, &maps, adding, out);
        }
    }
}

/// Returns a program that adds the children of the tasks in the map to the map.
pub(crate) fn on_fork(tasks: i32, child: &Source, lost: (i32, u32)) -> Result<Program, BadJump> {
    let mut asm = Assembler::default();
    let out = asm.label();
    asm.mov_reg(CONTEXT, Reg::R1);
    only_tasks(&mut asm, Tasks::InMap(tasks), out);
    load(&mut asm, child, VALUE, out);
    asm.store(Size::B4, Reg::Fp, KEY, VALUE);
    asm.store_imm(Size::B8, Reg::Fp, WORD, 1);
    asm.map_update(tasks, KEY, WORD);
    asm.jump_if(Jump::Eq, Reg::R0, 0, out);
    asm.store_imm(Size::B4, Reg::Fp, KEY, lost.1 as i32);
    count(&mut asm, lost.0, Adding::Plain, out);
    asm.place(out);
    asm.mov(Reg::R0, 0);
    asm.exit();
    asm.finish()
}

/// A program that takes the tasks that are freed out of the map.
pub(crate) fn on_free(tasks: i32, freed: &Source) -> Result<Program, BadJump> {
    let mut asm = Assembler::default();
    let out = asm.label();
    asm.mov_reg(CONTEXT, Reg::R1);
    load(&mut asm, freed, VALUE, out);
    asm.store(Size::B4, Reg::Fp, KEY, VALUE);
    asm.map_delete(tasks, KEY);
    asm.place(out);
    asm.mov(Reg::R0, 0);
    asm.exit();
    asm.finish()
}

pub(super) fn only_tasks(asm: &mut Assembler, tasks: Tasks, out: Label) {
    match tasks {
        Tasks::All => {}
        Tasks::Process(pid) => {
            asm.call(Helper::GetCurrentPidTgid);
            asm.alu(Alu::Rsh, Reg::R0, 32);
            asm.load_number(Reg::R1, pid.into());
            asm.jump_if_reg(Jump::Ne, Reg::R0, Reg::R1, out);
        }
        Tasks::InMap(map) => {
            store_thread(asm);
            asm.map_lookup(map, KEY);
            asm.jump_if(Jump::Eq, Reg::R0, 0, out);
        }
    }
}

/// `KEY` = the thread.
pub(super) fn store_thread(asm: &mut Assembler) {
    asm.call(Helper::GetCurrentPidTgid);
    asm.store(Size::B4, Reg::Fp, KEY, Reg::R0);
}

/// One more in the per-CPU array, at the index in `KEY`.
pub(super) fn count(asm: &mut Assembler, map: i32, adding: Adding, out: Label) {
    asm.map_lookup(map, KEY);
    asm.jump_if(Jump::Eq, Reg::R0, 0, out);
    match adding {
        Adding::Plain => {
            asm.load(Size::B8, Reg::R1, Reg::R0, 0);
            asm.alu(Alu::Add, Reg::R1, 1);
            asm.store(Size::B8, Reg::R0, 0, Reg::R1);
        }
        Adding::Atomic => {
            asm.mov(Reg::R1, 1);
            asm.add_atomically(Reg::R0, 0, Reg::R1);
        }
    }
}

/// Counts what jumps to `failed`, at a key of an array; the program goes on at `out`.
pub(super) fn count_failed(
    asm: &mut Assembler,
    can_fail: bool,
    failed: Label,
    (map, key): (i32, u32),
    adding: Adding,
    out: Label,
) {
    if !can_fail {
        return asm.place(failed);
    }
    asm.jump(out);
    asm.place(failed);
    asm.store_imm(Size::B4, Reg::Fp, KEY, key as i32);
    count(asm, map, adding, out);
}

/// Writes the header, but for the event.
fn write_header(asm: &mut Assembler) {
    asm.call(Helper::KtimeGetNs);
    asm.store(Size::B8, RECORD, header::TIMESTAMP, Reg::R0);
    asm.call(Helper::GetSmpProcessorId);
    asm.store(Size::B4, RECORD, header::CPU, Reg::R0);
    asm.call(Helper::GetCurrentPidTgid);
    asm.store(Size::B8, RECORD, header::PID_TGID, Reg::R0);
    asm.address(Reg::R1, RECORD, header::COMM.into());
    asm.mov(Reg::R2, 16);
    asm.call(Helper::GetCurrentComm);
}

/// `BPF_F_USER_STACK` of `include/uapi/linux/bpf.h`.
pub(super) const GET_USER_STACK: i32 = 1 << 8;

fn write_stacks(asm: &mut Assembler, plan: &EventPlan) {
    let Some([kernel, user]) = plan.stacks else {
        return;
    };
    for (at, flags) in [(kernel, 0), (user, GET_USER_STACK)] {
        asm.mov_reg(Reg::R1, CONTEXT);
        asm.address(Reg::R2, RECORD, at as i32 + 8);
        asm.mov(Reg::R3, 8 * STACK_DEPTH as i32);
        asm.mov(Reg::R4, flags);
        asm.call(Helper::GetStack);
        asm.store(Size::B8, RECORD, at as i16, Reg::R0);
    }
}

/// `EFAULT`, which stands in records for what cannot be read through pointers: the kernel
/// has one more number for it (`ERANGE`), where an address is no address of its own.
pub(super) const UNREADABLE: i32 = -libc::EFAULT;

fn write_field(asm: &mut Assembler, field: &KeptField) {
    let failed = asm.label();
    if let Some(status) = field.status {
        asm.store_imm(Size::B4, RECORD, status as i16, UNREADABLE);
    }
    write_value(asm, field, failed);
    // The length of a string is its own status.
    if let Some(status) = field.status
        && status != field.at
    {
        asm.store_imm(Size::B4, RECORD, status as i16, 0);
    }
    asm.place(failed);
}

fn write_value(asm: &mut Assembler, field: &KeptField, failed: Label) {
    // Plans keep records small enough for this.
    let at = field.at as i16;
    let source = &field.source;
    match field.keep {
        Keep::Integer { word, .. } => {
            let Some(size) = Size::of(word) else { return };
            load(asm, source, Reg::R1, failed);
            asm.store(size, RECORD, at, Reg::R1);
        }
        Keep::Fixed { copied, .. } => {
            address(asm, source, Reg::R3, failed);
            asm.address(Reg::R1, RECORD, at.into());
            asm.mov(Reg::R2, copied as i32);
            asm.call(Helper::ProbeReadKernel);
            if source.can_fail() {
                asm.jump_if(Jump::Ne, Reg::R0, 0, failed);
            }
        }
        Keep::Pointee { .. } => {
            if let Some(pointee) = &field.pointee {
                pointees::write_at_entry(asm, field, pointee);
            }
        }
        Keep::Variable { capacity, .. } => match source.manner {
            Manner::Located { relative } => {
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
                let helper = address_of_text(asm, source, failed);
                asm.address(Reg::R1, RECORD, i32::from(at) + 4);
                asm.mov(Reg::R2, capacity as i32);
                asm.call(helper);
                if field.status.is_some() {
                    asm.jump_if(Jump::SLt, Reg::R0, 0, failed);
                }
                asm.store(Size::B4, RECORD, at, Reg::R0);
            }
        },
    }
}

/// `R3` = the address of a string that ends with a NUL. Returns the helper that reads it.
pub(super) fn address_of_text(asm: &mut Assembler, source: &Source, failed: Label) -> Helper {
    match source.manner {
        Manner::Begins => address(asm, source, Reg::R3, failed),
        _ => load(asm, source, Reg::R3, failed),
    }
    match source.manner {
        Manner::UserText => Helper::ProbeReadUserStr,
        _ => Helper::ProbeReadKernelStr,
    }
}

/// `VALUE` = the offset of dynamic data from the context, `SECOND` = their length.
pub(super) fn locate(asm: &mut Assembler, source: &Source, relative: bool) {
    // Only contexts locate data, and they can be read.
    let failed = asm.label();
    load(asm, source, VALUE, failed);
    asm.place(failed);
    asm.mov_reg(SECOND, VALUE);
    asm.alu(Alu::Rsh, SECOND, 16);
    asm.alu(Alu::And, VALUE, 0xffff);
    if relative {
        asm.alu(Alu::Add, VALUE, (source.offset + source.size) as i32);
    }
}

/// `dst` = the address of the bytes of a source. Uses `R0` to `R5`; goes to `failed` where
/// a pointer on the way is NULL or cannot be read.
pub(super) fn address(asm: &mut Assembler, source: &Source, dst: Reg, failed: Label) {
    match &source.base {
        SourceBase::Context => asm.address(dst, CONTEXT, source.offset as i32),
        SourceBase::Argument(argument) => {
            follow(asm, argument, dst, failed);
            if source.offset != 0 {
                asm.alu(Alu::Add, dst, source.offset as i32);
            }
        }
    }
}

/// `dst` = the last of the addresses that an argument leads to.
fn follow(asm: &mut Assembler, argument: &Argument, dst: Reg, failed: Label) {
    let offset = 8 * argument.index as i16;
    match argument.is_loadable {
        true => asm.load(Size::B8, dst, CONTEXT, offset),
        false => read_word(asm, (CONTEXT, offset.into()), 8, dst, None),
    }
    asm.jump_if(Jump::Eq, dst, 0, failed);
    for hop in argument.hops.iter() {
        let size = argument.pointer_size;
        read_word(asm, (dst, *hop as i32), size, dst, Some(failed));
        asm.jump_if(Jump::Eq, dst, 0, failed);
    }
}

/// `dst` = the word of so many bytes at an offset from an address, by the helper.
pub(super) fn read_word(
    asm: &mut Assembler,
    (base, offset): (Reg, i32),
    bytes: u32,
    dst: Reg,
    failed: Option<Label>,
) {
    let Some(size) = Size::of(bytes) else {
        return asm.mov(dst, 0);
    };
    asm.address(Reg::R3, base, offset);
    asm.address(Reg::R1, Reg::Fp, WORD.into());
    asm.mov(Reg::R2, bytes as i32);
    asm.call(Helper::ProbeReadKernel);
    if let Some(failed) = failed {
        asm.jump_if(Jump::Ne, Reg::R0, 0, failed);
    }
    asm.load(size, dst, Reg::Fp, WORD);
}

/// `dst` = the word, by a load where that is legal. Uses `R0` to `R5`; goes to `failed`
/// where it cannot be read.
pub(super) fn load(asm: &mut Assembler, source: &Source, dst: Reg, failed: Label) {
    let Some(size) = Size::of(source.size) else {
        return asm.mov(dst, 0);
    };
    match &source.base {
        SourceBase::Context if source.is_loadable => {
            asm.load(size, dst, CONTEXT, source.offset as i16);
        }
        SourceBase::Context => {
            read_word(asm, (CONTEXT, source.offset as i32), source.size, dst, None);
        }
        SourceBase::Argument(argument) => {
            follow(asm, argument, dst, failed);
            match source.is_loadable {
                true => asm.load(size, dst, dst, source.offset as i16),
                false => {
                    let place = (dst, source.offset as i32);
                    read_word(asm, place, source.size, dst, Some(failed));
                }
            }
        }
    }
    if let Some(bits) = source.bits {
        asm.alu(Alu::Lsh, dst, bits.left as i32);
        let right = if bits.signed { Alu::Arsh } else { Alu::Rsh };
        asm.alu(right, dst, bits.right as i32);
    }
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
