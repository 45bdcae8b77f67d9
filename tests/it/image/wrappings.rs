//! Images of a kernel's memory: symbols in each of kallsyms' forms, ELF files, and what
//! boot loaders unpack.

use super::writer::{BASE, Memory};

/// The order and the kind of kallsyms' tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tables {
    /// Addresses as they are, before Linux 4.6.
    Absolute,
    /// Relative to the lowest, and before the names: up to 6.1.
    Old,
    /// With the order of names behind the markers: 6.2.
    OldWithOrder,
    /// Those below 0 are relative.
    OldButPercpu,
    /// Relative to the lowest, and behind the names: 6.4.
    New,
    /// Relative to their places: 7.0.
    ToPlace,
}

/// The kernel's bytes with kallsyms behind them, as arm64's `Image`.
pub(crate) fn image(kernel: &Memory, tables: Tables) -> Vec<u8> {
    let mut bytes = kernel.linked();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let base = bytes.len() as u64;
    bytes.extend(kallsyms(&kernel.symbols, tables, base));
    bytes
}

/// The same, linked with RELA: the table of pointers behind it, and zeros in their places.
pub(crate) fn image_with_relocations(kernel: &Memory) -> Vec<u8> {
    let unlinked = Memory {
        pointers: Vec::new(),
        ..kernel.clone()
    };
    let mut kernel = kernel.clone();
    // Kernels have some 100,000; a short table is not taken for one.
    let unused = kernel.put(&[0; 8 * 1000]);
    let fill = (0..1000).map(|index| (unused + 8 * index, 0));
    let pointers: Vec<(u64, u64)> = kernel.pointers.iter().copied().chain(fill).collect();
    let mut bytes = image(&unlinked, Tables::New);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    for (at, to) in pointers {
        for word in [BASE + at, 0x403, BASE + to] {
            bytes.extend(word.to_le_bytes());
        }
    }
    bytes
}

/// `scripts/kallsyms.c`.
pub(crate) fn kallsyms(symbols: &[(String, u64)], tables: Tables, base: u64) -> Vec<u8> {
    let mut symbols = symbols.to_vec();
    symbols.sort_by_key(|(_, at)| *at);
    let mut names = Vec::new();
    let mut markers = Vec::new();
    for (index, (name, _)) in symbols.iter().enumerate() {
        if index % 256 == 0 {
            markers.push(names.len() as u32);
        }
        names.push(name.len() as u8 + 1);
        names.push(b't');
        names.extend(name.bytes());
    }
    let mut tokens = Vec::new();
    let mut index = Vec::new();
    for byte in 0..=255u8 {
        index.extend((tokens.len() as u16).to_le_bytes());
        // As in kernels: characters that names have stand for themselves.
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            tokens.push(byte);
        } else {
            tokens.extend(b"unused");
        }
        tokens.push(0);
    }
    let mut out = Vec::new();
    let pad = |out: &mut Vec<u8>| out.resize(out.len().next_multiple_of(8), 0);
    let addresses = |out: &mut Vec<u8>| {
        let start = base + out.len() as u64;
        for (index, (_, at)) in symbols.iter().enumerate() {
            let at = *at as i32;
            let place = (start as i32).wrapping_add(4 * index as i32);
            match tables {
                Tables::Absolute => out.extend((BASE + at as u64).to_le_bytes()),
                Tables::OldButPercpu => out.extend((-1 - at).to_le_bytes()),
                Tables::ToPlace => out.extend((at - place).to_le_bytes()),
                _ => out.extend(at.to_le_bytes()),
            }
        }
        pad(out);
        if !matches!(tables, Tables::Absolute | Tables::ToPlace) {
            out.extend(BASE.to_le_bytes());
        }
    };
    let is_new = matches!(tables, Tables::New | Tables::ToPlace);
    if !is_new {
        addresses(&mut out);
    }
    out.extend((symbols.len() as u64).to_le_bytes());
    out.extend(names);
    pad(&mut out);
    out.extend(markers.iter().flat_map(|marker| marker.to_le_bytes()));
    pad(&mut out);
    if tables == Tables::OldWithOrder {
        out.extend((0..symbols.len()).flat_map(|place| [0, (place >> 8) as u8, place as u8]));
        pad(&mut out);
    }
    out.extend(tokens);
    pad(&mut out);
    out.extend(index);
    pad(&mut out);
    if is_new {
        addresses(&mut out);
    }
    out
}

/// An ELF file of x86-64 with the kernel's memory at its address, stripped but for what a
/// bzImage's kernel has: the sections' headers.
pub(crate) fn vmlinux(kernel: &Memory, tables: Tables) -> Vec<u8> {
    const START: u64 = 0x1000;
    let memory = image(kernel, tables);
    let names = b"\0.text\0.BTF\0.shstrtab\0";
    let symbol = |name: &str| {
        let found = kernel.symbols.iter().find(|(known, _)| known == name);
        found.expect("a symbol").1
    };
    let btf = symbol("__start_BTF")..symbol("__stop_BTF");
    let end = START + memory.len() as u64;
    let headers = (end + names.len() as u64).next_multiple_of(8);
    let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |out: &mut Vec<u8>, words: &[u16]| {
        out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    let word = |out: &mut Vec<u8>, words: &[u32]| {
        out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    let long = |out: &mut Vec<u8>, words: &[u64]| {
        out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    // ET_EXEC, EM_X86_64.
    half(&mut out, &[2, 62]);
    word(&mut out, &[1]);
    long(&mut out, &[BASE, 64, headers]);
    word(&mut out, &[0]);
    half(&mut out, &[64, 56, 1, 64, 4, 3]);
    // PT_LOAD, readable, writable and executable.
    word(&mut out, &[1, 7]);
    let size = memory.len() as u64;
    long(&mut out, &[START, BASE, BASE, size, size, 4096]);
    out.resize(START as usize, 0);
    out.extend(&memory);
    out.extend(names);
    out.resize(headers as usize, 0);
    let section = |out: &mut Vec<u8>, name, ty, flags, at: [u64; 3]| {
        word(out, &[name, ty]);
        long(out, &[flags, at[0], at[1], at[2]]);
        word(out, &[0, 0]);
        long(out, &[1, 0]);
    };
    section(&mut out, 0, 0, 0, [0; 3]);
    section(&mut out, 1, 1, 6, [BASE, START, 64]);
    let length = btf.end - btf.start;
    section(
        &mut out,
        7,
        1,
        2,
        [BASE + btf.start, START + btf.start, length],
    );
    section(&mut out, 12, 3, 0, [0, end, names.len() as u64]);
    out
}

/// A bzImage around a compressed kernel.
pub(crate) fn bz_image(compressed: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 3 * 512];
    out[0x1f1] = 1;
    out[0x202..0x206].copy_from_slice(b"HdrS");
    // The setup code has two sectors, and the payload begins 512 bytes behind it.
    out[0x248..0x24c].copy_from_slice(&512u32.to_le_bytes());
    out[0x24c..0x250].copy_from_slice(&(compressed.len() as u32).to_le_bytes());
    out.extend_from_slice(compressed);
    out.extend_from_slice(b"what follows the payload");
    out
}

/// An EFI zboot image around a compressed kernel.
pub(crate) fn zboot(compressed: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 64];
    out[..8].copy_from_slice(b"MZ\0\0zimg");
    out[8..12].copy_from_slice(&64u32.to_le_bytes());
    out[12..16].copy_from_slice(&(compressed.len() as u32).to_le_bytes());
    out.extend_from_slice(compressed);
    out
}
