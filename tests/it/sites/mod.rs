//! Patch sites and listeners on the running kernel. The tests take root, and each runs in
//! its own process (`support::live`). They listen only to events that nothing else here does.

mod flips;
#[cfg(feature = "image")]
mod images;
mod listeners;
mod modules;

use tracepoints::sites::{EventSites, PatchState, Sites, SitesError};
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
