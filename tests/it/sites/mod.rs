//! Patch sites and listeners on the running kernel. The tests take root, and each runs in
//! its own process (`support::live`). They listen only to events that nothing else here does.

mod flips;
#[cfg(feature = "image")]
mod images;
mod listeners;
mod modules;

use std::fs;
use std::io::ErrorKind;

use tracepoints::sites::{EventSites, PatchState, Sites, SitesError, UnknownPart};
use tracepoints::{EventName, Kernel};

use crate::support;

/// The sites and listeners of these events; `None`, having reported the skipped test, on a
/// kernel whose memory no program can read.
fn sites(kernel: &Kernel, events: &[EventName]) -> Option<Sites> {
    match kernel.sites(events, &[]) {
        Ok(sites) => Some(sites),
        Err(error @ (SitesError::TooOld { .. } | SitesError::LockedDown)) => {
            support::skip(&error.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Whether all sites of an event's tracepoint, of which there is one at least, are so.
fn are_all(event: &EventSites, state: PatchState) -> bool {
    let tracepoint = event.tracepoint().expect("a tracepoint");
    let sites = tracepoint.sites.as_deref().expect("its sites");
    !sites.is_empty() && sites.iter().all(|site| site.state == state)
}

/// The parts that are not known, except what processes hold whose descriptors the system shows
/// to nobody here: even root may be kept from seeing those of a container's first process.
fn unknown_parts(sites: &Sites) -> Vec<&UnknownPart> {
    let unknown = sites.unknown().iter();
    let may_see_all = may_see_all_descriptors();
    unknown
        .filter(|part| may_see_all || !matches!(part, UnknownPart::Processes { .. }))
        .collect()
}

/// Whether this user may see where the descriptors of all processes lead.
fn may_see_all_descriptors() -> bool {
    let is_denied = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
    let processes = fs::read_dir("/proc").expect("proc");
    let processes = processes.map(|entry| entry.expect("an entry"));
    let numbered = processes.filter(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
    });
    let is_hidden = |process: fs::DirEntry| match fs::read_dir(process.path().join("fd")) {
        Ok(descriptors) => descriptors
            .flatten()
            .any(|descriptor| fs::read_link(descriptor.path()).is_err_and(is_denied)),
        Err(error) => is_denied(error),
    };
    !numbered.into_iter().any(is_hidden)
}
