//! Patch sites of a kernel's and a module's tracepoints, in images.

use object::write::{Object, Relocation, SectionId, StandardSegment, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind,
    SymbolScope,
};
use tracepoints::Kernel;
use tracepoints::sites::{EventSites, PatchState};

use super::wrappings::{self, Tables};
use super::writer::{self, Memory};

/// `nopl 0(%rax,%rax,1)`, behind a byte of other code.
const CODE: &[u8] = &[0x90, 0x0f, 0x1f, 0x44, 0, 0, 0xc3, 0xc3, 0xc3, 0xc3];
/// Where in that code the no-op is, and where it would jump to.
const SITE: u64 = 1;
const TARGET: u64 = 7;
/// Where the key is in a tracepoint.
const KEY: u64 = 24;

/// The kernel with tables of its first two tracepoints, and a site of the first.
fn kernel() -> Memory {
    let mut memory = writer::kernel();
    let place = |memory: &Memory, name: &str| {
        let found = memory.symbols.iter().find(|(known, _)| known == name);
        found.expect("a symbol").1
    };
    let tracepoints = ["first", "second"].map(|name| {
        let name = format!("__tracepoint_{name}");
        place(&memory, &name)
    });
    let code = memory.put(CODE);
    memory.symbol("do_first", code);
    memory.function("after_first");
    let table = memory.array(&tracepoints);
    memory.symbol("__start___tracepoints_ptrs", table);
    let end = memory.align(8);
    memory.symbol("__stop___tracepoints_ptrs", end);
    let at = memory.align(8);
    let distances = [code + SITE, code + TARGET].map(|to| to as i32);
    let entry = [
        (distances[0] - at as i32).to_le_bytes().to_vec(),
        (distances[1] - (at as i32 + 4)).to_le_bytes().to_vec(),
        (tracepoints[0] + KEY)
            .wrapping_sub(at + 8)
            .to_le_bytes()
            .to_vec(),
    ];
    memory.put(&entry.concat());
    memory.symbol("__start___jump_table", at);
    let end = memory.align(8);
    memory.symbol("__stop___jump_table", end);
    memory
}

/// The numbers of relocations: of a pointer, and of a distance from the place in 4 and in 8
/// bytes. On riscv a distance is a sum and a difference.
struct Relocations {
    architecture: Architecture,
    absolute: u32,
    near: [Option<u32>; 2],
    far: [Option<u32>; 2],
}

/// `R_X86_64_64`, `_PC32` and `_PC64`.
const X86_64: Relocations = Relocations {
    architecture: Architecture::X86_64,
    absolute: 1,
    near: [Some(2), None],
    far: [Some(24), None],
};

/// `R_RISCV_64`, `_ADD32` and `_SUB32`, `_ADD64` and `_SUB64`.
const RISCV64: Relocations = Relocations {
    architecture: Architecture::Riscv64,
    absolute: 2,
    near: [Some(35), Some(39)],
    far: [Some(36), Some(40)],
};

/// `R_PPC64_ADDR64`, `_REL32` and `_REL64`.
const PPC64LE: Relocations = Relocations {
    architecture: Architecture::PowerPc64,
    absolute: 38,
    near: [Some(26), None],
    far: [Some(44), None],
};

/// A module that defines the tracepoint `own`, and has a site of it and one of `foreign`.
fn module(numbers: &Relocations, name: &str, own: &str, foreign: &str) -> Vec<u8> {
    let mut object = Object::new(BinaryFormat::Elf, numbers.architecture, Endianness::Little);
    let mut add = |section: &str, kind: SectionKind, content: &[u8]| {
        let segment = object.segment_name(StandardSegment::Data).to_vec();
        let id = object.add_section(segment, section.as_bytes().to_vec(), kind);
        object.append_section_data(id, content, 8);
        id
    };
    let text = add(".text", SectionKind::Text, &[CODE, CODE].concat());
    let mut tracepoint = vec![0; 32];
    tracepoint.extend(own.bytes());
    tracepoint.push(0);
    let data = add(".data", SectionKind::Data, &tracepoint);
    let pointers = add("__tracepoints_ptrs", SectionKind::Data, &[0; 8]);
    let entries = add("__jump_table", SectionKind::Data, &[0; 32]);
    let modinfo = format!("name={name}\0");
    add(".modinfo", SectionKind::Data, modinfo.as_bytes());
    let mut symbol = |name: &str, section: SymbolSection, value: u64| {
        object.add_symbol(Symbol {
            name: name.as_bytes().to_vec(),
            value,
            size: 0,
            kind: SymbolKind::Data,
            scope: SymbolScope::Linkage,
            weak: false,
            section,
            flags: SymbolFlags::None,
        })
    };
    let length = CODE.len() as u64;
    symbol("beat", SymbolSection::Section(text), 0);
    symbol("blow", SymbolSection::Section(text), length);
    // Marks of the assembler are no functions.
    symbol("$x", SymbolSection::Section(text), length + 1);
    symbol("end", SymbolSection::Section(text), 2 * length);
    let own = symbol(
        &format!("__tracepoint_{own}"),
        SymbolSection::Section(data),
        0,
    );
    let foreign = symbol(
        &format!("__tracepoint_{foreign}"),
        SymbolSection::Undefined,
        0,
    );
    let in_data = object.section_symbol(data);
    let in_text = object.section_symbol(text);
    let in_entries = object.section_symbol(entries);
    let mut relocations: Vec<(SectionId, u64, _, u64, u32)> = vec![
        (data, 16, in_data, 32, numbers.absolute),
        (pointers, 0, own, 0, numbers.absolute),
    ];
    for (at, function, tracepoint) in [(0, 0, own), (16, length, foreign)] {
        for (at, symbol, addend, [to, from]) in [
            (at, in_text, function + SITE, numbers.near),
            (at + 4, in_text, function + TARGET, numbers.near),
            (at + 8, tracepoint, KEY, numbers.far),
        ] {
            relocations.extend(to.map(|ty| (entries, at, symbol, addend, ty)));
            relocations.extend(from.map(|ty| (entries, at, in_entries, at, ty)));
        }
    }
    for (section, offset, symbol, addend, r_type) in relocations {
        let relocation = Relocation {
            offset,
            symbol,
            addend: addend as i64,
            flags: RelocationFlags::Elf { r_type },
        };
        let added = object.add_relocation(section, relocation);
        added.expect("a relocation");
    }
    object.write().expect("an ELF file")
}

/// Each site in a line: its address, the function and the target.
fn sites(event: &EventSites) -> Vec<String> {
    let tracepoint = event.tracepoint().expect("a tracepoint");
    let sites = tracepoint.sites.iter().flatten();
    let line = |site: &tracepoints::sites::PatchSite| {
        assert_eq!(site.state, PatchState::Nop);
        assert_eq!(site.bytes, CODE[1..6]);
        let [place, target] = [&site.location, &site.target_location];
        let [place, target] = [place, target].map(|place| place.as_ref().expect("a function"));
        assert_eq!(
            place.size,
            CODE.len() as u64 + if place.module.is_none() { 6 } else { 0 }
        );
        format!("{:#x} {place} -> {target}", site.address & 0xff)
    };
    sites.map(line).collect()
}

#[test]
fn sites_of_modules_and_in_modules() {
    // The instructions stay those of the kernel's own machine.
    for numbers in [X86_64, RISCV64, PPC64LE] {
        check_sites(&numbers);
    }
}

fn check_sites(numbers: &Relocations) {
    let image = wrappings::vmlinux(&kernel(), Tables::New);
    let module_of = |foreign: &str| module(numbers, "drum", "drum_beat", foreign);
    let kernel = Kernel::from_image(image, [module_of("first")]);
    let kernel = kernel.expect("a kernel");
    assert!(kernel.unreadable().is_empty(), "{:?}", kernel.unreadable());
    let found = kernel.sites(&[], &["first", "second", "drum_beat"]);
    let found = found.expect("its sites");
    let [first, second, own] = found.events() else {
        panic!("{found:?}");
    };
    let [built_in, in_module] = &*sites(first) else {
        panic!("{first:?}");
    };
    assert!(
        built_in.ends_with("do_first+0x1 -> do_first+0x7"),
        "{built_in}"
    );
    assert_eq!(in_module, "0xb blow+0x1 [drum] -> blow+0x7 [drum]");
    assert!(sites(second).is_empty());
    assert_eq!(sites(own), ["0x1 beat+0x1 [drum] -> beat+0x7 [drum]"]);
    let module = own.tracepoint().and_then(|known| known.module.clone());
    assert_eq!(module.as_deref(), Some("drum"));

    // Whose tracepoint it is cannot be known without the other module.
    let image = wrappings::vmlinux(&self::kernel(), Tables::New);
    let kernel = Kernel::from_image(image, [module_of("horn_blow")]).expect("a kernel");
    assert_eq!(
        kernel.unreadable(),
        ["1 patch sites of horn_blow, whose module is not in the package"]
    );
}
