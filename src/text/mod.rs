//! Records as the kernel prints them.

mod addresses;
mod binary_printf;
mod flags;
mod ftrace;
mod line;
mod number;
mod output;
mod pointer;
mod probe_event;
mod scene;
mod synthetic;
mod syscall;
mod tasks;
mod version;

pub use addresses::{Addresses, KernelSymbol};
pub use flags::FlagColumns;
pub use line::{TraceClock, TraceContext, TraceStyle};
pub(crate) use synthetic::GfpFlags;
pub use syscall::{SyscallStyle, SyscallText};
pub use tasks::TaskNames;
pub use version::{KernelVersion, KernelVersionError};

use crate::format::Format;
use crate::format::print::eval::{CValue, Compiler, Node, Printed, Scope};
use crate::format::print::{Conversion, Count, Expression, Length, Piece, PrintFmtError, pieces};
use crate::machine::{Machine, sign_extended, zero_extended};
use crate::name::EventName;
use crate::record::{Record, RecordError};
use ftrace::FtraceEvent;
use number::{PrintfSpec, WIDEST, write};
use output::Output;
use probe_event::ProbeEventText;
use scene::Scene;
use synthetic::SyntheticText;
use syscall::SyscallPrint;

/// Prints one event's records as the kernel's `trace` file does: its print fmt,
/// made ready once.
///
/// What cannot be told from the record alone is printed in `<…>`: helpers only a
/// driver can evaluate (`<nvme_trace_disk_name(…)>`), numbers that an enumerator of
/// unknown value may name (`<0x9>`), and data that are not where the record says. A `%p`, of which the kernel prints a hash, is the true address
/// after `0x`; `%px` is without it. Functions and strings of the kernel are names if
/// [`Addresses`] knows them.
///
/// `syscalls:*` have no use for their print fmt: see [`SyscallText`].
///
/// ```
/// use tracepoints::{Kernel, Machine, Record, Renderer, text::Addresses};
///
/// let kernel = Kernel::at("tests/fixtures/6.18.15-x86_64")?;
/// let exec = kernel.tracepoint("sched:sched_process_exec")?;
/// let machine = kernel.machine()?;
/// let renderer = Renderer::new(exec.name(), exec.format(), machine)?;
/// let mut bytes = vec![0, 0, 0, 0, 7, 0, 0, 0, 20, 0, 8, 0, 7, 0, 0, 0, 7, 0, 0, 0];
/// bytes.extend(b"/bin/rm\0");
/// let mut text = String::new();
/// renderer.render(&Record::new(exec.format(), &bytes, machine), &Addresses::new(), &mut text);
/// assert_eq!(text, "filename=/bin/rm pid=7 old_pid=7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Renderer {
    event: EventName,
    machine: Machine,
    version: Option<KernelVersion>,
    style: Style,
}

#[derive(Clone, Debug)]
enum Style {
    PrintFmt(Vec<Step>),
    /// By code of the kernel's, whatever the print fmt says.
    Syscall(SyscallStyle, SyscallPrint),
    Ftrace(FtraceEvent),
    Synthetic(SyntheticText),
    Probe(ProbeEventText),
}

/// A part of what is printed.
#[derive(Clone, Debug)]
enum Step {
    Text(String),
    Value {
        conversion: Conversion,
        width: Option<Node>,
        precision: Option<Node>,
        value: Node,
    },
}

impl Renderer {
    /// Makes an event's print fmt ready.
    ///
    /// # Errors
    ///
    /// [`PrintFmtError`] where it is not understood.
    pub fn new(
        event: &EventName,
        format: &Format,
        machine: Machine,
    ) -> Result<Self, PrintFmtError> {
        Self::with_constants(event, format, machine, &|_| None)
    }

    /// The same, with the values of the enumerators the kernel left in the print fmt
    /// by name. [`Kernel::renderer`](crate::Kernel::renderer) knows them from BTF.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_constants(
        event: &EventName,
        format: &Format,
        machine: Machine,
        constants: &dyn Fn(&str) -> Option<i64>,
    ) -> Result<Self, PrintFmtError> {
        let compiler = Compiler {
            format: Some(format),
            machine,
            constants,
        };
        let style = if format.syscall_side(event).is_some() {
            Style::Syscall(SyscallStyle::default(), SyscallPrint::of(format))
        } else if let Some(own) = FtraceEvent::of(event, format) {
            Style::Ftrace(own)
        } else if let Some(synthetic) = SyntheticText::of(event, format) {
            Style::Synthetic(synthetic)
        } else if let Some(probe) = ProbeEventText::of(event, format, &compiler)? {
            Style::Probe(probe)
        } else {
            Style::PrintFmt(steps(format, &compiler)?)
        };
        Ok(Self {
            event: event.clone(),
            machine,
            version: None,
            style,
        })
    }

    /// As a kernel of this version prints: before Linux 6.18 system calls'
    /// arguments have no `0x`, before 4.14 tasks' states have other letters.
    #[must_use]
    pub fn with_version(mut self, version: KernelVersion) -> Self {
        self.version = Some(version);
        self.with_syscall_style(SyscallStyle::of_version(version))
    }

    /// With system calls' arguments in this style.
    #[must_use]
    pub fn with_syscall_style(mut self, style: SyscallStyle) -> Self {
        if let Style::Syscall(known, _) = &mut self.style {
            *known = style;
        }
        self
    }

    /// With what tracefs' `dynamic_events` says of events made at run time: which
    /// event a probe of one is attached to, and whether a probe is in the kernel.
    #[must_use]
    pub fn with_dynamic_events(mut self, dynamic_events: &str) -> Self {
        if let Style::Probe(probe) = &mut self.style {
            probe.find_in(dynamic_events, &self.event);
        }
        self
    }

    /// Whether it prints a `gfp_t` by names, which are not in the event's format.
    pub(crate) fn needs_gfp_flags(&self) -> bool {
        matches!(&self.style, Style::Synthetic(synthetic) if synthetic.has_gfp())
    }

    pub(crate) fn with_gfp_flags(mut self, flags: GfpFlags) -> Self {
        if let Style::Synthetic(synthetic) = &mut self.style {
            synthetic.set_gfp_flags(flags);
        }
        self
    }

    /// Whether it is a probe's or a system call's text, which depends on more than
    /// the format.
    pub(crate) fn is_probe(&self) -> bool {
        matches!(self.style, Style::Probe(_))
    }

    pub(crate) fn is_syscall(&self) -> bool {
        matches!(self.style, Style::Syscall(..))
    }

    /// What of the print fmt cannot be evaluated, as it is written there: it is
    /// printed in `<…>`. Of a table it is an entry (`{ REL, "REL" }`), whose value may be
    /// any: then what the table names may be a number in `<…>`.
    pub fn unknown(&self) -> Vec<&str> {
        let mut unknown = Vec::new();
        let steps: Vec<&Step> = match &self.style {
            Style::PrintFmt(steps) => steps.iter().collect(),
            Style::Probe(probe) => probe.steps().collect(),
            _ => Vec::new(),
        };
        for step in steps {
            if let Step::Value {
                width,
                precision,
                value,
                ..
            } = step
            {
                let nodes = width.iter().chain(precision).chain([value]);
                nodes.for_each(|node| node.collect_unknown(&mut unknown));
            }
        }
        unknown
    }

    /// Appends a record's text. The record has to be of the format and the machine
    /// the renderer was made for.
    ///
    /// What is not UTF-8 is replaced; [`render_bytes`](Self::render_bytes) keeps it.
    pub fn render(&self, record: &Record<'_>, addresses: &Addresses, out: &mut String) {
        let mut bytes = Vec::with_capacity(256);
        self.render_bytes(record, addresses, &mut bytes);
        out.push_str(&String::from_utf8_lossy(&bytes));
    }

    /// Appends a record's text as the kernel prints it, byte for byte: names of
    /// processes and files need not be UTF-8.
    pub fn render_bytes(&self, record: &Record<'_>, addresses: &Addresses, out: &mut Vec<u8>) {
        let mut text = Output::after(std::mem::take(out));
        let scene = Scene {
            addresses,
            context: None,
            version: self.version,
        };
        if let Err(error) = self.write(record, &scene, &mut text) {
            write(&mut text, format_args!("<{error}>"));
        }
        *out = text.into_bytes();
    }

    /// Appends a record's whole line as `trace` has it, with the newline, byte for byte.
    /// Events of ftrace's own and system calls have no name before their text, and the
    /// tracer `mmiotrace` has no [`TraceContext`] before its lines.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if the record is too short for its fields; then nothing is
    /// appended.
    pub fn write_line(
        &self,
        record: &Record<'_>,
        context: &TraceContext<'_>,
        addresses: &Addresses,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        self.check(record)?;
        let start = out.len();
        let mut text = Output::after(std::mem::take(out));
        if !matches!(&self.style, Style::Ftrace(event) if event.is_whole_line()) {
            context.write(&mut text);
        }
        if self.has_name() {
            text.push_str(self.event.event());
            text.push_str(if context.is_remote() { " " } else { ": " });
        }
        let scene = Scene {
            addresses,
            context: Some(context),
            version: self.version,
        };
        let written = self.write(record, &scene, &mut text);
        if context.is_remote() {
            // Of events without fields nothing follows the name.
            text.trim_spaces();
        }
        text.push('\n');
        *out = text.into_bytes();
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    /// [`render`](Self::render), where and when the record was written being known:
    /// some of ftrace's own events show times and the names of other processes.
    pub fn render_in(
        &self,
        record: &Record<'_>,
        context: &TraceContext<'_>,
        addresses: &Addresses,
        out: &mut String,
    ) {
        let scene = Scene {
            addresses,
            context: Some(context),
            version: self.version,
        };
        let mut text = Output::default();
        if let Err(error) = self.write(record, &scene, &mut text) {
            write(&mut text, format_args!("<{error}>"));
        }
        out.push_str(&String::from_utf8_lossy(&text.into_bytes()));
    }

    /// Whether `trace` has the event's name before the text.
    pub fn has_name(&self) -> bool {
        !matches!(self.style, Style::Syscall(..) | Style::Ftrace(_))
    }

    /// Whether the record has all that is printed. What is cut would otherwise be
    /// printed in `<…>`.
    ///
    /// # Errors
    ///
    /// [`RecordError`]
    pub fn check(&self, record: &Record<'_>) -> Result<(), RecordError> {
        // Their last fields are as long as there is data, whatever the format says.
        if !matches!(self.style, Style::Ftrace(_)) {
            for field in record.format().fields() {
                record.data(field)?;
            }
        }
        Ok(())
    }

    fn write(
        &self,
        record: &Record<'_>,
        scene: &Scene<'_>,
        out: &mut Output,
    ) -> Result<(), RecordError> {
        let scope = Scope {
            bytes: record.bytes(),
            machine: self.machine,
        };
        let printer = Printer {
            scope,
            addresses: scene.addresses,
        };
        match &self.style {
            Style::PrintFmt(steps) => {
                printer.steps(steps, out);
                Ok(())
            }
            Style::Syscall(style, print) => {
                if let Some(text) = SyscallText::new(&self.event, *record)? {
                    text.with_style(*style).write(print, out);
                }
                Ok(())
            }
            Style::Ftrace(event) => event.write(record, scene, out),
            Style::Synthetic(text) => text.write(record, scene, out),
            Style::Probe(text) => text.write(record, scene, &printer, out),
        }
    }
}

fn steps(format: &Format, compiler: &Compiler<'_>) -> Result<Vec<Step>, PrintFmtError> {
    let print = format.print()?;
    let pieces = pieces(&print.format().text());
    Ok(steps_of(compiler, pieces, print.arguments()))
}

fn steps_of(compiler: &Compiler<'_>, pieces: Vec<Piece>, arguments: &[Expression]) -> Vec<Step> {
    let mut arguments = arguments.iter();
    let mut next = || match arguments.next() {
        Some(argument) => compiler.node(argument),
        None => Node::Unknown("missing".to_owned()),
    };
    let steps = pieces.into_iter().map(|piece| match piece {
        Piece::Text(text) => Step::Text(text),
        Piece::Conversion(conversion) => {
            let width = (conversion.width == Some(Count::Argument)).then(&mut next);
            let precision = (conversion.precision == Some(Count::Argument)).then(&mut next);
            Step::Value {
                width,
                precision,
                value: next(),
                conversion,
            }
        }
    });
    steps.collect()
}

/// What is at hand when a record is printed.
struct Printer<'a> {
    scope: Scope<'a>,
    addresses: &'a Addresses,
}

impl Printer<'_> {
    fn steps(&self, steps: &[Step], out: &mut Output) {
        for step in steps {
            match step {
                Step::Text(text) => out.push_str(text),
                Step::Value {
                    conversion,
                    width,
                    precision,
                    value,
                } => {
                    self.value(conversion, width.as_ref(), precision.as_ref(), value, out);
                }
            }
        }
    }

    fn unknown(&self, value: CValue<'_>, out: &mut Output) {
        match value {
            CValue::Unknown(text) => write(out, format_args!("<{text}>")),
            _ => out.push_str("<of another type>"),
        }
    }

    fn value(
        &self,
        conversion: &Conversion,
        width: Option<&Node>,
        precision: Option<&Node>,
        node: &Node,
        out: &mut Output,
    ) {
        let mut layout = PrintfSpec {
            left: conversion.left,
            plus: conversion.plus,
            space: conversion.space,
            alternate: conversion.alternate,
            zero: conversion.zero,
            ..PrintfSpec::default()
        };
        if let Some(Count::Is(width)) = conversion.width {
            layout.width = width;
        }
        if let Some(Count::Is(precision)) = conversion.precision {
            layout.precision = Some(precision);
        }
        // A negative width is that width to the left, a negative precision none.
        if let Some(CValue::Integer { bits, .. }) = width.map(|node| node.evaluate(&self.scope)) {
            layout.left |= (bits as i32) < 0;
            layout.width = (bits as i32).unsigned_abs() as usize;
        }
        if let Some(CValue::Integer { bits, .. }) = precision.map(|node| node.evaluate(&self.scope))
        {
            layout.precision = usize::try_from(bits as i32).ok();
        }
        layout.width = layout.width.min(WIDEST);
        let value = match conversion.specifier {
            's' => match node.printed(&self.scope) {
                Some(printed) => return self.printed(printed, layout, out),
                None => node.evaluate(&self.scope),
            },
            _ => node.evaluate(&self.scope),
        };
        match (conversion.specifier, value) {
            (_, CValue::Unknown(_)) => self.unknown(value, out),
            ('d' | 'i' | 'u' | 'x' | 'X' | 'o', CValue::Integer { bits, .. }) => {
                self.integer(conversion, layout, bits, out);
            }
            ('c', CValue::Integer { bits, .. }) => {
                number::string(
                    out,
                    PrintfSpec {
                        precision: None,
                        ..layout
                    },
                    &[bits as u8],
                );
            }
            ('s', CValue::Integer { bits: 0, .. }) => number::string(out, layout, b"(null)"),
            ('s', CValue::Integer { bits, .. }) => match self.addresses.string(bits) {
                Some(string) => number::string(out, layout, string.as_bytes()),
                // Not in the record, and not a string that the kernel tells of.
                None => write(out, format_args!("({bits:#x})")),
            },
            ('s', value) => match value.string() {
                Some(string) => number::string(out, layout, &string),
                None => self.unknown(value, out),
            },
            ('p', value) => pointer::pointer(
                out,
                &conversion.extension,
                layout,
                value,
                self.scope.machine,
                self.addresses,
            ),
            (_, value) => self.unknown(value, out),
        }
    }

    fn integer(&self, conversion: &Conversion, layout: PrintfSpec, bits: u64, out: &mut Output) {
        let size = match conversion.length {
            Length::Byte => 1,
            Length::Short => 2,
            Length::Int => 4,
            Length::Long => self.scope.machine.long_size(),
            Length::LongLong => 8,
        };
        let (signed, unsigned) = (sign_extended(bits, size), zero_extended(bits, size));
        match conversion.specifier {
            'd' | 'i' => number::number(out, layout, signed < 0, signed.unsigned_abs(), 10, false),
            'u' => number::number(
                out,
                PrintfSpec {
                    plus: false,
                    space: false,
                    ..layout
                },
                false,
                unsigned,
                10,
                false,
            ),
            'o' => number::number(out, layout, false, unsigned, 8, false),
            specifier => number::number(out, layout, false, unsigned, 16, specifier == 'X'),
        }
    }

    /// What a helper prints, which `%s` then pads like any string.
    fn printed(&self, printed: &Printed, layout: PrintfSpec, out: &mut Output) {
        let start = out.len();
        self.print(printed, out);
        let is_plain = layout.width == 0 && layout.precision.is_none();
        if !is_plain {
            let text = out.split_off(start);
            number::string(out, layout, &text);
        }
    }

    fn print(&self, printed: &Printed, out: &mut Output) {
        let long = |bits: u64, is_long: bool| match is_long && self.scope.machine.long_size() == 4 {
            true => bits & 0xffff_ffff,
            false => bits,
        };
        match printed {
            Printed::Flags {
                value,
                delimiter,
                names,
                is_long,
            } => {
                let CValue::Integer { bits, .. } = value.evaluate(&self.scope) else {
                    return self.unknown(value.evaluate(&self.scope), out);
                };
                let names = names.entries().iter().map(|named| {
                    let mask = named.value.map(|mask| long(mask, *is_long));
                    (mask, named.name.as_str())
                });
                out.flags(long(bits, *is_long), delimiter, names);
            }
            Printed::Symbol {
                value,
                names,
                is_long,
            } => {
                let CValue::Integer { bits, .. } = value.evaluate(&self.scope) else {
                    return self.unknown(value.evaluate(&self.scope), out);
                };
                let bits = long(bits, *is_long);
                // The first that has the value, or may have it.
                let named = names.entries().iter().find(|named| {
                    let value = named.value.map(|value| long(value, *is_long));
                    value.is_none_or(|value| value == bits)
                });
                match named {
                    Some(named) if named.value.is_some() => out.push_str(&named.name),
                    Some(_) => write(out, format_args!("<{bits:#x}>")),
                    None => write(out, format_args!("{bits:#x}")),
                }
            }
            Printed::Hex {
                data,
                length,
                separated,
            } => {
                let (data, length) = (data.evaluate(&self.scope), length.evaluate(&self.scope));
                let (CValue::Bytes { data, .. }, CValue::Integer { bits, .. }) = (data, length)
                else {
                    return self.unknown(data, out);
                };
                let length = usize::try_from(bits as i32).unwrap_or(0);
                let Some(data) = data.get(..length) else {
                    return out.push_str("<outside of the record>");
                };
                for (index, byte) in data.iter().enumerate() {
                    out.push_str(if *separated && index > 0 { " " } else { "" });
                    write(out, format_args!("{byte:02x}"));
                }
            }
            Printed::Array {
                data,
                count,
                element,
            } => self.array(data, count.as_ref(), element, out),
            Printed::Bitmask { data } => match data.evaluate(&self.scope) {
                CValue::Bytes { data, .. } => {
                    pointer::bits(out, data, 8 * data.len(), self.scope.machine);
                }
                other => self.unknown(other, out),
            },
        }
    }

    /// `trace_print_array_seq()`.
    fn array(&self, data: &Node, count: Option<&Node>, element: &Node, out: &mut Output) {
        let data = data.evaluate(&self.scope);
        let element = element.evaluate(&self.scope);
        let (CValue::Bytes { data, .. }, CValue::Integer { bits: size, .. }) = (data, element)
        else {
            return self.unknown(data, out);
        };
        let size = match size {
            1 | 2 | 4 | 8 => size as usize,
            other => return write(out, format_args!("BAD SIZE:{other}")),
        };
        let data = match count.map(|count| count.evaluate(&self.scope)) {
            None => data,
            Some(CValue::Integer { bits, .. }) => {
                let length = usize::try_from(bits as i32)
                    .unwrap_or(0)
                    .saturating_mul(size);
                match data.get(..length) {
                    Some(data) => data,
                    None => return out.push_str("<outside of the record>"),
                }
            }
            Some(other) => return self.unknown(other, out),
        };
        out.push('{');
        for (index, bytes) in data.chunks_exact(size).enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let value = self.scope.machine.unsigned(bytes);
            write(out, format_args!("{comma}{value:#x}"));
        }
        out.push('}');
    }
}
