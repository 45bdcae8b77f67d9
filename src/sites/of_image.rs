//! The sites of a kernel that was read from its image, and those in its modules. All
//! tracepoints are off there.

use std::collections::HashMap;

use super::{EventSites, PatchedTracepoint, Sites, SitesError, UnknownPart};
use crate::image::ImageTracepoint;
use crate::kernel::Kernel;
use crate::name::{EventName, SyscallSide};

/// Reads the sites of these events, and of tracepoints by their own names. The sites of a
/// module's tracepoints are known if the module's file is in the package.
pub(super) fn read(
    kernel: &Kernel,
    events: &[EventName],
    tracepoints: &[&str],
) -> Result<Sites, SitesError> {
    let known = kernel.image_tracepoints();
    let all = known.unwrap_or_default();
    let by_place: HashMap<(Option<&str>, &str), &ImageTracepoint> = all
        .iter()
        .map(|one| ((one.module.as_deref(), &*one.name), one))
        .collect();
    let built_in = |name: &str| by_place.get(&(None, name)).copied();
    let mut found = Vec::with_capacity(events.len() + tracepoints.len());
    for (name, context) in std::iter::zip(events, kernel.contexts(events)?) {
        let home = match &context {
            Ok((_, context)) => context.home(),
            Err(_) => None,
        };
        let tracepoint = match (SyscallSide::and_call(name), home) {
            (Some((SyscallSide::Enter, _)), _) => built_in("sys_enter"),
            (Some((SyscallSide::Exit, _)), _) => built_in("sys_exit"),
            (None, Some("vmlinux")) => built_in(name.event()),
            (None, Some(module)) => by_place.get(&(Some(module), name.event())).copied(),
            // The event may be of a module without BTF.
            (None, None) => match &*named(all, name.event()) {
                [only] => Some(*only),
                _ => None,
            },
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
            tracepoint: tracepoint.map(off),
            listeners: Vec::new(),
            unknown,
        });
    }
    for name in tracepoints {
        let named = named(all, name);
        if named.is_empty() {
            return Err(SitesError::NoTracepoint {
                name: name.escape_debug().to_string(),
            });
        }
        found.extend(named.into_iter().map(|tracepoint| EventSites {
            event: None,
            tracepoint: Some(off(tracepoint)),
            listeners: Vec::new(),
            unknown: Vec::new(),
        }));
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
        module: tracepoint.module.clone(),
        enabled: 0,
        sites: Some(tracepoint.sites.clone()),
        static_call: None,
    }
}

fn named<'a>(all: &'a [ImageTracepoint], name: &str) -> Vec<&'a ImageTracepoint> {
    all.iter().filter(|one| one.name == name).collect()
}
