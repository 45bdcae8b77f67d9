//! System calls as `trace` shows them.

use std::fmt::{self, Write};

use super::output::Output;
use super::version::KernelVersion;
use crate::format::print::{Expression, NamedValue};
use crate::format::{Field, FieldKind, Format};
use crate::machine::until_nul;
use crate::name::{EventName, SyscallSide};
use crate::record::{Record, RecordError};

/// How `trace` writes the numbers of a system call's arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SyscallStyle {
    /// `sys_dup2(oldfd: b, newfd: 1)`: hexadecimal, up to Linux 6.17.
    Bare,
    /// `sys_dup2(oldfd: 0xb, newfd: 1)`: since Linux 6.18.
    #[default]
    Prefixed,
}

impl SyscallStyle {
    /// Returns the style of a kernel of this version.
    pub fn of_version(version: KernelVersion) -> Self {
        match version < KernelVersion::new(6, 18, 0) {
            true => Self::Bare,
            false => Self::Prefixed,
        }
    }

    /// Returns the style of the lines of a `trace` file; `None` if no line shows it.
    pub fn of_trace(trace: &str) -> Option<Self> {
        trace.lines().find_map(|line| {
            // Only the part before a string is examined, since a string may contain any
            // text.
            let (_, call) = line.split_once(": sys_")?;
            let (name, arguments) = call.split('"').next()?.split_once('(')?;
            // Kernels that write flags by name write other numbers in decimal.
            if name == "openat" {
                return None;
            }
            arguments.split(", ").find_map(|argument| {
                let number = argument.split_once(": ")?.1;
                let number = number.split([')', ' ']).next()?;
                match number.strip_prefix("0x") {
                    Some(_) => Some(Self::Prefixed),
                    // Both styles write digits; a number that begins with 0 is an octal
                    // mode.
                    None if number.starts_with('0') => None,
                    None if matches!(number.as_bytes(), [b'0'..=b'9']) => None,
                    None => {
                        let is_hex = number.bytes().all(|byte| byte.is_ascii_hexdigit());
                        is_hex.then_some(Self::Bare)
                    }
                }
            })
        })
    }
}

/// Facts about a system call's arguments from its print fmt.
#[derive(Clone, Debug, Default)]
pub(super) struct SyscallPrint {
    /// The names of bits of the argument `flags`.
    flags: Vec<NamedValue>,
    /// The fields that have bytes, not a string, from an argument's address.
    buffers: Vec<String>,
}

impl SyscallPrint {
    pub(super) fn of(format: &Format) -> Self {
        let Ok(print) = format.print() else {
            return Self::default();
        };
        let mut buffers = Vec::new();
        for argument in print.arguments() {
            argument.visit(&mut |expression| {
                if let Expression::Call(function, arguments) = expression
                    && function == "__print_dynamic_array"
                    && let Some(Expression::Name(field)) = arguments.first()
                {
                    buffers.push(field.clone());
                }
            });
        }
        Self {
            flags: print.field("flags").flags,
            buffers,
        }
    }
}

/// A record of `syscalls:*` as `trace` shows it, not by the event's print fmt:
/// `sys_dup2(oldfd: 0xb, newfd: 1)`, `sys_dup2 -> 0x1` (`print_syscall_enter()` and
/// `print_syscall_exit()` in the kernel's `kernel/trace/trace_syscalls.c`).
///
/// [`Display`](fmt::Display) replaces bytes that are not UTF-8.
#[derive(Clone, Copy, Debug)]
pub struct SyscallText<'a> {
    record: Record<'a>,
    call: &'a str,
    side: SyscallSide,
    style: SyscallStyle,
}

impl<'a> SyscallText<'a> {
    /// Creates the text of a record of this event; `None` if the event is not a system
    /// call's.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if the record lacks an argument.
    pub fn new(event: &'a EventName, record: Record<'a>) -> Result<Option<Self>, RecordError> {
        let Some(side) = record.format().syscall_side(event) else {
            return Ok(None);
        };
        let Some((_, call)) = SyscallSide::and_call(event) else {
            return Ok(None);
        };
        for field in record.format().fields() {
            record.data(field)?;
        }
        Ok(Some(Self {
            record,
            call,
            side,
            style: SyscallStyle::default(),
        }))
    }

    /// Sets the style, which the record does not show. Default:
    /// [`SyscallStyle::Prefixed`].
    #[must_use]
    pub fn with_style(self, style: SyscallStyle) -> Self {
        Self { style, ..self }
    }

    /// Iterates over the arguments or the return value: all fields except the first,
    /// the system call's number, and copies of the caller's memory.
    fn arguments(&self) -> impl Iterator<Item = (&'a Field, u64)> + use<'a> {
        let record = self.record;
        let fields = record.format().fields().iter().skip(1);
        let number = move |field| {
            let raw = record.raw(field).unwrap_or_default();
            (field, record.machine().unsigned(raw))
        };
        fields
            .filter(|field| !field.kind().is_dynamic())
            .map(number)
    }

    /// Returns the field `__<argument>_val`, the copy of the memory that an argument
    /// points at (Linux 6.19 and later).
    fn pointee(&self, argument: &Field) -> Option<(&'a Field, &'a [u8])> {
        let is_of = |field: &&Field| {
            let name = field.name().strip_prefix("__");
            let name = name.and_then(|name| name.strip_suffix("_val"));
            field.kind() == FieldKind::DataLoc && name == Some(argument.name())
        };
        let field = self.record.format().fields().iter().find(is_of)?;
        Some((field, self.record.data(field).ok()?))
    }

    /// Writes `sys_enter_openat_print()`, on kernels that record the file's name.
    fn write_openat(&self, print: &SyscallPrint, out: &mut Output) {
        /// `O_TMPFILE` without `O_DIRECTORY`. Alpha, PA-RISC and SPARC have other
        /// values.
        const TMPFILE: u64 = 0o20_000_000;
        let flags = || {
            print
                .flags
                .iter()
                .map(|flag| (flag.value, flag.name.as_str()))
        };
        let bits_of = |name: &str| {
            let flag = flags().find(|flag| flag.1 == name);
            flag.and_then(|flag| flag.0).unwrap_or(0)
        };
        for (index, (argument, value)) in self.arguments().enumerate() {
            out.push_str(if index > 0 { ", " } else { "" });
            let name = argument.name();
            match name {
                "flags" => {
                    let tmpfile = TMPFILE | bits_of("O_DIRECTORY");
                    let _ = write!(out, "{name}: ");
                    match (value as u32, value & 3) {
                        (0, _) => out.push_str("O_RDONLY"),
                        (_, 0) => out.push_str("O_RDONLY|"),
                        _ => {}
                    }
                    let all = [(Some(tmpfile), "O_TMPFILE")].into_iter().chain(flags());
                    out.flags(u64::from(value as u32), "|", all);
                    // The mode matters only if a file is created.
                    if value & (bits_of("O_CREAT") | tmpfile) == 0 {
                        break;
                    }
                }
                "mode" => {
                    let _ = write!(out, "{name}: 0{:03o}", value as u32);
                }
                _ => {
                    let _ = write!(out, "{name}: {value}");
                    if let Some((_, text)) = self.pointee(argument) {
                        write_quoted(text, out);
                    }
                }
            }
        }
    }

    fn write_arguments(&self, print: &SyscallPrint, out: &mut Output) {
        for (index, (argument, value)) in self.arguments().enumerate() {
            out.push_str(if index > 0 { ", " } else { "" });
            let name = argument.name();
            let _ = match (self.style, value) {
                (SyscallStyle::Bare, value) => write!(out, "{name}: {value:x}"),
                (SyscallStyle::Prefixed, 0..10) => write!(out, "{name}: {value}"),
                (SyscallStyle::Prefixed, value) => write!(out, "{name}: {value:#x}"),
            };
            let Some((field, bytes)) = self.pointee(argument) else {
                continue;
            };
            if !print.buffers.iter().any(|buffer| buffer == field.name()) {
                write_quoted(bytes, out);
                continue;
            }
            // The next argument is the buffer's size; the kernel records only the start
            // of the buffer.
            let size = self.arguments().nth(index + 1).map_or(0, |(_, size)| size);
            let is_cut = (bytes.len() as i64) < i64::from(size as i32);
            write_buffer(bytes, is_cut, out);
        }
    }

    /// Appends the text, with the facts of the record's print fmt.
    pub(super) fn write(&self, print: &SyscallPrint, out: &mut Output) {
        let _ = write!(out, "sys_{}", self.call);
        if self.side == SyscallSide::Exit {
            let returned = self.arguments().next().map_or(0, |(_, value)| value);
            let _ = write!(out, " -> {returned:#x}");
            return;
        }
        out.push('(');
        let fields = self.record.format().fields();
        let reads_names = fields.iter().any(|field| field.name() == "__filename_val");
        match self.call {
            "openat" if reads_names => self.write_openat(print, out),
            _ => self.write_arguments(print, out),
        }
        out.push(')');
    }
}

fn write_quoted(text: &[u8], out: &mut Output) {
    out.push_str(" \"");
    out.push_bytes(until_nul(text));
    out.push('"');
}

fn write_buffer(bytes: &[u8], is_cut: bool, out: &mut Output) {
    out.push_str(" (");
    for (index, byte) in bytes.iter().enumerate() {
        out.push_str(if index > 0 { ":" } else { "" });
        let _ = write!(out, "{byte:02x}");
    }
    out.push_str(if is_cut { ", ...)" } else { ")" });
    let is_printable = |byte: &u8| matches!(byte, b' '..=b'~');
    if bytes.iter().any(is_printable) {
        out.push_str(" \"");
        for byte in bytes {
            let shown = if is_printable(byte) { *byte } else { b'.' };
            out.push(char::from(shown));
        }
        out.push_str(if is_cut { "\"..." } else { "\"" });
    }
}

impl fmt::Display for SyscallText<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Output::default();
        self.write(&SyscallPrint::of(self.record.format()), &mut text);
        out.write_str(&String::from_utf8_lossy(&text.into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{ByteOrder, Machine};

    const MACHINE: Machine = Machine::new(ByteOrder::Little, true);

    fn format(common: &str, own: &str, print_fmt: &str) -> Format {
        let text = format!(
            "name: x\nID: 1\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
            \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
            \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
            \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\
            {common}\n{own}\nprint fmt: {print_fmt}\n"
        );
        Format::parse(&text).expect("a format")
    }

    /// Buffers and flags that no captured kernel has.
    #[test]
    fn system_calls() {
        let argument = |declaration: &str, offset| {
            format!("\tfield:{declaration};\toffset:{offset};\tsize:8;\tsigned:0;\n")
        };
        let pointee = |name: &str, offset| {
            format!("\tfield:__data_loc char[] {name};\toffset:{offset};\tsize:4;\tsigned:0;\n")
        };
        let number = "\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;\n";
        let write = format(
            "",
            &[
                number,
                &argument("const char * buf", 16),
                &argument("size_t count", 24),
                &pointee("__buf_val", 32),
            ]
            .concat(),
            "\"(%s)\", __print_dynamic_array(__buf_val, 1)",
        );
        let text = |name: &str, format: &Format, words: &[u64], tail: &[u8]| {
            let mut bytes = vec![0; 16];
            bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            let place = (bytes.len() as u32 + 4) | (tail.len() as u32) << 16;
            bytes.extend(place.to_le_bytes());
            bytes.extend(tail);
            let event: EventName = format!("syscalls:{name}").parse().expect("a name");
            let record = Record::new(format, &bytes, MACHINE);
            let text = SyscallText::new(&event, record).expect("whole");
            text.expect("a system call").to_string()
        };
        for (count, tail, expected) in [
            (
                2,
                &b"a\n"[..],
                "sys_write(buf: 0xff (61:0a) \"a.\", count: 2)",
            ),
            (
                200,
                b"a\"",
                "sys_write(buf: 0xff (61:22, ...) \"a\"\"..., count: 0xc8)",
            ),
            (2, b"\x01\xff", "sys_write(buf: 0xff (01:ff), count: 2)"),
            (0, b"", "sys_write(buf: 0xff (), count: 0)"),
        ] {
            assert_eq!(
                text("sys_enter_write", &write, &[255, count], tail),
                expected
            );
        }

        let openat = format(
            "",
            &[
                number,
                &argument("const char * filename", 16),
                &argument("int flags", 24),
                &argument("umode_t mode", 32),
                &pointee("__filename_val", 40),
            ]
            .concat(),
            "\"%s\", REC->flags ? __print_flags(REC->flags, \"|\", { 0x1, \"O_WRONLY\" }, \
            { 0x40, \"O_CREAT\" }, { 0x10000, \"O_DIRECTORY\" }) : \"O_RDONLY\"",
        );
        for (flags, expected) in [
            (0, "O_RDONLY"),
            (0x41, "O_WRONLY|O_CREAT, mode: 0644"),
            (0x40, "O_RDONLY|O_CREAT, mode: 0644"),
            (0x41_0001, "O_TMPFILE|O_WRONLY, mode: 0644"),
            (0x10_0000, "O_RDONLY|0x100000"),
        ] {
            let words = [10, flags, 0o644];
            assert_eq!(
                text("sys_enter_openat", &openat, &words, b"/x\0"),
                format!("sys_openat(filename: 10 \"/x\", flags: {expected})")
            );
        }

        let exit = format("", &[number, &argument("long ret", 16)].concat(), "\"\"");
        let text = text("sys_exit_write", &exit, &[-2i64 as u64], b"");
        assert_eq!(text, "sys_write -> 0xfffffffffffffffe");

        let bytes = [0; 20];
        let event: EventName = "syscalls:sys_exit_write".parse().expect("a name");
        let cut = SyscallText::new(&event, Record::new(&exit, &bytes, MACHINE));
        assert!(matches!(cut, Err(RecordError::Short { .. })));
        let event: EventName = "raw_syscalls:sys_exit".parse().expect("a name");
        let other = SyscallText::new(&event, Record::new(&exit, &bytes, MACHINE));
        assert!(matches!(other, Ok(None)));
    }

    #[test]
    fn styles() {
        let number = "\tfield:int nr;\toffset:8;\tsize:4;\tsigned:1;\n";
        let arguments = "\tfield:aio_context_t ctx_id;\toffset:16;\tsize:8;\tsigned:0;\n\
            \tfield:long nr;\toffset:24;\tsize:8;\tsigned:0;\n";
        let format = format("", &[number, arguments].concat(), "\"\"");
        let mut bytes = vec![0; 32];
        bytes[16] = 0xab;
        bytes[24] = 9;
        let event: EventName = "syscalls:sys_enter_io_submit".parse().expect("a name");
        let text = SyscallText::new(&event, Record::new(&format, &bytes, MACHINE));
        let text = text.expect("whole").expect("a system call");
        // The second `nr` is an argument.
        assert_eq!(text.to_string(), "sys_io_submit(ctx_id: 0xab, nr: 9)");
        let bare = text.with_style(SyscallStyle::Bare);
        assert_eq!(bare.to_string(), "sys_io_submit(ctx_id: ab, nr: 9)");

        let of_version =
            |major, minor, patch| SyscallStyle::of_version(KernelVersion::new(major, minor, patch));
        assert_eq!(of_version(6, 17, 13), SyscallStyle::Bare);
        assert_eq!(of_version(6, 18, 0), SyscallStyle::Prefixed);

        let of_trace = |text: &str| {
            let line = "             cat-1       [000] .....     1.000000: ";
            let lines = ["# tracer: nop", "sys_read(fd: 3)", text];
            SyscallStyle::of_trace(&lines.map(|text| format!("{line}{text}\n")).concat())
        };
        for (text, style) in [
            ("sys_dup2(oldfd: 5, newfd: 1)", None),
            ("sys_dup2(oldfd: b, newfd: 1)", Some(SyscallStyle::Bare)),
            ("sys_dup2(oldfd: 1f, newfd: 1)", Some(SyscallStyle::Bare)),
            ("sys_dup2(oldfd: 10, newfd: 1)", Some(SyscallStyle::Bare)),
            (
                "sys_dup2(oldfd: 0x1f, newfd: 1)",
                Some(SyscallStyle::Prefixed),
            ),
            (
                "sys_unlink(pathname: 0x10 \"b: ff\")",
                Some(SyscallStyle::Prefixed),
            ),
            // Numbers in decimal, an octal mode.
            ("sys_openat(dfd: 18, filename: 99 \"x\", mode: 0644)", None),
            ("sys_exit -> 0x0", None),
            ("other: f(x: ff)", None),
        ] {
            assert_eq!(of_trace(text), style, "{text}");
        }
    }
}
