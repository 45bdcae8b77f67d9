//! Laws that hold for any kernel, tested on random kernels.
//!
//! Failing cases that were found are in `tests/proptest-regressions`, and run first.

mod classes;
mod emitted;
mod format_files;
mod layouts;

use proptest::prelude::*;
use proptest::sample::Index;

/// A field's line in a format file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    declaration: String,
    offset: u32,
    size: u32,
    signed: Option<bool>,
}

impl Line {
    fn text(&self) -> String {
        let Self {
            declaration,
            offset,
            size,
            signed,
        } = self;
        let signed = signed.map(|signed| format!("\tsigned:{};", u8::from(signed)));
        let signed = signed.unwrap_or_default();
        format!("\tfield:{declaration};\toffset:{offset};\tsize:{size};{signed}\n")
    }

    fn of(field: &tracepoints::format::Field) -> Self {
        Self {
            declaration: field.declaration().text().to_owned(),
            offset: field.offset(),
            size: field.size(),
            signed: field.signed(),
        }
    }
}

fn format_text(name: &str, common: &[Line], own: &[Line], print_fmt: &str) -> String {
    let lines = |lines: &[Line]| lines.iter().map(Line::text).collect::<String>();
    format!(
        "name: {name}\nID: 7\nformat:\n{}\n{}\nprint fmt: {print_fmt}\n",
        lines(common),
        lines(own)
    )
}

/// The size of a type, in bytes or in the machine's longs.
#[derive(Clone, Copy)]
enum Size {
    Bytes(u32),
    Longs(u32),
}

use Size::{Bytes, Longs};

/// Declarations as in format files, with `@` for the field's name.
const TYPES: [(&str, Size); 24] = [
    ("u8 @", Bytes(1)),
    ("bool @", Bytes(1)),
    ("unsigned char @", Bytes(1)),
    ("unsigned short @", Bytes(2)),
    ("__be16 @", Bytes(2)),
    ("int @", Bytes(4)),
    ("pid_t @", Bytes(4)),
    ("enum zone_type @", Bytes(4)),
    ("u64 @", Bytes(8)),
    ("sector_t @", Bytes(8)),
    ("unsigned long @", Longs(1)),
    ("const void * @", Longs(1)),
    ("const char *const @", Longs(1)),
    ("unsigned long @[2]", Longs(2)),
    ("char @[16]", Bytes(16)),
    ("char @[TASK_COMM_LEN]", Bytes(16)),
    ("__u8 @[6]", Bytes(6)),
    ("u32 @[(sizeof(struct x) / 4)]", Bytes(12)),
    ("struct irb @", Bytes(20)),
    ("uuid_t @", Bytes(16)),
    ("__data_loc char[] @", Bytes(4)),
    ("__data_loc cpumask_t @", Bytes(4)),
    ("__rel_loc u32 @[]", Bytes(4)),
    (
        "const char __attribute__((btf_type_tag(\"user\"))) * @",
        Longs(1),
    ),
];

impl Size {
    fn on(self, long: u32) -> u32 {
        match self {
            Bytes(bytes) => bytes,
            Longs(count) => count * long,
        }
    }
}

/// The name of a field: unique, and for some fields a keyword of Rust.
fn name(index: usize) -> String {
    match ["type", "self", "match", "r", "move", "_"].get(index) {
        Some(&"_") | None => format!("field_{index}"),
        Some(name) => (*name).to_owned(),
    }
}

/// A field to generate: its type, the free bytes before it, and its sign.
type Sketch = (Index, u32, Option<bool>);

fn sketches() -> impl Strategy<Value = Vec<Sketch>> {
    let gap = prop_oneof![4 => Just(0), 1 => 1..9_u32, 1 => Just(8)];
    let signed = prop_oneof![Just(None), any::<bool>().prop_map(Some)];
    prop::collection::vec((any::<Index>(), gap, signed), 0..12)
}

fn common(entry: u32) -> Vec<Line> {
    let mut places = vec![
        ("unsigned short common_type", 0, 2),
        ("unsigned char common_flags", 2, 1),
        ("unsigned char common_preempt_count", 3, 1),
        ("int common_pid", 4, 4),
    ];
    if entry == 12 {
        places.push(("unsigned char common_preempt_lazy_count", 8, 1));
    }
    let line = |(declaration, offset, size): (&str, u32, u32)| Line {
        declaration: declaration.to_owned(),
        offset,
        size,
        signed: Some(declaration.starts_with("int")),
    };
    places.into_iter().map(line).collect()
}

/// The fields of a record, in order.
fn lines(sketches: &[Sketch], entry: u32, long: u32) -> Vec<Line> {
    let mut at = entry;
    let line = |(index, (ty, gap, signed)): (usize, &Sketch)| {
        let (declaration, size) = ty.get(&TYPES);
        let size = size.on(long);
        let offset = at + gap;
        at = offset + size;
        Line {
            declaration: declaration.replace('@', &name(index)),
            offset,
            size,
            signed: *signed,
        }
    };
    sketches.iter().enumerate().map(line).collect()
}
