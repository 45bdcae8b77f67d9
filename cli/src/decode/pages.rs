//! The bytes of pages: in memory, or read from a file as they are needed.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::output::Failure;

/// A file that was opened. Its first bytes are read, which tell its kind.
pub(super) struct Input {
    pub(super) name: String,
    head: Vec<u8>,
    rest: Box<dyn Read>,
    /// The number of bytes, if the file's kind tells it.
    size: Option<u64>,
}

impl Input {
    /// More than the kinds of recordings begin with.
    const HEAD: u64 = 16;

    /// Opens a file, or standard input if the name is `-`.
    pub(super) fn open(name: String) -> Result<Self, Failure> {
        let failed = |error| Failure::Other(format!("{name}: {error}"));
        let (mut rest, size): (Box<dyn Read>, _) = match &*name {
            "-" => (Box::new(io::stdin()), None),
            path => {
                let file = File::open(path).map_err(failed)?;
                let metadata = file.metadata().map_err(failed)?;
                let size = metadata.is_file().then_some(metadata.len());
                (Box::new(file), size)
            }
        };
        let mut head = Vec::new();
        let read = rest.by_ref().take(Self::HEAD).read_to_end(&mut head);
        read.map_err(failed)?;
        Ok(Self {
            name,
            head,
            rest,
            size,
        })
    }

    /// Returns the first bytes.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Reads the whole file.
    pub(super) fn read_whole(&mut self) -> Result<Vec<u8>, Failure> {
        let mut bytes = std::mem::take(&mut self.head);
        let read = self.rest.read_to_end(&mut bytes);
        read.map_err(|error| Failure::Other(format!("{}: {error}", self.name)))?;
        Ok(bytes)
    }

    /// Returns the pages in it, to be read as they are needed.
    pub(super) fn into_pages(self) -> PageBytes<'static> {
        /// In bytes: as much as costs next to no system calls.
        const BUFFER: usize = 64 << 10;
        let head = io::Cursor::new(self.head);
        let file = BufReader::with_capacity(BUFFER, self.rest);
        PageBytes::File {
            bytes: Box::new(head.chain(file)),
            size: self.size,
            offset: 0,
            page: Vec::new(),
        }
    }
}

/// Lets this process have so many files open, if it may: pages of all CPUs are read at once.
#[cfg(unix)]
pub(super) fn allow_files(count: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// The files that are open beside them, and more.
    const OTHERS: u64 = 64;
    let limit = getrlimit(Resource::Nofile);
    let wanted = (count as u64).saturating_add(OTHERS);
    if limit.current.is_some_and(|current| current < wanted) {
        let current = limit.maximum.map_or(wanted, |most| most.min(wanted));
        let limit = Rlimit {
            current: Some(current),
            ..limit
        };
        // Opening a file says what is missing.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

#[cfg(not(unix))]
pub(super) fn allow_files(_: usize) {}

/// A file of one CPU's pages.
pub(super) struct PageFile {
    pub(super) name: String,
    pub(super) cpu: u32,
    pub(super) pages: PageBytes<'static>,
}

impl PageFile {
    pub(super) fn new(input: Input, cpu: Option<u32>) -> Result<Self, Failure> {
        let name = input.name.clone();
        let cpu = cpu.or_else(|| cpu_of(Path::new(&name))).ok_or_else(|| {
            Failure::Other(format!("{name} does not say of which CPU it is: use --cpu"))
        })?;
        let pages = input.into_pages();
        Ok(Self { name, cpu, pages })
    }
}

/// Returns the CPU in a file's name: 1 for `cpu1.raw` and `per_cpu/cpu1/trace_pipe_raw`.
pub(super) fn cpu_of(path: &Path) -> Option<u32> {
    let number = |name: &str| {
        let after = name.split("cpu").nth(1)?;
        let end = after.find(|c: char| !c.is_ascii_digit());
        after[..end.unwrap_or(after.len())].parse().ok()
    };
    let mut names = path.iter().rev().filter_map(|name| name.to_str());
    names
        .next()
        .and_then(number)
        .or_else(|| names.next().and_then(number))
}

/// Pages that follow one another.
pub(super) enum PageBytes<'a> {
    /// All of them, and the offset of the next.
    Memory(&'a [u8], usize),
    File {
        bytes: Box<dyn Read>,
        size: Option<u64>,
        /// The offset of the next page.
        offset: usize,
        /// The last page that was read.
        page: Vec<u8>,
    },
}

impl PageBytes<'_> {
    /// Returns the number of bytes, if it is known.
    pub(super) fn size(&self) -> Option<u64> {
        match self {
            Self::Memory(bytes, _) => Some(bytes.len() as u64),
            Self::File { size, .. } => *size,
        }
    }

    /// Returns the next page and its offset; a shorter one at the end of the bytes, and then
    /// `None`.
    pub(super) fn next_page(&mut self, page_size: usize) -> io::Result<Option<(usize, &[u8])>> {
        match self {
            Self::Memory(bytes, offset) => {
                let rest = bytes.get(*offset..).unwrap_or_default();
                let page = rest.get(..page_size).unwrap_or(rest);
                let start = *offset;
                *offset = offset.saturating_add(page_size);
                Ok((!page.is_empty()).then_some((start, page)))
            }
            Self::File {
                bytes,
                offset,
                page,
                ..
            } => {
                page.clear();
                bytes.by_ref().take(page_size as u64).read_to_end(page)?;
                let start = *offset;
                *offset = offset.saturating_add(page_size);
                Ok((!page.is_empty()).then_some((start, page)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time, as a pipe does.
    struct Drops<'a>(&'a [u8]);

    impl Read for Drops<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let some = to.len().min(7);
            self.0.read(&mut to[..some])
        }
    }

    #[test]
    fn pages_of_a_file_are_those_in_memory() {
        static BYTES: [u8; 1000] = [5; 1000];
        for length in [0, 1, 15, 16, 17, 99, 100, 101, 300, 1000] {
            let bytes = &BYTES[..length];
            let places = |mut pages: PageBytes<'_>| {
                let mut places = Vec::new();
                while let Some((offset, page)) = pages.next_page(100).expect("bytes") {
                    places.push((offset, page.len()));
                }
                assert!(pages.next_page(100).expect("the end").is_none());
                places
            };
            let input = Input {
                name: "cpu0".to_owned(),
                head: bytes[..length.min(16)].to_vec(),
                rest: Box::new(Drops(&bytes[length.min(16)..])),
                size: None,
            };
            let of_file = places(input.into_pages());
            assert_eq!(of_file, places(PageBytes::Memory(bytes, 0)));
            let all: usize = of_file.iter().map(|(_, length)| length).sum();
            assert_eq!(all, length);
        }
    }

    #[test]
    fn cpus_in_names() {
        let of = |path| cpu_of(Path::new(path));
        assert_eq!(of("a/cpu1.raw"), Some(1));
        assert_eq!(of("per_cpu/cpu12/trace_pipe_raw"), Some(12));
        assert_eq!(of("cpu4294967296.raw"), None);
        assert_eq!(of("cpu3/pages/raw"), None);
    }
}
