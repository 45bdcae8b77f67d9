//! The sites of a kernel that was read from its image, where all tracepoints are off.

use std::collections::HashMap;

use super::{EventSites, PatchedTracepoint, Sites, SitesError, UnknownPart};
use crate::image::ImageTracepoint;
use crate::kernel::Kernel;
use crate::name::{EventName, SyscallSide};

/// Reads the sites of these events, and of tracepoints by their own names. Those of modules
/// are not known: a module has its addresses when it is loaded.
pub(super) fn read(
    kernel: &Kernel,
    events: &[EventName],
    tracepoints: &[&str],
) -> Result<Sites, SitesError> {
    let known = kernel.image_tracepoints();
    let all = known.unwrap_or_default().iter();
    let by_name: HashMap<&str, &ImageTracepoint> = all.map(|one| (&*one.name, one)).collect();
    let mut found = Vec::with_capacity(events.len() + tracepoints.len());
    for (name, context) in std::iter::zip(events, kernel.contexts(events)?) {
        let home = match &context {
            Ok((_, context)) => context.home(),
            Err(_) => None,
        };
        let tracepoint = match (SyscallSide::and_call(name), home) {
            (Some((SyscallSide::Enter, _)), _) => by_name.get("sys_enter"),
            (Some((SyscallSide::Exit, _)), _) => by_name.get("sys_exit"),
            (None, Some("vmlinux")) => by_name.get(name.event()),
            (None, _) => None,
        };
        let unknown = match (tracepoint, home) {
            (Some(_), _) => Vec::new(),
            (None, Some(module)) if module != "vmlinux" => vec![UnknownPart::Modules {
                names: vec![module.to_owned()],
            }],
            (None, _) => vec![UnknownPart::NotATracepoint],
        };
        found.push(EventSites {
            event: Some(name.clone()),
            tracepoint: tracepoint.map(|tracepoint| off(tracepoint)),
            listeners: Vec::new(),
            unknown,
        });
    }
    for name in tracepoints {
        let tracepoint = by_name.get(name).ok_or_else(|| SitesError::NoTracepoint {
            name: name.escape_debug().to_string(),
        })?;
        found.push(EventSites {
            event: None,
            tracepoint: Some(off(tracepoint)),
            listeners: Vec::new(),
            unknown: Vec::new(),
        });
    }
    Ok(Sites {
        events: found,
        unknown: match known {
            Some(_) => Vec::new(),
            None => vec![UnknownPart::Tables],
        },
    })
}

fn off(tracepoint: &ImageTracepoint) -> PatchedTracepoint {
    PatchedTracepoint {
        name: tracepoint.name.clone(),
        module: None,
        enabled: 0,
        sites: Some(tracepoint.sites.clone()),
        static_call: None,
    }
}
