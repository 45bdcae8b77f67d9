//! Light skeletons, which `bpftool gen skeleton -L` writes: the object has become a program of
//! type `SYSCALL`, the loader, and data for it. No ELF file is left.
//!
//! The loader makes system calls one after the other, each with a `union bpf_attr` in the data,
//! and stores the addresses of other data there before. So its instructions say where in the
//! data the programs, their BTF, and the tables of `.BTF.ext` are; CO-RE relocations are among
//! them, which the kernel applies. This rests on `gen_loader.c` of libbpf, which
//! has made such data since 0.6; the tests read what its version 1.1 makes.
//!
//! The stages: find the loader in a file, read what it does ([`loader`]), find its data in the
//! file ([`data`]), and make an object of them ([`object`]).
//!
//! The names of ELF sections are not kept. A program of type `tp_btf` has its target in the
//! data. Of others, only the type is known, and BTF has the names of all sections, since
//! `.BTF.ext` refers to them. See [`sections`].

mod data;
mod loader;
mod object;
mod sections;

use super::instruction::{INSTRUCTION, RawInstruction};
use super::{AuditedKernel, BpfObject, BpfObjectError, Verdict};
use crate::btf::Kind;
use crate::error::Error;
use crate::machine::ByteOrder;
use crate::text::KernelVersion;

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

/// Returns the light skeletons in a file, each with the place of its loader in bytes.
pub(super) fn find(
    bytes: &[u8],
) -> impl Iterator<Item = (usize, Result<BpfObject, BpfObjectError>)> {
    let mut places = data::BtfPlaces::new(bytes);
    loaders(bytes).map(move |(at, byte_order)| {
        let object = loader::Loader::read(&bytes[at..], byte_order)
            .and_then(|loader| object::read(&loader, places.data_of(&loader)?));
        (at, object)
    })
}

/// Returns the places of loaders, in bytes.
fn loaders(bytes: &[u8]) -> impl Iterator<Item = (usize, ByteOrder)> {
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
        is_loader(&bytes[at..], byte_order).then_some((at, byte_order))
    })
}

/// Whether a kernel loads the programs of light skeletons; `relocates` says whether the kernel
/// has CO-RE relocations to apply. `Err` is the verdict with its reason.
///
/// Programs of type `SYSCALL`, and `bpf_sys_bpf` that they call, are there since Linux 5.14;
/// `struct bpf_core_relo` since 5.17, or where it was ported back. BTF tells, but that of an
/// excerpt of a kernel may lack either.
pub(super) fn loaded_by(
    kernel: &AuditedKernel,
    relocates: bool,
) -> Result<Result<(), (Verdict, &'static str)>, Error> {
    let (name, kind, since, why) = match relocates {
        false => (
            "bpf_sys_bpf",
            Kind::Func,
            KernelVersion::new(5, 14, 0),
            "light skeletons are loaded since Linux 5.14",
        ),
        true => (
            "bpf_core_relo",
            Kind::Struct,
            KernelVersion::new(5, 17, 0),
            "the kernel applies CO-RE relocations, as light skeletons need, since Linux 5.17",
        ),
    };
    if kernel.vmlinux_has(name.as_bytes(), kind)? {
        return Ok(Ok(()));
    }
    Ok(match kernel.kernel().version()? {
        Some(version) if version >= since => Ok(()),
        Some(_) => Err((Verdict::Refused, why)),
        None => Err((Verdict::Unknown, why)),
    })
}

fn is_loader(bytes: &[u8], byte_order: ByteOrder) -> bool {
    let mut instructions = bytes.as_chunks::<INSTRUCTION>().0.iter();
    LOADER
        .iter()
        .all(|&(opcode, [to, from], offset, immediate)| {
            let Some(bytes) = instructions.next() else {
                return false;
            };
            let found = RawInstruction::parse(*bytes, byte_order);
            let expected = RawInstruction {
                opcode,
                destination: to,
                source: from,
                offset,
                immediate: immediate.unwrap_or(found.immediate),
            };
            found == expected
        })
}
