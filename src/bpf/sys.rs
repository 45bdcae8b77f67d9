//! The system calls that the loader makes itself.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_ulong};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use aya_obj::generated::{
    PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_SET_BPF, PERF_FLAG_FD_CLOEXEC, bpf_attach_type, bpf_attr,
    bpf_btf_info, bpf_cmd, bpf_map_info, bpf_map_type, bpf_prog_info, bpf_prog_type,
    perf_event_attr,
};

use super::asm::Program;
use crate::machine::until_nul;

/// The type of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgramType {
    Tracepoint,
    /// A program of a tracepoint itself, which gets its arguments as numbers (Linux 4.17).
    RawTracepoint,
    /// The same with the arguments' types (Linux 5.5).
    TpBtf {
        /// The typedef `btf_trace_<tracepoint>`.
        typedef: u32,
        /// The descriptor of the module's BTF that has it (Linux 5.11); `None` for vmlinux's.
        module: Option<c_int>,
    },
    /// A program that a system call runs once (Linux 5.14).
    Syscall,
}

/// `BPF_F_SLEEPABLE`, required for programs that a system call runs.
const SLEEPABLE: u32 = 1 << 4;

/// Helpers that read memory are reserved for GPL-compatible programs.
const LICENSE: &CStr = c"Dual MIT/GPL";

/// Loads a program. If the verifier rejects it, it writes the reason to `log`, as far as
/// there is space.
pub(crate) fn load_program(
    kind: ProgramType,
    program: &Program,
    name: &str,
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let instructions = program.bytes();
    let mut attr = zeroed_attr();
    // SAFETY: all members of the union are integers, for which any bytes do.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = match kind {
        ProgramType::Tracepoint => bpf_prog_type::BPF_PROG_TYPE_TRACEPOINT as u32,
        ProgramType::RawTracepoint => bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT as u32,
        ProgramType::TpBtf { .. } => bpf_prog_type::BPF_PROG_TYPE_TRACING as u32,
        ProgramType::Syscall => bpf_prog_type::BPF_PROG_TYPE_SYSCALL as u32,
    };
    if kind == ProgramType::Syscall {
        load.prog_flags = SLEEPABLE;
    }
    if let ProgramType::TpBtf { typedef, module } = kind {
        load.expected_attach_type = bpf_attach_type::BPF_TRACE_RAW_TP as u32;
        load.attach_btf_id = typedef;
        load.__bindgen_anon_1.attach_btf_obj_fd = module.unwrap_or(0) as u32;
    }
    load.insns = instructions.as_ptr() as u64;
    load.insn_cnt = (instructions.len() / 8) as u32;
    load.license = LICENSE.as_ptr() as u64;
    load.prog_name = kernel_name(name);
    if !log.is_empty() {
        load.log_level = 1;
        load.log_size = log.len() as u32;
        load.log_buf = log.as_mut_ptr() as u64;
    }
    // SAFETY: the instructions, the license and the log outlive the call, and the
    // kernel writes to the log alone, within its size.
    let descriptor = unsafe { bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr) }?;
    // SAFETY: the kernel has just given it to us, and no one else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// An array map of one value.
#[derive(Debug)]
pub(crate) struct OneValueMap {
    descriptor: OwnedFd,
    /// In bytes, of the value.
    size: usize,
}

impl OneValueMap {
    /// Creates one whose value has this size in bytes, all zeros.
    pub(crate) fn new(size: usize, flags: u32, name: &str) -> io::Result<Self> {
        let mut attr = zeroed_attr();
        attr.__bindgen_anon_1.map_type = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
        attr.__bindgen_anon_1.key_size = size_of::<u32>() as u32;
        attr.__bindgen_anon_1.value_size = size as u32;
        attr.__bindgen_anon_1.max_entries = 1;
        attr.__bindgen_anon_1.map_flags = flags;
        attr.__bindgen_anon_1.map_name = kernel_name(name);
        // SAFETY: this command has no pointers in it.
        let descriptor = unsafe { bpf(bpf_cmd::BPF_MAP_CREATE, &mut attr) }?;
        // SAFETY: the kernel has just given it to us, and no one else has it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Self { descriptor, size })
    }

    /// Takes an array map of one value; `None` if the map is another.
    pub(crate) fn of_descriptor(descriptor: OwnedFd) -> io::Result<Option<Self>> {
        // SAFETY: the struct is made of integers, for which zeros do.
        let mut info: bpf_map_info = unsafe { mem::zeroed() };
        // SAFETY: any bytes do for its integers, and it asks for no array.
        unsafe { read_info(descriptor.as_fd(), &mut info) }?;
        let is_array = info.type_ == bpf_map_type::BPF_MAP_TYPE_ARRAY as u32
            && info.key_size as usize == size_of::<u32>()
            && info.max_entries == 1;
        Ok(is_array.then_some(Self {
            descriptor,
            size: info.value_size as usize,
        }))
    }

    /// In bytes, of the value.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Sets the value, which must have the map's size.
    pub(crate) fn set(&self, value: &[u8]) -> io::Result<()> {
        let (address, length) = (value.as_ptr() as u64, value.len());
        // SAFETY: the bytes outlive the call, which only reads them.
        unsafe { self.copy(bpf_cmd::BPF_MAP_UPDATE_ELEM, address, length) }
    }

    /// Reads the value into `value`, which must have its size.
    pub(crate) fn read(&self, value: &mut [u8]) -> io::Result<()> {
        let (address, length) = (value.as_mut_ptr() as u64, value.len());
        // SAFETY: the bytes are exclusive and outlive the call, and any do in them.
        unsafe { self.copy(bpf_cmd::BPF_MAP_LOOKUP_ELEM, address, length) }
    }

    /// Has the kernel read as many bytes as `length` says at this address, or write them.
    ///
    /// # Safety
    ///
    /// The bytes must be valid for that during the call.
    unsafe fn copy(&self, command: bpf_cmd, address: u64, length: usize) -> io::Result<()> {
        if length != self.size {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let key = 0u32;
        let mut attr = zeroed_attr();
        attr.__bindgen_anon_2.map_fd = self.descriptor.as_raw_fd() as u32;
        attr.__bindgen_anon_2.key = (&raw const key) as u64;
        attr.__bindgen_anon_2.__bindgen_anon_1.value = address;
        // SAFETY: the key has the size the map was made with and outlives the call, and so
        // has the value, for which the caller answers.
        unsafe { bpf(command, &mut attr) }.map(drop)
    }
}

impl AsFd for OneValueMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Creates a map that holds a reference to each of these perf events. When it is closed, the
/// kernel drops the references in a callback of RCU, and closes in a thread of its own the
/// events that nobody else holds (`perf_event_fd_array_release()` of `kernel/bpf/arraymap.c`,
/// and `fput()`).
pub(crate) fn event_holder(events: &[OwnedFd]) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_1.map_type = bpf_map_type::BPF_MAP_TYPE_PERF_EVENT_ARRAY as u32;
    attr.__bindgen_anon_1.key_size = size_of::<u32>() as u32;
    attr.__bindgen_anon_1.value_size = size_of::<u32>() as u32;
    attr.__bindgen_anon_1.max_entries = events.len() as u32;
    attr.__bindgen_anon_1.map_name = kernel_name("tracepoints");
    // SAFETY: this command has no pointers in it.
    let descriptor = unsafe { bpf(bpf_cmd::BPF_MAP_CREATE, &mut attr) }?;
    // SAFETY: the kernel has just given it to us, and no one else has it.
    let map = unsafe { OwnedFd::from_raw_fd(descriptor) };
    for (event, key) in events.iter().zip(0u32..) {
        let value = event.as_raw_fd() as u32;
        let mut attr = zeroed_attr();
        attr.__bindgen_anon_2.map_fd = map.as_raw_fd() as u32;
        attr.__bindgen_anon_2.key = (&raw const key) as u64;
        attr.__bindgen_anon_2.__bindgen_anon_1.value = (&raw const value) as u64;
        // SAFETY: key and value have the sizes the map was made with, outlive the call, and
        // are only read.
        unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr) }?;
    }
    Ok(map)
}

/// Creates a map of one value that can no longer change, as the kernel requires for the
/// format of `bpf_snprintf` (Linux 5.2).
pub(crate) fn constant_map(value: &[u8], name: &str) -> io::Result<OwnedFd> {
    const ONLY_FOR_PROGRAMS_TO_READ: u32 = 1 << 7;
    let map = OneValueMap::new(value.len(), ONLY_FOR_PROGRAMS_TO_READ, name)?;
    map.set(value)?;
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_2.map_fd = map.descriptor.as_raw_fd() as u32;
    // SAFETY: this command has no pointers in it.
    unsafe { bpf(bpf_cmd::BPF_MAP_FREEZE, &mut attr) }?;
    Ok(map.descriptor)
}

/// Returns a name as the kernel accepts it: at most 15 letters, digits, `_` and `.`.
fn kernel_name(name: &str) -> [c_char; 16] {
    let letters = name.bytes().map(|byte| match byte {
        b'-' => b'_',
        byte => byte,
    });
    let mut kernel_name = [0; 16];
    for (to, letter) in kernel_name.iter_mut().take(15).zip(letters) {
        *to = letter as _;
    }
    kernel_name
}

/// Opens the event with this id, so that programs can be attached: on one CPU, which is
/// enough for them to run on all.
pub(crate) fn open_event(id: u32, cpu: u32) -> io::Result<OwnedFd> {
    /// `PERF_TYPE_TRACEPOINT`.
    const TRACEPOINT: u32 = 2;
    // SAFETY: the struct is made of integers, for which zeros do.
    let mut attr: perf_event_attr = unsafe { mem::zeroed() };
    attr.type_ = TRACEPOINT;
    attr.size = size_of::<perf_event_attr>() as u32;
    attr.config = id.into();
    // It takes no samples (period 0): perf refuses them of events its own sampling
    // makes happen (`irq_vectors:irq_work_entry`).
    // SAFETY: `attr` is as large as it says and outlives the call, which writes
    // nothing but a size it knows, there (`perf_copy_attr()`).
    let descriptor = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw mut attr,
            -1,
            cpu as c_int,
            -1,
            c_ulong::from(PERF_FLAG_FD_CLOEXEC),
        )
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given it to us, and no one else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as c_int) })
}

/// Links a program to an event (Linux 5.15): it runs until the link is closed.
pub(crate) fn link(
    program: BorrowedFd<'_>,
    event: BorrowedFd<'_>,
    cookie: u64,
) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.__bindgen_anon_2.target_fd = event.as_raw_fd() as u32;
    attr.link_create.attach_type = bpf_attach_type::BPF_PERF_EVENT as u32;
    attr.link_create.__bindgen_anon_3.perf_event.bpf_cookie = cookie;
    // SAFETY: this command has no pointers in it.
    let descriptor = unsafe { bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr) }?;
    // SAFETY: the kernel has just given it to us, and no one else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Attaches a program to a tracepoint: it runs until what is returned is closed. A program of
/// [`ProgramType::TpBtf`] knows its tracepoint, and takes no name.
pub(crate) fn open_raw_tracepoint(
    program: BorrowedFd<'_>,
    name: Option<&CStr>,
) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.raw_tracepoint.prog_fd = program.as_raw_fd() as u32;
    attr.raw_tracepoint.name = name.map_or(0, |name| name.as_ptr() as u64);
    // SAFETY: the name ends with a NUL and outlives the call, which only reads it.
    let descriptor = unsafe { bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr) }?;
    // SAFETY: the kernel has just given it to us, and no one else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Opens the BTF object of a module, as it is loaded; `None` if there is none of this name
/// (Linux 5.11, `CAP_SYS_ADMIN`).
pub(crate) fn open_module_btf(module: &str) -> io::Result<Option<OwnedFd>> {
    let mut id = 0;
    while let Some(next) = next_id(bpf_cmd::BPF_BTF_GET_NEXT_ID, id)? {
        id = next;
        let descriptor = match open_by_id(bpf_cmd::BPF_BTF_GET_FD_BY_ID, id) {
            Ok(descriptor) => descriptor,
            // It went in between.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(error) => return Err(error),
        };
        if is_kernel_btf(descriptor.as_fd(), module)? {
            return Ok(Some(descriptor));
        }
    }
    Ok(None)
}

/// Whether a BTF object is the kernel's, of this name.
fn is_kernel_btf(object: BorrowedFd<'_>, wanted: &str) -> io::Result<bool> {
    /// `MODULE_NAME_LEN` on machines of 64 bits, and more.
    const NAME: usize = 64;
    let mut name = [0u8; NAME];
    // SAFETY: the struct is made of integers, for which zeros do.
    let mut info: bpf_btf_info = unsafe { mem::zeroed() };
    info.name = name.as_mut_ptr() as u64;
    info.name_len = NAME as u32;
    // SAFETY: any bytes do for its integers. The name is as large as it says, is exclusive and
    // outlives the call.
    unsafe { read_info(object, &mut info) }?;
    Ok(info.kernel_btf != 0 && until_nul(&name) == wanted.as_bytes())
}

/// Pins a map, a program or a link to this path, which must be on a file system of type `bpf`,
/// and free. It stays as long as its file does (Linux 4.4; links 5.7).
pub(crate) fn pin(object: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = object.as_raw_fd() as u32;
    // SAFETY: the path ends with a NUL and outlives the call, which only reads it.
    unsafe { bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr) }.map(drop)
}

/// Opens the map, the program or the link that is pinned to this path.
pub(crate) fn open_pinned(path: &CStr) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    // SAFETY: the path ends with a NUL and outlives the call, which only reads it.
    let descriptor = unsafe { bpf(bpf_cmd::BPF_OBJ_GET, &mut attr) }?;
    // SAFETY: the kernel has just given it to us, and no one else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Returns the number of a map, a program or a link among those of its kind (links: Linux 5.8).
/// No other one has it until the kernel has given out 2³¹.
pub(crate) fn object_id(object: BorrowedFd<'_>) -> io::Result<u32> {
    // The infos of all kinds begin with a type and the id.
    let mut info = [0u32; 2];
    // SAFETY: any bytes do for integers, and none of them asks for an array.
    unsafe { read_info(object, &mut info) }?;
    Ok(info[1])
}

/// Has the kernel write what it says of a map, a program, a link or a BTF object over `info`, as
/// much as has space there.
///
/// # Safety
///
/// Any bytes are valid for `T`. The arrays that `info` asks for are as large as it says, exclusive,
/// and outlive the call.
unsafe fn read_info<T>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.info.bpf_fd = object.as_raw_fd() as u32;
    attr.info.info_len = size_of::<T>() as u32;
    attr.info.info = (&raw mut *info) as u64;
    // SAFETY: `info` is exclusive, as large as said, and outlives the call; the rest is the
    // caller's promise.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) }.map(drop)
}

/// Attaches a program to an event as kernels before 5.15 do: it runs until the
/// event is closed.
pub(crate) fn set_program(event: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let number = program.as_raw_fd() as c_ulong;
    // SAFETY: the request takes a descriptor's number, and no pointer.
    unsafe { ioctl(event, PERF_EVENT_IOC_SET_BPF, number) }?;
    // SAFETY: the request takes a number, and no pointer.
    unsafe { ioctl(event, PERF_EVENT_IOC_ENABLE, 0) }
}

/// Returns how often the kernel skipped the program because another one ran on the CPU
/// (Linux 5.12; 0 before).
pub(crate) fn skipped(program: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: the struct is made of integers, for which zeros do.
    let mut info: bpf_prog_info = unsafe { mem::zeroed() };
    // SAFETY: any bytes do for its integers; the arrays it could ask for have length 0.
    unsafe { read_info(program, &mut info) }?;
    Ok(info.recursion_misses)
}

/// Runs a program of [`ProgramType::Syscall`] once on this context, which it may change.
/// Returns the program's result.
pub(crate) fn run(program: BorrowedFd<'_>, context: &mut [u8]) -> io::Result<u32> {
    let mut attr = zeroed_attr();
    attr.test.prog_fd = program.as_raw_fd() as u32;
    attr.test.ctx_in = context.as_mut_ptr() as u64;
    attr.test.ctx_size_in = context.len() as u32;
    // SAFETY: the context outlives the call, and the kernel writes back no more
    // than its length.
    unsafe { bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr) }?;
    // SAFETY: the kernel has set it, and any bytes do for an integer.
    Ok(unsafe { attr.test.retval })
}

/// Returns the id of the next link after this one, by their ids; `None` after the last
/// (Linux 5.8, `CAP_SYS_ADMIN`).
pub(crate) fn next_link(id: u32) -> io::Result<Option<u32>> {
    next_id(bpf_cmd::BPF_LINK_GET_NEXT_ID, id)
}

/// Opens a link by its id (Linux 5.8, `CAP_SYS_ADMIN`). It stays attached as long as the
/// descriptor is open.
pub(crate) fn open_link(id: u32) -> io::Result<OwnedFd> {
    open_by_id(bpf_cmd::BPF_LINK_GET_FD_BY_ID, id)
}

/// Returns the next id of those the command goes through; `None` after the last.
fn next_id(command: bpf_cmd, id: u32) -> io::Result<Option<u32>> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_6.__bindgen_anon_1.start_id = id;
    // SAFETY: these commands have no pointers in them.
    match unsafe { bpf(command, &mut attr) } {
        // SAFETY: the kernel has set it, and any bytes do for an integer.
        Ok(_) => Ok(Some(unsafe { attr.__bindgen_anon_6.next_id })),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn open_by_id(command: bpf_cmd, id: u32) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    // All kinds of ids are in the same place.
    attr.__bindgen_anon_6.__bindgen_anon_1.start_id = id;
    // SAFETY: these commands have no pointers in them.
    let descriptor = unsafe { bpf(command, &mut attr) }?;
    // SAFETY: the kernel has just given it to us, and no one else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Lifts the limit on the memory of maps and programs, which kernels before 5.11 count as
/// locked memory.
pub(crate) fn raise_locked_memory_limit() -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the call only reads `limit`, which outlives it.
    match unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits until the descriptor is readable, at most this many milliseconds; -1 is forever.
pub(crate) fn poll(descriptor: BorrowedFd<'_>, milliseconds: c_int) -> io::Result<bool> {
    let mut polled = libc::pollfd {
        fd: descriptor.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: there is one pollfd, and it outlives the call.
    match unsafe { libc::poll(&raw mut polled, 1, milliseconds) } {
        0 => Ok(false),
        1.. => Ok(true),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A union of integers only, all of them 0.
fn zeroed_attr() -> bpf_attr {
    // SAFETY: zeros do for all its members.
    unsafe { mem::zeroed() }
}

/// # Safety
///
/// Pointers in `attr` must be such as the command asks for, and valid during the
/// call.
unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<c_int> {
    // SAFETY: the caller answers for the pointers in `attr`; it is as large as
    // said, and outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as c_int,
            &raw mut *attr,
            size_of::<bpf_attr>(),
        )
    };
    match result {
        0.. => Ok(result as c_int),
        _ => Err(io::Error::last_os_error()),
    }
}

/// # Safety
///
/// `argument` must be what the request asks for.
unsafe fn ioctl(descriptor: BorrowedFd<'_>, request: u32, argument: c_ulong) -> io::Result<()> {
    // SAFETY: the caller answers for the argument.
    match unsafe { libc::ioctl(descriptor.as_raw_fd(), request as _, argument) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
