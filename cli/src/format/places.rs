//! Where events are in the kernel's code, for `--sites`.

use serde::Serialize;
use tracepoints::sites::{EventSites, Listener, PatchedTracepoint, Sites, UnknownPart};
use tracepoints::{Kernel, kernel::Events};

use crate::output::{Failure, note};

/// An event's part of a row, with the keys of a row of `sites --json`.
#[derive(Serialize)]
pub(super) struct PlacesRow<'a> {
    tracepoint: Option<&'a PatchedTracepoint>,
    listeners: &'a [Listener],
    unknown: &'a [UnknownPart],
    #[serde(skip)]
    pub(super) whole: &'a EventSites,
}

/// Reads where events are; `None` if it is not wanted. Reports what remains unknown of all.
pub(super) fn read(
    is_wanted: bool,
    kernel: &Kernel,
    names: &Events,
) -> Result<Option<Sites>, Failure> {
    if !is_wanted {
        return Ok(None);
    }
    let sites = kernel.sites(names.names(), &[])?;
    for part in sites.unknown() {
        note!("not known: {part}");
    }
    Ok(Some(sites))
}

/// Returns the row of the event that was asked for at `index`.
pub(super) fn row(sites: Option<&Sites>, index: usize) -> Option<PlacesRow<'_>> {
    let whole = sites?.events().get(index)?;
    Some(PlacesRow {
        tracepoint: whole.tracepoint(),
        listeners: whole.listeners(),
        unknown: whole.unknown(),
        whole,
    })
}
