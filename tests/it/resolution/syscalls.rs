//! `syscalls:*`: the struct whose values have the offsets of `syscall_tp_t`.

use crate::support;
use crate::support::btf::{BtfWriter, TraceEntry};
use crate::support::capture::{COMMON, Capture, FieldLine};
use tracepoints::{
    Context, Evidence,
    context::{FormatReason, SyscallVariant},
};

const LAZY: FieldLine<'_> = ("unsigned char common_preempt_lazy_count", 8, 1);

/// The properties in which kernels differ, in bytes.
struct Machine {
    big_endian: bool,
    /// The size of a long and a pointer.
    word: u32,
    /// The size of `struct trace_entry`: 8, or 12 with `preempt_lazy_count`.
    entry: u32,
    /// The offsets of `args` in `trace_event_raw_sys_enter` and `syscall_trace_enter`.
    raw_args: u32,
    traced_args: u32,
    /// The offset of `args` in `syscall_tp_t`, and how that begins.
    tp_args: u32,
    variant: SyscallVariant,
    /// The offset of the first argument in the format file.
    record_args: u32,
}

impl Machine {
    fn capture(&self) -> Capture {
        let mut btf = BtfWriter::new(self.big_endian);
        let long = btf.int("long int", self.word, true);
        let unsigned = btf.int("long unsigned int", self.word, false);
        let TraceEntry {
            id: entry,
            int,
            byte,
            ..
        } = btf.trace_entry(self.entry);
        let void_pointer = btf.pointer(0);
        let args = btf.array(unsigned, 6);
        let flexible = btf.array(unsigned, 0);
        let data = btf.array(byte, 0);
        let size = |args: u32| args + 6 * self.word;
        for (side, value, value_type) in [("enter", "args", args), ("exit", "ret", long)] {
            let traced_type = if side == "enter" { flexible } else { long };
            btf.structure(
                &format!("trace_event_raw_sys_{side}"),
                size(self.raw_args),
                &[
                    ("ent", entry, 0),
                    ("id", long, self.raw_args - self.word),
                    (value, value_type, self.raw_args),
                    ("__data", data, size(self.raw_args)),
                ],
            );
            btf.structure(
                &format!("syscall_trace_{side}"),
                self.traced_args,
                &[
                    ("ent", entry, 0),
                    ("nr", int, self.entry),
                    (value, traced_type, self.traced_args),
                ],
            );
            let first = match self.variant {
                SyscallVariant::Registers => ("regs", void_pointer, 0),
                _ => ("ent", entry, 0),
            };
            let number = match self.variant {
                SyscallVariant::IntNumber => ("nr", int, self.entry),
                _ => ("nr", unsigned, self.tp_args - self.word),
            };
            btf.structure(
                "syscall_tp_t",
                size(self.tp_args),
                &[first, number, (value, value_type, self.tp_args)],
            );
        }
        let mut common = COMMON.to_vec();
        if self.entry == 12 {
            common.push(LAZY);
        }
        let (at, word) = (self.record_args, self.word);
        let mut capture = Capture::new();
        capture
            .event(
                "syscalls:sys_enter_unlinkat",
                &common,
                &[
                    ("int __syscall_nr", self.entry, 4),
                    ("int dfd", at, word),
                    ("const char * pathname", at + word, word),
                    ("int flag", at + 2 * word, word),
                    ("__data_loc char[] __pathname_val", at + 3 * word, 4),
                ],
            )
            .event(
                "syscalls:sys_exit_unlinkat",
                &common,
                &[("int __syscall_nr", self.entry, 4), ("long ret", at, word)],
            )
            .btf("vmlinux", &btf.bytes());
        capture
    }
}

/// A field's offset and size in the context, in bytes.
fn place(context: &Context, field: &str) -> Option<(u32, u32)> {
    let slot = context
        .slot_of(field)
        .expect("types that can be followed")?;
    Some((slot.offset(), slot.size()))
}

const ENTER: &str = "syscalls:sys_enter_unlinkat";
const EXIT: &str = "syscalls:sys_exit_unlinkat";

/// RHEL 9.3 (5.14.0-362): the format file has the arguments at 16, as the contexts of all
/// other kernels do, but this kernel's context has them at 24.
#[test]
fn rhel_9_3_gets_trace_event_raw_sys_enter() {
    let rhel = Machine {
        big_endian: false,
        word: 8,
        entry: 12,
        raw_args: 24,
        traced_args: 16,
        tp_args: 24,
        variant: SyscallVariant::LongNumber,
        record_args: 16,
    };
    let capture = rhel.capture();
    let context = capture.context(ENTER);
    assert_eq!(
        context.evidence(),
        &Evidence::Syscall(SyscallVariant::LongNumber)
    );
    assert_eq!(context.struct_name(), Some("trace_event_raw_sys_enter"));
    assert_eq!(context.class(), None);
    assert_eq!(place(&context, "dfd"), Some((24, 8)));
    assert_eq!(place(&context, "pathname"), Some((32, 8)));
    assert_eq!(place(&context, "__syscall_nr"), Some((16, 8)));
    assert_eq!(place(&context, "__pathname_val"), None);
    let exit = capture.context(EXIT);
    assert_eq!(exit.struct_name(), Some("trace_event_raw_sys_exit"));
    assert_eq!(place(&exit, "ret"), Some((24, 8)));
}

#[test]
fn where_no_struct_fits_none_is_named() {
    let odd = Machine {
        big_endian: false,
        word: 8,
        entry: 12,
        raw_args: 24,
        traced_args: 16,
        tp_args: 32,
        variant: SyscallVariant::LongNumber,
        record_args: 16,
    };
    let capture = odd.capture();
    for event in [ENTER, EXIT] {
        let context = capture.context(event);
        assert_eq!(
            context.evidence(),
            &Evidence::Syscall(SyscallVariant::LongNumber)
        );
        assert_eq!((context.struct_name(), context.class()), (None, None));
        assert_eq!(context.home(), Some("vmlinux"));
    }
    // The layout is that of `syscall_tp_t` itself.
    let context = capture.context(ENTER);
    assert_eq!(place(&context, "pathname"), Some((40, 8)));
    let layout = context.layout().expect("a layout");
    let slots: Vec<_> = layout
        .slots()
        .iter()
        .map(|slot| (slot.name(), slot.offset()))
        .collect();
    assert_eq!(slots, [("ent", 0), ("nr", 24), ("args", 32)]);
    assert_eq!(layout.size(), 80);
}

#[test]
fn rt_gets_syscall_trace_enter_but_for_its_number() {
    let rt = Machine {
        big_endian: false,
        word: 8,
        entry: 12,
        raw_args: 24,
        traced_args: 16,
        tp_args: 16,
        variant: SyscallVariant::Registers,
        record_args: 16,
    };
    let context = rt.capture().context(ENTER);
    assert_eq!(context.struct_name(), Some("syscall_trace_enter"));
    assert_eq!(place(&context, "pathname"), Some((24, 8)));
    // The struct has `nr` at 12, the context at 8.
    assert_eq!(place(&context, "__syscall_nr"), Some((8, 8)));
}

/// The context of a system call on a kernel whose `syscall_tp_t` is written by `members`,
/// which gets the ids of int and unsigned long.
fn context_of(members: impl Fn(&mut BtfWriter, u32, u32) -> u32) -> Context {
    let mut btf = BtfWriter::new(false);
    btf.int("long int", 8, true);
    let unsigned = btf.int("long unsigned int", 8, false);
    let int = btf.int("int", 4, true);
    members(&mut btf, int, unsigned);
    let mut capture = Capture::new();
    let own = [
        ("int __syscall_nr", 8, 4),
        ("int a", 16, 8),
        ("int b", 24, 8),
        ("int c", 32, 8),
    ];
    capture
        .event(ENTER, COMMON, &own)
        .btf("vmlinux", &btf.bytes());
    capture.context(ENTER)
}

#[test]
fn forms_of_syscall_tp_t_never_seen() {
    // The number is the member `nr`, wherever it is. Without one it is not known.
    let context = context_of(|btf, int, unsigned| {
        let args = btf.array(unsigned, 6);
        let members = [
            ("ent", unsigned, 0),
            ("flags", int, 8),
            ("nr", int, 12),
            ("args", args, 16),
        ];
        btf.structure("syscall_tp_t", 64, &members)
    });
    assert_eq!(place(&context, "__syscall_nr"), Some((12, 4)));
    let context = context_of(|btf, _, unsigned| {
        let args = btf.array(unsigned, 6);
        btf.structure(
            "syscall_tp_t",
            64,
            &[("ent", unsigned, 0), ("args", args, 16)],
        )
    });
    assert_eq!(
        context.evidence(),
        &Evidence::Syscall(SyscallVariant::Other)
    );
    assert_eq!(
        (place(&context, "__syscall_nr"), place(&context, "a")),
        (None, Some((16, 8)))
    );

    // Arguments that `args` has no room for have no place.
    let context = context_of(|btf, int, unsigned| {
        let args = btf.array(unsigned, 2);
        btf.structure(
            "syscall_tp_t",
            32,
            &[("ent", unsigned, 0), ("nr", int, 8), ("args", args, 16)],
        )
    });
    assert_eq!(
        (place(&context, "b"), place(&context, "c")),
        (Some((24, 8)), None)
    );

    // Neither have arguments beyond the largest offset.
    let context = context_of(|btf, int, unsigned| {
        let huge = btf.structure("huge", 1 << 31, &[]);
        let args = btf.array(huge, 6);
        btf.structure(
            "syscall_tp_t",
            32,
            &[("ent", unsigned, 0), ("nr", int, 8), ("args", args, 16)],
        )
    });
    assert_eq!(place(&context, "c"), None);

    // Two different ones prove nothing.
    let context = context_of(|btf, int, unsigned| {
        let args = btf.array(unsigned, 6);
        btf.structure(
            "syscall_tp_t",
            64,
            &[("ent", unsigned, 0), ("nr", int, 8), ("args", args, 16)],
        );
        btf.structure(
            "syscall_tp_t",
            72,
            &[("ent", unsigned, 0), ("nr", int, 8), ("args", args, 24)],
        )
    });
    assert_eq!(context.evidence().as_str(), "format");

    // A named struct must have arguments of the same size, not only at the same offset.
    let context = context_of(|btf, int, unsigned| {
        let args = btf.array(unsigned, 6);
        let ints = btf.array(int, 6);
        btf.structure(
            "syscall_trace_enter",
            40,
            &[("ent", unsigned, 0), ("args", ints, 16)],
        );
        btf.structure(
            "syscall_tp_t",
            64,
            &[("ent", unsigned, 0), ("nr", int, 8), ("args", args, 16)],
        )
    });
    assert_eq!(context.struct_name(), None);
}

#[test]
fn big_endian_and_32_bit() {
    let s390x = Machine {
        big_endian: true,
        word: 8,
        entry: 8,
        raw_args: 16,
        traced_args: 16,
        tp_args: 16,
        variant: SyscallVariant::IntNumber,
        record_args: 16,
    };
    let context = s390x.capture().context(ENTER);
    assert_eq!(context.struct_name(), Some("trace_event_raw_sys_enter"));
    assert_eq!(place(&context, "__syscall_nr"), Some((8, 4)));
    assert_eq!(place(&context, "flag"), Some((32, 8)));

    for big_endian in [false, true] {
        let arm = Machine {
            big_endian,
            word: 4,
            entry: 8,
            raw_args: 12,
            traced_args: 12,
            tp_args: 12,
            variant: SyscallVariant::IntNumber,
            record_args: 12,
        };
        let context = arm.capture().context(ENTER);
        assert_eq!(context.struct_name(), Some("trace_event_raw_sys_enter"));
        assert_eq!(place(&context, "pathname"), Some((16, 4)));
        assert_eq!(place(&context, "flag"), Some((20, 4)));
    }
}

#[test]
fn on_captured_kernels() {
    for (kernel, name, variant) in [
        (
            "5.10.223-x86_64",
            "trace_event_raw_sys_enter",
            SyscallVariant::Registers,
        ),
        (
            "6.1.192-rt-x86_64",
            "syscall_trace_enter",
            SyscallVariant::Registers,
        ),
        (
            "6.12.107-s390x",
            "trace_event_raw_sys_enter",
            SyscallVariant::IntNumber,
        ),
        (
            "6.18.15-x86_64",
            "trace_event_raw_sys_enter",
            SyscallVariant::IntNumber,
        ),
        (
            "7.3.4-x86_64",
            "trace_event_raw_sys_enter",
            SyscallVariant::IntNumber,
        ),
    ] {
        let kernel = support::kernel(kernel);
        let context = support::context(&kernel, ENTER).expect("a context");
        assert_eq!(context.struct_name(), Some(name));
        assert_eq!(context.evidence(), &Evidence::Syscall(variant));
        assert_eq!(place(&context, "pathname"), Some((24, 8)));
        assert_eq!(place(&context, "__pathname_val"), None);
        assert_eq!(place(&context, "common_pid"), None);
    }
}

#[test]
fn without_btf_the_record_is_all_there_is() {
    let kernel = support::kernel("6.1.176-i686");
    let context = support::context(&kernel, ENTER).expect("a context");
    assert_eq!(context.evidence(), &Evidence::Format(FormatReason::NoBtf));
    assert_eq!(
        (context.struct_name(), context.home(), context.type_id()),
        (None, None, None)
    );
    assert_eq!(place(&context, "pathname"), Some((16, 4)));
    // On RT kernels its offset is not the record's.
    assert_eq!(place(&context, "__syscall_nr"), None);

    // Only the record has the strings of Linux 6.19 and later.
    let mut capture = Capture::new();
    let own = [
        ("int __syscall_nr", 8, 4),
        ("char * a", 16, 8),
        ("__data_loc char[] __a_val", 24, 4),
    ];
    capture.event(ENTER, COMMON, &own);
    let context = capture.context(ENTER);
    assert_eq!(
        (place(&context, "a"), place(&context, "__a_val")),
        (Some((16, 8)), None)
    );
}
