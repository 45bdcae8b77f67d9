//! Light skeletons, which `bpftool gen skeleton -L` writes: the object has become a program of
//! type `SYSCALL` that creates maps and loads the programs, and no ELF file is left.
//!
//! The sections' names, and with them the events, are in the tool's code. So such an object
//! cannot be audited, and is only found.

use crate::machine::ByteOrder;

/// The first instructions of the loader (`bpf_gen__init` of libbpf's `gen_loader.c`), which
/// copies the context's pointer and clears a part of its stack by `bpf_probe_read_kernel`. `None`
/// for values that differ. Each is opcode, destination and source, offset, immediate.
const LOADER: [(u8, [u8; 2], i16, Option<i32>); 6] = [
    (0xbf, [6, 1], 0, Some(0)),
    (0xbf, [1, 10], 0, Some(0)),
    (0x07, [1, 0], 0, None),
    (0xb7, [2, 0], 0, None),
    (0xb7, [3, 0], 0, Some(0)),
    (0x85, [0, 0], 0, Some(113)),
];

/// The size of an instruction in bytes.
const INSTRUCTION: usize = 8;

/// Returns the places of light skeletons' loaders in a file, in bytes.
pub(super) fn find(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let first = |byte_order| match byte_order {
        ByteOrder::Little => [LOADER[0].0, 0x16],
        ByteOrder::Big => [LOADER[0].0, 0x61],
    };
    let (little, big) = (first(ByteOrder::Little), first(ByteOrder::Big));
    let places = bytes.windows(2).enumerate();
    places.filter_map(move |(at, start)| {
        let byte_order = match start {
            start if start == little => ByteOrder::Little,
            start if start == big => ByteOrder::Big,
            _ => return None,
        };
        is_loader(&bytes[at..], byte_order).then_some(at)
    })
}

fn is_loader(bytes: &[u8], byte_order: ByteOrder) -> bool {
    let mut instructions = bytes.chunks_exact(INSTRUCTION);
    LOADER
        .iter()
        .all(|(opcode, [to, from], offset, immediate)| {
            let Some(&[code, registers, b0, b1, b2, b3, b4, b5]) = instructions.next() else {
                return false;
            };
            let expected = match byte_order {
                ByteOrder::Little => from << 4 | to,
                ByteOrder::Big => to << 4 | from,
            };
            let value = byte_order.read_u32([b2, b3, b4, b5]) as i32;
            code == *opcode
                && registers == expected
                && byte_order.read_u16([b0, b1]) as i16 == *offset
                && immediate.is_none_or(|immediate| immediate == value)
        })
}
