//! Reads the kernel's memory in batches.
//!
//! A [`MemoryReader`] has programs of type `SYSCALL`, each of which a system call runs once
//! on a batch of addresses (Linux 5.14, `CAP_BPF` and `CAP_PERFMON`). Nothing is attached,
//! and the programs write to two maps of their own alone: one with the addresses, and one
//! for what is there. The kernel checks each address (`copy_from_kernel_nofault()`), so that
//! one that leads nowhere is an answer, not a fault.
//!
//! Symbols are looked up in the kernel, by address (`bpf_snprintf("%pS")`) and by name
//! (`bpf_kallsyms_lookup_name`, Linux 5.16, `CAP_SYSLOG`): to read all of `/proc/kallsyms`
//! takes 100 ms, and these lookups one microsecond each.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use super::asm::{Alu, Assembler, BadJump, Helper, Jump, Program, Reg, Size};
use super::sys::{self, OneValueMap, ProgramType};

/// How many addresses one run takes.
const BATCH: usize = 256;

/// How many bytes are read at each address, at most.
const CHUNK: usize = 512;

/// In bytes: an address and a length, 8 each.
const REQUEST: usize = 16;

/// In bytes: the helper's result, 8, and what was read.
const ANSWER: usize = 8 + CHUNK;

/// How many elements of a list one run follows.
const STEPS: usize = 1024;

/// No list of the kernel's that is followed here has as many elements.
const MAX_STEPS: usize = 1 << 17;

/// What a program does with each address.
#[derive(Clone, Copy, Debug)]
enum BatchRead {
    Bytes,
    Text,
    Symbol,
}

/// Reads the kernel's memory. Not for two threads at once: programs share two maps.
#[derive(Debug)]
pub(crate) struct MemoryReader {
    requests: OneValueMap,
    answers: OneValueMap,
    /// Holds `%pS`.
    conversion: OwnedFd,
    bytes: OwnedFd,
    task: OwnedFd,
    // Loaded when first needed.
    text: OnceLock<OwnedFd>,
    symbol: OnceLock<OwnedFd>,
    walk: OnceLock<OwnedFd>,
    by_name: OnceLock<OwnedFd>,
}

impl MemoryReader {
    /// Fails where this kernel or this process cannot do it.
    pub(crate) fn new() -> io::Result<Self> {
        // Helpers that read memory take a right more than the program itself; without it the
        // kernel says that there are none.
        load(nothing_program())?;
        Self::with_helpers().map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => io::Error::from_raw_os_error(libc::EPERM),
            _ => error,
        })
    }

    fn with_helpers() -> io::Result<Self> {
        let requests = OneValueMap::new(BATCH * REQUEST, 0, NAME)?;
        let answers = OneValueMap::new(BATCH * ANSWER, 0, NAME)?;
        let conversion = sys::constant_map(b"%pS\0", NAME)?;
        let bytes = batch_program(BatchRead::Bytes, &requests, &answers, conversion.as_fd());
        let bytes = load(bytes)?;
        let reader = Self {
            task: load(task_program())?,
            requests,
            answers,
            conversion,
            bytes,
            text: OnceLock::new(),
            symbol: OnceLock::new(),
            walk: OnceLock::new(),
            by_name: OnceLock::new(),
        };
        Ok(reader)
    }

    /// Returns the address of the current thread's `struct task_struct`.
    pub(crate) fn current_task(&self) -> io::Result<u64> {
        let mut context = [0; 8];
        sys::run(self.task.as_fd(), &mut context)?;
        Ok(u64::from_ne_bytes(context))
    }

    /// Reads `length` bytes at each address, at most 512; `None` where they cannot be
    /// read.
    pub(crate) fn bytes_at(
        &self,
        addresses: &[u64],
        length: usize,
    ) -> io::Result<Vec<Option<Vec<u8>>>> {
        let mut found = Vec::with_capacity(addresses.len());
        for batch in addresses.chunks(BATCH) {
            let answers = self.run(self.bytes.as_fd(), batch.iter().map(|at| (*at, length)))?;
            let each = answers.chunks(ANSWER).take(batch.len());
            found.extend(each.map(|answer| {
                let (result, bytes) = answer.split_at(8);
                (result == [0; 8]).then(|| bytes[..length.min(CHUNK)].to_vec())
            }));
        }
        Ok(found)
    }

    /// Reads a range of any length; `None` if a part of it cannot be read.
    pub(crate) fn range(&self, start: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let left = length - bytes.len();
            let at = |index: usize| start.wrapping_add((bytes.len() + index * CHUNK) as u64);
            let size = |index: usize| CHUNK.min(left - index * CHUNK);
            let count = left.div_ceil(CHUNK).min(BATCH);
            let requests = (0..count).map(|index| (at(index), size(index)));
            let answers = self.run(self.bytes.as_fd(), requests)?;
            let mut more = Vec::with_capacity(count * CHUNK);
            for (index, answer) in answers.chunks(ANSWER).take(count).enumerate() {
                let (result, read) = answer.split_at(8);
                if result != [0; 8] {
                    return Ok(None);
                }
                more.extend_from_slice(&read[..size(index)]);
            }
            bytes.extend(more);
        }
        Ok(Some(bytes))
    }

    /// Reads the NUL-terminated text at each address; `None` where it cannot be read, is
    /// not UTF-8 or has over 511 bytes.
    pub(crate) fn texts_at(&self, addresses: &[u64]) -> io::Result<Vec<Option<String>>> {
        let program = self.program(&self.text, BatchRead::Text)?;
        self.printed(program, addresses)
    }

    /// Returns the symbol of each address as `%pS` prints it: `name+0x1/0x20 [module]`,
    /// or a number where there is none.
    pub(crate) fn symbols_at(&self, addresses: &[u64]) -> io::Result<Vec<Option<String>>> {
        let program = self.program(&self.symbol, BatchRead::Symbol)?;
        self.printed(program, addresses)
    }

    /// Reads the pointer at `start + next`, at that pointer + `next`, and so on, as far as
    /// `end` or a pointer that leads nowhere. Returns the pointers; `None` if `end` was
    /// not reached.
    pub(crate) fn walk(&self, start: u64, next: u64, end: u64) -> io::Result<Option<Vec<u64>>> {
        let program = match self.walk.get() {
            Some(program) => program,
            None => {
                let program = load(walk_program(&self.answers))?;
                self.walk.get_or_init(|| program)
            }
        };
        let mut found = Vec::new();
        let mut from = start;
        while found.len() < MAX_STEPS {
            let mut context = [0; 24];
            for (at, value) in [from, next, end].into_iter().enumerate() {
                context[at * 8..][..8].copy_from_slice(&value.to_ne_bytes());
            }
            let count = sys::run(program.as_fd(), &mut context)? as usize;
            let answers = self.answers()?;
            found.extend(answers.chunks(8).take(count).map(number));
            let is_at_end = context[..8] == end.to_ne_bytes();
            match found.last() {
                _ if is_at_end => return Ok(Some(found)),
                Some(last) if count == STEPS => from = *last,
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Returns the address of the symbol with this name. `None` if there is no such
    /// symbol. Fails where the kernel has no such lookup, or hides addresses from this
    /// process.
    pub(crate) fn address_of(&self, name: &str) -> io::Result<Option<u64>> {
        let program = match self.by_name.get() {
            Some(program) => program,
            None => {
                let program = load(name_program(&self.requests))?;
                self.by_name.get_or_init(|| program)
            }
        };
        let mut requests = vec![0; BATCH * REQUEST];
        if name.len() >= CHUNK {
            return Ok(None);
        }
        requests[..name.len()].copy_from_slice(name.as_bytes());
        self.requests.set(&requests)?;
        let mut context = [0; 16];
        context[..8].copy_from_slice(&(name.len() as u64 + 1).to_ne_bytes());
        let result = sys::run(program.as_fd(), &mut context)? as i32;
        match result {
            0 => Ok(Some(number(&context[8..]))),
            _ if result == -libc::ENOENT => Ok(None),
            _ => Err(io::Error::from_raw_os_error(result.wrapping_neg())),
        }
    }

    fn program<'a>(
        &self,
        loaded: &'a OnceLock<OwnedFd>,
        lookup: BatchRead,
    ) -> io::Result<BorrowedFd<'a>> {
        if let Some(program) = loaded.get() {
            return Ok(program.as_fd());
        }
        let program = batch_program(
            lookup,
            &self.requests,
            &self.answers,
            self.conversion.as_fd(),
        );
        let program = load(program)?;
        Ok(loaded.get_or_init(|| program).as_fd())
    }

    /// Runs a program that prints text, and whose result is the text's length with the NUL.
    fn printed(
        &self,
        program: BorrowedFd<'_>,
        addresses: &[u64],
    ) -> io::Result<Vec<Option<String>>> {
        let mut found = Vec::with_capacity(addresses.len());
        for batch in addresses.chunks(BATCH) {
            let answers = self.run(program, batch.iter().map(|at| (*at, CHUNK)))?;
            let each = answers.chunks(ANSWER).take(batch.len());
            found.extend(each.map(|answer| {
                let (result, bytes) = answer.split_at(8);
                // Of a text that is longer, the rest is unknown.
                let length = usize::try_from(number(result) as i64).ok()?;
                let text = bytes.get(..length.checked_sub(1)?)?;
                if length == CHUNK || text.contains(&0) {
                    return None;
                }
                Some(str::from_utf8(text).ok()?.to_owned())
            }));
        }
        Ok(found)
    }

    /// Runs a batch and returns its answers.
    fn run(
        &self,
        program: BorrowedFd<'_>,
        requests: impl Iterator<Item = (u64, usize)>,
    ) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(BATCH * REQUEST);
        for (address, length) in requests {
            bytes.extend(address.to_ne_bytes());
            bytes.extend((length.min(CHUNK) as u64).to_ne_bytes());
        }
        let mut context = (bytes.len() as u64 / REQUEST as u64).to_ne_bytes();
        bytes.resize(BATCH * REQUEST, 0);
        self.requests.set(&bytes)?;
        sys::run(program, &mut context)?;
        self.answers()
    }

    fn answers(&self) -> io::Result<Vec<u8>> {
        let mut answers = vec![0; BATCH * ANSWER];
        self.answers.read(&mut answers)?;
        Ok(answers)
    }
}

/// The name of programs and maps, as tools show it.
const NAME: &str = "tracepoints";

/// Reads eight bytes in this machine's order; 0 if there are fewer.
fn number(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes.first_chunk().copied().unwrap_or_default())
}

fn load(program: Result<Program, BadJump>) -> io::Result<OwnedFd> {
    let program = program.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    sys::load_program(ProgramType::Syscall, &program, NAME, &mut [])
}

/// The program's context; callees preserve these registers.
const CONTEXT: Reg = Reg::R6;
const INDEX: Reg = Reg::R7;
const FROM: Reg = Reg::R8;
const TO: Reg = Reg::R9;

/// Reads what each request asks for. The context is the number of requests.
fn batch_program(
    lookup: BatchRead,
    requests: &OneValueMap,
    answers: &OneValueMap,
    conversion: BorrowedFd<'_>,
) -> Result<Program, BadJump> {
    let mut asm = Assembler::default();
    let (again, out) = (asm.label(), asm.label());
    asm.mov_reg(CONTEXT, Reg::R1);
    asm.mov(INDEX, 0);
    asm.load_map_value(FROM, requests.as_fd().as_raw_fd());
    asm.load_map_value(TO, answers.as_fd().as_raw_fd());
    asm.place(again);
    asm.load(Size::B8, Reg::R1, CONTEXT, 0);
    asm.jump_if_reg(Jump::Ge, INDEX, Reg::R1, out);
    asm.address(Reg::R1, TO, 8);
    match lookup {
        BatchRead::Bytes | BatchRead::Text => {
            asm.load(Size::B8, Reg::R2, FROM, 8);
            asm.jump_if(Jump::Gt, Reg::R2, CHUNK as i32, out);
            asm.load(Size::B8, Reg::R3, FROM, 0);
            asm.call(match lookup {
                BatchRead::Text => Helper::ProbeReadKernelStr,
                _ => Helper::ProbeReadKernel,
            });
        }
        BatchRead::Symbol => {
            asm.mov(Reg::R2, CHUNK as i32);
            asm.load_map_value(Reg::R3, conversion.as_raw_fd());
            asm.mov_reg(Reg::R4, FROM);
            asm.mov(Reg::R5, 8);
            asm.call(Helper::Snprintf);
        }
    }
    asm.store(Size::B8, TO, 0, Reg::R0);
    asm.alu(Alu::Add, FROM, REQUEST as i32);
    asm.alu(Alu::Add, TO, ANSWER as i32);
    asm.alu(Alu::Add, INDEX, 1);
    asm.jump_if(Jump::Lt, INDEX, BATCH as i32, again);
    asm.place(out);
    asm.mov(Reg::R0, 0);
    asm.exit();
    asm.finish()
}

/// Does nothing.
fn nothing_program() -> Result<Program, BadJump> {
    let mut asm = Assembler::default();
    asm.mov(Reg::R0, 0);
    asm.exit();
    asm.finish()
}

/// Writes the current task's address to the context.
fn task_program() -> Result<Program, BadJump> {
    let mut asm = Assembler::default();
    asm.mov_reg(CONTEXT, Reg::R1);
    asm.call(Helper::GetCurrentTask);
    asm.store(Size::B8, CONTEXT, 0, Reg::R0);
    asm.mov(Reg::R0, 0);
    asm.exit();
    asm.finish()
}

/// Follows a list. The context is where it starts, then the offset of the pointer in each
/// element, then where it ends; its first word becomes the last pointer. Returns the number
/// of pointers.
fn walk_program(answers: &OneValueMap) -> Result<Program, BadJump> {
    let mut asm = Assembler::default();
    let (again, out) = (asm.label(), asm.label());
    asm.mov_reg(CONTEXT, Reg::R1);
    asm.mov(INDEX, 0);
    asm.load_map_value(TO, answers.as_fd().as_raw_fd());
    asm.place(again);
    asm.mov_reg(Reg::R1, TO);
    asm.mov(Reg::R2, 8);
    asm.load(Size::B8, Reg::R3, CONTEXT, 0);
    asm.load(Size::B8, Reg::R4, CONTEXT, 8);
    asm.alu_reg(Alu::Add, Reg::R3, Reg::R4);
    asm.call(Helper::ProbeReadKernel);
    asm.jump_if(Jump::Ne, Reg::R0, 0, out);
    asm.load(Size::B8, Reg::R1, TO, 0);
    asm.store(Size::B8, CONTEXT, 0, Reg::R1);
    asm.alu(Alu::Add, INDEX, 1);
    asm.load(Size::B8, Reg::R2, CONTEXT, 16);
    asm.jump_if_reg(Jump::Eq, Reg::R1, Reg::R2, out);
    asm.alu(Alu::Add, TO, 8);
    asm.jump_if(Jump::Lt, INDEX, STEPS as i32, again);
    asm.place(out);
    asm.mov_reg(Reg::R0, INDEX);
    asm.exit();
    asm.finish()
}

/// Looks up the name in the requests, whose length with the NUL is the first word of the
/// context, and writes its address to the second.
fn name_program(requests: &OneValueMap) -> Result<Program, BadJump> {
    const ADDRESS: i16 = -8;
    let mut asm = Assembler::default();
    let out = asm.label();
    asm.mov_reg(CONTEXT, Reg::R1);
    asm.mov(Reg::R0, -libc::EINVAL);
    asm.store_imm(Size::B8, Reg::Fp, ADDRESS, 0);
    asm.load_map_value(Reg::R1, requests.as_fd().as_raw_fd());
    asm.load(Size::B8, Reg::R2, CONTEXT, 0);
    asm.jump_if(Jump::Gt, Reg::R2, CHUNK as i32, out);
    asm.mov(Reg::R3, 0);
    asm.address(Reg::R4, Reg::Fp, ADDRESS.into());
    asm.call(Helper::KallsymsLookupName);
    asm.load(Size::B8, Reg::R1, Reg::Fp, ADDRESS);
    asm.store(Size::B8, CONTEXT, 8, Reg::R1);
    asm.place(out);
    asm.exit();
    asm.finish()
}
