//! Where decoded records go: lines on standard output, or a file of another program's format.

use tracepoints::record::ring::Lost;
use tracepoints::text::TraceStyle;

use super::print::Printer;
use super::write::FileWriter;
use crate::output::Failure;

pub(super) enum Sink<'a> {
    Lines(Box<Printer<'a>>),
    File(Box<FileWriter<'a>>),
}

impl Sink<'_> {
    /// Whether the output shows the progress.
    pub(super) fn is_lines(&self) -> bool {
        matches!(self, Self::Lines(_))
    }

    /// Sets the buffer of the next records, and the style of its lines.
    pub(super) fn turn_to(&mut self, buffer: &str, style: TraceStyle) {
        match self {
            Self::Lines(printer) => printer.turn_to(buffer, style),
            Self::File(writer) => writer.turn_to(buffer),
        }
    }

    /// Sets the process and thread of the next record, and the thread's name if it is known.
    pub(super) fn task(&mut self, task: Option<(i32, i32)>, name: Option<&[u8]>) {
        match self {
            Self::Lines(printer) => {
                if let (Some((_, tid)), Some(name)) = (task, name)
                    && printer.names.bytes_of(tid) != name
                {
                    printer.names.set(tid, name);
                }
                printer.task = task;
            }
            Self::File(writer) => writer.task(task, name),
        }
    }

    /// Takes a record, or counts it as one that could not be decoded.
    pub(super) fn record(&mut self, cpu: u32, time: u64, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Lines(printer) => printer.print(cpu, time, bytes),
            Self::File(writer) => {
                writer.record(cpu, time, bytes);
                Ok(())
            }
        }
    }

    /// Takes the number of events that one CPU lost.
    pub(super) fn lost(&mut self, cpu: u32, lost: Option<Lost>) -> Result<(), Failure> {
        match (self, lost) {
            (Self::Lines(printer), lost) => printer.lost(cpu, lost),
            (Self::File(writer), Some(lost)) => {
                writer.lost(cpu, lost);
                Ok(())
            }
            (Self::File(_), None) => Ok(()),
        }
    }

    /// Adds lost events, of which the CPU or the time is not known. The caller reports them:
    /// a file has no place for them.
    pub(super) fn lost_somewhere(&mut self, count: u64) {
        if let Self::Lines(printer) = self {
            printer.lost_somewhere(count);
        }
    }

    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        match self {
            Self::Lines(printer) => printer.flush(),
            Self::File(_) => Ok(()),
        }
    }

    /// Ends the output, and reports records that are not in it. Returns whether there were
    /// any.
    pub(super) fn finish(self) -> Result<bool, Failure> {
        match self {
            Self::Lines(mut printer) => printer.finish(),
            Self::File(writer) => writer.finish(),
        }
    }
}
