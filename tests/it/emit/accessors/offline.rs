//! Accessors of numbers, relocated by aya and run under rbpf on random bytes: on each kernel, they
//! read what the kernel's `Context` says is there.

use std::collections::BTreeMap;

use aya_obj::Object;
use aya_obj::btf::Btf;
use object::Endianness;

use super::*;

/// The instructions of each function, relocated for a kernel.
fn relocated(object: &[u8], root: &Path) -> BTreeMap<String, Vec<u8>> {
    let btf = Btf::parse_file(root.join("btf/vmlinux"), Endianness::Little).expect("BTF");
    let mut object = Object::parse(object).expect("an object");
    object.relocate_btf(&btf).expect("its relocations");
    let functions = object.functions.values();
    let functions = functions.map(|function| {
        let instructions = function.instructions.iter();
        let bytes = instructions.flat_map(|one| {
            let registers = one.dst_reg() | one.src_reg() << 4;
            let mut bytes = vec![one.code, registers];
            bytes.extend(one.off.to_le_bytes());
            bytes.extend(one.imm.to_le_bytes());
            bytes
        });
        (function.name.clone(), bytes.collect())
    });
    functions.collect()
}

/// Random bytes, the same in each run (SplitMix64).
struct Bytes(u64);

impl Bytes {
    fn context(&mut self) -> Vec<u8> {
        let word = |state: &mut u64| {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = *state;
            word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            (word ^ word >> 31).to_le_bytes()
        };
        (0..256).flat_map(|_| word(&mut self.0)).collect()
    }
}

/// The size in bytes of what an accessor returns.
fn width(text: &str, accessor: &str) -> usize {
    let (before, _) = text
        .split_once(&format!(" {accessor}(const void *ctx)"))
        .expect("an accessor");
    let (_, returned) = before.rsplit_once("__always_inline ").expect("its type");
    match returned {
        _ if returned.contains("long") => 8,
        _ if returned.contains("short") => 2,
        _ if returned.contains("char") || returned.contains("bool") => 1,
        "int" | "unsigned int" => 4,
        _ => panic!("{returned} {accessor}"),
    }
}

#[test]
fn numbers_are_those_of_the_context() {
    const CONTEXTS: usize = 32;
    let roots = roots();
    let mut accessors = accessors_of(&roots);
    let mut events = events_of(&roots);
    events.retain(|event| has_accessors(&mut accessors, event));
    let text = accessors.to_string();
    let mut reads = Vec::new();
    let mut code =
        "#include \"accessors.h\"\nchar LICENSE[] SEC(\"license\") = \"GPL\";\n".to_owned();
    for event in &events {
        for function in functions(&text, event) {
            if function.is_number {
                let number = reads.len();
                let _ = write!(
                    code,
                    "\nSEC(\"tracepoint\")\nlong long read_{number}(const void *ctx)\n{{\n\
                     \treturn {}(ctx);\n}}\n",
                    function.name
                );
                let width = width(&text, &function.name);
                reads.push((event, function.field, width));
            }
        }
    }
    let dir = tempfile::tempdir().expect("a directory");
    let Some(object) = compile(&text, &code, "bpfel", dir.path()) else {
        return;
    };
    let mut random = Bytes(1);
    for root in &roots {
        let kernel = Kernel::at(root).expect("a kernel");
        let programs = relocated(&object, root);
        // Constants that a loader sets tell the classes of these.
        let constants = accessors.class_constants(&kernel).expect("constants");
        let by_constant = |event: &EventName| {
            let name = format!("{}_class", event.event());
            constants.iter().any(|(constant, _)| *constant == name)
        };
        let (mut checked, mut by_helper) = (0, 0);
        for (number, (event, field, width)) in reads.iter().enumerate() {
            let Ok(tracepoint) = kernel.tracepoint(event) else {
                continue;
            };
            let context = tracepoint.context().expect("a context");
            // aya finds types in vmlinux alone.
            if by_constant(event) || context.home() != Some("vmlinux") {
                continue;
            }
            let format = tracepoint.format();
            let slots = context.field_slots().expect("slots");
            let mut slots = format.fields().iter().zip(slots);
            let slot = slots.find(|(known, _)| known.name() == field);
            let Some((_, Some(slot))) = slot else {
                continue;
            };
            // System calls' arguments have 8 bytes, of which an int is a part.
            let (offset, size) = (slot.offset() as usize, *width.min(&(slot.size() as usize)));
            let program = &programs[&format!("read_{number}")];
            let vm = rbpf::EbpfVmRaw::new(Some(program)).expect("a program");
            let mut is_by_helper = false;
            for _ in 0..CONTEXTS {
                let mut bytes = random.context();
                let read = match vm.execute_program(&mut bytes) {
                    Ok(read) => read,
                    // `bpf_probe_read_kernel`, which takes addresses.
                    Err(error) if error.to_string().ends_with("(id: 0x71)") => {
                        is_by_helper = true;
                        break;
                    }
                    Err(error) => panic!("{event} {field}: {error}"),
                };
                let mut word = [0; 8];
                word[..size].copy_from_slice(&bytes[offset..offset + size]);
                let unsigned = u64::from_le_bytes(word);
                let unused = 64 - 8 * size as u32;
                let signed = ((unsigned << unused) as i64 >> unused) as u64;
                assert!(
                    [unsigned, signed].contains(&read),
                    "{event} {field} on {}: {read:#x}, not {unsigned:#x} at {offset}",
                    root.display()
                );
            }
            match is_by_helper {
                true => by_helper += 1,
                false => checked += 1,
            }
        }
        let name = support::name(root);
        eprintln!("{name}: {checked} fields, and {by_helper} that a helper reads");
        assert!(checked > 100, "{checked} fields on {}", root.display());
    }
}
