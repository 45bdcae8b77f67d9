//! Ftrace's own events (`ftrace:*`), which the kernel prints by code and not by their
//! print fmts: `kernel/trace/trace_output.c`, and those of tracers
//! (`trace_mmiotrace.c`, `trace_branch.c`, `trace_functions_graph.c`).
//!
//! In one file because it is a list: a method for each of the kernel's functions.

use std::fmt::Write;

use super::binary_printf::binary_printf;
use super::line::seconds;
use super::output::Output;
use super::scene::Scene;
use super::version::KernelVersion;
use crate::format::Format;
use crate::machine::{until_nul, zero_extended};
use crate::name::EventName;
use crate::record::{Record, RecordError};

/// One of ftrace's own events that is printed by code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FtraceEvent {
    Function,
    FuncRepeats,
    FuncgraphEntry,
    FuncgraphExit,
    ContextSwitch,
    Wakeup,
    KernelStack,
    UserStack,
    Bputs,
    Bprint,
    Print,
    RawData,
    MmiotraceRw,
    MmiotraceMap,
    Branch,
    Hwlat,
    Osnoise,
    Timerlat,
}

/// The events by name, with the fields that printing needs.
const EVENTS: [(&str, FtraceEvent, &[&str]); 19] = {
    use FtraceEvent::*;
    const SWITCH: &[&str] = &[
        "prev_pid",
        "prev_prio",
        "prev_state",
        "next_pid",
        "next_prio",
        "next_state",
        "next_cpu",
    ];
    [
        ("function", Function, &["ip", "parent_ip"]),
        (
            "func_repeats",
            FuncRepeats,
            &[
                "ip",
                "parent_ip",
                "count",
                "top_delta_ts",
                "bottom_delta_ts",
            ],
        ),
        ("funcgraph_entry", FuncgraphEntry, &["func", "depth"]),
        // Some kernels since Linux 6.13 have this one, with the return address.
        ("fgraph_retaddr_entry", FuncgraphEntry, &["func", "depth"]),
        (
            "funcgraph_exit",
            FuncgraphExit,
            &["func", "depth", "calltime", "rettime"],
        ),
        ("context_switch", ContextSwitch, SWITCH),
        ("wakeup", Wakeup, SWITCH),
        ("kernel_stack", KernelStack, &["caller"]),
        ("user_stack", UserStack, &["caller"]),
        ("bputs", Bputs, &["ip", "str"]),
        ("bprint", Bprint, &["ip", "fmt", "buf"]),
        ("print", Print, &["ip", "buf"]),
        ("raw_data", RawData, &["id", "buf"]),
        (
            "mmiotrace_rw",
            MmiotraceRw,
            &["phys", "value", "pc", "map_id", "opcode", "width"],
        ),
        (
            "mmiotrace_map",
            MmiotraceMap,
            &["phys", "virt", "len", "map_id", "opcode"],
        ),
        ("branch", Branch, &["line", "func", "file", "correct"]),
        (
            "hwlat",
            Hwlat,
            &[
                "duration",
                "outer_duration",
                "tv_sec",
                "tv_nsec",
                "seqnum",
                "nmi_count",
            ],
        ),
        (
            "osnoise",
            Osnoise,
            &[
                "noise",
                "runtime",
                "max_sample",
                "hw_count",
                "nmi_count",
                "irq_count",
                "softirq_count",
                "thread_count",
            ],
        ),
        (
            "timerlat",
            Timerlat,
            &["seqnum", "context", "timer_latency"],
        ),
    ]
};

impl FtraceEvent {
    /// Returns the event of this name, if its format has the fields the kernel prints.
    pub(super) fn of(name: &EventName, format: &Format) -> Option<Self> {
        if name.category() != "ftrace" {
            return None;
        }
        let (_, event, fields) = EVENTS.iter().find(|(event, ..)| *event == name.event())?;
        let has = |field: &&str| format.field(field).is_some();
        fields.iter().all(has).then_some(*event)
    }

    /// Whether the kernel prints no command, CPU or time before the text.
    pub(super) fn is_whole_line(self) -> bool {
        matches!(self, Self::MmiotraceRw | Self::MmiotraceMap)
    }

    /// Appends the text without the newline that ends it.
    pub(super) fn write(
        self,
        record: &Record<'_>,
        scene: &Scene<'_>,
        out: &mut Output,
    ) -> Result<(), RecordError> {
        let own = Own {
            record: *record,
            scene,
        };
        match self {
            Self::Function => own.function(out),
            Self::FuncRepeats => own.function_repeats(out),
            Self::FuncgraphEntry => own.graph_entry(out),
            Self::FuncgraphExit => own.graph_exit(out),
            Self::ContextSwitch => own.context_switch("==>", out),
            Self::Wakeup => own.context_switch("  +", out),
            Self::KernelStack => own.kernel_stack(out),
            Self::UserStack => own.user_stack(out),
            Self::Bputs => own.string_at("str", out),
            Self::Bprint => own.binary_print(out),
            Self::Print => own.print(out),
            Self::RawData => own.raw_data(out),
            Self::MmiotraceRw => own.mmio_access(out),
            Self::MmiotraceMap => own.mmio_map(out),
            Self::Branch => own.branch(out),
            Self::Hwlat => own.hwlat(out),
            Self::Osnoise => own.osnoise(out),
            Self::Timerlat => own.timerlat(out),
        }
    }
}

/// The most callers in a user-space stack: `FTRACE_STACK_ENTRIES`.
const USER_CALLERS: usize = 8;
/// Marks ftrace's trampoline in a stack: `FTRACE_TRAMPOLINE_MARKER`.
const TRAMPOLINE: u64 = i32::MAX as u64;

/// A record to print, with its surroundings.
struct Own<'a> {
    record: Record<'a>,
    scene: &'a Scene<'a>,
}

impl Own<'_> {
    fn raw(&self, name: &str) -> Result<&[u8], RecordError> {
        match self.record.format().field(name) {
            Some(field) => self.record.raw(field),
            None => Ok(&[]),
        }
    }

    /// Returns a field's number; 0 if the format does not have the field.
    fn number(&self, name: &str) -> Result<u64, RecordError> {
        Ok(self.record.machine().unsigned(self.raw(name)?))
    }

    fn signed(&self, name: &str) -> Result<i64, RecordError> {
        Ok(self.record.machine().signed(self.raw(name)?))
    }

    /// Returns the bytes from a field to the record's end, whatever size the format
    /// gives: the last field of a record is as long as its data.
    fn from(&self, name: &str) -> Result<&[u8], RecordError> {
        let Some(field) = self.record.format().field(name) else {
            return Ok(&[]);
        };
        let bytes = self.record.bytes();
        bytes
            .get(field.offset() as usize..)
            .ok_or_else(|| RecordError::Short {
                field: name.to_owned(),
                offset: field.offset(),
                end: u64::from(field.offset()),
                length: bytes.len(),
            })
    }

    /// Iterates over whole words of a pointer's size, from a field to the record's end.
    fn words(&self, name: &str) -> Result<impl Iterator<Item = u64>, RecordError> {
        let machine = self.record.machine();
        let words = self.from(name)?.chunks_exact(machine.long_size() as usize);
        Ok(words.map(move |word| machine.unsigned(word)))
    }

    fn all_ones(&self) -> u64 {
        zero_extended(u64::MAX, self.record.machine().long_size())
    }

    /// Prints `ip <-parent`.
    fn function(&self, out: &mut Output) -> Result<(), RecordError> {
        let (ip, parent) = (self.number("ip")?, self.number("parent_ip")?);
        self.scene.symbol(ip, out);
        // Written with the option `func-args`. The arguments' names and types are not
        // in the record.
        if self.record.format().field("args").is_some() {
            let mut separator = "(<arguments ";
            for argument in self.words("args")? {
                let _ = write!(out, "{separator}{argument:#x}");
                separator = ", ";
            }
            if separator == ", " {
                out.push_str(">)");
            }
        }
        if parent != 0 {
            out.push_str(" <-");
            self.scene.symbol(parent, out);
        }
        Ok(())
    }

    fn function_repeats(&self, out: &mut Output) -> Result<(), RecordError> {
        self.function(out)?;
        let delta = self.number("top_delta_ts")? << 32 | self.number("bottom_delta_ts")?;
        let _ = write!(out, " (repeats: {}, last_ts:", self.number("count")?);
        let _ = match self.scene.context {
            Some(context) => {
                let last = context.timestamp().wrapping_sub(delta);
                write!(out, "{})", context.time(last))
            }
            None => write!(out, " <{delta} before this>)"),
        };
        Ok(())
    }

    /// Prints a call as the tracer `function_graph` prints that of a function that
    /// calls others. Only the CPU's next record shows whether it does.
    fn graph_entry(&self, out: &mut Output) -> Result<(), RecordError> {
        self.graph_cpu(out);
        let depth = self.signed("depth")? as i32;
        out.push_str("              |  ");
        out.pad(b' ', indent(depth));
        self.scene.symbol(self.number("func")?, out);
        out.push_str("() {");
        Ok(())
    }

    /// Prints a return as the tracer does if it has not seen the call.
    fn graph_exit(&self, out: &mut Output) -> Result<(), RecordError> {
        self.graph_cpu(out);
        let depth = self.signed("depth")? as i32;
        let duration = self
            .number("rettime")?
            .wrapping_sub(self.number("calltime")?);
        const MARKS: [(u64, char); 6] = [
            (1_000_000_000, '$'),
            (100_000_000, '@'),
            (10_000_000, '*'),
            (1_000_000, '#'),
            (100_000, '!'),
            (10_000, '+'),
        ];
        let mark = MARKS.iter().find(|(least, _)| duration > *least);
        out.push(mark.map_or(' ', |(_, mark)| *mark));
        out.push(' ');
        // trace_print_graph_duration(): no more than seven digits, the point among them.
        let mut text = (duration / 1000).to_string();
        if text.len() < 7 {
            let digits = (7 - text.len()).min(3);
            let _ = write!(text, ".{:03}", duration % 1000);
            text.truncate(text.len() - (3 - digits));
        }
        let padding = 8_usize.saturating_sub(text.len());
        out.push_str(&text);
        out.push_str(" us ");
        out.pad(b' ', padding);
        out.push_str("|  ");
        out.pad(b' ', indent(depth));
        out.push_str("} /* ");
        self.scene.symbol(self.number("func")?, out);
        out.push_str(" */");
        Ok(())
    }

    fn graph_cpu(&self, out: &mut Output) {
        if let Some(context) = self.scene.context {
            let _ = write!(out, " {}) ", context.cpu());
        }
    }

    fn context_switch(&self, arrow: &str, out: &mut Output) -> Result<(), RecordError> {
        let version = self.scene.version;
        let state = |name: &str| Ok(state_letter(self.number(name)?, version));
        let next_pid = self.signed("next_pid")? as i32;
        let width = self.scene.context.map_or(7, |context| context.pid_width());
        let _ = write!(
            out,
            " {:width$}:{:3}:{} {arrow} [{:03}] {next_pid:width$}:{:3}:{} ",
            self.signed("prev_pid")? as i32,
            self.number("prev_prio")?,
            state("prev_state")?,
            self.number("next_cpu")?,
            self.number("next_prio")?,
            state("next_state")?,
        );
        match self.scene.context {
            Some(context) => out.push_bytes(context.names().bytes_of(next_pid)),
            None => out.push_str("<...>"),
        }
        Ok(())
    }

    fn kernel_stack(&self, out: &mut Output) -> Result<(), RecordError> {
        out.push_str("<stack trace>");
        let end = self.all_ones();
        for caller in self.words("caller")?.take_while(|caller| *caller != end) {
            out.push_str("\n => ");
            match caller {
                TRAMPOLINE => out.push_str("[FTRACE TRAMPOLINE]"),
                caller => self.scene.symbol(caller, out),
            }
        }
        Ok(())
    }

    fn user_stack(&self, out: &mut Output) -> Result<(), RecordError> {
        out.push_str("<user stack trace>");
        let callers = self.words("caller")?.take(USER_CALLERS);
        let digits = 2 * self.record.machine().long_size() as usize;
        for caller in callers.take_while(|caller| *caller != 0) {
            let _ = write!(out, "\n =>  <{caller:0digits$x}>");
        }
        Ok(())
    }

    /// Prints `function: `, which precedes the text of `trace_printk()` and the like.
    fn printing_function(&self, out: &mut Output) -> Result<(), RecordError> {
        self.scene.symbol(self.number("ip")?, out);
        out.push_str(": ");
        Ok(())
    }

    fn string_at(&self, field: &str, out: &mut Output) -> Result<(), RecordError> {
        self.printing_function(out)?;
        let address = self.number(field)?;
        match self.scene.addresses.string(address) {
            Some(string) => out.push_str(without_newline(&unescaped(string))),
            None => {
                let _ = write!(out, "<string at {address:#x}>");
            }
        }
        Ok(())
    }

    fn binary_print(&self, out: &mut Output) -> Result<(), RecordError> {
        let Some(format) = self.scene.addresses.string(self.number("fmt")?) else {
            return self.string_at("fmt", out);
        };
        self.printing_function(out)?;
        let format = unescaped(format);
        let arguments = self.from("buf")?;
        let machine = self.record.machine();
        binary_printf(
            without_newline(&format),
            arguments,
            machine,
            self.scene.addresses,
            out,
        );
        Ok(())
    }

    fn print(&self, out: &mut Output) -> Result<(), RecordError> {
        self.printing_function(out)?;
        let text = until_nul(self.from("buf")?);
        out.push_bytes(text.strip_suffix(b"\n").unwrap_or(text));
        Ok(())
    }

    fn raw_data(&self, out: &mut Output) -> Result<(), RecordError> {
        let _ = write!(out, "# {:x} buf:", self.number("id")?);
        for byte in self.from("buf")? {
            let _ = write!(out, " {byte:02x}");
        }
        Ok(())
    }

    /// Returns the time as the tracer `mmiotrace` writes it.
    fn mmio_time(&self) -> String {
        match self.scene.context {
            Some(context) => {
                let (seconds, micros) = seconds(context.timestamp());
                format!("{seconds}.{micros:06}")
            }
            None => "<time>".to_owned(),
        }
    }

    fn mmio_access(&self, out: &mut Output) -> Result<(), RecordError> {
        let (time, width) = (self.mmio_time(), self.number("width")?);
        let (phys, value) = (self.number("phys")?, self.number("value")?);
        let (pc, map) = (self.number("pc")?, self.signed("map_id")?);
        let _ = match self.number("opcode")? {
            1 => write!(out, "R {width} {time} {map} {phys:#x} {value:#x} {pc:#x} 0"),
            2 => write!(out, "W {width} {time} {map} {phys:#x} {value:#x} {pc:#x} 0"),
            5 => write!(
                out,
                "UNKNOWN {time} {map} {phys:#x} {:02x},{:02x},{:02x} {pc:#x} 0",
                value >> 16 & 0xff,
                value >> 8 & 0xff,
                value & 0xff
            ),
            _ => write!(out, "rw what?"),
        };
        Ok(())
    }

    fn mmio_map(&self, out: &mut Output) -> Result<(), RecordError> {
        let (time, map) = (self.mmio_time(), self.signed("map_id")?);
        let (phys, virt) = (self.number("phys")?, self.number("virt")?);
        let len = self.number("len")?;
        let _ = match self.number("opcode")? {
            3 => write!(out, "MAP {time} {map} {phys:#x} {virt:#x} {len:#x} 0x0 0"),
            4 => write!(out, "UNMAP {time} {map} 0x0 0"),
            _ => write!(out, "map what?"),
        };
        Ok(())
    }

    fn branch(&self, out: &mut Output) -> Result<(), RecordError> {
        let is_correct = self.number("correct")? != 0;
        out.push_str(if is_correct { "[  ok  ] " } else { "[ MISS ] " });
        out.push_bytes(until_nul(self.raw("func")?));
        out.push(':');
        out.push_bytes(until_nul(self.raw("file")?));
        let _ = write!(out, ":{}", self.number("line")?);
        Ok(())
    }

    fn hwlat(&self, out: &mut Output) -> Result<(), RecordError> {
        let _ = write!(
            out,
            "#{:<5} inner/outer(us): {:4}/{:<5} ts:{}.{:09}",
            self.number("seqnum")?,
            self.number("duration")?,
            self.number("outer_duration")?,
            self.signed("tv_sec")?,
            self.signed("tv_nsec")?,
        );
        // Since Linux 5.7.
        if self.record.format().field("count").is_some() {
            let _ = write!(out, " count:{}", self.signed("count")? as i32);
        }
        let nmis = self.number("nmi_count")?;
        if nmis != 0 {
            // Kernels whose clock is not safe in NMIs neither measure nor print the
            // time: the field is 0.
            match self.number("nmi_total_ts")? {
                0 => {}
                total => {
                    let _ = write!(out, " nmi-total:{total}");
                }
            }
            let _ = write!(out, " nmi-count:{nmis}");
        }
        Ok(())
    }

    fn osnoise(&self, out: &mut Output) -> Result<(), RecordError> {
        let (runtime, noise) = (self.number("runtime")?, self.number("noise")?);
        let free = runtime.wrapping_sub(noise).wrapping_mul(10_000_000);
        // Kernels record no runtime of 0.
        let ratio = free.checked_div(runtime).unwrap_or(0);
        let _ = write!(
            out,
            "{runtime} {noise:10} {:3}.{:05} {:7} {:6} {:6} {:6} {:6} {:6}",
            ratio / 100_000,
            ratio % 100_000,
            self.number("max_sample")?,
            self.number("hw_count")?,
            self.number("nmi_count")?,
            self.number("irq_count")?,
            self.number("softirq_count")?,
            self.number("thread_count")?,
        );
        Ok(())
    }

    fn timerlat(&self, out: &mut Output) -> Result<(), RecordError> {
        let context = match self.signed("context")? {
            0 => "irq",
            1 => "thread",
            // Since Linux 6.5.
            2 => "user-ret",
            _ => "<unknown>",
        };
        let _ = write!(
            out,
            "#{:<5} context {context:>6} timer_latency {:9} ns",
            self.number("seqnum")?,
            self.number("timer_latency")?,
        );
        Ok(())
    }
}

/// Returns the indent: two columns for each calling function.
fn indent(depth: i32) -> usize {
    // No kernel goes deeper: FTRACE_RETFUNC_DEPTH is 50.
    2 * usize::try_from(depth).unwrap_or(0).min(1024)
}

/// Returns the letter of a task's state: `task_index_to_char()` since Linux 4.14,
/// `task_state_char()` before.
fn state_letter(state: u64, version: Option<KernelVersion>) -> char {
    let (letters, index): (&[u8], u64) = match version {
        Some(version) if version < KernelVersion::new(4, 14, 0) => {
            (b"RSDTtXZxKWPNn", 64 - u64::from(state.leading_zeros()))
        }
        _ => (b"RSDTtXZPI", state),
    };
    let letter = usize::try_from(index)
        .ok()
        .and_then(|index| letters.get(index));
    letter.map_or('?', |letter| char::from(*letter))
}

/// Returns a string of `printk_formats` as the kernel has it: the file escapes
/// newlines, tabs and quotes (`t_show()` in `kernel/trace/trace_printk.c`).
fn unescaped(string: &str) -> String {
    let mut text = String::with_capacity(string.len());
    let mut characters = string.chars();
    while let Some(character) = characters.next() {
        let mut ahead = characters.clone();
        match (character, ahead.next()) {
            ('\\', Some('n')) => text.push('\n'),
            ('\\', Some('t')) => text.push('\t'),
            ('\\', Some('"')) => text.push('"'),
            _ => {
                text.push(character);
                continue;
            }
        }
        characters = ahead;
    }
    text
}

fn without_newline(text: &str) -> &str {
    text.strip_suffix('\n').unwrap_or(text)
}
