//! Events the kernel prints by code of its own, whatever their print fmts say: those of
//! ftrace's own, probes' and synthetic ones.

mod any_bytes;
mod dynamic;
mod ftrace;
mod kernel;

use crate::support::page::number;
use tracepoints::format::Format;
use tracepoints::text::{Addresses, FlagColumns, TaskNames, TraceContext, TraceStyle};
use tracepoints::{ByteOrder, EventName, Machine, Record, Renderer};

const LITTLE: Machine = Machine::new(ByteOrder::Little, true);
const BIG: Machine = Machine::new(ByteOrder::Big, true);
const SMALL: Machine = Machine::new(ByteOrder::Little, false);

const KALLSYMS: &str = "\
ffffffff81000000 T schedule
ffffffff81000100 T caller
ffffffff81000180 T _etext
ffffffff81000200 t inner\t[module]
ffffffff810002c0 t other\t[module]
ffffffff81000300 t arch_rethook_trampoline
ffffffff81000400 T end
";

/// A format file: own fields as declarations with offsets and sizes.
fn format(name: &str, fields: &[(&str, u32, u32)], print_fmt: &str) -> Format {
    let line = |(declaration, offset, size): &(&str, u32, u32)| {
        let signed = u8::from(declaration.starts_with(['i', 's']));
        format!("\tfield:{declaration};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n")
    };
    let own: String = fields.iter().map(line).collect();
    let text = format!(
        "name: {name}\nID: 1\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
        \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        {own}\nprint fmt: {print_fmt}\n"
    );
    Format::parse(&text).expect("a format")
}

/// A record as it is written: the common fields, then more bytes.
struct Bytes(Machine, Vec<u8>);

impl Bytes {
    fn new(machine: Machine) -> Self {
        let mut bytes = Self(machine, Vec::new());
        bytes.number(1, 2).number(0, 2).number(7, 4);
        bytes
    }

    fn number(&mut self, value: u64, size: usize) -> &mut Self {
        let bytes = number(self.0, value as i64, size as u32);
        self.1.extend(bytes);
        self
    }

    fn words(&mut self, words: &[u64]) -> &mut Self {
        let size = self.0.long_size() as usize;
        words.iter().for_each(|word| {
            self.number(*word, size);
        });
        self
    }

    fn text(&mut self, text: &[u8]) -> &mut Self {
        self.1.extend(text);
        self
    }
}

/// The line of a record after its context, which has to be that of pid 7.
fn text_with(
    name: &str,
    format: &Format,
    bytes: &Bytes,
    style: TraceStyle,
    prepare: impl Fn(Renderer) -> Renderer,
) -> String {
    let name: EventName = name.parse().expect("a name");
    let machine = bytes.0;
    let renderer = prepare(Renderer::new(&name, format, machine).expect("a print fmt"));
    let record = Record::new(format, &bytes.1, machine);
    let names = TaskNames::parse("7 cat\n8 dog\n");
    let context = TraceContext::new(&record, 1, 5_000_000_000, &names, style).expect("whole");
    let addresses = Addresses::new()
        .with_kallsyms(KALLSYMS)
        .with_printk_formats("0xffffffff82000000 : \"n=%d \\\"%s\\\"\\n\"\n");
    let mut line = Vec::new();
    let written = renderer.write_line(&record, &context, &addresses, &mut line);
    written.expect("a whole record");
    let line = String::from_utf8(line).expect("text");
    let context = context.to_string();
    line.strip_prefix(&context).unwrap_or(&line).to_owned()
}

fn text(name: &str, format: &Format, bytes: &Bytes) -> String {
    let style = TraceStyle::new(FlagColumns::Five);
    text_with(name, format, bytes, style, |renderer| renderer)
}

const SCHEDULE: u64 = 0xffff_ffff_8100_0000;
const CALLER: u64 = 0xffff_ffff_8100_0100;
const INNER: u64 = 0xffff_ffff_8100_0200;
const RETHOOK: u64 = 0xffff_ffff_8100_0300;
