//! Events of probes that were made by writing to `kprobe_events`, `uprobe_events` or
//! `dynamic_events`. By code, the kernel prints the probe's place and marks strings
//! that it could not read (`kernel/trace/trace_{kprobe,uprobe,eprobe,fprobe,probe}.c`).

use std::fmt::Write;

use super::output::Output;
use super::printer::{Printer, Step, steps_of};
use super::scene::Scene;
use crate::format::print::eval::Compiler;
use crate::format::print::{Expression, Piece, PrintFmtError, number_value, pieces};
use crate::format::{Field, Format, LOCATION, Location};
use crate::machine::until_nul;
use crate::name::EventName;
use crate::record::{Record, RecordError};

/// A probe's event: the probe's place, then its arguments.
#[derive(Clone, Debug)]
pub(super) struct ProbeEventText {
    head: Head,
    parts: Vec<ProbePart>,
}

/// The part in parentheses.
#[derive(Clone, Debug)]
enum Head {
    /// The field with the probe's address.
    At(Field, Space),
    /// The fields with the return address and the function.
    Return {
        to: Field,
        function: Field,
        space: Space,
    },
    /// The event that an event probe is attached to, `sched.sched_waking`, which a
    /// format file does not name.
    Event(Option<String>),
}

/// The owner of a probe's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Space {
    Kernel,
    User,
    /// Each address decides.
    Unknown,
}

#[derive(Clone, Debug)]
enum ProbePart {
    Steps(Vec<Step>),
    /// A string in quotes, whose location is at this offset of the record; `(fault)`
    /// without quotes if the kernel could not read it.
    Text(usize),
}

impl ProbeEventText {
    /// Returns `None` if the event is not a probe's.
    pub(super) fn of(
        name: &EventName,
        format: &Format,
        compiler: &Compiler<'_>,
    ) -> Result<Option<Self>, PrintFmtError> {
        let Some((head, head_text, skipped)) = head(name, format) else {
            return Ok(None);
        };
        let print = format.print()?;
        let text = print.format().text();
        let Some(rest) = text.strip_prefix(head_text) else {
            return Ok(None);
        };
        let arguments = print.arguments().get(skipped..).unwrap_or_default();
        Ok(Some(Self {
            head,
            parts: parts(format, compiler, rest, arguments),
        }))
    }

    /// Reads from `dynamic_events` which addresses the probe has, or which event it is
    /// attached to.
    pub(super) fn find_in(&mut self, dynamic_events: &str, name: &EventName) {
        let own = format!("{}/{}", name.category(), name.event());
        // `p:sched/mine schedule`, `r16:grp/ev /bin/true:0x1234`,
        // `e:eprobes/open syscalls.sys_enter_openat file=…`.
        let line = dynamic_events.lines().find_map(|line| {
            let (kind, rest) = line.split_once(':')?;
            let (event, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            (event == own).then(|| (kind, rest.split(' ').next().unwrap_or_default()))
        });
        let Some((kind, place)) = line else { return };
        match &mut self.head {
            Head::Event(event) if kind == "e" => *event = Some(place.replacen('/', ".", 1)),
            Head::At(_, space) | Head::Return { space, .. } => {
                *space = match place.starts_with('/') {
                    true => Space::User,
                    false => Space::Kernel,
                };
            }
            Head::Event(_) => {}
        }
    }

    /// Iterates over the steps that print the arguments.
    pub(super) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.parts.iter().flat_map(|part| match part {
            ProbePart::Steps(steps) => &steps[..],
            ProbePart::Text(_) => &[],
        })
    }

    pub(super) fn write(
        &self,
        record: &Record<'_>,
        scene: &Scene<'_>,
        printer: &Printer<'_>,
        out: &mut Output,
    ) -> Result<(), RecordError> {
        out.push('(');
        let number = |field| Ok(record.machine().unsigned(record.raw(field)?));
        match &self.head {
            Head::At(field, space) => {
                let address = number(field)?;
                match space.is_kernels(address, record, scene) {
                    true => scene.symbol_with_offset(address, out),
                    false => hexadecimal(address, out),
                }
            }
            Head::Return {
                to,
                function,
                space,
            } => {
                let (to, function) = (number(to)?, number(function)?);
                match space.is_kernels(function, record, scene) {
                    true => {
                        scene.symbol_with_offset(to, out);
                        out.push_str(" <- ");
                        scene.symbol(function, out);
                    }
                    false => {
                        hexadecimal(to, out);
                        out.push_str(" <- ");
                        hexadecimal(function, out);
                    }
                }
            }
            Head::Event(event) => out.push_str(event.as_deref().unwrap_or("<event>")),
        }
        out.push(')');
        for part in &self.parts {
            match part {
                ProbePart::Steps(steps) => printer.steps(steps, out),
                ProbePart::Text(offset) => write_text(record, *offset, out),
            }
        }
        Ok(())
    }
}

fn hexadecimal(address: u64, out: &mut Output) {
    let _ = write!(out, "{address:#x}");
}

impl Space {
    fn of(name: &EventName) -> Self {
        match name.category() {
            "uprobes" => Self::User,
            "kprobes" | "fprobes" | "tprobes" => Self::Kernel,
            _ => Self::Unknown,
        }
    }

    fn is_kernels(self, address: u64, record: &Record<'_>, scene: &Scene<'_>) -> bool {
        // Kernels use the upper half of the address space, except s390's, which has a
        // separate space.
        let top = 8 * record.machine().long_size() - 1;
        match self {
            Self::Kernel => true,
            Self::User => false,
            Self::Unknown => address >> top != 0 || scene.addresses.symbol(address).is_some(),
        }
    }
}

/// The text that a probe's event begins with, as its print fmt spells it, and its
/// number of arguments.
fn head(name: &EventName, format: &Format) -> Option<(Head, &'static str, usize)> {
    let space = Space::of(name);
    let fields = format.fields();
    let field = |index: usize, name: &str| {
        let field: &Field = fields.get(index)?;
        (field.name() == name).then(|| field.clone())
    };
    if let Some(at) = field(0, "__probe_ip") {
        return Some((Head::At(at, space), "(%lx)", 1));
    }
    if let (Some(function), Some(to)) = (field(0, "__probe_func"), field(1, "__probe_ret_ip")) {
        let head = Head::Return {
            to,
            function,
            space,
        };
        return Some((head, "(%lx <- %lx)", 2));
    }
    // Such probes may have other categories, too; `dynamic_events` would tell.
    (name.category() == "eprobes").then_some((Head::Event(None), "", 0))
}

/// Splits the part after the head at strings that the kernel may not have been able to
/// read.
fn parts(
    format: &Format,
    compiler: &Compiler<'_>,
    text: &str,
    arguments: &[Expression],
) -> Vec<ProbePart> {
    let mut parts = Vec::new();
    let mut arguments = arguments.iter();
    // The pieces since the last such string, and their arguments.
    let (mut pending, mut taken): (Vec<Piece>, Vec<Expression>) = Default::default();
    let mut pieces = pieces(text).into_iter().peekable();
    while let Some(piece) = pieces.next() {
        let Piece::Conversion(conversion) = piece else {
            pending.push(piece);
            continue;
        };
        let argument = arguments.next();
        let location = argument.and_then(|argument| location(format, argument));
        let is_quoted = matches!(pending.last(), Some(Piece::Text(text)) if text.ends_with('"'))
            && matches!(pieces.peek(), Some(Piece::Text(text)) if text.starts_with('"'));
        match location.filter(|_| conversion.specifier == 's' && is_quoted) {
            Some(offset) => {
                if let Some(Piece::Text(text)) = pending.last_mut() {
                    text.pop();
                }
                if let Some(Piece::Text(text)) = pieces.peek_mut() {
                    text.remove(0);
                }
                let steps = steps_of(compiler, std::mem::take(&mut pending), &taken);
                taken.clear();
                parts.extend([ProbePart::Steps(steps), ProbePart::Text(offset)]);
            }
            None => {
                pending.push(Piece::Conversion(conversion));
                taken.extend(argument.cloned());
            }
        }
    }
    parts.push(ProbePart::Steps(steps_of(compiler, pending, &taken)));
    parts
}

/// Returns the offset of a string's location: `__get_str(name)`, or
/// `__get_str(names[1])` for an element.
fn location(format: &Format, argument: &Expression) -> Option<usize> {
    let Expression::Call(function, arguments) = argument else {
        return None;
    };
    let ("__get_str", [argument]) = (function.as_str(), &arguments[..]) else {
        return None;
    };
    let (name, index) = match argument {
        Expression::Name(name) => (name, 0),
        Expression::Index(array, index) => match (&**array, &**index) {
            (Expression::Name(name), Expression::Number(index)) => (name, number_value(index)?.0),
            _ => return None,
        },
        _ => return None,
    };
    let field = format.field(name)?;
    let within = usize::try_from(index).ok()?.checked_mul(4)?;
    let is_there = within.checked_add(4)? <= field.size() as usize;
    let has_locations = field.kind().is_dynamic() || field.is_text_array();
    (has_locations && is_there).then(|| field.offset() as usize + within)
}

/// Writes a string as `print_type_string()` does.
fn write_text(record: &Record<'_>, offset: usize, out: &mut Output) {
    let bytes = record.bytes();
    let Some(raw) = bytes.get(offset..offset + LOCATION as usize) else {
        return out.push_str("<outside of the record>");
    };
    let location = Location::read(raw, 0, record.machine());
    match bytes.get(location.range(bytes.len())) {
        _ if location.is_empty() => out.push_str("(fault)"),
        None => out.push_str("<outside of the record>"),
        Some(text) => {
            out.push('"');
            out.push_bytes(until_nul(text));
            out.push('"');
        }
    }
}
