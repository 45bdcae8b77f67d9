//! The types of a 32-bit kernel, emitted for programs on a 64-bit machine.

use std::fs;

use crate::support;
use crate::support::btf::{BtfWriter, TraceEntry};
use crate::support::capture::{COMMON, Capture};
use crate::support::compilers::{compile_c, compile_rust, has, libbpf};
use tracepoints::emit::{CHeader, COptions, RustModule, skeleton_c};

/// A 32-bit kernel with BTF. Its `long` and pointers have 4 bytes where a BPF program's
/// have 8, and its `u64` has another alignment.
fn kernel_of_32_bits(big_endian: bool) -> Capture {
    let mut btf = BtfWriter::new(big_endian);
    let long = btf.int("long int", 4, true);
    let unsigned_long = btf.int("long unsigned int", 4, false);
    let TraceEntry { id: entry, int, .. } = btf.trace_entry(8);
    let char = btf.int("char", 1, true);
    let long_long = btf.int("long long unsigned int", 8, false);
    let u64 = btf.typedef("u64", long_long);
    let void_pointer = btf.pointer(0);
    let const_char = btf.constant(char);
    let text = btf.pointer(const_char);
    let pointer_typedef = btf.typedef("handle_t", void_pointer);
    let long_typedef = btf.typedef("old_off_t", unsigned_long);
    let longs = btf.array(unsigned_long, 2);
    let pointers = btf.array(void_pointer, 2);
    let task = btf.structure("list", 0, &[]);
    let task_pointer = btf.pointer(task);
    let const_pointer = btf.constant(task_pointer);
    let callback = btf.prototype_returning(int, &[void_pointer]);
    let callback = btf.pointer(callback);
    let nested = btf.structure("nested", 8, &[("next", task_pointer, 0), ("when", long, 4)]);
    let data = btf.array(char, 0);
    let own = [
        ("a", unsigned_long, "unsigned long a", 4),
        ("b", u64, "u64 b", 8),
        ("c", text, "const char * c", 4),
        ("d", pointer_typedef, "handle_t d", 4),
        ("e", long_typedef, "old_off_t e", 4),
        ("f", longs, "unsigned long f[2]", 8),
        ("g", pointers, "void * g[2]", 8),
        ("h", nested, "struct nested h", 8),
        ("i", const_pointer, "struct list *const i", 4),
        ("j", callback, "callback_t j", 4),
        ("k", long, "long k", 4),
    ];
    let mut members = vec![("ent", entry, 0)];
    let mut fields = Vec::new();
    let mut at = 8;
    for (name, ty, declaration, size) in own {
        members.push((name, ty, at));
        fields.push((declaration, at, size));
        at += size;
    }
    members.push(("__data", data, at));
    btf.event_class("event", at, &members, &[void_pointer]);
    btf.event("event", &[void_pointer]);
    let mut capture = Capture::new();
    capture
        .event("x:event", COMMON, &fields)
        .btf("vmlinux", &btf.bytes());
    capture
}

#[test]
fn a_32_bit_kernels_types_have_its_sizes_in_a_program() {
    let dir = tempfile::tempdir().expect("a directory");
    for (big_endian, targets) in [
        (false, ["bpf", "i686-linux-gnu", "armv7-linux-gnueabi"]),
        (true, ["bpfeb", "mips-linux-gnu", "powerpc-linux-gnu"]),
    ] {
        let capture = kernel_of_32_bits(big_endian);
        let kernel = capture.kernel();
        let event = kernel.tracepoint("x:event").expect("an event");
        let context = event.context().expect("a context");
        assert_eq!(context.struct_name(), Some("trace_event_raw_event"));
        let mut header = CHeader::new(COptions::default().assertions(true));
        header.add(&event).expect("C");
        let mut module = RustModule::new();
        module.add(&event).expect("Rust");
        let text = format!("{header}\n{module}");
        insta::assert_snapshot!("types_of_a_32_bit_kernel", text);

        let file = dir.path().join("program.c");
        fs::write(&file, skeleton_c(&event).expect("a program")).expect("a file");
        if let Some(include) = libbpf() {
            let target = format!("--target={}", targets[0]);
            compile_c(&["-O2", &target, &include], &file);
        }
        let file = dir.path().join("header.c");
        fs::write(&file, header.to_string()).expect("a file");
        if has("clang") {
            for target in targets {
                let target = format!("--target={target}");
                compile_c(&["-std=gnu11", &target], &file);
            }
        } else {
            support::skip("there is no clang to compile C");
        }
        let file = dir.path().join("module.rs");
        fs::write(&file, module.to_string()).expect("a file");
        compile_rust(&file);
    }
}
