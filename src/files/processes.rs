//! The processes that hold perf events and BPF links, from `/proc/*/fd`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A process that holds perf events or BPF links.
#[derive(Debug)]
pub(crate) struct HeldFiles {
    pub(crate) pid: u32,
    /// The process's name; empty if it exited meanwhile.
    pub(crate) comm: String,
    /// The descriptors of its perf events.
    pub(crate) perf_events: Vec<u32>,
    /// The ids of its links, one for each descriptor.
    pub(crate) links: Vec<u32>,
    /// The process's directory in `/proc`, open.
    pub(crate) directory: File,
}

/// The processes that hold perf events or BPF links, and the number of processes whose
/// descriptors this user may not see.
#[derive(Debug, Default)]
pub(crate) struct HoldingProcesses {
    pub(crate) processes: Vec<HeldFiles>,
    pub(crate) hidden: usize,
}

impl HoldingProcesses {
    /// Reads `/proc`. Processes that exit meanwhile are left out. Threads that do not
    /// share their process's descriptors are not examined.
    pub(crate) fn read(proc: &Path) -> io::Result<Self> {
        let mut found = Self::default();
        for entry in fs::read_dir(proc)? {
            let entry = entry?;
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let Some(pid) = pid else {
                continue;
            };
            match held_by(pid, entry.path()) {
                Ok(held) => found.processes.extend(held),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    found.hidden += 1;
                }
                // The process exited.
                Err(_) => {}
            }
        }
        found.processes.sort_by_key(|held| held.pid);
        Ok(found)
    }
}

fn held_by(pid: u32, path: PathBuf) -> io::Result<Option<HeldFiles>> {
    let (mut perf_events, mut links) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(path.join("fd"))? {
        let entry = entry?;
        let target = match fs::read_link(entry.path()) {
            Ok(target) => target,
            // `CAP_DAC_READ_SEARCH` lists the descriptors, and does not tell what they are.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            // The descriptor was closed meanwhile.
            Err(_) => continue,
        };
        let Some(kind) = target
            .to_str()
            .and_then(|path| path.strip_prefix("anon_inode:"))
        else {
            continue;
        };
        let name = entry.file_name();
        let Some(descriptor) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        match kind.trim_matches(['[', ']']) {
            "perf_event" => perf_events.push(descriptor),
            // `bpf_link`, or `bpf-raw-tracepoint` before Linux 5.7.
            kind if kind.starts_with("bpf") => links.extend(link_id(&path, descriptor)?),
            _ => {}
        }
    }
    if perf_events.is_empty() && links.is_empty() {
        return Ok(None);
    }
    let comm = fs::read(path.join("comm")).unwrap_or_default();
    Ok(Some(HeldFiles {
        pid,
        comm: String::from_utf8_lossy(comm.trim_ascii_end()).into_owned(),
        perf_events,
        links,
        directory: File::open(&path)?,
    }))
}

/// Returns the id of the link behind a descriptor; `None` for any other BPF object, and for
/// one that was closed meanwhile.
fn link_id(process: &Path, descriptor: u32) -> io::Result<Option<u32>> {
    let text = fs::read_to_string(process.join("fdinfo").join(descriptor.to_string()));
    let text = match text {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
        Err(_) => return Ok(None),
    };
    let mut lines = text.lines();
    let id = lines.find_map(|line| line.strip_prefix("link_id:"));
    Ok(id.and_then(|id| id.trim().parse().ok()))
}
