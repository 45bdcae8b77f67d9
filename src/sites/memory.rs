//! Structs and pointers in the kernel's memory.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::SitesError;
use super::offsets::{KnownStructs, StructMember};
use crate::bpf;
use crate::bpf::reader::MemoryReader;

/// The bytes of a struct, read at once.
#[derive(Clone, Debug)]
pub(super) struct StructBytes(Vec<u8>);

impl StructBytes {
    /// Returns a pointer or an `unsigned long`; 0 outside of the struct.
    pub(super) fn word(&self, at: u64) -> u64 {
        let bytes = self
            .0
            .get(at as usize..)
            .and_then(|bytes| bytes.first_chunk());
        u64::from_ne_bytes(bytes.copied().unwrap_or_default())
    }

    /// Returns an `int`.
    pub(super) fn int(&self, at: u64) -> i32 {
        let bytes = self
            .0
            .get(at as usize..)
            .and_then(|bytes| bytes.first_chunk());
        i32::from_ne_bytes(bytes.copied().unwrap_or_default())
    }

    pub(super) fn bytes(&self, at: u64, length: usize) -> &[u8] {
        let end = (at as usize).saturating_add(length);
        self.0.get(at as usize..end).unwrap_or_default()
    }

    /// Returns the text in an array of `char`.
    pub(super) fn text(&self, place: StructMember) -> String {
        let bytes = self.bytes(place.at, place.size);
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }
}

/// The kernel's memory.
pub(super) struct SiteMemory {
    reader: MemoryReader,
    /// The address of this thread's `struct task_struct`.
    task: u64,
    files_of: FilesOffsets,
}

/// Offsets on the way from a task to its files, in bytes.
struct FilesOffsets {
    task_files: u64,
    files_table: u64,
    table_files: u64,
    inode: u64,
    inode_private: u64,
    private: u64,
}

impl SiteMemory {
    pub(super) fn new(structs: &KnownStructs<'_>) -> Result<Self, SitesError> {
        let files_of = FilesOffsets {
            task_files: structs.pointer("task_struct", "files")?,
            files_table: structs.pointer("files_struct", "fdt")?,
            table_files: structs.pointer("fdtable", "fd")?,
            inode: structs.pointer("file", "f_inode")?,
            inode_private: structs.pointer("inode", "i_private")?,
            private: structs.pointer("file", "private_data")?,
        };
        let reader = MemoryReader::new().map_err(refused)?;
        let task = reader.current_task().map_err(refused)?;
        Ok(Self {
            reader,
            task,
            files_of,
        })
    }

    /// Reads a struct of this size at each address.
    pub(super) fn structs(
        &self,
        addresses: &[u64],
        size: usize,
    ) -> Result<Vec<Option<StructBytes>>, SitesError> {
        let found = self.reader.bytes_at(addresses, size).map_err(failed)?;
        Ok(found
            .into_iter()
            .map(|bytes| bytes.map(StructBytes))
            .collect())
    }

    /// Reads a pointer at each address; `None` where it cannot be read or is null.
    pub(super) fn pointers(&self, addresses: &[u64]) -> Result<Vec<Option<u64>>, SitesError> {
        let found = self.structs(addresses, 8)?.into_iter();
        let pointer = |bytes: StructBytes| Some(bytes.word(0)).filter(|pointer| *pointer != 0);
        Ok(found.map(|bytes| bytes.and_then(pointer)).collect())
    }

    /// Follows the pointer at this offset in each struct whose address is known.
    pub(super) fn follow(
        &self,
        structs: &[Option<u64>],
        offset: u64,
    ) -> Result<Vec<Option<u64>>, SitesError> {
        let known: Vec<u64> = structs.iter().flatten().copied().collect();
        let known: Vec<u64> = known.iter().map(|at| at.wrapping_add(offset)).collect();
        let mut found = self.pointers(&known)?.into_iter();
        let followed = structs.iter().map(|at| at.and_then(|_| found.next()?));
        Ok(followed.collect())
    }

    /// Reads a range; `None` where a part of it cannot be read.
    pub(super) fn range(&self, start: u64, length: usize) -> Result<Option<Vec<u8>>, SitesError> {
        self.reader.range(start, length).map_err(failed)
    }

    pub(super) fn texts(&self, addresses: &[u64]) -> Result<Vec<Option<String>>, SitesError> {
        self.reader.texts_at(addresses).map_err(failed)
    }

    pub(super) fn symbols(&self, addresses: &[u64]) -> Result<Vec<Option<String>>, SitesError> {
        self.reader.symbols_at(addresses).map_err(failed)
    }

    /// Returns the elements of a list, whose head is at this address.
    pub(super) fn list(&self, head: u64) -> Result<Option<Vec<u64>>, SitesError> {
        let found = self.reader.walk(head, 0, head).map_err(failed)?;
        Ok(found.map(|mut elements| {
            elements.pop();
            elements
        }))
    }

    /// Returns the addresses of symbols; `None` where this process may not see them, or
    /// the kernel has no lookup by name.
    pub(super) fn addresses_of(&self, names: &[&str]) -> Option<Vec<Option<u64>>> {
        let each = names.iter().map(|name| self.reader.address_of(name).ok());
        each.collect()
    }

    /// Returns the arrays of these tasks' `struct file`s.
    fn arrays_of_files(&self, tasks: &[u64]) -> Result<Vec<Option<u64>>, SitesError> {
        let offsets = &self.files_of;
        let mut at: Vec<Option<u64>> = tasks.iter().map(|task| Some(*task)).collect();
        for offset in [offsets.task_files, offsets.files_table, offsets.table_files] {
            at = self.follow(&at, offset)?;
        }
        Ok(at)
    }

    /// Returns the `struct file` of each descriptor of these tasks.
    pub(super) fn files_of(
        &self,
        descriptors: &[(u64, u32)],
    ) -> Result<Vec<Option<u64>>, SitesError> {
        let tasks: Vec<u64> = descriptors.iter().map(|(task, _)| *task).collect();
        let arrays = self.arrays_of_files(&tasks)?.into_iter().zip(descriptors);
        let slots: Vec<Option<u64>> = arrays
            .map(|(array, (_, descriptor))| Some(array?.wrapping_add(u64::from(*descriptor) * 8)))
            .collect();
        self.follow(&slots, 0)
    }

    /// Returns the `struct file` of each open file of this process.
    pub(super) fn own_files(
        &self,
        files: &[BorrowedFd<'_>],
    ) -> Result<Vec<Option<u64>>, SitesError> {
        let descriptors = files
            .iter()
            .map(|file| (self.task, file.as_raw_fd() as u32));
        self.files_of(&descriptors.collect::<Vec<_>>())
    }

    /// Returns the inode of each `struct file`.
    pub(super) fn inodes(&self, files: &[Option<u64>]) -> Result<Vec<Option<u64>>, SitesError> {
        self.follow(files, self.files_of.inode)
    }

    /// Returns the `i_private` of each inode.
    pub(super) fn inode_private(
        &self,
        inodes: &[Option<u64>],
    ) -> Result<Vec<Option<u64>>, SitesError> {
        self.follow(inodes, self.files_of.inode_private)
    }

    /// Returns the `private_data` of each `struct file`.
    pub(super) fn private(&self, files: &[Option<u64>]) -> Result<Vec<Option<u64>>, SitesError> {
        self.follow(files, self.files_of.private)
    }
}

/// Returns the reason why a program that reads memory cannot be loaded or run.
fn refused(source: io::Error) -> SitesError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::EINVAL) if bpf::is_locked_down() => {
            SitesError::LockedDown
        }
        Some(libc::EPERM | libc::EACCES) => SitesError::NotPermitted,
        // The kernel does not have the program type, or bpf(2) at all.
        Some(libc::EINVAL | libc::ENOSYS) => SitesError::TooOld { source },
        _ => failed(source),
    }
}

fn failed(source: io::Error) -> SitesError {
    SitesError::System {
        what: "reading the kernel's memory",
        source,
    }
}
