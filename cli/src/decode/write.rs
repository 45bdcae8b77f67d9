//! Writes records as a file that other programs read.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::PathBuf;

use clap::ValueEnum;
use tracepoints::kernel::EventsById;
use tracepoints::record::recording::{CtfWriter, Occurrence, RecordedKernel, TraceDatWriter};
use tracepoints::record::ring::Lost;
use tracepoints::text::{TaskNames, TraceClock, TraceStyle};
use tracepoints::{EventPattern, Kernel, Record, Value};

use super::perfetto::PerfettoWriter;
use super::print::{Printer, process_of};
use crate::capture::Target;
use crate::kernel::Identity;
use crate::output::{Failure, plural, say, with_causes};
use crate::select::is_among;

/// A form that is written.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum FileForm {
    /// A trace.dat, for trace-cmd report and KernelShark
    TraceDat,
    /// The Common Trace Format 1.8, a directory, for babeltrace2 and Trace Compass
    Ctf,
    /// A trace of Perfetto, for ui.perfetto.dev and its trace processor
    Perfetto,
}

/// A form with what was written so far.
enum Content {
    TraceDat(TraceDatWriter),
    Ctf(CtfWriter),
    Perfetto(PerfettoWriter),
}

/// The parts of a file besides its records.
pub(super) struct Recorded {
    pub(super) kernel: RecordedKernel,
    /// In bytes, at least as large as all records.
    pub(super) page_size: usize,
    /// Each buffer's `trace_clock`.
    pub(super) clocks: Vec<(String, String)>,
}

impl Recorded {
    pub(super) fn new(
        kernel: &Kernel,
        identity: &Identity,
        page_size: usize,
    ) -> Result<Self, Failure> {
        let mut recorded = kernel.to_recorded()?;
        recorded.set_uname(identity.release(), identity.architecture());
        Ok(Self {
            kernel: recorded,
            page_size,
            clocks: Vec::new(),
        })
    }
}

pub(super) struct FileWriter<'a> {
    events: &'a EventsById,
    only: Vec<EventPattern>,
    kernel: RecordedKernel,
    content: Content,
    target: Target,
    names: TaskNames,
    groups: TaskNames,
    path: PathBuf,
    buffer: String,
    clock: TraceClock,
    task: Option<(i32, i32)>,
    name: Option<Vec<u8>>,
    written: u64,
    /// The threads that had another name before.
    renamed: HashSet<i32>,
    /// The number of records whose thread has another id in the kernel.
    other_ids: u64,
    /// The number of times that an unknown number of events was lost.
    unknown_losses: u64,
    failures: BTreeMap<String, u64>,
}

impl<'a> FileWriter<'a> {
    /// Creates the file, which must not exist, and takes over what a printer would know.
    pub(super) fn new(
        path: PathBuf,
        form: FileForm,
        recorded: Recorded,
        printer: Printer<'a>,
    ) -> Result<Self, Failure> {
        let (target, content) = match form {
            FileForm::TraceDat => {
                let machine = printer.events.machine();
                let mut dat = TraceDatWriter::new(machine, recorded.page_size);
                for (buffer, clock) in &recorded.clocks {
                    dat.set_clock(buffer, clock);
                }
                (Target::file(&path)?, Content::TraceDat(dat))
            }
            FileForm::Ctf => (Target::directory(&path)?, Content::Ctf(CtfWriter::new())),
            FileForm::Perfetto => (
                Target::file(&path)?,
                Content::Perfetto(PerfettoWriter::new()),
            ),
        };
        Ok(Self {
            events: printer.events,
            only: printer.only,
            kernel: recorded.kernel,
            content,
            target,
            names: printer.names,
            groups: printer.groups,
            path,
            buffer: String::new(),
            clock: TraceClock::default(),
            task: None,
            name: None,
            written: 0,
            renamed: HashSet::new(),
            other_ids: 0,
            unknown_losses: 0,
            failures: BTreeMap::new(),
        })
    }

    pub(super) fn turn_to(&mut self, buffer: &str, style: TraceStyle) {
        self.clock = style.clock();
        if self.buffer != buffer {
            buffer.clone_into(&mut self.buffer);
        }
    }

    pub(super) fn task(&mut self, task: Option<(i32, i32)>, name: Option<&[u8]>) {
        self.task = task;
        self.name = name.map(<[u8]>::to_owned);
    }

    pub(super) fn record(&mut self, cpu: u32, time: u64, bytes: &[u8]) {
        let (event, record) = match self.events.record(bytes) {
            Ok(found) => found,
            Err(error) => return self.failed(with_causes(&error)),
        };
        if !is_among(&self.only, event) {
            return;
        }
        let occurrence = || {
            let of_perf = self.task.map(|(_, tid)| tid);
            let tid = of_perf.or_else(|| pid_of(&record)).unwrap_or(-1);
            let comm = match &self.name {
                Some(name) => name,
                None if self.names.has(tid) || tid == 0 => self.names.bytes_of(tid),
                None => b"",
            };
            Occurrence {
                cpu,
                time,
                pid: process_of(self.task, tid, &self.groups),
                tid,
                comm,
            }
        };
        let written = match &mut self.content {
            Content::TraceDat(dat) => dat
                .record(&self.buffer, cpu, time, bytes)
                .map_err(|error| with_causes(&error)),
            _ if self.clock == TraceClock::Counts => {
                let why = "times of its buffer's clock are not in nanoseconds";
                return self.failed(why.to_owned());
            }
            Content::Ctf(ctf) => ctf
                .event(&self.buffer, occurrence(), event, &record)
                .map_err(|error| with_causes(&error)),
            Content::Perfetto(perfetto) => match occurrence() {
                at if at.tid < 0 => Err("its thread is not known".to_owned()),
                at => perfetto
                    .event(&self.buffer, at, event, &record)
                    .map_err(|error| with_causes(&error)),
            },
        };
        let written = written.map_err(|why| format!("{event}: {why}"));
        if let Err(why) = written {
            return self.failed(why);
        }
        self.written += 1;
        if let (Content::TraceDat(_), Some((_, tid)), Some(pid)) =
            (&self.content, self.task, pid_of(&record))
        {
            self.note_task(pid, tid);
        }
    }

    /// Keeps the name of a thread, of which a `trace.dat` has one.
    fn note_task(&mut self, pid: i32, tid: i32) {
        self.other_ids += u64::from(tid != pid);
        if let Some(name) = self.name.take().filter(|_| tid > 0)
            && self.names.bytes_of(pid) != name
        {
            if self.names.has(pid) {
                self.renamed.insert(pid);
            }
            self.names.set(pid, name);
        }
    }

    pub(super) fn lost(&mut self, cpu: u32, lost: Lost) {
        match (&mut self.content, lost) {
            (Content::TraceDat(dat), lost) => {
                if let Err(error) = dat.lost(&self.buffer, cpu, lost) {
                    self.failed(with_causes(&error));
                }
            }
            (Content::Ctf(ctf), Lost::Events(count)) => ctf.lost(&self.buffer, cpu, count),
            (Content::Ctf(_), _) => self.unknown_losses += 1,
            (Content::Perfetto(perfetto), lost) => perfetto.lost(&self.buffer, cpu, lost),
        }
    }

    fn failed(&mut self, why: String) {
        *self.failures.entry(why).or_default() += 1;
    }

    /// Writes the file, and reports what is not in it. Returns whether records are missing.
    pub(super) fn finish(mut self) -> Result<bool, Failure> {
        let (mut missing, mut buffers) = (BTreeMap::new(), 1);
        match self.content {
            Content::TraceDat(dat) => {
                let names = self.names.to_saved_cmdlines();
                self.kernel.set_task_names(&names);
                self.target
                    .write_file(|out| dat.write_to(self.kernel, out))?;
            }
            Content::Ctf(ctf) => self.target.write(&ctf.finish(&self.kernel))?,
            Content::Perfetto(perfetto) => {
                missing = perfetto.missing().clone();
                buffers = perfetto.buffers();
                let trace = perfetto.finish(&self.kernel);
                self.target.write_file(|out| out.write_all(&trace))?;
            }
        }
        let path = self.path.display();
        say!("{} in {path}", plural(self.written, "record", "s"));
        if !self.renamed.is_empty() {
            let threads = plural(self.renamed.len() as u64, "thread", "s");
            say!("{path} has one name for each thread: of {threads} with several, the last");
        }
        if self.other_ids > 0 {
            let records = plural(self.other_ids, "record", "s");
            say!("{path} has the kernel's ids of threads, where perf says others: {records}");
        }
        if self.unknown_losses > 0 {
            let times = plural(self.unknown_losses, "time", "s");
            say!("{path} does not tell that {times} an unknown number of events was lost");
        }
        if buffers > 1 {
            say!("{path} does not tell the {buffers} buffers of its events apart");
        }
        for (event, fields) in missing {
            say!(
                "{path} lacks what Perfetto's {event} does not have: {}",
                fields.join(", ")
            );
        }
        for (why, count) in &self.failures {
            say!("{} not written: {why}", plural(*count, "record", "s"));
        }
        Ok(!self.failures.is_empty())
    }
}

/// Returns the thread of a record, by its own bytes.
fn pid_of(record: &Record<'_>) -> Option<i32> {
    match record.value(record.format().field("common_pid")?).ok()? {
        Value::Signed(pid) => i32::try_from(pid).ok(),
        _ => None,
    }
}
