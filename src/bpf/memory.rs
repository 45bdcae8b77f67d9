//! Reads the class of an event from the kernel's memory, if BTF leaves several, and the
//! number of a system call's event, which no file has.
//!
//! The inode of an event's `format` file points to its `struct trace_event_call`, or to a
//! `struct trace_event_file` that does. The call points to its class, and the class to
//! its own function `trace_event_raw_event_<class>`. A program that a system call runs
//! once follows these pointers and prints the function's name (`bpf_snprintf("%ps")`);
//! nothing is attached. Such programs exist since Linux 5.14, and need `CAP_BPF` and
//! `CAP_PERFMON`. The process need not see addresses (`kptr_restrict`, `CAP_SYSLOG`), as
//! none leaves the kernel.
//!
//! The way through the class's function works on every kernel, because functions are
//! always in kallsyms; `event_<name>` and `event_class_<class>` are data, and only in it
//! with `CONFIG_KALLSYMS_ALL`. `bpf_kallsyms_lookup_name` goes the opposite way, from a
//! candidate's name to an address: it needs a call for each candidate, Linux 5.16,
//! `CAP_SYSLOG`, and a `kptr_restrict` that shows addresses. Offsets are from BTF. A test
//! compares every class resolved on the running kernel with its memory.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::asm::{Alu, Assembler, Helper, Jump, Label, Program, Reg, Size};
use super::sys::{self, ProgramType};
use crate::btf::{Object, Section, TypeId};

/// A program that reads the kernel's memory.
#[derive(Debug)]
pub(crate) struct KernelMemory {
    program: OwnedFd,
    /// `None` where BTF lacks the structs of system calls.
    number: Option<OwnedFd>,
}

/// The program's context, its input and its output: offsets in bytes.
mod exchange {
    /// The name of the class's function, NUL-terminated, or a number of 4 bytes.
    pub(super) const NAME: i16 = 0;
    pub(super) const NAME_SIZE: usize = 256;
    /// The file descriptor of the event's `format`: 8 bytes.
    pub(super) const FILE: i16 = 256;
    /// The event's id: 8 bytes.
    pub(super) const ID: i16 = 264;
    pub(super) const SIZE: usize = 272;
}

/// The prefix of the name of the class's function; the class follows.
const FUNCTION_PREFIX: &str = "trace_event_raw_event_";

impl KernelMemory {
    /// Returns `None` if this kernel or this process cannot do it.
    pub(crate) fn new(vmlinux: &Object) -> Option<Self> {
        let offsets = Offsets::of(vmlinux)?;
        let conversion = sys::constant_map(b"%ps\0", "tracepoints").ok()?;
        let program = offsets.program(conversion.as_fd())?;
        // The program holds a reference to the map.
        let load = |program: &Program| {
            sys::load_program(ProgramType::Syscall, program, "tracepoints", &mut []).ok()
        };
        let number = offsets.number_program(vmlinux);
        Some(Self {
            program: load(&program)?,
            number: number.and_then(|program| load(&program)),
        })
    }

    /// Returns the class of the event with this id, whose `format` file is open; `None`
    /// if its function's name does not contain it.
    pub(crate) fn class_of(&self, format: BorrowedFd<'_>, id: u32) -> Option<String> {
        let answer = run(self.program.as_fd(), format, id)?;
        class_in(&answer[exchange::NAME as usize..][..exchange::NAME_SIZE]).map(str::to_owned)
    }

    /// Returns the number of the system call whose event has this id and this open `format`
    /// file. The event must be one of `kernel/trace/trace_syscalls.c`: others have other
    /// data where these have their `struct syscall_metadata`.
    pub(crate) fn syscall_number(&self, format: BorrowedFd<'_>, id: u32) -> Option<u32> {
        let answer = run(self.number.as_ref()?.as_fd(), format, id)?;
        let number = answer[exchange::NAME as usize..].first_chunk()?;
        // Negative: the kernel has no such call.
        u32::try_from(i32::from_ne_bytes(*number)).ok()
    }
}

/// Runs a program on an event. Returns its context, once the program has returned 0 for
/// having written all of its answer.
fn run(program: BorrowedFd<'_>, format: BorrowedFd<'_>, id: u32) -> Option<[u8; exchange::SIZE]> {
    let mut context = [0; exchange::SIZE];
    let mut put = |at: i16, bytes: &[u8]| {
        context[at as usize..][..bytes.len()].copy_from_slice(bytes);
    };
    put(exchange::FILE, &i64::from(format.as_raw_fd()).to_ne_bytes());
    put(exchange::ID, &u64::from(id).to_ne_bytes());
    (sys::run(program, &mut context).ok()? == 0).then_some(context)
}

/// Returns the class in a function's name as `%ps` prints it: the module follows in
/// brackets, and compilers add suffixes after a dot (`.cfi_jt`).
fn class_in(printed: &[u8]) -> Option<&str> {
    let text = printed.split(|byte| *byte == 0).next()?;
    let class = str::from_utf8(text).ok()?.strip_prefix(FUNCTION_PREFIX)?;
    let class = class.split([' ', '.']).next()?;
    (!class.is_empty()).then_some(class)
}

/// Offsets of the members that are followed, in bytes.
struct Offsets {
    task_files: u32,
    files_table: u32,
    table_files: u32,
    file_inode: u32,
    inode_private: u32,
    event_file_call: u32,
    call_id: u32,
    call_class: u32,
    class_function: u32,
}

impl Offsets {
    /// Returns `None` if BTF lacks one of them, or numbers have other sizes than those
    /// read.
    fn of(vmlinux: &Object) -> Option<Self> {
        let section = vmlinux.section();
        if section.pointer_size() != 8 {
            return None;
        }
        let only = |name| only(vmlinux, name);
        let call = only("trace_event_call")?;
        let pointer = |of, name| {
            let (offset, size) = member(section, only(of)?, name)?;
            (size == 8).then_some(offset)
        };
        let (event, _) = member(section, call, b"event")?;
        let event_type = section.type_by_id(call)?;
        let event_type = event_type
            .members()
            .find(|member| member.name() == b"event")?;
        let (event_id, _) = section.resolve(event_type.type_id)?;
        let (id, id_size) = member(section, event_id, b"type")?;
        if id_size != 4 {
            return None;
        }
        Some(Self {
            task_files: pointer("task_struct", b"files")?,
            files_table: pointer("files_struct", b"fdt")?,
            table_files: pointer("fdtable", b"fd")?,
            file_inode: pointer("file", b"f_inode")?,
            inode_private: pointer("inode", b"i_private")?,
            event_file_call: pointer("trace_event_file", b"event_call")?,
            call_id: event + id,
            call_class: pointer("trace_event_call", b"class")?,
            class_function: pointer("trace_event_class", b"probe")?,
        })
    }

    /// Writes how a program gets from the file to the event's `struct trace_event_call`,
    /// whose address is in `POINTER` then.
    fn find_call(&self, asm: &mut Assembler, out: Label) {
        let found = asm.label();
        asm.mov_reg(CONTEXT, Reg::R1);
        asm.call(Helper::GetCurrentTask);
        asm.mov_reg(POINTER, Reg::R0);
        follow(asm, POINTER, self.task_files, out);
        follow(asm, POINTER, self.files_table, out);
        follow(asm, POINTER, self.table_files, out);
        asm.load(Size::B8, Reg::R1, CONTEXT, exchange::FILE);
        asm.alu(Alu::Lsh, Reg::R1, 3);
        asm.alu_reg(Alu::Add, POINTER, Reg::R1);
        follow(asm, POINTER, 0, out);
        follow(asm, POINTER, self.file_inode, out);
        follow(asm, POINTER, self.inode_private, out);
        // It is a call if it has the event's id, otherwise a file.
        for step in [0, 1] {
            if step == 1 {
                follow(asm, POINTER, self.event_file_call, out);
            }
            let next = asm.label();
            read(asm, POINTER, self.call_id, Size::B4);
            asm.jump_if(Jump::Ne, Reg::R0, 0, next);
            asm.load(Size::B4, Reg::R1, Reg::Fp, WORD);
            asm.load(Size::B8, Reg::R2, CONTEXT, exchange::ID);
            asm.jump_if_reg(Jump::Eq, Reg::R1, Reg::R2, found);
            asm.place(next);
        }
        asm.mov(Reg::R0, 1);
        asm.jump(out);
        asm.place(found);
    }

    /// Writes the program that reads the number of a system call's event; `None` where BTF
    /// lacks a struct.
    fn number_program(&self, vmlinux: &Object) -> Option<Program> {
        let section = vmlinux.section();
        let (data, size) = member(section, only(vmlinux, "trace_event_call")?, b"data")?;
        let metadata = only(vmlinux, "syscall_metadata")?;
        let (number, number_size) = member(section, metadata, b"syscall_nr")?;
        if (size, number_size) != (8, 4) {
            return None;
        }
        let mut asm = Assembler::default();
        let out = asm.label();
        self.find_call(&mut asm, out);
        follow(&mut asm, POINTER, data, out);
        read(&mut asm, POINTER, number, Size::B4);
        asm.jump_if(Jump::Ne, Reg::R0, 0, out);
        asm.load(Size::B4, Reg::R1, Reg::Fp, WORD);
        asm.store(Size::B4, CONTEXT, exchange::NAME, Reg::R1);
        asm.place(out);
        asm.exit();
        asm.finish().ok()
    }

    /// Writes the program; `conversion` is the map that holds `%ps`.
    fn program(&self, conversion: BorrowedFd<'_>) -> Option<Program> {
        const NAME: i16 = -(exchange::NAME_SIZE as i16);
        /// Where `bpf_snprintf` finds its argument.
        const FUNCTION: i16 = NAME - 8;
        let mut asm = Assembler::default();
        let out = asm.label();
        self.find_call(&mut asm, out);
        follow(&mut asm, POINTER, self.call_class, out);
        follow(&mut asm, POINTER, self.class_function, out);
        asm.store(Size::B8, Reg::Fp, FUNCTION, POINTER);
        for at in (0..exchange::NAME_SIZE as i16).step_by(8) {
            asm.store_imm(Size::B8, Reg::Fp, NAME + at, 0);
        }
        asm.address(Reg::R1, Reg::Fp, NAME.into());
        asm.mov(Reg::R2, exchange::NAME_SIZE as i32);
        asm.load_map_value(Reg::R3, conversion.as_raw_fd());
        asm.address(Reg::R4, Reg::Fp, FUNCTION.into());
        asm.mov(Reg::R5, 8);
        asm.call(Helper::Snprintf);
        // The length of the whole name, of which only a part may have been printed.
        let printed = asm.label();
        asm.mov_reg(Reg::R1, Reg::R0);
        asm.mov(Reg::R0, 1);
        asm.jump_if(Jump::SGt, Reg::R1, exchange::NAME_SIZE as i32, out);
        asm.jump_if(Jump::SGe, Reg::R1, 1, printed);
        asm.jump(out);
        asm.place(printed);
        for at in (0..exchange::NAME_SIZE as i16).step_by(8) {
            asm.load(Size::B8, Reg::R1, Reg::Fp, NAME + at);
            asm.store(Size::B8, CONTEXT, exchange::NAME + at, Reg::R1);
        }
        asm.mov(Reg::R0, 0);
        asm.place(out);
        asm.exit();
        asm.finish().ok()
    }
}

const CONTEXT: Reg = Reg::R6;
const POINTER: Reg = Reg::R7;

/// Where on the stack a word is read to, before the name is there.
const WORD: i16 = -8;

/// Reads from `pointer + offset` to the stack; `R0` is 0 on success.
fn read(asm: &mut Assembler, pointer: Reg, offset: u32, size: Size) {
    let bytes = if size == Size::B4 { 4 } else { 8 };
    asm.address(Reg::R1, Reg::Fp, WORD.into());
    asm.mov(Reg::R2, bytes);
    asm.address(Reg::R3, pointer, offset as i32);
    asm.call(Helper::ProbeReadKernel);
}

/// `pointer = *(pointer + offset)`.
fn follow(asm: &mut Assembler, pointer: Reg, offset: u32, out: Label) {
    read(asm, pointer, offset, Size::B8);
    asm.jump_if(Jump::Ne, Reg::R0, 0, out);
    asm.load(Size::B8, pointer, Reg::Fp, WORD);
}

/// Returns the struct of this name, if BTF has one alone: of two with one name it is not
/// known which is meant.
fn only(vmlinux: &Object, name: &str) -> Option<TypeId> {
    let section = vmlinux.section();
    let is_defined = |id: &TypeId| {
        let ty = section.type_by_id(*id);
        ty.is_some_and(|ty| ty.members().len() > 0)
    };
    let mut found = vmlinux.index().known_structs(name).filter(is_defined);
    found.next().filter(|_| found.next().is_none())
}

/// Returns offset and size in bytes of a struct's member.
fn member(section: &Section, id: TypeId, name: &[u8]) -> Option<(u32, u32)> {
    let (offset, type_id) = section.member(id, name)?;
    Some((offset, section.size_of(type_id)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_in_a_functions_name() {
        for (printed, class) in [
            (
                &b"trace_event_raw_event_sched_switch\0\0"[..],
                Some("sched_switch"),
            ),
            (
                b"trace_event_raw_event_xfs_ag_class [xfs]\0",
                Some("xfs_ag_class"),
            ),
            (b"trace_event_raw_event_clk.cfi_jt [mod]\0", Some("clk")),
            (b"trace_event_raw_event_\0", None),
            (b"perf_trace_sched_switch\0", None),
            (b"0xffffffff81000000\0", None),
            (b"\0trace_event_raw_event_x", None),
            (b"trace_event_raw_event_\xff\0", None),
        ] {
            assert_eq!(class_in(printed), class);
        }
    }
}
