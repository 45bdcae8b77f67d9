//! Writes `trace.dat`, in version 6, which every `trace-cmd report` and KernelShark read.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::buffers::WrittenBuffers;
use super::files::RecordedKernel;
use super::trace_dat::{MAGIC, MAX_CPUS, id};
use crate::machine::{ByteOrder, Machine};
use crate::record::ring::{Lost, PageWriter};

/// The smallest and largest size of pages that are written, in bytes.
const PAGE_SIZES: (usize, usize) = (4096, 1 << 20);

/// Writes a `trace.dat`: the kernel's files, and records as pages of the ring buffer.
///
/// Records may come from pages, from another recording, or from perf. They are written as
/// they are: a reader takes an event's pid and flags from its bytes. A `trace.dat` has one
/// name for each thread ([`RecordedKernel::set_task_names`]), and no thread groups.
///
/// ```
/// use tracepoints::Kernel;
/// use tracepoints::record::recording::{TraceDat, TraceDatWriter};
///
/// let kernel = Kernel::at("tests/fixtures/6.18.15-x86_64")?;
/// let (layout, events) = (kernel.page_layout()?, kernel.events_by_id()?);
/// let mut writer = TraceDatWriter::new(events.machine(), layout.page_size());
/// let pages = std::fs::read("tests/fixtures/6.18.15-x86_64/ring/cpu0.raw")?;
/// for page in layout.pages(&pages, events.machine().byte_order()) {
///     for entry in page?.entries() {
///         let entry = entry?;
///         writer.record("", 0, entry.timestamp(), entry.bytes())?;
///     }
/// }
/// let mut file = Vec::new();
/// writer.write_to(kernel.to_recorded()?, &mut file)?;
/// assert_eq!(TraceDat::parse(&file)?.buffers().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TraceDatWriter {
    machine: Machine,
    page_size: usize,
    buffers: WrittenBuffers<WrittenBuffer>,
}

#[derive(Clone, Debug, Default)]
struct WrittenBuffer {
    clock: Option<String>,
    cpus: BTreeMap<u32, PageWriter>,
}

/// A record that no recording of a kind can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingWriteError {
    /// A record is larger than a page.
    #[error("a record has {length} bytes, and a page has room for {room}")]
    TooLong {
        /// The length of the record, in bytes.
        length: usize,
        /// The length of the longest record that a page can hold, in bytes.
        room: usize,
    },
    /// A CPU has a number that no CPU has.
    #[error("CPU {cpu}: there are fewer than {limit} CPUs")]
    Cpu {
        /// The CPU.
        cpu: u32,
        /// The number of CPUs that a recording may have.
        limit: usize,
    },
}

impl TraceDatWriter {
    /// Creates a writer of records of this machine. `page_size` is that of the pages to write
    /// in bytes, usually the kernel's own
    /// ([`PageLayout::page_size`](crate::record::ring::PageLayout::page_size)); it becomes a
    /// power of two from 4 KiB to 1 MiB.
    pub fn new(machine: Machine, page_size: usize) -> Self {
        let (least, most) = PAGE_SIZES;
        let page_size = page_size.clamp(least, most).next_power_of_two();
        Self {
            machine,
            page_size,
            buffers: WrittenBuffers::default(),
        }
    }

    /// Sets the clock of a buffer's times: its `trace_clock`, with brackets around the clock
    /// in use. Default: the kernel's file, or `[local]`.
    pub fn set_clock(&mut self, buffer: &str, trace_clock: &str) {
        self.buffers.of(buffer).clock = Some(trace_clock.trim_end().to_owned());
    }

    /// Appends a record, from its `common_type` on. `buffer` is the instance's name, empty
    /// for the top buffer; the time is in units of its clock. Those of one CPU and buffer are
    /// in the order of their times.
    ///
    /// # Errors
    ///
    /// [`RecordingWriteError`]; the record is left out.
    pub fn record(
        &mut self,
        buffer: &str,
        cpu: u32,
        time: u64,
        record: &[u8],
    ) -> Result<(), RecordingWriteError> {
        let pages = self.pages(buffer, cpu)?;
        match pages.push(time, record) {
            true => Ok(()),
            false => Err(RecordingWriteError::TooLong {
                length: record.len(),
                room: pages.room(),
            }),
        }
    }

    /// Says that events of a CPU were lost before its next record.
    ///
    /// # Errors
    ///
    /// [`RecordingWriteError::Cpu`].
    pub fn lost(&mut self, buffer: &str, cpu: u32, lost: Lost) -> Result<(), RecordingWriteError> {
        self.pages(buffer, cpu)?.lose(lost);
        Ok(())
    }

    fn pages(&mut self, buffer: &str, cpu: u32) -> Result<&mut PageWriter, RecordingWriteError> {
        if cpu as usize >= MAX_CPUS {
            return Err(RecordingWriteError::Cpu {
                cpu,
                limit: MAX_CPUS,
            });
        }
        let (machine, page_size) = (self.machine, self.page_size);
        let cpus = &mut self.buffers.of(buffer).cpus;
        let pages = cpus.entry(cpu);
        Ok(pages.or_insert_with(|| PageWriter::new(machine, page_size)))
    }

    /// Writes the file, with the files of the kernel that the records are of. Of these,
    /// `header_page` is that of the pages in the file.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write_to(self, mut kernel: RecordedKernel, out: &mut impl Write) -> io::Result<()> {
        let layout = PageWriter::new(self.machine, self.page_size).layout();
        kernel.set_header_page(&layout.header_page());
        let order = self.machine.byte_order();
        let mut head = DatHead::new(order);
        head.bytes.extend(MAGIC);
        head.bytes.extend(b"6\0");
        let long = self.machine.long_size() as u8;
        head.bytes.extend([(order == ByteOrder::Big).into(), long]);
        head.u32(self.page_size);
        kernel.write_files(&mut head);
        let clock = kernel.clock().unwrap_or("[local]").to_owned();
        let buffers: Vec<(String, String, BTreeMap<u32, Vec<u8>>)> = self
            .buffers
            .into_all()
            .into_iter()
            .map(|(name, buffer)| {
                let cpus = buffer.cpus.into_iter();
                let cpus = cpus.map(|(cpu, pages)| (cpu, pages.finish())).collect();
                (name, buffer.clock.unwrap_or_else(|| clock.clone()), cpus)
            })
            .collect();
        let last = buffers.iter().filter_map(|(_, _, cpus)| cpus.keys().max());
        let cpus = last.max().map_or(1, |last| last + 1);
        head.u32(cpus as usize);
        head.bytes.extend(b"options  \0");
        head.option(id::TRACE_CLOCK, format!("{}\0", buffers[0].1).as_bytes());
        if let Some(uname) = kernel.uname() {
            head.option(id::UNAME, uname.as_bytes());
        }
        // Where buffers are is known when all before them is written.
        let instances = buffers.iter().skip(1);
        let options = instances.map(|(name, ..)| 6 + 8 + name.len() + 1);
        let mut place = head.bytes.len() + options.sum::<usize>() + 2;
        for (index, (name, clock, _)) in buffers.iter().enumerate() {
            if index > 0 {
                let mut data = DatHead::new(order);
                data.u64(place);
                data.bytes.extend(name.as_bytes());
                data.bytes.push(0);
                head.option(id::BUFFER, &data.bytes);
            }
            place += FLYRECORD.len() + 16 * cpus as usize + 8 + clock.len();
        }
        head.u16(id::DONE);
        let mut data = place.next_multiple_of(self.page_size);
        for (_, clock, pages) in &buffers {
            head.bytes.extend(FLYRECORD);
            for cpu in 0..cpus {
                let length = pages.get(&cpu).map_or(0, Vec::len);
                head.u64(data);
                head.u64(length);
                data += length;
            }
            head.long_text(clock.as_bytes());
        }
        head.bytes.resize(place.next_multiple_of(self.page_size), 0);
        out.write_all(&head.bytes)?;
        for pages in buffers.iter().flat_map(|(_, _, cpus)| cpus.values()) {
            out.write_all(pages)?;
        }
        Ok(())
    }
}

/// What stands before the places of a buffer's pages.
const FLYRECORD: &[u8] = b"flyrecord\0";

/// All that a file has before its pages.
pub(super) struct DatHead {
    order: ByteOrder,
    pub(super) bytes: Vec<u8>,
}

impl DatHead {
    fn new(order: ByteOrder) -> Self {
        Self {
            order,
            bytes: Vec::new(),
        }
    }

    fn number(&mut self, size: usize, number: u64) {
        let start = self.bytes.len();
        self.bytes.resize(start + size, 0);
        self.order.write_unsigned(&mut self.bytes[start..], number);
    }

    fn u16(&mut self, number: u16) {
        self.number(2, number.into());
    }

    pub(super) fn u32(&mut self, number: usize) {
        self.number(4, number as u64);
    }

    fn u64(&mut self, number: usize) {
        self.number(8, number as u64);
    }

    fn option(&mut self, option: u16, data: &[u8]) {
        self.u16(option);
        self.short_text(data);
    }

    /// Writes bytes after their length in 4 bytes.
    pub(super) fn short_text(&mut self, text: &[u8]) {
        self.u32(text.len());
        self.bytes.extend(text);
    }

    /// Writes bytes after their length in 8 bytes.
    pub(super) fn long_text(&mut self, text: &[u8]) {
        self.u64(text.len());
        self.bytes.extend(text);
    }
}
