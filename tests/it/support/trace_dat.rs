//! Writes `trace.dat`, in version 6 and in version 7 with any compression.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs;
use std::path::Path;

use tracepoints::ByteOrder;

/// What a recording holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct DatFile {
    pub(crate) is_big_endian: bool,
    pub(crate) page_size: u32,
    pub(crate) header_page: Vec<u8>,
    pub(crate) header_event: Vec<u8>,
    pub(crate) ftrace: Vec<Vec<u8>>,
    pub(crate) categories: Vec<(String, Vec<Vec<u8>>)>,
    pub(crate) kallsyms: Vec<u8>,
    pub(crate) printk_formats: Vec<u8>,
    pub(crate) task_names: Vec<u8>,
    /// Ids and data.
    pub(crate) options: Vec<(u16, Vec<u8>)>,
    pub(crate) buffers: Vec<DatBuffer>,
}

/// A ring buffer: its name, its clock, and each CPU's pages.
#[derive(Clone, Debug, Default)]
pub(crate) struct DatBuffer {
    pub(crate) name: String,
    pub(crate) clock: String,
    pub(crate) cpus: Vec<Vec<u8>>,
}

/// How parts are compressed: the name in the file, and the compressor.
pub(crate) type Packing<'a> = (&'a str, &'a dyn Fn(&[u8]) -> Vec<u8>);

pub(crate) const UNPACKED: Packing<'_> = ("none", &|bytes| bytes.to_vec());

impl DatFile {
    /// The files of a captured kernel and, where they are there, its `ring`'s pages.
    pub(crate) fn of_capture(root: &Path, order: ByteOrder) -> Self {
        let events = root.join("tracing/events");
        let read = |path: &str| fs::read(root.join(path)).unwrap_or_default();
        let mut dat = Self {
            is_big_endian: order == ByteOrder::Big,
            page_size: 4096,
            header_page: read("tracing/events/header_page"),
            header_event: read("tracing/events/header_event"),
            printk_formats: read("tracing/printk_formats"),
            task_names: read("ring/saved_cmdlines"),
            ..Self::default()
        };
        for category in names(&events) {
            let formats = names(&events.join(&category)).into_iter();
            let read = |event: String| fs::read(events.join(&category).join(event).join("format"));
            let formats = formats.filter_map(|event| read(event).ok()).collect();
            match &*category {
                "ftrace" => dat.ftrace = formats,
                _ => dat.categories.push((category, formats)),
            }
        }
        let uname = String::from_utf8(read("truth/uname")).expect("text");
        if let [system, node, release, .., machine, _] =
            *uname.split_whitespace().collect::<Vec<_>>()
        {
            let uname = format!("{system} {node} {release} {machine}\0");
            dat.options.push((5, uname.into_bytes()));
        }
        let cpus = ["cpu0", "cpu1"].map(|cpu| read(&format!("ring/{cpu}.raw")));
        dat.buffers.push(DatBuffer {
            clock: "local".to_owned(),
            cpus: cpus.to_vec(),
            ..DatBuffer::default()
        });
        dat
    }

    /// The kernel's files as a `perf.data` has them.
    pub(crate) fn tracing_data(&self) -> Vec<u8> {
        let mut out = self.start("0.6");
        for (_, file) in self.files() {
            out.extend(file);
        }
        out
    }

    pub(crate) fn u16(&self, value: u16) -> [u8; 2] {
        match self.is_big_endian {
            true => value.to_be_bytes(),
            false => value.to_le_bytes(),
        }
    }

    pub(crate) fn u32(&self, value: usize) -> [u8; 4] {
        let value = u32::try_from(value).expect("small");
        match self.is_big_endian {
            true => value.to_be_bytes(),
            false => value.to_le_bytes(),
        }
    }

    pub(crate) fn u64(&self, value: usize) -> [u8; 8] {
        match self.is_big_endian {
            true => (value as u64).to_be_bytes(),
            false => (value as u64).to_le_bytes(),
        }
    }

    fn start(&self, version: &str) -> Vec<u8> {
        let mut out = b"\x17\x08\x44tracing".to_vec();
        out.extend(version.as_bytes());
        out.extend([0, self.is_big_endian.into(), 8]);
        out.extend(self.u32(self.page_size as usize));
        out
    }

    fn long(&self, bytes: &[u8]) -> Vec<u8> {
        [&self.u64(bytes.len()), bytes].concat()
    }

    fn headers(&self) -> Vec<u8> {
        [
            &b"header_page\0"[..],
            &self.long(&self.header_page),
            b"header_event\0",
            &self.long(&self.header_event),
        ]
        .concat()
    }

    fn formats_of(&self, formats: &[Vec<u8>]) -> Vec<u8> {
        let mut out = self.u32(formats.len()).to_vec();
        for format in formats {
            out.extend(self.long(format));
        }
        out
    }

    fn formats(&self) -> Vec<u8> {
        let mut out = self.u32(self.categories.len()).to_vec();
        for (category, formats) in &self.categories {
            out.extend(category.as_bytes());
            out.push(0);
            out.extend(self.formats_of(formats));
        }
        out
    }

    /// The kernel's files by the ids that sections of version 7 have, in the order of
    /// version 6.
    fn files(&self) -> [(u16, Vec<u8>); 6] {
        let short = |bytes: &[u8]| [&self.u32(bytes.len()), bytes].concat();
        [
            (16, self.headers()),
            (17, self.formats_of(&self.ftrace)),
            (18, self.formats()),
            (19, short(&self.kallsyms)),
            (20, short(&self.printk_formats)),
            (21, self.long(&self.task_names)),
        ]
    }

    fn option(&self, option: u16, data: &[u8]) -> Vec<u8> {
        [&self.u16(option)[..], &self.u32(data.len()), data].concat()
    }

    /// A file without records and events.
    pub(crate) fn version_6_of_nothing(mut self) -> Vec<u8> {
        self.buffers = vec![DatBuffer {
            clock: "local".to_owned(),
            ..DatBuffer::default()
        }];
        self.version_6()
    }

    /// The first buffer is the top one.
    pub(crate) fn version_6(&self) -> Vec<u8> {
        let mut out = self.start("6");
        for (_, file) in self.files() {
            out.extend(file);
        }
        let cpus = self.buffers[0].cpus.len();
        out.extend(self.u32(cpus));
        out.extend(b"options  \0");
        out.extend(self.option(4, b"[local] global\0"));
        for (option, data) in &self.options {
            out.extend(self.option(*option, data));
        }
        // Where buffers are is known when all before them is written.
        let list = |buffer: &DatBuffer| 10 + 16 * cpus + 8 + buffer.clock.len() + 2;
        let options = self.buffers[1..].iter();
        let options: usize = options.map(|buffer| 6 + 8 + buffer.name.len() + 1).sum();
        let mut place = out.len() + options + 2;
        for (index, buffer) in self.buffers.iter().enumerate() {
            if index > 0 {
                let name = [&self.u64(place)[..], buffer.name.as_bytes(), b"\0"].concat();
                out.extend(self.option(3, &name));
            }
            place += list(buffer);
        }
        out.extend(self.u16(0));
        let mut data = place.next_multiple_of(4096);
        for buffer in &self.buffers {
            assert_eq!(buffer.cpus.len(), cpus);
            out.extend(b"flyrecord\0");
            for pages in &buffer.cpus {
                out.extend(self.u64(data));
                out.extend(self.u64(pages.len()));
                data += pages.len();
            }
            let clock = format!("[{}]", buffer.clock);
            out.extend(self.long(clock.as_bytes()));
        }
        assert_eq!(out.len(), place);
        out.resize(place.next_multiple_of(4096), 0);
        out.extend(self.buffers.iter().flat_map(|buffer| buffer.cpus.concat()));
        out
    }

    /// Sections, then the options that point to them.
    pub(crate) fn version_7(&self, (name, pack): Packing<'_>) -> Vec<u8> {
        let is_packed = name != "none";
        let packed = |bytes: &[u8]| {
            let packed = pack(bytes);
            [&self.u32(packed.len()), &self.u32(bytes.len()), &*packed].concat()
        };
        let section = |id: u16, bytes: &[u8]| {
            let content = if is_packed {
                packed(bytes)
            } else {
                bytes.to_vec()
            };
            let flags = self.u16(is_packed.into());
            let size = self.u64(content.len());
            [&self.u16(id)[..], &flags, &[0; 4], &size, &content].concat()
        };
        let mut out = self.start("7");
        out.extend(format!("{name}\01.0\0").as_bytes());
        let options_at = out.len();
        out.extend(self.u64(0));
        let mut options = self.options.clone();
        for (id, file) in self.files() {
            options.push((id, self.u64(out.len()).to_vec()));
            out.extend(section(id, &file));
        }
        for buffer in &self.buffers {
            let start = self.u64(out.len());
            let flags = self.u16(is_packed.into());
            out.extend([&self.u16(3)[..], &flags, &[0; 4], &self.u64(0)].concat());
            let mut option = start.to_vec();
            option.extend(format!("{}\0{}\0", buffer.name, buffer.clock).as_bytes());
            option.extend(self.u32(self.page_size as usize));
            option.extend(self.u32(buffer.cpus.len()));
            for (cpu, pages) in buffer.cpus.iter().enumerate() {
                let data: Vec<u8> = match is_packed {
                    false => pages.clone(),
                    true => {
                        let parts = pages.chunks(2 * self.page_size as usize);
                        let count = self.u32(parts.len());
                        [&count[..], &parts.flat_map(packed).collect::<Vec<_>>()].concat()
                    }
                };
                option.extend(self.u32(cpu));
                option.extend(self.u64(out.len()));
                // The count is not counted.
                option.extend(self.u64(data.len() - if is_packed { 4 } else { 0 }));
                out.extend(data);
            }
            options.push((3, option));
        }
        // Half of the options in a second section.
        let (first, second) = options.split_at(options.len() / 2);
        let list = |options: &[(u16, Vec<u8>)], next: usize| {
            let mut list = Vec::new();
            for (option, data) in options {
                list.extend(self.option(*option, data));
            }
            list.extend(self.option(0, &self.u64(next)));
            section(0, &list)
        };
        let next = out.len();
        out.extend(list(second, 0));
        let place = self.u64(out.len());
        out[options_at..options_at + 8].copy_from_slice(&place);
        out.extend(list(first, next));
        out
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = dirs
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}
