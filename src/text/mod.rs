//! Records as the kernel prints them.

mod addresses;
mod binary_printf;
mod flags;
mod ftrace;
mod line;
mod number;
mod output;
mod pointer;
mod printer;
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
use crate::format::print::PrintFmtError;
use crate::format::print::eval::{Compiler, Scope};
use crate::machine::Machine;
use crate::name::EventName;
use crate::record::{Record, RecordError};
use ftrace::FtraceEvent;
use number::write;
use output::Output;
use printer::{Printer, Step, steps};
use probe_event::ProbeEventText;
use scene::Scene;
use synthetic::SyntheticText;
use syscall::SyscallPrint;

/// Prints one event's records as the kernel's `trace` file does. The event's print fmt
/// is parsed once, when the renderer is made.
///
/// Values that the record alone does not give are printed in `<…>`: helpers that only a
/// driver can evaluate (`<nvme_trace_disk_name(…)>`), numbers that an enumerator of
/// unknown value may name (`<0x9>`), and data outside of the record. For `%p` the
/// kernel prints a hash; the renderer prints the true address, with `0x` before it
/// (`%px`: without). Functions and strings of the kernel are printed by name if
/// [`Addresses`] knows them.
///
/// The kernel does not print `syscalls:*` by their print fmts: see [`SyscallText`].
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
    /// Printed by the kernel's code, whatever the print fmt says.
    Syscall(SyscallStyle, SyscallPrint),
    Ftrace(FtraceEvent),
    Synthetic(SyntheticText),
    Probe(ProbeEventText),
}

impl Renderer {
    /// Creates a renderer for an event.
    ///
    /// Enumerators that the print fmt names have unknown values;
    /// [`Kernel::renderer`](crate::Kernel::renderer) takes them from BTF.
    ///
    /// # Errors
    ///
    /// [`PrintFmtError`] if the print fmt cannot be parsed.
    pub fn new(
        event: &EventName,
        format: &Format,
        machine: Machine,
    ) -> Result<Self, PrintFmtError> {
        Self::with_constants(event, format, machine, &|_| None)
    }

    /// Creates a renderer with the values of the enumerators that the kernel left in
    /// the print fmt by name. [`Kernel::renderer`](crate::Kernel::renderer) takes them
    /// from BTF.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
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

    /// Sets the kernel's version: before Linux 6.18 the arguments of system calls have
    /// no `0x`, before 4.14 tasks' states have other letters.
    #[must_use]
    pub fn with_version(mut self, version: KernelVersion) -> Self {
        self.version = Some(version);
        self.with_syscall_style(SyscallStyle::of_version(version))
    }

    /// Sets how the arguments of system calls are written.
    #[must_use]
    pub fn with_syscall_style(mut self, style: SyscallStyle) -> Self {
        if let Style::Syscall(known, _) = &mut self.style {
            *known = style;
        }
        self
    }

    /// Adds tracefs' `dynamic_events`, which describes events made at run time: whether
    /// a probe is in the kernel, and which event an event probe is attached to.
    #[must_use]
    pub fn with_dynamic_events(mut self, dynamic_events: &str) -> Self {
        if let Style::Probe(probe) = &mut self.style {
            probe.find_in(dynamic_events, &self.event);
        }
        self
    }

    /// Whether it prints a `gfp_t`, whose names are not in the event's format.
    pub(crate) fn needs_gfp_flags(&self) -> bool {
        matches!(&self.style, Style::Synthetic(synthetic) if synthetic.has_gfp())
    }

    pub(crate) fn with_gfp_flags(mut self, flags: GfpFlags) -> Self {
        if let Style::Synthetic(synthetic) = &mut self.style {
            synthetic.set_gfp_flags(flags);
        }
        self
    }

    /// Whether it prints a probe's text, which depends on more than the format.
    pub(crate) fn is_probe(&self) -> bool {
        matches!(self.style, Style::Probe(_))
    }

    pub(crate) fn is_syscall(&self) -> bool {
        matches!(self.style, Style::Syscall(..))
    }

    /// Returns the parts of the print fmt that cannot be evaluated, as written there;
    /// they are printed in `<…>`. For a table, a part is an entry (`{ REL, "REL" }`)
    /// whose value is unknown; numbers that it may name are then printed in `<…>`.
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

    /// Appends a record's text. The record must have the format and the machine that
    /// the renderer was made for.
    ///
    /// Bytes that are not UTF-8 are replaced; [`render_bytes`](Self::render_bytes)
    /// keeps them.
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

    /// Appends a record's whole line as `trace` has it, byte for byte, with the
    /// newline. Ftrace's own events and system calls have no name before their text,
    /// and the tracer `mmiotrace` writes no [`TraceContext`] before its lines.
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
            // For events without fields, nothing follows the name.
            text.trim_spaces();
        }
        text.push('\n');
        *out = text.into_bytes();
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    /// Appends a record's text, like [`render`](Self::render), given where and when it
    /// was written: some of ftrace's own events show times and the names of other
    /// processes.
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
        // Written in place: a text has many small pieces.
        let mut text = Output::after(std::mem::take(out).into_bytes());
        if let Err(error) = self.write(record, &scene, &mut text) {
            write(&mut text, format_args!("<{error}>"));
        }
        *out = String::from_utf8(text.into_bytes())
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    }

    /// Whether `trace` shows the event's name before the text.
    pub fn has_name(&self) -> bool {
        !matches!(self.style, Style::Syscall(..) | Style::Ftrace(_))
    }

    /// Checks that the record has all the data that are printed. Data that are cut off
    /// would otherwise be printed in `<…>`.
    ///
    /// # Errors
    ///
    /// [`RecordError`] for the first field that is cut off.
    pub fn check(&self, record: &Record<'_>) -> Result<(), RecordError> {
        // Ftrace's own events end with a field as long as its data, whatever the format
        // says.
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
