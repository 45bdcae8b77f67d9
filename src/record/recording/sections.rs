//! Version 7 of `trace.dat`: sections that options point to.

use std::borrow::Cow;
use std::collections::HashSet;

use super::cursor::Cursor;
use super::error::{RecordingError, RecordingPlace};
use super::trace_dat::{CpuPages, MAX_CPUS, Parser, TraceDat, id, page_size, too_many};
use super::unpack::Packing;

/// Limit on sections of options, of which there are one or two.
const MAX_OPTION_SECTIONS: usize = 1024;

/// The flag of a compressed section.
const IS_PACKED: u16 = 1;

/// A buffer as its option describes it.
struct BufferList {
    /// The offset of its section.
    offset: u64,
    name: Vec<u8>,
    clock: String,
    page_size: u32,
    /// The number, offset and size of each CPU's data.
    cpus: Vec<(u32, u64, u64)>,
}

impl BufferList {
    fn read(mut data: Cursor<'_>) -> Result<Self, RecordingError> {
        const PART: &str = "where a CPU's data is";
        let offset = data.u64("a buffer")?;
        let name = data.text("a buffer's name")?.to_owned();
        let clock = data.text("a buffer's clock")?;
        // The recording has only the name of the clock in use.
        let clock = format!("[{}]", String::from_utf8_lossy(clock));
        let page_size = page_size(&mut data)?;
        let count = data.u32("the number of CPUs")?;
        let mut cpus = Vec::new();
        for _ in 0..count {
            too_many(cpus.len(), MAX_CPUS, "CPUs")?;
            cpus.push((data.u32(PART)?, data.u64(PART)?, data.u64(PART)?));
        }
        Ok(Self {
            offset,
            name,
            clock,
            page_size,
            cpus,
        })
    }
}

/// The header of a section, and where its content begins.
struct DatSection<'a> {
    content: Cursor<'a>,
    size: u64,
    is_packed: bool,
}

impl<'a> Parser<'a> {
    pub(super) fn version_7(
        mut self,
        mut cursor: Cursor<'a>,
    ) -> Result<TraceDat<'a>, RecordingError> {
        self.unpacker.packing = Packing::of_name(cursor.text("the compression")?)?;
        cursor.text("the compression's version")?;
        let mut next = cursor.u64("where the options are")?;
        let mut seen = HashSet::new();
        let mut buffers = Vec::new();
        loop {
            too_many(seen.len(), MAX_OPTION_SECTIONS, "sections of options")?;
            if !seen.insert(next) {
                return Err(RecordingError::Expected {
                    expected: "a section of options that was not read before",
                    place: RecordingPlace {
                        offset: next,
                        within: None,
                    },
                });
            }
            next = self.options(next, &mut buffers)?;
            if next == 0 {
                break;
            }
        }
        if !self.dat.kernel.has_headers() {
            return Err(RecordingError::Missing {
                part: "header_page",
            });
        }
        for buffer in buffers {
            self.buffer(buffer)?;
        }
        Ok(self.dat)
    }

    /// Reads the options at an offset. Returns the offset of the next ones, or 0.
    fn options(
        &mut self,
        offset: u64,
        buffers: &mut Vec<BufferList>,
    ) -> Result<u64, RecordingError> {
        let mut unpacked = Vec::new();
        let mut cursor = self.section(offset, id::DONE, &mut unpacked)?;
        loop {
            let option = cursor.u16("an option")?;
            let length = cursor.u32("an option")?;
            let mut data = cursor.part(length.into(), "an option")?;
            match option {
                id::DONE => return data.u64("the end of the options"),
                id::BUFFER => {
                    self.count_option()?;
                    buffers.push(BufferList::read(data)?);
                }
                id::BUFFER_TEXT => return Err(RecordingError::Latency),
                id::HEADERS..=id::TASK_NAMES => {
                    self.count_option()?;
                    let offset = data.u64("where a section is")?;
                    self.files(option, offset)?;
                }
                // `option` returns only buffers, which are taken above.
                _ => {
                    self.option(option, data)?;
                }
            }
        }
    }

    /// Reads a section with files of the kernel.
    fn files(&mut self, section: u16, offset: u64) -> Result<(), RecordingError> {
        // Each section is there once. Reading one again and again would take more time than
        // the file is long.
        if !self.sections.insert(section) {
            return Err(RecordingError::Expected {
                expected: "a section of a kind that was not read before",
                place: RecordingPlace {
                    offset,
                    within: None,
                },
            });
        }
        let mut unpacked = Vec::new();
        let mut cursor = self.section(offset, section, &mut unpacked)?;
        let kernel = &mut self.dat.kernel;
        match section {
            id::HEADERS => kernel.read_headers(&mut cursor),
            id::FTRACE_FORMATS => kernel.read_ftrace_formats(&mut cursor),
            id::FORMATS => kernel.read_formats(&mut cursor),
            id::KALLSYMS => kernel.read_kallsyms(&mut cursor),
            id::PRINTK_FORMATS => kernel.read_printk_formats(&mut cursor),
            _ => kernel.read_task_names(&mut cursor),
        }
    }

    fn header(&self, offset: u64, section: u16) -> Result<DatSection<'a>, RecordingError> {
        const PART: &str = "the header of a section";
        let mut content = self.file.seek(offset, PART)?;
        let place = content.place();
        if content.u16(PART)? != section {
            return Err(RecordingError::Expected {
                expected: "a section of the kind that its option says",
                place,
            });
        }
        let flags = content.u16(PART)?;
        // The section's description.
        content.u32(PART)?;
        let size = content.u64(PART)?;
        Ok(DatSection {
            content,
            size,
            is_packed: flags & IS_PACKED != 0,
        })
    }

    /// Returns a section's content, which is decompressed into `unpacked` if necessary.
    fn section<'b>(
        &mut self,
        offset: u64,
        section: u16,
        unpacked: &'b mut Vec<u8>,
    ) -> Result<Cursor<'b>, RecordingError>
    where
        'a: 'b,
    {
        let mut section = self.header(offset, section)?;
        let mut content = section.content.part(section.size, "a section")?;
        if !section.is_packed {
            return Ok(content);
        }
        let start = content.place().offset;
        self.chunk(&mut content, unpacked)?;
        Ok(Cursor::unpacked(unpacked, content.order, start))
    }

    /// Decompresses a part, which its two sizes precede.
    fn chunk(&mut self, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), RecordingError> {
        const PART: &str = "compressed data";
        let packed = cursor.u32(PART)?;
        let size = cursor.u32(PART)?;
        let place = cursor.place();
        let packed = cursor.take(packed.into(), PART)?;
        self.unpacker.unpack(packed, size.into(), place, out)
    }

    /// Decompresses a CPU's data. Only the parts tell where it ends: the length in its
    /// option does not count the number of parts before them.
    fn packed_data(&mut self, cpu: u32, offset: u64) -> Result<Vec<u8>, RecordingError> {
        let mut unpacked = Vec::new();
        let mut data = self.file.seek(offset, "a CPU's data")?;
        let parts = data.u32("the number of compressed parts")?;
        for _ in 0..parts {
            let place = data.place();
            self.chunk(&mut data, &mut unpacked)?;
            self.charge(cpu, place, data.place().offset - place.offset)?;
        }
        Ok(unpacked)
    }

    fn buffer(&mut self, buffer: BufferList) -> Result<(), RecordingError> {
        let section = self.header(buffer.offset, id::BUFFER)?;
        let mut pages = Vec::new();
        for (cpu, offset, length) in buffer.cpus {
            let bytes = match section.is_packed && length > 0 {
                false => Cow::Borrowed(self.data(cpu, offset, length)?.rest()),
                true => Cow::Owned(self.packed_data(cpu, offset)?),
            };
            pages.push(CpuPages { cpu, offset, bytes });
        }
        self.add_buffer(&buffer.name, Some(buffer.clock), buffer.page_size, pages)
    }
}
