//! The classes of the running kernel's events, read from `/proc/kcore` and
//! `/proc/kallsyms` without any code of the crate.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

/// The kernel's memory, as the ELF program headers of `/proc/kcore` map it.
struct Memory {
    file: File,
    /// Address, size and place in the file, in bytes.
    segments: Vec<(u64, u64, u64)>,
}

impl Memory {
    fn open() -> io::Result<Self> {
        const LOAD: u32 = 1;
        let file = File::open("/proc/kcore")?;
        let mut header = [0; 64];
        file.read_exact_at(&mut header, 0)?;
        let number = |bytes: &[u8], at: usize| {
            u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
        };
        let short = |at: usize| u16::from_ne_bytes(header[at..at + 2].try_into().expect("2 bytes"));
        let mut segments = Vec::new();
        for index in 0..u64::from(short(56)) {
            let mut bytes = [0; 56];
            let at = number(&header, 32) + index * u64::from(short(54));
            file.read_exact_at(&mut bytes, at)?;
            if u32::from_ne_bytes(bytes[..4].try_into().expect("4 bytes")) == LOAD {
                segments.push((number(&bytes, 16), number(&bytes, 32), number(&bytes, 8)));
            }
        }
        Ok(Self { file, segments })
    }

    fn word(&self, address: u64) -> Option<u64> {
        let (start, _, offset) = self
            .segments
            .iter()
            .find(|(start, size, _)| (*start..start + size).contains(&address))?;
        let mut bytes = [0; 8];
        let read = self
            .file
            .read_exact_at(&mut bytes, offset + (address - start));
        read.is_ok().then(|| u64::from_ne_bytes(bytes))
    }
}

/// Returns the class of each event, by the event's name without its category, except for
/// names that several events share. The error says why nothing can be read.
pub(crate) fn classes() -> Result<HashMap<String, String>, String> {
    if cfg!(not(target_pointer_width = "64")) {
        return Err("only on 64-bit kernels".to_owned());
    }
    let memory = Memory::open().map_err(|error| format!("/proc/kcore: {error}"))?;
    let symbols =
        fs::read_to_string("/proc/kallsyms").map_err(|error| format!("/proc/kallsyms: {error}"))?;
    let mut events: HashMap<&str, Option<u64>> = HashMap::new();
    let mut class_at = HashMap::new();
    for line in symbols.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(address), Some(_), Some(name)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Ok(address @ 1..) = u64::from_str_radix(address, 16) else {
            continue;
        };
        if let Some(class) = name.strip_prefix("event_class_") {
            class_at.insert(address, class);
        }
        if let Some(event) = name.strip_prefix("event_") {
            let known = events.entry(event);
            known
                .and_modify(|known| *known = None)
                .or_insert(Some(address));
        }
    }
    if class_at.is_empty() {
        return Err("/proc/kallsyms has no addresses of data".to_owned());
    }
    let classes = events.into_iter().filter_map(|(event, address)| {
        // `struct trace_event_call` begins with a `struct list_head` and the class.
        let class = memory.word(address? + 16)?;
        Some((event.to_owned(), (*class_at.get(&class)?).to_owned()))
    });
    Ok(classes.collect())
}
