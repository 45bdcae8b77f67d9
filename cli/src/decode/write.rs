//! Writes records as a file that other programs read.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use clap::ValueEnum;
use tracepoints::kernel::EventsById;
use tracepoints::record::recording::{RecordedKernel, TraceDatWriter};
use tracepoints::record::ring::Lost;
use tracepoints::text::TaskNames;
use tracepoints::{EventPattern, Kernel, Record, Value};

use super::print::Printer;
use crate::capture::Target;
use crate::kernel::Identity;
use crate::output::{Failure, plural, say, with_causes};

/// A form that is written.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum FileForm {
    /// A trace.dat, for trace-cmd report and KernelShark
    TraceDat,
}

/// What a file tells besides its records.
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
    dat: TraceDatWriter,
    names: TaskNames,
    path: PathBuf,
    target: Target,
    buffer: String,
    task: Option<(i32, i32)>,
    name: Option<Vec<u8>>,
    written: u64,
    /// The threads that had another name before.
    renamed: HashSet<i32>,
    /// The number of records whose thread has another id in the kernel.
    other_ids: u64,
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
        let target = Target::file(&path)?;
        let machine = printer.events.machine();
        let FileForm::TraceDat = form;
        let mut dat = TraceDatWriter::new(machine, recorded.page_size);
        for (buffer, clock) in &recorded.clocks {
            dat.set_clock(buffer, clock);
        }
        Ok(Self {
            events: printer.events,
            only: printer.only,
            kernel: recorded.kernel,
            dat,
            names: printer.names,
            path,
            target,
            buffer: String::new(),
            task: None,
            name: None,
            written: 0,
            renamed: HashSet::new(),
            other_ids: 0,
            failures: BTreeMap::new(),
        })
    }

    pub(super) fn turn_to(&mut self, buffer: &str) {
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
        if !self.only.is_empty() && !self.only.iter().any(|pattern| pattern.matches(event)) {
            return;
        }
        if let Err(error) = self.dat.record(&self.buffer, cpu, time, bytes) {
            let why = format!("{event}: {}", with_causes(&error));
            return self.failed(why);
        }
        self.written += 1;
        if let (Some((_, tid)), Some(pid)) = (self.task, pid_of(&record)) {
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
    }

    pub(super) fn lost(&mut self, cpu: u32, lost: Lost) {
        if let Err(error) = self.dat.lost(&self.buffer, cpu, lost) {
            self.failed(with_causes(&error));
        }
    }

    fn failed(&mut self, why: String) {
        *self.failures.entry(why).or_default() += 1;
    }

    /// Writes the file, and reports what is not in it. Returns whether records are missing.
    pub(super) fn finish(mut self) -> Result<bool, Failure> {
        let names = self.names.to_saved_cmdlines();
        self.kernel.set_task_names(&names);
        self.target
            .write_file(|out| self.dat.write_to(self.kernel, out))?;
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
