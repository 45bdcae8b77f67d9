//! Tables of captured kernels: what a print fmt tells of a field is what a record with that
//! value prints.

use std::path::Path;

use crate::support;
use tracepoints::format::Format;
use tracepoints::format::print::{Expression, FieldPrint};
use tracepoints::text::Addresses;
use tracepoints::{ByteOrder, Kernel, Record, Tracepoint};

/// Calls `act` with each call of a helper in an expression.
fn calls<'e>(expression: &'e Expression, act: &mut impl FnMut(&'e str, &'e [Expression])) {
    match expression {
        Expression::Call(function, arguments) => {
            act(function, arguments);
            arguments.iter().for_each(|argument| calls(argument, act));
        }
        Expression::Unary(_, one) | Expression::Cast(_, one) => calls(one, act),
        Expression::Binary(_, left, right) => {
            calls(left, act);
            calls(right, act);
        }
        Expression::Conditional {
            condition,
            then,
            otherwise,
        } => {
            calls(condition, act);
            then.iter().for_each(|then| calls(then, act));
            calls(otherwise, act);
        }
        _ => {}
    }
}

/// What the kernel prints of a value, by the names that the print fmt tells.
fn expected(told: &FieldPrint, value: u64, delimiter: &str, is_flags: bool, mask: u64) -> String {
    if !is_flags {
        let first = told.symbols.iter().find(|named| {
            let known = named.value.map(|value| value & mask);
            known.is_none_or(|known| known == value & mask)
        });
        return match first {
            Some(named) if named.value.is_some() => named.name.clone(),
            Some(_) => format!("<{:#x}>", value & mask),
            None => format!("{:#x}", value & mask),
        };
    }
    let (mut left, mut names) = (value & mask, Vec::new());
    for named in &told.flags {
        if left == 0 {
            break;
        }
        let Some(flag) = named.value.map(|flag| flag & mask) else {
            return format!("<{:#x}>", value & mask);
        };
        if left & flag == flag {
            left &= !flag;
            names.push(named.name.clone());
        }
    }
    if left != 0 {
        names.push(format!("{left:#x}"));
    }
    names.join(delimiter)
}

/// Compares all names of a field with what records with their values print; returns how
/// many.
fn compare(kernel: &Kernel, event: &Tracepoint, function: &str, arguments: &[Expression]) -> usize {
    let Some(Expression::Field(field)) = arguments.first() else {
        return 0;
    };
    let machine = kernel.machine().expect("a machine");
    let told = event.field_print(field).expect("a print fmt");
    let is_flags = function.starts_with("__print_flags");
    let names = if is_flags { &told.flags } else { &told.symbols };
    let delimiter = match arguments.get(1) {
        Some(Expression::String(literal)) => literal.text(),
        _ => String::new(),
    };
    let arguments: Vec<String> = arguments.iter().map(Expression::to_string).collect();
    let print_fmt = format!("\"%s\", {function}({})", arguments.join(", "));
    let file = event.format().to_string();
    let (fields, _) = file.split_once("print fmt: ").expect("a print fmt");
    let format = Format::parse(&format!("{fields}print fmt: {print_fmt}\n")).expect("a format");
    let Some(field) = format.field(field) else {
        return 0;
    };
    let mask = match machine.long_size() == 4 && !function.ends_with("_u64") {
        true => u64::from(u32::MAX),
        false => u64::MAX,
    };
    let renderer = kernel.renderer(event.name(), &format, machine);
    let renderer = renderer.expect("a print fmt");
    let (start, end) = (
        field.offset() as usize,
        (field.offset() + field.size()) as usize,
    );
    let mut compared = 0;
    for value in names.iter().filter_map(|named| named.value) {
        let mut bytes = vec![0; end.max(64)];
        let size = field.size().min(8) as usize;
        match machine.byte_order() {
            ByteOrder::Big => bytes[start..end].copy_from_slice(&value.to_be_bytes()[8 - size..]),
            _ => bytes[start..end].copy_from_slice(&value.to_le_bytes()[..size]),
        }
        let record = Record::new(&format, &bytes, machine);
        let held = record.value(field).expect("a value").integer();
        let Some(held) = held else { continue };
        let mut text = String::new();
        renderer.render(&record, &Addresses::new(), &mut text);
        let expected = expected(&told, held as u64, &delimiter, is_flags, mask);
        let named = format!("{} {print_fmt} {value:#x}", event.name());
        assert_eq!(text, expected, "{}: {named}", kernel.tracefs().display());
        compared += 1;
    }
    compared
}

fn check(root: &Path) -> usize {
    let mut kernel = Kernel::at(root).expect("a kernel");
    if kernel.machine().is_err() {
        kernel = kernel.with_byte_order(ByteOrder::Little);
    }
    let mut compared = 0;
    for name in &kernel.events().expect("events") {
        // By code, whatever the print fmt says.
        if matches!(name.category(), "syscalls" | "synthetic" | "ftrace") {
            continue;
        }
        let event = kernel.tracepoint(name).expect("an event");
        let print = event.format().print().expect("a print fmt");
        let mut seen: Vec<(bool, String)> = Vec::new();
        for argument in print.arguments() {
            calls(argument, &mut |function, arguments| {
                let is_flags = function.starts_with("__print_flags");
                if !is_flags && !function.starts_with("__print_symbolic") {
                    return;
                }
                let subject = arguments.first().map(Expression::to_string);
                let subject = subject.unwrap_or_default();
                // A field is told by its first table alone.
                let is_first = |(of_flags, other): &(bool, String)| {
                    *of_flags != is_flags || !other.contains(&subject)
                };
                if seen.iter().all(is_first) {
                    compared += compare(&kernel, &event, function, arguments);
                }
                seen.push((is_flags, subject));
            });
        }
    }
    compared
}

#[test]
fn tables_say_what_records_print() {
    let compared: usize = support::fixtures().iter().map(|root| check(root)).sum();
    assert!(compared > 500, "{compared}");
}

#[test]
fn tables_say_what_records_print_on_whole_kernels() {
    for root in support::corpus() {
        println!("{}: {} names", support::name(&root), check(&root));
    }
}
