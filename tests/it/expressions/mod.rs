//! Expressions of print fmts, evaluated with C's types: in the text of records and in
//! tables of names, on inputs made here and on all captured kernels.

mod kernels;
mod shapes;
mod types;

use tracepoints::format::Format;
use tracepoints::format::print::{FieldPrint, PrintFmt};
use tracepoints::text::Addresses;
use tracepoints::{ByteOrder, EventName, Machine, Record, Renderer};

const LITTLE: Machine = Machine::new(ByteOrder::Little, true);
const BIG_32: Machine = Machine::new(ByteOrder::Big, false);

/// The enumerators that the kernels of these tests know.
fn constant(name: &str) -> Option<i64> {
    match name {
        "KNOWN" => Some(4),
        "NEGATIVE" => Some(-2),
        _ => None,
    }
}

/// A format with a `u32`, an `int`, an array of `u16` and this print fmt.
fn format(print_fmt: &str) -> Format {
    let text = format!(
        "name: x\nID: 1\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
        \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:u32 flags;\toffset:8;\tsize:4;\tsigned:0;\n\
        \tfield:int kind;\toffset:12;\tsize:4;\tsigned:1;\n\
        \tfield:u16 words[3];\toffset:16;\tsize:6;\tsigned:0;\n\
        \nprint fmt: {print_fmt}\n"
    );
    Format::parse(&text).expect("a format")
}

fn renderer(format: &Format, machine: Machine) -> Renderer {
    let event: EventName = "a:x".parse().expect("a name");
    let renderer = Renderer::with_constants(&event, format, machine, &constant);
    renderer.expect("a print fmt")
}

/// The text of a record of pid 7 with these flags, this kind and the words 1, 2, 3.
fn text_on(machine: Machine, print_fmt: &str, flags: u32, kind: i32) -> String {
    let format = format(print_fmt);
    let mut bytes = vec![0; 4];
    let is_big = machine.byte_order() == ByteOrder::Big;
    for word in [7, flags, kind as u32] {
        bytes.extend(match is_big {
            true => word.to_be_bytes(),
            false => word.to_le_bytes(),
        });
    }
    for word in 1..4_u16 {
        bytes.extend(match is_big {
            true => word.to_be_bytes(),
            false => word.to_le_bytes(),
        });
    }
    let record = Record::new(&format, &bytes, machine);
    let mut text = String::new();
    renderer(&format, machine).render(&record, &Addresses::new(), &mut text);
    text
}

fn text(print_fmt: &str, flags: u32, kind: i32) -> String {
    text_on(LITTLE, print_fmt, flags, kind)
}

/// What the print fmt tells of a field, without knowing any enumerator.
fn told(print_fmt: &str, field: &str) -> FieldPrint {
    let print = PrintFmt::parse(print_fmt).expect("a print fmt");
    print.field(field)
}

/// Names with their values in hexadecimal.
fn names(told: &FieldPrint) -> String {
    let shown = told.names().map(|named| match named.value {
        Some(value) => format!("{}={value:#x}", named.name),
        None => format!("{}=?", named.name),
    });
    shown.collect::<Vec<_>>().join(" ")
}
