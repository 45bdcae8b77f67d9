//! Effects on memory of the kernel's helper functions, by their numbers in
//! `include/uapi/linux/bpf.h`.

/// The memory that a helper writes: the register with the pointer, and the size.
pub(super) struct HelperWrite {
    pub(super) pointer: u8,
    pub(super) size: HelperSize,
}

/// The number of bytes that a helper reads or writes.
#[derive(Clone, Copy)]
pub(super) enum HelperSize {
    /// The value of this register.
    Register(u8),
    Fixed(u32),
    /// The size of a map's value.
    Unknown,
}

use HelperSize::{Fixed, Register, Unknown};

/// A helper that copies memory: `bpf_probe_read` and its kin.
pub(super) struct ProbeRead {
    /// Whether it stops at a NUL.
    pub(super) is_text: bool,
    /// Whether it reads the memory of the process.
    pub(super) is_user: bool,
}

/// Returns how a helper copies memory, if it copies from the address in its third
/// argument to that in its first, with the size in its second.
pub(super) fn probe_read(number: i32) -> Option<ProbeRead> {
    let (is_text, is_user) = match number {
        4 | 113 => (false, false),
        45 | 115 => (true, false),
        112 => (false, true),
        114 => (true, true),
        _ => return None,
    };
    Some(ProbeRead { is_text, is_user })
}

/// `bpf_tail_call`, which does not return if it succeeds.
pub(super) const TAIL_CALL: i32 = 12;

/// Returns the memory that a helper writes; `None` for a helper that is not in this
/// table.
pub(super) fn writes(number: i32) -> Option<&'static [HelperWrite]> {
    macro_rules! write {
        ($($pointer:literal: $size:expr),*) => {
            &[$(HelperWrite { pointer: $pointer, size: $size }),*]
        };
    }
    Some(match number {
        // Helpers that copy or fill a buffer: buffer and length come first.
        4 | 16 | 45 | 112..=115 | 148 | 165 | 191 | 201 => write!(1: Register(2)),
        // get_stack, get_task_stack, d_path.
        67 | 141 | 147 => write!(2: Register(3)),
        55 => write!(3: Register(4)),
        56 => write!(2: Register(3)),
        // map_pop_elem, map_peek_elem.
        88 | 89 => write!(2: Unknown),
        105 | 106 => write!(4: Fixed(8)),
        120 => write!(3: Register(4)),
        149 => write!(1: Register(2)),
        // get_func_arg, get_func_ret.
        183 => write!(3: Fixed(8)),
        184 => write!(2: Fixed(8)),
        // Dynptrs.
        197 | 198 => write!(4: Fixed(16)),
        // Maps, times, ids, output, random numbers, locks and links: nothing.
        1..=3
        | 5..=8
        | 12
        | 14
        | 15
        | 22
        | 25
        | 27
        | 35
        | 36
        | 37
        | 42
        | 46
        | 47
        | 53
        | 54
        | 57
        | 80
        | 87
        | 90
        | 93
        | 94
        | 109
        | 118
        | 121
        | 123
        | 124
        | 125
        | 129
        | 130..=134
        | 135..=140
        | 142..=144
        | 146
        | 152..=154
        | 156..=158
        | 160
        | 164
        | 168..=174
        | 176..=182
        | 185..=190
        | 194
        | 195
        | 199
        | 200
        | 202
        | 203
        | 208..=211 => write!(),
        _ => return None,
    })
}

/// Returns the memory that a helper hands on to user space or to a map.
pub(super) fn hands_on(number: i32) -> Option<(u8, HelperSize)> {
    Some(match number {
        2 => (3, Unknown),
        25 => (4, Register(5)),
        87 => (2, Unknown),
        130 => (2, Register(3)),
        _ => return None,
    })
}

/// Returns, for a helper that calls back, the registers with the function and with the
/// value that is passed on, and the callback's register for it.
pub(super) fn callback(number: i32) -> Option<(u8, u8, u8)> {
    Some(match number {
        // for_each_map_elem(map, callback, context, flags): callback(map, key, value, context).
        164 => (2, 3, 4),
        // find_vma(task, addr, callback, context, flags): callback(task, vma, context).
        180 => (3, 4, 3),
        // loop(count, callback, context, flags): callback(index, context).
        181 => (2, 3, 2),
        // user_ringbuf_drain(map, callback, context, flags): callback(dynptr, context).
        209 => (2, 3, 2),
        _ => return None,
    })
}
