//! One program for many system calls, at all of them.
//!
//! It counts by the call's number; or it finds the event's index in an array by the number,
//! and does what the event's own program would: counts in groups, or writes a record. It has
//! no field of the event, whose record nobody made.
//!
//! Perf has a callback at the tracepoint `sys_enter`, and one at `sys_exit`, which find the
//! event by the call's number (`perf_syscall_enter()` and `perf_syscall_exit()`,
//! `kernel/trace/trace_syscalls.c`). So do these programs, and leave out what perf does:
//!
//! - **The number** is `id` at entry, and at exit that of the registers, as
//!   `syscall_get_nr()` of `arch/*/include/asm/syscall.h` reads it: the low 32 bits of
//!   `orig_ax` on x86, `syscallno` on arm64. At entry both are the same
//!   (`syscall_trace_enter()`, `kernel/entry/common.c`). Other architectures have other
//!   rules, and are served by `tp`.
//! - **The event's number** is in its `struct syscall_metadata`, in the kernel's memory. Where
//!   a call has several numbers, perf sees the one that is there, too.
//! - **Calls of 32-bit programs** (compat) have numbers of their own, and no event
//!   (`arch_trace_is_compat_syscall()`, `arch/*/include/asm/ftrace.h`): the program tests the
//!   flag that the kernel does, `TS_COMPAT` on x86 and `TIF_32BIT` on arm64, which are 0 on
//!   kernels that run no such programs. Calls of x32 have a bit that makes their numbers too
//!   large.

use super::conditions::{Conditions, Next};
use super::program::{
    Action, Adding, CONTEXT, EventIndex, KEY, NUMBER, Tasks, act, count, only_tasks, read_word,
};
use super::service::{Served, Service};
use crate::bpf::asm::{Alu, Assembler, BadJump, Helper, Jump, Label, Program, Reg, Size};
use crate::btf::{Leaf, Object};
use crate::filter::BoundNode;
use crate::kernel::Kernel;
use crate::name::SyscallSide;

/// Where a program finds what tells system calls apart: offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SyscallWay {
    /// The number, in `struct pt_regs`.
    number: u32,
    /// The flags, in `struct task_struct`, and their size.
    flags: (u32, Size),
    /// The flag of compat calls.
    compat: i32,
}

/// The rules of an architecture.
struct Architecture {
    /// The member of `struct pt_regs` whose first 4 bytes are the number: both
    /// architectures are little-endian.
    number: &'static str,
    /// The member of `struct task_struct`.
    flags: &'static str,
    compat: i32,
}

const ARCHITECTURE: Option<Architecture> = if cfg!(target_arch = "x86_64") {
    Some(Architecture {
        number: "orig_ax",
        flags: "thread_info.status",
        compat: 0x0002,
    })
} else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
    Some(Architecture {
        number: "syscallno",
        flags: "thread_info.flags",
        compat: 1 << 22,
    })
} else {
    None
};

impl SyscallWay {
    /// Returns `None` on an architecture whose rules are not known, and where BTF lacks a
    /// struct.
    pub(super) fn of(kernel: &Kernel) -> Option<Self> {
        let architecture = ARCHITECTURE?;
        let vmlinux = kernel.vmlinux().ok()??;
        let (number, number_size) = behind(&vmlinux, "sys_exit", architecture.number)?;
        // Any tracepoint will do whose first argument is a task.
        let (flags, flags_size) = behind(&vmlinux, "task_newtask", architecture.flags)?;
        let is_loadable = |offset: u32, size: u32| offset.is_multiple_of(size) && offset < 1 << 15;
        let are_loadable =
            number_size >= 4 && is_loadable(number, 4) && is_loadable(flags, flags_size);
        let size = Size::of(flags_size)
            .filter(|size| are_loadable && matches!(size, Size::B4 | Size::B8))?;
        Some(Self {
            number,
            flags: (flags, size),
            compat: architecture.compat,
        })
    }
}

/// Numbers of system calls are smaller than this: no architecture has as many.
pub(super) const NUMBERS: u32 = 1 << 12;

/// Returns offset and size of a member of what the first argument of a tracepoint points at.
fn behind(vmlinux: &Object, tracepoint: &str, member: &str) -> Option<(u32, u32)> {
    let names = vmlinux.argument_names(tracepoint).ok()?;
    let path = format!("{}->{member}", names.first()?);
    let place = vmlinux.argument_path(tracepoint, &path).ok()?;
    let reached = place.place.filter(|reached| reached.hops.is_empty())?;
    match place.leaf {
        Leaf::Integer {
            size, bits: None, ..
        } => Some((reached.offset, size)),
        _ => None,
    }
}

/// How a program gets at the registers and at the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyscallHook {
    /// By loads, as BTF gives the types of both (`tp_btf` at exit,
    /// `bpf_get_current_task_btf` of Linux 5.11).
    Direct,
    /// By a helper that reads memory.
    ByHelper,
}

impl SyscallHook {
    /// What is tried first comes first.
    pub(super) const ALL: [Self; 2] = [Self::Direct, Self::ByHelper];
}

/// Where something of system calls is, by number: their counts, which are behind those of
/// events, or their events' indexes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SyscallSlots {
    first: u32,
    /// How many numbers there are at entry and at exit.
    enter: u32,
    exit: u32,
}

impl SyscallSlots {
    /// Returns the slots for these events, the first of which has this key. One that no event
    /// is of may be in between.
    pub(super) fn new(served: &[Served], first: u32) -> Self {
        let numbers = |wanted: SyscallSide| {
            let numbers = served.iter().filter_map(|one| match one.service {
                Service::SystemCall { side, number } if side == wanted => Some(number),
                _ => None,
            });
            numbers.max().map_or(0, |most| most + 1)
        };
        Self {
            first,
            enter: numbers(SyscallSide::Enter),
            exit: numbers(SyscallSide::Exit),
        }
    }

    /// Returns the number of keys up to the last slot.
    pub(super) fn end(&self) -> u32 {
        self.first + self.enter + self.exit
    }

    /// Returns how many numbers are counted on this side.
    fn numbers(&self, side: SyscallSide) -> u32 {
        match side {
            SyscallSide::Enter => self.enter,
            SyscallSide::Exit => self.exit,
        }
    }

    fn first_of(&self, side: SyscallSide) -> u32 {
        match side {
            SyscallSide::Enter => self.first,
            SyscallSide::Exit => self.first + self.enter,
        }
    }

    /// Returns the key of an event's count: its index, or that of its call.
    pub(super) fn key(&self, index: u32, service: &Service) -> u32 {
        match *service {
            Service::SystemCall { side, number } => self.first_of(side) + number,
            _ => index,
        }
    }
}

/// A program for all system calls of one side.
pub(super) struct SyscallProgram<'a> {
    pub(super) side: SyscallSide,
    pub(super) way: SyscallWay,
    pub(super) slots: SyscallSlots,
    pub(super) answer: &'a SyscallAnswer<'a>,
    pub(super) tasks: Tasks,
    /// A filter on the task alone.
    pub(super) filter: Option<&'a BoundNode<'a>>,
    pub(super) adding: Adding,
}

/// The answer of a program for all system calls to each of them.
pub(super) enum SyscallAnswer<'a> {
    /// Counts it in its slot.
    Count { counts: i32 },
    /// Does what the program of its event does: the slot has the event's index plus one.
    Act { indexes: i32, action: Action<'a> },
}

impl SyscallProgram<'_> {
    /// Returns the tracepoint.
    pub(super) fn tracepoint(&self) -> &'static str {
        match self.side {
            SyscallSide::Enter => "sys_enter",
            SyscallSide::Exit => "sys_exit",
        }
    }

    pub(super) fn program(&self, hook: SyscallHook) -> Result<Program, BadJump> {
        let mut asm = Assembler::default();
        let out = asm.label();
        asm.mov_reg(CONTEXT, Reg::R1);
        self.load_number(&mut asm, hook, out);
        // Too large, or negative: such a call has no event.
        let numbers = self.slots.numbers(self.side);
        asm.jump_if(Jump::Ge, NUMBER, numbers as i32, out);
        only_tasks(&mut asm, self.tasks, out);
        if let Some(filter) = self.filter {
            let passed = asm.label();
            let mut conditions = Conditions {
                asm: &mut asm,
                sources: &[],
            };
            conditions.node(filter, passed, out, Next::Then);
            asm.place(passed);
        }
        self.leave_compat(&mut asm, hook, out);
        let first = self.slots.first_of(self.side);
        asm.alu(Alu::Add, NUMBER, first as i32);
        asm.store(Size::B4, Reg::Fp, KEY, NUMBER);
        match self.answer {
            SyscallAnswer::Count { counts } => count(&mut asm, *counts, self.adding, out),
            SyscallAnswer::Act { indexes, action } => {
                asm.map_lookup(*indexes, KEY);
                asm.jump_if(Jump::Eq, Reg::R0, 0, out);
                asm.load(Size::B4, NUMBER, Reg::R0, 0);
                asm.jump_if(Jump::Eq, NUMBER, 0, out);
                asm.alu(Alu::Add, NUMBER, -1);
                act(&mut asm, EventIndex::InNumber, action, self.adding, out);
            }
        }
        asm.place(out);
        asm.mov(Reg::R0, 0);
        asm.exit();
        asm.finish()
    }

    /// `NUMBER` = the call's number, of 32 bits without a sign.
    fn load_number(&self, asm: &mut Assembler, hook: SyscallHook, out: Label) {
        const REGISTERS: i16 = 0;
        const ID: i16 = 8;
        match (self.side, hook) {
            (SyscallSide::Enter, _) => {
                asm.load(Size::B8, NUMBER, CONTEXT, ID);
                asm.alu(Alu::Lsh, NUMBER, 32);
                asm.alu(Alu::Rsh, NUMBER, 32);
            }
            (SyscallSide::Exit, SyscallHook::Direct) => {
                asm.load(Size::B8, Reg::R1, CONTEXT, REGISTERS);
                asm.load(Size::B4, NUMBER, Reg::R1, self.way.number as i16);
            }
            (SyscallSide::Exit, SyscallHook::ByHelper) => {
                asm.load(Size::B8, NUMBER, CONTEXT, REGISTERS);
                let place = (NUMBER, self.way.number as i32);
                read_word(asm, place, 4, NUMBER, Some(out));
            }
        }
    }

    /// Leaves the program for calls of 32-bit programs.
    fn leave_compat(&self, asm: &mut Assembler, hook: SyscallHook, out: Label) {
        let (offset, size) = self.way.flags;
        match hook {
            SyscallHook::Direct => {
                asm.call(Helper::GetCurrentTaskBtf);
                asm.load(size, Reg::R1, Reg::R0, offset as i16);
            }
            SyscallHook::ByHelper => {
                asm.call(Helper::GetCurrentTask);
                let bytes = if size == Size::B8 { 8 } else { 4 };
                let place = (Reg::R0, offset as i32);
                read_word(asm, place, bytes, Reg::R1, Some(out));
            }
        }
        asm.alu(Alu::And, Reg::R1, self.way.compat);
        asm.jump_if(Jump::Ne, Reg::R1, 0, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::plan::EventPlan;

    const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/6.18.15-x86_64");

    #[test]
    fn programs_of_both_sides() {
        let way = SyscallWay {
            number: 120,
            flags: (16, Size::B4),
            compat: 2,
        };
        if cfg!(target_arch = "x86_64") {
            // Offsets that BTF of a captured kernel gives; `status` is in few fixtures.
            let kernel = Kernel::at(FIXTURE).expect("a kernel");
            let found = SyscallWay::of(&kernel);
            assert!(found.is_none_or(|found| found.number == way.number));
        }
        let slots = SyscallSlots {
            first: 10,
            enter: 400,
            exit: 300,
        };
        let plan = EventPlan::of_choices(&"syscalls:sys_enter_x".parse().expect("a name"), []);
        let plan = plan.expect("a plan");
        let answers = [
            SyscallAnswer::Count { counts: 5 },
            SyscallAnswer::Act {
                indexes: 6,
                action: Action::Record {
                    plan: &plan,
                    ring: 7,
                    lost: 5,
                    waiting: None,
                },
            },
        ];
        let mut text = String::new();
        for (answer, side) in answers
            .iter()
            .zip([
                [SyscallSide::Enter, SyscallSide::Exit].as_slice(),
                &[SyscallSide::Exit],
            ])
            .flat_map(|(answer, sides)| sides.iter().map(move |side| (answer, *side)))
        {
            for hook in SyscallHook::ALL {
                let all = SyscallProgram {
                    side,
                    way,
                    slots,
                    answer,
                    tasks: Tasks::Process(7),
                    filter: None,
                    adding: Adding::Plain,
                };
                let program = all.program(hook).expect("a program");
                text += &format!("{} {hook:?}\n{program}\n", all.tracepoint());
            }
        }
        insta::assert_snapshot!(text);
    }
}
