//! `trace.dat`, in its versions 6 and 7.

use std::borrow::Cow;
use std::collections::HashSet;

use super::cursor::Cursor;
use super::error::{RecordingError, RecordingPlace};
use super::files::RecordedKernel;
use super::unpack::{Packing, Unpacker};
use crate::machine::{ByteOrder, until_nul};
use crate::record::ring::PageLayout;

pub(super) const MAGIC: &[u8] = b"\x17\x08\x44tracing";

/// Limit on CPUs of a buffer. `CONFIG_NR_CPUS` is 8,192 at most.
pub(super) const MAX_CPUS: usize = 65_536;
/// Limit on buffers. There is one for each `-B` of `trace-cmd record`, and the top one.
const MAX_BUFFERS: usize = 4096;
/// Limit on options, of which there are some dozens and one for each CPU.
const MAX_OPTIONS: usize = 262_144;

/// Ids of options and sections (`trace-cmd.dat.v7(5)`).
pub(super) mod id {
    pub(in crate::record::recording) const DONE: u16 = 0;
    pub(in crate::record::recording) const DATE: u16 = 1;
    pub(in crate::record::recording) const BUFFER: u16 = 3;
    pub(in crate::record::recording) const TRACE_CLOCK: u16 = 4;
    pub(in crate::record::recording) const UNAME: u16 = 5;
    pub(in crate::record::recording) const OFFSET: u16 = 7;
    pub(in crate::record::recording) const CPU_COUNT: u16 = 8;
    pub(in crate::record::recording) const TIME_SHIFT: u16 = 12;
    pub(in crate::record::recording) const TSC_TO_NS: u16 = 14;
    pub(in crate::record::recording) const HEADERS: u16 = 16;
    pub(in crate::record::recording) const FTRACE_FORMATS: u16 = 17;
    pub(in crate::record::recording) const FORMATS: u16 = 18;
    pub(in crate::record::recording) const KALLSYMS: u16 = 19;
    pub(in crate::record::recording) const PRINTK_FORMATS: u16 = 20;
    pub(in crate::record::recording) const TASK_NAMES: u16 = 21;
    pub(in crate::record::recording) const BUFFER_TEXT: u16 = 22;
}

/// A file of `trace-cmd record`: see [`recording`](crate::record::recording).
///
/// It borrows the file's bytes. Compressed parts are decompressed at once.
#[derive(Clone, Debug)]
pub struct TraceDat<'a> {
    version: u32,
    pub(super) kernel: RecordedKernel,
    buffers: Vec<TraceBuffer<'a>>,
    time_offset: i64,
    has_other_times: bool,
}

/// One of the ring buffers that were recorded: the top one, or that of an instance of
/// tracefs.
#[derive(Clone, Debug)]
pub struct TraceBuffer<'a> {
    name: String,
    clock: Option<String>,
    page_size: u32,
    cpus: Vec<CpuPages<'a>>,
}

/// One CPU's pages of a ring buffer.
#[derive(Clone, Debug)]
pub struct CpuPages<'a> {
    pub(super) cpu: u32,
    pub(super) offset: u64,
    pub(super) bytes: Cow<'a, [u8]>,
}

impl<'a> TraceDat<'a> {
    /// Whether bytes begin as a `trace.dat` does: the first 10 are enough.
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`RecordingError`], with the place in the file.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RecordingError> {
        if !Self::is_one(bytes) {
            return Err(RecordingError::NotTraceDat);
        }
        let mut cursor = Cursor::new(bytes, ByteOrder::Little);
        cursor.take(MAGIC.len() as u64, "the magic number")?;
        let version = cursor.text("the version")?;
        let version = match version {
            b"6" => 6,
            b"7" => 7,
            other => {
                return Err(RecordingError::Version {
                    version: String::from_utf8_lossy(other).chars().take(80).collect(),
                });
            }
        };
        cursor.read_byte_order()?;
        // The size in user space; the kernel's is that of `commit` in `header_page`.
        cursor.take(1, "the size of a long")?;
        let page_size = page_size(&mut cursor)?;
        let parser = Parser {
            file: Cursor::new(bytes, cursor.order),
            unpacker: Unpacker::new(Packing::None, bytes.len()),
            data_left: bytes.len() as u64,
            options: 0,
            sections: HashSet::new(),
            cpu_count: None,
            has_clock: false,
            dat: Self {
                version,
                kernel: RecordedKernel::new(cursor.order),
                buffers: Vec::new(),
                time_offset: 0,
                has_other_times: false,
            },
        };
        match version {
            6 => parser.version_6(cursor, page_size),
            _ => parser.version_7(cursor),
        }
    }

    /// Returns the version of the file's format: 6 or 7.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Returns the files of the recorded kernel.
    pub fn kernel(&self) -> &RecordedKernel {
        &self.kernel
    }

    /// Returns the recorded buffers, the top one first.
    pub fn buffers(&self) -> &[TraceBuffer<'a>] {
        &self.buffers
    }

    /// Returns the offset that is added to each time, in nanoseconds:
    /// `trace-cmd record --date` and `--ts-offset` store it.
    pub fn time_offset(&self) -> i64 {
        self.time_offset
    }

    /// Whether the recording says how to convert times to another clock (of a guest, or
    /// from ticks of the CPU). This crate does not convert them: times are the recorded
    /// ones.
    pub fn has_other_times(&self) -> bool {
        self.has_other_times
    }
}

impl<'a> TraceBuffer<'a> {
    /// Returns the instance's name, as it is in the file; empty for the top buffer.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the buffer's `trace_clock`, with brackets around the clock in use, for
    /// [`TraceClock::of_file`](crate::text::TraceClock::of_file); `None` if the recording
    /// does not say it.
    pub fn clock(&self) -> Option<&str> {
        self.clock.as_deref()
    }

    /// Returns the layout of its pages: the kernel's, with this buffer's page size.
    pub fn layout(&self, kernel: PageLayout) -> PageLayout {
        kernel.with_page_size(self.page_size as usize)
    }

    /// Returns the pages of each CPU.
    pub fn cpus(&self) -> &[CpuPages<'a>] {
        &self.cpus
    }
}

impl CpuPages<'_> {
    /// Returns the CPU's number.
    pub fn cpu(&self) -> u32 {
        self.cpu
    }

    /// Returns the offset of the pages in the file, or of the compressed pages, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the pages, one after the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a page size: kernels have a power of two pages in a sub-buffer.
pub(super) fn page_size(cursor: &mut Cursor<'_>) -> Result<u32, RecordingError> {
    let place = cursor.place();
    match cursor.u32("the page size")? {
        size if size.is_power_of_two() && (1 << 10..=1 << 28).contains(&size) => Ok(size),
        _ => Err(RecordingError::Expected {
            expected: "a page size",
            place,
        }),
    }
}

/// A file that is being read.
pub(super) struct Parser<'a> {
    /// The whole file.
    pub(super) file: Cursor<'a>,
    pub(super) unpacker: Unpacker,
    /// The number of bytes of the file that no CPU's data has taken. Without overlaps,
    /// reading all data takes time in proportion to the file.
    data_left: u64,
    options: usize,
    /// The kinds of sections with files that were read (version 7).
    pub(super) sections: HashSet<u16>,
    cpu_count: Option<u32>,
    /// Whether a clock follows each list of CPUs (version 6).
    has_clock: bool,
    pub(super) dat: TraceDat<'a>,
}

/// The place of a buffer, as its option says it.
pub(super) struct BufferOption<'a> {
    offset: u64,
    name: &'a [u8],
}

impl<'a> Parser<'a> {
    fn version_6(
        mut self,
        mut cursor: Cursor<'a>,
        page_size: u32,
    ) -> Result<TraceDat<'a>, RecordingError> {
        let kernel = &mut self.dat.kernel;
        kernel.read_headers(&mut cursor)?;
        kernel.read_ftrace_formats(&mut cursor)?;
        kernel.read_formats(&mut cursor)?;
        kernel.read_kallsyms(&mut cursor)?;
        kernel.read_printk_formats(&mut cursor)?;
        kernel.read_task_names(&mut cursor)?;
        let cpus = cursor.u32("the number of CPUs")?;
        let mut instances = Vec::new();
        if cursor.rest().starts_with(b"options  \0") {
            cursor.expect(b"options  \0", "options")?;
            loop {
                let option = cursor.u16("an option")?;
                if option == id::DONE {
                    break;
                }
                let length = cursor.u32("an option")?;
                let data = cursor.part(length.into(), "an option")?;
                if let Some(instance) = self.option(option, data)? {
                    instances.push(instance);
                }
            }
        }
        let cpus = self.cpu_count.unwrap_or(cpus);
        self.buffer_6(cursor, b"", cpus, page_size)?;
        for BufferOption { offset, name } in instances {
            let cursor = self.file.seek(offset, "a buffer")?;
            self.buffer_6(cursor, name, cpus, page_size)?;
        }
        Ok(self.dat)
    }

    /// Reads where each CPU's data is.
    fn buffer_6(
        &mut self,
        mut cursor: Cursor<'a>,
        name: &[u8],
        cpus: u32,
        page_size: u32,
    ) -> Result<(), RecordingError> {
        if cursor.rest().starts_with(b"latency  \0") {
            return Err(RecordingError::Latency);
        }
        cursor.expect(b"flyrecord\0", "\"flyrecord\" or \"options\"")?;
        let mut pages = Vec::new();
        for cpu in 0..cpus {
            too_many(pages.len(), MAX_CPUS, "CPUs")?;
            let offset = cursor.u64("where a CPU's data is")?;
            let length = cursor.u64("where a CPU's data is")?;
            let bytes = Cow::Borrowed(self.data(cpu, offset, length)?.rest());
            pages.push(CpuPages { cpu, offset, bytes });
        }
        let mut clock = None;
        if self.has_clock {
            let length = cursor.u64("a buffer's clock")?;
            let text = cursor.take(length, "a buffer's clock")?;
            clock = Some(String::from_utf8_lossy(text).into_owned());
        }
        self.add_buffer(name, clock, page_size, pages)
    }

    /// Returns a cursor in a CPU's data alone.
    pub(super) fn data(
        &mut self,
        cpu: u32,
        offset: u64,
        length: u64,
    ) -> Result<Cursor<'a>, RecordingError> {
        // Without data the offset means nothing.
        let offset = if length == 0 { 0 } else { offset };
        let mut cursor = self.file.seek(offset, "a CPU's data")?;
        let place = cursor.place();
        let data = cursor.part(length, "a CPU's data")?;
        self.charge(cpu, place, length)?;
        Ok(data)
    }

    /// Counts bytes of the file as a CPU's data.
    pub(super) fn charge(
        &mut self,
        cpu: u32,
        place: RecordingPlace,
        length: u64,
    ) -> Result<(), RecordingError> {
        match self.data_left.checked_sub(length) {
            Some(left) => self.data_left = left,
            None => return Err(RecordingError::Overlap { cpu, place }),
        }
        Ok(())
    }

    pub(super) fn add_buffer(
        &mut self,
        name: &[u8],
        clock: Option<String>,
        page_size: u32,
        cpus: Vec<CpuPages<'a>>,
    ) -> Result<(), RecordingError> {
        too_many(self.dat.buffers.len(), MAX_BUFFERS, "buffers")?;
        let buffer = TraceBuffer {
            name: String::from_utf8_lossy(name).into_owned(),
            clock,
            page_size,
            cpus,
        };
        match name.is_empty() {
            true => self.dat.buffers.insert(0, buffer),
            false => self.dat.buffers.push(buffer),
        }
        Ok(())
    }

    /// Takes over an option that both versions have. Returns the place of a buffer.
    pub(super) fn option<'b>(
        &mut self,
        option: u16,
        mut data: Cursor<'b>,
    ) -> Result<Option<BufferOption<'b>>, RecordingError> {
        self.count_option()?;
        let text = until_nul(data.rest());
        match option {
            id::BUFFER => {
                let offset = data.u64("a buffer")?;
                let name = until_nul(data.rest());
                return Ok(Some(BufferOption { offset, name }));
            }
            id::UNAME => self.dat.kernel.read_uname(text),
            id::TRACE_CLOCK => {
                self.dat.kernel.set_clock(text);
                self.has_clock = true;
            }
            id::CPU_COUNT => self.cpu_count = Some(data.u32("the number of CPUs")?),
            // The date is in microseconds.
            id::DATE => self.add_time(text, 1000),
            id::OFFSET => self.add_time(text, 1),
            id::TIME_SHIFT | id::TSC_TO_NS => self.dat.has_other_times = true,
            _ => {}
        }
        Ok(None)
    }

    pub(super) fn count_option(&mut self) -> Result<(), RecordingError> {
        too_many(self.options, MAX_OPTIONS, "options")?;
        self.options += 1;
        Ok(())
    }

    /// Adds a number to the offset of times, as `strtoll()` reads it: decimal, or with
    /// `0x`.
    fn add_time(&mut self, text: &[u8], unit: i64) {
        let text = String::from_utf8_lossy(text);
        let (sign, digits) = match text.trim().strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text.trim()),
        };
        let number = match digits.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16),
            None => digits.parse(),
        };
        let offset = number.unwrap_or(0).wrapping_mul(sign).wrapping_mul(unit);
        self.dat.time_offset = self.dat.time_offset.wrapping_add(offset);
    }
}

/// Fails if there would be one more than the limit.
pub(super) fn too_many(
    have: usize,
    limit: usize,
    what: &'static str,
) -> Result<(), RecordingError> {
    match have < limit {
        true => Ok(()),
        false => Err(RecordingError::TooMany { what, limit }),
    }
}
